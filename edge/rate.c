/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The limit of all fills' bytes a second.  Called by upstream.c in the transfer
 * thread.
 */
#include <sys/param.h>

#include "edge/rate.h"
#include "proto/clock.h"

#define	BURST		10		/* a second's bytes by this */
#define	BURST_MIN	16384		/* bytes: what curl hands over at once */

static int64_t
burst(const struct rate *r)
{

	return (MAX((int64_t)(r->bytes / BURST), BURST_MIN));
}

void
rate_set(struct rate *r, uint64_t bytes)
{

	if (bytes == r->bytes)
		return;
	r->bytes = bytes;
	r->room = burst(r);
	r->at_ms = clock_boot_ms();
}

void
rate_take(struct rate *r, size_t bytes)
{

	if (r->bytes > 0)
		r->room -= (int64_t)bytes;
}

int
rate_wait(struct rate *r)
{
	int64_t now, ms, more;

	if (r->bytes == 0)
		return (0);
	now = clock_boot_ms();
	ms = MIN(now - r->at_ms, RATE_WAIT_MS);
	if (ms > 0 && (more = (int64_t)r->bytes * ms / 1000) > 0) {
		r->room = MIN(burst(r), r->room + more);
		r->at_ms = now;
	}
	if (r->room > 0)
		return (0);
	return ((int)MIN(1 - r->room * 1000 / (int64_t)r->bytes,
	    RATE_WAIT_MS));
}
