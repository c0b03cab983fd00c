/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_REPLY_H
#define	EDGE_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/upstream.h"

/*
 * What the head of an upstream's answer says, line by line, and whether a body
 * that comes with it is what was asked for.  Pure.
 */
struct reply {
	unsigned	status;		/* 0: not a number */
	bool		has_length, has_range, malformed, chunked;
	bool		coded;		/* by a coding that is none of: */
	enum coding	coding;
	unsigned long long length, first, last, total;
};

enum reply_line { REPLY_STATUS, REPLY_FIELD, REPLY_END };
/* One line, line end included; a status line begins anew (redirects, 1xx). */
enum reply_line	reply_line(struct reply *r, const char *line, size_t len);

enum reply_verdict {
	REPLY_BODY,			/* a body to take */
	REPLY_ELSE,			/* another status: no content of ours */
	REPLY_BROKEN,			/* not what was asked for, or no HTTP */
	REPLY_OTHER			/* other content: its length says so */
};
/*
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
