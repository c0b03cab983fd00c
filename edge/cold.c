/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads of blobs that wait for the disk.  The threads of the pool bring a blob
 * to memory; of a large one whose pages are not there, they read a window ahead
 * of the client, so that what an HTTP thread then reads comes from the page
 * cache.  Large slices that are mapped already are looked at by a thread that
 * does nothing else, so that they wait for no disk if they need none.  bytes.c
 * begins and ends all of them on HTTP threads.
 *
 * Locks: a cold's lock, then the pool's.  wake() is called under the cold's.
 */
#include <sys/param.h>
#include <sys/queue.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/cold.h"
#include "edge/memory.h"
#include "edge/resident.h"
#include "proto/check.h"
#include "proto/fd.h"

#define	COLD_MAGIC	0x636f6c64u
#define	READERS		4		/* threads; one more looks */
#define	WINDOW_FIRST	(64u << 10)	/* bytes; doubled up to the largest */
#define	WINDOW_MAX	(1u << 20)

TAILQ_HEAD(cold_queue, cold);

struct lane {			/* what some of the threads do */
	struct cold_pool	*pool;
	pthread_cond_t		 work;
	struct cold_queue	 queue;		/* the pool's lock */
};

struct cold_pool {
	pthread_mutex_t		 lock;		/* guards what follows */
	bool			 stop;
	struct lane		 look, read;
	unsigned		 n;
	pthread_t		 thread[READERS + 1];
};

struct cold {
	unsigned		 magic;
	struct cold_pool	*pool;
	struct blob		*blob;
	uint64_t		 off, end;
	/* The thread's that reads, until it has announced them as ready. */
	struct memory		*memory;
	bool			 looked;	/* its pages are not there */
	int			 fd;		/* of windows; -1: all is there */
	size_t			 window;
	pthread_mutex_t		 lock;		/* guards what follows */
	uint64_t		 ready;		/* in the page cache up to here */
	bool			 busy;		/* in the queue, or being read */
	bool			 begun, failed;
	unsigned		 refs;		/* the request's, the queue's */
	void			(*wake)(void *);
	void			*arg;
	TAILQ_ENTRY(cold)	 link;		/* the pool's lock */
};

static void
cold_free(struct cold *c)
{

	blob_put(&c->blob);
	memory_unref(c->memory);
	fd_close(&c->fd);
	(void)pthread_mutex_destroy(&c->lock);
	explicit_bzero(&c->magic, sizeof(c->magic));
	free(c);
}

/* Unlocks. */
static void
unref(struct cold *c)
{
	bool last = --c->refs == 0;

	(void)pthread_mutex_unlock(&c->lock);
	if (last)
		cold_free(c);
}

/* Locked: has the next window read, unless that is under way. */
static void
submit(struct cold *c, struct lane *l)
{

	if (c->busy)
		return;
	c->busy = true;
	c->refs++;
	(void)pthread_mutex_lock(&l->pool->lock);
	TAILQ_INSERT_TAIL(&l->queue, c, link);
	(void)pthread_cond_signal(&l->work);
	(void)pthread_mutex_unlock(&l->pool->lock);
}

static bool
is_resident(struct cold *c)
{

	if (!memory_resident(c->memory, c->off, c->end - c->off))
		return (false);
	memory_keep_file(c->memory, c->blob);
	return (true);
}

/* Whether the bytes are in memory, brought there if need be; -1: they cannot
 * be read. */
static int
in_memory(struct cold *c)
{

	if (c->looked)
		return (0);
	if (c->memory == NULL && (c->memory = memory_load(c->blob)) == NULL)
		return (errno == ENOMEM && blob_checked(c->blob) ? 0 : -1);
	return (is_resident(c));
}

/* What the disk must be waited for.  Where the bytes are there up to; 0: they
 * cannot be read. */
