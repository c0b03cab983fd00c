/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_PENDING_H
#define	MASTER_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "master/publish.h"
#include "master/store.h"
#include "proto/buf.h"

/*
 * The life of pending publishes, for publish.c: from a head that was posted
 * over its manifest and blobs to prepare, commit and acknowledgement.  Any
 * thread.
 */
struct pendings;			/* those of all sets */
struct pending;				/* one, reference-counted */

#define	PENDING_TOKEN	32		/* hex digits */
#define	PENDING_WAIT_MAX_S 3600		/* prepare-wait */
#define	PENDING_WAIT_S	10

/* What a step answers: an HTTP status, and for refusals the reason. */
struct pending_answer {
	unsigned	 status;
	struct parse_error err;
	char		 token[PENDING_TOKEN + 1];
	bool		 has_current;
	struct digest	 current;	/* of the current head, with 409 */
};

struct pendings	*pendings_new(const struct publish_conf *c,
		    struct parse_error *err);
void		 pendings_destroy(struct pendings **a);

/* A head that was posted for the set: 200, 201, 403, 409, 422, 503. */
void		 pending_post(struct pendings *a, const char *set,
		    const char *text, size_t len, unsigned prepare_wait_s,
		    struct pending_answer *out);
/* The set's, with a reference, or NULL. */
struct pending	*pending_find(struct pendings *a, const char *set);
void		 pending_release(struct pending **p);
/* Whether an Authorization field holds its token. */
bool		 pending_authorised(const struct pending *p,
		    const char *authorization);

/* Digests that are missing, one a line. */
int		 pending_missing(struct pending *p, struct buf *b);
/* A blob is about to come in, length bytes.  Status 0: *in takes it. */
void		 pending_put_begin(struct pending *p, const struct digest *d,
		    uint64_t length, struct intake **in,
		    struct pending_answer *out);
void		 pending_put_end(struct pending *p, const struct digest *d,
		    struct intake **in, struct pending_answer *out);

/* A new json_t object that says how far the set is; NULL: nothing known of it,
 * or out of memory. */
void		*pending_json(struct pendings *a, const char *set);
int		 pendings_list(struct pendings *a, void *json_array);
bool		 pendings_prepared(struct pendings *a, const struct digest *d,
		    struct site_prepared *out);
void		 pendings_tick(struct pendings *a);

#endif
