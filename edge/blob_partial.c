/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The blob store's partial files: from nothing, from memory or from what was
 * left, to a complete blob, and back.  Called by fill's workers and by the
 * transfer thread.
 */
#include <sys/param.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "edge/blob_folders.h"
#include "edge/evict.h"
#include "edge/table.h"
#include "proto/check.h"
#include "proto/fd.h"

#define	BLOCK		512		/* st_blocks counts these (POSIX) */

/*
 * The blob as one that is being filled, with its whole size reserved.  held:
 * bytes on disk of the idle file that it was, or 0.  Store locked; waits for
 * a file of that name that is just being removed.
 */
static struct blob *
begin(struct blob_store *s, const struct digest *d, uint64_t size,
    uint64_t *held)
{
	struct blob *b;

	*held = 0;
	while ((b = table_find(s, d)) != NULL && b->queue == Q_GOING)
		(void)pthread_cond_wait(&s->changed, &s->lock);
	if (b == NULL)
		return (table_add(s, d, Q_FILLING, size, size));
	if (b->queue != Q_IDLE) {
		errno = b->queue == Q_FILLING ? EBUSY : EEXIST;
		return (NULL);
	}
	*held = MIN(b->charge, size);
	table_move(b, Q_FILLING, size);
	/* One that was complete has its size; others may still look at it. */
	if (b->size != size)
		b->size = size;
	return (b);
}

static int
create_partial(struct blob_store *s, const char *name, int flags)
{
	int fd;

	flags |= O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
	if ((fd = openat(s->partials, name, flags, 0644)) == -1 &&
	    errno == ENOENT && blob_folders_renew(s) == 0)
		fd = openat(s->partials, name, flags, 0644);
	return (fd);
}

int
blob_partial_open(struct blob_store *s, const struct digest *d, uint64_t size,
    bool *fresh)
{
	char hex[DIGEST_HEX + 1];
	struct stat st;
	uint64_t held;
	int fd = -1, e, room;

	(void)pthread_mutex_lock(&s->lock);
	if (begin(s, d, size, &held) == NULL) {
		(void)pthread_mutex_unlock(&s->lock);
		return (-1);
	}
	room = evict_room(s, size - held);
	(void)pthread_mutex_unlock(&s->lock);
	if (room == 0)
		fd = create_partial(s, digest_hex(d, hex), 0);
	e = errno;
	if (fd != -1 && fstat(fd, &st) == 0 && ((uint64_t)st.st_size <= size ||
	    ftruncate(fd, (off_t)size) == 0)) {
		*fresh = st.st_size == 0;
		return (fd);
	}
	if (fd != -1)
		e = errno;
	fd_close(&fd);
	blob_partial_close(s, d, held > 0);
	errno = e;
	return (-1);
}

bool
blob_partial_have(struct blob_store *s, const struct digest *d)
{
	pthread_mutex_t *stripe = table_stripe(s, d);
	const struct blob *b;
	bool have;

	(void)pthread_mutex_lock(stripe);
	have = (b = table_find(s, d)) != NULL && b->queue == Q_IDLE;
	(void)pthread_mutex_unlock(stripe);
	return (have);
}

/* Evicts so much more, whatever the budget says. */
static int
more_room(struct blob_store *s, uint64_t bytes)
{
	int ret;

	(void)pthread_mutex_lock(&s->lock);
	ret = evict_shrink(s, bytes);
	(void)pthread_mutex_unlock(&s->lock);
	return (ret);
}

int
blob_partial_write(struct blob_store *s, int fd, const void *p, size_t len,
    uint64_t off)
{

	if (fd_pwrite_all(fd, p, len, (off_t)off) == 0)
		return (0);
	return ((errno == ENOSPC || errno == EDQUOT) &&
	    more_room(s, len) == 0 ?
	    fd_pwrite_all(fd, p, len, (off_t)off) : -1);
}

/* From partial/ to blob/, there under that name. */
static int
move_partial(const struct blob_store *s, const char *hex, const char *name)
{
	char aa[3] = { name[0], name[1], '\0' };

	if (renameat(s->partials, hex, s->blobs, name) == 0)
		return (0);
	if (errno != ENOENT ||
	    (mkdirat(s->blobs, aa, 0755) == -1 && errno != EEXIST))
		return (-1);
	return (renameat(s->partials, hex, s->blobs, name));
}

/* Content first: after a power cut a name in blob/ is a promise. */
static int
sync_and_move(struct blob_store *s, const char *hex, const char *name, int fd)
{

	if (fdatasync(fd) == -1)
		return (-1);
	if (move_partial(s, hex, name) == 0)
		return (0);
	return (errno == ENOENT && blob_folders_renew(s) == 0 ?
	    move_partial(s, hex, name) : -1);
}

/* It has come to its place.  Store locked. */
static void
arrived(struct blob *b, uint64_t charge)
{

	b->coming = false;
	blob_set_checked(b);
	table_move(b, Q_NAMED, charge);
}

