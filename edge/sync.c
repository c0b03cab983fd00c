/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a head document to a set that is served (design.md, sections 3, 5 and
 * 7).  Every way by which a head reaches the edge, an announcement, a poll or
 * its own state folder, ends here, and the rules stand here once: the signer is
 * trusted, the generation is above what is held, the manifest is what the head
 * says; manifest and chunk table are synced before the head is, and the head
 * before it is served or reported.
 *
 * The follow thread runs it; other threads read the table of sets under
 * sync->lock.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge/link.h"
#include "edge/sync_impl.h"
#include "proto/check.h"
#include "proto/clock.h"

#define	TRUST_AGAIN_MS	5000		/* asked for at most that often */
#define	WARM_MS		5000		/* within the master's prepare-wait */

struct sync *
sync_new(const struct sync_conf *c)
{
	struct warm_conf wc = {
		.fills = c->fills, .store = c->store, .bytes = c->warm_bytes,
		.at_once = c->warm_at_once, .done = sync_warmed,
	};
	struct sync *s;

	if ((s = calloc(1, sizeof(*s))) == NULL)
		return (NULL);
	s->magic = SYNC_MAGIC;
	s->conf = *c;
	wc.arg = s;
	s->trust_ms = INT64_MIN / 2;
	s->round = 1;
	atomic_store(&s->expires, trust_version(c->trust) == 0 ? 0 :
	    trust_expires(c->trust));
	pthread_mutex_init(&s->lock, NULL);
	if (coming_init(&s->coming) == -1)
		goto fail;
	for (size_t i = 0; i < c->sets->n; i++)
		if (sync_get(s, c->sets->v[i]) == NULL)
			goto fail;
	if ((s->warm = warm_new(&wc)) == NULL)
		goto fail;
	return (s);
fail:
	sync_destroy(&s);
	return (NULL);
}

void
sync_stop(struct sync *s)
{

	CHECK_OBJ(s, SYNC_MAGIC);
	warm_stop(s->warm);
}

struct warm *
sync_warm(struct sync *s)
{

	CHECK_OBJ(s, SYNC_MAGIC);
	return (s->warm);
}

/* Forgets what was prepared for the set. */
static void
drop_pending(struct sync *s, struct sync_set *set)
{
	struct snapshot *prepared;
	struct head *pending;

	pthread_mutex_lock(&s->lock);
	prepared = set->prepared;
	pending = set->pending;
	set->prepared = NULL;
	set->pending = NULL;
	pthread_mutex_unlock(&s->lock);
	snapshot_unref(&prepared);
	delta_unref(&set->back);
	free(pending);
}

void
sync_destroy(struct sync **sp)
{
	struct sync *s = *sp;
	struct sync_set *set;

	*sp = NULL;
	if (s == NULL)
		return;
	CHECK_OBJ(s, SYNC_MAGIC);
	warm_destroy(&s->warm);
	while ((set = s->sets) != NULL) {
		s->sets = set->next;
		drop_pending(s, set);
		sync_not_ahead(set);
		free(set);
	}
	coming_free(&s->coming);
	pthread_mutex_destroy(&s->lock);
	explicit_bzero(&s->magic, sizeof(s->magic));
	free(s);
}

bool
sync_carries(const struct sync *s, const char *set)
{

	return (link_carries(s->conf.sets, set));
}

struct sync_set *
sync_get(struct sync *s, const char *name)
{
	struct sync_set *set;

	for (set = s->sets; set != NULL; set = set->next)
		if (strcmp(set->name, name) == 0)
			return (set);
	if (s->nset == HELD_SETS || (set = calloc(1, sizeof(*set))) == NULL)
		return (NULL);
	memcpy(set->name, name, strlen(name));
	pthread_mutex_lock(&s->lock);
	set->next = s->sets;
	s->sets = set;
	s->nset++;
	pthread_mutex_unlock(&s->lock);
	return (set);
}

