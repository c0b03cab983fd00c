/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_STATUS_H
#define	EDGE_STATUS_H

#include <stddef.h>
#include <stdint.h>

#include "edge/follow.h"
#include "edge/plain.h"
#include "proto/coder.h"
#include "proto/httpd.h"

/* What /.pkgcast/status of an edge tells of. */
struct edge_status {
	const char		*name;		/* may be NULL */
	int64_t			 started_ms;	/* boot clock */
	struct site		*site;
	struct trust		*trust;
	struct blob_store	*store;
	struct fills		*fills;
	struct upstreams	*upstreams;
	struct plains		*plains;	/* may be NULL */
	struct leases		*leases;
	struct follow		*follow;
	struct httpd		*httpd;		/* may be NULL */
	struct link		*link;		/* may be NULL */
	uint64_t		 hits, misses;
	struct coder_stats	 coded;
};

/* The document (pkgcast-protocol(7)), malloc'd.  NULL: out of memory. */
char		*edge_status_text(const struct edge_status *s, size_t *len);
/* Bytes that came from all upstreams. */
uint64_t	 edge_status_fill_bytes(struct upstreams *u);

#endif
