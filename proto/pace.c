/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pauses of threads that work in the background.  Called by the scrubs of master
 * and edge, on their threads, and by their owners.
 */
#include <sys/param.h>

#include <errno.h>
#include <unistd.h>

#include "proto/clock.h"
#include "proto/pace.h"

#define	PAUSED_MS	10000		/* at most without a look around */
#define	PAUSE_MIN_MS	10		/* shorter ones are saved up */

void
pace_init(struct pace *p, uint64_t bytes_per_s)
{

	(void)pthread_mutex_init(&p->lock, NULL);
	clock_cond_init(&p->change);
	p->stop = false;
	p->rate = bytes_per_s;
	p->owed = 0;
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
	(void)pthread_cond_broadcast(&p->change);
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

bool
pace_rest(struct pace *p, int64_t ms)
{
	int64_t end = clock_boot_ms() + ms, left;
	bool go;

	(void)pthread_mutex_lock(&p->lock);
	while (!p->stop && (left = end - clock_boot_ms()) > 0)
		(void)clock_wait(&p->change, &p->lock, left);
	while (!p->stop && p->rate == 0)
		(void)clock_wait(&p->change, &p->lock, PAUSED_MS);
	go = !p->stop;
	(void)pthread_mutex_unlock(&p->lock);
	return (go);
}

/* How long what is owed takes.  Locked; the rate is not 0. */
static int64_t
owed_ms(const struct pace *p)
{

	return ((int64_t)MIN(p->owed * 1000 / p->rate, PAUSED_MS));
}

/* What n bytes more cost, as soon as that is worth a pause.  False: stop. */
static bool
pay(struct pace *p, size_t n)
{
	int64_t begin;

	(void)pthread_mutex_lock(&p->lock);
	p->owed += n;
	while (!p->stop && p->rate > 0 && owed_ms(p) >= PAUSE_MIN_MS) {
		begin = clock_boot_ms();
		(void)clock_wait(&p->change, &p->lock, owed_ms(p));
		if (p->rate > 0)
			p->owed -= MIN(p->owed, p->rate *
			    (uint64_t)(clock_boot_ms() - begin) / 1000);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return (pace_rest(p, 0));
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
