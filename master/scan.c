/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a folder holds: walks it, and refuses what a manifest cannot hold or
 * what changes meanwhile.  Called by the commands publish and verify, in the
 * program's one thread; master/scan_read.c has threads, which live no longer
 * than scan_new().
 */

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/scan_impl.h"
#include "proto/check.h"
#include "proto/chunk.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	SCAN_DEPTH	(PATH_BYTES_MAX / 2 + 1)	/* folders in folders */
#define	SCAN_PATH	(PATH_BYTES_MAX + NAME_MAX + 2)
#define	LATEST_HINT	"publish the folder that holds the files; for poudriere that is DIR/.latest"

#ifndef NAME_MAX
#define	NAME_MAX	255
#endif

/* One scan at work. */
struct walk {
	const struct scan_conf	*conf;
	struct scan		*scan;
	struct parse_error	*err;
	char			 path[SCAN_PATH];	/* looked at now */
};

static struct item *
item_new(struct walk *w, const char *path, const struct stat *st)
{
	struct scan *s = w->scan;
	struct item *it;
	size_t size;

	if (s->n >= MANIFEST_ENTRIES) {
		(void)parse_fail(w->err, 0,
		    "more than %d files and folders in one set",
		    MANIFEST_ENTRIES);
		return (NULL);
	}
	if (s->n == s->size) {
		size = s->size == 0 ? 1024 : s->size * 2;
		if ((it = realloc(s->item, size * sizeof(*it))) == NULL)
			goto nomem;
		s->item = it;
		s->size = size;
	}
	it = &s->item[s->n];
	memset(it, 0, sizeof(*it));
	if ((it->e.path = strdup(path)) == NULL)
		goto nomem;
	scan_identity(&it->id, st);
	it->mode = st->st_mode & S_IFMT;
	s->n++;
	return (it);
nomem:
	(void)parse_fail(w->err, 0, "out of memory");
	return (NULL);
}

static void
item_drop(struct scan *s)
{
	struct item *it;

	CHECK(s->n > 0);
	it = &s->item[--s->n];
	free(it->e.path);
	free(it->e.link);
	free(it->e.rows);
}

static int
take_link(struct walk *w, int dirfd, const char *name, struct item *it)
{
	char text[PATH_BYTES_MAX + 1];
	ssize_t n;

	it->e.type = ENTRY_LINK;
	if ((n = readlinkat(dirfd, name, text, sizeof(text))) == -1)
		return (scan_refuse(w->err, w->path, strerror(errno)));
	if ((size_t)n >= sizeof(text)) {
		if (!w->conf->lenient)
			return (scan_refuse(w->err, w->path, "link text longer than 1024 bytes"));
		it->e.odd = true;
		n = 0;
	}
	if ((it->e.link = strndup(text, (size_t)n)) == NULL)
		return (parse_fail(w->err, 0, "out of memory"));
	return (0);
}

static int	take_dir(struct walk *w, int dirfd, const char *name,
		    size_t len, unsigned depth);

/* One name of a folder; w->path is its whole path of len bytes. */
static int
take(struct walk *w, int dirfd, const char *name, size_t len, unsigned depth)
{
	struct stat st;
	struct item *it;
	size_t index;
	bool legal = path_ok(w->path, len);

	if (!legal && !w->conf->lenient)
		return (scan_refuse(w->err, w->path,
		    "a path that no set can hold (control bytes, a leading \"@\", or too long): rename it"));
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == -1)
		return (scan_refuse(w->err, w->path, errno == ENOENT ?
		    "unstable tree: vanished while it was scanned; repeat when nothing writes there" :
		    strerror(errno)));
	index = w->scan->n;
	if ((it = item_new(w, w->path, &st)) == NULL)
		return (-1);
	it->e.odd = !legal;
	if (S_ISREG(st.st_mode)) {
		it->e.type = ENTRY_FILE;
		it->e.size = (uint64_t)st.st_size;
		it->read = true;
		return (0);
	}
	if (S_ISLNK(st.st_mode))
		return (take_link(w, dirfd, name, it));
	if (!S_ISDIR(st.st_mode)) {
		it->e.odd = true;
		if (w->conf->lenient)
			return (0);
		return (scan_refuse(w->err, w->path,
		    "neither file, folder nor link: remove it"));
	}
	it->e.type = ENTRY_DIR;
	if (take_dir(w, dirfd, name, len, depth) == -1)
		return (-1);
	if (w->scan->n == index + 1)
		item_drop(w->scan);
	return (0);
}

