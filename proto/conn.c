/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections of the HTTP server.  Its threads report here what each connection
 * does; the reaper, a thread of this file, cuts those that are too slow by
 * shutdown(2), under the lock against close, since the library's own timeouts
 * only see idle time and cost a visit of each connection in each loop.
 */
#include <sys/queue.h>
#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "proto/check.h"
#include "proto/clock.h"
#include "proto/conn.h"
#include "proto/fd.h"

#define	TICK_MS		250
#define	GONE_TICKS	4		/* ticks between looks for gone peers */
#define	HALF_CLOSED_MS	10000		/* a wait after the peer's FIN */
#define	HALF_HEAD_MS	1000		/* between requests, or within a head */
#define	LINGER_MS	2000
#define	LINGER_MAX	64		/* descriptors drained at a time */
#define	LINGER_BYTES	(4u << 20)	/* drained in one tick */

LIST_HEAD(conn_list, conn);

struct conn_table {
	struct conn_limits	 limits;
	pthread_t		 reaper;
	pthread_cond_t		 wake;		/* to stop the reaper */
	pthread_mutex_t		 lock;		/* guards what follows */
	struct conn_list	 list;
	size_t			 n;
	bool			 stop;
	unsigned		 tick;
	struct {
		int	 fd;
		int64_t	 until;
	} linger[LINGER_MAX];
	size_t			 nlinger;
	atomic_bool		 closed;	/* nothing waits any more */
};

/* The connection's lock is held, also below. */
static void
cut(struct conn *c)
{

	c->cut = true;
	(void)shutdown(c->fd, SHUT_RDWR);
}

static void
enter(struct conn *c, enum conn_phase phase)
{

	c->phase = phase;
	c->since = clock_boot_ms();
	c->mark_ms = c->half_ms = 0;
}

static void
wake(struct conn *c)
{

	if (!c->suspended) {
		c->woken = true;
		return;
	}
	c->suspended = false;
	enter(c, c->phase);
	c->table->limits.resume(c);
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

	if (c->mark_ms != 0 && now - c->mark_ms < (int64_t)l->body_s * 1000)
		return (false);
	progress = c->phase == CONN_RECEIVE ? c->received :
	    tcp_progress(c->fd, &exact);
	done = progress - c->mark;
	if (c->mark_ms != 0 && (exact ? done < l->body_bytes : done == 0))
		return (true);
	c->mark_ms = now;
	c->mark = progress;
	return (false);
}

/* The peer has gone, or has said for that long that it sends no more. */
static bool
has_left(struct conn *c, int64_t now, int64_t half_closed_ms)
{

	switch (tcp_peer_state(c->fd)) {
	case TCP_THERE:
		c->half_ms = 0;
		return (false);
	case TCP_HALF_CLOSED:
		if (c->half_ms == 0)
			c->half_ms = now;
		return (now - c->half_ms >= half_closed_ms);
	case TCP_GONE:
		break;
	}
	return (true);
}

static void
judge(struct conn *c, int64_t now, bool look)
{
	const struct conn_limits *l = &c->table->limits;
	int64_t age = now - c->since;

	if (c->suspended) {
		if (look && has_left(c, now, HALF_CLOSED_MS)) {
			cut(c);
			wake(c);
		}
		return;
	}
	if (c->cut)
		return;
	switch (c->phase) {
	case CONN_IDLE:
		/* The library may miss a FIN that came with a request, or goes
		 * on waiting for the rest of a head. */
		if (age >= 1000 * (int64_t)(c->fresh ? l->header_s :
		    l->idle_s) || (look && has_left(c, now, HALF_HEAD_MS)))
			cut(c);
		break;
	case CONN_HEAD:
		if (age >= 1000 * (int64_t)l->header_s ||
		    (look && has_left(c, now, HALF_HEAD_MS)))
			cut(c);
		break;
	case CONN_RECEIVE:
	case CONN_SEND:
		if (too_slow(c, now))
			cut(c);
		break;
	case CONN_WORK:
		break;
	}
}

/* The table's lock is held. */
static void
drain(struct conn_table *t, int64_t now)
{
	static char sink[65536];	/* only the reaper writes, none reads */
	size_t i, total;
	ssize_t n;

	for (i = 0; i < t->nlinger; ) {
		for (total = 0, n = 1; n > 0 && total < LINGER_BYTES;
		    total += n > 0 ? (size_t)n : 0)
			n = recv(t->linger[i].fd, sink, sizeof(sink),
			    MSG_DONTWAIT);
		if (now < t->linger[i].until && (n > 0 ||
		    (n == -1 && (errno == EAGAIN || errno == EINTR)))) {
			i++;
			continue;
		}
		fd_close(&t->linger[i].fd);
		t->linger[i] = t->linger[--t->nlinger];
	}
}

