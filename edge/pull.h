/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_PULL_H
#define	EDGE_PULL_H

#include <sys/param.h>
#include <sys/queue.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/fill.h"
#include "edge/unstored.h"
#include "proto/chunk.h"

/*
 * Inside of a fill, for fill*.c and pull*.c alone.  fill.c owns fills and ends
 * them, fill_open.c finds a file and what it holds already, fill_reader.c owns
 * those who wait; pull.c decides which transfers a fill needs, and pull_piece.c
 * verifies and writes what they bring.
 */
#define	FILL_MAGIC	0x66696c6cu
#define	FILL_PULLS	4u		/* transfers at once for one fill */
#define	FILL_FAR	16u		/* chunks ahead: an own transfer */
/* Times that all upstreams may fail without a chunk in between: so often while
 * that takes no longer than FILL_QUICK_MS, and always FILL_ROUNDS_MIN times. */
#define	FILL_ROUNDS	8u
#define	FILL_ROUNDS_MIN	2u
#define	FILL_QUICK_MS	5000

enum fill_stage {
	STAGE_QUEUED,			/* waits for its turn, or is opened */
	STAGE_RUNNING,
	STAGE_WRITTEN,			/* all verified, to be committed */
	STAGE_DONE,			/* in the store */
	STAGE_FAILED
};

/* A piece, or what has come of it. */
struct piece {
	size_t		 number;
	size_t		 len;		/* bytes so far */
	uint8_t		*buf;		/* NULL where pull->sha takes it */
};

/* One transfer of a fill, bringing the pieces from `piece` on. */
struct pull {
	struct fill	*fill;
	struct transfer	*transfer;
	struct piece	 piece;		/* the transfer thread's, who changes its
					 * number under fill->lock */
	size_t		 first, last;	/* asked for; last: the end, exclusive */
	size_t		 end;		/* fill->lock; more is not needed */
	bool		 progress, enough;
	struct sha256	*sha;		/* whole blobs without rows, or NULL */
	/* The one before, that is verified and written meanwhile; what `buf` is kept
	 * for else. */
	struct piece	 behind;
	bool		 has_behind;	/* fill->lock */
	bool		 wrong;		/* fill->lock; that one failed */
	/* Whose turn it is with that one: the transfer thread's, or a worker's. */
	enum { BEHIND_OURS, BEHIND_QUEUED, BEHIND_TAKEN } state; /* fills->lock */
	TAILQ_ENTRY(pull) work;		/* fills->lock */
	LIST_ENTRY(pull) link;
};

struct plain_part;			/* see fill_plain.c */

struct fill {
	unsigned	 magic;
	struct fills	*fills;
	struct digest	 digest;
	uint64_t	 size;
	struct plain_part *plain;	/* NULL: a published blob */
	uint8_t		*rows;		/* NULL: verified by its digest */
	char		*set, *path;
	atomic_uint	 refs;
	bool		 stored;	/* complete: to be verified only */
	bool		 on_disk;	/* at least a part of it, likewise */
	bool		 local;		/* no upstream is asked */
	/* Set before STAGE_RUNNING; the second: it has no fd, but bytes. */
	int		 fd;
	bool		 in_memory;

	/* fills->lock */
	LIST_ENTRY(fill) chain;
	TAILQ_ENTRY(fill) work;
	bool		 counted;	/* among those that run */
	bool		 urgent;	/* changed under both locks */

	pthread_mutex_t	 lock;		/* all below */
	pthread_cond_t	 woken;		/* a reader's wake has returned */
	enum fill_stage	 stage;
	bool		 opened;	/* a worker is through with that */
	bool		 partial;	/* fd is one, and the store's */
	bool		 ending;	/* handed to a worker, to end it or that */
	bool		 asked;		/* some upstream; else all was here */
	bool		 over;		/* STAGE_FAILED: nobody reads any more */
	bool		 spoiled;	/* the file cannot be read: no commit */
	struct unstored	*unstored;	/* set: there they are, not in fd */
	uint8_t		*bytes;		/* set: the only piece, to the end */
	int64_t		 unstored_ms;	/* since then */
	/*
	 * Pieces: the chunks; or one, of any size, without rows.
	 */
	uint64_t	 unit;		/* bytes of all pieces but the last */
	size_t		 npiece, nhave;
	size_t		 low;		/* all below are there */
	size_t		 seen;		/* the furthest that was looked for */
	uint8_t		*have;		/* bits: on disk or in memory */
	LIST_HEAD(, pull) pulls;
	unsigned	 npull;
	bool		 narrow;	/* no second transfer for now */
	uint64_t	 tried, absent;	/* upstreams, by slot */
	unsigned	 round;
	int64_t		 round_ms;	/* since when without a chunk */
	unsigned	 nreader;
	TAILQ_HEAD(, fill_reader) waiting;	/* longest first */
};

struct fill_reader {
	struct fill	*fill;
	uint64_t	 end;		/* of its range */
	void		(*wake)(void *);
	void		*arg;
	bool		 joined;
	bool		 whole;		/* waits for the end of the fill */
	/* fill->lock */
	bool		 waiting;	/* for a wake */
	unsigned	 waking;	/* wakes that run */
	size_t		 piece;		/* what it waits for */
	TAILQ_ENTRY(fill_reader) link;	/* of those that wait */
};

