/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Builds the tree of a generation that static HTTP servers serve and that
 * mtree(8) verifies: hard links to blobs where the time agrees (an inode has
 * one), else links to the tree before, else copies.  Called by publishes'
 * threads and at start.
 */

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/tree.h"
#include "proto/check.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	TREE_PATH	(SET_NAME_MAX + 40)	/* tree/<set>/<generation> */
#define	TMP_NAME	40
#define	COPY_BYTES	(1u << 20)
#ifdef __linux__
#define	SYNC_WHOLE			/* syncfs(2): all files in one call */
#endif

struct build {
	int			 root;		/* the tree being built */
	int			 before;	/* the previous one, or -1 */
	int			 blobs;
	const struct manifest	*old;		/* of before, or NULL */
	const struct store	*store;
	const atomic_bool	*stop;
};

/* Between a look at a blob's links and time and the link to it. */
static pthread_mutex_t link_lock = PTHREAD_MUTEX_INITIALIZER;

static void
tmp_name(char out[TMP_NAME])
{
	static atomic_uint serial;

	(void)snprintf(out, TMP_NAME, "tmp/tree.%u",
	    atomic_fetch_add(&serial, 1));
}

static void
tree_path(char out[TREE_PATH], const char *set, uint64_t generation)
{

	(void)snprintf(out, TREE_PATH, "tree/%s/%llu", set,
	    (unsigned long long)generation);
}

static void
times_of(struct timespec ts[2], int64_t t)
{

	ts[0] = ts[1] = (struct timespec){ .tv_sec = (time_t)t };
}

/* The filesystem can do no (further) link here: another way will. */
static bool
link_unable(int error)
{

	return (error == EMLINK || error == EPERM || error == EXDEV ||
	    error == EOPNOTSUPP || error == ENOTSUP);
}

static int
sync_file(int fd)
{
#ifdef SYNC_WHOLE
	(void)fd;
	return (0);
#else
	return (fsync(fd));
#endif
}

static int
set_time(struct build *b, const char *hex, int64_t t)
{
	struct timespec ts[2];
	int fd, ret;

	times_of(ts, t);
	if ((fd = openat(b->blobs, hex, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)) ==
	    -1)
		return (-1);
	if ((ret = futimens(fd, ts)) == 0)
		ret = sync_file(fd);
	fd_close(&fd);
	return (ret);
}

/* 1: linked; 0: the blob's time is another's; -1: errno. */
static int
link_blob(struct build *b, const struct entry *e)
{
	char hex[DIGEST_HEX + 1];
	struct stat st;
	int ret = -1;

	(void)digest_hex(&e->digest, hex);
	CHECK(pthread_mutex_lock(&link_lock) == 0);
	if (fstatat(b->blobs, hex, &st, AT_SYMLINK_NOFOLLOW) == -1)
		goto out;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != e->size) {
		errno = EIO;
		goto out;
	}
	ret = 0;
	if (st.st_mtim.tv_sec != (time_t)e->time || st.st_mtim.tv_nsec != 0) {
		if (st.st_nlink > 1)
			goto out;
		if ((ret = set_time(b, hex, e->time)) == -1)
			goto out;
	}
	if (linkat(b->blobs, hex, b->root, e->path, 0) == 0)
		ret = 1;
	else if (!link_unable(errno))
		ret = -1;
out:
	CHECK(pthread_mutex_unlock(&link_lock) == 0);
	return (ret);
}

/* 1: linked to the same file in the tree before; 0: it is not there. */
static int
link_before(struct build *b, const struct entry *e)
{
	struct entry was;
	struct stat st;
	ssize_t at;

	if (b->old == NULL ||
	    (at = manifest_find(b->old, e->path, e->path_len)) == -1)
		return (0);
	manifest_entry(b->old, (size_t)at, &was);
	if (was.type != ENTRY_FILE || was.time != e->time ||
	    !digest_eq(&was.digest, &e->digest) ||
	    fstatat(b->before, e->path, &st, AT_SYMLINK_NOFOLLOW) == -1 ||
	    !S_ISREG(st.st_mode) || (uint64_t)st.st_size != e->size ||
	    st.st_mtim.tv_sec != (time_t)e->time)
		return (0);
	return (linkat(b->before, e->path, b->root, e->path, 0) == 0);
}

static bool
stopped(const struct build *b)
{

	if (b->stop == NULL || !atomic_load(b->stop))
		return (false);
	errno = ECANCELED;
	return (true);
}

/* The kernel's own copy, which shares the blocks where the filesystem can.
 * 1: it cannot do that between these files. */
