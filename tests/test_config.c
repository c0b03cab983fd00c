/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration files: what is read, and what is said of what is not.
 */

#include <sys/types.h>

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <czmq.h>

#include "proto/config.h"
#include "proto/fd.h"

#define	ROOT	"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
#define	ROOT2	"RWQ2vcr3bP3kPBvqjCyRCbVRMjZBnTpIMPPUySq0yZ7H4eqcVHLoOTxr"
#define	CURVE	"JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"
#define	CURVE2	"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

#define	FOUR(host) \
	"    listen = \"" host ":1\"\n    listen = \"" host ":2\"\n" \
	"    listen = \"" host ":3\"\n    listen = \"" host ":4\"\n"
#define	LEAST \
	"name = \"brno1\"\n" \
	"root-key = \"" ROOT "\"\n" \
	"upstream\n" \
	"    url = \"http://pkg.example.org\"\n"

static const char edge_sample[] =
	"# edge.conf, as pkgcast edge invite prints it\n"
	"name = \"brno1\"\n"
	"public = \"http://brno1.example.org\"\n"
	"root-key = \"" ROOT "\"\n"
	"stale = \"serve\"\n"
	"http\n"
	"    listen = \"[::]:80\"\n"
	"cache\n"
	"    dir = \"/var/cache/pkgcast\"\n"
	"    cache-size = \"20G\"\n"
	"master\n"
	"    announce = \"tcp://pkg.example.org:7302\"\n"
	"    lease = \"tcp://pkg.example.org:7303\"\n"
	"    public-key = \"" CURVE2 "\"\n"
	"upstream\n"
	"    url = \"http://pkg.example.org\"\n"
	"    kind = \"master\"\n"
	"curve\n"
	"    public-key = \"" CURVE2 "\"\n"
	"    secret-key = \"" CURVE "\"\n";

static const char master_sample[] =
	"user = \"pkgcast\"\n"
	"state = \"/var/lib/pkgcast/master\"\n"
	"edges = \"/etc/pkgcast/edges\"\n"
	"root-key = \"" ROOT "\"\n"
	"http\n"
	"    listen = \"[::]:80\"\n"
	"    public = \"http://pkg.example.org\"\n"
	"publish\n"
	"    listen = \"127.0.0.1:7301\"\n"
	"link\n"
	"    announce = \"tcp://*:7302\"\n"
	"    lease = \"tcp://*:7303\"\n"
	"    ttl = \"10\"\n"
	"status\n"
	"    listen = \"127.0.0.1:7304\"\n";

static const char pkgcast_sample[] =
	"publish = \"http://127.0.0.1:7301\"\n"
	"origin = \"http://pkg.example.org\"\n"
	"key = \"/root/.pkgcast/publisher.key\"\n";

/* An edge with one plain set needs no more than that. */
#define	PLAIN \
	"set\n" \
	"    name = \"debian\"\n" \
	"    plain = \"http://deb.example.org/debian\"\n"

