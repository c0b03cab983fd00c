/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Conditions and ranges of RFC 9110, case by case, for a file of 100 bytes with
 * ETag "tag", last modified Sun, 09 Sep 2001 01:46:40 GMT.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/answer.h"

#define	SIZE	100
#define	TIME	1000000000
#define	DATE	"Sun, 09 Sep 2001 01:46:40 GMT"
#define	EARLIER	"Sun, 09 Sep 2001 01:46:39 GMT"
#define	LATER	"Sun, 09 Sep 2001 01:46:41 GMT"
#define	EPOCH	"Thu, 01 Jan 1970 00:00:00 GMT"

struct condition {
	const char		*section;	/* of RFC 9110 */
	struct http_fields	 q;
	unsigned		 status;
};

static const struct condition conditions[] = {
	{ "no condition", { .range = NULL }, 200 },

	{ "13.1.1 If-Match", { .if_match = "\"tag\"" }, 200 },
	{ "13.1.1 star", { .if_match = "*" }, 200 },
	{ "13.1.1 other", { .if_match = "\"x\"" }, 412 },
	{ "13.1.1 list", { .if_match = "\"x\", \"tag\"" }, 200 },
	{ "13.1.1 strong comparison", { .if_match = "W/\"tag\"" }, 412 },
	{ "13.1.1 not a list", { .if_match = "tag" }, 412 },
	{ "13.1.1 tag and star", { .if_match = "\"tag\", *" }, 412 },
	{ "13.1.1 empty", { .if_match = "" }, 412 },

	{ "13.1.2 If-None-Match", { .if_none_match = "\"tag\"" }, 304 },
	{ "13.1.2 star", { .if_none_match = "*" }, 304 },
	{ "13.1.2 star and more", { .if_none_match = "*, \"x\"" }, 200 },
	{ "13.1.2 other", { .if_none_match = "\"x\"" }, 200 },
	{ "13.1.2 weak comparison", { .if_none_match = "W/\"tag\"" }, 304 },
	{ "13.1.2 list", { .if_none_match = "\"a\",W/\"b\" , \"tag\"" }, 304 },
	{ "5.6.1 empty elements", { .if_none_match = ", ,\"tag\"," }, 304 },
	{ "8.8.3 comma", { .if_none_match = "\"a,b\", \"tag\"" }, 304 },
	{ "8.8.3 prefix", { .if_none_match = "\"ta\"" }, 200 },
	{ "8.8.3 longer", { .if_none_match = "\"tagg\"" }, 200 },
	{ "8.8.3 case", { .if_none_match = "\"TAG\"" }, 200 },
	{ "8.8.3 no quotes", { .if_none_match = "tag" }, 200 },
	{ "8.8.3 half a quote", { .if_none_match = "\"tag" }, 200 },
	{ "8.8.3 blank inside", { .if_none_match = "\"t ag\", \"tag\"" }, 200 },
	{ "8.8.3 no comma", { .if_none_match = "\"x\" \"tag\"" }, 200 },
	{ "8.8.3 small w", { .if_none_match = "w/\"tag\"" }, 200 },
	{ "empty list", { .if_none_match = "" }, 200 },

	{ "13.1.3 same", { .if_modified_since = DATE }, 304 },
	{ "13.1.3 later", { .if_modified_since = LATER }, 304 },
	{ "13.1.3 earlier", { .if_modified_since = EARLIER }, 200 },
	{ "13.1.3 epoch, as pkg sends", { .if_modified_since = EPOCH }, 200 },
	{ "13.1.3 no date", { .if_modified_since = "yesterday" }, 200 },
	{ "5.6.7 RFC 850", { .if_modified_since =
	    "Sunday, 09-Sep-01 01:46:40 GMT" }, 304 },
	{ "5.6.7 asctime", { .if_modified_since =
	    "Sun Sep  9 01:46:40 2001" }, 304 },

	{ "13.1.4 same", { .if_unmodified_since = DATE }, 200 },
	{ "13.1.4 later", { .if_unmodified_since = LATER }, 200 },
	{ "13.1.4 earlier", { .if_unmodified_since = EARLIER }, 412 },
	{ "13.1.4 before 1970", { .if_unmodified_since =
	    "Wed, 31 Dec 1969 23:59:59 GMT" }, 412 },
	{ "5.6.7 leap second", { .if_unmodified_since =
	    "Thu, 31 Dec 1998 23:59:60 GMT" }, 412 },
	{ "5.6.7 no leap second", { .if_unmodified_since =
	    "Thu, 31 Dec 1998 12:00:60 GMT" }, 200 },
	{ "13.1.4 no date", { .if_unmodified_since = "x" }, 200 },

	{ "13.2.2 If-Match hides If-Unmodified-Since",
	    { .if_match = "\"tag\"", .if_unmodified_since = EARLIER }, 200 },
	{ "13.2.2 If-None-Match hides If-Modified-Since",
	    { .if_none_match = "\"x\"", .if_modified_since = LATER }, 200 },
	{ "13.2.2 both say not modified",
	    { .if_none_match = "\"tag\"", .if_modified_since = EARLIER }, 304 },
	{ "13.2.2 If-Match comes first",
	    { .if_match = "\"x\"", .if_none_match = "\"tag\"" }, 412 },
	{ "13.2.2 If-Match, then If-None-Match",
	    { .if_match = "\"tag\"", .if_none_match = "\"tag\"" }, 304 },
	{ "13.2.2 If-Unmodified-Since, then If-Modified-Since",
	    { .if_unmodified_since = DATE, .if_modified_since = DATE }, 304 },
	{ "13.2.2 conditions before ranges",
	    { .if_none_match = "\"tag\"", .range = "bytes=0-1" }, 304 },
	{ "13.2.2 a failed condition before a bad range",
	    { .if_match = "\"x\"", .range = "bytes=200-" }, 412 },
	{ "13.2.2 conditions hold, then the range",
	    { .if_match = "\"tag\"", .range = "bytes=0-1" }, 206 },
};

