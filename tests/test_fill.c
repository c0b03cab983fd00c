/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fills from upstreams that are good, bad, slow and lying: no byte may be
 * readable that is not the blob's, and what can be had must be had.
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

static void
pause_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	(void)nanosleep(&t, NULL);
}

static int
send_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;
	ssize_t n;

	for (; len > 0; p += n, len -= (size_t)n)
		if ((n = send(fd, p, len, MSG_NOSIGNAL)) <= 0)
			return (-1);
	return (0);
}

static int
send_text(int fd, const char *s)
{

	return (send_all(fd, s, strlen(s)));
}

/* Silent until the other side or the test gives up. */
static void
be_silent(struct server *s, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;

	while (!atomic_load(&s->stop))
		if (poll(&p, 1, 20) == 1 && recv(fd, &c, 1, 0) <= 0)
			return;
}

static void
reset(int fd)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}

/* Byte i of what this server takes for the content. */
static uint8_t
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

static int
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
		if (send_all(fd, piece, n) == -1 ||
		    (s->mode == CHUNKED && send_text(fd, "\r\n") == -1))
			return (-1);
		atomic_fetch_add(&s->sent, n);
	}
	return (s->mode == CHUNKED ? send_text(fd, "0\r\n\r\n") : 0);
}

/* Answers that have nothing to do with the content.  False: go on. */
static bool
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
static bool
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

static void *
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

static void *
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

static void
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

static void
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

static void
edge_start(struct bench *b, uint64_t max_bytes)
{

	b->store = blob_store_new(b->dir, max_bytes, 0);
	b->upstreams = upstreams_new(&b->conf);
	b->fills = fills_new(b->store, b->upstreams, &b->conf);
	assert_true(b->store != NULL && b->upstreams != NULL &&
	    b->fills != NULL);
}

static void
edge_stop(struct bench *b)
{

	fills_stop(b->fills);
	upstreams_stop(b->upstreams);
	fills_destroy(&b->fills);
	upstreams_destroy(&b->upstreams);
	blob_store_destroy(&b->store);
}

static void
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
		.fill_aside = 60, .nupstream = n, .upstream = b->up,
	};
	edge_start(b, UINT64_MAX / 2);
}

static void
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

static void
wake(void *arg)
{
	struct client *c = arg;

	(void)pthread_mutex_lock(&c->lock);
	c->woken = true;
	(void)pthread_cond_signal(&c->cond);
	(void)pthread_mutex_unlock(&c->lock);
}

static void
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

static void
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
static void
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

static void
client_end(struct client *c)
{

	fill_reader_destroy(&c->r);
	(void)pthread_cond_destroy(&c->cond);
	(void)pthread_mutex_destroy(&c->lock);
}

static bool
fetch_whole(struct bench *b)
{
	struct client c;

	client_start(&c, b, 0, b->size);
	client_read(&c, b->size);
	client_end(&c);
	return (!c.failed);
}

/* The blob is in the store soon, and right. */
static void
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

static void
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

#define	MANY	(5u * CHUNK_SIZE + 777)

static const struct {
	const char	*what;
	enum mode	 mode;
	bool		 alone;		/* it alone is enough */
	bool		 fault;		/* counted, with a reason */
	bool		 aside;		/* at the first fault */
} faults[] = {
	{ "good", GOOD, true, false, false },
	{ "no ranges", NO_RANGES, true, false, false },
	{ "chunked coding", CHUNKED, true, false, false },
	{ "bit flip in the first chunk", FLIP_FIRST, false, true, true },
	{ "bit flip in the middle", FLIP_MIDDLE, false, true, true },
	{ "bit flip in the last chunk", FLIP_LAST, false, true, true },
	{ "other file of the same length", OTHER, false, true, true },
	{ "short", SHORT, false, true, false },
	{ "short without a length", SHORT_NO_LENGTH, false, true, false },
	{ "too long", TOO_LONG, true, true, false },
	{ "wrong length", WRONG_LENGTH, false, true, false },
	{ "error page with 200", ERROR_PAGE, false, true, false },
	{ "404", NOT_FOUND, false, false, false },
	{ "403", FORBIDDEN, false, true, false },
	{ "500", ERROR_500, false, true, false },
	{ "503", ERROR_503, false, true, false },
	{ "accepts and hangs", HANG, false, true, true },
	{ "stalls", STALL, false, true, true },
	{ "resets", RESET, false, true, false },
	{ "gzip", GZIP, false, true, false },
	{ "redirect loop", LOOP, false, true, false },
	{ "garbage", GARBAGE, false, true, false },
	{ "refuses", REFUSE, false, true, true },
};
static const size_t sizes[] = { 1, 1000, CHUNK_SIZE, CHUNK_SIZE + 1, MANY };

