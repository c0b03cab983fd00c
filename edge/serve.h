/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_SERVE_H
#define	EDGE_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "edge/bytes.h"
#include "edge/follow.h"
#include "edge/plain.h"
#include "proto/serve.h"

/* An edge's end of proto/serve.h: which bytes, and whether they are up to date. */
struct edge_serve;

struct edge_serve_conf {		/* borrowed */
	const char		*name;		/* of the edge; may be NULL */
	struct site		*site;
	struct trust		*trust;
	struct bytes_source	*bytes;
	struct upstreams	*upstreams;
	struct leases		*leases;
	struct plains		*plains;	/* NULL: no plain sets */
	bool			 plain_only;	/* no published sets, ever */
	bool			 refuse;	/* stale = "refuse" */
	uint64_t		 grace;		/* seconds */
};

/* Starts a thread, and reads the store from it. */
struct edge_serve *edge_serve_new(const struct edge_serve_conf *c);
/* After httpd_stop(), when the link and the follow thread have ended. */
void		 edge_serve_destroy(struct edge_serve **e);
/* Before httpd_start(). */
void		 edge_serve_follow(struct edge_serve *e, struct follow *f);
/* When they run; either may be NULL. */
void		 edge_serve_attach(struct edge_serve *e, struct httpd *h,
		    struct link *l);
/* HUP. */
void		 edge_serve_configure(struct edge_serve *e, bool refuse,
		    uint64_t grace);

/* Handler for httpd_conf; arg is the struct edge_serve. */
void		 edge_serve_request(void *arg, struct httpd_request *r);
/* For follow_conf; arg is the struct edge_serve. */
void		 edge_serve_counters(void *arg, struct renew *r);

#endif
