/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_HTTPD_RECV_H
#define	PROTO_HTTPD_RECV_H

#include <stdbool.h>

/*
 * What libmicrohttpd before 1.0 reads from connections that carry no bodies:
 * whether there was a byte that its parser hides from httpd.c.  With 1.0, which
 * refuses them itself, nothing is watched.
 */

/* From a connection's start; a number that is too high is not watched. */
void	httpd_recv_watch(int fd);
/* Before the descriptor is closed. */
void	httpd_recv_forget(int fd);
/* NUL, or CR or LF without the other, was read since. */
bool	httpd_recv_bad(int fd);

#endif
