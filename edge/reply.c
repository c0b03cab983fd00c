/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Heads of upstreams' answers (RFC 9110), and how they are framed (RFC 9112): as
 * strictly as a client's requests are, since who reads past the end of one answer
 * takes for the next what somebody hid there (CWE-444).  Called by upstream.c and
 * strict.c in the transfer thread, or in one that asks for a document.
 */
#include <sys/param.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "edge/reply.h"
#include "proto/buf.h"
#include "proto/framing.h"

/* Where in a chunked body (RFC 9112, 7.1). */
enum {
	AT_SIZE, AT_BLANK, AT_EXTENSION, AT_SIZE_LF, AT_DATA, AT_DATA_CR,
	AT_DATA_LF, AT_TRAILER, AT_NAME, AT_VALUE, AT_TRAILER_LF, AT_LAST_LF,
	AT_END
};

/* The value of a header line called name, or NULL. */
static const char *
field(const char *line, size_t len, const char *name, size_t *vlen)
{
	size_t n = strlen(name);

	if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
		return (NULL);
	for (line += n + 1, len -= n + 1; len > 0 &&
	    (*line == ' ' || *line == '\t'); line++, len--)
		;
	while (len > 0 && memchr(" \t\r\n", line[len - 1], 4) != NULL)
		len--;
	*vlen = len;
	return (line);
}

/* "bytes A-B/N" (RFC 9110, 14.4); 0 or -1. */
static int
content_range(struct reply *r, const char *v, size_t len)
{
	const char *dash, *slash;

	if (len < 6 || strncasecmp(v, "bytes ", 6) != 0)
		return (-1);
	v += 6;
	len -= 6;
	if ((dash = memchr(v, '-', len)) == NULL ||
	    (slash = memchr(v, '/', len)) == NULL || slash < dash)
		return (-1);
	if (parse_u64(v, (size_t)(dash - v), INT64_MAX, &r->first) == -1 ||
	    parse_u64(dash + 1, (size_t)(slash - dash) - 1, INT64_MAX,
	    &r->last) == -1 ||
	    parse_u64(slash + 1, len - (size_t)(slash + 1 - v), INT64_MAX,
	    &r->total) == -1)
		return (-1);
	return (0);
}

/* One coding; more of them are none that we know. */
static void
content_encoding(struct reply *r, const char *v, size_t n)
{

	if (n == 0 || (n == 8 && strncasecmp(v, "identity", n) == 0))
		return;
	if (r->coding != CODING_NONE)
		r->coded = true;
	else if (n == 4 && strncasecmp(v, "zstd", n) == 0)
		r->coding = CODING_ZSTD;
	else if (n == 3 && strncasecmp(v, "dcz", n) == 0)
		r->coding = CODING_DCZ;
	else
		r->coded = true;
}

/* Once, digits only, however often the same would be said (RFC 9112, 6.3). */
static void
content_length(struct reply *r, const char *v, size_t n)
{

	if (r->has_length)
		r->fault = "Content-Length twice";
	else if (parse_u64(v, n, INT64_MAX, &r->length) == -1)
		r->fault = "malformed Content-Length";
	r->has_length = true;
}

/* Nothing was offered but what every client must know (6.1). */
static void
transfer_encoding(struct reply *r, const char *v, size_t n)
{

	if (r->chunked)
		r->fault = "Transfer-Encoding twice";
	else if (n != 7 || strncasecmp(v, "chunked", n) != 0)
		r->fault = "Transfer-Encoding is not just chunked";
	r->chunked = true;
}

static void
header_field(struct reply *r, const char *line, size_t len)
{
	const char *v;
	size_t n;

	if ((v = field(line, len, "Content-Length", &n)) != NULL)
		content_length(r, v, n);
	else if ((v = field(line, len, "Transfer-Encoding", &n)) != NULL)
		transfer_encoding(r, v, n);
	else if ((v = field(line, len, "Content-Range", &n)) != NULL) {
		if (r->has_range || content_range(r, v, n) == -1)
			r->bad_range = true;
		r->has_range = true;
	} else if ((v = field(line, len, "Content-Encoding", &n)) != NULL)
		content_encoding(r, v, n);
}

/* What is wrong with a line's bytes, its line end included (2.2), or NULL. */
static const char *
line_fault(const char *line, size_t len)
{
	size_t i;

	if (len < 2 || line[len - 2] != '\r' || line[len - 1] != '\n')
		return ("bare LF in the head");
	for (i = 0; i < len - 2; i++)
		if (!framing_is_text((unsigned char)line[i]))
			return ("control byte in the head");
	return (NULL);
}

