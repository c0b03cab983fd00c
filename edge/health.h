/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_HEALTH_H
#define	EDGE_HEALTH_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/upstream.h"
#include "proto/config.h"

/*
 * Inside of the upstreams, for upstream.c alone: which there are, how each
 * does, whom to ask next.  Any thread; one lock, inside, the innermost.
 *
 * A hard fault (refused, timed out, stalled) sets an upstream aside at once,
 * wrong bytes do so for HEALTH_WRONG times as long, any other fault when it is
 * the HEALTH_SOFT-th in a row.  The last one that is left is never set aside;
 * siblings do not count as left, since they only give what they have.
 */
#define	HEALTH_SOFT	2
#define	HEALTH_WRONG	10

enum health_event {
	HEALTH_GOOD,
	HEALTH_NEUTRAL,			/* says nothing about the upstream */
	HEALTH_SOFT_FAULT, HEALTH_HARD_FAULT, HEALTH_WRONG_BYTES
};

struct upstream {			/* read by who has picked it */
	char			url[UPSTREAM_URL];
	enum upstream_kind	kind;
	unsigned		slot;
	/* All below: the lock's. */
	bool			listed;		/* in the configuration */
	unsigned		users, streak;
	int64_t			aside_until;	/* clock_boot_ms() */
	uint64_t		requests, bytes, faults;
	char			reason[UPSTREAM_REASON];
};

struct health {
	pthread_mutex_t	 lock;
	struct upstream	*slot[UPSTREAMS_MAX];
	struct upstream	*order[UPSTREAMS_MAX];	/* as configured */
	size_t		 n;
	int64_t		 aside_ms;
};

void	health_init(struct health *h);
void	health_free(struct health *h);
/* -1: out of memory; the list is as it was. */
int	health_configure(struct health *h, const struct edge_conf *c);

/*
 * The best one whose bit is not in tried, marked as used, or NULL.  Siblings
 * come first for blobs and last for documents; what is coded only masters and
 * edges have; those set aside come after all others.  most: NULL with *full when
 * it has that many users already.
 */
enum health_use { HEALTH_BLOB, HEALTH_DOCUMENT, HEALTH_CODED };
struct upstream	*health_pick(struct health *h, uint64_t tried,
		    enum health_use use, unsigned most, bool *full);
/* What came of it; ends the use. */
void	health_end(struct health *h, struct upstream *u, uint64_t bytes,
	    enum health_event event, const char *reason);
void	health_bad(struct health *h, const char *url, const char *reason);
size_t	health_stats(struct health *h, struct upstream_stat *st, size_t n);

#endif
