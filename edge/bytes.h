/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_BYTES_H
#define	EDGE_BYTES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "edge/blob.h"
#include "edge/cold.h"
#include "edge/fill.h"
#include "edge/memory.h"
#include "proto/serve.h"

/*
 * Bytes of blobs for answers: from memory, from the disk, or from a fill.  HTTP
 * threads call it, and nothing here waits: a request that must is called again.
 */
struct bytes_source {			/* all members: bytes_source_init() */
	struct blob_store	*store;
	struct fills		*fills;
	struct cold_pool	*cold;
	unsigned		 large_max;	/* by sendfile(2) */
	atomic_uint		 large;		/* bodies being sent */
	/* Answers with a body that the store had; fills that requests began or
	 * joined. */
	_Atomic uint64_t	 hits, misses;
};
/* All are borrowed. */
void	 bytes_source_init(struct bytes_source *s, struct blob_store *store,
	    struct fills *fills, struct cold_pool *cold);
/* For an answer that was had without bytes_get(). */
void	 bytes_hit(struct bytes_source *s);

/* Of one request between its calls; begins with all zero. */
struct bytes {
	struct bytes_source	*source;	/* NULL: not used yet */
	struct fill_reader	*reader;	/* NULL: no fill */
	struct cold		*cold;		/* NULL: no wait for the disk */
	struct memory		*large;		/* being sent, or NULL */
	struct digest		 digest;	/* what they read: */
	uint64_t		 offset, length;
	bool			 again;		/* looked after a failed fill */
};
/* When the request ends; it must not be called again after that. */
void	 bytes_release(struct bytes *b);

/* Who asks: where a request's bytes are kept, once there is something to keep. */
struct bytes_user {
	struct bytes_source	*source;
	/* Makes them if need be, for bytes_release() at the request's end.  NULL:
	 * out of memory. */
	struct bytes		*(*place)(void *arg, struct httpd_request *r);
	void			*arg;
};

/*
 * The body of a's slice (a->length > 0) of the blob that w names, see struct
 * serve.  b: what place() made in an earlier call for this request, or NULL.  A
 * fill is begun or joined where the store does not have it, but not for a request
 * that says only-if-cached.  w->local: the store alone is asked; SERVE_NOT_HERE
 * is then also what it had and was found bad.
 */
enum serve_got bytes_get(const struct bytes_user *u, struct bytes *b,
	    struct httpd_request *r, const struct fill_want *w,
	    const struct answer *a, struct serve_body *out);

/* RFC 9111, 5.2.1.7: no upstream is to be asked. */
bool	 bytes_only_if_cached(const struct httpd_request *r);

#endif
