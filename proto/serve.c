/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The address space that master and edge share: from a request to the answer.
 * Called by httpd.c on its worker threads, and again for one request after each
 * wait; nothing but "asked once" is kept in between, so what is answered is
 * what is found in the last call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/clock.h"
#include "proto/log.h"
#include "proto/metrics.h"
#include "proto/route.h"
#include "proto/serve.h"

#define	ALLOW		"GET, HEAD, OPTIONS"
#define	TYPE_FILE	"application/octet-stream"
#define	TYPE_JSON	"application/json"
#define	RETRY_S		10		/* of 503 */

enum outcome {
	OUT_REPLY,		/* answer, and body if it has one */
	OUT_UNKNOWN,		/* answer is 404; news might know better */
	OUT_WAIT		/* httpd_wait() was called */
};

/* What one look at the site came to; acted upon once it was left.  The answer
 * is large, so nothing clears it. */
struct look {
	struct httpd_prepared	*made;		/* or else: */
	struct httpd_body	*body;
	struct answer		 answer;
};

/* What found the answer, for Cache-Status (RFC 9211). */
struct origin {
	const char	*set;		/* NULL: of no set */
	uint64_t	 generation;	/* 0: of none */
	bool		 stale;
};

static void
cache_status(struct answer *a, const char *how, const struct origin *o,
    bool collapsed)
{
	char key[SET_NAME_MAX + 32] = "";

	if (o->set != NULL && o->generation != 0)
		(void)snprintf(key, sizeof(key), "; key=\"%s@%llu\"", o->set,
		    (unsigned long long)o->generation);
	answer_header(a, "Cache-Status", "pkgcast%s%s%s%s", how, key,
	    collapsed ? "; collapsed" : "", o->stale ? "; detail=stale" : "");
}

/* An answer without a body that the site decided upon. */
static enum outcome
refuse(struct look *l, unsigned status, const struct origin *o)
{

	answer_status(&l->answer, status, status == 503 ? RETRY_S : 0);
	cache_status(&l->answer, "", o, false);
	return (status == 404 ? OUT_UNKNOWN : OUT_REPLY);
}

static void
reply(struct httpd_request *r, struct look *l)
{

	if (l->made != NULL)
		httpd_reply_prepared(r, &l->made);
	else
		httpd_reply(r, &l->answer, &l->body);
}

/* Whether the answer, once judged, is one that is made once for many. */
static bool
for_many(const struct serve *s, const struct serve_file *f,
    const struct answer *a)
{

	return (s->made != NULL && f->serial != 0 && a->length > 0 &&
	    (a->status == 200 || a->status == 304));
}

/*
 * The answer for a file, conditions and ranges included.  Its bytes are only
 * asked for where some are sent.
 */
static enum outcome
answer_with(struct serve *s, struct httpd_request *r, struct look *l,
    const struct answer_file *facts, const struct serve_file *f,
    const struct origin *o)
{
	struct serve_body got = { .hit = true };
	struct answer *a = &l->answer;
	bool many;

	answer_judge(a, httpd_method(r), httpd_fields(r), facts);
	many = for_many(s, f, a);
	if (many && (l->made = s->made(s->arg, f, a)) != NULL)
		return (OUT_REPLY);
	if (a->send_body && a->length > 0) {
		switch (s->file(s->arg, r, f, a, &got)) {
		case SERVE_BODY:
			break;
		case SERVE_WAITING:
			return (OUT_WAIT);
		case SERVE_NOT_HERE:
			return (refuse(l, 504, o));
		case SERVE_UNAVAILABLE:
			return (refuse(l, 503, o));
		}
		l->body = got.body;
	}
	answer_headers(a, facts);
	cache_status(a, got.hit ? "; hit" : "; fwd=miss", o, got.collapsed);
	if (many && got.hit && (a->send_body || a->status == 304))
		s->keep(s->arg, r, f, a);
	return (OUT_REPLY);
}

