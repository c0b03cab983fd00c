/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections of the HTTP server: its threads report here what each connection
 * does, and wait; conn_reap.c cuts those that are too slow.
 */
#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "proto/address.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/conn_table.h"
#include "proto/fd.h"

#define	STEP_MAX	40u		/* ticks between two visits */
#define	DEADLINE_PART	8u		/* of a deadline: how late it may be */
#define	LINGER_MS	2000

/*
 * One thread at a time does this: the connection's own, or, while it is
 * suspended, whoever wakes it, and the lock stands between the two.  Others
 * only read the word, so nothing needs an order.
 */
static void
enter(struct conn *c, enum conn_phase phase)
{
	uint64_t changes = (conn_state(c) >> CONN_PHASE_BITS) + 1;

	atomic_store_explicit(&c->state, changes << CONN_PHASE_BITS | phase,
	    memory_order_relaxed);
}

void
conn_cut(struct conn *c)
{

	atomic_store(&c->cut, true);
	(void)shutdown(c->fd, SHUT_RDWR);
}

void
conn_wake_locked(struct conn *c)
{

	if (!atomic_load(&c->suspended)) {
		atomic_store(&c->woken, true);
		return;
	}
	atomic_store(&c->suspended, false);
	enter(c, conn_phase_of(conn_state(c)));
	c->table->library.resume(c);
}

/*
 * The table
 */
struct conn_table *
conn_table_new(const struct conn_limits *l, const struct conn_library *lib)
{
	struct conn_table *t;
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
	clock_cond_init(&t->wake);
	if ((error = pthread_create(&t->reaper, NULL, conn_reap, t)) == 0)
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
		if (least < STEP_MAX * CONN_TICK_MS * DEADLINE_PART / 1000)
			t->step = least * 1000 / DEADLINE_PART / CONN_TICK_MS;
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
		phase = conn_phase_of(conn_state(c));
		if (phase <= CONN_HEAD)
			conn_cut(c);
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
		if (!conn_is_cut(c) && conn_phase_of(conn_state(c)) > CONN_HEAD)
			conn_table_count(t, LIMIT_STOP_TIMEOUT);
		conn_cut(c);
		conn_wake_locked(c);
		(void)pthread_mutex_unlock(&c->lock);
	}
	(void)pthread_mutex_unlock(&t->lock);
}

/*
 * Connections
 */

/* The reaper sees who waits. */
static void
lock(struct conn_table *t)
{

	atomic_fetch_add(&t->waiting, 1);
	(void)pthread_mutex_lock(&t->lock);
	atomic_fetch_sub(&t->waiting, 1);
}

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

	lock(t);
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
	c->look_ms = c->since_ms + CONN_LOOK_MS;
	c->head_ms = c->half_ms = c->mark_ms = 0;
	tcp_peer(sa, c->peer);
	(void)pthread_mutex_init(&c->lock, NULL);
	lock(t);
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

	lock(t);
	/* The last one takes its place. */
	t->conn[c->index] = t->conn[--t->n];
	t->conn[c->index]->index = c->index;
	address_give(&c->address);
	if ((linger || c->last) && !conn_is_cut(c) &&
	    t->nlinger + t->ndrained < CONN_LINGER_MAX &&
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
		enter(c, conn_phase_of(conn_state(c)));
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
	conn_wake_locked(c);
	(void)pthread_mutex_unlock(&c->lock);
}