struct range {
	const char	*section, *range;
	uint64_t	 size;
	unsigned	 status;
	uint64_t	 offset, length;
	const char	*told;			/* Content-Range */
};

static const struct range ranges[] = {
	{ "14.1.2 first and last", "bytes=0-9", SIZE, 206, 0, 10,
	    "bytes 0-9/100" },
	{ "14.1.2 one byte", "bytes=0-0", SIZE, 206, 0, 1, "bytes 0-0/100" },
	{ "14.1.2 the last byte", "bytes=99-99", SIZE, 206, 99, 1,
	    "bytes 99-99/100" },
	{ "14.1.2 open", "bytes=50-", SIZE, 206, 50, 50, "bytes 50-99/100" },
	{ "14.1.2 open from 0", "bytes=0-", SIZE, 206, 0, 100,
	    "bytes 0-99/100" },
	{ "14.1.2 beyond the end", "bytes=90-200", SIZE, 206, 90, 10,
	    "bytes 90-99/100" },
	{ "14.1.2 far beyond", "bytes=1-99999999999999999999999999", SIZE, 206,
	    1, 99, "bytes 1-99/100" },
	{ "14.1.2 suffix", "bytes=-10", SIZE, 206, 90, 10, "bytes 90-99/100" },
	{ "14.1.2 long suffix", "bytes=-200", SIZE, 206, 0, 100,
	    "bytes 0-99/100" },
	{ "14.1.2 longer suffix", "bytes=-99999999999999999999999999", SIZE,
	    206, 0, 100, "bytes 0-99/100" },
	{ "14.1 unit in capitals", "BYTES=0-9", SIZE, 206, 0, 10,
	    "bytes 0-9/100" },
	{ "leading zeros", "bytes=0000-0009", SIZE, 206, 0, 10,
	    "bytes 0-9/100" },
	{ "large file", "bytes=4294967296-4294967297", 1ull << 40, 206,
	    1ull << 32, 2, "bytes 4294967296-4294967297/1099511627776" },

	{ "15.5.17 behind the end", "bytes=100-", SIZE, 416, 0, 0,
	    "bytes */100" },
	{ "15.5.17 far behind", "bytes=99999999999999999999999999-", SIZE, 416,
	    0, 0, "bytes */100" },
	{ "15.5.17 empty suffix", "bytes=-0", SIZE, 416, 0, 0, "bytes */100" },
	{ "15.5.17 of nothing", "bytes=0-", 0, 416, 0, 0, "bytes */0" },
	{ "15.5.17 of nothing, empty suffix", "bytes=-0", 0, 416, 0, 0,
	    "bytes */0" },

	{ "14.2 suffix of nothing: whole", "bytes=-5", 0, 200, 0, 0, NULL },
	{ "14.1.2 last before first: invalid", "bytes=9-0", SIZE, 200, 0, 100,
	    NULL },
	{ "last before first, behind the end", "bytes=200-100", SIZE, 200, 0,
	    100, NULL },
	{ "several: whole", "bytes=0-1,5-6", SIZE, 200, 0, 100, NULL },
	{ "several, one bad", "bytes=0-1,x", SIZE, 200, 0, 100, NULL },
	{ "another unit", "lines=0-9", SIZE, 200, 0, 100, NULL },
	{ "no unit", "0-9", SIZE, 200, 0, 100, NULL },
	{ "no range", "bytes=", SIZE, 200, 0, 100, NULL },
	{ "only a dash", "bytes=-", SIZE, 200, 0, 100, NULL },
	{ "no dash", "bytes=5", SIZE, 200, 0, 100, NULL },
	{ "sign", "bytes=+5-6", SIZE, 200, 0, 100, NULL },
	{ "two dashes", "bytes=5--6", SIZE, 200, 0, 100, NULL },
	{ "negative suffix", "bytes=--6", SIZE, 200, 0, 100, NULL },
	{ "letters", "bytes=a-b", SIZE, 200, 0, 100, NULL },
	{ "hexadecimal", "bytes=0x0-9", SIZE, 200, 0, 100, NULL },
	{ "blank", "bytes= 0-9", SIZE, 200, 0, 100, NULL },
	{ "blank before =", "bytes =0-9", SIZE, 200, 0, 100, NULL },
	{ "more behind", "bytes=0-9x", SIZE, 200, 0, 100, NULL },
	{ "empty", "", SIZE, 200, 0, 100, NULL },
};

