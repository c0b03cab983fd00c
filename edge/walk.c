/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The generations behind the current one, which clients in the middle of an
 * upgrade still ask for (G8): heads that this edge missed are learned by walking
 * `previous` (design.md, section 3), and the chain of deltas is built from the
 * manifests of all that are held.  Nothing here may hold up a switch: it ends
 * when it is interrupted, and goes on later.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge/sync_impl.h"
#include "proto/check.h"
#include "proto/clock.h"

#define	HEAD_S		15		/* seconds, for a head by its digest */
#define	AGAIN_MS	60000		/* after a fault */

/* What the chain is built from: its parts, and what is loaded of them. */
struct chain {
	struct sync	*s;
	const atomic_bool *stop;
	bool		 interrupted;
	size_t		 n, nold;
	struct delta	*made[HEAD_KEPT_MAX];
	struct delta	*old[HEAD_KEPT_MAX];	/* with references */
	struct head	 newer;			/* successor of the next one */
	struct snapshot	*loaded;		/* newer's, or NULL */
};

/* The delta from h to c->newer that is in use already, or NULL. */
static struct delta *
reuse(const struct chain *c, const struct digest *current,
    const struct head *h)
{

	for (size_t i = 0; i < c->nold; i++) {
		const struct digest *newer = i == 0 ? current :
		    &delta_head(c->old[i - 1])->digest;

		if (digest_eq(&delta_head(c->old[i])->digest, &h->digest) &&
		    digest_eq(newer, &c->newer.digest))
			return (delta_ref(c->old[i]));
	}
	return (NULL);
}

/*
 * Adds h's delta.  1, 0: left out (its manifest is not to be had), -1: nothing
 * older can be added now.
 */
static int
add(struct chain *c, const struct digest *current, const struct head *h)
{
	struct parse_error err;
	struct snapshot *older = NULL;
	struct delta *d;

	if ((d = reuse(c, current, h)) == NULL) {
		if (c->loaded == NULL && (c->loaded = sync_load(c->s,
		    &c->newer, c->stop, &err)) == NULL)
			return (-1);
		if ((older = sync_load(c->s, h, c->stop, &err)) == NULL) {
			c->interrupted = errno == ECANCELED;
			return (c->interrupted ? -1 : 0);
		}
		if ((d = delta_new(older, c->loaded)) == NULL) {
			snapshot_unref(&older);
			return (-1);
		}
	}
	c->made[c->n++] = d;
	snapshot_unref(&c->loaded);
	c->loaded = older;
	c->newer = *h;
	return (1);
}

static void
set_walking(struct sync *s, const struct head *h)
{
	struct head *copy = NULL, *old;

	if (h != NULL && (copy = malloc(sizeof(*copy))) != NULL)
		*copy = *h;
	pthread_mutex_lock(&s->lock);
	old = s->walking;
	s->walking = copy;
	pthread_mutex_unlock(&s->lock);
	free(old);
}

/* References to the chain that is in use. */
static void
take_old(struct chain *c, const char *name)
{
	const struct site_view *v = site_enter(c->s->conf.site);
	const struct site_set *set = site_named(v, name);

	for (size_t i = 0; set != NULL && i < set->nearlier; i++)
		c->old[c->nold++] = delta_ref(set->earlier[i]);
	site_leave(c->s->conf.site);
}

void
walk_chain(struct sync *s, struct sync_set *set, const atomic_bool *stop)
{
	const struct held_set *held = held_named(s->conf.held, set->name);
	struct digest current;
	struct chain *c;
	bool all = true;
	int added = 1;

	if (held == NULL || (c = calloc(1, sizeof(*c))) == NULL)
		return;
	c->s = s;
	c->stop = stop;
	if ((c->loaded = site_current(s->conf.site, set->name)) == NULL)
		goto out;
	c->newer = *snapshot_head(c->loaded);
	current = c->newer.digest;
	take_old(c, set->name);
	for (size_t i = 0; i < held->nhead && added != -1 &&
	    c->n < HEAD_KEPT_MAX; i++) {
		const struct head *h = held->head[i];

		if (h->generation >= set->generation)
			continue;
		if (h->generation < held->head[0]->oldest)
			break;
		set_walking(s, h);
		added = add(c, &current, h);
		all = all && added == 1;
	}
	set_walking(s, NULL);
	set->chain = !all && (stop == NULL || c->interrupted);
	if (c->interrupted) {
		for (size_t i = 0; i < c->n; i++)
			delta_unref(&c->made[i]);
	} else if (site_set_earlier(s->conf.site, set->name, set->generation,
	    c->made, c->n) == -1)
		log_warn("earlier generations not served set=%s", set->name);
out:
	for (size_t i = 0; i < c->nold; i++)
		delta_unref(&c->old[i]);
	snapshot_unref(&c->loaded);
	free(c);
}

