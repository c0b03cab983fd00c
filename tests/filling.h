/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_FILLING_H
#define	TESTS_FILLING_H

/*
 * For tests of fills: upstreams that are good, bad, slow and lying, the edge's
 * half under test, and clients that know what they must get.
 */
#include <sys/param.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "edge/fill.h"
#include "edge/unstored.h"
#include "proto/chunk.h"
#include "proto/clock.h"
#include "proto/fd.h"

#define	PATIENCE_MS	30000		/* a test that waits longer failed */
#define	HEAD_SIZE	4096
#define	PIECE		16384		/* what the server sends at once */

/* What an upstream does. */
enum mode {
	GOOD, NO_RANGES, CHUNKED, FLIP_FIRST, FLIP_MIDDLE, FLIP_LAST, OTHER,
	SHORT, SHORT_NO_LENGTH, TOO_LONG, WRONG_LENGTH, WRONG_RANGE, ERROR_PAGE,
	NOT_FOUND, FORBIDDEN, ERROR_500, ERROR_503, HANG, STALL, RESET, GZIP,
	LOOP, GARBAGE, REFUSE
};

struct server {
	atomic_int	 mode;		/* enum mode */
	int		 fd;
	char		 url[64];
	pthread_t	 thread;
	const uint8_t	*content;
	size_t		 size;
	atomic_bool	 stop;
	atomic_size_t	 gate;		/* sends no byte from there on */
	atomic_uint	 gets, asked_cached, connections;
	atomic_size_t	 sent;		/* bytes of bodies */
	pthread_mutex_t	 lock;
	char		 last[HEAD_SIZE];
};

static inline void
pause_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	(void)nanosleep(&t, NULL);
}

static inline int
send_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;
	ssize_t n;

	for (; len > 0; p += n, len -= (size_t)n)
		if ((n = send(fd, p, len, MSG_NOSIGNAL)) <= 0)
			return (-1);
	return (0);
}

static inline int
send_text(int fd, const char *s)
{

	return (send_all(fd, s, strlen(s)));
}

/* Silent until the other side or the test gives up. */
static inline void
be_silent(struct server *s, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;

	while (!atomic_load(&s->stop))
		if (poll(&p, 1, 20) == 1 && recv(fd, &c, 1, 0) <= 0)
			return;
}

static inline void
reset(int fd)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

/* Byte i of what this server takes for the content. */
static inline uint8_t
byte_of(const struct server *s, size_t i)
{
	size_t at = s->mode == FLIP_FIRST ? 0 :
	    s->mode == FLIP_MIDDLE ? s->size / 2 : s->size - 1;

	if (s->mode == OTHER)
		return ((uint8_t)~s->content[i]);
	if (s->mode >= FLIP_FIRST && s->mode <= FLIP_LAST && i == at)
		return (s->content[i] ^ 0x10);
	return (s->content[i]);
}

static inline int
send_body(struct server *s, int fd, size_t from, size_t to)
{
	uint8_t piece[PIECE];
	char size[32];
	size_t i, n;

	for (; from < to; from += n) {
		n = MIN(PIECE, to - from);
		while (from + n > atomic_load(&s->gate) &&
		    !atomic_load(&s->stop))
			pause_ms(2);
		for (i = 0; i < n; i++)
			piece[i] = byte_of(s, from + i);
		(void)snprintf(size, sizeof(size), "%zx\r\n", n);
		if (s->mode == CHUNKED && send_text(fd, size) == -1)
			return (-1);
		/* Whoever has got them may ask how many at once. */
		atomic_fetch_add(&s->sent, n);
		if (send_all(fd, piece, n) == -1 ||
		    (s->mode == CHUNKED && send_text(fd, "\r\n") == -1)) {
			atomic_fetch_sub(&s->sent, n);
			return (-1);
		}
	}
	return (s->mode == CHUNKED ? send_text(fd, "0\r\n\r\n") : 0);
}

