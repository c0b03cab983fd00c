/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_WAITERS_H
#define	EDGE_WAITERS_H

#include <sys/queue.h>

#include <stdbool.h>
#include <stdint.h>

/*
 * Those who wait for a poll to end, or for news, but not for ever: each is woken
 * when waiters_wake() is called, or by a thread of ours when its time is up.
 */

struct waiters;
struct waiter {				/* zero-initialise */
	LIST_ENTRY(waiter) entry;	/* waiters' lock */
	bool		 queued;
	int64_t		 since_ms;
	void		(*wake)(void *arg);	/* called with the lock held */
	void		*arg;
};

/* Who waits does so for at most wait_ms, and a tenth of it; 0: until woken, and
 * there is nothing to be started.  NULL: errno. */
struct waiters	*waiters_new(int64_t wait_ms);
int		 waiters_start(struct waiters *l);	/* -1: errno */
void		 waiters_stop(struct waiters *l);	/* wakes all */
void		 waiters_destroy(struct waiters **l);	/* nobody waits */
void		 waiters_add(struct waiters *l, struct waiter *w);
void		 waiters_wake(struct waiters *l);
/* Before the waiter goes, also after its wake. */
void		 waiters_forget(struct waiters *l, struct waiter *w);

#endif
