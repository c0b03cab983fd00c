/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The reaper of an HTTP server's connections, a thread: it cuts those that are
 * too slow by shutdown(2), under the table's lock against close, since the
 * library's own timeouts only see idle time and cost a visit of each connection
 * in each loop.
 *
 * Each tick it goes on through the table where it stopped, so that it comes by
 * every connection every few ticks.  A visit reads one word; sockets are only
 * asked of connections that have done nothing else for a while.
 */
#include <sys/socket.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "proto/clock.h"
#include "proto/conn_table.h"
#include "proto/fd.h"

#define	PREFETCH	8u		/* visits ahead */
#define	LOOK_MAX_MS	15000		/* between later ones */
#define	HALF_CLOSED_MS	10000		/* a wait after the peer's FIN */
#define	HALF_HEAD_MS	1000		/* between requests, or within a head */
#define	LOCK_COST	128u		/* of visits, while locked */
#define	LOOK_COST	4u		/* in visits */
#define	CUT_COST	32u
#define	LINGER_BYTES	(1u << 20)	/* drained of one in a tick, */
#define	LINGER_TICK	(4u << 20)	/* of all */
#define	GIVE_WAY_NS	100000
#define	LOG_MS		60000

/* What a connection does has changed since the last visit.  The table's lock is
 * held, also below. */
static void
see(struct conn *c, uint64_t state, int64_t now)
{
	uint64_t changes = state >> CONN_PHASE_BITS;
	bool next = changes == (c->seen >> CONN_PHASE_BITS) + 1;

	/* A head's time began with its first byte, or with the connection. */
	if (next && conn_phase_of(state) == CONN_HEAD &&
	    conn_phase_of(c->seen) == CONN_IDLE && c->head_ms != 0)
		c->since_ms = c->head_ms;
	else if (!next || conn_phase_of(state) != CONN_HEAD ||
	    conn_phase_of(c->seen) != CONN_FRESH)
		c->since_ms = now;
	c->seen = state;
	c->head_ms = c->half_ms = c->mark_ms = 0;
	c->look_ms = now + CONN_LOOK_MS;
}

/*
 * Slower than body_bytes in body_s: progress is measured in windows of that
 * length.  Where the kernel does not count (see tcp.h), any movement will do.
 */
static bool
too_slow(struct conn *c, int64_t now)
{
	const struct conn_limits *l = &c->table->limits;
	uint64_t progress, done;
	bool exact = true;

	if (l->body_bytes == 0 || (c->mark_ms != 0 &&
	    now - c->mark_ms < (int64_t)l->body_s * 1000))
		return (false);
	progress = conn_phase_of(c->seen) == CONN_RECEIVE ?
	    atomic_load_explicit(&c->received, memory_order_relaxed) :
	    tcp_progress(c->fd, &exact);
	done = progress - c->mark;
	if (c->mark_ms != 0 && (exact ? done < l->body_bytes : done == 0))
		return (true);
	c->mark_ms = now;
	c->mark = progress;
	return (false);
}

/*
 * Whether the peer has gone, or has said for that long that it sends no more:
 * the library may miss a FIN that came with a request, goes on waiting for the
 * rest of a head, and does not look while it is suspended.  Also finds heads
 * that have begun.
 */
static bool
has_left(struct conn *c, int64_t now, int64_t half_closed_ms)
{
	int64_t age = now - c->since_ms;
	struct tcp_look look;

	tcp_look(c->fd, &look);
	c->look_ms = now + (age < CONN_LOOK_MS ? CONN_LOOK_MS :
	    2 * age < LOOK_MAX_MS ? 2 * age : LOOK_MAX_MS);
	if (conn_phase_of(c->seen) == CONN_IDLE && c->head_ms == 0 &&
	    look.quiet_ms >= 0 && look.quiet_ms < age)
		c->head_ms = now;
	switch (look.peer) {
	case TCP_THERE:
		c->half_ms = 0;
		return (false);
	case TCP_HALF_CLOSED:
		if (c->half_ms == 0)
			c->half_ms = now;
		c->look_ms = c->half_ms + half_closed_ms;
		return (now >= c->look_ms);
	case TCP_GONE:
		break;
	}
	return (true);
}

