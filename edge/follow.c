/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The follow thread.  What the link hears is put into a bounded box here, so
 * that the link never waits; the thread empties it, most urgent first: commits
 * and prepares as they came, then what the lease says is missing, then polls,
 * then the generations behind.  Work that can wait (a poll, a walk) is
 * interrupted when an announcement comes.
 *
 * Lock: follow->lock guards the box; under it only the waiters' is taken, and
 * what their wake needs.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/follow.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/log.h"

#define	FOLLOW_MAGIC	0x666f6c6c
#define	MAIL_MAX	256		/* announcements not yet dealt with */
#define	TICK_MS		1000		/* how late a lost lease is noticed */
#define	FIRST_POLL_MS	1000		/* a lease may come before that */
#define	ASK_MS		5000		/* polls for unknown paths */
#define	ASKED_MS	5000		/* is waited for such a poll */
#define	NEWS_MS		1000		/* and for news by the link */
#define	AGAIN_MS	1000		/* after a failed poll, then doubled */
#define	AGAIN_DOUBLINGS	5
#define	HEADS_S		20
#define	SWEEP_MS	5000		/* after a switch */
#define	MUTE_MS		30000		/* without a lease; then it is said why */
#define	JITTER_PART	10		/* of the interval, up and down */

struct mail {
	STAILQ_ENTRY(mail) entry;
	bool		 commit;
	size_t		 len;
	char		 set[SET_NAME_MAX + 1];	/* "": not announced, repeated */
	char		 text[HEAD_MAX];
};

struct follow {
	unsigned	 magic;
	struct follow_conf conf;
	struct sync	*sync;
	struct link	*link;
	struct waiters	*waiters;	/* for a poll; and for news: */
	struct waiters	*curious;
	pthread_t	 thread;
	bool		 started;
	atomic_bool	 stop, interrupt, heard;

	pthread_mutex_t	 lock;		/* from here on */
	pthread_cond_t	 cond;
	STAILQ_HEAD(, mail) mail;
	size_t		 nmail;
	uint64_t	 trust;		/* version that the master has */
	bool		 behind_new;	/* a reply told: */
	size_t		 nbehind;
	char		 (*behind)[SET_NAME_MAX + 1];
	uint64_t	 reported;	/* sequence of the last renewal made */
	uint64_t	 outdated;	/* replies up to it know no better */
	bool		 asked, polling;
	uint64_t	 poll_s;
	int64_t		 poll_ms;	/* next, boot clock */
	int64_t		 polled_ms;	/* last began */
	int64_t		 sweep_ms;	/* 0: nothing to sweep */
	unsigned	 nfailed;	/* polls in a row */
	bool		 fresh;		/* a lease was held at the last look */
	int64_t		 unleased_ms;	/* since then; 0: told, or leased */
	struct follow_stats stats;
};

/* Called by the follow thread, and when what is prepared is warm; a renewal made
 * before is outdated now. */
static void
changed(void *arg)
{
	struct follow *f = arg;

	pthread_mutex_lock(&f->lock);
	f->outdated = f->reported;
	f->sweep_ms = clock_boot_ms() + SWEEP_MS;
	pthread_mutex_unlock(&f->lock);
	if (f->link != NULL)
		link_renew(f->link);
}

static void
news(void *arg)
{
	struct follow *f = arg;

	waiters_wake(f->curious);
}

struct follow *
follow_new(const struct follow_conf *c)
{
	struct follow *f;
	struct sync_conf sc = {
		.site = c->site, .trust = c->trust, .trust_dir = c->trust_dir,
		.held = c->held, .store = c->store, .cache_dir = c->cache_dir,
		.fills = c->fills, .upstreams = c->upstreams, .sets = c->sets,
		.warm_bytes = c->warm_bytes, .warm_at_once = c->warm_at_once,
		.changed = changed, .news = news,
	};

	if ((f = calloc(1, sizeof(*f))) == NULL)
		return (NULL);
	f->magic = FOLLOW_MAGIC;
	f->conf = *c;
	f->poll_s = c->poll;
	f->polled_ms = INT64_MIN / 2;
	STAILQ_INIT(&f->mail);
	sc.stop = &f->stop;
	sc.interrupt = &f->interrupt;
	sc.arg = f;
	if ((f->sync = sync_new(&sc)) == NULL ||
	    (f->waiters = waiters_new(ASKED_MS)) == NULL ||
	    (f->curious = waiters_new(NEWS_MS)) == NULL) {
		sync_destroy(&f->sync);
		waiters_destroy(&f->waiters);
		free(f);
		return (NULL);
	}
	pthread_mutex_init(&f->lock, NULL);
	clock_cond_init(&f->cond);
	return (f);
}

