/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The publish listener's HTTP side: from requests to pending.c and back.  It
 * is a server of its own, since it takes bodies.  Called by that server's
 * threads.
 */

#include <jansson.h>

#include <stdlib.h>
#include <string.h>

#include "master/pending.h"
#include "proto/check.h"
#include "proto/head.h"
#include "proto/route.h"

#define	PUBLISH_MAGIC	0x5075626cu
#define	UPLOAD_MAGIC	0x55706c64u
#define	PUBLISH_MEMORY	(64u << 10)	/* a connection; wiped each request */
#define	PUBLISH_IDLE_S	600		/* a client may digest in between */
#define	DRAIN_MAX	(1u << 20)	/* of a refused body: still read */
#define	MISSING_MAX	((size_t)MANIFEST_ENTRIES * (DIGEST_HEX + 1) + 1)

static const char prefix[] = "publish/";
static const char missing_suffix[] = "/missing";

struct publish {
	unsigned	 magic;
	struct pendings	*pendings;
};

/* A request with a body, between its calls. */
struct upload {
	unsigned	 magic;
	struct pending	*pending;	/* of PUT */
	struct digest	 digest;
	struct intake	*in;
	bool		 post;
	char		 set[SET_NAME_MAX + 1];	/* of POST */
	unsigned	 prepare_wait_s;
	struct buf	 head;		/* of POST */
	struct pending_answer answer;	/* before the body; status 0: none */
};

struct publish *
publish_new(const struct publish_conf *c, struct parse_error *err)
{
	struct publish *p;

	if ((p = calloc(1, sizeof(*p))) == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		return (NULL);
	}
	p->magic = PUBLISH_MAGIC;
	if ((p->pendings = pendings_new(c, err)) == NULL)
		publish_destroy(&p);
	return (p);
}

void
publish_destroy(struct publish **pp)
{
	struct publish *p = *pp;

	*pp = NULL;
	if (p == NULL)
		return;
	CHECK_OBJ(p, PUBLISH_MAGIC);
	pendings_destroy(&p->pendings);
	explicit_bzero(&p->magic, sizeof(p->magic));
	free(p);
}

bool
publish_prepared(struct publish *p, const struct digest *d,
    struct site_prepared *out)
{

	CHECK_OBJ(p, PUBLISH_MAGIC);
	return (pendings_prepared(p->pendings, d, out));
}

int
publish_list(struct publish *p, void *json_array)
{

	CHECK_OBJ(p, PUBLISH_MAGIC);
	return (pendings_list(p->pendings, json_array));
}

void
publish_tick(struct publish *p)
{

	CHECK_OBJ(p, PUBLISH_MAGIC);
	pendings_tick(p->pendings);
}

/* Answers with a text (NULL: none); unlike the public side this one says why
 * it refuses, since an operator's command reads it. */
static void
reply(struct httpd_request *r, struct answer *a, const char *type,
    const char *text, size_t len)
{
	struct httpd_body *body = NULL;

	if (a->status < 400)
		answer_header(a, "Cache-Control", "no-store");
	if (len > 0 && (body = httpd_body_copy(text, len)) == NULL) {
		httpd_reply_status(r, 503, 1);
		return;
	}
	answer_header(a, "Content-Type", "%s", type);
	a->length = len;
	a->send_body = len > 0 && httpd_method(r) != HTTP_HEAD;
	httpd_reply(r, a, &body);
}

static void
reply_line(struct httpd_request *r, struct answer *a, const char *line)
{
	struct buf b = BUF_INIT(sizeof(struct parse_error) + HEAD_MAX);

	(void)buf_addf(&b, "%s\n", line);
	reply(r, a, "text/plain", b.p, b.len);
	buf_free(&b);
}

static void
refuse(struct httpd_request *r, unsigned status, const char *why)
{
	struct answer a;

	answer_status(&a, status, 0);
	if (status == 401)
		answer_header(&a, "WWW-Authenticate", "Bearer");
	if (status == 405)
		answer_header(&a, "Allow", "GET, HEAD, POST, PUT");
	reply_line(r, &a, why);
}

