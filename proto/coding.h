/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_CODING_H
#define	PROTO_CODING_H

#include <stdbool.h>

#include "proto/digest.h"

/*
 * Content codings of manifests and chunk tables: which one a request takes (RFC
 * 9110, 12.5.3), and with which dictionary (RFC 9842, 2.2).  Pure.
 */
enum coding {
	CODING_NONE,		/* as it is */
	CODING_ZSTD,
	CODING_DCZ
};
#define	CODING_VARY	"Accept-Encoding, Available-Dictionary"

/* "zstd", "dcz"; NULL for CODING_NONE. */
const char	*coding_name(enum coding c);
/*
 * What to answer a request with that field (NULL: none); dcz: whether it could be
 * that.  A coding is chosen where its weight is not below that of none, dcz before
 * zstd; by "*" alone only where its weight is above.  A field that cannot be
 * parsed chooses none.
 */
enum coding	 coding_choose(const char *accept_encoding, bool dcz);

#define	CODING_DICTIONARY	48	/* bytes, NUL included */
/* Value of Available-Dictionary. */
char		*coding_dictionary(const struct digest *d,
		    char out[CODING_DICTIONARY]);
/* Strictly one byte sequence of 32 bytes (RFC 9651, 3.3.5), in canonical base64,
 * without parameters.  0, or -1. */
int		 coding_dictionary_parse(const char *value, struct digest *d);

#endif