static int
copy_kernel(struct build *b, int from, int to, uint64_t size)
{
	ssize_t n;

	while (size > 0) {
		if (stopped(b))
			return (-1);
		n = copy_file_range(from, NULL, to, NULL,
		    size < (64 * COPY_BYTES) ? (size_t)size : 64 * COPY_BYTES,
		    0);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && (errno == EXDEV || errno == EINVAL ||
		    errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM))
			return (1);
		if (n == 0)
			errno = EIO;
		if (n <= 0)
			return (-1);
		size -= (uint64_t)n;
	}
	return (0);
}

static int
copy_bytes(struct build *b, int from, int to, uint64_t size)
{
	uint64_t off;
	size_t n;
	char *p;
	int ret = -1;

	if ((p = malloc(COPY_BYTES)) == NULL)
		return (-1);
	for (off = 0; off < size; off += n) {
		n = size - off < COPY_BYTES ? (size_t)(size - off) : COPY_BYTES;
		if (stopped(b) || fd_pread_all(from, p, n, (off_t)off) == -1 ||
		    fd_pwrite_all(to, p, n, (off_t)off) == -1)
			goto out;
	}
	ret = 0;
out:
	free(p);
	return (ret);
}

static int
copy_blob(struct build *b, const struct entry *e)
{
	struct timespec ts[2];
	int from, to = -1, ret = -1;

	times_of(ts, e->time);
	if ((from = store_open(b->store, &e->digest, e->size)) == -1)
		return (-1);
	if ((to = openat(b->root, e->path, O_WRONLY | O_CREAT | O_EXCL |
	    O_NOFOLLOW | O_CLOEXEC, 0444)) == -1)
		goto out;
	ret = copy_kernel(b, from, to, e->size);
	if (ret == 1)
		ret = copy_bytes(b, from, to, e->size);
	if (ret == 0 && (fchmod(to, 0444) == -1 || futimens(to, ts) == -1))
		ret = -1;
	if (ret == 0)
		ret = sync_file(to);
out:
	fd_close(&to);
	fd_close(&from);
	return (ret);
}

static int
place_file(struct build *b, const struct entry *e)
{
	int ret;

	if ((ret = link_blob(b, e)) == 0 && (ret = link_before(b, e)) == 0)
		return (copy_blob(b, e));
	return (ret == -1 ? -1 : 0);
}

static int
place(struct build *b, const struct entry *e)
{
	struct timespec ts[2];

	switch (e->type) {
	case ENTRY_DIR:
		if (mkdirat(b->root, e->path, 0755) == -1)
			return (-1);
		return (fchmodat(b->root, e->path, 0755, 0));
	case ENTRY_FILE:
		return (place_file(b, e));
	case ENTRY_LINK:
		times_of(ts, e->time);
		if (symlinkat(e->link, b->root, e->path) == -1)
			return (-1);
		return (utimensat(b->root, e->path, ts, AT_SYMLINK_NOFOLLOW));
	}
	errno = EINVAL;
	return (-1);
}

static int
sync_tree(struct build *b, const struct manifest *m)
{
#ifdef SYNC_WHOLE
	(void)m;
	return (syncfs(b->root));
#else
	struct entry e;
	size_t i;
	int fd, ret = 0;

	for (i = 0; ret == 0 && i < manifest_n(m); i++) {
		manifest_entry(m, i, &e);
		if (e.type != ENTRY_DIR)
			continue;
		if ((fd = openat(b->root, e.path, O_RDONLY | O_DIRECTORY |
		    O_CLOEXEC)) == -1)
			return (-1);
		ret = fd_sync_dir(fd);
		fd_close(&fd);
	}
	return (ret == 0 ? fd_sync_dir(b->root) : -1);
#endif
}

static int
fill(struct build *b, const struct manifest *m, struct parse_error *err)
{
	char shown[LOG_TEXT];
	struct entry e;
	size_t i;
	int saved;

	for (i = 0; i < manifest_n(m); i++) {
		manifest_entry(m, i, &e);
		if (!stopped(b) && place(b, &e) == 0)
			continue;
		saved = errno;
		(void)parse_fail(err, 0, "cannot build the tree at \"%s\": %s",
		    log_escape(shown, sizeof(shown) / 2, e.path, e.path_len),
		    saved == ENOENT ? "its blob is gone" : strerror(saved));
		errno = saved;
		return (-1);
	}
	return (0);
}

