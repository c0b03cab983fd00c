/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_SYNC_IMPL_H
#define	EDGE_SYNC_IMPL_H

#include <pthread.h>

#include "edge/sync.h"
#include "proto/coding.h"
#include "proto/log.h"

/* What sync*.c and walk.c share; nobody else includes it. */

#define	SYNC_MAGIC	0x73796e63
#define	SYNC_REFUSALS	64	/* remembered, to log each once */

/*
 * A set that this edge carries or holds.  Written by the follow thread, under
 * sync->lock where other threads read: all but the members marked F, which are
 * the follow thread's alone.
 */
struct sync_set {
	struct sync_set	*next;		/* set once; by no order */
	char		 name[SET_NAME_MAX + 1];
	bool		 exists;	/* published, as far as we know */
	uint64_t	 generation;	/* served; 0: none */
	struct digest	 digest;
	bool		 behind;	/* said the master's last reply */
	struct head	*ahead;		/* ours, where nobody shows the
					 * master's, or NULL */
	unsigned	 shown;		/* to the master, in that round */
	bool		 lower;		/* F somebody showed one below ours */
	struct head	*pending;	/* being fetched or prepared, or NULL */
	struct snapshot	*prepared;	/* of pending, or NULL */
	int64_t		 warm_ms;	/* being warmed, not reported until then */
	struct delta	*back;		/* F from the current one to prepared */
	struct digest	 put_off;	/* F a document that was interrupted, */
	unsigned	 nput_off;	/* F so often */
	bool		 walk;		/* F generations behind to be learned */
	bool		 chain;		/* F deltas to be built again */
	int64_t		 walk_ms;	/* F not before that (boot clock) */
	bool		 ended;		/* F the walk ended at: */
	struct digest	 end;		/* F a head that nobody has any more */
};

struct refusal {
	struct digest	 head;
	char		 reason[LOG_TEXT];
};

/* Documents on their way; their lock is taken before the waiters' alone. */
struct coming {
	pthread_mutex_t	 lock;
	size_t		 n;
	struct digest	 digest[2];	/* manifest, chunk table */
	struct sync_stats stats;
	struct waiters	*waiters;	/* without a thread: all fetches end */
};

struct sync {
	unsigned	 magic;
	struct sync_conf conf;
	struct warm	*warm;
	pthread_mutex_t	 lock;		/* innermost: nothing is locked under
					 * it, nothing waits */
	struct sync_set	*sets;
	size_t		 nset;
	unsigned	 round;		/* of showing heads; under lock */
	struct head	*walking;	/* under lock: a head behind, fetched */
	struct coming	 coming;
	_Atomic int64_t	 expires;	/* the trust document's; 0: none */
	int64_t		 trust_ms;	/* F last fetched, boot clock */
	size_t		 nrefusal;	/* F */
	struct refusal	 refusal[SYNC_REFUSALS];	/* F */
};

bool		 sync_carries(const struct sync *s, const char *set);
/* The set's record, made if new.  NULL: out of memory, or too many. */
struct sync_set	*sync_get(struct sync *s, const char *name);
/* Under the lock. */
void		 sync_not_ahead(struct sync_set *set);
/*
 * A head's generation, ready to answer from.  Blobs that the store lacks are
 * fetched if `stop` is not NULL.  NULL: errno; EBADMSG: its bytes are not what
 * the head says, and err tells.
 */
struct snapshot	*sync_load(struct sync *s, const struct head *h,
		    const atomic_bool *stop, struct parse_error *err);

/* sync_table.c: what is prepared with that head is warm, and is reported now.
 * Any thread. */
void		 sync_warmed(void *sync, const struct digest *head);

/* sync_coded.c. */
int		 coming_init(struct coming *c);		/* -1: errno */
void		 coming_free(struct coming *c);
/* What the store lacks of a head's documents, named by now, is coming: told as
 * news; and, d (NULL: any), not any more: those who wait look again. */
void		 coming_begin(struct sync *s, const struct head *h);
void		 coming_end(struct sync *s, const struct digest *d);
/* A document of that size (0: none) came; bytes: beside those that were counted. */
void		 coming_count(struct sync *s, enum coding coding, uint64_t size,
		    uint64_t bytes);
/*
 * Fetches a set's manifest or chunk table coded, into the store: its bytes,
 * verified, malloc'd, NUL behind them.  NULL: not to be had that way.
 */
char		*sync_coded(struct sync *s, const struct fill_want *want,
		    enum head_part part, const atomic_bool *stop);

/* walk.c: builds the chain behind the current generation from what is held. */
void		 walk_chain(struct sync *s, struct sync_set *set,
		    const atomic_bool *stop);

#endif
