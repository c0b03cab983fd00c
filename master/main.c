/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pkgcast-master: start-up in the order that main() shows, then signals.  What
 * needs root (ports, the state folder, the access log) is opened first; threads,
 * ZeroMQ and the HTTP servers come after root is given up.
 */
#include <sys/stat.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "keys/cert.h"
#include "keys/minisign.h"
#include "keys/trust.h"
#include "keys/zap.h"
#include "master/announce.h"
#include "master/generation.h"
#include "master/origin.h"
#include "master/publish.h"
#include "master/roster.h"
#include "master/scrub.h"
#include "master/status.h"
#include "master/store.h"
#include "master/watch.h"
#include "proto/accesslog.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/config.h"
#include "proto/daemon.h"
#include "proto/fd.h"
#include "proto/httpd.h"
#include "proto/log.h"
#include "proto/site.h"

#define	PROGRAM		"pkgcast-master"
#define	EXIT_USAGE	2
#define	LISTENS		16		/* addresses of one listener */
#define	STATE_MODE	0750
#define	CERT_FILE	"master.cert"	/* and master.cert_secret */
#define	READY_TEXT	1024

struct listener {			/* one HTTP server */
	const char	*name;
	size_t		 n;
	int		 fd[LISTENS];
	char		 where[READY_TEXT];	/* with real ports */
	struct httpd	*httpd;
};

struct master {
	struct master_conf	*conf;
	int			 statefd, lockfd, trustfd;
	struct listener		 http, publishing, status_page;
	struct accesslog	*access;
	struct cert		 cert;
	struct trust		*trust;
	struct store		*store;
	struct site		*site;
	struct generations	*generations;
	struct roster		*roster;
	struct zap		*zap;
	struct announce		*announce;
	struct publish		*publish;
	struct origin		*origin;
	struct status		*status;
	struct scrub		*scrub;
	struct watch		*watch;
};

/*
 * While still root
 */
static void
open_state(struct master *m)
{
	const char *state = m->conf->state;
	struct parse_error e;
	char path[PATH_MAX];
	bool made;

	made = access(state, F_OK) == -1;
	if (fd_mkdirs(AT_FDCWD, state, 0755) == -1 ||
	    (made && chmod(state, STATE_MODE) == -1))
		err(1, "%s", state);
	if (daemon_own(state, m->conf->user) == -1)
		err(1, "%s: cannot be given to user \"%s\" (\"user\" in the "
		    "configuration)", state, m->conf->user);
	if ((m->statefd = fd_open_dir(AT_FDCWD, state)) == -1)
		err(1, "%s", state);
	snprintf(path, sizeof(path), "%s/%s_secret", state, CERT_FILE);
	if (daemon_secret_ok(path, &e) == -1)
		errx(1, "%s", e.reason);
	if ((m->lockfd = fd_lock(m->statefd, "lock")) == -1) {
		if (errno == EWOULDBLOCK)
			errx(1, "%s: another pkgcast-master runs on this state "
			    "folder; stop it first", state);
		err(1, "%s/lock", state);
	}
	snprintf(path, sizeof(path), "%s/lock", state);
	if (daemon_own(path, m->conf->user) == -1)
		err(1, "%s", path);
}

/* Opens the ports, and notes where they are. */
static void
open_ports(struct listener *l, const char *name,
    const struct config_list *address)
{
	const char *colon;
	size_t i, used = 0;
	int n;

	l->name = name;
	if (address->n > LISTENS)
		errx(EXIT_USAGE, "%s: more than %d addresses to listen on",
		    name, LISTENS);
	for (i = 0; i < address->n; i++) {
		if ((l->fd[i] = httpd_listen(address->v[i])) == -1)
			err(1, "%s: cannot listen on %s", name, address->v[i]);
		l->n++;
		colon = strrchr(address->v[i], ':');
		n = snprintf(l->where + used, sizeof(l->where) - used,
		    "%s%.*s:%d", i == 0 ? "" : ",", colon == NULL ? 0 :
		    (int)(colon - address->v[i]), address->v[i],
		    httpd_port(l->fd[i]));
		if (n > 0 && (size_t)n < sizeof(l->where) - used)
			used += (size_t)n;
	}
}

