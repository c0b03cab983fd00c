/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections of the HTTP server.  Its threads report here what each connection
 * does; the reaper, a thread of this file, cuts those that are too slow by
 * shutdown(2), under the table's lock against close, since the library's own
 * timeouts only see idle time and cost a visit of each connection in each loop.
 *
 * Each tick the reaper goes on through the table where it stopped, so that it
 * comes by every connection every few ticks.  A visit reads one word; sockets
 * are only asked of connections that have done nothing else for a while.
 */
#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "proto/address.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/conn.h"
#include "proto/fd.h"

#define	TICK_MS		250
#define	STEP_MAX	8u		/* ticks between two visits */
#define	PREFETCH	8u		/* visits ahead */
#define	DEADLINE_PART	8u		/* of a deadline: how late it may be */
#define	LOOK_MS		1000		/* the first look at a socket */
#define	LOOK_MAX_MS	15000		/* between later ones */
#define	HALF_CLOSED_MS	10000		/* a wait after the peer's FIN */
#define	HALF_HEAD_MS	1000		/* between requests, or within a head */
#define	LOCK_COST	128u		/* of visits, while locked */
#define	LOOK_COST	4u		/* in visits */
#define	CUT_COST	32u
#define	LINGER_MS	2000
#define	LINGER_MAX	256		/* descriptors drained at a time */
#define	LINGER_BYTES	(4u << 20)	/* drained of one in a tick, */
#define	LINGER_TICK	(16u << 20)	/* of all */
#define	LOG_MS		60000

#define	PHASE_BITS	3u
#define	PHASE_MASK	((1u << PHASE_BITS) - 1)

struct lingering {
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
	struct lingering	 linger[LINGER_MAX];	/* for the reaper */
	size_t			 nlinger, ndrained;

	atomic_bool		 closing;	/* each answer is the last */
	atomic_bool		 closed;	/* nothing waits any more */
	_Atomic uint64_t	 requests;	/* limits.requests */
	_Atomic uint64_t	 count[LIMIT_N];
};

static enum conn_phase
phase_of(uint64_t state)
{

	return ((enum conn_phase)(state & PHASE_MASK));
}

static uint64_t
state_of(const struct conn *c)
{

	return (atomic_load_explicit(&c->state, memory_order_relaxed));
}

/*
 * One thread at a time does this: the connection's own, or, while it is
 * suspended, whoever wakes it, and the lock stands between the two.  Others
 * only read the word, so nothing needs an order.
 */
static void
enter(struct conn *c, enum conn_phase phase)
{
	uint64_t changes = (state_of(c) >> PHASE_BITS) + 1;

	atomic_store_explicit(&c->state, changes << PHASE_BITS | phase,
	    memory_order_relaxed);
}

/* The connection's lock is held, also below. */
static void
cut(struct conn *c)
{

	atomic_store(&c->cut, true);
	(void)shutdown(c->fd, SHUT_RDWR);
}

static void
wake(struct conn *c)
{

	if (!atomic_load(&c->suspended)) {
		atomic_store(&c->woken, true);
		return;
	}
	atomic_store(&c->suspended, false);
	enter(c, phase_of(state_of(c)));
	c->table->library.resume(c);
}

/*
 * The reaper.  The table's lock is held from here on.
 */

