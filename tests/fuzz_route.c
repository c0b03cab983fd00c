/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A raw request-target.  What is understood is a folded path without "..",
 * control bytes or a leading slash, and means the same when it is sent again.
 */
#include "tests/fuzz.h"

#include "proto/check.h"
#include "proto/route.h"

static void
check_path(const char *path)
{
	const char *p;
	size_t n;

	CHECK(strlen(path) <= ROUTE_MAX);
	CHECK(path[0] != '/');
	CHECK(strstr(path, "//") == NULL);
	for (p = path; *p != '\0'; p++)
		CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
	for (p = path; *p != '\0'; p += n + (p[n] == '/')) {
		n = strcspn(p, "/");
		CHECK(n > 0);
		CHECK(!(n == 1 && p[0] == '.'));
		CHECK(!(n == 2 && p[0] == '.' && p[1] == '.'));
	}
}

/* Escapes what would be taken for something else. */
static size_t
write_target(const char *path, char out[3 * ROUTE_MAX + 2])
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	out[n++] = '/';
	for (; *path != '\0'; path++) {
		if (*path != '%' && *path != '?') {
			out[n++] = *path;
			continue;
		}
		out[n++] = '%';
		out[n++] = hex[(unsigned char)*path >> 4];
		out[n++] = hex[*path & 15];
	}
	return (n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char again[3 * ROUTE_MAX + 2];
	struct route r, s;
	const char *rest;
	uint64_t n;

	route_parse((const char *)data, size, &r);
	if (r.kind == ROUTE_BAD) {
		CHECK(r.reason != NULL);
		return (0);
	}
	if (r.kind != ROUTE_PATH)
		return (0);
	check_path(r.path);
	if (strlen(r.path) < ROUTE_MAX) {
		route_parse(again, write_target(r.path, again), &s);
		CHECK(s.kind == ROUTE_PATH);
		CHECK(strcmp(r.path, s.path) == 0);
	}
	rest = r.path;
	n = route_generation(&rest);
	CHECK(rest >= r.path && rest <= r.path + strlen(r.path));
	CHECK(n == 0 || r.path[0] == '@');
	return (0);
}
