/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The content codings zstd and dcz, also beside the zstd program, and how a
 * request chooses between them.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/coding.h"
#include "proto/fd.h"
#include "proto/zcode.h"

#define	MIB		(1u << 20)

static char dir[] = "/tmp/pkgcast-zcode.XXXXXX";

/* Lines as a manifest has them; each `changed`th differs by the seed. */
static char *
document(size_t len, unsigned seed, unsigned changed)
{
	uint64_t x = 88172645463325252u;
	unsigned line = 0;
	char text[160], *p;
	size_t at = 0, n;

	assert_non_null(p = malloc(len + 1));
	for (; at < len; at += n, line++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		n = (size_t)snprintf(text, sizeof(text), "./All/p%u-1.pkg "
		    "type=file size=%u sha256=%016llx%016llx\n", line,
		    (unsigned)(x % 100000), (unsigned long long)x,
		    (unsigned long long)(x * 0x9e3779b97f4a7c15u +
		    (changed != 0 && line % changed == 0 ? seed : 0)));
		n = n < len - at ? n : len - at;
		memcpy(p + at, text, n);
	}
	p[len] = '\0';
	return (p);
}

static struct zcode_dictionary
dictionary(const char *p, size_t len)
{
	struct zcode_dictionary d = { .p = p, .len = len };

	digest_of(&d.digest, p, len);
	return (d);
}

static void
assert_decodes(const struct zcode_dictionary *d, const char *coded, size_t n,
    const char *want, size_t len)
{
	const char *reason = "";
	char *p;

	if (zcode_decode(d, coded, n, len, &p, &reason) == -1)
		fail_msg("%zu bytes: %s", len, reason);
	assert_memory_equal(p, want, len);
	assert_int_equal(p[len], '\0');
	free(p);
}

static void
assert_refused(const struct zcode_dictionary *d, const char *coded, size_t n,
    size_t len, const char *want)
{
	const char *reason = NULL;
	char *p = NULL;

	if (zcode_decode(d, coded, n, len, &p, &reason) == 0)
		fail_msg("decoded, instead of: %s", want);
	assert_int_equal(errno, EBADMSG);
	assert_null(p);
	assert_string_equal(reason, want);
}

static void
frames_are_these_bytes(void **state)
{
	static const uint8_t head[] = { 0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0 };
	/* Magic; one segment with a checksum and a size of one byte; raw block,
	 * the last, of 3 bytes. */
	static const uint8_t frame[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x24, 3,
	    0x19, 0, 0, 'a', 'b', 'c' };
	struct zcode_dictionary d = dictionary("0123456789", 10);
	size_t n;
	char *p;

	(void)state;
	assert_int_equal(zcode_encode(NULL, "abc", 3, 100, &p, &n), 0);
	assert_int_equal(n, sizeof(frame) + 4);
	assert_memory_equal(p, frame, sizeof(frame));
	free(p);
	assert_int_equal(zcode_encode(&d, "abc", 3, 100, &p, &n), 0);
	assert_int_equal(n, sizeof(head) + DIGEST_LEN + sizeof(frame) + 4);
	assert_memory_equal(p, head, sizeof(head));
	assert_memory_equal(p + sizeof(head), d.digest.b, DIGEST_LEN);
	assert_memory_equal(p + ZCODE_DCZ_HEAD, frame, sizeof(frame));
	assert_decodes(&d, p, n, "abc", 3);
	free(p);
}

static const struct {
	size_t	len, dictionary;	/* bytes; 0: none */
} sizes[] = {
	{ 1, 0 }, { 1, 1 }, { 100, 0 }, { 100, 5 * MIB }, { 300000, 0 },
	{ 300000, 300000 }, { 5 * MIB, 5 * MIB - 17 }, { 9 * MIB, 0 },
	{ 9 * MIB, 1000 }, { 9 * MIB, 8 * MIB }, { 20 * MIB, 15 * MIB },
};

