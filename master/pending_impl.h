/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_PENDING_IMPL_H
#define	MASTER_PENDING_IMPL_H

#include <sys/queue.h>

#include <pthread.h>
#include <stdatomic.h>

#include "master/gone.h"
#include "master/pending.h"
#include "master/roster.h"

/* What pending.c (list, posts), pending_blob.c (manifest and blobs) and
 * pending_run.c (prepare, commit, report) share. */

#define	PENDINGS_MAGIC	0x50656e73u
#define	PENDING_MAGIC	0x50656e64u
#define	PENDING_KEEP_S	86400		/* then it is dropped */

enum pending_state { PENDING_MANIFEST, PENDING_BLOBS, PENDING_PREPARE,
	PENDING_COMMITTED, PENDING_FAILED };

struct pendings {
	unsigned	 magic;
	struct publish_conf c;
	atomic_bool	 stop;
	/* Blobs that no kept generation names may be damaged: a crash was
	 * before, and they were not all verified yet. */
	atomic_bool	 doubt;
	/* Blobs may be there of a publish that came to nothing. */
	atomic_bool	 litter;
	pthread_mutex_t	 lock;		/* of the rest; before a pending's */
	pthread_cond_t	 idle;		/* running became 0 */
	size_t		 running;	/* threads */
	TAILQ_HEAD(pending_list, pending) list;
	size_t		 n;
};

struct pending {
	unsigned	 magic;
	struct pendings	*all;
	struct head	 head;		/* constant, like token */
	char		 token[PENDING_TOKEN + 1];
	/* Under all->lock: */
	TAILQ_ENTRY(pending) link;
	unsigned	 refs;
	bool		 listed;	/* else replaced or dropped */
	bool		 restored;	/* the start's thread checks it */
	int64_t		 posted;	/* wall clock, seconds */
	/* Under its own: */
	pthread_mutex_t	 lock;
	pthread_cond_t	 attached;
	enum pending_state state;
	bool		 attaching;	/* its manifest is being checked */
	unsigned	 prepare_wait_s;
	struct parse_error err;		/* why it failed */
	struct snapshot	*next;		/* once manifest and chunks are in */
	struct snapshot	*before;	/* of the one it replaced: its blobs */
	uint8_t		*want;		/* per entry of next: not there */
	size_t		 nwant;
	size_t		 prepared, leased;	/* edges */
	int64_t		 tree_ms, waited_ms;	/* took tree and prepare */
	struct roster_wait *wait;	/* for acknowledgement */
	bool		 told;		/* somebody was told that it is over */
	/* Of the thread that publishes: */
	int64_t		 prepare_ms;	/* boot clock */
};

/* pending.c */
struct pending	*pending_new(struct pendings *a, const struct head *h,
		    unsigned prepare_wait_s);
const char	*pending_state_name(enum pending_state s);
enum pending_state pending_state(struct pending *p);
/* Whether the head may follow current (NULL: none): 0, or the status of the
 * refusal.  The list's lock is held, or there is one thread. */
unsigned	 pending_check_head(struct pendings *a, const struct head *h,
		    const struct head *current, struct parse_error *err);
/* It failed, for err: says so, and is not taken up again at start. */
void		 pending_fail(struct pending *p, const struct parse_error *err);
/* Removes the record of one that is over; the second, with the list's lock
 * held, whether or not it was replaced. */
void		 pending_forget(struct pending *p);
void		 pending_remove_record(struct pending *p);

/* pending_blob.c */
/* When manifest and chunk table are both there: checks them, finds out what is
 * missing, and starts when that is nothing. */
void		 pending_attach(struct pending *p);
/* The same, where the caller has set `attaching` already. */
void		 pending_check(struct pending *p);

/* pending_run.c */
/* Goes on to prepare and commit, in a thread of its own, if nothing is
 * missing. */
void		 pending_start(struct pending *p);

/* pendings.c */
/* Removes blobs that nothing names, of all or, without litter, of those that a
 * commit of the set may have left (NULL: all). */
void		 pendings_collect(struct pendings *a, const struct gone *g,
		    const char *set);
/* Starts a thread that calls pendings_thread_ends() as its last step.  -1:
 * errno. */
int		 pendings_thread(struct pendings *a, void *(*run)(void *),
		    void *arg);
void		 pendings_thread_ends(struct pendings *a);

#endif