/* Edge configurations that are refused, and how. */
static const struct {
	const char	*text, *reason;
} bad[] = {
	/* The form of lines. */
	{ "lisen = \"x\"\n", "e.conf:1: unknown key \"lisen\" (did you mean \"listen\" in section \"http\"?)" },
	{ LEAST "http\n    lisen = \"[::]:80\"\n",
	    "e.conf:6: unknown key \"lisen\" (did you mean \"listen\"?)" },
	{ LEAST "\n# a comment\n\nhttp # and here\n    # too\n    lisen = \"x\"\n",
	    "e.conf:10: unknown key \"lisen\" (did you mean \"listen\"?)" },
	{ LEAST "stael = \"serve\"\n",
	    "e.conf:5: unknown key \"stael\" (did you mean \"stale\"?)" },
	{ LEAST "colour = \"blue\"\n", "e.conf:5: unknown key \"colour\"" },
	{ LEAST "cache-size = \"1G\"\n",
	    "e.conf:5: unknown key \"cache-size\" (it belongs into section \"cache\")" },
	{ LEAST "cache\n    poll = \"60\"\n",
	    "e.conf:6: unknown key \"poll\" in section \"cache\" (it belongs at the top, not indented)" },
	{ LEAST "htpp\n    listen = \"[::]:80\"\n",
	    "e.conf:5: unknown section \"htpp\" (did you mean \"http\"?)" },
	{ LEAST "poetry\n", "e.conf:5: unknown section \"poetry\"" },
	{ LEAST "http = \"[::]:80\"\n",
	    "e.conf:5: \"http\" is a section: write its name alone, and its keys below it, indented by 4 blanks" },
	{ LEAST "poll\n", "e.conf:5: \"poll\" needs a value: poll = \"...\"" },
	{ LEAST "http\n    listen\n",
	    "e.conf:6: \"listen\" needs a value: listen = \"...\"" },
	{ LEAST "poll = 60\n",
	    "e.conf:5: the value of \"poll\" must stand in double quotes" },
	{ LEAST "poll = '60'\n",
	    "e.conf:5: the value of \"poll\" must stand in double quotes" },
	{ LEAST "poll =\n",
	    "e.conf:5: the value of \"poll\" must stand in double quotes" },
	{ LEAST "poll = \"60\n",
	    "e.conf:5: the value of \"poll\" has no closing quote" },
	{ LEAST "poll = \"60\" s\n",
	    "e.conf:5: text after the value of \"poll\" (a value holds no double quote)" },
	{ LEAST "state = \"/a\\\"b\"\n",
	    "e.conf:5: text after the value of \"state\" (a value holds no double quote)" },
	{ LEAST "poll: \"60\"\n",
	    "e.conf:5: expected: name = \"value\", or the name of a section" },
	{ LEAST "= \"60\"\n",
	    "e.conf:5: expected: name = \"value\", or the name of a section" },
	{ LEAST "http\n\tlisten = \"[::]:80\"\n",
	    "e.conf:6: tab in line: use blanks, 4 a level" },
	{ LEAST "http\n   listen = \"[::]:80\"\n",
	    "e.conf:6: indented by 3 blanks: use 4 a level" },
	{ LEAST "  # zconfig would complain\n",
	    "e.conf:5: indented by 2 blanks: use 4 a level" },
	{ LEAST "http\n        listen = \"[::]:80\"\n",
	    "e.conf:6: indented by 8 blanks: keys of a section by 4" },
	{ "name = \"a\"\n    poll = \"60\"\n",
	    "e.conf:2: \"poll\" is indented, but stands in no section" },
	{ "    poll = \"60\"\n",
	    "e.conf:1: \"poll\" is indented, but stands in no section" },
	{ "name = \"a\"\r\n",
	    "e.conf:1: carriage return in line: lines end with LF alone" },
	{ "name = \"a\x01\"\n", "e.conf:1: control byte 0x01 in line" },
	/* What stands once. */
	{ LEAST "poll = \"60\"\npoll = \"60\"\n",
	    "e.conf:6: key \"poll\" is given twice (first in line 5)" },
	{ LEAST "http\ncache\nhttp\n",
	    "e.conf:7: section \"http\" is given twice (first in line 5)" },
	{ LEAST "    url = \"http://a\"\n",
	    "e.conf:5: key \"url\" is given twice (first in line 4)" },
	{ LEAST "http\n    listen = \"a:1\"\n    listen = \"a:1\"\n",
	    "e.conf:7: \"listen\" is given twice with the same value" },
	{ LEAST "root-key = \"" ROOT "\"\n",
	    "e.conf:5: \"root-key\" is given twice with the same value" },
	{ LEAST "http\n" FOUR("a") FOUR("b") FOUR("c") FOUR("d") "    listen = \"a:1\"\n",
	    "e.conf:22: \"listen\" is given more than 16 times" },
	/* Values. */
	{ LEAST "poll = \"soon\"\n",
	    "e.conf:5: \"poll\" must be a time (s, m, h or d may follow) from 1s to 1d, not \"soon\"" },
	{ LEAST "poll = \"0\"\n",
	    "e.conf:5: \"poll\" must be a time (s, m, h or d may follow) from 1s to 1d, not \"0\"" },
	{ LEAST "poll = \"2d\"\n",
	    "e.conf:5: \"poll\" must be a time (s, m, h or d may follow) from 1s to 1d, not \"2d\"" },
	{ LEAST "poll = \"60 s\"\n",
	    "e.conf:5: \"poll\" must be a time (s, m, h or d may follow) from 1s to 1d, not \"60 s\"" },
	{ LEAST "poll = \"99999999999999999999d\"\n",
	    "e.conf:5: \"poll\" must be a time (s, m, h or d may follow) from 1s to 1d, not \"99999999999999999999d\"" },
	{ LEAST "cache\n    cache-size = \"20g\"\n",
	    "e.conf:6: \"cache-size\" must be a size (K, M, G or T may follow) from 1K to 1048576T, not \"20g\"" },
	{ LEAST "cache\n    cache-size = \"16777216T\"\n",
	    "e.conf:6: \"cache-size\" must be a size (K, M, G or T may follow) from 1K to 1048576T, not \"16777216T\"" },
	{ LEAST "http\n    threads = \"65\"\n",
	    "e.conf:6: \"threads\" must be a number from 0 to 64, not \"65\"" },
	{ LEAST "http\n    connections = \"0\"\n",
	    "e.conf:6: \"connections\" must be a number from 1 to 1000000, not \"0\"" },
	{ LEAST "http\n    head-size = \"1K\"\n",
	    "e.conf:6: \"head-size\" must be a size (K, M, G or T may follow) from 4K to 256K, not \"1K\"" },
	{ LEAST "http\n    head-timeout = \"0\"\n",
	    "e.conf:6: \"head-timeout\" must be a time (s, m, h or d may follow) from 1s to 1h, not \"0\"" },
	{ LEAST "http\n    low-rate = \"2G\"\n",
	    "e.conf:6: \"low-rate\" must be a size (K, M, G or T may follow) from 0 to 1G, not \"2G\"" },
	{ LEAST "http\n    stop-timeout = \"2h\"\n",
	    "e.conf:6: \"stop-timeout\" must be a time (s, m, h or d may follow) from 0 to 1h, not \"2h\"" },
	{ LEAST "http\n    head-timout = \"5\"\n",
	    "e.conf:6: unknown key \"head-timout\" (did you mean \"head-timeout\"?)" },
	{ LEAST "http\n    threads = \"-1\"\n",
	    "e.conf:6: \"threads\" must be a number from 0 to 64, not \"-1\"" },
	{ LEAST "http\n    threads = \"\"\n",
	    "e.conf:6: \"threads\" must be a number from 0 to 64, not \"\"" },
	{ LEAST "http\n    listen = \"80\"\n",
	    "e.conf:6: \"listen\" must be ADDRESS:PORT, such as \"[::]:80\", not \"80\"" },
	{ LEAST "http\n    listen = \"::1:80\"\n",
	    "e.conf:6: \"listen\" must be ADDRESS:PORT, such as \"[::]:80\", not \"::1:80\"" },
	{ LEAST "http\n    listen = \"[::1:80\"\n",
	    "e.conf:6: \"listen\" must be ADDRESS:PORT, such as \"[::]:80\", not \"[::1:80\"" },
	{ LEAST "http\n    listen = \"127.0.0.1:65536\"\n",
	    "e.conf:6: \"listen\" must be ADDRESS:PORT, such as \"[::]:80\", not \"127.0.0.1:65536\"" },
	{ LEAST "master\n    announce = \"pkg.example.org:7302\"\n",
	    "e.conf:6: \"announce\" must be tcp://HOST:PORT, not \"pkg.example.org:7302\"" },
	{ LEAST "state = \"lib/pkgcast\"\n",
	    "e.conf:5: \"state\" must be an absolute path, not \"lib/pkgcast\"" },
	{ LEAST "stale = \"refused\"\n",
	    "e.conf:5: \"stale\" must be \"serve\" or \"refuse\", not \"refused\"" },
	{ LEAST "log = \"stdout\"\n",
	    "e.conf:5: \"log\" must be \"stderr\" or \"syslog\", not \"stdout\"" },
	{ LEAST "user = \"-x\"\n",
	    "e.conf:5: \"user\" must be the name of a user, not \"-x\"" },
	{ LEAST "public = \"ftp://a\"\n",
	    "e.conf:5: \"public\" must be an http:// or https:// URL without user, password, query, not \"ftp://a\"" },
	{ LEAST "public = \"http:///a\"\n",
	    "e.conf:5: \"public\" must be an http:// or https:// URL without user, password, query, not \"http:///a\"" },
	{ LEAST "public = \"http://u:p@a\"\n",
	    "e.conf:5: \"public\" must be an http:// or https:// URL without user, password, query, not \"http://u:p@a\"" },
	{ LEAST "public = \"http://:80\"\n",
	    "e.conf:5: \"public\" must be an http:// or https:// URL without user, password, query, not \"http://:80\"" },
	{ LEAST "public = \"http://a:99999/\"\n",
	    "e.conf:5: \"public\" must be an http:// or https:// URL without user, password, query, not \"http://a:99999/\"" },
	{ LEAST "public = \"http://[::1\"\n",
	    "e.conf:5: \"public\" must be an http:// or https:// URL without user, password, query, not \"http://[::1\"" },
	{ LEAST "public = \"http://[::1]80\"\n",
	    "e.conf:5: \"public\" must be an http:// or https:// URL without user, password, query, not \"http://[::1]80\"" },
	{ LEAST "public = \"http://*:80\"\n",
	    "e.conf:5: \"public\" must be an http:// or https:// URL without user, password, query, not \"http://*:80\"" },
	{ LEAST "master\n    lease = \"tcp://*:7303\"\n",
	    "e.conf:6: \"lease\" must be tcp://HOST:PORT, not \"tcp://*:7303\"" },
	{ LEAST "public = \"http://a/?b\"\n",
	    "e.conf:5: \"public\" must be an http:// or https:// URL without user, password, query, not \"http://a/?b\"" },
	{ LEAST "root-key = \"RWQ\"\n",
	    "e.conf:5: \"root-key\" must be a minisign public key: 56 digits of base64, the first two RW, not \"RWQ\"" },
	{ LEAST "root-key = \"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9w\"\n",
	    "e.conf:5: \"root-key\" must be a minisign public key: 56 digits of base64, the first two RW, not \"QUJDREVGR0hJSktMTU5PUFFSU1RVVldY\"" },
	{ LEAST "curve\n    secret-key = \"never shown\"\n",
	    "e.conf:6: \"secret-key\" must be a CURVE key: 40 digits of Z85" },
	{ LEAST "curve\n    public-key = \"########################################\"\n",
	    "e.conf:6: \"public-key\" must be a CURVE key: 40 digits of Z85" },
	{ "name = \"a b\"\n" ,
	    "e.conf:1: \"name\" must be 1 to 64 of A-Z a-z 0-9 . _ -, not \"a b\"" },
	{ LEAST "    kind = \"mirror\"\n",
	    "e.conf:5: \"kind\" must be \"master\", \"edge\", \"sibling\" or \"static\", not \"mirror\"" },
	{ LEAST "set\n    name = \"/FreeBSD\"\n",
	    "e.conf:6: \"name\" must be the name of a set, not \"/FreeBSD\"" },
	{ LEAST "set\n    name = \"a/b\"\nset\n    name = \"a\"\n",
	    "e.conf:8: set \"a\" cannot stand beside set \"a/b\": one contains the other" },
	{ LEAST "set\n    name = \"a\"\nset\n    name = \"a\"\n",
	    "e.conf:8: set \"a\" is given twice" },
	{ LEAST "http\n    stael = \"serve\"\n",
	    "e.conf:6: unknown key \"stael\" (did you mean \"stale\" at the top?)" },
	/* Plain sets. */
	{ PLAIN "    plain = \"ftp://deb.example.org/debian\"\n",
	    "e.conf:4: \"plain\" must be an http:// or https:// URL without user, password, query, not \"ftp://deb.example.org/debian\"" },
	{ PLAIN "    plain = \"http://deb.example.org/debian\"\n",
	    "e.conf:4: \"plain\" is given twice with the same value" },
	{ PLAIN "    kind = \"redhat\"\n",
	    "e.conf:4: \"kind\" must be \"freebsd\", \"debian\", \"arch\" or \"other\", not \"redhat\"" },
	{ PLAIN "    kind = \"arch\"\n    kind = \"arch\"\n",
	    "e.conf:5: key \"kind\" is given twice (first in line 4)" },
	{ PLAIN "    freshness = \"rfc9111\"\n",
	    "e.conf:4: \"freshness\" must be \"mark\" or \"http\", not \"rfc9111\"" },
	{ PLAIN "    identify = \"/dists/stable/InRelease\"\n",
	    "e.conf:4: \"identify\" must be a path below \"plain\", such as \"latest/meta.conf\": no slash before it, no \"..\", no query, not \"/dists/stable/InRelease\"" },
	{ PLAIN "    identify = \"http://a/InRelease\"\n",
	    "e.conf:4: \"identify\" must be a path below \"plain\", such as \"latest/meta.conf\": no slash before it, no \"..\", no query, not \"http://a/InRelease\"" },
	{ PLAIN "    identify = \"dists/../InRelease\"\n",
	    "e.conf:4: \"identify\" must be a path below \"plain\", such as \"latest/meta.conf\": no slash before it, no \"..\", no query, not \"dists/../InRelease\"" },
	{ PLAIN "    identify = \"InRelease?x\"\n",
	    "e.conf:4: \"identify\" must be a path below \"plain\", such as \"latest/meta.conf\": no slash before it, no \"..\", no query, not \"InRelease?x\"" },
	{ PLAIN "    identify = \"\"\n",
	    "e.conf:4: \"identify\" must be a path below \"plain\", such as \"latest/meta.conf\": no slash before it, no \"..\", no query, not \"\"" },
	{ PLAIN "    poll = \"0\"\n",
	    "e.conf:4: \"poll\" must be a time (s, m, h or d may follow) from 1s to 1d, not \"0\"" },
	{ PLAIN "set\n    name = \"debian\"\n    plain = \"http://a\"\n",
	    "e.conf:5: set \"debian\" is given twice" },
	{ PLAIN "set\n    plain = \"http://a\"\n    name = \"debian/pool\"\n",
	    "e.conf:6: set \"debian/pool\" cannot stand beside set \"debian\": one contains the other" },
	{ PLAIN "set\n    name = \"debian\"\n",
	    "e.conf:5: set \"debian\" is given twice" },
	{ "set\n    name = \"debian\"\n" PLAIN,
	    "e.conf:4: set \"debian\" is given twice" },
	{ LEAST "set\n    name = \"a\"\n    identify = \"meta.conf\"\n",
	    "e.conf:7: \"identify\" is only for a set with \"plain\": add the address where it is fetched" },
	{ "set\n    poll = \"60\"\n    name = \"a\"\n" PLAIN,
	    "e.conf:2: \"poll\" is only for a set with \"plain\": add the address where it is fetched" },
	{ "set\n    plain = \"http://a\"\n",
	    "e.conf:1: section \"set\" needs \"name\"" },
	{ PLAIN "cache\n    plain = \"http://a\"\n",
	    "e.conf:5: unknown key \"plain\" (it belongs into section \"set\")" },
	/* Beside a plain set, a published one needs what it needs alone. */
	{ PLAIN "set\n    name = \"a\"\n",
	    "e.conf: \"name\" is missing (this edge's name at its master)" },
	{ PLAIN "upstream\n    url = \"http://pkg.example.org\"\n",
	    "e.conf: \"name\" is missing (this edge's name at its master)" },
	{ PLAIN "name = \"brno1\"\nroot-key = \"" ROOT "\"\n",
	    "e.conf: section \"upstream\" is missing (where to fetch from)" },
	{ PLAIN "master\n    announce = \"tcp://a:7302\"\n",
	    "e.conf:5: \"lease\" is missing in section \"master\", which \"announce\" in section \"master\" needs" },
	/* What is missing. */
	{ "", "e.conf: \"name\" is missing (this edge's name at its master)" },
	{ "name = \"a\"\n", "e.conf: \"root-key\" is missing (\"pkgcast trust init\" prints the line, \"pkgcast trust show\" the key)" },
	{ "name = \"a\"\nroot-key = \"" ROOT "\"\n",
	    "e.conf: section \"upstream\" is missing (where to fetch from)" },
	{ LEAST "upstream\n    kind = \"edge\"\n",
	    "e.conf:5: section \"upstream\" needs \"url\"" },
	{ LEAST "set\n", "e.conf:5: section \"set\" needs \"name\"" },
	{ LEAST "    kind = \"sibling\"\n",
	    "e.conf: every upstream is a sibling: one of another kind is needed" },
	{ LEAST "root-threshold = \"2\"\n",
	    "e.conf:5: \"root-threshold\" is 2, but there are only 1 of \"root-key\"" },
	{ LEAST "master\n    announce = \"tcp://a:7302\"\n",
	    "e.conf:6: \"lease\" is missing in section \"master\", which \"announce\" in section \"master\" needs" },
	{ LEAST "curve\n    public-key = \"" CURVE2 "\"\n    secret-key = \"" CURVE "\"\n",
	    "e.conf:6: \"announce\" is missing in section \"master\", which \"public-key\" in section \"curve\" needs" },
};