static void
what_was_coded_is_decoded(void **state)
{
	struct zcode_dictionary d;
	char *p, *old, *coded;
	size_t i, n;

	(void)state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		p = document(sizes[i].len, 1, 100);
		old = document(sizes[i].dictionary, 2, 100);
		d = dictionary(old, sizes[i].dictionary);
		assert_int_equal(zcode_encode(d.len > 0 ? &d : NULL, p,
		    sizes[i].len, sizes[i].len + 1000, &coded, &n), 0);
		assert_true(n <= zcode_bound(sizes[i].len));
		assert_decodes(d.len > 0 ? &d : NULL, coded, n, p,
		    sizes[i].len);
		free(coded);
		free(old);
		free(p);
	}
}

/* 1% of the lines differ: each of them costs its digest, and little more. */
static void
a_dictionary_leaves_what_changed(void **state)
{
	const size_t len = 4 * MIB;
	char *p = document(len, 1, 100), *old = document(len, 2, 100), *coded;
	struct zcode_dictionary d = dictionary(old, len);
	size_t n, without;

	(void)state;
	assert_int_equal(zcode_encode(NULL, p, len, len, &coded, &without), 0);
	free(coded);
	assert_int_equal(zcode_encode(&d, p, len, len, &coded, &n), 0);
	free(coded);
	assert_true(without < len * 2 / 3);
	assert_true(n < len / 100);
	free(p);
	free(old);
}

static void
no_more_than_max_is_made(void **state)
{
	char *p = document(100000, 1, 1), *coded, *again;
	struct zcode_dictionary d = dictionary(p, 1000);
	size_t n, m;

	(void)state;
	assert_int_equal(zcode_encode(&d, p, 100000, 100000, &coded, &n), 0);
	assert_int_equal(zcode_encode(&d, p, 100000, n / 2, &again, &m), -1);
	assert_int_equal(errno, EFBIG);
	assert_int_equal(zcode_encode(&d, p, 100000, 40, &again, &m), -1);
	assert_int_equal(errno, EFBIG);
	assert_int_equal(zcode_encode(NULL, p, 100000, 0, &again, &m), -1);
	assert_int_equal(errno, EFBIG);
	free(coded);
	free(p);
}

static void
nothing_else_is_decoded(void **state)
{
	char *p = document(3000, 1, 10), *old = document(3000, 2, 10), *coded;
	struct zcode_dictionary d = dictionary(old, 3000), other = d;
	char more[4000];
	size_t n;

	(void)state;
	assert_int_equal(zcode_encode(&d, p, 3000, 3000, &coded, &n), 0);
	memcpy(more, coded, n);
	more[n] = 0;
	assert_refused(&d, more, n + 1, 3000, "bytes behind the zstd frame");
	memcpy(more + n, coded + 40, n - 40);
	assert_refused(&d, more, 2 * n - 40, 3000,
	    "bytes behind the zstd frame");
	assert_refused(&d, coded, n, 2999, "zstd frame of another size");
	assert_refused(&d, coded, n, 3001, "zstd frame of another size");
	assert_refused(NULL, coded, n, 3000, "no zstd frame");
	assert_refused(&d, coded + 40, n - 40, 3000, "no dcz head");
	assert_refused(&d, coded, 39, 3000, "no dcz head");
	assert_refused(&d, coded, 0, 3000, "no dcz head");
	assert_refused(NULL, NULL, 0, 3000, "no zstd frame");
	other.digest.b[31] ^= 1;
	assert_refused(&other, coded, n, 3000, "another dictionary than offered");
	/* Under the right name, so the frame's checksum tells. */
	old[1500] ^= 1;
	assert_refused(&d, coded, n, 3000, "zstd frame cannot be decoded");
	free(coded);
	free(p);
	free(old);
}

