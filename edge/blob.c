/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The blob store: opening it, reading blobs, taking in filled ones.  The files
 * are the truth; the table in memory is made from their names at the start.
 * Called by serve (HTTP threads), by fill's workers and by the follow thread.
 */
#include <sys/param.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/table.h"
#include "proto/check.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	MEMORY_MAX	(64u << 20)	/* bytes of small blobs in memory */
#define	BLOCK		512		/* st_blocks counts these (POSIX) */

/* A name found at the start: a digest, or a leftover.  aa: the folder's two
 * digits, or NULL in partial/. */
static int
scan_name(struct blob_store *s, int fd, const char *aa, const char *name)
{
	struct digest d;
	struct stat st;
	uint64_t held;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == -1)
		return (0);
	if (S_ISDIR(st.st_mode))
		return (0);		/* not ours: lost+found and the like */
	if (digest_parse(&d, name, strlen(name)) == -1 ||
	    !S_ISREG(st.st_mode) ||
	    (aa != NULL && memcmp(aa, name, 2) != 0) ||
	    table_find(s, &d) != NULL) {
		log_info("store removes leftover=%.64s", name);
		(void)unlinkat(fd, name, 0);
		return (0);
	}
	held = MIN((uint64_t)st.st_blocks * BLOCK, (uint64_t)st.st_size);
	if (table_add(s, &d, aa == NULL ? Q_IDLE : Q_NAMED,
	    (uint64_t)st.st_size,
	    aa == NULL ? held : (uint64_t)st.st_size) == NULL)
		return (-1);
	return (0);
}

