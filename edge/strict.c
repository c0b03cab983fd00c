/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Strictness that libcurl lacks.  Called by upstream*.c and by libcurl, in the thread
 * that runs the request.
 *
 * What versions 7.88 and 8.14 let pass of the answers in integration/badhttp.py, and
 * how it is found:
 *
 * - Most faults of a head: small letters, tabs, missing or control bytes in the
 *   status line, other versions and codes of four digits (not the same ones in both),
 *   bare LF and CR, control bytes, folded lines, blanks before a colon and names that
 *   are no tokens, any number of Content-Lengths of which one is taken, rubbish
 *   behind its digits (one that is too large counts as none), Content-Length beside
 *   Transfer-Encoding, several codings, one in HTTP/1.0, 101.  Of what is let through
 *   the lines come to the header callback as they were received: reply_line() refuses
 *   them there, and the callback's 0 ends the transfer and its connection.  NUL, no
 *   colon and HTTP/0.9 are refused by libcurl itself.
 * - Line ends, blanks and endless extensions in chunks, and trailers: bytes are seen
 *   before they are decoded, as CURLINFO_DATA_IN; reply_body() checks them.
 * - Bytes past the end that were read with the rest: cut off silently, and behind the
 *   last chunk (7.88: also behind an empty body) the connection is used again.
 *   reply_body() counts all that was read.  7.88 does not show what follows an empty
 *   body, but says "Excess found".
 * - Bytes past the end that are still in the socket: libcurl reads no further than
 *   Content-Length says, so that is the ordinary case in all but small answers.  They
 *   are looked for when the last byte of the answer was read: later the connection is
 *   another request's, or was closed, since libcurl sees them, too, when it looks for
 *   one to use.  The answer is refused then, its last bytes included, whatever vouches
 *   for them, and also where the connection was to end with it.
 * - Bytes that came later into a kept connection: 8.14 does not use it; 7.88 sends
 *   the next request and takes them for its answer.  So they are looked for just
 *   before a request is sent.
 *
 * Over TLS nobody can look: what is left of a record is inside of the library, and
 * every version takes it for the next answer.  Where all bytes are verified that is
 * one more fault of the upstream; where they are not, connections are not kept.
 */
#include <sys/param.h>
#include <sys/socket.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "edge/strict.h"
#include "proto/tcp.h"

/* Whether something can be read, the end included. */
static bool
has_input(curl_socket_t fd)
{
	char c;

	return (recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) != -1 ||
	    (errno != EAGAIN && errno != EWOULDBLOCK));
}

