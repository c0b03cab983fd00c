/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_LEASE_H
#define	EDGE_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/message.h"
#include "proto/site.h"

/*
 * What the master's word is worth, and until when (design.md, section 5).
 * Pure arithmetic over the two clocks, which callers read and pass.
 */
#define	LEASE_SENT_KEPT	32	/* renewals that a reply may still answer */
#define	LEASE_TTL_MAX_MS 3600000 /* a longer time to live is cut to this */

struct lease_now { int64_t boot, real; };	/* milliseconds */
struct lease_now lease_clock(void);

struct leases;			/* any thread */
struct lease_set;		/* one set's; lives as long as the leases */

/* instance: INSTANCE_HEX digits.  NULL: errno. */
struct leases	*leases_new(const char *instance);
void		 leases_destroy(struct leases **l);

/*
 * For site_new(): the lease of a set that is held from now on.  It begins with
 * what was granted for all sets not held.  NULL: out of memory.
 */
void		*leases_set(void *leases, const char *set);

/* A renewal is about to be sent: its sequence, and the moment that counts. */
uint64_t	 leases_sent(struct leases *l, struct lease_now now);

/*
 * A reply: extends what it covers.  False when it answers no renewal of this
 * instance that is still known, or an older one than the last that counted.
 */
bool		 leases_granted(struct leases *l, const struct lease *reply);

/* Whether answers are up to date.  s NULL: for what no held set has. */
bool		 leases_fresh(const struct leases *l, const struct lease_set *s,
		    struct lease_now now);
/* Milliseconds that are left, 0 when it ran out. */
int64_t		 leases_left(const struct leases *l, const struct lease_set *s,
		    struct lease_now now);

/* For edges that only poll: a whole poll succeeded at `now`, and its word is
 * taken for so long. */
void		 leases_polled(struct leases *l, struct lease_now now,
		    int64_t good_ms);

#endif
