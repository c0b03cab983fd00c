/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The master's edges/ folder: which transport keys may hold a lease.  Read by
 * the master's roster and `pkgcast edge`; lists are immutable, any thread.
 *
 * Whatever is in the folder, the good files count and the others are named:
 * one bad file must not lock out every edge.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "keys/cert.h"
#include "proto/fd.h"

#define	SECRET_SUFFIX	"_secret"

struct edges {
	size_t			 n;
	struct edge_entry	*entry;		/* by name */
	struct edge_entry	**by_key;
};

struct names {
	size_t	  n, size;
	char	**v;
};

static void
names_free(struct names *l)
{

	while (l->n > 0)
		free(l->v[--l->n]);
	free(l->v);
	l->v = NULL;
}

static int
compare_names(const void *a, const void *b)
{
	char *const *x = a, *const *y = b;

	return (strcmp(*x, *y));
}

/* Neither hidden (half-written files, too) nor a secret half. */
static bool
wanted(const char *name)
{
	size_t n = strlen(name), suffix = sizeof(SECRET_SUFFIX) - 1;

	return (name[0] != '.' && (n < suffix ||
	    strcmp(name + n - suffix, SECRET_SUFFIX) != 0));
}

static int
names_add(struct names *l, const char *name)
{
	size_t size;
	char **v;

	if (l->n == EDGES_MAX) {
		errno = EFBIG;
		return (-1);
	}
	if (l->n == l->size) {
		size = l->size == 0 ? 64 : l->size * 2;
		if ((v = realloc(l->v, size * sizeof(*v))) == NULL)
			return (-1);
		l->v = v;
		l->size = size;
	}
	if ((l->v[l->n] = strdup(name)) == NULL)
		return (-1);
	l->n++;
	return (0);
}

/* The folder's files that matter, sorted; *fd is the open folder. */
static int
list(const char *dir, struct names *l, int *fd)
{
	struct dirent *e;
	int copy, saved, ret = 0;
	DIR *d = NULL;

	memset(l, 0, sizeof(*l));
	if ((*fd = fd_open_dir(AT_FDCWD, dir)) == -1)
		return (-1);
	if ((copy = fcntl(*fd, F_DUPFD_CLOEXEC, 0)) == -1 ||
	    (d = fdopendir(copy)) == NULL) {
		fd_close(&copy);
		fd_close(fd);
		return (-1);
	}
	for (;;) {
		errno = 0;
		if ((e = readdir(d)) == NULL) {
			ret = errno == 0 ? 0 : -1;
			break;
		}
		if (wanted(e->d_name) && (ret = names_add(l, e->d_name)) == -1)
			break;
	}
	saved = errno;
	(void)closedir(d);
	if (ret == -1) {
		names_free(l);
		fd_close(fd);
		errno = saved;
	} else if (l->n > 0)
		qsort(l->v, l->n, sizeof(*l->v), compare_names);
	return (ret);
}

/* One file: NULL when it is good, else why not. */
static const char *
read_entry(struct edge_entry *e, int dirfd, const char *name,
    struct parse_error *err)
{
	struct cert c;
	char *text;
	size_t len;
	int ret;

	if (!edge_name_ok(name))
		return ("the file's name is not an edge's name "
		    "(A-Z a-z 0-9 . _ -, at most 64)");
	text = fd_slurp(dirfd, name, CERT_FILE_MAX, &len);
	if (text == NULL)
		return (errno == EFBIG ? "too large for a certificate" :
		    errno == EINVAL ? "not a regular file" : strerror(errno));
	ret = cert_parse(&c, text, len, err);
	sodium_memzero(text, len);
	free(text);
	if (ret == -1)
		return (err->reason);
	if (c.secret_key[0] != '\0') {
		sodium_memzero(&c, sizeof(c));
		return ("holds a secret key; only the public half "
		    "belongs here");
	}
	memcpy(e->name, name, strlen(name) + 1);
	memcpy(e->key, c.public_key, sizeof(e->key));
	memcpy(e->url, c.url, sizeof(e->url));
	return (NULL);
}

static int
compare_keys(const void *a, const void *b)
{
	struct edge_entry *const *x = a, *const *y = b;
	int r = strcmp((*x)->key, (*y)->key);

	/* Of two files with one key the first by name counts. */
	return (r != 0 ? r : strcmp((*x)->name, (*y)->name));
}

