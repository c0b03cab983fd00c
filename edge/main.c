/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pkgcast-edge(8): start-up in the order that keeps privileges short, then
 * waits for signals.  Everything else runs in threads that the parts start:
 * HTTP workers (proto/httpd.c), fills and transfers (fill.c, upstream.c), the
 * link (link.c) and the follow thread (follow.c).
 */
#include <sys/param.h>
#include <sys/stat.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/cold.h"
#include "edge/control.h"
#include "edge/follow.h"
#include "edge/mark.h"
#include "edge/scrub.h"
#include "edge/serve.h"
#include "proto/accesslog.h"
#include "proto/check.h"
#include "proto/daemon.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	PROGRAM		"pkgcast-edge"
#define	EXIT_CONFIG	2
#define	LISTEN_MAX	16
#define	FOLDER_MODE	0750
#define	PATH_SIZE	4096
#define	WARM_PART	4		/* of the cache, at most */

/* The running edge: made by the steps of main(), in their order. */
struct edge {
	struct daemon_options	 options;
	struct edge_conf	*conf;		/* as it was at the start */
	int			 listen[LISTEN_MAX];
	size_t			 nlisten;
	int			 state, lock, trust_dir;
	struct accesslog	*log;
	struct trust		*trust;
	struct held		*held;
	struct blob_store	*store;
	struct upstreams	*upstreams;
	struct fills		*fills;
	struct cold_pool	*cold;
	struct bytes_source	 bytes;
	struct edge_scrub		*scrub;
	struct plains		*plains;	/* NULL: none configured */
	struct leases		*leases;
	struct site		*site;
	struct edge_serve	*serve;
	struct follow		*follow;
	struct httpd		*httpd;
	struct links		*links;		/* one */
	struct link		*link;
	struct control		*control;	/* NULL without plain sets */
	char			 instance[INSTANCE_HEX + 1];
};

static void
configure(struct edge *e)
{
	struct parse_error error;

	if ((e->conf = config_edge(e->options.file, &error)) == NULL)
		errx(EXIT_CONFIG, "%s", error.reason);
	if (e->conf->curve_secret != NULL &&
	    daemon_secret_ok(e->options.file, &error) == -1)
		errx(EXIT_CONFIG, "%s", error.reason);
	if (e->conf->http_listen.n > LISTEN_MAX)
		errx(EXIT_CONFIG, "%s: more than %d listen addresses",
		    e->options.file, LISTEN_MAX);
	if (e->conf->nplain > 0 && !control_fits(e->conf->state))
		errx(EXIT_CONFIG, "%s: the path of \"state\" is too long for "
		    "the control socket in it: use a shorter one",
		    e->options.file);
	if (log_open(PROGRAM, e->conf->log, e->options.verbose) == -1)
		errx(EXIT_CONFIG, "%s: log is neither \"stderr\" nor "
		    "\"syslog\"", e->options.file);
}

static void
open_ports(struct edge *e)
{
	const struct config_list *l = &e->conf->http_listen;

	for (; e->nlisten < l->n; e->nlisten++)
		if ((e->listen[e->nlisten] = httpd_listen(l->v[e->nlisten])) ==
		    -1)
			err(1, "listen %s", l->v[e->nlisten]);
}

/* A folder of the daemon's own, made if it is missing. */
static int
open_folder(const char *path, const char *user)
{
	int fd;

	if (fd_mkdirs(AT_FDCWD, path, FOLDER_MODE) == -1 ||
	    daemon_own(path, user) == -1 ||
	    (fd = fd_open_dir(AT_FDCWD, path)) == -1)
		err(1, "folder %s", path);
	return (fd);
}

/* Named in the configuration: made too, so that HUP can make a new file. */
static void
open_log(struct edge *e)
{
	const char *path = e->conf->access_log, *slash;
	char folder[PATH_SIZE];
	int fd;

	if (path == NULL || path[0] == '\0')
		return;
	if ((slash = strrchr(path, '/')) != NULL && slash != path &&
	    (size_t)(slash - path) < sizeof(folder)) {
		memcpy(folder, path, (size_t)(slash - path));
		folder[slash - path] = '\0';
		if (access(folder, F_OK) == -1) {
			fd = open_folder(folder, e->conf->user);
			fd_close(&fd);
		}
	}
	if ((e->log = accesslog_open(path)) == NULL ||
	    daemon_own(path, e->conf->user) == -1)
		err(1, "access log %s", path);
}

