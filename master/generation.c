/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The truth: which head of a set is current, which earlier ones are kept, and
 * the highest numbers known.  A commit's one decisive step is the rename of
 * set/<set>/head; everything else precedes it or can be made again from it.
 * Called by publishes' threads, and by the link thread (numbers that edges
 * show).
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

#include "master/generation.h"
#include "master/recover.h"
#include "master/roster.h"
#include "master/tree.h"
#include "master/www.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	GENERATIONS_MAGIC 0x47656e73u
#define	SET_PATH	(SET_NAME_MAX + 32)
#define	ACCEPTED_MAX	128		/* bytes of the file */
#define	SCAN_DEPTH	(SET_SEGMENTS + 1)
#define	AGAIN_MS	1000		/* when there was no memory */

struct number {
	char		 set[SET_NAME_MAX + 1];
	struct accepted	 accepted;
};

struct generations {
	unsigned	 magic;
	int		 statefd;
	struct store	*store;
	struct site	*site;
	struct trust	*trust;
	pthread_mutex_t	 commits;	/* one commit, or its end, at a time */
	pthread_mutex_t	 numbers;	/* guards what follows, and files */
	size_t		 n, size;
	struct number	*number;
};

int
generation_dir(int statefd, const char *set, bool make)
{
	char path[SET_PATH];

	(void)snprintf(path, sizeof(path), "set/%s", set);
	if (make && fd_mkdirs(statefd, path, 0755) == -1)
		return (-1);
	return (fd_open_dir(statefd, path));
}

struct scan {
	const char	*name;
	int		(*each)(void *arg, const char *set);
	void		*arg;
	char		 set[SET_NAME_MAX + 1];
	size_t		 len;
};

/* A folder is a set's when it holds the regular file; a folder of that name is
 * but a segment of another set's name. */
static int
scan_dir(struct scan *s, int dirfd, unsigned depth)
{
	struct dirent *e;
	struct stat st;
	DIR *d;
	size_t len, was = s->len;
	int fd, ret = 0;

	if (s->len > 0 && fstatat(dirfd, s->name, &st, AT_SYMLINK_NOFOLLOW) ==
	    0 && S_ISREG(st.st_mode))
		ret = s->each(s->arg, s->set);
	if (ret != 0 || depth == 0)
		return (ret);
	if ((fd = fd_open_dir(dirfd, ".")) == -1)
		return (-1);
	if ((d = fdopendir(fd)) == NULL) {
		fd_close(&fd);
		return (-1);
	}
	while (ret == 0 && (e = readdir(d)) != NULL) {
		len = strlen(e->d_name);
		if (!set_name_ok(e->d_name, len) ||
		    was + (was > 0) + len > SET_NAME_MAX)
			continue;
		if ((fd = openat(dirfd, e->d_name, O_RDONLY | O_DIRECTORY |
		    O_NOFOLLOW | O_CLOEXEC)) == -1)
			continue;
		if (was > 0)
			s->set[was] = '/';
		memcpy(s->set + was + (was > 0), e->d_name, len + 1);
		s->len = was + (was > 0) + len;
		ret = scan_dir(s, fd, depth - 1);
		fd_close(&fd);
		s->len = was;
		s->set[was] = '\0';
	}
	(void)closedir(d);
	return (ret);
}

int
generation_each(int statefd, const char *name,
    int (*each)(void *arg, const char *set), void *arg)
{
	struct scan s = { .name = name, .each = each, .arg = arg };
	int fd, ret;

	if ((fd = fd_open_dir(statefd, "set")) == -1)
		return (errno == ENOENT ? 0 : -1);
	ret = scan_dir(&s, fd, SCAN_DEPTH);
	fd_close(&fd);
	return (ret);
}

/* Under the lock.  NULL: not known. */
static struct number *
find_number(struct generations *g, const char *set)
{
	size_t i;

	for (i = 0; i < g->n; i++)
		if (strcmp(g->number[i].set, set) == 0)
			return (&g->number[i]);
	return (NULL);
}

