/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_TRUST_INIT_H
#define	KEYS_TRUST_INIT_H

#include "proto/config.h"

/* `pkgcast trust init`; argv[0] is the word "init".  Returns the exit status,
 * or -1: usage. */
int	trust_init(const struct pkgcast_conf *c, int argc, char *argv[]);

#endif