static void
open_folders(struct edge *e)
{
	char path[PATH_SIZE];
	int fd;

	e->state = open_folder(e->conf->state, e->conf->user);
	if ((e->lock = fd_lock(e->state, "lock")) == -1) {
		if (errno == EWOULDBLOCK)
			errx(1, "%s: another pkgcast-edge runs on this state "
			    "folder", e->conf->state);
		err(1, "%s/lock", e->conf->state);
	}
	(void)snprintf(path, sizeof(path), "%s/lock", e->conf->state);
	if (daemon_own(path, e->conf->user) == -1)
		err(1, "%s", path);
	fd = open_folder(e->conf->cache_dir, e->conf->user);
	fd_close(&fd);
	open_log(e);
}

static void
drop_privileges(struct edge *e)
{
	struct parse_error error;

	if (daemon_become(e->conf->user, &error) == -1)
		errx(1, "%s", error.reason);
}

static void
load_trust(struct edge *e)
{
	const struct config_list *l = &e->conf->root_key;
	struct pubkey root[TRUST_ROOTS];
	struct parse_error error = { .reason = "" };

	if (keys_init() == -1)
		errx(1, "cannot start libsodium");
	if (!config_published(e->conf)) {
		e->trust = check_alloc(trust_none());
		return;
	}
	if (l->n > TRUST_ROOTS)
		errx(EXIT_CONFIG, "%s: more than %d root keys",
		    e->options.file, TRUST_ROOTS);
	for (size_t i = 0; i < l->n; i++)
		if (pubkey_parse(&root[i], l->v[i], strlen(l->v[i])) == -1)
			errx(EXIT_CONFIG, "%s: bad root-key \"%s\"",
			    e->options.file, l->v[i]);
	e->trust = check_alloc(trust_new(root, l->n,
	    (unsigned)e->conf->root_threshold));
	if (fd_mkdirs(e->state, "trust", FOLDER_MODE) == -1 ||
	    (e->trust_dir = fd_open_dir(e->state, "trust")) == -1)
		err(1, "%s/trust", e->conf->state);
	if (trust_load(e->trust, e->trust_dir, &error) == -1)
		errx(1, "%s/%s: was it made for other root keys? if they were "
		    "replaced on purpose, remove that folder", e->conf->state,
		    error.reason);
}

static void
open_stores(struct edge *e)
{
	const struct edge_conf *c = e->conf;

	if ((e->held = held_new(e->state)) == NULL)
		err(1, "%s/heads", c->state);
	if ((e->store = blob_store_new(c->cache_dir, c->cache_size,
	    c->min_free)) == NULL)
		err(1, "cache %s", c->cache_dir);
	blob_store_memory(e->store, c->cache_memory);
	if ((e->upstreams = upstreams_new(c)) == NULL)
		err(1, "upstreams");
	if ((e->fills = fills_new(e->store, e->upstreams, c)) == NULL)
		err(1, "fills");
	if ((e->cold = cold_pool_new()) == NULL)
		err(1, "cold pool");
	bytes_source_init(&e->bytes, e->store, e->fills, e->cold);
	if ((e->scrub = edge_scrub_start(e->store, c->scrub_rate)) == NULL)
		err(1, "scrub");
}

static bool
stale_refused(const struct edge_conf *c)
{

	return (strcmp(c->stale, "refuse") == 0);
}

/* A small cache is not emptied for it. */
static uint64_t
warm_bytes(const struct edge_conf *c)
{

	return (MIN(c->fill_warm, c->cache_size / WARM_PART));
}

/* Clients have the other half of what an upstream is asked at once. */
static uint64_t
warm_at_once(const struct edge_conf *c)
{

	return (c->per_upstream > 1 ? c->per_upstream / 2 : 1);
}

/* Random: tells this process from every other that uses its key. */
static void
make_instance(struct edge *e)
{
	static const char digit[] = "0123456789abcdef";
	uint8_t r[INSTANCE_HEX / 2];

	if (getentropy(r, sizeof(r)) == -1)
		err(1, "getentropy");
	for (size_t i = 0; i < sizeof(r); i++) {
		e->instance[2 * i] = digit[r[i] >> 4];
		e->instance[2 * i + 1] = digit[r[i] & 15];
	}
}

/* What a blob is worth: to published sets, or else to plain ones. */
static enum blob_named
named(void *arg, const struct digest *d)
{
	struct edge *e = arg;
	enum blob_named worth = sync_named(follow_sync(e->follow), d);

	return (worth == BLOB_UNNAMED && e->plains != NULL &&
	    plains_named(e->plains, d) ? BLOB_NAMED : worth);
}

static void
open_plains(struct edge *e)
{
	struct plains_conf c = {
		.edge = e->conf, .store = e->store, .fills = e->fills,
		.bytes = &e->bytes,
		.name = e->conf->name != NULL ? e->conf->name : "pkgcast",
	};
	struct parse_error error;

	if (e->conf->nplain > 0 &&
	    (e->plains = plains_new(&c, &error)) == NULL)
		errx(1, "%s", error.reason);
}

