/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_STATUS_H
#define	MASTER_STATUS_H

#include <stddef.h>

#include "keys/trust.h"
#include "master/generation.h"
#include "master/origin.h"
#include "master/publish.h"
#include "master/roster.h"
#include "proto/httpd.h"
#include "proto/site.h"

/* The master's status document (pkgcast-protocol(7)).  Any thread. */
struct status;

struct status_conf {			/* all borrowed */
	struct site		*site;
	struct generations	*generations;
	struct trust		*trust;
	struct roster		*roster;
	struct publish		*publish;
	const char		*public_key;	/* CURVE, Z85 */
};
struct status	*status_new(const struct status_conf *c);
void		 status_destroy(struct status **s);
/* A server whose counters are shown; NULL before it is stopped. */
enum status_server { STATUS_HTTP, STATUS_PUBLISH, STATUS_SERVERS };
void		 status_attach(struct status *s, enum status_server which,
		    struct httpd *h);
/* Before a server starts; outlives them. */
void		 status_origin(struct status *s, struct origin *o);
/* arg is a struct status.  malloc'd JSON; NULL: out of memory. */
char		*status_master(void *arg, size_t *len);
/* For the status listener: that document and nothing else. */
void		 status_httpd(struct status *s, struct httpd_conf *c);

#endif
