/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_CMD_KEYS_H
#define	KEYS_CMD_KEYS_H

#include "proto/config.h"

/*
 * `pkgcast keys generate|show`; argv[0] is the word "keys".  Returns the exit
 * status: 0 done, 1 failed, 2 usage.
 */
int	cmd_keys(const struct pkgcast_conf *c, int argc, char *argv[]);

#endif
