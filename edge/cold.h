/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_COLD_H
#define	EDGE_COLD_H

#include <stdint.h>

#include "edge/blob.h"

/*
 * Blobs whose bytes are not in memory: a few threads wait for the disk, so that
 * no HTTP thread does.
 */
struct cold_pool;
struct cold;				/* one request's */
struct memory;

struct cold_pool *cold_pool_new(void);		/* starts threads; NULL: errno */
void		 cold_pool_destroy(struct cold_pool **p); /* no request left */

/*
 * len bytes from off of a blob, whose reference is taken over, as is that to
 * what is in memory of it (*m may be NULL).  wake(arg) is
 * called whenever cold_state() or the body has something new, by any thread,
 * and never after cold_destroy().  NULL: out of memory.
 */
struct cold	*cold_new(struct cold_pool *p, struct blob **b,
		    struct memory **m, uint64_t off, uint64_t len,
		    void (*wake)(void *arg), void *arg);
void		 cold_destroy(struct cold **c);

enum cold_state { COLD_WAIT, COLD_READY, COLD_FAILED };
enum cold_state	 cold_state(struct cold *c);
/* When ready: where all bytes are in memory, that, with a reference; takes c over.
 * NULL: they are not. */
struct memory	*cold_memory(struct cold **c);
/* Else a body that has them read ahead.  Takes c over.  NULL: out of memory. */
struct httpd_body *cold_body(struct cold **c);

#endif
