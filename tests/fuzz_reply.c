/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Upstreams' answers, heads a line at a time and what follows them: whatever they
 * say, a body that is taken is one of the bytes that were asked for, and it is
 * the same to whoever gets it in other pieces.
 */

#include "tests/fuzz.h"

#include "edge/reply.h"
#include "proto/check.h"

#define	SIZE		1000000u
#define	FROM		262144u

static void
judge(const struct reply *r, uint64_t from, uint64_t to)
{
	bool ranged = from > 0 || to < SIZE;
	char reason[UPSTREAM_REASON] = "";
	enum reply_verdict v;
	uint64_t skip;

	v = reply_judge(r, SIZE, from, to, ranged, &skip, reason);
	CHECK(strlen(reason) < sizeof(reason));
	CHECK((v == REPLY_BODY || v == REPLY_ELSE) == (reason[0] == '\0'));
	if (v != REPLY_BODY)
		return;
	CHECK(r->status == 200 || r->status == 206);
	CHECK(!r->coded && r->coding == CODING_NONE);
	CHECK(skip == (r->status == 200 ? from : 0));
	if (r->status == 206)
		CHECK(ranged && !r->bad_range && r->first == from &&
		    r->last == to - 1 && r->total == SIZE);
	else if (r->has_length)
		CHECK(r->length == SIZE);
}

/* Whoever offers codings gets what he has offered, or it is no such body. */
static void
judge_coded(const struct reply *r, bool dcz)
{
	char reason[UPSTREAM_REASON] = "";
	enum reply_verdict v;

	v = reply_judge_coded(r, dcz, SIZE, reason);
	CHECK((v == REPLY_BROKEN) == (reason[0] != '\0'));
	if (v != REPLY_BODY)
		return;
	CHECK(r->status == 200 && !r->coded);
	CHECK(r->coding == CODING_ZSTD || (dcz && r->coding == CODING_DCZ));
	CHECK(!r->has_length || r->length <= SIZE);
}

/* A head that may be used says in one way only where its body ends. */
static void
head(const struct reply *r)
{

	CHECK(r->status >= 100 && r->status <= 999 && r->status != 101);
	CHECK(!r->chunked || !r->has_length);
	CHECK(!r->has_length || r->length <= INT64_MAX);
	judge(r, 0, SIZE);
	judge(r, FROM, SIZE);
	judge(r, FROM, 2 * FROM);
	judge_coded(r, true);
	judge_coded(r, false);
}

/* At once, in two pieces and byte by byte, it has the same fault, or none. */
static void
body(struct reply *r, const uint8_t *p, size_t size)
{
	struct reply once = *r, two = *r;
	size_t i;

	reply_body(&once, p, size);
	reply_body(&two, p, size / 2);
	reply_body(&two, p + size / 2, size - size / 2);
	for (i = 0; i < size; i++)
		reply_body(r, p + i, 1);
	CHECK(r->fault == once.fault && r->fault == two.fault);
	if (r->fault != NULL)
		return;
	CHECK(r->at == once.at && r->at == two.at);
	CHECK(r->rest == once.rest && r->rest == two.rest);
	CHECK(!r->has_length || size + r->rest == r->length);
	if (reply_is_over(r)) {
		reply_body(&once, "", 1);
		CHECK(once.fault != NULL);
	}
	/* Trailers and the like come to the header callback too. */
	CHECK(reply_line(r, "X", 1) == REPLY_FIELD && r->fault == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end;
	enum reply_line got;
	struct reply r;
	size_t len;
	char *line;

	memset(&r, 0, sizeof(r));
	for (; size > 0; data += len, size -= len) {
		end = memchr(data, '\n', size);
		len = end == NULL ? size : (size_t)(end - data) + 1;
		/* A copy, so that a byte beyond it is noticed. */
		CHECK((line = malloc(len)) != NULL);
		memcpy(line, data, len);
		got = reply_line(&r, line, len);
		free(line);
		CHECK(r.fault == NULL || got == REPLY_END);
		if (r.fault != NULL)
			return (0);
		if (got != REPLY_END)
			continue;
		head(&r);
		/* Behind a redirect may come another head. */
		if (r.status >= 200 && r.status / 100 != 3) {
			body(&r, data + len, size - len);
			return (0);
		}
	}
	return (0);
}
