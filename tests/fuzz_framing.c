/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Heads of requests: method, version and target in the first three lines, then
 * a field a line.  What is taken has at most one Host and one length, and no
 * transfer coding.
 */

#include "tests/fuzz.h"

#include "proto/check.h"
#include "proto/framing.h"

#define	PARTS	3

/* The next line of text, NUL-terminated in place; NULL at the end. */
static char *
line(char **text)
{
	char *start = *text, *nl;

	if (start == NULL)
		return (NULL);
	if ((nl = strchr(start, '\n')) != NULL)
		*nl++ = '\0';
	*text = nl;
	return (start);
}

static void
judge(const struct framing *f, char *const part[PARTS], bool uploads)
{
	enum http_method method = framing_method(part[0]);
	unsigned status;

	status = framing_verdict(f, method, part[1], part[2], uploads);
	if (status != 0) {
		CHECK(status >= 400 && status < 600);
		return;
	}
	CHECK(!f->bad && f->nhost <= 1 && f->ntransfer == 0);
	CHECK(f->nlength <= 1);
	CHECK(f->length == 0 || (uploads && f->nlength == 1));
	CHECK(!f->unexpected || strcmp(part[1], "HTTP/1.0") == 0);
	CHECK(strpbrk(part[2], "# ") == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct framing f = { .nhost = 0 };
	char *text, *rest, *part[PARTS], *name, *value;
	size_t i;

	if ((text = malloc(size + 1)) == NULL)
		return (0);
	memcpy(text, data, size);
	text[size] = '\0';
	rest = text;
	for (i = 0; i < PARTS; i++)
		if ((part[i] = line(&rest)) == NULL)
			goto out;
	while ((name = line(&rest)) != NULL) {
		if ((value = strchr(name, ':')) == NULL)
			continue;
		*value++ = '\0';
		framing_field(&f, name, value + strspn(value, " "));
	}
	judge(&f, part, false);
	judge(&f, part, true);
out:
	free(text);
	return (0);
}
