/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What each value of a configuration file must look like (pkgcast.conf(5)).
 * Called by config.c while starting and on HUP, one thread.
 */

#include <arpa/inet.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"
#include "proto/config.h"
#include "proto/name.h"
#include "proto/value.h"
#include "proto/zpl.h"

#define	CONFIG_TEXT_MAX	500		/* bytes of a value */
#define	ROOT_KEY_TEXT	56		/* base64 of a minisign public key */
#define	CURVE_KEY_TEXT	40		/* Z85 of 32 bytes */
#define	EDGE_NAME_MAX	64
#define	USER_MAX	32
#define	HOST_MAX	255
#define	MINUTE		60u
#define	HOUR		3600u
#define	DAY		86400u
#define	KIB		(1ull << 10)
#define	GIB		(1ull << 30)
#define	EIB		(1ull << 60)

#define	LETTERS	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define	DIGITS	"0123456789"
#define	Z85	DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

static bool
only(const char *s, size_t max, const char *bytes)
{
	size_t len = strlen(s);

	return (len > 0 && len <= max && strspn(s, bytes) == len);
}

static bool
user_ok(const char *s)
{

	return (only(s, USER_MAX, LETTERS DIGITS "._-") && s[0] != '-');
}

static bool
path_absolute(const char *s)
{

	return (s[0] == '/');
}

/* The key's first bytes, the letters Ed, make the first digits. */
static bool
root_key_ok(const char *s)
{

	return (strlen(s) == ROOT_KEY_TEXT &&
	    only(s, ROOT_KEY_TEXT, LETTERS DIGITS "+/") &&
	    strncmp(s, "RW", 2) == 0 && strchr("QRST", s[2]) != NULL);
}

/* Five digits hold four bytes: they may not make more than 32 bits. */
static bool
curve_key_shape(const char *s)
{
	uint64_t v;
	size_t i;

	if (strlen(s) != CURVE_KEY_TEXT || !only(s, CURVE_KEY_TEXT, Z85))
		return (false);
	for (i = 0, v = 0; i < CURVE_KEY_TEXT; i++) {
		v = (i % 5 == 0 ? 0 : v * 85) +
		    (uint64_t)(strchr(Z85, s[i]) - Z85);
		if (v > UINT32_MAX)
			return (false);
	}
	return (true);
}

static bool
edge_name(const char *s)
{

	return (only(s, EDGE_NAME_MAX, LETTERS DIGITS "._-") && s[0] != '.');
}

static bool
stale_ok(const char *s)
{

	return (strcmp(s, "serve") == 0 || strcmp(s, "refuse") == 0);
}

static bool
left_ok(const char *s)
{

	return (strcmp(s, "finish") == 0 || strcmp(s, "stop") == 0);
}

static bool
log_ok(const char *s)
{

	return (strcmp(s, "stderr") == 0 || strcmp(s, "syslog") == 0);
}

static bool
set_ok(const char *s)
{

	return (set_name_ok(s, strlen(s)));
}

/* A name, an IPv4 address, an IPv6 address in brackets, or "*". */
static bool
host_ok(const char *s, size_t len)
{
	unsigned char addr[16];
	char host[HOST_MAX + 1];

	if (len == 0 || len > HOST_MAX)
		return (false);
	memcpy(host, s, len);
	host[len] = '\0';
	if (host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		return (inet_pton(AF_INET6, host + 1, addr) == 1);
	}
	return (strcmp(host, "*") == 0 ||
	    only(host, HOST_MAX, LETTERS DIGITS "._-"));
}

static bool
port_ok(const char *s, size_t len, unsigned long long least)
{
	unsigned long long port;

	return (parse_u64(s, len, 65535, &port) == 0 && port >= least);
}

static bool
host_port(const char *s, unsigned long long least_port)
{
	const char *colon = strrchr(s, ':');

	return (colon != NULL && host_ok(s, (size_t)(colon - s)) &&
	    port_ok(colon + 1, strlen(colon + 1), least_port));
}

static bool
listen_ok(const char *s)
{

	return (host_port(s, 0));
}

static bool
endpoint_ok(const char *s)
{

	return (strncmp(s, "tcp://", 6) == 0 && host_port(s + 6, 1));
}

/* An endpoint to connect to. */
static bool
remote_ok(const char *s)
{

	return (endpoint_ok(s) && s[6] != '*');
}

/* No user and password: URLs are logged and shown. */
static bool
url_ok(const char *s)
{
	size_t host, len;

	if (strncmp(s, "http://", 7) == 0)
		s += 7;
	else if (strncmp(s, "https://", 8) == 0)
		s += 8;
	else
		return (false);
	len = strcspn(s, "/");
	host = s[0] == '[' ? strcspn(s, "]") + 1 : strcspn(s, ":/");
	if (host > len || s[0] == '*' || !host_ok(s, host))
		return (false);
	if (host < len && (s[host] != ':' ||
	    !port_ok(s + host + 1, len - host - 1, 1)))
		return (false);
	return (s[len] == '\0' || only(s + len, CONFIG_TEXT_MAX,
	    LETTERS DIGITS "-._~:/[]@!$&'()*+,;=%"));
}

