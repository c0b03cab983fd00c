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

/* A token (RFC 9110, 5.6.2). */
static bool
name_ok(const char *s)
{
	static const char marks[] = "!#$%&'*+-.^_`|~";

	if (*s == '\0')
		return (false);
	for (; *s != '\0'; s++)
		if (!((*s >= '0' && *s <= '9') || (*s >= 'A' && *s <= 'Z') ||
		    (*s >= 'a' && *s <= 'z') || strchr(marks, *s) != NULL))
			return (false);
	return (true);
}

/* RFC 9110, 5.5: no control byte but HTAB. */
static bool
value_ok(const char *s)
{

	for (; *s != '\0'; s++)
		if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
			return (false);
	return (true);
}

/* Loosely uri-host [":" port]: every name is accepted, no list of them is. */
static bool
host_ok(const char *s)
{

	for (; *s != '\0'; s++)
		if (*s <= ' ' || *s == 0x7f ||
		    strchr("/?#@\\\"<>,", *s) != NULL)
			return (false);
	return (true);
}

void
framing_field(struct framing *f, const char *name, const char *value)
{
	unsigned long long n;

	if (!name_ok(name) || !value_ok(value))
		f->bad = true;
	if (strcasecmp(name, "Transfer-Encoding") == 0)
		f->ntransfer++;
	else if (strcasecmp(name, "Host") == 0) {
		f->nhost++;
		if (!host_ok(value))
			f->bad = true;
	} else if (strcasecmp(name, "Content-Length") == 0) {
		f->nlength++;
		if (parse_u64(value, strlen(value), BODY_MAX, &n) == -1)
			f->bad = true;
		else
			f->length = n;
	}
}

static bool
target_ok(const char *s, enum http_method method)
{
	const char *p;

	for (p = s; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return (false);
	if (*s == '/' || strncasecmp(s, "http://", 7) == 0 ||
	    strncasecmp(s, "https://", 8) == 0)
		return (true);
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
	return (0);
}
