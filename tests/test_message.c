/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages of the lease socket: what is written is read back, and what is not
 * exactly so is refused.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/message.h"

#define	HEX	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define	INSTANCE	"00112233445566778899aabbccddeeff"
#define	COUNTERS \
	"{\"requests\":9007199254740991,\"hits\":2,\"misses\":3,\"fills\":4," \
	"\"fill_bytes\":5,\"cache_bytes\":6,\"cache_max\":7}"
#define	RENEW(sets) \
	"{\"sequence\":1,\"instance\":\"" INSTANCE "\",\"version\":\"0.1\"," \
	"\"all\":true,\"sets\":[" sets "],\"counters\":" COUNTERS "}"
#define	LEASE(behind, prepare) \
	"{\"sequence\":1,\"instance\":\"" INSTANCE "\",\"ttl_ms\":10000," \
	"\"trust\":3,\"behind\":[" behind "],\"prepare\":[" prepare "]}"

static const char *const good_renew[] = {
	RENEW(""),
	RENEW("{\"name\":\"a\",\"generation\":0}"),
	RENEW("{\"name\":\"FreeBSD:14:amd64/latest\",\"generation\":42,\"digest\":\"" HEX "\"}"),
	RENEW("{\"name\":\"a\",\"generation\":0,\"prepared\":\"" HEX "\"}"),
	RENEW("{\"name\":\"a\",\"generation\":7,\"digest\":\"" HEX "\",\"prepared\":\"" HEX "\",\"head\":\"pkgcast-head 1\\nset a\\n\"},"
	    "{\"name\":\"b\",\"generation\":0}"),
};

/* The first that is wrong is named. */
static const struct {
	const char	*json, *reason;
} bad_renew[] = {
	{ "", "not JSON at byte " },
	{ "[]", "renew is not an object" },
	{ "{}", "\"sequence\" of renew is missing" },
	{ RENEW("") "x", "not JSON at byte " },
	{ "{\"sequence\":1,\"sequence\":1}", "not JSON at byte " },
	{ "{\"sequence\":\"1\"}", "\"sequence\" of renew is not an integer" },
	{ "{\"sequence\":1.0}", "\"sequence\" of renew is not an integer" },
	{ "{\"sequence\":1,\"instance\":\"" INSTANCE "\",\"version\":\"1\",\"all\":1}",
	    "\"all\" of renew is not true or false" },
	{ "{\"sequence\":-1,\"instance\":\"" INSTANCE "\",\"version\":\"1\",\"all\":true,\"sets\":[],\"counters\":" COUNTERS "}",
	    "\"sequence\" of renew is not between 0 and 9007199254740991" },
	{ "{\"sequence\":9007199254740992,\"instance\":\"" INSTANCE "\",\"version\":\"1\",\"all\":true,\"sets\":[],\"counters\":" COUNTERS "}",
	    "\"sequence\" of renew is not between 0 and 9007199254740991" },
	{ "{\"sequence\":1,\"instance\":\"0011\",\"version\":\"1\",\"all\":true,\"sets\":[],\"counters\":" COUNTERS "}",
	    "\"instance\" of renew is not 32 lower-case hex digits" },
	{ "{\"sequence\":1,\"instance\":\"00112233445566778899AABBCCDDEEFF\",\"version\":\"1\",\"all\":true,\"sets\":[],\"counters\":" COUNTERS "}",
	    "\"instance\" of renew is not 32 lower-case hex digits" },
	{ "{\"sequence\":1,\"instance\":\"" INSTANCE "\",\"version\":\"\",\"all\":true,\"sets\":[],\"counters\":" COUNTERS "}",
	    "\"version\" of renew is not 1 to 31 printable bytes" },
	{ "{\"sequence\":1,\"instance\":\"" INSTANCE "\",\"version\":\"01234567890123456789012345678901\",\"all\":true,\"sets\":[],\"counters\":" COUNTERS "}",
	    "\"version\" of renew is not 1 to 31 printable bytes" },
	{ "{\"sequence\":1,\"instance\":\"" INSTANCE "\",\"version\":\"1\",\"all\":true,\"sets\":[],\"counters\":{}}",
	    "\"requests\" of \"counters\" is missing" },
	{ "{\"sequence\":1,\"instance\":\"" INSTANCE "\",\"version\":\"1\",\"all\":true,\"sets\":[],\"counters\":" COUNTERS ",\"a\\u001b\":true}",
	    "unknown member \"a\\x1b\" of renew" },
	{ RENEW("1"), "set 0 is not an object" },
	{ RENEW("{\"name\":\"a\"}"), "\"generation\" of set 0 is missing" },
	{ RENEW("{\"name\":\"/a\",\"generation\":0}"),
	    "name of a set in set 0 is malformed" },
	{ RENEW("{\"name\":\"a\\u0000\",\"generation\":0}"),
	    "not JSON at byte " },
	{ RENEW("{\"name\":\"a\",\"generation\":1}"),
	    "\"digest\" of set 0 must be there if \"generation\" is not 0, and only then" },
	{ RENEW("{\"name\":\"a\",\"generation\":0,\"digest\":\"" HEX "\"}"),
	    "\"digest\" of set 0 must be there if \"generation\" is not 0, and only then" },
	{ RENEW("{\"name\":\"a\",\"generation\":1,\"digest\":\"0\"}"),
	    "\"digest\" of set 0 is not 64 lower-case hex digits" },
	{ RENEW("{\"name\":\"a\",\"generation\":0,\"prepared\":null}"),
	    "\"prepared\" of set 0 is not a string" },
	{ RENEW("{\"name\":\"a\",\"generation\":0,\"head\":\"\"}"),
	    "head in set 0 is malformed" },
	{ RENEW("{\"name\":\"a\",\"generation\":0,\"head\":\"\\r\\n\"}"),
	    "head in set 0 is malformed" },
	{ RENEW("{\"name\":\"a\",\"generation\":0,\"pin\":1}"),
	    "unknown member \"pin\" of set 0" },
	{ RENEW("{\"name\":\"a\",\"generation\":0},{\"name\":\"a\",\"generation\":0}"),
	    "sets 0 and 1 have the same name" },
};

