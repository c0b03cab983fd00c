/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a shared cache may do with responses, case by case.  Sections are of RFC
 * 9111 where no other RFC is named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "edge/fields.h"
#include "edge/fresh.h"
#include "proto/buf.h"
#include "proto/check.h"

#define	TIME	1000000000
#define	NOW	"Sun, 09 Sep 2001 01:46:40 GMT"
#define	HOUR	"Sun, 09 Sep 2001 02:46:40 GMT"		/* later */
#define	BEFORE	"Sun, 09 Sep 2001 00:46:40 GMT"		/* an hour */
#define	D	"Date: " NOW "\n"
#define	E	"Expires: " HOUR "\n"
#define	CC(v)	"Cache-Control: " v "\n"
#define	LIMIT	2147483648				/* 1.2.2 */
#define	N(a)	(sizeof(a) / sizeof((a)[0]))

struct storing {
	const char	*section;
	unsigned	 status;
	const char	*fields, *asked;	/* asked: Cache-Control */
	bool		 authorization, stored;
};

static const struct storing storing[] = {
	{ "3, 4.2.2 heuristically cacheable", 200, "", NULL, false, true },
	{ "4.2.2 301", 301, "", NULL, false, true },
	{ "4.2.2 308", 308, "", NULL, false, true },
	{ "4.2.2 404", 404, "", NULL, false, true },
	{ "4.2.2 410", 410, "", NULL, false, true },
	{ "3 302 without a lifetime", 302, "", NULL, false, false },
	{ "3 302 with max-age", 302, CC("max-age=60"), NULL, false, true },
	{ "3 302 with s-maxage", 302, CC("s-maxage=60"), NULL, false, true },
	{ "3 302 with Expires", 302, D E, NULL, false, true },
	{ "3 302 with Expires that is none", 302, D "Expires: 0\n", NULL, false,
	    true },
	{ "3 302, only public: a lifetime we want", 302, CC("public"), NULL,
	    false, false },
	{ "3 307 without a lifetime", 307, "", NULL, false, false },
	{ "3 307 with max-age", 307, CC("max-age=60"), NULL, false, true },
	{ "3 303: not ours", 303, CC("max-age=60"), NULL, false, false },
	{ "3 304: not understood", 304, CC("max-age=60"), NULL, false, false },
	{ "3 206: not understood", 206, CC("max-age=60"), NULL, false, false },
	{ "3 not final", 103, CC("max-age=60"), NULL, false, false },
	{ "3 200 only, no content", 204, CC("max-age=60"), NULL, false, false },
	{ "3 401", 401, CC("public, max-age=60"), NULL, false, false },
	{ "3 403", 403, CC("max-age=60"), NULL, false, false },
	{ "3 500", 500, CC("max-age=60"), NULL, false, false },
	{ "3 503", 503, CC("public, max-age=60"), NULL, false, false },
	{ "3 unknown status", 299, CC("max-age=60"), NULL, false, false },

	{ "5.2.2.5 no-store", 200, CC("no-store"), NULL, false, false },
	{ "5.2.2.5 and max-age: the strictest", 200, CC("max-age=60, no-store"),
	    NULL, false, false },
	{ "5.2.2.5 and public", 200, CC("public, no-store"), NULL, false,
	    false },
	{ "5.2 case", 200, CC("No-Store"), NULL, false, false },
	{ "5.2 name of the field", 200, "cache-control: no-store\n", NULL,
	    false, false },
	{ "5.2 longer name", 200, CC("no-stores"), NULL, false, true },
	{ "5.2 shorter name", 200, CC("no-stor"), NULL, false, true },
	{ "5.2 with an argument", 200, CC("no-store=1"), NULL, false, false },
	{ "5.2 with more behind", 200, CC("no-store max-age=5"), NULL, false,
	    false },
	{ "5.2 a semicolon", 200, CC("private; max-age=5"), NULL, false,
	    false },
	{ "5.2 in a quoted argument", 200, CC("x=\"a, no-store\""), NULL, false,
	    true },
	{ "5.2 behind a quoted argument", 200, CC("x=\"a\", no-store"), NULL,
	    false, false },
	{ "RFC 9110 5.6.4 quoted pair", 200, CC("x=\"\\\", no-store\""), NULL,
	    false, true },
	{ "RFC 9110 5.6.4 quoted pair at the end", 200,
	    CC("x=\"\\\\\", no-store"), NULL, false, false },
	{ "5.2 quotes that do not end", 200, CC("max-age=60, x=\"a"), NULL,
	    false, false },
	{ "5.2 quotes that do not end, must-understand", 200,
	    CC("must-understand, x=\"a"), NULL, false, false },
	{ "RFC 9110 5.3 second line", 200, CC("max-age=60") CC("no-store"),
	    NULL, false, false },
	{ "RFC 9110 5.6.1 empty members", 200, CC(", ,no-store,"), NULL, false,
	    false },
	{ "RFC 9110 5.6.1 only commas", 200, CC(",,"), NULL, false, true },
	{ "RFC 9110 5.6.3 tabs", 200, "Cache-Control:\tx\t,\tno-store\t\n",
	    NULL, false, false },
	{ "5.2 no token", 200, CC("=3, @, no-store"), NULL, false, false },
	{ "5.2.3 unknown directives", 200, CC("foo, bar=1"), NULL, false,
	    true },
	{ "another field", 200, "X-Cache-Control: no-store\n", NULL, false,
	    true },

	{ "5.2.2.3 must-understand overrides no-store", 200,
	    CC("must-understand, no-store"), NULL, false, true },
	{ "5.2.2.3 of another line", 404, CC("no-store") CC("must-understand"),
	    NULL, false, true },
	{ "5.2.2.3 status not understood", 206,
	    CC("must-understand, no-store, max-age=60"), NULL, false, false },
	{ "5.2.2.3 not in due form", 200, CC("must-understand=1, no-store"),
	    NULL, false, false },
	{ "5.2.2.3 does not override private", 200,
	    CC("must-understand, private"), NULL, false, false },
	{ "5.2.2.3 does not override the request", 200, CC("must-understand"),
	    "no-store", false, false },

	{ "5.2.2.7 private", 200, CC("private, max-age=60"), NULL, false,
	    false },
	{ "5.2.2.7 with fields, as without", 200,
	    CC("private=\"Set-Cookie\", max-age=60"), NULL, false, false },
	{ "5.2.2.7 and public: the strictest", 200, CC("public, private"), NULL,
	    false, false },
	{ "5.2.2.4 no-cache is stored", 200, CC("no-cache"), NULL, false,
	    true },
	{ "5.2.2.1 max-age=0 is stored", 200, CC("max-age=0"), NULL, false,
	    true },
	{ "5.4 Pragma of a response says nothing", 200, "Pragma: no-cache\n",
	    NULL, false, true },
	{ "7.3 Set-Cookie does not forbid", 200, "Set-Cookie: a=b\n", NULL,
	    false, true },

	{ "5.2.1.5 no-store of the request", 200, CC("max-age=60"), "no-store",
	    false, false },
	{ "5.2.1.4 no-cache of the request", 200, "", "no-cache", false, true },
	{ "5.2.1.1 max-age of the request", 200, "", "max-age=0", false, true },
	{ "5.2 unreadable request", 200, "", "x=\"", false, false },

	{ "3.5 Authorization", 200, CC("max-age=60"), NULL, true, false },
	{ "3.5 public would allow", 200, CC("public, max-age=60"), NULL, true,
	    false },
	{ "3.5 s-maxage would allow", 200, CC("s-maxage=60"), NULL, true,
	    false },
	{ "3.5 must-revalidate would allow", 200, CC("must-revalidate"), NULL,
	    true, false },

	{ "4.1 Vary", 200, "Vary: Accept-Language\n", NULL, false, true },
	{ "4.1 Vary: *", 200, "Vary: *\n", NULL, false, false },
	{ "4.1 * in a list", 200, "Vary: Accept, *\n", NULL, false, false },
	{ "4.1 * in a second line", 200, "Vary: Accept\nVary: *\n", NULL, false,
	    false },
	{ "4.1 empty", 200, "Vary:\n", NULL, false, true },
	{ "4.1 no list of names", 200, "Vary: Accept Language\n", NULL, false,
	    false },
};

