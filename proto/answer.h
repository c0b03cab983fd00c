/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_ANSWER_H
#define	PROTO_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/date.h"

/*
 * What an HTTP answer must be, given the request's header fields and a file's
 * facts (RFC 9110, 13 and 14).  Pure: no library type, no I/O.
 */
enum http_method {
	HTTP_GET, HTTP_HEAD, HTTP_OPTIONS, HTTP_POST, HTTP_PUT, HTTP_OTHER
};

/* Header fields of a request that matter; NULL when absent.  Borrowed. */
struct http_fields {
	const char	*range, *if_range;
	const char	*if_match, *if_none_match;
	const char	*if_modified_since, *if_unmodified_since;
	const char	*cache_control, *authorization;
	const char	*accept_encoding, *available_dictionary;
	const char	*host, *user_agent, *referer;
};

struct answer_file {
	uint64_t	 size;
	int64_t		 time;			/* Last-Modified; -1: none */
	const char	*etag;			/* opaque part, without quotes; NULL: none */
	/* Not strong (RFC 9110, 8.8.1): no parts of it by If-Range, and with the
	 * tag no If-Match. */
	bool		 weak_etag, weak_time;
	const char	*type;			/* Content-Type; NULL: none */
	/* Content-Encoding of these bytes: no ranges of them.  NULL: none. */
	const char	*coding;
	const char	*vary;			/* NULL: by nothing */
	bool		 immutable;		/* else no-cache */
	bool		 no_store;		/* status and the like */
	/* Cache-Control instead of what those two say; "": none.  NULL: theirs. */
	const char	*cache_control;
};

#define	ANSWER_HEADERS	12
#define	ANSWER_VALUE	384

struct answer {
	unsigned	 status;
	/* The slice of the file that is the body; length 0 without one. For
	 * HEAD and 304 they tell what GET or 200 would have sent; send_body
	 * says whether it is sent. */
	uint64_t	 offset, length;
	bool		 send_body;
	size_t		 nheader;
	struct {
		const char	*name;		/* static */
		char		 value[ANSWER_VALUE];
	} header[ANSWER_HEADERS];	/* all but Content-Length, Date, Connection */
	/* More of them, "Name: value\n" each, sent behind those; see
	 * httpd_reply().  NULL: none, as the functions below leave it.  Borrowed
	 * until then. */
	const char	*fields;
};

/* Answers GET or HEAD for a file: 200, 206, 304, 412 or 416 with the headers
 * that belong to it (ETag, Last-Modified, Accept-Ranges, Content-Range, ...). */
void	answer_file(struct answer *a, enum http_method method,
	    const struct http_fields *q, const struct answer_file *f);
/* Its two halves: status, slice and send_body; then the headers. */
void	answer_judge(struct answer *a, enum http_method method,
	    const struct http_fields *q, const struct answer_file *f);
void	answer_headers(struct answer *a, const struct answer_file *f);
/* An error or another answer without a body: 204, 400, 404, 405 (with Allow),
 * 410, 503 and so on.  retry_after in seconds, 0: none. */
void	answer_status(struct answer *a, unsigned status, unsigned retry_after);
/* Adds a header; a value too long for its place is left out, whole. */
void	answer_header(struct answer *a, const char *name, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));

#endif