static void
refuses(void **state)
{
	struct parse_error err;
	struct edge_conf *c;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&err, 0, sizeof(err));
		c = config_edge_text("e.conf", bad[i].text,
		    strlen(bad[i].text), &err);
		if (c != NULL)
			fail_msg("case %zu was read: %s", i, bad[i].reason);
		assert_string_equal(err.reason, bad[i].reason);
	}
}

static void
refuses_long_lines_and_files(void **state)
{
	static char text[80000];
	struct parse_error err;

	(void)state;
	memset(text, '#', sizeof(text));
	assert_null(config_edge_text("e.conf", text, 1001, &err));
	assert_string_equal(err.reason,
	    "e.conf:1: line is longer than 1000 bytes");
	assert_null(config_edge_text("e.conf", text, sizeof(text), &err));
	assert_string_equal(err.reason, "e.conf: longer than 65536 bytes");
	assert_null(config_edge_text("e.conf", "name = \"a\0\"\n", 12, &err));
	assert_string_equal(err.reason, "e.conf:1: control byte 0x00 in line");
}

static void
fits_a_long_path_into_the_reason(void **state)
{
	char file[2000];
	struct parse_error err;

	(void)state;
	memset(file, 'x', sizeof(file));
	memcpy(file + sizeof(file) - 8, "/e.conf", 8);
	assert_null(config_edge_text(file, "x = \"\"\n", 7, &err));
	assert_non_null(strstr(err.reason, "/e.conf:1: unknown key \"x\""));
	assert_int_equal(strncmp(err.reason, "...xxx", 6), 0);
}

