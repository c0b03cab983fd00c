/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests that wait for a poll, or for news.  Upstreams that hang hold up the
 * follow thread, but not them: a thread of ours wakes those that have waited long
 * enough.
 * Called by HTTP threads and the follow thread.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "edge/waiters.h"
#include "proto/check.h"
#include "proto/clock.h"

#define	WAITERS_MAGIC	0x77616974
#define	STEPS		10		/* of the time, to look at the clock */

struct waiters {
	unsigned	 magic;
	int64_t		 wait_ms;
	pthread_t	 thread;
	bool		 started;
	pthread_mutex_t	 lock;		/* from here on; taken after follow's */
	pthread_cond_t	 cond;
	bool		 stop;
	LIST_HEAD(, waiter) list;
};

struct waiters *
waiters_new(int64_t wait_ms)
{
	struct waiters *l;

	if ((l = calloc(1, sizeof(*l))) == NULL)
		return (NULL);
	l->magic = WAITERS_MAGIC;
	l->wait_ms = wait_ms;
	LIST_INIT(&l->list);
	clock_cond_init(&l->cond);
	CHECK(pthread_mutex_init(&l->lock, NULL) == 0);
	return (l);
}

/* With the lock held: wakes those that came until then. */
static void
wake_until(struct waiters *l, int64_t until_ms)
{
	struct waiter *w, *next;

	for (w = LIST_FIRST(&l->list); w != NULL; w = next) {
		next = LIST_NEXT(w, entry);
		if (w->since_ms > until_ms)
			continue;
		LIST_REMOVE(w, entry);
		w->queued = false;
		w->wake(w->arg);
	}
}

static void *
run(void *arg)
{
	struct waiters *l = arg;

	CHECK_OBJ(l, WAITERS_MAGIC);
	pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		if (LIST_EMPTY(&l->list))
			(void)pthread_cond_wait(&l->cond, &l->lock);
		else
			(void)clock_wait(&l->cond, &l->lock,
			    l->wait_ms / STEPS);
		wake_until(l, clock_boot_ms() - l->wait_ms);
	}
	wake_until(l, INT64_MAX);
	pthread_mutex_unlock(&l->lock);
	return (NULL);
}

int
waiters_start(struct waiters *l)
{

	CHECK_OBJ(l, WAITERS_MAGIC);
	CHECK(l->wait_ms > 0);
	if ((errno = pthread_create(&l->thread, NULL, run, l)) != 0)
		return (-1);
	l->started = true;
	return (0);
}

void
waiters_stop(struct waiters *l)
{

	CHECK_OBJ(l, WAITERS_MAGIC);
	if (!l->started)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->cond);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	l->started = false;
}

void
waiters_destroy(struct waiters **lp)
{
	struct waiters *l = *lp;

	*lp = NULL;
	if (l == NULL)
		return;
	CHECK_OBJ(l, WAITERS_MAGIC);
	CHECK(!l->started && LIST_EMPTY(&l->list));
	pthread_cond_destroy(&l->cond);
	pthread_mutex_destroy(&l->lock);
	explicit_bzero(&l->magic, sizeof(l->magic));
	free(l);
}

void
waiters_add(struct waiters *l, struct waiter *w)
{

	CHECK_OBJ(l, WAITERS_MAGIC);
	pthread_mutex_lock(&l->lock);
	CHECK(!w->queued);
	w->queued = true;
	w->since_ms = clock_boot_ms();
	LIST_INSERT_HEAD(&l->list, w, entry);
	pthread_cond_signal(&l->cond);
	pthread_mutex_unlock(&l->lock);
}

void
waiters_wake(struct waiters *l)
{

	CHECK_OBJ(l, WAITERS_MAGIC);
	pthread_mutex_lock(&l->lock);
	wake_until(l, INT64_MAX);
	pthread_mutex_unlock(&l->lock);
}

void
waiters_forget(struct waiters *l, struct waiter *w)
{

	CHECK_OBJ(l, WAITERS_MAGIC);
	pthread_mutex_lock(&l->lock);
	if (w->queued)
		LIST_REMOVE(w, entry);
	w->queued = false;
	pthread_mutex_unlock(&l->lock);
}
