/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_OUTBOX_H
#define	MASTER_OUTBOX_H

#include <sys/queue.h>
#include <stddef.h>

#include "master/announce.h"
#include "proto/message.h"

/*
 * What publishing threads leave for the link thread: announcements to send, in
 * order, and pending prepares that lease replies repeat.  Any thread; its lock
 * is innermost.
 */
struct outbox;

struct outgoing {			/* one announcement */
	STAILQ_ENTRY(outgoing) link;
	const char	*kind;		/* "prepare" or "commit"; static */
	char		 set[SET_NAME_MAX + 1];
	size_t		 len;
	char		 text[];
};
STAILQ_HEAD(outgoing_list, outgoing);

struct outbox	*outbox_new(void);
void		 outbox_destroy(struct outbox **o);

/* -1: EINVAL (too long), ENOMEM, ENOBUFS (ANNOUNCE_QUEUE, ANNOUNCE_PREPARES). */
int		 outbox_prepare(struct outbox *o, const char *set,
		    const char *signed_lines, size_t len);
void		 outbox_prepare_end(struct outbox *o, const char *set);
int		 outbox_commit(struct outbox *o, const char *set,
		    const char *head, size_t len);

/* Moves all announcements to the end of list; the caller frees each. */
void		 outbox_take(struct outbox *o, struct outgoing_list *list);
/*
 * Copies of the pending prepares that an edge wants by its renewal, at most max
 * bytes of them as JSON; *cost is what they take.  NULL: none, or no memory.
 */
struct lease_prepare *outbox_wanted(struct outbox *o, const struct renew *n,
		    size_t max, size_t *nprepare, size_t *cost);

#endif
