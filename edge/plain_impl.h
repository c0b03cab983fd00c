/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_PLAIN_IMPL_H
#define	EDGE_PLAIN_IMPL_H

#include <sys/queue.h>

#include <pthread.h>
#include <stdatomic.h>

#include "edge/fields.h"
#include "edge/fresh.h"
#include "edge/kind.h"
#include "edge/plain.h"
#include "edge/record.h"
#include "edge/waiters.h"

/*
 * Inside of plain*.c.  plain.c owns sets and what is known of their files (objects,
 * each with a version); plain_version.c makes versions of answers; plain_fetch.c
 * asks upstreams (exchanges); plain_request.c answers clients; plain_poll.c looks
 * for changes.
 *
 * Locks: an object's stripe, then the digests' lock.  No callback is called with
 * one of them held.
 */
#define	PLAIN_STRIPES	64u
#define	PLAIN_BUCKETS	1024u		/* of each */
#define	PLAIN_SHORT_S	60		/* redirects and 404 by mark */
#define	VARY_MAX	1024		/* bytes of Vary, NUL included */

/*
 * One answer of an upstream, by which clients are answered.  Does not change, but
 * for where its bytes are.
 */
enum version_state {
	VERSION_BARE,			/* no body */
	VERSION_FILLING,		/* by the fill called `fill` */
	VERSION_STORED,			/* as record.digest */
	VERSION_MEMORY,			/* in `bytes`, for those who waited */
	VERSION_LOST
};
struct version {
	unsigned	 magic;
	atomic_uint	 refs;
	struct object	*object;
	struct record	 record;	/* digest: once it is stored */
	struct fresh_response fresh;
	char		*fields;	/* what clients get of them; and where */
	char		*lean;		/* there is no body */
	char		*etag;		/* opaque part, or NULL */
	bool		 keep;		/* may be used for others */
	bool		 varies;	/* see version_fits() */
	struct digest	 fill;
	bool		 compares;	/* its content with: */
	struct digest	 was;
	struct version	*before;	/* while FILLING: may come back; the
					 * object's lock */
	uint8_t		*bytes;
	size_t		 spooled;	/* of plains->spooled */
	atomic_bool	 used;		/* since it was last looked at: */
	TAILQ_ENTRY(version) age;	/* of those that are current; likewise */
	_Atomic(enum version_state) state;
	LIST_ENTRY(version) named;	/* by record.digest; digests' lock */
	bool		 is_named;
};

/* One address. */
struct object {
	unsigned	 magic;
	unsigned	 refs;		/* the stripe's lock; as all below */
	LIST_ENTRY(object) link;
	pthread_mutex_t	*lock;		/* the stripe's */
	uint64_t	 hash;		/* of the key */
	struct plain_set *set;
	char		*key;		/* "<set>/<target>" */
	const char	*target;	/* in it */
	struct version	*current;	/* NULL: nothing is known */
	struct exchange	*running;	/* that others may wait for, or NULL */
	int64_t		 alone_ms;	/* until then nobody waits for others */
};

struct plain_set {
	struct plains	*plains;
	const char	*name;
	size_t		 name_len;
	enum repo_kind	 kind;
	bool		 by_mark;
	bool		 identify_given;	/* else by the kind */
	int64_t		 poll_ms;
	_Atomic int64_t	 down_ms;	/* nobody answers; not asked until then */
	struct upstreams *upstreams;
	struct config_list urls;	/* borrowed */
	_Atomic uint64_t epoch;
	atomic_bool	 polled;	/* the first one is over */
	_Atomic int64_t	 good_ms;	/* the last one that succeeded; 0 */
	struct waiters	*first;		/* who wait for it */
	_Atomic uint64_t hits, misses, verified, changed, stale, passed, files;
	/* plains->lock: */
	char		**identify;	/* targets */
	size_t		 nidentify;
	pthread_t	 poller;
	bool		 polls;
};

struct plain_stripe {
	pthread_mutex_t	 lock;
	LIST_HEAD(, object) bucket[PLAIN_BUCKETS];
};

struct plains {
	struct plains_conf conf;
	size_t		 n;
	struct plain_set *set;
	char		*path;		/* of the records */
	struct records	*records;
	atomic_bool	 stopping;
	unsigned char	 seed[16];
	struct plain_stripe stripe[PLAIN_STRIPES];
	pthread_mutex_t	 digests;
	LIST_HEAD(, version) named[PLAIN_STRIPES * PLAIN_BUCKETS];
	struct known {			/* current ones, oldest first */
		TAILQ_HEAD(, version) list;
		size_t	 n;
	} files, absent;		/* absent: redirects and errors */
	atomic_size_t	 spooled;	/* bytes of bodies in memory */
	pthread_mutex_t	 lock;		/* polls */
	pthread_cond_t	 poke;
};

