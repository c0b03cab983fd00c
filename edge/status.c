/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The JSON document at /.pkgcast/status.  HTTP threads call it; everything is
 * read at that moment, and no lock is held over another.
 */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "edge/status.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/daemon.h"
#include "proto/date.h"

static json_t *
number(uint64_t n)
{

	return (json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n));
}

static json_t *
seconds_ago(int64_t boot_ms)
{

	return (boot_ms == 0 ? json_null() :
	    json_integer((clock_boot_ms() - boot_ms) / 1000));
}

static json_t *
lease_json(const struct edge_status *s)
{
	struct lease_now now = lease_clock();
	int64_t left = leases_left(s->leases, NULL, now);

	return (json_pack("{s:b, s:I, s:I}", "held", left > 0,
	    "left_ms", (json_int_t)left, "until_ms",
	    (json_int_t)(left > 0 ? now.real + left : 0)));
}

static json_t *
set_json(const struct edge_status *s, const struct site_set *set)
{
	const struct head *h = snapshot_head(set->current);
	char hex[DIGEST_HEX + 1], created[DATE_ISO];
	int64_t left = leases_left(s->leases, set->owner, lease_clock());
	json_t *earlier = json_array(), *prepared;
	struct digest d;

	for (size_t i = 0; i < set->nearlier; i++)
		json_array_append_new(earlier,
		    number(delta_head(set->earlier[i])->generation));
	prepared = sync_prepared(follow_sync(s->follow), set->name, &d) ?
	    json_string(digest_hex(&d, hex)) : json_null();
	return (json_pack("{s:s, s:o, s:s, s:s, s:o, s:o, s:o, s:b, s:I, s:b,"
	    " s:o, s:o}",
	    "name", set->name,
	    "generation", number(h->generation),
	    "created", date_iso(h->created, created),
	    "digest", digest_hex(&h->digest, hex),
	    "oldest", number(h->oldest),
	    "files", number(h->files),
	    "bytes", number(h->bytes),
	    "lease", left > 0,
	    "left_ms", (json_int_t)left,
	    "stale", left == 0 || sync_trust_expired(follow_sync(s->follow),
	    clock_real()),
	    "earlier", earlier,
	    "prepared", prepared));
}

static json_t *
sets_json(const struct edge_status *s)
{
	const struct site_view *v = site_enter(s->site);
	json_t *a = json_array();

	for (size_t i = 0; i < site_nsets(v); i++)
		json_array_append_new(a, set_json(s, site_nth(v, i)));
	site_leave(s->site);
	return (a);
}

static json_t *
cache_json(const struct edge_status *s)
{
	struct blob_stats b;

	blob_store_stats(s->store, &b);
	return (json_pack("{s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o,"
	    " s:o}", "bytes", number(b.bytes), "counting", b.counting,
	    "max", number(b.max_bytes), "min_free", number(b.min_free),
	    "blobs", number(b.count),
	    "partial", number(b.partial), "memory", number(b.memory),
	    "mapped", number(b.mapped),
	    "evicted", number(b.evicted), "dropped", number(b.dropped),
	    "scrubbed", number(b.scrubbed)));
}

uint64_t
edge_status_fill_bytes(struct upstreams *u)
{
	struct upstream_stat *st;
	uint64_t bytes = 0;
	size_t n;

	if ((st = calloc(UPSTREAMS_MAX, sizeof(*st))) == NULL)
		return (0);
	n = upstreams_stats(u, st, UPSTREAMS_MAX);
	for (size_t i = 0; i < n && i < UPSTREAMS_MAX; i++)
		bytes += st[i].bytes;
	free(st);
	return (bytes);
}

static json_t *
limits_json(const struct httpd_stats *http)
{
	json_t *o = json_object();

	for (int i = 0; i < LIMIT_N; i++)
		json_object_set_new(o, limit_names[i],
		    number(http->limited[i]));
	return (o);
}

static json_t *
counters_json(const struct edge_status *s)
{
	struct httpd_stats http = { .requests = 0 };
	struct fills_stats fills;
	struct warm_stats warm;

	if (s->httpd != NULL)
		httpd_stats(s->httpd, &http);
	fills_stats(s->fills, &fills);
	warm_stats(sync_warm(follow_sync(s->follow)), &warm);
	return (json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o,"
	    " s:o, s:o, s:o, s:o}",
	    "requests", number(http.requests),
	    "connections", number(http.connections),
	    "open", number(http.open), "refused", number(http.refused),
	    "bytes", number(http.bytes), "hits", number(s->hits),
	    "misses", number(s->misses), "fills", number(fills.done),
	    "fills_failed", number(fills.failed),
	    "fills_unstored", number(fills.unstored),
	    "warmed", number(warm.files), "warmed_bytes", number(warm.bytes),
	    "fill_bytes", number(edge_status_fill_bytes(s->upstreams)),
	    "limits", limits_json(&http)));
}