/* What is wrong with the form of a field line (5, 5.1, 5.2), or NULL. */
static const char *
field_fault(const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len), *p;

	if (line[0] == ' ' || line[0] == '\t')
		return ("folded field line");
	if (colon == NULL)
		return ("field line without a colon");
	for (p = line; p < colon; p++)
		if (!framing_is_token((unsigned char)*p))
			break;
	return (p < colon || p == line ? "malformed field name" : NULL);
}

static bool
is_digit(char c)
{

	return (c >= '0' && c <= '9');
}

/*
 * "HTTP/1.1 200 OK" (4).  The blank before a reason that is empty is missing in
 * the answers of many servers, and nothing can be hidden by that.
 */
static void
status_line(struct reply *r, const char *line, size_t len)
{

	if (len < 14 || memcmp(line, "HTTP/1.", 7) != 0 ||
	    !is_digit(line[7]) || line[8] != ' ' || line[9] < '1' ||
	    !is_digit(line[9]) || !is_digit(line[10]) || !is_digit(line[11]) ||
	    (line[12] != ' ' && line[12] != '\r')) {
		r->fault = "malformed status line";
		return;
	}
	r->status = (unsigned)(line[9] - '0') * 100 +
	    (unsigned)(line[10] - '0') * 10 + (unsigned)(line[11] - '0');
	r->old = line[7] == '0';
}

/* No body comes with these, whatever the head says (6.3). */
static bool
is_bodiless(unsigned status)
{

	return (status < 200 || status == 204 || status == 304);
}

/* What is wrong with a head as a whole (6.1, 6.3; RFC 9110, 8.6), or NULL. */
static const char *
head_fault(const struct reply *r)
{

	if (r->chunked && r->has_length)
		return ("Content-Length and Transfer-Encoding");
	if (r->chunked && r->old)
		return ("Transfer-Encoding in HTTP/1.0");
	if (r->status == 101)
		return ("status 101, which was not asked for");
	/* A 304 tells the length that a 200 would have. */
	if (is_bodiless(r->status) && r->status != 304 &&
	    (r->chunked || (r->has_length && r->length > 0)))
		return ("a length with a status that has no body");
	return (NULL);
}

/* The next head, or a trailer, which reply_body() has looked at. */
static enum reply_line
first_line(struct reply *r, const char *line, size_t len)
{
	size_t seen = r->seen;

	if (r->status >= 200 && (len < 5 || memcmp(line, "HTTP/", 5) != 0))
		return (REPLY_FIELD);
	memset(r, 0, sizeof(*r));
	r->seen = seen + len;
	r->open = true;
	if ((r->fault = line_fault(line, len)) == NULL)
		status_line(r, line, len);
	return (r->fault != NULL ? REPLY_END : REPLY_STATUS);
}

enum reply_line
reply_line(struct reply *r, const char *line, size_t len)
{

	if (r->fault != NULL)
		return (REPLY_END);
	if (!r->open)
		return (first_line(r, line, len));
	r->seen += len;
	if (r->seen > REPLY_HEAD_MAX)
		r->fault = "head too long";
	else if ((r->fault = line_fault(line, len)) == NULL && len == 2) {
		r->fault = head_fault(r);
		r->open = false;
		r->rest = r->length;
		if (r->status >= 200)
			r->seen = 0;	/* of 1xx there is no end */
		return (REPLY_END);
	} else if (r->fault == NULL &&
	    (r->fault = field_fault(line, len - 2)) == NULL)
		header_field(r, line, len);
	return (r->fault != NULL ? REPLY_END : REPLY_FIELD);
}

static int
hex_digit(unsigned char c)
{

	return (is_digit((char)c) ? c - '0' : c >= 'a' && c <= 'f' ?
	    c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1);
}

/* A byte of a chunk's size (7.1) and of extensions, which are ignored (7.1.1). */
static bool
size_byte(struct reply *r, unsigned char c)
{
	int digit = hex_digit(c);

	if (r->at == AT_SIZE_LF) {
		r->at = r->rest > 0 ? AT_DATA : AT_TRAILER;
		r->seen = 0;
		return (c == '\n');
	}
	if (++r->seen > REPLY_HEAD_MAX)
		return (false);
	if (r->at == AT_SIZE && digit != -1) {
		if (r->rest > INT64_MAX / 16)
			return (false);
		r->rest = r->rest * 16 + (unsigned)digit;
		return (true);
	}
	if (r->at == AT_SIZE && r->seen == 1)
		return (false);
	if (c == '\r')
		r->at = AT_SIZE_LF;
	else if (r->at == AT_EXTENSION)
		return (framing_is_text(c));
	else
		r->at = c == ';' ? AT_EXTENSION : AT_BLANK;
	return (c == '\r' || c == ';' || c == ' ' || c == '\t');
}

