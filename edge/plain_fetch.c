/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exchanges: one question to the upstreams of a plain set, and what they answer, for
 * all who want to know at that moment.  Begun by HTTP threads and poll threads;
 * answers come in the transfer thread, ends of fills in a worker.
 */
#include <sys/param.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "edge/plain_impl.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	EXCHANGE_MAGIC	0x65786368u
#define	ASK_MAX		65536u		/* bytes of a request's fields */
/* Bytes of an answer's fields: clients' connections have 16 KiB for both heads. */
#define	ANSWER_HEAD	8192u
#define	SPOOL_MAX	(16u << 20)	/* bytes of a body without a length */
#define	SPOOLS_MAX	(256u << 20)	/* of all of them */
#define	ALONE_MS	60000		/* see struct object */
#define	DOWN_MS		10000		/* what may be stale is, so long */
#define	WARN_BURST	20

static struct log_limit warn_limit;

struct exchange {
	unsigned	 magic;
	atomic_uint	 refs;
	struct object	*object;
	char		*client;	/* the client's fields */
	char		*base;		/* of them, and Via, what is sent */
	struct fresh_request request;
	struct version	*old;		/* what was known, or NULL */
	uint64_t	 epoch;
	/* The transfer thread's, once it runs: */
	int64_t		 request_time;
	char		*ask;		/* base, with conditions */
	struct transfer_plain plain;
	bool		 whole;		/* no conditions any more */
	bool		 conditional;	/* this time */
	bool		 again;		/* the same upstream */
	bool		 answered;	/* somebody, be it with an error */
	uint64_t	 tried;
	struct version	*refusal;	/* 4xx of the last one that said so; */
	bool		 refused;	/* this one did */
	struct version	*found;		/* what done will be about */
	bool		 spools;	/* its body comes to `spool` */
	struct buf	 spool;
	size_t		 spooled;	/* of plains->spooled */
	pthread_mutex_t	 lock;		/* from here on */
	enum fetch_state state;
	struct version	*version;
	bool		 confirmed;
	struct fill	*hold;
	struct waiters	*waiters;
};

static void next(struct exchange *x);

static void
drop_spool(struct exchange *x)
{

	buf_free(&x->spool);
	x->spool = (struct buf)BUF_INIT(SPOOL_MAX);
	(void)atomic_fetch_sub(&x->object->set->plains->spooled, x->spooled);
	x->spooled = 0;
}

void
exchange_put(struct exchange **xp)
{
	struct exchange *x = *xp;

	*xp = NULL;
	if (x == NULL)
		return;
	CHECK_OBJ(x, EXCHANGE_MAGIC);
	if (atomic_fetch_sub(&x->refs, 1) != 1)
		return;
	fill_let_go(&x->hold);
	drop_spool(x);
	version_put(&x->old);
	version_put(&x->refusal);
	version_put(&x->found);
	version_put(&x->version);
	object_put(&x->object);
	waiters_destroy(&x->waiters);
	(void)pthread_mutex_destroy(&x->lock);
	free(x->client);
	free(x->base);
	free(x->ask);
	explicit_bzero(&x->magic, sizeof(x->magic));
	free(x);
}

/* A client's fields as an upstream gets them; malloc'd, or NULL. */
static char *
forwarded(const struct object *o, const char *fields)
{
	const char *name = o->set->plains->conf.name;
	struct buf b = BUF_INIT(ASK_MAX);
	char via[1024], *text;

	if ((text = fields_end_to_end_request(fields)) == NULL)
		return (NULL);
	(void)buf_adds(&b, text);
	free(text);
	text = NULL;
	if (fields_get(fields, "Via", via, sizeof(via)) != NULL)
		(void)buf_addf(&b, "Via: %s, 1.1 %s\n", via, name);
	else
		(void)buf_addf(&b, "Via: 1.1 %s\n", name);
	if (!b.failed)
		text = buf_take(&b, NULL);
	buf_free(&b);
	return (text);
}

