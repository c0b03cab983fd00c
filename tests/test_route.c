/* SPDX-License-Identifier: BSD-2-Clause */
/* Request targets and what they ask for (pkgcast-protocol(7)). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/route.h"

#define	HEX	"0123456789abcdef0123456789abcdef" \
		"0123456789abcdef0123456789abcdef"

static const struct {
	const char	*target;
	enum route_kind	 kind;
	const char	*path;			/* of path and mirrors */
} cases[] = {
	{ "/a/b", ROUTE_PATH, "a/b" },
	{ "/", ROUTE_PATH, "" },
	{ "/a/", ROUTE_PATH, "a/" },
	{ "/FreeBSD:14:amd64/latest/All/gtk+demo-2.0_1,1.pkg", ROUTE_PATH,
	    "FreeBSD:14:amd64/latest/All/gtk+demo-2.0_1,1.pkg" },
	{ "/All/Hashed/app-3.1~2$ic1ppjmf.pkg", ROUTE_PATH,
	    "All/Hashed/app-3.1~2$ic1ppjmf.pkg" },
	{ "/set/@42/a", ROUTE_PATH, "set/@42/a" },

	/* Folding (clients.md: apt and pkg send these). */
	{ "//meta.conf", ROUTE_PATH, "meta.conf" },
	{ "///data.pkg", ROUTE_PATH, "data.pkg" },
	{ "/a//b///c", ROUTE_PATH, "a/b/c" },
	{ "/./Release", ROUTE_PATH, "Release" },
	{ "/a/./b/.", ROUTE_PATH, "a/b/" },
	{ "/a/.b/...", ROUTE_PATH, "a/.b/..." },
	{ "//", ROUTE_PATH, "" },

	/* Decoding, once. */
	{ "/%61%2Eb", ROUTE_PATH, "a.b" },
	{ "/a%20b", ROUTE_PATH, "a b" },
	{ "/a+b", ROUTE_PATH, "a+b" },
	{ "/a%2Bb", ROUTE_PATH, "a+b" },
	{ "/%2561", ROUTE_PATH, "%61" },
	{ "/a%C3%A4", ROUTE_PATH, "a\303\244" },
	{ "/a\303\244", ROUTE_PATH, "a\303\244" },
	{ "/%2e/a", ROUTE_PATH, "a" },
	{ "/a%3Fb", ROUTE_PATH, "a?b" },
	{ "/a?b", ROUTE_PATH, "a" },
	{ "/a?b/../c%00", ROUTE_PATH, "a" },
	{ "/?", ROUTE_PATH, "" },

	{ "http://host/a", ROUTE_PATH, "a" },
	{ "HTTP://host:80//a", ROUTE_PATH, "a" },
	{ "https://host/a?b", ROUTE_PATH, "a" },
	{ "http://host", ROUTE_PATH, "" },
	{ "http://host?a", ROUTE_PATH, "" },

	{ "/a%2Fb", ROUTE_BAD, NULL },
	{ "/a%2fb", ROUTE_BAD, NULL },
	{ "/a%00", ROUTE_BAD, NULL },
	{ "/a%0a", ROUTE_BAD, NULL },
	{ "/a%7f", ROUTE_BAD, NULL },
	{ "/a%", ROUTE_BAD, NULL },
	{ "/a%4", ROUTE_BAD, NULL },
	{ "/a%4x", ROUTE_BAD, NULL },
	{ "/a%+4", ROUTE_BAD, NULL },
	{ "/..", ROUTE_BAD, NULL },
	{ "/a/../b", ROUTE_BAD, NULL },
	{ "/a/%2e%2e/b", ROUTE_BAD, NULL },
	{ "/a/.%2E", ROUTE_BAD, NULL },
	{ "/../../etc/passwd", ROUTE_BAD, NULL },
	{ "", ROUTE_BAD, NULL },
	{ "a", ROUTE_BAD, NULL },
	{ "ftp://host/a", ROUTE_BAD, NULL },
	{ "http:///a", ROUTE_BAD, NULL },
	{ "http://", ROUTE_BAD, NULL },
	{ "?a", ROUTE_BAD, NULL },

	{ "/.pkgcast/heads", ROUTE_HEADS, NULL },
	{ "//.pkgcast//heads?x", ROUTE_HEADS, NULL },
	{ "/%2epkgcast/heads", ROUTE_HEADS, NULL },
	{ "/.pkgcast/trust", ROUTE_TRUST, NULL },
	{ "/.pkgcast/status", ROUTE_STATUS, NULL },
	{ "/.pkgcast/metrics", ROUTE_METRICS, NULL },
	{ "/.pkgcast/head/" HEX, ROUTE_HEAD, NULL },
	{ "/.pkgcast/blob/" HEX, ROUTE_BLOB, NULL },
	{ "/.pkgcast/mirrors/a/b", ROUTE_MIRRORS, "a/b" },
	{ "/.pkgcast", ROUTE_NONE, NULL },
	{ "/.pkgcast/", ROUTE_NONE, NULL },
	{ "/.pkgcast/heads/", ROUTE_NONE, NULL },
	{ "/.pkgcast/other", ROUTE_NONE, NULL },
	{ "/.pkgcast/blob/", ROUTE_NONE, NULL },
	{ "/.pkgcast/blob/" HEX "0", ROUTE_NONE, NULL },
	{ "/.pkgcast/blob/0" HEX, ROUTE_NONE, NULL },
	{ "/.pkgcast/blob/" "ABCDEF6789abcdef0123456789abcdef"
	    "0123456789abcdef0123456789abcdef", ROUTE_NONE, NULL },
	{ "*", ROUTE_NONE, NULL },
	{ "/.pkgcasts/a", ROUTE_PATH, ".pkgcasts/a" },
	{ "/a/.pkgcast/heads", ROUTE_PATH, "a/.pkgcast/heads" },
};

