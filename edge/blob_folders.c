/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The blob store's folders: at the start, and when somebody has removed them
 * meanwhile.  Called by the other parts of the store, in its callers' threads.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "edge/blob_folders.h"
#include "proto/fd.h"
#include "proto/log.h"

int
blob_folders_open(const struct blob_store *s, int *blobs, int *partials)
{
	int fd = -1, ret = -1;

	if (fd_mkdirs(AT_FDCWD, s->dir, 0750) == 0 &&
	    (fd = fd_open_dir(AT_FDCWD, s->dir)) != -1 &&
	    fd_mkdirs(fd, "blob", 0755) == 0 &&
	    fd_mkdirs(fd, "partial", 0755) == 0 &&
	    (*blobs = fd_open_dir(fd, "blob")) != -1 &&
	    (*partials = fd_open_dir(fd, "partial")) != -1)
		ret = 0;
	fd_close(&fd);
	return (ret);
}

/* Puts the folder `now` in the place of what a descriptor of ours is open on.
 * 1, or 0 where that is the same, or -1. */
static int
replace_folder(int ours, int now)
{
	struct stat a, b;

	if (fstat(ours, &a) == -1 || fstat(now, &b) == -1)
		return (-1);
	if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return (0);
	return (dup3(now, ours, O_CLOEXEC) == -1 ? -1 : 1);
}

int
blob_folders_renew(struct blob_store *s)
{
	int blobs = -1, partials = -1, b = -1, p = -1;

	if (blob_folders_open(s, &blobs, &partials) == 0 &&
	    (b = replace_folder(s->blobs, blobs)) != -1)
		p = replace_folder(s->partials, partials);
	fd_close(&blobs);
	fd_close(&partials);
	if (b == 1 || p == 1)
		log_warn("store makes its folders anew: they were removed");
	return (p == -1 ? -1 : 0);
}
