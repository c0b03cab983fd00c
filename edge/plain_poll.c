/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Option (a) of the founding proposal: a thread that asks for the identification
 * files of each plain set every now and then.  That they are others than before is
 * found where their answers are taken (plain_fetch.c).
 */
#include <sys/param.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "edge/plain_impl.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/log.h"

#define	JITTER		10		/* a tenth of the time, each way */
#define	OVERDUE		2		/* times the interval */

/* Who waits for an exchange. */
struct poll_wait {
	struct plains	*plains;
	bool		 woken;
};

bool
plain_is_overdue(struct plain_set *s)
{

	int64_t good = atomic_load(&s->good_ms);

	return (s->by_mark && (good == 0 ||
	    clock_boot_ms() - good > OVERDUE * s->poll_ms));
}

static void
wake(void *arg)
{
	struct poll_wait *w = arg;

	(void)pthread_mutex_lock(&w->plains->lock);
	w->woken = true;
	(void)pthread_cond_broadcast(&w->plains->poke);
	(void)pthread_mutex_unlock(&w->plains->lock);
}

/* Until it has ended, or all does. */
static enum fetch_state
wait_for(struct plains *p, struct exchange *x)
{
	struct poll_wait pw = { .plains = p };
	struct waiter w = { .wake = wake, .arg = &pw };
	enum fetch_state state;

	while ((state = exchange_look(x, &w)) == FETCH_RUNNING &&
	    !atomic_load(&p->stopping)) {
		(void)pthread_mutex_lock(&p->lock);
		while (!pw.woken && !atomic_load(&p->stopping))
			(void)pthread_cond_wait(&p->poke, &p->lock);
		pw.woken = false;
		(void)pthread_mutex_unlock(&p->lock);
	}
	exchange_forget(x, &w);
	return (state);
}

/* One file.  False: nobody could tell what it is now. */
static bool
poll_file(struct plain_set *s, const char *target)
{
	struct fetch_want w = { .fields = "" };
	enum fetch_state state = FETCH_FAILED;
	struct version *v = NULL;
	struct exchange *x;
	struct object *o;
	bool joined, ok;

	if ((o = object_get(s, target)) == NULL)
		return (false);
	if ((x = exchange_get(o, &w, &joined)) != NULL)
		state = wait_for(s->plains, x);
	if (state == FETCH_DONE)
		v = exchange_version(x);
	/* Those that only clients knew of may go. */
	ok = v != NULL && (v->record.status == 200 || !s->identify_given);
	if (!ok && !s->plains->stopping)
		log_warn("poll set=%s file=%s: %s", s->name, target,
		    v == NULL ? "no good answer" : "it is not there");
	version_put(&v);
	exchange_put(&x);
	object_put(&o);
	return (ok);
}

static char *
nth(struct plain_set *s, size_t i)
{
	char *target = NULL;

	(void)pthread_mutex_lock(&s->plains->lock);
	if (i < s->nidentify)
		target = strdup(s->identify[i]);
	(void)pthread_mutex_unlock(&s->plains->lock);
	return (target);
}

static void
poll_set(struct plain_set *s)
{
	bool ok = true;
	char *target;
	size_t i;

	for (i = 0; ok && (target = nth(s, i)) != NULL; i++) {
		ok = poll_file(s, target);
		free(target);
	}
	if (atomic_load(&s->plains->stopping))
		return;
	if (ok)
		atomic_store(&s->good_ms, clock_boot_ms());
	atomic_store(&s->polled, true);
	waiters_wake(s->first);
	s->next_ms = clock_boot_ms() + s->poll_ms - s->poll_ms / JITTER +
	    (int64_t)randombytes_uniform((uint32_t)MIN(UINT32_MAX,
	    2 * s->poll_ms / JITTER + 1));
}

/* Polls what is due; when the next one is. */
static int64_t
poll_due(struct plains *p)
{
	int64_t next = INT64_MAX;
	size_t i;

	for (i = 0; i < p->n && !atomic_load(&p->stopping); i++) {
		if (!p->set[i].by_mark)
			continue;
		if (p->set[i].next_ms <= clock_boot_ms())
			poll_set(&p->set[i]);
		next = MIN(next, p->set[i].next_ms);
	}
	return (next);
}

static void *
run(void *arg)
{
	struct plains *p = arg;
	int64_t next, now;

	while (!atomic_load(&p->stopping)) {
		next = poll_due(p);
		(void)pthread_mutex_lock(&p->lock);
		if (!atomic_load(&p->stopping)) {
			now = clock_boot_ms();
			if (next == INT64_MAX)
				(void)pthread_cond_wait(&p->poke, &p->lock);
			else if (next > now)
				(void)clock_wait(&p->poke, &p->lock,
				    next - now);
		}
		(void)pthread_mutex_unlock(&p->lock);
	}
	return (NULL);
}

int
plain_poll_start(struct plains *p)
{

	errno = pthread_create(&p->poller, NULL, run, p);
	p->polls = errno == 0;
	return (p->polls ? 0 : -1);
}

void
plain_poll_stop(struct plains *p)
{

	if (!p->polls)
		return;
	(void)pthread_mutex_lock(&p->lock);
	(void)pthread_cond_broadcast(&p->poke);
	(void)pthread_mutex_unlock(&p->lock);
	(void)pthread_join(p->poller, NULL);
	p->polls = false;
}
