/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commits, and waits for edges: a wait is a list of the lease records that were
 * alive when it began, each done when it has reported the head or its lease has
 * run out.  Called by publishing threads; renewals reach the waits through
 * wait_note(), on the link thread, in logarithmic time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/roster_impl.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/log.h"
#include "proto/plant.h"

#define	SLICE_MS	100		/* how late a run-out may be noticed */

/*
 * Members
 */
static struct roster_wait *
wait_new(size_t room)
{
	struct roster_wait *w;

	if ((w = calloc(1, sizeof(*w))) == NULL)
		return (NULL);
	w->magic = WAIT_MAGIC;
	w->refs = 1;
	w->size = room;
	if (room > 0 &&
	    (w->member = calloc(room, sizeof(*w->member))) == NULL) {
		free(w);
		return (NULL);
	}
	return (w);
}

/* Ends the reference; the last one frees.  Tolerates NULL. */
void
wait_release(struct roster_wait **wp)
{
	struct roster_wait *w = *wp;

	if (w == NULL)
		return;
	*wp = NULL;
	CHECK_OBJ(w, WAIT_MAGIC);
	if (--w->refs > 0)
		return;
	if (w->running)
		LIST_REMOVE(w, link);
	roster_result_free(&w->result);
	free(w->member);
	explicit_bzero(&w->magic, sizeof(w->magic));
	free(w);
}

