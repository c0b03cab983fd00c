/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The blob store: opening it, reading blobs, taking in filled ones.  The files
 * are the truth; the table in memory is made from their names at the start.
 * Called by serve (HTTP threads), by fill's workers and by the follow thread.
 */
#include <sys/param.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/blob_scan.h"
#include "edge/evict.h"
#include "edge/table.h"
#include "proto/check.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	BLOCK		512		/* st_blocks counts these (POSIX) */

static struct blob_store *
store_alloc(uint64_t max_bytes, uint64_t min_free)
{
	struct blob_store *s;

	if ((s = aligned_alloc(alignof(struct blob_store),
	    sizeof(*s))) == NULL)
		return (NULL);
	memset(s, 0, sizeof(*s));
	s->blobs = s->partials = -1;
	s->max_bytes = max_bytes;
	s->min_free = min_free;
	table_init(s);
	return (s);
}

struct blob_store *
blob_store_new(const char *dir, uint64_t max_bytes, uint64_t min_free)
{
	struct blob_store *s;
	int fd = -1, e;

	if ((s = store_alloc(max_bytes, min_free)) == NULL)
		return (NULL);
	if (fd_mkdirs(AT_FDCWD, dir, 0755) == -1 ||
	    (fd = fd_open_dir(AT_FDCWD, dir)) == -1 ||
	    fd_mkdirs(fd, "blob", 0755) == -1 ||
	    fd_mkdirs(fd, "partial", 0755) == -1 ||
	    (s->blobs = fd_open_dir(fd, "blob")) == -1 ||
	    (s->partials = fd_open_dir(fd, "partial")) == -1 ||
	    (s->scan = blob_scan_new(s)) == NULL) {
		e = errno;
		blob_store_destroy(&s);
		errno = e;
	}
	fd_close(&fd);
	return (s);
}

void
blob_store_destroy(struct blob_store **sp)
{
	struct blob_store *s = *sp;

	if (s == NULL)
		return;
	*sp = NULL;
	blob_scan_destroy(&s->scan);
	table_free(s);
	fd_close(&s->blobs);
	fd_close(&s->partials);
	free(s);
}

void
blob_store_limits(struct blob_store *s, uint64_t max_bytes, uint64_t min_free)
{

	(void)pthread_mutex_lock(&s->lock);
	s->max_bytes = max_bytes;
	s->min_free = min_free;
	evict_ask_disk(s);
	/* Where it is not enough, the next fill says so. */
	(void)evict_room(s, 0);
	(void)pthread_mutex_unlock(&s->lock);
}

void
blob_store_memory(struct blob_store *s, uint64_t max_bytes)
{

	memory_limit(&s->memory, max_bytes);
}

void
blob_store_named(struct blob_store *s,
    enum blob_named (*named)(void *arg, const struct digest *d), void *arg)
{

	(void)pthread_mutex_lock(&s->lock);
	s->named = named;
	s->named_arg = arg;
	(void)pthread_mutex_unlock(&s->lock);
}

void
blob_store_sweep(struct blob_store *s)
{

	evict_sweep(s);
	(void)pthread_mutex_lock(&s->lock);
	(void)evict_room(s, 0);
	(void)pthread_mutex_unlock(&s->lock);
}

struct blob *
blob_get(struct blob_store *s, const struct digest *d, uint64_t size)
{
	pthread_mutex_t *stripe = table_stripe(s, d);
	struct blob *b;

	(void)pthread_mutex_lock(stripe);
	if ((b = table_find(s, d)) != NULL && table_complete(b)) {
		atomic_fetch_add(&b->refs, 1);
		if (b->size == BLOB_UNSIZED)
			b->size = size;		/* blob_open() will see */
	} else
		b = NULL;
	(void)pthread_mutex_unlock(stripe);
	if (b == NULL)
		return (NULL);
	if (b->size != size) {
		blob_drop(&b);
		return (NULL);
	}
	if (!atomic_load_explicit(&b->visited, memory_order_relaxed))
		atomic_store_explicit(&b->visited, true, memory_order_relaxed);
	return (b);
}

bool
blob_have(struct blob_store *s, const struct digest *d)
{
	pthread_mutex_t *stripe = table_stripe(s, d);
	struct blob *b;
	bool have;

	(void)pthread_mutex_lock(stripe);
	have = (b = table_find(s, d)) != NULL && table_complete(b);
	(void)pthread_mutex_unlock(stripe);
	return (have);
}

void
blob_put(struct blob **bp)
{
	struct blob *b = *bp;

	if (b == NULL)
		return;
	CHECK_OBJ(b, BLOB_MAGIC);
	*bp = NULL;
	table_unref(b);
}

