/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Header values of a request, one a line: Range, If-Range, If-Match,
 * If-None-Match, If-Modified-Since, If-Unmodified-Since; a missing line is a
 * missing field.  Whatever they say, the slice lies in the file.
 */
#include "tests/fuzz.h"

#include "proto/answer.h"
#include "proto/check.h"

#define	FIELDS	6

static void
check_answer(const struct answer *a, enum http_method method, uint64_t size)
{
	size_t i;

	CHECK(a->status == 200 || a->status == 206 || a->status == 304 ||
	    a->status == 412 || a->status == 416);
	CHECK(a->offset <= size && a->length <= size - a->offset);
	CHECK(a->nheader <= ANSWER_HEADERS);
	CHECK(!a->send_body || (method == HTTP_GET && a->status < 300));
	CHECK(a->status != 206 || (method == HTTP_GET && a->length > 0));
	CHECK(a->status != 200 || a->length == size);
	for (i = 0; i < a->nheader; i++)
		CHECK(strpbrk(a->header[i].value, "\r\n") == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t sizes[] = { 0, 1, 100, 1ull << 40, UINT64_MAX };
	struct answer_file f = { .time = 1000000000, .etag = "tag",
	    .type = "x" };
	char *text, *line, *next;
	struct http_fields q;
	const char **field[FIELDS] = { &q.range, &q.if_range, &q.if_match,
	    &q.if_none_match, &q.if_modified_since, &q.if_unmodified_since };
	struct answer a;
	size_t i;

	memset(&q, 0, sizeof(q));
	if ((text = malloc(size + 1)) == NULL)
		return (0);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	for (i = 0, line = text; i < FIELDS && line != NULL; i++, line = next) {
		if ((next = strchr(line, '\n')) != NULL)
			*next++ = '\0';
		if (*line != '\0')
			*field[i] = line;
	}
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		f.size = sizes[i];
		answer_file(&a, HTTP_GET, &q, &f);
		check_answer(&a, HTTP_GET, f.size);
		answer_file(&a, HTTP_HEAD, &q, &f);
		check_answer(&a, HTTP_HEAD, f.size);
	}
	free(text);
	return (0);
}
