/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Versions: what an upstream's answer says, as far as clients and the next question
 * to it need it.  Called by whoever has such an answer; pure but for memory.
 */
#include <sys/param.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "edge/plain_impl.h"
#include "proto/check.h"

#define	VERSION_MAGIC	0x76657273u

/* Of an answer without a body (RFC 9110, 15.4.5).  NULL: no memory. */
static char *
without_content(const char *fields)
{
	struct buf b = BUF_INIT(FIELDS_MAX);
	struct field f;

	while (fields_next(&fields, &f))
		if (f.nlen < 8 || strncasecmp(f.name, "Content-", 8) != 0 ||
		    field_is(&f, "Content-Location"))
			fields_add(&b, &f);
	return (fields_done(&b));
}

const char *
version_vary(const char *fields, char *out, size_t size)
{
	struct field f;

	if (fields_get(fields, "Vary", out, size) != NULL)
		return (out);
	return (fields_single(fields, "Vary", &f) == 0 ? NULL : "*");
}

/* By anything but Accept-Encoding, which is never sent. */
static bool
varies(const char *fields)
{
	static const char coding[] = "Accept-Encoding";
	char value[VARY_MAX];
	const char *s = version_vary(fields, value, sizeof(value)), *member;
	const char *end = s == NULL ? NULL : s + strlen(s);
	size_t len;

	while (s != NULL && fields_member(&s, end, &member, &len))
		if (len != sizeof(coding) - 1 ||
		    strncasecmp(member, coding, len) != 0)
			return (true);
	return (false);
}

bool
version_fits(const struct version *v, const char *request_fields)
{
	char value[VARY_MAX], *key;
	bool same;

	if (!v->varies)
		return (true);
	key = fresh_vary_key(version_vary(v->record.fields, value,
	    sizeof(value)), request_fields);
	same = key != NULL && strcmp(key, v->record.vary) == 0;
	free(key);
	return (same);
}

/* What the fields tell, in other forms.  -1: no memory. */
static int
learn(struct version *v)
{
	const char *fields = v->record.fields, *p;

	fresh_parse(&v->fresh, v->record.status, fields);
	v->varies = varies(fields);
	if ((v->fields = fields_end_to_end_response(fields)) == NULL ||
	    (v->lean = without_content(v->fields)) == NULL)
		return (-1);
	if ((p = strchr(v->fresh.etag, '"')) == NULL)
		return (0);
	/* Without W/ and quotes. */
	v->etag = strndup(p + 1, strlen(p) - 2);
	return (v->etag == NULL ? -1 : 0);
}

static struct version *
make(struct object *o, unsigned status, char *fields, char *vary)
{
	struct version *v;

	if ((v = calloc(1, sizeof(*v))) == NULL || fields == NULL ||
	    vary == NULL || (v->record.key = strdup(o->key)) == NULL) {
		free(v);
		free(fields);
		free(vary);
		return (NULL);
	}
	v->magic = VERSION_MAGIC;
	atomic_init(&v->refs, 1);
	atomic_init(&v->state, VERSION_BARE);
	v->object = object_ref(o);
	v->record.status = status;
	v->record.fields = fields;
	v->record.vary = vary;
	if (learn(v) == -1)
		version_put(&v);
	return (v);
}

/* When its answer was asked for and came. */
static void
stamp(struct version *v, const struct version_source *s)
{

	v->record.request_time = s->request_time;
	v->record.response_time = s->response_time;
	v->record.epoch = s->epoch;
}

struct version *
version_new(struct object *o, const struct version_source *s)
{
	struct version *v;

	v = make(o, s->status, fields_stored(s->fields, s->response_time),
	    strdup(s->vary != NULL ? s->vary : ""));
	if (v != NULL)
		stamp(v, s);
	return (v);
}

struct version *
version_confirm(const struct version *old, const struct version_source *s)
{
	struct version *v;

	v = make(old->object, old->record.status,
	    fresh_update(old->record.fields, s->fields, s->response_time),
	    strdup(old->record.vary));
	if (v == NULL)
		return (NULL);
	v->record.digest = old->record.digest;
	v->record.size = old->record.size;
	stamp(v, s);
	v->keep = true;
	atomic_store(&v->state, atomic_load(&old->state));
	return (v);
}

struct version *
version_load(struct object *o, struct record *r)
{
	struct version *v;

	v = make(o, r->status, r->fields, r->vary);
	r->fields = r->vary = NULL;
	if (v == NULL)
		return (NULL);
	v->record.digest = r->digest;
	v->record.size = r->size;
	v->record.request_time = r->request_time;
	v->record.response_time = r->response_time;
	v->record.epoch = r->epoch;
	v->keep = true;
	atomic_store(&v->state, r->status == 200 ? VERSION_STORED :
	    VERSION_BARE);
	return (v);
}

struct version *
version_ref(struct version *v)
{

	CHECK_OBJ(v, VERSION_MAGIC);
	atomic_fetch_add(&v->refs, 1);
	return (v);
}

void
version_put(struct version **vp)
{
	struct version *v = *vp;

	*vp = NULL;
	if (v == NULL)
		return;
	CHECK_OBJ(v, VERSION_MAGIC);
	if (atomic_fetch_sub(&v->refs, 1) != 1)
		return;
	version_unname(v);
	(void)atomic_fetch_sub(&v->object->set->plains->spooled, v->spooled);
	version_put(&v->before);
	object_put(&v->object);
	free(v->record.key);
	free(v->record.fields);
	free(v->record.vary);
	free(v->fields);
	free(v->lean);
	free(v->etag);
	free(v->bytes);
	explicit_bzero(&v->magic, sizeof(v->magic));
	free(v);
}

bool
version_differs(const struct version *a, const struct version *b, bool sized)
{

	return (strcmp(a->fresh.etag, b->fresh.etag) != 0 ||
	    a->fresh.last_modified != b->fresh.last_modified ||
	    (sized && a->record.size != b->record.size &&
	    a->record.status == 200 && b->record.status == 200));
}

bool
version_ask(const struct version *v, struct buf *fields)
{
	char value[FRESH_ETAG];
	bool any = false;

	if (v->fresh.etag[0] != '\0') {
		(void)buf_addf(fields, "If-None-Match: %s\n", v->fresh.etag);
		any = true;
	}
	if (fields_get(v->record.fields, "Last-Modified", value,
	    sizeof(value)) != NULL && v->fresh.last_modified >= 0) {
		(void)buf_addf(fields, "If-Modified-Since: %s\n", value);
		any = true;
	}
	return (any);
}
