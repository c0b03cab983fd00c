/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an edge adds to the address space of proto/serve.c: a published file's bytes
 * (bytes.c), whether an answer is up to date, and what is done about paths that no
 * set has.  HTTP threads run it, inside a view of the site, so nothing here waits:
 * a request that must is called again.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "edge/memory.h"
#include "edge/serve.h"
#include "edge/status.h"
#include "proto/check.h"
#include "proto/clock.h"

#define	SERVE_MAGIC	0x65736572
#define	STATE_MAGIC	0x65737374
#define	UNSERVED_RETRY_S 5
#define	CURIOUS_MS	1000		/* for a blob that nothing names yet */
#define	VAIN_MS		5000		/* not again, when it did not come */

struct edge_serve {
	unsigned		 magic;
	struct edge_serve_conf	 conf;
	struct follow		*follow;
	struct coder		*coder;
	int64_t			 started_ms;
	_Atomic(struct httpd *)	 httpd;
	_Atomic(struct link *)	 link;
	atomic_bool		 refuse;
	_Atomic int64_t		 grace;
	_Atomic int64_t		 vain_ms;	/* see get_unknown_blob() */
};

/* Of one request between its calls. */
struct state {
	unsigned		 magic;
	struct edge_serve	*serve;
	struct bytes		 bytes;
	struct waiter		 waiter;	/* for a poll */
	struct waiter		 curious;	/* for news of a blob, since: */
	int64_t			 curious_ms;	/* 0: not yet */
	struct waiter		 coming;	/* for a manifest */
};

/* For the coder: from the store, without asking anybody. */
static char *
read_document(void *arg, const struct digest *d, uint64_t size)
{
	struct edge_serve *e = arg;
	struct blob *b;
	size_t len;
	char *p;

	CHECK_OBJ(e, SERVE_MAGIC);
	if ((b = blob_get(e->conf.bytes->store, d, size)) == NULL)
		return (NULL);
	p = blob_slurp(b, &len);
	blob_put(&b);
	return (p);
}

static bool
get_prepared(void *arg, const struct digest *d, struct site_prepared *p)
{
	struct edge_serve *e = arg;

	return (sync_prepared_blob(follow_sync(e->follow), d, p));
}

struct edge_serve *
edge_serve_new(const struct edge_serve_conf *c)
{
	struct coder_conf cc = { .site = c->site, .read = read_document,
	    .prepared = get_prepared };
	struct edge_serve *e;

	if ((e = calloc(1, sizeof(*e))) == NULL)
		return (NULL);
	e->magic = SERVE_MAGIC;
	e->conf = *c;
	cc.arg = e;
	if ((e->coder = coder_new(&cc)) == NULL) {
		edge_serve_destroy(&e);
		return (NULL);
	}
	e->started_ms = clock_boot_ms();
	atomic_store(&e->vain_ms, e->started_ms - VAIN_MS);
	edge_serve_configure(e, c->refuse, c->grace);
	return (e);
}

void
edge_serve_destroy(struct edge_serve **ep)
{
	struct edge_serve *e = *ep;

	*ep = NULL;
	if (e == NULL)
		return;
	CHECK_OBJ(e, SERVE_MAGIC);
	coder_destroy(&e->coder);
	explicit_bzero(&e->magic, sizeof(e->magic));
	free(e);
}

void
edge_serve_follow(struct edge_serve *e, struct follow *f)
{

	e->follow = f;
}

void
edge_serve_attach(struct edge_serve *e, struct httpd *h, struct link *l)
{

	atomic_store(&e->httpd, h);
	atomic_store(&e->link, l);
}

void
edge_serve_configure(struct edge_serve *e, bool refuse, uint64_t grace)
{

	atomic_store(&e->refuse, refuse);
	atomic_store(&e->grace, grace > INT64_MAX / 2 ? INT64_MAX / 2 :
	    (int64_t)grace);
}

static void
state_release(void *p)
{
	struct state *st = p;

	CHECK_OBJ(st, STATE_MAGIC);
	bytes_release(&st->bytes);
	follow_forget(st->serve->follow, &st->waiter);
	follow_await_not(st->serve->follow, &st->curious);
	sync_forget(follow_sync(st->serve->follow), &st->coming);
	explicit_bzero(&st->magic, sizeof(st->magic));
	free(st);
}

