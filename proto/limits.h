/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_LIMITS_H
#define	PROTO_LIMITS_H

#include "proto/config.h"

/*
 * Limits of an HTTP server (pkgcast.conf(5), section http).  What each has
 * refused or cut is counted; the second name is the counter's in the status
 * documents (pkgcast-protocol(7)).
 */
#define	LIMITS(X) \
	X(CONNECTIONS,	connections)	/* connections refused: too many */ \
	X(PER_ADDRESS,	per_address)	/* ... from that address */ \
	X(HEAD_SIZE,	head_size)	/* heads refused with 414 or 431 */ \
	X(HEAD_TIMEOUT,	head_timeout)	/* cut before a head was complete */ \
	X(IDLE_TIMEOUT,	idle_timeout)	/* cut between two requests */ \
	X(SLOW_SENDERS,	slow_senders)	/* cut in a request's body */ \
	X(SLOW_READERS,	slow_readers)	/* cut in an answer */ \
	X(REQUESTS,	requests_per_connection) /* closed after the last */ \
	X(STOP_TIMEOUT,	stop_timeout)	/* cut in an answer by the end */ \
	X(GONE,		gone)		/* cut: the peer had left */

#define	LIMIT_ENUM(name, counter)	LIMIT_##name,
enum limit { LIMITS(LIMIT_ENUM) LIMIT_N };
extern const char *const limit_names[LIMIT_N];

struct httpd_conf;
/*
 * Takes limits from the configuration.  Fewer connections than that, with a
 * warning, where the process may not have as many files open; call after
 * daemon_raise_files().
 */
void	limits_conf(struct httpd_conf *c, const struct http_limits *l);
/* Files that may be open beside connections, at the same time. */
unsigned	limits_spare_files(void);
/* Logs what grew since told[], and keeps that there; what is not worth a line
 * (idle connections, peers that left) is not told. */
void	limits_log(const uint64_t count[LIMIT_N], uint64_t told[LIMIT_N]);

#endif
