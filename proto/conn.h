/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_CONN_H
#define	PROTO_CONN_H

#include <sys/socket.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"
#include "proto/tcp.h"

/*
 * Connections of an HTTP server: how many there may be, what each is doing,
 * waiting and waking, and a thread (the reaper) that cuts those that take too
 * long.
 *
 * Lock order: table, then connection, then the HTTP library's own (inside
 * suspend and resume).  Neither is held while a handler or a body is called.
 * What each request does takes no lock and reads no clock: a connection's
 * thread stores what it does in one word, and the reaper, which comes by every
 * two seconds or more often, counts a deadline from when it first saw that
 * word.  So deadlines are never early, and late by twice that time at most.
 */
enum conn_phase {
	CONN_FRESH,		/* before its first request */
	CONN_IDLE,		/* between requests */
	CONN_HEAD,		/* a request line came, not yet all */
	CONN_RECEIVE,		/* a request's body */
	CONN_WORK,		/* our turn */
	CONN_SEND
};

enum conn_wait { CONN_AGAIN, CONN_SUSPENDED, CONN_CUT };

struct address;
struct conn_table;

struct conn {			/* inside the server's object; conn.c's */
	struct conn_table	*table;
	/* What a visit of the reaper needs stands together. */
	_Atomic uint64_t	 state;		/* phase; changes so far */
	atomic_bool		 suspended, woken, cut;
	bool			 last;		/* its thread's: no more */
	/* The reaper's: the state that it saw last, and since when. */
	uint64_t		 seen;
	int64_t			 since_ms;
	int64_t			 look_ms;	/* next look at the socket */
	int64_t			 head_ms;	/* idle: a head has begun */
	int64_t			 half_ms;	/* FIN seen */
	int64_t			 mark_ms;	/* start of the rate's window */
	uint64_t		 mark;		/* progress at that time */

	size_t			 index;		/* table's lock; also: */
	struct address		*address;
	pthread_mutex_t		 lock;	/* orders waits, wakes and cuts */
	_Atomic uint64_t	 received;	/* of the request's body */
	uint64_t		 requests;	/* its thread's */
	int			 fd;
	char			 peer[TCP_PEER];	/* fixed */
};

struct conn_limits {		/* 0: no limit */
	unsigned	 connections, per_address;
	unsigned	 header_s, idle_s, body_s;
	uint64_t	 body_bytes, requests;
};

struct conn_library {
	/* The library's own; called with the connection's lock held. */
	void		 (*suspend)(struct conn *c);
	void		 (*resume)(struct conn *c);
};

/* Starts the reaper.  NULL: errno. */
struct conn_table *conn_table_new(const struct conn_limits *l,
	    const struct conn_library *lib);
void	 conn_table_destroy(struct conn_table **t);	/* no connection left */
/* Any time; connections that are there stay.  -1: out of memory. */
int	 conn_table_limit(struct conn_table *t, const struct conn_limits *l);
size_t	 conn_table_n(struct conn_table *t);
/* How often each limit has struck; conn_table_count() adds one. */
void	 conn_table_counts(struct conn_table *t, uint64_t out[LIMIT_N]);
void	 conn_table_count(struct conn_table *t, enum limit l);
/*
 * Stopping: each answer is its connection's last, and idle connections are cut;
 * the number of the others.
 */
size_t	 conn_table_cut_idle(struct conn_table *t);
/* Cuts all, wakes those that wait; from now on nothing waits. */
void	 conn_table_cut_all(struct conn_table *t);

/* Whether there is room for a connection from sa; counts where there is not. */
bool	 conn_admit(struct conn_table *t, const struct sockaddr *sa);
/* False: no room any more, and c is not one of the table's. */
bool	 conn_open(struct conn *c, struct conn_table *t, int fd,
	    const struct sockaddr *sa);
/*
 * Before the descriptor is closed.  linger: the peer may still be sending what
 * nobody reads; its bytes are drained for a while, so that it sees our answer
 * before a reset.
 */
void	 conn_close(struct conn *c, bool linger);

/* By the connection's own thread: */
void	 conn_phase(struct conn *c, enum conn_phase phase);
void	 conn_received(struct conn *c, size_t len);
/* A new request: wakes of the last one no longer count. */
void	 conn_request(struct conn *c);
/* Whether this request is the connection's last one, by the limit or because
 * the server stops.  Asked once a request. */
bool	 conn_is_last(struct conn *c);
bool	 conn_is_cut(const struct conn *c);
/*
 * Suspends, unless there was a wake since the last wait (CONN_AGAIN) or the
 * connection is to end (CONN_CUT).
 */
enum conn_wait conn_wait(struct conn *c);

/* By any thread. */
void	 conn_wake(struct conn *c);

#endif
