/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_CONFIG_H
#define	PROTO_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"

/*
 * Configuration files (pkgcast.conf(5)): ZPL, every key in one table for each
 * program.  S: text; N: number; B: bytes with optional K M G T (1024); T:
 * seconds with optional s m h d; L: text, may repeat.
 *
 *  kind, section ("" = top), key, field, default, needs a restart
 */
#define	MASTER_KEYS(X) \
	X(S, "",	"user",		user,		"pkgcast",	1) \
	X(S, "",	"state",	state,		CONFIG_MASTER_STATE, 1) \
	X(S, "",	"edges",	edges,		CONFIG_DIR "/edges", 1) \
	X(L, "",	"root-key",	root_key,	NULL,		1) \
	X(N, "",	"root-threshold", root_threshold, "0",		1) \
	X(S, "",	"log",		log,		"stderr",	1) \
	X(L, "http",	"listen",	http_listen,	"[::]:80",	1) \
	X(S, "http",	"public",	public_url,	NULL,		0) \
	X(S, "http",	"access-log",	access_log,	"/var/log/pkgcast/access.log", 1) \
	X(N, "http",	"threads",	threads,	"0",		1) \
	X(L, "publish",	"listen",	publish_listen,	"127.0.0.1:7301", 1) \
	X(S, "link",	"announce",	announce,	"tcp://*:7302",	1) \
	X(S, "link",	"lease",	lease,		"tcp://*:7303",	1) \
	X(T, "link",	"ttl",		ttl,		"10",		1) \
	X(T, "",	"grace",	grace,		"24h",		1) \
	X(B, "scrub",	"rate",		scrub_rate,	"4M",		0) \
	X(L, "status",	"listen",	status_listen,	"127.0.0.1:7304", 1)

/* Of both daemons' section http: limits (limits.h). */
#define	HTTP_KEYS(X) \
	X(N, "http",	"connections",	connections,	"10000",	0) \
	X(N, "http",	"per-address",	per_address,	"256",		0) \
	X(N, "http",	"requests-per-connection", requests_per_connection, "10000", 0) \
	X(B, "http",	"head-size",	head_size,	"16K",		1) \
	X(T, "http",	"head-timeout",	head_timeout,	"15",		0) \
	X(T, "http",	"idle-timeout",	idle_timeout,	"75",		0) \
	X(B, "http",	"low-rate",	low_rate,	"1K",		0) \
	X(T, "http",	"low-time",	low_time,	"60",		0) \
	X(T, "http",	"stop-timeout",	stop_timeout,	"30",		0)

#define	EDGE_KEYS(X) \
	X(S, "",	"user",		user,		"pkgcast",	1) \
	X(S, "",	"name",		name,		NULL,		1) \
	X(S, "",	"public",	public_url,	NULL,		0) \
	X(S, "",	"state",	state,		CONFIG_EDGE_STATE, 1) \
	X(L, "",	"root-key",	root_key,	NULL,		1) \
	X(N, "",	"root-threshold", root_threshold, "0",		1) \
	X(S, "",	"stale",	stale,		"serve",	0) \
	X(T, "",	"poll",		poll,		"300",		0) \
	X(T, "",	"grace",	grace,		"24h",		0) \
	X(S, "",	"log",		log,		"stderr",	1) \
	X(L, "http",	"listen",	http_listen,	"[::]:80",	1) \
	X(S, "http",	"access-log",	access_log,	"/var/log/pkgcast/access.log", 1) \
	X(N, "http",	"threads",	threads,	"0",		1) \
	X(S, "cache",	"dir",		cache_dir,	CONFIG_CACHE,	1) \
	X(B, "cache",	"cache-size",	cache_size,	"20G",		0) \
	X(B, "cache",	"min-free",	min_free,	"2G",		0) \
	X(B, "cache",	"memory",	cache_memory,	"256M",		0) \
	X(B, "scrub",	"rate",		scrub_rate,	"1M",		0) \
	X(S, "master",	"announce",	announce,	NULL,		1) \
	X(S, "master",	"lease",	lease,		NULL,		1) \
	X(S, "master",	"public-key",	master_key,	NULL,		1) \
	X(S, "curve",	"public-key",	curve_public,	NULL,		1) \
	X(S, "curve",	"secret-key",	curve_secret,	NULL,		1) \
	X(N, "fill",	"fills",	fills,		"64",		0) \
	X(N, "fill",	"per-upstream",	per_upstream,	"8",		0) \
	X(N, "fill",	"clients-per-fill", clients_per_fill, "10000",	0) \
	X(S, "fill",	"when-left",	when_left,	"finish",	0) \
	X(B, "fill",	"rate",		fill_rate,	"0",		0) \
	X(B, "fill",	"warm",		fill_warm,	"256M",		0) \
	X(T, "fill",	"connect",	fill_connect,	"5",		0) \
	X(T, "fill",	"first-byte",	fill_first,	"15",		0) \
	X(B, "fill",	"low-rate",	fill_low_rate,	"10K",		0) \
	X(T, "fill",	"low-time",	fill_low_time,	"10",		0) \
	X(T, "fill",	"aside",	fill_aside,	"60",		0)
	/* and sections that repeat: upstream {url, kind}, set {name} or: */