/* What is held of published sets is served at once, stale until the first
 * lease. */
static void
make_site(struct edge *e)
{
	struct edge_serve_conf sc = {
		.name = e->conf->name, .trust = e->trust, .bytes = &e->bytes,
		.upstreams = e->upstreams, .plains = e->plains,
		.plain_only = !config_published(e->conf),
		.refuse = stale_refused(e->conf), .grace = e->conf->grace,
	};
	struct follow_conf fc = {
		.trust = e->trust, .trust_dir = e->trust_dir, .held = e->held,
		.store = e->store, .cache_dir = e->conf->cache_dir,
		.fills = e->fills, .upstreams = e->upstreams, .sets = &e->conf->sets,
		.warm_bytes = warm_bytes(e->conf),
		.warm_at_once = warm_at_once(e->conf),
		.poll = e->conf->poll, .linked = e->conf->curve_secret != NULL,
		.counters = edge_serve_counters,
	};

	make_instance(e);
	e->leases = check_alloc(leases_new(e->instance));
	e->site = check_alloc(site_new(leases_set, e->leases));
	sc.site = fc.site = e->site;
	sc.leases = fc.leases = e->leases;
	e->serve = check_alloc(edge_serve_new(&sc));
	fc.arg = e->serve;
	if ((e->follow = follow_new(&fc)) == NULL)
		err(1, "follow");
	edge_serve_follow(e->serve, e->follow);
	blob_store_named(e->store, named, e);
	if (config_published(e->conf))
		sync_start(follow_sync(e->follow));
	else				/* nobody else does later */
		blob_store_sweep(e->store);
}

/* ADDRESS:PORT of each listener, with the port that it really has. */
static void
say_ready(const struct edge *e, const int *port, size_t nset)
{
	char list[1024] = "";
	size_t len = 0;

	for (size_t i = 0; i < e->nlisten; i++) {
		const char *address = e->conf->http_listen.v[i];
		const char *colon = strrchr(address, ':');
		int n = colon == NULL ? -1 : snprintf(list + len,
		    sizeof(list) - len, " http=%.*s:%d",
		    (int)(colon - address), address, port[i]);

		if (n < 0 || (size_t)n >= sizeof(list) - len)
			break;
		len += (size_t)n;
	}
	log_info("ready%s name=%s sets=%zu plain=%zu link=%s", list,
	    e->conf->name != NULL ? e->conf->name : "-", nset, e->conf->nplain,
	    e->link != NULL ? "yes" : "no");
}

static void
start_httpd(struct edge *e)
{
	struct httpd_conf c;

	memset(&c, 0, sizeof(c));
	httpd_conf_defaults(&c);
	c.handler = edge_serve_request;
	c.arg = e->serve;
	c.threads = (unsigned)e->conf->threads;
	limits_conf(&c, &e->conf->limits);
	c.log = e->log;
	c.server = e->conf->name != NULL ? e->conf->name : "pkgcast";
	if (e->log != NULL && accesslog_start(e->log) == -1)
		err(1, "access log");
	if ((e->httpd = httpd_start(&c, e->listen, e->nlisten)) == NULL)
		err(1, "http");
}

static void
start_link(struct edge *e)
{
	struct link_conf c = {
		.announce = e->conf->announce, .lease = e->conf->lease,
		.master_key = e->conf->master_key,
		.public_key = e->conf->curve_public,
		.secret_key = e->conf->curve_secret, .sets = &e->conf->sets,
		.instance = e->instance, .leases = e->leases,
		.arg = e->follow, .report = follow_report,
		.announced = follow_announced, .leased = follow_leased,
	};

	if (e->conf->curve_secret == NULL)
		return;
	if ((e->links = links_new(1)) == NULL ||
	    (e->link = links_add(e->links, &c)) == NULL ||
	    links_start(e->links) == -1)
		err(1, "link");
}

/* A line that came by the control socket. */
static int
command(void *arg, const char *line, char *answer, size_t size)
{
	static const char mark[] = "mark ";
	struct edge *e = arg;
	uint64_t epoch;

	if (strncmp(line, mark, sizeof(mark) - 1) != 0) {
		(void)snprintf(answer, size, "no such command");
		return (-1);
	}
	line += sizeof(mark) - 1;
	if (plains_mark(e->plains, line, &epoch) == -1) {
		(void)snprintf(answer, size, "%s is no plain set here", line);
		return (-1);
	}
	(void)snprintf(answer, size, "%s is marked, for the %" PRIu64 ". time",
	    line, epoch);
	return (0);
}

