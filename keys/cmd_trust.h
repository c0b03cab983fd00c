/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_CMD_TRUST_H
#define	KEYS_CMD_TRUST_H

#include "proto/config.h"

/*
 * `pkgcast trust init|show`; argv[0] is the word "trust".  Returns the exit
 * status: 0 done, 1 failed, 2 usage or configuration.
 */
int	cmd_trust(const struct pkgcast_conf *c, int argc, char *argv[]);

#endif
