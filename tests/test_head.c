/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The head's grammar, limits and retention, case by case.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/head.h"

#define	D "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define	SIGNED \
	"pkgcast-head 1\n" \
	"set FreeBSD:14:amd64/latest\n" \
	"generation 42\n" \
	"oldest 35\n" \
	"created 2026-11-22T08:20:17Z\n" \
	"files 34211\n" \
	"bytes 131072004096\n" \
	"manifest sha256:" D " 6611032\n" \
	"chunks sha256:" D " 15990784\n" \
	"entry meta.conf\n" \
	"entry packagesite.*\n" \
	"previous sha256:" D "\n"
#define	SIGNATURE "untrusted comment: x\nAAAA\ntrusted comment: y\nBBBB\n"

/* Replaces the first `from` in a good head by `to`. */
static char *
with(const char *from, const char *to)
{
	static const char good[] = SIGNED SIGNATURE;
	struct buf b = BUF_INIT(65536);
	const char *at = strstr(good, from);

	assert_non_null(at);
	(void)buf_add(&b, good, (size_t)(at - good));
	(void)buf_adds(&b, to);
	(void)buf_adds(&b, at + strlen(from));
	return (buf_take(&b, NULL));
}

static const struct {
	const char	*from, *to;
	unsigned long	 line;
} bad[] = {
	{ "pkgcast-head 1", "pkgcast-head 2", 1 },
	{ "pkgcast-head 1", "\xef\xbb\xbfpkgcast-head 1", 1 },
	{ "set FreeBSD:14:amd64/latest", "set .hidden", 2 },
	{ "set FreeBSD:14:amd64/latest", "set a//b", 2 },
	{ "set FreeBSD:14:amd64/latest", "set a/b/c/d/e/f/g/h/i", 2 },
	{ "set FreeBSD:14:amd64/latest", "set a ", 2 },
	{ "set FreeBSD:14:amd64/latest\n", "", 2 },
	{ "generation 42", "generation 042", 3 },
	{ "generation 42", "generation -42", 3 },
	{ "generation 42", "generation  42", 3 },
	{ "generation 42", "generation 9007199254740992", 3 },
	{ "generation 42", "generation 42\r", 3 },
	{ "oldest 35", "oldest 43", 4 },
	{ "oldest 35", "oldest 0", 4 },
	{ "created 2026-11-22T08:20:17Z", "created 2026-11-31T08:20:17Z", 5 },
	{ "created 2026-11-22T08:20:17Z", "created 2026-11-22 08:20:17Z", 5 },
	{ "files 34211", "files 1000001", 6 },
	{ "manifest sha256:", "manifest sha512:", 8 },
	{ " 6611032\n", " 268435457\n", 8 },
	{ " 15990784\n", " 15990785\n", 9 },
	{ "entry meta.conf", "entry /meta.conf", 10 },
	{ "entry meta.conf", "entry me[t]a.conf", 10 },
	{ "entry packagesite.*", "entry meta.conf", 11 },
	{ "entry meta.conf", "unknown x", 10 },
	{ "previous sha256:" D, "previous sha256:" D " 5", 12 },
	{ "previous sha256:" D, "previous nil", 12 },
	{ "BBBB\n", "BBBB", 16 },
	{ "BBBB\n", "BBBB\nmore\n", 17 },
};

static void
bad_ones_are_refused_at_their_line(void **state)
{
	struct parse_error err;
	struct head h;
	char *text;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		text = with(bad[i].from, bad[i].to);
		if (head_parse(&h, text, strlen(text), &err) != -1)
			fail_msg("taken: %s", bad[i].to);
		if (err.line != bad[i].line)
			fail_msg("%s: line %lu: %s", bad[i].to, err.line,
			    err.reason);
		free(text);
	}
}

