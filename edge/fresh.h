/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_FRESH_H
#define	EDGE_FRESH_H

#include <stdbool.h>
#include <stdint.h>

/*
 * RFC 9111 for a shared cache that answers GET and HEAD and guesses nothing
 * (heuristics off), and RFC 5861's stale-if-error.  Pure.  Header fields are
 * text as in fields.h.  Times are seconds: real ones since 1970.
 */
/* Seconds; more count as that (1.2.2). */
#define	FRESH_MAX	INT64_C(2147483648)
#define	FRESH_ETAG	256		/* bytes, NUL included */
#define	FRESH_VARY	64		/* names in Vary, of 127 bytes each */

/* What a response's head says.  -1: absent.  Made by fresh_parse(). */
struct fresh_response {
	unsigned	status;
	int64_t		date, last_modified;	/* -1 also: no date */
	int64_t		expires;		/* 0 also: no date, expired */
	int64_t		age;			/* -1 also: no number */
	int64_t		max_age, s_maxage, stale_if_error;
	bool		no_store, no_cache, private, public;
	bool		must_revalidate;	/* for a shared cache */
	bool		must_understand, immutable;
	bool		has_etag;		/* also one of no use */
	bool		etag_strong;
	char		etag[FRESH_ETAG];	/* with quotes and W/; or "" */
	bool		vary_any;		/* Vary: *, or no names */
};
/*
 * From all fields as received, or as stored.  Several Cache-Control fields are
 * one list; what is said twice or cannot be read counts as the strictest: no
 * number, or two that differ, is 0; arguments of no-cache and private are not
 * looked at (4.2.1, 5.2.2.4, 5.2.2.7).
 */
void	 fresh_parse(struct fresh_response *r, unsigned status,
	    const char *fields);

/* What a request says (5.2.1).  -1: absent; max_stale INT64_MAX: any. */
struct fresh_request {
	bool		no_store, no_cache, only_if_cached, authorization;
	int64_t		max_age, min_fresh, max_stale, stale_if_error;
};
/* Values of the fields, NULL: absent.  Pragma counts without the other (5.4).
 * What cannot be read counts as the strictest here, too. */
void	 fresh_request_parse(struct fresh_request *q, const char *cache_control,
	    const char *pragma, bool authorization);

/*
 * 3: whether the response may be stored.  Of the status codes that the RFC
 * allows we store 200, 301, 308, 404, 410, and 302 and 307 where a lifetime is
 * told; never what Vary: * or a request with Authorization came with (3.5 would
 * allow some).
 */
bool	 fresh_storable(const struct fresh_response *r,
	    const struct fresh_request *q);
/* 4.2.1, seconds; 0: none told.  Expires counts from Date: none without one. */
int64_t	 fresh_lifetime(const struct fresh_response *r);
/* 4.2.3, seconds, at `now`, of what was asked for and came at these times. */
int64_t	 fresh_age(const struct fresh_response *r, int64_t request_time,
	    int64_t response_time, int64_t now);

enum fresh_use {
	FRESH_SERVE,
	FRESH_SERVE_STALE,		/* stale, but max-stale allows it */
	FRESH_VERIFY			/* with only-if-cached: 504 */
};
/* 4: what to do with a stored response of that age. */
enum fresh_use fresh_use(const struct fresh_response *r,
	    const struct fresh_request *q, int64_t age);
/*
 * 4.2.4 and RFC 5861, 4: whether FRESH_VERIFY may end in the stored response
 * when no upstream answers, or with an error.  Not where the response or the
 * request says no-cache; not a stale one where it says must-revalidate,
 * proxy-revalidate or s-maxage, nor one that is more stale than stale-if-error
 * of either or max-stale allow.  A request's max-age and min-fresh only wish
 * (5.2.1).
 */
bool	 fresh_may_be_stale(const struct fresh_response *r,
	    const struct fresh_request *q, int64_t age);

/*
 * A validator for If-Range: a strong ETag, else Last-Modified where there is no
 * ETag at all and Date is at least 60 seconds later; else "" (RFC 9110, 8.8.2.2
 * and 13.1.5).
 */
const char *fresh_strong(const struct fresh_response *r, char out[FRESH_ETAG]);
/* Whether Last-Modified is a strong validator, be there an ETag or not. */
bool	 fresh_strong_date(const struct fresh_response *r);
/*
 * 4.3.4: whether a 304, asked for with the validators of what is stored, speaks
 * of it: it has the same ETag, else the same Last-Modified, or none of them
 * (then it can speak of nothing else, as one was asked for).  False: ask again
 * without conditions.
 */
bool	 fresh_confirms(const struct fresh_response *stored,
	    const struct fresh_response *new304);
/*
 * 3.2: fields_stored() of a 304 received then, put over stored ones.  Those of
 * the stored bytes stay (Content-Length, Content-Range, Content-Encoding); Age
 * goes where the 304 has none.  malloc'd; NULL as there.
 */
char	*fresh_update(const char *stored, const char *new304, int64_t received);

/*
 * 4.1: the request's values of the fields that Vary (NULL: absent) names, as
 * fields "name: value\n" with names in lower case, in its order; absent ones
 * are left out, and so is Accept-Encoding, which is never sent upstream.
 * malloc'd, "" when there are none.  NULL: `*`, no list of names, more than
 * FRESH_VARY of them, no memory, or longer than FIELDS_MAX.
 */
char	*fresh_vary_key(const char *vary, const char *request_fields);

#endif