struct sync *
follow_sync(struct follow *f)
{

	CHECK_OBJ(f, FOLLOW_MAGIC);
	return (f->sync);
}

/*
 * Callbacks of the link's thread.
 */

int
follow_report(void *arg, struct renew *r)
{
	struct follow *f = arg;

	CHECK_OBJ(f, FOLLOW_MAGIC);
	pthread_mutex_lock(&f->lock);
	f->reported = r->sequence;
	pthread_mutex_unlock(&f->lock);
	f->conf.counters(f->conf.arg, r);
	return (sync_report(f->sync, r));
}

/* With the lock held: into the box, unless it is there already. */
static void
post(struct follow *f, const char *set, bool commit, const char *text,
    size_t len)
{
	static struct log_limit limit;
	struct mail *m;

	STAILQ_FOREACH(m, &f->mail, entry)
		if (m->len == len && m->commit == commit &&
		    memcmp(m->text, text, len) == 0)
			return;
	if (len > sizeof(m->text) || f->nmail == MAIL_MAX ||
	    (m = calloc(1, sizeof(*m))) == NULL) {
		if (log_allowed(&limit, 1))
			log_warn("announcement dropped set=%s queued=%zu: the "
			    "next lease reply repeats it", set, f->nmail);
		return;
	}
	memcpy(m->set, set, strlen(set));
	memcpy(m->text, text, len);
	m->commit = commit;
	m->len = len;
	STAILQ_INSERT_TAIL(&f->mail, m, entry);
	f->nmail++;
	pthread_cond_signal(&f->cond);
}

void
follow_announced(void *arg, const char *set, bool commit, const char *text,
    size_t len)
{
	struct follow *f = arg;

	CHECK_OBJ(f, FOLLOW_MAGIC);
	pthread_mutex_lock(&f->lock);
	post(f, set, commit, text, len);
	atomic_store(&f->interrupt, true);
	pthread_mutex_unlock(&f->lock);
}

void
follow_leased(void *arg, const struct lease *l)
{
	struct follow *f = arg;

	CHECK_OBJ(f, FOLLOW_MAGIC);
	pthread_mutex_lock(&f->lock);
	atomic_store(&f->heard, true);
	f->trust = l->trust;
	if (l->sequence > f->outdated) {
		free(f->behind);
		f->nbehind = 0;
		if ((f->behind = calloc(l->nbehind + 1, sizeof(*f->behind))) !=
		    NULL) {
			f->nbehind = l->nbehind;
			if (l->nbehind > 0)
				memcpy(f->behind, l->behind,
				    l->nbehind * sizeof(*f->behind));
			f->behind_new = true;
		}
	}
	pthread_mutex_unlock(&f->lock);
	for (size_t i = 0; i < l->nprepare; i++) {
		if (sync_is_prepared(f->sync, l->prepare[i].text,
		    l->prepare[i].len))
			continue;
		pthread_mutex_lock(&f->lock);
		post(f, "", false, l->prepare[i].text, l->prepare[i].len);
		pthread_mutex_unlock(&f->lock);
	}
	pthread_cond_signal(&f->cond);
}

/*
 * Polling.
 */

