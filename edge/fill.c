/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fills and their readers.  Readers come in HTTP threads (serve) and in the
 * follow thread; the slow work (making room, checking an old partial file,
 * verifying and writing what comes, syncing) is done by a few workers; which
 * transfers bring it is pull.c's.
 */
#include <sys/param.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
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

#define	WORKERS		8u
#define	BUCKETS		256u		/* by the digest's first byte */
#define	WARN_BURST	20
#define	UNSTORED_MS	10000		/* then the store is tried again */
#define	HOLD_MAX	(64u << 20)	/* bytes of fills in memory, at once */

TAILQ_HEAD(fill_queue, fill);

struct fills {
	struct blob_store *store;
	struct upstreams *upstreams;
	pthread_mutex_t	 lock;
	pthread_cond_t	 work;
	struct fill_queue opens;	/* in order, urgent ones first */
	struct fill_queue ends;
	TAILQ_HEAD(, pull) pieces;	/* to be verified and written */
	pthread_cond_t	 written;	/* a worker is through with one */
	LIST_HEAD(, fill) bucket[BUCKETS];
	unsigned	 max, running, queued;
	unsigned	 nchecking;	/* workers that look at files */
	unsigned	 nkeeping;	/* workers that verify and write */
	unsigned	 max_clients;	/* of one fill */
	atomic_bool	 finish;	/* without clients, too */
	atomic_uint	 nunstored;	/* of running; they count no more */
	_Atomic uint64_t held;		/* bytes of those in memory */
	bool		 stopping;	/* later fills fail */
	bool		 quit;		/* workers end */
	uint64_t	 started, done, failed, unstored, left;
	pthread_t	 worker[WORKERS];
	unsigned	 nworker;
};

static struct log_limit fail_limit, store_limit, unstored_limit, room_limit;

struct upstreams *
fill_upstreams(const struct fill *fl)
{

	return (fl->plain != NULL ? fill_plain_upstreams(fl->plain) :
	    fl->fills->upstreams);
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
	fl->stored = blob_have(f->store, &w->digest);
	fl->on_disk = fl->stored || blob_partial_have(f->store, &w->digest);
	fl->local = w->local;
	fl->fd = -1;
	atomic_init(&fl->refs, 1);
	(void)pthread_mutex_init(&fl->lock, NULL);
	(void)pthread_cond_init(&fl->woken, NULL);
	TAILQ_INIT(&fl->waiting);
	fl->unit = CHUNK_SIZE;
	if (w->rows == NULL && w->plain == NULL && w->size > CHUNK_SIZE)
		fl->unit = w->size;
	fl->npiece = (size_t)((w->size + fl->unit - 1) / fl->unit);
	if ((fl->have = calloc(fl->npiece / 8 + 1, 1)) == NULL ||
	    (w->set != NULL && (fl->set = strdup(w->set)) == NULL) ||
	    (w->path != NULL && (fl->path = strdup(w->path)) == NULL) ||
	    (w->plain != NULL &&
	    (fl->plain = fill_plain_new(w->plain)) == NULL) ||
	    (w->rows != NULL && rows > 0 &&
	    (fl->rows = malloc(rows)) == NULL)) {
		fill_unref(fl);
		return (NULL);
	}
	if (fl->rows != NULL)
		memcpy(fl->rows, w->rows, rows);
	return (fl);
}

struct blob_store *
fills_store(const struct fills *f)
{

	return (f->store);
}

bool
fills_stopping(struct fills *f)
{
	bool stopping;

	(void)pthread_mutex_lock(&f->lock);
	stopping = f->stopping;
	(void)pthread_mutex_unlock(&f->lock);
	return (stopping);
}

