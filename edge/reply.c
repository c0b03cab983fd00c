/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Heads of upstreams' answers (RFC 9110).  Called by upstream.c in the
 * transfer thread.  Lines are any bytes, without NUL.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "edge/reply.h"
#include "proto/buf.h"

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

static void
header_field(struct reply *r, const char *line, size_t len)
{
	unsigned long long length = 0;
	const char *v;
	size_t n;

	if ((v = field(line, len, "Content-Length", &n)) != NULL) {
		if (parse_u64(v, n, INT64_MAX, &length) == -1 ||
		    (r->has_length && r->length != length))
			r->malformed = true;
		r->length = length;
		r->has_length = true;
	} else if ((v = field(line, len, "Content-Range", &n)) != NULL) {
		if (r->has_range || content_range(r, v, n) == -1)
			r->malformed = true;
		r->has_range = true;
	} else if ((v = field(line, len, "Content-Encoding", &n)) != NULL)
		content_encoding(r, v, n);
	else if (field(line, len, "Transfer-Encoding", &n) != NULL)
		r->chunked = true;
}

enum reply_line
reply_line(struct reply *r, const char *line, size_t len)
{
	const char *sp;
	unsigned long long status = 0;

	if (len >= 5 && strncasecmp(line, "HTTP/", 5) == 0) {
		memset(r, 0, sizeof(*r));
		if ((sp = memchr(line, ' ', len)) != NULL &&
		    line + len - sp >= 4)
			(void)parse_u64(sp + 1, 3, 999, &status);
		r->status = (unsigned)status;
		return (REPLY_STATUS);
	}
	if (len == 0 || line[0] == '\r' || line[0] == '\n')
		return (REPLY_END);
	header_field(r, line, len);
	return (REPLY_FIELD);
}

enum reply_verdict
reply_judge_coded(const struct reply *r, bool dcz, uint64_t max,
    char reason[UPSTREAM_REASON])
{

	if (r->status != 200 || r->malformed || r->coded ||
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
	if (r->malformed)
		why = "malformed Content-Length or Content-Range";
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