/* A section set of an edge that caches any HTTP server's tree. */
#define	PLAIN_KEYS(X) \
	X(S, "set",	"name",		name,		NULL,		1) \
	X(L, "set",	"plain",	plain,		NULL,		1) \
	X(S, "set",	"kind",		kind,		NULL,		1) \
	X(L, "set",	"identify",	identify,	NULL,		1) \
	X(T, "set",	"poll",		poll,		NULL,		1) \
	X(S, "set",	"freshness",	freshness,	NULL,		1)

#define	PKGCAST_KEYS(X) \
	X(S, "",	"publish",	publish,	"http://127.0.0.1:7301", 0) \
	X(S, "",	"origin",	origin,		"http://127.0.0.1",	0) \
	X(S, "",	"key",		key,		NULL,		0) \
	X(S, "",	"home",		home,		NULL,		0) \
	X(S, "",	"master",	master,		CONFIG_DIR "/master.conf", 0)
	/* key: ~/.pkgcast/publisher.key; home: ~/.pkgcast when NULL;
	 * master: master.conf, for edge, trust and keys commands on its host */

#define	CONFIG_LIST		16	/* values of one key */
#define	CONFIG_UPSTREAMS	64
#define	CONFIG_PLAIN		64	/* plain sets */
#define	CONFIG_PLAIN_POLL	300	/* seconds, where none is given */

struct config_list { size_t n; char **v; };

#define	CONFIG_FIELD_S	char *
#define	CONFIG_FIELD_N	uint64_t
#define	CONFIG_FIELD_B	uint64_t
#define	CONFIG_FIELD_T	uint64_t
#define	CONFIG_FIELD_L	struct config_list
#define	CONFIG_MEMBER(kind, section, key, field, def, restart) \
	CONFIG_FIELD_##kind field;

enum upstream_kind { UPSTREAM_MASTER, UPSTREAM_EDGE, UPSTREAM_SIBLING,
	UPSTREAM_STATIC };
struct upstream_conf {
	char			*url;		/* no trailing slash */
	enum upstream_kind	 kind;
};

/*
 * A plain set.  plain: URLs, at least one, no trailing slash; identify: paths
 * below them; kind and freshness: NULL where not given, else one of their words.
 */
struct plain_conf { PLAIN_KEYS(CONFIG_MEMBER) };

struct http_limits { HTTP_KEYS(CONFIG_MEMBER) };
struct master_conf {
	MASTER_KEYS(CONFIG_MEMBER)
	struct http_limits	 limits;
};
struct edge_conf {
	EDGE_KEYS(CONFIG_MEMBER)
	struct http_limits	 limits;
	size_t			 nupstream;
	struct upstream_conf	*upstream;
	struct config_list	 sets;		/* published ones; empty: all */
	size_t			 nplain;
	struct plain_conf	*plain;
};
struct pkgcast_conf { PKGCAST_KEYS(CONFIG_MEMBER) };

/*
 * NULL: err->reason is a whole message without program name, which begins with
 * FILE:LINE: where there is one.  Values are checked (addresses, URLs, keys,
 * numbers, stale's words), and what must be there is.
 */
struct master_conf	*config_master(const char *file, struct parse_error *err);
struct edge_conf	*config_edge(const char *file, struct parse_error *err);
struct pkgcast_conf	*config_pkgcast(const char *file, struct parse_error *err);
/* The same from memory, `file` for messages only (fuzz target). */
struct edge_conf	*config_edge_text(const char *file, const char *text,
			    size_t len, struct parse_error *err);
void			 config_master_destroy(struct master_conf **c);
void			 config_edge_destroy(struct edge_conf **c);
void			 config_pkgcast_destroy(struct pkgcast_conf **c);
/*
 * Whether an edge has to do with published sets: it has upstreams, then, and
 * root keys and a name.  One that has not has plain sets.
 */
bool			 config_published(const struct edge_conf *c);
/* Whether a setting whose value is a URL may have this one. */
bool			 config_url_ok(const char *url);
/* Names of changed settings that need a restart, ", "-joined, malloc'd
 * ("set.name": the list of sets); "" when there is none.  NULL: out of memory. */
char			*config_master_restart(const struct master_conf *a,
			    const struct master_conf *b);
char			*config_edge_restart(const struct edge_conf *a,
			    const struct edge_conf *b);

#ifdef __FreeBSD__
#define	CONFIG_DIR		"/usr/local/etc/pkgcast"
#define	CONFIG_MASTER_STATE	"/var/db/pkgcast/master"
#define	CONFIG_EDGE_STATE	"/var/db/pkgcast/edge"
#else
#define	CONFIG_DIR		"/etc/pkgcast"
#define	CONFIG_MASTER_STATE	"/var/lib/pkgcast/master"
#define	CONFIG_EDGE_STATE	"/var/lib/pkgcast/edge"
#endif
#define	CONFIG_CACHE		"/var/cache/pkgcast"

#endif
