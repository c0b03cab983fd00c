/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_WATCH_H
#define	MASTER_WATCH_H

#include "keys/trust.h"
#include "keys/zap.h"
#include "master/announce.h"
#include "master/publish.h"
#include "master/roster.h"
#include "proto/buf.h"

/*
 * What changes on disk while the master runs: the edges/ folder and the trust
 * folder, looked at about once a second; and what has to be done now and then.
 * A thread of its own.
 */
struct watch;

struct watch_conf {			/* all borrowed */
	const char	*edges;		/* folder */
	uint64_t	 edges_stamp;	/* from watch_edges_now() */
	int		 statefd, trustfd;
	struct zap	*zap;
	struct roster	*roster;
	struct announce	*announce;
	struct trust	*trust;
	struct publish	*publish;
};

/* Reads edges/ and allows what is there.  What is wrong in it is logged.
 * Returns the stamp of what was there before it read. */
uint64_t	 watch_edges_now(const char *dir, struct zap *z,
		    struct roster *r);
struct watch	*watch_start(const struct watch_conf *c,
		    struct parse_error *err);
/* Everything is read again, whether it looks changed or not (HUP). */
void		 watch_reload(struct watch *w);
void		 watch_stop(struct watch **w);

#endif
