/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_SYNC_H
#define	EDGE_SYNC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/blob.h"
#include "edge/fill.h"
#include "edge/held.h"
#include "edge/upstream.h"
#include "edge/waiters.h"
#include "edge/warm.h"
#include "keys/trust.h"
#include "proto/config.h"
#include "proto/message.h"
#include "proto/site.h"

/*
 * From a head document to a set that is served: judging, fetching, preparing,
 * switching, and the generations behind.  Only the follow thread calls these
 * (and main() before it runs), but those marked "any thread".
 */
struct sync;

struct sync_conf {			/* all borrowed */
	struct site		*site;
	struct trust		*trust;
	int			 trust_dir;
	struct held		*held;
	struct blob_store	*store;
	const char		*cache_dir;	/* the store's */
	struct fills		*fills;
	struct upstreams	*upstreams;
	uint64_t		 warm_bytes, warm_at_once;	/* warm.h */
	const struct config_list *sets;	/* carried; n 0: all */
	const atomic_bool	*stop;		/* ends whatever waits */
	const atomic_bool	*interrupt;	/* ends what can be done later */
	/* Something that the master should hear of changed. */
	void			(*changed)(void *arg);
	/* More blobs are named now. */
	void			(*news)(void *arg);
	void			*arg;
};

struct sync	*sync_new(const struct sync_conf *c);	/* NULL: errno */
/* Warming ends; nothing else runs any more. */
void		 sync_stop(struct sync *s);
void		 sync_destroy(struct sync **s);
struct warm	*sync_warm(struct sync *s);

/* Serves what is held and whose manifests the cache has; no network. */
void		 sync_start(struct sync *s);

enum sync_result {
	SYNC_SWITCHED,
	SYNC_SAME,		/* it is current already */
	SYNC_IGNORED,		/* a set that this edge does not carry */
	SYNC_LOWER,		/* validly signed, but below what is held */
	SYNC_REFUSED,		/* logged */
	SYNC_LATER		/* could not be fetched or stored now: logged */
};
/*
 * A whole head.  set: under which it was announced, or NULL: then it came by a
 * poll, and what it needs is fetched until `interrupt`.  from: for messages.
 */
enum sync_result sync_head(struct sync *s, const char *set, const char *text,
		    size_t len, const char *from);
/* Signed lines of a head to come: fetched and built, not trusted yet. */
enum sync_result sync_prepare(struct sync *s, const char *set,
		    const char *text, size_t len);
/* Fetches the trust document until it has at least that version; true when
 * an upstream answered with a good one. */
bool		 sync_trust(struct sync *s, uint64_t version);
/* The sets whose current head we did not report, says the master; all others
 * are not behind any more. */
void		 sync_behind(struct sync *s,
		    char (*name)[SET_NAME_MAX + 1], size_t n);
/* Whether any of them is still behind its master as far as we know. */
bool		 sync_is_behind(const struct sync *s);
/* After that, when all upstreams were asked in vain. */
void		 sync_not_found(struct sync *s);
/* Learns one more of the generations behind the current ones; true when there
 * is more to do.  Ends early on `interrupt`. */
bool		 sync_walk(struct sync *s);

/* Any thread: */
int		 sync_report(struct sync *s, struct renew *r);
bool		 sync_is_prepared(struct sync *s, const char *text, size_t len);
enum blob_named	 sync_named(void *s, const struct digest *d);
bool		 sync_prepared_blob(struct sync *s, const struct digest *d,
		    struct site_prepared *p);
/* The path lies in a set that exists but cannot be served yet. */
bool		 sync_unserved(struct sync *s, const char *path);
/* After its `expires` the trust document makes every answer stale. */
bool		 sync_trust_expired(const struct sync *s, int64_t now);
/*
 * A manifest or chunk table that is being fetched, or is about to be, other than by
 * a fill.  await: w is woken when that has ended; forget it before it goes.
 * False: it is not.
 */
bool		 sync_is_coming(struct sync *s, const struct digest *d);
bool		 sync_await(struct sync *s, const struct digest *d,
		    struct waiter *w);
void		 sync_forget(struct sync *s, struct waiter *w);
struct sync_stats {		/* manifests and chunk tables, since the start */
	uint64_t	fetched, zstd, dcz;	/* in all; those that were coded */
	uint64_t	size;			/* bytes of all that were fetched */
	uint64_t	bytes;			/* that came for them, or in vain */
};
void		 sync_stats(struct sync *s, struct sync_stats *st);
/* Digest of the prepared head; false: none. */
bool		 sync_prepared(struct sync *s, const char *set,
		    struct digest *d);

#endif
