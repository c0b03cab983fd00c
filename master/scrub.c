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

#include "master/scrub.h"
#include "proto/check.h"
#include "proto/fd.h"
#include "proto/log.h"
#include "proto/pace.h"

#define	SCRUB_MAGIC	0x73637275u
#define	REST_MS		3600000		/* between two rounds */
#define	NAMED_MAX	3		/* paths in a message */

struct scrub {
	unsigned	 magic;
	struct store	*store;
	struct site	*site;
	pthread_t	 thread;
	struct pace	 pace;
	struct sha256	*sha;		/* the thread's own, as is piece */
	char		 piece[PACE_PIECE];
};

struct list {
	size_t		 n, size;
	struct digest	*v;
};

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
	int fd, e = 0;

	fd = openat(store_dirfd(s->store), digest_hex(d, hex),
	    O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd == -1) {
		if (errno != ENOENT)
			log_err("scrub blob=%s: %s", hex, strerror(errno));
		return (true);
	}
	if (pace_digest(&s->pace, fd, s->sha, s->piece, &got) == -1)
		e = errno;
	if (e != 0 && e != ECANCELED)
		log_err("scrub blob=%s: cannot be read, check the disk: %s",
		    hex, strerror(e));
	else if (e == 0 && !digest_eq(&got, d))
		found_bad(s, d);
	fd_close(&fd);
	return (e != ECANCELED);
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
			go = pace_rest(&s->pace, 0) && check_one(s, &l.v[i]);
		if (go)
			go = pace_rest(&s->pace, REST_MS);
	}
	free(l.v);
	return (NULL);
}

struct scrub *
scrub_start(struct store *store, struct site *site, uint64_t bytes_per_s,
    struct parse_error *err)
{
	struct scrub *s = check_alloc(calloc(1, sizeof(*s)));
	int e;

	s->magic = SCRUB_MAGIC;
	s->store = store;
	s->site = site;
	s->sha = check_alloc(sha256_new());
	pace_init(&s->pace, bytes_per_s);
	if ((e = pthread_create(&s->thread, NULL, run, s)) == 0)
		return (s);
	(void)parse_fail(err, 0, "thread: %s", strerror(e));
	pace_free(&s->pace);
	sha256_destroy(&s->sha);
	free(s);
	return (NULL);
}

void
scrub_set_rate(struct scrub *s, uint64_t bytes_per_s)
{

	CHECK_OBJ(s, SCRUB_MAGIC);
	pace_set(&s->pace, bytes_per_s);
}

void
scrub_stop(struct scrub **sp)
{
	struct scrub *s = *sp;

	if (s == NULL)
		return;
	*sp = NULL;
	CHECK_OBJ(s, SCRUB_MAGIC);
	pace_stop(&s->pace);
	pthread_join(s->thread, NULL);
	sha256_destroy(&s->sha);
	pace_free(&s->pace);
	explicit_bzero(&s->magic, sizeof(s->magic));
	free(s);
}
