/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of sets as other threads see it: what the link reports, what the
 * blob store must keep, what HTTP threads ask about sets that are not served.
 * And what the master's last reply says of them, which the follow thread notes.
 */
#include <stdlib.h>
#include <string.h>

#include "edge/sync_impl.h"
#include "proto/check.h"
#include "proto/clock.h"

#define	REPORT_AHEAD	4		/* heads in one renewal: it is bounded */

void
sync_not_ahead(struct sync_set *set)
{

	free(set->ahead);
	set->ahead = NULL;
}

void
sync_behind(struct sync *s, char (*name)[SET_NAME_MAX + 1], size_t n)
{
	struct sync_set *set;

	CHECK_OBJ(s, SYNC_MAGIC);
	pthread_mutex_lock(&s->lock);
	for (set = s->sets; set != NULL; set = set->next)
		set->behind = false;
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < n; i++) {
		if (!sync_carries(s, name[i]) ||
		    (set = sync_get(s, name[i])) == NULL)
			continue;
		if (set->ahead == NULL)
			set->lower = false;
		pthread_mutex_lock(&s->lock);
		set->behind = set->exists = true;
		pthread_mutex_unlock(&s->lock);
	}
	pthread_mutex_lock(&s->lock);
	for (set = s->sets; set != NULL; set = set->next)
		if (!set->behind)
			sync_not_ahead(set);
	pthread_mutex_unlock(&s->lock);
}

bool
sync_is_behind(const struct sync *s)
{

	for (const struct sync_set *set = s->sets; set != NULL;
	    set = set->next)
		if (set->behind)
			return (true);
	return (false);
}

/* Under the lock: the set as a renewal tells of it. */
static void
report_set(struct sync_set *set, struct renew_set *r, unsigned round,
    unsigned *nahead)
{

	memcpy(r->name, set->name, sizeof(r->name));
	r->generation = set->generation;
	r->digest = set->digest;
	if (set->prepared != NULL && clock_boot_ms() >= set->warm_ms) {
		r->has_prepared = true;
		r->prepared = set->pending->digest;
	}
	if (set->ahead == NULL)
		return;
	r->generation = set->ahead->generation;
	r->digest = set->ahead->digest;
	if (set->shown == round || *nahead == REPORT_AHEAD ||
	    (r->ahead = strdup(set->ahead->text)) == NULL)
		return;
	(*nahead)++;
	set->shown = round;
}

void
sync_warmed(void *arg, const struct digest *head)
{
	struct sync *s = arg;
	bool is = false;

	CHECK_OBJ(s, SYNC_MAGIC);
	pthread_mutex_lock(&s->lock);
	for (struct sync_set *set = s->sets; set != NULL; set = set->next)
		if (set->prepared != NULL &&
		    digest_eq(&set->pending->digest, head)) {
			set->warm_ms = 0;
			is = true;
		}
	pthread_mutex_unlock(&s->lock);
	if (is)
		s->conf.changed(s->conf.arg);
}

int
sync_report(struct sync *s, struct renew *r)
{
	unsigned nahead = 0;
	size_t n = 0;

	CHECK_OBJ(s, SYNC_MAGIC);
	r->all = s->conf.sets->n == 0;
	pthread_mutex_lock(&s->lock);
	r->set = calloc(s->nset + 1, sizeof(*r->set));
	for (struct sync_set *set = s->sets; r->set != NULL && set != NULL;
	    set = set->next)
		if (sync_carries(s, set->name))
			report_set(set, &r->set[n++], s->round, &nahead);
	/* All were shown: again, from the first on. */
	if (nahead < REPORT_AHEAD)
		s->round++;
	r->nset = n;
	pthread_mutex_unlock(&s->lock);
	return (r->set == NULL ? -1 : 0);
}