/* Logs a refusal, the first time that this head is refused for this reason. */
static enum sync_result
refuse(struct sync *s, const struct head *h, const char *from,
    const char *reason)
{
	struct refusal *r;

	for (size_t i = 0; i < SYNC_REFUSALS; i++)
		if (digest_eq(&s->refusal[i].head, &h->digest) &&
		    strncmp(s->refusal[i].reason, reason, LOG_TEXT - 1) == 0) {
			log_debug("head refused again set=%s generation=%ju "
			    "from=%s reason=\"%s\"", h->set,
			    (uintmax_t)h->generation, from, reason);
			return (SYNC_REFUSED);
		}
	r = &s->refusal[s->nrefusal++ % SYNC_REFUSALS];
	r->head = h->digest;
	snprintf(r->reason, sizeof(r->reason), "%s", reason);
	log_warn("head refused set=%s generation=%ju from=%s reason=\"%s\"",
	    h->set, (uintmax_t)h->generation, from, reason);
	return (SYNC_REFUSED);
}

/* A key may be unknown because a newer trust document is: then asks for it. */
static enum trust_verdict
judge(struct sync *s, const struct head *h, struct parse_error *err)
{
	enum trust_verdict v;
	uint64_t version = trust_version(s->conf.trust);

	v = trust_judge(s->conf.trust, h, clock_real(), err);
	if (v == TRUST_OK || v == TRUST_BAD_SIGNATURE ||
	    clock_boot_ms() - s->trust_ms < TRUST_AGAIN_MS)
		return (v);
	(void)sync_trust(s, version + 1);
	return (trust_judge(s->conf.trust, h, clock_real(), err));
}

/*
 * Names the head whose blobs are needed now; what was prepared for another one
 * goes.  -1: out of memory.
 */
static int
set_pending(struct sync *s, struct sync_set *set, const struct head *h)
{
	struct head *copy;

	if (set->pending != NULL && digest_eq(&set->pending->digest,
	    &h->digest))
		return (0);
	if ((copy = malloc(sizeof(*copy))) == NULL)
		return (-1);
	*copy = *h;
	drop_pending(s, set);
	pthread_mutex_lock(&s->lock);
	set->pending = copy;
	pthread_mutex_unlock(&s->lock);
	return (0);
}

/* Fetches and builds set->pending, unless that is done.  -1: errno. */
static int
build(struct sync *s, struct sync_set *set, const atomic_bool *stop,
    struct parse_error *err)
{
	struct snapshot *next, *current;

	if (set->prepared != NULL)
		return (0);
	if ((next = sync_load(s, set->pending, stop, err)) == NULL)
		return (-1);
	if ((current = site_current(s->conf.site, set->name)) != NULL) {
		set->back = delta_new(current, next);
		snapshot_unref(&current);
	}
	pthread_mutex_lock(&s->lock);
	set->prepared = next;
	set->warm_ms = 0;
	pthread_mutex_unlock(&s->lock);
	s->conf.news(s->conf.arg);
	return (0);
}

/* For a while the master hears nothing of it.  False: nothing to be warmed. */
static bool
warm(struct sync *s, struct sync_set *set)
{
	struct snapshot *current = site_current(s->conf.site, set->name);
	bool begun;

	pthread_mutex_lock(&s->lock);
	set->warm_ms = clock_boot_ms() + WARM_MS;
	pthread_mutex_unlock(&s->lock);
	begun = warm_begin(s->warm, current, set->prepared);
	snapshot_unref(&current);
	if (!begun) {
		pthread_mutex_lock(&s->lock);
		set->warm_ms = 0;
		pthread_mutex_unlock(&s->lock);
	}
	return (begun);
}

static const char *
why(const struct parse_error *err, int error)
{

	return (err->reason[0] != '\0' ? err->reason :
	    error == EIO ? "no upstream has it" : strerror(error));
}

