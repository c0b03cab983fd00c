/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Thousands of edges in one process: each with its own key, its own two sockets,
 * its lease, and the heads that it holds, in memory.  Links, leases, messages,
 * heads and trust are the edge's own code; what is missing is the store and
 * HTTP.  A command of measurements, run by integration/swarm.
 *
 * usage: swarm keys N EDGES_DIR FILE
 *        swarm run CONF FILE SET DROP_PERCENT DELAY_MS
 *
 * "keys" makes key pairs: public halves into EDGES_DIR, both into FILE.  "run"
 * joins with those in FILE as CONF (an edge.conf) says, and answers lines on
 * standard input with one line of JSON each, until "quit" or its end:
 *
 *   state GENERATION    how many edges there are, hold a lease, and of these
 *                       answer from an earlier generation of SET than that;
 *                       and counters; and how many had a reply since
 *   mark                now (begins with the start)
 */
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include <sodium.h>

#include "edge/lease.h"
#include "edge/link.h"
#include "edge/upstream.h"
#include "keys/cert.h"
#include "keys/trust.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/daemon.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	LINKS_MAX	200		/* of one thread, which polls all of them */
#define	FETCHERS	8		/* edges that ask for heads at once */
#define	FETCH_S		20
#define	PATH_SIZE	4096
#define	LINE_SIZE	512

/* What an edge holds of one set. */
struct holding {
	SLIST_ENTRY(holding) next;
	char		 name[SET_NAME_MAX + 1];
	uint64_t	 generation;	/* 0: only prepared */
	struct digest	 digest;
	bool		 has_prepared, behind, ahead;
	struct digest	 prepared;
	char		*text;		/* of the current head */
};

struct edge {
	struct link	*link;
	struct leases	*leases;
	char		 instance[INSTANCE_HEX + 1];
	char		 public_key[CURVE_TEXT], secret_key[CURVE_TEXT];
	atomic_bool	 wants_heads;	/* in the fetchers' queue */
	unsigned	 seed;		/* the link's thread */
	pthread_mutex_t	 lock;		/* what follows */
	uint64_t	 reported;	/* sequence of the last renewal */
	uint64_t	 outdated;	/* replies up to it know no better */
	SLIST_HEAD(, holding) held;
};

/* An announcement, dealt with later; or, without a text, heads to be fetched. */
struct job {
	STAILQ_ENTRY(job) next;
	struct edge	*edge;
	int64_t		 due_ms;
	bool		 commit;
	size_t		 len;
	char		 set[SET_NAME_MAX + 1];
	char		 text[];
};

struct queue {
	pthread_mutex_t	 lock;
	pthread_cond_t	 cond;
	STAILQ_HEAD(, job) jobs;
};

static struct edge_conf *conf;
static struct trust *trust;
static struct upstreams *upstreams;
static struct edge *edges;
static size_t nedge;
static unsigned drop_percent;
static int64_t delay_ms, mark_ms;
static struct queue late = { PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_COND_INITIALIZER, STAILQ_HEAD_INITIALIZER(late.jobs) };
static struct queue fetches = { PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_COND_INITIALIZER, STAILQ_HEAD_INITIALIZER(fetches.jobs) };
static _Atomic uint64_t heard, dropped, switched, prepared, refused, fetched;

/*
 * Queues
 */
static void
put(struct queue *q, struct edge *e, const char *set, bool commit,
    const char *text, size_t len, int64_t due_ms)
{
	struct job *j = check_alloc(calloc(1, sizeof(*j) + len));

	j->edge = e;
	j->due_ms = due_ms;
	j->commit = commit;
	j->len = len;
	memcpy(j->set, set, strlen(set) + 1);
	memcpy(j->text, text, len);
	pthread_mutex_lock(&q->lock);
	STAILQ_INSERT_TAIL(&q->jobs, j, next);
	pthread_cond_signal(&q->cond);
	pthread_mutex_unlock(&q->lock);
}

static struct job *
take(struct queue *q)
{
	struct job *j;

	pthread_mutex_lock(&q->lock);
	while ((j = STAILQ_FIRST(&q->jobs)) == NULL)
		pthread_cond_wait(&q->cond, &q->lock);
	STAILQ_REMOVE_HEAD(&q->jobs, next);
	pthread_mutex_unlock(&q->lock);
	return (j);
}

/*
 * One edge.  The rules are those of edge/sync.c, but that a lower head alone
 * shows it to be ahead: there is one upstream, the master.
 */

