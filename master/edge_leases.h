/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_EDGE_LEASES_H
#define	MASTER_EDGE_LEASES_H

/* Which edges hold a lease, as an origin's status tells. */
struct edge_leases;

/* NULL: the origin gives no answer that can be used. */
struct edge_leases	*edge_leases_get(const char *origin);
void		 edge_leases_destroy(struct edge_leases **l);
/* "leased", "none", or "?" where it is not known (l may be NULL). */
const char	*edge_leases_word(const struct edge_leases *l, const char *edge);

#endif
