/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_CONN_TABLE_H
#define	PROTO_CONN_TABLE_H

#include "proto/conn.h"

/*
 * The table of connections, as conn.c and its reaper, conn_reap.c, share it;
 * nobody else includes this.
 */
#define	CONN_TICK_MS	50		/* the reaper's */
#define	CONN_LOOK_MS	1000		/* until the first look at a socket */
#define	CONN_PHASE_BITS	3u
#define	CONN_PHASE_MASK	((1u << CONN_PHASE_BITS) - 1)
#define	CONN_LINGER_MAX	256		/* descriptors drained at a time */

struct conn_linger {
	int	 fd;
	int64_t	 until;
};

struct conn_table {
	struct conn_library	 library;
	pthread_t		 reaper;
	pthread_cond_t		 wake;		/* to stop the reaper */
	pthread_mutex_t		 lock;		/* guards what follows */
	struct conn_limits	 limits;
	struct addresses	*addresses;
	struct conn		**conn;		/* all, in no order */
	size_t			 n, size;
	size_t			 next;		/* to be visited */
	unsigned		 step;		/* ticks for all of them */
	bool			 stop;
	struct conn_linger	 linger[CONN_LINGER_MAX]; /* for the reaper */
	size_t			 nlinger, ndrained;

	atomic_uint		 waiting;	/* threads, for the lock */
	atomic_bool		 closing;	/* each answer is the last */
	atomic_bool		 closed;	/* nothing waits any more */
	_Atomic uint64_t	 requests;	/* limits.requests */
	_Atomic uint64_t	 count[LIMIT_N];
};

static inline enum conn_phase
conn_phase_of(uint64_t state)
{

	return ((enum conn_phase)(state & CONN_PHASE_MASK));
}

static inline uint64_t
conn_state(const struct conn *c)
{

	return (atomic_load_explicit(&c->state, memory_order_relaxed));
}

/* With the connection's lock: shuts it down; wakes it, or notes that. */
void	 conn_cut(struct conn *c);
void	 conn_wake_locked(struct conn *c);
/* The reaper's thread, until stop; arg is the table. */
void	*conn_reap(void *arg);

#endif