/* With the lock held. */
static struct holding *
holding(struct edge *e, const char *set)
{
	struct holding *h;

	SLIST_FOREACH(h, &e->held, next)
		if (strcmp(h->name, set) == 0)
			return (h);
	h = check_alloc(calloc(1, sizeof(*h)));
	memcpy(h->name, set, strlen(set) + 1);
	SLIST_INSERT_HEAD(&e->held, h, next);
	return (h);
}

/* With the lock held; true when there is something to report. */
static bool
hold(struct holding *own, const struct head *h)
{

	if (h->generation < own->generation) {
		if (!own->behind || own->ahead)
			return (false);
		own->ahead = true;
		return (true);
	}
	if (h->generation == own->generation)
		return (false);
	free(own->text);
	own->text = check_alloc(strdup(h->text));
	own->generation = h->generation;
	own->digest = h->digest;
	own->has_prepared = own->behind = own->ahead = false;
	atomic_fetch_add(&switched, 1);
	return (true);
}

static void
take_head(struct edge *e, const char *set, const char *text, size_t len)
{
	struct parse_error error;
	struct head h;
	bool news = false;

	if (head_parse(&h, text, len, &error) == -1 ||
	    (set != NULL && strcmp(set, h.set) != 0) ||
	    trust_judge(trust, &h, clock_real(), &error) != TRUST_OK) {
		if (atomic_fetch_add(&refused, 1) == 0)
			warnx("head refused: %s", error.reason);
		return;
	}
	pthread_mutex_lock(&e->lock);
	if ((news = hold(holding(e, h.set), &h)))
		e->outdated = e->reported;
	pthread_mutex_unlock(&e->lock);
	if (news)
		link_renew(e->link);
}

static void
take_prepare(struct edge *e, const char *set, const char *text, size_t len)
{
	struct parse_error error;
	struct holding *own;
	struct head h;
	bool news = false;

	if (head_parse_signed(&h, text, len, &error) == -1 ||
	    (set != NULL && strcmp(set, h.set) != 0)) {
		atomic_fetch_add(&refused, 1);
		return;
	}
	pthread_mutex_lock(&e->lock);
	own = holding(e, h.set);
	if (h.generation > own->generation && !(own->has_prepared &&
	    digest_eq(&own->prepared, &h.digest))) {
		own->has_prepared = news = true;
		own->prepared = h.digest;
		e->outdated = e->reported;
		atomic_fetch_add(&prepared, 1);
	}
	pthread_mutex_unlock(&e->lock);
	if (news)
		link_renew(e->link);
}

static void
deal(struct edge *e, const char *set, bool commit, const char *text,
    size_t len)
{

	if (commit)
		take_head(e, set, text, len);
	else
		take_prepare(e, set, text, len);
}

/*
 * What the link calls, in its thread.
 */
static void
announced(void *arg, const char *set, bool commit, const char *text,
    size_t len)
{
	struct edge *e = arg;

	atomic_fetch_add(&heard, 1);
	if ((unsigned)rand_r(&e->seed) % 100 < drop_percent)
		atomic_fetch_add(&dropped, 1);
	else if (delay_ms > 0)
		put(&late, e, set, commit, text, len,
		    clock_boot_ms() + delay_ms);
	else
		deal(e, set, commit, text, len);
}

static void
leased(void *arg, const struct lease *l)
{
	struct edge *e = arg;
	struct holding *own;
	bool wants = false;

	pthread_mutex_lock(&e->lock);
	if (l->sequence > e->outdated) {
		SLIST_FOREACH(own, &e->held, next)
			own->behind = false;
		for (size_t i = 0; i < l->nbehind; i++) {
			own = holding(e, l->behind[i]);
			own->behind = true;
			wants = wants || !own->ahead;
		}
		SLIST_FOREACH(own, &e->held, next)
			own->ahead = own->ahead && own->behind;
	}
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < l->nprepare; i++)
		take_prepare(e, NULL, l->prepare[i].text, l->prepare[i].len);
	if (wants && !atomic_exchange(&e->wants_heads, true))
		put(&fetches, e, "", true, "", 0, 0);
}

static int
report(void *arg, struct renew *r)
{
	struct edge *e = arg;
	const struct holding *own;
	size_t n = 0;

	pthread_mutex_lock(&e->lock);
	SLIST_FOREACH(own, &e->held, next)
		n++;
	r->all = true;
	e->reported = r->sequence;
	if ((r->set = calloc(n + 1, sizeof(*r->set))) != NULL)
		SLIST_FOREACH(own, &e->held, next) {
			struct renew_set *s = &r->set[r->nset++];

			memcpy(s->name, own->name, sizeof(s->name));
			s->generation = own->generation;
			s->digest = own->digest;
			s->has_prepared = own->has_prepared;
			s->prepared = own->prepared;
			if (own->ahead)
				s->ahead = strdup(own->text);
		}
	pthread_mutex_unlock(&e->lock);
	return (r->set == NULL ? -1 : 0);
}

