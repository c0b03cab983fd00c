/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_FOLLOW_H
#define	EDGE_FOLLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/lease.h"
#include "edge/link.h"
#include "edge/sync.h"
#include "edge/waiters.h"

/*
 * The thread that follows the master: it takes what the link hears, polls where
 * there is no lease, and decides what happens next.
 */
struct follow;

struct follow_conf {			/* borrowed */
	struct site		*site;
	struct trust		*trust;
	int			 trust_dir;
	struct held		*held;
	struct blob_store	*store;
	const char		*cache_dir;	/* the store's */
	struct fills		*fills;
	struct upstreams	*upstreams;
	struct leases		*leases;
	const struct config_list *sets;
	uint64_t		 poll;		/* seconds */
	uint64_t		 warm_bytes, warm_at_once;	/* warm.h */
	bool			 linked;	/* there is a link to a master */
	/* Fills in a renewal's counters. */
	void			(*counters)(void *arg, struct renew *r);
	void			*arg;
};

struct follow	*follow_new(const struct follow_conf *c);	/* NULL: errno */
/* Starts the thread; link may be NULL.  -1: errno. */
int		 follow_start(struct follow *f, struct link *l);
/* Ends the thread, then nothing is taken any more. */
void		 follow_stop(struct follow *f);
void		 follow_destroy(struct follow **f);
struct sync	*follow_sync(struct follow *f);

/* Callbacks for link_conf; arg is the struct follow. */
int		 follow_report(void *arg, struct renew *r);
void		 follow_announced(void *arg, const char *set, bool commit,
		    const char *text, size_t len);
void		 follow_leased(void *arg, const struct lease *l);

/* HUP: another interval, and a poll now. */
void		 follow_configure(struct follow *f, uint64_t poll);

/*
 * A path that no set has was asked for, without a lease.  True: a poll runs or
 * will, and the waiter is woken when it has ended or takes too long; forget it
 * before it goes.  False: the last poll is too recent.
 */
bool		 follow_ask(struct follow *f, struct waiter *w);
void		 follow_forget(struct follow *f, struct waiter *w);
/*
 * A blob that nothing here names was asked for.  True: the waiter is woken when
 * more is named, or in about a second; follow_await_not() before it goes.  False:
 * the edge stops.
 */
bool		 follow_await(struct follow *f, struct waiter *w,
		    const struct digest *d);
void		 follow_await_not(struct follow *f, struct waiter *w);

struct follow_stats {
	int64_t		last_poll;	/* that succeeded; boot clock, 0: none */
	uint64_t	polls, failed;
};
/* From a master or an upstream, since the start. */
bool		 follow_heard(const struct follow *f);
void		 follow_stats(struct follow *f, struct follow_stats *s);

#endif
