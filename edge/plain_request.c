/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests for files of plain sets: whether what is known may be used, or an
 * upstream is to be asked, and the answer.  HTTP threads run it; nothing here waits:
 * a request that must is called again, and looks at everything anew but for what
 * its state holds.
 */
#include <sys/param.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "edge/plain_impl.h"
#include "proto/check.h"
#include "proto/clock.h"

#define	STATE_MAGIC	0x706c7374u
#define	RETRY_S		10		/* of 503 */
#define	REQUEST_MAX	65536u		/* bytes of a request's fields */
#define	FETCHES_MAX	3u		/* of one request */

/* Of one request between its calls. */
struct state {
	unsigned	 magic;
	struct plain_set *set;
	struct object	*object;
	struct fresh_request request;
	char		*fields;	/* the request's; NULL until asked for */
	struct exchange	*exchange;	/* or NULL */
	bool		 joined;	/* which others began */
	unsigned	 fetches;
	bool		 whole;		/* the stored bytes were of no use */
	struct version	*old;		/* was there when it began */
	bool		 old_may_do;	/* if nobody answers */
	struct version	*version;	/* what is answered with */
	const char	*how;		/* for Cache-Status */
	bool		 stale;
	bool		 waited;	/* for the first poll */
	struct waiter	 first, waiter;
	struct bytes	 bytes;
};

static void
state_release(void *p)
{
	struct state *st = p;

	CHECK_OBJ(st, STATE_MAGIC);
	waiters_forget(st->set->first, &st->first);
	if (st->exchange != NULL)
		exchange_forget(st->exchange, &st->waiter);
	bytes_release(&st->bytes);
	exchange_put(&st->exchange);
	version_put(&st->old);
	version_put(&st->version);
	object_put(&st->object);
	free(st->fields);
	explicit_bzero(&st->magic, sizeof(st->magic));
	free(st);
}

static struct state *
state_new(struct plain_set *s, struct httpd_request *r, const char *target)
{
	struct state *st;

	if ((st = calloc(1, sizeof(*st))) == NULL)
		return (NULL);
	st->magic = STATE_MAGIC;
	st->set = s;
	st->first.wake = st->waiter.wake = httpd_wake;
	st->first.arg = st->waiter.arg = r;
	if ((st->object = object_get(s, target)) == NULL) {
		free(st);
		return (NULL);
	}
	fresh_request_parse(&st->request, httpd_fields(r)->cache_control, NULL,
	    httpd_fields(r)->authorization != NULL);
	httpd_set_state(r, st, state_release);
	return (st);
}

static void
add_field(void *arg, const char *name, const char *value)
{

	(void)buf_addf(arg, "%s: %s\n", name, value);
}

/* NULL: no memory, or too long. */
static const char *
request_fields(struct state *st, struct httpd_request *r)
{
	struct buf b = BUF_INIT(REQUEST_MAX);

	if (st->fields != NULL)
		return (st->fields);
	(void)buf_add(&b, "", 0);
	httpd_each_field(r, add_field, &b);
	if (!b.failed)
		st->fields = buf_take(&b, NULL);
	buf_free(&b);
	return (st->fields);
}

/* Whether the request's fields are those that a version was chosen by. */
static bool
fits(struct state *st, struct httpd_request *r, const struct version *v)
{

	return (!v->varies || (request_fields(st, r) != NULL &&
	    version_fits(v, st->fields)));
}

static int64_t
age_of(const struct version *v)
{

	return (fresh_age(&v->fresh, v->record.request_time,
	    v->record.response_time, clock_real()));
}

/* The clock was put back since: nobody knows how old it is. */
static bool
from_the_future(const struct version *v)
{

	return (clock_real() < v->record.response_time);
}

enum use {
	USE_NOW,
	USE_STALE,			/* and say so */
	USE_VERIFIED,			/* ask; if nobody answers, as it is */
	USE_NEVER,			/* ask, and nothing else will do */
	USE_POLLED			/* when the first poll is over */
};