struct lifetime {
	const char	*section, *fields;
	int64_t		 seconds;
};

static const struct lifetime lifetimes[] = {
	{ "4.2.1 nothing: no heuristics", D, 0 },
	{ "4.2.2 not of Last-Modified", D "Last-Modified: " BEFORE "\n", 0 },
	{ "4.2.1 max-age", CC("max-age=60"), 60 },
	{ "4.2.1 s-maxage before max-age", CC("max-age=60, s-maxage=10"), 10 },
	{ "4.2.1 s-maxage, also longer", CC("s-maxage=100, max-age=60"), 100 },
	{ "4.2.1 s-maxage before Expires", D E CC("s-maxage=5"), 5 },
	{ "5.3 max-age before Expires", D E CC("max-age=60"), 60 },
	{ "5.3 max-age=0 before Expires", D E CC("max-age=0"), 0 },
	{ "4.2.1 Expires", D E, 3600 },
	{ "4.2.1 Expires is Date", D "Expires: " NOW "\n", 0 },
	{ "5.3 expired", D "Expires: " BEFORE "\n", 0 },
	{ "5.3 0", D "Expires: 0\n", 0 },
	{ "5.3 -1", D "Expires: -1\n", 0 },
	{ "5.3 empty", D "Expires:\n", 0 },
	{ "5.3 other zone", D "Expires: Sun, 09 Sep 2001 02:46:40 UTC\n", 0 },
	{ "5.3 no such day", D "Expires: Sun, 31 Sep 2001 02:46:40 GMT\n", 0 },
	{ "5.3 case", D "Expires: Sun, 09 SEP 2001 02:46:40 gmt\n", 0 },
	{ "5.3 before 1970", D "Expires: Wed, 31 Dec 1969 23:59:59 GMT\n", 0 },
	{ "5.3 the epoch", D "Expires: Thu, 01 Jan 1970 00:00:00 GMT\n", 0 },
	{ "RFC 9110 5.6.7 RFC 850",
	    D "Expires: Sunday, 09-Sep-01 02:46:40 GMT\n", 3600 },
	{ "RFC 9110 5.6.7 asctime",
	    D "Expires: Sun Sep  9 02:46:40 2001\n", 3600 },
	{ "1.2.2 far away", D "Expires: Fri, 31 Dec 9999 23:59:59 GMT\n",
	    LIMIT },
	{ "4.2.1 two equal Expires", D E E, 3600 },
	{ "4.2.1 two Expires", D E "Expires: " NOW "\n", 0 },
	{ "4.2.1 no Date", E, 0 },
	{ "4.2.1 bad Date", "Date: today\n" E, 0 },
	{ "4.2.1 two Dates", D "Date: " BEFORE "\n" E, 0 },

	{ "1.2.2 leading zeros", CC("max-age=0060"), 60 },
	{ "1.2.2 the greatest", CC("max-age=2147483648"), LIMIT },
	{ "1.2.2 more", CC("max-age=2147483649"), LIMIT },
	{ "1.2.2 much more", CC("max-age=99999999999999999999999999"), LIMIT },
	{ "4.2.1 no number", CC("max-age=abc"), 0 },
	{ "4.2.1 number and more", CC("max-age=60s"), 0 },
	{ "4.2.1 a fraction", CC("max-age=1.5"), 0 },
	{ "4.2.1 negative", CC("max-age=-1"), 0 },
	{ "4.2.1 sign", CC("max-age=+60"), 0 },
	{ "4.2.1 hexadecimal", CC("max-age=0x60"), 0 },
	{ "4.2.1 blank before =", CC("max-age =60"), 0 },
	{ "4.2.1 blank behind =", CC("max-age= 60"), 0 },
	{ "4.2.1 no argument", CC("max-age"), 0 },
	{ "4.2.1 empty argument", CC("max-age="), 0 },
	{ "4.2.1 semicolon", CC("max-age=60; public"), 0 },
	{ "4.2.1 bad s-maxage before max-age", CC("max-age=60, s-maxage=x"),
	    0 },
	{ "4.2.1 bad max-age before Expires", D E CC("max-age=x"), 0 },
	{ "RFC 9110 5.6.1 blank before a comma", CC("max-age=60 ,x"), 60 },
	{ "5.2 quoted", CC("max-age=\"60\""), 60 },
	{ "5.2 quoted and empty", CC("max-age=\"\""), 0 },
	{ "5.2 half quoted", CC("max-age=60\""), 0 },
	{ "5.2 single quotes", CC("max-age='60'"), 0 },
	{ "5.2 case", CC("MAX-AGE=60"), 60 },
	{ "5.2 longer name", CC("x-max-age=60"), 0 },
	{ "5.2 in a quoted argument", CC("x=\"max-age=60\""), 0 },
	{ "4.2.1 two equal", CC("max-age=60, max-age=60"), 60 },
	{ "4.2.1 two, shorter first", CC("max-age=60, max-age=600"), 0 },
	{ "4.2.1 two, longer first", CC("max-age=600, max-age=60"), 0 },
	{ "4.2.1 two in two lines", CC("max-age=60") CC("max-age=61"), 0 },
	{ "4.2.1 a number and none", CC("max-age=60, max-age=x"), 0 },
	{ "4.2.1 two s-maxage", CC("s-maxage=60, s-maxage=6"), 0 },
	{ "5.4 Pragma says nothing", CC("max-age=60") "Pragma: no-cache\n",
	    60 },
};