static void
reads_the_edge_sample(void **state)
{
	struct parse_error err;
	struct edge_conf *c;

	(void)state;
	c = config_edge_text("e.conf", edge_sample, strlen(edge_sample), &err);
	assert_non_null(c);
	assert_string_equal(c->name, "brno1");
	assert_string_equal(c->public_url, "http://brno1.example.org");
	assert_int_equal(c->root_key.n, 1);
	assert_string_equal(c->root_key.v[0], ROOT);
	assert_string_equal(c->announce, "tcp://pkg.example.org:7302");
	assert_string_equal(c->master_key, CURVE2);
	assert_string_equal(c->curve_secret, CURVE);
	assert_int_equal(c->cache_size, 20ull << 30);
	assert_int_equal(c->nupstream, 1);
	assert_int_equal(c->upstream[0].kind, UPSTREAM_MASTER);
	assert_int_equal(c->sets.n, 0);
	config_edge_destroy(&c);
	assert_null(c);
}

static void
has_defaults(void **state)
{
	struct parse_error err;
	struct edge_conf *c;

	(void)state;
	/* The last line needs no LF. */
	c = config_edge_text("e.conf", LEAST, strlen(LEAST) - 1, &err);
	assert_non_null(c);
	assert_string_equal(c->user, "pkgcast");
	assert_string_equal(c->state, CONFIG_EDGE_STATE);
	assert_string_equal(c->stale, "serve");
	assert_null(c->public_url);
	assert_null(c->announce);
	assert_null(c->curve_secret);
	assert_int_equal(c->root_threshold, 0);
	assert_int_equal(c->poll, 300);
	assert_int_equal(c->grace, 86400);
	assert_int_equal(c->http_listen.n, 1);
	assert_string_equal(c->http_listen.v[0], "[::]:80");
	assert_int_equal(c->limits.connections, 10000);
	assert_int_equal(c->limits.per_address, 256);
	assert_int_equal(c->limits.requests_per_connection, 10000);
	assert_int_equal(c->limits.head_size, 16384);
	assert_int_equal(c->limits.head_timeout, 15);
	assert_int_equal(c->limits.idle_timeout, 75);
	assert_int_equal(c->limits.low_rate, 1024);
	assert_int_equal(c->limits.low_time, 60);
	assert_int_equal(c->limits.stop_timeout, 30);
	assert_int_equal(c->min_free, 2ull << 30);
	assert_int_equal(c->fill_low_rate, 10240);
	assert_int_equal(c->fill_aside, 60);
	config_edge_destroy(&c);
}

