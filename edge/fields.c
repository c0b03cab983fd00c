/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Header fields as text: reading them, and which of them go further (RFC 9110,
 * 7.6.1).  Pure functions, called for plain upstreams on any thread.
 */
#include <string.h>
#include <strings.h>

#include "edge/fields.h"
#include "proto/buf.h"
#include "proto/date.h"
#include "proto/framing.h"

/* For one connection, or for the proxy that it leads to (RFC 9110, 7.6.1, 11.7;
 * RFC 9111, 3.1); Trailer, because trailers are not kept. */
static const char *const hop_by_hop[] = { "Connection", "HTTP2-Settings",
	"Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info",
	"Proxy-Authorization", "Proxy-Connection", "TE", "Trailer",
	"Transfer-Encoding", "Upgrade", NULL };
/* Never options of a connection: without them the rest is read wrongly. */
static const char *const for_all[] = { "Age", "Cache-Control",
	"Content-Encoding", "Content-Type", "Date", "Expires", "Vary", NULL };
/* What the edge says itself in its answers, and in its requests. */
static const char *const own_answer[] = { "Accept-Ranges", "Age",
	"Cache-Status", "Content-Length", "Content-Range", "ETag",
	"Last-Modified", NULL };
static const char *const own_request[] = { "Accept-Encoding", "Content-Length",
	"Expect", "Host", "If-Match", "If-Modified-Since", "If-None-Match",
	"If-Range", "If-Unmodified-Since", "Max-Forwards", "Range", "Via",
	/* Claims of another address, by which servers would answer all who
	 * share the answer otherwise. */
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host",
	"X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Proto",
	"X-Forwarded-Server", "X-HTTP-Method-Override", "X-Host",
	"X-Original-URL", "X-Rewrite-URL", NULL };
static const char *const none[] = { NULL };

size_t
fields_token(const char *s)
{
	size_t n = 0;

	while (framing_is_token((unsigned char)s[n]))
		n++;
	return (n);
}

static void
trim(const char **s, size_t *len)
{

	for (; *len > 0 && strchr(" \t\r", **s) != NULL; (*s)++, (*len)--)
		continue;
	while (*len > 0 && strchr(" \t\r", (*s)[*len - 1]) != NULL)
		(*len)--;
}

bool
fields_next(const char **fields, struct field *f)
{
	const char *p;
	size_t len;

	while (**fields != '\0') {
		p = *fields;
		len = strcspn(p, "\n");
		*fields += len + (p[len] == '\n' ? 1 : 0);
		f->name = p;
		f->nlen = fields_token(p);
		if (f->nlen == 0 || p[f->nlen] != ':')
			continue;
		f->value = p + f->nlen + 1;
		f->vlen = len - f->nlen - 1;
		trim(&f->value, &f->vlen);
		return (true);
	}
	return (false);
}

static bool
same(const char *a, size_t len, const char *b)
{

	return (strncasecmp(a, b, len) == 0 && b[len] == '\0');
}

bool
field_is(const struct field *f, const char *name)
{

	return (same(f->name, f->nlen, name));
}

static bool
field_in(const struct field *f, const char *const *names)
{

	for (; *names != NULL; names++)
		if (field_is(f, *names))
			return (true);
	return (false);
}

bool
fields_member(const char **list, const char *end, const char **member,
    size_t *len)
{
	const char *comma;

	while (*list < end) {
		comma = memchr(*list, ',', (size_t)(end - *list));
		*member = *list;
		*len = (size_t)((comma == NULL ? end : comma) - *list);
		*list = comma == NULL ? end : comma + 1;
		trim(member, len);
		if (*len > 0)
			return (true);
	}
	return (false);
}

int
fields_single(const char *fields, const char *name, struct field *f)
{
	struct field next;
	int n = 0;

	while (fields_next(&fields, &next)) {
		if (!field_is(&next, name))
			continue;
		if (n == 0)
			*f = next;
		else if (f->vlen != next.vlen ||
		    memcmp(f->value, next.value, f->vlen) != 0)
			return (-1);
		n = 1;
	}
	return (n);
}