/* A path of a set, found in the generation that o names. */
static enum outcome
answer_path(struct serve *s, struct httpd_request *r, struct look *l,
    const struct site_file *found, const char *path, bool pinned,
    const struct origin *o)
{
	char etag[DIGEST_HEX + 1];
	struct answer_file facts = {
		.size = found->facts.size, .time = found->facts.time,
		.etag = digest_hex(&found->facts.digest, etag),
		.type = TYPE_FILE, .immutable = pinned,
	};
	struct serve_file f = {
		.digest = &found->facts.digest, .size = found->facts.size,
		.rows = found->rows, .set = o->set, .path = path,
		.generation = o->generation, .time = found->facts.time,
		.serial = found->current && !pinned && !o->stale ?
		    found->serial : 0,
	};

	return (answer_with(s, r, l, &facts, &f, o));
}

/* `/<set>/@N/<path>`: what never changes needs no lease. */
static enum outcome
look_pinned(struct serve *s, struct httpd_request *r, struct look *l,
    const struct site_set *set, uint64_t generation, const char *path)
{
	struct origin o = { .set = set->name, .generation = generation };
	struct site_file found;

	if (generation > HEAD_GENERATION_MAX)	/* '@', but no number */
		return (refuse(l, 404, &(struct origin){ .set = NULL }),
		    OUT_REPLY);
	switch (site_find_in(set, generation, path, &found)) {
	case SITE_FOUND:
		return (answer_path(s, r, l, &found, path, true, &o));
	case SITE_GONE:
		(void)refuse(l, 410, &o);
		/* One that is still to come here may be current elsewhere. */
		return (generation > snapshot_head(set->current)->generation ?
		    OUT_UNKNOWN : OUT_REPLY);
	case SITE_ABSENT:
		break;
	}
	(void)refuse(l, 404, &o);
	return (OUT_REPLY);
}

/*
 * A download that goes on after a switch: its If-Range names the digest of what
 * the path was.  Then it gets the rest of that, and not of another file.  What
 * is no part of it, such as the whole, is the current generation's to answer
 * (G2), and so are entry paths (G8).
 */
static void
find_resumed(struct httpd_request *r, const struct site_set *set,
    const char *path, struct site_file *found, struct answer *scratch)
{
	const struct http_fields *q = httpd_fields(r);
	char etag[DIGEST_HEX + 1];
	const char *s = q->if_range;
	struct answer_file facts = { .etag = etag };
	struct site_file was;
	struct digest d;

	if (q->range == NULL || s == NULL || strlen(s) != DIGEST_HEX + 2 ||
	    s[0] != '"' || s[DIGEST_HEX + 1] != '"' ||
	    digest_parse(&d, s + 1, DIGEST_HEX) == -1 ||
	    digest_eq(&d, &found->facts.digest) ||
	    head_is_entry(snapshot_head(set->current), path) ||
	    !site_find_was(set, path, &d, &was))
		return;
	(void)digest_hex(&d, etag);
	facts.size = was.facts.size;
	facts.time = was.facts.time;
	answer_judge(scratch, httpd_method(r), q, &facts);
	if (scratch->status == 206 || scratch->status == 416)
		*found = was;
}

static enum outcome
look_path(struct serve *s, struct httpd_request *r, struct look *l,
    const struct site_view *view, const char *path)
{
	struct origin o = { .set = NULL };
	const struct site_set *set;
	struct site_file found;
	uint64_t generation;
	const char *rest;
	enum serve_lease lease;
	size_t len;

	if ((set = site_match(view, path, &rest)) != NULL) {
		o.set = set->name;
		o.generation = snapshot_head(set->current)->generation;
		if ((generation = route_generation(&rest)) != 0)
			return (look_pinned(s, r, l, set, generation, rest));
	}
	/* After the view was entered: a lease that holds now held when what is
	 * answered was current. */
	lease = s->lease(s->arg, set);
	if (lease == SERVE_REFUSE)
		return (refuse(l, 503, &o));
	o.stale = lease == SERVE_STALE;
	if (set == NULL)
		return (refuse(l, 404, &o));
	len = strlen(rest);
	if (len == 0 || rest[len - 1] == '/')	/* a folder, if anything */
		return (refuse(l, 404, &o), OUT_REPLY);
	if (site_find(set, rest, clock_real(), s->grace, &found) != SITE_FOUND)
		return (refuse(l, 404, &o));
	find_resumed(r, set, rest, &found, &l->answer);
	o.generation = found.head->generation;
	return (answer_path(s, r, l, &found, rest, false, &o));
}

