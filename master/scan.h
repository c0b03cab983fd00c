/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_SCAN_H
#define	MASTER_SCAN_H

#include <sys/types.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/digest.h"
#include "proto/manifest.h"

/*
 * What a folder holds, in the manifest's order (bytes of the whole path), with
 * digests and chunk rows.  Folders without files are left out.
 */
struct scan;

struct scan_entry {
	enum entry_type	 type;
	bool		 odd;		/* of a lenient scan: no file, folder or
					 * link, or a path that is not legal */
	char		*path;		/* below the folder, no "./" */
	char		*link;		/* text of a link, else NULL */
	uint64_t	 size;		/* of files */
	struct digest	 digest;	/* of files; of links: where they lead */
	uint8_t		*rows;		/* of large files, if asked for */
};

struct scan_conf {
	const char	*dir;		/* may be a link: resolved once */
	/*
	 * A publisher's scan refuses what a manifest cannot hold, fills in
	 * rows, and reads files only that changed since the scan whose memory
	 * is `cache` below cachefd (-1: none).  A lenient one (verify) takes
	 * all that is there, and reads everything.
	 */
	bool		 lenient;
	int		 cachefd;
	const char	*cache;
	/* Files that changed in the last so many ms are not remembered, since
	 * another change in the same tick of the clock would go unseen. */
	int64_t		 settle_ms;
	unsigned	 threads;	/* 0: one a core */
	const volatile sig_atomic_t *stop;	/* may be NULL */
	/* Called from one thread, now and then while reading; may be NULL. */
	void		(*progress)(void *arg, uint64_t files, uint64_t bytes,
			    uint64_t all_files, uint64_t all_bytes);
	void		*arg;
};
#define	SCAN_SETTLE_MS	2000

/* NULL: err; names the path, and says what to do. */
struct scan	*scan_new(const struct scan_conf *c, struct parse_error *err);
void		 scan_destroy(struct scan **s);
size_t		 scan_n(const struct scan *s);
const struct scan_entry *scan_nth(const struct scan *s, size_t i);
/* Files whose content was read, not remembered. */
uint64_t	 scan_nread(const struct scan *s);
/* Index of a file with that digest, or -1. */
ssize_t		 scan_find_digest(const struct scan *s,
		    const struct digest *d);
/* Opens file i.  -1: errno; ESTALE: it is not as it was scanned. */
int		 scan_open(const struct scan *s, size_t i);
/* Whether fd, from scan_open(), is still as it was scanned. */
bool		 scan_unchanged(const struct scan *s, size_t i, int fd);

#endif