static struct exchange *
exchange_new(struct object *o, const struct fetch_want *w)
{
	struct exchange *x;

	if ((x = calloc(1, sizeof(*x))) == NULL)
		return (NULL);
	x->magic = EXCHANGE_MAGIC;
	atomic_init(&x->refs, 1);
	(void)pthread_mutex_init(&x->lock, NULL);
	x->spool = (struct buf)BUF_INIT(SPOOL_MAX);
	x->object = object_ref(o);
	x->old = object_version(o);
	x->whole = w->whole;
	x->epoch = atomic_load(&o->set->epoch);
	x->request = w->request;
	if ((x->client = strdup(w->fields)) == NULL ||
	    (x->base = forwarded(o, w->fields)) == NULL ||
	    (x->waiters = waiters_new(0)) == NULL)
		exchange_put(&x);
	return (x);
}

/* The outcome; takes the version's reference. */
static void
finish(struct exchange *x, enum fetch_state state, struct version *v)
{
	struct object *o = x->object;

	if (v != NULL && v->keep && object_install(o, v) &&
	    atomic_load(&v->state) != VERSION_FILLING)
		version_keep(v);
	(void)pthread_mutex_lock(object_lock(o));
	if (o->running == x) {
		o->running = NULL;
		if (state == FETCH_ALONE)
			o->alone_ms = clock_boot_ms() + ALONE_MS;
	}
	(void)pthread_mutex_unlock(object_lock(o));
	(void)pthread_mutex_lock(&x->lock);
	CHECK(x->state == FETCH_RUNNING);
	x->state = state;
	x->version = v;
	(void)pthread_mutex_unlock(&x->lock);
	waiters_wake(x->waiters);
}

static void
finish_with(struct exchange *x, struct version *v)
{

	finish(x, v->keep ? FETCH_DONE : FETCH_ALONE, v);
}

/* Its content is of that digest now: another one than before marks the set. */
static void
learn_digest(struct version *v, const struct digest *d)
{

	if (v->compares && !digest_eq(&v->was, d))
		plain_mark(v->object->set, v->object->target);
	v->record.digest = *d;
}

/* The end of a fill: where the bytes are now. */
static void
on_filled(void *arg, const struct digest *content)
{
	struct version *v = arg, *current;
	struct object *o = v->object;

	if (content == NULL)
		object_lost(o, v);
	else {
		learn_digest(v, content);
		version_stored(v);
		if ((current = object_version(o)) == v)
			version_keep(v);
		version_put(&current);
	}
	version_put(&v);
}

/* The request's fields.  -1: no memory. */
static int
make_ask(struct exchange *x)
{
	struct buf b = BUF_INIT(ASK_MAX);

	free(x->ask);
	x->ask = NULL;
	x->conditional = false;
	(void)buf_adds(&b, x->base);
	if (!x->whole && x->old != NULL && !x->request.authorization &&
	    atomic_load(&x->old->state) == VERSION_STORED &&
	    version_fits(x->old, x->client))
		x->conditional = version_ask(x->old, &b);
	if (!b.failed)
		x->ask = buf_take(&b, NULL);
	buf_free(&b);
	return (x->ask == NULL ? -1 : 0);
}

static bool
has(const char *fields, const char *name)
{
	struct field f;

	return (fields_single(fields, name, &f) != 0);
}

/* Whether a version may be kept for others. */
static bool
may_keep(const struct exchange *x, const struct version *v, bool by_close)
{
	const struct object *o = x->object;
	const struct fresh_response *f = &v->fresh;
	char type[256];

	if (by_close || x->request.authorization || x->request.no_store ||
	    f->vary_any)
		return (false);
	if (f->status == 200 && kind_package(o->set->kind, o->target) &&
	    fields_get(v->record.fields, "Content-Type", type,
	    sizeof(type)) != NULL && strncasecmp(type, "text/html", 9) == 0)
		return (false);
	if (!o->set->by_mark)
		return (fresh_storable(f, &x->request) &&
		    !has(v->record.fields, "Set-Cookie"));
	/* There the mark says how long: max-age, private and the like are what
	 * servers send with files that never change.  But not to somebody whom
	 * they know. */
	if (f->private && has(x->client, "Cookie"))
		return (false);
	return (!f->no_store && (f->status == 200 || f->status == 404 ||
	    f->status == 410 || (f->status > 300 && f->status < 309)));
}

