/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_SCAN_CACHE_H
#define	MASTER_SCAN_CACHE_H

#include <sys/stat.h>
#include <stdint.h>

#include "proto/digest.h"

/*
 * What an earlier scan learned of files, by what stat(2) says of them.  A file
 * that is damaged, or of another version, is as good as none.
 */
struct scan_cache;

/* What makes a file the same file with the same content. */
struct scan_identity {
	uint64_t	dev, ino, size;
	int64_t		mtime, ctime;		/* seconds */
	uint64_t	mtime_ns, ctime_ns;
};
void	scan_identity(struct scan_identity *id, const struct stat *st);
int	scan_identity_cmp(const struct scan_identity *a,
	    const struct scan_identity *b);

/* NULL: none that can be used. */
struct scan_cache *scan_cache_read(int dirfd, const char *name);
void		 scan_cache_destroy(struct scan_cache **c);
/* Digest and rows (borrowed; NULL for small files), or false. */
bool		 scan_cache_find(const struct scan_cache *c,
		    const struct scan_identity *id, struct digest *d,
		    const uint8_t **rows);

/* A new one, made in memory and written at once.  Too large: not written. */
struct scan_cache_writer;
struct scan_cache_writer *scan_cache_begin(void);
void		 scan_cache_add(struct scan_cache_writer *w,
		    const struct scan_identity *id, const struct digest *d,
		    const uint8_t *rows);
/* -1: errno; nothing is lost but time. */
int		 scan_cache_write(struct scan_cache_writer **w, int dirfd,
		    const char *name);

#endif
