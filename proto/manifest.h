/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_MANIFEST_H
#define	PROTO_MANIFEST_H

#include <sys/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/digest.h"
#include "proto/name.h"

#define	MANIFEST_ENTRIES	1000000		/* lines after the first two */
#define	MANIFEST_MAX		(256u << 20)	/* bytes */
#define	MANIFEST_LINK_STEPS	8
#define	MANIFEST_FIRST		"#mtree v2.0\n. type=dir\n"

enum entry_type { ENTRY_DIR, ENTRY_FILE, ENTRY_LINK };

/* One entry, decoded.  size and digest of files, link of links, time of both. */
struct entry {
	enum entry_type	 type;
	uint64_t	 size;			/* bytes */
	int64_t		 time;			/* seconds since 1970 */
	struct digest	 digest;
	size_t		 path_len, link_len;
	char		 path[PATH_BYTES_MAX + 1];	/* decoded, no "./" */
	char		 link[PATH_BYTES_MAX + 1];	/* decoded, relative */
};

/* What answering needs to know of a path: its file's facts (of a link, the
 * file's at its end, with the link's own time). */
struct facts {
	uint64_t	size;
	int64_t		time;
	struct digest	digest;
	uint64_t	row;		/* first row in the chunk table, if any */
};

struct manifest;			/* immutable once parsed: any thread */

/*
 * Strict parse of a whole manifest: takes *text over (malloc'd; *text is NULL
 * afterwards, also on failure).  NULL: err says line and reason.
 */
struct manifest	*manifest_parse(char **text, size_t len,
		    struct parse_error *err);
void		 manifest_destroy(struct manifest **m);

const char	*manifest_text(const struct manifest *m, size_t *len);
size_t		 manifest_n(const struct manifest *m);	/* all but "." */
uint64_t	 manifest_files(const struct manifest *m);
uint64_t	 manifest_bytes(const struct manifest *m);	/* sum of sizes */
uint64_t	 manifest_rows(const struct manifest *m);	/* chunk table's */

/* Entry i in canonical order, decoded. */
void		 manifest_entry(const struct manifest *m, size_t i,
		    struct entry *e);
enum entry_type	 manifest_type(const struct manifest *m, size_t i);
/* Index of a decoded path, or -1.  Binary search. */
ssize_t		 manifest_find(const struct manifest *m, const char *path,
		    size_t len);
/* Index of the first path that is not before that one; may be manifest_n(). */
size_t		 manifest_lower(const struct manifest *m, const char *path,
		    size_t len);
/* Facts of entry i, links followed; false for folders. */
bool		 manifest_facts(const struct manifest *m, size_t i,
		    struct facts *f);
/* Index of a type=file entry with that digest, or -1.  Hash lookup. */
ssize_t		 manifest_find_digest(const struct manifest *m,
		    const struct digest *d);

/* Writer: entries must come sorted by bytes of the path, after MANIFEST_FIRST;
 * manifest_parse() of the result is the check. */
int		 manifest_add(struct buf *b, const struct entry *e);

/*
 * Where a link at `path` with text `link` leads, as a path in the set without
 * "." and "..": its length in out, or -1 when it is absolute or leaves the set.
 */
ssize_t		 manifest_link_target(const char *path, const char *link,
		    char out[PATH_BYTES_MAX + 1]);

#endif
