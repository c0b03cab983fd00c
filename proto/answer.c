/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an HTTP answer must be: status, headers and slice of the body, from the
 * request's header fields and a file's facts (RFC 9110, sections 13 and 14).
 * Pure functions, called by both daemons' handlers on any server thread.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proto/answer.h"

#define	BYTES_UNIT	"bytes"

enum range_kind {
	RANGE_NONE,		/* absent, or to be ignored: answer whole */
	RANGE_ONE,
	RANGE_UNSATISFIABLE
};

static bool
is_blank(char c)
{

	return (c == ' ' || c == '\t');
}

static bool
is_digit(char c)
{

	return (c >= '0' && c <= '9');
}

/* etagc of RFC 9110, 8.8.3: no DQUOTE, no control byte, no blank. */
static bool
is_etag_byte(char c)
{
	unsigned char u = (unsigned char)c;

	return (u == 0x21 || (u >= 0x23 && u != 0x7f));
}

/*
 * Reads one entity tag at *s: its opaque part and whether it is weak; moves *s
 * beyond it.  False: there is none.
 */
static bool
etag_next(const char **s, const char **opaque, size_t *len, bool *weak)
{
	const char *p = *s;

	*weak = p[0] == 'W' && p[1] == '/';
	if (*weak)
		p += 2;
	if (*p++ != '"')
		return (false);
	for (*opaque = p; is_etag_byte(*p); p++)
		continue;
	if (*p != '"')
		return (false);
	*len = (size_t)(p - *opaque);
	*s = p + 1;
	return (true);
}

static bool
etag_is(const struct answer_file *f, const char *opaque, size_t len)
{

	return (f->etag != NULL && strlen(f->etag) == len &&
	    memcmp(f->etag, opaque, len) == 0);
}

/*
 * Whether a list of entity tags names the file.  `strong` is the comparison
 * (8.8.3.2).  "*" names every file that there is; what is no list names none.
 */
static bool
etag_list_match(const char *s, const struct answer_file *f, bool strong)
{
	const char *opaque;
	bool weak, found = false;
	size_t len;

	while (is_blank(*s) || *s == ',')
		s++;
	if (*s == '*') {
		for (s++; is_blank(*s); s++)
			continue;
		return (*s == '\0');
	}
	while (etag_next(&s, &opaque, &len, &weak)) {
		while (is_blank(*s))
			s++;
		if (*s != ',' && *s != '\0')
			return (false);
		found = found || (etag_is(f, opaque, len) &&
		    !(strong && (weak || f->weak_etag)));
		while (is_blank(*s) || *s == ',')
			s++;
	}
	return (found && *s == '\0');
}

/* RFC 9110, 13.2.2, steps 1 to 4: 0 to go on, else 304 or 412. */
static unsigned
precondition(const struct http_fields *q, const struct answer_file *f)
{
	int64_t t;

	if (q->if_match != NULL) {
		if (!etag_list_match(q->if_match, f, true))
			return (412);
	} else if (q->if_unmodified_since != NULL && f->time >= 0 &&
	    date_http_parse(q->if_unmodified_since,
	    strlen(q->if_unmodified_since), &t) == 0 && f->time > t)
		return (412);

	if (q->if_none_match != NULL) {
		if (etag_list_match(q->if_none_match, f, false))
			return (304);
	} else if (q->if_modified_since != NULL && f->time >= 0 &&
	    date_http_parse(q->if_modified_since,
	    strlen(q->if_modified_since), &t) == 0 && f->time <= t)
		return (304);
	return (0);
}

/*
 * If-Range (13.1.5): an entity tag by strong comparison, or exactly the date
 * of the file, where that is a strong validator: it differs whenever the content
 * does.
 */
static bool
if_range_holds(const char *s, const struct answer_file *f)
{
	const char *opaque;
	size_t len;
	bool weak;
	int64_t t;

	if (*s == '"' || (s[0] == 'W' && s[1] == '/'))
		return (etag_next(&s, &opaque, &len, &weak) && *s == '\0' &&
		    !weak && !f->weak_etag && etag_is(f, opaque, len));
	return (f->time >= 0 && !f->weak_time &&
	    date_http_parse(s, strlen(s), &t) == 0 && t == f->time);
}

/* Digits at *s; a number too large to hold becomes the largest. */
static bool
position(const char **s, uint64_t *v)
{
	uint64_t d;

	if (!is_digit(**s))
		return (false);
	for (*v = 0; is_digit(**s); (*s)++) {
		d = (uint64_t)(**s - '0');
		*v = *v > (UINT64_MAX - d) / 10 ? UINT64_MAX : *v * 10 + d;
	}
	return (true);
}

