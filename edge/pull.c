/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The transfers of a fill: which are needed, and what is done with the bytes
 * they bring.  Called by fill.c in readers' threads and in workers; data and
 * ends of transfers come in the transfer thread, which verifies and writes.
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

static struct log_limit warn_limit, write_limit;

bool
pull_piece_ok(const struct fill *fl, size_t piece, const void *p, size_t len)
{
	struct digest d;

	if (fl->plain != NULL)		/* as good as any */
		return (true);
	digest_of(&d, p, len);
	return (memcmp(d.b, fl->rows != NULL ?
	    fl->rows + piece * DIGEST_LEN : fl->digest.b, DIGEST_LEN) == 0);
}

void
pull_mark(struct fill *fl, size_t piece)
{

	if (pull_have(fl, piece))
		return;
	fl->have[piece / 8] |= (uint8_t)(1u << piece % 8);
	fl->nhave++;
	while (fl->low < fl->npiece && pull_have(fl, fl->low))
		fl->low++;
}

static void
unmark(struct fill *fl, size_t piece)
{

	CHECK(pull_have(fl, piece));
	fl->have[piece / 8] &= (uint8_t)~(1u << piece % 8);
	fl->nhave--;
	fl->low = MIN(fl->low, piece);
}

/* Verified bytes to disk. */
static int
write_piece(struct fill *fl, const void *p, size_t len, uint64_t off)
{

	if (blob_partial_write(fills_store(fl->fills), fl->fd, p, len,
	    off) == 0)
		return (0);
	if (log_allowed(&write_limit, WARN_BURST))
		log_err("fill cannot write to the cache: %s", strerror(errno));
	return (-1);
}

/* A whole piece is in the buffer, or has been hashed on its way to disk. */
static bool
verify(struct pull *pl)
{
	struct digest d;

	if (pl->sha == NULL)
		return (pull_piece_ok(pl->fill, pl->next, pl->buf, pl->len));
	sha256_end(pl->sha, &d);
	return (digest_eq(&d, &pl->fill->digest));
}

/* Bytes that a piece of it needs. */
static size_t
pull_room(const struct fill *fl)
{

	return ((size_t)MAX(1, MIN(CHUNK_SIZE, fl->size)));
}

/* Piece `next` is verified, and not in the file.  Fill locked. */
static void
keep_unstored(struct pull *pl)
{
	struct fill *fl = pl->fill;
	size_t dropped;

	if (!fill_unstore(fl))
		fill_fail(fl, "the cache cannot be written");
	else if (!pull_have(fl, pl->next)) {
		if (unstored_put(fl->unstored, pl->next, &pl->buf, &dropped))
			unmark(fl, dropped);
		if ((pl->buf = malloc(pull_room(fl))) == NULL)
			fill_fail(fl, "out of memory");
	}
}

/* The only piece.  Fill locked. */
static void
keep_in_memory(struct pull *pl)
{

	CHECK(pl->next == 0 && pl->fill->bytes == NULL);
	pl->fill->bytes = pl->buf;
	pl->buf = NULL;
}

/* Piece `next` is complete: makes it readable. */
static enum transfer_more
piece_done(struct pull *pl)
{
	struct fill *fl = pl->fill;
	enum transfer_more more = TRANSFER_GO;
	bool stored;

	if (!verify(pl))
		return (TRANSFER_WRONG);
	(void)pthread_mutex_lock(&fl->lock);
	stored = fl->unstored == NULL;
	(void)pthread_mutex_unlock(&fl->lock);
	if (stored && pl->sha == NULL && !fl->in_memory)
		stored = write_piece(fl, pl->buf, pl->len,
		    pl->next * fl->unit) == 0;
	(void)pthread_mutex_lock(&fl->lock);
	/* Others may have found the store failing meanwhile. */
	if ((!stored || fl->unstored != NULL) && fl->stage == STAGE_RUNNING)
		keep_unstored(pl);
	else if (fl->in_memory && fl->stage == STAGE_RUNNING)
		keep_in_memory(pl);
	if (fl->stage != STAGE_RUNNING)
		more = TRANSFER_BROKEN;
	else {
		pull_mark(fl, pl->next);
		pl->progress = true;
		pl->len = 0;
		pl->next++;
		/* Where the answer ends by itself its connection lives on. */
		if (pl->next < pl->last &&
		    (pl->next >= pl->end || pull_have(fl, pl->next))) {
			pl->enough = true;
			more = TRANSFER_ENOUGH;
		}
		if (fl->nhave == fl->npiece)
			pull_schedule(fl);
	}
	fill_leave(fl);
	return (more);
}