/* plain.c */
/* The set that a path is in, and what is below it ("": the set itself); NULL: none. */
struct plain_set *plain_set_of(struct plains *p, const char *path,
		    const char **rest);
/* With a reference, made if need be; NULL: no memory. */
struct object	*object_get(struct plain_set *s, const char *target);
struct object	*object_ref(struct object *o);
void		 object_put(struct object **o);
pthread_mutex_t	*object_lock(struct object *o);
/* With a reference, or NULL. */
struct version	*object_version(struct object *o);
/* What is known from now on; takes a reference of its own.  False: something newer
 * is. */
bool		 object_install(struct object *o, struct version *v);
/* Its bytes are gone, or have not come: then what was before is known again. */
void		 object_lost(struct object *o, struct version *v);
/* Its bytes begin to come, and are stored. */
void		 version_begins(struct version *v);
void		 version_stored(struct version *v);
/* Written to the records, and its content's digest is known. */
void		 version_keep(struct version *v);
void		 version_unname(struct version *v);
void		 plain_mark(struct plain_set *s, const char *why);
/* A decoded path and a query (or NULL) as sent upstream; malloc'd, NULL: no
 * memory, or too long. */
char		*plain_target(const char *path, const char *query);
/* Targets that are polled; one more. */
void		 plain_identify(struct plain_set *s, const char *target);
bool		 plain_identifies(struct plain_set *s, const char *target);

/* plain_version.c */
struct version_source {
	unsigned	 status;
	const char	*fields;	/* as received */
	const char	*vary;		/* the request's values; may be NULL */
	int64_t		 request_time, response_time;
	uint64_t	 epoch;
};
/* NULL: no memory.  BARE, with one reference, not kept. */
struct version	*version_new(struct object *o, const struct version_source *s);
/* As confirmed by a 304. */
struct version	*version_confirm(const struct version *old,
		    const struct version_source *s);
/* From the records, whose texts are taken. */
struct version	*version_load(struct object *o, struct record *r);
struct version	*version_ref(struct version *v);
void		 version_put(struct version **v);
/* Another answer than that one, as far as validators tell, and the size if that is
 * known. */
bool		 version_differs(const struct version *a,
		    const struct version *b, bool sized);
/* The value of Vary, NULL: there is none.  One that is too long is a `*`. */
const char	*version_vary(const char *fields, char *out, size_t size);
/* Whether a request's fields are those that it was chosen by. */
bool		 version_fits(const struct version *v,
		    const char *request_fields);
/* Request fields that ask whether it still holds; false: it has no validator. */
bool		 version_ask(const struct version *v, struct buf *fields);

/* plain_fetch.c */
enum fetch_state {
	FETCH_RUNNING,
	FETCH_DONE,			/* a version */
	FETCH_ALONE,			/* only for who began it */
	FETCH_FAILED
};
struct exchange;
struct fetch_want {
	const char	*fields;	/* the client's; or "" */
	struct fresh_request request;	/* and what it says */
	bool		 whole;		/* the stored bytes are of no use */
	bool		 alone;		/* shared with nobody */
};
/*
 * Asks for an object, or joins who does.  With a reference; *joined.  NULL: no
 * memory or stopping.
 */
struct exchange	*exchange_get(struct object *o, const struct fetch_want *w,
		    bool *joined);
void		 exchange_put(struct exchange **x);
/* RUNNING: w is woken when that changes. */
enum fetch_state exchange_look(struct exchange *x, struct waiter *w);
void		 exchange_forget(struct exchange *x, struct waiter *w);
/* Of FETCH_DONE, and for who began it of ALONE; with a reference. */
struct version	*exchange_version(struct exchange *x);
/* The fill that brings that version, while the exchange is held; or NULL. */
struct fill	*exchange_fill(struct exchange *x, const struct version *v);
/* It was confirmed, not changed. */
bool		 exchange_confirmed(struct exchange *x);

/* plain_poll.c */
/* Polls have failed for so long that what is cached may be old. */
bool		 plain_is_overdue(struct plain_set *s);
int		 plain_poll_start(struct plains *p);
void		 plain_poll_stop(struct plains *p);

#endif