/* A byte of the field lines behind the last chunk (7.1.2). */
static bool
trailer_byte(struct reply *r, unsigned char c)
{

	if (++r->seen > REPLY_HEAD_MAX)
		return (false);
	switch (r->at) {
	case AT_TRAILER:
		r->at = c == '\r' ? AT_LAST_LF : AT_NAME;
		return (c == '\r' || framing_is_token(c));
	case AT_NAME:
		r->at = c == ':' ? AT_VALUE : AT_NAME;
		return (c == ':' || framing_is_token(c));
	case AT_VALUE:
		r->at = c == '\r' ? AT_TRAILER_LF : AT_VALUE;
		return (c == '\r' || framing_is_text(c));
	default:
		r->at = r->at == AT_LAST_LF ? AT_END : AT_TRAILER;
		return (c == '\n');
	}
}

/* A byte that is no data.  What is wrong with it, or NULL. */
static const char *
chunk_byte(struct reply *r, unsigned char c)
{
	bool ok;

	if (r->at == AT_END)
		return (REPLY_PAST_END);
	if (r->at >= AT_TRAILER)
		return (trailer_byte(r, c) ? NULL : "malformed trailer");
	if (r->at == AT_DATA_CR) {
		ok = c == '\r';
		r->at = AT_DATA_LF;
	} else if (r->at == AT_DATA_LF) {
		ok = c == '\n';
		r->at = AT_SIZE;
		r->seen = 0;
	} else
		ok = size_byte(r, c);
	return (ok ? NULL : "malformed chunk");
}

void
reply_body(struct reply *r, const void *data, size_t len)
{
	const unsigned char *p = data;
	size_t n;

	if (len == 0 || r->fault != NULL)
		return;
	if (is_bodiless(r->status) || (r->has_length && len > r->rest)) {
		r->fault = REPLY_PAST_END;
		return;
	}
	if (!r->chunked) {
		r->rest -= MIN(r->rest, len);	/* 0: until the close */
		return;
	}
	for (; len > 0 && r->fault == NULL; p += n, len -= n) {
		n = 1;
		if (r->at != AT_DATA) {
			r->fault = chunk_byte(r, *p);
			continue;
		}
		n = (size_t)MIN(r->rest, len);
		if ((r->rest -= n) == 0)
			r->at = AT_DATA_CR;
	}
}

bool
reply_is_over(const struct reply *r)
{

	if (r->fault != NULL || r->open || r->status < 200)
		return (false);
	if (is_bodiless(r->status))
		return (true);
	return (r->chunked ? r->at == AT_END : r->has_length && r->rest == 0);
}

enum reply_verdict
reply_judge_coded(const struct reply *r, bool dcz, uint64_t max,
    char reason[UPSTREAM_REASON])
{

	if (r->status != 200 || r->coded ||
	    r->coding == CODING_NONE || (r->coding == CODING_DCZ && !dcz))
		return (REPLY_ELSE);
	if (!r->has_length || r->length <= max)
		return (REPLY_BODY);
	(void)snprintf(reason, UPSTREAM_REASON,
	    "coded length %llu, more than %" PRIu64, r->length, max);
	return (REPLY_BROKEN);
}

enum reply_verdict
reply_judge(const struct reply *r, uint64_t size, uint64_t from, uint64_t to,
    bool ranged, uint64_t *skip, char reason[UPSTREAM_REASON])
{
	enum reply_verdict v = REPLY_BROKEN;
	const char *why = NULL;

	*skip = 0;
	if (r->status != 200 && r->status != 206)
		return (REPLY_ELSE);
	if (r->status == 206 && r->bad_range)
		why = "malformed Content-Range";
	else if (r->coded || r->coding != CODING_NONE)
		why = "Content-Encoding that was not asked for";
	else if (r->status == 206 && (!ranged || !r->has_range ||
	    r->first != from || r->last != to - 1))
		why = "206 with another range than asked for";
	else if ((r->status == 200 && r->has_length && r->length != size) ||
	    (r->status == 206 && r->total != size)) {
		v = REPLY_OTHER;
		(void)snprintf(reason, UPSTREAM_REASON,
		    "length %llu instead of %" PRIu64,
		    r->status == 200 ? r->length : r->total, size);
	} else {
		/* One that knows no ranges: read through what lies before. */
		*skip = r->status == 200 ? from : 0;
		return (REPLY_BODY);
	}
	if (why != NULL)
		(void)snprintf(reason, UPSTREAM_REASON, "%s", why);
	return (v);
}