/* Fill locked, unless said otherwise. */

static inline bool
pull_have(const struct fill *fl, size_t piece)
{

	return ((fl->have[piece / 8] >> piece % 8 & 1) != 0);
}

/* The piece behind the last one that a reader needs. */
static inline size_t
pull_reader_end(const struct fill *fl, const struct fill_reader *r)
{

	return ((size_t)((r->end + fl->unit - 1) / fl->unit));
}

/* Whole blobs above CHUNK_SIZE without rows go to disk before they are
 * verified, and are there all at once or not at all. */
static inline bool
pull_is_whole(const struct fill *fl)
{

	return (fl->unit > CHUNK_SIZE);
}

/* Bytes. */
static inline uint64_t
pull_piece_len(const struct fill *fl, size_t piece)
{

	return (MIN(fl->unit, fl->size - piece * fl->unit));
}

/* Bytes of a piece, which must be what the rows or the digest say. */
bool	pull_piece_ok(const struct fill *fl, size_t piece, const void *p,
	    size_t len);
/* It is there and verified. */
void	pull_mark(struct fill *fl, size_t piece);
/* For a piece of it.  NULL: out of memory. */
uint8_t	*pull_buffer(const struct fill *fl);
/* Starts the transfers that are needed now, or moves on to STAGE_WRITTEN. */
void	pull_schedule(struct fill *fl);
/* Bytes of a piece that a reader waits for, who reads on to `end` (a piece,
 * exclusive): has one on its way. */
void	pull_want(struct fill *fl, size_t piece, size_t end);
void	pull_cancel(struct fill *fl);
/* A piece that can be had once only has come and gone: there is no room for it. */
bool	pull_never(const struct fill *fl, size_t piece);
/* Those wait for who reads them.  For struct transfer_plain; nothing is locked. */
bool	pull_later(void *pull);
/* A transfer of all of it, which others have begun.  False: out of memory. */
bool	pull_adopt(struct fill *fl, struct transfer *t);

/* Of transfers: their data; and once no more comes the rest of the work on it, and
 * whether all was right.  For struct transfer_want; nothing is locked. */
enum transfer_more pull_data(void *pull, const void *data, size_t len);
bool	pull_settle(void *pull);
/* Verifies and writes the piece that was handed over.  Nothing is locked. */
void	pull_keep_behind(struct pull *pl);

/* By fill_open.c, in a worker; nothing is locked.  Finds or makes the file, and
 * marks what it holds, waking readers.  NULL, or why not. */
const char *fill_open_file(struct fill *fl);
/* By fill_reader.c: wakes whom the state concerns, unlocked meanwhile. */
void	fill_wake(struct fill *fl);

/* By fill.c.  A reader's fill, which counts the reader, with a reference; nothing
 * is locked.  NULL: out of memory, stopping, or it has too many. */
struct fill *fill_join(struct fills *f, const struct fill_want *w, bool urgent,
	    bool *joined);
/* One that has not been opened yet, in the table, counted as read, with a
 * reference for that, and in no queue.  NULL: out of memory, or stopping. */
struct fill *fill_enter(struct fills *f, const struct fill_want *w);
/* By fill_plain.c. */
struct plain_part *fill_plain_new(const struct fill_plain *w); /* NULL: memory */
void	fill_plain_destroy(struct plain_part **p);
struct upstreams *fill_plain_upstreams(const struct plain_part *p);
const struct transfer_plain *fill_plain_ask(const struct plain_part *p);
/* Pieces can be had in another transfer. */
bool	fill_plain_resumes(const struct plain_part *p);
/* The complete file into the store, or away; a partial one is the fill's no more.
 * In a worker. */
void	fill_plain_commit(struct fill *fl);
void	fill_plain_end(struct plain_part *p);
/* For the log: "digest=..." or, of a plain file, "file=...". */
#define	FILL_NAME	256
const char *fill_name(const struct fill *fl, char out[FILL_NAME]);
/* The fill has failed (first reason counts). */
void	fill_fail(struct fill *fl, const char *reason);
/* Goes on without the store, from nothing.  False: not possible. */
bool	fill_unstore(struct fill *fl);
/* Has the file in memory instead of on disk, until it is complete: a small one,
 * while these are not too many.  Before anything of it comes. */
bool	fill_hold(struct fill *fl);
/* What is in memory, all of it and verified, into the store.  False: logged. */
bool	fill_store_held(const struct fill *fl, const struct digest *content);
/* For the log: errno says why the store does not take it. */
void	fill_not_stored(const struct fill *fl);
/* Hands the fill on to a worker when it ends; unlocks. */
void	fill_hand_on(struct fill *fl);
/* The same, after a wake. */
void	fill_leave(struct fill *fl);
void	fill_unref(struct fill *fl);
/* By the transfer thread; nothing is locked.  Has a worker do pull_keep_behind(). */
void	fill_hand_piece(struct pull *pl);
/* Whether no worker has it (any more). */
bool	fill_piece_is_ours(struct pull *pl);
/* Sees to it that no worker has it: waits for one that has begun.  True: none had, and
 * it is to be done by the caller. */
bool	fill_take_back(struct pull *pl);
struct upstreams *fill_upstreams(const struct fill *fl);
struct blob_store *fills_store(const struct fills *f);
bool	fills_stopping(struct fills *f);

#endif