/* A fault, where the answer is complete and more is there. */
static void
look_past_end(struct strict *s)
{
	char c;

	if (s->fd != CURL_SOCKET_BAD && reply_is_over(s->reply) &&
	    recv(s->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
		s->reply->fault = REPLY_PAST_END;
}

enum reply_line
strict_line(struct strict *s, const char *line, size_t len)
{
	enum reply_line what = reply_line(s->reply, line, len);

	if (what == REPLY_END)
		look_past_end(s);
	return (what);
}

static size_t
on_head(char *line, size_t size, size_t n, void *arg)
{
	struct strict *s = arg;

	(void)strict_line(s, line, size * n);
	return (s->reply->fault == NULL ? size * n : 0);
}

static int
on_debug(CURL *c, curl_infotype type, char *p, size_t len, void *arg)
{
	static const char excess[] = "Excess found";
	struct strict *s = arg;
	struct reply *r = s->reply;

	if (type == CURLINFO_DATA_IN) {
		reply_body(r, p, len);
		look_past_end(s);
	} else if (type == CURLINFO_TEXT && r->fault == NULL &&
	    len >= sizeof(excess) - 1 &&
	    memcmp(p, excess, sizeof(excess) - 1) == 0)
		r->fault = REPLY_PAST_END;
	/* Without a body no callback comes that could end it. */
	if (r->fault != NULL)
		(void)curl_easy_setopt(c, CURLOPT_FORBID_REUSE, 1L);
	return (0);
}

static int
on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	struct strict *s = arg;

	if (purpose == CURLSOCKTYPE_IPCXN)
		s->made[s->nmade++ % STRICT_MADE] = fd;
	return (CURL_SOCKOPT_OK);
}

/* Of the sockets that were made for the request, the one that it got.  libcurl
 * tells only when the request has ended, and another may have it by then. */
static curl_socket_t
made_socket(struct strict *s, int local_port)
{
	curl_socket_t fd;
	unsigned i;

	for (i = MIN(s->nmade, STRICT_MADE); i-- > 0;) {
		fd = s->made[i];
		if (fd == CURL_SOCKET_BAD || tcp_port(fd) != local_port)
			continue;
		s->made[i] = CURL_SOCKET_BAD;	/* kept from now on */
		return (fd);
	}
	return (CURL_SOCKET_BAD);
}

/* Behind TLS there is nothing to see. */
static bool
is_plain(CURL *c)
{
	const char *scheme = NULL;

	return (curl_easy_getinfo(c, CURLINFO_SCHEME, &scheme) == CURLE_OK &&
	    scheme != NULL && strcasecmp(scheme, "http") == 0);
}

/* The connection is there, the request not sent. */
static int
on_request(void *arg, char *ip, char *local_ip, int port, int local_port)
{
	struct strict *s = arg;
	struct strict_slot *k = s->kept == NULL ? NULL :
	    &s->kept->slot[local_port % STRICT_KEPT];
	curl_socket_t fd = made_socket(s, local_port);

	(void)local_ip;
	if (k != NULL && fd != CURL_SOCKET_BAD) {
		*k = (struct strict_slot){ .port = local_port,
		    .peer_port = port, .fd = fd };
		(void)snprintf(k->peer, sizeof(k->peer), "%s", ip);
	} else if (k != NULL) {
		/* One that is not known any more is not used either. */
		if (k->port != local_port || k->peer_port != port ||
		    strcmp(k->peer, ip) != 0 ||
		    tcp_port(k->fd) != local_port || has_input(k->fd)) {
			s->stale = true;
			return (CURL_PREREQFUNC_ABORT);
		}
		fd = k->fd;
	}
	s->fd = is_plain(s->curl) ? fd : CURL_SOCKET_BAD;
	return (CURL_PREREQFUNC_OK);
}

void
strict_begin(struct strict *s, CURL *c, struct reply *r,
    struct strict_kept *kept, bool alone)
{

	*s = (struct strict){ .curl = c, .reply = r, .kept = kept,
	    .fd = CURL_SOCKET_BAD };
	(void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_head);
	(void)curl_easy_setopt(c, CURLOPT_HEADERDATA, s);
	(void)curl_easy_setopt(c, CURLOPT_VERBOSE, 1L);
	(void)curl_easy_setopt(c, CURLOPT_DEBUGFUNCTION, on_debug);
	(void)curl_easy_setopt(c, CURLOPT_DEBUGDATA, s);
	if (alone || kept == NULL) {
		(void)curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
		(void)curl_easy_setopt(c, CURLOPT_FORBID_REUSE, 1L);
	}
	(void)curl_easy_setopt(c, CURLOPT_PREREQFUNCTION, on_request);
	(void)curl_easy_setopt(c, CURLOPT_PREREQDATA, s);
	(void)curl_easy_setopt(c, CURLOPT_SOCKOPTFUNCTION, on_socket);
	(void)curl_easy_setopt(c, CURLOPT_SOCKOPTDATA, s);
}

bool
strict_was_stale(struct strict *s)
{
	bool stale = s->stale;

	s->stale = false;
	return (stale);
}

/* 7.88 says nothing but that of some lines of a head. */
const char *
strict_reason(CURLcode rc, const char *error)
{

	return (error[0] != '\0' ? error : rc == CURLE_BAD_FUNCTION_ARGUMENT ?
	    "malformed head" : curl_easy_strerror(rc));
}
