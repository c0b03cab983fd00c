/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Notices changes in edges/ and in the trust folder and passes them on; its
 * thread is the only one that replaces the list of edges.  Called by main.
 */
#include <sys/stat.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/watch.h"
#include "master/www.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	WATCH_MAGIC	0x77617463u
#define	PERIOD_MS	1000
#define	SHARE		20		/* of the time may go into looking */
#define	FRESH_S		3		/* a folder's time may not tell yet */
#define	TICK_MS		60000

struct watch {
	unsigned	 magic;
	struct watch_conf conf;
	pthread_t	 thread;
	bool		 running;
	int		 pipe[2];	/* "r": reload, "q": stop */

	/* The thread's own. */
	struct timespec	 trust_time;
	int64_t		 edges_next_ms, tick_next_ms;
};

/*
 * edges/
 */
static void
bad_edge(void *arg, const char *file, const char *why)
{
	char text[LOG_TEXT];

	(void)arg;
	log_err("edges file=\"%s\": left out: %s",
	    log_escape(text, sizeof(text), file, strlen(file)), why);
}

uint64_t
watch_edges_now(const char *dir, struct zap *z, struct roster *r)
{
	uint64_t stamp = edges_stamp(dir);
	struct edges *e;

	if ((e = edges_read(dir, bad_edge, NULL)) == NULL) {
		/* A folder that is being replaced must not cut everybody. */
		log_err("edges folder=%s: %s; the edges known before, if any, "
		    "stay allowed (`pkgcast edge allow` makes the folder)",
		    dir, strerror(errno));
		return (stamp);
	}
	/* New connections first: who is cut then cannot come back. */
	if (zap_allow(z, e) == -1) {
		log_err("edges folder=%s: %s; the edges known before stay "
		    "allowed", dir, strerror(errno));
		edges_destroy(&e);
		return (0);		/* looks changed next time */
	}
	log_info("edges folder=%s n=%zu", dir, edges_n(e));
	roster_set_edges(r, &e);
	return (stamp);
}

static void
look_at_edges(struct watch *w, bool force)
{
	int64_t begin = clock_boot_ms(), took;

	if (!force && begin < w->edges_next_ms)
		return;
	if (force || edges_stamp(w->conf.edges) != w->conf.edges_stamp) {
		w->conf.edges_stamp = watch_edges_now(w->conf.edges,
		    w->conf.zap, w->conf.roster);
		announce_cut_revoked(w->conf.announce);
	}
	/* Thousands of files are looked at less often. */
	took = clock_boot_ms() - begin;
	w->edges_next_ms = begin + took * SHARE;
}

/*
 * The trust folder
 */
static bool
trust_changed(struct watch *w)
{
	struct stat st;
	bool changed;

	if (fstat(w->conf.trustfd, &st) == -1)
		return (false);
	changed = st.st_mtim.tv_sec != w->trust_time.tv_sec ||
	    st.st_mtim.tv_nsec != w->trust_time.tv_nsec ||
	    clock_real() - (int64_t)st.st_mtim.tv_sec < FRESH_S;
	w->trust_time = st.st_mtim;
	return (changed);
}

static void
look_at_trust(struct watch *w, bool force)
{
	struct parse_error err;
	uint64_t before, after;

	if (!trust_changed(w) && !force)
		return;
	before = trust_version(w->conf.trust);
	if (trust_load(w->conf.trust, w->conf.trustfd, &err) == -1)
		log_err("trust: %s; version %llu stays in force", err.reason,
		    (unsigned long long)before);
	after = trust_version(w->conf.trust);
	if (after == before)
		return;
	log_info("trust version=%llu", (unsigned long long)after);
	if (www_trust(w->conf.statefd, w->conf.trust) == -1)
		log_err("trust: www/.pkgcast/trust: %s", strerror(errno));
}

/*
 * The thread
 */

/* Waits for an order or the end of the period: 'r', 'q', or 0. */
static char
wait_order(struct watch *w)
{
	struct pollfd p = { .fd = w->pipe[0], .events = POLLIN };
	char order = 0;

	if (poll(&p, 1, PERIOD_MS) == 1 &&
	    read(w->pipe[0], &order, 1) != 1)
		order = 0;
	return (order);
}

static void *
run(void *arg)
{
	struct watch *w = arg;
	int64_t now;
	char order;

	CHECK_OBJ(w, WATCH_MAGIC);
	while ((order = wait_order(w)) != 'q') {
		look_at_edges(w, order == 'r');
		look_at_trust(w, order == 'r');
		if ((now = clock_boot_ms()) >= w->tick_next_ms) {
			publish_tick(w->conf.publish);
			w->tick_next_ms = now + TICK_MS;
		}
	}
	return (NULL);
}

struct watch *
watch_start(const struct watch_conf *c, struct parse_error *err)
{
	struct watch *w = check_alloc(calloc(1, sizeof(*w)));
	int e;

	w->magic = WATCH_MAGIC;
	w->conf = *c;
	w->pipe[0] = w->pipe[1] = -1;
	w->tick_next_ms = clock_boot_ms() + TICK_MS;
	if (pipe(w->pipe) == -1 ||
	    fcntl(w->pipe[0], F_SETFD, FD_CLOEXEC) == -1 ||
	    fcntl(w->pipe[1], F_SETFD, FD_CLOEXEC) == -1)
		(void)parse_fail(err, 0, "pipe: %s", strerror(errno));
	else if ((e = pthread_create(&w->thread, NULL, run, w)) != 0)
		(void)parse_fail(err, 0, "thread: %s", strerror(e));
	else
		w->running = true;
	if (!w->running)
		watch_stop(&w);
	return (w);
}

static void
order(struct watch *w, const char *what)
{

	if (fd_write_all(w->pipe[1], what, 1) == -1)
		log_err("watch: %s", strerror(errno));
}

void
watch_reload(struct watch *w)
{

	CHECK_OBJ(w, WATCH_MAGIC);
	order(w, "r");
}

void
watch_stop(struct watch **wp)
{
	struct watch *w = *wp;

	if (w == NULL)
		return;
	*wp = NULL;
	CHECK_OBJ(w, WATCH_MAGIC);
	if (w->running) {
		order(w, "q");
		pthread_join(w->thread, NULL);
	}
	fd_close(&w->pipe[0]);
	fd_close(&w->pipe[1]);
	explicit_bzero(&w->magic, sizeof(w->magic));
	free(w);
}
