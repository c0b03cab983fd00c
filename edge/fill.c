/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fills and their readers.  Readers come in HTTP threads (serve) and in the
 * follow thread; the slow work on disk at both ends of a fill (making room,
 * checking an old partial file, syncing) is done by a few workers; what lies
 * between is pull.c's.
 */
#include <sys/param.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "edge/pull.h"
#include "proto/check.h"
#include "proto/chunk.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	WORKERS		4u
#define	BUCKETS		256u		/* by the digest's first byte */
#define	WAKE_BATCH	64u
#define	FETCH_LOOK_MS	500		/* fill_fetch() looks at stop */
#define	WARN_BURST	20

TAILQ_HEAD(fill_queue, fill);

struct fills {
	struct blob_store *store;
	struct upstreams *upstreams;
	pthread_mutex_t	 lock;
	pthread_cond_t	 work;
	struct fill_queue opens;	/* in order, urgent ones first */
	struct fill_queue ends;
	LIST_HEAD(, fill) bucket[BUCKETS];
	unsigned	 max, running, queued;
	bool		 stopping;	/* later fills fail */
	bool		 quit;		/* workers end */
	uint64_t	 started, done, failed;
	pthread_t	 worker[WORKERS];
	unsigned	 nworker;
};

static struct log_limit fail_limit, room_limit;

struct upstreams *
fill_upstreams(const struct fill *fl)
{

	return (fl->fills->upstreams);
}

struct blob_store *
fill_store(const struct fill *fl)
{

	return (fl->fills->store);
}

static struct fill *
fill_new(struct fills *f, const struct fill_want *w)
{
	struct fill *fl;
	size_t rows = (size_t)chunk_rows(w->size) * DIGEST_LEN;

	if ((fl = calloc(1, sizeof(*fl))) == NULL)
		return (NULL);
	fl->magic = FILL_MAGIC;
	fl->fills = f;
	fl->digest = w->digest;
	fl->size = w->size;
	fl->fd = -1;
	atomic_init(&fl->refs, 1);
	(void)pthread_mutex_init(&fl->lock, NULL);
	(void)pthread_cond_init(&fl->woken, NULL);
	fl->unit = CHUNK_SIZE;
	if (w->rows == NULL && w->size > CHUNK_SIZE)
		fl->unit = w->size;
	fl->npiece = (size_t)((w->size + fl->unit - 1) / fl->unit);
	if ((fl->have = calloc(fl->npiece / 8 + 1, 1)) == NULL ||
	    (w->set != NULL && (fl->set = strdup(w->set)) == NULL) ||
	    (w->path != NULL && (fl->path = strdup(w->path)) == NULL) ||
	    (w->rows != NULL && rows > 0 &&
	    (fl->rows = malloc(rows)) == NULL)) {
		fill_unref(fl);
		return (NULL);
	}
	if (fl->rows != NULL)
		memcpy(fl->rows, w->rows, rows);
	return (fl);
}

void
fill_unref(struct fill *fl)
{

	if (atomic_fetch_sub(&fl->refs, 1) != 1)
		return;
	CHECK_OBJ(fl, FILL_MAGIC);
	CHECK(LIST_EMPTY(&fl->readers) && LIST_EMPTY(&fl->pulls));
	fd_close(&fl->fd);
	(void)pthread_mutex_destroy(&fl->lock);
	(void)pthread_cond_destroy(&fl->woken);
	free(fl->have);
	free(fl->rows);
	free(fl->set);
	free(fl->path);
	explicit_bzero(&fl->magic, sizeof(fl->magic));
	free(fl);
}

void
fill_fail(struct fill *fl, const char *reason)
{
	char hex[DIGEST_HEX + 1];

	if (fl->stage >= STAGE_WRITTEN)
		return;
	fl->stage = STAGE_FAILED;
	if (log_allowed(&fail_limit, WARN_BURST))
		log_warn("fill failed digest=%s chunks=%zu/%zu: %s",
		    digest_hex(&fl->digest, hex), fl->nhave, fl->npiece,
		    reason);
	pull_cancel(fl);
}