/* Answers that have nothing to do with the content.  False: go on. */
static inline bool
answer_fault(struct server *s, int fd)
{
	const char *status = NULL;
	char text[256];

	switch ((enum mode)s->mode) {
	case NOT_FOUND:
		status = "404 Not Found";
		break;
	case FORBIDDEN:
		status = "403 Forbidden";
		break;
	case ERROR_500:
		status = "500 Internal Server Error";
		break;
	case ERROR_503:
		status = "503 Service Unavailable";
		break;
	case ERROR_PAGE:
		(void)send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n"
		    "\r\n<html>Sorry.</html>\n");
		return (true);
	case LOOP:
		(void)snprintf(text, sizeof(text), "HTTP/1.1 302 Found\r\n"
		    "Location: %s/again\r\nContent-Length: 0\r\n\r\n", s->url);
		(void)send_text(fd, text);
		return (true);
	case GARBAGE:
		(void)send_text(fd, "\r\n\x01\x02 what is this\r\n\r\n");
		return (true);
	case HANG:
		be_silent(s, fd);
		return (true);
	default:
		return (false);
	}
	(void)snprintf(text, sizeof(text),
	    "HTTP/1.1 %s\r\nContent-Length: 6\r\n\r\nsorry\n", status);
	(void)send_text(fd, text);
	return (true);
}

/* One answer.  False: the connection is to be closed. */
static inline bool
answer(struct server *s, int fd, const char *head)
{
	size_t from = 0, to = s->size, until;
	char text[256], extra[64] = "";
	bool range = false;
	const char *r;

	if (answer_fault(s, fd))
		return (s->mode != GARBAGE && s->mode != HANG);
	if ((r = strstr(head, "\r\nRange: bytes=")) != NULL &&
	    s->mode != NO_RANGES) {
		assert_int_equal(sscanf(r + 15, "%zu-%zu", &from, &to), 2);
		to++;
		range = true;
		(void)snprintf(extra, sizeof(extra),
		    "Content-Range: bytes %zu-%zu/%zu\r\n",
		    from + (s->mode == WRONG_RANGE), to - 1, s->size);
	}
	until = s->mode == SHORT || s->mode == SHORT_NO_LENGTH ||
	    s->mode == STALL || s->mode == RESET ? from + (to - from) / 2 : to;
	(void)snprintf(text, sizeof(text), "HTTP/1.1 %s\r\n%s%s",
	    range ? "206 Partial Content" : "200 OK", extra,
	    s->mode == GZIP ? "Content-Encoding: gzip\r\n" : "");
	if (send_text(fd, text) == -1)
		return (false);
	if (s->mode == CHUNKED)
		(void)send_text(fd, "Transfer-Encoding: chunked\r\n\r\n");
	else if (s->mode == TOO_LONG || s->mode == SHORT_NO_LENGTH)
		(void)send_text(fd, "Connection: close\r\n\r\n");
	else {
		(void)snprintf(text, sizeof(text),
		    "Content-Length: %zu\r\n\r\n",
		    to - from + (s->mode == WRONG_LENGTH));
		(void)send_text(fd, text);
	}
	if (send_body(s, fd, from, until) == -1)
		return (false);
	if (s->mode == TOO_LONG)
		(void)send_text(fd, "and some more");
	if (s->mode == STALL)
		be_silent(s, fd);
	if (s->mode == RESET)
		reset(fd);
	return (until == to && s->mode != TOO_LONG);
}

struct connection {
	struct server	*s;
	int		 fd;
};

static inline void *
serve_connection(void *arg)
{
	struct connection *c = arg;
	struct server *s = c->s;
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	char head[HEAD_SIZE];
	size_t len = 0;
	ssize_t n;

	while (!atomic_load(&s->stop)) {
		if (poll(&p, 1, 20) == 0)
			continue;
		if ((n = recv(c->fd, head + len, sizeof(head) - 1 - len,
		    0)) <= 0)
			break;
		len += (size_t)n;
		head[len] = '\0';
		if (strstr(head, "\r\n\r\n") == NULL)
			continue;
		atomic_fetch_add(&s->gets, 1);
		if (strstr(head, "only-if-cached") != NULL)
			atomic_fetch_add(&s->asked_cached, 1);
		(void)pthread_mutex_lock(&s->lock);
		memcpy(s->last, head, len + 1);
		(void)pthread_mutex_unlock(&s->lock);
		len = 0;
		if (!answer(s, c->fd, head))
			break;
	}
	(void)close(c->fd);
	atomic_fetch_sub(&s->connections, 1);
	free(c);
	return (NULL);
}