static struct number *
add_number(struct generations *g, const char *set)
{
	struct number *more, *n;
	size_t size;

	if (g->n == g->size) {
		size = g->size == 0 ? 16 : g->size * 2;
		if ((more = realloc(g->number, size * sizeof(*more))) == NULL)
			return (NULL);
		g->number = more;
		g->size = size;
	}
	n = &g->number[g->n++];
	memset(n, 0, sizeof(*n));
	memcpy(n->set, set, strlen(set) + 1);
	return (n);
}

/* "<generation> <digest>\n" */
static int
parse_accepted(const char *text, size_t len, struct accepted *a)
{
	const char *sp = memchr(text, ' ', len);
	unsigned long long generation;

	if (sp == NULL || text[len - 1] != '\n' ||
	    (size_t)(sp - text) + 1 + DIGEST_HEX + 1 != len ||
	    parse_u64(text, (size_t)(sp - text), HEAD_GENERATION_MAX,
	    &generation) == -1 ||
	    digest_parse(&a->digest, sp + 1, DIGEST_HEX) == -1)
		return (-1);
	a->generation = generation;
	return (0);
}

static int
load_accepted(void *arg, const char *set)
{
	struct generations *g = arg;
	struct number *n;
	char *text;
	size_t len;
	int dir, ret = -1;

	if ((dir = generation_dir(g->statefd, set, false)) == -1)
		return (-1);
	if ((text = fd_slurp(dir, "accepted", ACCEPTED_MAX, &len)) != NULL &&
	    (n = add_number(g, set)) != NULL) {
		if ((ret = parse_accepted(text, len, &n->accepted)) == -1)
			errno = EINVAL;
	}
	if (ret == -1)
		log_err("cannot read file=set/%s/accepted: %s", set,
		    strerror(errno));
	free(text);
	fd_close(&dir);
	return (ret);
}

struct generations *
generation_new(int statefd, struct store *store, struct site *site,
    struct trust *trust, struct parse_error *err)
{
	struct generations *g;

	if ((g = calloc(1, sizeof(*g))) == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		return (NULL);
	}
	g->magic = GENERATIONS_MAGIC;
	g->statefd = statefd;
	g->store = store;
	g->site = site;
	g->trust = trust;
	(void)pthread_mutex_init(&g->commits, NULL);
	(void)pthread_mutex_init(&g->numbers, NULL);
	if (recover_state(statefd, store, site, trust, err) == -1) {
		generation_destroy(&g);
	} else if (generation_each(statefd, "accepted", load_accepted, g) !=
	    0) {
		(void)parse_fail(err, 0, "cannot read set/*/accepted in the "
		    "state folder: restore it from a backup");
		generation_destroy(&g);
	}
	return (g);
}

void
generation_destroy(struct generations **gp)
{
	struct generations *g = *gp;

	*gp = NULL;
	if (g == NULL)
		return;
	CHECK_OBJ(g, GENERATIONS_MAGIC);
	free(g->number);
	(void)pthread_mutex_destroy(&g->commits);
	(void)pthread_mutex_destroy(&g->numbers);
	explicit_bzero(&g->magic, sizeof(g->magic));
	free(g);
}

void
generation_accepted(struct generations *g, const char *set, struct accepted *a)
{
	struct snapshot *current;
	struct number *n;

	CHECK_OBJ(g, GENERATIONS_MAGIC);
	memset(a, 0, sizeof(*a));
	(void)pthread_mutex_lock(&g->numbers);
	if ((n = find_number(g, set)) != NULL)
		*a = n->accepted;
	(void)pthread_mutex_unlock(&g->numbers);
	if ((current = site_current(g->site, set)) == NULL)
		return;
	if (snapshot_head(current)->generation > a->generation) {
		a->generation = snapshot_head(current)->generation;
		a->digest = snapshot_head(current)->digest;
	}
	snapshot_unref(&current);
}