static void
start_control(struct edge *e)
{

	if (e->conf->nplain > 0 && (e->control = control_start(e->state,
	    e->conf->state, command, e)) == NULL)
		err(1, "%s/control", e->conf->state);
}

static void
start(struct edge *e)
{
	int port[LISTEN_MAX];
	bool published = config_published(e->conf);
	/* Of the published ones; the follow thread's from then on. */
	size_t nset = published ? held_n(e->held) : 0;

	for (size_t i = 0; i < e->nlisten; i++)
		port[i] = httpd_port(e->listen[i]);
	start_httpd(e);
	start_link(e);
	edge_serve_attach(e->serve, e->httpd, e->link);
	/* Without published sets there is nobody to follow. */
	if (published && follow_start(e->follow, e->link) == -1)
		err(1, "follow");
	if (e->plains != NULL && plains_start(e->plains) == -1)
		err(1, "plain sets");
	start_control(e);
	say_ready(e, port, nset);
}

/* HUP: what can change does; what cannot is named. */
static void
reconfigure(struct edge *e)
{
	struct httpd_conf limits;
	struct parse_error error;
	struct edge_conf *c;
	char *restart;

	if (e->log != NULL)
		accesslog_reopen(e->log);
	if ((c = config_edge(e->options.file, &error)) == NULL) {
		log_err("configuration not read again reason=\"%s\"",
		    error.reason);
		return;
	}
	restart = config_edge_restart(e->conf, c);
	if (restart != NULL && restart[0] != '\0')
		log_warn("restart needed for: %s", restart);
	free(restart);
	if (upstreams_configure(e->upstreams, c) == -1)
		log_err("upstreams not changed reason=\"%s\"",
		    strerror(errno));
	fills_configure(e->fills, c);
	if (e->plains != NULL)
		plains_configure(e->plains, c);
	edge_serve_configure(e->serve, stale_refused(c), c->grace);
	follow_configure(e->follow, c->poll);
	warm_configure(sync_warm(follow_sync(e->follow)), warm_bytes(c),
	    warm_at_once(c));
	limits_conf(&limits, &c->limits);
	httpd_limit(e->httpd, &limits);
	blob_store_limits(e->store, c->cache_size, c->min_free);
	blob_store_memory(e->store, c->cache_memory);
	edge_scrub_rate(e->scrub, c->scrub_rate);
	config_edge_destroy(&c);
	log_info("configuration read again file=%s", e->options.file);
}

/* Running answers are finished first; then what they need is taken away. */
static void
stop(struct edge *e)
{

	control_stop(&e->control);
	if (e->plains != NULL)
		plains_stop(e->plains);
	follow_stop(e->follow);
	links_stop(e->links);
	httpd_stop(&e->httpd);
	edge_serve_destroy(&e->serve);
	cold_pool_destroy(&e->cold);
	links_destroy(&e->links);
	fills_stop(e->fills);
	upstreams_stop(e->upstreams);
	if (e->plains != NULL)
		plains_stop_transfers(e->plains);
	fills_destroy(&e->fills);
	plains_destroy(&e->plains);
	follow_destroy(&e->follow);
	upstreams_destroy(&e->upstreams);
	site_destroy(&e->site);
	leases_destroy(&e->leases);
	edge_scrub_stop(&e->scrub);
	blob_store_destroy(&e->store);
	held_destroy(&e->held);
	trust_destroy(&e->trust);
	if (e->log != NULL)
		accesslog_close(&e->log);
	fd_close(&e->trust_dir);
	fd_close(&e->lock);
	fd_close(&e->state);
	config_edge_destroy(&e->conf);
}

int
main(int argc, char *argv[])
{
	struct edge e = { .state = -1, .lock = -1, .trust_dir = -1 };
	struct parse_error error;
	int sig;

	daemon_options(&e.options, PROGRAM, CONFIG_DIR "/edge.conf",
	    "mark set", argc, argv);
	if (e.options.operand != NULL)
		return (mark_command(e.options.file, e.options.operand));
	configure(&e);
	if (daemon_user_ok(e.conf->user, &error) == -1)
		errx(1, "%s", error.reason);
	if (e.options.test)
		return (0);
	daemon_raise_files();
	open_ports(&e);
	open_folders(&e);
	drop_privileges(&e);
	daemon_block_signals();
	/* From here on there are threads. */
	load_trust(&e);
	open_stores(&e);
	open_plains(&e);
	make_site(&e);
	start(&e);
	while ((sig = daemon_signal()) == SIGHUP)
		reconfigure(&e);
	log_info("stopping signal=%d", sig);
	stop(&e);
	log_info("stopped");
	return (0);
}