static void
get_path(struct serve *s, struct httpd_request *r, const char *path)
{
	struct look l;
	enum outcome out;
	unsigned *asked = httpd_note(r);

	l.made = NULL;
	l.body = NULL;
	out = look_path(s, r, &l, site_enter(s->site), path);
	site_leave(s->site);
	if (out == OUT_UNKNOWN && s->unknown != NULL && *asked == 0) {
		*asked = 1;
		if (s->unknown(s->arg, r, path))
			return;
	}
	if (out != OUT_WAIT)
		reply(r, &l);
}

static void
end_wait(void *wait)
{
	struct coder_wait *w = wait;

	coder_wait_destroy(&w);
}

/* Whether the document can be coded with that dictionary: the same of the same
 * set's generations.  doc->set is "" for those that are kept. */
static bool
fits(const struct site_view *v, const struct site_prepared *doc,
    struct coder_want *w)
{
	const struct site_set *set;
	uint64_t size;
	size_t i;

	if (digest_eq(&w->digest, &w->dictionary))
		return (false);
	for (i = 0; i < site_nsets(v); i++) {
		set = site_nth(v, i);
		if ((strcmp(set->name, doc->set) == 0 ||
		    site_part(set, &w->digest, &size) == doc->part) &&
		    site_part(set, &w->dictionary, &w->dictionary_size) ==
		    doc->part)
			return (w->dictionary_size > 0);
	}
	return (false);
}

/* What the request takes the document as; asked for in its first call.  NULL: as
 * it is. */
static struct coder_wait *
ask_coded(struct serve *s, struct httpd_request *r, const struct site_view *v,
    const struct site_prepared *doc, const struct digest *digest)
{
	const struct http_fields *q = httpd_fields(r);
	struct coder_want want = { .digest = *digest, .size = doc->size };
	struct coder_wait *w = httpd_shared(r);
	unsigned *asked = httpd_note(r);
	enum coding coding;

	if (w != NULL || *asked != 0)
		return (w);
	*asked = 1;
	if (s->coder == NULL || doc->size == 0 || q->accept_encoding == NULL)
		return (NULL);
	coding = coding_choose(q->accept_encoding,
	    q->available_dictionary != NULL &&
	    coding_dictionary_parse(q->available_dictionary,
	    &want.dictionary) == 0 && fits(v, doc, &want));
	if (coding == CODING_NONE)
		return (NULL);
	want.has_dictionary = coding == CODING_DCZ;
	w = coder_ask(s->coder, &want, httpd_wake, r);
	httpd_set_shared(r, w, end_wait);
	return (w);
}

static enum outcome
answer_coded(struct httpd_request *r, struct look *l, struct coder_wait *w,
    const struct answer_file *plain, const struct origin *o)
{
	struct answer_file facts = *plain;
	struct answer *a = &l->answer;
	char etag[CODER_ETAG];

	facts.size = coder_length(w);
	facts.etag = coder_etag(w, etag);
	facts.coding = coding_name(coder_coding(w));
	answer_judge(a, httpd_method(r), httpd_fields(r), &facts);
	if (a->send_body && (l->body = coder_body(w)) == NULL)
		return (refuse(l, 503, o));
	answer_headers(a, &facts);
	cache_status(a, "; hit", o, false);
	return (OUT_REPLY);
}

