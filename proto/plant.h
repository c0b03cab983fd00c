/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_PLANT_H
#define	PROTO_PLANT_H

/*
 * Broken promises, to show that integration/checker finds them.  Only programs
 * that `integration/variant plant` builds have them, and PKGCAST_PLANT in the
 * environment says which one is broken.  All uses stand within #ifdef PLANT.
 */
#ifdef PLANT
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool
plant_is(const char *what)
{
	const char *set = getenv("PKGCAST_PLANT");

	return (set != NULL && strcmp(set, what) == 0);
}
#endif

#endif