static void
a_good_one_is_understood(void **state)
{
	static const char text[] = SIGNED SIGNATURE;
	struct parse_error err;
	struct digest d;
	struct head h;
	char glob[64];

	(void)state;
	if (head_parse(&h, text, sizeof(text) - 1, &err) == -1)
		fail_msg("line %lu: %s", err.line, err.reason);
	assert_string_equal(h.set, "FreeBSD:14:amd64/latest");
	assert_int_equal(h.generation, 42);
	assert_int_equal(h.oldest, 35);
	assert_int_equal(h.created, 1795335617);
	assert_int_equal(h.manifest_size, 6611032);
	assert_int_equal(h.nentry, 2);
	assert_string_equal(head_entry(&h, 1, glob, sizeof(glob)),
	    "packagesite.*");
	assert_true(head_is_entry(&h, "packagesite.pkg"));
	assert_false(head_is_entry(&h, "All/packagesite.pkg"));
	assert_int_equal(h.signed_len, sizeof(SIGNED) - 1);
	digest_of(&d, SIGNED, sizeof(SIGNED) - 1);
	assert_true(digest_eq(&d, &h.digest));
	assert_int_equal(head_parse_signed(&h, SIGNED, sizeof(SIGNED) - 1,
	    &err), 0);
	assert_int_equal(head_parse_signed(&h, text, sizeof(text) - 1, &err),
	    -1);
}

static void
writing_gives_what_was_read(void **state)
{
	static const char text[] = SIGNED SIGNATURE;
	const char *entries[HEAD_ENTRIES] = { "meta.conf", "packagesite.*" };
	struct buf b = BUF_INIT(HEAD_MAX);
	struct head h;

	(void)state;
	assert_int_equal(head_parse(&h, text, sizeof(text) - 1, NULL), 0);
	assert_int_equal(head_write(&b, &h, entries), 0);
	assert_string_equal(b.p, SIGNED);
	buf_free(&b);
}

static void
a_heads_document_is_cut_at_signatures(void **state)
{
	static const char one[] = SIGNED SIGNATURE;
	static const char two[] = SIGNED SIGNATURE SIGNED SIGNATURE;

	(void)state;
	assert_int_equal(head_span(two, sizeof(two) - 1), sizeof(one) - 1);
	assert_int_equal(head_span(one, sizeof(one) - 2), 0);
	assert_int_equal(head_span("", 0), 0);
}

static void
too_long_is_refused(void **state)
{
	struct parse_error err;
	char text[HEAD_MAX + 1];
	struct head h;

	(void)state;
	memset(text, 'a', sizeof(text));
	assert_int_equal(head_parse(&h, text, sizeof(text), &err), -1);
	assert_non_null(strstr(err.reason, "at most"));
}

#define	HOUR	3600

static void
ten_and_all_younger_than_two_days_are_kept(void **state)
{
	uint64_t g[300];
	int64_t created[300];
	size_t i;

	(void)state;
	for (i = 0; i < 300; i++) {
		g[i] = 300 - i;
		created[i] = 1000000 - (int64_t)i * HOUR;
	}
	assert_int_equal(head_retain(g, created, 300, 1, 1000000), 48);
	assert_int_equal(head_retain(g, created, 300, 290, 1000000), 11);
	assert_int_equal(head_retain(g, created, 5, 1, 1000000), 5);
	assert_int_equal(head_retain(g, created, 300, 1, 9000000), 10);
	for (i = 0; i < 300; i++)
		created[i] = 1000000;
	assert_int_equal(head_retain(g, created, 300, 1, 1000000), 200);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_ones_are_refused_at_their_line),
		cmocka_unit_test(a_good_one_is_understood),
		cmocka_unit_test(writing_gives_what_was_read),
		cmocka_unit_test(a_heads_document_is_cut_at_signatures),
		cmocka_unit_test(too_long_is_refused),
		cmocka_unit_test(ten_and_all_younger_than_two_days_are_kept),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("head", tests, NULL, NULL));
}