static int
take_dir(struct walk *w, int dirfd, const char *name, size_t len,
    unsigned depth)
{
	const struct dirent *e;
	size_t n;
	DIR *d;
	int fd, ret = 0;

	if (depth == 0)
		return (scan_refuse(w->err, w->path, "too deep"));
	if ((fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
	    O_CLOEXEC)) == -1)
		return (scan_refuse(w->err, w->path, strerror(errno)));
	if ((d = fdopendir(fd)) == NULL) {
		fd_close(&fd);
		return (scan_refuse(w->err, w->path, strerror(errno)));
	}
	while (ret == 0 && (errno = 0, e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		n = strlen(e->d_name);
		if (len + 1 + n >= sizeof(w->path)) {
			ret = scan_refuse(w->err, w->path, "too long a path in it");
			break;
		}
		if (len > 0)
			w->path[len] = '/';
		memcpy(w->path + len + (len > 0), e->d_name, n + 1);
		ret = take(w, fd, e->d_name, len + (len > 0) + n, depth - 1);
		w->path[len] = '\0';
		if (ret == 0 && scan_stopped(w->conf))
			ret = parse_fail(w->err, 0, "interrupted");
	}
	if (ret == 0 && e == NULL && errno != 0)
		ret = scan_refuse(w->err, w->path, strerror(errno));
	(void)closedir(d);
	return (ret);
}

static int
item_cmp(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	return (strcmp(x->e.path, y->e.path));
}

static struct item *
item_find(struct scan *s, char *path)
{
	struct item key = { .e.path = path };

	return (bsearch(&key, s->item, s->n, sizeof(key), item_cmp));
}

/* Follows a link to its file, whose digest it then has. */
static int
resolve(struct walk *w, struct item *from)
{
	char target[PATH_BYTES_MAX + 1];
	const struct item *it = from;
	struct stat st;
	unsigned step;

	for (step = 0; step < MANIFEST_LINK_STEPS; step++) {
		if (manifest_link_target(it->e.path, it->e.link, target) == -1)
			return (scan_refuse(w->err, from->e.path,
			    "the link is absolute or leads outside the set: make it relative, to a file in the set"));
		if (target[0] == '\0' || (fstatat(w->scan->dirfd, target, &st,
		    AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)))
			return (scan_refuse(w->err, from->e.path,
			    "a link to a folder: " LATEST_HINT));
		if ((it = item_find(w->scan, target)) == NULL)
			return (scan_refuse(w->err, from->e.path,
			    "a dangling link: remove it, or add what it leads to"));
		if (it->e.type == ENTRY_FILE) {
			from->e.digest = it->e.digest;
			return (0);
		}
	}
	return (scan_refuse(w->err, from->e.path,
	    "the link reaches no file within 8 steps"));
}

/* Nothing that was looked at may have changed since: names that came or went
 * change their folder. */
static int
check_stable(struct walk *w)
{
	struct scan_identity now;
	const struct item *it;
	struct stat st;
	size_t i;

	for (i = 0; i < w->scan->n; i++) {
		it = &w->scan->item[i];
		if (fstatat(w->scan->dirfd, it->e.path, &st,
		    AT_SYMLINK_NOFOLLOW) == -1)
			return (scan_refuse(w->err, it->e.path,
			    SCAN_UNSTABLE));
		scan_identity(&now, &st);
		if ((st.st_mode & S_IFMT) != it->mode ||
		    scan_identity_cmp(&now, &it->id) != 0)
			return (scan_refuse(w->err, it->e.path,
			    SCAN_UNSTABLE));
	}
	if (fstat(w->scan->dirfd, &st) == -1)
		return (scan_refuse(w->err, w->conf->dir, strerror(errno)));
	scan_identity(&now, &st);
	if (scan_identity_cmp(&now, &w->scan->root) != 0)
		return (scan_refuse(w->err, w->conf->dir, SCAN_UNSTABLE));
	return (0);
}

/* Takes from the memory of the last scan what did not change since. */
static int
recall(struct walk *w)
{
	const struct scan_conf *c = w->conf;
	struct scan_cache *cache = NULL;
	const uint8_t *rows;
	struct item *it;
	size_t i, len;
	int ret = 0;

	if (c->lenient || c->cachefd == -1 ||
	    (cache = scan_cache_read(c->cachefd, c->cache)) == NULL)
		return (0);
	for (i = 0; i < w->scan->n; i++) {
		it = &w->scan->item[i];
		if (!it->read || !scan_cache_find(cache, &it->id,
		    &it->e.digest, &rows))
			continue;
		if (rows != NULL) {
			len = (size_t)chunk_rows(it->e.size) * DIGEST_LEN;
			if ((it->e.rows = malloc(len)) == NULL) {
				ret = parse_fail(w->err, 0, "out of memory");
				break;
			}
			memcpy(it->e.rows, rows, len);
		}
		it->read = false;
	}
	scan_cache_destroy(&cache);
	return (ret);
}

static void
remember(const struct walk *w, int64_t began_ms)
{
	const struct scan_conf *c = w->conf;
	struct scan_cache_writer *cache;
	const struct item *it;
	int64_t changed, settled = began_ms - c->settle_ms;
	size_t i;

	if (c->lenient || c->cachefd == -1 || w->scan->nread == 0)
		return;
	cache = scan_cache_begin();
	for (i = 0; i < w->scan->n; i++) {
		it = &w->scan->item[i];
		changed = it->id.ctime * 1000 +
		    (int64_t)(it->id.ctime_ns / 1000000);
		if (it->e.type == ENTRY_FILE && changed <= settled)
			scan_cache_add(cache, &it->id, &it->e.digest,
			    it->e.rows);
	}
	if (scan_cache_write(&cache, c->cachefd, c->cache) == -1)
		log_debug("scan cache=%s not written: %s", c->cache,
		    strerror(errno));
}