/* The reader need not wait any more.  Fill locked. */
static bool
has_news(const struct fill *fl, const struct fill_reader *r)
{

	if (fl->stage == STAGE_FAILED)
		return (true);
	if (r->whole)
		return (fl->stage == STAGE_DONE);
	return (pull_have(fl, r->piece));
}

/* Takes up to WAKE_BATCH readers to wake.  Fill locked. */
static size_t
take_readers(struct fill *fl, struct fill_reader **batch)
{
	struct fill_reader *r;
	size_t n = 0;

	LIST_FOREACH(r, &fl->readers, link) {
		if (!r->waiting || !has_news(fl, r))
			continue;
		r->waiting = false;
		r->waking++;
		batch[n++] = r;
		if (n == WAKE_BATCH)
			break;
	}
	return (n);
}

/* Hands a fill that is over to a worker; unlocks. */
static void
hand_on(struct fill *fl)
{
	struct fills *f = fl->fills;
	bool end;

	/* A failed fill's last transfer may still write. */
	end = fl->opened && !fl->ending && (fl->stage == STAGE_WRITTEN ||
	    (fl->stage == STAGE_FAILED && fl->npull == 0));
	fl->ending = fl->ending || end;
	(void)pthread_mutex_unlock(&fl->lock);
	if (!end)
		return;
	(void)pthread_mutex_lock(&f->lock);
	TAILQ_INSERT_TAIL(&f->ends, fl, work);
	(void)pthread_cond_signal(&f->work);
	(void)pthread_mutex_unlock(&f->lock);
}

void
fill_leave(struct fill *fl)
{
	struct fill_reader *batch[WAKE_BATCH];
	size_t i, n;

	while ((n = take_readers(fl, batch)) > 0) {
		(void)pthread_mutex_unlock(&fl->lock);
		for (i = 0; i < n; i++)
			batch[i]->wake(batch[i]->arg);
		(void)pthread_mutex_lock(&fl->lock);
		for (i = 0; i < n; i++)
			batch[i]->waking--;
		(void)pthread_cond_broadcast(&fl->woken);
	}
	hand_on(fl);
}

/* The last thing of a fill: out of the table.  In a worker. */
static void
retire(struct fill *fl)
{
	struct fills *f = fl->fills;
	bool done;

	(void)pthread_mutex_lock(&fl->lock);
	CHECK(fl->stage >= STAGE_DONE);
	done = fl->stage == STAGE_DONE;
	(void)pthread_mutex_unlock(&fl->lock);
	(void)pthread_mutex_lock(&f->lock);
	LIST_REMOVE(fl, chain);
	if (done)
		f->done++;
	else
		f->failed++;
	if (fl->counted)
		f->running--;
	(void)pthread_cond_broadcast(&f->work);
	(void)pthread_mutex_unlock(&f->lock);
	(void)pthread_mutex_lock(&fl->lock);
	fill_leave(fl);
	fill_unref(fl);
}

/* Commits, or gives the partial file back.  In a worker. */
static void
end_fill(struct fill *fl)
{
	struct blob_store *s = fl->fills->store;
	bool written, ok = true, keep;

	(void)pthread_mutex_lock(&fl->lock);
	written = fl->stage == STAGE_WRITTEN;
	keep = fl->nhave > 0;
	(void)pthread_mutex_unlock(&fl->lock);
	if (written && fl->partial &&
	    blob_partial_commit(s, &fl->digest, fl->fd) == -1) {
		log_err("fill cannot store a finished file: %s",
		    strerror(errno));
		/* Whether the disk has what we wrote is not sure any more. */
		ok = keep = false;
	}
	if (fl->partial && !(written && ok))
		blob_partial_close(s, &fl->digest, keep);
	(void)pthread_mutex_lock(&fl->lock);
	if (written)
		fl->stage = ok ? STAGE_DONE : STAGE_FAILED;
	(void)pthread_mutex_unlock(&fl->lock);
	retire(fl);
}

