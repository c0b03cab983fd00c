/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any bytes as a head and as a heads document.  What is taken must be written
 * again as the same signed lines.
 */

#include "tests/fuzz.h"

#include "proto/check.h"
#include "proto/head.h"

static void
one_head(const char *text, size_t len)
{
	char glob[HEAD_ENTRIES][PATH_BYTES_MAX + 1];
	const char *entries[HEAD_ENTRIES];
	struct buf b = BUF_INIT(HEAD_MAX);
	struct head h;
	size_t i;

	if (head_parse(&h, text, len, NULL) == -1)
		return;
	for (i = 0; i < h.nentry; i++)
		entries[i] = head_entry(&h, i, glob[i], sizeof(glob[i]));
	CHECK(head_write(&b, &h, entries) == 0);
	CHECK(b.len == h.signed_len && memcmp(b.p, text, b.len) == 0);
	buf_free(&b);
	CHECK(head_parse_signed(&h, text, h.signed_len, NULL) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data;
	size_t n;

	one_head(p, size);
	for (; (n = head_span(p, size)) > 0; p += n, size -= n)
		one_head(p, n);
	return (0);
}
