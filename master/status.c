/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The status document: what the master knows of sets and edges, as JSON; and
 * the handler of the status listener.  Called by the HTTP servers' threads.
 * What it shows comes from copies, so it holds nobody up.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "master/status.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/daemon.h"
#include "proto/date.h"
#include "proto/metrics.h"

#define	STATUS_MAGIC	0x73746174u
#define	STATUS_TARGET	"/.pkgcast/status"
#define	METRICS_TARGET	"/metrics"
#define	RETRY_S		5

struct status {
	unsigned		 magic;
	struct status_conf	 conf;
	int64_t			 start_ms;
	struct origin		*origin;	/* NULL in tests */
	pthread_mutex_t		 lock;		/* guards what follows */
	struct httpd		*server[STATUS_SERVERS];
};

/* jansson's setters take NULL for a failed value and say so: one failure makes
 * the whole document NULL. */
static int
set_number(json_t *o, const char *key, uint64_t v)
{

	return (json_object_set_new(o, key, json_integer((json_int_t)v)));
}

static int
set_text(json_t *o, const char *key, const char *v)
{

	return (json_object_set_new(o, key, json_string(v)));
}

/* Below 0: it has not happened. */
static int
set_ms(json_t *o, const char *key, int64_t ms)
{

	return (json_object_set_new(o, key, ms < 0 ? json_null() :
	    json_integer((json_int_t)ms)));
}

static int
set_bool(json_t *o, const char *key, bool v)
{

	return (json_object_set_new(o, key, json_boolean(v)));
}

/*
 * Sets
 */
static json_t *
kept_of(const struct site_set *set)
{
	json_t *a = json_array();
	size_t i;
	int bad;

	bad = json_array_append_new(a, json_integer((json_int_t)
	    snapshot_head(set->current)->generation));
	for (i = 0; i < set->nearlier; i++)
		bad |= json_array_append_new(a, json_integer((json_int_t)
		    delta_head(set->earlier[i])->generation));
	if (bad != 0) {
		json_decref(a);
		return (NULL);
	}
	return (a);
}

