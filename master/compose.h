/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_COMPOSE_H
#define	MASTER_COMPOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keys/minisign.h"
#include "master/record.h"
#include "proto/head.h"
#include "proto/manifest.h"
#include "proto/snapshot.h"

/*
 * From what a generation shall hold to its manifest, chunk table and head.
 * Pure, but for the clock in compose_head().
 */
struct scan;
struct content;				/* entries in canonical order */

/* Of a scan, or of an earlier generation; both are borrowed and must outlive
 * it.  NULL: out of memory. */
struct content	*content_of_scan(const struct scan *s);
struct content	*content_of_snapshot(const struct snapshot *s);
void		 content_destroy(struct content **c);
uint64_t	 content_files(const struct content *c);

/* The same paths with the same types, digests and link texts. */
bool		 content_same(const struct content *c,
		    const struct manifest *m);
/* Files that the manifest's paths name and that content has under no path of
 * the same name. */
uint64_t	 content_lost(const struct content *c,
		    const struct manifest *m);
/* Files whose digest no file of the manifest (may be NULL) has. */
uint64_t	 content_new(const struct content *c,
		    const struct manifest *m);

/* Globs of entry lines: recognised in content.  Returns how many; `left` tells
 * how many more there would be. */
struct globs {
	size_t		 n;
	const char	*v[HEAD_ENTRIES];
};
void		 compose_globs(const struct content *c, struct globs *g,
		    size_t *left);
bool		 compose_globs_same(const struct globs *g,
		    const struct head *h);

/*
 * Manifest and chunk table.  previous (may be NULL) gives times to what did not
 * change, `created` to the rest.  Fills in p's manifest and chunks, and the
 * head's counts, sizes and digests.  -1: err.
 */
int		 compose_content(const struct content *c,
		    const struct manifest *previous, int64_t created,
		    struct draft *p, struct parse_error *err);
/* Writes p's head from its fields, unsigned: parsed, with its digest. */
int		 compose_head(struct draft *p, const struct globs *g,
		    struct parse_error *err);
/* Signs it. */
int		 compose_sign(struct draft *p, const struct seckey *k,
		    struct parse_error *err);

#endif
