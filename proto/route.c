/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a raw request-target to what it asks for: decoding, folding, and the
 * addresses below /.pkgcast/ (pkgcast-protocol(7)).  Pure functions, called by
 * the shared handler on any server thread.
 */
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "proto/buf.h"
#include "proto/head.h"
#include "proto/route.h"

#define	OWN		".pkgcast"

static void
bad(struct route *r, const char *reason)
{

	r->kind = ROUTE_BAD;
	r->reason = reason;
	r->path[0] = '\0';
}

static int
hex_value(char c)
{

	if (c >= '0' && c <= '9')
		return (c - '0');
	if (c >= 'a' && c <= 'f')
		return (c - 'a' + 10);
	if (c >= 'A' && c <= 'F')
		return (c - 'A' + 10);
	return (-1);
}

/*
 * Cuts scheme and authority off an absolute-form target, and the query off any.
 * False: neither form.
 */
static bool
origin_form(const char **target, size_t *len)
{
	static const char *const scheme[] = { "http://", "https://" };
	const char *end = *target + *len, *p, *query;
	size_t i, n;

	if (*len > 0 && **target != '/') {
		for (i = 0; i < 2; i++) {
			n = strlen(scheme[i]);
			if (*len > n && strncasecmp(*target, scheme[i], n) == 0)
				break;
		}
		if (i == 2)
			return (false);
		p = *target + n;
		while (p < end && *p != '/' && *p != '?')
			p++;
		if (p == *target + n)	/* no authority */
			return (false);
		*target = p;
		*len = (size_t)(end - p);
		if (*len == 0 || **target == '?') {	/* RFC 9112, 3.2.1 */
			*target = "/";
			*len = 1;
			return (true);
		}
	}
	if ((query = memchr(*target, '?', *len)) != NULL)
		*len = (size_t)(query - *target);
	return (*len > 0);
}

/* Decodes escapes into r->path; returns the length, or -1 and r is bad. */
static int
decode(struct route *r, const char *s, size_t len)
{
	size_t i, n = 0;
	int hi, lo;
	char c;

	for (i = 0; i < len; i++) {
		c = s[i];
		if (c == '%') {
			if (len - i < 3 || (hi = hex_value(s[i + 1])) == -1 ||
			    (lo = hex_value(s[i + 2])) == -1)
				return (bad(r, "bad escape"), -1);
			c = (char)(hi << 4 | lo);
			i += 2;
			if (c == '/')
				return (bad(r, "escaped slash"), -1);
		}
		if ((unsigned char)c < 0x20 || c == 0x7f)
			return (bad(r, "control byte"), -1);
		if (n == ROUTE_MAX)
			return (bad(r, "too long"), -1);
		r->path[n++] = c;
	}
	r->path[n] = '\0';
	return ((int)n);
}

/* Folds "//" and "." segments of r->path in place, and drops the leading
 * slash.  False: a ".." segment. */
static bool
fold(struct route *r)
{
	char *out = r->path;
	const char *p = r->path, *end;
	size_t n;

	for (;;) {
		while (*p == '/')
			p++;
		if (*p == '\0')
			break;
		if ((end = strchr(p, '/')) == NULL)
			end = p + strlen(p);
		n = (size_t)(end - p);
		if (n == 2 && p[0] == '.' && p[1] == '.')
			return (false);
		if (n == 1 && p[0] == '.') {
			p = end;
			continue;
		}
		/* Never moves forward: a slash was dropped for each written. */
		memmove(out, p, n);
		out += n;
		p = end;
		if (*p == '/')
			*out++ = '/';
	}
	*out = '\0';
	return (true);
}

static enum route_kind
by_digest(struct route *r, const char *hex, enum route_kind kind)
{

	return (digest_parse(&r->digest, hex, strlen(hex)) == 0 ? kind :
	    ROUTE_NONE);
}

/* p: what follows "/.pkgcast", its slash included. */
static enum route_kind
own_address(struct route *r, const char *p)
{

	if (strcmp(p, "/heads") == 0)
		return (ROUTE_HEADS);
	if (strcmp(p, "/trust") == 0)
		return (ROUTE_TRUST);
	if (strcmp(p, "/status") == 0)
		return (ROUTE_STATUS);
	if (strcmp(p, "/metrics") == 0)
		return (ROUTE_METRICS);
	if (strncmp(p, "/head/", 6) == 0)
		return (by_digest(r, p + 6, ROUTE_HEAD));
	if (strncmp(p, "/blob/", 6) == 0)
		return (by_digest(r, p + 6, ROUTE_BLOB));
	if (strncmp(p, "/mirrors/", 9) == 0) {
		memmove(r->path, p + 9, strlen(p + 9) + 1);
		return (ROUTE_MIRRORS);
	}
	return (ROUTE_NONE);
}

void
route_parse(const char *target, size_t len, struct route *r)
{
	size_t own = strlen(OWN);

	r->kind = ROUTE_NONE;
	r->reason = NULL;
	r->path[0] = '\0';
	(void)memset(&r->digest, 0, sizeof(r->digest));
	if (len == 1 && *target == '*')		/* for OPTIONS */
		return;
	if (!origin_form(&target, &len)) {
		bad(r, "neither a path nor an absolute URI");
		return;
	}
	if (decode(r, target, len) == -1)
		return;
	if (!fold(r)) {
		bad(r, "\"..\" segment");
		return;
	}
	r->kind = ROUTE_PATH;
	if (strncmp(r->path, OWN, own) == 0 &&
	    (r->path[own] == '/' || r->path[own] == '\0'))
		r->kind = own_address(r, r->path + own);
}

uint64_t
route_generation(const char **path)
{
	const char *p = *path, *slash;
	unsigned long long n;

	if (*p != '@')
		return (0);
	p++;
	if ((slash = strchr(p, '/')) == NULL)
		slash = p + strlen(p);
	if (parse_u64(p, (size_t)(slash - p), HEAD_GENERATION_MAX, &n) != 0 ||
	    n == 0)
		return (UINT64_MAX);
	*path = *slash == '/' ? slash + 1 : slash;
	return (n);
}
