/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an edge holds durably: the signed heads of its sets, one file for each
 * generation.  A head's file is written only when its manifest and chunk table
 * are synced in the blob store, so a crash leaves the generation before or this
 * one; and since the highest number is the current one, there is no second
 * record that could disagree.  Used by the follow thread, and by main() before
 * that is started.
 */
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/held.h"
#include "proto/check.h"
#include "proto/fd.h"
#include "proto/log.h"
#include "proto/plant.h"

#define	HELD_MAGIC	0x68656c64
#define	HELD_DIR	"heads"
#define	FD_NEW		".new."		/* fd_replace()'s temporary files */
#define	HELD_NAME	(SET_NAME_MAX + 1 + 20 + 1)	/* <set>/<generation> */

struct held {
	unsigned	  magic;
	int		  dir;
	size_t		  n;
	struct held_set	 *set[HELD_SETS];	/* by name */
};

/* Folder of a set: '/' would let one set's folder hold another's. */
static void
folder_of(const char *set, char out[SET_NAME_MAX + 1])
{
	size_t i;

	for (i = 0; set[i] != '\0' && i < SET_NAME_MAX; i++)
		out[i] = set[i] == '/' ? ',' : set[i];
	out[i] = '\0';
}

static bool
set_of(const char *folder, char out[SET_NAME_MAX + 1])
{
	size_t len = strlen(folder);

	if (len > SET_NAME_MAX)
		return (false);
	for (size_t i = 0; i <= len; i++)
		out[i] = folder[i] == ',' ? '/' : folder[i];
	return (set_name_ok(out, len));
}