/* By the mark: until the set is, all is good. */
static enum use
use_by_mark(struct state *st, const struct version *v)
{
	struct plain_set *s = st->set;

	if (v->record.epoch != atomic_load(&s->epoch))
		return (v->record.status == 200 ? USE_VERIFIED : USE_NEVER);
	if (v->record.status != 200)
		return (!from_the_future(v) && clock_real() -
		    v->record.response_time < PLAIN_SHORT_S ? USE_NOW :
		    USE_NEVER);
	if (!atomic_load(&s->polled))
		return (st->waited ? USE_STALE : USE_POLLED);
	return (plain_is_overdue(s) ? USE_STALE : USE_NOW);
}

static enum use
use_of(struct state *st, struct httpd_request *r, const struct version *v)
{
	const struct fresh_request *q = &st->request;
	int64_t age;

	/* Not even a conditional question is about what others got. */
	if (q->authorization || !fits(st, r, v))
		return (USE_NEVER);
	if (v->record.status == 200) {
		switch (atomic_load(&v->state)) {
		case VERSION_LOST:
		case VERSION_MEMORY:
			return (USE_NEVER);
		default:
			break;
		}
		if (kind_immutable(st->set->kind, st->object->target))
			return (USE_NOW);
	}
	if (st->set->by_mark)
		return (use_by_mark(st, v));
	age = age_of(v);
	switch (from_the_future(v) ? FRESH_VERIFY :
	    fresh_use(&v->fresh, q, age)) {
	case FRESH_SERVE:
		return (USE_NOW);
	case FRESH_SERVE_STALE:
		return (USE_STALE);
	case FRESH_VERIFY:
		break;
	}
	return (v->record.status == 200 &&
	    fresh_may_be_stale(&v->fresh, q, age) ? USE_VERIFIED : USE_NEVER);
}

static void
choose(struct state *st, struct version *v, const char *how, bool stale)
{

	version_put(&st->version);
	st->version = v;
	st->how = how;
	st->stale = stale;
}

enum step {
	STEP_ANSWER,			/* by st->version */
	STEP_FETCH,
	STEP_WAIT,			/* httpd_wait() was called */
	STEP_FAILED			/* nobody has it now */
};

/* What is known. */
static enum step
look(struct state *st, struct httpd_request *r)
{
	struct version *v = object_version(st->object);
	enum use use;

	if (v == NULL)
		return (STEP_FETCH);
	use = use_of(st, r, v);
	/* When somebody was asked in vain a moment ago. */
	if (use == USE_VERIFIED &&
	    clock_boot_ms() < atomic_load(&st->set->down_ms))
		use = USE_STALE;
	switch (use) {
	case USE_NOW:
	case USE_STALE:
		if (!atomic_load_explicit(&v->used, memory_order_relaxed))
			atomic_store(&v->used, true);
		choose(st, v, "; hit", use == USE_STALE);
		return (STEP_ANSWER);
	case USE_POLLED:
		version_put(&v);
		st->waited = true;
		waiters_forget(st->set->first, &st->first);
		waiters_add(st->set->first, &st->first);
		if (atomic_load(&st->set->polled) ||
		    atomic_load(&st->set->plains->stopping))
			return (look(st, r));
		httpd_wait(r);
		return (STEP_WAIT);
	case USE_VERIFIED:
	case USE_NEVER:
		break;
	}
	version_put(&st->old);
	st->old = v;
	st->old_may_do = use == USE_VERIFIED;
	return (STEP_FETCH);
}

static enum step
fetch(struct state *st, struct httpd_request *r)
{
	struct fetch_want w = { .request = st->request,
		.whole = st->whole, .alone = st->fetches > 0,
	};

	if (st->fetches++ == FETCHES_MAX || (w.fields = request_fields(st,
	    r)) == NULL)
		return (STEP_FAILED);
	if (st->exchange != NULL)
		exchange_forget(st->exchange, &st->waiter);
	exchange_put(&st->exchange);
	st->exchange = exchange_get(st->object, &w, &st->joined);
	return (st->exchange == NULL ? STEP_FAILED : STEP_WAIT);
}

/* How a version was come by (RFC 9211). */
static const char *
how_of(const struct state *st)
{

	if (exchange_confirmed(st->exchange))
		return ("; fwd=stale; fwd-status=304");
	return (st->old == NULL ? "; fwd=miss" : "; fwd=stale");
}

