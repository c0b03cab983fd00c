/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_ORIGIN_H
#define	MASTER_ORIGIN_H

#include <stddef.h>

#include "keys/trust.h"
#include "master/publish.h"
#include "master/store.h"
#include "proto/coder.h"
#include "proto/httpd.h"
#include "proto/site.h"

/*
 * The master's public HTTP side: the callbacks of proto/serve.h over the blob
 * store.  Called by the HTTP server's threads.
 */
struct origin;

struct origin_conf {			/* all borrowed */
	struct site	*site;
	struct store	*store;
	struct trust	*trust;
	struct publish	*publish;
	int64_t		 grace;		/* seconds */
	/* The status document; malloc'd, caller frees. */
	char		*(*status)(void *arg, size_t *len);
	void		*status_arg;
};

struct origin	*origin_new(const struct origin_conf *c);
void		 origin_destroy(struct origin **o);	/* after httpd_stop() */
/* Of manifests and chunk tables, as /.pkgcast/status tells it. */
void		 origin_coded(struct origin *o, struct coder_stats *s);
/* Sets handler and arg. */
void		 origin_httpd(struct origin *o, struct httpd_conf *c);

#endif
