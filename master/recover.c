/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Start-up: from set/<set>/head and kept/ to the site in memory, and from the
 * site to trees, links and www/.  A crash at any moment leaves at most files
 * that nothing names; they go away here.  Called by generation.c: at start by
 * the main thread, after commits by publishes' threads under the commits lock.
 */

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/generation.h"
#include "master/recover.h"
#include "master/tree.h"
#include "master/www.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	KEPT_NAME	40			/* kept/<generation> */
#define	SWEEP_DEPTH	(SET_SEGMENTS + 2)

struct recover {
	int		 statefd;
	struct store	*store;
	struct site	*site;
	struct trust	*trust;
	struct parse_error *err;
};

struct numbers {
	size_t		 n, size;
	uint64_t	*v;
};

static int
numbers_add(struct numbers *l, uint64_t number)
{
	uint64_t *more;
	size_t size;

	if (l->n == l->size) {
		size = l->size == 0 ? 32 : l->size * 2;
		if ((more = realloc(l->v, size * sizeof(*more))) == NULL)
			return (-1);
		l->v = more;
		l->size = size;
	}
	l->v[l->n++] = number;
	return (0);
}

static int
newest_first(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x < *y ? 1 : *x > *y ? -1 : 0);
}

/* Generations in set/<set>/kept, newest first. */
static int
numbers_kept(int setdir, struct numbers *l)
{
	unsigned long long number;
	struct dirent *e;
	DIR *d;
	int fd, ret = 0;

	if ((fd = fd_open_dir(setdir, "kept")) == -1)
		return (errno == ENOENT ? 0 : -1);
	if ((d = fdopendir(fd)) == NULL) {
		fd_close(&fd);
		return (-1);
	}
	while (ret == 0 && (e = readdir(d)) != NULL)
		if (parse_u64(e->d_name, strlen(e->d_name),
		    HEAD_GENERATION_MAX, &number) == 0)
			ret = numbers_add(l, number);
	(void)closedir(d);
	if (l->n > 0)
		qsort(l->v, l->n, sizeof(*l->v), newest_first);
	return (ret);
}

static void
kept_name(char out[KEPT_NAME], uint64_t generation)
{

	(void)snprintf(out, KEPT_NAME, "kept/%llu",
	    (unsigned long long)generation);
}