/* Where half of it is nothing, half of it cannot be told from the whole. */
static bool
applies(enum mode mode, size_t size)
{

	return (size > 1 || mode != SHORT_NO_LENGTH);
}

static void
test_bad_then_good(void **state)
{
	struct upstream_stat st[2];
	struct bench b;
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		for (k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			if (faults[i].aside && k > 0 && k < 4 &&
			    (faults[i].mode == HANG || faults[i].mode == STALL))
				continue;	/* slow, and all the same */
			bench_start(&b, sizes[k], true, 2,
			    (enum mode[]){ faults[i].mode, GOOD });
			if (!fetch_whole(&b))
				fail_msg("%s, %zu bytes", faults[i].what,
				    sizes[k]);
			assert_stored(&b);
			wait_running(&b, 0);
			assert_int_equal(upstreams_stats(b.upstreams, st, 2),
			    2);
			if ((st[0].faults > 0) != faults[i].fault ||
			    (st[0].reason[0] != '\0') != faults[i].fault ||
			    st[0].aside != faults[i].aside ||
			    st[1].faults > 0)
				fail_msg("%s, %zu bytes: faults %" PRIu64
				    " reason \"%s\" aside %d", faults[i].what,
				    sizes[k], st[0].faults, st[0].reason,
				    st[0].aside);
			bench_stop(&b);
		}
}

static void
test_bad_alone(void **state)
{
	struct upstream_stat st;
	struct fills_stats fs;
	struct bench b;
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		for (k = 1; k < sizeof(sizes) / sizeof(sizes[0]); k += 3) {
			if (k == 1 && (faults[i].mode == HANG ||
			    faults[i].mode == STALL))
				continue;	/* slow, and all the same */
			bench_start(&b, sizes[k], true, 1, &faults[i].mode);
			if (applies(faults[i].mode, sizes[k]) &&
			    fetch_whole(&b) != faults[i].alone)
				fail_msg("%s, %zu bytes", faults[i].what,
				    sizes[k]);
			wait_running(&b, 0);
			fills_stats(b.fills, &fs);
			assert_int_equal(fs.done + fs.failed, 1);
			assert_int_equal(fs.done, faults[i].alone);
			/* The last usable one is never set aside. */
			(void)upstreams_stats(b.upstreams, &st, 1);
			assert_false(st.aside);
			bench_stop(&b);
		}
}

static void
test_all_bad(void **state)
{
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 3,
	    (enum mode[]){ FLIP_FIRST, ERROR_500, SHORT_NO_LENGTH });
	/* The third gives half of what it is asked for, again and again. */
	(void)fetch_whole(&b);
	bench_stop(&b);
	bench_start(&b, MANY, true, 3,
	    (enum mode[]){ FLIP_FIRST, ERROR_500, NOT_FOUND });
	assert_false(fetch_whole(&b));
	wait_running(&b, 0);
	/* Each was asked, and none without end. */
	assert_true(b.server[0].gets >= 1 && b.server[0].gets <= 4);
	assert_true(b.server[1].gets >= 1 && b.server[1].gets <= 4);
	assert_int_equal(b.server[2].gets, 1);
	assert_false(blob_have(b.store, &b.want.digest));
	/* A later request starts anew. */
	assert_false(fetch_whole(&b));
	bench_stop(&b);
}

static void
test_no_upstream(void **state)
{
	struct bench b;

	(void)state;
	bench_start(&b, 1000, true, 0, NULL);
	assert_false(fetch_whole(&b));
	bench_stop(&b);
}