/* What a connection does has changed since the last visit. */
static void
see(struct conn *c, uint64_t state, int64_t now)
{
	bool next = state >> PHASE_BITS == (c->seen >> PHASE_BITS) + 1;

	/* A head's time began with its first byte, or with the connection. */
	if (next && phase_of(state) == CONN_HEAD &&
	    phase_of(c->seen) == CONN_IDLE && c->head_ms != 0)
		c->since_ms = c->head_ms;
	else if (!next || phase_of(state) != CONN_HEAD ||
	    phase_of(c->seen) != CONN_FRESH)
		c->since_ms = now;
	c->seen = state;
	c->head_ms = c->half_ms = c->mark_ms = 0;
	c->look_ms = now + LOOK_MS;
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
	progress = phase_of(c->seen) == CONN_RECEIVE ?
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
	c->look_ms = now + (age < LOOK_MS ? LOOK_MS :
	    2 * age < LOOK_MAX_MS ? 2 * age : LOOK_MAX_MS);
	if (phase_of(c->seen) == CONN_IDLE && c->head_ms == 0 &&
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
	switch (phase_of(c->seen)) {
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
	uint64_t state = state_of(c);
	unsigned cost = 1;
	enum limit l;

	if (state != c->seen)
		see(c, state, now);
	if (conn_is_cut(c) || (l = judge(c, now, &cost)) == LIMIT_N)
		return (cost);
	(void)pthread_mutex_lock(&c->lock);
	if (state_of(c) == state) {
		/* Nobody waits for what the kernel still has to send. */
		if (l == LIMIT_SLOW_READERS)
			tcp_drop(c->fd);
		cut(c);
		if (atomic_load(&c->suspended))
			wake(c);
		conn_table_count(c->table, l);
	}
	(void)pthread_mutex_unlock(&c->lock);
	return (cost + CUT_COST);
}

/* Threads that open and close connections get their turn in between. */
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
		(void)pthread_mutex_unlock(&t->lock);
		cost = 0;
		(void)pthread_mutex_lock(&t->lock);
	}
}

/* Without the lock.  Those that remain. */
static size_t
drain(struct lingering *linger, size_t n, int64_t now)
{
	static char sink[65536];	/* only reapers write, none reads */
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

static void
sleep_tick(struct conn_table *t)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += TICK_MS * 1000000L;
	if (ts.tv_nsec >= 1000000000L) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000L;
	}
	(void)pthread_cond_timedwait(&t->wake, &t->lock, &ts);
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

