/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_ACCESSLOG_H
#define	PROTO_ACCESSLOG_H

#include <stdint.h>

/*
 * Access log in the combined format, written in batches by a thread of its own
 * with bounded memory; lines that find no room are counted, and said so.
 */
struct accesslog;

struct access_line {
	const char	*peer, *method, *target, *referer, *user_agent;
	unsigned	 version;		/* 10, 11 */
	unsigned	 status;
	int64_t		 bytes;			/* of the body; -1: unknown */
};

/* Opens (appends to) path now; starts no thread before accesslog_start(). */
struct accesslog *accesslog_open(const char *path);
int		  accesslog_start(struct accesslog *l);
void		  accesslog_add(struct accesslog *l, const struct access_line *a);
/* After a rename of the file: lines from now on go to a new one (HUP). */
void		  accesslog_reopen(struct accesslog *l);
void		  accesslog_close(struct accesslog **l);	/* writes what is left */

#endif
