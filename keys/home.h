/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_HOME_H
#define	KEYS_HOME_H

#include "proto/buf.h"
#include "proto/config.h"

/* Where an operator's keys are.  All results are malloc'd; NULL: err. */

/* pkgcast.conf's home, else ~/.pkgcast. */
char	*home_dir(const struct pkgcast_conf *c, struct parse_error *err);
/* A file in pkgcast.conf's home, else in ~/.pkgcast. */
char	*home_file(const struct pkgcast_conf *c, const char *name,
	    struct parse_error *err);
/* The publisher's secret key: pkgcast.conf's, else publisher.key there. */
char	*home_key(const struct pkgcast_conf *c, struct parse_error *err);
/* The public file of a secret key's: FILE.key -> FILE.pub, FILE -> FILE.pub. */
char	*home_public(const char *key, struct parse_error *err);

#endif