static void
reply_answer(struct httpd_request *r, const struct pending_answer *out)
{
	char hex[DIGEST_HEX + 1];
	struct answer a;

	answer_status(&a, out->status, out->status == 503 ? 1 : 0);
	if (out->status == 409 && out->has_current)
		answer_header(&a, "ETag", "\"%s\"",
		    digest_hex(&out->current, hex));
	if (out->status >= 400)
		reply_line(r, &a, out->err.reason);
	else if (out->token[0] != '\0')
		reply_line(r, &a, out->token);
	else
		reply(r, &a, "text/plain", NULL, 0);
}

static void
upload_release(void *arg)
{
	struct upload *u = arg;

	CHECK_OBJ(u, UPLOAD_MAGIC);
	store_abort(&u->in);
	pending_release(&u->pending);
	buf_free(&u->head);
	explicit_bzero(&u->magic, sizeof(u->magic));
	free(u);
}

static void
upload_refuse(struct upload *u, unsigned status, const char *why)
{

	u->answer.status = status;
	(void)parse_fail(&u->answer.err, 0, "%s", why);
}

/* The only query that there is.  -1: another. */
static int
parse_wait(const char *target, unsigned *wait_s)
{
	static const char name[] = "prepare-wait=";
	const char *q = strchr(target, '?');
	unsigned long long v;

	*wait_s = PENDING_WAIT_S;
	if (q == NULL)
		return (0);
	if (strncmp(q + 1, name, strlen(name)) != 0)
		return (-1);
	q += 1 + strlen(name);
	if (parse_u64(q, strlen(q), PENDING_WAIT_MAX_S, &v) == -1)
		return (-1);
	*wait_s = (unsigned)v;
	return (0);
}

static void
begin_post(struct upload *u, struct httpd_request *r, const char *set)
{

	u->post = true;
	if (!set_name_ok(set, strlen(set))) {
		upload_refuse(u, 404, "the address is /publish/SET");
		return;
	}
	memcpy(u->set, set, strlen(set) + 1);
	if (parse_wait(httpd_target(r), &u->prepare_wait_s) == -1)
		upload_refuse(u, 400, "the only parameter is prepare-wait, "
		    "in seconds");
	else if (httpd_body_length(r) == 0 || httpd_body_length(r) > HEAD_MAX)
		upload_refuse(u, 422, "the body is not a head document");
}

/* path: <set>/<sha256> */
static void
begin_put(struct publish *p, struct upload *u, struct httpd_request *r,
    char *path)
{
	char *slash = strrchr(path, '/');

	if (slash == NULL || digest_parse(&u->digest, slash + 1,
	    strlen(slash + 1)) == -1) {
		upload_refuse(u, 404, "the address is /publish/SET/SHA256");
		return;
	}
	*slash = '\0';
	if ((u->pending = pending_find(p->pendings, path)) == NULL)
		upload_refuse(u, 404, "the set is not being published");
	else if (!pending_authorised(u->pending,
	    httpd_fields(r)->authorization))
		upload_refuse(u, 401, "the token is not that of the set's "
		    "publish: another one has begun");
	else
		pending_put_begin(u->pending, &u->digest,
		    httpd_body_length(r), &u->in, &u->answer);
}

/* A refused body is read to its end if it is short: a client that is cut off
 * while it sends would not see why. */
static void
upload_begin(struct publish *p, struct httpd_request *r, struct route *rt)
{
	char *rest = rt->path + strlen(prefix);
	struct upload *u;

	if ((u = calloc(1, sizeof(*u))) == NULL) {
		httpd_reply_status(r, 503, 1);
		return;
	}
	u->magic = UPLOAD_MAGIC;
	u->head = (struct buf)BUF_INIT(HEAD_MAX);
	httpd_set_state(r, u, upload_release);
	if (httpd_method(r) == HTTP_POST)
		begin_post(u, r, rest);
	else
		begin_put(p, u, r, rest);
	if (httpd_body_done(r))
		return;
	if (u->answer.status != 0 && httpd_body_length(r) > DRAIN_MAX)
		reply_answer(r, &u->answer);
	else
		httpd_accept_body(r);
}

static void
upload_end(struct publish *p, struct httpd_request *r, struct upload *u)
{

	if (u->answer.status == 0) {
		if (u->post)
			pending_post(p->pendings, u->set, u->head.p ==
			    NULL ? "" : u->head.p, u->head.len,
			    u->prepare_wait_s, &u->answer);
		else
			pending_put_end(u->pending, &u->digest, &u->in,
			    &u->answer);
	}
	reply_answer(r, &u->answer);
}