/* All heads of a document; false when it is malformed. */
static bool
take_heads(struct follow *f, const char *text, size_t len, const char *from,
    bool *later)
{
	size_t at = 0, span;

	while (at < len && !atomic_load(&f->stop)) {
		if ((span = head_span(text + at, len - at)) == 0) {
			upstream_bad(f->conf.upstreams, from,
			    "heads document is malformed");
			return (false);
		}
		if (sync_head(f->sync, NULL, text + at, span, from) ==
		    SYNC_LATER)
			*later = true;
		at += span;
	}
	return (true);
}

/* Asks upstreams in turn: for the first good answer, or, where the master says
 * that something is missing, until that is found. */
static bool
poll_heads(struct follow *f)
{
	char from[UPSTREAM_URL], *text;
	uint64_t tried = 0;
	bool good = false, later = false, found = false;
	size_t len;

	while (!found && (text = upstream_get(f->conf.upstreams, &tried,
	    "/.pkgcast/heads", HEADS_MAX, HEADS_S, &f->interrupt, &len,
	    from)) != NULL) {
		if (take_heads(f, text, len, from, &later))
			good = true;
		free(text);
		found = good && !sync_is_behind(f->sync);
	}
	if (good && !found && !later && errno != ECANCELED)
		sync_not_found(f->sync);
	return (good && !later);
}

static int64_t
jitter(int64_t ms)
{
	uint32_t r;

	if (ms < JITTER_PART || getentropy(&r, sizeof(r)) == -1)
		return (0);
	return ((int64_t)r % (2 * ms / JITTER_PART) - ms / JITTER_PART);
}

/* With the lock held: when to poll next. */
static void
schedule(struct follow *f, bool good, bool interrupted)
{
	int64_t every_ms = (int64_t)f->poll_s * 1000, again_ms;
	int64_t now = clock_boot_ms();

	f->stats.polls++;
	if (good) {
		f->nfailed = 0;
		atomic_store(&f->heard, true);
		f->stats.last_poll = now;
		f->poll_ms = now + every_ms + jitter(every_ms);
		return;
	}
	if (interrupted) {
		f->poll_ms = now;
		return;
	}
	f->stats.failed++;
	again_ms = AGAIN_MS << (f->nfailed < AGAIN_DOUBLINGS ? f->nfailed++ :
	    AGAIN_DOUBLINGS);
	f->poll_ms = now + (again_ms < every_ms ? again_ms : every_ms);
}

/* Without a link's lease this is also what tells whether we are up to date. */
static void
poll_now(struct follow *f, bool trust)
{
	struct lease_now began = lease_clock();
	uint64_t poll_s;
	bool good;

	pthread_mutex_lock(&f->lock);
	f->polled_ms = began.boot;
	f->asked = false;
	f->polling = true;
	poll_s = f->poll_s;
	pthread_mutex_unlock(&f->lock);
	good = !trust || sync_trust(f->sync, 0);
	good = poll_heads(f) && good;
	if (good && !f->conf.linked)
		leases_polled(f->conf.leases, began,
		    (int64_t)poll_s * 2 * 1000);
	pthread_mutex_lock(&f->lock);
	schedule(f, good, atomic_load(&f->interrupt));
	f->polling = false;
	waiters_wake(f->waiters);
	pthread_mutex_unlock(&f->lock);
}

/*
 * The thread.
 */

/* The oldest announcement, or NULL; emptying the box ends the interruption. */
static struct mail *
next_mail(struct follow *f)
{
	struct mail *m;

	pthread_mutex_lock(&f->lock);
	if ((m = STAILQ_FIRST(&f->mail)) != NULL) {
		STAILQ_REMOVE_HEAD(&f->mail, entry);
		f->nmail--;
	}
	if (STAILQ_EMPTY(&f->mail) && !atomic_load(&f->stop))
		atomic_store(&f->interrupt, false);
	pthread_mutex_unlock(&f->lock);
	return (m);
}

static void
take_mail(struct follow *f, struct mail *m)
{
	const char *set = m->set[0] != '\0' ? m->set : NULL;

	if (m->commit)
		(void)sync_head(f->sync, set, m->text, m->len, "announcement");
	else
		(void)sync_prepare(f->sync, set, m->text, m->len);
	free(m);
}

