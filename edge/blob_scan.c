/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the store finds on disk at the start.  Called by blob_store_new() and
 * blob_store_destroy(); runs some threads of its own.
 *
 * Names are read before the store is used.  Sizes take longer: a million files
 * with nothing in the system's caches take seconds, on slow disks a minute.
 * Where there are many they are learnt while the store is in use already; a
 * size that is asked for before is believed until the file is opened.  They are
 * asked for in the order of inode numbers, which is that of the inodes on disk;
 * a folder's own order goes back and forth over all of them.  It is roughly the
 * order of age as well, so SIEVE's queue survives.
 */
#include <sys/param.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/blob_scan.h"
#include "proto/check.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	THREADS		4u		/* they wait more than they compute */
#define	FOLDERS		256u
#define	FEW		10000u		/* all sizes at once */
#define	FOUND_FIRST	1024u		/* room for so many, then doubled */
#define	BATCH		64u		/* sizes noted in one hold of the lock */
#define	BLOCK		512		/* st_blocks counts these (POSIX) */

struct found {
	struct digest	digest;
	uint64_t	inode;
};

/* One thread's part: what it found in the folders that it read. */
struct share {
	struct blob_scan *scan;
	pthread_t	 thread;
	bool		 running;
	struct found	*v;
	size_t		 n, room;
	size_t		 taken;		/* by merge() */
	int		 error;		/* an error number, or 0 */
};

struct blob_scan {
	struct blob_store *store;
	atomic_uint	 folder;	/* the next one to read */
	atomic_bool	 stop;
	struct share	 share[THREADS];
};

static void
remove_leftover(int fd, const char *name)
{

	log_info("store removes leftover=%.64s", name);
	(void)unlinkat(fd, name, 0);
}

/* A name that is no blob's.  Folders are not ours: lost+found and the like. */
static void
leftover(int fd, const char *name)
{
	struct stat st;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    !S_ISDIR(st.st_mode))
		remove_leftover(fd, name);
}

static int
add_found(struct share *sh, const struct digest *d, uint64_t inode)
{
	struct found *v;
	size_t room;

	if (sh->n == sh->room) {
		room = sh->room == 0 ? FOUND_FIRST : sh->room * 2;
		if ((v = reallocarray(sh->v, room, sizeof(*v))) == NULL)
			return (-1);
		sh->v = v;
		sh->room = room;
	}
	sh->v[sh->n++] = (struct found){ .digest = *d, .inode = inode };
	return (0);
}

/* Calls `name` for each name in a folder; -1: errno. */
static int
each_name(int parent, const char *sub, int (*name)(void *arg, int fd,
    const struct dirent *e), void *arg)
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
		if (name(arg, fd, e) == -1)
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

/* In the folder of the digests that begin with that byte. */
struct folder {
	struct share	*share;
	unsigned	 byte;
};

static int
blob_name(void *arg, int fd, const struct dirent *e)
{
	const struct folder *f = arg;
	struct digest d;

	if (digest_parse(&d, e->d_name, strlen(e->d_name)) == 0 &&
	    d.b[0] == f->byte)
		return (add_found(f->share, &d, (uint64_t)e->d_ino));
	leftover(fd, e->d_name);
	return (0);
}

static int
by_inode(const void *a, const void *b)
{
	uint64_t x = ((const struct found *)a)->inode;
	uint64_t y = ((const struct found *)b)->inode;

	return (x < y ? -1 : x > y);
}

/* A thread: names. */
static void *
read_names(void *arg)
{
	struct share *sh = arg;
	struct folder f = { .share = sh };
	char aa[3];

	while ((f.byte = atomic_fetch_add(&sh->scan->folder, 1)) < FOLDERS) {
		(void)snprintf(aa, sizeof(aa), "%02x", f.byte & 0xff);
		if (each_name(sh->scan->store->blobs, aa, blob_name, &f) ==
		    -1 && errno != ENOENT) {
			sh->error = errno;
			return (NULL);
		}
	}
	if (sh->n > 0)
		qsort(sh->v, sh->n, sizeof(*sh->v), by_inode);
	return (NULL);
}

/* What a file was found to be. */
enum kind { KIND_UNKNOWN, KIND_BLOB, KIND_OTHER };

static enum kind
look(const struct blob_store *s, const struct digest *d, uint64_t *size)
{
	char name[BLOB_NAME];
	struct stat st;

	if (fstatat(s->blobs, table_name(d, name), &st,
	    AT_SYMLINK_NOFOLLOW) == -1)
		return (errno == ENOENT ? KIND_OTHER : KIND_UNKNOWN);
	*size = (uint64_t)st.st_size;
	return (S_ISREG(st.st_mode) ? KIND_BLOB : KIND_OTHER);
}

