/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_FIELDS_H
#define	EDGE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"

/*
 * Header fields as text ("fields"): lines "Name: value\n", NUL-terminated, in
 * the order of their arrival.  Pure.  Lines that are no field (without a colon,
 * with a name that is no token) are passed over and never handed on; control
 * bytes in values are refused by whoever reads them from a socket.
 */
#define	FIELDS_MAX	32768		/* bytes of what is made here */
#define	FIELDS_N	256		/* fields that it is made of */
#define	FIELDS_OPTIONS	1024		/* bytes of Connection, NUL included */

/* Length of the token (RFC 9110, 5.6.2) at s. */
size_t		 fields_token(const char *s);
struct field {
	const char	*name, *value;	/* into the text, not terminated */
	size_t		 nlen, vlen;	/* without blanks around the value */
};
/* The next field of *fields, which moves on.  False: no more. */
bool		 fields_next(const char **fields, struct field *f);
bool		 field_is(const struct field *f, const char *name);
/* The next member of a comma-separated list of tokens, without blanks around
 * it, and no empty one; *list moves on, at most to end.  False: no more. */
bool		 fields_member(const char **list, const char *end,
		    const char **member, size_t *len);
/* Of a field that has one value: 1, 0: absent, -1: several that differ. */
int		 fields_single(const char *fields, const char *name,
		    struct field *f);
/* Of one whose value is a date, seconds since 1970; -1 also: it is none. */
int		 fields_date(const char *fields, const char *name, int64_t *t);
/* All values of a field, joined by ", " (RFC 9110, 5.3).  NULL: absent, or
 * longer than fits. */
const char	*fields_get(const char *fields, const char *name, char *out,
		    size_t size);

/* Adds a field's line. */
void		 fields_add(struct buf *b, const struct field *f);
/* What was added, malloc'd; "" if nothing, NULL where something did not fit. */
char		*fields_done(struct buf *b);
/* All but those of that name, malloc'd; NULL: no memory, or too long. */
char		*fields_without(const char *fields, const char *name);

/*
 * Made of others, malloc'd.  NULL: no memory, or more than a limit above.
 *
 * Of a response as received, what is stored and may be forwarded: all but the
 * hop-by-hop ones, those that Connection names (RFC 9110, 7.6.1; but not what a
 * cache or a reader must know, which it must not name), and those of proxies
 * (RFC 9111, 3.1).  Where there is no Date, or a bad one, it gets one: the time
 * of receipt, in seconds (RFC 9110, 6.6.1).
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
 * If-*, Accept-Encoding, Content-Length, Expect, Via, Max-Forwards, and what claims
 * to have been asked for under another address (Forwarded, X-Forwarded-* and such).
 */
char		*fields_end_to_end_request(const char *fields);

#endif