static uint64_t
fetch(struct cold *c, uint64_t from, char *scratch)
{
	size_t n;

	if (c->fd == -1) {
		switch (in_memory(c)) {
		case -1:
			return (0);
		case 0:
			break;
		default:
			return (c->end);
		}
		if ((c->fd = blob_open(c->blob)) == -1)
			return (0);
	}
	n = (size_t)MIN(c->window, c->end - from);
	c->window = MIN(2 * c->window, WINDOW_MAX);
	if (fd_pread_all(c->fd, scratch, n, (off_t)from) == -1) {
		blob_drop(&c->blob);
		return (0);
	}
	return (from + n);
}

/* The lock is held; ready: up to where, or 0. */
static void
announce(struct cold *c, uint64_t ready)
{

	c->begun = true;
	if (ready == 0)
		c->failed = true;
	else
		c->ready = ready;
	if (c->wake != NULL)
		c->wake(c->arg);
}

static void
work_on(struct cold *c, char *scratch)
{
	uint64_t from, ready = 0;
	bool wanted;

	(void)pthread_mutex_lock(&c->lock);
	from = c->ready;
	wanted = c->wake != NULL;	/* else its client has left */
	(void)pthread_mutex_unlock(&c->lock);
	if (wanted)
		ready = fetch(c, from, scratch);
	(void)pthread_mutex_lock(&c->lock);
	c->busy = false;
	announce(c, ready);
	unref(c);
}

/* Waits for no disk: nor does opening a file that is mapped. */
static void
look_at(struct cold *c)
{
	bool there = is_resident(c);

	(void)pthread_mutex_lock(&c->lock);
	c->busy = false;
	c->looked = !there;
	if (there)
		announce(c, c->end);
	else
		submit(c, &c->pool->read);
	unref(c);
}

/* The pool's lock is held.  NULL: to stop. */
static struct cold *
next(struct lane *l)
{
	struct cold *c;

	while ((c = TAILQ_FIRST(&l->queue)) == NULL && !l->pool->stop)
		(void)pthread_cond_wait(&l->work, &l->pool->lock);
	if (c != NULL)
		TAILQ_REMOVE(&l->queue, c, link);
	return (c);
}

static void *
run(void *arg)
{
	struct lane *l = arg;
	struct cold_pool *p = l->pool;
	struct cold *c;
	char *scratch = NULL;

	if (l == &p->read)
		scratch = check_alloc(malloc(WINDOW_MAX));
	(void)pthread_mutex_lock(&p->lock);
	while ((c = next(l)) != NULL) {
		(void)pthread_mutex_unlock(&p->lock);
		if (l == &p->look)
			look_at(c);
		else
			work_on(c, scratch);
		(void)pthread_mutex_lock(&p->lock);
	}
	(void)pthread_mutex_unlock(&p->lock);
	free(scratch);
	return (NULL);
}

static void
lane_init(struct lane *l, struct cold_pool *p)
{

	l->pool = p;
	(void)pthread_cond_init(&l->work, NULL);
	TAILQ_INIT(&l->queue);
}

struct cold_pool *
cold_pool_new(void)
{
	struct cold_pool *p;
	int error;

	if ((p = calloc(1, sizeof(*p))) == NULL)
		return (NULL);
	(void)pthread_mutex_init(&p->lock, NULL);
	lane_init(&p->look, p);
	lane_init(&p->read, p);
	for (; p->n < READERS + 1; p->n++)
		if ((error = pthread_create(&p->thread[p->n], NULL, run,
		    p->n == 0 ? &p->look : &p->read)) != 0) {
			cold_pool_destroy(&p);
			errno = error;
			return (NULL);
		}
	return (p);
}

/* What the look lane hands over late is nobody's any more, but must be freed. */
static void
abandon(struct lane *l)
{
	struct cold *c;

	while ((c = TAILQ_FIRST(&l->queue)) != NULL) {
		TAILQ_REMOVE(&l->queue, c, link);
		(void)pthread_mutex_lock(&c->lock);
		unref(c);
	}
	(void)pthread_cond_destroy(&l->work);
}