static void *
client_thread(void *arg)
{
	struct client *c = arg;

	client_read(c, c->len);
	return (NULL);
}

static void
test_readers_share_one_get(void **state)
{
	static struct client c[100];
	pthread_t t[100];
	struct bench b;
	unsigned i;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, CHUNK_SIZE);
	for (i = 0; i < 100; i++) {
		client_start(&c[i], &b, 0, b.size);
		if (i <= 50)		/* later ones may find it done */
			assert_int_equal(fill_reader_collapsed(c[i].r), i > 0);
		assert_int_equal(pthread_create(&t[i], NULL, client_thread,
		    &c[i]), 0);
		if (i == 50)
			atomic_store(&b.server[0].gate, SIZE_MAX);
	}
	for (i = 0; i < 100; i++) {
		(void)pthread_join(t[i], NULL);
		assert_false(c[i].failed);
		assert_int_equal(c[i].got, b.size);
		client_end(&c[i]);
	}
	assert_int_equal(b.server[0].gets, 1);
	assert_int_equal(b.server[0].sent, b.size);
	assert_stored(&b);
	bench_stop(&b);
}

static void
test_first_chunk_goes_out_first(void **state)
{
	struct client c, early;
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	/* All but the last bytes of the first chunk: nothing may be read. */
	atomic_store(&b.server[0].gate, CHUNK_SIZE - 1);
	client_start(&early, &b, 0, b.size);
	assert_int_equal(fill_reader_state(early.r), FILL_WAIT);
	while (b.server[0].sent < CHUNK_SIZE - PIECE)
		pause_ms(2);
	assert_int_equal(fill_reader_state(early.r), FILL_WAIT);
	/* The first chunk alone: it can. */
	atomic_store(&b.server[0].gate, CHUNK_SIZE);
	client_start(&c, &b, 0, b.size);
	client_read(&c, CHUNK_SIZE);
	assert_int_equal(c.got, CHUNK_SIZE);
	client_wait(&early);
	assert_int_equal(fill_reader_state(early.r), FILL_READY);
	client_end(&early);
	atomic_store(&b.server[0].gate, SIZE_MAX);
	client_read(&c, b.size);
	assert_int_equal(c.got, b.size);
	client_end(&c);
	bench_stop(&b);
}

static void
test_goes_on_without_readers(void **state)
{
	struct client c;
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, CHUNK_SIZE);
	client_start(&c, &b, 0, b.size);
	client_read(&c, 1);
	client_end(&c);
	atomic_store(&b.server[0].gate, SIZE_MAX);
	assert_stored(&b);
	assert_int_equal(b.server[0].gets, 1);
	bench_stop(&b);
}

static void
test_far_reader(void **state)
{
	size_t size = 60u * CHUNK_SIZE + 99, sent;
	struct client c, far, near;
	struct bench b;

	(void)state;
	bench_start(&b, size, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, 2 * CHUNK_SIZE);
	client_start(&c, &b, 0, b.size);
	client_read(&c, CHUNK_SIZE);
	/* The last byte need not wait for the 58 chunks before it ... */
	client_start(&far, &b, size - 1, 1);
	assert_int_equal(fill_reader_state(far.r), FILL_WAIT);
	while (b.server[0].gets < 2)
		pause_ms(2);
	/* ... one that is near waits for the transfer that runs. */
	client_start(&near, &b, 5 * CHUNK_SIZE, 10);
	assert_int_equal(fill_reader_state(near.r), FILL_WAIT);
	atomic_store(&b.server[0].gate, SIZE_MAX);
	client_read(&far, 1);
	client_read(&near, 10);
	client_read(&c, b.size);
	assert_true(far.got == 1 && near.got == 10 && c.got == b.size);
	client_end(&c);
	client_end(&far);
	client_end(&near);
	assert_stored(&b);
	assert_int_equal(b.server[0].gets, 2);
	sent = b.server[0].sent;
	assert_in_range(sent, size, size + 4 * CHUNK_SIZE);
	bench_stop(&b);
}