bool
config_url_ok(const char *url)
{

	return (strlen(url) <= CONFIG_TEXT_MAX && url_ok(url));
}

/* A path below a plain set's address, as it stands in a request. */
static bool
below_ok(const char *s)
{

	return (path_ok(s, strlen(s)) &&
	    only(s, CONFIG_TEXT_MAX, LETTERS DIGITS "-._~:/@!$&'()*+,;="));
}

static bool
kind_ok(const char *s)
{

	return (strcmp(s, "freebsd") == 0 || strcmp(s, "debian") == 0 ||
	    strcmp(s, "arch") == 0 || strcmp(s, "other") == 0);
}

static bool
freshness_ok(const char *s)
{

	return (strcmp(s, "mark") == 0 || strcmp(s, "http") == 0);
}

/* What a value must be.  One row serves all programs that have the key. */
static const struct rule {
	const char	*section, *key;
	bool		(*ok)(const char *s);
	const char	*expected;
	uint64_t	 min, max;
} rules[] = {
#define	PATH_TEXT	"an absolute path"
#define	LISTEN_TEXT	"ADDRESS:PORT, such as \"[::]:80\""
#define	ENDPOINT_TEXT	"tcp://HOST:PORT"
#define	URL_TEXT	"an http:// or https:// URL without user, password, query"
#define	CURVE_TEXT	"a CURVE key: 40 digits of Z85"
	{ "", "user", user_ok, "the name of a user", 0, 0 },
	{ "", "name", edge_name, "1 to 64 of A-Z a-z 0-9 . _ -", 0, 0 },
	{ "", "public", url_ok, URL_TEXT, 0, 0 },
	{ "", "state", path_absolute, PATH_TEXT, 0, 0 },
	{ "", "edges", path_absolute, PATH_TEXT, 0, 0 },
	{ "", "root-key", root_key_ok, "a minisign public key: 56 digits of base64, the first two RW", 0, 0 },
	{ "", "root-threshold", NULL, NULL, 0, CONFIG_LIST },
	{ "", "log", log_ok, "\"stderr\" or \"syslog\"", 0, 0 },
	{ "", "stale", stale_ok, "\"serve\" or \"refuse\"", 0, 0 },
	{ "", "poll", NULL, NULL, 1, DAY },
	{ "", "grace", NULL, NULL, 0, 365 * DAY },
	{ "", "publish", url_ok, URL_TEXT, 0, 0 },
	{ "", "origin", url_ok, URL_TEXT, 0, 0 },
	{ "", "key", path_absolute, PATH_TEXT, 0, 0 },
	{ "", "home", path_absolute, PATH_TEXT, 0, 0 },
	{ "", "master", path_absolute, PATH_TEXT, 0, 0 },
	{ "http", "listen", listen_ok, LISTEN_TEXT, 0, 0 },
	{ "http", "public", url_ok, URL_TEXT, 0, 0 },
	{ "http", "access-log", path_absolute, PATH_TEXT, 0, 0 },
	{ "http", "threads", NULL, NULL, 0, 64 },
	{ "http", "connections", NULL, NULL, 1, 1000000 },
	{ "http", "per-address", NULL, NULL, 1, 1000000 },
	{ "http", "requests-per-connection", NULL, NULL, 0, 1000000000 },
	{ "http", "head-size", NULL, NULL, 4 * KIB, 256 * KIB },
	{ "http", "head-timeout", NULL, NULL, 1, HOUR },
	{ "http", "idle-timeout", NULL, NULL, 1, HOUR },
	{ "http", "low-rate", NULL, NULL, 0, GIB },
	{ "http", "low-time", NULL, NULL, 1, HOUR },
	{ "http", "stop-timeout", NULL, NULL, 0, HOUR },
	{ "publish", "listen", listen_ok, LISTEN_TEXT, 0, 0 },
	{ "link", "announce", endpoint_ok, ENDPOINT_TEXT, 0, 0 },
	{ "link", "lease", endpoint_ok, ENDPOINT_TEXT, 0, 0 },
	{ "link", "ttl", NULL, NULL, 1, HOUR },
	{ "scrub", "rate", NULL, NULL, 0, GIB },
	{ "status", "listen", listen_ok, LISTEN_TEXT, 0, 0 },
	{ "cache", "dir", path_absolute, PATH_TEXT, 0, 0 },
	{ "cache", "cache-size", NULL, NULL, KIB, EIB },
	{ "cache", "min-free", NULL, NULL, 0, EIB },
	{ "cache", "memory", NULL, NULL, 0, EIB },
	{ "master", "announce", remote_ok, ENDPOINT_TEXT, 0, 0 },
	{ "master", "lease", remote_ok, ENDPOINT_TEXT, 0, 0 },
	{ "master", "public-key", curve_key_shape, CURVE_TEXT, 0, 0 },
	{ "curve", "public-key", curve_key_shape, CURVE_TEXT, 0, 0 },
	{ "curve", "secret-key", curve_key_shape, CURVE_TEXT, 0, 0 },
	{ "fill", "fills", NULL, NULL, 1, 1000 },
	{ "fill", "per-upstream", NULL, NULL, 1, 1000 },
	{ "fill", "clients-per-fill", NULL, NULL, 1, 1000000 },
	{ "fill", "when-left", left_ok, "\"finish\" or \"stop\"", 0, 0 },
	{ "fill", "rate", NULL, NULL, 0, 1024 * GIB },
	{ "fill", "warm", NULL, NULL, 0, EIB },
	{ "fill", "connect", NULL, NULL, 1, HOUR },
	{ "fill", "first-byte", NULL, NULL, 1, HOUR },
	{ "fill", "low-rate", NULL, NULL, 0, GIB },
	{ "fill", "low-time", NULL, NULL, 1, HOUR },
	{ "fill", "aside", NULL, NULL, 0, DAY },
	{ "upstream", "url", url_ok, URL_TEXT, 0, 0 },
	{ "set", "name", set_ok, "the name of a set", 0, 0 },
	{ "set", "plain", url_ok, URL_TEXT, 0, 0 },
	{ "set", "kind", kind_ok, "\"freebsd\", \"debian\", \"arch\" or \"other\"", 0, 0 },
	{ "set", "identify", below_ok, "a path below \"plain\", such as \"latest/meta.conf\": no slash before it, no \"..\", no query", 0, 0 },
	{ "set", "poll", NULL, NULL, 1, DAY },
	{ "set", "freshness", freshness_ok, "\"mark\" or \"http\"", 0, 0 },
};