/* The request's state, made in its first call.  NULL: out of memory. */
static struct state *
state_get(struct edge_serve *e, struct httpd_request *r)
{
	struct state *st = httpd_state(r);

	if (st != NULL) {
		CHECK_OBJ(st, STATE_MAGIC);
		return (st);
	}
	if ((st = calloc(1, sizeof(*st))) == NULL)
		return (NULL);
	st->magic = STATE_MAGIC;
	st->serve = e;
	st->waiter.wake = st->curious.wake = st->coming.wake = httpd_wake;
	st->waiter.arg = st->curious.arg = st->coming.arg = r;
	httpd_set_state(r, st, state_release);
	return (st);
}

static struct bytes *
place_bytes(void *arg, struct httpd_request *r)
{
	struct state *st = state_get(arg, r);

	return (st == NULL ? NULL : &st->bytes);
}

static enum serve_got
get_file(void *arg, struct httpd_request *r, const struct serve_file *f,
    const struct answer *a, struct serve_body *out)
{
	struct edge_serve *e = arg;
	struct bytes_user u = {
		.source = e->conf.bytes, .place = place_bytes, .arg = e,
	};
	struct fill_want want = {
		.digest = *f->digest, .size = f->size, .rows = f->rows,
		.set = f->set[0] != '\0' ? f->set : NULL, .path = f->path,
	};
	struct state *st = httpd_state(r);

	return (bytes_get(&u, st == NULL ? NULL : &st->bytes, r, &want, a,
	    out));
}

static struct httpd_prepared *
get_made(void *arg, const struct serve_file *f, const struct answer *a)
{
	struct made_key key = { .serial = f->serial, .time = f->time,
	    .status = a->status };
	struct edge_serve *e = arg;
	struct httpd_prepared *p;

	p = memory_made(e->conf.bytes->store, f->digest, f->size, &key,
	    a->send_body);
	if (p != NULL && a->status == 200)
		bytes_hit(e->conf.bytes);
	return (p);
}

/* Where the file is in memory by now, and an answer like this one would be sent
 * from there at once. */
static void
keep_made(void *arg, struct httpd_request *r, const struct serve_file *f,
    const struct answer *a)
{
	struct made_key key = { .serial = f->serial, .time = f->time,
	    .status = a->status };
	struct edge_serve *e = arg;
	struct httpd_prepared *p;
	struct memory *m;

	if ((m = memory_get(e->conf.bytes->store, f->digest, f->size)) == NULL)
		return;
	p = a->send_body && !memory_at_once(m, 0, f->size) ? NULL :
	    httpd_prepare(r, a, memory_bytes(m), memory_unref, m);
	if (p == NULL) {
		memory_unref(m);
		return;
	}
	memory_keep(m, &key, p);
	httpd_prepared_unref(&p);
}

static bool
fresh(struct edge_serve *e, const struct site_set *set)
{
	struct lease_now now = lease_clock();

	if (e->conf.plain_only)
		return (true);
	return (leases_fresh(e->conf.leases, set != NULL ? set->owner : NULL,
	    now) && !sync_trust_expired(follow_sync(e->follow),
	    now.real / 1000));
}

static enum serve_lease
get_lease(void *arg, const struct site_set *set)
{
	struct edge_serve *e = arg;

	if (fresh(e, set))
		return (SERVE_FRESH);
	/* Nobody told us yet which sets there are: "not found" would be a
	 * guess. */
	if (set == NULL && !follow_heard(e->follow))
		return (SERVE_REFUSE);
	return (atomic_load(&e->refuse) ? SERVE_REFUSE : SERVE_STALE);
}

/* With a lease, what we know is all there is. */
static bool
get_unknown(void *arg, struct httpd_request *r, const char *path)
{
	struct edge_serve *e = arg;
	const struct site_set *set;
	const char *rest;
	struct state *st;
	bool is_fresh;

	if (sync_unserved(follow_sync(e->follow), path)) {
		httpd_reply_status(r, 503, UNSERVED_RETRY_S);
		return (true);
	}
	set = site_match(site_enter(e->conf.site), path, &rest);
	is_fresh = fresh(e, set);
	site_leave(e->conf.site);
	if (is_fresh || (st = state_get(e, r)) == NULL)
		return (false);
	if (!follow_ask(e->follow, &st->waiter))
		return (false);
	httpd_wait(r);
	return (true);
}