static void
get_state(struct publish *p, struct httpd_request *r, const char *set)
{
	struct answer a;
	json_t *o;
	char *text;

	if ((o = pending_json(p->pendings, set)) == NULL) {
		refuse(r, 404, "nothing is known of the set");
		return;
	}
	text = json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(o);
	if (text == NULL) {
		httpd_reply_status(r, 503, 1);
		return;
	}
	answer_status(&a, 200, 0);
	reply(r, &a, "application/json", text, strlen(text));
	free(text);
}

static void
get_missing(struct httpd_request *r, struct pending *p)
{
	struct buf b = BUF_INIT(MISSING_MAX);
	struct answer a;

	if (!pending_authorised(p, httpd_fields(r)->authorization)) {
		refuse(r, 401, "the token is not that of the set's publish: "
		    "another one has begun");
	} else if (pending_missing(p, &b) == -1) {
		httpd_reply_status(r, 503, 1);
	} else {
		answer_status(&a, 200, 0);
		reply(r, &a, "text/plain", b.p, b.len);
	}
	buf_free(&b);
}

/* path: <set> or <set>/missing; a set may be called so itself. */
static void
get(struct publish *p, struct httpd_request *r, char *path)
{
	size_t len = strlen(path), tail = strlen(missing_suffix);
	struct pending *pending;

	if (len > tail && strcmp(path + len - tail, missing_suffix) == 0) {
		path[len - tail] = '\0';
		if ((pending = pending_find(p->pendings, path)) != NULL) {
			get_missing(r, pending);
			pending_release(&pending);
			return;
		}
		path[len - tail] = '/';
	}
	if ((pending = pending_find(p->pendings, path)) != NULL &&
	    httpd_fields(r)->authorization != NULL &&
	    !pending_authorised(pending, httpd_fields(r)->authorization))
		refuse(r, 401, "the token is not that of the set's publish: "
		    "another one has begun");
	else
		get_state(p, r, path);
	pending_release(&pending);
}

static void
handle(void *arg, struct httpd_request *r)
{
	struct upload *u = httpd_state(r);
	struct publish *p = arg;
	struct route rt;

	CHECK_OBJ(p, PUBLISH_MAGIC);
	if (u != NULL) {
		CHECK_OBJ(u, UPLOAD_MAGIC);
		upload_end(p, r, u);
		return;
	}
	route_parse(httpd_target(r), strlen(httpd_target(r)), &rt);
	if (rt.kind != ROUTE_PATH ||
	    strncmp(rt.path, prefix, strlen(prefix)) != 0) {
		refuse(r, rt.kind == ROUTE_BAD ? 400 : 404,
		    "the address is /publish/SET");
		return;
	}
	switch (httpd_method(r)) {
	case HTTP_GET:
	case HTTP_HEAD:
		get(p, r, rt.path + strlen(prefix));
		return;
	case HTTP_POST:
	case HTTP_PUT:
		upload_begin(p, r, &rt);
		/* An empty body has no call of its own. */
		if (httpd_body_length(r) == 0 &&
		    (u = httpd_state(r)) != NULL)
			upload_end(p, r, u);
		return;
	default:
		refuse(r, 405, "methods are GET, HEAD, POST and PUT");
	}
}

/* Faults stay until the end, where they can be told. */
static int
on_body(void *arg, struct httpd_request *r, const void *data, size_t len)
{
	struct upload *u = httpd_state(r);

	(void)arg;
	CHECK_OBJ(u, UPLOAD_MAGIC);
	if (u->answer.status != 0)
		return (0);
	if (u->post)
		return (buf_add(&u->head, data, len));
	(void)store_add(u->in, data, len);
	return (0);
}

void
publish_httpd(struct publish *p, struct httpd_conf *c)
{

	CHECK_OBJ(p, PUBLISH_MAGIC);
	c->handler = handle;
	c->on_body = on_body;
	c->arg = p;
	c->memory = PUBLISH_MEMORY;
	c->idle_s = PUBLISH_IDLE_S;
}
