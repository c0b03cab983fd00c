/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Option (a) of the founding proposal: a thread for each plain set that asks for its
 * identification files every now and then; one whose server hangs holds up no
 * other.  That they are others than before is found where their answers are taken
 * (plain_fetch.c).
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
	fresh_request_parse(&w.request, NULL, NULL, false);
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
}

/* Until the next one. */
static int64_t
pause_ms(const struct plain_set *s)
{

	return (s->poll_ms - s->poll_ms / JITTER +
	    (int64_t)randombytes_uniform((uint32_t)MIN(UINT32_MAX,
	    2 * s->poll_ms / JITTER + 1)));
}

static void *
run(void *arg)
{
	struct plain_set *s = arg;
	struct plains *p = s->plains;
	int64_t until, now;

	while (!atomic_load(&p->stopping)) {
		poll_set(s);
		until = clock_boot_ms() + pause_ms(s);
		(void)pthread_mutex_lock(&p->lock);
		while (!atomic_load(&p->stopping) &&
		    (now = clock_boot_ms()) < until)
			(void)clock_wait(&p->poke, &p->lock, until - now);
		(void)pthread_mutex_unlock(&p->lock);
	}
	return (NULL);
}

int
plain_poll_start(struct plains *p)
{
	struct plain_set *s;

	for (s = p->set; s < p->set + p->n; s++) {
		if (!s->by_mark)
			continue;
		if ((errno = pthread_create(&s->poller, NULL, run, s)) != 0)
			return (-1);
		s->polls = true;
	}
	return (0);
}

void
plain_poll_stop(struct plains *p)
{
	struct plain_set *s;

	(void)pthread_mutex_lock(&p->lock);
	(void)pthread_cond_broadcast(&p->poke);
	(void)pthread_mutex_unlock(&p->lock);
	for (s = p->set; s < p->set + p->n; s++) {
		if (s->polls)
			(void)pthread_join(s->poller, NULL);
		s->polls = false;
	}
}