void
cold_pool_destroy(struct cold_pool **pp)
{
	struct cold_pool *p = *pp;
	unsigned i;

	*pp = NULL;
	if (p == NULL)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->stop = true;
	(void)pthread_cond_broadcast(&p->look.work);
	(void)pthread_cond_broadcast(&p->read.work);
	(void)pthread_mutex_unlock(&p->lock);
	for (i = 0; i < p->n; i++)
		(void)pthread_join(p->thread[i], NULL);
	abandon(&p->look);
	abandon(&p->read);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

struct cold *
cold_new(struct cold_pool *p, struct blob **b, struct memory **m, uint64_t off,
    uint64_t len, void (*wake)(void *arg), void *arg)
{
	struct cold *c;

	if ((c = calloc(1, sizeof(*c))) == NULL) {
		blob_put(b);
		memory_unref(*m);
		*m = NULL;
		return (NULL);
	}
	c->magic = COLD_MAGIC;
	c->pool = p;
	c->blob = *b;
	*b = NULL;
	c->memory = *m;
	*m = NULL;
	c->off = c->ready = off;
	c->end = off + len;
	c->fd = -1;
	c->window = WINDOW_FIRST;
	c->refs = 1;
	c->wake = wake;
	c->arg = arg;
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_mutex_lock(&c->lock);
	submit(c, c->memory != NULL ? &p->look : &p->read);
	(void)pthread_mutex_unlock(&c->lock);
	return (c);
}

void
cold_destroy(struct cold **cp)
{
	struct cold *c = *cp;

	*cp = NULL;
	if (c == NULL)
		return;
	CHECK_OBJ(c, COLD_MAGIC);
	(void)pthread_mutex_lock(&c->lock);
	c->wake = NULL;
	unref(c);
}

enum cold_state
cold_state(struct cold *c)
{
	enum cold_state state = COLD_WAIT;

	CHECK_OBJ(c, COLD_MAGIC);
	(void)pthread_mutex_lock(&c->lock);
	if (c->failed)
		state = COLD_FAILED;
	else if (c->begun)
		state = COLD_READY;
	(void)pthread_mutex_unlock(&c->lock);
	return (state);
}

static ssize_t
read_window(void *arg, uint64_t off, void *p, size_t max)
{
	struct cold *c = arg;
	uint64_t ready;
	bool failed;

	CHECK_OBJ(c, COLD_MAGIC);
	CHECK(off >= c->off && off < c->end);
	(void)pthread_mutex_lock(&c->lock);
	ready = c->ready;
	failed = c->failed;
	if (!failed && ready < c->end && ready - off < WINDOW_MAX / 2)
		submit(c, &c->pool->read);
	(void)pthread_mutex_unlock(&c->lock);
	if (off >= ready)
		return (failed ? HTTPD_FAIL : HTTPD_WAIT);
	max = (size_t)MIN(max, ready - off);
	return (fd_pread_all(c->fd, p, max, (off_t)off) == -1 ? HTTPD_FAIL :
	    (ssize_t)max);
}

static void
release(void *arg)
{
	struct cold *c = arg;

	cold_destroy(&c);
}

struct memory *
cold_memory(struct cold **cp)
{
	struct cold *c = *cp;
	struct memory *m;

	CHECK_OBJ(c, COLD_MAGIC);
	CHECK(cold_state(c) == COLD_READY);
	if (c->fd != -1)
		return (NULL);
	m = memory_ref(c->memory);
	cold_destroy(cp);
	return (m);
}

struct httpd_body *
cold_body(struct cold **cp)
{
	struct cold *c = *cp;
	struct httpd_body *body;

	CHECK_OBJ(c, COLD_MAGIC);
	CHECK(cold_state(c) == COLD_READY && c->fd != -1);
	*cp = NULL;
	if (!RESIDENT_TOLD) {		/* sendfile(2) reads on by itself */
		body = httpd_body_fd(&c->fd);
		cold_destroy(&c);
		return (body);
	}
	if ((body = httpd_body_stream(read_window, release, c)) == NULL)
		cold_destroy(&c);
	return (body);
}
