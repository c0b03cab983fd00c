/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_ROSTER_H
#define	MASTER_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keys/cert.h"
#include "proto/buf.h"
#include "proto/digest.h"
#include "proto/head.h"
#include "proto/message.h"

/*
 * Who holds a lease for what, and which head of each set is current: both
 * under one lock, so that no lease on an old head can be granted after a
 * commit (pkgcast-protocol(7), LEASES).  Any thread.  The lock is innermost but
 * for what `decide` takes: never call in here from inside decide.
 */
struct roster;
struct roster_wait;

#define	ROSTER_RECORDS		40000	/* edges' instances known at once */
#define	ROSTER_INSTANCES	16	/* of one key */
#define	ROSTER_SETS		20000	/* names known, unpublished ones too */
#define	ROSTER_SILENCE_MS	600000	/* without a lease: record dropped */
#define	ROSTER_TTL_MAX_MS	3600000
#define	ROSTER_NAME		65	/* an edge's name and NUL */

struct roster_conf {
	int		 dirfd;		/* state folder, for `ttl`; borrowed */
	uint64_t	 ttl_ms;	/* 1 to ROSTER_TTL_MAX_MS */
	int64_t		(*clock)(void);	/* ms; NULL: clock_boot_ms */
};
/* Reads the longest time to live ever granted.  NULL: err. */
struct roster	*roster_new(const struct roster_conf *c,
		    struct parse_error *err);
void		 roster_destroy(struct roster **r);
/* All waits, running and later ones, end with ROSTER_STOPPED. */
void		 roster_stop(struct roster *r);

/* The allowed edges; takes *e over. */
void		 roster_set_edges(struct roster *r, struct edges **e);
/* Name of the edge with that key: false, nobody's. */
bool		 roster_edge_name(struct roster *r, const char *key,
		    char name[ROSTER_NAME]);

/* Start-up, before the first renewal: what is current.  -1: out of memory. */
int		 roster_set_current(struct roster *r, const char *set,
		    uint64_t generation, const struct digest *head);
/* Generation of the current head; 0: the set has none. */
uint64_t	 roster_generation(struct roster *r, const char *set);

/*
 * One renewal that came in at received_ms (the roster's clock): records what
 * the edge reports and what it is granted, then says so (lease_destroy()).
 * NULL: no reply (key nobody's, out of memory).  behind_max caps the bytes that
 * `behind` may take in the reply; beyond it nothing is granted (ttl_ms 0).
 * `trust` and `prepare` are left for the caller.
 */
struct lease	*roster_renew(struct roster *r, const char *key,
		    const struct renew *n, int64_t received_ms,
		    size_t behind_max);
/* True once for each generation that edges showed above ours. */
bool		 roster_ahead_news(struct roster *r, const char *set,
		    uint64_t generation);

enum roster_state {
	ROSTER_RUNNING,			/* the time given here is up */
	ROSTER_OVER,
	ROSTER_STOPPED
};

/*
 * Waits until every edge with a lease for the set has reported the prepared
 * head whose signed lines have that digest, at most timeout_ms (0: looks only).
 * The counts may be NULL.
 */
enum roster_state roster_wait_prepared(struct roster *r, const char *set,
		    const struct digest *head, int timeout_ms,
		    size_t *prepared, size_t *leased);

/*
 * Runs decide(arg), which publishes or refuses, under the lock; if it returned
 * 0, head is current from then on, and the result is the wait for its
 * acknowledgement.  An edge whose lease was alive at since_ms (when the publish
 * began to prepare; the roster's clock) and ran out meanwhile is named as
 * missing, though nobody waits for it.  NULL: decide refused (its errno), or
 * ENOMEM before it ran.
 */
struct roster_wait *roster_commit(struct roster *r, const char *set,
		    uint64_t generation, const struct digest *head,
		    int64_t since_ms, int (*decide)(void *arg), void *arg);
/*
 * The wait for acknowledgement of what is current already: the commit's own
 * while that runs or nobody has seen its end, else a new one (a publish that is
 * repeated later).  NULL: no such set (ENOENT), ENOMEM.
 */
struct roster_wait *roster_watch(struct roster *r, const char *set);

struct roster_result {
	uint64_t	 generation;
	size_t		 acked, leased;
	size_t		 nmissing;	/* ran out unacknowledged; by name */
	char		(*missing)[ROSTER_NAME];
	int64_t		 p50_ms, p99_ms, max_ms;	/* 0 when none acked */
	char		 slowest[ROSTER_NAME];	/* whose max_ms is; "": none */
};
/*
 * How far it is, after waiting at most timeout_ms (0: not at all) for its end.
 * The result is good in all three cases; free it with roster_result_free().
 */
enum roster_state roster_wait_switched(struct roster *r,
		    struct roster_wait *w, int timeout_ms,
		    struct roster_result *res);
void		 roster_result_free(struct roster_result *res);
void		 roster_wait_destroy(struct roster *r, struct roster_wait **w);

/* A copy of everything, for the status page. */
struct roster_report_set {
	const char	*name;		/* good as long as the roster */
	uint64_t	 generation;	/* held; 0: none yet */
	uint64_t	 here;		/* of the current head; 0: none */
	bool		 current, leased;
	int64_t		 behind_ms;	/* for so long; -1: it is not */
	int64_t		 switched_ms;	/* ago; -1: not seen */
	int64_t		 took_ms;	/* after the commit; -1: not known */
};
struct roster_report_instance {
	char		 instance[INSTANCE_HEX + 1];
	char		 version[32];
	int64_t		 silent_ms;	/* since the last renewal */
	int64_t		 left_ms;	/* of its last lease; 0: ran out */
	bool		 leased;	/* for all published that it carries */
	size_t		 nset;
	struct roster_report_set *set;
	uint64_t	 requests, hits, misses, fills, fill_bytes,
			 cache_bytes, cache_max;
};
struct roster_report_edge {
	struct edge_entry edge;
	bool		 leased;	/* some instance is, for all it carries */
	bool		 duplicate;	/* two instances live on under one key */
	size_t		 ninstance;
	struct roster_report_instance *instance;
};
struct roster_report_switch {
	const char	*set;
	bool		 over;
	struct roster_result result;
};
struct roster_report {
	size_t		 nedge;
	struct roster_report_edge *edge;
	size_t		 nswitch;
	struct roster_report_switch *last;	/* last switch of each set */
};
struct roster_report *roster_report_new(struct roster *r);	/* NULL: memory */
void		 roster_report_destroy(struct roster_report **p);

#endif
