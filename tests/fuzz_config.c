/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration of an edge: whatever the bytes, a configuration or a reason;
 * and no file that our pass lets through is read otherwise by zconfig.
 */

#include "tests/fuzz.h"

#include "proto/check.h"
#include "proto/config.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct parse_error err = { .line = 0, .reason = "" };
	struct edge_conf *c;
	char *names;

	if ((c = config_edge_text("e.conf", (const char *)data, size,
	    &err)) == NULL) {
		CHECK(err.reason[0] != '\0');
		CHECK(strncmp(err.reason, "e.conf: zconfig", 15) != 0);
		return (0);
	}
	CHECK((names = config_edge_restart(c, c)) != NULL);
	CHECK(names[0] == '\0');
	free(names);
	config_edge_destroy(&c);
	return (0);
}