/*
 * An edge that fills from here may be ahead of this one by moments: that is
 * waited for, unless somebody has just waited in vain.  Or this one is cut off:
 * then its asking is the news, and a poll is worth it.
 */
static bool
get_unknown_blob(void *arg, struct httpd_request *r, const struct digest *d)
{
	struct edge_serve *e = arg;
	int64_t now = clock_boot_ms();
	struct state *st;
	bool waits;

	if (e->conf.plain_only || bytes_only_if_cached(r) ||
	    (st = state_get(e, r)) == NULL)
		return (false);
	/* It may be called again without a wake. */
	follow_await_not(e->follow, &st->curious);
	if (st->curious_ms != 0 && now - st->curious_ms >= CURIOUS_MS)
		atomic_store(&e->vain_ms, now);
	if (now - atomic_load(&e->vain_ms) < VAIN_MS)
		return (false);
	if (fresh(e, NULL))
		waits = follow_await(e->follow, &st->curious, d);
	else
		waits = st->curious_ms == 0 &&
		    follow_ask(e->follow, &st->waiter);
	if (st->curious_ms == 0)
		st->curious_ms = now;
	if (waits)
		httpd_wait(r);
	return (waits);
}

static char *
get_trust(void *arg, size_t *len)
{
	struct edge_serve *e = arg;

	return (trust_text(e->conf.trust, len));
}

/* One that the follow thread is fetching: it will be had from the store, and by a
 * fill only where that fails.  Siblings do not wait for each other. */
static bool
get_coming(void *arg, struct httpd_request *r, const struct digest *d)
{
	struct edge_serve *e = arg;
	struct state *st;

	if (!sync_is_coming(follow_sync(e->follow), d) ||
	    bytes_only_if_cached(r) || (st = state_get(e, r)) == NULL)
		return (false);
	if (!sync_await(follow_sync(e->follow), d, &st->coming))
		return (false);
	httpd_wait(r);
	return (true);
}

static bool
get_plain(void *arg, struct httpd_request *r, const char *path)
{
	struct edge_serve *e = arg;

	return (plains_request(e->conf.plains, r, path));
}

static char *
get_status(void *arg, size_t *len)
{
	struct edge_serve *e = arg;
	struct edge_status s = {
		.name = e->conf.name, .started_ms = e->started_ms,
		.site = e->conf.site, .trust = e->conf.trust,
		.store = e->conf.bytes->store, .fills = e->conf.bytes->fills,
		.upstreams = e->conf.upstreams, .plains = e->conf.plains,
		.leases = e->conf.leases,
		.follow = e->follow, .httpd = atomic_load(&e->httpd),
		.link = atomic_load(&e->link), .hits = atomic_load(&e->conf.bytes->hits),
		.misses = atomic_load(&e->conf.bytes->misses),
	};

	coder_stats(e->coder, &s.coded);
	return (edge_status_text(&s, len));
}

void
edge_serve_request(void *arg, struct httpd_request *r)
{
	struct edge_serve *e = arg;
	struct serve s = {
		.site = e->conf.site, .grace = atomic_load(&e->grace),
		.arg = e, .file = get_file, .made = get_made,
		.keep = keep_made, .lease = get_lease,
		.unknown = get_unknown, .trust = get_trust,
		.status = get_status, .prepared = get_prepared,
		.unknown_blob = get_unknown_blob,
		.coder = e->coder, .coming = get_coming,
	};

	CHECK_OBJ(e, SERVE_MAGIC);
	if (e->conf.plains != NULL)
		s.elsewhere = get_plain;
	serve_request(&s, r);
}

void
edge_serve_counters(void *arg, struct renew *r)
{
	struct edge_serve *e = arg;
	struct httpd *h = atomic_load(&e->httpd);
	struct httpd_stats http = { .requests = 0 };
	struct blob_stats blobs;
	struct fills_stats fills;

	if (h != NULL)
		httpd_stats(h, &http);
	blob_store_stats(e->conf.bytes->store, &blobs);
	fills_stats(e->conf.bytes->fills, &fills);
	r->counters.requests = http.requests;
	r->counters.hits = atomic_load(&e->conf.bytes->hits);
	r->counters.misses = atomic_load(&e->conf.bytes->misses);
	r->counters.fills = fills.done;
	r->counters.fill_bytes = edge_status_fill_bytes(e->conf.upstreams);
	r->counters.cache_bytes = blobs.bytes;
	r->counters.cache_max = blobs.max_bytes;
}