static int
scan_all(struct walk *w)
{
	struct scan *s = w->scan;
	int64_t began_ms = clock_real_ms();
	struct stat st;
	size_t i;

	if ((s->dirfd = fd_open_dir(AT_FDCWD, w->conf->dir)) == -1 ||
	    fstat(s->dirfd, &st) == -1)
		return (scan_refuse(w->err, w->conf->dir, strerror(errno)));
	scan_identity(&s->root, &st);
	if (take_dir(w, s->dirfd, ".", 0, SCAN_DEPTH) == -1)
		return (-1);
	if (s->n > 0)
		qsort(s->item, s->n, sizeof(*s->item), item_cmp);
	if (recall(w) == -1 || scan_read(s, w->conf, w->err) == -1)
		return (-1);
	if (w->conf->lenient)
		return (0);
	for (i = 0; i < s->n; i++)
		if (s->item[i].e.type == ENTRY_LINK &&
		    resolve(w, &s->item[i]) == -1)
			return (-1);
	if (check_stable(w) == -1)
		return (-1);
	remember(w, began_ms);
	return (0);
}

/* For qsort, which has no argument of its own: indices are sorted by what
 * they lead to, so the pairs stand together. */
struct by_digest {
	struct digest	digest;
	size_t		index;
};

static int
by_digest_cmp(const void *a, const void *b)
{
	const struct by_digest *x = a, *y = b;

	return (memcmp(x->digest.b, y->digest.b, DIGEST_LEN));
}

static int
index_digests(struct scan *s)
{
	struct by_digest *pair;
	size_t i, n = 0;

	if ((pair = calloc(s->n + 1, sizeof(*pair))) == NULL ||
	    (s->by_digest = calloc(s->n + 1, sizeof(*s->by_digest))) == NULL) {
		free(pair);
		return (-1);
	}
	for (i = 0; i < s->n; i++)
		if (s->item[i].e.type == ENTRY_FILE && !s->item[i].e.odd) {
			pair[n].digest = s->item[i].e.digest;
			pair[n++].index = i;
		}
	qsort(pair, n, sizeof(*pair), by_digest_cmp);
	for (i = 0; i < n; i++)
		s->by_digest[i] = pair[i].index;
	s->nby_digest = n;
	free(pair);
	return (0);
}

struct scan *
scan_new(const struct scan_conf *c, struct parse_error *err)
{
	struct walk *w;
	struct scan *s;
	int ret;

	w = calloc(1, sizeof(*w));
	s = calloc(1, sizeof(*s));
	if (w == NULL || s == NULL) {
		free(w);
		free(s);
		(void)parse_fail(err, 0, "out of memory");
		return (NULL);
	}
	s->dirfd = -1;
	w->conf = c;
	w->scan = s;
	w->err = err;
	ret = scan_all(w);
	free(w);
	if (ret == 0 && index_digests(s) == -1)
		ret = parse_fail(err, 0, "out of memory");
	if (ret == -1)
		scan_destroy(&s);
	return (s);
}

void
scan_destroy(struct scan **s)
{

	if (*s == NULL)
		return;
	while ((*s)->n > 0)
		item_drop(*s);
	fd_close(&(*s)->dirfd);
	free((*s)->item);
	free((*s)->by_digest);
	free(*s);
	*s = NULL;
}

size_t
scan_n(const struct scan *s)
{

	return (s->n);
}

const struct scan_entry *
scan_nth(const struct scan *s, size_t i)
{

	CHECK(i < s->n);
	return (&s->item[i].e);
}

uint64_t
scan_nread(const struct scan *s)
{

	return (s->nread);
}

ssize_t
scan_find_digest(const struct scan *s, const struct digest *d)
{
	size_t lo = 0, hi = s->nby_digest, mid;
	int c;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		c = memcmp(s->item[s->by_digest[mid]].e.digest.b, d->b,
		    DIGEST_LEN);
		if (c == 0)
			return ((ssize_t)s->by_digest[mid]);
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (-1);
}

int
scan_open(const struct scan *s, size_t i)
{

	CHECK(i < s->n && s->item[i].e.type == ENTRY_FILE);
	return (scan_open_item(s, &s->item[i]));
}

bool
scan_unchanged(const struct scan *s, size_t i, int fd)
{
	struct scan_identity now;
	struct stat st;

	CHECK(i < s->n);
	if (fstat(fd, &st) == -1)
		return (false);
	scan_identity(&now, &st);
	now.ctime = s->item[i].id.ctime;
	now.ctime_ns = s->item[i].id.ctime_ns;
	return (scan_identity_cmp(&now, &s->item[i].id) == 0);
}
