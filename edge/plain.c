/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Plain sets and what is known of their files: found by the set's name and the
 * address below it, kept in memory and in the records.  Called by HTTP threads,
 * transfer threads, fill's workers and poll threads.
 */
#include <sys/param.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "edge/plain_impl.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/log.h"
#include "proto/name.h"

#define	OBJECT_MAGIC	0x6f626a65u
#define	RECORDS		"plain.db"
#define	FIRST_MS	2000		/* that a request waits for the first poll */
#define	ABSENT_MAX	10000u		/* redirects and errors that are kept */
#define	FILES_MAX	(1u << 19)	/* files that are */
#define	CHANCES		16u		/* of those that were used meanwhile */
#define	TARGET_MAX	6144u		/* bytes of an address below a set */
#define	IDENTIFY_MAX	1000u		/* files that are polled, of a set */

struct plain_set *
plain_set_of(struct plains *p, const char *path, const char **rest)
{
	struct plain_set *s;

	for (s = p->set; s < p->set + p->n; s++) {
		if (strncmp(path, s->name, s->name_len) != 0)
			continue;
		*rest = path + s->name_len;
		if (**rest == '\0')
			return (s);
		if (*(*rest)++ == '/')
			return (s);
	}
	return (NULL);
}

static struct plain_stripe *
stripe_of(struct plains *p, uint64_t hash)
{

	return (&p->stripe[hash % PLAIN_STRIPES]);
}

static unsigned
bucket_of(uint64_t hash)
{

	return ((unsigned)(hash / PLAIN_STRIPES % PLAIN_BUCKETS));
}

pthread_mutex_t *
object_lock(struct object *o)
{

	CHECK_OBJ(o, OBJECT_MAGIC);
	return (o->lock);
}

static struct object *
object_new(struct plain_set *s, const char *key, uint64_t hash)
{
	struct object *o;

	if ((o = calloc(1, sizeof(*o))) == NULL ||
	    (o->key = strdup(key)) == NULL) {
		free(o);
		return (NULL);
	}
	o->magic = OBJECT_MAGIC;
	o->set = s;
	o->hash = hash;
	o->lock = &stripe_of(s->plains, hash)->lock;
	o->target = o->key + s->name_len + 1;
	return (o);
}

/* Locked. */
static struct object *
find_or_make(struct plain_set *s, const char *key, uint64_t hash)
{
	struct plain_stripe *t = stripe_of(s->plains, hash);
	struct object *o;

	LIST_FOREACH(o, &t->bucket[bucket_of(hash)], link)
		if (o->hash == hash && strcmp(o->key, key) == 0)
			return (o);
	if ((o = object_new(s, key, hash)) != NULL)
		LIST_INSERT_HEAD(&t->bucket[bucket_of(hash)], o, link);
	return (o);
}

struct object *
object_get(struct plain_set *s, const char *target)
{
	unsigned char out[crypto_shorthash_BYTES];
	char key[SET_NAME_MAX + TARGET_MAX + 2];
	struct plain_stripe *t;
	struct object *o;
	uint64_t hash;
	int len;

	len = snprintf(key, sizeof(key), "%s/%s", s->name, target);
	if (len < 0 || (size_t)len >= sizeof(key))
		return (NULL);
	(void)crypto_shorthash(out, (const unsigned char *)key, (size_t)len,
	    s->plains->seed);
	memcpy(&hash, out, sizeof(hash));
	t = stripe_of(s->plains, hash);
	(void)pthread_mutex_lock(&t->lock);
	if ((o = find_or_make(s, key, hash)) != NULL)
		o->refs++;
	(void)pthread_mutex_unlock(&t->lock);
	return (o);
}

struct object *
object_ref(struct object *o)
{

	(void)pthread_mutex_lock(object_lock(o));
	o->refs++;
	(void)pthread_mutex_unlock(object_lock(o));
	return (o);
}

void
object_put(struct object **op)
{
	struct object *o = *op;
	pthread_mutex_t *lock;
	bool last;

	*op = NULL;
	if (o == NULL)
		return;
	lock = object_lock(o);
	(void)pthread_mutex_lock(lock);
	CHECK(o->refs > 0);
	/* A version that is current holds a reference. */
	if ((last = --o->refs == 0)) {
		CHECK(o->current == NULL && o->running == NULL);
		LIST_REMOVE(o, link);
	}
	(void)pthread_mutex_unlock(lock);
	if (!last)
		return;
	free(o->key);
	explicit_bzero(&o->magic, sizeof(o->magic));
	free(o);
}