void
fill_unref(struct fill *fl)
{

	if (atomic_fetch_sub(&fl->refs, 1) != 1)
		return;
	CHECK_OBJ(fl, FILL_MAGIC);
	CHECK(fl->nreader == 0 && LIST_EMPTY(&fl->pulls));
	unstored_destroy(&fl->unstored);
	if (fl->in_memory)
		atomic_fetch_sub(&fl->fills->held, fl->size);
	free(fl->bytes);
	fill_plain_destroy(&fl->plain);
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

const char *
fill_name(const struct fill *fl, char out[FILL_NAME])
{
	char hex[DIGEST_HEX + 1];

	if (fl->plain != NULL)
		(void)snprintf(out, FILL_NAME, "file=%s", fl->path);
	else
		(void)snprintf(out, FILL_NAME, "digest=%s",
		    digest_hex(&fl->digest, hex));
	return (out);
}

bool
fill_hold(struct fill *fl)
{
	struct fills *f = fl->fills;

	CHECK(fl->fd == -1 && fl->npull <= 1 && !fl->in_memory);
	/* What a crash left between writing and renaming is all there. */
	if (fl->on_disk || fl->size > CHUNK_SIZE)
		return (false);
	if (atomic_fetch_add(&f->held, fl->size) + fl->size > HOLD_MAX) {
		atomic_fetch_sub(&f->held, fl->size);
		return (false);
	}
	(void)pthread_mutex_lock(&fl->lock);
	fl->in_memory = true;
	(void)pthread_mutex_unlock(&fl->lock);
	return (true);
}

bool
fill_store_held(const struct fill *fl, const struct digest *content)
{

	CHECK(fl->in_memory);
	if (blob_partial_whole(fl->fills->store, content, fl->bytes,
	    fl->size) == 0)
		return (true);
	fill_not_stored(fl);
	return (false);
}

void
fill_not_stored(const struct fill *fl)
{
	char name[FILL_NAME];
	int e = errno;

	if (log_allowed(&room_limit, 1))
		log_err("fill %s size=%" PRIu64 " cannot be stored: %s%s",
		    fill_name(fl, name), fl->size, strerror(e), e == ENOSPC ?
		    " (see cache-size and min-free)" : "");
}

void
fill_fail(struct fill *fl, const char *reason)
{
	char name[FILL_NAME];

	if (fl->stage >= STAGE_WRITTEN)
		return;
	fl->stage = STAGE_FAILED;
	if (log_allowed(&fail_limit, WARN_BURST))
		log_warn("fill failed %s chunks=%zu/%zu: %s",
		    fill_name(fl, name), fl->nhave, fl->npiece, reason);
	pull_cancel(fl);
}

/* Whether the disk has what we wrote is not sure any more. */
static void
forget_pieces(struct fill *fl)
{

	memset(fl->have, 0, fl->npiece / 8 + 1);
	fl->nhave = fl->low = 0;
}

bool
fill_unstore(struct fill *fl)
{
	char name[FILL_NAME];
	struct fills *f = fl->fills;
	struct pull *pl;

	CHECK(!fl->in_memory);
	if (fl->unstored != NULL)
		return (true);
	/* What is verified as a whole only must be somewhere until then. */
	if (fl->unit > CHUNK_SIZE || fl->local)
		return (false);
	if (atomic_fetch_add(&f->nunstored, 1) >= UNSTORED_FILLS ||
	    (fl->unstored = unstored_new()) == NULL) {
		atomic_fetch_sub(&f->nunstored, 1);
		return (false);
	}
	fl->unstored_ms = clock_boot_ms();
	forget_pieces(fl);
	/* Those that can be had once only come all. */
	if (fl->plain == NULL || fill_plain_resumes(fl->plain))
		LIST_FOREACH(pl, &fl->pulls, link)
			pl->end = MIN(pl->end,
			    pl->piece.number + UNSTORED_AHEAD);
	if (log_allowed(&unstored_limit, WARN_BURST))
		log_warn("fill %s goes on without the cache",
		    fill_name(fl, name));
	return (true);
}

/* What is not stored ends with its readers; other fills do if so set. */
static void
end_left(struct fill *fl)
{

	if (fl->nreader > 0 || !fl->opened || fl->stage != STAGE_RUNNING ||
	    (fl->unstored == NULL && atomic_load(&fl->fills->finish)))
		return;
	fl->stage = STAGE_FAILED;
	fl->over = true;
	pull_cancel(fl);
}

/* Whether end_fill() has something to do.  Locked. */
static bool
is_to_end(const struct fill *fl)
{

	if (!fl->opened || fl->ending)
		return (false);
	switch (fl->stage) {
	case STAGE_RUNNING:
		return (fl->unstored != NULL && fl->partial);
	case STAGE_WRITTEN:
		return (true);
	case STAGE_FAILED:		/* the last transfer may still write */
		return (fl->npull == 0);
	default:
		return (false);
	}
}

void
fill_hand_on(struct fill *fl)
{
	struct fills *f = fl->fills;
	bool end;

	end_left(fl);
	end = is_to_end(fl);
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

	fill_wake(fl);
	fill_hand_on(fl);
}

/*
 * A fill that waits may be opened now; the worker that calls this looks for one
 * itself, when it has nothing to end.  Locked.
 */
static void
made_room(struct fills *f)
{

	if (f->quit)
		(void)pthread_cond_broadcast(&f->work);
	else if (!TAILQ_EMPTY(&f->opens))
		(void)pthread_cond_signal(&f->work);
}

/* The last thing of a fill: out of the table.  In a worker. */
static void
retire(struct fill *fl)
{
	struct fills *f = fl->fills;
	uint64_t *outcome;

	(void)pthread_mutex_lock(&fl->lock);
	CHECK(fl->stage >= STAGE_DONE);
	if (fl->unstored != NULL)
		atomic_fetch_sub(&f->nunstored, 1);
	if (fl->stage == STAGE_DONE)
		outcome = fl->asked ? &f->done : NULL;
	else if (!fl->over)
		outcome = &f->failed;
	else
		outcome = fl->unstored != NULL || fl->bytes != NULL ?
		    &f->unstored : &f->left;
	(void)pthread_mutex_unlock(&fl->lock);
	if (fl->plain != NULL)
		fill_plain_end(fl->plain);
	(void)pthread_mutex_lock(&f->lock);
	LIST_REMOVE(fl, chain);
	if (outcome != NULL)
		(*outcome)++;
	if (fl->counted)
		f->running--;
	made_room(f);
	(void)pthread_mutex_unlock(&f->lock);
	(void)pthread_mutex_lock(&fl->lock);
	fill_leave(fl);
	fill_unref(fl);
}

/*
 * What goes on without the store gives its partial file back at once: another
 * fill may try again.  In a worker.
 */
static void
give_back(struct fill *fl)
{
	struct fills *f = fl->fills;

	blob_partial_close(f->store, &fl->digest, false);
	(void)pthread_mutex_lock(&fl->lock);
	fl->partial = fl->ending = false;
	fill_leave(fl);
	(void)pthread_mutex_lock(&f->lock);
	made_room(f);
	(void)pthread_mutex_unlock(&f->lock);
}

/* The file is no good, and its readers are not through. */
static bool
go_on_unstored(struct fill *fl)
{
	bool ok;

	(void)pthread_mutex_lock(&fl->lock);
	if ((ok = fill_unstore(fl)))
		fl->stage = STAGE_RUNNING;
	(void)pthread_mutex_unlock(&fl->lock);
	if (ok)
		give_back(fl);
	return (ok);
}

/* All of it into the store. */
static bool
commit(struct fill *fl)
{

	if (fl->in_memory)
		return (fill_store_held(fl, &fl->digest));
	if (blob_partial_commit(fl->fills->store, &fl->digest, fl->fd) == 0)
		return (true);
	if (log_allowed(&store_limit, WARN_BURST))
		log_err("fill cannot store a finished file: %s",
		    strerror(errno));
	return (false);
}

/* Commits, or gives the partial file back.  In a worker. */
static void
end_fill(struct fill *fl)
{
	struct blob_store *s = fl->fills->store;
	struct blob *b;
	bool written, ok, keep, partial, spoiled;

	(void)pthread_mutex_lock(&fl->lock);
	/* Unstored; it may have failed since it was handed on. */
	if (fl->stage == STAGE_RUNNING ||
	    (fl->stage == STAGE_FAILED && fl->npull > 0)) {
		(void)pthread_mutex_unlock(&fl->lock);
		give_back(fl);
		return;
	}
	written = fl->stage == STAGE_WRITTEN;
	ok = !fl->spoiled;
	keep = fl->nhave > 0 && fl->unstored == NULL && ok &&
	    fl->plain == NULL;
	partial = fl->partial;
	(void)pthread_mutex_unlock(&fl->lock);
	/* What nobody can be asked for again need not be in the store. */
	if (written && ok && (partial || fl->in_memory)) {
		if (fl->plain != NULL) {
			fill_plain_commit(fl);
			partial = false;
		} else if (!commit(fl)) {
			ok = keep = false;
			/* What is in memory needs no other place. */
			if (!fl->in_memory && go_on_unstored(fl))
				return;
		}
	}
	if (partial && !(written && ok))
		blob_partial_close(s, &fl->digest, keep);
	(void)pthread_mutex_lock(&fl->lock);
	if (written)
		fl->stage = ok ? STAGE_DONE : STAGE_FAILED;
	if (!ok && !fl->in_memory)
		forget_pieces(fl);
	if (!ok && fl->in_memory)
		fl->over = true;
	fl->partial = false;
	spoiled = ok && fl->spoiled;
	(void)pthread_mutex_unlock(&fl->lock);
	if (spoiled && (b = blob_get(s, &fl->digest, fl->size)) != NULL)
		blob_drop(&b);
	retire(fl);
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
		reason = fill_open_file(fl);
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

/* Another fill of the same digest has the partial file still, or will drop what is
 * bad.  Locked. */
static bool
has_elder(const struct fill *fl)
{
	struct fill *e = LIST_NEXT(fl, chain);
	bool has = false;

	for (; e != NULL && !has; e = LIST_NEXT(e, chain)) {
		if (!digest_eq(&e->digest, &fl->digest))
			continue;
		(void)pthread_mutex_lock(&e->lock);
		has = e->partial || e->local;
		(void)pthread_mutex_unlock(&e->lock);
	}
	return (has);
}

/*
 * What the store has waits for no upstream.  But to look at a large file takes long:
 * half of the workers are kept for all else.  Locked.
 */
static bool
may_open(const struct fills *f, const struct fill *fl, bool full)
{

	if (fl->urgent || f->stopping)
		return (true);
	if (fl->on_disk && f->nchecking >= WORKERS / 2)
		return (false);
	return (!full || fl->stored);
}

/* The next fill to start.  Locked. */
static struct fill *
next_open(struct fills *f)
{
	bool full = f->running - MIN(f->running,
	    atomic_load(&f->nunstored)) >= f->max;
	struct fill *fl;

	TAILQ_FOREACH(fl, &f->opens, work)
		if (may_open(f, fl, full) && !has_elder(fl))
			break;
	if (fl == NULL)
		return (NULL);
	TAILQ_REMOVE(&f->opens, fl, work);
	f->nchecking += fl->on_disk;
	f->queued--;
	f->running++;
	fl->counted = true;
	return (fl);
}

void
fill_hand_piece(struct pull *pl)
{
	struct fills *f = pl->fill->fills;

	(void)pthread_mutex_lock(&f->lock);
	CHECK(pl->state == BEHIND_OURS);
	pl->state = BEHIND_QUEUED;
	TAILQ_INSERT_TAIL(&f->pieces, pl, work);
	(void)pthread_cond_signal(&f->work);
	(void)pthread_mutex_unlock(&f->lock);
}

bool
fill_piece_is_ours(struct pull *pl)
{
	struct fills *f = pl->fill->fills;
	bool ours;

	(void)pthread_mutex_lock(&f->lock);
	ours = pl->state == BEHIND_OURS;
	(void)pthread_mutex_unlock(&f->lock);
	return (ours);
}

bool
fill_take_back(struct pull *pl)
{
	struct fills *f = pl->fill->fills;
	bool queued;

	(void)pthread_mutex_lock(&f->lock);
	if ((queued = pl->state == BEHIND_QUEUED)) {
		TAILQ_REMOVE(&f->pieces, pl, work);
		pl->state = BEHIND_OURS;
	}
	while (pl->state == BEHIND_TAKEN)
		(void)pthread_cond_wait(&f->written, &f->lock);
	(void)pthread_mutex_unlock(&f->lock);
	return (queued);
}

/* Locked; unlocked meanwhile. */
static void
keep_piece(struct fills *f, struct pull *pl)
{

	TAILQ_REMOVE(&f->pieces, pl, work);
	pl->state = BEHIND_TAKEN;
	f->nkeeping++;
	(void)pthread_mutex_unlock(&f->lock);
	pull_keep_behind(pl);
	(void)pthread_mutex_lock(&f->lock);
	f->nkeeping--;
	pl->state = BEHIND_OURS;
	(void)pthread_cond_broadcast(&f->written);
}

static void *
work(void *arg)
{
	struct fills *f = arg;
	struct fill *fl;
	struct pull *pl;
	bool checks;

	(void)pthread_mutex_lock(&f->lock);
	for (;;) {
		checks = false;
		/* The other half is for what the transfer thread cannot do. */
		if ((pl = TAILQ_FIRST(&f->pieces)) != NULL &&
		    f->nkeeping < WORKERS / 2) {
			keep_piece(f, pl);
			continue;
		}
		if ((fl = TAILQ_FIRST(&f->ends)) != NULL) {
			TAILQ_REMOVE(&f->ends, fl, work);
			(void)pthread_mutex_unlock(&f->lock);
			end_fill(fl);
		} else if ((fl = next_open(f)) != NULL) {
			checks = fl->on_disk;
			(void)pthread_mutex_unlock(&f->lock);
			open_fill(fl);
		} else if (f->quit && f->running == 0)
			break;
		else {
			(void)pthread_cond_wait(&f->work, &f->lock);
			continue;
		}
		(void)pthread_mutex_lock(&f->lock);
		if (checks) {
			f->nchecking--;
			(void)pthread_cond_signal(&f->work);
		}
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
	TAILQ_INIT(&f->pieces);
	(void)pthread_mutex_init(&f->lock, NULL);
	(void)pthread_cond_init(&f->work, NULL);
	(void)pthread_cond_init(&f->written, NULL);
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
	f->max_clients = (unsigned)c->clients_per_fill;
	atomic_store(&f->finish, strcmp(c->when_left, "finish") == 0);
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
	(void)pthread_cond_destroy(&f->written);
	(void)pthread_mutex_destroy(&f->lock);
	free(f);
}

void
fills_stats(struct fills *f, struct fills_stats *st)
{

	(void)pthread_mutex_lock(&f->lock);
	*st = (struct fills_stats){
		.started = f->started, .done = f->done, .failed = f->failed,
		.unstored = f->unstored, .left = f->left,
		.running = f->running, .queued = f->queued,
	};
	(void)pthread_mutex_unlock(&f->lock);
}

struct fill *
fill_enter(struct fills *f, const struct fill_want *w)
{
	struct fill *fl = NULL;

	(void)pthread_mutex_lock(&f->lock);
	if (!f->stopping && (fl = fill_new(f, w)) != NULL) {
		LIST_INSERT_HEAD(&f->bucket[w->digest.b[0]], fl, chain);
		f->started++;
		f->running++;
		fl->counted = fl->asked = true;
		atomic_fetch_add(&fl->refs, 1);
		fl->nreader++;
	}
	(void)pthread_mutex_unlock(&f->lock);
	return (fl);
}

enum place { PLACE_NONE, PLACE_TAKEN, PLACE_FULL };

/* A new reader's place there, and its reference.  Locked. */
static enum place
take_place(struct fill *fl, const struct fill_want *w, bool urgent,
    unsigned max)
{
	enum place place = PLACE_NONE;

	(void)pthread_mutex_lock(&fl->lock);
	if (fl->stage == STAGE_FAILED || (fl->local && !w->local) ||
	    (fl->unstored != NULL && (urgent ||
	    clock_boot_ms() - fl->unstored_ms >= UNSTORED_MS)))
		;
	else if (fl->size != w->size || (fl->nreader >= max && !urgent))
		place = PLACE_FULL;
	else {
		place = PLACE_TAKEN;
		atomic_fetch_add(&fl->refs, 1);
		fl->nreader++;
	}
	(void)pthread_mutex_unlock(&fl->lock);
	return (place);
}

/* The fill of a digest, with a reader more; a new one if need be.  Locked. */
static struct fill *
find_or_start(struct fills *f, const struct fill_want *w, bool urgent,
    bool *joined)
{
	enum place place = PLACE_NONE;
	struct fill *fl;

	*joined = true;
	if (f->stopping)
		return (NULL);
	LIST_FOREACH(fl, &f->bucket[w->digest.b[0]], chain)
		if (digest_eq(&fl->digest, &w->digest) && (place =
		    take_place(fl, w, urgent, f->max_clients)) !=
		    PLACE_NONE)
			break;
	if (place == PLACE_FULL)
		return (NULL);
	if (fl == NULL) {
		*joined = false;
		if (w->join || (fl = fill_new(f, w)) == NULL)
			return (NULL);
		LIST_INSERT_HEAD(&f->bucket[w->digest.b[0]], fl, chain);
		TAILQ_INSERT_TAIL(&f->opens, fl, work);
		f->queued++;
		f->started++;
		atomic_fetch_add(&fl->refs, 1);
		fl->nreader++;
	}
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

/* A reader more of one that somebody holds. */
static struct fill *
join_held(struct fill *fl)
{
	bool ok;

	CHECK_OBJ(fl, FILL_MAGIC);
	(void)pthread_mutex_lock(&fl->lock);
	if ((ok = fl->stage != STAGE_FAILED)) {
		atomic_fetch_add(&fl->refs, 1);
		fl->nreader++;
	}
	(void)pthread_mutex_unlock(&fl->lock);
	return (ok ? fl : NULL);
}

struct fill *
fill_join(struct fills *f, const struct fill_want *w, bool urgent, bool *joined)
{
	struct fill *fl;

	*joined = true;
	if (w->held != NULL)
		return (join_held(w->held));
	(void)pthread_mutex_lock(&f->lock);
	fl = find_or_start(f, w, urgent, joined);
	(void)pthread_mutex_unlock(&f->lock);
	return (fl);
}