/* The limit that a connection has reached; LIMIT_N: none. */
static enum limit
judge(struct conn *c, int64_t now, unsigned *cost)
{
	const struct conn_limits *l = &c->table->limits;
	bool look = now >= c->look_ms;
	int64_t age = now - c->since_ms;

	if (look)
		*cost += LOOK_COST;
	if (atomic_load_explicit(&c->suspended, memory_order_relaxed))
		return (look && has_left(c, now, HALF_CLOSED_MS) ? LIMIT_GONE :
		    LIMIT_N);
	switch (conn_phase_of(c->seen)) {
	case CONN_IDLE:
		if (age >= 1000 * (int64_t)l->idle_s)
			return (LIMIT_IDLE_TIMEOUT);
		if (look && has_left(c, now, HALF_HEAD_MS))
			return (LIMIT_GONE);
		return (c->head_ms != 0 && now - c->head_ms >=
		    1000 * (int64_t)l->header_s ? LIMIT_HEAD_TIMEOUT : LIMIT_N);
	case CONN_FRESH:
	case CONN_HEAD:
		if (age >= 1000 * (int64_t)l->header_s)
			return (LIMIT_HEAD_TIMEOUT);
		return (look && has_left(c, now, HALF_HEAD_MS) ? LIMIT_GONE :
		    LIMIT_N);
	case CONN_RECEIVE:
		return (too_slow(c, now) ? LIMIT_SLOW_SENDERS : LIMIT_N);
	case CONN_SEND:
		return (too_slow(c, now) ? LIMIT_SLOW_READERS : LIMIT_N);
	case CONN_WORK:
		break;
	}
	return (LIMIT_N);
}

/* What this took, in units of a visit. */
static unsigned
visit(struct conn *c, int64_t now)
{
	uint64_t state = conn_state(c);
	unsigned cost = 1;
	enum limit l;

	if (state != c->seen)
		see(c, state, now);
	if (conn_is_cut(c) || (l = judge(c, now, &cost)) == LIMIT_N)
		return (cost);
	(void)pthread_mutex_lock(&c->lock);
	if (conn_state(c) == state) {
		/* Nobody waits for what the kernel still has to send. */
		if (l == LIMIT_SLOW_READERS)
			tcp_drop(c->fd);
		conn_cut(c);
		if (atomic_load(&c->suspended))
			conn_wake_locked(c);
		conn_table_count(c->table, l);
	}
	(void)pthread_mutex_unlock(&c->lock);
	return (cost + CUT_COST);
}

/*
 * Threads that open and close connections get their turn: a mutex alone, let go
 * and taken again, is mostly ours again before they are awake.
 */
static void
give_way(struct conn_table *t)
{
	struct timespec ts = { .tv_nsec = GIVE_WAY_NS };

	(void)pthread_mutex_unlock(&t->lock);
	if (atomic_load(&t->waiting) > 0)
		(void)nanosleep(&ts, NULL);
	(void)pthread_mutex_lock(&t->lock);
}

static void
turn(struct conn_table *t)
{
	int64_t now = clock_boot_ms();
	unsigned cost = 0;
	size_t left;

	for (left = (t->n + t->step - 1) / t->step; left > 0; left--) {
		if (t->next >= t->n)
			t->next = 0;
		if (t->n == 0)
			break;
		if (t->next + PREFETCH < t->n)
			__builtin_prefetch(
			    &t->conn[t->next + PREFETCH]->state);
		if ((cost += visit(t->conn[t->next++], now)) < LOCK_COST)
			continue;
		give_way(t);
		cost = 0;
	}
}

/* Without the lock.  Those that remain. */
static size_t
drain(struct conn_linger *linger, size_t n, int64_t now)
{
	char sink[65536];		/* none reads it */
	size_t i, total, all = 0;
	ssize_t got;

	for (i = 0; i < n; ) {
		for (total = 0, got = 1; got > 0 && total < LINGER_BYTES &&
		    all < LINGER_TICK; ) {
			got = recv(linger[i].fd, sink, sizeof(sink),
			    MSG_DONTWAIT);
			total += got > 0 ? (size_t)got : 0;
			all += got > 0 ? (size_t)got : 0;
		}
		if (now < linger[i].until && (got > 0 ||
		    (got == -1 && (errno == EAGAIN || errno == EINTR)))) {
			i++;
			continue;
		}
		fd_close(&linger[i].fd);
		linger[i] = linger[--n];
	}
	return (n);
}

/* Without the lock. */
static void
tell(struct conn_table *t, uint64_t told[LIMIT_N], int64_t *next, int64_t now)
{
	uint64_t count[LIMIT_N];

	if (now < *next)
		return;
	*next = now + LOG_MS;
	conn_table_counts(t, count);
	limits_log(count, told);
}

void *
conn_reap(void *arg)
{
	struct conn_table *t = arg;
	struct conn_linger mine[CONN_LINGER_MAX];
	uint64_t told[LIMIT_N] = { 0 };
	int64_t tell_ms = clock_boot_ms() + LOG_MS;
	size_t n = 0;

	(void)pthread_mutex_lock(&t->lock);
	while (!t->stop) {
		(void)clock_wait(&t->wake, &t->lock, CONN_TICK_MS);
		turn(t);
		while (t->nlinger > 0)
			mine[n++] = t->linger[--t->nlinger];
		t->ndrained = n;
		(void)pthread_mutex_unlock(&t->lock);
		n = drain(mine, n, clock_boot_ms());
		tell(t, told, &tell_ms, clock_boot_ms());
		(void)pthread_mutex_lock(&t->lock);
		t->ndrained = n;
	}
	(void)pthread_mutex_unlock(&t->lock);
	while (n > 0)
		fd_close(&mine[--n].fd);
	return (NULL);
}
