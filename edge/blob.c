/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The blob store: opening it, finding and reading blobs.  The files are the
 * truth; the table in memory is made from their names at the start.
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

#include "edge/blob_folders.h"
#include "edge/blob_scan.h"
#include "edge/evict.h"
#include "edge/table.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"

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
	int e;

	if ((s = store_alloc(max_bytes, min_free)) == NULL)
		return (NULL);
	if ((s->dir = strdup(dir)) == NULL ||
	    blob_folders_open(s, &s->blobs, &s->partials) == -1 ||
	    (s->scan = blob_scan_new(s)) == NULL) {
		e = errno;
		blob_store_destroy(&s);
		errno = e;
	}
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
	free(s->dir);
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

int
blob_store_each(struct blob_store *s, bool (*each)(void *arg,
    const struct digest *d), void *arg)
{
	unsigned first = (unsigned)clock_boot_ms(), i;
	struct digest *v;
	bool go = true;
	ssize_t n, k;

	/* Whoever starts often comes to all of them some time. */
	for (i = 0; i < TABLE_STRIPES && go; i++) {
		if ((n = table_digests(s, (first + i) % TABLE_STRIPES,
		    &v)) == -1)
			return (-1);
		for (k = 0; k < n && go; k++)
			go = each(arg, &v[k]);
		free(v);
	}
	return (0);
}

bool
blob_checked(const struct blob *b)
{

	CHECK_OBJ(b, BLOB_MAGIC);
	return (atomic_load(&b->checked));
}

void
blob_set_checked(struct blob *b)
{

	CHECK_OBJ(b, BLOB_MAGIC);
	atomic_store(&b->checked, true);
}

static bool
is_there(struct blob_store *s, const struct digest *d, bool visited)
{
	pthread_mutex_t *stripe = table_stripe(s, d);
	struct blob *b;
	bool is;

	(void)pthread_mutex_lock(stripe);
	is = (b = table_find(s, d)) != NULL && table_complete(b) && (!visited ||
	    atomic_load_explicit(&b->visited, memory_order_relaxed));
	(void)pthread_mutex_unlock(stripe);
	return (is);
}

bool
blob_have(struct blob_store *s, const struct digest *d)
{

	return (is_there(s, d, false));
}

bool
blob_asked(struct blob_store *s, const struct digest *d)
{

	return (is_there(s, d, true));
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

	CHECK_OBJ(b, BLOB_MAGIC);
	*bp = NULL;
	s = b->store;
	(void)pthread_mutex_lock(&s->lock);
	if (table_complete(b)) {
		table_damaged(b, "it will be filled again");
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
	if (ret == 0)
		blob_set_checked(b);
	else {
		errno = EIO;
		drop_copy(b);
	}
	fd_close(&fd);
	return (ret);
}

/* Of any size, if that is known, and no hit. */
static struct blob *
find_any(struct blob_store *s, const struct digest *d)
{
	pthread_mutex_t *stripe = table_stripe(s, d);
	struct blob *b;

	(void)pthread_mutex_lock(stripe);
	if ((b = table_find(s, d)) != NULL && table_complete(b) &&
	    b->size != BLOB_UNSIZED)
		atomic_fetch_add(&b->refs, 1);
	else
		b = NULL;
	(void)pthread_mutex_unlock(stripe);
	return (b);
}

int
blob_look(struct blob_store *s, const struct digest *d)
{
	char name[BLOB_NAME];
	struct blob *b;
	struct stat st;
	int fd;

	if ((b = find_any(s, d)) == NULL) {
		errno = ENOENT;
		return (-1);
	}
	fd = openat(s->blobs, table_name(d, name),
	    O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	/* One that cannot be opened now may be there again later. */
	if ((fd == -1 && errno == ENOENT) || (fd != -1 &&
	    fstat(fd, &st) == 0 && (uint64_t)st.st_size != b->size)) {
		fd_close(&fd);
		drop_copy(b);
		errno = ENOENT;
	}
	blob_put(&b);
	return (fd);
}

/* Whether all of it is what it should be now. */
static bool
is_good(struct blob *b)
{
	struct digest d;
	int fd, ret;

	if ((fd = blob_open(b)) == -1)
		return (true);		/* dropped, or nobody can tell */
	ret = digest_of_file(&d, fd, b->size);
	fd_close(&fd);
	return (ret == -1 || digest_eq(&d, &b->digest));
}

void
blob_found(struct blob_store *s, const struct digest *d, bool good)
{
	struct blob *b;

	atomic_fetch_add(&s->scrubbed, 1);
	if ((b = find_any(s, d)) == NULL)
		return;
	if (good)
		blob_set_checked(b);
	else if (!is_good(b))		/* nobody has mended it meanwhile */
		drop_copy(b);
	blob_put(&b);
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
		.scrubbed = atomic_load(&s->scrubbed),
		.counting = s->sizing > 0,
	};
	(void)pthread_mutex_unlock(&s->lock);
	memory_stats(&s->memory, &st->memory, &st->mapped);
}
