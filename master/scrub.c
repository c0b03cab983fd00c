/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scrubbing: a thread that reads every blob at a bounded rate and compares it
 * with its name.  A bad one is taken out of the store, so that the origin does
 * not serve it and the next publish that names it uploads it again.  It takes
 * no lock while it reads.  Started and stopped by main.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "master/scrub.h"
#include "proto/check.h"
#include "proto/digest.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	SCRUB_MAGIC	0x73637275u
#define	PIECE		65536		/* bytes read at once */
#define	REST_MS		3600000		/* between two rounds */
#define	PAUSED_MS	10000		/* looks whether it may go on */
#define	NAMED_MAX	3		/* paths in a message */

struct scrub {
	unsigned	 magic;
	struct store	*store;
	struct site	*site;
	pthread_t	 thread;
	pthread_mutex_t	 lock;		/* guards stop and rate */
	pthread_cond_t	 change;
	bool		 stop;
	uint64_t	 rate;		/* bytes a second */
	struct sha256	*sha;		/* the thread's own, as is piece */
	char		 piece[PIECE];
};

struct list {
	size_t		 n, size;
	struct digest	*v;
};

/* Sleeps; false: stop. */
static bool
rest(struct scrub *s, int64_t ms)
{
	struct timespec ts;
	bool go;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += (time_t)(ms / 1000);
	ts.tv_nsec += (long)(ms % 1000) * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&s->lock);
	while (!s->stop && pthread_cond_timedwait(&s->change, &s->lock,
	    &ts) == 0)
		continue;
	go = !s->stop;
	pthread_mutex_unlock(&s->lock);
	return (go);
}

/* The pause that n bytes cost, and one as long as the rate is 0. */
static bool
pay(struct scrub *s, size_t n)
{
	uint64_t rate;

	for (;;) {
		pthread_mutex_lock(&s->lock);
		rate = s->rate;
		pthread_mutex_unlock(&s->lock);
		if (rate > 0)
			return (rest(s, (int64_t)(n * 1000 / rate)));
		if (!rest(s, PAUSED_MS))
			return (false);
	}
}

/*
 * Where the operator finds the blob: paths of current generations that have it,
 * or what else names it.
 */
static void
log_named(struct scrub *s, const struct digest *d)
{
	const struct site_view *view = site_enter(s->site);
	const struct site_set *set;
	const struct manifest *m;
	const struct head *h;
	struct entry *e;
	size_t i, n = 0;
	ssize_t at;

	if ((e = malloc(sizeof(*e))) == NULL) {
		site_leave(s->site);
		return;
	}
	for (i = 0; i < site_nsets(view) && n < NAMED_MAX; i++) {
		set = site_nth(view, i);
		m = snapshot_manifest(set->current);
		h = snapshot_head(set->current);
		if ((at = manifest_find_digest(m, d)) != -1) {
			manifest_entry(m, (size_t)at, e);
			log_err("scrub: it was set=%s path=%s", set->name,
			    e->path);
			n++;
		} else if (digest_eq(d, &h->manifest) ||
		    digest_eq(d, &h->chunks)) {
			log_err("scrub: it was the %s of set=%s generation=%llu",
			    digest_eq(d, &h->manifest) ? "manifest" :
			    "chunk table", set->name,
			    (unsigned long long)h->generation);
			n++;
		}
	}
	site_leave(s->site);
	free(e);
}

static void
found_bad(struct scrub *s, const struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	log_err("scrub blob=%s: its content is not what was published; it is "
	    "taken out of the store and not served any more: check the disk, "
	    "then run `pkgcast publish` again, which uploads it",
	    digest_hex(d, hex));
	log_named(s, d);
	if (store_remove(s->store, d) == -1 && errno != ENOENT)
		log_err("scrub blob=%s: cannot be removed: %s", hex,
		    strerror(errno));
}

/* Reads one blob to its end; false: stop. */
static bool
check_one(struct scrub *s, const struct digest *d)
{
	char hex[DIGEST_HEX + 1];
	struct digest got;
	bool go = true;
	ssize_t n;
	int fd;

	fd = openat(store_dirfd(s->store), digest_hex(d, hex),
	    O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd == -1) {
		if (errno != ENOENT)
			log_err("scrub blob=%s: %s", hex, strerror(errno));
		return (true);
	}
	while (go && (n = read(fd, s->piece, PIECE)) > 0) {
		sha256_add(s->sha, s->piece, (size_t)n);
		go = pay(s, (size_t)n);
	}
	sha256_end(s->sha, &got);
	if (go && n == -1)
		log_err("scrub blob=%s: cannot be read, check the disk: %s",
		    hex, strerror(errno));
	else if (go && !digest_eq(&got, d))
		found_bad(s, d);
	fd_close(&fd);
	return (go);
}

static int
note(void *arg, const struct digest *d)
{
	struct list *l = arg;
	struct digest *v;
	size_t size;

	if (l->n == l->size) {
		size = l->size == 0 ? 1024 : l->size * 2;
		if ((v = realloc(l->v, size * sizeof(*v))) == NULL)
			return (-1);
		l->v = v;
		l->size = size;
	}
	l->v[l->n++] = *d;
	return (0);
}

static void *
run(void *arg)
{
	struct scrub *s = arg;
	struct list l = { .v = NULL };
	bool go = true;
	size_t i;

	CHECK_OBJ(s, SCRUB_MAGIC);
	while (go) {
		l.n = 0;
		if (store_each(s->store, note, &l) != 0)
			log_warn("scrub: blobs cannot be listed: %s",
			    strerror(errno));
		for (i = 0; i < l.n && go; i++)
			go = pay(s, 0) && check_one(s, &l.v[i]);
		if (go)
			go = rest(s, REST_MS);
	}
	free(l.v);
	return (NULL);
}

struct scrub *
scrub_start(struct store *store, struct site *site, uint64_t bytes_per_s,
    struct parse_error *err)
{
	struct scrub *s = check_alloc(calloc(1, sizeof(*s)));
	pthread_condattr_t attr;
	int e;

	s->magic = SCRUB_MAGIC;
	s->store = store;
	s->site = site;
	s->rate = bytes_per_s;
	s->sha = check_alloc(sha256_new());
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->change, &attr);
	pthread_condattr_destroy(&attr);
	if ((e = pthread_create(&s->thread, NULL, run, s)) == 0)
		return (s);
	(void)parse_fail(err, 0, "thread: %s", strerror(e));
	sha256_destroy(&s->sha);
	free(s);
	return (NULL);
}

void
scrub_set_rate(struct scrub *s, uint64_t bytes_per_s)
{

	CHECK_OBJ(s, SCRUB_MAGIC);
	pthread_mutex_lock(&s->lock);
	s->rate = bytes_per_s;
	pthread_mutex_unlock(&s->lock);
}

void
scrub_stop(struct scrub **sp)
{
	struct scrub *s = *sp;

	if (s == NULL)
		return;
	*sp = NULL;
	CHECK_OBJ(s, SCRUB_MAGIC);
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->change);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	sha256_destroy(&s->sha);
	pthread_cond_destroy(&s->change);
	pthread_mutex_destroy(&s->lock);
	explicit_bzero(&s->magic, sizeof(s->magic));
	free(s);
}
