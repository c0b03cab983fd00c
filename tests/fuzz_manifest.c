/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any bytes as a manifest.  What is taken must be written again as the same
 * bytes, and each of its paths and digests must be found.
 */

#include "tests/fuzz.h"

#include "proto/check.h"
#include "proto/manifest.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf b = BUF_INIT(MANIFEST_MAX);
	struct manifest *m;
	struct facts f;
	struct entry e;
	char *text;
	size_t i;

	if ((text = malloc(size + 1)) == NULL)
		return (0);
	memcpy(text, data, size);
	if ((m = manifest_parse(&text, size, NULL)) == NULL)
		return (0);
	(void)buf_adds(&b, MANIFEST_FIRST);
	for (i = 0; i < manifest_n(m); i++) {
		manifest_entry(m, i, &e);
		CHECK(manifest_add(&b, &e) == 0);
		CHECK(manifest_find(m, e.path, e.path_len) == (ssize_t)i);
		CHECK(manifest_facts(m, i, &f) == (e.type != ENTRY_DIR));
		if (e.type == ENTRY_FILE)
			CHECK(manifest_find_digest(m, &e.digest) != -1);
	}
	CHECK(b.len == size && memcmp(b.p, data, size) == 0);
	buf_free(&b);
	manifest_destroy(&m);
	return (0);
}
