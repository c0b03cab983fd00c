/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads of blobs that wait for the disk.  The threads of the pool bring a blob
 * to memory; of a large one whose pages are not there, they read a window ahead
 * of the client, so that what an HTTP thread then reads comes from the page
 * cache.  serve.c begins and ends them on HTTP threads.
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
#include "proto/check.h"
#include "proto/fd.h"

#define	COLD_MAGIC	0x636f6c64u
#define	COLD_THREADS	4
#define	WINDOW_FIRST	(64u << 10)	/* bytes; doubled up to the largest */
#define	WINDOW_MAX	(1u << 20)

TAILQ_HEAD(cold_queue, cold);

struct cold_pool {
	pthread_mutex_t		 lock;		/* guards what follows */
	pthread_cond_t		 work;
	struct cold_queue	 queue;
	bool			 stop;
	unsigned		 n;
	pthread_t		 thread[COLD_THREADS];
};

struct cold {
	unsigned		 magic;
	struct cold_pool	*pool;
	struct blob		*blob;
	uint64_t		 size, off, end;
	/* The thread's that reads, until it has announced them as ready. */
	struct memory		*memory;
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
submit(struct cold *c)
{
	struct cold_pool *p = c->pool;

	if (c->busy)
		return;
	c->busy = true;
	c->refs++;
	(void)pthread_mutex_lock(&p->lock);
	TAILQ_INSERT_TAIL(&p->queue, c, link);
	(void)pthread_cond_signal(&p->work);
	(void)pthread_mutex_unlock(&p->lock);
}

/* What the disk must be waited for.  Where the bytes are there up to; 0: they
 * cannot be read. */
static uint64_t
fetch(struct cold *c, uint64_t from, char *scratch)
{
	size_t n;

	if (c->fd == -1) {
		if ((c->memory = memory_load(c->blob)) == NULL)
			return (0);
		if (memory_resident(c->memory, c->off, c->end - c->off))
			return (c->end);
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

static void
work_on(struct cold *c, char *scratch)
{
	uint64_t from, ready;

	(void)pthread_mutex_lock(&c->lock);
	from = c->ready;
	(void)pthread_mutex_unlock(&c->lock);
	ready = fetch(c, from, scratch);
	(void)pthread_mutex_lock(&c->lock);
	c->busy = false;
	c->begun = true;
	if (ready == 0)
		c->failed = true;
	else
		c->ready = ready;
	if (c->wake != NULL)
		c->wake(c->arg);
	unref(c);
}

static void *
run(void *arg)
{
	struct cold_pool *p = arg;
	struct cold *c;
	char *scratch;

	scratch = check_alloc(malloc(WINDOW_MAX));
	(void)pthread_mutex_lock(&p->lock);
	for (;;) {
		while ((c = TAILQ_FIRST(&p->queue)) == NULL && !p->stop)
			(void)pthread_cond_wait(&p->work, &p->lock);
		if (c == NULL)
			break;
		TAILQ_REMOVE(&p->queue, c, link);
		(void)pthread_mutex_unlock(&p->lock);
		work_on(c, scratch);
		(void)pthread_mutex_lock(&p->lock);
	}
	(void)pthread_mutex_unlock(&p->lock);
	free(scratch);
	return (NULL);
}

struct cold_pool *
cold_pool_new(void)
{
	struct cold_pool *p;
	int error;

	if ((p = calloc(1, sizeof(*p))) == NULL)
		return (NULL);
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_cond_init(&p->work, NULL);
	TAILQ_INIT(&p->queue);
	for (; p->n < COLD_THREADS; p->n++)
		if ((error = pthread_create(&p->thread[p->n], NULL, run,
		    p)) != 0) {
			cold_pool_destroy(&p);
			errno = error;
			return (NULL);
		}
	return (p);
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
	(void)pthread_cond_broadcast(&p->work);
	(void)pthread_mutex_unlock(&p->lock);
	for (i = 0; i < p->n; i++)
		(void)pthread_join(p->thread[i], NULL);
	(void)pthread_cond_destroy(&p->work);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

struct cold *
cold_new(struct cold_pool *p, struct blob **b, uint64_t off, uint64_t len,
    void (*wake)(void *arg), void *arg)
{
	struct cold *c;

	if ((c = calloc(1, sizeof(*c))) == NULL) {
		blob_put(b);
		return (NULL);
	}
	c->magic = COLD_MAGIC;
	c->pool = p;
	c->blob = *b;
	*b = NULL;
	c->off = c->ready = off;
	c->end = off + len;
	c->fd = -1;
	c->window = WINDOW_FIRST;
	c->refs = 1;
	c->wake = wake;
	c->arg = arg;
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_mutex_lock(&c->lock);
	submit(c);
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
		submit(c);
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

struct httpd_body *
cold_body(struct cold **cp)
{
	struct cold *c = *cp;
	struct httpd_body *body;
	struct memory *m;

	CHECK_OBJ(c, COLD_MAGIC);
	CHECK(cold_state(c) == COLD_READY);
	if (c->fd == -1) {
		m = memory_ref(c->memory);
		body = memory_body(&m);
		cold_destroy(cp);
		return (body);
	}
	*cp = NULL;
	if ((body = httpd_body_stream(read_window, release, c)) == NULL)
		cold_destroy(&c);
	return (body);
}
