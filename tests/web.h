/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_WEB_H
#define	TESTS_WEB_H

#include <sys/socket.h>
#include <sys/time.h>
#include <netinet/in.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <cmocka.h>

/*
 * A raw HTTP client for tests: it sends exactly the given bytes and takes
 * answers apart, one at a time.  A silence of WEB_TIMEOUT_S is a failure.
 */
#define	WEB_TIMEOUT_S	20
#define	WEB_HEAD_MAX	16384

struct web {
	int	 fd;
	size_t	 len;			/* read ahead */
	char	 buf[WEB_HEAD_MAX];
};
struct web_answer {
	int	 status;		/* 0: the connection ended instead */
	char	 head[WEB_HEAD_MAX];	/* status line and fields */
	char	*body;			/* malloc'd */
	size_t	 len;
	bool	 complete;		/* the body has its announced length */
};

static inline void
web_open(struct web *w, int port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
	    .sin_port = htons((uint16_t)port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval tv = { .tv_sec = WEB_TIMEOUT_S };

	w->len = 0;
	w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_not_equal(w->fd, -1);
	assert_int_equal(setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &tv,
	    sizeof(tv)), 0);
	assert_int_equal(connect(w->fd, (struct sockaddr *)&sin, sizeof(sin)),
	    0);
}

static inline void
web_close(struct web *w)
{

	(void)close(w->fd);
	w->fd = -1;
}

static inline void
web_send(struct web *w, const void *p, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = send(w->fd, (const char *)p + done, len - done,
		    MSG_NOSIGNAL);
		if (n <= 0)
			return;		/* the answer, if any, tells more */
		done += (size_t)n;
	}
}

static inline void
web_sends(struct web *w, const char *s)
{

	web_send(w, s, strlen(s));
}

/* More bytes into buf; 0 at the end of the connection. */
static inline ssize_t
web_more(struct web *w)
{
	ssize_t n;

	assert_true(w->len < sizeof(w->buf) - 1);
	n = recv(w->fd, w->buf + w->len, sizeof(w->buf) - 1 - w->len, 0);
	if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
		fail_msg("no answer within %d s", WEB_TIMEOUT_S);
	if (n <= 0)
		return (0);
	w->len += (size_t)n;
	w->buf[w->len] = '\0';
	return (n);
}

static inline void
web_drop(struct web *w, size_t n)
{

	w->len -= n;
	memmove(w->buf, w->buf + n, w->len + 1);
}

/* Value of a header field, copied to out; NULL when absent. */
static inline const char *
web_field(const struct web_answer *a, const char *name, char out[512])
{
	const char *p = a->head;
	size_t n = strlen(name);

	while ((p = strstr(p, "\r\n")) != NULL) {
		p += 2;
		if (strncasecmp(p, name, n) == 0 && p[n] == ':') {
			p += n + 1 + strspn(p + n + 1, " ");
			(void)snprintf(out, 512, "%.*s", (int)strcspn(p, "\r"),
			    p);
			return (out);
		}
	}
	return (NULL);
}

/* no_body: the answer to HEAD. */
static inline void
web_read(struct web *w, struct web_answer *a, bool no_body)
{
	char value[512], *end;
	size_t want, n;
	ssize_t got;

	memset(a, 0, sizeof(*a));
	w->buf[w->len] = '\0';
	while ((end = strstr(w->buf, "\r\n\r\n")) == NULL)
		if (web_more(w) == 0)
			return;
	n = (size_t)(end - w->buf) + 4;
	memcpy(a->head, w->buf, n);
	a->head[n] = '\0';
	web_drop(w, n);
	assert_int_equal(sscanf(a->head, "HTTP/1.1 %d", &a->status), 1);
	want = web_field(a, "Content-Length", value) == NULL ? 0 :
	    strtoul(value, NULL, 10);
	if (no_body || a->status == 304 || a->status == 204)
		want = 0;
	a->body = malloc(want + 1);
	assert_non_null(a->body);
	a->len = w->len < want ? w->len : want;
	memcpy(a->body, w->buf, a->len);
	web_drop(w, a->len);
	while (a->len < want) {
		got = recv(w->fd, a->body + a->len, want - a->len, 0);
		if (got == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
			fail_msg("no more body within %d s", WEB_TIMEOUT_S);
		if (got <= 0)
			break;
		a->len += (size_t)got;
	}
	a->body[a->len] = '\0';
	a->complete = a->len == want;
}

static inline void
web_free(struct web_answer *a)
{

	free(a->body);
	a->body = NULL;
}

/* Whether the peer has closed, and sent nothing more before. */
static inline bool
web_at_end(struct web *w)
{

	return (w->len == 0 && web_more(w) == 0);
}

/* GET of target with these field lines ("": none), on a connection of its own; the
 * body is whole. */
static inline void
web_get(int port, const char *target, const char *fields, struct web_answer *a)
{
	char text[512];
	struct web w;

	web_open(&w, port);
	(void)snprintf(text, sizeof(text),
	    "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", target, fields);
	web_sends(&w, text);
	web_read(&w, a, false);
	web_close(&w);
	assert_true(a->complete);
}

#endif