struct age {
	const char	*section, *fields;
	int64_t		 request, response, now, seconds;
};

static const struct age ages[] = {
	{ "4.2.3 at once", D, TIME, TIME, TIME, 0 },
	{ "4.2.3 resident_time", D, TIME, TIME, TIME + 7, 7 },
	{ "4.2.3 response_delay", D, TIME - 3, TIME, TIME, 3 },
	{ "4.2.3 apparent_age", D, TIME + 5, TIME + 5, TIME + 5, 5 },
	{ "4.2.3 age_value", D "Age: 9\n", TIME, TIME, TIME, 9 },
	{ "4.2.3 age_value and delay", D "Age: 9\n", TIME - 2, TIME, TIME, 11 },
	{ "4.2.3 apparent age is more", D "Age: 9\n", TIME + 20, TIME + 20,
	    TIME + 20, 20 },
	{ "4.2.3 corrected age is more", D "Age: 30\n", TIME + 20, TIME + 20,
	    TIME + 20, 30 },
	{ "4.2.3 all", D "Age: 30\n", TIME + 18, TIME + 20, TIME + 25, 37 },
	{ "4.2.3 the origin's clock is ahead", D, TIME - 50, TIME - 50,
	    TIME - 50, 0 },
	{ "4.2.3 no Date", "Age: 4\n", TIME, TIME + 1, TIME + 2, 6 },
	{ "4.2.3 bad Date", "Date: x\nAge: 4\n", TIME, TIME, TIME, 4 },
	{ "4.2.3 our clock was put back", D, TIME, TIME, TIME - 9, 0 },
	{ "4.2.3 put back in between", D, TIME, TIME - 5, TIME, 5 },
	{ "5.1 the first member", D "Age: 9, 500\n", TIME, TIME, TIME, 9 },
	{ "5.1 the first line", D "Age: 9\nAge: 500\n", TIME, TIME, TIME, 9 },
	{ "5.1 negative", D "Age: -9\n", TIME, TIME, TIME, 0 },
	{ "5.1 no number", D "Age: 9x\n", TIME, TIME, TIME, 0 },
	{ "5.1 a fraction", D "Age: 9.5\n", TIME, TIME, TIME, 0 },
	{ "5.1 empty", D "Age:\n", TIME, TIME, TIME, 0 },
	{ "1.2.2 more than can be", D "Age: 99999999999999999999\n", TIME, TIME,
	    TIME + 1, LIMIT },
	{ "1.2.2 times that overflow", D, INT64_MIN, INT64_MAX, INT64_MAX,
	    LIMIT },
	{ "1.2.2 all of it", D "Age: 9999999999\n", INT64_MIN, 0, INT64_MAX,
	    LIMIT },
};

struct use {
	const char	*section, *fields, *asked, *pragma;
	int64_t		 age;
	enum fresh_use	 use;
	bool		 stale;		/* when no upstream answers */
};
#define	SERVE	FRESH_SERVE
#define	STALE	FRESH_SERVE_STALE
#define	VERIFY	FRESH_VERIFY

