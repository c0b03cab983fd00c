/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_ROSTER_IMPL_H
#define	MASTER_ROSTER_IMPL_H

#include <sys/queue.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "master/roster.h"

/*
 * What roster.c (records and grants), roster_cover.c, roster_wait.c (waits for
 * edges) and roster_report.c share; nobody else includes it.  Every function here is
 * called with the roster's lock held.
 */
#define	ROSTER_MAGIC	0x726f7374u
#define	WAIT_MAGIC	0x77616974u
#define	ROSTER_BUCKETS	16384
#define	ROSTER_ALONE	-1		/* a member that has not acknowledged */

/* A set's name with what is current.  Lives as long as the roster, so that
 * pointers to it stay good. */
struct rset {
	char		 name[SET_NAME_MAX + 1];
	uint64_t	 generation;	/* 0: not published */
	struct digest	 digest;
	int64_t		 since_ms;	/* current; 0: since before the start */
	uint64_t	 ahead;		/* highest that roster_ahead_news() told */
	uint64_t	 seen;		/* the last renewal that listed it */
	struct roster_wait *last;	/* its last switch; a reference */
};

/* What one record said of, and was granted for, one set. */
struct cover {
	struct rset	*set;
	bool		 listed;	/* in the last renewal */
	bool		 has_prepared;
	uint64_t	 generation;	/* reported; 0: none */
	struct digest	 digest, prepared;
	int64_t		 until;		/* lease for the set; 0: never had one */
	/* For people: */
	int64_t		 behind_ms;	/* since when; 0: it is not */
	int64_t		 switched_ms;	/* last; 0: not seen */
	int64_t		 took_ms;	/* after the commit; -1: not known */
};

/* One instance of one edge.  ids grow in the order of `all`. */
struct record {
	TAILQ_ENTRY(record) all;
	LIST_ENTRY(record) bucket;	/* all instances of a key in one */
	uint64_t	 id;
	char		 key[CURVE_TEXT];
	char		 name[ROSTER_NAME];
	char		 instance[INSTANCE_HEX + 1];
	char		 version[32];
	int64_t		 first_ms;	/* when its first renewal came in */
	int64_t		 last_ms;	/* and its last */
	int64_t		 granted_until;	/* of the last lease */
	bool		 carries_all;
	int64_t		 others_until;	/* for sets that are not published */
	int64_t		 held_until;	/* what another process may have granted */
	uint64_t	 requests, hits, misses, fills, fill_bytes,
			 cache_bytes, cache_max;
	size_t		 ncover, size;
	struct cover	*cover;		/* sorted by address of set */
};

struct member {				/* a record that a wait waits for */
	uint64_t	 id;
	int64_t		 until;		/* when its lease runs out */
	int64_t		 acked_ms;	/* after begin_ms, or ROSTER_ALONE */
	bool		 succeeded;	/* by an instance that acknowledged */
	char		 name[ROSTER_NAME];
};

/* Members are sorted by id.  Once it is over only the result is left. */
struct roster_wait {
	unsigned	 magic, refs;
	LIST_ENTRY(roster_wait) link;	/* while it runs */
	bool		 running, prepare, over;
	bool		 told;		/* an owner has seen that it is over */
	struct rset	*set;
	uint64_t	 generation;	/* 0 where prepare */
	struct digest	 digest;
	int64_t		 begin_ms;
	size_t		 nmember, nacked, size;
	struct member	*member;
	struct roster_result result;	/* when over */
};

TAILQ_HEAD(record_list, record);
LIST_HEAD(record_bucket, record);

struct roster {
	unsigned	 magic;
	pthread_mutex_t	 lock;		/* guards everything below */
	pthread_cond_t	 change;	/* a wait has nothing left, or stopped */
	bool		 stopped;
	int		 dirfd;
	int64_t		 ttl_ms, ttl_recorded_ms;
	int64_t		 hold_until;	/* an unknown edge may hold a lease */
	int64_t		(*clock)(void);
	int64_t		 pruned_ms;
	struct edges	*edges;		/* NULL: none allowed yet */
	uint64_t	 serial;	/* of renewals */
	uint64_t	 next_id;
	size_t		 nrecord;
	struct record_list records;
	struct record_bucket bucket[ROSTER_BUCKETS];
	size_t		 nset, npublished, set_size;
	struct rset	**set;		/* by name */
	struct rset	**published;	/* in no order */
	LIST_HEAD(, roster_wait) waits;	/* running */
};

/* roster.c */
struct record_bucket *record_bucket(struct roster *r, const char *key);

/* roster_cover.c */
struct rset	*rset_find(struct roster *r, const char *name);
/* NULL: out of memory. */
struct rset	*rset_intern(struct roster *r, const char *name);
/* The same for a name that an edge gave: there may be no room for it. */
struct rset	*rset_of_edge(struct roster *r, const char *name);
struct cover	*cover_find(const struct record *rec, const struct rset *s);
/* Made if there is none.  NULL: out of memory. */
struct cover	*cover_add(struct record *rec, struct rset *s);
/* Forgets covers of sets that the edge carries no more, once they ran out. */
void		 cover_drop(struct record *rec, int64_t now);
/* Notes for people what a renewal, or a commit, at `now` has changed. */
void		 cover_note(struct cover *c, bool joined, int64_t now);
void		 cover_outdated(struct cover *c, int64_t now);
/* The edge may be told that it is up to date in this set. */
bool		 cover_current(const struct cover *c);
bool		 record_carries(const struct record *rec, const struct rset *s);
/* When the record's lease for the set runs out; 0: it has none. */
int64_t		 record_covered(const struct record *rec,
		    const struct rset *s);

/* roster_wait.c */
/* Tells running waits what a renewal that came in at now reports. */
void		 wait_note(struct roster *r, const struct record *rec,
		    int64_t now);
/* A record that another process may have granted a lease has shown up. */
void		 wait_join(struct roster *r, const struct record *rec);
void		 wait_release(struct roster_wait **w);
bool		 wait_over(struct roster *r, struct roster_wait *w,
		    int64_t now);
/* Fills res from w, running or over.  -1: out of memory (res is good, but
 * without names). */
int		 wait_result(const struct roster_wait *w, int64_t now,
		    struct roster_result *res);

#endif
