/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_EVICT_H
#define	EDGE_EVICT_H

#include "edge/table.h"

/*
 * What goes from the blob store, and when.  The first three are called with
 * the store locked, and unlock it in between.
 */

/*
 * Evicts until the sum of charges is within the budget and the disk has
 * min-free left, with `need` bytes that are in the sum already and not on the
 * disk yet; nothing, when that would not be enough anyway.  -1: ENOSPC.
 */
int		 evict_room(struct blob_store *s, uint64_t need);
/* Evicts `bytes`, whatever the budget says.  The same. */
int		 evict_shrink(struct blob_store *s, uint64_t bytes);
/* The next evict_room() asks the disk, however lately that was done. */
void		 evict_ask_disk(struct blob_store *s);
/*
 * Asks `named` for every blob that is there now; removes partial files that
 * nobody names.  Unlocked; one at a time.
 */
void		 evict_sweep(struct blob_store *s);

#endif
