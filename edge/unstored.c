/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory of fills that cannot be stored, for fill.c and pull*.c.
 */
#include <stdlib.h>

#include "edge/unstored.h"
#include "proto/check.h"

struct unstored {
	struct {
		size_t	 piece;
		uint8_t	*bytes;		/* NULL: an empty place */
	} place[UNSTORED_PIECES];
	unsigned	 next;		/* the place that has waited longest */
	size_t		 front;		/* behind the furthest piece so far */
};

struct unstored *
unstored_new(void)
{

	return (calloc(1, sizeof(struct unstored)));
}

void
unstored_destroy(struct unstored **up)
{
	struct unstored *u = *up;
	unsigned i;

	*up = NULL;
	if (u == NULL)
		return;
	for (i = 0; i < UNSTORED_PIECES; i++)
		free(u->place[i].bytes);
	free(u);
}

bool
unstored_put(struct unstored *u, size_t piece, uint8_t **bytes,
    size_t *dropped)
{
	unsigned i = u->next;
	bool full = u->place[i].bytes != NULL;

	CHECK(unstored_get(u, piece) == NULL);
	*dropped = u->place[i].piece;
	free(u->place[i].bytes);
	u->place[i].piece = piece;
	u->place[i].bytes = *bytes;
	*bytes = NULL;
	u->next = (i + 1) % UNSTORED_PIECES;
	if (piece >= u->front)
		u->front = piece + 1;
	return (full);
}

const uint8_t *
unstored_get(const struct unstored *u, size_t piece)
{
	unsigned i;

	for (i = 0; i < UNSTORED_PIECES; i++)
		if (u->place[i].bytes != NULL && u->place[i].piece == piece)
			return (u->place[i].bytes);
	return (NULL);
}

size_t
unstored_end(const struct unstored *u, size_t piece)
{

	return (piece + (piece < u->front ? 1 : UNSTORED_AHEAD));
}
