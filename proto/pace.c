/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pauses of threads that work in the background.  Called by the scrubs of master
 * and edge, on their threads, and by their owners.
 */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "proto/pace.h"

#define	PAUSED_MS	10000		/* looks whether it may go on */

void
pace_init(struct pace *p, uint64_t bytes_per_s)
{
	pthread_condattr_t attr;

	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&p->change, &attr);
	(void)pthread_condattr_destroy(&attr);
	p->stop = false;
	p->rate = bytes_per_s;
}

void
pace_free(struct pace *p)
{

	(void)pthread_cond_destroy(&p->change);
	(void)pthread_mutex_destroy(&p->lock);
}

void
pace_set(struct pace *p, uint64_t bytes_per_s)
{

	(void)pthread_mutex_lock(&p->lock);
	p->rate = bytes_per_s;
	(void)pthread_mutex_unlock(&p->lock);
}

void
pace_stop(struct pace *p)
{

	(void)pthread_mutex_lock(&p->lock);
	p->stop = true;
	(void)pthread_cond_broadcast(&p->change);
	(void)pthread_mutex_unlock(&p->lock);
}

/* Locked.  False: stop. */
static bool
sleep_ms(struct pace *p, int64_t ms)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += (time_t)(ms / 1000);
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	while (!p->stop && pthread_cond_timedwait(&p->change, &p->lock,
	    &t) == 0)
		;
	return (!p->stop);
}

bool
pace_rest(struct pace *p, int64_t ms)
{
	bool go;

	(void)pthread_mutex_lock(&p->lock);
	go = sleep_ms(p, ms);
	while (go && p->rate == 0)
		go = sleep_ms(p, PAUSED_MS);
	(void)pthread_mutex_unlock(&p->lock);
	return (go);
}

/* What n bytes cost. */
static bool
pay(struct pace *p, size_t n)
{
	uint64_t rate;

	(void)pthread_mutex_lock(&p->lock);
	rate = p->rate;
	(void)pthread_mutex_unlock(&p->lock);
	return (pace_rest(p, rate == 0 ? 0 : (int64_t)(n * 1000 / rate)));
}

int
pace_digest(struct pace *p, int fd, struct sha256 *sha, void *buf,
    struct digest *d)
{
	bool go = true;
	ssize_t n;
	int e;

	while (go && ((n = read(fd, buf, PACE_PIECE)) > 0 ||
	    (n == -1 && errno == EINTR)))
		if (n > 0) {
			sha256_add(sha, buf, (size_t)n);
			go = pay(p, (size_t)n);
		}
	e = !go ? ECANCELED : n == -1 ? errno : 0;
	sha256_end(sha, d);
	errno = e;
	return (e == 0 ? 0 : -1);
}