static const struct use uses[] = {
	{ "4.2 fresh", CC("max-age=60"), NULL, NULL, 59, SERVE, true },
	{ "4.2 lifetime > age", CC("max-age=60"), NULL, NULL, 60, VERIFY,
	    true },
	{ "4.2 stale", CC("max-age=60"), NULL, NULL, 600, VERIFY, true },
	{ "4.2.2 no lifetime", D, NULL, NULL, 0, VERIFY, true },
	{ "4.2 Expires", D E, NULL, NULL, 3599, SERVE, true },
	{ "4.2 Expires, expired", D E, NULL, NULL, 3600, VERIFY, true },
	{ "5.2.2.4 no-cache", CC("max-age=60, no-cache"), NULL, NULL, 0, VERIFY,
	    false },
	{ "5.2.2.4 with fields, as without",
	    CC("max-age=60, no-cache=\"Set-Cookie\""), NULL, NULL, 0, VERIFY,
	    false },
	{ "5.2.2.4 against max-stale", CC("max-age=60, no-cache"), "max-stale",
	    NULL, 90, VERIFY, false },
	{ "5.2.2.4 against stale-if-error",
	    CC("max-age=60, no-cache, stale-if-error=99"), NULL, NULL, 90,
	    VERIFY, false },
	{ "5.2.2.2 must-revalidate, fresh", CC("max-age=60, must-revalidate"),
	    NULL, NULL, 59, SERVE, true },
	{ "5.2.2.2 must-revalidate, stale", CC("max-age=60, must-revalidate"),
	    NULL, NULL, 60, VERIFY, false },
	{ "5.2.2.2 without a lifetime", CC("must-revalidate"), NULL, NULL, 0,
	    VERIFY, false },
	{ "5.2.2.2 against max-stale", CC("max-age=60, must-revalidate"),
	    "max-stale=100", NULL, 70, VERIFY, false },
	{ "5.2.2.2 against stale-if-error",
	    CC("max-age=60, must-revalidate, stale-if-error=100"), NULL, NULL,
	    70, VERIFY, false },
	{ "5.2.2.8 proxy-revalidate, fresh", CC("max-age=60, proxy-revalidate"),
	    NULL, NULL, 1, SERVE, true },
	{ "5.2.2.8 proxy-revalidate, stale", CC("max-age=60, proxy-revalidate"),
	    "max-stale", NULL, 60, VERIFY, false },
	{ "5.2.2.10 s-maxage, fresh", CC("s-maxage=60"), NULL, NULL, 1, SERVE,
	    true },
	{ "5.2.2.10 s-maxage is proxy-revalidate", CC("s-maxage=60"),
	    "max-stale", NULL, 60, VERIFY, false },
	{ "5.2.2.10 also with an argument that is none",
	    CC("max-age=60, s-maxage=x"), "max-stale", NULL, 0, VERIFY, false },
	{ "4.2.1 two lifetimes", CC("max-age=60, max-age=600"), NULL, NULL, 0,
	    VERIFY, true },
	{ "RFC 8246 immutable, fresh", CC("max-age=60, immutable"), NULL, NULL,
	    1, SERVE, true },
	{ "RFC 8246 immutable adds no lifetime", CC("immutable"), NULL, NULL, 0,
	    VERIFY, true },
	{ "5.2.2.9 public adds no lifetime", CC("public"), NULL, NULL, 0,
	    VERIFY, true },

	{ "5.2.1.1 max-age, young", CC("max-age=60"), "max-age=10", NULL, 10,
	    SERVE, true },
	{ "5.2.1.1 max-age, older", CC("max-age=60"), "max-age=10", NULL, 11,
	    VERIFY, true },
	{ "5.2.1.1 max-age=0", CC("max-age=60"), "max-age=0", NULL, 1, VERIFY,
	    true },
	{ "5.2.1.1 max-age does not prolong", CC("max-age=60"), "max-age=600",
	    NULL, 60, VERIFY, true },
	{ "5.2.1.1 no number", CC("max-age=60"), "max-age=x", NULL, 1, VERIFY,
	    true },
	{ "5.2.1.1 twice", CC("max-age=60"), "max-age=9, max-age=99", NULL, 1,
	    VERIFY, true },
	{ "5.2 quoted", CC("max-age=60"), "max-age=\"10\"", NULL, 10, SERVE,
	    true },
	{ "5.2.1.2 max-stale, any", CC("max-age=60"), "max-stale", NULL, 999999,
	    STALE, true },
	{ "5.2.1.2 max-stale, fresh", CC("max-age=60"), "max-stale", NULL, 5,
	    SERVE, true },
	{ "5.2.1.2 max-stale=N", CC("max-age=60"), "max-stale=10", NULL, 70,
	    STALE, true },
	{ "5.2.1.2 more than N", CC("max-age=60"), "max-stale=10", NULL, 71,
	    VERIFY, false },
	{ "5.2.1.2 without a lifetime", D, "max-stale", NULL, 1, STALE, true },
	{ "5.2.1.2 no number", CC("max-age=60"), "max-stale=x", NULL, 61,
	    VERIFY, false },
	{ "5.2.1.2 more behind it", CC("max-age=60"), "max-stale 9", NULL, 61,
	    VERIFY, false },
	{ "5.2.1.2 any and N", CC("max-age=60"), "max-stale, max-stale=9", NULL,
	    61, VERIFY, false },
	{ "5.2.1.2 N and any", CC("max-age=60"), "max-stale=9, max-stale", NULL,
	    61, VERIFY, false },
	{ "5.2.1.2 any twice", CC("max-age=60"), "max-stale, max-stale", NULL,
	    61, STALE, true },
	{ "5.2.1.1 max-age and max-stale", CC("max-age=60"),
	    "max-age=100, max-stale=20", NULL, 75, STALE, true },
	{ "5.2.1.1 max-age before max-stale", CC("max-age=60"),
	    "max-age=10, max-stale", NULL, 61, VERIFY, true },
	{ "5.2.1.3 min-fresh", CC("max-age=60"), "min-fresh=10", NULL, 50,
	    SERVE, true },
	{ "5.2.1.3 not so fresh", CC("max-age=60"), "min-fresh=10", NULL, 51,
	    VERIFY, true },
	{ "5.2.1.3 min-fresh before max-stale", CC("max-age=60"),
	    "min-fresh=10, max-stale", NULL, 51, VERIFY, true },
	{ "5.2.1.3 no number", CC("max-age=60"), "min-fresh=x", NULL, 1, VERIFY,
	    true },
	{ "5.2.1.3 twice", CC("max-age=60"), "min-fresh=1, min-fresh=2", NULL,
	    1, VERIFY, true },
	{ "5.2.1.4 no-cache", CC("max-age=60"), "no-cache", NULL, 1, VERIFY,
	    false },
	{ "5.2.1.4 against max-stale", CC("max-age=60"), "no-cache, max-stale",
	    NULL, 61, VERIFY, false },
	{ "5.2.1.5 no-store may be served", CC("max-age=60"), "no-store", NULL,
	    1, SERVE, true },
	{ "5.2.1.6 no-transform", CC("max-age=60"), "no-transform", NULL, 1,
	    SERVE, true },
	{ "5.2.1.7 only-if-cached, fresh", CC("max-age=60"), "only-if-cached",
	    NULL, 1, SERVE, true },
	{ "5.2.1.7 only-if-cached, stale", CC("max-age=60"), "only-if-cached",
	    NULL, 61, VERIFY, true },
	{ "5.2 unreadable request", CC("max-age=60"), "x=\"", NULL, 1, VERIFY,
	    false },
	{ "5.2 unknown", CC("max-age=60"), "foo=\"no-cache\"", NULL, 1, SERVE,
	    true },
	{ "5.4 Pragma", CC("max-age=60"), NULL, "no-cache", 1, VERIFY, false },
	{ "5.4 Pragma, case and more", CC("max-age=60"), NULL, "x, No-Cache", 1,
	    VERIFY, false },
	{ "5.4 Pragma knows one word", CC("max-age=60"), NULL, "max-age=0", 1,
	    SERVE, true },
	{ "5.4 Cache-Control before Pragma", CC("max-age=60"), "max-age=60",
	    "no-cache", 1, SERVE, true },

	{ "RFC 5861 4 stale-if-error", CC("max-age=60, stale-if-error=30"),
	    NULL, NULL, 90, VERIFY, true },
	{ "RFC 5861 4 more stale", CC("max-age=60, stale-if-error=30"), NULL,
	    NULL, 91, VERIFY, false },
	{ "RFC 5861 4 none", CC("max-age=60, stale-if-error=0"), NULL, NULL, 61,
	    VERIFY, false },
	{ "RFC 5861 4 no number", CC("max-age=60, stale-if-error"), NULL, NULL,
	    61, VERIFY, false },
	{ "RFC 5861 4 does not matter while fresh",
	    CC("max-age=60, stale-if-error=0"), NULL, NULL, 59, SERVE, true },
	{ "RFC 5861 4 is not max-stale", CC("max-age=60, stale-if-error=99"),
	    NULL, NULL, 61, VERIFY, true },
	{ "RFC 5861 4 of the request", CC("max-age=60"), "stale-if-error=30",
	    NULL, 90, VERIFY, true },
	{ "RFC 5861 4 of the request, more stale", CC("max-age=60"),
	    "stale-if-error=30", NULL, 91, VERIFY, false },
	{ "RFC 5861 4 the lower of both", CC("max-age=60, stale-if-error=99"),
	    "stale-if-error=30", NULL, 91, VERIFY, false },
	{ "RFC 5861 3 stale-while-revalidate is not ours",
	    CC("max-age=60, stale-while-revalidate=99"), NULL, NULL, 61, VERIFY,
	    true },
};