/* Bytes of a whole blob without rows: written now, believed at its end. */
static int
stream(struct pull *pl, const void *p, size_t len)
{
	struct fill *fl = pl->fill;

	sha256_add(pl->sha, p, len);
	if (write_piece(fl, p, len, pl->len) == 0)
		return (0);
	(void)pthread_mutex_lock(&fl->lock);
	fill_fail(fl, "the cache cannot be written");
	fill_leave(fl);
	return (-1);
}

static enum transfer_more
on_data(void *arg, const void *data, size_t len)
{
	struct pull *pl = arg;
	struct fill *fl = pl->fill;
	const uint8_t *p = data;
	enum transfer_more more;
	size_t n;

	for (; len > 0; p += n, len -= n) {
		n = (size_t)MIN(len, pull_piece_len(fl, pl->next) - pl->len);
		if (pl->sha == NULL)
			memcpy(pl->buf + pl->len, p, n);
		else if (stream(pl, p, n) == -1)
			return (TRANSFER_BROKEN);
		pl->len += n;
		if (pl->len == pull_piece_len(fl, pl->next) &&
		    (more = piece_done(pl)) != TRANSFER_GO)
			return (more);
	}
	return (TRANSFER_GO);
}

static void
pull_free(struct pull *pl)
{

	free(pl->buf);
	sha256_destroy(&pl->sha);
	free(pl);
}

static void
log_fault(const struct pull *pl, const struct transfer_end *e)
{
	char name[FILL_NAME];

	if (log_allowed(&warn_limit, WARN_BURST))
		log_warn("fill %s upstream=%s chunk=%zu reason=%s",
		    fill_name(pl->fill, name), e->url, pl->next,
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

	if (e->result == TRANSFER_FAULT)
		log_fault(pl, e);
	(void)pthread_mutex_lock(&fl->lock);
	LIST_REMOVE(pl, link);
	if (--fl->npull == 0)
		fl->narrow = false;
	if (pl->progress) {
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

	LIST_FOREACH(pl, &fl->pulls, link)
		if (pl->next > piece && pl->next < end)
			end = pl->next;
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
		.data = on_data, .done = on_done,
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
	pl->next = piece;
	pl->last = pl->end = MIN(find_end(fl, piece), most);
	if (pull_is_whole(fl) ? (pl->sha = sha256_new()) == NULL :
	    (pl->buf = malloc(pull_room(fl))) == NULL)
		goto fail;
	w.arg = pl;
	w.from = piece * fl->unit;
	w.to = MIN(pl->last * fl->unit, fl->size);
	if ((pl->transfer = transfer_start(fill_upstreams(fl), &w)) == NULL)
		goto fail;
	LIST_FOREACH(other, &fl->pulls, link)
		if (other->next < piece && other->end > piece)
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
		if (pl->next <= piece && piece < pl->end &&
		    piece - pl->next <= FILL_FAR)
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
		if (pl->next <= piece)
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
	    pl->next >= fl->seen + UNSTORED_PIECES - UNSTORED_AHEAD;
	(void)pthread_mutex_unlock(&fl->lock);
	return (later);
}

bool
pull_adopt(struct fill *fl, struct transfer *t)
{
	struct pull *pl;

	if ((pl = calloc(1, sizeof(*pl))) == NULL ||
	    (pl->buf = malloc(pull_room(fl))) == NULL) {
		free(pl);
		return (false);
	}
	pl->fill = fl;
	pl->transfer = t;
	pl->last = pl->end = fl->npiece;
	LIST_INSERT_HEAD(&fl->pulls, pl, link);
	fl->npull++;
	atomic_fetch_add(&fl->refs, 1);
	transfer_hand_over(t, fl->size, fill_plain_ask(fl->plain), on_data,
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
