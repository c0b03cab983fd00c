/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The bytes that a fill's transfers bring: they are cut into pieces, verified and
 * written.  Data come in the transfer thread.  A piece that is complete is handed
 * to one of fill.c's workers, and the next one is taken meanwhile; where the last
 * one is not written yet the transfer thread does this one itself, so that it is
 * never further ahead than one piece; at the end it does what no worker has begun.
 */
#include <sys/param.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "edge/pull.h"
#include "proto/check.h"
#include "proto/chunk.h"
#include "proto/log.h"

#define	WARN_BURST	20		/* lines a second about faults */

static struct log_limit write_limit;

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
verify(const struct pull *pl, const struct piece *pc)
{
	struct digest d;

	if (pl->sha == NULL)
		return (pull_piece_ok(pl->fill, pc->number, pc->buf, pc->len));
	sha256_end(pl->sha, &d);
	return (digest_eq(&d, &pl->fill->digest));
}

uint8_t *
pull_buffer(const struct fill *fl)
{

	return (malloc((size_t)MAX(1, MIN(CHUNK_SIZE, fl->size))));
}

/* A piece that is verified, and not in the file.  Fill locked. */
static void
keep_unstored(struct fill *fl, struct piece *pc)
{
	size_t dropped;

	if (!fill_unstore(fl))
		fill_fail(fl, "the cache cannot be written");
	else if (!pull_have(fl, pc->number)) {
		if (unstored_put(fl->unstored, pc->number, &pc->buf, &dropped))
			unmark(fl, dropped);
		if ((pc->buf = pull_buffer(fl)) == NULL)
			fill_fail(fl, "out of memory");
	}
}

/* The only piece.  Fill locked. */
static void
keep_in_memory(struct fill *fl, struct piece *pc)
{

	CHECK(pc->number == 0 && fl->bytes == NULL);
	fl->bytes = pc->buf;
	pc->buf = NULL;
}

/* The transfer goes on from the next piece, or has none behind.  Fill locked. */
static void
pass(struct pull *pl, const struct piece *pc)
{

	if (pc == &pl->behind) {
		CHECK(pl->has_behind);
		pl->has_behind = false;
	} else {
		pl->piece.number++;
		pl->piece.len = 0;
	}
}

/*
 * Verifies a piece that is complete, and makes it readable.  False: it is wrong, and
 * counts as coming until the transfer has ended, so that nobody asks the same
 * upstream for it meanwhile.
 */
static bool
keep(struct pull *pl, struct piece *pc)
{
	struct fill *fl = pl->fill;
	bool write, stored = true;

	if (!verify(pl, pc))
		return (false);
	(void)pthread_mutex_lock(&fl->lock);
	write = pl->sha == NULL && !fl->in_memory && fl->unstored == NULL &&
	    fl->stage == STAGE_RUNNING;
	(void)pthread_mutex_unlock(&fl->lock);
	if (write)
		stored = write_piece(fl, pc->buf, pc->len,
		    pc->number * fl->unit) == 0;
	(void)pthread_mutex_lock(&fl->lock);
	/* Others may have found the store failing meanwhile. */
	if ((!stored || fl->unstored != NULL) && fl->stage == STAGE_RUNNING)
		keep_unstored(fl, pc);
	else if (fl->in_memory && fl->stage == STAGE_RUNNING)
		keep_in_memory(fl, pc);
	if (fl->stage == STAGE_RUNNING) {
		pull_mark(fl, pc->number);
		pl->progress = true;
		if (fl->nhave == fl->npiece)
			pull_schedule(fl);
	}
	pass(pl, pc);
	fill_leave(fl);
	return (true);
}

void
pull_keep_behind(struct pull *pl)
{
	struct fill *fl = pl->fill;

	if (keep(pl, &pl->behind))
		return;
	(void)pthread_mutex_lock(&fl->lock);
	pl->wrong = true;
	transfer_cancel(fill_upstreams(fl), pl->transfer);
	(void)pthread_mutex_unlock(&fl->lock);
}

bool
pull_settle(void *pull)
{
	struct pull *pl = pull;

	if (fill_take_back(pl))
		pull_keep_behind(pl);
	return (!pl->wrong);
}

/*
 * The complete piece changes places with the one behind, whose buffer takes the next
 * one.  False, and nothing was done: another is behind still, or nothing comes next.
 */
static bool
put_behind(struct pull *pl)
{
	struct fill *fl = pl->fill;
	struct piece done = pl->piece;
	bool may;

	if (pl->sha != NULL || fl->in_memory || pl->piece.number + 1 >= pl->last)
		return (false);
	(void)pthread_mutex_lock(&fl->lock);
	may = fl->unstored == NULL && !pl->has_behind;
	(void)pthread_mutex_unlock(&fl->lock);
	if (!may || !fill_piece_is_ours(pl) || (pl->behind.buf == NULL &&
	    (pl->behind.buf = pull_buffer(fl)) == NULL))
		return (false);
	pl->piece.buf = pl->behind.buf;
	pl->behind = done;
	return (true);
}

/* The piece is complete. */
static enum transfer_more
piece_done(struct pull *pl)
{
	struct fill *fl = pl->fill;
	enum transfer_more more = TRANSFER_GO;
	bool handed = put_behind(pl);

	if (!handed && !keep(pl, &pl->piece))
		return (TRANSFER_WRONG);
	(void)pthread_mutex_lock(&fl->lock);
	if (fl->stage >= STAGE_FAILED)
		more = TRANSFER_BROKEN;
	else {
		if (handed) {
			pl->has_behind = true;
			pass(pl, &pl->piece);
		}
		/* Where the answer ends by itself its connection lives on. */
		if (pl->piece.number < pl->last &&
		    (pl->piece.number >= pl->end ||
		    pull_have(fl, pl->piece.number))) {
			pl->enough = true;
			more = TRANSFER_ENOUGH;
		}
	}
	(void)pthread_mutex_unlock(&fl->lock);
	if (handed && more != TRANSFER_BROKEN)
		fill_hand_piece(pl);
	return (more);
}

/* Bytes of a whole blob without rows: written now, believed at its end. */
static int
stream(struct pull *pl, const void *p, size_t len)
{
	struct fill *fl = pl->fill;

	sha256_add(pl->sha, p, len);
	if (write_piece(fl, p, len, pl->piece.len) == 0)
		return (0);
	(void)pthread_mutex_lock(&fl->lock);
	fill_fail(fl, "the cache cannot be written");
	fill_leave(fl);
	return (-1);
}

enum transfer_more
pull_data(void *pull, const void *data, size_t len)
{
	struct pull *pl = pull;
	struct fill *fl = pl->fill;
	struct piece *pc = &pl->piece;
	const uint8_t *p = data;
	enum transfer_more more;
	size_t n;

	for (; len > 0; p += n, len -= n) {
		n = (size_t)MIN(len, pull_piece_len(fl, pc->number) - pc->len);
		if (pl->sha == NULL)
			memcpy(pc->buf + pc->len, p, n);
		else if (stream(pl, p, n) == -1)
			return (TRANSFER_BROKEN);
		pc->len += n;
		if (pc->len == pull_piece_len(fl, pc->number) &&
		    (more = piece_done(pl)) != TRANSFER_GO)
			return (more);
	}
	return (TRANSFER_GO);
}