static struct version *
version_of(struct exchange *x, unsigned status, const char *fields,
    bool by_close)
{
	struct version_source s = { .status = status, .fields = fields,
	    .request_time = x->request_time, .response_time = clock_real(),
	    .epoch = x->epoch };
	char value[VARY_MAX], *vary, *text = NULL;
	struct version *v;
	bool keep;

	vary = fresh_vary_key(version_vary(fields, value, sizeof(value)),
	    x->client);
	s.vary = vary;
	v = version_new(x->object, &s);
	keep = v != NULL && vary != NULL && may_keep(x, v, by_close);
	if (keep && has(v->record.fields, "Set-Cookie")) {
		version_put(&v);
		if ((s.fields = text = fields_without(fields, "Set-Cookie")) != NULL)
			v = version_new(x->object, &s);
	}
	if (v != NULL)
		v->keep = keep;
	free(text);
	free(vary);
	return (v);
}

/*
 * An identification file that is another one than before marks the set, before
 * anybody can see it.
 */
static void
look_for_change(struct exchange *x, struct version *v, bool sized)
{
	struct object *o = x->object;
	struct plain_set *s = o->set;

	if (!s->by_mark || !v->keep)
		return;
	if (!s->identify_given && kind_identifies(s->kind, o->target))
		plain_identify(s, o->target);
	if (x->old == NULL || x->old->record.status != 200 ||
	    !plain_identifies(s, o->target))
		return;
	v->compares = !version_differs(x->old, v, sized);
	v->was = x->old->record.digest;
	if (v->compares)
		return;
	plain_mark(s, o->target);
	/* It is as new as that, unless there was another. */
	if (atomic_load(&s->epoch) == x->epoch + 1)
		v->record.epoch++;
}

static enum transfer_more
begin_fill(struct exchange *x, struct transfer *t, struct version *v)
{
	struct object *o = x->object;
	char strong[FRESH_ETAG];
	struct fill_plain plain = {
		.upstreams = o->set->upstreams, .target = o->target,
		.fields = x->base, .keep = v->keep,
		.validator = fresh_strong(&v->fresh, strong),
		.done = on_filled, .arg = v,
	};
	struct fill_want want = { .size = v->record.size, .path = o->key,
	    .plain = &plain };

	/* A name that nobody can guess, and no file of an earlier start has. */
	randombytes_buf(v->fill.b, sizeof(v->fill.b));
	want.digest = v->fill;
	version_begins(v);
	(void)version_ref(v);		/* the fill's */
	if ((x->hold = fill_adopt(o->set->plains->conf.fills, &want, t)) ==
	    NULL) {
		(void)atomic_fetch_sub(&v->refs, 1);
		version_put(&v);
		return (TRANSFER_BROKEN);
	}
	finish_with(x, v);
	exchange_put(&x);		/* the transfer's, which is the fill's */
	return (TRANSFER_GO);
}

static enum transfer_more
take_body(struct exchange *x, struct transfer *t, struct transfer_head *h)
{
	struct version *v;

	if ((v = version_of(x, 200, h->fields, h->by_close)) == NULL)
		return (TRANSFER_BROKEN);
	v->record.size = h->has_length ? h->length : 0;
	look_for_change(x, v, h->has_length);
	if (x->conditional)
		atomic_fetch_add(&x->object->set->changed, 1);
	if (h->has_length)
		return (begin_fill(x, t, v));
	version_put(&x->found);
	x->found = v;
	x->spools = true;
	return (TRANSFER_GO);
}