static const char *const good_lease[] = {
	LEASE("", ""),
	LEASE("\"a\",\"FreeBSD:14:amd64/latest\"", ""),
	LEASE("\"a\"", "\"pkgcast-head 1\\nset a\\n\",\"pkgcast-head 1\\n\""),
};

static const struct {
	const char	*json, *reason;
} bad_lease[] = {
	{ "3", "not JSON at byte " },
	{ "{}", "\"sequence\" of lease is missing" },
	{ "{\"sequence\":1,\"instance\":\"" INSTANCE "\",\"ttl_ms\":3600001,\"trust\":0,\"behind\":[],\"prepare\":[]}",
	    "\"ttl_ms\" of lease is not between 0 and 3600000" },
	{ "{\"sequence\":1,\"instance\":\"" INSTANCE "\",\"ttl_ms\":0,\"trust\":-1,\"behind\":[],\"prepare\":[]}",
	    "\"trust\" of lease is not between 0 and 9007199254740991" },
	{ "{\"sequence\":1,\"instance\":\"" INSTANCE "\",\"ttl_ms\":0,\"trust\":0,\"behind\":[],\"prepare\":[],\"mood\":\"good\"}",
	    "unknown member \"mood\" of lease" },
	{ LEASE("1", ""), "name of a set in \"behind\" is malformed" },
	{ LEASE("\"a//b\"", ""), "name of a set in \"behind\" is malformed" },
	{ LEASE("\"a\",\"a\"", ""), "a set stands twice in \"behind\"" },
	{ LEASE("", "{}"), "head in \"prepare\" is malformed" },
	{ LEASE("", "\"\""), "head in \"prepare\" is malformed" },
	{ LEASE("", "\"\\u00e9\""), "head in \"prepare\" is malformed" },
};

/* What jansson adds to "not JSON" is its own. */
static void
assert_reason(struct parse_error *err, const char *expected)
{

	if (strncmp(expected, "not JSON", 8) == 0)
		err->reason[strlen(expected)] = '\0';
	assert_string_equal(err->reason, expected);
}

static void
reads_back_a_renewal(void **state)
{
	struct parse_error err;
	struct renew *r;
	size_t i, len;
	char *json;

	(void)state;
	for (i = 0; i < sizeof(good_renew) / sizeof(good_renew[0]); i++) {
		r = renew_parse(good_renew[i], strlen(good_renew[i]), &err);
		if (r == NULL)
			fail_msg("case %zu: %s", i, err.reason);
		assert_non_null(json = renew_write(r, &len));
		assert_int_equal(len, strlen(json));
		assert_string_equal(json, good_renew[i]);
		free(json);
		renew_destroy(&r);
	}
}