/* Some files' sizes; those that are none go. */
static void
note(struct blob_store *s, const struct found *v, size_t n)
{
	enum kind kind[BATCH];
	uint64_t size[BATCH];
	struct blob *b;
	size_t i;

	for (i = 0; i < n; i++)
		kind[i] = look(s, &v[i].digest, &size[i]);
	(void)pthread_mutex_lock(&s->lock);
	for (i = 0; i < n; i++) {
		b = table_find(s, &v[i].digest);
		if (b == NULL || !table_complete(b))
			continue;
		if (kind[i] == KIND_BLOB)
			table_size(b, size[i]);
		else if (kind[i] == KIND_OTHER && b->size == BLOB_UNSIZED)
			table_discard(b);
	}
	(void)pthread_mutex_unlock(&s->lock);
}

/* A thread: sizes. */
static void *
learn_sizes(void *arg)
{
	struct share *sh = arg;
	struct blob_store *s = sh->scan->store;
	size_t i;

	for (i = 0; i < sh->n && !atomic_load(&sh->scan->stop); i += BATCH)
		note(s, &sh->v[i], MIN(BATCH, sh->n - i));
	free(sh->v);
	sh->v = NULL;
	(void)pthread_mutex_lock(&s->lock);
	s->sizing--;
	(void)pthread_cond_broadcast(&s->changed);
	(void)pthread_mutex_unlock(&s->lock);
	return (NULL);
}

static void
join(struct blob_scan *sc)
{
	unsigned i;

	for (i = 0; i < THREADS; i++)
		if (sc->share[i].running) {
			(void)pthread_join(sc->share[i].thread, NULL);
			sc->share[i].running = false;
		}
}

/* Runs f for each share, in threads as far as there are any. */
static void
run(struct blob_scan *sc, void *(*f)(void *share))
{
	unsigned i;

	for (i = 0; i < THREADS; i++)
		sc->share[i].running = pthread_create(&sc->share[i].thread,
		    NULL, f, &sc->share[i]) == 0;
	for (i = 0; i < THREADS; i++)
		if (!sc->share[i].running)
			(void)f(&sc->share[i]);
}

/* The next in the order of all, or NULL. */
static const struct found *
next_found(struct blob_scan *sc)
{
	struct share *best = NULL, *sh;

	for (sh = sc->share; sh < sc->share + THREADS; sh++)
		if (sh->taken < sh->n && (best == NULL ||
		    sh->v[sh->taken].inode < best->v[best->taken].inode))
			best = sh;
	return (best == NULL ? NULL : &best->v[best->taken++]);
}

static int
merge(struct blob_scan *sc)
{
	const struct found *f;
	unsigned i;

	for (i = 0; i < THREADS; i++)
		if (sc->share[i].error != 0) {
			errno = sc->share[i].error;
			return (-1);
		}
	while ((f = next_found(sc)) != NULL)
		if (table_add(sc->store, &f->digest, Q_NAMED, BLOB_UNSIZED,
		    0) == NULL)
			return (-1);
	return (0);
}

/* A name in partial/; one that is complete as well is a leftover. */
static int
partial_name(void *arg, int fd, const struct dirent *e)
{
	struct blob_store *s = arg;
	struct digest d;
	struct stat st;

	if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == -1 ||
	    S_ISDIR(st.st_mode))
		return (0);
	if (digest_parse(&d, e->d_name, strlen(e->d_name)) == 0 &&
	    S_ISREG(st.st_mode) && table_find(s, &d) == NULL)
		return (table_add(s, &d, Q_IDLE, (uint64_t)st.st_size,
		    MIN((uint64_t)st.st_blocks * BLOCK,
		    (uint64_t)st.st_size)) == NULL ? -1 : 0);
	remove_leftover(fd, e->d_name);
	return (0);
}

/* All names into the table. */
static int
names(struct blob_scan *sc)
{
	struct blob_store *s = sc->store;
	int ret;

	run(sc, read_names);
	join(sc);
	(void)pthread_mutex_lock(&s->lock);
	if ((ret = merge(sc)) == 0)
		ret = each_name(s->partials, ".", partial_name, s);
	s->sizing = ret == 0 ? THREADS : 0;
	(void)pthread_mutex_unlock(&s->lock);
	return (ret);
}

struct blob_scan *
blob_scan_new(struct blob_store *s)
{
	struct blob_scan *sc;
	size_t n = 0;
	unsigned i;
	int e;

	if ((sc = calloc(1, sizeof(*sc))) == NULL)
		return (NULL);
	sc->store = s;
	for (i = 0; i < THREADS; i++)
		sc->share[i].scan = sc;
	if (names(sc) == -1) {
		e = errno;
		blob_scan_destroy(&sc);
		errno = e;
		return (NULL);
	}
	for (i = 0; i < THREADS; i++)
		n += sc->share[i].n;
	run(sc, learn_sizes);
	if (n <= FEW)
		join(sc);
	return (sc);
}

void
blob_scan_destroy(struct blob_scan **scp)
{
	struct blob_scan *sc = *scp;
	unsigned i;

	if (sc == NULL)
		return;
	*scp = NULL;
	atomic_store(&sc->stop, true);
	join(sc);
	for (i = 0; i < THREADS; i++)
		free(sc->share[i].v);
	free(sc);
}
