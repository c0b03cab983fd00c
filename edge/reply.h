/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_REPLY_H
#define	EDGE_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/upstream.h"

/*
 * What an upstream's answer says in its head, line by line, whether it is framed as
 * RFC 9112 asks, and whether a body that comes with it is what was asked for.
 * Pure.  Zero-initialise.
 */
struct reply {
	unsigned	status;		/* 0: there was no head yet */
	bool		has_length, has_range, bad_range;
	bool		chunked;
	bool		coded;		/* by a coding that is none of: */
	enum coding	coding;
	unsigned long long length, first, last, total;
	/* What is wrong with the framing: nothing of the answer may be used, nor its
	 * connection again.  NULL: nothing was seen yet. */
	const char	*fault;
	/* Inside of reply.c: */
	bool		open;		/* in a head */
	bool		old;		/* HTTP/1.0 */
	unsigned	at;		/* where in a chunked body */
	size_t		seen;		/* bytes of heads; of a chunk's line */
	unsigned long long rest;	/* bytes of the body, of a chunk */
};
#define	REPLY_HEAD_MAX	65536u		/* bytes: all heads; all trailers */
#define	REPLY_PAST_END	"bytes past the end of the answer"

/*
 * One line, line end included.  A status line begins anew (redirects, 1xx).  END:
 * the head is complete, or has a fault.  Trailers are left to reply_body().
 */
enum reply_line { REPLY_STATUS, REPLY_FIELD, REPLY_END };
enum reply_line	reply_line(struct reply *r, const char *line, size_t len);
/* Bytes behind the head as they came, chunks and all, in any pieces; all of them:
 * those past the end are a fault. */
void		reply_body(struct reply *r, const void *data, size_t len);
/* Whether that was the whole answer, as far as its framing tells where it ends: a
 * byte behind it would be past the end. */
bool		reply_is_over(const struct reply *r);

enum reply_verdict {
	REPLY_BODY,			/* a body to take */
	REPLY_ELSE,			/* another status: no content of ours */
	REPLY_BROKEN,			/* not what was asked for */
	REPLY_OTHER			/* other content: its length says so */
};
/*
 * Both are for heads without a fault.
 *
 * For a request that offers codings: whether the body is coded by one of them, dcz
 * included if `dcz`, and has at most max bytes as far as is told.  BROKEN: it has
 * more.  ELSE: not coded so; reply_judge() knows.
 */
enum reply_verdict reply_judge_coded(const struct reply *r, bool dcz,
		    uint64_t max, char reason[UPSTREAM_REASON]);
/*
 * For a request of bytes from to to - 1 of size, with a Range field if
 * `ranged`.  *skip: bytes of the body that come before `from`.  reason: for
 * BROKEN and OTHER.
 */
enum reply_verdict reply_judge(const struct reply *r, uint64_t size,
		    uint64_t from, uint64_t to, bool ranged, uint64_t *skip,
		    char reason[UPSTREAM_REASON]);

#endif
