/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_WARM_H
#define	EDGE_WARM_H

#include <stdint.h>

#include "edge/blob.h"
#include "edge/fill.h"
#include "proto/snapshot.h"

/*
 * Warming: while a generation is being prepared, the files that take the place
 * of what this edge's users asked for are fetched, so that the switch is not
 * followed by a herd.  Clients' fills come first.
 */
struct warm;

struct warm_conf {			/* borrowed */
	struct fills		*fills;
	struct blob_store	*store;
	uint64_t		 bytes;	/* of one generation at most; 0: none */
	uint64_t		 at_once;	/* files, at least 1 */
	/* Nothing is left to be fetched for the generation of that head.  By
	 * another thread, with no lock held. */
	void			(*done)(void *arg, const struct digest *head);
	void			*arg;
};
/* Starts threads.  NULL: errno. */
struct warm	*warm_new(const struct warm_conf *c);
/* HUP. */
void		 warm_configure(struct warm *w, uint64_t bytes,
		    uint64_t at_once);
/* Fetches are given up, nothing is begun any more; done is not called. */
void		 warm_stop(struct warm *w);
void		 warm_destroy(struct warm **w);

/*
 * Begins for next, a generation to come after current: done will be called,
 * unless another one of that set is begun before.  False: it will not, there is
 * nothing to be warmed.
 */
bool		 warm_begin(struct warm *w, struct snapshot *current,
		    struct snapshot *next);

struct warm_stats { uint64_t files, bytes, failed; };	/* since the start */
void		 warm_stats(struct warm *w, struct warm_stats *st);

#endif
