/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_BLOB_H
#define	EDGE_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/digest.h"
#include "proto/httpd.h"

/*
 * The blobs on an edge's disk: dir/blob/ab/<sha256> complete and verified,
 * dir/partial/<sha256> being filled.  Kept within a number of bytes, and above
 * a number of free bytes on the file system, by SIEVE.  Any thread; the hit
 * path (memory_made, memory_get) takes one of many short locks.
 */
struct blob_store;
struct blob;				/* a reference to a complete blob */

/*
 * Creates the folders that are missing and scans them.  Names that are not
 * digests (leftovers) are removed; partial files are kept and checked when
 * they are next filled.  Where there are many blobs it goes on learning their
 * sizes after it returned; until then none goes for the budget's sake.  NULL:
 * errno.  One store a folder: the caller locks.
 */
struct blob_store *blob_store_new(const char *dir, uint64_t max_bytes,
		    uint64_t min_free);
void		 blob_store_destroy(struct blob_store **s);
/* New limits (HUP).  Evicts at once what is too much: may take a while. */
void		 blob_store_limits(struct blob_store *s, uint64_t max_bytes,
		    uint64_t min_free);
/* Bytes of small blobs in memory; without it, MEMORY_DEFAULT. */
void		 blob_store_memory(struct blob_store *s, uint64_t max_bytes);

/* What a digest is worth to the sets that the edge carries. */
enum blob_named {
	BLOB_UNNAMED,			/* no kept generation: evicted first */
	BLOB_NAMED,			/* by SIEVE */
	BLOB_NEEDED			/* manifests, chunk tables: never */
};
/*
 * How to tell; set before the first fill.  Called from threads of fill and from
 * callers of blob_store_limits() and blob_store_sweep(), with no lock of ours
 * held.
 */
void		 blob_store_named(struct blob_store *s,
		    enum blob_named (*named)(void *arg,
			const struct digest *d), void *arg);
/*
 * Asks `named` for every blob; removes partial files that nobody names.  For
 * the follow thread after a switch, and when generations expire.
 */
void		 blob_store_sweep(struct blob_store *s);

/*
 * A complete blob of exactly that size, or NULL.  One of another size is
 * dropped (it is not what its name says), at the latest when it is opened.
 * Counts as a hit.
 */
struct blob	*blob_get(struct blob_store *s, const struct digest *d,
		    uint64_t size);
/* Whether it is there; no hit, no reference. */
bool		 blob_have(struct blob_store *s, const struct digest *d);
/* Whether it is there and was asked for again since it came, as far as SIEVE
 * remembers. */
bool		 blob_asked(struct blob_store *s, const struct digest *d);
/* Whether a partial file of it is there that nobody fills. */
bool		 blob_partial_have(struct blob_store *s, const struct digest *d);
void		 blob_put(struct blob **b);
/*
 * Whether all its bytes were compared with its digest, by whoever did that, since
 * the store was opened or when it was filled.  Until then nobody may be sent any
 * that he did not compare himself.
 */
bool		 blob_checked(const struct blob *b);
void		 blob_set_checked(struct blob *b);
/*
 * Calls each(arg, digest) for all complete blobs, from some place in the table on,
 * in no order, with no lock held, until it returns false; those that come or go
 * meanwhile may be left out.  -1: no memory.
 */
int		 blob_store_each(struct blob_store *s,
		    bool (*each)(void *arg, const struct digest *d), void *arg);
/*
 * For the scrub, which reads slowly and keeps nothing from being evicted.  look:
 * a complete blob's file, for reading; -1: it is not there (ENOENT, or dropped for
 * its size), or cannot be opened.  found: all of that file was read and is what it
 * should be, or not; in that case it is read once more, and dropped for good.
 */
int		 blob_look(struct blob_store *s, const struct digest *d);
void		 blob_found(struct blob_store *s, const struct digest *d,
		    bool good);
/*
 * All its bytes, verified against the digest; malloc'd, NUL behind them.  NULL:
 * errno (ENOMEM, or the blob was bad and has been dropped).  Keeps the
 * reference.
 */
char		*blob_slurp(struct blob *b, size_t *len);
/* Its name on disk outlasts a power cut from now on.  0, or -1 and errno. */
int		 blob_sync(struct blob *b);
/* Found bad: removed, so that it is filled again.  Takes the reference. */
void		 blob_drop(struct blob **b);

struct blob_stats {
	uint64_t	max_bytes, min_free;
	uint64_t	bytes;		/* complete, and reserved for partial */
	uint64_t	count;		/* complete */
	uint64_t	partial;	/* files, also idle ones */
	uint64_t	memory;		/* bytes of small blobs in memory */
	uint64_t	mapped;		/* larger blobs that are mapped */
	uint64_t	evicted;	/* blobs, since the start */
	uint64_t	dropped;	/* found bad, since the start */
	uint64_t	scrubbed;	/* read by the scrub, likewise */
	bool		counting;	/* bytes: some are not known yet */
};
void		 blob_store_stats(struct blob_store *s, struct blob_stats *st);

/*
 * For fill.c.  A partial file belongs to one fill from open to commit or
 * close, and its whole size is reserved for that time.
 *
 * open: evicts to make room; *fresh tells that it holds nothing.  Returns the
 * descriptor or -1: ENOSPC (also: larger than may be had), EEXIST (complete
 * meanwhile), EBUSY (open).
 * write: a full disk gets one more try after others made room.
 * commit: syncs and renames; the descriptor stays the caller's.
 * commit_as: the same for content whose digest was not known before; d names it
 * no more.  It may be there already.
 * whole: content that was in memory until now and is verified, in one step; it
 * may be there already.  -1: as open and commit.
 * close: not completed; keep it for later, or remove it.
 * reopen: a complete blob, not all of which is what it should be, becomes a
 * partial file that is open; fd, which is open for reading, is open for writing
 * then.  -1 (errno): the blob was dropped instead, or (EBUSY) is not there or was
 * found good.  The reference stays.
 */
int		 blob_partial_open(struct blob_store *s,
		    const struct digest *d, uint64_t size, bool *fresh);
int		 blob_partial_write(struct blob_store *s, int fd, const void *p,
		    size_t len, uint64_t off);
int		 blob_partial_commit(struct blob_store *s,
		    const struct digest *d, int fd);
int		 blob_partial_commit_as(struct blob_store *s,
		    const struct digest *d, const struct digest *content,
		    int fd);
int		 blob_partial_whole(struct blob_store *s,
		    const struct digest *content, const void *p, size_t len);
int		 blob_partial_reopen(struct blob *b, int fd);
void		 blob_partial_close(struct blob_store *s,
		    const struct digest *d, bool keep);
/*
 * A complete blob's file, for reading; the reference stays.  -1 (errno): it
 * could not be opened or has another size; then the blob was dropped and is to
 * be filled again (or: out of descriptors or memory, not dropped).
 */
int		 blob_open(struct blob *b);
/* All its bytes to p, verified against the digest.  -1: as above. */
int		 blob_read(struct blob *b, char *p);

#endif
