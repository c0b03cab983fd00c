/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_RECOVER_H
#define	MASTER_RECOVER_H

#include "keys/trust.h"
#include "master/store.h"
#include "proto/site.h"

/*
 * From the truth to everything that follows from it, for generation.c.
 */

/*
 * At start: fills the empty site with every published set's current generation
 * and the kept ones, and makes all that is derived.  -1: err.
 */
int	recover_state(int statefd, struct store *store, struct site *site,
	    struct trust *trust, struct parse_error *err);
/*
 * What is derived for one set: its tree (made if it is not there) and its
 * current link, its link and heads in www/.  Faults are logged.
 */
void	recover_derived(int statefd, struct store *store, struct site *site,
	    const char *set);
/* Removes heads and trees of a set that the site does not keep. */
void	recover_retain(int statefd, struct site *site, const char *set);

#endif