static void
reads_what_repeats(void **state)
{
	static const char text[] =
	    "http\n"
	    "    listen = \"127.0.0.1:0\"   # any port\n"
	    "    listen = \"*:8080\"\n"
	    "    listen = \"localhost:8081\"#\n"
	    "upstream\n"
	    "    kind = \"edge\"\n"
	    "    url = \"https://a.example.org/pub//\"\n"
	    "upstream\n"
	    "    url = \"http://[::1]:8080/\"\n"
	    "    kind = \"static\"\n"
	    "set\n"
	    "    name = \"FreeBSD:14:amd64/latest\"\n"
	    "set\n"
	    "    name = \"pub/FreeBSD\"\n"
	    "name = \"a\"\n"
	    "root-key = \"" ROOT "\"\n"
	    "root-key = \"" ROOT2 "\"\n"
	    "root-threshold = \"1\"\n"
	    "state = \"/srv/it's # here\\\\n\"\n"
	    "poll = \"15m\"\n";
	struct parse_error err;
	struct edge_conf *c;

	(void)state;
	c = config_edge_text("e.conf", text, strlen(text), &err);
	if (c == NULL)
		fail_msg("%s", err.reason);
	assert_int_equal(c->http_listen.n, 3);
	assert_string_equal(c->http_listen.v[2], "localhost:8081");
	assert_int_equal(c->nupstream, 2);
	assert_string_equal(c->upstream[0].url, "https://a.example.org/pub");
	assert_int_equal(c->upstream[0].kind, UPSTREAM_EDGE);
	assert_string_equal(c->upstream[1].url, "http://[::1]:8080");
	assert_int_equal(c->upstream[1].kind, UPSTREAM_STATIC);
	assert_int_equal(c->sets.n, 2);
	assert_string_equal(c->sets.v[1], "pub/FreeBSD");
	assert_int_equal(c->root_key.n, 2);
	/* No escapes, and no comment within quotes. */
	assert_string_equal(c->state, "/srv/it's # here\\\\n");
	assert_int_equal(c->poll, 900);
	config_edge_destroy(&c);
}

