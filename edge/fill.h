/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_FILL_H
#define	EDGE_FILL_H

#include <sys/types.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/blob.h"
#include "edge/upstream.h"
#include "proto/config.h"
#include "proto/digest.h"

/*
 * Fills: each fetches one blob into the store, once, for however many readers.
 * It belongs to the edge: it goes on when its readers have gone, unless set
 * otherwise.  Only verified
 * chunks can be read.  Where the store has no place for them they are fetched for
 * those who read now, and kept for a moment in memory.
 *
 * Locks: fills, then one fill, then the upstreams' or the store's; no callback
 * (wake, named, data, verified, done) is ever called with one of them held.
 */
struct fills;

/* Starts threads.  NULL: errno.  store and upstreams must outlive it. */
struct fills	*fills_new(struct blob_store *s, struct upstreams *u,
		    const struct edge_conf *c);
void		 fills_configure(struct fills *f, const struct edge_conf *c);
/*
 * Fails every fill and wakes every reader; later ones fail at once.  Partial
 * files stay.  At the end: fills_stop(), httpd_stop(), upstreams_stop(),
 * fills_destroy(), upstreams_destroy(), blob_store_destroy().
 */
void		 fills_stop(struct fills *f);
/* After upstreams_stop(); every reader must be destroyed. */
void		 fills_destroy(struct fills **f);

/*
 * A file of a plain upstream: nobody has signed what it should be, so its pieces
 * are taken as they come, as long as they are of one version.
 */
struct fill_plain {			/* all copied */
	struct upstreams *upstreams;
	const char	*target, *fields;	/* struct transfer_plain */
	const char	*validator;	/* strong; "": it comes in one piece */
	bool		 keep;		/* in the store, if it is complete */
	/* In a worker, once, at the end, while it can still be joined.  content:
	 * what the store has it as; NULL: it has not. */
	void		(*done)(void *arg, const struct digest *content);
	void		*arg;
};

struct fill;
struct fill_want {			/* all copied */
	struct digest	 digest;	/* of plain files: a name for this fill */
	uint64_t	 size;
	const uint8_t	*rows;		/* chunk_rows(size); NULL: whole */
	const char	*set, *path;	/* NULL: not known */
	/* No upstream is asked: what the store has is verified, and dropped
	 * where it is bad. */
	bool		 local;
	const struct fill_plain *plain;	/* NULL; for fill_adopt() alone */
	bool		 join;		/* the fill that runs, or none */
	/* This one, which the caller holds, be it over or not; or NULL. */
	struct fill	*held;
};

/*
 * In a transfer's head(): the file that it is about to bring is filled, and the
 * transfer handed over.  The fill counts as read until it is let go.  NULL: it was
 * not; then done is not called.
 */
struct fill	*fill_adopt(struct fills *f, const struct fill_want *w,
		    struct transfer *t);
void		 fill_let_go(struct fill **fl);

/*
 * A reader of bytes off to off + len (> 0, within the size) of a blob that is not
 * in the store, or was not verified since the start (blob_checked()): starts its
 * fill or joins the one that runs.  wake(arg) is called from another thread, once
 * each time after FILL_WAIT or HTTPD_WAIT was returned, when it is worth looking
 * again; never again once fill_reader_destroy() has returned, which waits for a wake
 * that is running: call it with no lock that wake needs.  NULL: out of memory, stopped, or the fill
 * has as many readers as it may (clients-per-fill).
 */
struct fill_reader;
struct fill_reader *fill_reader_new(struct fills *f, const struct fill_want *w,
		    uint64_t off, uint64_t len, void (*wake)(void *arg),
		    void *arg);
void		 fill_reader_destroy(struct fill_reader **r);
/* It joined a fill that another had started. */
bool		 fill_reader_collapsed(const struct fill_reader *r);

/* The store had it, and nobody was asked for any of it so far. */
bool		 fill_reader_hit(const struct fill_reader *r);

/* Whether the first byte can be read now. */
enum fill_state { FILL_READY, FILL_WAIT, FILL_FAILED };
enum fill_state	 fill_reader_state(struct fill_reader *r);
/*
 * Bytes at off (of the blob) into p: how many, at most max and not beyond the
 * reader's range, or HTTPD_WAIT, or HTTPD_FAIL.  One thread at a time.
 */
ssize_t		 fill_reader_read(struct fill_reader *r, uint64_t off, void *p,
		    size_t max);

/*
 * For the follow thread: fetches a whole blob (manifest, chunk table) before
 * all others, blocks until it is in the store, synced with its name (a head
 * may be accepted then).  0 and a reference in *b, or -1: ETIMEDOUT,
 * ECANCELED (*stop, or fills_stop()), EIO.  stop may be NULL; it is looked at
 * twice a second.
 */
int		 fill_fetch(struct fills *f, const struct fill_want *w,
		    unsigned timeout_s, const atomic_bool *stop,
		    struct blob **b);

/*
 * For warm.c: has a whole blob in the store, after the fills that clients wait
 * for.  Blocks for as long as the fill runs, which would go on without its
 * reader.  0, or an error number as above.
 */
int		 fill_patiently(struct fills *f, const struct fill_want *w,
		    const atomic_bool *stop);

struct fills_stats {
	/* Since the start; what the store had is not among those done. */
	uint64_t	started, done, failed;
	uint64_t	unstored, left;	/* neither: no room; no readers any more */
	unsigned	running, queued;	/* now */
};
void		 fills_stats(struct fills *f, struct fills_stats *st);

#endif
