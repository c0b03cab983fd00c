/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_DATE_H
#define	PROTO_DATE_H

#include <stddef.h>
#include <stdint.h>

#define	DATE_ISO	21	/* 2026-11-22T08:20:17Z and NUL */
#define	DATE_HTTP	30	/* Sun, 22 Nov 2026 08:20:17 GMT and NUL */

/* Seconds since 1970 <-> text; years 1970 to 9999.  Parsers are strict (one
 * form each; date_http_parse takes the three forms of RFC 9110, 5.6.7, and
 * years from 1 on) and return 0 or -1. */
char	*date_iso(int64_t t, char out[DATE_ISO]);
int	 date_iso_parse(const char *s, size_t len, int64_t *t);
char	*date_http(int64_t t, char out[DATE_HTTP]);
int	 date_http_parse(const char *s, size_t len, int64_t *t);

#endif
