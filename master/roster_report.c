/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A copy of the roster for the status page, so that what is made of it takes no
 * lock.  Called by the HTTP servers' threads.
 */
#include <stdlib.h>
#include <string.h>

#include "master/roster_impl.h"
#include "proto/check.h"

static void
report_cover(struct roster_report_set *s, const struct cover *c, int64_t now)
{

	s->name = c->set->name;
	s->generation = c->generation;
	s->here = c->set->generation;
	s->current = cover_current(c);
	s->leased = c->until > now;
	s->behind_ms = c->behind_ms == 0 ? -1 : now - c->behind_ms;
	s->switched_ms = c->switched_ms == 0 ? -1 : now - c->switched_ms;
	s->took_ms = c->switched_ms == 0 ? -1 : c->took_ms;
}

/* A published set that the edge carries and has nothing of. */
static void
report_lacking(struct roster_report_set *s, const struct rset *set,
    const struct record *rec, int64_t now)
{

	s->name = set->name;
	s->here = set->generation;
	s->behind_ms = now - (set->since_ms > rec->first_ms ? set->since_ms :
	    rec->first_ms);
	s->switched_ms = s->took_ms = -1;
}

static int
name_cmp(const void *a, const void *b)
{
	const struct roster_report_set *x = a, *y = b;

	return (strcmp(x->name, y->name));
}

static int
report_sets(const struct roster *r, struct roster_report_instance *i,
    const struct record *rec, int64_t now)
{
	const struct cover *c;
	size_t k;

	if ((i->set = calloc(rec->ncover + r->npublished + 1,
	    sizeof(*i->set))) == NULL)
		return (-1);
	for (k = 0; k < rec->ncover; k++) {
		c = &rec->cover[k];
		if (c->listed && (c->generation != 0 ||
		    c->set->generation != 0))
			report_cover(&i->set[i->nset++], c, now);
	}
	for (k = 0; rec->carries_all && k < r->npublished; k++) {
		c = cover_find(rec, r->published[k]);
		if (c == NULL || !c->listed)
			report_lacking(&i->set[i->nset++], r->published[k],
			    rec, now);
	}
	if (i->nset > 1)
		qsort(i->set, i->nset, sizeof(*i->set), name_cmp);
	return (0);
}

/* It has a lease for every published set that it carries. */
static bool
leased_for_all(const struct roster *r, const struct record *rec, int64_t now)
{
	size_t i;

	if (rec->granted_until <= now)
		return (false);
	for (i = 0; i < r->npublished; i++)
		if (record_carries(rec, r->published[i]) &&
		    record_covered(rec, r->published[i]) <= now)
			return (false);
	return (true);
}

static int
report_instance(const struct roster *r, struct roster_report_instance *i,
    const struct record *rec, int64_t now)
{

	memcpy(i->instance, rec->instance, sizeof(i->instance));
	memcpy(i->version, rec->version, sizeof(i->version));
	i->silent_ms = now > rec->last_ms ? now - rec->last_ms : 0;
	i->left_ms = rec->granted_until > now ? rec->granted_until - now : 0;
	i->leased = leased_for_all(r, rec, now);
	i->requests = rec->requests;
	i->hits = rec->hits;
	i->misses = rec->misses;
	i->fills = rec->fills;
	i->fill_bytes = rec->fill_bytes;
	i->cache_bytes = rec->cache_bytes;
	i->cache_max = rec->cache_max;
	return (report_sets(r, i, rec, now));
}

static int
report_edge(struct roster *r, struct roster_report_edge *e,
    const struct edge_entry *entry, int64_t now)
{
	const struct record *rec;
	int64_t newer_ms = INT64_MAX;

	e->edge = *entry;
	/* The newest first. */
	LIST_FOREACH(rec, record_bucket(r, entry->key), bucket) {
		if (strcmp(rec->key, entry->key) != 0)
			continue;
		if (e->instance == NULL && (e->instance = calloc(
		    ROSTER_INSTANCES, sizeof(*e->instance))) == NULL)
			return (-1);
		CHECK(e->ninstance < ROSTER_INSTANCES);
		if (report_instance(r, &e->instance[e->ninstance++], rec,
		    now) == -1)
			return (-1);
		if (e->instance[e->ninstance - 1].leased)
			e->leased = true;
		if (now - rec->last_ms >= r->ttl_ms)
			continue;
		/* One that a newer one has replaced says no more. */
		if (rec->last_ms >= newer_ms)
			e->duplicate = true;
		newer_ms = rec->first_ms;
	}
	return (0);
}

static int
report_switches(struct roster *r, struct roster_report *p, int64_t now)
{
	struct roster_report_switch *s;
	struct roster_wait *w;
	size_t i;

	if ((p->last = calloc(r->npublished + 1, sizeof(*p->last))) == NULL)
		return (-1);
	for (i = 0; i < r->nset; i++) {		/* by name */
		if ((w = r->set[i]->last) == NULL)
			continue;
		s = &p->last[p->nswitch++];
		s->set = r->set[i]->name;
		s->over = wait_over(r, w, now);
		if (wait_result(w, now, &s->result) == -1)
			return (-1);
	}
	return (0);
}

static int
report_all(struct roster *r, struct roster_report *p)
{
	int64_t now = r->clock();
	size_t i, n = r->edges == NULL ? 0 : edges_n(r->edges);

	if ((p->edge = calloc(n + 1, sizeof(*p->edge))) == NULL)
		return (-1);
	for (i = 0; i < n; i++) {
		p->nedge++;
		if (report_edge(r, &p->edge[i], edges_nth(r->edges, i),
		    now) == -1)
			return (-1);
	}
	return (report_switches(r, p, now));
}

struct roster_report *
roster_report_new(struct roster *r)
{
	struct roster_report *p;

	CHECK_OBJ(r, ROSTER_MAGIC);
	if ((p = calloc(1, sizeof(*p))) == NULL)
		return (NULL);
	pthread_mutex_lock(&r->lock);
	if (report_all(r, p) == -1)
		roster_report_destroy(&p);
	pthread_mutex_unlock(&r->lock);
	return (p);
}

void
roster_report_destroy(struct roster_report **pp)
{
	struct roster_report *p = *pp;
	size_t i, k;

	if (p == NULL)
		return;
	*pp = NULL;
	for (i = 0; i < p->nedge; i++) {
		for (k = 0; k < p->edge[i].ninstance; k++)
			free(p->edge[i].instance[k].set);
		free(p->edge[i].instance);
	}
	free(p->edge);
	for (i = 0; i < p->nswitch; i++)
		roster_result_free(&p->last[i].result);
	free(p->last);
	free(p);
}