static void
test_range_of_a_cold_file(void **state)
{
	struct client c;
	struct bench b;

	(void)state;
	bench_start(&b, 40u * CHUNK_SIZE, true, 1, (enum mode[]){ GOOD });
	client_start(&c, &b, b.size - 5, 5);
	client_read(&c, 5);
	assert_int_equal(c.got, 5);
	client_end(&c);
	assert_stored(&b);
	assert_true(b.server[0].sent <= b.size + CHUNK_SIZE);
	bench_stop(&b);
}

/* The first transfer breaks off after three chunks; the edge starts again. */
static void
leave_partial(struct bench *b)
{
	struct client c;

	bench_start(b, MANY, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b->server[0].gate, 3 * CHUNK_SIZE);
	client_start(&c, b, 0, b->size);
	client_read(&c, 3 * CHUNK_SIZE);
	client_end(&c);
	edge_stop(b);
	atomic_store(&b->server[0].gate, SIZE_MAX);
	b->server[0].sent = 0;
}

static void
test_restart_goes_on(void **state)
{
	struct bench b;
	size_t sent;

	(void)state;
	leave_partial(&b);
	pause_ms(20);
	b.server[0].sent = 0;
	edge_start(&b, UINT64_MAX / 2);
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	sent = b.server[0].sent;
	assert_int_equal(sent, b.size - 3 * CHUNK_SIZE);
	bench_stop(&b);
}

static void
test_restart_trusts_no_file(void **state)
{
	char hex[DIGEST_HEX + 1], name[256];
	struct bench b;
	size_t sent;
	int fd;

	(void)state;
	leave_partial(&b);
	(void)snprintf(name, sizeof(name), "%s/partial/%s", b.dir,
	    digest_hex(&b.want.digest, hex));
	fd = open(name, O_RDWR);
	assert_true(fd != -1);
	assert_int_equal(fd_pwrite_all(fd, "wrong", 5, CHUNK_SIZE + 7), 0);
	assert_int_equal(ftruncate(fd, 2 * MANY), 0);
	fd_close(&fd);
	pause_ms(20);
	b.server[0].sent = 0;
	edge_start(&b, UINT64_MAX / 2);
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	sent = b.server[0].sent;
	assert_in_range(sent, b.size - 2 * CHUNK_SIZE,
	    b.size - 2 * CHUNK_SIZE + PIECE);
	bench_stop(&b);
}

static void
test_no_ranges_are_read_through(void **state)
{
	struct bench b;

	(void)state;
	leave_partial(&b);
	b.server[0].mode = NO_RANGES;
	edge_start(&b, UINT64_MAX / 2);
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	bench_stop(&b);
	leave_partial(&b);
	b.server[0].mode = WRONG_RANGE;
	edge_start(&b, UINT64_MAX / 2);
	assert_false(fetch_whole(&b));
	bench_stop(&b);
}

/* Manifests and chunk tables: no rows, any size. */
static void
test_fetch(void **state)
{
	static const struct {
		enum mode	first, second;
		bool		ok;
	} cases[] = {
		{ GOOD, GOOD, true }, { FLIP_MIDDLE, GOOD, true },
		{ SHORT, GOOD, true }, { RESET, CHUNKED, true },
		{ OTHER, FLIP_LAST, false }, { NOT_FOUND, NOT_FOUND, false },
	};
	static const size_t lens[] = { 0, 10, MANY };
	struct blob *blob;
	struct bench b;
	size_t i, k;
	int ret;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (k = 0; k < 3; k++) {
			bench_start(&b, lens[k], false, 2, (enum mode[]){
			    cases[i].first, cases[i].second });
			ret = fill_fetch(b.fills, &b.want, 20, NULL, &blob);
			if ((ret == 0) != (cases[i].ok || lens[k] == 0))
				fail_msg("case %zu, %zu bytes", i, lens[k]);
			if (ret == 0)
				assert_stored(&b);
			else
				assert_int_equal(errno, EIO);
			blob_put(&blob);
			bench_stop(&b);
		}
}

