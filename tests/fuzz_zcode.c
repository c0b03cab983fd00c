/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A coded body: behind a first byte "d" as dcz, with the dictionary below, else as
 * zstd.  Whatever it holds, what comes out has the size that was asked for, and
 * comes out again after it was coded.
 */
#include "tests/fuzz.h"

#include "proto/check.h"
#include "proto/zcode.h"

#define	SIZE	1000

static void
again(const struct zcode_dictionary *d, const char *p)
{
	char *coded, *q;
	const char *reason;
	size_t n;

	if (zcode_encode(d, p, SIZE, 2 * SIZE, &coded, &n) == -1)
		return;
	CHECK(zcode_decode(d, coded, n, SIZE, &q, &reason) == 0);
	CHECK(memcmp(p, q, SIZE) == 0);
	free(q);
	free(coded);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char line[] = "./All/a-1.pkg type=file size=1 sha256=0\n";
	struct zcode_dictionary d = { .p = line, .len = sizeof(line) - 1 };
	const struct zcode_dictionary *with;
	const char *reason;
	char *p;

	if (size == 0)
		return (0);
	digest_of(&d.digest, d.p, d.len);
	with = data[0] == 'd' ? &d : NULL;
	if (zcode_decode(with, data + 1, size - 1, SIZE, &p, &reason) == -1)
		return (0);
	CHECK(p[SIZE] == '\0');
	again(with, p);
	free(p);
	return (0);
}
