/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_SERVE_H
#define	PROTO_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/coder.h"
#include "proto/httpd.h"
#include "proto/site.h"

/*
 * The address space that master and edge share (pkgcast-protocol(7)): from a
 * request to the file, document or error that answers it.  How a verified
 * file's bytes are had is the daemon's: the `file` callback.
 */
enum serve_lease { SERVE_FRESH, SERVE_STALE, SERVE_REFUSE };

struct serve_file {			/* good during the callback only */
	const struct digest	*digest;
	uint64_t		 size;
	const uint8_t		*rows;		/* NULL: verify the whole by digest */
	const char		*set;		/* whose file; "" for none */
	const char		*path;		/* in the set; NULL: asked by digest */
	uint64_t		 generation;
	int64_t			 time;		/* Last-Modified, with a path */
	/* Of the snapshot whose fresh answer this is, see `made`; or 0. */
	uint64_t		 serial;
};

/*
 * What `file` found.  It either fills this in, or has called httpd_wait()
 * itself (SERVE_WAITING) and is asked again after the wake.
 */
enum serve_got {
	SERVE_BODY,		/* body is set */
	SERVE_WAITING,
	SERVE_UNAVAILABLE,	/* 503, Retry-After */
	SERVE_NOT_HERE		/* 504 (only-if-cached) */
};
struct serve_body {
	struct httpd_body	*body;
	bool			 hit;		/* else a fill: fwd=miss */
	bool			 collapsed;	/* shares another's fill */
};

struct serve {
	struct site	*site;
	int64_t		 grace;		/* seconds */
	void		*arg;
	/*
	 * Bytes of a verified file, from a's offset on for a's length (0 to
	 * size).  Not called where no body is sent.
	 */
	enum serve_got	(*file)(void *arg, struct httpd_request *r,
			    const struct serve_file *f, const struct answer *a,
			    struct serve_body *out);
	/*
	 * Answers that are made once: whole, fresh ones (200, 304) of a path in
	 * the current generation.  They depend on the file's digest, time and
	 * serial alone.  made: one that was kept for such an a, judged but
	 * without headers; with a reference for the caller, or NULL.  keep: a
	 * is one that could be.  Both may be NULL.
	 */
	struct httpd_prepared *(*made)(void *arg, const struct serve_file *f,
			    const struct answer *a);
	void		 (*keep)(void *arg, struct httpd_request *r,
			    const struct serve_file *f, const struct answer *a);
	/* A path that is no published set's: true when it was answered, or waits.
	 * May be NULL. */
	bool		 (*elsewhere)(void *arg, struct httpd_request *r,
			    const char *path);
	/* Whether answers of that set (NULL: of no set) are up to date, now. */
	enum serve_lease (*lease)(void *arg, const struct site_set *set);
	/* A path or set that is not known: true when httpd_wait() was called
	 * and it is worth looking again.  May be NULL. */
	bool		(*unknown)(void *arg, struct httpd_request *r,
			    const char *path);
	/* The same of a blob that nothing here names; asked each time that it
	 * still is not.  May be NULL. */
	bool		 (*unknown_blob)(void *arg, struct httpd_request *r,
			    const struct digest *d);
	/* Documents: malloc'd, caller frees; NULL: 503. */
	char		*(*trust)(void *arg, size_t *len);
	char		*(*status)(void *arg, size_t *len);
	/* A blob that only a prepared generation names.  May be NULL. */
	bool		(*prepared)(void *arg, const struct digest *d,
			    struct site_prepared *p);
	/* Codes manifests and chunk tables; NULL: they are sent as they are. */
	struct coder	*coder;
	/* A manifest or chunk table that will be here in a moment: true when
	 * httpd_wait() was called.  May be NULL. */
	bool		(*coming)(void *arg, struct httpd_request *r,
			    const struct digest *d);
};

/* Handler for httpd_conf.handler; arg is a struct serve. */
void	serve_request(void *serve, struct httpd_request *r);

#endif
