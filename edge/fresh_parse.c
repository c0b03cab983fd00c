/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What heads say of freshness: Cache-Control (RFC 9111, 5.2), Age, Expires,
 * Vary and validators.  Pure functions, called for plain upstreams on any
 * thread.
 */
#include <string.h>
#include <strings.h>

#include "edge/fields.h"
#include "edge/fresh.h"

/* One member of Cache-Control. */
struct directive {
	const char	*name, *arg;	/* arg NULL: none; without quotes */
	size_t		 nlen, alen;
	bool		 plain;		/* the name and nothing else */
};

/* The end of the member at s: a comma outside of quotes, or end, inside of them
 * where *broken becomes true. */
static const char *
member_end(const char *s, const char *end, bool *broken)
{
	bool quoted = false;

	for (; s < end && (quoted || *s != ','); s++) {
		if (*s == '"')
			quoted = !quoted;
		else if (quoted && *s == '\\' && s + 1 < end)
			s++;
	}
	*broken = *broken || quoted;
	return (s);
}

/* "=token" or "=\"text\"", both for any directive (5.2); what is neither is an
 * argument that no directive has. */
static void
argument(struct directive *d, const char *s, size_t len)
{

	d->plain = len == 0;
	d->arg = NULL;
	d->alen = 0;
	if (len == 0 || *s != '=')
		return;
	d->arg = s + 1;
	d->alen = len - 1;
	if (d->alen >= 2 && d->arg[0] == '"' && d->arg[d->alen - 1] == '"') {
		d->arg++;
		d->alen -= 2;
	}
}

/* The next directive of *s, which moves on.  False: no more. */
static bool
directive_next(const char **s, const char *end, struct directive *d,
    bool *broken)
{
	const char *to;

	for (; *s < end; *s = to) {
		*s += **s == ',' ? 1 : 0;
		while (*s < end && (**s == ' ' || **s == '\t'))
			(*s)++;
		to = member_end(*s, end, broken);
		d->name = *s;
		d->nlen = fields_token(*s);
		if (d->nlen > (size_t)(to - *s))
			d->nlen = (size_t)(to - *s);
		if (d->nlen == 0)
			continue;
		*s = to;
		while (to[-1] == ' ' || to[-1] == '\t')
			to--;
		argument(d, d->name + d->nlen,
		    (size_t)(to - d->name) - d->nlen);
		return (true);
	}
	return (false);
}

static bool
is(const struct directive *d, const char *name)
{

	return (strncasecmp(d->name, name, d->nlen) == 0 &&
	    name[d->nlen] == '\0');
}

/* delta-seconds (1.2.2), or -1. */
static int64_t
seconds(const char *s, size_t len)
{
	int64_t v = 0;

	if (len == 0)
		return (-1);
	for (; len > 0; s++, len--) {
		if (*s < '0' || *s > '9')
			return (-1);
		v = v * 10 + (*s - '0');
		if (v > FRESH_MAX)
			v = FRESH_MAX;
	}
	return (v);
}

/* Sets *place to a directive's number; to `strictest` where it has none, or
 * another one was there before (4.2.1). */
static void
number(int64_t *place, const struct directive *d, int64_t strictest)
{
	int64_t v = d->arg == NULL ? -1 : seconds(d->arg, d->alen);

	*place = v == -1 || (*place != -1 && *place != v) ? strictest : v;
}

/* What allows something counts only where it is said in due form. */
static void
response_directive(struct fresh_response *r, const struct directive *d)
{

	if (is(d, "no-store"))
		r->no_store = true;
	else if (is(d, "no-cache"))
		r->no_cache = true;
	else if (is(d, "private"))
		r->private = true;
	else if (is(d, "must-revalidate") || is(d, "proxy-revalidate"))
		r->must_revalidate = true;
	else if (is(d, "max-age"))
		number(&r->max_age, d, 0);
	else if (is(d, "s-maxage")) {
		number(&r->s_maxage, d, 0);
		r->must_revalidate = true;	/* 5.2.2.10 */
	} else if (is(d, "stale-if-error"))
		number(&r->stale_if_error, d, 0);
	else if (is(d, "public"))
		r->public = r->public || d->plain;
	else if (is(d, "must-understand"))
		r->must_understand = r->must_understand || d->plain;
	else if (is(d, "immutable"))
		r->immutable = r->immutable || d->plain;
}

