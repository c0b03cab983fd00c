/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_LINK_H
#define	EDGE_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/lease.h"
#include "proto/config.h"
#include "proto/message.h"

/*
 * A link is the two ZeroMQ sockets of an edge to its master
 * (pkgcast-protocol(7)); `links` is the thread that owns them, of one edge or of
 * many.  Callbacks run in that thread and must not block.
 */
struct links;
struct link;

struct link_conf {			/* all borrowed until links_stop() */
	const char		*announce, *lease;	/* endpoints */
	const char		*master_key, *public_key, *secret_key;
	const struct config_list *sets;			/* n 0: all */
	const char		*instance;
	struct leases		*leases;
	void			*arg;
	/* What the next renewal says: `all`, `set`, `counters` (link frees what
	 * members point to).  -1: errno. */
	int	(*report)(void *arg, struct renew *r);
	/* An announcement of a set that this edge carries. */
	void	(*announced)(void *arg, const char *set, bool commit,
		    const char *text, size_t len);
	/* A reply that counted. */
	void	(*leased)(void *arg, const struct lease *l);
};

/* For at most so many links.  NULL: errno. */
struct links	*links_new(size_t max);
/* One more, before links_start().  NULL: out of memory. */
struct link	*links_add(struct links *ls, const struct link_conf *c);
int		 links_start(struct links *ls);		/* -1: errno */
/* Ends the thread and closes the sockets; link_stats() still answers.  NULL, or
 * not started: nothing. */
void		 links_stop(struct links *ls);
/* With its links. */
void		 links_destroy(struct links **ls);

/* Renew now: something changed.  Any thread. */
void		 link_renew(struct link *l);

struct link_stats {
	int64_t		last_reply;	/* boot clock, ms; 0: none yet */
	uint64_t	renewals, replies, announcements, sockets;
};
void		 link_stats(const struct link *l, struct link_stats *s);

/* Whether an edge with that list of sets carries this one. */
bool		 link_carries(const struct config_list *sets, const char *set);

#endif