/* Of fields a validator for If-Range. */
static const struct {
	const char	*section, *fields, *validator;
} strongs[] = {
	{ "RFC 9110 8.8.3 strong ETag", "ETag: \"a\"\n", "\"a\"" },
	{ "RFC 9110 8.8.3 empty tag", "ETag: \"\"\n", "\"\"" },
	{ "RFC 9110 8.8.3 bytes above 127", "ETag: \"\303\244,\"\n",
	    "\"\303\244,\"" },
	{ "RFC 9110 13.1.5 weak ETag", "ETag: W/\"a\"\n", "" },
	{ "RFC 9110 13.1.5 no date beside a weak ETag",
	    D "ETag: W/\"a\"\nLast-Modified: " BEFORE "\n", "" },
	{ "RFC 9110 13.1.5 no date beside a bad ETag",
	    D "ETag: a\nLast-Modified: " BEFORE "\n", "" },
	{ "RFC 9110 13.1.5 ETag before date",
	    D "ETag: \"a\"\nLast-Modified: " BEFORE "\n", "\"a\"" },
	{ "RFC 9110 8.8.3 no quotes", "ETag: a\n", "" },
	{ "RFC 9110 8.8.3 half a quote", "ETag: \"a\n", "" },
	{ "RFC 9110 8.8.3 one quote", "ETag: \"\n", "" },
	{ "RFC 9110 8.8.3 quote inside", "ETag: \"a\"b\"\n", "" },
	{ "RFC 9110 8.8.3 blank inside", "ETag: \"a b\"\n", "" },
	{ "RFC 9110 8.8.3 small w", "ETag: w/\"a\"\n", "" },
	{ "RFC 9110 8.8.3 a list", "ETag: \"a\", \"b\"\n", "" },
	{ "two equal ETags", "ETag: \"a\"\nETag: \"a\"\n", "\"a\"" },
	{ "two ETags", "ETag: \"a\"\nETag: \"b\"\n", "" },
	{ "RFC 9110 8.8.2.2 an hour before Date",
	    D "Last-Modified: " BEFORE "\n", BEFORE },
	{ "RFC 9110 8.8.2.2 60 seconds",
	    D "Last-Modified: Sun, 09 Sep 2001 01:45:40 GMT\n",
	    "Sun, 09 Sep 2001 01:45:40 GMT" },
	{ "RFC 9110 8.8.2.2 59 seconds",
	    D "Last-Modified: Sun, 09 Sep 2001 01:45:41 GMT\n", "" },
	{ "RFC 9110 8.8.2.2 later than Date", D "Last-Modified: " HOUR "\n",
	    "" },
	{ "RFC 9110 8.8.2.2 no Date", "Last-Modified: " BEFORE "\n", "" },
	{ "RFC 9110 5.6.7 an old form is sent as the new one",
	    D "Last-Modified: Sun Sep  9 00:46:40 2001\n", BEFORE },
	{ "no date", D "Last-Modified: yesterday\n", "" },
	{ "two dates", D "Last-Modified: " BEFORE "\nLast-Modified: "
	    "Sun, 09 Sep 2001 00:46:41 GMT\n", "" },
	{ "neither", D, "" },
};

static const struct {
	const char	*section, *stored, *new304;
	bool		 confirms;
} confirming[] = {
	{ "4.3.4 same strong tag", "ETag: \"a\"\n", "ETag: \"a\"\n", true },
	{ "4.3.4 another strong tag", "ETag: \"a\"\n", "ETag: \"b\"\n", false },
	{ "4.3.4 strong, stored is weak", "ETag: W/\"a\"\n", "ETag: \"a\"\n",
	    false },
	{ "4.3.4 strong, none stored", "", "ETag: \"a\"\n", false },
	{ "4.3.4 same weak tag", "ETag: W/\"a\"\n", "ETag: W/\"a\"\n", true },
	{ "4.3.4 weak, stored is strong", "ETag: \"a\"\n", "ETag: W/\"a\"\n",
	    true },
	{ "4.3.4 another weak tag", "ETag: W/\"a\"\n", "ETag: W/\"b\"\n",
	    false },
	{ "4.3.4 weak, none stored", "", "ETag: W/\"\"\n", false },
	{ "4.3.4 tag before date",
	    "ETag: \"a\"\nLast-Modified: " NOW "\n",
	    "ETag: \"b\"\nLast-Modified: " NOW "\n", false },
	{ "4.3.4 same date", "Last-Modified: " NOW "\n",
	    "Last-Modified: " NOW "\n", true },
	{ "4.3.4 same date, stored has a tag",
	    "ETag: \"a\"\nLast-Modified: " NOW "\n",
	    "Last-Modified: " NOW "\n", true },
	{ "4.3.4 an older file of another mirror", "Last-Modified: " NOW "\n",
	    "Last-Modified: " BEFORE "\n", false },
	{ "4.3.4 date, none stored", "", "Last-Modified: " NOW "\n", false },
	{ "4.3.4 none", "ETag: \"a\"\n", "", true },
	{ "4.3.4 none, a date stored", "Last-Modified: " NOW "\n", "", true },
	{ "4.3.4 none, nothing stored", "", "", true },
	{ "a tag that is none", "ETag: a\n", "ETag: a\n", true },
	{ "a tag that is none, another date",
	    "ETag: a\nLast-Modified: " NOW "\n",
	    "ETag: a\nLast-Modified: " BEFORE "\n", false },
};