/* What the last lease reply told; true when something was done. */
static bool
take_reply(struct follow *f)
{
	char (*behind)[SET_NAME_MAX + 1] = NULL;
	uint64_t trust;
	size_t n = 0;
	bool is_new;

	pthread_mutex_lock(&f->lock);
	trust = f->trust;
	f->trust = 0;
	if ((is_new = f->behind_new)) {
		behind = f->behind;
		n = f->nbehind;
		f->behind = NULL;
		f->nbehind = 0;
		f->behind_new = false;
	}
	pthread_mutex_unlock(&f->lock);
	if (is_new)
		sync_behind(f->sync, behind, n);
	free(behind);
	if (trust > trust_version(f->conf.trust))
		(void)sync_trust(f->sync, trust);
	if (is_new && n > 0) {
		poll_now(f, false);
		return (true);
	}
	return (false);
}

/* A master that answers over HTTP and gives no lease: once, why that may be. */
static void
explain_silence(struct follow *f)
{
	int64_t now = clock_boot_ms(), since;
	bool say;

	pthread_mutex_lock(&f->lock);
	since = f->unleased_ms;
	say = since != 0 && f->stats.last_poll >= since &&
	    now - since >= MUTE_MS;
	if (say)
		f->unleased_ms = 0;
	pthread_mutex_unlock(&f->lock);
	if (say)
		log_warn("no lease for %jd s though upstreams answer: answers "
		    "are stale, and news come by polling; are the master's "
		    "announce and lease ports open to this host, is this edge "
		    "in `pkgcast edge list` there, and is public-key in the "
		    "section master still the public_key that "
		    "/.pkgcast/status of the master shows?",
		    (intmax_t)((now - since) / 1000));
}

/* Says when the lease came or went; what went is made up for by polling. */
static void
watch_lease(struct follow *f)
{
	bool fresh = leases_fresh(f->conf.leases, NULL, lease_clock());

	if (fresh == f->fresh) {
		explain_silence(f);
		return;
	}
	if (f->conf.linked)
		log_info(fresh ? "lease held" : "lease lost: answers are stale "
		    "until the master answers again, polling");
	pthread_mutex_lock(&f->lock);
	f->fresh = fresh;
	f->unleased_ms = fresh || !f->conf.linked ? 0 : clock_boot_ms();
	if (!fresh && f->conf.linked)
		f->poll_ms = clock_boot_ms();
	pthread_mutex_unlock(&f->lock);
}

/* A poll that is due, or asked for; true when it was made. */
static bool
take_poll(struct follow *f)
{
	int64_t now = clock_boot_ms();
	bool due;

	pthread_mutex_lock(&f->lock);
	due = (f->asked && now >= f->polled_ms + ASK_MS) ||
	    (now >= f->poll_ms && !(f->conf.linked && f->fresh));
	pthread_mutex_unlock(&f->lock);
	if (due)
		poll_now(f, true);
	return (due);
}

/* When nothing else is to be done; the store may take a while. */
static bool
take_sweep(struct follow *f)
{
	bool due;

	pthread_mutex_lock(&f->lock);
	due = f->sweep_ms != 0 && clock_boot_ms() >= f->sweep_ms;
	if (due)
		f->sweep_ms = 0;
	pthread_mutex_unlock(&f->lock);
	if (due)
		blob_store_sweep(f->conf.store);
	return (due);
}

static void
rest(struct follow *f)
{

	pthread_mutex_lock(&f->lock);
	if (STAILQ_EMPTY(&f->mail) && !f->behind_new && !f->asked &&
	    !atomic_load(&f->stop))
		(void)clock_wait(&f->cond, &f->lock, TICK_MS);
	pthread_mutex_unlock(&f->lock);
}

static void *
run(void *arg)
{
	struct follow *f = arg;
	struct mail *m;

	CHECK_OBJ(f, FOLLOW_MAGIC);
	while (!atomic_load(&f->stop)) {
		if ((m = next_mail(f)) != NULL)
			take_mail(f, m);
		else {
			watch_lease(f);
			if (!take_reply(f) && !take_poll(f) &&
			    !sync_walk(f->sync) && !take_sweep(f))
				rest(f);
		}
	}
	return (NULL);
}

