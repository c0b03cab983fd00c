/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Blobs on disk.  A blob is written to tmp/ while it is hashed and appears in
 * blob/ under its digest only when it is right.  It is durable after the next
 * store_sync(), which comes before every commit: so a set of many small files
 * costs one sync, and after a crash only blobs that no kept generation names
 * can be damaged; the start verifies or removes those.  Called by the publish
 * listener's threads, publishes' own threads, origin, scrub.
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

#include "master/store.h"
#include "proto/check.h"
#include "proto/chunk.h"
#include "proto/fd.h"

#define	STORE_MAGIC	0x53746f72u
#define	INTAKE_MAGIC	0x496e746bu
#define	STORE_NAME	32		/* bytes of a name in tmp/ */
#define	UNSYNCED_MAX	65536		/* blobs taken in between two syncs */
#define	SYNC_EACH_MAX	32		/* up to so many, each by itself */

struct store {
	unsigned	 magic;
	int		 blobfd, tmpfd;
	pthread_rwlock_t hold;		/* readers: removal of blobs waits */
	pthread_mutex_t	 syncing;	/* one sync at a time; before lock */
	pthread_mutex_t	 lock;		/* guards all below */
	uint64_t	 serial;	/* of names in tmp/ */
	size_t		 nunsynced, size;
	struct digest	*unsynced;
};

struct intake {
	unsigned	 magic;
	struct store	*store;
	int		 fd;
	char		 name[STORE_NAME];	/* in tmp/; "": not there */
	struct digest	 digest;
	uint64_t	 size, got;
	const uint8_t	*rows;
	struct sha256	*whole, *chunk;
	int		 error;		/* the first, for good */
};

static int
make_dir(int statefd, const char *name)
{

	if (fd_mkdirs(statefd, name, 0755) == -1)
		return (-1);
	return (fd_open_dir(statefd, name));
}

struct store *
store_new(int statefd)
{
	struct store *s;

	if ((s = calloc(1, sizeof(*s))) == NULL)
		return (NULL);
	s->magic = STORE_MAGIC;
	s->blobfd = s->tmpfd = -1;
	(void)pthread_rwlock_init(&s->hold, NULL);
	(void)pthread_mutex_init(&s->syncing, NULL);
	(void)pthread_mutex_init(&s->lock, NULL);
	if (fd_remove_tree(statefd, "tmp") == -1 ||
	    (s->tmpfd = make_dir(statefd, "tmp")) == -1 ||
	    (s->blobfd = make_dir(statefd, "blob")) == -1)
		store_destroy(&s);
	return (s);
}

void
store_destroy(struct store **sp)
{
	struct store *s = *sp;

	*sp = NULL;
	if (s == NULL)
		return;
	CHECK_OBJ(s, STORE_MAGIC);
	fd_close(&s->blobfd);
	fd_close(&s->tmpfd);
	free(s->unsynced);
	(void)pthread_rwlock_destroy(&s->hold);
	(void)pthread_mutex_destroy(&s->syncing);
	(void)pthread_mutex_destroy(&s->lock);
	explicit_bzero(&s->magic, sizeof(s->magic));
	free(s);
}

int
store_dirfd(const struct store *s)
{

	return (s->blobfd);
}

int
store_open(const struct store *s, const struct digest *d, uint64_t size)
{
	char hex[DIGEST_HEX + 1];
	struct stat st;
	int fd;

	if ((fd = openat(s->blobfd, digest_hex(d, hex), O_RDONLY | O_NOFOLLOW |
	    O_CLOEXEC)) == -1)
		return (-1);
	if (fstat(fd, &st) == -1) {
		fd_close(&fd);
	} else if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size) {
		fd_close(&fd);
		errno = EIO;
	}
	return (fd);
}