static const struct {
	const char	*section, *stored, *new304, *updated;
} updating[] = {
	{ "3.2 nothing new", D "ETag: \"a\"\n", D, "ETag: \"a\"\n" D },
	{ "3.2 replaced", D CC("max-age=1") "ETag: \"a\"\n",
	    D CC("max-age=2"), "ETag: \"a\"\n" D CC("max-age=2") },
	{ "3.2 added", D, D "X: 1\n", D "X: 1\n" },
	{ "3.2 all lines of a name", D "X: 1\nX: 2\nY: 3\n", D "x: 4\nx: 5\n",
	    "Y: 3\n" D "x: 4\nx: 5\n" },
	{ "3.2 Content-Type is no exception", D "Content-Type: a/b\n",
	    D "Content-Type: c/d\n", D "Content-Type: c/d\n" },
	{ "3.2 nor Content-Location", D "Content-Location: /a\n",
	    D "Content-Location: /b\n", D "Content-Location: /b\n" },
	{ "3.2 Content-Length", D "Content-Length: 9\n",
	    D "Content-Length: 0\n", "Content-Length: 9\n" D },
	{ "3.2 Content-Length is not added", D, D "Content-Length: 0\n", D },
	{ "3.2 Content-Encoding", D "Content-Encoding: x\n",
	    D "Content-Encoding: y\n", "Content-Encoding: x\n" D },
	{ "3.2 Content-Range", D, D "Content-Range: bytes 0-1/2\n", D },
	{ "3.1 hop by hop", D, D "Connection: X, close\nX: 1\nKeep-Alive: 5\n",
	    D },
	{ "3.1 of the proxy", D, D "Proxy-Authenticate: x\n", D },
	{ "3.2 ETag", D "ETag: \"a\"\n", D "ETag: W/\"a\"\n",
	    D "ETag: W/\"a\"\n" },
	{ "3.2 Expires", D E, D "Expires: 0\n", D "Expires: 0\n" },
	{ "3.2 Vary", D "Vary: A\n", D "Vary: B\n", D "Vary: B\n" },
	{ "4.2.3 Age is of the new one", D "Age: 100\n", D, D },
	{ "4.2.3 Age of both", D "Age: 100\n", D "Age: 5\n", D "Age: 5\n" },
	{ "RFC 9110 6.6.1 no Date", "Date: " BEFORE "\n", "X: 1\n",
	    "X: 1\n" D },
	{ "RFC 9110 6.6.1 bad Date", "Date: " BEFORE "\n", "Date: 1\n", D },
};

/* Sections of RFC 9110. */
enum filter { STORED, ANSWER, REQUEST };
static const struct {
	const char	*section;
	enum filter	 filter;
	const char	*in, *out;
} filtering[] = {
	{ "7.6.1 Connection", STORED, D "Connection: close\n", D },
	{ "7.6.1 its options", STORED, D "X: 1\nConnection: x, y\nY: 2\nZ: 3\n",
	    D "Z: 3\n" },
	{ "7.6.1 options of several lines", STORED,
	    D "Connection: x\nX: 1\nY: 2\nconnection: ,Y,\n", D },
	{ "7.6.1 every line of an option", STORED,
	    D "X: 1\nConnection: X\nx: 2\n", D },
	{ "7.6.1 part of a name", STORED, D "Connection: X\nX-Y: 1\n",
	    D "X-Y: 1\n" },
	{ "7.6.1 Keep-Alive", STORED, D "Keep-Alive: timeout=5\n", D },
	{ "7.6.1 Proxy-Connection", STORED, D "Proxy-Connection: close\n", D },
	{ "7.6.1 TE", STORED, D "TE: trailers\n", D },
	{ "7.6.1 Transfer-Encoding", STORED, D "Transfer-Encoding: chunked\n",
	    D },
	{ "7.6.1 Upgrade", STORED, D "Upgrade: h2c\n", D },
	{ "7.6.1 case", STORED, D "uPGRADE: h2c\n", D },
	{ "6.6.2 Trailer", STORED, D "Trailer: X\n", D },
	{ "RFC 9111 3.1 Proxy-Authenticate", STORED,
	    D "Proxy-Authenticate: x\n", D },
	{ "RFC 9111 3.1 Proxy-Authentication-Info", STORED,
	    D "Proxy-Authentication-Info: x\n", D },
	{ "RFC 9111 3.1 Proxy-Authorization", STORED,
	    D "Proxy-Authorization: x\n", D },
	{ "RFC 9111 3.1 unknown fields are stored", STORED, D "X: 1\n",
	    D "X: 1\n" },
	{ "RFC 9111 3.1 and what the edge makes", STORED,
	    D "Content-Length: 1\nETag: \"a\"\nAge: 1\n",
	    D "Content-Length: 1\nETag: \"a\"\nAge: 1\n" },
	{ "7.6.1 Cache-Control is no option", STORED,
	    D "Connection: cache-control, vary, X\nX: 1\n" CC("no-store")
	    "Vary: *\n", D CC("no-store") "Vary: *\n" },
	{ "7.6.1 nor is Content-Encoding", STORED,
	    D "Connection: Content-Encoding\nContent-Encoding: x\n",
	    D "Content-Encoding: x\n" },
	{ "6.6.1 Date is added", STORED, "X: 1\n", "X: 1\n" D },
	{ "6.6.1 bad Date", STORED, "Date: x\nX: 1\n", "X: 1\n" D },
	{ "6.6.1 two Dates", STORED, "Date: " BEFORE "\nDate: " HOUR "\n", D },
	{ "6.6.1 before 1970", STORED, "Date: Wed, 31 Dec 1969 23:59:59 GMT\n",
	    D },
	{ "5.1 no colon", STORED, D "nonsense\n", D },
	{ "5.1 blank before colon", STORED, D "X : 1\n", D },
	{ "5.1 no name", STORED, D ": 1\n", D },
	{ "5.1 no token", STORED, D "X(Y): 1\n", D },
	{ "5.2 folded", STORED, D "X: 1\n Y: 2\n", D "X: 1\n" },
	{ "5.5 blanks", STORED, D "X:  \t1 2\t \n", D "X: 1 2\n" },
	{ "5.5 no blank", STORED, D "X:1\n", D "X: 1\n" },
	{ "5.5 empty", STORED, D "X:\n", D "X: \n" },
	{ "no line end", STORED, D "X: 1", D "X: 1\n" },
	{ "empty lines", STORED, "\n" D "\n", D },

	{ "what the edge says", ANSWER,
	    "Accept-Ranges: none\nAge: 1\nCache-Status: a; hit\n"
	    "Content-Length: 1\nContent-Range: bytes 0-1/2\nETag: \"a\"\n"
	    "Last-Modified: " NOW "\nX: 1\n", "X: 1\n" },
	{ "what it passes on", ANSWER,
	    D "Via: 1.1 a\nContent-Type: a/b\n" CC("max-age=1") E
	    "Vary: A\nLocation: /x\nSet-Cookie: a\nSet-Cookie: b\n",
	    D "Via: 1.1 a\nContent-Type: a/b\n" CC("max-age=1") E
	    "Vary: A\nLocation: /x\nSet-Cookie: a\nSet-Cookie: b\n" },
	{ "7.6.1 in answers", ANSWER, "Connection: X\nX: 1\nTE: x\n", "" },
	{ "nothing", ANSWER, "", "" },

	{ "what the edge asks", REQUEST,
	    "Host: a\nRange: bytes=0-1\nIf-Match: *\nIf-None-Match: *\n"
	    "If-Modified-Since: " NOW "\nIf-Unmodified-Since: " NOW "\n"
	    "If-Range: \"a\"\nAccept-Encoding: x\nContent-Length: 0\n"
	    "Expect: 100-continue\nVia: 1.1 a\nMax-Forwards: 1\nX: 1\n"
	    "X-Forwarded-Host: evil\nforwarded: host=evil\nX-Rewrite-URL: /\n",
	    "X: 1\n" },
	{ "what it passes on", REQUEST,
	    "Accept: */*\nUser-Agent: a\nAuthorization: Basic x\n"
	    CC("no-cache") "Pragma: no-cache\nCookie: a\nIf: x\n",
	    "Accept: */*\nUser-Agent: a\nAuthorization: Basic x\n"
	    CC("no-cache") "Pragma: no-cache\nCookie: a\nIf: x\n" },
	{ "7.6.1 in requests", REQUEST,
	    "Connection: Upgrade, HTTP2-Settings, X\nUpgrade: h2c\n"
	    "HTTP2-Settings: x\nTE: trailers\nX: 1\nProxy-Authorization: x\n",
	    "" },
};

