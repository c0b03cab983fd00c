/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The sets that a daemon answers for.  Readers (HTTP threads) see one immutable
 * view through one atomic pointer, and mark it as in use in a slot of their
 * own; a writer exchanges the pointer, waits until no slot names the old view,
 * and frees it.  So a request takes no lock and writes no shared cache line.
 *
 * Lock: site->writer serialises writers; no other lock is taken under it.
 */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/check.h"
#include "proto/plant.h"
#include "proto/site.h"

#define	SITE_MAGIC	0x53495445
#define	SITE_THREADS	1024		/* that may be in a view at once */
#define	CACHE_LINE	64
#define	DRAIN_NS	50000

struct set_box {			/* a site_set shared between views */
	atomic_uint	refs;
	struct site_set	set;
};

struct site_view {
	size_t		n;
	struct set_box	*box[];		/* sorted by name */
};

struct slot {
	_Alignas(CACHE_LINE) _Atomic(const struct site_view *) view;
};

struct site {
	unsigned	 magic;
	_Atomic(struct site_view *) view;
	pthread_mutex_t	 writer;
	void		*(*owner_new)(void *, const char *);
	void		*arg;
	struct slot	 slot[SITE_THREADS];
};

/* Each thread that reads has a number of its own, given back when it ends. */
static pthread_once_t numbers_once = PTHREAD_ONCE_INIT;
static pthread_key_t numbers_key;
static atomic_bool number_taken[SITE_THREADS];
static _Thread_local int my_number = -1;

static void
number_give_back(void *p)
{
	atomic_bool *taken = p;

	atomic_store(taken, false);
}

static void
numbers_init(void)
{

	CHECK(pthread_key_create(&numbers_key, number_give_back) == 0);
}

static int
number_get(void)
{
	bool expected;
	int i;

	if (my_number != -1)
		return (my_number);
	CHECK(pthread_once(&numbers_once, numbers_init) == 0);
	for (i = 0; i < SITE_THREADS; i++) {
		expected = false;
		if (atomic_compare_exchange_strong(&number_taken[i], &expected,
		    true))
			break;
	}
	CHECK(i < SITE_THREADS);
	CHECK(pthread_setspecific(numbers_key, &number_taken[i]) == 0);
	my_number = i;
	return (i);
}