static enum transfer_more
confirm(struct exchange *x, struct transfer_head *h)
{
	struct version_source s = { .status = 304,
	    .request_time = x->request_time, .response_time = clock_real(),
	    .epoch = x->epoch };
	struct fresh_response f;
	char *text;

	if (!x->conditional) {
		(void)snprintf(h->reason, sizeof(h->reason),
		    "304 that was not asked for");
		return (TRANSFER_WRONG);
	}
	fresh_parse(&f, 304, h->fields);
	version_put(&x->found);
	if (!fresh_confirms(&x->old->fresh, &f)) {
		x->whole = x->again = true;
		return (TRANSFER_ENOUGH);
	}
	if ((s.fields = text = fields_without(h->fields, "Set-Cookie")) != NULL)
		x->found = version_confirm(x->old, &s);
	free(text);
	if (x->found == NULL)
		return (TRANSFER_BROKEN);
	/* It may say that it is private from now on. */
	x->found->keep = may_keep(x, x->found, false);
	if (strlen(x->found->record.fields) > ANSWER_HEAD) {
		version_put(&x->found);
		x->whole = x->again = true;
	}
	return (TRANSFER_ENOUGH);
}

/* Where Location leads, for the edge's clients: malloc'd, or NULL. */
static char *
relocate(const struct plain_set *s, const char *to)
{
	char *at = NULL;
	size_t i, n;

	for (i = 0; i < s->urls.n; i++) {
		n = strlen(s->urls.v[i]);
		if (strncmp(to, s->urls.v[i], n) == 0 && to[n] == '/')
			return (asprintf(&at, "/%s%s", s->name, to + n) == -1 ?
			    NULL : at);
	}
	return (strdup(to));
}

/* The fields with that Location instead; malloc'd, or NULL. */
static char *
with_location(const char *fields, const char *to)
{
	struct buf b = BUF_INIT(FIELDS_MAX);
	char *text;

	if ((text = fields_without(fields, "Location")) == NULL)
		return (NULL);
	(void)buf_adds(&b, text);
	free(text);
	(void)buf_addf(&b, "Location: %s\n", to);
	return (fields_done(&b));
}

static enum transfer_more
redirect(struct exchange *x, struct transfer_head *h)
{
	struct object *o = x->object;
	char value[2048], *to = NULL, *at = NULL, *fields = NULL;

	version_put(&x->found);
	if (fields_get(h->fields, "Location", value, sizeof(value)) != NULL)
		to = upstream_resolve(h->url, o->target, value);
	if (to != NULL)
		at = relocate(o->set, to);
	if (at != NULL && (fields = with_location(h->fields, at)) != NULL)
		x->found = version_of(x, h->status, fields, false);
	free(to);
	free(at);
	free(fields);
	if (x->found != NULL)
		return (TRANSFER_ENOUGH);
	(void)snprintf(h->reason, sizeof(h->reason), "redirect to nowhere");
	return (TRANSFER_WRONG);
}

static enum transfer_more
on_head(void *arg, struct transfer *t, struct transfer_head *h)
{
	struct exchange *x = arg;

	CHECK_OBJ(x, EXCHANGE_MAGIC);
	x->answered = true;
	if (strlen(h->fields) > ANSWER_HEAD) {
		(void)snprintf(h->reason, sizeof(h->reason),
		    "head longer than %u bytes", ANSWER_HEAD);
		return (TRANSFER_WRONG);
	}
	switch (h->status) {
	case 200:
		return (take_body(x, t, h));
	case 301: case 302: case 303: case 307: case 308:
		return (redirect(x, h));
	case 304:
		return (confirm(x, h));
	default:
		break;
	}
	/* Request Timeout and Too Many Requests pass by; 412 and 416 answer
	 * what was not asked. */
	if (h->status >= 400 && h->status < 500 && h->status != 408 &&
	    h->status != 412 && h->status != 416 && h->status != 429) {
		version_put(&x->refusal);	/* others may have it */
		x->refused = true;
		x->refusal = version_of(x, h->status, h->fields, false);
		return (x->refusal == NULL ? TRANSFER_BROKEN :
		    TRANSFER_ENOUGH);
	}
	(void)snprintf(h->reason, sizeof(h->reason), "status %u", h->status);
	return (TRANSFER_WRONG);
}