static int
write_accepted(struct generations *g, const struct head *h)
{
	char text[ACCEPTED_MAX], hex[DIGEST_HEX + 1];
	int dir, n, ret;

	if ((dir = generation_dir(g->statefd, h->set, true)) == -1)
		return (-1);
	n = snprintf(text, sizeof(text), "%llu %s\n",
	    (unsigned long long)h->generation, digest_hex(&h->digest, hex));
	ret = fd_replace(dir, "accepted", text, (size_t)n, 0644);
	fd_close(&dir);
	return (ret);
}

int
generation_accept(struct generations *g, const struct head *h)
{
	struct number *n;
	int ret = 0;

	CHECK_OBJ(g, GENERATIONS_MAGIC);
	(void)pthread_mutex_lock(&g->numbers);
	if ((n = find_number(g, h->set)) == NULL &&
	    (n = add_number(g, h->set)) == NULL) {
		ret = -1;
	} else if (h->generation > n->accepted.generation &&
	    (ret = write_accepted(g, h)) == 0) {
		n->accepted.generation = h->generation;
		n->accepted.digest = h->digest;
	}
	(void)pthread_mutex_unlock(&g->numbers);
	return (ret);
}

bool
generation_clash(struct generations *g, const char *set,
    char clash[SET_NAME_MAX + 1])
{
	const struct site_view *v;
	const char *name;
	bool found = false;
	size_t i;

	(void)pthread_mutex_lock(&g->numbers);
	for (i = 0; !found && i < g->n; i++) {
		name = g->number[i].set;
		if ((found = strcmp(name, set) != 0 &&
		    set_names_clash(name, set)))
			memcpy(clash, name, strlen(name) + 1);
	}
	(void)pthread_mutex_unlock(&g->numbers);
	v = site_enter(g->site);
	for (i = 0; !found && i < site_nsets(v); i++) {
		name = site_nth(v, i)->name;
		if ((found = strcmp(name, set) != 0 &&
		    set_names_clash(name, set)))
			memcpy(clash, name, strlen(name) + 1);
	}
	site_leave(g->site);
	return (found);
}

/* What the decisive step needs, under the roster's lock. */
struct decision {
	struct generations *g;
	const struct head *next, *old;
	int		 dir;		/* set/<set> */
	struct parse_error *err;
	enum generation_result result;
};

/* The disk would not say that the new name is durable: the old one comes back,
 * so that what is in memory and what a restart finds agree. */
static void
take_back(struct decision *d)
{
	int ret;

	if (d->old != NULL)
		ret = fd_replace(d->dir, "head", d->old->text, d->old->len,
		    0644);
	else
		ret = unlinkat(d->dir, "head", 0);
	if (ret == -1)
		log_err("cannot take back set=%s generation=%llu: %s; "
		    "check the disk, then restart", d->next->set,
		    (unsigned long long)d->next->generation, strerror(errno));
}

static int
decide(void *arg)
{
	struct decision *d = arg;

	if (trust_judge(d->g->trust, d->next, clock_real(), d->err) !=
	    TRUST_OK) {
		d->result = GENERATION_CONFLICT;
		errno = EACCES;
		return (-1);
	}
	if (renameat(d->dir, ".next", d->dir, "head") == -1) {
		(void)parse_fail(d->err, 0, "cannot rename set/%s/head: %s",
		    d->next->set, strerror(errno));
		return (-1);
	}
	if (fd_sync_dir(d->dir) == -1) {
		(void)parse_fail(d->err, 0, "cannot sync set/%s: %s",
		    d->next->set, strerror(errno));
		take_back(d);
		return (-1);
	}
	d->result = GENERATION_DONE;
	return (0);
}

/* Compares with what is current: commits of a set come one at a time. */
static int
follows(struct decision *d)
{
	const struct head *n = d->next, *o = d->old;
	char clash[SET_NAME_MAX + 1];

	d->result = GENERATION_CONFLICT;
	if (generation_clash(d->g, n->set, clash))
		return (parse_fail(d->err, 0, "the name clashes with set %s",
		    clash));
	if (o == NULL)
		return (!n->has_previous ? 0 : parse_fail(d->err, 0,
		    "the set has no generation yet, but previous is not none"));
	if (n->generation <= o->generation)
		return (parse_fail(d->err, 0, "generation %llu is not above "
		    "the current %llu", (unsigned long long)n->generation,
		    (unsigned long long)o->generation));
	if (!n->has_previous || !digest_eq(&n->previous, &o->digest))
		return (parse_fail(d->err, 0, "previous is not the current "
		    "head; publish again"));
	return (0);
}

