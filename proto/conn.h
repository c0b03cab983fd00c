/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_CONN_H
#define	PROTO_CONN_H

#include <sys/queue.h>
#include <sys/socket.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/tcp.h"

/*
 * Connections of an HTTP server: what each is doing since when, waiting and
 * waking, and a thread (the reaper) that cuts those that take too long.
 *
 * Lock order: table, then connection, then the HTTP library's own (inside
 * suspend and resume).  Neither is held while a handler or a body is called.
 */
enum conn_phase {
	CONN_IDLE,		/* between requests, or before the first */
	CONN_HEAD,		/* a request line came, not yet all */
	CONN_RECEIVE,		/* a request's body */
	CONN_WORK,		/* our turn */
	CONN_SEND
};

enum conn_wait { CONN_AGAIN, CONN_SUSPENDED, CONN_CUT };

struct conn_table;

struct conn {			/* inside the server's object; conn.c's */
	struct conn_table	*table;
	LIST_ENTRY(conn)	 entry;		/* table's lock */
	pthread_mutex_t		 lock;		/* guards what follows */
	enum conn_phase		 phase;
	int64_t			 since;		/* boot clock, ms */
	bool			 fresh;		/* no request yet */
	bool			 suspended, woken, cut;
	int			 fd;
	uint64_t		 received;	/* of the request's body */
	int64_t			 mark_ms;	/* start of the rate's window */
	uint64_t		 mark;		/* progress at that time */
	int64_t			 half_ms;	/* FIN seen, in this phase */
	char			 peer[TCP_PEER];	/* fixed */
};

struct conn_limits {
	unsigned	 header_s, idle_s, body_bytes, body_s;
	/* The library's own; called with the connection's lock held. */
	void		 (*suspend)(struct conn *c);
	void		 (*resume)(struct conn *c);
};

/* Starts the reaper.  NULL: errno. */
struct conn_table *conn_table_new(const struct conn_limits *l);
void	 conn_table_destroy(struct conn_table **t);	/* no connection left */
size_t	 conn_table_n(struct conn_table *t);
/*
 * Stopping: cuts idle connections; the number of the others.
 */
size_t	 conn_table_cut_idle(struct conn_table *t);
/* Cuts all, wakes those that wait; from now on nothing waits. */
void	 conn_table_cut_all(struct conn_table *t);

void	 conn_open(struct conn *c, struct conn_table *t, int fd,
	    const struct sockaddr *sa);
/*
 * Before the descriptor is closed.  linger: the peer may still be sending what
 * nobody reads; its bytes are drained for a while, so that it sees our answer
 * before a reset.
 */
void	 conn_close(struct conn *c, bool linger);
void	 conn_phase(struct conn *c, enum conn_phase phase);
void	 conn_received(struct conn *c, size_t len);
/* A new request: wakes of the last one no longer count. */
void	 conn_request(struct conn *c);
bool	 conn_is_cut(struct conn *c);
/*
 * Suspends, unless there was a wake since the last wait (CONN_AGAIN) or the
 * connection is to end (CONN_CUT).
 */
enum conn_wait conn_wait(struct conn *c);
void	 conn_wake(struct conn *c);

#endif
