/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_STORE_H
#define	MASTER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/digest.h"

/*
 * Blobs on disk: blob/<sha256>, flat, 0444, each complete and verified when it
 * appears there (by rename from tmp/).  Any thread.
 */
struct store;

/*
 * Opens, or makes, blob/ and tmp/ below the state folder (borrowed), and
 * empties tmp/.  NULL: errno.
 */
struct store	*store_new(int statefd);
void		 store_destroy(struct store **s);

/* Descriptor of a blob, for reading, or -1: ENOENT, or EIO when the file has
 * another size than the one expected. */
int		 store_open(const struct store *s, const struct digest *d,
		    uint64_t size);
bool		 store_has(const struct store *s, const struct digest *d,
		    uint64_t size);
/* The folder blob/, borrowed. */
int		 store_dirfd(const struct store *s);
/* Its whole content, malloc'd and NUL-terminated, of that size; not verified.
 * NULL: errno as of store_open(). */
char		*store_slurp(const struct store *s, const struct digest *d,
		    uint64_t size);

/*
 * One blob being taken in.  rows (borrowed until the end, may be NULL) are the
 * digests of its chunks, checked as they fill up.  NULL: errno.
 */
struct intake;
struct intake	*store_begin(struct store *s, const struct digest *d,
		    uint64_t size, const uint8_t *rows);
/*
 * -1 with errno: EBADMSG (a chunk is not what its row says), EFBIG (more than
 * size), or what the disk says (ENOSPC, EDQUOT, EIO).  The first failure stays.
 */
int		 store_add(struct intake *in, const void *p, size_t len);
/* Ends it: verified and under its name, or removed.  -1: errno as above;
 * EBADMSG: its digest or length is another.  Durable after store_sync(). */
int		 store_end(struct intake **in);
void		 store_abort(struct intake **in);	/* tolerates NULL */

/* Whether the blob's bytes are those of its digest, and of rows (may be NULL).
 * -1: errno; EBADMSG: they are not. */
int		 store_check(const struct store *s, const struct digest *d,
		    uint64_t size, const uint8_t *rows);
/* Makes all blobs taken in so far durable. */
int		 store_sync(struct store *s);
/* Says that a blob on disk may not be durable yet. */
int		 store_unsynced(struct store *s, const struct digest *d);
/* Removes one (found bad); the next publish that names it asks for it. */
int		 store_remove(struct store *s, const struct digest *d);

/*
 * Removes every blob, or each of those n, that `named` does not want.  Between
 * store_hold() and store_release() none is removed, so that what was found there
 * can be named in time.  Returns how many went, or -1.
 */
void		 store_hold(struct store *s);
void		 store_release(struct store *s);
long		 store_collect(struct store *s,
		    bool (*named)(void *arg, const struct digest *d),
		    void *arg);
long		 store_collect_some(struct store *s, const struct digest *d,
		    size_t n, bool (*named)(void *arg, const struct digest *d),
		    void *arg);
/* Calls each() for every blob, in no order, until it returns other than 0,
 * which is returned; -1: errno. */
int		 store_each(const struct store *s,
		    int (*each)(void *arg, const struct digest *d), void *arg);

#endif
