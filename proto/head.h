/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_HEAD_H
#define	PROTO_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/digest.h"
#include "proto/name.h"

#define	HEAD_MAX	4096		/* bytes, signature included */
#define	HEAD_ENTRIES	16
#define	HEAD_GENERATION_MAX	9007199254740991ull	/* exact in JSON */
#define	HEAD_KEPT_MAX	200		/* generations kept of a set */
#define	HEADS_MAX	(4u << 20)	/* bytes of a heads document */

/*
 * A head document (pkgcast-formats(5)).  Plain data: copy it freely.  text
 * holds the document as it was read; the first signed_len bytes are what the
 * signature covers.
 */
struct head {
	char		set[SET_NAME_MAX + 1];
	uint64_t	generation, oldest;
	int64_t		created;		/* seconds since 1970 */
	uint64_t	files, bytes;
	struct digest	manifest, chunks;
	uint64_t	manifest_size, chunks_size;	/* bytes */
	bool		has_previous;
	struct digest	previous;
	struct digest	digest;			/* of the signed lines */
	size_t		nentry;
	struct { uint16_t off, len; } entry[HEAD_ENTRIES];	/* in text */
	size_t		len, signed_len;	/* len == signed_len: unsigned */
	char		text[HEAD_MAX + 1];
};

/*
 * Strict parse of one document: signed lines followed by exactly four lines of
 * signature, whose own syntax keys/minisign.h checks.  0, or -1 and err.
 */
int	head_parse(struct head *h, const char *text, size_t len,
	    struct parse_error *err);
/* The same for the signed lines alone, as *prepare* carries them. */
int	head_parse_signed(struct head *h, const char *text, size_t len,
	    struct parse_error *err);
/*
 * Length of the first document in a heads document (its four lines of
 * signature included), or 0 when there is none that is complete.  Does not
 * parse it.
 */
size_t	head_span(const char *text, size_t len);

/* Writes the signed lines of h from its fields; `entries` are h's nentry
 * globs (h->entry and h->text are not read). */
int	head_write(struct buf *b, const struct head *h,
	    const char *const *entries);

/* Which of its documents a digest is; then *size is that one's. */
enum head_part { HEAD_NEITHER, HEAD_MANIFEST, HEAD_CHUNKS };
enum head_part head_part(const struct head *h, const struct digest *d,
	    uint64_t *size);

/* Whether the path matches an entry line. */
bool	head_is_entry(const struct head *h, const char *path);
/* i-th entry glob, NUL-terminated copy of at most size bytes. */
const char *head_entry(const struct head *h, size_t i, char *out, size_t size);

/*
 * Retention (the same rule on master and edge): of generations sorted from the
 * newest, given each one's created time, how many to keep: 10 and all younger
 * than 48 h, at most HEAD_KEPT_MAX, none below `oldest`.
 */
size_t	head_retain(const uint64_t *generation, const int64_t *created,
	    size_t n, uint64_t oldest, int64_t now);

#endif
