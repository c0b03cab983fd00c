/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_FD_H
#define	PROTO_FD_H

#include <sys/types.h>
#include <stddef.h>
#include <stdint.h>

/* Descriptor helpers.  -1 is "empty".  All return -1 with errno on failure. */

void	 fd_close(int *fd);			/* tolerates -1, keeps errno */
int	 fd_write_all(int fd, const void *buf, size_t len);
int	 fd_pwrite_all(int fd, const void *buf, size_t len, off_t off);
/* A pipe whose one end wakes who polls the other: neither blocks, nor outlives
 * exec.  -1: errno; what is open then is in p (else -1). */
int	 fd_wake_pipe(int p[2]);
/* Exactly len bytes, else -1 (errno EIO when the file is shorter). */
int	 fd_pread_all(int fd, void *buf, size_t len, off_t off);

/* A whole regular file of at most max bytes, NUL-terminated beyond *len;
 * caller frees.  NULL: errno (EFBIG above max). */
char	*fd_slurp(int dirfd, const char *name, size_t max, size_t *len);

/*
 * Makes `name` under dirfd hold exactly buf: written to ".new.<last segment>"
 * beside it, synced, renamed, the folder synced.  A leftover of a crash is
 * overwritten by the next call for that name.
 */
int	 fd_replace(int dirfd, const char *name, const void *buf, size_t len,
	    mode_t mode);
int	 fd_sync_dir(int dirfd);		/* EINVAL of odd systems is success */
/* Like mkdir -p below dirfd; new folders are synced into their parents. */
int	 fd_mkdirs(int dirfd, const char *path, mode_t mode);
/* Opens a folder (O_DIRECTORY|O_CLOEXEC), by path below dirfd or AT_FDCWD. */
int	 fd_open_dir(int dirfd, const char *path);
/* rm -rf below dirfd, never following links; absent is success. */
int	 fd_remove_tree(int dirfd, const char *name);
/*
 * Exclusive lock file below dirfd, held until the descriptor is closed.
 * -1 with EWOULDBLOCK when another process holds it.
 */
int	 fd_lock(int dirfd, const char *name);

#endif