/* What the exchange has come to. */
static enum step
look_fetched(struct state *st, struct httpd_request *r)
{
	struct version *v;

	switch (exchange_look(st->exchange, &st->waiter)) {
	case FETCH_RUNNING:
		httpd_wait(r);
		return (STEP_WAIT);
	case FETCH_ALONE:
		if (st->joined)
			return (STEP_FETCH);
		break;
	case FETCH_DONE:
		break;
	case FETCH_FAILED:
		return (STEP_FAILED);
	}
	v = exchange_version(st->exchange);
	if (st->joined && !fits(st, r, v)) {
		version_put(&v);
		return (STEP_FETCH);
	}
	choose(st, v, how_of(st), false);
	return (STEP_ANSWER);
}

static struct bytes *
place(void *arg, struct httpd_request *r)
{
	struct state *st = arg;

	(void)r;
	return (&st->bytes);
}

static void
version_release(void *arg)
{
	struct version *v = arg;

	version_put(&v);
}

/* The bytes of the answer. */
static enum serve_got
get_bytes(struct state *st, struct httpd_request *r, const struct answer *a,
    struct serve_body *out)
{
	struct version *v = st->version;
	struct fill_want w = { .size = v->record.size };
	struct bytes_user u = {
		.source = st->set->plains->conf.bytes, .place = place,
		.arg = st,
	};

	switch (atomic_load(&v->state)) {
	case VERSION_STORED:
		w.digest = v->record.digest;
		w.local = true;
		break;
	case VERSION_FILLING:
	case VERSION_LOST:
		/* What is not stored can be had from its fill, which may be over
		 * by now, by those who began it. */
		if (st->exchange != NULL)
			w.held = exchange_fill(st->exchange, v);
		if (w.held == NULL && atomic_load(&v->state) == VERSION_LOST)
			return (SERVE_UNAVAILABLE);
		w.digest = v->fill;
		w.join = true;
		break;
	case VERSION_MEMORY:
		out->body = httpd_body_mem(v->bytes, v->record.size,
		    version_release, version_ref(v));
		if (out->body == NULL)
			version_put(&v);
		return (out->body == NULL ? SERVE_UNAVAILABLE : SERVE_BODY);
	case VERSION_BARE:
		return (SERVE_UNAVAILABLE);
	}
	return (bytes_get(&u, st->bytes.source == NULL ? NULL : &st->bytes, r,
	    &w, a, out));
}

static void
cache_status(struct answer *a, const struct state *st, bool collapsed)
{

	answer_header(a, "Cache-Status", "pkgcast%s%s%s", st->how,
	    collapsed ? "; collapsed" : "", st->stale ? "; detail=stale" : "");
}

