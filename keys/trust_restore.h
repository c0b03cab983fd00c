/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_TRUST_RESTORE_H
#define	KEYS_TRUST_RESTORE_H

#include "proto/config.h"

/* `pkgcast trust restore`; argv[0] is the word "restore".  Returns the exit
 * status, or -1: usage. */
int	trust_restore(const struct pkgcast_conf *c, int argc, char *argv[]);

#endif