int
follow_start(struct follow *f, struct link *l)
{

	CHECK_OBJ(f, FOLLOW_MAGIC);
	f->link = l;
	f->poll_ms = clock_boot_ms() + (l != NULL ? FIRST_POLL_MS : 0);
	f->unleased_ms = l != NULL ? clock_boot_ms() : 0;
	if (waiters_start(f->waiters) == -1 ||
	    waiters_start(f->curious) == -1 ||
	    (errno = pthread_create(&f->thread, NULL, run, f)) != 0)
		return (-1);
	f->started = true;
	return (0);
}

void
follow_stop(struct follow *f)
{

	CHECK_OBJ(f, FOLLOW_MAGIC);
	if (!f->started)
		return;
	pthread_mutex_lock(&f->lock);
	atomic_store(&f->stop, true);
	atomic_store(&f->interrupt, true);
	pthread_cond_signal(&f->cond);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	sync_stop(f->sync);
	f->started = false;
	waiters_stop(f->waiters);
	waiters_stop(f->curious);
}

void
follow_destroy(struct follow **fp)
{
	struct follow *f = *fp;
	struct mail *m;

	*fp = NULL;
	if (f == NULL)
		return;
	CHECK_OBJ(f, FOLLOW_MAGIC);
	CHECK(!f->started);
	while ((m = STAILQ_FIRST(&f->mail)) != NULL) {
		STAILQ_REMOVE_HEAD(&f->mail, entry);
		free(m);
	}
	free(f->behind);
	sync_destroy(&f->sync);
	pthread_cond_destroy(&f->cond);
	waiters_destroy(&f->waiters);
	waiters_destroy(&f->curious);
	pthread_mutex_destroy(&f->lock);
	explicit_bzero(&f->magic, sizeof(f->magic));
	free(f);
}

/*
 * For HTTP threads and main().
 */

void
follow_configure(struct follow *f, uint64_t poll)
{

	CHECK_OBJ(f, FOLLOW_MAGIC);
	pthread_mutex_lock(&f->lock);
	f->poll_s = poll;
	f->poll_ms = clock_boot_ms();
	pthread_cond_signal(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

bool
follow_ask(struct follow *f, struct waiter *w)
{
	bool waits;

	CHECK_OBJ(f, FOLLOW_MAGIC);
	pthread_mutex_lock(&f->lock);
	waits = !atomic_load(&f->stop) && (f->asked || f->polling ||
	    clock_boot_ms() >= f->polled_ms + ASK_MS);
	if (waits) {
		f->asked = !f->polling;
		waiters_add(f->waiters, w);
		pthread_cond_signal(&f->cond);
	}
	pthread_mutex_unlock(&f->lock);
	return (waits);
}

bool
follow_await(struct follow *f, struct waiter *w, const struct digest *d)
{

	CHECK_OBJ(f, FOLLOW_MAGIC);
	if (atomic_load(&f->stop))
		return (false);
	waiters_add(f->curious, w);
	/* It may have come just before; and a stop, too. */
	if (atomic_load(&f->stop) || sync_named(f->sync, d) != BLOB_UNNAMED)
		waiters_wake(f->curious);
	return (true);
}

void
follow_await_not(struct follow *f, struct waiter *w)
{

	CHECK_OBJ(f, FOLLOW_MAGIC);
	waiters_forget(f->curious, w);
}

void
follow_forget(struct follow *f, struct waiter *w)
{

	CHECK_OBJ(f, FOLLOW_MAGIC);
	waiters_forget(f->waiters, w);
}

bool
follow_heard(const struct follow *f)
{

	return (atomic_load(&f->heard));
}

void
follow_stats(struct follow *f, struct follow_stats *s)
{

	CHECK_OBJ(f, FOLLOW_MAGIC);
	pthread_mutex_lock(&f->lock);
	*s = f->stats;
	pthread_mutex_unlock(&f->lock);
}
