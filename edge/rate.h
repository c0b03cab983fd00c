/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_RATE_H
#define	EDGE_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A token bucket: bytes a second, with a burst of a tenth of a second.  One
 * thread.
 */
struct rate {
	uint64_t	bytes;		/* a second, below 2^53; 0: no limit */
	int64_t		room;		/* bytes; below 0: too much was taken */
	int64_t		at_ms;		/* when room was right */
};

void	rate_set(struct rate *r, uint64_t bytes);
void	rate_take(struct rate *r, size_t bytes);
/* 0: go on; else after how many milliseconds to ask again. */
#define	RATE_WAIT_MS	1000		/* at most */
int	rate_wait(struct rate *r);

#endif