static void
cut_and_damaged_bodies_are_refused(void **state)
{
	char *p = document(2000, 1, 10), *old = document(2000, 2, 10);
	struct zcode_dictionary d = dictionary(old, 2000);
	const char *reason;
	char *coded, *out;
	size_t n, i;

	(void)state;
	assert_int_equal(zcode_encode(&d, p, 2000, 2000, &coded, &n), 0);
	for (i = 0; i < n; i++) {
		out = malloc(i + 1);	/* so that reading beyond is found */
		memcpy(out, coded, i);
		assert_int_equal(zcode_decode(&d, out, i, 2000, &old, &reason),
		    -1);
		assert_int_equal(errno, EBADMSG);
		free(out);
	}
	old = (char *)(uintptr_t)d.p;
	for (i = 0; i < 8 * n; i++) {
		coded[i / 8] ^= (char)(1 << i % 8);
		if (zcode_decode(&d, coded, n, 2000, &out, &reason) == 0) {
			assert_memory_equal(out, p, 2000);
			free(out);
		}
		coded[i / 8] ^= (char)(1 << i % 8);
	}
	free(coded);
	free(old);
	free(p);
}

/* Beside the zstd program. */

static void
put(const char *name, const void *p, size_t len)
{
	char path[256];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_non_null(f = fopen(path, "w"));
	assert_int_equal(fwrite(p, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static char *
take(const char *name, size_t *len)
{
	char path[256], *p;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_non_null(p = fd_slurp(AT_FDCWD, path, 100 * MIB, len));
	return (p);
}

static void
shell(const char *command)
{
	char line[1024];

	(void)snprintf(line, sizeof(line), "(cd %s && rm -f out && %s) 2>%s/said",
	    dir, command, dir);
	if (system(line) != 0)
		fail_msg("failed: %s", command);
}

/* What the program has made of it. */
static void
is_out(const char *p, size_t len)
{
	size_t n;
	char *q = take("out", &n);

	assert_int_equal(n, len);
	assert_memory_equal(q, p, len);
	free(q);
}

static void
the_program_decodes_ours(void **state)
{
	const size_t len = 3 * MIB;
	char *p = document(len, 1, 50), *old = document(len, 2, 50), *q;
	struct zcode_dictionary d = dictionary(old, len);
	size_t n;

	(void)state;
	put("old", old, len);
	assert_int_equal(zcode_encode(NULL, p, len, len, &q, &n), 0);
	put("coded", q, n);
	free(q);
	shell("zstd -q -t coded && zstd -q -d -c coded >out");
	is_out(p, len);
	assert_int_equal(zcode_encode(&d, p, len, len, &q, &n), 0);
	put("coded", q + ZCODE_DCZ_HEAD, n - ZCODE_DCZ_HEAD);
	/* The head is a frame to be skipped, so the whole will do as well. */
	put("whole", q, n);
	free(q);
	shell("zstd -q -d --patch-from=old -c coded >out");
	is_out(p, len);
	shell("zstd -q -d --patch-from=old -c whole >out");
	is_out(p, len);
	free(p);
	free(old);
}

static void
ours_decodes_the_program_s(void **state)
{
	static const char *const with[] = {
		"zstd -q --patch-from=old new -o out",
		"zstd -q -19 --patch-from=old new -o out",
		"zstd -q -1 --no-check --patch-from=old new -o out",
	};
	static const char *const without[] = {
		"zstd -q new -o out", "zstd -q -19 new -o out",
		"zstd -q --no-check -c <new >out",	/* tells no size */
	};
	const size_t len = 3 * MIB;
	char *p = document(len, 1, 50), *old = document(len, 2, 50), *q, *dcz;
	struct zcode_dictionary d = dictionary(old, len);
	size_t i, n, head;

	(void)state;
	put("old", old, len);
	put("new", p, len);
	for (i = 0; i < sizeof(with) / sizeof(with[0]); i++) {
		shell(with[i]);
		q = take("out", &n);
		assert_true(n < len / 10);
		assert_int_equal(zcode_encode(&d, "", 0, 100, &dcz, &head), 0);
		assert_non_null(dcz = realloc(dcz, ZCODE_DCZ_HEAD + n));
		memcpy(dcz + ZCODE_DCZ_HEAD, q, n);
		assert_decodes(&d, dcz, ZCODE_DCZ_HEAD + n, p, len);
		free(dcz);
		free(q);
	}
	for (i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
		shell(without[i]);
		q = take("out", &n);
		assert_decodes(NULL, q, n, p, len);
		free(q);
	}
	free(p);
	free(old);
}

static void
the_program_s_excesses_are_refused(void **state)
{
	size_t n;
	char *q;

	(void)state;
	shell("head -c 10000000 /dev/zero >new");
	shell("zstd -q --long=24 -c <new >out");
	q = take("out", &n);
	assert_refused(NULL, q, n, 10000000, "zstd window too large");
	free(q);
	/* More bytes than they should be, of few. */
	shell("zstd -q new -o out");
	q = take("out", &n);
	assert_refused(NULL, q, n, 1000, "zstd frame of another size");
	free(q);
	shell("zstd -q -c <new >out");
	q = take("out", &n);
	assert_refused(NULL, q, n, 1000, "zstd frame cannot be decoded");
	free(q);
	shell("zstd -q -c <old >out && zstd -q -c <old >>out");
	q = take("out", &n);
	assert_refused(NULL, q, n, 2 * 3 * MIB, "bytes behind the zstd frame");
	free(q);
}

/* Which coding. */

static const struct {
	const char	*accept;
	enum coding	 with, without;	/* a dictionary at hand */
} choices[] = {
	{ NULL, CODING_NONE, CODING_NONE },
	{ "", CODING_NONE, CODING_NONE },
	{ "identity", CODING_NONE, CODING_NONE },
	{ "gzip, br", CODING_NONE, CODING_NONE },
	{ "zstd", CODING_ZSTD, CODING_ZSTD },
	{ "ZSTD", CODING_ZSTD, CODING_ZSTD },
	{ "dcz", CODING_DCZ, CODING_NONE },
	{ "dcz, zstd", CODING_DCZ, CODING_ZSTD },
	{ "zstd, dcz", CODING_DCZ, CODING_ZSTD },
	{ "gzip, deflate, br, zstd, dcb, dcz", CODING_DCZ, CODING_ZSTD },
	{ " ,\tzstd , ,dcz,", CODING_DCZ, CODING_ZSTD },
	/* Weights. */
	{ "zstd;q=0.5", CODING_ZSTD, CODING_ZSTD },
	{ "zstd ; q=0.5", CODING_ZSTD, CODING_ZSTD },
	{ "zstd;q=0.001", CODING_ZSTD, CODING_ZSTD },
	{ "zstd;Q=1.000", CODING_ZSTD, CODING_ZSTD },
	{ "zstd;q=1.", CODING_ZSTD, CODING_ZSTD },
	{ "zstd;q=0", CODING_NONE, CODING_NONE },
	{ "zstd;q=0.000", CODING_NONE, CODING_NONE },
	{ "dcz;q=0.4, zstd;q=0.5", CODING_ZSTD, CODING_ZSTD },
	{ "dcz;q=0.5, zstd;q=0.5", CODING_DCZ, CODING_ZSTD },
	{ "dcz;q=0, zstd", CODING_ZSTD, CODING_ZSTD },
	{ "dcz, zstd;q=0", CODING_DCZ, CODING_NONE },
	{ "zstd, zstd;q=0", CODING_NONE, CODING_NONE },
	{ "zstd;q=0.5, identity", CODING_NONE, CODING_NONE },
	{ "zstd;q=0.5, identity;q=0.5", CODING_ZSTD, CODING_ZSTD },
	{ "zstd;q=0.5, identity;q=0.4", CODING_ZSTD, CODING_ZSTD },
	{ "dcz;q=0.8, zstd;q=0.5, identity;q=0.6", CODING_DCZ, CODING_NONE },
	/* What is not named. */
	{ "*", CODING_NONE, CODING_NONE },
	{ "*;q=0", CODING_NONE, CODING_NONE },
	{ "*, identity;q=0", CODING_DCZ, CODING_ZSTD },
	{ "*, identity;q=0.5", CODING_DCZ, CODING_ZSTD },
	{ "*;q=0.5, identity", CODING_NONE, CODING_NONE },
	{ "zstd, *;q=0", CODING_ZSTD, CODING_ZSTD },
	{ "zstd, *", CODING_ZSTD, CODING_ZSTD },
	{ "zstd;q=0.5, *", CODING_NONE, CODING_NONE },
	{ "zstd;q=0, *", CODING_NONE, CODING_NONE },
	{ "gzip, *;q=0, zstd;q=0.3", CODING_ZSTD, CODING_ZSTD },
	/* What is no such list. */
	{ "zstd;q=2", CODING_NONE, CODING_NONE },
	{ "zstd;q=1.001", CODING_NONE, CODING_NONE },
	{ "zstd;q=0.1234", CODING_NONE, CODING_NONE },
	{ "zstd;q=", CODING_NONE, CODING_NONE },
	{ "zstd;q=.5", CODING_NONE, CODING_NONE },
	{ "zstd;q=-1", CODING_NONE, CODING_NONE },
	{ "zstd;level=3", CODING_NONE, CODING_NONE },
	{ "zstd;", CODING_NONE, CODING_NONE },
	{ "zstd dcz", CODING_NONE, CODING_NONE },
	{ "zstd, \"dcz\"", CODING_NONE, CODING_NONE },
	{ "zstd, ;q=1", CODING_NONE, CODING_NONE },
};

static void
a_request_chooses(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(choices) / sizeof(choices[0]); i++)
		if (coding_choose(choices[i].accept, true) != choices[i].with ||
		    coding_choose(choices[i].accept, false) !=
		    choices[i].without)
			fail_msg("%s: %d, %d", choices[i].accept,
			    coding_choose(choices[i].accept, true),
			    coding_choose(choices[i].accept, false));
}

static void
dictionaries_are_named_by_digest(void **state)
{
	/* RFC 9842, 2.2, and what was made by another program. */
	static const char abc[] =
	    ":ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";
	static const char *const none[] = {
		"", ":", "::", ":=:",
		"ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
		":ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0:",
		":ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0==:",
		":ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa1=:", /* bits */
		":ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=:", /* URLs' */
		":ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAF 0=:",
		":ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:;a=1",
		" :ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:",
		":ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:, "
		    ":ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:",
		":ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIA=:",
		":ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0AAAA=:",
	};
	char out[CODING_DICTIONARY];
	struct digest d, e;
	size_t i;

	(void)state;
	digest_of(&d, "abc", 3);
	assert_string_equal(coding_dictionary(&d, out), abc);
	assert_int_equal(coding_dictionary_parse(abc, &e), 0);
	assert_true(digest_eq(&d, &e));
	for (i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		if (coding_dictionary_parse(none[i], &e) != -1)
			fail_msg("taken: %s", none[i]);
	for (i = 0; i < 2000; i++) {
		digest_of(&d, &i, sizeof(i));
		assert_int_equal(coding_dictionary_parse(
		    coding_dictionary(&d, out), &e), 0);
		assert_true(digest_eq(&d, &e));
	}
}

static int
set_up(void **state)
{

	(void)state;
	return (mkdtemp(dir) == NULL ? -1 : 0);
}

static int
tear_down(void **state)
{

	(void)state;
	return (fd_remove_tree(AT_FDCWD, dir));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_are_these_bytes),
		cmocka_unit_test(what_was_coded_is_decoded),
		cmocka_unit_test(a_dictionary_leaves_what_changed),
		cmocka_unit_test(no_more_than_max_is_made),
		cmocka_unit_test(nothing_else_is_decoded),
		cmocka_unit_test(cut_and_damaged_bodies_are_refused),
		cmocka_unit_test(the_program_decodes_ours),
		cmocka_unit_test(ours_decodes_the_program_s),
		cmocka_unit_test(the_program_s_excesses_are_refused),
		cmocka_unit_test(a_request_chooses),
		cmocka_unit_test(dictionaries_are_named_by_digest),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("zcode", tests, set_up,
	    tear_down));
}