static void
count(struct state *st)
{
	struct plain_set *s = st->set;
	_Atomic uint64_t *n = &s->misses;

	if (st->stale)
		n = &s->stale;
	else if (strcmp(st->how, "; hit") == 0)
		n = &s->hits;
	else if (!st->version->keep)
		n = &s->passed;
	atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

/* Redirects and refusals: nothing but a head. */
static void
answer_bare(struct state *st, struct httpd_request *r)
{
	const struct version *v = st->version;
	struct answer a;

	answer_status(&a, v->record.status, 0);
	a.nheader = 0;			/* Cache-Control is the upstream's */
	answer_header(&a, "Age", "%lld", (long long)age_of(v));
	cache_status(&a, st, st->joined);
	a.fields = v->lean;
	count(st);
	httpd_reply(r, &a, NULL);
}

/*
 * The state of the bytes when they could not be had: whether they are elsewhere now,
 * or to be fetched.
 */
static enum step
look_for_bytes(struct state *st, enum version_state before)
{
	struct version *v = st->version;
	enum version_state now = atomic_load(&v->state);

	if (now == VERSION_STORED && now != before)
		return (STEP_ANSWER);
	if (now == VERSION_STORED) {
		if (blob_have(st->set->plains->conf.store, &v->record.digest))
			return (STEP_FAILED);
		object_lost(st->object, v);
	}
	version_put(&st->version);
	st->whole = true;
	return (STEP_FETCH);
}

/* Nobody has it now: what is there may do. */
static enum step
fall_back(struct state *st)
{
	enum version_state state;

	if (!st->old_may_do)
		return (STEP_FAILED);
	state = atomic_load(&st->old->state);
	if (state != VERSION_STORED && state != VERSION_FILLING)
		return (STEP_FAILED);
	st->old_may_do = false;		/* once */
	choose(st, version_ref(st->old), "; hit", true);
	return (STEP_ANSWER);
}

/* STEP_WAIT: also when it was answered. */
static enum step
answer(struct state *st, struct httpd_request *r)
{
	struct version *v = st->version;
	enum version_state before = atomic_load(&v->state);
	struct answer_file facts = {
		.size = v->record.size, .time = v->fresh.last_modified,
		.etag = v->etag,
		.weak_etag = !v->fresh.etag_strong,
		.weak_time = !fresh_strong_date(&v->fresh),
		.cache_control = "",
	};
	struct serve_body got = { .hit = true };
	struct answer a;

	if (v->record.status != 200) {
		answer_bare(st, r);
		return (STEP_WAIT);
	}
	answer_judge(&a, httpd_method(r), httpd_fields(r), &facts);
	if (a.send_body && a.length > 0)
		switch (get_bytes(st, r, &a, &got)) {
		case SERVE_BODY:
			break;
		case SERVE_WAITING:
			return (STEP_WAIT);
		case SERVE_UNAVAILABLE:
		case SERVE_NOT_HERE:
			return (look_for_bytes(st, before));
		}
	answer_headers(&a, &facts);
	answer_header(&a, "Age", "%lld", (long long)age_of(v));
	cache_status(&a, st, st->joined);
	if (a.status == 200 || a.status == 206 || a.status == 304)
		a.fields = a.status == 304 ? v->lean : v->fields;
	count(st);
	httpd_reply(r, &a, &got.body);
	return (STEP_WAIT);
}

static void
refuse(struct httpd_request *r, unsigned status)
{
	struct answer a;

	answer_status(&a, status, status == 503 ? RETRY_S : 0);
	answer_header(&a, "Cache-Status", "pkgcast");
	httpd_reply(r, &a, NULL);
}

static void
run(struct state *st, struct httpd_request *r)
{
	enum step step;

	if (st->version != NULL)
		step = STEP_ANSWER;
	else
		step = st->exchange != NULL ? look_fetched(st, r) : look(st, r);
	for (;;)
		switch (step) {
		case STEP_ANSWER:
			step = answer(st, r);
			break;
		case STEP_FETCH:
			if (bytes_only_if_cached(r)) {
				refuse(r, 504);
				return;
			}
			if ((step = fetch(st, r)) == STEP_WAIT)
				step = look_fetched(st, r);
			break;
		case STEP_WAIT:
			return;
		case STEP_FAILED:
			if ((step = fall_back(st)) == STEP_ANSWER)
				break;
			refuse(r, 503);
			return;
		}
}

/* A request's first call. */
static void
begin(struct plain_set *s, struct httpd_request *r, const char *path)
{
	char *target, *query = strchr(httpd_target(r), '?');
	struct state *st;

	target = plain_target(path, query == NULL ? NULL : query + 1);
	if (target == NULL)
		httpd_reply_status(r, 414, 0);
	else if ((st = state_new(s, r, target)) == NULL)
		httpd_reply_status(r, 503, RETRY_S);
	else
		run(st, r);
	free(target);
}

bool
plains_request(struct plains *p, struct httpd_request *r, const char *path)
{
	struct plain_set *s;
	const char *rest;
	size_t n;

	if ((s = plain_set_of(p, path, &rest)) == NULL)
		return (false);
	n = strlen(rest);
	if (n == 0 || rest[n - 1] == '/')	/* a folder: no listings */
		httpd_reply_status(r, 404, 0);
	else if (httpd_state(r) == NULL)
		begin(s, r, rest);
	else
		run(httpd_state(r), r);
	return (true);
}
