/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The transfers of a fill: which are needed, and what their ends come to; what they
 * bring is pull_piece.c's.  Called in readers' threads and in workers; ends come in
 * the transfer thread.
 */
#include <sys/param.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "edge/pull.h"
#include "proto/check.h"
#include "proto/chunk.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	WARN_BURST	20		/* lines a second about faults */

static struct log_limit warn_limit;

static void
pull_free(struct pull *pl)
{

	free(pl->piece.buf);
	free(pl->behind.buf);
	sha256_destroy(&pl->sha);
	free(pl);
}

static void
log_fault(const struct pull *pl, const struct transfer_end *e)
{
	char name[FILL_NAME];

	if (log_allowed(&warn_limit, WARN_BURST))
		log_warn("fill %s upstream=%s chunk=%zu reason=%s",
		    fill_name(pl->fill, name), e->url,
		    pl->wrong ? pl->behind.number : pl->piece.number,
		    e->reason);
}

/*
 * All upstreams have failed once more.  Faults that come and go are outlived by
 * asking again; one that costs time, as a timeout does, is worth one more try.
 */
static bool
is_hopeless(const struct fill *fl)
{

	return (fl->round >= FILL_ROUNDS || (fl->round >= FILL_ROUNDS_MIN &&
	    clock_boot_ms() - fl->round_ms > FILL_QUICK_MS));
}

/* Every upstream was asked.  Fill locked. */
static void
nobody_left(struct fill *fl)
{

	if (fl->npull > 0)
		fl->narrow = true;	/* those that run may still do it */
	else if (fl->tried == 0)
		fill_fail(fl, "no upstream has it");
	else {
		fl->round++;
		fl->tried = 0;
		if (is_hopeless(fl))
			fill_fail(fl, "every upstream failed");
	}
}

static void
on_done(void *arg, const struct transfer_end *e)
{
	struct pull *pl = arg;
	struct fill *fl = pl->fill;

	(void)pull_settle(pl);
	if (e->result == TRANSFER_FAULT)
		log_fault(pl, e);
	(void)pthread_mutex_lock(&fl->lock);
	LIST_REMOVE(pl, link);
	if (--fl->npull == 0)
		fl->narrow = false;
	/* What came behind a wrong piece, before that was seen, is no progress: with
	 * one that nobody has right there would be no end. */
	if (pl->wrong ? pl->behind.number > pl->first : pl->progress) {
		fl->round = 0;
		fl->tried = 0;
	}
	switch (e->result) {
	case TRANSFER_DONE:
		break;
	case TRANSFER_STOPPED:
		if (!pl->enough)
			fill_fail(fl, "stopped");
		break;
	case TRANSFER_ABSENT:
		fl->absent |= UINT64_C(1) << e->slot;
		break;
	case TRANSFER_FAULT:
		fl->tried |= UINT64_C(1) << e->slot;
		break;
	case TRANSFER_NONE:
		nobody_left(fl);
		break;
	}
	pull_schedule(fl);
	fill_leave(fl);
	pull_free(pl);
	fill_unref(fl);
}

/* Where a transfer from `piece` on would meet what is there or under way. */
static size_t
find_end(const struct fill *fl, size_t piece)
{
	const struct pull *pl;
	size_t end = fl->npiece, i;

	LIST_FOREACH(pl, &fl->pulls, link) {
		if (pl->piece.number > piece)
			end = MIN(end, pl->piece.number);
		if (pl->has_behind && pl->behind.number > piece)
			end = MIN(end, pl->behind.number);
	}
	for (i = piece + 1; i < end; i++)
		if (pull_have(fl, i))
			return (i);
	return (end);
}

/*
 * A transfer from `piece` on, to `most` at the furthest: beside others it asks
 * for no more than is waited for, since what is under way when a transfer is cut
 * short, because another went ahead of it, is fetched twice.
 */
