/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The thread that syncs small blobs a while after they were written.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "edge/blob_settle.h"
#include "proto/check.h"
#include "proto/clock.h"

#define	SETTLE_MAGIC	0x73657474u
#define	SETTLE_MS	40000	/* Linux writes by itself after 30 to 35 s */
#define	SETTLE_MAX	131072u	/* that wait; memory is used as they come */

struct blob_settle {
	unsigned	 magic;
	struct blob_store *store;
	pthread_t	 thread;
	pthread_mutex_t	 lock;		/* all below */
	pthread_cond_t	 work, idle;
	bool		 stop, busy;
	unsigned	 hurry;		/* threads that wait for all */
	size_t		 first, n;
	struct {
		struct digest	digest;
		int64_t		due_ms;
	} ring[SETTLE_MAX];
};

/* Until one is due; false: stop. */
static bool
wait_due(struct blob_settle *w)
{
	int64_t ms;

	while (!w->stop) {
		if (w->n == 0) {
			(void)pthread_cond_broadcast(&w->idle);
			(void)pthread_cond_wait(&w->work, &w->lock);
			continue;
		}
		ms = w->ring[w->first].due_ms - clock_boot_ms();
		if (ms <= 0 || w->hurry > 0)
			return (true);
		(void)clock_wait(&w->work, &w->lock, ms);
	}
	return (false);
}

static void *
run(void *arg)
{
	struct blob_settle *w = arg;
	struct digest d;

	CHECK_OBJ(w, SETTLE_MAGIC);
	(void)pthread_mutex_lock(&w->lock);
	while (wait_due(w)) {
		d = w->ring[w->first].digest;
		w->first = (w->first + 1) % SETTLE_MAX;
		w->n--;
		w->busy = true;
		(void)pthread_mutex_unlock(&w->lock);
		blob_settled(w->store, &d);
		(void)pthread_mutex_lock(&w->lock);
		w->busy = false;
	}
	(void)pthread_mutex_unlock(&w->lock);
	return (NULL);
}

struct blob_settle *
blob_settle_new(struct blob_store *s)
{
	struct blob_settle *w;
	int e;

	if ((w = calloc(1, sizeof(*w))) == NULL)
		return (NULL);
	w->magic = SETTLE_MAGIC;
	w->store = s;
	(void)pthread_mutex_init(&w->lock, NULL);
	clock_cond_init(&w->work);
	(void)pthread_cond_init(&w->idle, NULL);
	if ((e = pthread_create(&w->thread, NULL, run, w)) == 0)
		return (w);
	free(w);
	errno = e;
	return (NULL);
}

void
blob_settle_destroy(struct blob_settle **wp)
{
	struct blob_settle *w = *wp;

	if (w == NULL)
		return;
	*wp = NULL;
	CHECK_OBJ(w, SETTLE_MAGIC);
	(void)pthread_mutex_lock(&w->lock);
	CHECK(w->hurry == 0);
	w->stop = true;
	(void)pthread_cond_signal(&w->work);
	(void)pthread_mutex_unlock(&w->lock);
	(void)pthread_join(w->thread, NULL);
	(void)pthread_cond_destroy(&w->idle);
	(void)pthread_cond_destroy(&w->work);
	(void)pthread_mutex_destroy(&w->lock);
	explicit_bzero(&w->magic, sizeof(w->magic));
	free(w);
}

bool
blob_settle_add(struct blob_settle *w, const struct digest *d)
{
	size_t at;
	bool room;

	CHECK_OBJ(w, SETTLE_MAGIC);
	(void)pthread_mutex_lock(&w->lock);
	if ((room = w->n < SETTLE_MAX)) {
		at = (w->first + w->n++) % SETTLE_MAX;
		w->ring[at].digest = *d;
		w->ring[at].due_ms = clock_boot_ms() + SETTLE_MS;
		if (w->n == 1)
			(void)pthread_cond_signal(&w->work);
	}
	(void)pthread_mutex_unlock(&w->lock);
	return (room);
}

void
blob_settle_now(struct blob_settle *w)
{

	CHECK_OBJ(w, SETTLE_MAGIC);
	(void)pthread_mutex_lock(&w->lock);
	w->hurry++;
	(void)pthread_cond_signal(&w->work);
	while (w->n > 0 || w->busy)
		(void)pthread_cond_wait(&w->idle, &w->lock);
	w->hurry--;
	(void)pthread_mutex_unlock(&w->lock);
}
