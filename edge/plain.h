/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_PLAIN_H
#define	EDGE_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/blob.h"
#include "edge/bytes.h"
#include "edge/upstream.h"
#include "proto/config.h"

/*
 * Plain sets (pkgcast-edge(8), PLAIN UPSTREAMS): caches of other servers' trees,
 * which nobody has signed.  Any thread, unless said otherwise.
 */
struct plains;

struct plains_conf {			/* borrowed */
	const struct edge_conf	*edge;
	struct blob_store	*store;
	struct fills		*fills;
	struct bytes_source	*bytes;
	const char		*name;		/* for Via */
};

/* Reads what was kept of earlier; starts the threads of each set's upstreams.
 * NULL: err. */
struct plains	*plains_new(const struct plains_conf *c,
		    struct parse_error *err);
/* Begins to poll.  -1: errno. */
int		 plains_start(struct plains *p);
/* HUP: limits of upstreams. */
void		 plains_configure(struct plains *p, const struct edge_conf *c);
/* Polls end.  At the end: plains_stop(), httpd_stop(), fills_stop(),
 * plains_stop_transfers(), fills_destroy(), plains_destroy(). */
void		 plains_stop(struct plains *p);
void		 plains_stop_transfers(struct plains *p);
void		 plains_destroy(struct plains **p);

/*
 * Answers a request (or waits) if its path lies in a plain set: decoded and folded
 * as in route.h.  False: it does not.
 */
bool		 plains_request(struct plains *p, struct httpd_request *r,
		    const char *path);
/* Each file of the set will be verified when it is next asked for.  -1: there is
 * no such set. */
int		 plains_mark(struct plains *p, const char *set, uint64_t *epoch);
/* For blob_store_named(): some record is of that content. */
bool		 plains_named(struct plains *p, const struct digest *d);

struct plain_stats {
	const char	*name, *kind;		/* good until plains_destroy() */
	bool		 by_mark;		/* else by HTTP's rules */
	bool		 stale;			/* polls fail */
	uint64_t	 epoch;
	int64_t		 polled_ms;		/* last good one; 0: none */
	uint64_t	 files;			/* that are known */
	uint64_t	 hits, misses, verified, changed, stale_answers, passed;
	struct upstreams *upstreams;
};
size_t		 plains_n(const struct plains *p);
void		 plains_stats(struct plains *p, size_t i,
		    struct plain_stats *st);

#endif