static void
test_fetch_gives_up(void **state)
{
	atomic_bool stop = false;
	struct blob *blob;
	struct bench b;

	(void)state;
	bench_start(&b, 1000, false, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, 0);
	b.conf.fill_low_time = 60;
	assert_int_equal(upstreams_configure(b.upstreams, &b.conf), 0);
	assert_int_equal(fill_fetch(b.fills, &b.want, 1, &stop, &blob), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_null(blob);
	atomic_store(&stop, true);
	assert_int_equal(fill_fetch(b.fills, &b.want, 9, &stop, &blob), -1);
	assert_int_equal(errno, ECANCELED);
	bench_stop(&b);
}

static void *
stop_soon(void *arg)
{

	pause_ms(50);
	fills_stop(arg);
	return (NULL);
}

static void
test_stop_fails_waiting_readers(void **state)
{
	struct client c;
	struct bench b;
	pthread_t t;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, CHUNK_SIZE);
	client_start(&c, &b, 0, b.size);
	client_read(&c, CHUNK_SIZE);
	(void)pthread_create(&t, NULL, stop_soon, b.fills);
	client_read(&c, b.size);
	assert_true(c.failed);
	assert_int_equal(fill_reader_state(c.r), FILL_FAILED);
	client_end(&c);
	(void)pthread_join(t, NULL);
	assert_null(fill_reader_new(b.fills, &b.want, 0, 1, wake, &c));
	bench_stop(&b);
}

static void
test_no_room(void **state)
{
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	edge_stop(&b);
	edge_start(&b, MANY - 1);
	assert_false(fetch_whole(&b));
	assert_int_equal(b.server[0].gets, 0);
	blob_store_limits(b.store, MANY, 0);
	wait_running(&b, 0);
	assert_true(fetch_whole(&b));
	bench_stop(&b);
}

static void
test_fills_wait_their_turn(void **state)
{
	struct fills_stats st;
	struct client c, d;
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	b.conf.fills = 1;
	fills_configure(b.fills, &b.conf);
	atomic_store(&b.server[0].gate, CHUNK_SIZE);
	client_start(&c, &b, 0, b.size);
	client_read(&c, 1);
	b.want.digest.b[0] ^= 1;		/* another, which nobody has */
	client_start(&d, &b, 0, b.size);
	assert_int_equal(fill_reader_state(d.r), FILL_WAIT);
	fills_stats(b.fills, &st);
	assert_true(st.running == 1 && st.queued == 1);
	/* One that waits may be left. */
	client_end(&d);
	b.want.digest.b[0] ^= 1;
	atomic_store(&b.server[0].gate, SIZE_MAX);
	client_read(&c, b.size);
	assert_int_equal(c.got, b.size);
	client_end(&c);
	wait_running(&b, 0);
	bench_stop(&b);
}

static void
test_sibling_is_asked_first(void **state)
{
	struct upstream_stat st[2];
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 2, (enum mode[]){ GOOD, ERROR_503 });
	b.up[1].kind = UPSTREAM_SIBLING;
	assert_int_equal(upstreams_configure(b.upstreams, &b.conf), 0);
	assert_true(fetch_whole(&b));
	assert_int_equal(b.server[1].gets, 1);
	assert_int_equal(b.server[1].asked_cached, 1);
	assert_int_equal(b.server[0].gets, 1);
	assert_int_equal(b.server[0].asked_cached, 0);
	(void)upstreams_stats(b.upstreams, st, 2);
	assert_int_equal(st[0].requests, 1);
	bench_stop(&b);
}

static void
test_static_tree_is_asked_by_path(void **state)
{
	struct bench b;
	char *line;

	(void)state;
	bench_start(&b, 1000, true, 1, (enum mode[]){ GOOD });
	b.up[0].kind = UPSTREAM_STATIC;
	assert_int_equal(upstreams_configure(b.upstreams, &b.conf), 0);
	b.want.set = "FreeBSD:14/latest";
	b.want.path = "All/gtk+ 2%_1,1.pkg";
	assert_true(fetch_whole(&b));
	(void)pthread_mutex_lock(&b.server[0].lock);
	line = b.server[0].last;
	line[strcspn(line, "\r")] = '\0';
	assert_string_equal(line,
	    "GET /FreeBSD:14/latest/All/gtk%2B%202%25_1%2C1.pkg HTTP/1.1");
	(void)pthread_mutex_unlock(&b.server[0].lock);
	bench_stop(&b);
	/* Another generation's file under that path is no lie. */
	bench_start(&b, 1000, true, 2, (enum mode[]){ OTHER, GOOD });
	b.up[0].kind = UPSTREAM_STATIC;
	assert_int_equal(upstreams_configure(b.upstreams, &b.conf), 0);
	b.want.set = "s";
	b.want.path = "p";
	assert_true(fetch_whole(&b));
	struct upstream_stat st;
	(void)upstreams_stats(b.upstreams, &st, 1);
	assert_false(st.aside);
	bench_stop(&b);
}

