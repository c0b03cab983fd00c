/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_GENERATION_H
#define	MASTER_GENERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keys/trust.h"
#include "master/store.h"
#include "proto/site.h"

/*
 * Generations of all sets on disk: set/<set>/head is the only record of what
 * is current; its rename is publication.  Kept heads, accepted numbers,
 * retention and recovery belong to it.  Any thread.
 *
 * Lock order of the master (from left to right, never the other way):
 *	store_hold() -> list of pendings -> one pending -> commits -> numbers
 *	(both in generation.c) -> roster -> what the libraries have inside
 * The site's writers' lock is never taken under the roster's, since readers of
 * the site may ask the roster.
 */
struct generations;
struct roster;
struct roster_wait;

/*
 * Recovers the state below statefd (borrowed, as all else): removes what a
 * crash left, verifies manifests, fills the site, makes trees, links and www/
 * anew from the truth.  The newest generation that cannot be read is an error
 * that names the file and what to do; older ones are dropped with a message.
 */
struct generations *generation_new(int statefd, struct store *store,
		    struct site *site, struct trust *trust,
		    struct parse_error *err);
void		 generation_destroy(struct generations **g);

/* What is the highest validly signed generation known of a set. */
struct accepted {
	uint64_t	generation;	/* 0: none */
	struct digest	digest;		/* of that head */
};
void		 generation_accepted(struct generations *g, const char *set,
		    struct accepted *a);
/*
 * Records one that the master accepted, or that an edge showed (its signature
 * judged by the caller); durable on return.  Lower ones change nothing.
 * -1: errno.
 */
int		 generation_accept(struct generations *g, const struct head *h);

/* Whether the name clashes with a set that is known; clash gets its name. */
bool		 generation_clash(struct generations *g, const char *set,
		    char clash[SET_NAME_MAX + 1]);

/*
 * Commits: next's tree is built and its blobs are durable.  GENERATION_DONE:
 * origin and roster have it; *wait is the roster's for its acknowledgement, by
 * all edges that held a lease at since_ms (boot clock) or later.
 * GENERATION_CONFLICT: it does not follow what is current, or its signer is not
 * trusted any more.  GENERATION_FAILED: disk or memory.  After both of these
 * nothing changed, and err says why.
 */
enum generation_result { GENERATION_DONE, GENERATION_CONFLICT,
	GENERATION_FAILED };
enum generation_result generation_commit(struct generations *g,
		    struct snapshot *next, struct roster *roster,
		    int64_t since_ms, struct roster_wait **wait,
		    struct parse_error *err);
/*
 * What follows a commit: the tree's current link and www/.  Faults are logged;
 * the next call or start completes them.
 */
void		 generation_finish(struct generations *g, const char *set);
/* Removes heads and trees that are not kept, or that a commit which did not
 * come about left. */
void		 generation_retain(struct generations *g, const char *set);

/*
 * Below the state folder: calls each() for every set in whose folder there is
 * a regular file `name` ("head", "accepted", "pending").  Returns what each()
 * returned when that is not 0; -1: errno.
 */
int		 generation_each(int statefd, const char *name,
		    int (*each)(void *arg, const char *set), void *arg);
/* The folder set/<set>, made (`make`) when absent.  -1: errno. */
int		 generation_dir(int statefd, const char *set, bool make);

#endif