/* Index of the set, or where it belongs; *found tells which. */
static size_t
place(const struct held *h, const char *set, bool *found)
{
	size_t lo = 0, hi = h->n;

	*found = false;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(h->set[mid]->name, set);

		if (c == 0) {
			*found = true;
			return (mid);
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (lo);
}

/* The set, made if it is new.  NULL: errno. */
static struct held_set *
get_set(struct held *h, const char *name)
{
	struct held_set *s;
	bool found;
	size_t i = place(h, name, &found);

	if (found)
		return (h->set[i]);
	if (h->n == HELD_SETS) {
		errno = EOVERFLOW;
		return (NULL);
	}
	if ((s = calloc(1, sizeof(*s))) == NULL)
		return (NULL);
	memcpy(s->name, name, strlen(name));
	memmove(&h->set[i + 1], &h->set[i], (h->n - i) * sizeof(h->set[0]));
	h->set[i] = s;
	h->n++;
	return (s);
}

static void
drop_last(struct held_set *s)
{

	CHECK(s->nhead > 0);
	free(s->head[--s->nhead]);
	s->head[s->nhead] = NULL;
}

/*
 * Puts a copy in its place among the set's heads; with no place left the oldest
 * goes.  0, or -1: errno.
 */
static int
insert(struct held_set *s, const struct head *head)
{
	struct head *copy;
	size_t i;

	for (i = 0; i < s->nhead; i++)
		if (s->head[i]->generation <= head->generation)
			break;
	if (i < s->nhead && s->head[i]->generation == head->generation)
		return (0);
	if (i == HELD_HEADS) {
		errno = EOVERFLOW;
		return (-1);
	}
	if ((copy = malloc(sizeof(*copy))) == NULL)
		return (-1);
	if (s->nhead == HELD_HEADS)
		drop_last(s);
	*copy = *head;
	memmove(&s->head[i + 1], &s->head[i],
	    (s->nhead - i) * sizeof(s->head[0]));
	s->head[i] = copy;
	s->nhead++;
	if (head->generation > s->floor)
		s->floor = head->generation;
	return (0);
}

static void
load_head(struct held_set *s, int dir, const char *name)
{
	struct parse_error err = { .reason = "" };
	unsigned long long generation;
	struct head *head;
	size_t len;
	char *text;

	if (strncmp(name, FD_NEW, strlen(FD_NEW)) == 0)
		(void)unlinkat(dir, name, 0);	/* left by a crash */
	if (parse_u64(name, strlen(name), HEAD_GENERATION_MAX, &generation)
	    == -1)
		return;
	if (generation > s->floor)
		s->floor = generation;
	if ((text = fd_slurp(dir, name, HEAD_MAX, &len)) == NULL) {
		log_err("held head unreadable set=%s generation=%llu "
		    "reason=\"%s\"", s->name, generation, strerror(errno));
		return;
	}
	head = check_alloc(malloc(sizeof(*head)));
	if (head_parse(head, text, len, &err) == -1)
		log_err("held head damaged set=%s generation=%llu "
		    "reason=\"%s\"", s->name, generation, err.reason);
	else if (strcmp(head->set, s->name) != 0 ||
	    head->generation != generation)
		log_err("held head damaged set=%s generation=%llu "
		    "reason=\"it is that of %s, generation %ju\"", s->name,
		    generation, head->set, (uintmax_t)head->generation);
	else if (insert(s, head) == -1)
		log_debug("held head left out set=%s generation=%llu", s->name,
		    generation);
	free(head);
	free(text);
}

#ifdef PLANT
/* The newest generation is not known any more after a start. */
static void
forget_newest(struct held_set *s)
{

	if (!plant_is("G7") || s->nhead < 2)
		return;
	free(s->head[0]);
	s->nhead--;
	memmove(&s->head[0], &s->head[1], s->nhead * sizeof(s->head[0]));
	s->head[s->nhead] = NULL;
	s->floor = s->head[0]->generation;
}
#endif

/* A set that could not be read is no set without heads (G7).  -1: errno. */
static int
load_set(struct held *h, const char *folder)
{
	char name[SET_NAME_MAX + 1];
	struct held_set *s;
	struct dirent *de;
	DIR *d;
	int fd, error;

	if (!set_of(folder, name))
		return (0);
	if ((fd = fd_open_dir(h->dir, folder)) == -1 && errno == ENOTDIR)
		return (0);
	if (fd == -1 || (s = get_set(h, name)) == NULL ||
	    (d = fdopendir(fd)) == NULL) {
		error = errno;
		log_err("held set not read set=%s reason=\"%s\"", name,
		    strerror(error));
		fd_close(&fd);
		errno = error;
		return (-1);
	}
	while (errno = 0, (de = readdir(d)) != NULL)
		load_head(s, fd, de->d_name);
	error = errno;
#ifdef PLANT
	forget_newest(s);
#endif
	closedir(d);
	errno = error;
	return (error == 0 ? 0 : -1);
}

struct held *
held_new(int statedir)
{
	struct held *h;
	struct dirent *de;
	DIR *d = NULL;
	int fd = -1, error = 0;

	if ((h = calloc(1, sizeof(*h))) == NULL)
		return (NULL);
	h->magic = HELD_MAGIC;
	h->dir = -1;
	if (fd_mkdirs(statedir, HELD_DIR, 0750) == -1 ||
	    (h->dir = fd_open_dir(statedir, HELD_DIR)) == -1 ||
	    (fd = fd_open_dir(h->dir, ".")) == -1 ||
	    (d = fdopendir(fd)) == NULL) {
		fd_close(&fd);
		held_destroy(&h);
		return (NULL);
	}
	while (error == 0 && (errno = 0, de = readdir(d)) != NULL)
		if (load_set(h, de->d_name) == -1)
			error = errno;
	if (error == 0)
		error = errno;
	closedir(d);
	errno = error;
	if (error != 0)
		held_destroy(&h);
	return (h);
}

void
held_destroy(struct held **hp)
{
	struct held *h = *hp;
	int error = errno;

	*hp = NULL;
	if (h == NULL)
		return;
	CHECK_OBJ(h, HELD_MAGIC);
	for (size_t i = 0; i < h->n; i++) {
		while (h->set[i]->nhead > 0)
			drop_last(h->set[i]);
		free(h->set[i]);
	}
	fd_close(&h->dir);
	explicit_bzero(&h->magic, sizeof(h->magic));
	free(h);
	errno = error;
}

size_t
held_n(const struct held *h)
{

	return (h->n);
}

const struct held_set *
held_nth(const struct held *h, size_t i)
{

	CHECK(i < h->n);
	return (h->set[i]);
}

const struct held_set *
held_named(const struct held *h, const char *set)
{
	bool found;
	size_t i = place(h, set, &found);

	return (found ? h->set[i] : NULL);
}

const struct held_set *
held_clash(const struct held *h, const char *set)
{

	for (size_t i = 0; i < h->n; i++)
		if (strcmp(h->set[i]->name, set) != 0 &&
		    set_names_clash(h->set[i]->name, set))
			return (h->set[i]);
	return (NULL);
}

const struct head *
held_current(const struct held_set *s)
{

	return (s == NULL || s->nhead == 0 ? NULL : s->head[0]);
}

const struct head *
held_by_digest(const struct held_set *s, const struct digest *d)
{

	for (size_t i = 0; i < s->nhead; i++)
		if (digest_eq(&s->head[i]->digest, d))
			return (s->head[i]);
	return (NULL);
}

int
held_put(struct held *h, const struct head *head)
{
	char folder[SET_NAME_MAX + 1], name[HELD_NAME];
	struct held_set *s;

	CHECK_OBJ(h, HELD_MAGIC);
	CHECK(head->len > head->signed_len);
	if ((s = get_set(h, head->set)) == NULL)
		return (-1);
	for (size_t i = 0; i < s->nhead; i++)
		if (s->head[i]->generation == head->generation)
			return (0);
	folder_of(head->set, folder);
	snprintf(name, sizeof(name), "%s/%ju", folder,
	    (uintmax_t)head->generation);
	if (fd_mkdirs(h->dir, folder, 0750) == -1 ||
	    fd_replace(h->dir, name, head->text, head->len, 0640) == -1)
		return (-1);
	return (insert(s, head));
}

bool
held_retain(struct held *h, const char *set, int64_t now)
{
	char folder[SET_NAME_MAX + 1], name[HELD_NAME];
	uint64_t generation[HELD_HEADS];
	int64_t created[HELD_HEADS];
	struct held_set *s;
	bool found, any = false;
	size_t i = place(h, set, &found), keep;

	if (!found || (s = h->set[i])->nhead == 0)
		return (false);
	for (i = 0; i < s->nhead; i++) {
		generation[i] = s->head[i]->generation;
		created[i] = s->head[i]->created;
	}
	keep = head_retain(generation, created, s->nhead, s->head[0]->oldest,
	    now);
	folder_of(set, folder);
	while (s->nhead > keep && s->nhead > 1) {
		snprintf(name, sizeof(name), "%s/%ju", folder,
		    (uintmax_t)s->head[s->nhead - 1]->generation);
		if (unlinkat(h->dir, name, 0) == -1 && errno != ENOENT)
			log_warn("held head not removed name=%s reason=\"%s\"",
			    name, strerror(errno));
		drop_last(s);
		any = true;
	}
	return (any);
}
