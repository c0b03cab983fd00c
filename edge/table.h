/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_TABLE_H
#define	EDGE_TABLE_H

#include <sys/queue.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/blob.h"

/*
 * Inside of the blob store, for blob.c alone: the table of what is on disk and
 * the choice of what goes.
 *
 * Locks: store->lock guards the queues, the sums and every change of the
 * table; a stripe guards finding blobs in some of the buckets.  A change takes
 * both, lock first; finding takes the stripe alone.  The table holds one
 * reference, so refs == 1 under the stripe means that nobody uses a blob and
 * nobody can begin to.
 */
#define	TABLE_BUCKETS	65536u		/* by the digest's first two bytes */
#define	TABLE_STRIPES	64u
#define	BLOB_MAGIC	0x626c6f62u
#define	BLOB_NAME	(3 + DIGEST_HEX + 1)	/* ab/<sha256> and NUL */

/* The queue that a blob is in; those FILLING and GONE are in none. */
enum table_queue {
	Q_NAMED, Q_NEEDED, Q_UNNAMED,	/* complete */
	Q_IDLE,				/* partial, nobody fills it */
	Q_N,
	Q_FILLING = Q_N, Q_GONE
};

/* Bytes of a small blob, shared by the answers that send them. */
struct memory {
	atomic_uint	refs;
	size_t		len;
	char		data[];
};

struct blob {
	unsigned	 magic;
	struct blob_store *store;
	struct digest	 digest;
	uint64_t	 size;		/* of the content */
	uint64_t	 charge;	/* bytes of the budget; store->lock */
	enum table_queue queue;		/* changed under both locks */
	atomic_uint	 refs;
	atomic_bool	 visited;	/* SIEVE's bit */
	atomic_bool	 memory_hit;
	struct memory	*memory;	/* changed under both locks */
	LIST_ENTRY(blob) chain;		/* the same */
	TAILQ_ENTRY(blob) link, memory_link;	/* store->lock */
};

TAILQ_HEAD(blob_queue, blob);

struct blob_store {
	int		 blobs, partials;	/* folders */
	pthread_mutex_t	 lock;
	uint64_t	 max_bytes, min_free;
	uint64_t	 bytes;		/* sum of charges */
	uint64_t	 fixed;		/* of those, NEEDED and FILLING */
	uint64_t	 memory;
	uint64_t	 evicted, dropped;
	size_t		 n[Q_GONE + 1];	/* blobs in each state */
	struct blob_queue q[Q_N];	/* newest first */
	struct blob_queue in_memory;
	struct blob	*hand;		/* SIEVE's, in q[Q_NAMED]; NULL: end */
	enum blob_named	(*named)(void *, const struct digest *);
	void		*named_arg;
	pthread_mutex_t	 stripe[TABLE_STRIPES];
	LIST_HEAD(, blob) bucket[TABLE_BUCKETS];
};

void		 table_init(struct blob_store *s);
void		 table_free(struct blob_store *s);
pthread_mutex_t	*table_stripe(struct blob_store *s, const struct digest *d);
/* With the stripe or the store locked. */
struct blob	*table_find(struct blob_store *s, const struct digest *d);
bool		 table_complete(const struct blob *b);
char		*table_name(const struct digest *d, char out[BLOB_NAME]);
void		 table_unref(struct blob *b);
void		 table_memory_unref(void *memory);

/* All below: store locked. */

/* A new blob in the table, with the table's reference.  NULL: no memory. */
struct blob	*table_add(struct blob_store *s, const struct digest *d,
		    enum table_queue queue, uint64_t size, uint64_t charge);
void		 table_move(struct blob *b, enum table_queue to,
		    uint64_t charge);
/*
 * Takes a blob out of the table, and its file away (under the lock, or a new
 * file of that name might be hit), unless it has more than max_refs.  Whoever
 * reads it still can.
 */
bool		 table_discard(struct blob *b, unsigned max_refs);
void		 table_memory_forget(struct blob *b);
/* The queue for what `named` says; unlocked. */
enum table_queue table_ask(struct blob_store *s, const struct digest *d);
/*
 * Evicts until the sum of charges is within the budget and `need` more bytes
 * fit on the disk; nothing, when that would not be enough anyway.  Unlocks in
 * between.  -1: ENOSPC.
 */
int		 table_room(struct blob_store *s, uint64_t need);
/* Evicts `bytes`, whatever the budget says.  The same. */
int		 table_shrink(struct blob_store *s, uint64_t bytes);

#endif
