/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_UPSTREAM_H
#define	EDGE_UPSTREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/coding.h"
#include "proto/config.h"
#include "proto/digest.h"

/*
 * The upstreams: where an edge fills from, how well each does, and the HTTP
 * client, which alone names libcurl.  Any thread.
 */
#define	UPSTREAMS_MAX	64		/* one bit each in a `tried` mask */
#define	UPSTREAM_URL	512
#define	UPSTREAM_REASON	192

struct upstreams;

/*
 * Copies what it needs of c.  Starts one thread, so after the start-up's
 * privileges are dropped and signals are blocked.  NULL: errno.
 */
struct upstreams *upstreams_new(const struct edge_conf *c);
/* HUP: upstreams with the same URL keep their health and counters. */
int		 upstreams_configure(struct upstreams *u,
		    const struct edge_conf *c);
/* Ends all transfers (their `done` is called) and upstream_get() calls, and
 * the thread.  Later transfers end at once. */
void		 upstreams_stop(struct upstreams *u);
void		 upstreams_destroy(struct upstreams **u);

/*
 * A small document, for the follow thread: blocks.  target begins with a slash
 * ("/.pkgcast/heads").  Asks the upstreams whose bits are not in *tried, in
 * order of preference, sets the bits of those that it asked, and returns the
 * first answer of at most max bytes: malloc'd, NUL behind it.  So a caller that
 * refuses the content calls again, with the same *tried, for the next one's.
 * NULL: none left; errno ENOENT when all said 404, else EIO, or ECANCELED.
 * from: the upstream's URL, for messages.  stop may be NULL.
 */
char		*upstream_get(struct upstreams *u, uint64_t *tried,
		    const char *target, size_t max, unsigned timeout_s,
		    const atomic_bool *stop, size_t *len,
		    char from[UPSTREAM_URL]);
/* A document from there was no good: logged, set aside like wrong bytes. */
void		 upstream_bad(struct upstreams *u, const char *url,
		    const char *reason);

struct upstream_stat {
	char			url[UPSTREAM_URL];
	enum upstream_kind	kind;
	uint64_t		requests, bytes, faults;
	unsigned		running;	/* transfers now */
	bool			aside;
	int64_t			aside_s;	/* how much longer */
	char			reason[UPSTREAM_REASON]; /* last fault; "" */
};
/* Fills at most n; returns how many there are. */
size_t		 upstreams_stats(struct upstreams *u, struct upstream_stat *st,
		    size_t n);

/*
 * Transfers, for fill.c: one GET of a blob, or of a part of it, from the best
 * upstream that is not in `tried`, chosen when its turn comes.
 */
struct transfer;

enum transfer_more {
	TRANSFER_GO,
	TRANSFER_ENOUGH,		/* no more wanted: no fault */
	TRANSFER_WRONG,			/* these bytes failed verification */
	TRANSFER_BROKEN			/* a local fault, not the upstream's */
};
enum transfer_result {
	TRANSFER_DONE,			/* every byte that was asked for came */
	TRANSFER_STOPPED,		/* by data(), cancel or stop */
	TRANSFER_ABSENT,		/* not there: no fault */
	TRANSFER_FAULT,
	TRANSFER_NONE			/* nobody left to ask */
};
struct transfer_end {
	enum transfer_result	result;
	unsigned		slot;		/* bit in `tried` */
	char			url[UPSTREAM_URL];	/* "" for NONE */
	char			reason[UPSTREAM_REASON];
	enum upstream_kind	kind;		/* but for NONE */
	enum coding		coding;		/* of what was given to data() */
	uint64_t		received;	/* bytes, errors' bodies included */
	bool			silent;		/* nobody there, or no answer in time */
};
/* A document that may come coded, from masters and edges, who alone are asked. */
struct transfer_coded {
	const char	*accept;		/* Accept-Encoding */
	const char	*dictionary;		/* Available-Dictionary, or NULL */
	uint64_t	 max;			/* bytes of a coded body */
	uint64_t	 plain;			/* and of one that is not; else
						 * TRANSFER_STOPPED */
};
/*
 * A file of a plain upstream, by its address, in one request: redirects are answers
 * like others.  Without `head` it is (a part of) a version that is known already:
 * its validator and size must be the same.
 */
struct transfer_head {			/* of an answer; good during the call */
	const char	*url;			/* the upstream's */
	unsigned	 status;		/* 200 and above */
	const char	*fields;		/* see fields.h */
	bool		 has_length;
	uint64_t	 length;
	bool		 by_close;		/* only that ends the body */
	char		 reason[UPSTREAM_REASON];	/* for TRANSFER_WRONG */
};
struct transfer_plain {			/* good until done */
	const char	*target;		/* below the upstream's URL, as sent */
	const char	*fields;		/* the request's, see fields.h */
	const char	*validator;		/* for If-Range; NULL with head */
	/*
	 * In the transfer thread.  GO: the body goes to data(), as far as the
	 * length says.  ENOUGH: there is none, or it is not wanted; done follows
	 * with TRANSFER_DONE.
	 */
	enum transfer_more (*head)(void *arg, struct transfer *t,
			    struct transfer_head *h);
	/* Or NULL.  Likewise, before data(): true: not yet.  Asked again after
	 * upstreams_poke(), and every second. */
	bool		(*later)(void *arg);
};
struct transfer_want {
	struct digest	 digest;
	uint64_t	 size;			/* of the whole blob */
	uint64_t	 from, to;		/* to is exclusive, > from */
	const char	*set, *path;		/* NULL: not known; copied */
	uint64_t	 tried;
	bool		 urgent;		/* before those that wait */
	const struct transfer_coded *coded;	/* NULL, or good until done */
	/* Or NULL; with its `head`: size and to are TRANSFER_UNKNOWN. */
	const struct transfer_plain *plain;
	/*
	 * All are called in the transfer thread with no lock held; data with
	 * bytes in order from `from` on, never beyond `to` (coded ones: max).
	 * done is called once, last; the transfer is gone with it.
	 */
	enum transfer_more (*data)(void *arg, const void *p, size_t len);
	/* Or NULL.  Likewise, when no more comes, before done: false: bytes that
	 * data took failed verification. */
	bool		(*verified)(void *arg);
	void		(*done)(void *arg, const struct transfer_end *e);
	void		*arg;
};
/* NULL: out of memory, or stopped; then done is not called.  Never calls back
 * itself. */
struct transfer	*transfer_start(struct upstreams *u,
		    const struct transfer_want *w);
/* Where `location` (RFC 9110, 10.2.2) leads from that target of an upstream; malloc'd,
 * NULL: nowhere. */
char		*upstream_resolve(const char *url, const char *target,
		    const char *location);
#define	TRANSFER_UNKNOWN	UINT64_MAX
/* In head(), before GO: the rest of the transfer, which brings `size` bytes, is
 * somebody else's; `plain` must be good until then. */
void		 transfer_hand_over(struct transfer *t, uint64_t size,
		    const struct transfer_plain *plain,
		    enum transfer_more (*data)(void *arg, const void *p,
			size_t len),
		    void (*done)(void *arg, const struct transfer_end *e),
		    void *arg);
/* What was to come later may come now.  Any lock may be held. */
void		 upstreams_poke(struct upstreams *u);
/* Before done was entered (the caller's lock sees to that).  done follows. */
void		 transfer_cancel(struct upstreams *u, struct transfer *t);

#endif