static void
understands_targets(void **state)
{
	struct route r;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		route_parse(cases[i].target, strlen(cases[i].target), &r);
		if (r.kind != cases[i].kind)
			fail_msg("%s: kind %d", cases[i].target, (int)r.kind);
		if (r.kind == ROUTE_BAD)
			assert_non_null(r.reason);
		if (cases[i].path != NULL)
			assert_string_equal(r.path, cases[i].path);
	}
}

static void
reads_the_digest(void **state)
{
	char hex[DIGEST_HEX + 1];
	struct route r;

	(void)state;
	route_parse("/.pkgcast/blob/" HEX, 15 + DIGEST_HEX, &r);
	assert_int_equal(r.kind, ROUTE_BLOB);
	assert_string_equal(digest_hex(&r.digest, hex), HEX);
}

static void
limits_length(void **state)
{
	char target[ROUTE_MAX + 3];
	struct route r;

	(void)state;
	memset(target, 'a', sizeof(target));
	target[0] = '/';
	route_parse(target, ROUTE_MAX, &r);
	assert_int_equal(r.kind, ROUTE_PATH);
	assert_int_equal(strlen(r.path), ROUTE_MAX - 1);
	route_parse(target, ROUTE_MAX + 1, &r);
	assert_int_equal(r.kind, ROUTE_BAD);
	/* Only len counts, and NUL is a byte like others. */
	route_parse("/a\0b", 4, &r);
	assert_int_equal(r.kind, ROUTE_BAD);
	route_parse("/ab", 2, &r);
	assert_string_equal(r.path, "a");
}

static void
finds_generations(void **state)
{
	static const struct {
		const char	*path;
		uint64_t	 n;
		const char	*rest;
	} paths[] = {
		{ "@42/a/b", 42, "a/b" },
		{ "@1/a", 1, "a" },
		{ "@42", 42, "" },
		{ "@42/", 42, "" },
		{ "@9007199254740991/a", 9007199254740991ull, "a" },
		{ "@9007199254740992/a", UINT64_MAX, "@9007199254740992/a" },
		{ "@0/a", UINT64_MAX, "@0/a" },
		{ "@042/a", UINT64_MAX, "@042/a" },
		{ "@-1/a", UINT64_MAX, "@-1/a" },
		{ "@/a", UINT64_MAX, "@/a" },
		{ "@", UINT64_MAX, "@" },
		{ "@x/a", UINT64_MAX, "@x/a" },
		{ "@4 2/a", UINT64_MAX, "@4 2/a" },
		{ "a/@42/b", 0, "a/@42/b" },
		{ "42/a", 0, "42/a" },
		{ "", 0, "" },
	};
	const char *p;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		p = paths[i].path;
		if (route_generation(&p) != paths[i].n)
			fail_msg("%s", paths[i].path);
		assert_string_equal(p, paths[i].rest);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(understands_targets),
		cmocka_unit_test(reads_the_digest),
		cmocka_unit_test(limits_length),
		cmocka_unit_test(finds_generations),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("route", tests, NULL, NULL));
}