/*
 * A head by its digest, from the first upstream that has a good one.  NULL:
 * errno; ENOENT: nobody has it any more.
 */
static struct head *
fetch_head(struct sync *s, const struct head *newer)
{
	char hex[DIGEST_HEX + 1], target[DIGEST_HEX + 32], from[UPSTREAM_URL];
	struct parse_error err = { .reason = "" };
	struct head *h;
	uint64_t tried = 0;
	size_t len;
	char *text;
	int error;

	if ((h = malloc(sizeof(*h))) == NULL)
		return (NULL);
	snprintf(target, sizeof(target), "/.pkgcast/head/%s",
	    digest_hex(&newer->previous, hex));
	while ((text = upstream_get(s->conf.upstreams, &tried, target,
	    HEAD_MAX, HEAD_S, s->conf.interrupt, &len, from)) != NULL) {
		int bad = head_parse(h, text, len, &err);

		free(text);
		if (bad == 0 && digest_eq(&h->digest, &newer->previous) &&
		    strcmp(h->set, newer->set) == 0 &&
		    h->generation < newer->generation &&
		    trust_judge_held(s->conf.trust, h, &err) == TRUST_OK)
			return (h);
		upstream_bad(s->conf.upstreams, from, "not the head that was "
		    "asked for, or its signature is not good");
	}
	error = errno;
	free(h);
	errno = error;
	return (NULL);
}

/* Whether it would be kept beside those that are held. */
static bool
worth(const struct held_set *held, const struct head *h)
{
	uint64_t generation[HELD_HEADS + 1];
	int64_t created[HELD_HEADS + 1];
	size_t n = 0;

	for (; n < held->nhead && held->head[n]->generation > h->generation;
	    n++) {
		generation[n] = held->head[n]->generation;
		created[n] = held->head[n]->created;
	}
	generation[n] = h->generation;
	created[n] = h->created;
	return (head_retain(generation, created, n + 1, held->head[0]->oldest,
	    clock_real()) == n + 1);
}

/* A head that could follow the oldest one that the walk came to: the same
 * question, with the best that it could be. */
static bool
worth_asking(const struct held_set *held, const struct head *oldest)
{
	struct head *guess;
	bool is;

	if (!oldest->has_previous || oldest->generation <= 1 ||
	    oldest->generation <= held->head[0]->oldest ||
	    (guess = malloc(sizeof(*guess))) == NULL)
		return (false);
	*guess = *oldest;
	guess->generation--;
	guess->created--;
	is = worth(held, guess);
	free(guess);
	return (is);
}

/*
 * One step behind what is held.  1: one more is held, 0: the walk is at its
 * end, -1: a fault (ECANCELED: interrupted).
 */
static int
step(struct sync *s, struct sync_set *set)
{
	const struct held_set *held = held_named(s->conf.held, set->name);
	const struct head *at = held_current(held), *next;
	struct parse_error err;
	struct snapshot *snapshot;
	struct head *h;
	int error, ret = -1;

	while (at != NULL && at->has_previous &&
	    (next = held_by_digest(held, &at->previous)) != NULL)
		at = next;
	if (at == NULL || !worth_asking(held, at) ||
	    (set->ended && digest_eq(&set->end, &at->previous)))
		return (0);
	if ((h = fetch_head(s, at)) == NULL) {
		if (errno != ENOENT)
			return (-1);
		set->ended = true;
		set->end = at->previous;
		return (0);
	}
	if (!worth(held, h)) {
		set->ended = true;
		set->end = at->previous;
		free(h);
		return (0);
	}
	set_walking(s, h);
	if ((snapshot = sync_load(s, h, s->conf.interrupt, &err)) != NULL &&
	    held_put(s->conf.held, h) == 0) {
		log_info("learned set=%s generation=%ju", h->set,
		    (uintmax_t)h->generation);
		set->chain = true;
		ret = 1;
	}
	error = errno;
	snapshot_unref(&snapshot);
	set_walking(s, NULL);
	free(h);
	errno = error;
	return (ret);
}

bool
sync_walk(struct sync *s)
{
	int64_t now = clock_boot_ms();

	CHECK_OBJ(s, SYNC_MAGIC);
	for (struct sync_set *set = s->sets; set != NULL; set = set->next) {
		int moved;

		if (!set->walk || set->walk_ms > now || set->generation == 0)
			continue;
		if ((moved = step(s, set)) == 1)
			return (true);
		if (moved == -1 && errno == ECANCELED)
			return (true);
		set->walk = false;
		if (set->chain)
			walk_chain(s, set, s->conf.interrupt);
		if (moved == -1 || set->chain) {
			set->walk = true;
			set->walk_ms = now + (moved == -1 ? AGAIN_MS : 0);
		}
		return (true);
	}
	return (false);
}
