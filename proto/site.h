/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_SITE_H
#define	PROTO_SITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/snapshot.h"

/*
 * All sets that a daemon answers for, each with its current snapshot and the
 * chain of earlier generations.  Readers see one immutable view, exchanged by
 * one atomic pointer (G1): a request enters, looks things up, and leaves; it
 * takes no lock.  Pointers obtained in between are good until site_leave().
 * Writers (any thread) are serialised by a lock inside; they wait until no
 * reader is in the old view, so never call them between enter and leave.
 */
struct site;
struct site_view;

struct site_set {			/* one set in a view; read-only */
	char		 name[SET_NAME_MAX + 1];
	struct snapshot	*current;
	size_t		 nearlier;	/* newest first, each the successor's */
	struct delta	*earlier[HEAD_KEPT_MAX];
	void		*owner;		/* the daemon's own, see site_new() */
};

enum site_found {
	SITE_FOUND,
	SITE_ABSENT,			/* no kept generation has it: 404 */
	SITE_GONE			/* that generation is not kept: 410 */
};

struct site_file {			/* good until site_leave() */
	struct facts	 facts;
	const struct head *head;	/* of the generation that answers */
	const uint8_t	*rows;		/* NULL for small files */
	bool		 current;
	uint64_t	 serial;	/* of the current snapshot, if current */
};

/*
 * owner_new is called once for each set name when it first appears (under the
 * writers' lock) and its result is every later view's `owner`; it lives as long
 * as the site.  May be NULL.
 */
struct site	*site_new(void *(*owner_new)(void *arg, const char *set),
		    void *arg);
void		 site_destroy(struct site **s);

const struct site_view	*site_enter(struct site *s);
void			 site_leave(struct site *s);

size_t			 site_nsets(const struct site_view *v);
const struct site_set	*site_nth(const struct site_view *v, size_t i);	/* by name */
const struct site_set	*site_named(const struct site_view *v,
			    const char *name);
/*
 * The set whose name is a prefix of the decoded path (no leading slash); *rest
 * is the path below it ("" for the set itself).  NULL: none.
 */
const struct site_set	*site_match(const struct site_view *v,
			    const char *path, const char **rest);

/* Path in the current generation, else, where a later generation removed it
 * within `grace` seconds before `now`, in an earlier one. */
enum site_found	site_find(const struct site_set *set, const char *path,
		    int64_t now, int64_t grace, struct site_file *f);
/* What path was in the newest earlier generation that had that content there.
 * Takes a linear time in the number of kept generations. */
bool		site_find_was(const struct site_set *set, const char *path,
		    const struct digest *d, struct site_file *f);
/* Path in exactly that generation. */
enum site_found	site_find_in(const struct site_set *set, uint64_t generation,
		    const char *path, struct site_file *f);
/*
 * A file, manifest or chunk table of any kept generation of any set, by digest.
 * For manifests and chunk tables rows is NULL whatever the size, and *set,
 * if not NULL, tells whose it is.
 */
bool		site_find_blob(const struct site_view *v,
		    const struct digest *d, struct site_file *f,
		    const struct site_set **set);
/* Which document of a kept generation of the set a digest is; then *size is its. */
enum head_part	site_part(const struct site_set *set, const struct digest *d,
		    uint64_t *size);
/* A blob that only a generation which is being prepared names; set: whose, where
 * it is no file. */
struct site_prepared {
	enum head_part	part;
	uint64_t	size;
	char		set[SET_NAME_MAX + 1];
};
/* A kept head by its digest, or NULL. */
const struct head *site_find_head(const struct site_view *v,
		    const struct digest *d);

/*
 * Makes *next current in its set (created if new), takes it over.  back, taken
 * over too, is the delta from what was current to next: it goes in front of
 * the chain; where it is NULL the chain is emptied.  Generations below
 * next's `oldest` and beyond retention are dropped.  The generation must be
 * above the current one (CHECK).  -1: out of memory, nothing changed, nothing
 * taken.
 */
int		site_switch(struct site *s, struct snapshot **next,
		    struct delta **back, int64_t now);
/* Replaces the chain behind generation `behind`, if that is still current:
 * takes the references over.  -1: it is not, or out of memory. */
int		site_set_earlier(struct site *s, const char *set,
		    uint64_t behind, struct delta **chain, size_t n);
/* The current snapshot with a reference, or NULL. */
struct snapshot	*site_current(struct site *s, const char *set);

#endif