/* A blob that the store has already: all of it can be read. */
static int
open_complete(struct fill *fl)
{
	struct blob *b;
	size_t i;
	int fd;

	if ((b = blob_get(fl->fills->store, &fl->digest, fl->size)) == NULL)
		return (-1);
	fd = blob_open(b);
	blob_put(&b);
	if (fd == -1)
		return (-1);
	(void)pthread_mutex_lock(&fl->lock);
	fl->fd = fd;
	for (i = 0; i < fl->npiece; i++)
		fl->have[i / 8] |= (uint8_t)(1u << i % 8);
	fl->nhave = fl->low = fl->npiece;
	(void)pthread_mutex_unlock(&fl->lock);
	return (0);
}

/* A partial file, new or left from earlier. */
static int
open_partial(struct fill *fl)
{
	char hex[DIGEST_HEX + 1];
	bool fresh;
	int fd;

	if ((fd = blob_partial_open(fl->fills->store, &fl->digest, fl->size,
	    &fresh)) == -1) {
		if (log_allowed(&room_limit, 1))
			log_err("fill digest=%s size=%" PRIu64
			    " cannot be stored: %s%s",
			    digest_hex(&fl->digest, hex), fl->size,
			    strerror(errno), errno == ENOSPC ?
			    " (see cache-size and min-free)" : "");
		return (-1);
	}
	(void)pthread_mutex_lock(&fl->lock);
	fl->fd = fd;
	fl->partial = true;
	(void)pthread_mutex_unlock(&fl->lock);
	if (!fresh)
		pull_check_file(fl);
	return (0);
}

/* Nothing to fetch: nothing to verify later either. */
static bool
is_empty_digest(const struct digest *d)
{
	struct digest empty;

	digest_of(&empty, "", 0);
	return (digest_eq(d, &empty));
}

/* Finds or makes a fill's file; NULL or why not. */
static const char *
open_file(struct fill *fl)
{

	if (fl->size == 0 && !is_empty_digest(&fl->digest))
		return ("an empty file has another digest");
	if (open_complete(fl) == -1 && open_partial(fl) == -1)
		return ("there is no place to store it");
	return (NULL);
}

/* Starts a fill whose turn has come.  In a worker. */
static void
open_fill(struct fill *fl)
{
	const char *reason = NULL;
	bool failed;

	(void)pthread_mutex_lock(&fl->lock);
	failed = fl->stage == STAGE_FAILED;
	(void)pthread_mutex_unlock(&fl->lock);
	if (!failed)
		reason = open_file(fl);
	(void)pthread_mutex_lock(&fl->lock);
	if (reason != NULL)
		fill_fail(fl, reason);
	if (fl->stage == STAGE_QUEUED) {
		fl->stage = STAGE_RUNNING;
		pull_schedule(fl);
	}
	/* From now on another worker may end it. */
	fl->opened = true;
	fill_leave(fl);
}

/* The next fill to start.  Locked. */
static struct fill *
next_open(struct fills *f)
{
	struct fill *fl = TAILQ_FIRST(&f->opens);

	if (fl == NULL || (f->running >= f->max && !fl->urgent && !f->stopping))
		return (NULL);
	TAILQ_REMOVE(&f->opens, fl, work);
	f->queued--;
	f->running++;
	fl->counted = true;
	return (fl);
}

static void *
work(void *arg)
{
	struct fills *f = arg;
	struct fill *fl;

	(void)pthread_mutex_lock(&f->lock);
	for (;;) {
		if ((fl = TAILQ_FIRST(&f->ends)) != NULL) {
			TAILQ_REMOVE(&f->ends, fl, work);
			(void)pthread_mutex_unlock(&f->lock);
			end_fill(fl);
		} else if ((fl = next_open(f)) != NULL) {
			(void)pthread_mutex_unlock(&f->lock);
			open_fill(fl);
		} else if (f->quit && f->running == 0)
			break;
		else {
			(void)pthread_cond_wait(&f->work, &f->lock);
			continue;
		}
		(void)pthread_mutex_lock(&f->lock);
	}
	(void)pthread_mutex_unlock(&f->lock);
	return (NULL);
}

