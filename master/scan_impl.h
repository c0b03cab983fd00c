/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_SCAN_IMPL_H
#define	MASTER_SCAN_IMPL_H

#include "master/scan.h"
#include "master/scan_cache.h"

/* What scan.c (walk) and scan_read.c (content of files) share. */

#define	SCAN_UNSTABLE	"unstable tree: changed while it was read; repeat when nothing writes there"

struct item {
	struct scan_entry	 e;
	struct scan_identity	 id;
	mode_t			 mode;
	bool			 read;		/* digest is to be made */
};

struct scan {
	int		  dirfd;
	struct item	 *item;
	size_t		  n, size;
	uint64_t	  nread;
	size_t		 *by_digest;		/* indices of files */
	size_t		  nby_digest;
	struct scan_identity root;
};

/* Fills err with path and reason; returns -1. */
int	scan_refuse(struct parse_error *err, const char *path,
	    const char *why);
bool	scan_stopped(const struct scan_conf *c);
/* Opens a file that is as it was; -1: errno, ESTALE. */
int	scan_open_item(const struct scan *s, const struct item *it);
/* Digests all files that are marked `read`, on several threads. */
int	scan_read(struct scan *s, const struct scan_conf *c,
	    struct parse_error *err);

#endif