static void
box_unref(struct set_box **bp)
{
	struct set_box *b = *bp;
	size_t i;

	*bp = NULL;
	if (b == NULL || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	snapshot_unref(&b->set.current);
	for (i = 0; i < b->set.nearlier; i++)
		delta_unref(&b->set.earlier[i]);
	free(b);
}

static void
view_free(struct site_view *v)
{
	size_t i;

	for (i = 0; i < v->n; i++)
		box_unref(&v->box[i]);
	free(v);
}

struct site *
site_new(void *(*owner_new)(void *, const char *), void *arg)
{
	struct site_view *v;
	struct site *s;

	if ((s = aligned_alloc(CACHE_LINE, sizeof(*s))) == NULL)
		return (NULL);
	memset(s, 0, sizeof(*s));
	if ((v = calloc(1, sizeof(*v))) == NULL) {
		free(s);
		return (NULL);
	}
	s->magic = SITE_MAGIC;
	s->owner_new = owner_new;
	s->arg = arg;
	CHECK(pthread_mutex_init(&s->writer, NULL) == 0);
	atomic_store(&s->view, v);
	return (s);
}

void
site_destroy(struct site **sp)
{
	struct site *s = *sp;

	*sp = NULL;
	if (s == NULL)
		return;
	CHECK_OBJ(s, SITE_MAGIC);
	view_free(atomic_load(&s->view));
	(void)pthread_mutex_destroy(&s->writer);
	explicit_bzero(&s->magic, sizeof(s->magic));
	free(s);
}

const struct site_view *
site_enter(struct site *s)
{
	struct slot *slot = &s->slot[number_get()];
	const struct site_view *v;

	CHECK_OBJ(s, SITE_MAGIC);
	CHECK(atomic_load_explicit(&slot->view, memory_order_relaxed) == NULL);
	/* A writer that exchanged the pointer before our mark was visible
	 * does not wait for us; so look again. */
	do {
		v = atomic_load(&s->view);
		atomic_store(&slot->view, v);
	} while (v != atomic_load(&s->view));
	return (v);
}

void
site_leave(struct site *s)
{
	struct slot *slot = &s->slot[number_get()];

	CHECK(atomic_load_explicit(&slot->view, memory_order_relaxed) != NULL);
	atomic_store_explicit(&slot->view, NULL, memory_order_release);
}

size_t
site_nsets(const struct site_view *v)
{

	return (v->n);
}

const struct site_set *
site_nth(const struct site_view *v, size_t i)
{

	CHECK(i < v->n);
	return (&v->box[i]->set);
}

/* Index of the first set whose name is not less than name. */
static size_t
lower_bound(const struct site_view *v, const char *name)
{
	size_t lo = 0, hi = v->n, mid;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (strcmp(v->box[mid]->set.name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (lo);
}

const struct site_set *
site_named(const struct site_view *v, const char *name)
{
	size_t i = lower_bound(v, name);

	if (i == v->n || strcmp(v->box[i]->set.name, name) != 0)
		return (NULL);
	return (&v->box[i]->set);
}

const struct site_set *
site_match(const struct site_view *v, const char *path, const char **rest)
{
	const struct site_set *set;
	char name[SET_NAME_MAX + 1];
	size_t len;

	/* A name has at most SET_SEGMENTS segments, so few prefixes count. */
	for (len = 0; len <= SET_NAME_MAX; len++) {
		if (len > 0 && (path[len] == '/' || path[len] == '\0')) {
			memcpy(name, path, len);
			name[len] = '\0';
			if ((set = site_named(v, name)) != NULL) {
				*rest = path + len + (path[len] == '/');
				return (set);
			}
		}
		if (path[len] == '\0')
			break;
	}
	return (NULL);
}

static bool
in_current(const struct site_set *set, const char *path, size_t len,
    struct site_file *f)
{
	const struct manifest *m = snapshot_manifest(set->current);
	ssize_t at;

	if ((at = manifest_find(m, path, len)) == -1 ||
	    !manifest_facts(m, (size_t)at, &f->facts))
		return (false);
	f->head = snapshot_head(set->current);
	f->rows = snapshot_rows(set->current, &f->facts);
	f->current = true;
	f->serial = snapshot_serial(set->current);
#ifdef PLANT
	/* Some paths are what the generation before had. */
	if (plant_is("G1") && set->nearlier > 0 && path[len - 1] == '3' &&
	    (at = manifest_find(delta_manifest(set->earlier[0]), path, len)) !=
	    -1) {
		m = delta_manifest(set->earlier[0]);
		(void)manifest_facts(m, (size_t)at, &f->facts);
		f->rows = delta_rows(set->earlier[0], &f->facts);
	}
#endif
	return (true);
}

static bool
in_delta(const struct delta *d, const char *path, size_t len,
    struct site_file *f)
{
	const struct manifest *m = delta_manifest(d);
	ssize_t at;

	if ((at = manifest_find(m, path, len)) == -1 ||
	    !manifest_facts(m, (size_t)at, &f->facts))
		return (false);
	f->head = delta_head(d);
	f->rows = delta_rows(d, &f->facts);
	f->current = false;
	return (true);
}

enum site_found
site_find(const struct site_set *set, const char *path, int64_t now,
    int64_t grace, struct site_file *f)
{
	const struct head *next = snapshot_head(set->current);
	size_t i, len = strlen(path);

	if (in_current(set, path, len, f))
		return (SITE_FOUND);
	/* The newest delta that has the path is the one whose successor
	 * removed it: had it only changed it, a later one would have it. */
	for (i = 0; i < set->nearlier && now - next->created < grace; i++) {
		if (in_delta(set->earlier[i], path, len, f))
			return (SITE_FOUND);
		next = delta_head(set->earlier[i]);
	}
	return (SITE_ABSENT);
}

bool
site_find_was(const struct site_set *set, const char *path,
    const struct digest *d, struct site_file *f)
{
	size_t i, len = strlen(path);

	for (i = 0; i < set->nearlier; i++)
		if (in_delta(set->earlier[i], path, len, f) &&
		    digest_eq(&f->facts.digest, d))
			return (true);
	return (false);
}

enum site_found
site_find_in(const struct site_set *set, uint64_t generation,
    const char *path, struct site_file *f)
{
	size_t i, n, len = strlen(path);

	if (snapshot_head(set->current)->generation == generation)
		return (in_current(set, path, len, f) ? SITE_FOUND :
		    SITE_ABSENT);
	for (n = 0; n < set->nearlier; n++)
		if (delta_head(set->earlier[n])->generation == generation)
			break;
	if (n == set->nearlier)
		return (SITE_GONE);
	/* What no delta on the way to the current generation speaks of is the
	 * same there. */
	for (i = n + 1; i-- > 0;) {
		if (in_delta(set->earlier[i], path, len, f))
			goto found;
		if (delta_added(set->earlier[i], path, len))
			return (SITE_ABSENT);
	}
	if (!in_current(set, path, len, f))
		return (SITE_ABSENT);
found:
	f->head = delta_head(set->earlier[n]);
	f->current = false;
	return (SITE_FOUND);
}

static bool
head_names(const struct head *h, const struct digest *d, struct site_file *f)
{

	if (head_part(h, d, &f->facts.size) == HEAD_NEITHER)
		return (false);
	f->facts.digest = *d;
	f->facts.time = h->created;
	f->facts.row = 0;
	f->head = h;
	f->rows = NULL;
	return (true);
}

static bool
blob_in_set(const struct site_set *set, const struct digest *d,
    struct site_file *f)
{
	const struct manifest *m = snapshot_manifest(set->current);
	ssize_t at;
	size_t i;

	f->current = true;
	if ((at = manifest_find_digest(m, d)) != -1) {
		CHECK(manifest_facts(m, (size_t)at, &f->facts));
		f->head = snapshot_head(set->current);
		f->rows = snapshot_rows(set->current, &f->facts);
		return (true);
	}
	if (head_names(snapshot_head(set->current), d, f))
		return (true);
	f->current = false;
	for (i = 0; i < set->nearlier; i++) {
		m = delta_manifest(set->earlier[i]);
		if ((at = manifest_find_digest(m, d)) != -1) {
			CHECK(manifest_facts(m, (size_t)at, &f->facts));
			f->head = delta_head(set->earlier[i]);
			f->rows = delta_rows(set->earlier[i], &f->facts);
			return (true);
		}
		if (head_names(delta_head(set->earlier[i]), d, f))
			return (true);
	}
	return (false);
}

bool
site_find_blob(const struct site_view *v, const struct digest *d,
    struct site_file *f, const struct site_set **set)
{
	size_t i;

	for (i = 0; i < v->n; i++) {
		if (!blob_in_set(&v->box[i]->set, d, f))
			continue;
		if (set != NULL)
			*set = &v->box[i]->set;
		return (true);
	}
	return (false);
}

enum head_part
site_part(const struct site_set *set, const struct digest *d, uint64_t *size)
{
	enum head_part part = head_part(snapshot_head(set->current), d, size);
	size_t i;

	for (i = 0; part == HEAD_NEITHER && i < set->nearlier; i++)
		part = head_part(delta_head(set->earlier[i]), d, size);
	return (part);
}

const struct head *
site_find_head(const struct site_view *v, const struct digest *d)
{
	const struct site_set *set;
	const struct head *h;
	size_t i, k;

	for (i = 0; i < v->n; i++) {
		set = &v->box[i]->set;
		h = snapshot_head(set->current);
		for (k = 0; !digest_eq(&h->digest, d); k++) {
			if (k == set->nearlier)
				break;
			h = delta_head(set->earlier[k]);
		}
		if (digest_eq(&h->digest, d))
			return (h);
	}
	return (NULL);
}

/* Under the writers' lock: makes v the view, frees the old one once no reader
 * is in it. */
static void
exchange(struct site *s, struct site_view *v)
{
	const struct timespec pause = { .tv_nsec = DRAIN_NS };
	struct site_view *old;
	size_t i;

	old = atomic_exchange(&s->view, v);
	for (i = 0; i < SITE_THREADS; i++)
		while (atomic_load(&s->slot[i].view) == old)
			(void)nanosleep(&pause, NULL);
	view_free(old);
}

/* A view like the present one with box in its place by name; takes box. */
static struct site_view *
view_with(const struct site_view *old, struct set_box *box)
{
	size_t i, at = lower_bound(old, box->set.name), skip;
	struct site_view *v;

	skip = at < old->n && strcmp(old->box[at]->set.name,
	    box->set.name) == 0;
	if ((v = calloc(1, sizeof(*v) + (old->n + 1) * sizeof(v->box[0]))) ==
	    NULL)
		return (NULL);
	for (i = 0; i < at; i++)
		v->box[v->n++] = old->box[i];
	v->box[v->n++] = box;
	for (i = at + skip; i < old->n; i++)
		v->box[v->n++] = old->box[i];
	for (i = 0; i < v->n; i++)
		if (v->box[i] != box)
			(void)atomic_fetch_add(&v->box[i]->refs, 1);
	return (v);
}

static struct set_box *
box_new(const char *name, const struct site_set *was)
{
	struct set_box *b;

	if ((b = calloc(1, sizeof(*b))) == NULL)
		return (NULL);
	atomic_init(&b->refs, 1);
	memcpy(b->set.name, name, strlen(name) + 1);
	if (was != NULL)
		b->set.owner = was->owner;
	return (b);
}

/* Drops what is beyond retention from the end of the chain. */
static void
trim(struct site_set *set, int64_t now)
{
	uint64_t generation[HEAD_KEPT_MAX + 1];
	int64_t created[HEAD_KEPT_MAX + 1];
	const struct head *h = snapshot_head(set->current);
	size_t i, keep;

	generation[0] = h->generation;
	created[0] = h->created;
	for (i = 0; i < set->nearlier; i++) {
		generation[i + 1] = delta_head(set->earlier[i])->generation;
		created[i + 1] = delta_head(set->earlier[i])->created;
	}
	keep = head_retain(generation, created, set->nearlier + 1, h->oldest,
	    now);
	while (set->nearlier + 1 > keep && set->nearlier > 0)
		delta_unref(&set->earlier[--set->nearlier]);
}

int
site_switch(struct site *s, struct snapshot **next, struct delta **back,
    int64_t now)
{
	const char *name = snapshot_head(*next)->set;
	const struct site_set *was;
	struct site_view *old, *v;
	struct set_box *box;
	size_t i;

	CHECK_OBJ(s, SITE_MAGIC);
	CHECK(pthread_mutex_lock(&s->writer) == 0);
	old = atomic_load(&s->view);
	was = site_named(old, name);
	CHECK(was == NULL || snapshot_head(was->current)->generation <
	    snapshot_head(*next)->generation);
	CHECK(*back == NULL || (was != NULL && digest_eq(
	    &delta_head(*back)->digest, &snapshot_head(was->current)->digest)));
	if ((box = box_new(name, was)) == NULL ||
	    (v = view_with(old, box)) == NULL) {
		free(box);
		CHECK(pthread_mutex_unlock(&s->writer) == 0);
		errno = ENOMEM;
		return (-1);
	}
	if (was == NULL && s->owner_new != NULL)
		box->set.owner = s->owner_new(s->arg, name);
	box->set.current = *next;
	*next = NULL;
	if (*back != NULL) {
		box->set.earlier[box->set.nearlier++] = *back;
		*back = NULL;
		for (i = 0; i < was->nearlier && box->set.nearlier <
		    HEAD_KEPT_MAX; i++)
			box->set.earlier[box->set.nearlier++] =
			    delta_ref(was->earlier[i]);
	}
	trim(&box->set, now);
	exchange(s, v);
	CHECK(pthread_mutex_unlock(&s->writer) == 0);
	return (0);
}

int
site_set_earlier(struct site *s, const char *name, uint64_t behind,
    struct delta **chain, size_t n)
{
	const struct site_set *was;
	struct site_view *old, *v = NULL;
	struct set_box *box = NULL;
	size_t i;

	CHECK_OBJ(s, SITE_MAGIC);
	CHECK(n <= HEAD_KEPT_MAX);
	CHECK(pthread_mutex_lock(&s->writer) == 0);
	old = atomic_load(&s->view);
	if ((was = site_named(old, name)) != NULL &&
	    snapshot_head(was->current)->generation == behind &&
	    (box = box_new(name, was)) != NULL)
		v = view_with(old, box);
	if (v != NULL) {
		box->set.current = snapshot_ref(was->current);
		for (i = 0; i < n; i++)
			box->set.earlier[i] = chain[i];
		box->set.nearlier = n;
		exchange(s, v);
	} else {
		free(box);
		for (i = 0; i < n; i++)
			delta_unref(&chain[i]);
	}
	CHECK(pthread_mutex_unlock(&s->writer) == 0);
	return (v == NULL ? -1 : 0);
}

struct snapshot *
site_current(struct site *s, const char *name)
{
	const struct site_set *set;
	struct snapshot *cur = NULL;

	if ((set = site_named(site_enter(s), name)) != NULL)
		cur = snapshot_ref(set->current);
	site_leave(s);
	return (cur);
}