enum sync_result
sync_prepare(struct sync *s, const char *set_name, const char *text, size_t len)
{
	static struct log_limit limit;
	struct parse_error err = { .reason = "" };
	const struct held_set *held;
	struct sync_set *set;
	struct head *h;
	enum sync_result result = SYNC_LATER;

	CHECK_OBJ(s, SYNC_MAGIC);
	if ((h = malloc(sizeof(*h))) == NULL)
		return (SYNC_LATER);
	if (head_parse_signed(h, text, len, &err) == -1 ||
	    (set_name != NULL && strcmp(h->set, set_name) != 0)) {
		if (log_allowed(&limit, 1))
			log_warn("prepare refused line=%lu reason=\"%s\"",
			    err.line, err.reason[0] != '\0' ? err.reason :
			    "of another set than announced");
		result = SYNC_REFUSED;
		goto out;
	}
	if (!sync_carries(s, h->set) || held_clash(s->conf.held, h->set)) {
		result = SYNC_IGNORED;
		goto out;
	}
	held = held_named(s->conf.held, h->set);
	if (held != NULL && h->generation <= held->floor) {
		result = SYNC_SAME;
		goto out;
	}
	if ((set = sync_get(s, h->set)) == NULL ||
	    set_pending(s, set, h) == -1)
		goto out;
	if (set->prepared != NULL) {
		result = SYNC_SAME;
		goto out;
	}
	if (build(s, set, s->conf.interrupt, &err) == -1) {
		if (errno == EBADMSG)
			result = refuse(s, h, "announcement", err.reason);
		else
			log_info("not prepared set=%s generation=%ju "
			    "reason=\"%s\"", h->set,
			    (uintmax_t)h->generation, why(&err, errno));
		goto out;
	}
	log_info("prepared set=%s generation=%ju", h->set,
	    (uintmax_t)h->generation);
	if (!warm(s, set))
		s->conf.changed(s->conf.arg);
	result = SYNC_SWITCHED;
out:
	free(h);
	return (result);
}

/* The delta from what is current to next, the one made in advance if it fits. */
static struct delta *
delta_back(struct sync *s, struct sync_set *set, const struct snapshot *next)
{
	struct snapshot *current = site_current(s->conf.site, set->name);
	struct delta *back = set->back;

	set->back = NULL;
	if (back != NULL && (current == NULL || !digest_eq(
	    &delta_head(back)->digest, &snapshot_head(current)->digest)))
		delta_unref(&back);
	if (back == NULL && current != NULL &&
	    (back = delta_new(current, next)) == NULL)
		set->chain = true;
	snapshot_unref(&current);
	return (back);
}

/*
 * Makes set->prepared the current generation.  Its manifest and chunk table are
 * in the store, synced; the head follows, and only then it is served.
 */
static int
switch_to(struct sync *s, struct sync_set *set, const struct head *h)
{
	struct snapshot *next;
	struct delta *back;
	bool first = set->generation == 0;

	next = snapshot_head(set->prepared)->len == h->len ?
	    snapshot_ref(set->prepared) : snapshot_signed(set->prepared, h);
	if (next == NULL || held_put(s->conf.held, h) == -1) {
		log_err("head not stored set=%s generation=%ju reason=\"%s\": "
		    "the generation before it stays", h->set,
		    (uintmax_t)h->generation, strerror(errno));
		snapshot_unref(&next);
		return (-1);
	}
	back = delta_back(s, set, next);
	if (site_switch(s->conf.site, &next, &back, clock_real()) == -1) {
		log_err("not switched set=%s generation=%ju reason=\"%s\"",
		    h->set, (uintmax_t)h->generation, strerror(errno));
		snapshot_unref(&next);
		delta_unref(&back);
		return (-1);
	}
	pthread_mutex_lock(&s->lock);
	set->exists = true;
	set->generation = h->generation;
	set->digest = h->digest;
	sync_not_ahead(set);
	set->behind = false;
	set->lower = false;
	pthread_mutex_unlock(&s->lock);
	drop_pending(s, set);
	s->conf.changed(s->conf.arg);
	(void)held_retain(s->conf.held, h->set, clock_real());
	set->walk = true;
	set->walk_ms = 0;
	/* Held, but not in the chain: the cache had lost their manifests. */
	if (first && held_named(s->conf.held, h->set)->nhead > 1)
		set->chain = true;
	return (0);
}

