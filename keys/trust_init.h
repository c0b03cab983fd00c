/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_TRUST_INIT_H
#define	KEYS_TRUST_INIT_H

#include <sys/types.h>

#include "keys/trust_place.h"
#include "proto/config.h"

/* `pkgcast trust init`; argv[0] is the word "init".  Returns the exit status,
 * or -1: usage. */
int	trust_init(const struct pkgcast_conf *c, int argc, char *argv[]);
/* The master's trust folder, made if it is not there, and whom its files belong
 * to.  -1 after a message. */
int	trust_folder(const struct trust_place *p, uid_t *uid, gid_t *gid);

#endif