static struct member *
member_find(struct roster_wait *w, uint64_t id)
{
	size_t lo = 0, hi = w->nmember, mid;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (w->member[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (lo < w->nmember && w->member[lo].id == id ?
	    &w->member[lo] : NULL);
}

static void
member_put(struct roster_wait *w, const struct record *rec, int64_t until)
{
	struct member *m;

	CHECK(w->nmember < w->size);
	m = &w->member[w->nmember++];
	m->id = rec->id;
	m->until = until;
	m->acked_ms = ROSTER_ALONE;
	m->succeeded = false;
	memcpy(m->name, rec->name, sizeof(m->name));
}

/* Every record whose lease for the set was alive at since, or later. */
static void
members_gather(struct roster *r, struct roster_wait *w, int64_t since)
{
	const struct record *rec;
	int64_t until;

	TAILQ_FOREACH(rec, &r->records, all)
		if ((until = record_covered(rec, w->set)) > since)
			member_put(w, rec, until);
}

/*
 * What the record reported is what the wait is for, or, once a later head is
 * current, that one: either way it answers from nothing earlier.
 */
static bool
reported(const struct roster_wait *w, const struct record *rec)
{
	const struct cover *c = cover_find(rec, w->set);

	if (c == NULL || !c->listed)
		return (false);
	if (w->prepare && c->has_prepared &&
	    digest_eq(&c->prepared, &w->digest))
		return (true);
	if (c->generation == 0)
		return (false);
	if (digest_eq(&c->digest, &w->digest))
		return (true);
	return (!w->prepare && w->set->generation > w->generation &&
	    digest_eq(&c->digest, &w->set->digest));
}

/*
 * The record reported what the wait is for, so its edge was started anew since
 * its older instances said what they said, and what those may have answered is
 * over when their leases are.
 */
static void
succeed(struct roster *r, struct roster_wait *w, const struct record *rec)
{
	const struct record *old;
	struct member *m;

	LIST_FOREACH(old, record_bucket(r, rec->key), bucket)
		if (old->id < rec->id && strcmp(old->key, rec->key) == 0 &&
		    (m = member_find(w, old->id)) != NULL)
			m->succeeded = true;
}

/* Also for a record that is no member: one that came after the commit.  True
 * when a member has acknowledged. */
static bool
member_ack(struct roster *r, struct roster_wait *w, const struct record *rec,
    int64_t now)
{
	struct member *m = member_find(w, rec->id);

	if ((m != NULL && m->acked_ms != ROSTER_ALONE) || !reported(w, rec))
		return (false);
	succeed(r, w, rec);
	if (m == NULL)
		return (false);
	m->acked_ms = now > w->begin_ms ? now - w->begin_ms : 0;
	w->nacked++;
	return (true);
}

void
wait_note(struct roster *r, const struct record *rec, int64_t now)
{
	struct roster_wait *w;

	LIST_FOREACH(w, &r->waits, link)
		if (member_ack(r, w, rec, now) && w->nacked == w->nmember)
			pthread_cond_broadcast(&r->change);
}

void
wait_join(struct roster *r, const struct record *rec)
{
	struct roster_wait *w;
	struct member *p;
	size_t size;

	LIST_FOREACH(w, &r->waits, link) {
		if (w->prepare || !record_carries(rec, w->set))
			continue;
		if (w->nmember == w->size) {
			size = w->size == 0 ? 16 : w->size * 2;
			if ((p = realloc(w->member, size * sizeof(*p))) ==
			    NULL) {
				/* The hold still lasts for it. */
				log_err("wait set=%s edge=%s: out of memory, "
				    "the edge will not be named", w->set->name,
				    rec->name);
				continue;
			}
			w->member = p;
			w->size = size;
		}
		member_put(w, rec, rec->held_until);
	}
}

/*
 * Results
 */
static int
ms_cmp(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x < *y ? -1 : *x > *y);
}

/* The smallest value that at least percent of all are not above. */
static int64_t
percentile(const int64_t *ms, size_t n, size_t percent)
{

	return (ms[(n * percent + 99) / 100 - 1]);
}

static int
result_times(const struct roster_wait *w, struct roster_result *res)
{
	int64_t *ms;
	size_t i, n = 0;

	if (w->nacked == 0)
		return (0);
	if ((ms = malloc(w->nacked * sizeof(*ms))) == NULL)
		return (-1);
	for (i = 0; i < w->nmember; i++) {
		if (w->member[i].acked_ms == ROSTER_ALONE)
			continue;
		ms[n++] = w->member[i].acked_ms;
		if (n == 1 || w->member[i].acked_ms > res->max_ms) {
			res->max_ms = w->member[i].acked_ms;
			memcpy(res->slowest, w->member[i].name,
			    sizeof(res->slowest));
		}
	}
	qsort(ms, n, sizeof(*ms), ms_cmp);
	res->p50_ms = percentile(ms, n, 50);
	res->p99_ms = percentile(ms, n, 99);
	free(ms);
	return (0);
}

static int
name_cmp(const void *a, const void *b)
{

	return (strcmp(a, b));
}

/*
 * Whose lease ran out unacknowledged, each name once.  Not those of which a
 * newer instance acknowledged.
 */
static int
result_missing(const struct roster_wait *w, int64_t now,
    struct roster_result *res)
{
	const struct member *m;
	size_t i, n = 0;

#ifdef PLANT
	if (plant_is("names"))		/* nobody is named */
		return (0);
#endif
	for (i = 0; i < w->nmember; i++) {
		m = &w->member[i];
		if (m->acked_ms != ROSTER_ALONE || m->until > now)
			continue;
		if (m->succeeded)
			res->leased--;
		else
			n++;
	}
	if (n == 0)
		return (0);
	if ((res->missing = calloc(n, sizeof(*res->missing))) == NULL)
		return (-1);
	for (i = n = 0; i < w->nmember; i++) {
		m = &w->member[i];
		if (m->acked_ms == ROSTER_ALONE && m->until <= now &&
		    !m->succeeded)
			memcpy(res->missing[n++], m->name, sizeof(m->name));
	}
	qsort(res->missing, n, sizeof(*res->missing), name_cmp);
	for (i = 0; i < n; i++)
		if (i == 0 || strcmp(res->missing[i],
		    res->missing[res->nmissing - 1]) != 0)
			memmove(res->missing[res->nmissing++], res->missing[i],
			    sizeof(*res->missing));
	return (0);
}

static int
result_copy(const struct roster_result *from, struct roster_result *to)
{

	*to = *from;
	to->missing = NULL;
	to->nmissing = 0;
	if (from->nmissing == 0)
		return (0);
	to->missing = malloc(from->nmissing * sizeof(*to->missing));
	if (to->missing == NULL)
		return (-1);
	memcpy(to->missing, from->missing,
	    from->nmissing * sizeof(*to->missing));
	to->nmissing = from->nmissing;
	return (0);
}

int
wait_result(const struct roster_wait *w, int64_t now,
    struct roster_result *res)
{

	if (w->over)
		return (result_copy(&w->result, res));
	memset(res, 0, sizeof(*res));
	res->generation = w->generation;
	res->acked = w->nacked;
	res->leased = w->nmember;
	if (result_times(w, res) == -1)
		return (-1);
	return (result_missing(w, now, res));
}

void
roster_result_free(struct roster_result *res)
{

	free(res->missing);
	memset(res, 0, sizeof(*res));
}

/*
 * Over when each member has reported or run out, and no process before this
 * one can have granted a lease that is alive.  Then only the result is kept.
 */
bool
wait_over(struct roster *r, struct roster_wait *w, int64_t now)
{
	struct roster_result res;
	size_t i;

	if (w->over)
		return (true);
	if (!w->prepare && now < r->hold_until)
		return (false);
#ifdef PLANT
	if (!plant_is("G2"))		/* nobody is waited for */
#endif
	if (w->nacked < w->nmember)
		for (i = 0; i < w->nmember; i++)
			if (w->member[i].acked_ms == ROSTER_ALONE &&
			    w->member[i].until > now)
				return (false);
	if (wait_result(w, now, &res) == -1) {
		/* Names must not be lost: look again when there is memory. */
		roster_result_free(&res);
		return (false);
	}
	w->result = res;
	w->over = true;
	LIST_REMOVE(w, link);
	w->running = false;
	free(w->member);
	w->member = NULL;
	w->nmember = w->nacked = w->size = 0;
	return (true);
}

/* Waits for a change or one slice; the lock is given up meanwhile. */
static void
wait_slice(struct roster *r, int64_t ms)
{

	(void)clock_wait(&r->change, &r->lock, ms > SLICE_MS ? SLICE_MS : ms);
}

static enum roster_state
wait_locked(struct roster *r, struct roster_wait *w, int timeout_ms)
{
	int64_t now = r->clock(), end = now + timeout_ms;

	for (;;) {
		if (wait_over(r, w, now))
			return (ROSTER_OVER);
		if (r->stopped)
			return (ROSTER_STOPPED);
		if (now >= end)
			return (ROSTER_RUNNING);
		wait_slice(r, end - now);
		now = r->clock();
	}
}

static void
wait_run(struct roster *r, struct roster_wait *w)
{

	LIST_INSERT_HEAD(&r->waits, w, link);
	w->running = true;
}

/*
 * Prepare
 */
enum roster_state
roster_wait_prepared(struct roster *r, const char *set,
    const struct digest *head, int timeout_ms, size_t *prepared,
    size_t *leased)
{
	enum roster_state state = ROSTER_RUNNING;
	struct record *rec;
	struct roster_wait *w;
	size_t nprepared = 0, nleased = 0;

	CHECK_OBJ(r, ROSTER_MAGIC);
	pthread_mutex_lock(&r->lock);
	if ((w = wait_new(r->nrecord)) == NULL ||
	    (w->set = rset_intern(r, set)) == NULL)
		goto out;
	w->prepare = true;
	w->digest = *head;
	w->begin_ms = r->clock();
	members_gather(r, w, w->begin_ms);
	TAILQ_FOREACH(rec, &r->records, all)
		(void)member_ack(r, w, rec, w->begin_ms);
	wait_run(r, w);
	state = wait_locked(r, w, timeout_ms);
	nprepared = w->over ? w->result.acked : w->nacked;
	nleased = w->over ? w->result.leased : w->nmember;
out:
	wait_release(&w);
	pthread_mutex_unlock(&r->lock);
	if (prepared != NULL)
		*prepared = nprepared;
	if (leased != NULL)
		*leased = nleased;
	return (state);
}

/*
 * Commit
 */

/*
 * A set's first publish: leases that covered it as one that was not published
 * become leases of its own, since from now on the others' are renewed without
 * it.  -1: out of memory; nothing is wrong then.
 */
static int
own_covers(struct roster *r, struct rset *s)
{
	struct record *rec;
	struct cover *c;

	TAILQ_FOREACH(rec, &r->records, all) {
		if (rec->others_until == 0)
			continue;
		if ((c = cover_add(rec, s)) == NULL)
			return (-1);
		if (c->until < rec->others_until)
			c->until = rec->others_until;
	}
	return (0);
}

static void
make_current(struct roster *r, struct rset *s, uint64_t generation,
    const struct digest *head, struct roster_wait *w)
{
	struct record *rec;
	struct cover *c;

	if (s->generation == 0)
		r->published[r->npublished++] = s;
	s->generation = generation;
	s->digest = *head;
	s->since_ms = w->begin_ms;
	TAILQ_FOREACH(rec, &r->records, all)
		if ((c = cover_find(rec, s)) != NULL)
			cover_outdated(c, s->since_ms);
	wait_release(&s->last);
	s->last = w;
	w->refs++;
}

struct roster_wait *
roster_commit(struct roster *r, const char *set, uint64_t generation,
    const struct digest *head, int64_t since_ms, int (*decide)(void *arg),
    void *arg)
{
	struct roster_wait *w = NULL;
	struct rset *s;
	int64_t now;
	int saved;

	CHECK_OBJ(r, ROSTER_MAGIC);
	CHECK(generation > 0);
	pthread_mutex_lock(&r->lock);
	if ((s = rset_intern(r, set)) == NULL ||
	    (w = wait_new(r->nrecord)) == NULL ||
	    (s->generation == 0 && own_covers(r, s) == -1)) {
		wait_release(&w);
		errno = ENOMEM;
		goto out;
	}
	w->set = s;
	w->generation = generation;
	w->digest = *head;
	/* Before decide, which may take long: a lease that ends meanwhile may
	 * have been alive at the moment of publication. */
	now = r->clock();
	members_gather(r, w, since_ms < now ? since_ms : now);
	if (decide(arg) != 0) {
		saved = errno;
		wait_release(&w);
		errno = saved;
		goto out;
	}
	w->begin_ms = r->clock();
	make_current(r, s, generation, head, w);
	wait_run(r, w);
out:
	pthread_mutex_unlock(&r->lock);
	return (w);
}

struct roster_wait *
roster_watch(struct roster *r, const char *set)
{
	struct roster_wait *w = NULL;
	struct record *rec;
	struct rset *s;

	CHECK_OBJ(r, ROSTER_MAGIC);
	pthread_mutex_lock(&r->lock);
	if ((s = rset_find(r, set)) == NULL || s->generation == 0) {
		errno = ENOENT;
		goto out;
	}
	if (s->last != NULL && !s->last->told) {
		w = s->last;	/* still runs, or nobody has seen its end */
		w->refs++;
		goto out;
	}
	if ((w = wait_new(r->nrecord)) == NULL) {
		errno = ENOMEM;
		goto out;
	}
	w->set = s;
	w->generation = s->generation;
	w->digest = s->digest;
	w->begin_ms = r->clock();
	members_gather(r, w, w->begin_ms);
	TAILQ_FOREACH(rec, &r->records, all)
		(void)member_ack(r, w, rec, w->begin_ms);
	wait_run(r, w);
	if (s->last == NULL) {
		s->last = w;
		w->refs++;
	}
out:
	pthread_mutex_unlock(&r->lock);
	return (w);
}

enum roster_state
roster_wait_switched(struct roster *r, struct roster_wait *w, int timeout_ms,
    struct roster_result *res)
{
	enum roster_state state;

	CHECK_OBJ(r, ROSTER_MAGIC);
	CHECK_OBJ(w, WAIT_MAGIC);
	memset(res, 0, sizeof(*res));
	pthread_mutex_lock(&r->lock);
	state = wait_locked(r, w, timeout_ms);
	if (wait_result(w, r->clock(), res) == -1 && state == ROSTER_OVER)
		state = ROSTER_RUNNING;	/* not without the names: ask again */
	if (state == ROSTER_OVER)
		w->told = true;
	pthread_mutex_unlock(&r->lock);
	return (state);
}

void
roster_wait_destroy(struct roster *r, struct roster_wait **w)
{

	CHECK_OBJ(r, ROSTER_MAGIC);
	pthread_mutex_lock(&r->lock);
	wait_release(w);
	pthread_mutex_unlock(&r->lock);
}