static enum transfer_more
on_data(void *arg, const void *p, size_t len)
{
	struct exchange *x = arg;

	CHECK_OBJ(x, EXCHANGE_MAGIC);
	CHECK(x->spools);
	x->spooled += len;
	if (atomic_fetch_add(&x->object->set->plains->spooled, len) + len >
	    SPOOLS_MAX)
		return (TRANSFER_BROKEN);
	return (buf_add(&x->spool, p, len) == -1 ? TRANSFER_BROKEN :
	    TRANSFER_GO);
}

/* A whole body in memory to the store.  -1: it is not there. */
static int
store_spool(struct exchange *x, const struct version *v)
{
	struct blob_store *s = x->object->set->plains->conf.store;
	const struct digest *d = &v->record.digest;
	bool fresh;
	int fd, ret = -1;

	if ((fd = blob_partial_open(s, d, v->record.size, &fresh)) == -1)
		return (errno == EEXIST ? 0 : -1);
	if (fd_pwrite_all(fd, x->spool.p, x->spool.len, 0) == 0)
		ret = blob_partial_commit(s, d, fd);
	if (ret == -1)
		blob_partial_close(s, d, false);
	fd_close(&fd);
	return (ret);
}

/* A body whose length nobody told has come to its end. */
static void
take_spool(struct exchange *x, struct version *v)
{
	bool shared = v->keep;
	struct digest d;

	if (buf_add(&x->spool, "", 0) == -1) {
		version_put(&v);
		finish(x, FETCH_FAILED, NULL);
		return;
	}
	v->record.size = x->spool.len;
	digest_of(&d, x->spool.p, x->spool.len);
	learn_digest(v, &d);
	v->keep = shared && store_spool(x, v) == 0;
	if (!v->keep) {
		v->bytes = (uint8_t *)buf_take(&x->spool, NULL);
		v->spooled = x->spooled;
		x->spooled = 0;
	}
	drop_spool(x);
	atomic_store(&v->state, v->keep ? VERSION_STORED : VERSION_MEMORY);
	finish(x, shared ? FETCH_DONE : FETCH_ALONE, v);
}

/* An answer that has come to its end. */
static void
take_found(struct exchange *x)
{
	struct version *v = x->found;

	x->found = NULL;
	if (x->spools) {
		take_spool(x, v);
		return;
	}
	(void)pthread_mutex_lock(&x->lock);
	x->confirmed = v->record.status == 200;
	(void)pthread_mutex_unlock(&x->lock);
	if (v->record.status == 200)
		atomic_fetch_add(&x->object->set->verified, 1);
	finish_with(x, v);
}

/* Everybody was asked. */
static void
give_up(struct exchange *x)
{
	struct version *v = x->refusal;

	x->refusal = NULL;
	/* One file's errors say nothing about the others. */
	if (!x->answered)
		atomic_store(&x->object->set->down_ms,
		    clock_boot_ms() + DOWN_MS);
	if (v == NULL)
		finish(x, FETCH_FAILED, NULL);
	else
		finish_with(x, v);
}

static void
log_fault(const struct exchange *x, const struct transfer_end *e)
{

	if (log_allowed(&warn_limit, WARN_BURST))
		log_warn("file=%s upstream=%s reason=%s", x->object->key,
		    e->url, e->reason);
}

/* What was there of the last answer. */
static void
clear(struct exchange *x)
{

	version_put(&x->found);
	x->spools = false;
	drop_spool(x);
}

