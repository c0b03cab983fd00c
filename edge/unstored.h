/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_UNSTORED_H
#define	EDGE_UNSTORED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Pieces of a fill that the store has no place for, in memory: the newest ones,
 * for those who read now.  Who reads later than they are kept has them fetched
 * again.  Inside of a fill, under its lock.
 */
#define	UNSTORED_FILLS	16u		/* at once */
#define	UNSTORED_PIECES	32u		/* of one fill: 8 MiB of chunks */
#define	UNSTORED_AHEAD	8u		/* pieces that one transfer brings */

struct unstored;

struct unstored	*unstored_new(void);	/* NULL: out of memory */
void		 unstored_destroy(struct unstored **u);
/* Keeps a piece, whose malloc'd bytes are taken over; *dropped tells which one
 * went for it.  False: none did. */
bool		 unstored_put(struct unstored *u, size_t piece, uint8_t **bytes,
		    size_t *dropped);
/* NULL: not here. */
const uint8_t	*unstored_get(const struct unstored *u, size_t piece);
/* The piece that a transfer from `piece` on should end before: those who lag
 * behind get one at a time, since what they read may be gone when they come to
 * it. */
size_t		 unstored_end(const struct unstored *u, size_t piece);

#endif
