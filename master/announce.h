/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_ANNOUNCE_H
#define	MASTER_ANNOUNCE_H

#include <stddef.h>
#include <stdint.h>

#include "master/roster.h"
#include "proto/buf.h"
#include "proto/head.h"

/*
 * The master's end of both links: a thread that owns the announce (XPUB) and
 * the lease (ROUTER) socket.  What others want announced reaches it through a
 * bounded queue.  All functions: any thread, and none blocks on the network.
 */
struct announce;

#define	ANNOUNCE_QUEUE	1024		/* announcements not sent yet */
#define	ANNOUNCE_PREPARES 64		/* sets being prepared at once */

struct announce_conf {
	const char	*announce, *lease;	/* endpoints; port * or 0: any */
	const char	*secret_key;		/* the master's, Z85 */
	struct roster	*roster;
	/* Version of the trust document that the master holds. */
	uint64_t	(*trust_version)(void *arg);
	/*
	 * An edge shows a head above ours (link thread): verifies it and keeps
	 * its generation from being given out again.  0, or -1 when it is not
	 * validly signed or could not be recorded.
	 */
	int		(*shown)(void *arg, const struct head *h);
	void		*arg;
};
/* Before any other call of CZMQ: the signals are main's. */
void		 announce_init(void);
/* After zap_start().  Binds, then starts the thread.  NULL: err. */
struct announce	*announce_start(const struct announce_conf *c,
		    struct parse_error *err);
void		 announce_stop(struct announce **a);
/* Real endpoints, wildcard ports resolved. */
const char	*announce_endpoint(const struct announce *a);
const char	*announce_lease_endpoint(const struct announce *a);

/*
 * Announces a prepared head (its signed lines alone) and repeats it in lease
 * replies until its commit or announce_prepare_end().  -1: out of memory or too
 * many (ENOBUFS); edges then learn of it by commit.
 */
int		 announce_prepare(struct announce *a, const char *set,
		    const char *signed_lines, size_t len);
void		 announce_prepare_end(struct announce *a, const char *set);
/* Announces a whole head that is current now.  -1: not announced; edges learn
 * of it by their next renewal. */
int		 announce_commit(struct announce *a, const char *set,
		    const char *head, size_t len);
/* Cuts connections of peers whose key the roster does not allow any more. */
void		 announce_cut_revoked(struct announce *a);

#endif
