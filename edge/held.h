/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_HELD_H
#define	EDGE_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/head.h"
#include "proto/message.h"

/*
 * The heads that an edge holds, on disk and in memory: heads/<set>/<generation>
 * in its state folder, with ',' for each '/' of the set's name.  The highest is
 * the current one.  They outlive the cache (G7).  One thread.
 */
#define	HELD_SETS	MESSAGE_SETS	/* more cannot be reported */
#define	HELD_HEADS	(HEAD_KEPT_MAX + 1)	/* one until held_retain() */

struct held;
struct held_set {			/* read-only for others */
	char		 name[SET_NAME_MAX + 1];
	/* No head below this is taken: the highest number ever held, also where
	 * its document could not be read again.  0: none yet. */
	uint64_t	 floor;
	size_t		 nhead;			/* newest first */
	struct head	*head[HELD_HEADS];
};

/* Opens (and creates) the folder and reads what is there; files that are no
 * good are named in the log and left.  NULL: errno. */
struct held	*held_new(int statedir);
void		 held_destroy(struct held **h);

size_t		 held_n(const struct held *h);
const struct held_set *held_nth(const struct held *h, size_t i); /* by name */
const struct held_set *held_named(const struct held *h, const char *set);
/* A held set whose name clashes with this one (and is not it), or NULL. */
const struct held_set *held_clash(const struct held *h, const char *set);
/* The newest head that could be read, or NULL. */
const struct head *held_current(const struct held_set *s);
const struct head *held_by_digest(const struct held_set *s,
		    const struct digest *d);

/*
 * Holds a head from now on: written, synced, renamed, the folder synced.  0
 * (also when it is held already), or -1: errno (ENOSPC: of disk; EOVERFLOW:
 * too many sets, or generations below all those held and no place for more).
 */
int		 held_put(struct held *h, const struct head *head);
/* Removes what need not be kept (head_retain()); true when anything was. */
bool		 held_retain(struct held *h, const char *set, int64_t now);

#endif
