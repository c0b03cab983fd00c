/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_GONE_H
#define	MASTER_GONE_H

#include <stddef.h>

#include "proto/digest.h"
#include "proto/site.h"

/*
 * Which blobs a commit may have left without a name: those of the generations
 * that it dropped.  So a publish costs what it changes, not what all sets hold.
 * One thread, that commits the set meanwhile.
 */
struct gone;
/* Before the commit.  NULL: out of memory. */
struct gone	*gone_new(struct site *site, const char *set);
/* After it: every digest that a generation named which is not kept any more,
 * some still named by others; malloc'd.  NULL: out of memory. */
struct digest	*gone_digests(const struct gone *g, struct site *site,
		    const char *set, size_t *n);
void		 gone_destroy(struct gone **g);		/* tolerates NULL */

#endif
