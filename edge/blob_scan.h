/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_BLOB_SCAN_H
#define	EDGE_BLOB_SCAN_H

#include "edge/table.h"

/*
 * Puts what the store's folders hold into its empty table; removes what are no
 * blobs.  Where there is much, threads go on looking at sizes after it returned
 * (store->sizing).  Before anybody else uses the store.  NULL: errno.
 */
struct blob_scan *blob_scan_new(struct blob_store *s);
/* Ends what still goes on. */
void		  blob_scan_destroy(struct blob_scan **sc);

#endif