bool
sync_is_prepared(struct sync *s, const char *text, size_t len)
{
	struct digest d;
	bool is = false;

	CHECK_OBJ(s, SYNC_MAGIC);
	digest_of(&d, text, len);
	pthread_mutex_lock(&s->lock);
	for (const struct sync_set *set = s->sets; set != NULL && !is;
	    set = set->next)
		is = set->prepared != NULL &&
		    digest_eq(&set->pending->digest, &d);
	pthread_mutex_unlock(&s->lock);
	return (is);
}

bool
sync_prepared(struct sync *s, const char *name, struct digest *d)
{
	bool is = false;

	CHECK_OBJ(s, SYNC_MAGIC);
	pthread_mutex_lock(&s->lock);
	for (const struct sync_set *set = s->sets; set != NULL; set = set->next)
		if (set->prepared != NULL && strcmp(set->name, name) == 0) {
			*d = set->pending->digest;
			is = true;
		}
	pthread_mutex_unlock(&s->lock);
	return (is);
}

/* Under the lock: a file of the set's prepared generation. */
static bool
prepared_file(const struct sync_set *set, const struct digest *d,
    uint64_t *size)
{
	const struct manifest *m;
	struct facts facts;
	ssize_t i;

	if (set->prepared == NULL)
		return (false);
	m = snapshot_manifest(set->prepared);
	if ((i = manifest_find_digest(m, d)) == -1 ||
	    !manifest_facts(m, (size_t)i, &facts))
		return (false);
	*size = facts.size;
	return (true);
}

/* Whether it is the manifest or chunk table of that head, or NULL. */
static bool
is_document(const struct head *h, const struct digest *d,
    struct site_prepared *p)
{

	if (h == NULL || (p->part = head_part(h, d, &p->size)) == HEAD_NEITHER)
		return (false);
	memcpy(p->set, h->set, sizeof(p->set));
	return (true);
}

/* Whether what is being fetched or prepared names it, and how. */
static enum blob_named
pending_names(struct sync *s, const struct digest *d, struct site_prepared *p)
{
	enum blob_named named = BLOB_UNNAMED;

	p->part = HEAD_NEITHER;
	p->set[0] = '\0';
	pthread_mutex_lock(&s->lock);
	if (is_document(s->walking, d, p))
		named = BLOB_NEEDED;
	for (const struct sync_set *set = s->sets;
	    set != NULL && named != BLOB_NEEDED; set = set->next) {
		if (is_document(set->pending, d, p))
			named = BLOB_NEEDED;
		else if (named == BLOB_UNNAMED &&
		    prepared_file(set, d, &p->size))
			named = BLOB_NAMED;
	}
	pthread_mutex_unlock(&s->lock);
	return (named);
}

enum blob_named
sync_named(void *arg, const struct digest *d)
{
	struct sync *s = arg;
	const struct site_view *v;
	struct site_file f;
	struct site_prepared p;
	enum blob_named named;

	CHECK_OBJ(s, SYNC_MAGIC);
	if ((named = pending_names(s, d, &p)) == BLOB_NEEDED)
		return (named);
	v = site_enter(s->conf.site);
	if (site_find_blob(v, d, &f, NULL))
		named = head_part(f.head, d, &p.size) != HEAD_NEITHER ?
		    BLOB_NEEDED : BLOB_NAMED;
	site_leave(s->conf.site);
	return (named);
}

bool
sync_prepared_blob(struct sync *s, const struct digest *d,
    struct site_prepared *p)
{

	CHECK_OBJ(s, SYNC_MAGIC);
	return (pending_names(s, d, p) != BLOB_UNNAMED);
}

bool
sync_unserved(struct sync *s, const char *path)
{
	bool is = false;

	CHECK_OBJ(s, SYNC_MAGIC);
	pthread_mutex_lock(&s->lock);
	for (const struct sync_set *set = s->sets; set != NULL && !is;
	    set = set->next) {
		size_t len = strlen(set->name);

		is = set->exists && set->generation == 0 &&
		    strncmp(path, set->name, len) == 0 &&
		    (path[len] == '/' || path[len] == '\0');
	}
	pthread_mutex_unlock(&s->lock);
	return (is);
}
