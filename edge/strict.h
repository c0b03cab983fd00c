/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_STRICT_H
#define	EDGE_STRICT_H

#include <stdbool.h>

#include <curl/curl.h>

#include "edge/reply.h"

/*
 * Inside of the upstreams, for upstream*.c alone: what libcurl lets pass of answers
 * that are framed wrongly, and what it leaves unread on a connection that it keeps.
 * In the thread that runs the request.
 */
#define	STRICT_KEPT	1024		/* connections that are told apart */
#define	STRICT_PEER	64		/* an address as text, zone and all */
#define	STRICT_MADE	16u		/* sockets that a request may need */

struct strict;
/* The kept connections of a multi handle.  Zero-initialise. */
struct strict_kept {
	struct strict_slot {
		int		 port;		/* ours; 0: none */
		/* Connections to different peers may have the same one. */
		int		 peer_port;
		char		 peer[STRICT_PEER];
		curl_socket_t	 fd;
	} slot[STRICT_KEPT];
};

/* Of a request; stays where it is until the handle's end. */
struct strict {
	CURL		*curl;
	struct reply	*reply;
	struct strict_kept *kept;
	curl_socket_t	 fd;			/* of the request; BAD: TLS, not known */
	curl_socket_t	 made[STRICT_MADE];	/* the last ones */
	unsigned	 nmade;
	bool		 stale;
};

/*
 * Before the request.  What is found is said in r->fault: no more bytes of that body
 * are to be taken, and it is to be looked at once more when the request has ended.
 * Who sets a header callback of his own afterwards calls strict_line() in it.  kept:
 * NULL for a handle whose connections end with their requests.  alone: no connection is shared with other
 * requests, as is due over TLS to bytes that no digest verifies; see strict.c.
 */
void	strict_begin(struct strict *s, CURL *c, struct reply *r,
	    struct strict_kept *kept, bool alone);
/* reply_line() of r, and at the end of an answer without a body the look past it. */
enum reply_line strict_line(struct strict *s, const char *line, size_t len);
/*
 * Behind the end.  True: nothing was asked, since the kept connection that was to be
 * used had ended or had bytes in it; to be asked anew, with CURLOPT_FRESH_CONNECT.
 */
bool	strict_was_stale(struct strict *s);
/* Why a request failed, to be escaped; error: of CURLOPT_ERRORBUFFER. */
const char *strict_reason(CURLcode rc, const char *error);

#endif