struct version *
object_version(struct object *o)
{
	struct version *v = NULL;

	(void)pthread_mutex_lock(object_lock(o));
	if (o->current != NULL)
		v = version_ref(o->current);
	(void)pthread_mutex_unlock(object_lock(o));
	return (v);
}

static struct known *
known_of(struct plains *p, const struct version *v)
{

	return (v->record.status == 200 ? &p->files : &p->absent);
}

/* It is current now (1), or is no more (-1).  The stripe is locked. */
static void
count(struct object *o, struct version *v, int n)
{
	struct plains *p = o->set->plains;
	struct known *k;

	if (v == NULL)
		return;
	k = known_of(p, v);
	atomic_fetch_add(&o->set->files, (uint64_t)(int64_t)n);
	(void)pthread_mutex_lock(&p->digests);
	if (n > 0)
		TAILQ_INSERT_TAIL(&k->list, v, age);
	else
		TAILQ_REMOVE(&k->list, v, age);
	k->n += (size_t)(ssize_t)n;
	(void)pthread_mutex_unlock(&p->digests);
}

/* Makes it current (NULL: nothing is); what was is the caller's to put, and v's
 * reference is taken.  The stripe is locked. */
static struct version *
replace(struct object *o, struct version *v)
{
	struct version *old = o->current;

	count(o, old, -1);
	count(o, v, 1);
	o->current = v;
	return (old);
}

/* The same if `only` is, or whatever is; or what is put is v. */
static struct version *
exchange_current(struct object *o, struct version *only, struct version *v)
{
	struct version *old = v;

	(void)pthread_mutex_lock(object_lock(o));
	if (only == NULL || o->current == only)
		old = replace(o, v);
	(void)pthread_mutex_unlock(object_lock(o));
	return (old);
}

/* Nothing is known any more, if that is current. */
static void
forget(struct object *o, struct version *v)
{
	struct version *old;

	if ((old = exchange_current(o, v, NULL)) == v)
		records_remove(o->set->plains->records, o->key);
	version_put(&old);
}

/* One that is to go, with a reference: the oldest that was not used since it was
 * last looked at.  NULL: there are not too many. */
static struct version *
excess(struct plains *p, struct known *k, size_t max)
{
	struct version *v = NULL;
	unsigned i;

	(void)pthread_mutex_lock(&p->digests);
	if (k->n > max) {
		v = TAILQ_FIRST(&k->list);
		for (i = 0; i < CHANCES && atomic_load(&v->used); i++) {
			atomic_store(&v->used, false);
			TAILQ_REMOVE(&k->list, v, age);
			TAILQ_INSERT_TAIL(&k->list, v, age);
			v = TAILQ_FIRST(&k->list);
		}
		(void)version_ref(v);
	}
	(void)pthread_mutex_unlock(&p->digests);
	return (v);
}

bool
object_install(struct object *o, struct version *v)
{
	struct plains *p = o->set->plains;
	struct known *k = known_of(p, v);
	struct version *old = NULL;
	bool newer;

	CHECK(v->keep);
	(void)pthread_mutex_lock(object_lock(o));
	newer = o->current != NULL &&
	    o->current->record.epoch > v->record.epoch;
	if (!newer)
		old = replace(o, version_ref(v));
	(void)pthread_mutex_unlock(object_lock(o));
	version_put(&old);
	while ((old = excess(p, k, k == &p->files ? FILES_MAX : ABSENT_MAX)) !=
	    NULL) {
		forget(old->object, old);
		version_put(&old);
	}
	return (!newer);
}

/* What is current, or what comes back when that is lost.  Locked. */
static struct version *
good(struct object *o)
{
	struct version *v = o->current;

	if (v != NULL && atomic_load(&v->state) != VERSION_STORED)
		v = v->before;
	return (v != NULL && atomic_load(&v->state) == VERSION_STORED ?
	    version_ref(v) : NULL);
}

void
version_begins(struct version *v)
{

	(void)pthread_mutex_lock(object_lock(v->object));
	v->before = good(v->object);
	atomic_store(&v->state, VERSION_FILLING);
	(void)pthread_mutex_unlock(object_lock(v->object));
}

void
version_stored(struct version *v)
{
	struct version *before;

	(void)pthread_mutex_lock(object_lock(v->object));
	atomic_store(&v->state, VERSION_STORED);
	before = v->before;
	v->before = NULL;
	(void)pthread_mutex_unlock(object_lock(v->object));
	version_put(&before);
}