int
blob_partial_commit(struct blob_store *s, const struct digest *d, int fd)
{
	char name[BLOB_NAME];
	struct blob *b;

	(void)table_name(d, name);
	if (sync_and_move(s, name + 3, name, fd) == -1)
		return (-1);
	(void)pthread_mutex_lock(&s->lock);
	b = table_find(s, d);
	CHECK(b != NULL && b->queue == Q_FILLING);
	arrived(b, b->charge);
	(void)pthread_cond_broadcast(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
	return (0);
}

/*
 * A place in the table for content that is complete, and on its way there.
 * *there: it is there already.  NULL, else: errno.  Store locked.
 */
static struct blob *
take_place(struct blob_store *s, const struct digest *content, uint64_t size,
    bool *there)
{
	struct blob *b;

	*there = false;
	while ((b = table_find(s, content)) != NULL) {
		/* By another of the same content it comes at once. */
		if (b->queue == Q_GOING ||
		    (b->queue == Q_FILLING && b->coming))
			(void)pthread_cond_wait(&s->changed, &s->lock);
		else if (b->queue == Q_IDLE)
			table_discard(b);
		else if (b->queue == Q_FILLING) {
			errno = EBUSY;
			return (NULL);
		} else {
			*there = true;
			return (NULL);
		}
	}
	if ((b = table_add(s, content, Q_FILLING, size, 0)) == NULL)
		errno = ENOMEM;
	else
		b->coming = true;
	return (b);
}

int
blob_partial_commit_as(struct blob_store *s, const struct digest *d,
    const struct digest *content, int fd)
{
	char hex[DIGEST_HEX + 1], name[BLOB_NAME];
	struct blob *from, *to;
	bool there;
	int ret, e;

	(void)pthread_mutex_lock(&s->lock);
	from = table_find(s, d);
	CHECK(from != NULL && from->queue == Q_FILLING);
	to = take_place(s, content, from->size, &there);
	(void)pthread_mutex_unlock(&s->lock);
	if (there)
		blob_partial_close(s, d, false);
	if (to == NULL)
		return (there ? 0 : -1);
	ret = sync_and_move(s, digest_hex(d, hex), table_name(content, name),
	    fd);
	e = errno;
	(void)pthread_mutex_lock(&s->lock);
	if (ret == -1)
		table_discard(to);
	else {
		arrived(to, from->charge);
		table_discard(from);
	}
	(void)pthread_cond_broadcast(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
	errno = e;
	return (ret);
}

static int
write_whole(struct blob_store *s, const struct digest *d, const void *p,
    size_t len)
{
	char name[BLOB_NAME];
	int fd, ret, e;

	(void)table_name(d, name);
	if ((fd = create_partial(s, name + 3, O_TRUNC)) == -1)
		return (-1);
	ret = blob_partial_write(s, fd, p, len, 0);
	if (ret == 0)
		ret = sync_and_move(s, name + 3, name, fd);
	e = errno;
	fd_close(&fd);
	errno = e;
	return (ret);
}

int
blob_partial_whole(struct blob_store *s, const struct digest *content,
    const void *p, size_t len)
{
	struct blob *b;
	bool there;
	int ret, e;

	(void)pthread_mutex_lock(&s->lock);
	if ((b = take_place(s, content, len, &there)) == NULL) {
		(void)pthread_mutex_unlock(&s->lock);
		return (there ? 0 : -1);
	}
	table_move(b, Q_FILLING, len);
	ret = evict_room(s, len);
	(void)pthread_mutex_unlock(&s->lock);
	if (ret == 0)
		ret = write_whole(s, content, p, len);
	e = errno;
	(void)pthread_mutex_lock(&s->lock);
	if (ret == -1)
		table_discard(b);
	else
		arrived(b, len);
	(void)pthread_cond_broadcast(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
	errno = e;
	return (ret);
}

/* fd, open for reading on a damaged blob's file, is open for writing too, and the
 * file's name a partial file's. */
static int
rename_back(struct blob_store *s, const struct digest *d, int fd)
{
	char name[BLOB_NAME];
	int rw, ret = -1;

	(void)table_name(d, name);
	if ((rw = openat(s->blobs, name, O_RDWR | O_CLOEXEC |
	    O_NOFOLLOW)) == -1)
		return (-1);
	if (dup3(rw, fd, O_CLOEXEC) != -1)
		ret = renameat(s->blobs, name, s->partials, name + 3);
	fd_close(&rw);
	return (ret);
}

int
blob_partial_reopen(struct blob *b, int fd)
{
	struct blob_store *s = b->store;
	int ret, e;

	CHECK_OBJ(b, BLOB_MAGIC);
	(void)pthread_mutex_lock(&s->lock);
	/* One that was found good meanwhile may be in use, file and all. */
	if (!table_complete(b) || blob_checked(b)) {
		(void)pthread_mutex_unlock(&s->lock);
		errno = EBUSY;
		return (-1);
	}
	table_damaged(b, "what is wrong of it will be fetched again");
	if (b->charge != b->size)
		table_size(b, b->size);
	table_move(b, Q_FILLING, b->size);
	(void)pthread_mutex_unlock(&s->lock);
	ret = rename_back(s, &b->digest, fd);
	e = errno;
	(void)pthread_mutex_lock(&s->lock);
	if (ret == -1) {
		table_move(b, Q_NAMED, b->charge);
		table_discard(b);
	}
	(void)pthread_mutex_unlock(&s->lock);
	errno = e;
	return (ret);
}

void
blob_partial_close(struct blob_store *s, const struct digest *d, bool keep)
{
	char hex[DIGEST_HEX + 1];
	struct stat st;
	struct blob *b;

	if (keep && fstatat(s->partials, digest_hex(d, hex), &st,
	    AT_SYMLINK_NOFOLLOW) == -1)
		keep = false;
	(void)pthread_mutex_lock(&s->lock);
	b = table_find(s, d);
	CHECK(b != NULL && b->queue == Q_FILLING);
	if (keep)
		table_move(b, Q_IDLE, MIN((uint64_t)st.st_blocks * BLOCK,
		    (uint64_t)st.st_size));
	else
		table_discard(b);
	(void)pthread_cond_broadcast(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
}