/* One byte range (14.1.2) of a file of `size` bytes. */
static enum range_kind
range_parse(const char *s, uint64_t size, uint64_t *offset, uint64_t *length)
{
	uint64_t first, last;

	if (strncasecmp(s, BYTES_UNIT "=", sizeof(BYTES_UNIT)) != 0)
		return (RANGE_NONE);
	s += sizeof(BYTES_UNIT);
	if (*s == '-') {
		s++;
		if (!position(&s, &last) || *s != '\0')
			return (RANGE_NONE);
		if (last == 0)
			return (RANGE_UNSATISFIABLE);
		if (size == 0)		/* no Content-Range could say it */
			return (RANGE_NONE);
		*length = last < size ? last : size;
		*offset = size - *length;
		return (RANGE_ONE);
	}
	if (!position(&s, &first) || *s++ != '-')
		return (RANGE_NONE);
	last = UINT64_MAX;
	if (*s != '\0' && (!position(&s, &last) || *s != '\0'))
		return (RANGE_NONE);
	if (last < first)
		return (RANGE_NONE);
	if (first >= size)
		return (RANGE_UNSATISFIABLE);
	*offset = first;
	*length = (last < size ? last + 1 : size) - first;
	return (RANGE_ONE);
}

/* A document that is another one each time has none, nor has one that is coded anew
 * when it is asked for the next time. */
static bool
has_ranges(const struct answer_file *f)
{

	return (!f->no_store && f->coding == NULL);
}

static const char *
cache_control(const struct answer_file *f)
{

	if (f->cache_control != NULL)
		return (f->cache_control);
	return (f->no_store ? "no-store" : f->immutable ?
	    "public, max-age=31536000, immutable" : "no-cache");
}

/* The headers that 200, 206 and 304 have in common (15.4.5). */
static void
validators(struct answer *a, const struct answer_file *f)
{
	const char *cc = cache_control(f);
	char date[DATE_HTTP];

	if (f->etag != NULL)
		answer_header(a, "ETag", "%s\"%s\"", f->weak_etag ? "W/" : "",
		    f->etag);
	if (f->time >= 0)
		answer_header(a, "Last-Modified", "%s",
		    date_http(f->time, date));
	if (*cc != '\0')
		answer_header(a, "Cache-Control", "%s", cc);
	if (f->vary != NULL)
		answer_header(a, "Vary", "%s", f->vary);
}

void
answer_judge(struct answer *a, enum http_method method,
    const struct http_fields *q, const struct answer_file *f)
{
	enum range_kind range = RANGE_NONE;

	a->nheader = 0;
	a->fields = NULL;
	a->send_body = false;
	a->offset = 0;
	a->length = f->size;
	a->status = precondition(q, f);
	if (a->status == 412) {
		a->length = 0;
		return;
	}
	if (a->status == 0 && method == HTTP_GET && q->range != NULL &&
	    has_ranges(f) &&
	    (q->if_range == NULL || if_range_holds(q->if_range, f)))
		range = range_parse(q->range, f->size, &a->offset, &a->length);
	if (range == RANGE_UNSATISFIABLE) {
		a->status = 416;
		a->offset = a->length = 0;
		return;
	}
	if (a->status == 0)
		a->status = range == RANGE_ONE ? 206 : 200;
	a->send_body = a->status != 304 && method != HTTP_HEAD;
}

void
answer_headers(struct answer *a, const struct answer_file *f)
{

	switch (a->status) {
	case 412:
		answer_status(a, 412, 0);
		return;
	case 416:
		answer_status(a, 416, 0);
		answer_header(a, "Content-Range", BYTES_UNIT " */%llu",
		    (unsigned long long)f->size);
		return;
	default:
		break;
	}
	validators(a, f);
	if (a->status == 304)
		return;
	if (f->type != NULL)
		answer_header(a, "Content-Type", "%s", f->type);
	if (f->coding != NULL)
		answer_header(a, "Content-Encoding", "%s", f->coding);
	if (has_ranges(f))
		answer_header(a, "Accept-Ranges", BYTES_UNIT);
	if (a->status == 206)
		answer_header(a, "Content-Range", BYTES_UNIT " %llu-%llu/%llu",
		    (unsigned long long)a->offset,
		    (unsigned long long)(a->offset + a->length - 1),
		    (unsigned long long)f->size);
}

void
answer_file(struct answer *a, enum http_method method,
    const struct http_fields *q, const struct answer_file *f)
{

	answer_judge(a, method, q, f);
	answer_headers(a, f);
}

void
answer_status(struct answer *a, unsigned status, unsigned retry_after)
{

	a->status = status;
	a->offset = a->length = 0;
	a->send_body = false;
	a->nheader = 0;
	a->fields = NULL;
	/* Some errors may be cached without being asked for (RFC 9111, 4.2.2);
	 * here the next publish can make any of them wrong. */
	if (status >= 400)
		answer_header(a, "Cache-Control", "no-store");
	if (retry_after > 0)
		answer_header(a, "Retry-After", "%u", retry_after);
}

void
answer_header(struct answer *a, const char *name, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (a->nheader == ANSWER_HEADERS)
		return;
	va_start(ap, fmt);
	n = vsnprintf(a->header[a->nheader].value, ANSWER_VALUE, fmt, ap);
	va_end(ap);
	if (n < 0 || n >= ANSWER_VALUE)
		return;
	a->header[a->nheader++].name = name;
}
