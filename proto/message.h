/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_MESSAGE_H
#define	PROTO_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/digest.h"
#include "proto/head.h"

/*
 * Messages on the lease socket: JSON, strict, at most MESSAGE_MAX bytes
 * (pkgcast-protocol(7)).
 */
#define	MESSAGE_MAX	65536
#define	INSTANCE_HEX	32		/* random, made when an edge starts */
#define	MESSAGE_SETS	1000

struct renew_set {
	char		 name[SET_NAME_MAX + 1];
	uint64_t	 generation;	/* 0: holds none yet */
	struct digest	 digest;	/* of the current head, if generation > 0 */
	bool		 has_prepared;
	struct digest	 prepared;	/* SHA-256 of the prepared head's signed lines */
	char		*ahead;		/* whole head document, or NULL: told when
					 * the master's is lower than ours */
};
struct renew {
	uint64_t	 sequence;
	char		 instance[INSTANCE_HEX + 1];
	char		 version[32];
	bool		 all;		/* carries every set; else only `set` */
	size_t		 nset;
	struct renew_set *set;		/* carried or held */
	struct {
		uint64_t requests, hits, misses, fills, fill_bytes,
			 cache_bytes, cache_max;
	} counters;
};
/* {"sequence","instance","version","all","sets":[{"name","generation",
 * "digest"?,"prepared"?,"head"?}],"counters":{...}} */
char		*renew_write(const struct renew *r, size_t *len);	/* NULL: too large */
struct renew	*renew_parse(const char *json, size_t len,
		    struct parse_error *err);
void		 renew_free(struct renew *r);	/* what the members point to */
void		 renew_destroy(struct renew **r);

struct lease_prepare { char *text; size_t len; };	/* head's signed lines */
struct lease {
	uint64_t	 sequence;
	char		 instance[INSTANCE_HEX + 1];
	uint64_t	 ttl_ms;	/* 0: no lease at all */
	uint64_t	 trust;		/* version the master holds */
	size_t		 nbehind;
	char		 (*behind)[SET_NAME_MAX + 1];
	size_t		 nprepare;
	struct lease_prepare *prepare;
};
/* {"sequence","instance","ttl_ms","trust","behind":[...],"prepare":[...]} */
char		*lease_write(const struct lease *l, size_t *len);
struct lease	*lease_parse(const char *json, size_t len,
		    struct parse_error *err);
void		 lease_destroy(struct lease **l);

#endif
