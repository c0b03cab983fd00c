/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_LEASES_H
#define	MASTER_LEASES_H

/* Which edges hold a lease, as an origin's status tells. */
struct leases;

/* NULL: the origin gives no answer that can be used. */
struct leases	*leases_get(const char *origin);
void		 leases_destroy(struct leases **l);
/* "leased", "none", or "?" where it is not known (l may be NULL). */
const char	*leases_word(const struct leases *l, const char *edge);

#endif