/* Moves the finished tree to its name; one that is there goes away. */
static int
finish(int statefd, const char *tmp, const char *set, uint64_t generation)
{
	char path[TREE_PATH], parent[TREE_PATH], old[TMP_NAME];
	int fd, ret;

	tree_path(path, set, generation);
	(void)snprintf(parent, sizeof(parent), "tree/%s", set);
	if (fd_mkdirs(statefd, parent, 0755) == -1)
		return (-1);
	tmp_name(old);
	if (renameat(statefd, path, statefd, old) == -1 && errno != ENOENT)
		return (-1);
	if (renameat(statefd, tmp, statefd, path) == -1)
		return (-1);
	(void)fd_remove_tree(statefd, old);
	if ((fd = fd_open_dir(statefd, parent)) == -1)
		return (-1);
	ret = fd_sync_dir(fd);
	fd_close(&fd);
	return (ret);
}

int
tree_build(int statefd, struct store *s, const struct snapshot *next,
    const struct snapshot *previous, const atomic_bool *stop,
    struct parse_error *err)
{
	const struct head *h = snapshot_head(next);
	struct build b = { .root = -1, .before = -1,
	    .blobs = store_dirfd(s), .store = s, .stop = stop };
	char tmp[TMP_NAME], path[TREE_PATH];
	int saved, ret = -1;

	tmp_name(tmp);
	err->reason[0] = '\0';
	if (previous != NULL) {
		tree_path(path, h->set, snapshot_head(previous)->generation);
		if ((b.before = fd_open_dir(statefd, path)) != -1)
			b.old = snapshot_manifest(previous);
	}
	if (mkdirat(statefd, tmp, 0755) == -1 ||
	    fchmodat(statefd, tmp, 0755, 0) == -1 ||
	    (b.root = fd_open_dir(statefd, tmp)) == -1)
		goto out;
	if (fill(&b, snapshot_manifest(next), err) == -1 ||
	    sync_tree(&b, snapshot_manifest(next)) == -1 ||
	    finish(statefd, tmp, h->set, h->generation) == -1)
		goto out;
	ret = 0;
out:
	saved = errno;
	fd_close(&b.before);
	fd_close(&b.root);
	if (ret == -1) {
		if (err->reason[0] == '\0')
			(void)parse_fail(err, 0, "cannot build the tree: %s",
			    strerror(saved));
		(void)fd_remove_tree(statefd, tmp);
		errno = saved;
	}
	return (ret);
}

bool
tree_present(int statefd, const char *set, uint64_t generation)
{
	char path[TREE_PATH];
	struct stat st;

	tree_path(path, set, generation);
	return (fstatat(statefd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISDIR(st.st_mode));
}

int
tree_switch(int statefd, const char *set, uint64_t generation)
{
	char path[TREE_PATH], number[24];
	int fd, ret = -1;

	(void)snprintf(path, sizeof(path), "tree/%s", set);
	(void)snprintf(number, sizeof(number), "%llu",
	    (unsigned long long)generation);
	if ((fd = fd_open_dir(statefd, path)) == -1)
		return (-1);
	if (unlinkat(fd, ".current", 0) == -1 && errno != ENOENT)
		goto out;
	if (symlinkat(number, fd, ".current") == -1 ||
	    renameat(fd, ".current", fd, "current") == -1)
		goto out;
	ret = fd_sync_dir(fd);
out:
	fd_close(&fd);
	return (ret);
}

/* Out of the way in one step, so that no half of a tree is ever there under a
 * number. */
static int
remove_one(int statefd, int dirfd, const char *name)
{
	char tmp[TMP_NAME];

	tmp_name(tmp);
	if (renameat(dirfd, name, statefd, tmp) == -1)
		return (-1);
	return (fd_remove_tree(statefd, tmp));
}

int
tree_retain(int statefd, const char *set, const uint64_t *keep, size_t n)
{
	unsigned long long number;
	char path[TREE_PATH];
	struct dirent *e;
	DIR *d;
	size_t i;
	int fd, ret = 0;

	(void)snprintf(path, sizeof(path), "tree/%s", set);
	if ((fd = fd_open_dir(statefd, path)) == -1)
		return (errno == ENOENT ? 0 : -1);
	if ((d = fdopendir(fd)) == NULL) {
		fd_close(&fd);
		return (-1);
	}
	while ((e = readdir(d)) != NULL) {
		if (parse_u64(e->d_name, strlen(e->d_name),
		    HEAD_GENERATION_MAX, &number) == -1)
			continue;
		for (i = 0; i < n && keep[i] != number; i++)
			;
		if (i == n && remove_one(statefd, fd, e->d_name) == -1)
			ret = -1;
	}
	(void)closedir(d);
	return (ret);
}
