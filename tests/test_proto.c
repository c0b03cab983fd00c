/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The small things below everything: numbers, dates, names, buffers, files.
 */

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/buf.h"
#include "proto/chunk.h"
#include "proto/date.h"
#include "proto/fd.h"
#include "proto/log.h"
#include "proto/name.h"

static const struct {
	const char	*text;
	unsigned long long max;
	int		 ret;
	unsigned long long value;
} numbers[] = {
	{ "0", 9, 0, 0 }, { "10", 10, 0, 10 }, { "11", 10, -1, 0 },
	{ "", 9, -1, 0 }, { "01", 9, -1, 0 }, { "+1", 9, -1, 0 },
	{ " 1", 9, -1, 0 }, { "1 ", 9, -1, 0 }, { "1x", 9, -1, 0 },
	{ "18446744073709551615", ~0ull, 0, ~0ull },
	{ "18446744073709551616", ~0ull, -1, 0 },
	{ "99999999999999999999", ~0ull, -1, 0 },
};

static void
numbers_are_strict(void **state)
{
	unsigned long long v;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		v = 0;
		if (parse_u64(numbers[i].text, strlen(numbers[i].text),
		    numbers[i].max, &v) != numbers[i].ret ||
		    v != numbers[i].value)
			fail_msg("\"%s\": %llu", numbers[i].text, v);
	}
}

static const struct {
	const char	*text;
	int		 ret;
	int64_t		 t;
} http_dates[] = {
	{ "Sun, 06 Nov 1994 08:49:37 GMT", 0, 784111777 },
	{ "Sunday, 06-Nov-94 08:49:37 GMT", 0, 784111777 },
	{ "Sun Nov  6 08:49:37 1994", 0, 784111777 },
	{ "Thu, 01 Jan 1970 00:00:00 GMT", 0, 0 },
	{ "Thu, 29 Feb 2024 23:59:59 GMT", 0, 1709251199 },
	{ "Wed, 29 Feb 2023 23:59:59 GMT", -1, 0 },
	{ "Sun, 06 Nov 1994 08:49:37 CET", -1, 0 },
	{ "Sun, 06 Nov 1994 24:00:00 GMT", -1, 0 },
	{ "Sun, 6 Nov 1994 08:49:37 GMT", -1, 0 },
	{ "06 Nov 1994", -1, 0 }, { "", -1, 0 },
};

static void
http_dates_come_in_three_forms(void **state)
{
	char out[DATE_HTTP], iso[DATE_ISO];
	int64_t t;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(http_dates) / sizeof(http_dates[0]); i++) {
		t = 0;
		if (date_http_parse(http_dates[i].text,
		    strlen(http_dates[i].text), &t) != http_dates[i].ret ||
		    t != http_dates[i].t)
			fail_msg("\"%s\": %lld", http_dates[i].text,
			    (long long)t);
	}
	assert_string_equal(date_http(784111777, out),
	    "Sun, 06 Nov 1994 08:49:37 GMT");
	for (t = 0; t < 253402300800; t += 86399 * 1009) {
		int64_t back;

		assert_int_equal(date_http_parse(date_http(t, out), 29, &back),
		    0);
		assert_int_equal(back, t);
		assert_int_equal(date_iso_parse(date_iso(t, iso), 20, &back),
		    0);
		assert_int_equal(back, t);
	}
}

static const struct { const char *name; bool ok; } sets[] = {
	{ "FreeBSD:14:amd64/latest", true }, { "a", true },
	{ "pub/FreeBSD/ports/i386/packages-7-stable", true },
	{ "a/b/c/d/e/f/g/h", true }, { "a/b/c/d/e/f/g/h/i", false },
	{ "", false }, { "/a", false }, { "a/", false }, { "a//b", false },
	{ ".a", false }, { "a/.b", false }, { "a b", false }, { "a%", false },
	{ "@1", false }, { "..", false }, { "a/..", false },
};
static const struct { const char *name; bool ok; } paths[] = {
	{ "a", true }, { "a/@b", true }, { ".a", true }, { "a/b c", true },
	{ "...", true }, { "@a", false }, { "", false }, { "/a", false },
	{ "a/", false }, { "a//b", false }, { "a/./b", false },
	{ "a/..", false }, { "a\nb", false }, { "a\177", false },
};

static void
names_are_judged(void **state)
{
	char longest[300];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		if (set_name_ok(sets[i].name, strlen(sets[i].name)) !=
		    sets[i].ok)
			fail_msg("set \"%s\"", sets[i].name);
	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (path_ok(paths[i].name, strlen(paths[i].name)) !=
		    paths[i].ok)
			fail_msg("path \"%s\"", paths[i].name);
	memset(longest, 'a', sizeof(longest));
	assert_true(path_ok(longest, 255));
	assert_false(path_ok(longest, 256));
	assert_false(path_ok("a\0b", 3));
	assert_true(set_name_ok(longest, 64));
	assert_false(set_name_ok(longest, 65));
	assert_true(set_names_clash("a", "a/b"));
	assert_true(set_names_clash("a/b", "a"));
	assert_true(set_names_clash("a", "a"));
	assert_false(set_names_clash("a", "ab"));
	assert_false(set_names_clash("a/b", "a/c"));
	assert_true(entry_glob_match("dists/*/Release", "dists/x/Release"));
	assert_false(entry_glob_match("dists/*/Release", "dists/x/y/Release"));
	assert_true(set_glob_match("FreeBSD:*", "FreeBSD:14:amd64/latest"));
}