/* What was before is known again.  False: there is no such. */
static bool
bring_back(struct object *o, struct version *v)
{
	struct version *old;
	bool back;

	(void)pthread_mutex_lock(object_lock(o));
	atomic_store(&v->state, VERSION_LOST);
	old = v->before;
	v->before = NULL;
	back = old != NULL && o->current == v &&
	    atomic_load(&old->state) == VERSION_STORED;
	if (back)
		old = replace(o, old);
	(void)pthread_mutex_unlock(object_lock(o));
	version_put(&old);
	return (back);
}

void
object_lost(struct object *o, struct version *v)
{

	/* What tells whether the set has changed is remembered. */
	if (!bring_back(o, v) && !plain_identifies(o->set, o->target))
		forget(o, v);
}

static unsigned
digest_bucket(const struct digest *d)
{
	unsigned h;

	memcpy(&h, d->b, sizeof(h));
	return (h % (PLAIN_STRIPES * PLAIN_BUCKETS));
}

/* It has that content. */
static void
name(struct version *v)
{
	struct plains *p = v->object->set->plains;

	if (v->record.status != 200)
		return;
	(void)pthread_mutex_lock(&p->digests);
	if (!v->is_named)
		LIST_INSERT_HEAD(&p->named[digest_bucket(&v->record.digest)],
		    v, named);
	v->is_named = true;
	(void)pthread_mutex_unlock(&p->digests);
}

void
version_keep(struct version *v)
{

	name(v);
	records_put(v->object->set->plains->records, &v->record);
}

void
version_unname(struct version *v)
{
	struct plains *p = v->object->set->plains;

	(void)pthread_mutex_lock(&p->digests);
	if (v->is_named)
		LIST_REMOVE(v, named);
	v->is_named = false;
	(void)pthread_mutex_unlock(&p->digests);
}

bool
plains_named(struct plains *p, const struct digest *d)
{
	const struct version *v;

	(void)pthread_mutex_lock(&p->digests);
	LIST_FOREACH(v, &p->named[digest_bucket(d)], named)
		if (digest_eq(&v->record.digest, d))
			break;
	(void)pthread_mutex_unlock(&p->digests);
	return (v != NULL);
}

/*
 * Durable before anybody can see what made it necessary: after a crash it is found
 * once more.
 */
void
plain_mark(struct plain_set *s, const char *why)
{
	uint64_t epoch = atomic_fetch_add(&s->epoch, 1) + 1;

	log_info("marked set=%s epoch=%llu reason=%s", s->name,
	    (unsigned long long)epoch, why);
	if (records_set_epoch(s->plains->records, s->name, epoch) == -1)
		log_err("mark of set=%s is not on disk: %s", s->name,
		    strerror(errno));
}

int
plains_mark(struct plains *p, const char *set, uint64_t *epoch)
{
	size_t i;

	for (i = 0; i < p->n; i++)
		if (strcmp(p->set[i].name, set) == 0) {
			plain_mark(&p->set[i], "by hand");
			*epoch = atomic_load(&p->set[i].epoch);
			return (0);
		}
	return (-1);
}

/* Locked. */
static bool
is_listed(const struct plain_set *s, const char *target)
{
	size_t i;

	for (i = 0; i < s->nidentify; i++)
		if (strcmp(s->identify[i], target) == 0)
			return (true);
	return (false);
}

bool
plain_identifies(struct plain_set *s, const char *target)
{
	bool found;

	if (!s->by_mark)
		return (false);
	(void)pthread_mutex_lock(&s->plains->lock);
	found = is_listed(s, target);
	(void)pthread_mutex_unlock(&s->plains->lock);
	return (found);
}

char *
plain_target(const char *path, const char *query)
{
	struct buf b = BUF_INIT(TARGET_MAX);
	char *target = NULL;
	size_t n;

	/* '+' is written so that nobody takes it for a blank. */
	(void)buf_add(&b, "", 0);
	while (*path != '\0') {
		n = strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		    "abcdefghijklmnopqrstuvwxyz0123456789-._~/!$&'()*,;=:@");
		(void)buf_add(&b, path, n);
		path += n;
		if (*path != '\0')
			(void)buf_addf(&b, "%%%02X", (unsigned char)*path++);
	}
	if (query != NULL)
		(void)buf_addf(&b, "?%s", query);
	if (!b.failed)
		target = buf_take(&b, NULL);
	buf_free(&b);
	return (target);
}