/* The log's folder is made where it is missing, for one level. */
static void
open_access_log(struct master *m)
{
	const char *path = m->conf->access_log, *slash = strrchr(path, '/');
	char dir[PATH_MAX];

	m->access = accesslog_open(path);
	if (m->access == NULL && errno == ENOENT && slash != NULL &&
	    slash > path && (size_t)(slash - path) < sizeof(dir)) {
		memcpy(dir, path, (size_t)(slash - path));
		dir[slash - path] = '\0';
		if (mkdir(dir, 0755) == 0 &&
		    daemon_own(dir, m->conf->user) == 0)
			m->access = accesslog_open(path);
	}
	if (m->access == NULL || daemon_own(path, m->conf->user) == -1)
		err(1, "%s (\"access-log\" in the configuration)", path);
}

/*
 * As the user, before any thread
 */
static void
load_cert(struct master *m)
{
	struct parse_error e;
	char path[PATH_MAX], secret[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", m->conf->state, CERT_FILE);
	if ((size_t)snprintf(secret, sizeof(secret), "%s/%s_secret",
	    m->conf->state, CERT_FILE) >= sizeof(secret))
		errx(EXIT_USAGE, "state: path too long");
	if (access(secret, F_OK) == 0) {
		if (cert_read(&m->cert, secret, &e) == -1)
			errx(1, "%s: %s", secret, e.reason);
		if (m->cert.secret_key[0] == '\0')
			errx(1, "%s: holds no secret key; put back the "
			    "master's own, which the edges know", secret);
		return;
	}
	if (cert_new(&m->cert) == -1)
		errx(1, "cannot make a CURVE key; is libzmq built with CURVE?");
	snprintf(m->cert.name, sizeof(m->cert.name), "master");
	if (cert_write(&m->cert, path, 0644) == -1)
		err(1, "%s", path);
	log_info("make certificate=%s public-key=%s", path,
	    m->cert.public_key);
}

static void
load_trust(struct master *m)
{
	struct pubkey root[TRUST_ROOTS];
	const struct config_list *keys = &m->conf->root_key;
	struct parse_error e;
	size_t i;

	if (keys->n > TRUST_ROOTS)
		errx(EXIT_USAGE, "more than %d of \"root-key\"", TRUST_ROOTS);
	for (i = 0; i < keys->n; i++)
		if (pubkey_parse(&root[i], keys->v[i],
		    strlen(keys->v[i])) == -1)
			errx(EXIT_USAGE, "\"root-key\" %s: not a minisign "
			    "public key", keys->v[i]);
	if (mkdirat(m->statefd, "trust", 0755) == -1 && errno != EEXIST)
		err(1, "%s/trust", m->conf->state);
	if ((m->trustfd = fd_open_dir(m->statefd, "trust")) == -1)
		err(1, "%s/trust", m->conf->state);
	m->trust = check_alloc(trust_new(root, keys->n,
	    (unsigned)m->conf->root_threshold));
	if (trust_load(m->trust, m->trustfd, &e) == -1)
		errx(1, "%s/trust: %s", m->conf->state, e.reason);
	if (trust_version(m->trust) == 0)
		log_warn("trust version=none: nothing can be published; make a "
		    "trust document with `pkgcast trust init`, or, where "
		    "edges hold one, take theirs with `pkgcast trust "
		    "restore`");
}

/* What is current is put into the roster before the first renewal. */
static void
fill_roster(struct master *m)
{
	const struct site_view *view = site_enter(m->site);
	const struct head *h;
	size_t i;

	for (i = 0; i < site_nsets(view); i++) {
		h = snapshot_head(site_nth(view, i)->current);
		if (roster_set_current(m->roster, h->set, h->generation,
		    &h->digest) == -1)
			errx(1, "out of memory");
	}
	site_leave(m->site);
}

static void
load_state(struct master *m)
{
	struct roster_conf rc = { .dirfd = m->statefd,
	    .ttl_ms = m->conf->ttl * 1000 };
	struct parse_error e;

	if (rc.ttl_ms < 1000 || rc.ttl_ms > ROSTER_TTL_MAX_MS)
		errx(EXIT_USAGE, "%s: \"ttl\" must be 1 to %d seconds",
		    "link", ROSTER_TTL_MAX_MS / 1000);
	if ((m->roster = roster_new(&rc, &e)) == NULL)
		errx(1, "%s/%s", m->conf->state, e.reason);
	if ((m->store = store_new(m->statefd)) == NULL)
		err(1, "%s/blob", m->conf->state);
	m->site = check_alloc(site_new(NULL, NULL));
	m->generations = generation_new(m->statefd, m->store, m->site,
	    m->trust, &e);
	if (m->generations == NULL)
		errx(1, "%s: %s", m->conf->state, e.reason);
	fill_roster(m);
}

/*
 * Threads
 */
static uint64_t
held_trust(void *arg)
{
	struct master *m = arg;

	return (trust_version(m->trust));
}

/* Link thread.  Heads that edges hold stay good when their signer's key has
 * been withdrawn since. */
static int
edge_shows(void *arg, const struct head *h)
{
	static struct log_limit limit;
	struct master *m = arg;
	struct parse_error e;

	if (trust_judge_held(m->trust, h, &e) != TRUST_OK) {
		if (log_allowed(&limit, 1))
			log_warn("ahead set=%s generation=%llu: an edge shows "
			    "a head that is not validly signed: %s", h->set,
			    (unsigned long long)h->generation, e.reason);
		return (-1);
	}
	if (generation_accept(m->generations, h) == -1) {
		if (log_allowed(&limit, 1))
			log_err("ahead set=%s generation=%llu: cannot be "
			    "recorded: %s", h->set,
			    (unsigned long long)h->generation,
			    strerror(errno));
		return (-1);
	}
	return (0);
}

static void
start_links(struct master *m, uint64_t *edges_stamp_out)
{
	struct announce_conf ac = {
		.announce = m->conf->announce, .lease = m->conf->lease,
		.secret_key = m->cert.secret_key, .roster = m->roster,
		.trust_version = held_trust, .shown = edge_shows, .arg = m,
	};
	struct parse_error e;

	if ((m->zap = zap_start()) == NULL)
		err(1, "zap");
	*edges_stamp_out = watch_edges_now(m->conf->edges, m->zap, m->roster);
	if ((m->announce = announce_start(&ac, &e)) == NULL)
		errx(1, "link: %s", e.reason);
}

static void
start_publish(struct master *m)
{
	struct publish_conf pc = {
		.statefd = m->statefd, .store = m->store, .site = m->site,
		.trust = m->trust, .generations = m->generations,
		.roster = m->roster, .announce = m->announce,
	};
	struct status_conf sc = {
		.site = m->site, .generations = m->generations,
		.trust = m->trust, .roster = m->roster,
		.public_key = m->cert.public_key,
	};
	struct origin_conf oc = {
		.site = m->site, .store = m->store, .trust = m->trust,
		.grace = (int64_t)m->conf->grace, .status = status_master,
	};
	struct parse_error e;

	if ((m->publish = publish_new(&pc, &e)) == NULL)
		errx(1, "%s: %s", m->conf->state, e.reason);
	sc.publish = oc.publish = m->publish;
	m->status = status_new(&sc);
	oc.status_arg = m->status;
	m->origin = check_alloc(origin_new(&oc));
	status_origin(m->status, m->origin);
}

static void
start_httpd(struct listener *l, const struct httpd_conf *c)
{

	if (l->n > 0 && (l->httpd = httpd_start(c, l->fd, l->n)) == NULL)
		err(1, "%s: cannot start its server", l->name);
}

static void
start_servers(struct master *m)
{
	struct httpd_conf base = { .threads = (unsigned)m->conf->threads };
	struct httpd_conf c;

	httpd_conf_defaults(&base);
	limits_conf(&base, &m->conf->limits);
	if (accesslog_start(m->access) == -1)
		err(1, "access log");
	c = base;
	c.log = m->access;
	origin_httpd(m->origin, &c);
	start_httpd(&m->http, &c);
	c = base;
	publish_httpd(m->publish, &c);
	start_httpd(&m->publishing, &c);
	c = base;
	status_httpd(m->status, &c);
	start_httpd(&m->status_page, &c);
	status_attach(m->status, STATUS_HTTP, m->http.httpd);
	status_attach(m->status, STATUS_PUBLISH, m->publishing.httpd);
}

static void
start_helpers(struct master *m, uint64_t stamp)
{
	struct watch_conf wc = {
		.edges = m->conf->edges, .edges_stamp = stamp,
		.statefd = m->statefd, .trustfd = m->trustfd, .zap = m->zap,
		.roster = m->roster, .announce = m->announce,
		.trust = m->trust, .publish = m->publish,
	};
	struct parse_error e;

	if ((m->watch = watch_start(&wc, &e)) == NULL)
		errx(1, "watch: %s", e.reason);
	m->scrub = scrub_start(m->store, m->site, m->conf->scrub_rate, &e);
	if (m->scrub == NULL)
		errx(1, "scrub: %s", e.reason);
}

/*
 * Signals
 */
static void
reload(struct master *m, const char *file)
{
	struct httpd_conf limits;
	struct master_conf *next;
	struct parse_error e;
	char *names;

	accesslog_reopen(m->access);
	watch_reload(m->watch);
	if ((next = config_master(file, &e)) == NULL) {
		log_err("reload: nothing changed: %s", e.reason);
		return;
	}
	names = config_master_restart(m->conf, next);
	if (names != NULL && names[0] != '\0')
		log_warn("reload file=%s: needs a restart to take effect: %s",
		    file, names);
	limits_conf(&limits, &next->limits);
	if (m->http.httpd != NULL)
		httpd_limit(m->http.httpd, &limits);
	scrub_set_rate(m->scrub, next->scrub_rate);
	log_info("reload file=%s", file);
	free(names);
	config_master_destroy(&next);
}

/* Waits end first, so that nothing holds the servers up; then servers, then
 * what they use. */
static void
stop_all(struct master *m)
{

	roster_stop(m->roster);
	status_attach(m->status, STATUS_HTTP, NULL);
	status_attach(m->status, STATUS_PUBLISH, NULL);
	httpd_stop(&m->publishing.httpd);
	httpd_stop(&m->http.httpd);
	httpd_stop(&m->status_page.httpd);
	origin_destroy(&m->origin);
	watch_stop(&m->watch);
	scrub_stop(&m->scrub);
	publish_destroy(&m->publish);
	announce_stop(&m->announce);
	zap_stop(&m->zap);
	status_destroy(&m->status);
	generation_destroy(&m->generations);
	site_destroy(&m->site);
	store_destroy(&m->store);
	roster_destroy(&m->roster);
	trust_destroy(&m->trust);
	accesslog_close(&m->access);
	explicit_bzero(&m->cert, sizeof(m->cert));
	fd_close(&m->trustfd);
	fd_close(&m->lockfd);
	fd_close(&m->statefd);
	config_master_destroy(&m->conf);
}

int
main(int argc, char *argv[])
{
	static struct master m = { .statefd = -1, .lockfd = -1,
	    .trustfd = -1 };
	struct daemon_options o;
	struct parse_error e;
	uint64_t stamp;
	int sig;

	daemon_options(&o, PROGRAM, CONFIG_DIR "/master.conf", NULL, argc,
	    argv);
	announce_init();
	if (keys_init() == -1)
		errx(1, "libsodium cannot start");
	if ((m.conf = config_master(o.file, &e)) == NULL)
		errx(EXIT_USAGE, "%s", e.reason);
	if (daemon_user_ok(m.conf->user, &e) == -1)
		errx(1, "%s", e.reason);
	if (o.test)
		return (0);
	if (log_open(PROGRAM, m.conf->log, o.verbose) == -1)
		err(EXIT_USAGE, "log: %s", m.conf->log);
	tzset();

	daemon_raise_files();
	open_state(&m);
	open_ports(&m.http, "http", &m.conf->http_listen);
	open_ports(&m.publishing, "publish", &m.conf->publish_listen);
	open_ports(&m.status_page, "status", &m.conf->status_listen);
	open_access_log(&m);
	if (daemon_become(m.conf->user, &e) == -1)
		errx(1, "%s", e.reason);

	daemon_block_signals();
	load_cert(&m);
	load_trust(&m);
	load_state(&m);

	start_links(&m, &stamp);
	start_publish(&m);
	start_servers(&m);
	start_helpers(&m, stamp);
	log_info("ready http=%s publish=%s status=%s announce=%s lease=%s",
	    m.http.where, m.publishing.where, m.status_page.where,
	    announce_endpoint(m.announce),
	    announce_lease_endpoint(m.announce));

	while ((sig = daemon_signal()) == SIGHUP)
		reload(&m, o.file);
	log_info("stop signal=%d", sig);
	stop_all(&m);
	return (0);
}
