/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The manifest's grammar, lookups and links, case by case.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/chunk.h"
#include "proto/manifest.h"

#define	D1 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define	D2 "a3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define	TOP MANIFEST_FIRST
#define	FILE_LINE(p) "./" p " type=file size=5 time=7.000000000 sha256=" D1 "\n"

static struct manifest *
parse(const char *text, struct parse_error *err)
{
	char *copy = strdup(text);

	assert_non_null(copy);
	err->reason[0] = '\0';
	return (manifest_parse(&copy, strlen(text), err));
}

static const struct {
	const char	*what, *text;
	unsigned long	 line;
	const char	*reason;
} bad[] = {
	{ "nothing", "", 1, "does not begin" },
	{ "another version", "#mtree v1.0\n. type=dir\n", 1, "does not begin" },
	{ "CR", "#mtree v2.0\r\n. type=dir\r\n", 1, "does not begin" },
	{ "no last LF", TOP "./a type=dir", 3, "no end" },
	{ "no ./", TOP "a type=dir\n", 3, "begins with" },
	{ "unknown type", TOP "./a type=fifo\n", 3, "expected type" },
	{ "unknown key", TOP "./a type=file size=5 mode=1 time=7.000000000 "
	    "sha256=" D1 "\n", 3, "expected size" },
	{ "trailing blank", TOP "./a type=dir \n", 3, "nothing follows" },
	{ "leading zero", TOP "./a type=file size=05 time=7.000000000 sha256="
	    D1 "\n", 3, "expected size" },
	{ "fraction of a second", TOP "./a type=file size=5 time=7.000000001 "
	    "sha256=" D1 "\n", 3, "expected size" },
	{ "short digest", TOP "./a type=file size=5 time=7.000000000 "
	    "sha256=abcd\n", 3, "64 digits" },
	{ "upper-case digest", TOP "./a type=file size=5 time=7.000000000 "
	    "sha256=E3B0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b78"
	    "52b855\n", 3, "bad digest" },
	{ "not in order", TOP FILE_LINE("b") FILE_LINE("a"), 4, "order" },
	{ "twice", TOP FILE_LINE("a") FILE_LINE("a"), 4, "order" },
	{ "order is that of decoded bytes", TOP FILE_LINE("a\\377")
	    FILE_LINE("a!"), 4, "order" },
	{ "no parent", TOP FILE_LINE("a/b"), 3, "parent" },
	{ "a file as parent", TOP FILE_LINE("a") FILE_LINE("a/b"), 4,
	    "parent" },
	{ "empty folder", TOP "./a type=dir\n", 3, "empty folder" },
	{ "dot segment", TOP FILE_LINE("."), 3, "bad path" },
	{ "dot-dot segment", TOP FILE_LINE(".."), 3, "bad path" },
	{ "empty segment", TOP FILE_LINE("/a"), 3, "bad path" },
	{ "first segment with @", TOP FILE_LINE("@1"), 3, "bad path" },
	{ "control byte", TOP FILE_LINE("a\\001"), 3, "bad path" },
	{ "NUL", TOP FILE_LINE("a\\000"), 3, "bad path" },
	{ "needless escape", TOP FILE_LINE("\\141"), 3, "bad path" },
	{ "missing escape", TOP FILE_LINE("a*"), 3, "bad path" },
	{ "short escape", TOP FILE_LINE("a\\40"), 3, "bad path" },
	{ "dangling link", TOP "./a type=link time=7.000000000 link=b\n", 3,
	    "does not lead" },
	{ "link to itself", TOP "./a type=link time=7.000000000 link=a\n", 3,
	    "does not lead" },
	{ "link out of the set", TOP "./a type=link time=7.000000000 "
	    "link=../b\n" FILE_LINE("b"), 3, "does not lead" },
	{ "absolute link", TOP "./a type=link time=7.000000000 link=/b\n"
	    FILE_LINE("b"), 3, "does not lead" },
	{ "link to a folder", TOP "./a type=dir\n" FILE_LINE("a/b")
	    "./c type=link time=7.000000000 link=a\n", 5, "does not lead" },
};

static void
bad_ones_are_refused_at_their_line(void **state)
{
	struct parse_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (parse(bad[i].text, &err) != NULL)
			fail_msg("%s: taken", bad[i].what);
		if (err.line != bad[i].line ||
		    strstr(err.reason, bad[i].reason) == NULL)
			fail_msg("%s: line %lu: %s", bad[i].what, err.line,
			    err.reason);
	}
}

