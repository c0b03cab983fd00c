/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Growing buffers with a cap, and the small helpers that every strict parser
 * shares.  No state; any thread.
 */

#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/check.h"

/* Room for len more bytes and a NUL. */
static int
grow(struct buf *b, size_t len)
{
	size_t size;
	char *p;

	if (b->failed)
		return (-1);
	if (len > b->max || b->len > b->max - len) {
		b->failed = true;
		return (-1);
	}
	if (b->len + len < b->size)
		return (0);
	size = b->size < 256 ? 256 : b->size + b->size / 2;
	if (size < b->len + len + 1)
		size = b->len + len + 1;
	if ((p = realloc(b->p, size)) == NULL) {
		b->failed = true;
		return (-1);
	}
	b->p = p;
	b->size = size;
	return (0);
}

int
buf_add(struct buf *b, const void *data, size_t len)
{

	if (grow(b, len) == -1)
		return (-1);
	if (len > 0)
		memcpy(b->p + b->len, data, len);
	b->len += len;
	b->p[b->len] = '\0';
	return (0);
}

int
buf_adds(struct buf *b, const char *s)
{

	return (buf_add(b, s, strlen(s)));
}

int
buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	CHECK(n >= 0);
	if (grow(b, (size_t)n) == -1)
		return (-1);
	va_start(ap, fmt);
	(void)vsnprintf(b->p + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
	return (0);
}

char *
buf_take(struct buf *b, size_t *len)
{
	char *p = b->p;

	if (len != NULL)
		*len = b->len;
	b->p = NULL;
	b->len = b->size = 0;
	return (p);
}

void
buf_free(struct buf *b)
{

	free(b->p);
	b->p = NULL;
	b->len = b->size = 0;
	b->failed = false;
}

int
parse_fail(struct parse_error *err, unsigned long line, const char *fmt, ...)
{
	va_list ap;

	if (err != NULL) {
		err->line = line;
		va_start(ap, fmt);
		(void)vsnprintf(err->reason, sizeof(err->reason), fmt, ap);
		va_end(ap);
	}
	return (-1);
}

int
parse_u64(const char *s, size_t len, unsigned long long max,
    unsigned long long *out)
{
	unsigned long long v = 0;
	unsigned digit;
	size_t i;

	if (len == 0 || len > 20 || (len > 1 && s[0] == '0'))
		return (-1);
	for (i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return (-1);
		digit = (unsigned)(s[i] - '0');
		if (v > (ULLONG_MAX - digit) / 10)
			return (-1);
		v = v * 10 + digit;
	}
	if (v > max)
		return (-1);
	*out = v;
	return (0);
}