/* Half-written files of a crash begin with a dot, names of sets never. */
static void
sweep(int dirfd, unsigned depth)
{
	struct dirent *e;
	DIR *d;
	int fd;

	if (depth == 0 || (fd = fd_open_dir(dirfd, ".")) == -1)
		return;
	if ((d = fdopendir(fd)) == NULL) {
		fd_close(&fd);
		return;
	}
	while ((e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (e->d_name[0] == '.') {
			(void)unlinkat(dirfd, e->d_name, 0);
			continue;
		}
		if ((fd = openat(dirfd, e->d_name, O_RDONLY | O_DIRECTORY |
		    O_NOFOLLOW | O_CLOEXEC)) == -1)
			continue;
		sweep(fd, depth - 1);
		fd_close(&fd);
		(void)unlinkat(dirfd, e->d_name, AT_REMOVEDIR);
	}
	(void)closedir(d);
}

/* Reads the head document `name` of a set. */
static int
read_head(int setdir, const char *set, const char *name, struct head *h,
    struct parse_error *err)
{
	struct parse_error why = { .reason = "" };
	char *text;
	size_t len;
	int ret;

	if ((text = fd_slurp(setdir, name, HEAD_MAX, &len)) == NULL)
		return (parse_fail(err, 0, "cannot read set/%s/%s: %s", set,
		    name, strerror(errno)));
	ret = head_parse(h, text, len, &why);
	free(text);
	if (ret == 0 && strcmp(h->set, set) != 0)
		ret = parse_fail(&why, 0, "it is another set's");
	if (ret == -1)
		return (parse_fail(err, 0, "set/%s/%s is damaged: %.80s", set,
		    name, why.reason));
	return (0);
}

static struct snapshot *
load_snapshot(struct recover *r, const struct head *h, struct parse_error *err)
{
	char hex[DIGEST_HEX + 1];
	struct parse_error why;
	char *manifest, *chunks = NULL;
	struct snapshot *s = NULL;
	uint8_t *rows;

	if ((manifest = store_slurp(r->store, &h->manifest,
	    h->manifest_size)) == NULL ||
	    (chunks = store_slurp(r->store, &h->chunks, h->chunks_size)) ==
	    NULL) {
		(void)parse_fail(err, 0, "cannot read its %s below blob/: %s",
		    manifest == NULL ? "manifest" : "chunk table",
		    strerror(errno));
	} else {
		rows = (uint8_t *)chunks;
		s = snapshot_new(h, &manifest, (size_t)h->manifest_size,
		    &rows, (size_t)h->chunks_size, true, &why);
		if (s == NULL)
			(void)parse_fail(err, 0, "its manifest %.16s... or "
			    "chunk table below blob/ is damaged: %.60s",
			    digest_hex(&h->manifest, hex), why.reason);
		chunks = NULL;
	}
	free(manifest);
	free(chunks);
	return (s);
}

/* Heads of earlier generations that are kept, newest first.  What is above the
 * current one is a leftover, what cannot be read is lost; both are removed. */
static struct head *
load_kept(int setdir, const struct head *current, size_t *n)
{
	struct numbers l = { .n = 0 };
	struct parse_error err;
	struct head *h = NULL;
	char name[KEPT_NAME];
	size_t i;

	*n = 0;
	if (numbers_kept(setdir, &l) == -1 ||
	    (h = calloc(l.n + 1, sizeof(*h))) == NULL)
		goto out;
	for (i = 0; i < l.n; i++) {
		kept_name(name, l.v[i]);
		if (l.v[i] == current->generation)
			continue;
		if (l.v[i] < current->generation) {
			if (read_head(setdir, current->set, name, &h[*n],
			    &err) == 0 && h[*n].generation == l.v[i]) {
				(*n)++;
				continue;
			}
			log_warn("drop set=%s generation=%llu: %s",
			    current->set, (unsigned long long)l.v[i],
			    err.reason);
		}
		(void)unlinkat(setdir, name, 0);
	}
out:
	free(l.v);
	return (h);
}

static size_t
count_retained(const struct head *current, const struct head *h, size_t n)
{
	uint64_t *generation;
	int64_t *created;
	size_t i, keep = 0;

	generation = calloc(n + 1, sizeof(*generation));
	created = calloc(n + 1, sizeof(*created));
	if (generation != NULL && created != NULL) {
		for (i = 0; i <= n; i++) {
			generation[i] = (i == 0 ? current : &h[i - 1])->
			    generation;
			created[i] = (i == 0 ? current : &h[i - 1])->created;
		}
		keep = head_retain(generation, created, n + 1,
		    current->oldest, clock_real());
	}
	free(generation);
	free(created);
	return (keep > 0 ? keep - 1 : 0);
}

/* The chain behind the current generation. */
static int
load_chain(struct recover *r, struct snapshot *current, const struct head *h,
    size_t n)
{
	struct delta *chain[HEAD_KEPT_MAX];
	struct snapshot *next = snapshot_ref(current), *old;
	struct parse_error err;
	size_t i, k = 0;

	for (i = 0; i < n && k < HEAD_KEPT_MAX; i++) {
		if ((old = load_snapshot(r, &h[i], &err)) == NULL) {
			log_warn("drop set=%s generation=%llu: %s", h[i].set,
			    (unsigned long long)h[i].generation, err.reason);
			continue;
		}
		if ((chain[k] = delta_new(old, next)) == NULL) {
			snapshot_unref(&old);
			break;
		}
		k++;
		snapshot_unref(&next);
		next = old;
	}
	snapshot_unref(&next);
	return (site_set_earlier(r->site, snapshot_head(current)->set,
	    snapshot_head(current)->generation, chain, k));
}

static int
load_earlier(struct recover *r, int setdir, struct snapshot *current)
{
	struct head *h;
	size_t n;
	int ret = -1;

	if ((h = load_kept(setdir, snapshot_head(current), &n)) != NULL)
		ret = load_chain(r, current, h,
		    count_retained(snapshot_head(current), h, n));
	free(h);
	return (ret);
}

/* The current generation has to be whole: nothing else may be served as it. */
static struct snapshot *
load_current(struct recover *r, int setdir, const char *set)
{
	struct parse_error why = { .reason = "" };
	char name[KEPT_NAME];
	struct snapshot *s;
	struct head h;

	if (read_head(setdir, set, "head", &h, &why) == 0 &&
	    trust_judge_held(r->trust, &h, &why) != TRUST_BAD_SIGNATURE &&
	    (s = load_snapshot(r, &h, &why)) != NULL) {
		kept_name(name, h.generation);
		if (faccessat(setdir, name, F_OK, 0) == 0 ||
		    (fd_mkdirs(setdir, "kept", 0755) == 0 &&
		    fd_replace(setdir, name, h.text, h.len, 0644) == 0))
			return (s);
		(void)parse_fail(&why, 0, "cannot write %s: %s", name,
		    strerror(errno));
		snapshot_unref(&s);
	}
	(void)parse_fail(r->err, 0, "set %.60s: %.120s; restore the state "
	    "from a backup", set, why.reason);
	return (NULL);
}

static int
load_set(void *arg, const char *set)
{
	struct snapshot *current = NULL, *ref;
	struct delta *none = NULL;
	struct recover *r = arg;
	int dir, ret = -1;

	if ((dir = generation_dir(r->statefd, set, false)) == -1)
		return (parse_fail(r->err, 0, "cannot open set/%s: %s", set,
		    strerror(errno)));
	if ((current = load_current(r, dir, set)) == NULL)
		goto out;
	ref = snapshot_ref(current);
	if (site_switch(r->site, &ref, &none, clock_real()) == -1 ||
	    load_earlier(r, dir, current) == -1) {
		snapshot_unref(&ref);
		(void)parse_fail(r->err, 0, "set/%s: %s", set,
		    strerror(errno));
		goto out;
	}
	ret = 0;
out:
	snapshot_unref(&current);
	fd_close(&dir);
	return (ret);
}

/* A set that was never published can have the tree and the kept head of a
 * commit that did not come about, and no more. */
static int
drop_unpublished(int statefd, const char *set)
{
	struct numbers l = { .n = 0 };
	char name[KEPT_NAME];
	int dir, ret;

	if ((dir = generation_dir(statefd, set, false)) == -1)
		return (-1);
	if ((ret = numbers_kept(dir, &l)) == 0 && l.n > 1) {
		errno = ENOENT;
		ret = -1;
	} else if (ret == 0 && l.n == 1) {
		kept_name(name, l.v[0]);
		ret = unlinkat(dir, name, 0);
	}
	free(l.v);
	fd_close(&dir);
	return (ret == -1 ? -1 : tree_retain(statefd, set, NULL, 0));
}

static int
check_unpublished(void *arg, const char *set)
{
	struct recover *r = arg;
	struct snapshot *s;

	if ((s = site_current(r->site, set)) != NULL) {
		snapshot_unref(&s);
		return (0);
	}
	if (drop_unpublished(r->statefd, set) == 0)
		return (0);
	return (parse_fail(r->err, 0, "set/%s/head: %s; copy the newest of "
	    "its kept/ to it, or restore the state from a backup", set,
	    strerror(errno)));
}

static int
derive(void *arg, const char *set)
{
	struct recover *r = arg;

	recover_derived(r->statefd, r->store, r->site, set);
	recover_retain(r->statefd, r->site, set);
	return (0);
}

int
recover_state(int statefd, struct store *store, struct site *site,
    struct trust *trust, struct parse_error *err)
{
	struct recover r = { .statefd = statefd, .store = store, .site = site,
	    .trust = trust, .err = err };
	int fd;

	err->reason[0] = '\0';
	if (fd_mkdirs(statefd, "set", 0755) == -1 ||
	    fd_mkdirs(statefd, "tree", 0755) == -1 ||
	    www_init(statefd) == -1 ||
	    (fd = fd_open_dir(statefd, "set")) == -1)
		goto fail;
	sweep(fd, SWEEP_DEPTH);
	fd_close(&fd);
	if (generation_each(statefd, "head", load_set, &r) != 0 ||
	    generation_each(statefd, "accepted", check_unpublished, &r) != 0 ||
	    generation_each(statefd, "head", derive, &r) != 0 ||
	    www_head_tidy(statefd, site) == -1 ||
	    www_heads(statefd, site) == -1 || www_trust(statefd, trust) == -1)
		goto fail;
	return (0);
fail:
	if (err->reason[0] == '\0')
		(void)parse_fail(err, 0, "cannot recover the state: %s",
		    strerror(errno));
	return (-1);
}

/* Heads of a set's kept generations in the site, newest first, the current one
 * at their head; none when it is not published.  -1: out of memory. */
static int
copy_kept(struct site *site, const char *set, struct head **hp, size_t *n)
{
	const struct site_set *s;
	struct head *h = NULL;
	size_t i;
	int ret = 0;

	*n = 0;
	if ((s = site_named(site_enter(site), set)) != NULL) {
		if ((h = calloc(s->nearlier + 1, sizeof(*h))) == NULL) {
			ret = -1;
		} else {
			h[(*n)++] = *snapshot_head(s->current);
			for (i = 0; i < s->nearlier; i++)
				h[(*n)++] = *delta_head(s->earlier[i]);
		}
	}
	site_leave(site);
	*hp = h;
	return (ret);
}

static int
switch_tree(int statefd, struct store *store, struct site *site,
    const struct head *h)
{
	struct parse_error err;
	struct snapshot *s;
	int ret = 0;

	if (!tree_present(statefd, h->set, h->generation)) {
		s = site_current(site, h->set);
		ret = tree_build(statefd, store, s, NULL, NULL, &err);
		if (ret == -1)
			log_err("cannot make tree set=%s generation=%llu: %s",
			    h->set, (unsigned long long)h->generation,
			    err.reason);
		snapshot_unref(&s);
	}
	return (ret == -1 ? -1 : tree_switch(statefd, h->set, h->generation));
}

static int
retain_trees(int statefd, const struct head *h, size_t n)
{
	uint64_t keep[TREE_KEPT];
	size_t i, k = 0;

	for (i = 0; i < n && k < TREE_KEPT; i++)
		if (tree_present(statefd, h->set, h[i].generation))
			keep[k++] = h[i].generation;
	return (tree_retain(statefd, h->set, keep, k));
}

/* Removes kept heads that are not among those n. */
static int
retain_heads(int statefd, const struct head *h, size_t n)
{
	struct numbers l = { .n = 0 };
	struct parse_error err;
	char name[KEPT_NAME];
	struct head gone;
	size_t i, k;
	int dir, ret;

	if ((dir = generation_dir(statefd, h->set, false)) == -1)
		return (-1);
	ret = numbers_kept(dir, &l);
	for (i = 0; ret == 0 && i < l.n; i++) {
		for (k = 0; k < n && h[k].generation != l.v[i]; k++)
			;
		if (k < n)
			continue;
		kept_name(name, l.v[i]);
		if (read_head(dir, h->set, name, &gone, &err) == 0)
			www_head_remove(statefd, &gone.digest);
		ret = unlinkat(dir, name, 0);
	}
	free(l.v);
	fd_close(&dir);
	return (ret);
}

static void
complain(const char *set)
{

	log_err("cannot complete what follows set=%s: %s; the next publish or "
	    "start does", set, strerror(errno));
}

void
recover_derived(int statefd, struct store *store, struct site *site,
    const char *set)
{
	struct head *h;
	size_t i, n;
	int ret;

	if ((ret = copy_kept(site, set, &h, &n)) == 0 && n > 0) {
		ret = switch_tree(statefd, store, site, h);
		if (www_set(statefd, set) == -1)
			ret = -1;
		for (i = 0; i < n; i++)
			if (www_head(statefd, &h[i]) == -1)
				ret = -1;
	}
	if (ret == -1)
		complain(set);
	free(h);
}

void
recover_retain(int statefd, struct site *site, const char *set)
{
	struct head *h;
	size_t n;
	int ret;

	if ((ret = copy_kept(site, set, &h, &n)) == 0 && n == 0) {
		ret = drop_unpublished(statefd, set);
	} else if (ret == 0) {
		ret = retain_trees(statefd, h, n);
		if (retain_heads(statefd, h, n) == -1)
			ret = -1;
	}
	if (ret == -1)
		complain(set);
	free(h);
}
