/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HTTP client's transfers: those that wait, that run, and what becomes of them,
 * in one thread around a curl multi handle.
 */
#include <sys/param.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge/upstream_impl.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/log.h"

#define	TICK_MS		1000		/* deadlines are looked at that often */
#define	IDLE_MS		60000
#define	KEPT_MS		2000		/* for an answer on a kept connection */
/* As many as ever ran at once; else it is four for each that runs now. */
#define	KEPT_MAX	1024L

static void	*transfer_thread(void *arg);

static void
set_limits(struct upstreams *u, const struct edge_conf *c)
{

	(void)pthread_mutex_lock(&u->lock);
	u->limits = (struct limits){
		.connect_ms = (int64_t)c->fill_connect * 1000,
		.first_ms = (int64_t)c->fill_first * 1000,
		.low_bytes = (int64_t)c->fill_low_rate,
		.low_ms = (int64_t)c->fill_low_time * 1000,
		.per_upstream = (unsigned)MAX(1,
		    MIN(c->per_upstream, UINT_MAX)),
		.rate = c->fill_rate,
	};
	(void)pthread_mutex_unlock(&u->lock);
}

struct upstreams *
upstreams_new(const struct edge_conf *c)
{
	struct upstreams *u;

	if ((u = calloc(1, sizeof(*u))) == NULL)
		return (NULL);
	TAILQ_INIT(&u->waiting);
	TAILQ_INIT(&u->running);
	u->dead_ms = INT64_MIN / 2;
	(void)pthread_mutex_init(&u->lock, NULL);
	health_init(&u->health);
	set_limits(u, c);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0 ||
	    (u->multi = curl_multi_init()) == NULL ||
	    curl_multi_setopt(u->multi, CURLMOPT_MAXCONNECTS,
	    KEPT_MAX) != CURLM_OK ||
	    health_configure(&u->health, c) == -1 ||
	    pthread_create(&u->thread, NULL, transfer_thread, u) != 0) {
		upstreams_destroy(&u);
		errno = ENOMEM;
		return (NULL);
	}
	u->started = true;
	return (u);
}

int
upstreams_configure(struct upstreams *u, const struct edge_conf *c)
{

	set_limits(u, c);
	return (health_configure(&u->health, c));
}

void
upstreams_stop(struct upstreams *u)
{

	atomic_store(&u->stopping, true);
	if (!u->started)
		return;
	(void)curl_multi_wakeup(u->multi);
	(void)pthread_join(u->thread, NULL);
	u->started = false;
}

void
upstreams_destroy(struct upstreams **up)
{
	struct upstreams *u = *up;

	if (u == NULL)
		return;
	*up = NULL;
	upstreams_stop(u);
	if (u->multi != NULL)
		(void)curl_multi_cleanup(u->multi);
	health_free(&u->health);
	(void)pthread_mutex_destroy(&u->lock);
	free(u);
	curl_global_cleanup();
}

size_t
upstreams_stats(struct upstreams *u, struct upstream_stat *st, size_t n)
{

	return (health_stats(&u->health, st, n));
}

static void
transfer_free(struct transfer *t)
{

	if (t->curl != NULL)
		curl_easy_cleanup(t->curl);
	curl_slist_free_all(t->headers);
	free(t->tail);
	buf_free(&t->fields);
	free(t->set);
	free(t->path);
	explicit_bzero(&t->magic, sizeof(t->magic));
	free(t);
}

/* Tells the caller, and forgets the transfer, which is in no list any more. */
static void
finish(struct transfer *t)
{
	struct transfer_end e;

	check_given(t);
	e = (struct transfer_end){ .result = t->result, .coding = t->coding,
	    .received = t->received,
	    .silent = t->event == HEALTH_HARD_FAULT };
	if (t->curl != NULL)
		(void)curl_multi_remove_handle(t->u->multi, t->curl);
	(void)log_escape(e.reason, sizeof(e.reason), t->reason,
	    strlen(t->reason));
	if (t->upstream != NULL) {
		e.slot = t->upstream->slot;
		e.kind = t->upstream->kind;
		(void)snprintf(e.url, sizeof(e.url), "%s", t->upstream->url);
		health_end(&t->u->health, t->upstream, t->received, t->event,
		    e.reason);
	}
	t->w.done(t->w.arg, &e);
	transfer_free(t);
}

