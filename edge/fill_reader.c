/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Readers of fills: who waits for which piece, and where its bytes are.  HTTP
 * threads (serve) have them read, and the follow thread waits for whole blobs.
 */
#include <sys/param.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/pull.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/log.h"

#define	WAKE_BATCH	64u
#define	FETCH_LOOK_MS	500		/* fill_fetch() looks at stop */
#define	READ_BURST	20		/* lines a second about files */

static struct log_limit read_limit;

/* The reader need not wait any more.  Fill locked. */
static bool
has_news(const struct fill *fl, const struct fill_reader *r)
{

	if (fl->stage == STAGE_FAILED || pull_never(fl, r->piece))
		return (true);
	if (r->whole)
		return (fl->stage == STAGE_DONE || fl->unstored != NULL);
	return (pull_have(fl, r->piece));
}

static void
set_waiting(struct fill_reader *r, bool waiting)
{

	if (waiting && !r->waiting)
		TAILQ_INSERT_TAIL(&r->fill->waiting, r, link);
	else if (!waiting && r->waiting)
		TAILQ_REMOVE(&r->fill->waiting, r, link);
	r->waiting = waiting;
}

/* Takes up to WAKE_BATCH readers to wake.  Fill locked. */
static size_t
take_readers(struct fill *fl, struct fill_reader **batch)
{
	struct fill_reader *r, *next;
	size_t n = 0;

	for (r = TAILQ_FIRST(&fl->waiting); r != NULL && n < WAKE_BATCH;
	    r = next) {
		next = TAILQ_NEXT(r, link);
		if (!has_news(fl, r))
			continue;
		set_waiting(r, false);
		r->waking++;
		batch[n++] = r;
	}
	return (n);
}

void
fill_wake(struct fill *fl)
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
}

/* piece: the first one that it needs. */
static struct fill_reader *
reader_new(struct fills *f, const struct fill_want *w, bool whole, bool urgent,
    uint64_t off, uint64_t end, void (*wake)(void *), void *arg)
{
	struct fill_reader *r;

	if ((r = calloc(1, sizeof(*r))) == NULL)
		return (NULL);
	r->end = end;
	r->wake = wake;
	r->arg = arg;
	r->whole = whole;
	if ((r->fill = fill_join(f, w, urgent, &r->joined)) == NULL) {
		free(r);
		return (NULL);
	}
	r->piece = (size_t)(off / r->fill->unit);
	return (r);
}

struct fill_reader *
fill_reader_new(struct fills *f, const struct fill_want *w, uint64_t off,
    uint64_t len, void (*wake)(void *arg), void *arg)
{

	CHECK(len > 0 && off < w->size && len <= w->size - off);
	return (reader_new(f, w, false, false, off, off + len, wake, arg));
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
	set_waiting(r, false);
	while (r->waking > 0)
		(void)pthread_cond_wait(&fl->woken, &fl->lock);
	fl->nreader--;
	fill_hand_on(fl);
	fill_unref(fl);
	free(r);
}

bool
fill_reader_collapsed(const struct fill_reader *r)
{

	return (r->joined);
}

bool
fill_reader_hit(const struct fill_reader *r)
{
	struct fill *fl = r->fill;
	bool asked;

	(void)pthread_mutex_lock(&fl->lock);
	asked = fl->asked;
	(void)pthread_mutex_unlock(&fl->lock);
	return (fl->stored && !asked);
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
	if (piece > fl->seen) {
		fl->seen = piece;
		if (fl->unstored != NULL && fl->plain != NULL)
			upstreams_poke(fill_upstreams(fl));
	}
	if (!r->whole && !pull_have(fl, piece))
		pull_want(fl, piece, pull_reader_end(fl, r));
	/* What is there can be read, whatever became of the rest. */
	if (r->whole ? fl->stage == STAGE_DONE : pull_have(fl, piece))
		state = FILL_READY;
	else if (fl->stage == STAGE_FAILED || pull_never(fl, piece) ||
	    (r->whole && fl->unstored != NULL))
		state = FILL_FAILED;
	set_waiting(r, state == FILL_WAIT);
	/* Wakes nobody: this may be called with an HTTP server's locks held. */
	fill_hand_on(fl);
	return (state);
}

enum fill_state
fill_reader_state(struct fill_reader *r)
{

	return (look(r, r->piece));
}

/* Bytes of a piece that is kept in memory.  *gone: it was, and is no more. */
static bool
read_unstored(struct fill *fl, size_t piece, uint64_t off, void *p, size_t len,
    bool *gone)
{
	const uint8_t *bytes = NULL;

	(void)pthread_mutex_lock(&fl->lock);
	*gone = !pull_have(fl, piece);
	if (fl->unstored != NULL &&
	    (bytes = unstored_get(fl->unstored, piece)) != NULL)
		memcpy(p, bytes + (off - piece * fl->unit), len);
	CHECK(bytes != NULL || *gone || fl->unstored == NULL);
	(void)pthread_mutex_unlock(&fl->lock);
	return (bytes != NULL);
}