static const struct {
	const char	*section, *if_range;
	unsigned	 status;
} if_ranges[] = {
	{ "13.1.5 same tag", "\"tag\"", 206 },
	{ "13.1.5 another tag", "\"x\"", 200 },
	{ "13.1.5 strong comparison", "W/\"tag\"", 200 },
	{ "13.1.5 no list", "\"tag\", \"x\"", 200 },
	{ "13.1.5 no star", "*", 200 },
	{ "13.1.5 same date", DATE, 206 },
	{ "13.1.5 exactly: later", LATER, 200 },
	{ "13.1.5 exactly: earlier", EARLIER, 200 },
	{ "no date", "x", 200 },
	{ "no quotes", "tag", 200 },
	{ "half a quote", "\"tag", 200 },
	{ "empty", "", 200 },
};

static const struct answer_file file = {
	.size = SIZE, .time = TIME, .etag = "tag", .type = "text/plain"
};

static const char *
header(const struct answer *a, const char *name)
{
	size_t i;

	for (i = 0; i < a->nheader; i++)
		if (strcmp(a->header[i].name, name) == 0)
			return (a->header[i].value);
	return (NULL);
}

static void
check_status(const char *what, unsigned got, unsigned want)
{

	if (got != want)
		fail_msg("%s: %u, not %u", what, got, want);
}

/* What each status carries, whatever led to it. */
static void
check_shape(const struct answer *a, enum http_method method)
{
	bool ok = a->status == 200 || a->status == 206;

	assert_int_equal(a->send_body, ok && method == HTTP_GET);
	assert_int_equal(header(a, "Content-Type") != NULL, ok);
	assert_int_equal(header(a, "Content-Range") != NULL,
	    a->status == 206 || a->status == 416);
	assert_non_null(header(a, "Cache-Control"));
	if (!ok && a->status != 304) {
		assert_int_equal(a->length, 0);
		assert_null(header(a, "ETag"));
		return;
	}
	assert_string_equal(header(a, "ETag"), "\"tag\"");
	assert_string_equal(header(a, "Last-Modified"), DATE);
	assert_string_equal(header(a, "Cache-Control"), "no-cache");
}

static void
keeps_to_section_13(void **state)
{
	const struct condition *c;
	struct answer a;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++) {
		c = &conditions[i];
		answer_file(&a, HTTP_GET, &c->q, &file);
		check_status(c->section, a.status, c->status);
		check_shape(&a, HTTP_GET);
		if (c->status == 304 || c->status == 200)
			assert_int_equal(a.length, SIZE);
		/* HEAD: the same without a range (14.2) and without a body. */
		answer_file(&a, HTTP_HEAD, &c->q, &file);
		check_status(c->section, a.status,
		    c->status == 206 ? 200 : c->status);
		check_shape(&a, HTTP_HEAD);
	}
}

