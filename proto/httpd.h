/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_HTTPD_H
#define	PROTO_HTTPD_H

#include <sys/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/answer.h"
#include "proto/limits.h"

/*
 * The HTTP server of both daemons, on libmicrohttpd, which nothing else names.
 * Bad framing is refused here (RFC 9112; pkgcast-protocol(7)).
 */
struct httpd;
struct httpd_request;
struct httpd_body;
struct httpd_prepared;

/* Bodies: one use each; httpd_reply() takes them over. */

/* len bytes at p; release(arg) is called once when they are no longer read. */
struct httpd_body *httpd_body_mem(const void *p, size_t len,
		    void (*release)(void *arg), void *arg);
struct httpd_body *httpd_body_copy(const void *p, size_t len);
/* A regular file that does not change any more; takes *fd over.  The answer's
 * offset and length select the slice. */
struct httpd_body *httpd_body_fd(int *fd);
/*
 * Bytes that come from `read`: offsets are the file's (answer.offset onwards,
 * in order).  read returns how many bytes (> 0) it put into p, or
 * HTTPD_WAIT: nothing yet; it, or another thread, calls httpd_wake() when there
 * is more (a wake before the return is not lost), or
 * HTTPD_FAIL: the connection is cut (G4).
 * `release` is called once, when the body is no longer needed; after it no
 * httpd_wake() for this request may come.
 */
#define	HTTPD_WAIT	((ssize_t)-1)
#define	HTTPD_FAIL	((ssize_t)-2)
struct httpd_body *httpd_body_stream(
		    ssize_t (*read)(void *arg, uint64_t off, void *p,
			size_t max),
		    void (*release)(void *arg), void *arg);
void		 httpd_body_destroy(struct httpd_body **b);

/* A request, as its handler sees it. */
enum http_method	 httpd_method(const struct httpd_request *r);
/* Raw request-target as sent, NUL-terminated. */
const char		*httpd_target(const struct httpd_request *r);
const struct http_fields *httpd_fields(const struct httpd_request *r);
/*
 * All fields of the request, each line in its turn, for handlers that pass them on.
 * Blanks behind a value are not of it (RFC 9110, 5.5), but may be there.  Only in
 * a call of the handler.
 */
void	 httpd_each_field(const struct httpd_request *r, void (*each)(void *arg,
	    const char *name, const char *value), void *arg);
/* The handler's own state between its calls for one request; release is
 * called when the request ends, however it ends. */
void	 httpd_set_state(struct httpd_request *r, void *state,
	    void (*release)(void *state));
void	*httpd_state(const struct httpd_request *r);
/* The same for the shared handler (serve.c), beside the daemon's; and a word for
 * it, 0 in a request's first call. */
void	 httpd_set_shared(struct httpd_request *r, void *shared,
	    void (*release)(void *shared));
void	*httpd_shared(const struct httpd_request *r);
unsigned *httpd_note(struct httpd_request *r);

/*
 * Each call of the handler does exactly one of these:
 * - httpd_reply(): the answer; *body (may be NULL where there is none) is
 *   taken over, also when it is not sent (HEAD, 304).  In a->fields, lines
 *   without a value are left out, a Date is sent instead of the time of the answer,
 *   and a Via is followed by our own in one list (RFC 9110, 7.6.3).  Nothing of
 *   framing may be there.  A connection's memory must hold all headers;
 * - httpd_wait(): the handler is called again after httpd_wake() (or at times
 *   without one, so it must look again);
 * - httpd_accept_body() in the first call for a request with a body, on a
 *   server that takes uploads: then on_body() is called for each piece, and the
 *   handler again at the end.
 */
void	 httpd_reply(struct httpd_request *r, const struct answer *a,
	    struct httpd_body **body);
/*
 * An answer that is made once and sent many times, to GET and HEAD, on any
 * connection of the server that r came to.  p: the whole file's bytes, NULL
 * where none are sent; a->offset and a->length choose the slice.  It has one
 * reference; release(arg), which may be NULL, is called with the last.  NULL:
 * out of memory, nothing is released.
 */
struct httpd_prepared *httpd_prepare(const struct httpd_request *r,
		    const struct answer *a, const void *p,
		    void (*release)(void *arg), void *arg);
struct httpd_prepared *httpd_prepared_ref(struct httpd_prepared *p);
void	 httpd_prepared_unref(struct httpd_prepared **p);
/* Whether there are references besides the caller's; the past, unless the
 * caller keeps others from taking one. */
bool	 httpd_prepared_shared(const struct httpd_prepared *p);
/* Instead of httpd_reply(); takes the reference over. */
void	 httpd_reply_prepared(struct httpd_request *r,
	    struct httpd_prepared **p);
/* Shorthand for an answer without a body. */
void	 httpd_reply_status(struct httpd_request *r, unsigned status,
	    unsigned retry_after);
void	 httpd_wait(struct httpd_request *r);
/* Any thread, any time before the request's state or body is released. */
void	 httpd_wake(void *request);	/* as those who wake know it */
void	 httpd_accept_body(struct httpd_request *r);
/* True once the whole body was given to on_body(). */
bool	 httpd_body_done(const struct httpd_request *r);
/* Declared length of the request's body; 0 without one. */
uint64_t httpd_body_length(const struct httpd_request *r);

/* Limits and callbacks; zero-initialise, then httpd_conf_defaults(). */
struct httpd_conf {
	void		(*handler)(void *arg, struct httpd_request *r);
	/* NULL: requests with a body are refused.  Returning -1 cuts the
	 * connection. */
	int		(*on_body)(void *arg, struct httpd_request *r,
			    const void *p, size_t len);
	void		*arg;
	unsigned	 threads;		/* 0: one a core, at least 2 */
	unsigned	 connections, per_address;
	unsigned	 header_s, idle_s;	/* deadlines in seconds */
	uint64_t	 body_bytes;		/* slower than that in body_s */
	unsigned	 body_s;		/* is cut; 0 bytes: never */
	uint64_t	 requests;		/* of a connection; 0: any number */
	unsigned	 stop_s;		/* running answers get that long */
	size_t		 memory;		/* a connection */
	struct accesslog *log;			/* borrowed; NULL: none */
	const char	*server;		/* for Via: the pseudonym */
};
void	 httpd_conf_defaults(struct httpd_conf *c);

/*
 * Opens a listening TCP socket for "ADDRESS:PORT" ("[::]:80" is dual-stack,
 * "*:80" the same; port 0: any free one).  -1: errno.
 */
int	 httpd_listen(const char *address);
/* Port that a listening socket is bound to, or -1. */
int	 httpd_port(int fd);
/*
 * Serves on n listening sockets (taken over, set to -1).  NULL: errno.  Starts
 * threads.
 */
struct httpd	*httpd_start(const struct httpd_conf *c, int *fds, size_t n);
/* New connections are refused, running answers get stop_s seconds, then all
 * end.  Waiting requests see their handler or body no more. */
void		 httpd_stop(struct httpd **h);
/*
 * Takes over limits (limits_conf()), but for the memory of a connection, while
 * it runs; of the rest of c nothing is read.  For connections that are there,
 * too, none of which is closed for being too many now.
 */
void		 httpd_limit(struct httpd *h, const struct httpd_conf *c);

struct httpd_stats {
	uint64_t	requests, connections, refused, bytes;
	uint64_t	open;			/* connections now */
	uint64_t	limited[LIMIT_N];	/* what each limit has struck */
};
void	 httpd_stats(const struct httpd *h, struct httpd_stats *s);

#endif