/* Whether what was read from the file counts. */
static bool
is_stored(struct fill *fl)
{
	bool is;

	(void)pthread_mutex_lock(&fl->lock);
	is = fl->unstored == NULL;
	(void)pthread_mutex_unlock(&fl->lock);
	return (is);
}

/*
 * The file fails.  Whether the piece can be had without it: while the fill runs.
 * Else this reader fails, and the file goes, so that others have a new one.
 */
static bool
fetch_again(struct fill *fl)
{
	struct blob *b = NULL;
	bool ok, stored;

	(void)pthread_mutex_lock(&fl->lock);
	ok = fl->stage <= STAGE_RUNNING && fill_unstore(fl);
	if (!ok && fl->stage <= STAGE_RUNNING)
		fill_fail(fl, "the cache cannot be read");
	fl->spoiled = !ok;
	stored = fl->stage == STAGE_DONE;
	fill_hand_on(fl);
	if (stored)
		b = blob_get(fills_store(fl->fills), &fl->digest, fl->size);
	if (b != NULL)
		blob_drop(&b);
	return (ok);
}

/* Bytes of a piece that is there, 0: it is there no more, -1: it cannot be
 * read. */
static ssize_t
read_piece(struct fill *fl, size_t piece, uint64_t off, void *p, size_t len)
{
	bool gone;
	ssize_t n;

	if (fl->in_memory) {
		memcpy(p, fl->bytes + off, len);
		return ((ssize_t)len);
	}
	if (read_unstored(fl, piece, off, p, len, &gone))
		return ((ssize_t)len);
	if (gone)
		return (0);
	while ((n = pread(fl->fd, p, len, (off_t)off)) == -1 &&
	    errno == EINTR)
		;
	if (n > 0)
		return (is_stored(fl) ? n : 0);
	if (log_allowed(&read_limit, READ_BURST))
		log_err("fill cannot read its file: %s",
		    n == 0 ? "it became shorter" : strerror(errno));
	return (fetch_again(fl) ? 0 : -1);
}

ssize_t
fill_reader_read(struct fill_reader *r, uint64_t off, void *p, size_t max)
{
	struct fill *fl = r->fill;
	size_t piece = (size_t)(off / fl->unit);
	uint64_t end = MIN(r->end, (piece + 1) * fl->unit);
	ssize_t n = 0;

	CHECK(off < r->end);
	while (n == 0)
		switch (look(r, piece)) {
		case FILL_WAIT:
			return (HTTPD_WAIT);
		case FILL_FAILED:
			return (HTTPD_FAIL);
		case FILL_READY:
			n = read_piece(fl, piece, off, p,
			    (size_t)MIN(max, end - off));
			break;
		}
	return (n == -1 ? HTTPD_FAIL : n);
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

	(void)pthread_mutex_lock(&w->lock);
	if (!w->woken)
		(void)clock_wait(&w->cond, &w->lock, FETCH_LOOK_MS);
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

/* Waits for a fill until then (boot clock); 0, or an error number. */
static int
fetch(struct fills *f, const struct fill_want *want, bool urgent,
    int64_t deadline, const atomic_bool *stop)
{
	struct waiter w = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct fill_reader *r;
	int e = EIO;

	clock_cond_init(&w.cond);
	if ((r = reader_new(f, want, true, urgent, 0, want->size,
	    wake_waiter, &w)) != NULL)
		e = wait_whole(r, &w, deadline, stop);
	fill_reader_destroy(&r);
	(void)pthread_cond_destroy(&w.cond);
	return (e != 0 && fills_stopping(f) ? ECANCELED : e);
}

int
fill_patiently(struct fills *f, const struct fill_want *want,
    const atomic_bool *stop)
{

	return (fetch(f, want, false, INT64_MAX, stop));
}

int
fill_fetch(struct fills *f, const struct fill_want *want, unsigned timeout_s,
    const atomic_bool *stop, struct blob **b)
{
	int e = 0;

	*b = blob_get(fills_store(f), &want->digest, want->size);
	if (*b == NULL && (e = fetch(f, want, true, clock_boot_ms() +
	    (int64_t)timeout_s * 1000, stop)) == 0 &&
	    (*b = blob_get(fills_store(f), &want->digest, want->size)) == NULL)
		e = EIO;
	/* What is fetched this way is what a head will be accepted with. */
	if (*b != NULL && blob_sync(*b) == -1) {
		e = errno;
		blob_put(b);
	}
	errno = e;
	return (e == 0 ? 0 : -1);
}