/* A manifest or chunk table. */
static enum outcome
answer_document(struct serve *s, struct httpd_request *r, struct look *l,
    const struct site_view *view, const struct site_prepared *doc,
    struct answer_file *facts, const struct serve_file *f,
    const struct origin *o)
{
	struct coder_wait *w;

	facts->vary = CODING_VARY;
	if (s->coming != NULL && s->coming(s->arg, r, f->digest))
		return (OUT_WAIT);
	if ((w = ask_coded(s, r, view, doc, f->digest)) != NULL)
		switch (coder_state(w)) {
		case CODER_WAIT:
			httpd_wait(r);
			return (OUT_WAIT);
		case CODER_CODED:
			return (answer_coded(r, l, w, facts, o));
		case CODER_PLAIN:
			break;
		}
	return (answer_with(s, r, l, facts, f, o));
}

static enum outcome
look_blob(struct serve *s, struct httpd_request *r, struct look *l,
    const struct site_view *view, const struct digest *digest)
{
	struct origin o = { .set = NULL };
	struct site_prepared p = { .part = HEAD_NEITHER };
	struct site_file found;
	const struct site_set *set = NULL;
	char etag[DIGEST_HEX + 1];
	struct answer_file facts = {
		.time = -1, .etag = digest_hex(digest, etag),
		.type = TYPE_FILE, .immutable = true,
	};
	struct serve_file f = { .digest = digest, .set = "" };

	if (site_find_blob(view, digest, &found, &set)) {
		p.size = found.facts.size;
		f.rows = found.rows;
		if (found.head != NULL) {
			f.set = o.set = found.head->set;
			f.generation = o.generation = found.head->generation;
			p.part = head_part(found.head, digest, &p.size);
		}
	} else if (s->prepared == NULL || !s->prepared(s->arg, digest, &p))
		return (refuse(l, 404, &o), OUT_UNKNOWN);
	facts.size = f.size = p.size;
	return (p.part == HEAD_NEITHER ?
	    answer_with(s, r, l, &facts, &f, &o) :
	    answer_document(s, r, l, view, &p, &facts, &f, &o));
}

static void
get_blob(struct serve *s, struct httpd_request *r, const struct digest *digest)
{
	struct look l;
	enum outcome out;

	l.made = NULL;
	l.body = NULL;
	out = look_blob(s, r, &l, site_enter(s->site), digest);
	site_leave(s->site);
	if (out == OUT_UNKNOWN && s->unknown_blob != NULL &&
	    s->unknown_blob(s->arg, r, digest))
		return;
	if (out != OUT_WAIT)
		reply(r, &l);
}

/* Documents: small texts, made for the request. */

/* Answers with *p (malloc'd, taken over); NULL: 503. */
static void
reply_document(struct serve *s, struct httpd_request *r, char **p, size_t len,
    const struct answer_file *kind)
{
	struct answer_file facts = *kind;
	struct httpd_body *body = NULL;
	struct origin o = { .set = NULL };
	char etag[DIGEST_HEX + 1];
	struct digest d;
	struct answer a;

	if (*p == NULL || (body = httpd_body_mem(*p, len, free, *p)) == NULL) {
		free(*p);
		*p = NULL;
		httpd_reply_status(r, 503, RETRY_S);
		return;
	}
	facts.size = len;
	facts.time = -1;
	if (!facts.no_store) {
		digest_of(&d, *p, len);
		facts.etag = digest_hex(&d, etag);
	}
	*p = NULL;			/* the body's now */
	if (!facts.immutable && !facts.no_store)
		o.stale = s->lease(s->arg, NULL) != SERVE_FRESH;
	answer_file(&a, httpd_method(r), httpd_fields(r), &facts);
	cache_status(&a, "; hit", &o, false);
	httpd_reply(r, &a, &body);
}