static const struct {
	const char	*section, *vary, *request, *key;
} varying[] = {
	{ "4.1 none", NULL, "A: 1\n", "" },
	{ "4.1 empty", "", "A: 1\n", "" },
	{ "4.1 one", "A", "A: 1\n", "a: 1\n" },
	{ "4.1 case", "aCCEPT", "Accept: X\n", "accept: X\n" },
	{ "4.1 several", "A, B", "B: 2\nA: 1\nC: 3\n", "a: 1\nb: 2\n" },
	{ "4.1 absent", "A, B", "B: 2\n", "b: 2\n" },
	{ "4.1 present and empty", "A", "A:\n", "a: \n" },
	{ "4.1 several lines", "A", "A: 1\nB: 2\na: 3\n", "a: 1, 3\n" },
	{ "4.1 longer name", "A", "AB: 1\n", "" },
	{ "RFC 9110 5.6.1 empty members", ", ,A,", "A: 1\n", "a: 1\n" },
	{ "4.1 *", "*", "A: 1\n", NULL },
	{ "4.1 * in a list", "A, *", "A: 1\n", NULL },
	{ "4.1 no name", "A B", "A: 1\n", NULL },
	{ "4.1 quotes", "\"A\"", "A: 1\n", NULL },
	{ "never sent upstream", "Accept-Encoding", "Accept-Encoding: x\n",
	    "" },
	{ "never sent upstream, others are", "accept-encoding, A",
	    "Accept-Encoding: x\nA: 1\n", "a: 1\n" },
};

static void
row(const char *section, bool right)
{

	if (!right)
		fail_msg("%s", section);
}

/* Both may be NULL. */
static void
row_text(const char *section, const char *got, const char *want)
{

	if (got != want &&
	    (got == NULL || want == NULL || strcmp(got, want) != 0))
		fail_msg("%s: \"%s\", not \"%s\"", section,
		    got == NULL ? "(none)" : got,
		    want == NULL ? "(none)" : want);
}

static void
row_number(const char *section, int64_t got, int64_t want)
{

	if (got != want)
		fail_msg("%s: %lld, not %lld", section, (long long)got,
		    (long long)want);
}

static void
stores_by_section_3(void **state)
{
	const struct storing *t;
	struct fresh_response r;
	struct fresh_request q;

	(void)state;
	for (t = storing; t < storing + N(storing); t++) {
		fresh_parse(&r, t->status, t->fields);
		fresh_request_parse(&q, t->asked, NULL, t->authorization);
		row(t->section, fresh_storable(&r, &q) == t->stored);
	}
}

static void
counts_lifetimes_by_section_4_2_1(void **state)
{
	const struct lifetime *t;
	struct fresh_response r;

	(void)state;
	for (t = lifetimes; t < lifetimes + N(lifetimes); t++) {
		fresh_parse(&r, 200, t->fields);
		row_number(t->section, fresh_lifetime(&r), t->seconds);
	}
}

static void
counts_ages_by_section_4_2_3(void **state)
{
	const struct age *t;
	struct fresh_response r;

	(void)state;
	for (t = ages; t < ages + N(ages); t++) {
		fresh_parse(&r, 200, t->fields);
		row_number(t->section,
		    fresh_age(&r, t->request, t->response, t->now), t->seconds);
	}
}

