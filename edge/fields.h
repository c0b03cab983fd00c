/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_FIELDS_H
#define	EDGE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Header fields as text ("fields"): lines "Name: value\n", NUL-terminated, in the
 * order of their arrival.  Pure.  Lines that are no field (without a colon, a
 * name that is no token) are passed over and never handed on; control bytes in
 * values are refused by whoever reads them from a socket.
 */
#define	FIELDS_MAX	32768		/* bytes, of what is made here */

struct field {
	const char	*name, *value;	/* into the text, not terminated */
	size_t		 nlen, vlen;	/* no blanks around the value */
};
/* The next field of *fields, which moves on.  False: no more. */
bool		 fields_next(const char **fields, struct field *f);
bool		 field_is(const struct field *f, const char *name);
/* All values of a field, joined by ", " (RFC 9110, 5.3).  NULL: absent, or
 * longer than fits. */
const char	*fields_get(const char *fields, const char *name, char *out,
		    size_t size);

/*
 * Made of others, malloc'd.  NULL: no memory, or longer than FIELDS_MAX.
 *
 * Of a response as received, what is stored and may be forwarded: all but the
 * hop-by-hop ones, those that Connection names (RFC 9110, 7.6.1; not the ones
 * that tell a cache what to do, which it must not name), and those of proxies
 * (RFC 9111, 3.1).  A Date is put in where there is none or a bad one (RFC 9110,
 * 6.6.1): the time of receipt, in seconds.
 */
char		*fields_stored(const char *fields, int64_t received);
/*
 * Of a response, as received or as stored, what an answer carries beside what
 * the edge makes itself.  Left out as well: Content-Length, Age, ETag,
 * Last-Modified, Accept-Ranges, Content-Range, Cache-Status.  Date, Via,
 * Content-Type, Cache-Control, Vary, Location are kept.
 */
char		*fields_end_to_end_response(const char *fields);
/*
 * Of a client's request, what goes upstream.  Left out as well: Host, Range,
 * If-*, Accept-Encoding, Content-Length, Expect, Via, Max-Forwards.
 */
char		*fields_end_to_end_request(const char *fields);

#endif
