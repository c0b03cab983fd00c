/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Accept-Encoding on the first line, Available-Dictionary on the second.
 */
#include "tests/fuzz.h"

#include "proto/check.h"
#include "proto/coding.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text, *second, out[CODING_DICTIONARY];
	enum coding with, without;
	struct digest d;

	if ((text = malloc(size + 1)) == NULL)
		return (0);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	if ((second = strchr(text, '\n')) != NULL)
		*second++ = '\0';
	with = coding_choose(text, true);
	without = coding_choose(text, false);
	/* A dictionary at hand makes nobody take less. */
	CHECK(without == CODING_NONE || without == CODING_ZSTD);
	CHECK(with != CODING_NONE || without == CODING_NONE);
	CHECK(with != CODING_ZSTD || without == CODING_ZSTD);
	/* Each digest is written in one way. */
	if (second != NULL && coding_dictionary_parse(second, &d) == 0)
		CHECK(strcmp(coding_dictionary(&d, out), second) == 0);
	free(text);
	return (0);
}