struct fills *
fills_new(struct blob_store *s, struct upstreams *u, const struct edge_conf *c)
{
	struct fills *f;
	int e;

	if ((f = calloc(1, sizeof(*f))) == NULL)
		return (NULL);
	f->store = s;
	f->upstreams = u;
	TAILQ_INIT(&f->opens);
	TAILQ_INIT(&f->ends);
	(void)pthread_mutex_init(&f->lock, NULL);
	(void)pthread_cond_init(&f->work, NULL);
	fills_configure(f, c);
	for (; f->nworker < WORKERS; f->nworker++)
		if ((e = pthread_create(&f->worker[f->nworker], NULL, work,
		    f)) != 0) {
			fills_destroy(&f);
			errno = e;
			return (NULL);
		}
	return (f);
}

void
fills_configure(struct fills *f, const struct edge_conf *c)
{

	(void)pthread_mutex_lock(&f->lock);
	f->max = (unsigned)MAX(1, MIN(c->fills, UINT16_MAX));
	(void)pthread_cond_broadcast(&f->work);
	(void)pthread_mutex_unlock(&f->lock);
}

/* Any fill of the table that has not ended, with a reference.  Locked. */
static struct fill *
any_alive(struct fills *f)
{
	struct fill *fl;
	unsigned i;
	bool alive;

	for (i = 0; i < BUCKETS; i++)
		LIST_FOREACH(fl, &f->bucket[i], chain) {
			(void)pthread_mutex_lock(&fl->lock);
			alive = fl->stage < STAGE_WRITTEN;
			(void)pthread_mutex_unlock(&fl->lock);
			if (alive) {
				atomic_fetch_add(&fl->refs, 1);
				return (fl);
			}
		}
	return (NULL);
}

void
fills_stop(struct fills *f)
{
	struct fill *fl;

	(void)pthread_mutex_lock(&f->lock);
	f->stopping = true;
	(void)pthread_cond_broadcast(&f->work);
	while ((fl = any_alive(f)) != NULL) {
		(void)pthread_mutex_unlock(&f->lock);
		(void)pthread_mutex_lock(&fl->lock);
		fill_fail(fl, "stopping");
		fill_leave(fl);
		fill_unref(fl);
		(void)pthread_mutex_lock(&f->lock);
	}
	(void)pthread_mutex_unlock(&f->lock);
}

void
fills_destroy(struct fills **fp)
{
	struct fills *f = *fp;
	unsigned i;

	if (f == NULL)
		return;
	*fp = NULL;
	fills_stop(f);
	(void)pthread_mutex_lock(&f->lock);
	f->quit = true;
	(void)pthread_cond_broadcast(&f->work);
	(void)pthread_mutex_unlock(&f->lock);
	for (i = 0; i < f->nworker; i++)
		(void)pthread_join(f->worker[i], NULL);
	(void)pthread_cond_destroy(&f->work);
	(void)pthread_mutex_destroy(&f->lock);
	free(f);
}

void
fills_stats(struct fills *f, struct fills_stats *st)
{

	(void)pthread_mutex_lock(&f->lock);
	*st = (struct fills_stats){
		.started = f->started, .done = f->done, .failed = f->failed,
		.running = f->running, .queued = f->queued,
	};
	(void)pthread_mutex_unlock(&f->lock);
}