static void
serves_by_section_4(void **state)
{
	const struct use *t;
	struct fresh_response r;
	struct fresh_request q;

	(void)state;
	for (t = uses; t < uses + N(uses); t++) {
		fresh_parse(&r, 200, t->fields);
		fresh_request_parse(&q, t->asked, t->pragma, false);
		row_number(t->section, fresh_use(&r, &q, t->age), t->use);
		row(t->section,
		    fresh_may_be_stale(&r, &q, t->age) == t->stale);
	}
}

/* Flags that nothing above is decided by. */
static void
reads_the_rest(void **state)
{
	struct fresh_response r;
	struct fresh_request q;

	(void)state;
	fresh_parse(&r, 404, CC("immutable, public"));
	assert_true(r.immutable && r.public && r.status == 404);
	fresh_parse(&r, 200, CC("immutable=1, public x"));
	assert_false(r.immutable || r.public);
	fresh_request_parse(&q, "only-if-cached", NULL, true);
	assert_true(q.only_if_cached && q.authorization && !q.no_cache);
	fresh_request_parse(&q, NULL, NULL, false);
	assert_true(q.max_age == -1 && q.min_fresh == -1 && q.max_stale == -1 &&
	    q.stale_if_error == -1 && !q.no_store && !q.authorization);
}

static void
compares_validators(void **state)
{
	char out[FRESH_ETAG], fields[FRESH_ETAG + 16];
	struct fresh_response r, s;
	size_t i;

	(void)state;
	for (i = 0; i < N(strongs); i++) {
		fresh_parse(&r, 200, strongs[i].fields);
		row_text(strongs[i].section, fresh_strong(&r, out),
		    strongs[i].validator);
	}
	for (i = 0; i < N(confirming); i++) {
		fresh_parse(&s, 200, confirming[i].stored);
		fresh_parse(&r, 304, confirming[i].new304);
		row(confirming[i].section,
		    fresh_confirms(&s, &r) == confirming[i].confirms);
	}
	/* The longest that there is room for, and one more. */
	for (i = FRESH_ETAG - 1; i <= FRESH_ETAG; i++) {
		(void)snprintf(fields, sizeof(fields), "ETag: \"%0*d\"\n",
		    (int)i - 2, 0);
		fresh_parse(&r, 200, fields);
		assert_true(r.has_etag);
		assert_int_equal(strlen(fresh_strong(&r, out)),
		    i < FRESH_ETAG ? i : 0);
	}
}

static void
updates_by_section_3_2(void **state)
{
	char *p;
	size_t i;

	(void)state;
	for (i = 0; i < N(updating); i++) {
		p = fresh_update(updating[i].stored, updating[i].new304, TIME);
		row_text(updating[i].section, p, updating[i].updated);
		free(p);
	}
}

static void
passes_on_by_rfc_9110_7_6_1(void **state)
{
	const char *in;
	char *p;
	size_t i;

	(void)state;
	for (i = 0; i < N(filtering); i++) {
		in = filtering[i].in;
		p = filtering[i].filter == STORED ? fields_stored(in, TIME) :
		    filtering[i].filter == ANSWER ?
		    fields_end_to_end_response(in) :
		    fields_end_to_end_request(in);
		row_text(filtering[i].section, p, filtering[i].out);
		free(p);
	}
}

static void
keys_by_section_4_1(void **state)
{
	char *p;
	size_t i;

	(void)state;
	for (i = 0; i < N(varying); i++) {
		p = fresh_vary_key(varying[i].vary, varying[i].request);
		row_text(varying[i].section, p, varying[i].key);
		free(p);
	}
}

/* n times the same, malloc'd. */
static char *
times(const char *text, size_t n)
{
	struct buf b = BUF_INIT(1 << 20);

	for (; n > 0; n--)
		CHECK(buf_adds(&b, text) == 0);
	return (buf_take(&b, NULL));
}

/* What is more than a limit is refused as a whole. */
static void
keeps_to_limits(void **state)
{
	static const struct {
		const char	*text;
		size_t		 n;
		bool		 taken;
	} stored[] = {
		{ D, FIELDS_N, true },
		{ D, FIELDS_N + 1, false },
		{ "X: 345678901234567890123456789012345678901234567890123456789"
		    "012345678901234567890123456789012345678901234567890123456"
		    "78901234567890123456789012345678901234\n", 256, false },
		{ "Connection: 0123456789\n", 80, true },
		{ "Connection: 0123456789\n", 90, false },
	};
	char *text, *p;
	size_t i;

	(void)state;
	for (i = 0; i < N(stored); i++) {
		text = times(stored[i].text, stored[i].n);
		p = fields_stored(text, TIME);
		row(stored[i].text, (p != NULL) == stored[i].taken);
		free(p);
		free(text);
	}
	for (i = FRESH_VARY; i <= FRESH_VARY + 1; i++) {
		text = times("A,", i);
		p = fresh_vary_key(text, "A: 1\n");
		assert_true((p != NULL) == (i == FRESH_VARY));
		free(p);
		free(text);
	}
	text = times("A", 200);
	assert_null(fresh_vary_key(text, "A: 1\n"));
	free(text);
}

static void
joins_values(void **state)
{
	static const char fields[] = "A: 1\nB:\na: 2\nb:\nC: \t3 4 \n";
	char out[8];

	(void)state;
	assert_string_equal(fields_get(fields, "a", out, sizeof(out)), "1, 2");
	assert_string_equal(fields_get(fields, "B", out, sizeof(out)), ", ");
	assert_string_equal(fields_get(fields, "C", out, sizeof(out)), "3 4");
	assert_null(fields_get(fields, "D", out, sizeof(out)));
	assert_null(fields_get(fields, "", out, sizeof(out)));
	assert_null(fields_get(fields, "A", out, 4));
	assert_null(fields_get(fields, "A", out, 0));
	assert_null(fields_get("", "A", out, sizeof(out)));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stores_by_section_3),
		cmocka_unit_test(counts_lifetimes_by_section_4_2_1),
		cmocka_unit_test(counts_ages_by_section_4_2_3),
		cmocka_unit_test(serves_by_section_4),
		cmocka_unit_test(reads_the_rest),
		cmocka_unit_test(compares_validators),
		cmocka_unit_test(updates_by_section_3_2),
		cmocka_unit_test(passes_on_by_rfc_9110_7_6_1),
		cmocka_unit_test(keys_by_section_4_1),
		cmocka_unit_test(keeps_to_limits),
		cmocka_unit_test(joins_values),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests(tests, NULL, NULL));
}
