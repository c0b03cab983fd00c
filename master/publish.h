/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_PUBLISH_H
#define	MASTER_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keys/trust.h"
#include "master/generation.h"
#include "master/store.h"
#include "proto/httpd.h"
#include "proto/site.h"

/*
 * The publish listener's API (design: publish) over pending publishes, of
 * which each set has at most one.  Any thread.
 */
struct publish;
struct announce;
struct roster;

struct publish_conf {			/* all borrowed */
	int			 statefd;
	struct store		*store;
	struct site		*site;
	struct trust		*trust;
	struct generations	*generations;
	struct roster		*roster;
	struct announce		*announce;
};

/* Takes up pending publishes of the last run; those whose blobs are all there
 * go on at once (threads).  Removes blobs that nothing names.  NULL: err. */
struct publish	*publish_new(const struct publish_conf *c,
		    struct parse_error *err);
/* Ends waiting publishes (they stay on disk) and joins their threads. */
void		 publish_destroy(struct publish **p);

/* For httpd_conf: handler and on_body of the publish listener, arg is p.
 * It also sets the limits that uploads want. */
void		 publish_httpd(struct publish *p, struct httpd_conf *c);

/* A blob that a publish which is being prepared names (its manifest and chunk
 * table included), for the origin. */
bool		 publish_prepared(struct publish *p, const struct digest *d,
		    struct site_prepared *out);
/* Adds {"set","generation","state",...} of each pending publish to a JSON
 * array (json_t *, borrowed), as GET /publish/<set> shows it. */
int		 publish_list(struct publish *p, void *json_array);
/* Drops pendings that are too old; call now and then. */
void		 publish_tick(struct publish *p);

#endif