static void
keeps_to_section_14(void **state)
{
	struct answer_file f = file;
	const struct range *c;
	struct http_fields q;
	struct answer a;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		c = &ranges[i];
		memset(&q, 0, sizeof(q));
		q.range = c->range;
		f.size = c->size;
		answer_file(&a, HTTP_GET, &q, &f);
		check_status(c->section, a.status, c->status);
		check_shape(&a, HTTP_GET);
		if (a.offset != c->offset || a.length != c->length)
			fail_msg("%s: another slice", c->section);
		if (c->told != NULL)
			assert_string_equal(header(&a, "Content-Range"),
			    c->told);
		answer_file(&a, HTTP_HEAD, &q, &f);
		check_status(c->section, a.status, 200);
		assert_int_equal(a.length, c->size);
	}
}

static void
honours_if_range(void **state)
{
	struct http_fields q;
	struct answer a;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(if_ranges) / sizeof(if_ranges[0]); i++) {
		memset(&q, 0, sizeof(q));
		q.if_range = if_ranges[i].if_range;
		answer_file(&a, HTTP_GET, &q, &file);
		check_status("If-Range without Range", a.status, 200);
		q.range = "bytes=5-9";
		answer_file(&a, HTTP_GET, &q, &file);
		check_status(if_ranges[i].section, a.status,
		    if_ranges[i].status);
		q.range = "bytes=500-";
		answer_file(&a, HTTP_GET, &q, &file);
		check_status(if_ranges[i].section, a.status,
		    if_ranges[i].status == 206 ? 416 : 200);
	}
}

static void
does_without_validators(void **state)
{
	static const struct condition cases[] = {
		{ "date", { .if_modified_since = LATER }, 200 },
		{ "date", { .if_unmodified_since = EARLIER }, 200 },
		{ "tag", { .if_none_match = "\"tag\"" }, 200 },
		{ "star", { .if_none_match = "*" }, 304 },
		{ "tag", { .if_match = "\"tag\"" }, 412 },
		{ "range", { .range = "bytes=0-1" }, 206 },
		{ "if-range", { .range = "bytes=0-1", .if_range = DATE }, 200 },
	};
	struct answer_file f = { .size = SIZE, .time = -1, .type = "x" };
	struct answer a;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		answer_file(&a, HTTP_GET, &cases[i].q, &f);
		check_status(cases[i].section, a.status, cases[i].status);
		assert_null(header(&a, "ETag"));
		assert_null(header(&a, "Last-Modified"));
	}
}

static void
tells_how_to_cache(void **state)
{
	struct http_fields q = { .range = "bytes=0-1" };
	struct answer_file f = file;
	struct answer a;

	(void)state;
	f.immutable = true;
	answer_file(&a, HTTP_GET, &q, &f);
	assert_int_equal(a.status, 206);
	assert_string_equal(header(&a, "Cache-Control"),
	    "public, max-age=31536000, immutable");
	assert_string_equal(header(&a, "Accept-Ranges"), "bytes");
	f.immutable = false;
	f.no_store = true;		/* another document each time */
	answer_file(&a, HTTP_GET, &q, &f);
	assert_int_equal(a.status, 200);
	assert_string_equal(header(&a, "Cache-Control"), "no-store");
	assert_null(header(&a, "Accept-Ranges"));
}

/* 8.8.1: what does not differ whenever the content does names no parts. */
static void
knows_weak_validators(void **state)
{
	static const struct {
		const char		*section;
		struct http_fields	 q;
		unsigned		 tag, time;	/* status, where that is weak */
	} cases[] = {
		{ "13.1.1", { .if_match = "\"tag\"" }, 412, 200 },
		{ "13.1.1 star", { .if_match = "*" }, 200, 200 },
		{ "13.1.2", { .if_none_match = "\"tag\"" }, 304, 304 },
		{ "13.1.2 weak", { .if_none_match = "W/\"tag\"" }, 304, 304 },
		{ "13.1.3", { .if_modified_since = DATE }, 304, 304 },
		{ "13.1.4", { .if_unmodified_since = EARLIER }, 412, 412 },
		{ "14.2", { .range = "bytes=0-1" }, 206, 206 },
		{ "13.1.5 tag", { .range = "bytes=0-1",
		    .if_range = "\"tag\"" }, 200, 206 },
		{ "13.1.5 weak tag", { .range = "bytes=0-1",
		    .if_range = "W/\"tag\"" }, 200, 200 },
		{ "13.1.5 date", { .range = "bytes=0-1", .if_range = DATE },
		    206, 200 },
	};
	struct answer_file tag = file, time = file;
	struct answer a;
	size_t i;

	(void)state;
	tag.weak_etag = time.weak_time = true;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		answer_file(&a, HTTP_GET, &cases[i].q, &time);
		check_status(cases[i].section, a.status, cases[i].time);
		check_shape(&a, HTTP_GET);
		answer_file(&a, HTTP_GET, &cases[i].q, &tag);
		check_status(cases[i].section, a.status, cases[i].tag);
		if (a.status < 400)
			assert_string_equal(header(&a, "ETag"), "W/\"tag\"");
	}
}