int
fields_date(const char *fields, const char *name, int64_t *t)
{
	struct field f;
	int n;

	if ((n = fields_single(fields, name, &f)) != 1)
		return (n);
	return (date_http_parse(f.value, f.vlen, t) == -1 || *t < 0 ? -1 : 1);
}

/* 1, 0: absent, -1: too long. */
static int
join(const char *fields, const char *name, char *out, size_t size)
{
	struct field f;
	size_t at = 0;
	int n = 0;

	while (fields_next(&fields, &f)) {
		if (!field_is(&f, name))
			continue;
		/* ", ", NUL */
		if (at >= size || f.vlen >= size - at || size - at - f.vlen < 3)
			return (-1);
		if (n == 1) {
			memcpy(out + at, ", ", 2);
			at += 2;
		}
		memcpy(out + at, f.value, f.vlen);
		at += f.vlen;
		out[at] = '\0';
		n = 1;
	}
	return (n);
}

const char *
fields_get(const char *fields, const char *name, char *out, size_t size)
{

	return (join(fields, name, out, size) == 1 ? out : NULL);
}

/* Whether Connection names the field. */
static bool
is_option(const struct field *f, const char *options)
{
	const char *end = options + strlen(options), *member;
	size_t len;

	while (fields_member(&options, end, &member, &len))
		if (len == f->nlen && strncasecmp(member, f->name, len) == 0)
			return (!field_in(f, for_all));
	return (false);
}

void
fields_add(struct buf *b, const struct field *f)
{

	(void)buf_add(b, f->name, f->nlen);
	(void)buf_adds(b, ": ");
	(void)buf_add(b, f->value, f->vlen);
	(void)buf_adds(b, "\n");
}

char *
fields_done(struct buf *b)
{

	if (b->failed || buf_adds(b, "") == -1) {
		buf_free(b);
		return (NULL);
	}
	return (buf_take(b, NULL));
}

char *
fields_without(const char *fields, const char *name)
{
	struct buf b = BUF_INIT(FIELDS_MAX);
	struct field f;

	while (fields_next(&fields, &f))
		if (!field_is(&f, name))
			fields_add(&b, &f);
	return (fields_done(&b));
}

/* Adds what goes beyond this connection but those in `without`.  0, or -1. */
static int
end_to_end(struct buf *b, const char *fields, const char *const *without)
{
	char options[FIELDS_OPTIONS] = "";
	struct field f;
	unsigned n = 0;

	if (join(fields, "Connection", options, sizeof(options)) == -1)
		return (-1);
	while (fields_next(&fields, &f)) {
		if (n++ == FIELDS_N)
			return (-1);
		if (!field_in(&f, hop_by_hop) && !field_in(&f, without) &&
		    !is_option(&f, options))
			fields_add(b, &f);
	}
	return (0);
}

char *
fields_stored(const char *fields, int64_t received)
{
	static const char *const date[] = { "Date", NULL };
	struct buf b = BUF_INIT(FIELDS_MAX);
	char text[DATE_HTTP];
	int64_t t;
	bool dated = fields_date(fields, "Date", &t) == 1;

	if (end_to_end(&b, fields, dated ? none : date) == -1)
		b.failed = true;
	if (!dated)
		(void)buf_addf(&b, "Date: %s\n", date_http(received, text));
	return (fields_done(&b));
}

static char *
filtered(const char *fields, const char *const *without)
{
	struct buf b = BUF_INIT(FIELDS_MAX);

	if (end_to_end(&b, fields, without) == -1)
		b.failed = true;
	return (fields_done(&b));
}

char *
fields_end_to_end_response(const char *fields)
{

	return (filtered(fields, own_answer));
}

char *
fields_end_to_end_request(const char *fields)
{

	return (filtered(fields, own_request));
}
