/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_CODER_H
#define	PROTO_CODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/coding.h"
#include "proto/site.h"

/*
 * Manifests and chunk tables as coded bodies, each made once, by a thread of its
 * own, however many requests want it, and kept for those that follow.
 *
 * Memory: at most CODER_BYTES are kept, none larger than that is made, and none
 * longer than CODER_IDLE_MS after its last use or than its generation; bodies
 * that are being sent live as long as that takes.  While one is made: the document
 * and its dictionary, CODER_BYTES, and ZCODE_MEMORY.
 */
#define	CODER_BYTES	(32u << 20)
#define	CODER_ENTRIES	64u		/* kept, those included that are no use */
#define	CODER_QUEUE	8u		/* to be made; more are sent as they are */
#define	CODER_IDLE_MS	600000

struct coder;
struct coder_wait;			/* one request's */
struct httpd_body;

struct coder_conf {
	struct site	*site;
	/* A whole document, verified: malloc'd; NULL: it cannot be had now.  In
	 * the coder's thread. */
	char		*(*read)(void *arg, const struct digest *d,
			    uint64_t size);
	/* As that of struct serve. */
	bool		(*prepared)(void *arg, const struct digest *d,
			    struct site_prepared *p);
	void		*arg;
};

/* Starts a thread.  NULL: errno. */
struct coder	*coder_new(const struct coder_conf *c);
/* Every wait must be destroyed. */
void		 coder_destroy(struct coder **c);

struct coder_want {			/* copied */
	struct digest	 digest;
	uint64_t	 size;
	bool		 has_dictionary;	/* dcz, else zstd */
	struct digest	 dictionary;
	uint64_t	 dictionary_size;
};
/*
 * Asks for a coded body.  wake(arg) is called once, by the coder's thread, if the
 * state was CODER_WAIT and has changed, and never after coder_wait_destroy().
 * NULL: it is not to be had now (much to do, no memory).  Blocks only shortly.
 */
struct coder_wait *coder_ask(struct coder *c, const struct coder_want *w,
		    void (*wake)(void *arg), void *arg);
void		 coder_wait_destroy(struct coder_wait **w);

enum coder_state {
	CODER_WAIT,
	CODER_PLAIN,		/* not worth it, or not possible */
	CODER_CODED
};
enum coder_state coder_state(struct coder_wait *w);
/* Of what is coded: */
enum coding	 coder_coding(const struct coder_wait *w);
size_t		 coder_length(const struct coder_wait *w);
/* The opaque part of its entity tag, which tells of the coding, and of the
 * dictionary, since the bytes depend on it. */
#define	CODER_ETAG	(2 * DIGEST_HEX + 8)
char		*coder_etag(const struct coder_wait *w, char out[CODER_ETAG]);
/* Its bytes, which outlast the wait.  NULL: out of memory. */
struct httpd_body *coder_body(struct coder_wait *w);

struct coder_stats {
	uint64_t	made;		/* bodies, since the start */
	uint64_t	answers;	/* given with them */
	uint64_t	kept, bytes;	/* now */
};
void		 coder_stats(struct coder *c, struct coder_stats *s);

#endif