static void
reads_what_a_renewal_says(void **state)
{
	struct renew *r;

	(void)state;
	assert_non_null(r = renew_parse(good_renew[4], strlen(good_renew[4]),
	    NULL));
	assert_int_equal(r->sequence, 1);
	assert_string_equal(r->instance, INSTANCE);
	assert_string_equal(r->version, "0.1");
	assert_true(r->all);
	assert_int_equal(r->nset, 2);
	assert_string_equal(r->set[0].name, "a");
	assert_int_equal(r->set[0].generation, 7);
	assert_int_equal(r->set[0].digest.b[1], 0x23);
	assert_true(r->set[0].has_prepared);
	assert_string_equal(r->set[0].ahead, "pkgcast-head 1\nset a\n");
	assert_false(r->set[1].has_prepared);
	assert_null(r->set[1].ahead);
	assert_int_equal(r->counters.requests, 9007199254740991);
	assert_int_equal(r->counters.cache_max, 7);
	renew_destroy(&r);
	assert_null(r);
}

static void
refuses_a_bad_renewal(void **state)
{
	struct parse_error err;
	struct renew *r;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad_renew) / sizeof(bad_renew[0]); i++) {
		r = renew_parse(bad_renew[i].json, strlen(bad_renew[i].json),
		    &err);
		if (r != NULL)
			fail_msg("was read: %s", bad_renew[i].json);
		assert_reason(&err, bad_renew[i].reason);
	}
}

static void
reads_back_a_lease(void **state)
{
	struct parse_error err;
	struct lease *l;
	size_t i, len;
	char *json;

	(void)state;
	for (i = 0; i < sizeof(good_lease) / sizeof(good_lease[0]); i++) {
		l = lease_parse(good_lease[i], strlen(good_lease[i]), &err);
		if (l == NULL)
			fail_msg("case %zu: %s", i, err.reason);
		assert_int_equal(l->ttl_ms, 10000);
		assert_int_equal(l->trust, 3);
		assert_non_null(json = lease_write(l, &len));
		assert_string_equal(json, good_lease[i]);
		free(json);
		lease_destroy(&l);
	}
}

static void
refuses_a_bad_lease(void **state)
{
	struct parse_error err;
	struct lease *l;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad_lease) / sizeof(bad_lease[0]); i++) {
		l = lease_parse(bad_lease[i].json, strlen(bad_lease[i].json),
		    &err);
		if (l != NULL)
			fail_msg("was read: %s", bad_lease[i].json);
		assert_reason(&err, bad_lease[i].reason);
	}
}

/* Neither side makes or takes more than MESSAGE_MAX bytes. */
static void
keeps_to_the_limits(void **state)
{
	static char blanks[MESSAGE_MAX + 1];
	static struct renew_set sets[MESSAGE_SETS + 1];
	struct renew r = { .instance = INSTANCE, .version = "0.1" };
	struct parse_error err;
	size_t i, len;
	char *json;

	(void)state;
	memset(blanks, ' ', sizeof(blanks));
	memcpy(blanks, LEASE("", ""), strlen(LEASE("", "")));
	assert_null(lease_parse(blanks, MESSAGE_MAX + 1, &err));
	assert_string_equal(err.reason, "longer than 65536 bytes");

	for (i = 0; i <= MESSAGE_SETS; i++)
		(void)snprintf(sets[i].name, sizeof(sets[i].name), "s%zu", i);
	r.set = sets;
	r.nset = MESSAGE_SETS;
	assert_non_null(json = renew_write(&r, &len));
	assert_true(len <= MESSAGE_MAX);
	free(json);
	r.nset = MESSAGE_SETS + 1;
	assert_null(renew_write(&r, &len));
	r.nset = MESSAGE_SETS;
	for (i = 0; i < MESSAGE_SETS; i++)
		sets[i].generation = 1;
	assert_null(renew_write(&r, &len));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_back_a_renewal),
		cmocka_unit_test(reads_what_a_renewal_says),
		cmocka_unit_test(refuses_a_bad_renewal),
		cmocka_unit_test(reads_back_a_lease),
		cmocka_unit_test(refuses_a_bad_lease),
		cmocka_unit_test(keeps_to_the_limits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("message", tests, NULL, NULL));
}
