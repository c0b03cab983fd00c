/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_BLOB_SETTLE_H
#define	EDGE_BLOB_SETTLE_H

#include "edge/table.h"

/*
 * Inside of the blob store: small blobs are written without waiting for the disk.
 * Some time later, when the system will have done that by itself, each is synced:
 * that costs little then, and tells whether it failed.  What was lost is dropped,
 * to be filled again.  After a power cut all blobs are compared with their
 * digests anyway (blob_checked()).
 */
struct blob_settle;

struct blob_settle *blob_settle_new(struct blob_store *s);	/* NULL: errno */
/* What still waits is left as it is. */
void	blob_settle_destroy(struct blob_settle **w);
/* Any thread.  False: too many wait; it is to be synced now. */
bool	blob_settle_add(struct blob_settle *w, const struct digest *d);
/* By blob.c: syncs one, and drops it where that fails. */
void	blob_settled(struct blob_store *s, const struct digest *d);
/* Returns when all is synced that was added before. */
void	blob_settle_now(struct blob_settle *w);

#endif