/* The fill of a digest, with a reference; a new one if need be.  Locked. */
static struct fill *
join(struct fills *f, const struct fill_want *w, bool urgent, bool *joined)
{
	struct fill *fl;

	*joined = true;
	if (f->stopping)
		return (NULL);
	LIST_FOREACH(fl, &f->bucket[w->digest.b[0]], chain)
		if (digest_eq(&fl->digest, &w->digest))
			break;
	if (fl != NULL && fl->size != w->size)
		return (NULL);
	if (fl == NULL) {
		*joined = false;
		if ((fl = fill_new(f, w)) == NULL)
			return (NULL);
		LIST_INSERT_HEAD(&f->bucket[w->digest.b[0]], fl, chain);
		TAILQ_INSERT_TAIL(&f->opens, fl, work);
		f->queued++;
		f->started++;
	}
	atomic_fetch_add(&fl->refs, 1);
	if (urgent && !fl->urgent) {
		(void)pthread_mutex_lock(&fl->lock);
		fl->urgent = true;
		(void)pthread_mutex_unlock(&fl->lock);
		if (!fl->counted) {
			TAILQ_REMOVE(&f->opens, fl, work);
			TAILQ_INSERT_HEAD(&f->opens, fl, work);
		}
	}
	(void)pthread_cond_signal(&f->work);
	return (fl);
}

/* piece: the first one that it needs. */
static struct fill_reader *
reader_new(struct fills *f, const struct fill_want *w, bool whole,
    uint64_t off, uint64_t end, void (*wake)(void *), void *arg)
{
	struct fill_reader *r;

	if ((r = calloc(1, sizeof(*r))) == NULL)
		return (NULL);
	r->end = end;
	r->wake = wake;
	r->arg = arg;
	r->whole = whole;
	(void)pthread_mutex_lock(&f->lock);
	r->fill = join(f, w, whole, &r->joined);
	(void)pthread_mutex_unlock(&f->lock);
	if (r->fill == NULL) {
		free(r);
		return (NULL);
	}
	(void)pthread_mutex_lock(&r->fill->lock);
	r->piece = (size_t)(off / r->fill->unit);
	LIST_INSERT_HEAD(&r->fill->readers, r, link);
	(void)pthread_mutex_unlock(&r->fill->lock);
	return (r);
}

struct fill_reader *
fill_reader_new(struct fills *f, const struct fill_want *w, uint64_t off,
    uint64_t len, void (*wake)(void *arg), void *arg)
{

	CHECK(len > 0 && off < w->size && len <= w->size - off);
	return (reader_new(f, w, false, off, off + len, wake, arg));
}

void
fill_reader_destroy(struct fill_reader **rp)
{
	struct fill_reader *r = *rp;
	struct fill *fl;

	if (r == NULL)
		return;
	*rp = NULL;
	fl = r->fill;
	(void)pthread_mutex_lock(&fl->lock);
	r->waiting = false;
	while (r->waking > 0)
		(void)pthread_cond_wait(&fl->woken, &fl->lock);
	LIST_REMOVE(r, link);
	(void)pthread_mutex_unlock(&fl->lock);
	fill_unref(fl);
	free(r);
}

bool
fill_reader_collapsed(const struct fill_reader *r)
{

	return (r->joined);
}

/* Looks whether `piece` is there; if not, waits for it. */
static enum fill_state
look(struct fill_reader *r, size_t piece)
{
	struct fill *fl = r->fill;
	enum fill_state state = FILL_WAIT;

	CHECK_OBJ(fl, FILL_MAGIC);
	(void)pthread_mutex_lock(&fl->lock);
	r->piece = piece;
	r->waiting = false;
	if (fl->stage == STAGE_FAILED)
		state = FILL_FAILED;
	else if (r->whole ? fl->stage == STAGE_DONE : pull_have(fl, piece))
		state = FILL_READY;
	else {
		r->waiting = true;
		if (!r->whole)
			pull_want(fl, piece, pull_reader_end(fl, r));
		if (fl->stage == STAGE_FAILED)
			state = FILL_FAILED;
	}
	if (state != FILL_WAIT)
		r->waiting = false;
	/* Wakes nobody: this may be called with an HTTP server's locks held. */
	hand_on(fl);
	return (state);
}

enum fill_state
fill_reader_state(struct fill_reader *r)
{

	return (look(r, r->piece));
}

