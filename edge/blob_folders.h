/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_BLOB_FOLDERS_H
#define	EDGE_BLOB_FOLDERS_H

#include "edge/table.h"

/* Inside of the blob store. */

/* Opens s->dir's folders, made if need be.  -1: errno. */
int	blob_folders_open(const struct blob_store *s, int *blobs,
	    int *partials);
/*
 * After ENOENT: somebody may have removed the folders, and nothing can be made in
 * a removed one.  Has new ones under the same descriptors, which other threads use.
 * What the table has and the disk has not goes when it is asked for.  -1: why
 * there are none.
 */
int	blob_folders_renew(struct blob_store *s);

#endif
