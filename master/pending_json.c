/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How far a publish is, as JSON, for GET /publish/<set> and the status page.
 * Called by the HTTP servers' threads.
 */

#include <jansson.h>

#include "master/pending_impl.h"
#include "proto/check.h"

static int
put_number(json_t *o, const char *key, uint64_t v)
{

	return (json_object_set_new(o, key, json_integer((json_int_t)v)));
}

/* Acknowledgement: how it stands in this moment. */
static int
put_result(json_t *o, struct roster *r, struct roster_wait *w, bool *over)
{
	struct roster_result res = { .acked = 0 };
	json_t *missing;
	size_t i;
	int ret;

	*over = false;
	if (w != NULL)
		*over = roster_wait_switched(r, w, 0, &res) == ROSTER_OVER;
	if ((missing = json_array()) != NULL)
		for (i = 0; i < res.nmissing; i++)
			(void)json_array_append_new(missing,
			    json_string(res.missing[i]));
	ret = put_number(o, "acked", res.acked) |
	    put_number(o, "leased", res.leased) |
	    json_object_set_new(o, "missing", missing) |
	    put_number(o, "p50_ms", (uint64_t)res.p50_ms) |
	    put_number(o, "p99_ms", (uint64_t)res.p99_ms) |
	    put_number(o, "max_ms", (uint64_t)res.max_ms) |
	    json_object_set_new(o, "slowest", json_string(res.slowest)) |
	    json_object_set_new(o, "done", json_boolean(*over));
	if (w != NULL)
		roster_result_free(&res);
	return (ret);
}

static int
put_set(json_t *o, struct pendings *a, const char *set)
{
	struct accepted known;
	struct snapshot *current;
	int ret;

	generation_accepted(a->c.generations, set, &known);
	current = site_current(a->c.site, set);
	ret = json_object_set_new(o, "set", json_string(set)) |
	    put_number(o, "current", current == NULL ? 0 :
	    snapshot_head(current)->generation) |
	    put_number(o, "accepted", known.generation);
	snapshot_unref(&current);
	return (ret);
}

static json_t *
pending_object(struct pending *p)
{
	json_t *o;
	bool over;
	int ret;

	if ((o = json_object()) == NULL)
		return (NULL);
	ret = put_set(o, p->all, p->head.set);
	(void)pthread_mutex_lock(&p->lock);
	ret |= put_number(o, "generation", p->head.generation) |
	    json_object_set_new(o, "state",
	    json_string(pending_state_name(p->state))) |
	    json_object_set_new(o, "reason", json_string(p->err.reason)) |
	    put_number(o, "wanted", p->nwant) |
	    put_number(o, "prepared", p->prepared) |
	    put_number(o, "preparing", p->leased) |
	    put_number(o, "tree_ms", (uint64_t)p->tree_ms) |
	    put_number(o, "prepare_ms", (uint64_t)p->waited_ms) |
	    put_result(o, p->all->c.roster, p->wait, &over);
	if (over && ret == 0)
		p->told = true;
	(void)pthread_mutex_unlock(&p->lock);
	if (ret != 0) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

/* A set with no pending publish: what is current, if anything. */
static json_t *
idle_object(struct pendings *a, const char *set)
{
	struct roster_wait *wait;
	struct snapshot *current;
	struct accepted known;
	json_t *o;
	bool over;
	int ret;

	generation_accepted(a->c.generations, set, &known);
	if (known.generation == 0 || (o = json_object()) == NULL)
		return (NULL);
	current = site_current(a->c.site, set);
	wait = current == NULL ? NULL : roster_watch(a->c.roster, set);
	ret = put_set(o, a, set) |
	    put_number(o, "generation", current == NULL ? 0 :
	    snapshot_head(current)->generation) |
	    json_object_set_new(o, "state", json_string(current == NULL ?
	    "none" : "committed")) |
	    json_object_set_new(o, "reason", json_string("")) |
	    put_result(o, a->c.roster, wait, &over);
	if (wait != NULL)
		roster_wait_destroy(a->c.roster, &wait);
	snapshot_unref(&current);
	if (ret != 0) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

void *
pending_json(struct pendings *a, const char *set)
{
	struct pending *p;
	json_t *o;

	if ((p = pending_find(a, set)) == NULL)
		return (idle_object(a, set));
	o = pending_object(p);
	pending_release(&p);
	return (o);
}

int
pendings_list(struct pendings *a, void *json_array)
{
	struct pending *p;
	json_t *array = json_array, *o;
	int ret = 0;

	CHECK_OBJ(a, PENDINGS_MAGIC);
	(void)pthread_mutex_lock(&a->lock);
	TAILQ_FOREACH(p, &a->list, link) {
		if (pending_state(p) == PENDING_COMMITTED)
			continue;
		if ((o = pending_object(p)) == NULL ||
		    json_array_append_new(array, o) == -1)
			ret = -1;
	}
	(void)pthread_mutex_unlock(&a->lock);
	return (ret);
}
