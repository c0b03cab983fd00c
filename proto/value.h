/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_VALUE_H
#define	PROTO_VALUE_H

#include <stdint.h>

#include "proto/zpl.h"

/*
 * Values of configuration files, checked by the rule for their key.  On a
 * value that breaks it, err->reason says what is expected.
 */
int	 value_number(const struct zpl_item *it, uint64_t *out,
	    const char *file, struct parse_error *err);
/* A copy, malloc'd; URLs lose their last slashes.  NULL: err. */
char	*value_text(const struct zpl_item *it, const char *file,
	    struct parse_error *err);

#endif
