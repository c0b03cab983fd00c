/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The list of upstreams and their health.  Called by upstream.c in the
 * transfer thread and in its callers' threads.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge/health.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/log.h"

void
health_init(struct health *h)
{

	memset(h, 0, sizeof(*h));
	(void)pthread_mutex_init(&h->lock, NULL);
}

void
health_free(struct health *h)
{
	size_t i;

	for (i = 0; i < UPSTREAMS_MAX; i++)
		free(h->slot[i]);
	(void)pthread_mutex_destroy(&h->lock);
}

/* Frees an upstream that is neither configured nor used.  Locked. */
static void
release(struct health *h, struct upstream *u)
{

	if (u->listed || u->users > 0)
		return;
	h->slot[u->slot] = NULL;
	free(u);
}

/* The upstream for an entry of the configuration, old or new.  Locked. */
static struct upstream *
enter(struct health *h, const struct upstream_conf *c)
{
	struct upstream *u = NULL;
	unsigned i, empty = UPSTREAMS_MAX;

	for (i = 0; i < UPSTREAMS_MAX; i++) {
		if ((u = h->slot[i]) == NULL)
			empty = empty == UPSTREAMS_MAX ? i : empty;
		else if (u->kind == c->kind && strcmp(u->url, c->url) == 0)
			return (u);
	}
	if (empty == UPSTREAMS_MAX || strlen(c->url) >= sizeof(u->url)) {
		log_err("upstream=%.128s is left out: %s", c->url,
		    empty == UPSTREAMS_MAX ? "there are too many" :
		    "its URL is too long");
		return (NULL);
	}
	if ((u = calloc(1, sizeof(*u))) == NULL)
		return (NULL);
	(void)snprintf(u->url, sizeof(u->url), "%s", c->url);
	u->kind = c->kind;
	u->slot = empty;
	h->slot[empty] = u;
	return (u);
}

int
health_configure(struct health *h, const struct edge_conf *c)
{
	struct upstream *u;
	size_t i;

	(void)pthread_mutex_lock(&h->lock);
	h->aside_ms = (int64_t)c->fill_aside * 1000;
	for (i = 0; i < h->n; i++)
		h->order[i]->listed = false;
	h->n = 0;
	for (i = 0; i < c->nupstream; i++)
		if ((u = enter(h, &c->upstream[i])) != NULL && !u->listed) {
			u->listed = true;
			h->order[h->n++] = u;
		}
	for (i = 0; i < UPSTREAMS_MAX; i++)
		if (h->slot[i] != NULL)
			release(h, h->slot[i]);
	i = h->n;
	(void)pthread_mutex_unlock(&h->lock);
	return (c->nupstream > 0 && i == 0 ? -1 : 0);
}

/* Whom to ask first: smaller is better. */
static unsigned
rank(const struct upstream *u, enum health_use use, int64_t now)
{
	unsigned r = 0;

	if (u->aside_until > now)
		r += 2;
	if ((u->kind == UPSTREAM_SIBLING) == (use != HEALTH_BLOB))
		r += 1;
	return (r);
}

static bool
serves(const struct upstream *u, enum health_use use)
{

	return (use != HEALTH_CODED || u->kind == UPSTREAM_MASTER ||
	    u->kind == UPSTREAM_EDGE);
}

struct upstream *
health_pick(struct health *h, uint64_t tried, enum health_use use,
    unsigned most, bool *full)
{
	struct upstream *best = NULL, *u;
	int64_t now = clock_boot_ms();
	size_t i;

	(void)pthread_mutex_lock(&h->lock);
	for (i = 0; i < h->n; i++) {
		u = h->order[i];
		if ((tried & UINT64_C(1) << u->slot) != 0 || !serves(u, use))
			continue;
		if (best == NULL || rank(u, use, now) < rank(best, use, now))
			best = u;
	}
	if ((*full = best != NULL && best->users >= most))
		best = NULL;
	if (best != NULL) {
		best->users++;
		best->requests++;
	}
	(void)pthread_mutex_unlock(&h->lock);
	return (best);
}

/* Somebody else is left who has everything.  Locked. */
static bool
others_left(const struct health *h, const struct upstream *but, int64_t now)
{
	size_t i;

	for (i = 0; i < h->n; i++)
		if (h->order[i] != but && h->order[i]->aside_until <= now &&
		    h->order[i]->kind != UPSTREAM_SIBLING)
			return (true);
	return (false);
}

/* Locked. */
static void
fault(struct health *h, struct upstream *u, enum health_event event,
    const char *reason)
{
	int64_t now = clock_boot_ms(), ms = h->aside_ms;

	u->faults++;
	u->streak++;
	(void)snprintf(u->reason, sizeof(u->reason), "%s", reason);
	if (event == HEALTH_SOFT_FAULT && u->streak < HEALTH_SOFT)
		return;
	if (event == HEALTH_WRONG_BYTES)
		ms *= HEALTH_WRONG;
	if (now + ms <= u->aside_until ||
	    (u->kind != UPSTREAM_SIBLING && !others_left(h, u, now)))
		return;
	if (u->aside_until <= now)
		log_warn("upstream=%s set aside for %" PRId64 " s: %s", u->url,
		    ms / 1000, reason);
	u->aside_until = now + ms;
}

void
health_end(struct health *h, struct upstream *u, uint64_t bytes,
    enum health_event event, const char *reason)
{

	(void)pthread_mutex_lock(&h->lock);
	CHECK(u->users > 0);
	u->users--;
	u->bytes += bytes;
	switch (event) {
	case HEALTH_GOOD:
		u->streak = 0;
		break;
	case HEALTH_NEUTRAL:
		break;
	default:
		fault(h, u, event, reason);
		break;
	}
	release(h, u);
	(void)pthread_mutex_unlock(&h->lock);
}

void
health_bad(struct health *h, const char *url, const char *reason)
{
	size_t i;

	(void)pthread_mutex_lock(&h->lock);
	for (i = 0; i < h->n; i++)
		if (strcmp(h->order[i]->url, url) == 0)
			fault(h, h->order[i], HEALTH_WRONG_BYTES, reason);
	(void)pthread_mutex_unlock(&h->lock);
}

size_t
health_stats(struct health *h, struct upstream_stat *st, size_t n)
{
	const struct upstream *u;
	int64_t now = clock_boot_ms();
	size_t i, all;

	(void)pthread_mutex_lock(&h->lock);
	all = h->n;
	for (i = 0; i < n && i < all; i++) {
		u = h->order[i];
		memset(&st[i], 0, sizeof(st[i]));
		(void)snprintf(st[i].url, sizeof(st[i].url), "%s", u->url);
		(void)snprintf(st[i].reason, sizeof(st[i].reason), "%s",
		    u->reason);
		st[i].kind = u->kind;
		st[i].requests = u->requests;
		st[i].bytes = u->bytes;
		st[i].faults = u->faults;
		st[i].running = u->users;
		st[i].aside = u->aside_until > now;
		st[i].aside_s = st[i].aside ?
		    (u->aside_until - now + 999) / 1000 : 0;
	}
	(void)pthread_mutex_unlock(&h->lock);
	return (all);
}