bool
store_has(const struct store *s, const struct digest *d, uint64_t size)
{
	char hex[DIGEST_HEX + 1];
	struct stat st;

	return (fstatat(s->blobfd, digest_hex(d, hex), &st,
	    AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    (uint64_t)st.st_size == size);
}

char *
store_slurp(const struct store *s, const struct digest *d, uint64_t size)
{
	char *p = NULL;
	int fd;

	if ((fd = store_open(s, d, size)) == -1)
		return (NULL);
	if ((p = malloc((size_t)size + 1)) != NULL) {
		if (fd_pread_all(fd, p, (size_t)size, 0) == -1) {
			free(p);
			p = NULL;
		} else
			p[size] = '\0';
	}
	fd_close(&fd);
	return (p);
}

struct intake *
store_begin(struct store *s, const struct digest *d, uint64_t size,
    const uint8_t *rows)
{
	struct intake *in;
	uint64_t serial;

	CHECK_OBJ(s, STORE_MAGIC);
	if ((in = calloc(1, sizeof(*in))) == NULL)
		return (NULL);
	in->magic = INTAKE_MAGIC;
	in->store = s;
	in->digest = *d;
	in->size = size;
	in->rows = chunk_rows(size) == 0 ? NULL : rows;
	in->fd = -1;
	(void)pthread_mutex_lock(&s->lock);
	serial = s->serial++;
	(void)pthread_mutex_unlock(&s->lock);
	(void)snprintf(in->name, sizeof(in->name), "blob.%llu",
	    (unsigned long long)serial);
	if ((in->whole = sha256_new()) == NULL ||
	    (in->rows != NULL && (in->chunk = sha256_new()) == NULL) ||
	    (in->fd = openat(s->tmpfd, in->name, O_WRONLY | O_CREAT | O_EXCL |
	    O_NOFOLLOW | O_CLOEXEC, 0444)) == -1)
		store_abort(&in);
	return (in);
}

void
store_abort(struct intake **inp)
{
	struct intake *in = *inp;
	int saved = errno;

	*inp = NULL;
	if (in == NULL)
		return;
	CHECK_OBJ(in, INTAKE_MAGIC);
	if (in->fd != -1 && in->name[0] != '\0')
		(void)unlinkat(in->store->tmpfd, in->name, 0);
	fd_close(&in->fd);
	sha256_destroy(&in->whole);
	sha256_destroy(&in->chunk);
	explicit_bzero(&in->magic, sizeof(in->magic));
	free(in);
	errno = saved;
}

static int
intake_fail(struct intake *in, int error)
{

	in->error = errno = error;
	return (-1);
}

/* The chunk that ends at in->got is complete. */
static int
check_row(struct intake *in)
{
	struct digest d;
	uint64_t row = (in->got - 1) / CHUNK_SIZE;

	sha256_end(in->chunk, &d);
	return (memcmp(d.b, in->rows + row * DIGEST_LEN, DIGEST_LEN) == 0 ?
	    0 : -1);
}

int
store_add(struct intake *in, const void *p, size_t len)
{
	const char *c = p;
	size_t n;

	CHECK_OBJ(in, INTAKE_MAGIC);
	if (in->error != 0)
		return (intake_fail(in, in->error));
	if (len > in->size - in->got)
		return (intake_fail(in, EFBIG));
	while (len > 0) {
		n = CHUNK_SIZE - (size_t)(in->got % CHUNK_SIZE);
		if (n > len)
			n = len;
		if (fd_write_all(in->fd, c, n) == -1)
			return (intake_fail(in, errno));
		sha256_add(in->whole, c, n);
		in->got += n;
		if (in->chunk != NULL) {
			sha256_add(in->chunk, c, n);
			if ((in->got % CHUNK_SIZE == 0 ||
			    in->got == in->size) && check_row(in) == -1)
				return (intake_fail(in, EBADMSG));
		}
		c += n;
		len -= n;
	}
	return (0);
}

/* Room for one more note; under the lock. */
static int
reserve(struct store *s)
{
	struct digest *more;
	size_t size;

	if (s->nunsynced < s->size)
		return (0);
	size = s->size == 0 ? 64 : s->size * 2;
	if ((more = realloc(s->unsynced, size * sizeof(*more))) == NULL)
		return (-1);
	s->unsynced = more;
	s->size = size;
	return (0);
}

/* Unless there is a file of that name: EEXIST. */
static int
name_new(struct intake *in, const char *hex)
{
	struct store *s = in->store;

#ifdef RENAME_NOREPLACE
	if (renameat2(s->tmpfd, in->name, s->blobfd, hex, RENAME_NOREPLACE) ==
	    0) {
		in->name[0] = '\0';
		return (0);
	}
	if (errno != EINVAL && errno != ENOSYS)
		return (-1);
#endif
	return (linkat(s->tmpfd, in->name, s->blobfd, hex, 0));
}

/* Gives a verified file its name.  One that is there already stays: it may
 * be durable and named by a generation, ours is not. */
static int
name_blob(struct intake *in)
{
	struct store *s = in->store;
	char hex[DIGEST_HEX + 1];

	(void)digest_hex(&in->digest, hex);
	if (name_new(in, hex) == 0)
		return (0);
	if (errno == EEXIST && store_has(s, &in->digest, in->size))
		return (0);
	return (renameat(s->tmpfd, in->name, s->blobfd, hex));
}

/* Name and note in one step: whoever finds the blob and syncs, syncs it. */
static int
name_and_note(struct intake *in)
{
	struct store *s = in->store;
	size_t n;
	int ret;

	(void)pthread_mutex_lock(&s->lock);
	if ((ret = reserve(s)) == 0 && (ret = name_blob(in)) == 0)
		s->unsynced[s->nunsynced++] = in->digest;
	n = s->nunsynced;
	(void)pthread_mutex_unlock(&s->lock);
	return (ret == 0 && n >= UNSYNCED_MAX ? store_sync(s) : ret);
}

int
store_end(struct intake **inp)
{
	struct intake *in = *inp;
	struct digest d;
	int ret = -1;

	CHECK_OBJ(in, INTAKE_MAGIC);
	if (in->error != 0) {
		errno = in->error;
		goto out;
	}
	sha256_end(in->whole, &d);
	if (in->got != in->size || !digest_eq(&d, &in->digest)) {
		errno = EBADMSG;
		goto out;
	}
	if (fchmod(in->fd, 0444) == -1 || name_and_note(in) == -1)
		goto out;
	ret = 0;
out:
	store_abort(inp);
	return (ret);
}

int
store_check(const struct store *s, const struct digest *d, uint64_t size,
    const uint8_t *rows)
{
	uint64_t n = chunk_rows(size);
	struct digest is;
	uint8_t *found = NULL;
	int fd, ret = -1;

	if ((fd = store_open(s, d, size)) == -1)
		return (-1);
	if (n > 0 && rows != NULL &&
	    (found = malloc((size_t)n * DIGEST_LEN)) == NULL)
		goto out;
	if (chunk_scan(fd, size, &is, found) == -1)
		goto out;
	if (!digest_eq(&is, d) || (found != NULL &&
	    memcmp(found, rows, (size_t)n * DIGEST_LEN) != 0)) {
		errno = EBADMSG;
		goto out;
	}
	ret = 0;
out:
	free(found);
	fd_close(&fd);
	return (ret);
}

int
store_unsynced(struct store *s, const struct digest *d)
{
	int ret;

	(void)pthread_mutex_lock(&s->lock);
	if ((ret = reserve(s)) == 0)
		s->unsynced[s->nunsynced++] = *d;
	(void)pthread_mutex_unlock(&s->lock);
	return (ret);
}

static int
sync_blob(struct store *s, const struct digest *d)
{
	char hex[DIGEST_HEX + 1];
	int fd, ret;

	if ((fd = openat(s->blobfd, digest_hex(d, hex), O_RDONLY | O_NOFOLLOW |
	    O_CLOEXEC)) == -1)
		return (errno == ENOENT ? 0 : -1);
	ret = fsync(fd);
	fd_close(&fd);
	return (ret);
}

static int
sync_blobs(struct store *s, const struct digest *d, size_t n)
{
	size_t i;

#ifdef __linux__
	if (n > SYNC_EACH_MAX)
		return (syncfs(s->blobfd));
#endif
	for (i = 0; i < n; i++)
		if (sync_blob(s, &d[i]) == -1)
			return (-1);
	return (n > 0 ? fd_sync_dir(s->blobfd) : 0);
}

int
store_sync(struct store *s)
{
	struct digest *d;
	size_t i, n;
	int ret, saved;

	CHECK_OBJ(s, STORE_MAGIC);
	/* Another's sync under way may be that of our blobs: wait for it. */
	(void)pthread_mutex_lock(&s->syncing);
	(void)pthread_mutex_lock(&s->lock);
	d = s->unsynced;
	n = s->nunsynced;
	s->unsynced = NULL;
	s->nunsynced = s->size = 0;
	(void)pthread_mutex_unlock(&s->lock);
	if ((ret = sync_blobs(s, d, n)) == -1) {
		/* What the disk dropped cannot be synced by trying again. */
		saved = errno;
		for (i = 0; i < n; i++)
			(void)store_remove(s, &d[i]);
		errno = saved;
	}
	(void)pthread_mutex_unlock(&s->syncing);
	free(d);
	return (ret);
}

int
store_remove(struct store *s, const struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	return (unlinkat(s->blobfd, digest_hex(d, hex), 0));
}

void
store_hold(struct store *s)
{

	(void)pthread_rwlock_rdlock(&s->hold);
}

void
store_release(struct store *s)
{

	(void)pthread_rwlock_unlock(&s->hold);
}

struct collect {
	struct store	*store;
	bool		(*named)(void *arg, const struct digest *d);
	void		*arg;
	long		 n;
};

static int
collect_one(void *arg, const struct digest *d)
{
	struct collect *c = arg;

	if (!c->named(c->arg, d) && store_remove(c->store, d) == 0)
		c->n++;
	return (0);
}

long
store_collect(struct store *s, bool (*named)(void *arg, const struct digest *d),
    void *arg)
{
	struct collect c = { .store = s, .named = named, .arg = arg, .n = 0 };
	int ret;

	CHECK_OBJ(s, STORE_MAGIC);
	(void)pthread_rwlock_wrlock(&s->hold);
	ret = store_each(s, collect_one, &c);
	(void)pthread_rwlock_unlock(&s->hold);
	return (ret == -1 ? -1 : c.n);
}

long
store_collect_some(struct store *s, const struct digest *d, size_t n,
    bool (*named)(void *arg, const struct digest *d), void *arg)
{
	struct collect c = { .store = s, .named = named, .arg = arg, .n = 0 };
	size_t i;

	CHECK_OBJ(s, STORE_MAGIC);
	(void)pthread_rwlock_wrlock(&s->hold);
	for (i = 0; i < n; i++)
		(void)collect_one(&c, &d[i]);
	(void)pthread_rwlock_unlock(&s->hold);
	return (c.n);
}

int
store_each(const struct store *s,
    int (*each)(void *arg, const struct digest *d), void *arg)
{
	struct dirent *e;
	struct digest d;
	DIR *dir;
	int fd, ret = 0;

	if ((fd = fd_open_dir(s->blobfd, ".")) == -1)
		return (-1);
	if ((dir = fdopendir(fd)) == NULL) {
		fd_close(&fd);
		return (-1);
	}
	while (ret == 0 && (e = readdir(dir)) != NULL)
		if (digest_parse(&d, e->d_name, strlen(e->d_name)) == 0)
			ret = each(arg, &d);
	(void)closedir(dir);
	return (ret);
}