void
blob_drop(struct blob **bp)
{
	struct blob *b = *bp;
	struct blob_store *s;
	char hex[DIGEST_HEX + 1];

	CHECK_OBJ(b, BLOB_MAGIC);
	*bp = NULL;
	s = b->store;
	(void)pthread_mutex_lock(&s->lock);
	if (table_complete(b)) {
		log_warn("store drops blob=%s: its file is damaged; it will be filled again",
		    digest_hex(&b->digest, hex));
		s->dropped++;
		table_discard(b);
	}
	(void)pthread_mutex_unlock(&s->lock);
	table_unref(b);
}

/* The blob's file is no good; keeps the caller's reference and errno. */
static void
drop_copy(struct blob *b)
{
	int e = errno;

	atomic_fetch_add(&b->refs, 1);
	blob_drop(&b);
	errno = e;
}

int
blob_open(struct blob *b)
{
	char name[BLOB_NAME];
	struct stat st;
	int fd;

	CHECK_OBJ(b, BLOB_MAGIC);
	fd = openat(b->store->blobs, table_name(&b->digest, name),
	    O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd != -1 && fstat(fd, &st) == 0 &&
	    (uint64_t)st.st_size == b->size)
		return (fd);
	if (fd != -1) {
		errno = EIO;
		fd_close(&fd);
	}
	/* Running out of something is not the blob's fault. */
	if (errno != EMFILE && errno != ENFILE && errno != ENOMEM)
		drop_copy(b);
	return (-1);
}

int
blob_read(struct blob *b, char *p)
{
	struct digest d;
	int fd, ret = -1;

	if ((fd = blob_open(b)) == -1)
		return (-1);
	if (fd_pread_all(fd, p, b->size, 0) == 0) {
		digest_of(&d, p, b->size);
		ret = digest_eq(&d, &b->digest) ? 0 : -1;
	}
	if (ret == -1) {
		errno = EIO;
		drop_copy(b);
	}
	fd_close(&fd);
	return (ret);
}

char *
blob_slurp(struct blob *b, size_t *len)
{
	char *p;

	CHECK_OBJ(b, BLOB_MAGIC);
	if ((p = malloc(b->size + 1)) == NULL)
		return (NULL);
	if (blob_read(b, p) == -1) {
		free(p);
		return (NULL);
	}
	p[b->size] = '\0';
	*len = b->size;
	return (p);
}

int
blob_sync(struct blob *b)
{
	char name[BLOB_NAME];
	int fd, ret;

	CHECK_OBJ(b, BLOB_MAGIC);
	(void)table_name(&b->digest, name);
	name[2] = '\0';
	if ((fd = fd_open_dir(b->store->blobs, name)) == -1)
		return (-1);
	ret = fd_sync_dir(fd);
	fd_close(&fd);
	return (ret == -1 ? -1 : fd_sync_dir(b->store->blobs));
}

void
blob_store_stats(struct blob_store *s, struct blob_stats *st)
{

	(void)pthread_mutex_lock(&s->lock);
	*st = (struct blob_stats){
		.max_bytes = s->max_bytes,
		.min_free = s->min_free,
		.bytes = s->bytes,
		.count = s->n[Q_NAMED] + s->n[Q_NEEDED] + s->n[Q_UNNAMED],
		.partial = s->n[Q_IDLE] + s->n[Q_FILLING],
		.evicted = s->evicted,
		.dropped = s->dropped,
		.counting = s->sizing > 0,
	};
	(void)pthread_mutex_unlock(&s->lock);
	memory_stats(&s->memory, &st->memory, &st->mapped);
}

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
	b->size = size;
	return (b);
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
		fd = openat(s->partials, digest_hex(d, hex), O_RDWR | O_CREAT |
		    O_CLOEXEC | O_NOFOLLOW, 0644);
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

int
blob_partial_room(struct blob_store *s, uint64_t bytes)
{
	int ret;

	(void)pthread_mutex_lock(&s->lock);
	ret = evict_shrink(s, bytes);
	(void)pthread_mutex_unlock(&s->lock);
	return (ret);
}

int
blob_partial_commit(struct blob_store *s, const struct digest *d, int fd)
{
	char name[BLOB_NAME], aa[3] = "";
	struct blob *b;

	(void)table_name(d, name);
	memcpy(aa, name, 2);
	/* Content first: after a power cut a name in blob/ is a promise. */
	if (fdatasync(fd) == -1)
		return (-1);
	if (mkdirat(s->blobs, aa, 0755) == -1 && errno != EEXIST)
		return (-1);
	if (renameat(s->partials, name + 3, s->blobs, name) == -1)
		return (-1);
	(void)pthread_mutex_lock(&s->lock);
	b = table_find(s, d);
	CHECK(b != NULL && b->queue == Q_FILLING);
	table_move(b, Q_NAMED, b->charge);
	(void)pthread_mutex_unlock(&s->lock);
	return (0);
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
	(void)pthread_mutex_unlock(&s->lock);
}
