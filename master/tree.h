/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_TREE_H
#define	MASTER_TREE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "master/store.h"
#include "proto/snapshot.h"

#define	TREE_KEPT	2		/* trees kept of a set */

/*
 * Trees that any static HTTP server can serve: tree/<set>/N/, `current` -> N.
 * statefd is the state folder; any thread, one for each set at a time.
 */

/*
 * Builds tree/<set>/N/ of a snapshot whose blobs are all in the store; files
 * that did not change are linked from previous' tree (may be NULL).  Complete,
 * synced and under its name, or absent.  A tree N that is there already is
 * replaced.  *stop (may be NULL) ends it early with ECANCELED.  -1: errno, and
 * err names the path.
 */
int	tree_build(int statefd, struct store *s, const struct snapshot *next,
	    const struct snapshot *previous, const atomic_bool *stop,
	    struct parse_error *err);
bool	tree_present(int statefd, const char *set, uint64_t generation);
/* Points `current` at N, atomically. */
int	tree_switch(int statefd, const char *set, uint64_t generation);
/* Removes the set's trees but those of the n generations. */
int	tree_retain(int statefd, const char *set, const uint64_t *keep,
	    size_t n);

#endif