static json_t *
result_of(const struct roster_report_switch *s)
{
	const struct roster_result *res = &s->result;
	json_t *o = json_object(), *names = json_array();
	size_t i;
	int bad = 0;

	for (i = 0; i < res->nmissing; i++)
		bad |= json_array_append_new(names,
		    json_string(res->missing[i]));
	bad |= set_number(o, "generation", res->generation);
	bad |= set_bool(o, "done", s->over);
	bad |= set_number(o, "acked", res->acked);
	bad |= set_number(o, "leased", res->leased);
	bad |= set_number(o, "p50_ms", (uint64_t)res->p50_ms);
	bad |= set_number(o, "p99_ms", (uint64_t)res->p99_ms);
	bad |= set_number(o, "max_ms", (uint64_t)res->max_ms);
	bad |= json_object_set_new(o, "slowest", json_string(res->slowest));
	bad |= json_object_set_new(o, "missing", names);
	if (bad != 0) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

static const struct roster_report_switch *
switch_of(const struct roster_report *p, const char *set)
{
	size_t lo = 0, hi = p->nswitch, mid;	/* by name */
	int cmp;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if ((cmp = strcmp(p->last[mid].set, set)) == 0)
			return (&p->last[mid]);
		if (cmp < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (NULL);
}

static json_t *
set_of(const struct site_set *set, const struct roster_report *p)
{
	const struct head *h = snapshot_head(set->current);
	const struct roster_report_switch *last = switch_of(p, set->name);
	char hex[DIGEST_HEX + 1], date[DATE_ISO];
	json_t *o = json_object();
	int bad = 0;

	bad |= set_text(o, "name", set->name);
	bad |= set_number(o, "generation", h->generation);
	bad |= set_number(o, "oldest", h->oldest);
	bad |= set_text(o, "created", date_iso(h->created, date));
	bad |= set_text(o, "digest", digest_hex(&h->digest, hex));
	bad |= set_number(o, "files", h->files);
	bad |= set_number(o, "bytes", h->bytes);
	bad |= json_object_set_new(o, "kept", kept_of(set));
	if (last != NULL)
		bad |= json_object_set_new(o, "switch", result_of(last));
	if (bad != 0) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

static json_t *
sets_of(struct status *s, const struct roster_report *p)
{
	const struct site_view *view = site_enter(s->conf.site);
	json_t *a = json_array(), *o;
	struct accepted accepted;
	size_t i;
	int bad = 0;

	for (i = 0; i < site_nsets(view); i++)
		bad |= json_array_append_new(a, set_of(site_nth(view, i), p));
	site_leave(s->conf.site);
	/* Whoever holds the generations' lock may wait for us to leave. */
	for (i = 0; i < json_array_size(a); i++) {
		o = json_array_get(a, i);
		generation_accepted(s->conf.generations,
		    json_string_value(json_object_get(o, "name")), &accepted);
		bad |= set_number(o, "accepted", accepted.generation);
	}
	if (bad != 0) {
		json_decref(a);
		return (NULL);
	}
	return (a);
}

/*
 * Edges
 */
static json_t *
edge_sets_of(const struct roster_report_instance *in)
{
	const struct roster_report_set *s;
	json_t *a = json_array(), *o;
	size_t i;
	int bad = 0;

	for (i = 0; i < in->nset; i++) {
		s = &in->set[i];
		o = json_object();
		bad |= set_text(o, "name", s->name);
		bad |= set_number(o, "generation", s->generation);
		bad |= set_bool(o, "current", s->current);
		bad |= set_bool(o, "leased", s->leased);
		bad |= set_bool(o, "ahead", s->generation > s->here);
		bad |= set_number(o, "behind", s->generation < s->here ?
		    s->here - s->generation : 0);
		bad |= set_ms(o, "behind_ms", s->behind_ms);
		bad |= set_ms(o, "switched_ms_ago", s->switched_ms);
		bad |= set_ms(o, "switch_ms", s->took_ms);
		bad |= json_array_append_new(a, o);
	}
	if (bad != 0) {
		json_decref(a);
		return (NULL);
	}
	return (a);
}

static json_t *
counters_of(const struct roster_report_instance *in)
{
	json_t *o = json_object();
	int bad = 0;

	bad |= set_number(o, "requests", in->requests);
	bad |= set_number(o, "hits", in->hits);
	bad |= set_number(o, "misses", in->misses);
	bad |= set_number(o, "fills", in->fills);
	bad |= set_number(o, "fill_bytes", in->fill_bytes);
	bad |= set_number(o, "cache_bytes", in->cache_bytes);
	bad |= set_number(o, "cache_max", in->cache_max);
	if (bad != 0) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

static json_t *
instance_of(const struct roster_report_instance *in)
{
	json_t *o = json_object();
	int bad = 0;

	bad |= set_text(o, "instance", in->instance);
	bad |= set_text(o, "version", in->version);
	bad |= set_number(o, "last_renewal_ms_ago", (uint64_t)in->silent_ms);
	bad |= set_ms(o, "lease_left_ms", in->left_ms);
	bad |= set_bool(o, "leased", in->leased);
	bad |= json_object_set_new(o, "sets", edge_sets_of(in));
	bad |= json_object_set_new(o, "counters", counters_of(in));
	if (bad != 0) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

static json_t *
edge_of(const struct roster_report_edge *e)
{
	json_t *o = json_object(), *a = json_array();
	int64_t silent = -1;
	size_t i;
	int bad = 0;

	for (i = 0; i < e->ninstance; i++) {
		bad |= json_array_append_new(a, instance_of(&e->instance[i]));
		if (silent == -1 || e->instance[i].silent_ms < silent)
			silent = e->instance[i].silent_ms;
	}
	bad |= set_text(o, "name", e->edge.name);
	bad |= set_text(o, "key", e->edge.key);
	bad |= set_text(o, "url", e->edge.url);
	bad |= set_bool(o, "leased", e->leased);
	bad |= set_bool(o, "duplicate", e->duplicate);
	bad |= set_ms(o, "last_renewal_ms_ago", silent);
	bad |= json_object_set_new(o, "instances", a);
	if (bad != 0) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

static json_t *
edges_of(const struct roster_report *p)
{
	json_t *a = json_array();
	size_t i;
	int bad = 0;

	for (i = 0; i < p->nedge; i++)
		bad |= json_array_append_new(a, edge_of(&p->edge[i]));
	if (bad != 0) {
		json_decref(a);
		return (NULL);
	}
	return (a);
}

/*
 * The document
 */
static json_t *
trust_of(struct status *s)
{
	uint64_t version = trust_version(s->conf.trust);
	json_t *o = json_object();
	char date[DATE_ISO];
	int bad;

	bad = set_number(o, "version", version);
	if (version > 0) {
		bad |= set_text(o, "expires",
		    date_iso(trust_expires(s->conf.trust), date));
		bad |= set_bool(o, "expired",
		    trust_expired(s->conf.trust, clock_real()));
	}
	if (bad != 0) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

static json_t *
publishing(struct status *s)
{
	json_t *a = json_array();

	if (a != NULL && publish_list(s->conf.publish, a) == -1) {
		json_decref(a);
		return (NULL);
	}
	return (a);
}

static json_t *
limits_of(const struct httpd_stats *h)
{
	json_t *o = json_object();
	int bad = 0, i;

	for (i = 0; i < LIMIT_N; i++)
		bad |= set_number(o, limit_names[i], h->limited[i]);
	if (bad != 0) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

/* What an HTTP server has done since it started; null: it does not run. */
static json_t *
server_of(struct status *s, enum status_server which)
{
	struct httpd_stats h;
	bool runs;
	json_t *o;
	int bad = 0;

	(void)pthread_mutex_lock(&s->lock);
	if ((runs = s->server[which] != NULL))
		httpd_stats(s->server[which], &h);
	(void)pthread_mutex_unlock(&s->lock);
	if (!runs)
		return (json_null());
	o = json_object();
	bad |= set_number(o, "requests", h.requests);
	bad |= set_number(o, "connections", h.connections);
	bad |= set_number(o, "open", h.open);
	bad |= set_number(o, "refused", h.refused);
	bad |= set_number(o, "bytes", h.bytes);
	bad |= json_object_set_new(o, "limits", limits_of(&h));
	if (bad != 0) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

void
status_attach(struct status *s, enum status_server which, struct httpd *h)
{

	CHECK_OBJ(s, STATUS_MAGIC);
	(void)pthread_mutex_lock(&s->lock);
	s->server[which] = h;
	(void)pthread_mutex_unlock(&s->lock);
}

void
status_origin(struct status *s, struct origin *o)
{

	CHECK_OBJ(s, STATUS_MAGIC);
	s->origin = o;
}

/* Manifests and chunk tables that were coded. */
static json_t *
coded_of(struct status *s)
{
	struct coder_stats c = { .made = 0 };
	json_t *o = json_object();
	int bad = 0;

	if (s->origin != NULL)
		origin_coded(s->origin, &c);
	bad |= set_number(o, "made", c.made);
	bad |= set_number(o, "answers", c.answers);
	bad |= set_number(o, "kept", c.kept);
	bad |= set_number(o, "bytes", c.bytes);
	if (bad != 0) {
		json_decref(o);
		return (NULL);
	}
	return (o);
}

char *
status_master(void *arg, size_t *len)
{
	struct status *s = arg;
	struct roster_report *p;
	json_t *o;
	char *text = NULL;
	int bad = 0;

	CHECK_OBJ(s, STATUS_MAGIC);
	if ((p = roster_report_new(s->conf.roster)) == NULL)
		return (NULL);
	o = json_object();
	bad |= set_text(o, "program", "pkgcast-master");
	bad |= set_text(o, "version", PKGCAST_VERSION);
	bad |= set_number(o, "uptime_s", (uint64_t)(clock_boot_ms() -
	    s->start_ms) / 1000);
	bad |= set_text(o, "public_key", s->conf.public_key);
	bad |= json_object_set_new(o, "trust", trust_of(s));
	bad |= json_object_set_new(o, "sets", sets_of(s, p));
	bad |= json_object_set_new(o, "publishing", publishing(s));
	bad |= json_object_set_new(o, "edges", edges_of(p));
	bad |= json_object_set_new(o, "coded", coded_of(s));
	bad |= json_object_set_new(o, "http", server_of(s, STATUS_HTTP));
	bad |= json_object_set_new(o, "publish", server_of(s, STATUS_PUBLISH));
	roster_report_destroy(&p);
	if (bad == 0 && (text = json_dumps(o, JSON_INDENT(1))) != NULL)
		*len = strlen(text);
	json_decref(o);
	return (text);
}

/*
 * The status listener
 */
static void
answer(void *arg, struct httpd_request *r)
{
	const bool metrics = strcmp(httpd_target(r), METRICS_TARGET) == 0;
	struct answer_file f = {
		.time = -1, .no_store = true,
		.type = metrics ? METRICS_TYPE : "application/json",
	};
	struct httpd_body *body;
	struct answer a;
	size_t len;
	char *text;

	if (httpd_method(r) != HTTP_GET && httpd_method(r) != HTTP_HEAD) {
		httpd_reply_status(r, 405, 0);
		return;
	}
	if (!metrics && strcmp(httpd_target(r), STATUS_TARGET) != 0) {
		httpd_reply_status(r, 404, 0);
		return;
	}
	text = status_master(arg, &len);
	if (metrics)
		text = metrics_of(&text, &len);
	if (text == NULL ||
	    (body = httpd_body_mem(text, len, free, text)) == NULL) {
		free(text);
		httpd_reply_status(r, 503, RETRY_S);
		return;
	}
	f.size = len;
	answer_file(&a, httpd_method(r), httpd_fields(r), &f);
	httpd_reply(r, &a, &body);
}

void
status_httpd(struct status *s, struct httpd_conf *c)
{

	CHECK_OBJ(s, STATUS_MAGIC);
	c->handler = answer;
	c->on_body = NULL;
	c->arg = s;
	c->threads = 1;
}

struct status *
status_new(const struct status_conf *c)
{
	struct status *s = check_alloc(calloc(1, sizeof(*s)));

	s->magic = STATUS_MAGIC;
	s->conf = *c;
	s->start_ms = clock_boot_ms();
	(void)pthread_mutex_init(&s->lock, NULL);
	return (s);
}

void
status_destroy(struct status **sp)
{
	struct status *s = *sp;

	if (s == NULL)
		return;
	*sp = NULL;
	CHECK_OBJ(s, STATUS_MAGIC);
	(void)pthread_mutex_destroy(&s->lock);
	explicit_bzero(&s->magic, sizeof(s->magic));
	free(s);
}
