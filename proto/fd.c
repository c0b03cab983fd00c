/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Descriptors and files: whole reads and writes, files that appear by rename,
 * folders.  No state; any thread.
 */

#include <sys/file.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/fd.h"

#define	NAME_BYTES	4096		/* a path below a folder of ours */
#define	TREE_DEPTH	600		/* folders within folders */

void
fd_close(int *fd)
{
	int saved = errno;

	if (*fd != -1)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

int
fd_wake_pipe(int p[2])
{
	int i;

	p[0] = p[1] = -1;
	if (pipe(p) == -1)
		return (-1);
	for (i = 0; i < 2; i++)
		if (fcntl(p[i], F_SETFD, FD_CLOEXEC) == -1 ||
		    fcntl(p[i], F_SETFL, O_NONBLOCK) == -1)
			return (-1);
	return (0);
}

int
fd_write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;
	ssize_t n;

	while (len > 0) {
		if ((n = write(fd, p, len)) == -1) {
			if (errno == EINTR)
				continue;
			return (-1);
		}
		p += n;
		len -= (size_t)n;
	}
	return (0);
}

int
fd_pwrite_all(int fd, const void *buf, size_t len, off_t off)
{
	const char *p = buf;
	ssize_t n;

	while (len > 0) {
		if ((n = pwrite(fd, p, len, off)) == -1) {
			if (errno == EINTR)
				continue;
			return (-1);
		}
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return (0);
}

int
fd_pread_all(int fd, void *buf, size_t len, off_t off)
{
	char *p = buf;
	ssize_t n;

	while (len > 0) {
		if ((n = pread(fd, p, len, off)) == -1) {
			if (errno == EINTR)
				continue;
			return (-1);
		}
		if (n == 0) {
			errno = EIO;
			return (-1);
		}
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return (0);
}

char *
fd_slurp(int dirfd, const char *name, size_t max, size_t *len)
{
	struct stat st;
	char *p = NULL;
	int fd;

	if ((fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) == -1)
		return (NULL);
	if (fstat(fd, &st) == -1)
		goto fail;
	if (!S_ISREG(st.st_mode)) {
		errno = EINVAL;
		goto fail;
	}
	if (st.st_size < 0 || (uint64_t)st.st_size > max) {
		errno = EFBIG;
		goto fail;
	}
	if ((p = malloc((size_t)st.st_size + 1)) == NULL)
		goto fail;
	if (fd_pread_all(fd, p, (size_t)st.st_size, 0) == -1)
		goto fail;
	p[st.st_size] = '\0';
	if (len != NULL)
		*len = (size_t)st.st_size;
	fd_close(&fd);
	return (p);
fail:
	free(p);
	fd_close(&fd);
	return (NULL);
}

/* The folder part of name ("." without one), opened below dirfd; *last is the
 * last segment. */
static int
open_parent(int dirfd, const char *name, const char **last)
{
	char dir[NAME_BYTES];
	const char *slash;

	if ((slash = strrchr(name, '/')) == NULL) {
		*last = name;
		return (fd_open_dir(dirfd, "."));
	}
	*last = slash + 1;
	if (slash == name)
		return (fd_open_dir(dirfd, "/"));
	if ((size_t)(slash - name) >= sizeof(dir)) {
		errno = ENAMETOOLONG;
		return (-1);
	}
	memcpy(dir, name, (size_t)(slash - name));
	dir[slash - name] = '\0';
	return (fd_open_dir(dirfd, dir));
}

int
fd_replace(int dirfd, const char *name, const void *buf, size_t len,
    mode_t mode)
{
	char tmp[NAME_BYTES];
	const char *last;
	int parent, fd = -1, ret = -1, n;

	if ((parent = open_parent(dirfd, name, &last)) == -1)
		return (-1);
	n = snprintf(tmp, sizeof(tmp), ".new.%s", last);
	if (n < 0 || (size_t)n >= sizeof(tmp)) {
		errno = ENAMETOOLONG;
		goto out;
	}
	if (unlinkat(parent, tmp, 0) == -1 && errno != ENOENT)
		goto out;
	if ((fd = openat(parent, tmp, O_WRONLY | O_CREAT | O_EXCL |
	    O_NOFOLLOW | O_CLOEXEC, mode)) == -1)
		goto out;
	if (fchmod(fd, mode) == -1 || fd_write_all(fd, buf, len) == -1 ||
	    fsync(fd) == -1)
		goto out;
	if (renameat(parent, tmp, parent, last) == -1)
		goto out;
	ret = fd_sync_dir(parent);
out:
	if (ret == -1 && fd != -1) {
		int saved = errno;

		(void)unlinkat(parent, tmp, 0);
		errno = saved;
	}
	fd_close(&fd);
	fd_close(&parent);
	return (ret);
}

int
fd_sync_dir(int dirfd)
{

	if (fsync(dirfd) == -1 && errno != EINVAL)
		return (-1);
	return (0);
}

int
fd_mkdirs(int dirfd, const char *path, mode_t mode)
{
	char part[NAME_BYTES];
	const char *last;
	size_t i, len = strlen(path);
	int parent, ret;

	if (len >= sizeof(part)) {
		errno = ENAMETOOLONG;
		return (-1);
	}
	for (i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (part[i - 1] == '/')
			continue;
		if (mkdirat(dirfd, part, mode) == -1) {
			if (errno == EEXIST)
				continue;
			return (-1);
		}
		if ((parent = open_parent(dirfd, part, &last)) == -1)
			return (-1);
		ret = fd_sync_dir(parent);
		fd_close(&parent);
		if (ret == -1)
			return (-1);
	}
	return (0);
}

int
fd_open_dir(int dirfd, const char *path)
{

	return (openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int
remove_tree(int dirfd, const char *name, unsigned depth)
{
	struct dirent *e;
	DIR *d;
	int fd, ret = 0;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return (0);
	if (errno != EISDIR && errno != EPERM)
		return (-1);
	if (depth == 0) {
		errno = ELOOP;
		return (-1);
	}
	if ((fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
	    O_CLOEXEC)) == -1)
		return (-1);
	if ((d = fdopendir(fd)) == NULL) {
		fd_close(&fd);
		return (-1);
	}
	while (ret == 0 && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		ret = remove_tree(fd, e->d_name, depth - 1);
	}
	(void)closedir(d);
	if (ret == 0)
		ret = unlinkat(dirfd, name, AT_REMOVEDIR);
	return (ret);
}

int
fd_remove_tree(int dirfd, const char *name)
{

	return (remove_tree(dirfd, name, TREE_DEPTH));
}

int
fd_lock(int dirfd, const char *name)
{
	int fd;

	if ((fd = openat(dirfd, name, O_RDWR | O_CREAT | O_NOFOLLOW |
	    O_CLOEXEC, 0600)) == -1)
		return (-1);
	if (flock(fd, LOCK_EX | LOCK_NB) == -1)
		fd_close(&fd);
	return (fd);
}