/* Manifests and chunk tables, as they came. */
static json_t *
documents_json(const struct edge_status *s)
{
	struct sync_stats d;

	sync_stats(follow_sync(s->follow), &d);
	return (json_pack("{s:o, s:o, s:o, s:o, s:o}",
	    "fetched", number(d.fetched), "zstd", number(d.zstd),
	    "dcz", number(d.dcz), "size", number(d.size),
	    "bytes", number(d.bytes)));
}

/* And as they are sent. */
static json_t *
coded_json(const struct edge_status *s)
{

	return (json_pack("{s:o, s:o, s:o, s:o}",
	    "made", number(s->coded.made), "answers", number(s->coded.answers),
	    "kept", number(s->coded.kept), "bytes", number(s->coded.bytes)));
}

static const char *
kind_word(enum upstream_kind kind)
{

	switch (kind) {
	case UPSTREAM_MASTER:
		return ("master");
	case UPSTREAM_EDGE:
		return ("edge");
	case UPSTREAM_SIBLING:
		return ("sibling");
	case UPSTREAM_STATIC:
		return ("static");
	}
	return ("unknown");
}

static json_t *
upstreams_json(struct upstreams *u)
{
	struct upstream_stat *st;
	json_t *a = json_array();
	size_t n;

	if ((st = calloc(UPSTREAMS_MAX, sizeof(*st))) == NULL)
		return (a);
	n = upstreams_stats(u, st, UPSTREAMS_MAX);
	for (size_t i = 0; i < n && i < UPSTREAMS_MAX; i++)
		json_array_append_new(a, json_pack("{s:s, s:s, s:o, s:o, s:o,"
		    " s:i, s:b, s:I, s:s}",
		    "url", st[i].url, "kind", kind_word(st[i].kind),
		    "requests", number(st[i].requests),
		    "bytes", number(st[i].bytes),
		    "failures", number(st[i].faults),
		    "running", (int)st[i].running, "aside", st[i].aside,
		    "aside_s", (json_int_t)st[i].aside_s,
		    "last_error", st[i].reason));
	free(st);
	return (a);
}

static json_t *
plain_json(const struct edge_status *s)
{
	json_t *a = json_array();
	struct plain_stats st;
	size_t i;

	for (i = 0; i < plains_n(s->plains); i++) {
		plains_stats(s->plains, i, &st);
		json_array_append_new(a, json_pack("{s:s, s:s, s:s, s:b, s:o,"
		    " s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
		    "name", st.name, "kind", st.kind,
		    "freshness", st.by_mark ? "mark" : "http",
		    "stale", st.stale, "marks", number(st.epoch),
		    "last_poll_s", seconds_ago(st.polled_ms),
		    "files", number(st.files), "hits", number(st.hits),
		    "misses", number(st.misses),
		    "verified", number(st.verified),
		    "changed", number(st.changed),
		    "stale_answers", number(st.stale_answers),
		    "passed", number(st.passed),
		    "upstreams", upstreams_json(st.upstreams)));
	}
	return (a);
}

static json_t *
link_json(const struct edge_status *s)
{
	struct link_stats l;
	uint64_t reconnects;

	if (s->link == NULL)
		return (json_null());
	link_stats(s->link, &l);
	reconnects = l.sockets > 0 ? l.sockets - 1 : 0;
	return (json_pack("{s:o, s:o, s:o, s:o, s:o}",
	    "last_reply_s", seconds_ago(l.last_reply),
	    "renewals", number(l.renewals), "replies", number(l.replies),
	    "announcements", number(l.announcements),
	    "reconnects", number(reconnects)));
}

static json_t *
poll_json(const struct edge_status *s)
{
	struct follow_stats f;

	follow_stats(s->follow, &f);
	return (json_pack("{s:o, s:o, s:o}",
	    "last_s", seconds_ago(f.last_poll), "polls", number(f.polls),
	    "failed", number(f.failed)));
}

char *
edge_status_text(const struct edge_status *s, size_t *len)
{
	json_t *root;
	char *text;

	root = json_pack("{s:s, s:s, s:s?, s:I, s:o, s:o, s:o, s:o, s:o, s:o,"
	    " s:o, s:o, s:o, s:o, s:o}",
	    "program", "pkgcast-edge", "version", PKGCAST_VERSION,
	    "name", s->name,
	    "uptime_s", (json_int_t)((clock_boot_ms() - s->started_ms) / 1000),
	    "trust", number(trust_version(s->trust)),
	    "lease", lease_json(s), "sets", sets_json(s),
	    "plain", plain_json(s),
	    "cache", cache_json(s), "counters", counters_json(s),
	    "documents", documents_json(s), "coded", coded_json(s),
	    "upstreams", upstreams_json(s->upstreams), "link", link_json(s),
	    "poll", poll_json(s));
	if (root == NULL)
		return (NULL);
	text = json_dumps(root, JSON_INDENT(1));
	json_decref(root);
	if (text != NULL)
		*len = strlen(text);
	return (text);
}