static void
cache_control(struct fresh_response *r, const char *fields)
{
	struct directive d;
	struct field f;
	const char *s;
	bool broken = false;

	while (fields_next(&fields, &f)) {
		if (!field_is(&f, "Cache-Control"))
			continue;
		s = f.value;
		while (directive_next(&s, f.value + f.vlen, &d, &broken))
			response_directive(r, &d);
	}
	if (broken) {		/* what the quotes hide is anyone's guess */
		r->no_store = true;
		r->must_understand = false;
	}
}

/* 5.1: the first member counts; no number: as if absent. */
static void
age(struct fresh_response *r, const char *fields)
{
	const char *s, *member;
	struct field f;
	size_t len;

	while (fields_next(&fields, &f)) {
		if (!field_is(&f, "Age"))
			continue;
		s = f.value;
		if (fields_member(&s, f.value + f.vlen, &member, &len))
			r->age = seconds(member, len);
		return;
	}
}

/* RFC 9110, 8.8.3: entity-tag. */
static bool
is_etag(const char *s, size_t len, bool *strong)
{
	size_t i;

	*strong = len < 2 || memcmp(s, "W/", 2) != 0;
	if (!*strong) {
		s += 2;
		len -= 2;
	}
	if (len < 2 || s[0] != '"' || s[len - 1] != '"')
		return (false);
	for (i = 1; i < len - 1; i++)
		if ((unsigned char)s[i] <= ' ' || s[i] == '"' || s[i] == 0x7f)
			return (false);
	return (true);
}

static void
etag(struct fresh_response *r, const char *fields)
{
	struct field f;
	int n = fields_single(fields, "ETag", &f);
	bool strong;

	r->has_etag = n != 0;
	if (n != 1 || f.vlen >= sizeof(r->etag) ||
	    !is_etag(f.value, f.vlen, &strong))
		return;
	memcpy(r->etag, f.value, f.vlen);
	r->etag_strong = strong;
}

static void
vary(struct fresh_response *r, const char *fields)
{
	const char *s, *member;
	struct field f;
	size_t len;

	while (fields_next(&fields, &f)) {
		if (!field_is(&f, "Vary"))
			continue;
		s = f.value;
		while (fields_member(&s, f.value + f.vlen, &member, &len))
			if (*member == '*' || fields_token(member) < len)
				r->vary_any = true;
	}
}

void
fresh_parse(struct fresh_response *r, unsigned status, const char *fields)
{
	int n;

	memset(r, 0, sizeof(*r));
	r->status = status;
	r->age = r->max_age = r->s_maxage = r->stale_if_error = -1;
	if (fields_date(fields, "Date", &r->date) != 1)
		r->date = -1;
	if (fields_date(fields, "Last-Modified", &r->last_modified) != 1)
		r->last_modified = -1;
	n = fields_date(fields, "Expires", &r->expires);
	if (n != 1)
		r->expires = n == 0 ? -1 : 0;
	cache_control(r, fields);
	age(r, fields);
	etag(r, fields);
	vary(r, fields);
}

static void
max_stale(struct fresh_request *q, const struct directive *d)
{

	if (!d->plain)
		number(&q->max_stale, d, 0);
	else if (q->max_stale == -1 || q->max_stale == INT64_MAX)
		q->max_stale = INT64_MAX;
	else
		q->max_stale = 0;
}

static void
request_directive(struct fresh_request *q, const struct directive *d)
{

	if (is(d, "no-store"))
		q->no_store = true;
	else if (is(d, "no-cache"))
		q->no_cache = true;
	else if (is(d, "only-if-cached"))
		q->only_if_cached = true;
	else if (is(d, "max-age"))
		number(&q->max_age, d, 0);
	else if (is(d, "min-fresh"))
		number(&q->min_fresh, d, FRESH_MAX);
	else if (is(d, "max-stale"))
		max_stale(q, d);
	else if (is(d, "stale-if-error"))
		number(&q->stale_if_error, d, 0);
}

void
fresh_request_parse(struct fresh_request *q, const char *control,
    const char *pragma, bool authorization)
{
	const char *s = control == NULL ? pragma : control, *end;
	struct directive d;
	bool broken = false;

	memset(q, 0, sizeof(*q));
	q->max_age = q->min_fresh = q->max_stale = q->stale_if_error = -1;
	q->authorization = authorization;
	if (s == NULL)
		return;
	end = s + strlen(s);
	while (directive_next(&s, end, &d, &broken))
		if (control != NULL || is(&d, "no-cache"))
			request_directive(q, &d);
	if (broken)
		q->no_store = q->no_cache = true;
}
