/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Certificates, as they lie in the folder of edges.  What is accepted holds
 * keys and a URL that the rest of the program may rely on.
 */

#include "tests/fuzz.h"

#include "keys/cert.h"
#include "keys/minisign.h"
#include "proto/check.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct parse_error err;
	char public[CURVE_TEXT];
	struct cert c;

	CHECK(keys_init() == 0);
	if (cert_parse(&c, (const char *)data, size, &err) == -1)
		return (0);
	CHECK(size <= CERT_FILE_MAX && curve_key_ok(c.public_key));
	CHECK(c.name[0] == '\0' || edge_name_ok(c.name));
	CHECK(c.url[0] == '\0' || strncmp(c.url, "http", 4) == 0);
	CHECK(strlen(c.url) < sizeof(c.url));
	if (c.secret_key[0] != '\0') {
		CHECK(curve_public(c.secret_key, public) == 0);
		CHECK(strcmp(public, c.public_key) == 0);
	}
	return (0);
}
