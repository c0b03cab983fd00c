/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_HTTPD_REQUEST_H
#define	PROTO_HTTPD_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/conn.h"
#include "proto/httpd.h"

/*
 * A request and a body, as httpd.c and httpd_request.c share them; nobody else
 * includes this.  Nothing of the HTTP library is in it: what belongs to it
 * stands here as void *.
 */
#define	REQUEST_MAGIC	0x72657175u
#define	BODY_MAGIC	0x626f6479u

enum body_kind { BODY_MEM, BODY_FD, BODY_STREAM };

struct httpd_body {
	unsigned		 magic;
	enum body_kind		 kind;
	const void		*p;
	size_t			 len;
	int			 fd;
	ssize_t			(*read)(void *, uint64_t, void *, size_t);
	void			(*release)(void *);
	void			*arg;
	uint64_t		 offset;	/* of the slice, once replied */
	struct httpd_request	*request;
};

enum action { ACTION_NONE, ACTION_REPLY, ACTION_WAIT, ACTION_ACCEPT };

struct httpd_request {
	unsigned		 magic;
	struct conn		 conn;
	struct httpd		*httpd;
	void			*mhd;		/* the library's connection */
	/* From here on of one request; see httpd_request_reset(). */
	bool			 active;	/* its target was read */
	bool			 begun, accepted, early;
	enum http_method	 method;
	unsigned		 version;	/* 10, 11 */
	char			 verb[16];	/* for the access log */
	struct http_fields	 fields;	/* in text */
	uint32_t		 joined;	/* those that came twice */
	char			*target;	/* in text, at its start */
	size_t			 target_len;
	char			*text;
	size_t			 text_size, text_len;
	uint64_t		 length, received;
	enum action		 action;
	void			*response;	/* the library's; or else: */
	struct httpd_prepared	*prepared;	/* held until all is sent */
	unsigned		 status;
	uint64_t		 body_length, handed;
	bool			 streams;
	unsigned		 note;
	void			*state;
	void			(*state_release)(void *);
	void			*shared;
	void			(*shared_release)(void *);
};

/* Ends a request's share of its connection's object. */
void	httpd_request_reset(struct httpd_request *r);
/* Room for len bytes of text; text may move.  -1: out of memory. */
int	httpd_request_room(struct httpd_request *r, size_t len);
/*
 * Keeps a header field if handlers ask for it, in text, which has the room.
 * True: it came before, and the caller offers all fields again to
 * httpd_request_join(), which makes one list of those of that name (RFC 9110,
 * 5.3), once.
 */
bool	httpd_request_keep(struct httpd_request *r, const char *name,
	    const char *value);
struct httpd_join {
	struct httpd_request	*r;
	const char		*name;
	bool			 more;
};
void	httpd_request_join(struct httpd_join *j, const char *name,
	    const char *value);
void	httpd_request_log(struct httpd_request *r, struct accesslog *log,
	    bool complete);
/*
 * Checks a request's head and keeps its fields; url, method and version as the
 * library gave them, where they lie in its memory.  0, or the status to refuse
 * with; -1: out of memory.
 */
int	httpd_head_read(struct httpd_request *r, const char *url,
	    const char *method, const char *version, bool uploads);
/* Value of the Via field of every answer, or NULL. */
const char *httpd_via(const struct httpd *h);
/* Gives the reply to the library.  Its MHD_YES or MHD_NO. */
int	httpd_answer(struct httpd_request *r);

#endif