/* Of another server's file: what that said goes into `fields`, or instead of our
 * own words. */
static void
leaves_headers_to_others(void **state)
{
	struct http_fields q = { .range = NULL };
	struct answer_file f = file;
	struct answer a;

	(void)state;
	a.fields = "left over";
	f.immutable = true;
	f.cache_control = "max-age=5, private";
	answer_file(&a, HTTP_GET, &q, &f);
	assert_null(a.fields);
	assert_string_equal(header(&a, "Cache-Control"), "max-age=5, private");
	f.cache_control = "";
	f.type = NULL;
	answer_file(&a, HTTP_GET, &q, &f);
	assert_int_equal(a.status, 200);
	assert_null(header(&a, "Cache-Control"));
	assert_null(header(&a, "Content-Type"));
	a.fields = "left over";
	answer_status(&a, 503, 0);
	assert_null(a.fields);
	assert_string_equal(header(&a, "Cache-Control"), "no-store");
}

/* 8.4, 12.5.5, 15.4.5: what 200 and 304 tell of it; ranges would be of bytes that
 * another time may be others. */
static void
tells_of_codings(void **state)
{
	struct http_fields q = { .range = "bytes=5-9", .if_range = "\"tag\"" };
	struct answer_file f = file;
	struct answer a;

	(void)state;
	f.vary = "Accept-Encoding";
	answer_file(&a, HTTP_GET, &q, &f);
	assert_int_equal(a.status, 206);
	assert_string_equal(header(&a, "Vary"), "Accept-Encoding");
	assert_null(header(&a, "Content-Encoding"));
	f.coding = "zstd";
	answer_file(&a, HTTP_GET, &q, &f);
	assert_int_equal(a.status, 200);
	assert_int_equal(a.length, SIZE);
	assert_string_equal(header(&a, "Vary"), "Accept-Encoding");
	assert_string_equal(header(&a, "Content-Encoding"), "zstd");
	assert_null(header(&a, "Accept-Ranges"));
	q.if_none_match = "\"tag\"";
	answer_file(&a, HTTP_GET, &q, &f);
	assert_int_equal(a.status, 304);
	assert_string_equal(header(&a, "Vary"), "Accept-Encoding");
	assert_null(header(&a, "Content-Encoding"));
	answer_file(&a, HTTP_GET, &(struct http_fields){ .range = NULL },
	    &file);
	assert_null(header(&a, "Vary"));
}

static void
limits_headers(void **state)
{
	char text[ANSWER_VALUE + 1];
	struct answer a;
	int i;

	(void)state;
	answer_status(&a, 503, 7);
	assert_string_equal(header(&a, "Retry-After"), "7");
	assert_false(a.send_body);
	memset(text, 'x', sizeof(text));
	text[ANSWER_VALUE] = '\0';
	answer_header(&a, "Long", "%s", text);
	assert_null(header(&a, "Long"));	/* whole, not cut */
	text[ANSWER_VALUE - 1] = '\0';
	answer_header(&a, "Long", "%s", text);
	assert_string_equal(header(&a, "Long"), text);
	for (i = 0; i < 2 * ANSWER_HEADERS; i++)
		answer_header(&a, "More", "%d", i);
	assert_int_equal(a.nheader, ANSWER_HEADERS);
	answer_status(&a, 204, 0);
	assert_int_equal(a.nheader, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_to_section_13),
		cmocka_unit_test(keeps_to_section_14),
		cmocka_unit_test(honours_if_range),
		cmocka_unit_test(does_without_validators),
		cmocka_unit_test(tells_how_to_cache),
		cmocka_unit_test(knows_weak_validators),
		cmocka_unit_test(leaves_headers_to_others),
		cmocka_unit_test(tells_of_codings),
		cmocka_unit_test(limits_headers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("answer", tests, NULL, NULL));
}