/* Adds to the list; -1: no memory.  Locked. */
static int
add_identify(struct plain_set *s, const char *target)
{
	char **grown;

	if ((grown = reallocarray(s->identify, s->nidentify + 1,
	    sizeof(*grown))) == NULL)
		return (-1);
	s->identify = grown;
	if ((s->identify[s->nidentify] = strdup(target)) == NULL)
		return (-1);
	s->nidentify++;
	return (0);
}

void
plain_identify(struct plain_set *s, const char *target)
{

	if (!s->by_mark)
		return;
	(void)pthread_mutex_lock(&s->plains->lock);
	if (s->nidentify < IDENTIFY_MAX && !is_listed(s, target))
		(void)add_identify(s, target);
	(void)pthread_mutex_unlock(&s->plains->lock);
}

/* The daemon's settings, with a set's addresses instead of the upstreams. */
static int
upstreams_of(const struct edge_conf *c, const struct config_list *urls,
    struct edge_conf *out)
{
	size_t i;

	*out = *c;
	out->nupstream = urls->n;
	if ((out->upstream = calloc(urls->n, sizeof(*out->upstream))) == NULL)
		return (-1);
	for (i = 0; i < urls->n; i++) {
		out->upstream[i].url = urls->v[i];
		out->upstream[i].kind = UPSTREAM_STATIC;
	}
	return (0);
}

static int
set_init(struct plains *p, struct plain_set *s, const struct plain_conf *c)
{
	struct edge_conf conf;
	char *target;
	size_t i;
	int e;

	s->plains = p;
	s->name = c->name;
	s->name_len = strlen(c->name);
	s->urls = c->plain;
	s->poll_ms = (int64_t)c->poll * 1000;
	s->kind = kind_of((const char *const *)(void *)c->identify.v,
	    c->identify.n);
	if (c->kind != NULL)
		(void)kind_parse(&s->kind, c->kind);
	s->by_mark = c->freshness != NULL ? strcmp(c->freshness, "mark") == 0 :
	    s->kind != KIND_OTHER || c->identify.n > 0;
	atomic_store(&s->polled, !s->by_mark);
	s->identify_given = c->identify.n > 0;
	for (i = 0; i < c->identify.n; i++) {
		target = plain_target(c->identify.v[i], NULL);
		e = target == NULL ? -1 : add_identify(s, target);
		free(target);
		if (e == -1)
			return (-1);
	}
	if ((s->first = waiters_new(FIRST_MS)) == NULL ||
	    waiters_start(s->first) == -1 ||
	    upstreams_of(p->conf.edge, &s->urls, &conf) == -1)
		return (-1);
	s->upstreams = upstreams_new(&conf);
	free(conf.upstream);
	return (s->upstreams == NULL ? -1 : 0);
}

/* What is no more in the store, or of a set that there is no more, goes. */
static void
load(void *arg, struct record *r)
{
	struct plains *p = arg;
	struct object *o = NULL;
	struct version *v = NULL;
	const char *target;
	struct plain_set *s = plain_set_of(p, r->key, &target);
	bool there, tells;

	if (s != NULL) {
		there = r->status != 200 || blob_have(p->conf.store, &r->digest);
		if (!s->identify_given && kind_identifies(s->kind, target))
			plain_identify(s, target);
		tells = plain_identifies(s, target);
		if ((there || tells) && (o = object_get(s, target)) != NULL &&
		    (v = version_load(o, r)) != NULL) {
			if (!there)
				atomic_store(&v->state, VERSION_LOST);
			name(v);
			(void)object_install(o, v);
		}
	}
	if (v == NULL)
		records_remove(p->records, r->key);
	version_put(&v);
	object_put(&o);
}

static int
open_records(struct plains *p, struct parse_error *err)
{
	size_t i;

	if (asprintf(&p->path, "%s/%s", p->conf.edge->state, RECORDS) == -1) {
		p->path = NULL;
		(void)snprintf(err->reason, sizeof(err->reason),
		    "out of memory");
		return (-1);
	}
	if ((p->records = records_open(p->path, err)) == NULL)
		return (-1);
	for (i = 0; i < p->n; i++)
		atomic_store(&p->set[i].epoch,
		    records_epoch(p->records, p->set[i].name));
	if (records_each(p->records, load, p) == 0)
		return (0);
	(void)snprintf(err->reason, sizeof(err->reason),
	    "the records of plain sets cannot be read: %s", strerror(errno));
	return (-1);
}