static inline void *
serve(void *arg)
{
	struct server *s = arg;
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	struct connection *c;
	pthread_t t;
	int fd;

	while (!atomic_load(&s->stop)) {
		if (poll(&p, 1, 20) != 1 ||
		    (fd = accept(s->fd, NULL, NULL)) == -1)
			continue;
		c = malloc(sizeof(*c));
		c->s = s;
		c->fd = fd;
		atomic_fetch_add(&s->connections, 1);
		(void)pthread_create(&t, NULL, serve_connection, c);
		(void)pthread_detach(t);
	}
	return (NULL);
}

static inline void
server_start(struct server *s, enum mode mode, const uint8_t *content,
    size_t size)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);

	memset(s, 0, sizeof(*s));
	atomic_init(&s->mode, mode);
	s->content = content;
	s->size = size;
	atomic_init(&s->gate, SIZE_MAX);
	(void)pthread_mutex_init(&s->lock, NULL);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(s->fd, (struct sockaddr *)&a, len), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &len), 0);
	(void)snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u",
	    ntohs(a.sin_port));
	/* A bound socket that does not listen refuses. */
	if (mode != REFUSE)
		assert_int_equal(listen(s->fd, 128), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static inline void
server_stop(struct server *s)
{

	atomic_store(&s->stop, true);
	(void)pthread_join(s->thread, NULL);
	while (atomic_load(&s->connections) > 0)
		pause_ms(2);
	(void)close(s->fd);
	(void)pthread_mutex_destroy(&s->lock);
}

/* A blob, two upstreams, and the edge's half under test. */
#define	SERVERS	3

struct bench {
	char		   dir[64];
	uint8_t		  *content, *rows;
	size_t		   size;
	struct fill_want   want;
	struct server	   server[SERVERS];
	unsigned	   nserver;
	struct upstream_conf up[SERVERS];
	struct edge_conf   conf;
	struct blob_store *store;
	struct upstreams  *upstreams;
	struct fills	  *fills;
};

static inline void
edge_start(struct bench *b, uint64_t max_bytes)
{

	b->store = blob_store_new(b->dir, max_bytes, 0);
	b->upstreams = upstreams_new(&b->conf);
	b->fills = fills_new(b->store, b->upstreams, &b->conf);
	assert_true(b->store != NULL && b->upstreams != NULL &&
	    b->fills != NULL);
}

static inline void
edge_stop(struct bench *b)
{

	fills_stop(b->fills);
	upstreams_stop(b->upstreams);
	fills_destroy(&b->fills);
	upstreams_destroy(&b->upstreams);
	blob_store_destroy(&b->store);
}

static inline void
bench_start(struct bench *b, size_t size, bool rows, unsigned n,
    const enum mode *mode)
{
	uint32_t x = 12345;
	size_t i;

	memset(b, 0, sizeof(*b));
	(void)snprintf(b->dir, sizeof(b->dir), "/tmp/test_fill.XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	b->size = size;
	b->content = malloc(size + 1);
	for (i = 0; i < size; i++) {
		x = x * 1664525 + 1013904223;
		b->content[i] = (uint8_t)(x >> 24);
	}
	digest_of(&b->want.digest, b->content, size);
	b->want.size = size;
	b->rows = malloc(chunk_rows(size) * DIGEST_LEN + 1);
	for (i = 0; i < chunk_rows(size); i++)
		digest_of((struct digest *)(void *)(b->rows + i * DIGEST_LEN),
		    b->content + i * CHUNK_SIZE,
		    MIN(CHUNK_SIZE, size - i * CHUNK_SIZE));
	b->want.rows = rows && chunk_rows(size) > 0 ? b->rows : NULL;
	b->nserver = n;
	for (i = 0; i < n; i++) {
		server_start(&b->server[i], mode[i], b->content, size);
		b->up[i].url = b->server[i].url;
		b->up[i].kind = UPSTREAM_MASTER;
	}
	b->conf = (struct edge_conf){
		.fills = 64, .per_upstream = 8, .fill_connect = 1,
		.fill_first = 1, .fill_low_rate = 1000, .fill_low_time = 1,
		.fill_aside = 60, .clients_per_fill = 1000,
		.when_left = (char *)(uintptr_t)"finish",
		.nupstream = n, .upstream = b->up,
	};
	edge_start(b, UINT64_MAX / 2);
}

static inline void
bench_stop(struct bench *b)
{
	unsigned i;

	edge_stop(b);
	for (i = 0; i < b->nserver; i++)
		server_stop(&b->server[i]);
	(void)fd_remove_tree(AT_FDCWD, b->dir);
	free(b->content);
	free(b->rows);
}

/* A reader that blocks. */
struct client {
	pthread_mutex_t	 lock;
	pthread_cond_t	 cond;
	bool		 woken;
	struct bench	*b;
	struct fill_reader *r;
	uint64_t	 off, len, got;
	bool		 failed;
};

static inline void
wake(void *arg)
{
	struct client *c = arg;

	(void)pthread_mutex_lock(&c->lock);
	c->woken = true;
	(void)pthread_cond_signal(&c->cond);
	(void)pthread_mutex_unlock(&c->lock);
}

static inline void
client_wait(struct client *c)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += PATIENCE_MS / 1000;
	(void)pthread_mutex_lock(&c->lock);
	while (!c->woken)
		if (pthread_cond_timedwait(&c->cond, &c->lock, &t) != 0)
			abort();	/* never woken */
	c->woken = false;
	(void)pthread_mutex_unlock(&c->lock);
}

static inline void
client_start(struct client *c, struct bench *b, uint64_t off, uint64_t len)
{

	memset(c, 0, sizeof(*c));
	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_cond_init(&c->cond, NULL);
	c->b = b;
	c->off = off;
	c->len = len;
	c->r = fill_reader_new(b->fills, &b->want, off, len, wake, c);
	assert_non_null(c->r);
}

/* Reads at most until `until` bytes came; every byte must be the blob's. */
static inline void
client_read(struct client *c, uint64_t until)
{
	uint8_t buf[40000];
	ssize_t n;

	while (!c->failed && c->got < until) {
		n = fill_reader_read(c->r, c->off + c->got, buf,
		    MIN(sizeof(buf), until - c->got));
		if (n == HTTPD_WAIT)
			client_wait(c);
		else if (n == HTTPD_FAIL)
			c->failed = true;
		else {
			if (n <= 0 || memcmp(buf, c->b->content + c->off +
			    c->got, (size_t)n) != 0)
				abort();	/* a wrong byte */
			c->got += (uint64_t)n;
		}
	}
}

static inline void
client_end(struct client *c)
{

	fill_reader_destroy(&c->r);
	(void)pthread_cond_destroy(&c->cond);
	(void)pthread_mutex_destroy(&c->lock);
}

static inline bool
fetch_whole(struct bench *b)
{
	struct client c;

	client_start(&c, b, 0, b->size);
	client_read(&c, b->size);
	client_end(&c);
	return (!c.failed);
}

/* The blob is in the store soon, and right. */
static inline void
assert_stored(struct bench *b)
{
	int64_t end = clock_boot_ms() + PATIENCE_MS;
	struct blob *blob;
	size_t len;
	char *p;

	while (!blob_have(b->store, &b->want.digest)) {
		assert_true(clock_boot_ms() < end);
		pause_ms(2);
	}
	blob = blob_get(b->store, &b->want.digest, b->size);
	assert_non_null(blob);
	p = blob_slurp(blob, &len);
	assert_non_null(p);
	assert_int_equal(len, b->size);
	assert_memory_equal(p, b->content, len);
	free(p);
	blob_put(&blob);
}

/* A byte of the stored file changes. */
static inline void
rot(const struct bench *b, size_t at)
{
	char hex[DIGEST_HEX + 1], name[256];
	uint8_t c = b->content[at] ^ 1;
	int fd;

	(void)digest_hex(&b->want.digest, hex);
	(void)snprintf(name, sizeof(name), "%s/blob/%.2s/%s", b->dir, hex, hex);
	assert_true((fd = open(name, O_WRONLY)) != -1);
	assert_int_equal(fd_pwrite_all(fd, &c, 1, (off_t)at), 0);
	fd_close(&fd);
}

static inline void
wait_running(struct bench *b, unsigned n)
{
	int64_t end = clock_boot_ms() + PATIENCE_MS;
	struct fills_stats st;

	do {
		pause_ms(2);
		fills_stats(b->fills, &st);
		assert_true(clock_boot_ms() < end);
	} while (st.running + st.queued != n);
}

static inline const char *
partial_name(const struct bench *b, char name[256])
{
	char hex[DIGEST_HEX + 1];

	(void)snprintf(name, 256, "%s/partial/%s", b->dir,
	    digest_hex(&b->want.digest, hex));
	return (name);
}

#endif
