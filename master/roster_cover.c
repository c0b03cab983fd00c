/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of sets in the roster, and what a record has said of and been granted
 * for each.  Called by the roster's other files, with its lock held.
 */
#include <stdlib.h>
#include <string.h>

#include "master/roster_impl.h"

static int
rset_cmp(const void *name, const void *member)
{
	const struct rset *const *s = member;

	return (strcmp(name, (*s)->name));
}

struct rset *
rset_find(struct roster *r, const char *name)
{
	struct rset **s;

	if (r->nset == 0)
		return (NULL);
	s = bsearch(name, r->set, r->nset, sizeof(*r->set), rset_cmp);
	return (s == NULL ? NULL : *s);
}

static int
rset_grow(struct roster *r)
{
	struct rset **p;
	size_t size = r->set_size == 0 ? 16 : r->set_size * 2;

	if (r->nset < r->set_size)
		return (0);
	if ((p = realloc(r->set, size * sizeof(*p))) == NULL)
		return (-1);
	r->set = p;
	if ((p = realloc(r->published, size * sizeof(*p))) == NULL)
		return (-1);
	r->published = p;
	r->set_size = size;
	return (0);
}

/* NULL: out of memory. */
struct rset *
rset_intern(struct roster *r, const char *name)
{
	struct rset *s;
	size_t lo = 0, hi = r->nset, mid;

	if ((s = rset_find(r, name)) != NULL)
		return (s);
	if (strlen(name) > SET_NAME_MAX || rset_grow(r) == -1 ||
	    (s = calloc(1, sizeof(*s))) == NULL)
		return (NULL);
	memcpy(s->name, name, strlen(name) + 1);
	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (strcmp(r->set[mid]->name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	memmove(r->set + lo + 1, r->set + lo,
	    (r->nset - lo) * sizeof(*r->set));
	r->set[lo] = s;
	r->nset++;
	return (s);
}

struct rset *
rset_of_edge(struct roster *r, const char *name)
{
	struct rset *s;

	if ((s = rset_find(r, name)) == NULL && r->nset < ROSTER_SETS)
		s = rset_intern(r, name);
	return (s);
}

/* Index of the set's cover, or where it would be. */
static size_t
cover_place(const struct record *rec, const struct rset *s)
{
	size_t lo = 0, hi = rec->ncover, mid;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if ((uintptr_t)rec->cover[mid].set < (uintptr_t)s)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (lo);
}

struct cover *
cover_find(const struct record *rec, const struct rset *s)
{
	size_t i = cover_place(rec, s);

	return (i < rec->ncover && rec->cover[i].set == s ?
	    &rec->cover[i] : NULL);
}

/* The set's cover, made if there is none.  NULL: out of memory. */
struct cover *
cover_add(struct record *rec, struct rset *s)
{
	struct cover *c;
	size_t i = cover_place(rec, s), size;

	if (i < rec->ncover && rec->cover[i].set == s)
		return (&rec->cover[i]);
	if (rec->ncover == rec->size) {
		size = rec->size == 0 ? 4 : rec->size * 2;
		if ((c = realloc(rec->cover, size * sizeof(*c))) == NULL)
			return (NULL);
		rec->cover = c;
		rec->size = size;
	}
	c = &rec->cover[i];
	memmove(c + 1, c, (rec->ncover - i) * sizeof(*c));
	memset(c, 0, sizeof(*c));
	c->set = s;
	rec->ncover++;
	return (c);
}

void
cover_drop(struct record *rec, int64_t now)
{
	size_t i, n = 0;

	for (i = 0; i < rec->ncover; i++)
		if (rec->cover[i].listed || rec->cover[i].until > now)
			rec->cover[n++] = rec->cover[i];
	rec->ncover = n;
}

bool
cover_current(const struct cover *c)
{
	if (c->set->generation == 0)
		return (c->generation == 0);
	return (c->generation != 0 && digest_eq(&c->digest, &c->set->digest));
}

void
cover_outdated(struct cover *c, int64_t now)
{

	if (c->behind_ms == 0)
		c->behind_ms = now;
}

/* joined: the record had renewed before, without this set. */
void
cover_note(struct cover *c, bool joined, int64_t now)
{
	int64_t since = c->set->since_ms;

	if (!cover_current(c)) {
		cover_outdated(c, since != 0 ? since : now);
		return;
	}
	if ((c->behind_ms != 0 || joined) && c->generation != 0) {
		c->switched_ms = now;
		c->took_ms = since != 0 && now > since ? now - since :
		    since != 0 ? 0 : -1;
	}
	c->behind_ms = 0;
}

bool
record_carries(const struct record *rec, const struct rset *s)
{
	const struct cover *c;

	if (rec->carries_all)
		return (true);
	c = cover_find(rec, s);
	return (c != NULL && c->listed);
}

int64_t
record_covered(const struct record *rec, const struct rset *s)
{
	const struct cover *c = cover_find(rec, s);
	int64_t until = c != NULL ? c->until : 0;

	if (s->generation == 0 && rec->others_until > until)
		until = rec->others_until;
	if (rec->held_until > until && record_carries(rec, s))
		until = rec->held_until;
	return (until);
}
