/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_TABLE_H
#define	EDGE_TABLE_H

#include <sys/queue.h>
#include <sys/types.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/memory.h"

/*
 * Inside of the blob store: the table of what is on disk.
 *
 * Locks: store->lock guards the queues, the sums and every change of the
 * table; a stripe guards finding blobs in its part of it.  A change takes
 * both, lock first; finding takes the stripe alone.  The table holds one
 * reference, so refs == 1 under the stripe means that nobody uses a blob and
 * nobody can begin to.  Neither is held while waiting for the disk, nor for
 * longer than it takes to look at some hundred blobs.
 */
#define	TABLE_STRIPES	1024u		/* a power of 2, below 65,536 */
#define	TABLE_LINE	64		/* bytes that one processor writes */
#define	BLOB_MAGIC	0x626c6f62u
#define	BLOB_UNSIZED	UINT64_MAX	/* nobody looked at the file yet */
#define	BLOB_NAME	(3 + DIGEST_HEX + 1)	/* ab/<sha256> and NUL */

/* The queue that a blob is in; those from FILLING on are in none. */
enum table_queue {
	Q_NAMED, Q_NEEDED, Q_UNNAMED,	/* complete */
	Q_IDLE,				/* partial, nobody fills it */
	Q_N,
	Q_FILLING = Q_N,
	Q_GOING,			/* its file is being removed */
	Q_GONE				/* not in the table any more */
};

/* There may be millions: no larger than it has to be. */
struct blob {
	unsigned	 magic;
	atomic_uint	 refs;
	struct blob_store *store;
	struct digest	 digest;
	uint64_t	 size;		/* of the content; the stripe */
	uint64_t	 charge;	/* bytes of the budget; store->lock */
	struct memory	*memory;	/* see memory.h */
	struct blob	*chain;		/* of its bucket; under both locks */
	TAILQ_ENTRY(blob) link;		/* store->lock */
	enum table_queue queue;		/* changed under both locks */
	atomic_bool	 visited;	/* SIEVE's bit */
	atomic_bool	 checked;	/* see blob_checked() */
	bool		 coming;	/* FILLING, from memory or another file;
					 * store->lock */
};

TAILQ_HEAD(blob_queue, blob);

/* A part of the table; it grows by itself. */
struct table_stripe {
	alignas(TABLE_LINE) pthread_mutex_t lock;
	struct blob	**bucket;	/* changed under both locks, as */
	uint32_t	 nbucket;	/* these are; a power of 2, or 0 */
	uint32_t	 nblob;
};

struct blob_store {
	char		*dir;
	int		 blobs, partials;	/* folders in it */
	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;	/* what was Q_GOING is gone; sizing */
	uint64_t	 max_bytes, min_free;
	uint64_t	 bytes;		/* sum of charges */
	uint64_t	 fixed;		/* of those, NEEDED and FILLING */
	unsigned	 sizing;	/* threads that still learn sizes */
	struct blob_scan *scan;
	uint64_t	 evicted, dropped;
	_Atomic uint64_t scrubbed;
	size_t		 n[Q_GONE + 1];	/* blobs in each state */
	struct blob_queue q[Q_N];	/* newest first */
	struct memory_cache memory;
	/* Places in queues, going from the oldest on; NULL: at the end. */
	struct blob	*hand;		/* SIEVE's, in q[Q_NAMED] */
	struct blob	*broom;		/* the sweep's */
	/* What the disk had free, when, and the sum of charges then. */
	uint64_t	 space, space_bytes;
	int64_t		 space_ms;	/* when to ask again */
	enum blob_named	(*named)(void *, const struct digest *);
	void		*named_arg;
	struct table_stripe stripe[TABLE_STRIPES];
};

void		 table_init(struct blob_store *s);
void		 table_free(struct blob_store *s);
pthread_mutex_t	*table_stripe(struct blob_store *s, const struct digest *d);
/* The first two with the stripe or the store locked. */
struct blob	*table_find(struct blob_store *s, const struct digest *d);
bool		 table_complete(const struct blob *b);
/* Copies the digests of a stripe's complete blobs, malloc'd, to *v; how many, -1:
 * no memory. */
ssize_t		 table_digests(struct blob_store *s, unsigned stripe,
		    struct digest **v);
char		*table_name(const struct digest *d, char out[BLOB_NAME]);
void		 table_unref(struct blob *b);

/* All below: store locked. */

/* A new blob in the table, with the table's reference.  NULL: no memory. */
struct blob	*table_add(struct blob_store *s, const struct digest *d,
		    enum table_queue queue, uint64_t size, uint64_t charge);
void		 table_move(struct blob *b, enum table_queue to,
		    uint64_t charge);
/* Whether anybody uses it now; later may be another matter. */
bool		 table_in_use(const struct blob *b);
/* How long a complete blob's file was found to be. */
void		 table_size(struct blob *b, uint64_t size);
/* Makes it the newest of its queue. */
void		 table_refresh(struct blob *b);
/* Counts and logs that a complete blob's file is no good; what happens then. */
void		 table_damaged(struct blob *b, const char *then);
/*
 * Takes a blob and its file away.  Unlocks while it removes the file; for that
 * time the blob is Q_GOING: it cannot be had, and a fill of that digest waits,
 * since its file would have the same name.  Whoever reads it still can.
 */
void		 table_discard(struct blob *b);
/* The same, and true, unless it is in use by more than refs references. */
bool		 table_discard_unused(struct blob *b, unsigned refs);

#endif
