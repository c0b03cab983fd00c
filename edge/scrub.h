/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_SCRUB_H
#define	EDGE_SCRUB_H

#include <stdint.h>

#include "edge/blob.h"

/*
 * Reads all stored blobs again and again, slowly, and drops those that are not
 * what their name says (G3).  A thread of its own.
 */
struct edge_scrub;

/* NULL: errno.  The store must outlive it. */
struct edge_scrub	*edge_scrub_start(struct blob_store *s, uint64_t bytes_per_s);
/* 0: pauses.  Any thread. */
void		 edge_scrub_rate(struct edge_scrub *s, uint64_t bytes_per_s);
void		 edge_scrub_stop(struct edge_scrub **s);

#endif
