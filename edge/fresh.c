/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a shared cache may do with a response (RFC 9111; sections are of that
 * RFC).  Pure functions, called for plain upstreams on any thread; what heads
 * say is read in fresh_parse.c.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "edge/fields.h"
#include "edge/fresh.h"
#include "proto/buf.h"
#include "proto/date.h"

#define	APART	60		/* seconds by which two clocks do not differ */
#define	NAME	128		/* bytes of a name in Vary, NUL included */

/* An explicit lifetime, be it none. */
static bool
has_lifetime(const struct fresh_response *r)
{

	return (r->s_maxage >= 0 || r->max_age >= 0 || r->expires >= 0);
}

bool
fresh_storable(const struct fresh_response *r, const struct fresh_request *q)
{

	/* 5.2.2.3: must-understand overrides no-store where it is met. */
	if ((r->no_store && !r->must_understand) || r->private ||
	    r->vary_any || q->no_store || q->authorization)
		return (false);
	switch (r->status) {
	case 200:
	case 301:
	case 308:
	case 404:
	case 410:
		return (true);		/* heuristically cacheable: 4.2.2 */
	case 302:
	case 307:
		return (has_lifetime(r));
	default:
		return (false);
	}
}

int64_t
fresh_lifetime(const struct fresh_response *r)
{

	if (r->s_maxage >= 0)
		return (r->s_maxage);
	if (r->max_age >= 0)
		return (r->max_age);
	if (r->expires < 0 || r->date < 0 || r->expires <= r->date)
		return (0);
	return (r->expires - r->date < FRESH_MAX ? r->expires - r->date :
	    FRESH_MAX);
}

/* Seconds that have passed; none where a clock was put back. */
static int64_t
since(int64_t from, int64_t to)
{
	uint64_t d;

	if (to <= from)
		return (0);
	d = (uint64_t)to - (uint64_t)from;
	return (d < FRESH_MAX ? (int64_t)d : FRESH_MAX);
}

int64_t
fresh_age(const struct fresh_response *r, int64_t request_time,
    int64_t response_time, int64_t now)
{
	int64_t apparent, corrected, age;

	apparent = r->date < 0 ? 0 : since(r->date, response_time);
	corrected = (r->age < 0 ? 0 : r->age) +
	    since(request_time, response_time);
	age = (apparent > corrected ? apparent : corrected) +
	    since(response_time, now);
	return (age < FRESH_MAX ? age : FRESH_MAX);
}

enum fresh_use
fresh_use(const struct fresh_response *r, const struct fresh_request *q,
    int64_t age)
{
	int64_t lifetime = fresh_lifetime(r);

	if (r->no_cache || q->no_cache ||
	    (q->max_age >= 0 && age > q->max_age) ||
	    (q->min_fresh >= 0 && lifetime - age < q->min_fresh))
		return (FRESH_VERIFY);
	if (lifetime > age)
		return (FRESH_SERVE);
	if (r->must_revalidate || q->max_stale < 0 ||
	    age - lifetime > q->max_stale)
		return (FRESH_VERIFY);
	return (FRESH_SERVE_STALE);
}

static bool
within(int64_t stale, int64_t limit)
{

	return (limit < 0 || stale <= limit);
}

bool
fresh_may_be_stale(const struct fresh_response *r,
    const struct fresh_request *q, int64_t age)
{
	int64_t stale = age - fresh_lifetime(r);

	if (r->no_cache || q->no_cache)
		return (false);
	if (stale < 0)			/* verified by the request's wish */
		return (true);
	return (!r->must_revalidate && within(stale, r->stale_if_error) &&
	    within(stale, q->stale_if_error) && within(stale, q->max_stale));
}

bool
fresh_strong_date(const struct fresh_response *r)
{

	return (r->last_modified >= 0 && r->date - r->last_modified >= APART);
}

const char *
fresh_strong(const struct fresh_response *r, char out[FRESH_ETAG])
{

	out[0] = '\0';
	if (r->etag_strong)
		memcpy(out, r->etag, sizeof(r->etag));
	else if (!r->has_etag && fresh_strong_date(r))
		(void)date_http(r->last_modified, out);
	return (out);
}

/* RFC 9110, 8.8.3.2: by weak comparison. */
static const char *
opaque(const struct fresh_response *r)
{

	return (r->etag[0] == 'W' ? r->etag + 2 : r->etag);
}

bool
fresh_confirms(const struct fresh_response *stored,
    const struct fresh_response *new304)
{

	if (new304->etag_strong)
		return (strcmp(stored->etag, new304->etag) == 0);
	if (new304->etag[0] != '\0')
		return (strcmp(opaque(stored), opaque(new304)) == 0);
	return (new304->last_modified == -1 ||
	    new304->last_modified == stored->last_modified);
}

/* 3.2: what the stored bytes were read by. */
static bool
of_the_bytes(const struct field *f)
{

	return (field_is(f, "Content-Length") ||
	    field_is(f, "Content-Range") || field_is(f, "Content-Encoding"));
}

/* Whether fields have one with the name of f. */
static bool
has(const char *fields, const struct field *f)
{
	struct field g;

	while (fields_next(&fields, &g))
		if (g.nlen == f->nlen &&
		    strncasecmp(g.name, f->name, f->nlen) == 0)
			return (true);
	return (false);
}

char *
fresh_update(const char *stored, const char *new304, int64_t received)
{
	struct buf b = BUF_INIT(FIELDS_MAX);
	const char *p;
	char *fields;
	struct field f;

	if ((fields = fields_stored(new304, received)) == NULL)
		return (NULL);
	while (fields_next(&stored, &f))
		if (of_the_bytes(&f) ||
		    (!field_is(&f, "Age") && !has(fields, &f)))
			fields_add(&b, &f);
	for (p = fields; fields_next(&p, &f);)
		if (!of_the_bytes(&f))
			fields_add(&b, &f);
	free(fields);
	return (fields_done(&b));
}

/* All values of a field on one line, with the name as it is given. */
static void
add_values(struct buf *b, const char *name, const char *fields)
{
	struct field f;
	bool any = false;

	while (fields_next(&fields, &f)) {
		if (!field_is(&f, name))
			continue;
		(void)buf_adds(b, any ? ", " : name);
		(void)buf_adds(b, any ? "" : ": ");
		(void)buf_add(b, f.value, f.vlen);
		any = true;
	}
	if (any)
		(void)buf_adds(b, "\n");
}

/* A name of Vary in lower case.  False: none, or none that we keep. */
static bool
vary_name(char *out, size_t size, const char *name, size_t len)
{
	size_t i;

	if (len >= size || fields_token(name) < len || *name == '*')
		return (false);
	for (i = 0; i < len; i++)
		out[i] = name[i] >= 'A' && name[i] <= 'Z' ?
		    (char)(name[i] - 'A' + 'a') : name[i];
	out[len] = '\0';
	return (true);
}

char *
fresh_vary_key(const char *vary, const char *request_fields)
{
	struct buf b = BUF_INIT(FIELDS_MAX);
	const char *end, *member;
	char name[NAME];
	unsigned n = 0;
	size_t len;

	if (vary == NULL)
		vary = "";
	end = vary + strlen(vary);
	while (fields_member(&vary, end, &member, &len)) {
		if (n++ == FRESH_VARY ||
		    !vary_name(name, sizeof(name), member, len))
			b.failed = true;
		else if (strcmp(name, "accept-encoding") != 0)
			add_values(&b, name, request_fields);
		if (b.failed)
			break;
	}
	return (fields_done(&b));
}
