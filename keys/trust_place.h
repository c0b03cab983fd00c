/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_TRUST_PLACE_H
#define	KEYS_TRUST_PLACE_H

#include "keys/trust.h"

/*
 * What `pkgcast trust` needs of a master's configuration, which need not have
 * a root-key yet: `trust init` is what prints it.
 */
struct trust_place {
	char		*state, *user;
	struct pubkey	 root[TRUST_ROOTS];
	size_t		 nroot;
	unsigned	 threshold;		/* 0: all */
};
/* -1: err, a whole message. */
int	trust_place_read(struct trust_place *p, const char *file,
	    struct parse_error *err);
void	trust_place_free(struct trust_place *p);

#endif
