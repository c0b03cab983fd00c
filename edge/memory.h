/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_MEMORY_H
#define	EDGE_MEMORY_H

#include <sys/queue.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/blob.h"

/*
 * The bytes of blobs in memory, ready to be sent, and the answers that were
 * made of them.  Small blobs are copied, larger ones mapped; only the kernel
 * reads a mapping.  What is held is bounded; what was not used for longest
 * goes first.  Any thread.
 *
 * Locks: memory_cache.lock guards its list and sums; the blob's stripe guards
 * what hangs at the blob.  The order is store, cache, stripe.
 */
#define	MEMORY_COPY_MAX	65536u		/* bytes of a blob; more is mapped */
#define	MEMORY_COPY_ALWAYS 16384u	/* so is, for want of room, what is more */
#define	MEMORY_DEFAULT	(256u << 20)	/* bytes of copies */
#define	MEMORY_MAPPED	16384u		/* mappings; Linux allows 65,530 */
#define	MEMORY_FILES	64u		/* of large ones, open; if files allow */

struct memory;				/* reference-counted */

/*
 * What is in memory of a complete blob of that size; NULL: nothing.  Counts as
 * a hit.  Never blocks.
 */
struct memory	*memory_get(struct blob_store *s, const struct digest *d,
		    uint64_t size);
/*
 * Brings a blob to memory: opens and maps, or reads and verifies its file, so
 * it waits for the disk.  NULL (errno): the file could not be opened or has
 * other bytes; then the blob was dropped and is to be filled again (or: out of
 * descriptors or memory, not dropped).
 */
struct memory	*memory_load(struct blob *b);
struct memory	*memory_ref(struct memory *m);
void		 memory_unref(void *memory);
/*
 * Whether sending that slice waits for no disk, as far as can be told: pages may
 * go again before they are sent.  resident: for threads that may take their
 * time, as a mapping's pages are asked about, at up to half a millisecond a
 * thousand.  at_once: for the others; false for too large a slice.
 */
#define	MEMORY_ASK	(2u << 20)	/* bytes */
bool		 memory_resident(struct memory *m, uint64_t off,
		    uint64_t len);
bool		 memory_at_once(struct memory *m, uint64_t off, uint64_t len);
/* Whether all of it was there when it was last asked about, a second ago at
 * most. */
bool		 memory_seen(const struct memory *m);
/* A descriptor of the caller's, for sendfile(2); -1: there is none. */
int		 memory_file(struct memory *m);
/* Has one ready for as long as others are not wanted more; may wait for the
 * disk. */
void		 memory_keep_file(struct memory *m, struct blob *b);
/* A body with the whole blob (httpd_reply() selects the slice).  Takes the
 * reference.  NULL: out of memory. */
struct httpd_body *memory_body(struct memory **m);

/*
 * Answers made once: of a blob that is in memory, for a path in one generation.
 * serial is the generation's (snapshot_serial()), time the path's
 * Last-Modified: with the digest they are all that such an answer depends on.
 */
struct made_key {
	uint64_t	serial;
	int64_t		time;
	unsigned	status;		/* 200 or 304 */
};
/* With a reference; NULL: there is none, or its body, where that is sent, is not
 * there at once.  Counts as a hit.  Never blocks. */
struct httpd_prepared *memory_made(struct blob_store *s,
		    const struct digest *d, uint64_t size,
		    const struct made_key *k, bool body);
/* Keeps an answer, with a reference of its own, in the place of one for another
 * key.  The answer holds a reference to m. */
void		 memory_keep(struct memory *m, const struct made_key *k,
		    struct httpd_prepared *p);
const void	*memory_bytes(const struct memory *m);

/* Inside of the blob store. */

TAILQ_HEAD(memory_list, memory);

struct memory_cache {
	pthread_mutex_t		 lock;
	struct memory_list	 list;		/* newest first */
	struct memory_list	 files;		/* open ones, newest first */
	uint64_t		 bytes, max_bytes;	/* of copies */
	size_t			 nmapped, nfiles, max_files;
};

void	memory_init(struct memory_cache *c, uint64_t max_bytes);
void	memory_free(struct memory_cache *c);	/* all were forgotten */
void	memory_limit(struct memory_cache *c, uint64_t max_bytes);
/* Bytes of copies, number of mappings. */
void	memory_stats(struct memory_cache *c, uint64_t *bytes, uint64_t *mapped);
/* Takes what a blob has in memory away from it; answers that are being sent
 * keep theirs.  A blob that is Q_GONE gets none. */
void	memory_forget(struct blob *b);
/* Whether an answer uses it; sure with the stripe locked.  m may be NULL. */
bool	memory_in_use(const struct memory *m);

#endif