/* The signed `previous` is not the head that we hold: said, no more. */
static void
compare_previous(const struct head *held, const struct head *h)
{

	if (held != NULL && held->generation + 1 == h->generation &&
	    (!h->has_previous || !digest_eq(&h->previous, &held->digest)))
		log_warn("head's previous is not the one held set=%s "
		    "generation=%ju: taken, since its signature is good",
		    h->set, (uintmax_t)h->generation);
}

/*
 * The master said that a set is behind, and no upstream showed a newer head: the
 * master was restored from a copy, or lost the set, or all upstreams lag.  The
 * master is shown what is held here; it knows which it is.
 */
void
sync_not_found(struct sync *s)
{
	const struct held_set *held;
	struct sync_set *set;
	struct head *ours;
	bool news = false;

	CHECK_OBJ(s, SYNC_MAGIC);
	for (set = s->sets; set != NULL; set = set->next) {
		held = held_named(s->conf.held, set->name);
		/* What is held and not served, as the cache was lost, may be
		 * all that is missing; and no head is said to be served while
		 * another one is (G2). */
		if (!set->behind || set->ahead != NULL || held == NULL ||
		    held_current(held) == NULL ||
		    (set->generation == 0 ? !set->lower :
		    !digest_eq(&held_current(held)->digest, &set->digest)) ||
		    (ours = malloc(sizeof(*ours))) == NULL)
			continue;
		log_warn("behind or ahead set=%s held=%ju: the master has "
		    "another head, and no upstream one above this: they lag, "
		    "or the master went back in time and says so itself",
		    set->name, (uintmax_t)held->floor);
		*ours = *held_current(held);
		pthread_mutex_lock(&s->lock);
		set->ahead = ours;
		pthread_mutex_unlock(&s->lock);
		news = true;
	}
	if (news)
		s->conf.changed(s->conf.arg);
}

/* A judged head of a set that is carried, at or above what is held. */
static enum sync_result
follow_head(struct sync *s, struct sync_set *set, const struct head *h,
    const char *from, const atomic_bool *stop)
{
	struct parse_error err;
	int64_t began = clock_boot_ms();
	bool prepared;

	if (set_pending(s, set, h) == -1) {
		log_err("not switched set=%s reason=\"out of memory\"", h->set);
		return (SYNC_LATER);
	}
	prepared = set->prepared != NULL;
	if (build(s, set, stop, &err) == -1) {
		int error = errno;

		if (error == EBADMSG) {
			drop_pending(s, set);
			return (refuse(s, h, from, err.reason));
		}
		log_warn("not switched set=%s generation=%ju reason=\"%s\": "
		    "tried again later", h->set, (uintmax_t)h->generation,
		    why(&err, error));
		return (SYNC_LATER);
	}
	if (switch_to(s, set, h) == -1)
		return (SYNC_LATER);
	log_info("switched set=%s generation=%ju files=%ju from=%s prepared=%s "
	    "ms=%jd", h->set, (uintmax_t)h->generation, (uintmax_t)h->files,
	    from, prepared ? "yes" : "no",
	    (intmax_t)(clock_boot_ms() - began));
	return (SYNC_SWITCHED);
}

