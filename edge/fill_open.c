/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A fill's file: a blob that the store has, a partial file of earlier, or a new
 * one, and which of its pieces are there.  What nobody has verified since the
 * start is believed piece by piece, as each is compared with the rows; what
 * somebody waits for is looked at first.  Called by fill.c in its workers.
 */
#include <sys/param.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "edge/pull.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	CHECK_BUFFER	CHUNK_SIZE

static bool
file_has(const struct fill *fl, size_t piece, void *buf)
{
	size_t n = (size_t)pull_piece_len(fl, piece);
	struct digest d;

	if (pull_is_whole(fl))
		return (digest_of_file(&d, fl->fd, fl->size) == 0 &&
		    digest_eq(&d, &fl->digest));
	return (fd_pread_all(fl->fd, buf, n, (off_t)(piece * fl->unit)) == 0 &&
	    pull_piece_ok(fl, piece, buf, n));
}

/* Which pieces were looked at. */
struct looked {
	uint8_t		*at;		/* bits */
	size_t		 low;		/* all below */
};

static bool
was_looked_at(const struct looked *l, size_t piece)
{

	return (piece < l->low || (l->at[piece / 8] >> piece % 8 & 1) != 0);
}

/* What to look at next, npiece: nothing more.  Fill locked. */
static size_t
next_piece(struct fill *fl, struct looked *l)
{
	const struct fill_reader *r;

	while (l->low < fl->npiece &&
	    (l->at[l->low / 8] >> l->low % 8 & 1) != 0)
		l->low++;
	if (l->low == fl->npiece || fl->stage == STAGE_FAILED ||
	    fl->unstored != NULL)
		return (fl->npiece);
	/* A stored file that nobody waits for any more stays as it is. */
	if (!fl->partial && fl->nreader == 0) {
		fl->stage = STAGE_FAILED;
		fl->over = true;
		return (fl->npiece);
	}
	TAILQ_FOREACH(r, &fl->waiting, link)
		if (!r->whole && !was_looked_at(l, r->piece))
			return (r->piece);
	return (l->low);
}

/* Marks what the file already holds.  False: not all of it was looked at. */
static bool
check_file(struct fill *fl)
{
	struct looked l = { .low = 0 };
	bool has, all;
	size_t piece;
	void *buf;

	l.at = calloc(fl->npiece / 8 + 1, 1);
	buf = malloc(CHECK_BUFFER);
	/* Without memory it is fetched once more. */
	while (l.at != NULL && buf != NULL) {
		(void)pthread_mutex_lock(&fl->lock);
		piece = next_piece(fl, &l);
		(void)pthread_mutex_unlock(&fl->lock);
		if (piece == fl->npiece)
			break;
		l.at[piece / 8] |= (uint8_t)(1u << piece % 8);
		has = file_has(fl, piece, buf);
		(void)pthread_mutex_lock(&fl->lock);
		if (has && fl->unstored == NULL)
			pull_mark(fl, piece);
		fill_leave(fl);
	}
	all = l.low == fl->npiece;
	free(l.at);
	free(buf);
	return (all);
}

static void
mark_all(struct fill *fl)
{
	size_t i;

	(void)pthread_mutex_lock(&fl->lock);
	for (i = 0; i < fl->npiece; i++)
		pull_mark(fl, i);
	(void)pthread_mutex_unlock(&fl->lock);
}

enum opened { OPENED_NOTHING, OPENED, OPENED_IN_VAIN };

/* A file that is not what it should be; the reference stays.  What is right of it
 * is kept where the rest is fetched. */
static bool
reopen_blob(struct fill *fl, struct blob *b)
{
	struct blob *bad;

	if (!fl->local)
		return (blob_partial_reopen(b, fl->fd) == 0);
	bad = blob_get(fills_store(fl->fills), &fl->digest, fl->size);
	if (bad != NULL && !blob_checked(bad))
		blob_drop(&bad);
	blob_put(&bad);
	return (false);
}

/* What looking at a stored file has come to. */
static enum opened
judge_blob(struct fill *fl, struct blob *b, bool looked)
{
	enum opened opened = OPENED;
	bool all, reopen;

	(void)pthread_mutex_lock(&fl->lock);
	all = fl->nhave == fl->npiece;
	reopen = !all && looked && fl->unstored == NULL;
	if (!all && !looked && fl->stage != STAGE_FAILED)
		opened = OPENED_IN_VAIN;	/* for want of memory */
	(void)pthread_mutex_unlock(&fl->lock);
	if (all)
		blob_set_checked(b);
	if (!reopen)
		return (opened);
	reopen = reopen_blob(fl, b);
	(void)pthread_mutex_lock(&fl->lock);
	fl->partial = reopen;
	if (!reopen)
		opened = fl->nhave > 0 ? OPENED_IN_VAIN : OPENED_NOTHING;
	(void)pthread_mutex_unlock(&fl->lock);
	/* Of which nobody has read a byte. */
	if (opened == OPENED_NOTHING)
		fd_close(&fl->fd);
	return (opened);
}

/* The store's blob, where it has one. */
static enum opened
open_complete(struct fill *fl)
{
	enum opened opened = OPENED;
	struct blob *b;
	int fd;

	if ((b = blob_get(fills_store(fl->fills), &fl->digest,
	    fl->size)) == NULL)
		return (OPENED_NOTHING);
	if ((fd = blob_open(b)) == -1) {
		blob_put(&b);
		return (OPENED_NOTHING);
	}
	(void)pthread_mutex_lock(&fl->lock);
	fl->fd = fd;
	(void)pthread_mutex_unlock(&fl->lock);
	if (blob_checked(b))
		mark_all(fl);
	else
		opened = judge_blob(fl, b, check_file(fl));
	blob_put(&b);
	return (opened);
}

/* A partial file, new or left from earlier. */
static bool
open_partial(struct fill *fl)
{
	bool fresh;
	int fd;

	if ((fd = blob_partial_open(fills_store(fl->fills), &fl->digest,
	    fl->size, &fresh)) == -1) {
		fill_not_stored(fl);
		return (false);
	}
	(void)pthread_mutex_lock(&fl->lock);
	fl->fd = fd;
	fl->partial = true;
	(void)pthread_mutex_unlock(&fl->lock);
	/* What a plain file's name had before is of no use to it. */
	if (!fresh && fl->plain == NULL)
		(void)check_file(fl);
	return (true);
}

/* Nothing to fetch: nothing to verify later either. */
static bool
is_empty_digest(const struct digest *d)
{
	struct digest empty;

	digest_of(&empty, "", 0);
	return (digest_eq(d, &empty));
}

const char *
fill_open_file(struct fill *fl)
{
	enum opened opened;
	bool ok;

	if (fl->size == 0 && fl->plain == NULL && !is_empty_digest(&fl->digest))
		return ("an empty file has another digest");
	opened = fl->plain == NULL ? open_complete(fl) : OPENED_NOTHING;
	if (fl->local && opened != OPENED)
		return ("the store has no good one, and no upstream is asked");
	if (opened == OPENED || (opened == OPENED_NOTHING &&
	    (fill_hold(fl) || open_partial(fl))))
		return (NULL);
	(void)pthread_mutex_lock(&fl->lock);
	ok = fill_unstore(fl);
	(void)pthread_mutex_unlock(&fl->lock);
	return (ok ? NULL : "there is no place to store it");
}