static void *
reap(void *arg)
{
	struct conn_table *t = arg;
	struct timespec ts;
	struct conn *c;
	int64_t now;
	bool look;

	(void)pthread_mutex_lock(&t->lock);
	while (!t->stop) {
		(void)clock_gettime(CLOCK_MONOTONIC, &ts);
		ts.tv_nsec += TICK_MS * 1000000L;
		if (ts.tv_nsec >= 1000000000L) {
			ts.tv_sec++;
			ts.tv_nsec -= 1000000000L;
		}
		(void)pthread_cond_timedwait(&t->wake, &t->lock, &ts);
		now = clock_boot_ms();
		look = t->tick++ % GONE_TICKS == 0;
		LIST_FOREACH(c, &t->list, entry) {
			(void)pthread_mutex_lock(&c->lock);
			judge(c, now, look);
			(void)pthread_mutex_unlock(&c->lock);
		}
		drain(t, now);
	}
	(void)pthread_mutex_unlock(&t->lock);
	return (NULL);
}

struct conn_table *
conn_table_new(const struct conn_limits *l)
{
	struct conn_table *t;
	pthread_condattr_t attr;
	int error;

	if ((t = calloc(1, sizeof(*t))) == NULL)
		return (NULL);
	t->limits = *l;
	LIST_INIT(&t->list);
	atomic_init(&t->closed, false);
	(void)pthread_mutex_init(&t->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&t->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	if ((error = pthread_create(&t->reaper, NULL, reap, t)) != 0) {
		free(t);
		errno = error;
		return (NULL);
	}
	return (t);
}

void
conn_table_destroy(struct conn_table **tp)
{
	struct conn_table *t = *tp;

	if (t == NULL)
		return;
	(void)pthread_mutex_lock(&t->lock);
	CHECK(LIST_EMPTY(&t->list));
	t->stop = true;
	(void)pthread_cond_signal(&t->wake);
	(void)pthread_mutex_unlock(&t->lock);
	(void)pthread_join(t->reaper, NULL);
	while (t->nlinger > 0)
		fd_close(&t->linger[--t->nlinger].fd);
	(void)pthread_cond_destroy(&t->wake);
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
	*tp = NULL;
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

size_t
conn_table_cut_idle(struct conn_table *t)
{
	struct conn *c;
	size_t n = 0;

	(void)pthread_mutex_lock(&t->lock);
	LIST_FOREACH(c, &t->list, entry) {
		(void)pthread_mutex_lock(&c->lock);
		if (c->phase == CONN_IDLE || c->phase == CONN_HEAD)
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

	/* Whoever is about to wait looks at this under the connection's lock,
	 * which is taken below: it sees it, or is seen waiting. */
	atomic_store(&t->closed, true);
	(void)pthread_mutex_lock(&t->lock);
	LIST_FOREACH(c, &t->list, entry) {
		(void)pthread_mutex_lock(&c->lock);
		cut(c);
		wake(c);
		(void)pthread_mutex_unlock(&c->lock);
	}
	(void)pthread_mutex_unlock(&t->lock);
}

void
conn_open(struct conn *c, struct conn_table *t, int fd,
    const struct sockaddr *sa)
{

	c->table = t;
	(void)pthread_mutex_init(&c->lock, NULL);
	c->fd = fd;
	c->fresh = true;
	c->suspended = c->woken = c->cut = false;
	tcp_peer(sa, c->peer);
	enter(c, CONN_IDLE);
	(void)pthread_mutex_lock(&t->lock);
	LIST_INSERT_HEAD(&t->list, c, entry);
	t->n++;
	(void)pthread_mutex_unlock(&t->lock);
}

void
conn_close(struct conn *c, bool linger)
{
	struct conn_table *t = c->table;
	int fd;

	(void)pthread_mutex_lock(&t->lock);
	LIST_REMOVE(c, entry);
	t->n--;
	if (linger && t->nlinger < LINGER_MAX &&
	    (fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0)) != -1) {
		(void)shutdown(fd, SHUT_WR);
		t->linger[t->nlinger].fd = fd;
		t->linger[t->nlinger++].until = clock_boot_ms() + LINGER_MS;
	}
	(void)pthread_mutex_unlock(&t->lock);
	(void)pthread_mutex_destroy(&c->lock);
}

void
conn_phase(struct conn *c, enum conn_phase phase)
{

	(void)pthread_mutex_lock(&c->lock);
	if (phase != CONN_IDLE)
		c->fresh = false;
	enter(c, phase);
	(void)pthread_mutex_unlock(&c->lock);
}

void
conn_request(struct conn *c)
{

	(void)pthread_mutex_lock(&c->lock);
	c->fresh = c->woken = false;
	c->received = 0;
	enter(c, CONN_HEAD);
	(void)pthread_mutex_unlock(&c->lock);
}

void
conn_received(struct conn *c, size_t len)
{

	(void)pthread_mutex_lock(&c->lock);
	c->received += len;
	(void)pthread_mutex_unlock(&c->lock);
}

bool
conn_is_cut(struct conn *c)
{
	bool is;

	(void)pthread_mutex_lock(&c->lock);
	is = c->cut;
	(void)pthread_mutex_unlock(&c->lock);
	return (is);
}

enum conn_wait
conn_wait(struct conn *c)
{
	enum conn_wait w;

	(void)pthread_mutex_lock(&c->lock);
	CHECK(!c->suspended);
	if (c->cut || atomic_load(&c->table->closed))
		w = CONN_CUT;
	else if (c->woken)
		w = CONN_AGAIN;
	else {
		w = CONN_SUSPENDED;
		c->suspended = true;
		c->half_ms = 0;
		c->table->limits.suspend(c);
	}
	c->woken = false;
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