struct plains *
plains_new(const struct plains_conf *c, struct parse_error *err)
{
	struct plains *p;
	size_t i;

	if ((p = calloc(1, sizeof(*p))) == NULL ||
	    (p->set = calloc(c->edge->nplain, sizeof(*p->set))) == NULL)
		goto fail;
	p->conf = *c;
	randombytes_buf(p->seed, sizeof(p->seed));
	TAILQ_INIT(&p->files.list);
	TAILQ_INIT(&p->absent.list);
	(void)pthread_mutex_init(&p->digests, NULL);
	(void)pthread_mutex_init(&p->lock, NULL);
	clock_cond_init(&p->poke);
	for (i = 0; i < PLAIN_STRIPES; i++)
		(void)pthread_mutex_init(&p->stripe[i].lock, NULL);
	for (; p->n < c->edge->nplain; p->n++)
		if (set_init(p, &p->set[p->n], &c->edge->plain[p->n]) == -1)
			goto fail;
	if (open_records(p, err) == 0)
		return (p);
	plains_destroy(&p);
	return (NULL);
fail:
	(void)snprintf(err->reason, sizeof(err->reason), "plain sets: %s",
	    strerror(errno));
	plains_destroy(&p);
	return (NULL);
}

int
plains_start(struct plains *p)
{

	return (plain_poll_start(p));
}

void
plains_configure(struct plains *p, const struct edge_conf *c)
{
	struct edge_conf conf;
	size_t i;

	for (i = 0; i < p->n; i++)
		if (upstreams_of(c, &p->set[i].urls, &conf) == 0) {
			(void)upstreams_configure(p->set[i].upstreams, &conf);
			free(conf.upstream);
		}
}

void
plains_stop(struct plains *p)
{
	size_t i;

	atomic_store(&p->stopping, true);
	plain_poll_stop(p);
	for (i = 0; i < p->n; i++)
		waiters_stop(p->set[i].first);
}

void
plains_stop_transfers(struct plains *p)
{
	size_t i;

	for (i = 0; i < p->n; i++)
		upstreams_stop(p->set[i].upstreams);
}

/* What is current goes, and with it all objects. */
static void
forget_all(struct plains *p)
{
	struct version *v;
	struct object *o;
	unsigned i, j;

	for (i = 0; i < PLAIN_STRIPES; i++)
		for (j = 0; j < PLAIN_BUCKETS; j++)
			while ((o = LIST_FIRST(&p->stripe[i].bucket[j])) !=
			    NULL) {
				v = exchange_current(o, NULL, NULL);
				CHECK(v != NULL);
				version_put(&v);
			}
}

void
plains_destroy(struct plains **pp)
{
	struct plains *p = *pp;
	struct plain_set *s;
	size_t i;

	*pp = NULL;
	if (p == NULL)
		return;
	if (p->set != NULL) {
		plains_stop(p);
		for (i = 0; i < p->conf.edge->nplain; i++)
			upstreams_destroy(&p->set[i].upstreams);
		forget_all(p);
		records_close(&p->records);
		for (i = 0; i < p->conf.edge->nplain; i++) {
			s = &p->set[i];
			if (s->first != NULL)	/* also half-made ones */
				waiters_stop(s->first);
			waiters_destroy(&s->first);
			while (s->nidentify > 0)
				free(s->identify[--s->nidentify]);
			free(s->identify);
		}
	}
	free(p->path);
	free(p->set);
	free(p);
}

size_t
plains_n(const struct plains *p)
{

	return (p == NULL ? 0 : p->n);
}

void
plains_stats(struct plains *p, size_t i, struct plain_stats *st)
{
	struct plain_set *s = &p->set[i];

	CHECK(i < p->n);
	*st = (struct plain_stats){
		.name = s->name, .kind = kind_word(s->kind), .by_mark = s->by_mark,
		.stale = plain_is_overdue(s), .epoch = atomic_load(&s->epoch),
		.polled_ms = atomic_load(&s->good_ms),
		.files = atomic_load(&s->files),
		.hits = atomic_load(&s->hits),
		.misses = atomic_load(&s->misses),
		.verified = atomic_load(&s->verified),
		.changed = atomic_load(&s->changed),
		.stale_answers = atomic_load(&s->stale),
		.passed = atomic_load(&s->passed),
		.upstreams = s->upstreams,
	};
}