ssize_t
fill_reader_read(struct fill_reader *r, uint64_t off, void *p, size_t max)
{
	const struct fill *fl = r->fill;
	size_t piece;
	uint64_t end;
	ssize_t n;

	CHECK(off < r->end);
	piece = (size_t)(off / fl->unit);
	switch (look(r, piece)) {
	case FILL_WAIT:
		return (HTTPD_WAIT);
	case FILL_FAILED:
		return (HTTPD_FAIL);
	case FILL_READY:
		break;
	}
	end = MIN(r->end, (piece + 1) * fl->unit);
	while ((n = pread(fl->fd, p, (size_t)MIN(max, end - off),
	    (off_t)off)) == -1 && errno == EINTR)
		;
	if (n > 0)
		return (n);
	log_err("fill cannot read its file: %s",
	    n == 0 ? "it became shorter" : strerror(errno));
	return (HTTPD_FAIL);
}

/* A thread that waits for a whole fill. */
struct waiter {
	pthread_mutex_t	lock;
	pthread_cond_t	cond;
	bool		woken;
};

static void
wake_waiter(void *arg)
{
	struct waiter *w = arg;

	(void)pthread_mutex_lock(&w->lock);
	w->woken = true;
	(void)pthread_cond_signal(&w->cond);
	(void)pthread_mutex_unlock(&w->lock);
}

/* Until woken, or for a while. */
static void
wait_woken(struct waiter *w)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += FETCH_LOOK_MS * 1000000L;
	t.tv_sec += t.tv_nsec / 1000000000L;
	t.tv_nsec %= 1000000000L;
	(void)pthread_mutex_lock(&w->lock);
	while (!w->woken && pthread_cond_timedwait(&w->cond, &w->lock,
	    &t) == 0)
		;
	w->woken = false;
	(void)pthread_mutex_unlock(&w->lock);
}

/* 0, or an error number. */
static int
wait_whole(struct fill_reader *r, struct waiter *w, int64_t deadline,
    const atomic_bool *stop)
{

	for (;;) {
		switch (look(r, 0)) {
		case FILL_READY:
			return (0);
		case FILL_FAILED:
			return (EIO);
		case FILL_WAIT:
			break;
		}
		if (stop != NULL && atomic_load(stop))
			return (ECANCELED);
		if (clock_boot_ms() >= deadline)
			return (ETIMEDOUT);
		wait_woken(w);
	}
}

/* Waits for a fill; 0, or an error number. */
static int
fetch(struct fills *f, const struct fill_want *want, unsigned timeout_s,
    const atomic_bool *stop)
{
	struct waiter w = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct fill_reader *r;
	pthread_condattr_t a;
	bool stopping;
	int e = EIO;

	(void)pthread_condattr_init(&a);
	(void)pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&w.cond, &a);
	(void)pthread_condattr_destroy(&a);
	if ((r = reader_new(f, want, true, 0, want->size, wake_waiter,
	    &w)) != NULL)
		e = wait_whole(r, &w, clock_boot_ms() +
		    (int64_t)timeout_s * 1000, stop);
	fill_reader_destroy(&r);
	(void)pthread_cond_destroy(&w.cond);
	(void)pthread_mutex_lock(&f->lock);
	stopping = f->stopping;
	(void)pthread_mutex_unlock(&f->lock);
	return (e != 0 && stopping ? ECANCELED : e);
}

int
fill_fetch(struct fills *f, const struct fill_want *want, unsigned timeout_s,
    const atomic_bool *stop, struct blob **b)
{
	int e = 0;

	*b = blob_get(f->store, &want->digest, want->size);
	if (*b == NULL && (e = fetch(f, want, timeout_s, stop)) == 0 &&
	    (*b = blob_get(f->store, &want->digest, want->size)) == NULL)
		e = EIO;
	/* What is fetched this way is what a head will be accepted with. */
	if (*b != NULL && blob_sync(*b) == -1) {
		e = errno;
		blob_put(b);
	}
	errno = e;
	return (e == 0 ? 0 : -1);
}