static void
start(struct fill *fl, size_t piece, size_t most)
{
	struct transfer_want w = {
		.digest = fl->digest, .size = fl->size,
		.set = fl->set, .path = fl->path,
		.tried = fl->tried | fl->absent, .urgent = fl->urgent,
		.data = pull_data, .verified = pull_settle, .done = on_done,
	};
	struct pull *pl, *other;

	CHECK(!fl->local);		/* all is there, or it has failed */
	if (fl->plain != NULL) {
		if (!fill_plain_resumes(fl->plain)) {
			fill_fail(fl, "there is no strong validator to go on "
			    "with");
			return;
		}
		w.plain = fill_plain_ask(fl->plain);
	}
	if (fl->round == 0 && fl->tried == 0)
		fl->round_ms = clock_boot_ms();
	if (fl->unstored != NULL)
		most = MIN(most, unstored_end(fl->unstored, piece));
	if ((pl = calloc(1, sizeof(*pl))) == NULL)
		goto fail;
	pl->fill = fl;
	pl->piece.number = pl->first = piece;
	pl->last = pl->end = MIN(find_end(fl, piece), most);
	if (pull_is_whole(fl) ? (pl->sha = sha256_new()) == NULL :
	    (pl->piece.buf = pull_buffer(fl)) == NULL)
		goto fail;
	w.arg = pl;
	w.from = piece * fl->unit;
	w.to = MIN(pl->last * fl->unit, fl->size);
	if ((pl->transfer = transfer_start(fill_upstreams(fl), &w)) == NULL)
		goto fail;
	LIST_FOREACH(other, &fl->pulls, link)
		if (other->piece.number < piece && other->end > piece)
			other->end = piece;
	LIST_INSERT_HEAD(&fl->pulls, pl, link);
	fl->npull++;
	fl->asked = true;
	atomic_fetch_add(&fl->refs, 1);
	return;
fail:
	if (pl != NULL)
		pull_free(pl);
	fill_fail(fl, "out of memory, or stopping");
}

/* It came, and is verified and written now.  Fill locked. */
static bool
is_behind(const struct pull *pl, size_t piece)
{

	return (pl->has_behind && pl->behind.number == piece);
}

void
pull_want(struct fill *fl, size_t piece, size_t end)
{
	const struct pull *pl;

	if (fl->stage != STAGE_RUNNING || pull_have(fl, piece) ||
	    fl->npull >= FILL_PULLS || (fl->narrow && fl->npull > 0))
		return;
	if (fl->plain != NULL && !fill_plain_resumes(fl->plain) &&
	    fl->npull > 0)
		return;			/* it comes, or never */
	LIST_FOREACH(pl, &fl->pulls, link)
		if ((pl->piece.number <= piece && piece < pl->end &&
		    piece - pl->piece.number <= FILL_FAR) ||
		    is_behind(pl, piece))
			return;
	start(fl, piece, fl->npull > 0 || fl->unstored != NULL ? end :
	    fl->npiece);
}

/* It comes in one piece, and is kept nowhere. */
static bool
is_fleeting(const struct fill *fl)
{

	return (fl->plain != NULL && fl->unstored != NULL &&
	    !fill_plain_resumes(fl->plain));
}

bool
pull_never(const struct fill *fl, size_t piece)
{
	const struct pull *pl;

	if (!is_fleeting(fl) || pull_have(fl, piece))
		return (false);
	LIST_FOREACH(pl, &fl->pulls, link)
		if (pl->piece.number <= piece || is_behind(pl, piece))
			return (false);
	return (true);
}

bool
pull_later(void *pull)
{
	struct pull *pl = pull;
	struct fill *fl = pl->fill;
	bool later;

	(void)pthread_mutex_lock(&fl->lock);
	later = is_fleeting(fl) && fl->stage == STAGE_RUNNING &&
	    pl->piece.number >= fl->seen + UNSTORED_PIECES - UNSTORED_AHEAD;
	(void)pthread_mutex_unlock(&fl->lock);
	return (later);
}

bool
pull_adopt(struct fill *fl, struct transfer *t)
{
	struct pull *pl;

	if ((pl = calloc(1, sizeof(*pl))) == NULL ||
	    (pl->piece.buf = pull_buffer(fl)) == NULL) {
		free(pl);
		return (false);
	}
	pl->fill = fl;
	pl->transfer = t;
	pl->last = pl->end = fl->npiece;
	LIST_INSERT_HEAD(&fl->pulls, pl, link);
	fl->npull++;
	atomic_fetch_add(&fl->refs, 1);
	transfer_hand_over(t, fl->size, fill_plain_ask(fl->plain), pull_data,
	    on_done, pl);
	return (true);
}

void
pull_cancel(struct fill *fl)
{
	struct pull *pl;

	LIST_FOREACH(pl, &fl->pulls, link)
		transfer_cancel(fill_upstreams(fl), pl->transfer);
}

void
pull_schedule(struct fill *fl)
{
	const struct fill_reader *r;

	if (fl->stage != STAGE_RUNNING)
		return;
	if (fl->nhave == fl->npiece && fl->unstored == NULL) {
		fl->stage = STAGE_WRITTEN;
		return;
	}
	/* Those who wait come first, so a range need not wait for the rest. */
	TAILQ_FOREACH(r, &fl->waiting, link)
		if (!r->whole)
			pull_want(fl, r->piece, pull_reader_end(fl, r));
	if (fl->npull == 0 && fl->stage == STAGE_RUNNING &&
	    fl->unstored == NULL)
		start(fl, fl->low, fl->npiece);
}
