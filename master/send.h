/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_SEND_H
#define	MASTER_SEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "master/client.h"
#include "master/record.h"
#include "proto/log.h"

/*
 * The dialogue with the publish listener (pkgcast-protocol(7)).
 */
struct scan;

/* What GET /publish/SET tells. */
struct send_state {
	uint64_t	 generation;	/* of the publish that it is about */
	uint64_t	 highest;	/* the master knows of */
	char		 state[16];
	char		 reason[512];
	bool		 over;		/* every lease acknowledged or ran out */
	uint64_t	 acked, leased;
	size_t		 nmissing;
	char		*missing;	/* names, ", " between; malloc'd */
	int64_t		 tree_ms, prepare_ms;	/* took these steps */
	int64_t		 p50_ms, p99_ms, max_ms;
	char		 slowest[LOG_TEXT];	/* edge whose max_ms is */
};
/* Adds the address of a set on the publish listener. */
void	send_url(struct buf *b, const char *base, const char *set);
void	send_state_free(struct send_state *s);
/* 1; 0: the master knows nothing of the set; -1: err.  again (may be NULL):
 * whether it may go well if tried again. */
int	send_state_get(struct client *c, const char *base, const char *set,
	    struct send_state *s, bool *again, struct parse_error *err);

enum send_result {
	SEND_DONE,		/* published; state tells who switched */
	SEND_CONFLICT,		/* 409: another head is needed */
	SEND_FORBIDDEN,		/* 403 */
	SEND_FAILED,
	SEND_INTERRUPTED
};
struct send {
	struct client		*client;
	const char		*base;		/* URL of the publish listener */
	const struct draft	*draft;
	const struct scan	*scan;		/* NULL: no file is at hand */
	unsigned		 prepare_wait;	/* seconds */
	/* Results. */
	struct send_state	 state;
	uint64_t		 files, bytes;	/* uploaded */
	int64_t			 sent_ms;	/* when all was; boot clock */
};
/*
 * Sends the pending head and all that the master wants, and waits until leases
 * are acknowledged or ran out.  Connections that break and a master that
 * restarts cost time only, up to a limit.  Anything but SEND_DONE: err.
 */
enum send_result send_run(struct send *s, struct parse_error *err);
/* Only the last part, for a head that is current already. */
enum send_result send_wait(struct send *s, const struct head *h,
		    struct parse_error *err);

#endif
