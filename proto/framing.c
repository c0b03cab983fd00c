/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whether a request's head means the same to everybody: field names and values,
 * lengths, Host, target, method.  What does not is refused and its connection
 * closed, so that nothing hides in it (CWE-444).  Called by httpd.c on any
 * server thread.
 */
#include <string.h>
#include <strings.h>

#include "proto/buf.h"
#include "proto/framing.h"

#define	BODY_MAX	(1ull << 50)	/* bytes; no upload is that long */

enum http_method
framing_method(const char *method)
{
	static const struct {
		const char *name;
		enum http_method method;
	} known[] = {
		{ "GET", HTTP_GET }, { "HEAD", HTTP_HEAD },
		{ "OPTIONS", HTTP_OPTIONS }, { "POST", HTTP_POST },
		{ "PUT", HTTP_PUT },
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(method, known[i].name) == 0)
			return (known[i].method);
	return (HTTP_OTHER);
}

bool
framing_is_token(unsigned char c)
{

	return ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	    (c >= 'a' && c <= 'z') ||
	    (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL));
}

bool
framing_is_text(unsigned char c)
{

	return (c == '\t' || (c >= 0x20 && c != 0x7f));
}

static bool
name_ok(const char *s)
{

	if (*s == '\0')
		return (false);
	for (; *s != '\0'; s++)
		if (!framing_is_token((unsigned char)*s))
			return (false);
	return (true);
}

static bool
value_ok(const char *s)
{

	for (; *s != '\0'; s++)
		if (!framing_is_text((unsigned char)*s))
			return (false);
	return (true);
}

/* Without the blanks that may follow a value (5.5). */
static size_t
value_len(const char *s)
{
	size_t len = strlen(s);

	while (len > 0 && (s[len - 1] == ' ' || s[len - 1] == '\t'))
		len--;
	return (len);
}

static bool
is_hex(char c)
{

	return ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
	    (c >= 'A' && c <= 'F'));
}

/* The length of an IP literal (RFC 3986, 3.2.2) at s, loosely; 0: none. */
static size_t
ip_literal(const char *s, size_t len)
{
	size_t i;

	for (i = 1; i < len && (is_hex(s[i]) ||
	    strchr(":.vV%-_~", s[i]) != NULL); i++)
		continue;
	return (i > 1 && i < len && s[i] == ']' ? i + 1 : 0);
}

/*
 * uri-host [ ":" port ] (RFC 9110, 4.2 and 7.2): a name in the bytes that are
 * allowed in one, or an IP literal.  No user: it is there to deceive (4.2.4).
 */
static bool
authority_ok(const char *s, size_t len)
{
	static const char marks[] = "-._~!$&'()*+;=%";
	size_t i = 0;

	if (len > 0 && s[0] == '[') {
		if ((i = ip_literal(s, len)) == 0)
			return (false);
	} else
		while (i < len && s[i] != ':') {
			if (!((s[i] >= '0' && s[i] <= '9') ||
			    (s[i] >= 'A' && s[i] <= 'Z') ||
			    (s[i] >= 'a' && s[i] <= 'z') ||
			    strchr(marks, s[i]) != NULL))
				return (false);
			i++;
		}
	if (i == len)
		return (true);
	if (s[i] != ':')
		return (false);
	for (i++; i < len; i++)
		if (s[i] < '0' || s[i] > '9')
			return (false);
	return (true);
}

void
framing_field(struct framing *f, const char *name, const char *value)
{
	static const char expect[] = "100-continue";
	size_t len = value_len(value);
	unsigned long long n;

	if (!name_ok(name) || !value_ok(value))
		f->bad = true;
	if (strcasecmp(name, "Transfer-Encoding") == 0)
		f->ntransfer++;
	else if (strcasecmp(name, "Host") == 0) {
		f->nhost++;
		if (!authority_ok(value, len))
			f->bad = true;
	} else if (strcasecmp(name, "Content-Length") == 0) {
		f->nlength++;
		if (parse_u64(value, len, BODY_MAX, &n) == -1)
			f->bad = true;
		else
			f->length = n;
	} else if (strcasecmp(name, "Expect") == 0 &&
	    (len != strlen(expect) || strncasecmp(value, expect, len) != 0))
		f->unexpected = true;
}

/* The length of a scheme that is served, "://" included; 0: it is none. */
static size_t
scheme_len(const char *s)
{

	return (strncasecmp(s, "http://", 7) == 0 ? 7 :
	    strncasecmp(s, "https://", 8) == 0 ? 8 : 0);
}

/* RFC 9112, 3.2: origin-form, absolute-form, or "*" of OPTIONS. */
static bool
target_ok(const char *s, enum http_method method)
{
	const char *p;
	size_t n;

	for (p = s; *p != '\0'; p++) {
		if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '#')
			return (false);
		if (*p == '%' && (!is_hex(p[1]) || !is_hex(p[2])))
			return (false);
	}
	if (*s == '/')
		return (true);
	if ((n = scheme_len(s)) > 0) {
		s += n;
		n = strcspn(s, "/?");
		return (n > 0 && *s != ':' && authority_ok(s, n));
	}
	return (method == HTTP_OPTIONS && strcmp(s, "*") == 0);
}

unsigned
framing_verdict(const struct framing *f, enum http_method method,
    const char *version, const char *target, bool uploads)
{
	bool old = strcmp(version, "HTTP/1.0") == 0;
	bool body = uploads && (method == HTTP_POST || method == HTTP_PUT);

	if (f->bad || f->ntransfer > 0 || f->nlength > 1 || f->nhost > 1)
		return (400);
	if (!old && (strncmp(version, "HTTP/1.", 7) != 0 ||
	    version[7] < '1' || version[7] > '9' || version[8] != '\0'))
		return (400);
	if (!old && f->nhost == 0)
		return (400);
	if (!body && f->length > 0)
		return (400);
	if (method == HTTP_OTHER ||
	    (!uploads && (method == HTTP_POST || method == HTTP_PUT)))
		return (405);
	if (!target_ok(target, method))
		return (400);
	if (body && f->nlength == 0)
		return (411);
	if (f->unexpected && !old)	/* RFC 9110, 10.1.1 */
		return (417);
	return (0);
}
