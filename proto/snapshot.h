/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_SNAPSHOT_H
#define	PROTO_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/head.h"
#include "proto/manifest.h"

/*
 * One generation of a set, ready to answer from.  Immutable and
 * reference-counted; any thread.
 */
struct snapshot;

/*
 * Takes over manifest text and chunk table (malloc'd; NULL afterwards, also on
 * failure), whose digests the caller has verified or asks to verify here
 * (`verify`).  Sizes, digests, counts and the number of rows must be what the
 * head says.  NULL: err.
 */
struct snapshot	*snapshot_new(const struct head *h, char **manifest,
		    size_t manifest_len, uint8_t **chunks, size_t chunks_len,
		    bool verify, struct parse_error *err);
/*
 * The same generation with the signature that its head lacked: shares manifest
 * and chunk table.  The signed lines must be the same (CHECK).  NULL: out of
 * memory.
 */
struct snapshot	*snapshot_signed(struct snapshot *s, const struct head *h);
struct snapshot	*snapshot_ref(struct snapshot *s);
void		 snapshot_unref(struct snapshot **s);

/* A number, from 1, that no other snapshot of this process has or had. */
uint64_t	 snapshot_serial(const struct snapshot *s);
const struct head	*snapshot_head(const struct snapshot *s);
const struct manifest	*snapshot_manifest(const struct snapshot *s);
/* The whole chunk table. */
const uint8_t	*snapshot_table(const struct snapshot *s, size_t *len);
/* Rows of a file's facts in this snapshot; NULL when it has none (small). */
const uint8_t	*snapshot_rows(const struct snapshot *s,
		    const struct facts *f);

/*
 * A delta says what a generation had that its successor has not (paths that it
 * removed, or gave other content or time), and which paths the successor
 * added.  A current snapshot and the chain of deltas behind it answer for
 * every kept generation without its whole manifest.
 */
struct delta;

/* Both whole; next is the successor that is kept.  NULL: out of memory. */
struct delta	*delta_new(const struct snapshot *old,
		    const struct snapshot *next);
struct delta	*delta_ref(struct delta *d);
void		 delta_unref(struct delta **d);
const struct head	*delta_head(const struct delta *d);
/* Removed or changed files (links as the files they lead to), their rows, and
 * whether the successor added the path. */
const struct manifest	*delta_manifest(const struct delta *d);
const uint8_t	*delta_rows(const struct delta *d, const struct facts *f);
bool		 delta_added(const struct delta *d, const char *path,
		    size_t len);

#endif