/* Starts a transfer that waits, if its turn has come.  False: not yet. */
static bool
try_start(struct upstreams *u, struct transfer *t)
{
	bool full = false;

	(void)pthread_mutex_lock(&u->lock);
	t->limits = u->limits;
	(void)pthread_mutex_unlock(&u->lock);
	if (atomic_load(&u->stopping) || atomic_load(&t->cancel))
		give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "cancelled");
	else if ((t->upstream = health_pick(&u->health, t->w.tried,
	    t->w.coded != NULL ? HEALTH_CODED : HEALTH_BLOB,
	    t->w.urgent ? UINT_MAX : t->limits.per_upstream, &full)) == NULL) {
		if (full)
			return (false);
		give_up(t, TRANSFER_NONE, HEALTH_NEUTRAL, "no upstream left");
	}
	(void)pthread_mutex_lock(&u->lock);
	TAILQ_REMOVE(&u->waiting, t, link);
	(void)pthread_mutex_unlock(&u->lock);
	if (!t->over && transfer_ask(t) == 0) {
		TAILQ_INSERT_TAIL(&u->running, t, link);
		return (true);
	}
	give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "out of memory");
	finish(t);
	return (true);
}

static void
start_waiting(struct upstreams *u)
{
	struct transfer *t, *next;

	(void)pthread_mutex_lock(&u->lock);
	t = TAILQ_FIRST(&u->waiting);
	(void)pthread_mutex_unlock(&u->lock);
	/* Only this thread removes; what is added meanwhile wakes the poll. */
	for (; t != NULL; t = next) {
		(void)pthread_mutex_lock(&u->lock);
		next = TAILQ_NEXT(t, link);
		(void)pthread_mutex_unlock(&u->lock);
		(void)try_start(u, t);
	}
}

/* The transfer's deadlines stay as they are. */
static void
ask_anew(struct transfer *t)
{

	t->anew = true;
	(void)curl_multi_remove_handle(t->u->multi, t->curl);
	(void)curl_easy_setopt(t->curl, CURLOPT_FRESH_CONNECT, 1L);
	if (curl_multi_add_handle(t->u->multi, t->curl) != CURLM_OK)
		give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "out of memory");
}

/*
 * What a kept connection does not answer soon is asked once more, on a new one.
 * While a connection is being made none was made yet, and nothing was asked.
 */
static void
leave_kept(struct transfer *t, int64_t now)
{
	curl_off_t asked_us = 0;
	long made = 1;

	if (t->anew || now - t->start_ms < KEPT_MS ||
	    curl_easy_getinfo(t->curl, CURLINFO_NUM_CONNECTS, &made) !=
	    CURLE_OK || made > 0 ||
	    curl_easy_getinfo(t->curl, CURLINFO_PRETRANSFER_TIME_T,
	    &asked_us) != CURLE_OK || asked_us == 0)
		return;
	t->u->dead_ms = now;
	ask_anew(t);
}

/* Limits of time.  Once a second they are certain enough. */
static void
tick(struct transfer *t, int64_t now)
{
	int64_t ms = now - t->tick_ms;

	if (!t->first) {
		if (t->limits.first_ms > 0 &&
		    now - t->start_ms >= t->limits.first_ms)
			give_up(t, TRANSFER_FAULT, HEALTH_HARD_FAULT,
			    "no answer within %" PRId64 " s",
			    t->limits.first_ms / 1000);
		else
			leave_kept(t, now);
		t->tick_ms = now;
		return;
	}
	if (ms < TICK_MS)
		return;
	if (t->held || (int64_t)(t->received - t->tick_received) * 1000 >=
	    t->limits.low_bytes * ms)
		t->slow_ms = 0;
	else
		t->slow_ms += ms;
	t->held = t->paused;
	t->tick_ms = now;
	t->tick_received = t->received;
	if (t->limits.low_ms > 0 && t->slow_ms >= t->limits.low_ms)
		give_up(t, TRANSFER_FAULT, HEALTH_HARD_FAULT,
		    "stalled: below %" PRId64 " bytes/s for %" PRId64 " s",
		    t->limits.low_bytes, t->limits.low_ms / 1000);
}

/* Ends what is cancelled or out of time. */
static void
reap(struct upstreams *u)
{
	struct transfer *t, *next;
	int64_t now = clock_boot_ms();

	for (t = TAILQ_FIRST(&u->running); t != NULL; t = next) {
		next = TAILQ_NEXT(t, link);
		tick(t, now);
		if (!t->over && !atomic_load(&u->stopping) &&
		    !atomic_load(&t->cancel))
			continue;
		give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "cancelled");
		TAILQ_REMOVE(&u->running, t, link);
		finish(t);
	}
}