/*
 * Threads for what takes time.
 */
static void *
run_late(void *arg)
{
	(void)arg;
	for (;;) {
		struct job *j = take(&late);
		int64_t ms = j->due_ms - clock_boot_ms();

		if (ms > 0)
			clock_sleep(ms);
		deal(j->edge, j->set, j->commit, j->text, j->len);
		free(j);
	}
	return (NULL);
}

/* All heads, as an edge that is behind asks for them. */
static void
fetch(struct edge *e)
{
	char from[UPSTREAM_URL], *text;
	uint64_t tried = 0;
	size_t len, span;

	atomic_store(&e->wants_heads, false);
	text = upstream_get(upstreams, &tried, "/.pkgcast/heads", 64u << 20,
	    FETCH_S, NULL, &len, from);
	if (text == NULL)
		return;			/* the next reply says it again */
	atomic_fetch_add(&fetched, 1);
	for (size_t at = 0; at < len &&
	    (span = head_span(text + at, len - at)) > 0; at += span)
		take_head(e, NULL, text + at, span);
	free(text);
}

static void *
run_fetches(void *arg)
{
	(void)arg;
	for (;;) {
		struct job *j = take(&fetches);

		fetch(j->edge);
		free(j);
	}
	return (NULL);
}

/*
 * All of them
 */
static void
read_keys(const char *file)
{
	char line[LINE_SIZE];
	FILE *f = fopen(file, "r");

	if (f == NULL)
		err(1, "%s", file);
	while (fgets(line, sizeof(line), f) != NULL) {
		struct edge *e;

		edges = check_alloc(realloc(edges,
		    (nedge + 1) * sizeof(*edges)));
		e = &edges[nedge++];
		memset(e, 0, sizeof(*e));
		if (sscanf(line, "%40s %40s", e->public_key, e->secret_key) !=
		    2)
			errx(1, "%s: line %zu", file, nedge);
	}
	(void)fclose(f);
	if (nedge == 0)
		errx(1, "%s: no keys", file);
}

static void
make_edge(struct edge *e)
{
	uint8_t r[INSTANCE_HEX / 2];

	if (getentropy(r, sizeof(r)) == -1)
		err(1, "getentropy");
	for (size_t i = 0; i < sizeof(r); i++)
		(void)snprintf(e->instance + 2 * i, 3, "%02x", r[i]);
	memcpy(&e->seed, r, sizeof(e->seed));
	e->leases = check_alloc(leases_new(e->instance));
	pthread_mutex_init(&e->lock, NULL);
	SLIST_INIT(&e->held);
}

static void
load_trust(void)
{
	struct pubkey root[TRUST_ROOTS];
	struct parse_error error = { .reason = "no upstream has one" };
	const struct config_list *l = &conf->root_key;
	char from[UPSTREAM_URL], *text;
	uint64_t tried = 0;
	size_t len;

	if (keys_init() == -1 || l->n > TRUST_ROOTS)
		errx(1, "root keys");
	for (size_t i = 0; i < l->n; i++)
		if (pubkey_parse(&root[i], l->v[i], strlen(l->v[i])) == -1)
			errx(1, "bad root-key \"%s\"", l->v[i]);
	trust = check_alloc(trust_new(root, l->n,
	    (unsigned)conf->root_threshold));
	text = upstream_get(upstreams, &tried, "/.pkgcast/trust",
	    TRUST_ALL_MAX, FETCH_S, NULL, &len, from);
	if (text == NULL || trust_update(trust, text, len, &error) < 1)
		errx(1, "trust document: %s", error.reason);
	free(text);
}

static void
threads(void *(*run)(void *), unsigned n)
{
	pthread_t t;

	for (; n > 0; n--)
		if ((errno = pthread_create(&t, NULL, run, NULL)) != 0)
			err(1, "thread");
}

/* Threads of links, LINKS_MAX each. */
static struct links **
join(size_t *n)
{
	struct links **all;
	struct link_conf c = {
		.announce = conf->announce, .lease = conf->lease,
		.master_key = conf->master_key, .sets = &conf->sets,
		.report = report, .announced = announced, .leased = leased,
	};
	size_t i;

	*n = (nedge + LINKS_MAX - 1) / LINKS_MAX;
	all = check_alloc(calloc(*n, sizeof(*all)));
	for (i = 0; i < *n; i++)
		if ((all[i] = links_new(LINKS_MAX)) == NULL)
			err(1, "links");
	for (i = 0; i < nedge; i++) {
		c.arg = &edges[i];
		c.leases = edges[i].leases;
		c.instance = edges[i].instance;
		c.public_key = edges[i].public_key;
		c.secret_key = edges[i].secret_key;
		if ((edges[i].link = links_add(all[i / LINKS_MAX], &c)) ==
		    NULL)
			err(1, "link");
	}
	for (i = 0; i < *n; i++)
		if (links_start(all[i]) == -1)
			err(1, "links");
	return (all);
}