static void
a_failed_buffer_keeps_what_it_had(void **state)
{
	struct buf b = BUF_INIT(8);

	(void)state;
	assert_int_equal(buf_adds(&b, "12345"), 0);
	assert_int_equal(buf_addf(&b, "%d", 6789), -1);
	assert_true(b.failed);
	assert_string_equal(b.p, "12345");
	assert_int_equal(buf_adds(&b, "6"), -1);
	buf_free(&b);
}

static void
files_appear_whole(void **state)
{
	char dir[] = "/tmp/pkgcast-proto.XXXXXX", *p;
	struct stat st;
	size_t len;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_not_equal(fd = fd_open_dir(AT_FDCWD, dir), -1);
	assert_int_equal(fd_mkdirs(fd, "a/b/c", 0755), 0);
	assert_int_equal(fd_mkdirs(fd, "a/b/c", 0755), 0);
	assert_int_equal(fd_replace(fd, "a/b/f", "one", 3, 0600), 0);
	assert_int_equal(fd_replace(fd, "a/b/f", "three", 5, 0640), 0);
	assert_int_equal(fstatat(fd, "a/b/f", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(fstatat(fd, "a/b/.new.f", &st, 0), -1);
	assert_non_null(p = fd_slurp(fd, "a/b/f", 5, &len));
	assert_string_equal(p, "three");
	free(p);
	assert_null(fd_slurp(fd, "a/b/f", 4, &len));
	assert_int_equal(errno, EFBIG);
	assert_null(fd_slurp(fd, "a/b", 4, &len));
	assert_int_equal(symlinkat("../../etc", fd, "a/link"), 0);
	assert_int_equal(fd_remove_tree(fd, "a"), 0);
	assert_int_equal(fd_remove_tree(fd, "a"), 0);
	fd_close(&fd);
	assert_int_equal(rmdir(dir), 0);
}

static void
a_lock_is_held_once(void **state)
{
	char dir[] = "/tmp/pkgcast-proto.XXXXXX";
	int fd, one, two;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_not_equal(fd = fd_open_dir(AT_FDCWD, dir), -1);
	assert_int_not_equal(one = fd_lock(fd, "lock"), -1);
	assert_int_equal(two = fd_lock(fd, "lock"), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	fd_close(&one);
	assert_int_not_equal(two = fd_lock(fd, "lock"), -1);
	fd_close(&two);
	assert_int_equal(unlinkat(fd, "lock", 0), 0);
	fd_close(&fd);
	assert_int_equal(rmdir(dir), 0);
}

/* Of the 256 characters, 16 are digits of a digest, at every place. */
static void
digests_are_lower_case_hexadecimal(void **state)
{
	static const char digits[] = "0123456789abcdef";
	char hex[DIGEST_HEX + 1], again[DIGEST_HEX + 1];
	const char *is;
	struct digest d;
	size_t i;
	int c;

	(void)state;
	for (i = 0; i < DIGEST_HEX; i++)
		for (c = 0; c < 256; c++) {
			memset(hex, '5', DIGEST_HEX);
			hex[DIGEST_HEX] = '\0';
			hex[i] = (char)c;
			is = memchr(digits, c, 16);
			assert_int_equal(digest_parse(&d, hex, DIGEST_HEX),
			    is == NULL ? -1 : 0);
			if (is == NULL)
				continue;
			assert_int_equal(d.b[i / 2], i % 2 == 0 ?
			    (is - digits) * 16 + 5 : 5 * 16 + (is - digits));
			assert_string_equal(digest_hex(&d, again), hex);
		}
	assert_int_equal(digest_parse(&d, hex, DIGEST_HEX - 1), -1);
}

static void
a_scan_tells_digest_and_rows(void **state)
{
	char name[] = "/tmp/pkgcast-scan.XXXXXX";
	static uint8_t data[2 * CHUNK_SIZE + 5];
	uint8_t rows[3 * DIGEST_LEN];
	struct digest d, want;
	int fd;

	(void)state;
	memset(data, 'x', sizeof(data));
	assert_int_not_equal(fd = mkstemp(name), -1);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(fd_write_all(fd, data, sizeof(data)), 0);
	assert_int_equal(chunk_scan(fd, sizeof(data), &d, rows), 0);
	digest_of(&want, data, sizeof(data));
	assert_true(digest_eq(&d, &want));
	digest_of(&want, data, 5);
	assert_memory_equal(rows + 2 * DIGEST_LEN, want.b, DIGEST_LEN);
	assert_int_equal(chunk_scan(fd, sizeof(data) - 1, &d, NULL), -1);
	assert_int_equal(errno, ESTALE);
	assert_int_equal(chunk_scan(fd, sizeof(data) + 1, &d, NULL), -1);
	assert_int_equal(errno, ESTALE);
	fd_close(&fd);
}

static void
peer_text_is_made_printable(void **state)
{
	char out[16];

	(void)state;
	assert_string_equal(log_escape(out, sizeof(out), "a\n\"b", 4),
	    "a\\x0a\\x22b");
	assert_string_equal(log_escape(out, sizeof(out),
	    "0123456789abcdefghi", 19), "0123456789ab...");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_strict),
		cmocka_unit_test(http_dates_come_in_three_forms),
		cmocka_unit_test(names_are_judged),
		cmocka_unit_test(a_failed_buffer_keeps_what_it_had),
		cmocka_unit_test(files_appear_whole),
		cmocka_unit_test(a_lock_is_held_once),
		cmocka_unit_test(digests_are_lower_case_hexadecimal),
		cmocka_unit_test(a_scan_tells_digest_and_rows),
		cmocka_unit_test(peer_text_is_made_printable),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("proto", tests, NULL, NULL));
}
