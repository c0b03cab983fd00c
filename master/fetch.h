/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_FETCH_H
#define	MASTER_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "master/client.h"
#include "proto/head.h"
#include "proto/snapshot.h"

#define	FETCH_STATUS_MAX	(64u << 20)	/* bytes of a status document */

/*
 * Documents below BASE/.pkgcast/ of an origin or an edge.  NULL and -1: err,
 * which says the URL and the reason.
 */

/* The document at BASE/.pkgcast/NAME, malloc'd; status (may be NULL) tells
 * whether there was an answer at all (0: none). */
char		*fetch_document(struct client *c, const char *base,
		    const char *name, size_t max, size_t *len,
		    unsigned *status, struct parse_error *err);
/* Current head of a set.  1; 0: the set is not published there. */
int		 fetch_current(struct client *c, const char *base,
		    const char *set, struct head *h, unsigned *status,
		    struct parse_error *err);
/* A kept head by its digest, which is compared. */
int		 fetch_head(struct client *c, const char *base,
		    const struct digest *d, struct head *h,
		    struct parse_error *err);
/* The manifest that the head names, verified by its digest and counts. */
struct manifest	*fetch_manifest(struct client *c, const char *base,
		    const struct head *h, struct parse_error *err);
/* That, and the chunk table. */
struct snapshot	*fetch_snapshot(struct client *c, const char *base,
		    const struct head *h, struct parse_error *err);

#endif