/* Lease first, then what is held: an edge that may answer as up to date. */
static void
state(const char *set, uint64_t generation)
{
	struct link_stats s;
	uint64_t renewals = 0, sockets = 0;
	size_t held = 0, earlier = 0, replied = 0;

	for (size_t i = 0; i < nedge; i++) {
		struct edge *e = &edges[i];
		bool fresh = leases_fresh(e->leases, NULL, lease_clock());

		link_stats(e->link, &s);
		renewals += s.renewals;
		sockets += s.sockets;
		replied += s.last_reply > mark_ms;
		if (!fresh)
			continue;
		held++;
		pthread_mutex_lock(&e->lock);
		earlier += holding(e, set)->generation < generation;
		pthread_mutex_unlock(&e->lock);
	}
	(void)printf("{\"edges\": %zu, \"leased\": %zu, \"earlier\": %zu, "
	    "\"replied\": %zu, \"heard\": %" PRIu64 ", \"dropped\": %" PRIu64 ", \"prepared\": %"
	    PRIu64 ", \"switched\": %" PRIu64 ", \"refused\": %" PRIu64
	    ", \"fetched\": %" PRIu64 ", \"renewals\": %" PRIu64
	    ", \"sockets\": %" PRIu64 "}\n", nedge, held, earlier, replied,
	    atomic_load(&heard), atomic_load(&dropped),
	    atomic_load(&prepared), atomic_load(&switched),
	    atomic_load(&refused), atomic_load(&fetched), renewals, sockets);
	(void)fflush(stdout);
}

static int
run(const char *file, const char *keys, const char *set)
{
	struct parse_error error;
	struct links **all;
	char line[LINE_SIZE];
	size_t n;

	if ((conf = config_edge(file, &error)) == NULL)
		errx(2, "%s", error.reason);
	(void)log_open("swarm", "stderr", false);
	daemon_raise_files();
	(void)signal(SIGPIPE, SIG_IGN);
	read_keys(keys);
	for (size_t i = 0; i < nedge; i++)
		make_edge(&edges[i]);
	if ((upstreams = upstreams_new(conf)) == NULL)
		err(1, "upstreams");
	load_trust();
	threads(run_late, 1);
	threads(run_fetches, FETCHERS);
	all = join(&n);
	while (fgets(line, sizeof(line), stdin) != NULL &&
	    strcmp(line, "quit\n") != 0)
		if (strncmp(line, "state ", 6) == 0)
			state(set, strtoull(line + 6, NULL, 10));
		else if (strcmp(line, "mark\n") == 0)
			mark_ms = clock_boot_ms();
	for (size_t i = 0; i < n; i++)
		links_stop(all[i]);
	/* The other threads wait for work, or for a server; what they have goes
	 * with the process. */
	_exit(0);
}

static int
make_keys(unsigned long n, const char *dir, const char *file)
{
	char path[PATH_SIZE];
	FILE *f = fopen(file, "w");

	if (f == NULL)
		err(1, "%s", file);
	for (unsigned long i = 1; i <= n; i++) {
		struct cert c;

		memset(&c, 0, sizeof(c));
		if (cert_new(&c) == -1)
			errx(1, "no key pair");
		(void)fprintf(f, "%s %s\n", c.public_key, c.secret_key);
		(void)snprintf(c.name, sizeof(c.name), "swarm%05lu", i);
		(void)snprintf(path, sizeof(path), "%s/%s", dir, c.name);
		c.secret_key[0] = '\0';
		if (cert_write(&c, path, 0644) == -1)
			err(1, "%s", path);
	}
	if (fclose(f) != 0)
		err(1, "%s", file);
	return (0);
}

int
main(int argc, char *argv[])
{

	if (argc == 5 && strcmp(argv[1], "keys") == 0)
		return (make_keys(strtoul(argv[2], NULL, 10), argv[3],
		    argv[4]));
	if (argc != 7 || strcmp(argv[1], "run") != 0)
		errx(2, "usage: swarm keys N EDGES_DIR FILE | swarm run CONF "
		    "FILE SET DROP_PERCENT DELAY_MS");
	drop_percent = (unsigned)strtoul(argv[5], NULL, 10);
	delay_ms = (int64_t)strtol(argv[6], NULL, 10);
	return (run(argv[2], argv[3], argv[4]));
}