static void *
reap(void *arg)
{
	struct conn_table *t = arg;
	struct lingering mine[LINGER_MAX];
	uint64_t told[LIMIT_N] = { 0 };
	int64_t tell_ms = clock_boot_ms() + LOG_MS;
	size_t n = 0;

	(void)pthread_mutex_lock(&t->lock);
	while (!t->stop) {
		sleep_tick(t);
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

/*
 * The table
 */
struct conn_table *
conn_table_new(const struct conn_limits *l, const struct conn_library *lib)
{
	struct conn_table *t;
	pthread_condattr_t attr;
	int error;

	if ((t = calloc(1, sizeof(*t))) == NULL)
		return (NULL);
	t->library = *lib;
	(void)pthread_mutex_init(&t->lock, NULL);
	if ((t->addresses = addresses_new(l->connections)) == NULL ||
	    conn_table_limit(t, l) == -1) {
		error = errno;
		goto fail;
	}
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&t->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	if ((error = pthread_create(&t->reaper, NULL, reap, t)) == 0)
		return (t);
fail:
	addresses_destroy(&t->addresses);
	free(t->conn);
	free(t);
	errno = error;
	return (NULL);
}

void
conn_table_destroy(struct conn_table **tp)
{
	struct conn_table *t = *tp;

	if (t == NULL)
		return;
	(void)pthread_mutex_lock(&t->lock);
	CHECK(t->n == 0);
	t->stop = true;
	(void)pthread_cond_signal(&t->wake);
	(void)pthread_mutex_unlock(&t->lock);
	(void)pthread_join(t->reaper, NULL);
	while (t->nlinger > 0)
		fd_close(&t->linger[--t->nlinger].fd);
	addresses_destroy(&t->addresses);
	free(t->conn);
	(void)pthread_cond_destroy(&t->wake);
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
	*tp = NULL;
}

/* The lock is held. */
static int
grow(struct conn_table *t, size_t size)
{
	struct conn **p;

	if (size <= t->size)
		return (0);
	if ((p = realloc(t->conn, size * sizeof(*p))) == NULL)
		return (-1);
	t->conn = p;
	t->size = size;
	return (0);
}

int
conn_table_limit(struct conn_table *t, const struct conn_limits *l)
{
	unsigned least = l->header_s < l->idle_s ? l->header_s : l->idle_s;
	int ret;

	if (l->body_s < least)
		least = l->body_s;
	(void)pthread_mutex_lock(&t->lock);
	if ((ret = grow(t, l->connections)) == 0) {
		t->limits = *l;
		t->step = STEP_MAX;
		if (least < STEP_MAX * TICK_MS * DEADLINE_PART / 1000)
			t->step = least * 1000 / DEADLINE_PART / TICK_MS;
		if (t->step == 0)
			t->step = 1;
		atomic_store(&t->requests, l->requests);
	}
	(void)pthread_mutex_unlock(&t->lock);
	return (ret);
}

size_t
conn_table_n(struct conn_table *t)
{
	size_t n;

	(void)pthread_mutex_lock(&t->lock);
	n = t->n;
	(void)pthread_mutex_unlock(&t->lock);
	return (n);
}

void
conn_table_counts(struct conn_table *t, uint64_t out[LIMIT_N])
{
	int i;

	for (i = 0; i < LIMIT_N; i++)
		out[i] = atomic_load_explicit(&t->count[i],
		    memory_order_relaxed);
}

void
conn_table_count(struct conn_table *t, enum limit l)
{

	atomic_fetch_add_explicit(&t->count[l], 1, memory_order_relaxed);
}

size_t
conn_table_cut_idle(struct conn_table *t)
{
	enum conn_phase phase;
	struct conn *c;
	size_t n = 0, i;

	atomic_store(&t->closing, true);
	(void)pthread_mutex_lock(&t->lock);
	for (i = 0; i < t->n; i++) {
		c = t->conn[i];
		if (conn_is_cut(c))
			continue;
		(void)pthread_mutex_lock(&c->lock);
		phase = phase_of(state_of(c));
		if (phase <= CONN_HEAD)
			cut(c);
		else
			n++;
		(void)pthread_mutex_unlock(&c->lock);
	}
	(void)pthread_mutex_unlock(&t->lock);
	return (n);
}

void
conn_table_cut_all(struct conn_table *t)
{
	struct conn *c;
	size_t i;

	/* Whoever is about to wait looks at this under the connection's lock,
	 * which is taken below: it sees it, or is seen waiting. */
	atomic_store(&t->closed, true);
	(void)pthread_mutex_lock(&t->lock);
	for (i = 0; i < t->n; i++) {
		c = t->conn[i];
		(void)pthread_mutex_lock(&c->lock);
		if (!conn_is_cut(c) && phase_of(state_of(c)) > CONN_HEAD)
			conn_table_count(t, LIMIT_STOP_TIMEOUT);
		cut(c);
		wake(c);
		(void)pthread_mutex_unlock(&c->lock);
	}
	(void)pthread_mutex_unlock(&t->lock);
}

/*
 * Connections
 */

/* The table's lock is held. */
static bool
has_room(struct conn_table *t, const struct sockaddr *sa)
{

	if (t->n >= t->limits.connections) {
		conn_table_count(t, LIMIT_CONNECTIONS);
		return (false);
	}
	if (address_count(t->addresses, sa) >= t->limits.per_address) {
		conn_table_count(t, LIMIT_PER_ADDRESS);
		return (false);
	}
	return (true);
}

bool
conn_admit(struct conn_table *t, const struct sockaddr *sa)
{
	bool has;

	(void)pthread_mutex_lock(&t->lock);
	has = has_room(t, sa);
	(void)pthread_mutex_unlock(&t->lock);
	return (has);
}

/* Another thread may have taken the room since conn_admit(). */
static bool
enlist(struct conn_table *t, struct conn *c, const struct sockaddr *sa)
{

	if (!has_room(t, sa) ||
	    (c->address = address_take(t->addresses, sa)) == NULL)
		return (false);
	CHECK(t->n < t->size);
	c->index = t->n;
	t->conn[t->n++] = c;
	return (true);
}

bool
conn_open(struct conn *c, struct conn_table *t, int fd,
    const struct sockaddr *sa)
{
	bool listed;

	c->table = t;
	c->fd = fd;
	c->requests = 0;
	c->last = false;
	atomic_init(&c->suspended, false);
	atomic_init(&c->woken, false);
	atomic_init(&c->cut, false);
	atomic_init(&c->received, 0);
	atomic_init(&c->state, CONN_FRESH);
	c->seen = CONN_FRESH;
	c->since_ms = clock_boot_ms();
	c->look_ms = c->since_ms + LOOK_MS;
	c->head_ms = c->half_ms = c->mark_ms = 0;
	tcp_peer(sa, c->peer);
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_mutex_lock(&t->lock);
	listed = enlist(t, c, sa);
	(void)pthread_mutex_unlock(&t->lock);
	if (!listed)
		(void)pthread_mutex_destroy(&c->lock);
	return (listed);
}

void
conn_close(struct conn *c, bool linger)
{
	struct conn_table *t = c->table;
	int fd;

	(void)pthread_mutex_lock(&t->lock);
	/* The last one takes its place. */
	t->conn[c->index] = t->conn[--t->n];
	t->conn[c->index]->index = c->index;
	address_give(&c->address);
	if ((linger || c->last) && !conn_is_cut(c) &&
	    t->nlinger + t->ndrained < LINGER_MAX &&
	    (fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0)) != -1) {
		(void)shutdown(fd, SHUT_WR);
		t->linger[t->nlinger].fd = fd;
		t->linger[t->nlinger++].until = clock_boot_ms() + LINGER_MS;
	}
	(void)pthread_mutex_unlock(&t->lock);
	/* Whoever woke it last may not have let go of it yet. */
	(void)pthread_mutex_lock(&c->lock);
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_mutex_destroy(&c->lock);
}

void
conn_phase(struct conn *c, enum conn_phase phase)
{

	enter(c, phase);
}

/* Whoever could wake the last request has been told that it has ended. */
void
conn_request(struct conn *c)
{

	if (atomic_load_explicit(&c->woken, memory_order_relaxed))
		atomic_store(&c->woken, false);
	atomic_store_explicit(&c->received, 0, memory_order_relaxed);
	enter(c, CONN_HEAD);
}

void
conn_received(struct conn *c, size_t len)
{

	atomic_store_explicit(&c->received, len + atomic_load_explicit(
	    &c->received, memory_order_relaxed), memory_order_relaxed);
}

bool
conn_is_last(struct conn *c)
{
	uint64_t most;

	most = atomic_load_explicit(&c->table->requests, memory_order_relaxed);
	c->requests++;
	if (most != 0 && c->requests >= most) {
		c->last = true;
		conn_table_count(c->table, LIMIT_REQUESTS);
	} else if (atomic_load_explicit(&c->table->closing,
	    memory_order_relaxed))
		c->last = true;
	return (c->last);
}

bool
conn_is_cut(const struct conn *c)
{

	return (atomic_load_explicit(&c->cut, memory_order_relaxed));
}

enum conn_wait
conn_wait(struct conn *c)
{
	enum conn_wait w;

	(void)pthread_mutex_lock(&c->lock);
	CHECK(!atomic_load(&c->suspended));
	if (conn_is_cut(c) || atomic_load(&c->table->closed))
		w = CONN_CUT;
	else if (atomic_load(&c->woken))
		w = CONN_AGAIN;
	else {
		w = CONN_SUSPENDED;
		atomic_store(&c->suspended, true);
		enter(c, phase_of(state_of(c)));
		c->table->library.suspend(c);
	}
	atomic_store(&c->woken, false);
	(void)pthread_mutex_unlock(&c->lock);
	return (w);
}

void
conn_wake(struct conn *c)
{

	(void)pthread_mutex_lock(&c->lock);
	wake(c);
	(void)pthread_mutex_unlock(&c->lock);
}