/* Takes what curl is through with. */
static void
collect(struct upstreams *u)
{
	struct transfer *t;
	CURLcode rc;
	CURLMsg *m;
	char *p;
	int n;

	while ((m = curl_multi_info_read(u->multi, &n)) != NULL) {
		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &p);
		t = (struct transfer *)(void *)p;
		CHECK_OBJ(t, TRANSFER_MAGIC);
		rc = m->data.result;	/* m is gone with the handle */
		if (strict_was_stale(&t->strict)) {
			ask_anew(t);
			if (!t->over)
				continue;
		}
		conclude(t, rc);
		TAILQ_REMOVE(&u->running, t, link);
		finish(t);
	}
}

/*
 * Lets transfers that the rate held, or who takes their bytes, go on, as long as it
 * allows, those first that have waited longest.  How long to wait for what comes next.
 */
static int
resume(struct upstreams *u)
{
	struct transfer *t, *next, *last = TAILQ_LAST(&u->running, transfers);
	CURLcode rc;
	int ms;

	for (t = TAILQ_FIRST(&u->running); t != NULL; t = next) {
		next = t == last ? NULL : TAILQ_NEXT(t, link);
		if (!t->paused || is_later(t))
			continue;
		if ((ms = rate_wait(&u->rate)) > 0)
			return (ms);
		t->paused = false;
		TAILQ_REMOVE(&u->running, t, link);
		TAILQ_INSERT_TAIL(&u->running, t, link);
		if ((rc = curl_easy_pause(t->curl, CURLPAUSE_CONT)) != CURLE_OK)
			conclude(t, rc);	/* reap() takes it */
	}
	return (TICK_MS);
}

static void *
transfer_thread(void *arg)
{
	struct upstreams *u = arg;
	bool idle, stopping;
	int n;

	for (;;) {
		start_waiting(u);
		/* Under the lock: who did not see `stopping` has added. */
		(void)pthread_mutex_lock(&u->lock);
		stopping = atomic_load(&u->stopping);
		idle = TAILQ_EMPTY(&u->running) && TAILQ_EMPTY(&u->waiting);
		rate_set(&u->rate, u->limits.rate);
		(void)pthread_mutex_unlock(&u->lock);
		if (idle && stopping)
			break;
		(void)curl_multi_poll(u->multi, NULL, 0,
		    idle ? IDLE_MS : resume(u), NULL);
		(void)curl_multi_perform(u->multi, &n);
		collect(u);
		reap(u);
	}
	return (NULL);
}

struct transfer *
transfer_start(struct upstreams *u, const struct transfer_want *w)
{
	struct transfer *t;

	CHECK(w->from < w->to && w->to <= w->size);
	if ((t = calloc(1, sizeof(*t))) == NULL)
		return (NULL);
	t->magic = TRANSFER_MAGIC;
	t->u = u;
	t->w = *w;
	t->wanted = w->to - w->from;
	t->w.set = t->w.path = NULL;
	if ((w->set != NULL && (t->set = strdup(w->set)) == NULL) ||
	    (w->path != NULL && (t->path = strdup(w->path)) == NULL)) {
		transfer_free(t);
		return (NULL);
	}
	(void)pthread_mutex_lock(&u->lock);
	if (atomic_load(&u->stopping)) {
		(void)pthread_mutex_unlock(&u->lock);
		transfer_free(t);
		return (NULL);
	}
	if (w->urgent)
		TAILQ_INSERT_HEAD(&u->waiting, t, link);
	else
		TAILQ_INSERT_TAIL(&u->waiting, t, link);
	(void)pthread_mutex_unlock(&u->lock);
	(void)curl_multi_wakeup(u->multi);
	return (t);
}

void
transfer_hand_over(struct transfer *t, uint64_t size,
    const struct transfer_plain *plain,
    enum transfer_more (*data)(void *arg, const void *p, size_t len),
    void (*done)(void *arg, const struct transfer_end *e), void *arg)
{

	CHECK_OBJ(t, TRANSFER_MAGIC);
	CHECK(t->judged && t->given == 0 && size == t->wanted);
	t->w.size = t->w.to = size;
	t->w.plain = plain;
	t->w.data = data;
	t->w.verified = NULL;
	t->w.done = done;
	t->w.arg = arg;
}

void
upstreams_poke(struct upstreams *u)
{

	(void)curl_multi_wakeup(u->multi);
}

void
transfer_cancel(struct upstreams *u, struct transfer *t)
{

	CHECK_OBJ(t, TRANSFER_MAGIC);
	atomic_store(&t->cancel, true);
	(void)curl_multi_wakeup(u->multi);
}

