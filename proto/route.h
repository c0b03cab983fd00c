/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_ROUTE_H
#define	PROTO_ROUTE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/digest.h"
#include "proto/name.h"

/*
 * A request target, decoded once and understood (pkgcast-protocol(7), address
 * space).  Pure.
 */
enum route_kind {
	ROUTE_BAD,		/* 400: see reason */
	ROUTE_PATH,		/* /<set>/<path>, also /<set>/@N/<path>: the
				 * set is matched later, so path holds both */
	ROUTE_HEADS,		/* /.pkgcast/heads */
	ROUTE_HEAD,		/* /.pkgcast/head/<digest> */
	ROUTE_TRUST,
	ROUTE_BLOB,		/* /.pkgcast/blob/<digest> */
	ROUTE_STATUS,
	ROUTE_METRICS,
	ROUTE_MIRRORS,		/* path: the set */
	ROUTE_NONE		/* 404: below /.pkgcast/, but nothing there */
};

#define	ROUTE_MAX	(SET_NAME_MAX + 1 + 24 + PATH_BYTES_MAX)

struct route {
	enum route_kind	 kind;
	const char	*reason;		/* of ROUTE_BAD; static */
	struct digest	 digest;
	char		 path[ROUTE_MAX + 1];	/* decoded, folded, no leading '/' */
};

/*
 * target is a raw request-target in origin-form or absolute-form (RFC 9112,
 * 3.2), or "*".  A query is cut off.  %2F, %00, bad escapes, control bytes and
 * ".." segments are ROUTE_BAD; repeated slashes and "." segments are folded;
 * '+' is itself.  A trailing slash is kept (it names no file).
 */
void	route_parse(const char *target, size_t len, struct route *r);

/*
 * For the part of a path below its set: "@N/<path>" gives N and moves *path
 * beyond it; 0 and unchanged when it is no such address; UINT64_MAX when it
 * begins with '@' but is none.
 */
uint64_t route_generation(const char **path);

#endif