static void
reads_plain_sets(void **state)
{
	static const char text[] = PLAIN
	    "set\n"
	    "    freshness = \"mark\"\n"
	    "    poll = \"15m\"\n"
	    "    identify = \"FreeBSD:14:amd64/latest/meta.conf\"\n"
	    "    identify = \"a/data.pkg\"\n"
	    "    name = \"freebsd\"\n"
	    "    kind = \"freebsd\"\n"
	    "    plain = \"https://pkg.example.org/\"\n"
	    "    plain = \"http://[::1]:8080\"\n";
	struct plain_conf *p;
	struct parse_error err;
	struct edge_conf *c;

	(void)state;
	c = config_edge_text("e.conf", text, strlen(text), &err);
	if (c == NULL)
		fail_msg("%s", err.reason);
	assert_false(config_published(c));
	assert_null(c->name);
	assert_int_equal(c->sets.n, 0);
	assert_int_equal(c->nplain, 2);
	p = &c->plain[0];
	assert_string_equal(p->name, "debian");
	assert_int_equal(p->plain.n, 1);
	assert_string_equal(p->plain.v[0], "http://deb.example.org/debian");
	assert_int_equal(p->identify.n, 0);
	assert_null(p->kind);
	assert_null(p->freshness);
	assert_int_equal(p->poll, 300);
	p = &c->plain[1];
	assert_string_equal(p->name, "freebsd");
	assert_int_equal(p->plain.n, 2);
	assert_string_equal(p->plain.v[0], "https://pkg.example.org");
	assert_string_equal(p->plain.v[1], "http://[::1]:8080");
	assert_int_equal(p->identify.n, 2);
	assert_string_equal(p->identify.v[1], "a/data.pkg");
	assert_string_equal(p->kind, "freebsd");
	assert_string_equal(p->freshness, "mark");
	assert_int_equal(p->poll, 900);
	config_edge_destroy(&c);
}