static const struct rule *
rule_of(const struct zpl_key *k)
{
	size_t i;

	for (i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (strcmp(rules[i].section, k->section) == 0 &&
		    strcmp(rules[i].key, k->key) == 0)
			return (&rules[i]);
	CHECK(false);
	return (NULL);
}

static const struct unit { char letter; uint64_t factor; }
    size_units[] = { { 'K', KIB }, { 'M', KIB << 10 }, { 'G', GIB },
	{ 'T', KIB << 30 }, { '\0', 0 } },
    time_units[] = { { 's', 1 }, { 'm', MINUTE }, { 'h', HOUR }, { 'd', DAY },
	{ '\0', 0 } },
    no_units[] = { { '\0', 0 } };

static const struct unit *
units_of(enum zpl_kind kind)
{

	return (kind == ZPL_B ? size_units : kind == ZPL_T ? time_units :
	    no_units);
}

static int
parse_number(const char *s, const struct unit *u, uint64_t *out)
{
	size_t len = strlen(s);
	unsigned long long n;
	uint64_t factor = 1;

	for (; len > 0 && u->letter != '\0'; u++)
		if (s[len - 1] == u->letter) {
			factor = u->factor;
			len--;
			break;
		}
	if (parse_u64(s, len, UINT64_MAX / factor, &n) == -1)
		return (-1);
	*out = n * factor;
	return (0);
}

/* The shortest text that parse_number() reads as n. */
static char *
number_text(uint64_t n, const struct unit *u, char *out, size_t size)
{
	const struct unit *best = NULL;

	for (; u->letter != '\0'; u++)
		if (n != 0 && n % u->factor == 0)
			best = u;
	if (best == NULL)
		(void)snprintf(out, size, "%ju", (uintmax_t)n);
	else
		(void)snprintf(out, size, "%ju%c",
		    (uintmax_t)(n / best->factor), best->letter);
	return (out);
}

int
value_number(const struct zpl_item *it, uint64_t *out, const char *file,
    struct parse_error *err)
{
	const struct rule *r = rule_of(it->key);
	const struct unit *u = units_of(it->key->kind);
	char min[24], max[24];

	if (parse_number(it->value, u, out) == 0 && *out >= r->min &&
	    *out <= r->max)
		return (0);
	return (zpl_fail(err, file, it->line,
	    "\"%s\" must be %s from %s to %s, not \"%.32s\"", it->key->key,
	    it->key->kind == ZPL_B ? "a size (K, M, G or T may follow)" :
	    it->key->kind == ZPL_T ? "a time (s, m, h or d may follow)" :
	    "a number", number_text(r->min, u, min, sizeof(min)),
	    number_text(r->max, u, max, sizeof(max)), it->value));
}

char *
value_text(const struct zpl_item *it, const char *file,
    struct parse_error *err)
{
	const struct rule *r = rule_of(it->key);
	size_t len = strlen(it->value);
	char *s;

	if (len > CONFIG_TEXT_MAX || !r->ok(it->value)) {
		/* What is nearly a secret key is not repeated either. */
		if (r->ok == curve_key_shape)
			(void)zpl_fail(err, file, it->line,
			    "\"%s\" must be %s", it->key->key, r->expected);
		else
			(void)zpl_fail(err, file, it->line,
			    "\"%s\" must be %s, not \"%.32s\"", it->key->key,
			    r->expected, it->value);
		return (NULL);
	}
	while (r->ok == url_ok && it->value[len - 1] == '/')
		len--;
	if ((s = strndup(it->value, len)) == NULL)
		(void)zpl_fail(err, file, it->line, "out of memory");
	return (s);
}