static void
on_done(void *arg, const struct transfer_end *e)
{
	struct exchange *x = arg;

	CHECK_OBJ(x, EXCHANGE_MAGIC);
	switch (e->result) {
	case TRANSFER_DONE:
		if (x->found != NULL) {
			take_found(x);
			break;
		}
		if (!x->again)
			x->tried |= UINT64_C(1) << e->slot;
		next(x);
		return;
	case TRANSFER_FAULT:
	case TRANSFER_ABSENT:
		log_fault(x, e);
		clear(x);
		if (!e->silent)
			x->answered = true;
		if (x->refused)		/* that was no answer */
			version_put(&x->refusal);
		x->tried |= UINT64_C(1) << e->slot;
		next(x);
		return;
	case TRANSFER_STOPPED:
		clear(x);
		finish(x, FETCH_FAILED, NULL);
		break;
	case TRANSFER_NONE:
		give_up(x);
		break;
	}
	exchange_put(&x);
}

/* Asks the next upstream, with the transfer's reference. */
static void
next(struct exchange *x)
{
	struct transfer_want w = {
		.size = TRANSFER_UNKNOWN, .to = TRANSFER_UNKNOWN,
		.plain = &x->plain, .tried = x->tried,
		.data = on_data, .done = on_done, .arg = x,
	};

	x->again = x->refused = false;
	x->request_time = clock_real();
	if (make_ask(x) == 0) {
		x->plain = (struct transfer_plain){ .target = x->object->target,
		    .fields = x->ask, .head = on_head };
		if (transfer_start(x->object->set->upstreams, &w) != NULL)
			return;
	}
	finish(x, FETCH_FAILED, NULL);
	exchange_put(&x);
}

struct exchange *
exchange_get(struct object *o, const struct fetch_want *w, bool *joined)
{
	struct exchange *new, *x = NULL;
	bool alone;

	if ((new = exchange_new(o, w)) == NULL)
		return (NULL);
	/* What this one brings will be nobody else's anyway. */
	alone = w->alone || w->request.authorization || w->request.no_store;
	(void)pthread_mutex_lock(object_lock(o));
	if (!alone && clock_boot_ms() >= o->alone_ms) {
		/* What was asked before a mark is no answer to a question of
		 * after it. */
		if (o->running != NULL && o->running->epoch >= new->epoch) {
			x = o->running;
			atomic_fetch_add(&x->refs, 1);
		} else
			o->running = new;
	}
	(void)pthread_mutex_unlock(object_lock(o));
	if ((*joined = x != NULL)) {
		exchange_put(&new);
		return (x);
	}
	atomic_fetch_add(&new->refs, 1);	/* the transfer's */
	next(new);
	return (new);
}

enum fetch_state
exchange_look(struct exchange *x, struct waiter *w)
{
	enum fetch_state state;

	(void)pthread_mutex_lock(&x->lock);
	waiters_forget(x->waiters, w);	/* it may look without a wake */
	if ((state = x->state) == FETCH_RUNNING)
		waiters_add(x->waiters, w);
	(void)pthread_mutex_unlock(&x->lock);
	return (state);
}

void
exchange_forget(struct exchange *x, struct waiter *w)
{

	waiters_forget(x->waiters, w);
}

struct version *
exchange_version(struct exchange *x)
{
	struct version *v;

	(void)pthread_mutex_lock(&x->lock);
	CHECK(x->version != NULL);
	v = version_ref(x->version);
	(void)pthread_mutex_unlock(&x->lock);
	return (v);
}

bool
exchange_confirmed(struct exchange *x)
{
	bool is;

	(void)pthread_mutex_lock(&x->lock);
	is = x->confirmed;
	(void)pthread_mutex_unlock(&x->lock);
	return (is);
}

struct fill *
exchange_fill(struct exchange *x, const struct version *v)
{
	struct fill *fl;

	(void)pthread_mutex_lock(&x->lock);
	fl = x->version == v ? x->hold : NULL;
	(void)pthread_mutex_unlock(&x->lock);
	return (fl);
}