static const char good[] = TOP
    "./All type=dir\n"
    "./All-x type=dir\n"
    FILE_LINE("All-x/z")
    "./All/big.pkg type=file size=262145 time=9.000000000 sha256=" D2 "\n"
    FILE_LINE("All/s\\303\\244\\040b")
    "./Latest type=dir\n"
    "./Latest/b.pkg type=link time=11.000000000 link=c.pkg\n"
    "./Latest/c.pkg type=link time=12.000000000 link=../All/./big.pkg\n";

static void
what_it_says_is_found(void **state)
{
	struct parse_error err;
	struct digest d;
	struct manifest *m;
	struct facts f;
	struct entry e;
	ssize_t at;

	(void)state;
	if ((m = parse(good, &err)) == NULL)
		fail_msg("line %lu: %s", err.line, err.reason);
	assert_int_equal(manifest_n(m), 8);
	assert_int_equal(manifest_files(m), 3);
	assert_int_equal(manifest_bytes(m), 262155);
	assert_int_equal(manifest_rows(m), 2);
	assert_int_equal(manifest_find(m, "All/none", 8), -1);
	assert_int_equal(manifest_find(m, "Al", 2), -1);
	at = manifest_find(m, "All/s\xc3\xa4 b", 9);
	assert_int_not_equal(at, -1);
	manifest_entry(m, (size_t)at, &e);
	assert_string_equal(e.path, "All/s\xc3\xa4 b");
	at = manifest_find(m, "Latest/b.pkg", 12);
	assert_int_not_equal(at, -1);
	assert_true(manifest_facts(m, (size_t)at, &f));
	assert_int_equal(f.size, 262145);
	assert_int_equal(f.time, 11);		/* the link's own */
	assert_int_equal(f.row, 0);
	at = manifest_find(m, "All", 3);
	assert_false(manifest_facts(m, (size_t)at, &f));
	assert_int_equal(digest_parse(&d, D2, 64), 0);
	at = manifest_find_digest(m, &d);
	assert_int_not_equal(at, -1);
	manifest_entry(m, (size_t)at, &e);
	assert_string_equal(e.path, "All/big.pkg");
	d.b[31] ^= 1;
	assert_int_equal(manifest_find_digest(m, &d), -1);
	manifest_destroy(&m);
}

static void
writing_what_was_read_gives_the_same_text(void **state)
{
	struct buf b = BUF_INIT(MANIFEST_MAX);
	struct parse_error err;
	struct manifest *m;
	struct entry e;
	size_t i;

	(void)state;
	assert_non_null(m = parse(good, &err));
	assert_int_equal(buf_adds(&b, MANIFEST_FIRST), 0);
	for (i = 0; i < manifest_n(m); i++) {
		manifest_entry(m, i, &e);
		assert_int_equal(manifest_add(&b, &e), 0);
	}
	assert_string_equal(b.p, good);
	buf_free(&b);
	manifest_destroy(&m);
}

static void
links_end_within_eight_steps(void **state)
{
	struct buf b = BUF_INIT(MANIFEST_MAX);
	struct parse_error err;
	struct manifest *m;
	char *text;
	size_t len;
	int n, i;

	(void)state;
	for (n = 8; n <= 9; n++) {
		(void)buf_adds(&b, MANIFEST_FIRST);
		(void)buf_adds(&b, FILE_LINE("a0"));
		for (i = 1; i <= n; i++)
			(void)buf_addf(&b, "./a%d type=link time=7.000000000 "
			    "link=a%d\n", i, i - 1);
		text = buf_take(&b, &len);
		m = manifest_parse(&text, len, &err);
		assert_int_equal(m != NULL, n == 8);
		manifest_destroy(&m);
	}
}

static void
chunks_are_counted_by_size(void **state)
{

	(void)state;
	assert_int_equal(chunk_rows(0), 0);
	assert_int_equal(chunk_rows(CHUNK_SIZE), 0);
	assert_int_equal(chunk_rows(CHUNK_SIZE + 1), 2);
	assert_int_equal(chunk_rows(2 * (uint64_t)CHUNK_SIZE), 2);
	assert_int_equal(chunk_rows(2 * (uint64_t)CHUNK_SIZE + 1), 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_ones_are_refused_at_their_line),
		cmocka_unit_test(what_it_says_is_found),
		cmocka_unit_test(writing_what_was_read_gives_the_same_text),
		cmocka_unit_test(links_end_within_eight_steps),
		cmocka_unit_test(chunks_are_counted_by_size),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("manifest", tests, NULL, NULL));
}