static int
scan_dir(struct blob_store *s, int parent, const char *sub, const char *aa)
{
	struct dirent *e;
	DIR *dir = NULL;
	int fd, ret = -1;

	if ((fd = openat(parent, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC |
	    O_NOFOLLOW)) == -1 || (dir = fdopendir(fd)) == NULL)
		goto out;
	while ((e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (scan_name(s, fd, aa, e->d_name) == -1)
			goto out;
	}
	ret = 0;
out:
	if (dir != NULL)
		(void)closedir(dir);
	else
		fd_close(&fd);
	return (ret);
}

static int
scan(struct blob_store *s)
{
	static const char hex[] = "0123456789abcdef";
	char aa[3] = "";
	unsigned i;

	for (i = 0; i < 256; i++) {
		aa[0] = hex[i >> 4];
		aa[1] = hex[i & 15];
		if (scan_dir(s, s->blobs, aa, aa) == -1 && errno != ENOENT)
			return (-1);
	}
	return (scan_dir(s, s->partials, ".", NULL));
}

static struct blob_store *
store_alloc(uint64_t max_bytes, uint64_t min_free)
{
	struct blob_store *s;

	if ((s = calloc(1, sizeof(*s))) == NULL)
		return (NULL);
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
	    scan(s) == -1) {
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
	/* Where it is not enough, the next fill says so. */
	(void)table_room(s, 0);
	(void)pthread_mutex_unlock(&s->lock);
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

/* Copies the digests of all that is in a queue. */
static struct digest *
digests(struct blob_store *s, size_t *n)
{
	struct digest *d;
	struct blob *b;
	unsigned i;

	(void)pthread_mutex_lock(&s->lock);
	*n = s->n[Q_NAMED] + s->n[Q_NEEDED] + s->n[Q_UNNAMED] + s->n[Q_IDLE];
	if ((d = calloc(*n + 1, sizeof(*d))) != NULL) {
		*n = 0;
		for (i = 0; i < Q_N; i++)
			TAILQ_FOREACH(b, &s->q[i], link)
				d[(*n)++] = b->digest;
	}
	(void)pthread_mutex_unlock(&s->lock);
	return (d);
}

void
blob_store_sweep(struct blob_store *s)
{
	enum table_queue to;
	struct digest *d;
	struct blob *b;
	size_t i, n;

	if ((d = digests(s, &n)) == NULL)
		return;			/* evict() asks again, one by one */
	/* From the oldest on, so that queues keep their order. */
	for (i = n; i-- > 0;) {
		to = table_ask(s, &d[i]);
		(void)pthread_mutex_lock(&s->lock);
		b = table_find(s, &d[i]);
		if (b != NULL && table_complete(b) && b->queue != to)
			table_move(b, to, b->charge);
		else if (b != NULL && b->queue == Q_IDLE && to == Q_UNNAMED)
			(void)table_discard(b, UINT_MAX);
		(void)pthread_mutex_unlock(&s->lock);
	}
	free(d);
	(void)pthread_mutex_lock(&s->lock);
	(void)table_room(s, 0);
	(void)pthread_mutex_unlock(&s->lock);
}

struct blob *
blob_get(struct blob_store *s, const struct digest *d, uint64_t size)
{
	pthread_mutex_t *stripe = table_stripe(s, d);
	struct blob *b;

	(void)pthread_mutex_lock(stripe);
	if ((b = table_find(s, d)) != NULL && table_complete(b))
		atomic_fetch_add(&b->refs, 1);
	else
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
	if (b->queue != Q_GONE) {
		log_warn("store drops blob=%s: its file is damaged; it will be filled again",
		    digest_hex(&b->digest, hex));
		s->dropped++;
		(void)table_discard(b, UINT_MAX);
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

/* Reads size bytes, which must have the digest. */
static int
read_verified(struct blob *b, char *p)
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
	if (read_verified(b, p) == -1) {
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

/* Makes room among the blobs in memory: first come first go, with a second
 * chance.  Store locked. */
static void
memory_room(struct blob_store *s, size_t len)
{
	struct blob *b;

	while (s->memory + len > MEMORY_MAX) {
		b = TAILQ_LAST(&s->in_memory, blob_queue);
		if (atomic_exchange(&b->memory_hit, false)) {
			TAILQ_REMOVE(&s->in_memory, b, memory_link);
			TAILQ_INSERT_HEAD(&s->in_memory, b, memory_link);
		} else
			table_memory_forget(b);
	}
}

/* A small blob's bytes with a reference, from memory or disk. */
static struct memory *
memory_get(struct blob *b)
{
	struct blob_store *s = b->store;
	pthread_mutex_t *stripe = table_stripe(s, &b->digest);
	struct memory *m;

	(void)pthread_mutex_lock(stripe);
	if ((m = b->memory) != NULL)
		atomic_fetch_add(&m->refs, 1);
	(void)pthread_mutex_unlock(stripe);
	if (m != NULL) {
		if (!atomic_load_explicit(&b->memory_hit, memory_order_relaxed))
			atomic_store(&b->memory_hit, true);
		return (m);
	}
	if ((m = malloc(sizeof(*m) + b->size)) == NULL)
		return (NULL);
	atomic_init(&m->refs, 1);
	m->len = b->size;
	if (read_verified(b, m->data) == -1) {
		free(m);
		return (NULL);
	}
	(void)pthread_mutex_lock(&s->lock);
	if (b->queue != Q_GONE && b->memory == NULL) {
		memory_room(s, m->len);
		s->memory += m->len;
		TAILQ_INSERT_HEAD(&s->in_memory, b, memory_link);
		atomic_fetch_add(&m->refs, 1);
		(void)pthread_mutex_lock(stripe);
		b->memory = m;
		(void)pthread_mutex_unlock(stripe);
	}
	(void)pthread_mutex_unlock(&s->lock);
	return (m);
}

struct httpd_body *
blob_body(struct blob **bp)
{
	struct httpd_body *body = NULL;
	struct memory *m;
	int fd;

	CHECK_OBJ(*bp, BLOB_MAGIC);
	if ((*bp)->size > BLOB_SMALL) {
		if ((fd = blob_open(*bp)) != -1 &&
		    (body = httpd_body_fd(&fd)) == NULL)
			fd_close(&fd);
	} else if ((m = memory_get(*bp)) != NULL &&
	    (body = httpd_body_mem(m->data, m->len, table_memory_unref,
	    m)) == NULL)
		table_memory_unref(m);
	blob_put(bp);
	return (body);
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
		.memory = s->memory,
		.evicted = s->evicted,
		.dropped = s->dropped,
	};
	(void)pthread_mutex_unlock(&s->lock);
}

/*
 * The blob as one that is being filled, with its whole size reserved.  held:
 * bytes on disk of the idle file that it was, or 0.  Store locked.
 */
static struct blob *
begin(struct blob_store *s, const struct digest *d, uint64_t size,
    uint64_t *held)
{
	struct blob *b;

	*held = 0;
	if ((b = table_find(s, d)) == NULL)
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
	int fd = -1, e;

	(void)pthread_mutex_lock(&s->lock);
	if (begin(s, d, size, &held) == NULL) {
		(void)pthread_mutex_unlock(&s->lock);
		return (-1);
	}
	if (table_room(s, size - held) == 0)
		fd = openat(s->partials, digest_hex(d, hex), O_RDWR | O_CREAT |
		    O_CLOEXEC | O_NOFOLLOW, 0644);
	e = errno;
	(void)pthread_mutex_unlock(&s->lock);
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
	ret = table_shrink(s, bytes);
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

	(void)pthread_mutex_lock(&s->lock);
	b = table_find(s, d);
	CHECK(b != NULL && b->queue == Q_FILLING);
	if (keep && fstatat(s->partials, digest_hex(d, hex), &st,
	    AT_SYMLINK_NOFOLLOW) == 0)
		table_move(b, Q_IDLE, MIN((uint64_t)st.st_blocks * BLOCK,
		    (uint64_t)st.st_size));
	else
		(void)table_discard(b, UINT_MAX);
	(void)pthread_mutex_unlock(&s->lock);
}
