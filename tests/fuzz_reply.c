/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Heads of upstreams' answers, a line at a time: whatever they say, a body that
 * is taken is one of the bytes that were asked for.
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
	CHECK(!r->malformed && !r->coded && r->coding == CODING_NONE);
	CHECK(skip == (r->status == 200 ? from : 0));
	if (r->status == 206)
		CHECK(ranged && r->first == from && r->last == to - 1 &&
		    r->total == SIZE);
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
	CHECK(r->status == 200 && !r->malformed && !r->coded);
	CHECK(r->coding == CODING_ZSTD || (dcz && r->coding == CODING_DCZ));
	CHECK(!r->has_length || r->length <= SIZE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data, *end;
	struct reply r;
	size_t len;
	char *line;

	memset(&r, 0, sizeof(r));
	for (; size > 0; p += len, size -= len) {
		end = memchr(p, '\n', size);
		len = end == NULL ? size : (size_t)(end - p) + 1;
		/* A copy, so that a byte beyond it is noticed. */
		CHECK((line = malloc(len)) != NULL);
		memcpy(line, p, len);
		if (reply_line(&r, line, len) == REPLY_END) {
			judge(&r, 0, SIZE);
			judge(&r, FROM, SIZE);
			judge(&r, FROM, 2 * FROM);
			judge_coded(&r, true);
			judge_coded(&r, false);
		}
		free(line);
	}
	judge(&r, 0, SIZE);
	return (0);
}