static void
get_heads(struct serve *s, struct httpd_request *r)
{
	static const struct answer_file kind = { .type = TYPE_FILE };
	static struct log_limit limit;
	struct buf b = BUF_INIT(HEADS_MAX);
	const struct site_view *view;
	const struct head *head;
	size_t i, len = 0;
	char *p = NULL;

	view = site_enter(s->site);
	(void)buf_add(&b, "", 0);	/* no set: an empty document */
	for (i = 0; i < site_nsets(view); i++) {
		head = snapshot_head(site_nth(view, i)->current);
		(void)buf_add(&b, head->text, head->len);
	}
	site_leave(s->site);
	if (!b.failed)
		p = buf_take(&b, &len);
	else if (log_allowed(&limit, 1))
		log_err("answer heads: out of memory, or above %u bytes",
		    HEADS_MAX);
	buf_free(&b);
	reply_document(s, r, &p, len, &kind);
}

static void
get_head(struct serve *s, struct httpd_request *r, const struct digest *digest)
{
	static const struct answer_file kind = {
		.type = TYPE_FILE, .immutable = true
	};
	const struct head *head;
	size_t len = 0;
	char *p = NULL;

	head = site_find_head(site_enter(s->site), digest);
	if (head != NULL && (p = malloc(head->len + 1)) != NULL) {
		len = head->len;
		(void)memcpy(p, head->text, len);
	}
	site_leave(s->site);
	if (head == NULL)
		httpd_reply_status(r, 404, 0);
	else
		reply_document(s, r, &p, len, &kind);
}

static void
get_trust(struct serve *s, struct httpd_request *r)
{
	static const struct answer_file kind = { .type = TYPE_FILE };
	size_t len = 0;
	char *p = s->trust(s->arg, &len);

	reply_document(s, r, &p, len, &kind);
}

static void
get_status(struct serve *s, struct httpd_request *r)
{
	static const struct answer_file kind = {
		.type = TYPE_JSON, .no_store = true
	};
	size_t len = 0;
	char *p = s->status(s->arg, &len);

	reply_document(s, r, &p, len, &kind);
}

static void
get_metrics(struct serve *s, struct httpd_request *r)
{
	static const struct answer_file kind = {
		.type = METRICS_TYPE, .no_store = true
	};
	size_t len = 0;
	char *text = s->status(s->arg, &len), *p = metrics_of(&text, &len);

	reply_document(s, r, &p, len, &kind);
}

static bool
method_served(struct httpd_request *r)
{
	struct answer a;

	switch (httpd_method(r)) {
	case HTTP_GET:
	case HTTP_HEAD:
		return (true);
	case HTTP_OPTIONS:
		answer_status(&a, 204, 0);
		break;
	default:
		answer_status(&a, 405, 0);
		break;
	}
	answer_header(&a, "Allow", ALLOW);
	httpd_reply(r, &a, NULL);
	return (false);
}

void
serve_request(void *serve, struct httpd_request *r)
{
	struct serve *s = serve;
	const char *target = httpd_target(r);
	struct route route;
	struct answer bad;

	if (!method_served(r))
		return;
	route_parse(target, strlen(target), &route);
	switch (route.kind) {
	case ROUTE_PATH:
		if (s->elsewhere == NULL ||
		    !s->elsewhere(s->arg, r, route.path))
			get_path(s, r, route.path);
		return;
	case ROUTE_BLOB:
		get_blob(s, r, &route.digest);
		return;
	case ROUTE_HEADS:
		get_heads(s, r);
		return;
	case ROUTE_HEAD:
		get_head(s, r, &route.digest);
		return;
	case ROUTE_TRUST:
		get_trust(s, r);
		return;
	case ROUTE_STATUS:
		get_status(s, r);
		return;
	case ROUTE_METRICS:
		get_metrics(s, r);
		return;
	case ROUTE_BAD:
		answer_status(&bad, 400, 0);
		/* Others may take it for another path: no more of them. */
		answer_header(&bad, "Connection", "close");
		httpd_reply(r, &bad, NULL);
		return;
	case ROUTE_MIRRORS:
	case ROUTE_NONE:
		break;
	}
	httpd_reply_status(r, 404, 0);
}
