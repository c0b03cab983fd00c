/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_PEERS_H
#define	MASTER_PEERS_H

#include <stdbool.h>

/*
 * Which connection was last used by which edge's key, so that a revoked edge
 * can be cut.  The link thread's alone.
 */
struct peers;

struct peers	*peers_new(void);
void		 peers_destroy(struct peers **p);
void		 peers_note(struct peers *p, int fd, const char *key);
/*
 * Shuts down the connections of keys that are not allowed, on our two local
 * endpoints ("tcp://ADDRESS:PORT").
 */
void		 peers_cut(struct peers *p, const char *endpoint,
		    const char *other, bool (*allowed)(void *arg,
		    const char *key), void *arg);

#endif