static void
test_documents(void **state)
{
	char from[UPSTREAM_URL], *p;
	struct upstream_stat st[3];
	uint64_t tried = 0;
	struct bench b;
	size_t len;

	(void)state;
	bench_start(&b, 1000, true, 3,
	    (enum mode[]){ ERROR_500, GOOD, GOOD });
	p = upstream_get(b.upstreams, &tried, "/.pkgcast/heads", 1000, 5,
	    NULL, &len, from);
	assert_non_null(p);
	assert_int_equal(len, 1000);
	assert_memory_equal(p, b.content, len);
	assert_string_equal(from, b.up[1].url);
	free(p);
	/* It is no good: the next. */
	upstream_bad(b.upstreams, from, "forged");
	p = upstream_get(b.upstreams, &tried, "/.pkgcast/heads", 1000, 5,
	    NULL, &len, from);
	assert_non_null(p);
	assert_string_equal(from, b.up[2].url);
	free(p);
	assert_null(upstream_get(b.upstreams, &tried, "/.pkgcast/heads", 1000,
	    5, NULL, &len, from));
	/* Larger than the caller can take. */
	tried = 0;
	assert_null(upstream_get(b.upstreams, &tried, "/x", 999, 5, NULL, &len,
	    from));
	assert_int_equal(errno, EIO);
	(void)upstreams_stats(b.upstreams, st, 3);
	assert_true(st[1].aside);
	assert_string_equal(st[0].reason, "status 500");
	bench_stop(&b);

	bench_start(&b, 1000, true, 2, (enum mode[]){ NOT_FOUND, NOT_FOUND });
	tried = 0;
	assert_null(upstream_get(b.upstreams, &tried, "/x", 1000, 5, NULL,
	    &len, from));
	assert_int_equal(errno, ENOENT);
	bench_stop(&b);
}

static void
test_document_that_hangs(void **state)
{
	atomic_bool stop = true;
	char from[UPSTREAM_URL];
	uint64_t tried = 0;
	struct bench b;
	size_t len;

	(void)state;
	bench_start(&b, 1000, true, 1, (enum mode[]){ HANG });
	assert_null(upstream_get(b.upstreams, &tried, "/x", 1000, 1, NULL,
	    &len, from));
	assert_int_equal(errno, EIO);
	tried = 0;
	assert_null(upstream_get(b.upstreams, &tried, "/x", 1000, 60, &stop,
	    &len, from));
	assert_int_equal(errno, ECANCELED);
	bench_stop(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_then_good),
		cmocka_unit_test(test_bad_alone),
		cmocka_unit_test(test_all_bad),
		cmocka_unit_test(test_no_upstream),
		cmocka_unit_test(test_readers_share_one_get),
		cmocka_unit_test(test_first_chunk_goes_out_first),
		cmocka_unit_test(test_goes_on_without_readers),
		cmocka_unit_test(test_far_reader),
		cmocka_unit_test(test_range_of_a_cold_file),
		cmocka_unit_test(test_restart_goes_on),
		cmocka_unit_test(test_restart_trusts_no_file),
		cmocka_unit_test(test_no_ranges_are_read_through),
		cmocka_unit_test(test_fetch),
		cmocka_unit_test(test_fetch_gives_up),
		cmocka_unit_test(test_stop_fails_waiting_readers),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_fills_wait_their_turn),
		cmocka_unit_test(test_sibling_is_asked_first),
		cmocka_unit_test(test_static_tree_is_asked_by_path),
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_document_that_hangs),
	};

	(void)cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("fill", tests, NULL, NULL));
}