/* Those that are not plain limit the published ones; plain ones do not. */
static void
keeps_plain_and_published_sets_apart(void **state)
{
	static const char all[] = LEAST PLAIN, one[] = LEAST
	    "set\n    name = \"a\"\n" PLAIN "set\n    name = \"b\"\n";
	struct parse_error err;
	struct edge_conf *c;

	(void)state;
	assert_non_null(c = config_edge_text("e", all, strlen(all), &err));
	assert_true(config_published(c));
	assert_int_equal(c->sets.n, 0);
	assert_int_equal(c->nplain, 1);
	config_edge_destroy(&c);
	assert_non_null(c = config_edge_text("e", one, strlen(one), &err));
	assert_int_equal(c->sets.n, 2);
	assert_string_equal(c->sets.v[1], "b");
	assert_int_equal(c->nplain, 1);
	config_edge_destroy(&c);
}

static void
limits_plain_sets(void **state)
{
	char text[65 * 60] = "";
	struct parse_error err;
	struct edge_conf *c;
	size_t len = 0;
	int i;

	(void)state;
	for (i = 0; i < 64; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len,
		    "set\n    name = \"s%d\"\n    plain = \"http://a\"\n", i);
	assert_non_null(c = config_edge_text("e", text, len, &err));
	assert_int_equal(c->nplain, 64);
	config_edge_destroy(&c);
	len += (size_t)snprintf(text + len, sizeof(text) - len,
	    "set\n    name = \"t\"\n    plain = \"http://a\"\n");
	assert_null(config_edge_text("e", text, len, &err));
	assert_string_equal(err.reason,
	    "e:193: more than 64 sets with \"plain\"");
}

/* A temporary file with this text; removed by remove_file(). */
static char *
make_file(const char *text)
{
	char *name = strdup("/tmp/test_config.XXXXXX");
	int fd;

	assert_non_null(name);
	assert_int_not_equal(fd = mkstemp(name), -1);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	fd_close(&fd);
	return (name);
}

static void
remove_file(char *name)
{

	assert_int_equal(unlink(name), 0);
	free(name);
}

static void
reads_the_master_sample(void **state)
{
	struct parse_error err;
	struct master_conf *c;
	char *file = make_file(master_sample);

	(void)state;
	c = config_master(file, &err);
	if (c == NULL)
		fail_msg("%s", err.reason);
	assert_string_equal(c->public_url, "http://pkg.example.org");
	assert_string_equal(c->announce, "tcp://*:7302");
	assert_int_equal(c->ttl, 10);
	assert_int_equal(c->scrub_rate, 4 << 20);
	assert_string_equal(c->publish_listen.v[0], "127.0.0.1:7301");
	config_master_destroy(&c);
	remove_file(file);

	file = make_file("user = \"root\"\n");
	assert_null(config_master(file, &err));
	assert_non_null(strstr(err.reason, ": \"root-key\" is missing"));
	remove_file(file);

	file = make_file("link\n    ttl = \"2h\"\n");
	assert_null(config_master(file, &err));
	assert_non_null(strstr(err.reason, ":2: \"ttl\" must be a time (s, m, h or d may follow) from 1s to 1h, not \"2h\""));
	remove_file(file);
}

