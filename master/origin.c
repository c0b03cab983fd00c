/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The origin: what proto/serve.c found is sent from the blob store.  Called by
 * the public HTTP server's threads.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "master/origin.h"
#include "proto/check.h"
#include "proto/log.h"
#include "proto/serve.h"

#define	ORIGIN_MAGIC	0x4f726967u
#define	ORIGIN_MESSAGES	5		/* a second, of lost blobs */

struct origin {
	unsigned	 magic;
	struct origin_conf c;
	struct serve	 serve;
};

static enum serve_got
get_file(void *arg, struct httpd_request *r, const struct serve_file *f,
    const struct answer *a, struct serve_body *out)
{
	static struct log_limit limit;
	char hex[DIGEST_HEX + 1];
	struct origin *o = arg;
	int fd;

	(void)r;
	(void)a;
	CHECK_OBJ(o, ORIGIN_MAGIC);
	if ((fd = store_open(o->c.store, f->digest, f->size)) == -1) {
		if (log_allowed(&limit, ORIGIN_MESSAGES))
			log_err("cannot open blob digest=%s set=%s: %s; "
			    "publish the set again to restore it",
			    digest_hex(f->digest, hex), f->set,
			    strerror(errno));
		return (SERVE_UNAVAILABLE);
	}
	out->body = httpd_body_fd(&fd);
	out->hit = true;
	return (out->body == NULL ? SERVE_UNAVAILABLE : SERVE_BODY);
}

/* The master is the one that says what is current. */
static enum serve_lease
lease(void *arg, const struct site_set *set)
{

	(void)arg;
	(void)set;
	return (SERVE_FRESH);
}

static char *
trust(void *arg, size_t *len)
{
	struct origin *o = arg;

	CHECK_OBJ(o, ORIGIN_MAGIC);
	return (trust_text(o->c.trust, len));
}

static char *
status(void *arg, size_t *len)
{
	struct origin *o = arg;

	CHECK_OBJ(o, ORIGIN_MAGIC);
	return (o->c.status(o->c.status_arg, len));
}

static bool
prepared(void *arg, const struct digest *d, struct site_prepared *p)
{
	struct origin *o = arg;

	CHECK_OBJ(o, ORIGIN_MAGIC);
	return (publish_prepared(o->c.publish, d, p));
}

/* For the coder.  Edges that are sent other bytes would set this master aside. */
static char *
read_document(void *arg, const struct digest *d, uint64_t size)
{
	struct origin *o = arg;
	struct digest is;
	char *p;

	CHECK_OBJ(o, ORIGIN_MAGIC);
	if ((p = store_slurp(o->c.store, d, size)) == NULL)
		return (NULL);
	digest_of(&is, p, (size_t)size);
	if (digest_eq(&is, d))
		return (p);
	free(p);
	return (NULL);
}

struct origin *
origin_new(const struct origin_conf *c)
{
	struct coder_conf cc = { .site = c->site, .read = read_document,
	    .prepared = prepared };
	struct origin *o;

	if ((o = calloc(1, sizeof(*o))) == NULL)
		return (NULL);
	o->magic = ORIGIN_MAGIC;
	o->c = *c;
	o->serve.site = c->site;
	o->serve.grace = c->grace;
	o->serve.arg = o;
	o->serve.file = get_file;
	o->serve.lease = lease;
	o->serve.trust = trust;
	o->serve.status = status;
	o->serve.prepared = prepared;
	cc.arg = o;
	if ((o->serve.coder = coder_new(&cc)) == NULL)
		origin_destroy(&o);
	return (o);
}

void
origin_destroy(struct origin **op)
{
	struct origin *o = *op;

	*op = NULL;
	if (o == NULL)
		return;
	CHECK_OBJ(o, ORIGIN_MAGIC);
	coder_destroy(&o->serve.coder);
	explicit_bzero(&o->magic, sizeof(o->magic));
	free(o);
}

void
origin_coded(struct origin *o, struct coder_stats *s)
{

	CHECK_OBJ(o, ORIGIN_MAGIC);
	coder_stats(o->serve.coder, s);
}

void
origin_httpd(struct origin *o, struct httpd_conf *c)
{

	CHECK_OBJ(o, ORIGIN_MAGIC);
	c->handler = serve_request;
	c->arg = &o->serve;
}