/* Everything durable that has to be before the decisive step. */
static int
write_heads(struct decision *d)
{
	const struct head *h = d->next;
	char kept[40];

	d->result = GENERATION_FAILED;
	(void)snprintf(kept, sizeof(kept), "kept/%llu",
	    (unsigned long long)h->generation);
	if (fd_mkdirs(d->dir, "kept", 0755) == -1 ||
	    fd_replace(d->dir, kept, h->text, h->len, 0644) == -1 ||
	    fd_replace(d->dir, ".next", h->text, h->len, 0644) == -1)
		return (parse_fail(d->err, 0, "cannot write set/%s/%s: %s",
		    h->set, kept, strerror(errno)));
	return (0);
}

/* The origin answers from it.  The truth has it already, so there is no way
 * back: it waits for memory rather than give up. */
static void
switch_site(struct generations *g, struct snapshot *next, struct delta **back)
{
	struct snapshot *ref = snapshot_ref(next);

	while (site_switch(g->site, &ref, back, clock_real()) == -1) {
		log_err("out of memory while switching set=%s",
		    snapshot_head(next)->set);
		clock_sleep(AGAIN_MS);
	}
}

/* Under the commits lock; d->old is current's head. */
static void
commit(struct decision *d, struct snapshot *next, struct snapshot *current,
    struct roster *roster, int64_t since_ms, struct roster_wait **wait)
{
	struct delta *back = NULL;

	if (follows(d) == -1 || write_heads(d) == -1)
		return;
	if (current != NULL && (back = delta_new(current, next)) == NULL) {
		(void)parse_fail(d->err, 0, "out of memory");
		return;
	}
	*wait = roster_commit(roster, d->next->set, d->next->generation,
	    &d->next->digest, since_ms, decide, d);
	if (d->result == GENERATION_DONE)
		switch_site(d->g, next, &back);
	else if (d->err->reason[0] == '\0')
		(void)parse_fail(d->err, 0, "%s", strerror(errno));
	delta_unref(&back);
}

enum generation_result
generation_commit(struct generations *g, struct snapshot *next,
    struct roster *roster, int64_t since_ms, struct roster_wait **wait,
    struct parse_error *err)
{
	const struct head *h = snapshot_head(next);
	struct decision d = { .g = g, .next = h, .dir = -1, .err = err,
	    .result = GENERATION_FAILED };
	struct snapshot *current;

	CHECK_OBJ(g, GENERATIONS_MAGIC);
	*wait = NULL;
	err->reason[0] = '\0';
	(void)pthread_mutex_lock(&g->commits);
	if ((current = site_current(g->site, h->set)) != NULL)
		d.old = snapshot_head(current);
	if ((d.dir = generation_dir(g->statefd, h->set, true)) == -1)
		(void)parse_fail(err, 0, "cannot open set/%s: %s", h->set,
		    strerror(errno));
	else
		commit(&d, next, current, roster, since_ms, wait);
	snapshot_unref(&current);
	fd_close(&d.dir);
	(void)pthread_mutex_unlock(&g->commits);
	return (d.result);
}

void
generation_finish(struct generations *g, const char *set)
{

	CHECK_OBJ(g, GENERATIONS_MAGIC);
	(void)pthread_mutex_lock(&g->commits);
	recover_derived(g->statefd, g->store, g->site, set);
	if (www_heads(g->statefd, g->site) == -1)
		log_err("cannot write file=www/.pkgcast/heads: %s",
		    strerror(errno));
	(void)pthread_mutex_unlock(&g->commits);
}

void
generation_retain(struct generations *g, const char *set)
{

	CHECK_OBJ(g, GENERATIONS_MAGIC);
	(void)pthread_mutex_lock(&g->commits);
	recover_retain(g->statefd, g->site, set);
	(void)pthread_mutex_unlock(&g->commits);
}