static void
reads_the_command_sample(void **state)
{
	struct parse_error err;
	struct pkgcast_conf *c;
	char *file = make_file(pkgcast_sample);

	(void)state;
	c = config_pkgcast(file, &err);
	assert_non_null(c);
	assert_string_equal(c->origin, "http://pkg.example.org");
	assert_string_equal(c->key, "/root/.pkgcast/publisher.key");
	assert_null(c->home);
	assert_string_equal(c->master, CONFIG_DIR "/master.conf");
	config_pkgcast_destroy(&c);
	remove_file(file);

	/* Nothing is needed. */
	file = make_file("");
	assert_non_null(c = config_pkgcast(file, &err));
	config_pkgcast_destroy(&c);
	remove_file(file);

	file = make_file("home = \"/srv/publisher\"\nmaster = \"/m.conf\"\n");
	assert_non_null(c = config_pkgcast(file, &err));
	assert_string_equal(c->home, "/srv/publisher");
	assert_string_equal(c->master, "/m.conf");
	config_pkgcast_destroy(&c);
	remove_file(file);

	assert_null(config_pkgcast("/nonexistent/p.conf", &err));
	assert_string_equal(err.reason,
	    "/nonexistent/p.conf: cannot read: No such file or directory");
}

static void
names_what_needs_a_restart(void **state)
{
	static const char one[] = LEAST, two[] = LEAST
	    "    kind = \"edge\"\n"
	    "root-key = \"" ROOT2 "\"\n"
	    "poll = \"60\"\n"
	    "state = \"/elsewhere\"\n"
	    "http\n"
	    "    listen = \"[::]:80\"\n"
	    "    listen = \"[::]:81\"\n"
	    "    threads = \"2\"\n"
	    "set\n"
	    "    name = \"a\"\n";
	struct edge_conf *a, *b;
	char *names;

	(void)state;
	a = config_edge_text("a", one, strlen(one), NULL);
	b = config_edge_text("b", two, strlen(two), NULL);
	assert_non_null(a);
	assert_non_null(b);
	assert_non_null(names = config_edge_restart(a, b));
	assert_string_equal(names,
	    "state, root-key, http.listen, http.threads, set.name");
	free(names);
	assert_non_null(names = config_edge_restart(b, b));
	assert_string_equal(names, "");
	free(names);
	config_edge_destroy(&a);
	config_edge_destroy(&b);
}

static void
names_changes_of_plain_sets(void **state)
{
	static const struct { const char *text, *names; } cases[] = {
		{ PLAIN, "" },
		{ PLAIN "    poll = \"300\"\n", "" },
		{ PLAIN "    poll = \"60\"\n", "set.poll" },
		{ PLAIN "    plain = \"http://b\"\n", "set.plain" },
		{ PLAIN "    kind = \"debian\"\n    identify = \"i\"\n"
		    "    freshness = \"http\"\n",
		    "set.kind, set.identify, set.freshness" },
		{ PLAIN "set\n    name = \"b\"\n    plain = \"http://b\"\n",
		    "set.name" },
		{ "set\n    name = \"b\"\n    plain = \"http://b\"\n",
		    "set.name, set.plain" },
	};
	struct edge_conf *a, *b;
	char *names;
	size_t i;

	(void)state;
	assert_non_null(a = config_edge_text("a", PLAIN, strlen(PLAIN), NULL));
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_non_null(b = config_edge_text("b", cases[i].text,
		    strlen(cases[i].text), NULL));
		assert_non_null(names = config_edge_restart(a, b));
		assert_string_equal(names, cases[i].names);
		free(names);
		config_edge_destroy(&b);
	}
	config_edge_destroy(&a);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses),
		cmocka_unit_test(refuses_long_lines_and_files),
		cmocka_unit_test(fits_a_long_path_into_the_reason),
		cmocka_unit_test(reads_the_edge_sample),
		cmocka_unit_test(has_defaults),
		cmocka_unit_test(reads_what_repeats),
		cmocka_unit_test(reads_plain_sets),
		cmocka_unit_test(keeps_plain_and_published_sets_apart),
		cmocka_unit_test(limits_plain_sets),
		cmocka_unit_test(reads_the_master_sample),
		cmocka_unit_test(reads_the_command_sample),
		cmocka_unit_test(names_what_needs_a_restart),
		cmocka_unit_test(names_changes_of_plain_sets),
	};

	zsys_handler_set(NULL);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("config", tests, NULL, NULL));
}
