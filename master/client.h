/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_CLIENT_H
#define	MASTER_CLIENT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/digest.h"

/*
 * Requests to the publish listener, the origin and edges.  The only file of
 * pkgcast that names libcurl.  One thread.
 */
struct client;

enum client_method { CLIENT_GET, CLIENT_POST, CLIENT_PUT };

struct client_request {			/* all borrowed until it is done */
	enum client_method method;
	const char	*url;
	const char	*token;		/* Authorization: Bearer; NULL: none */
	const void	*body;		/* of POST and PUT, size bytes, or */
	int		 fd;		/* where it is read from; -1: body */
	uint64_t	 size;
	/* An answer's body: at most max bytes (more is an error), kept, or
	 * given to sink(), which cuts the request by returning -1. */
	uint64_t	 max;
	int		(*sink)(void *arg, const void *p, size_t len);
	void		*arg;
};

struct client_answer {
	unsigned	 status;	/* 0: no whole answer came: error */
	bool		 again;		/* may go well if tried again */
	bool		 refused;	/* sink() or max cut it */
	char		*body;		/* NUL-terminated; NULL: none */
	size_t		 len;
	char		 etag[DIGEST_HEX + 1];	/* a digest, or "" */
	char		 error[512];	/* says URL and reason */
};

/* stop (may be NULL) ends requests at work.  NULL: out of memory. */
struct client	*client_new(const volatile sig_atomic_t *stop);
void		 client_destroy(struct client **c);
/* Ends requests in which nothing came for so many seconds (120 else). */
void		 client_set_silence(struct client *c, unsigned s);

/* One request.  Always fills a; client_answer_free() it. */
void		 client_do(struct client *c, const struct client_request *q,
		    struct client_answer *a);
void		 client_answer_free(struct client_answer *a);

/*
 * Many, at most `parallel` (CLIENT_PARALLEL_MAX) at a time.  next() fills in the
 * next request and its cookie, false when there is none; done() may return -1
 * to end all, and borrows a; requests that are cut then come to it too, with
 * status 0.  tick() (may be NULL) is called several times a second.  -1: stopped
 * or ended.
 */
#define	CLIENT_PARALLEL_MAX	32
struct client_batch {
	unsigned	 parallel;
	bool		(*next)(void *arg, struct client_request *q,
			    void **cookie);
	int		(*done)(void *arg, void *cookie,
			    struct client_answer *a);
	void		(*tick)(void *arg);
	void		*arg;
};
int		 client_run(struct client *c, const struct client_batch *b);
/* Bytes of bodies sent and received so far, over all requests. */
uint64_t	 client_moved(const struct client *c);

/* Adds a path to a URL, with everything escaped that must be. */
int		 client_add_path(struct buf *b, const char *path);
#define	CLIENT_URL_MAX	8192

#endif