/* Makes by_key, and takes second files for one key out of the list. */
static void
index_keys(struct edges *e,
    void (*bad)(void *arg, const char *file, const char *why), void *arg)
{
	size_t i, n = 0;

	for (i = 0; i < e->n; i++)
		e->by_key[i] = &e->entry[i];
	if (e->n > 0)
		qsort(e->by_key, e->n, sizeof(*e->by_key), compare_keys);
	for (i = 0; i < e->n; i++) {
		if (n > 0 && strcmp(e->by_key[n - 1]->key,
		    e->by_key[i]->key) == 0) {
			if (bad != NULL)
				bad(arg, e->by_key[i]->name,
				    "another file has the same key");
			e->by_key[i]->name[0] = '\0';
			continue;
		}
		e->by_key[n++] = e->by_key[i];
	}
	if (n == e->n)
		return;
	/* Close the gaps, then point to where the entries are now. */
	for (i = n = 0; i < e->n; i++)
		if (e->entry[i].name[0] != '\0')
			e->entry[n++] = e->entry[i];
	e->n = n;
	for (i = 0; i < n; i++)
		e->by_key[i] = &e->entry[i];
	qsort(e->by_key, n, sizeof(*e->by_key), compare_keys);
}

struct edges *
edges_read(const char *dir,
    void (*bad)(void *arg, const char *file, const char *why), void *arg)
{
	struct parse_error err;
	struct edges *e = NULL;
	struct names l;
	const char *why;
	size_t i;
	int fd;

	if (list(dir, &l, &fd) == -1)
		return (NULL);
	if ((e = calloc(1, sizeof(*e))) == NULL ||
	    (e->entry = calloc(l.n + 1, sizeof(*e->entry))) == NULL ||
	    (e->by_key = calloc(l.n + 1, sizeof(*e->by_key))) == NULL) {
		edges_destroy(&e);
		errno = ENOMEM;
		goto out;
	}
	for (i = 0; i < l.n; i++) {
		why = read_entry(&e->entry[e->n], fd, l.v[i], &err);
		if (why == NULL)
			e->n++;
		else if (bad != NULL)
			bad(arg, l.v[i], why);
	}
	index_keys(e, bad, arg);
out:
	names_free(&l);
	fd_close(&fd);
	return (e);
}

void
edges_destroy(struct edges **e)
{

	if (*e == NULL)
		return;
	free((*e)->entry);
	free((*e)->by_key);
	free(*e);
	*e = NULL;
}

size_t
edges_n(const struct edges *e)
{

	return (e->n);
}

const struct edge_entry *
edges_nth(const struct edges *e, size_t i)
{

	return (i < e->n ? &e->entry[i] : NULL);
}

const struct edge_entry *
edges_by_key(const struct edges *e, const char *key)
{
	size_t low = 0, high = e->n, mid;
	int r;

	while (low < high) {
		mid = low + (high - low) / 2;
		r = strcmp(e->by_key[mid]->key, key);
		if (r == 0)
			return (e->by_key[mid]);
		if (r < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return (NULL);
}

/*
 * Of the contents, not of times: a file that is replaced within a second by
 * one of the same size must be noticed, since it may revoke a key.
 */
uint64_t
edges_stamp(const char *dir)
{
	crypto_generichash_state state;
	struct names l;
	uint64_t stamp[2], len64;
	char *text;
	size_t i, len;
	int fd;

	if (list(dir, &l, &fd) == -1)
		return (0);
	(void)crypto_generichash_init(&state, NULL, 0, sizeof(stamp));
	for (i = 0; i < l.n; i++) {
		len = 0;
		text = fd_slurp(fd, l.v[i], CERT_FILE_MAX, &len);
		len64 = text == NULL ? UINT64_MAX : len;
		(void)crypto_generichash_update(&state,
		    (const unsigned char *)l.v[i], strlen(l.v[i]) + 1);
		(void)crypto_generichash_update(&state,
		    (const unsigned char *)&len64, sizeof(len64));
		if (text != NULL)
			(void)crypto_generichash_update(&state,
			    (const unsigned char *)text, len);
		free(text);
	}
	(void)crypto_generichash_final(&state, (unsigned char *)stamp,
	    sizeof(stamp));
	names_free(&l);
	fd_close(&fd);
	return (stamp[0] == 0 ? 1 : stamp[0]);
}
