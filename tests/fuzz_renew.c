/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A renew message: what is read is written, and read again as the same.
 */

#include "tests/fuzz.h"

#include "proto/check.h"
#include "proto/message.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct parse_error err = { .line = 0, .reason = "" };
	struct renew *a, *b;
	size_t len, again;
	char *text, *second;

	if ((a = renew_parse((const char *)data, size, &err)) == NULL) {
		CHECK(err.reason[0] != '\0');
		return (0);
	}
	CHECK((text = renew_write(a, &len)) != NULL);
	CHECK((b = renew_parse(text, len, NULL)) != NULL);
	CHECK((second = renew_write(b, &again)) != NULL);
	CHECK(len == again && memcmp(text, second, len) == 0);
	free(text);
	free(second);
	renew_destroy(&a);
	renew_destroy(&b);
	return (0);
}