/* Everything but the syntax. */
static enum sync_result
consider(struct sync *s, const struct head *h, const char *from,
    const atomic_bool *stop)
{
	struct parse_error err = { .reason = "" };
	const struct held_set *held = held_named(s->conf.held, h->set);
	const struct head *current = held_current(held);
	const struct held_set *clash;
	struct sync_set *set;
	char reason[LOG_TEXT];

	if ((clash = held_clash(s->conf.held, h->set)) != NULL) {
		snprintf(reason, sizeof(reason), "its name clashes with the "
		    "set %s", clash->name);
		return (refuse(s, h, from, reason));
	}
	if (current != NULL && digest_eq(&current->digest, &h->digest)) {
		/* Already judged.  Served, unless the cache was lost. */
		if ((set = sync_get(s, h->set)) == NULL)
			return (SYNC_LATER);
		if (set->generation == h->generation)
			return (SYNC_SAME);
		if (h->generation >= held->floor)
			return (follow_head(s, set, current, from, stop));
	}
	if (judge(s, h, &err) != TRUST_OK)
		return (refuse(s, h, from, err.reason));
	if ((set = sync_get(s, h->set)) == NULL)
		return (refuse(s, h, from, "too many sets"));
	if (held != NULL && h->generation < held->floor) {
		set->lower = true;
		(void)refuse(s, h, from, "its generation is below the one "
		    "held");
		return (SYNC_LOWER);
	}
	if (current != NULL && h->generation == current->generation)
		return (refuse(s, h, from, "another head of the generation "
		    "that is held"));
	compare_previous(current, h);
	pthread_mutex_lock(&s->lock);
	set->exists = true;
	pthread_mutex_unlock(&s->lock);
	return (follow_head(s, set, h, from, stop));
}

enum sync_result
sync_head(struct sync *s, const char *set, const char *text, size_t len,
    const char *from)
{
	static struct log_limit limit;
	struct parse_error err = { .reason = "" };
	enum sync_result result;
	struct head *h;

	CHECK_OBJ(s, SYNC_MAGIC);
	if ((h = malloc(sizeof(*h))) == NULL)
		return (SYNC_LATER);
	if (head_parse(h, text, len, &err) == -1) {
		if (log_allowed(&limit, 1))
			log_warn("head refused from=%s line=%lu reason=\"%s\"",
			    from, err.line, err.reason);
		result = SYNC_REFUSED;
	} else if (set != NULL && strcmp(set, h->set) != 0)
		result = refuse(s, h, from, "of another set than announced");
	else if (!sync_carries(s, h->set))
		result = SYNC_IGNORED;
	else
		result = consider(s, h, from,
		    set != NULL ? s->conf.stop : s->conf.interrupt);
	free(h);
	return (result);
}

/* One held set: its newest generation, if the cache has its manifest. */
static void
start_set(struct sync *s, const struct held_set *held)
{
	const struct head *h = held_current(held);
	struct parse_error err = { .reason = "" };
	struct snapshot *next;
	struct delta *none = NULL;
	struct sync_set *set;

	set = check_alloc(sync_get(s, held->name));
	set->exists = true;
	if (h == NULL || h->generation < held->floor)
		return;
	if (trust_judge_held(s->conf.trust, h, &err) != TRUST_OK) {
		log_err("held head not served set=%s generation=%ju "
		    "reason=\"%s\"", h->set, (uintmax_t)h->generation,
		    err.reason);
		return;
	}
	if ((next = sync_load(s, h, NULL, &err)) == NULL) {
		log_warn("held set not served yet set=%s generation=%ju "
		    "reason=\"%s\": fetched again", h->set,
		    (uintmax_t)h->generation, errno == ENOENT ?
		    "its manifest is not in the cache" : why(&err, errno));
		return;
	}
	if (site_switch(s->conf.site, &next, &none, clock_real()) == -1)
		check_alloc(NULL);
	set->generation = h->generation;
	set->digest = h->digest;
	walk_chain(s, set, NULL);
	set->walk = true;
	log_info("serving set=%s generation=%ju", h->set,
	    (uintmax_t)h->generation);
}

void
sync_start(struct sync *s)
{

	CHECK_OBJ(s, SYNC_MAGIC);
	for (size_t i = 0; i < held_n(s->conf.held); i++) {
		const struct held_set *held = held_nth(s->conf.held, i);

		if (sync_carries(s, held->name))
			start_set(s, held);
	}
}
