/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HTTP server with real sockets on loopback: what a client sees of bodies
 * of every kind, of waiting, of failures, of deadlines and of the end.
 */
#include "tests/web.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "proto/address.h"
#include "proto/buf.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/httpd.h"

#define	BIG		300000		/* bytes of /fd and /stream */
#define	TEXT		"0123456789"
#define	CLIENTS		100
#define	STREAMS		24
#define	STREAM_STEP	611		/* bytes that each wake brings */
#define	UPLOAD		3000000
#define	CROWD		6		/* clients that come and go */
#define	STOPS		20		/* meanwhile */

static struct httpd *server;
static int port;
static char pattern[BIG];
static char file_name[] = "/tmp/test_httpd.XXXXXX";
static atomic_int released, state_released, handled, waits;
static atomic_ullong uploaded;

/* A body that grows while it is read: what a fill is to its clients. */
struct stream {
	struct stream		*next;
	struct httpd_request	*r;
	uint64_t		 there;		/* bytes to be had */
	bool			 waiting, live, fails, stuck;
};
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stream *streams;
static atomic_bool stop_filling;

static void
count_release(void *arg)
{

	(void)arg;
	atomic_fetch_add(&released, 1);
}

static void
count_state(void *arg)
{

	(void)arg;
	atomic_fetch_add(&state_released, 1);
}

static ssize_t
stream_read(void *arg, uint64_t off, void *p, size_t max)
{
	struct stream *s = arg;
	size_t n;

	(void)pthread_mutex_lock(&streams_lock);
	if (off >= s->there) {
		s->waiting = true;
		(void)pthread_mutex_unlock(&streams_lock);
		atomic_fetch_add(&waits, 1);
		return (s->fails && off > 0 ? HTTPD_FAIL : HTTPD_WAIT);
	}
	n = s->there - off < max ? (size_t)(s->there - off) : max;
	(void)pthread_mutex_unlock(&streams_lock);
	memcpy(p, pattern + off, n);
	return ((ssize_t)n);
}

static void
stream_release(void *arg)
{
	struct stream *s = arg, **p;

	(void)pthread_mutex_lock(&streams_lock);
	for (p = &streams; *p != s; p = &(*p)->next)
		continue;
	*p = s->next;
	(void)pthread_mutex_unlock(&streams_lock);
	free(s);
	atomic_fetch_add(&released, 1);
}

/* Brings bytes to streams that wait and wakes them; and, unasked, others. */
static void *
fill(void *arg)
{
	struct timespec ts = { .tv_nsec = 100000 };
	struct stream *s;
	unsigned turn = 0;

	(void)arg;
	while (!atomic_load(&stop_filling)) {
		(void)pthread_mutex_lock(&streams_lock);
		for (s = streams; s != NULL; s = s->next) {
			if (s->stuck)
				continue;
			if (s->waiting && !s->fails)
				s->there = s->there + STREAM_STEP < BIG ?
				    s->there + STREAM_STEP : BIG;
			if (s->waiting || ++turn % 7 == 0) {
				s->waiting = false;
				httpd_wake(s->r);
			}
		}
		(void)pthread_mutex_unlock(&streams_lock);
		(void)nanosleep(&ts, NULL);
	}
	return (NULL);
}

static struct httpd_body *
stream_new(struct httpd_request *r, bool fails, bool stuck)
{
	struct httpd_body *b;
	struct stream *s;

	assert_non_null(s = calloc(1, sizeof(*s)));
	s->r = r;
	s->there = fails ? 20000 : stuck ? 5 : 0;
	s->fails = fails;
	s->stuck = stuck;
	assert_non_null(b = httpd_body_stream(stream_read, stream_release, s));
	(void)pthread_mutex_lock(&streams_lock);
	s->next = streams;
	streams = s;
	(void)pthread_mutex_unlock(&streams_lock);
	return (b);
}

static void *
wake_soon(void *arg)
{

	httpd_wake(arg);
	return (NULL);
}

/* A request that waits ten times, each time woken by another thread. */
static void
wait_ten_times(struct httpd_request *r)
{
	unsigned *n = httpd_note(r);
	pthread_t t;

	if ((*n)++ == 10) {
		httpd_reply_status(r, 404, 0);
		return;
	}
	if (*n == 5)			/* before there is a wait */
		httpd_wake(r);
	else {
		assert_int_equal(pthread_create(&t, NULL, wake_soon, r), 0);
		(void)pthread_detach(t);
	}
	httpd_wait(r);
}

static void
reply_upload(struct httpd_request *r)
{
	struct answer a;

	if (strcmp(httpd_target(r), "/refused") == 0) {
		answer_status(&a, 409, 0);
		answer_header(&a, "ETag", "\"current\"");
		httpd_reply(r, &a, NULL);
	} else if (!httpd_body_done(r))
		httpd_accept_body(r);
	else
		httpd_reply_status(r, 201, 0);
}

static void
note_field(void *arg, const char *name, const char *value)
{

	(void)buf_addf(arg, "%s=%s|", name, value);
}

/* The request's fields as the body, between fields of another server. */
static void
reply_fields(struct httpd_request *r)
{
	struct buf b = BUF_INIT(4096);
	struct answer_file f = { .time = -1, .cache_control = "" };
	struct httpd_body *body;
	struct answer a;

	httpd_each_field(r, note_field, &b);
	assert_false(b.failed);
	f.size = b.len;
	answer_file(&a, httpd_method(r), httpd_fields(r), &f);
	a.fields = strcmp(httpd_target(r), "/fields/via") == 0 ?
	    "via: 1.0 far\nVia:1.1 near\n" :
	    "Date: Sun, 09 Sep 2001 01:46:40 GMT\nX-Twice: 1\nX-Twice: 2\n"
	    "Empty:\nno field\nX-Tab: \tone\ttwo\nContent-Type: text/x";
	body = httpd_body_copy(b.p, b.len);
	buf_free(&b);
	httpd_reply(r, &a, &body);
}

static void
handler(void *arg, struct httpd_request *r)
{
	struct answer_file f = { .size = BIG, .time = 1000000000,
	    .etag = "tag", .type = "text/plain" };
	const char *t = httpd_target(r);
	struct httpd_body *b = NULL;
	struct answer a;
	int fd;

	(void)arg;
	atomic_fetch_add(&handled, 1);
	if (httpd_method(r) == HTTP_PUT) {
		reply_upload(r);
		return;
	}
	if (strcmp(t, "/waits") == 0) {
		wait_ten_times(r);
		return;
	}
	if (strcmp(t, "/never") == 0) {
		if (httpd_state(r) == NULL)
			httpd_set_state(r, &server, count_state);
		httpd_wait(r);
		return;
	}
	if (strcmp(t, "/absent") == 0) {
		httpd_reply_status(r, 404, 0);
		return;
	}
	if (strncmp(t, "/fields", 7) == 0) {
		reply_fields(r);
		return;
	}
	if (strcmp(t, "/mem") == 0) {
		f.size = strlen(TEXT);
		b = httpd_body_mem(TEXT, strlen(TEXT), count_release, NULL);
	} else if (strcmp(t, "/fd") == 0) {
		fd = open(file_name, O_RDONLY | O_CLOEXEC);
		b = httpd_body_fd(&fd);
	} else
		b = stream_new(r, strcmp(t, "/fails") == 0,
		    strcmp(t, "/stuck") == 0);
	answer_file(&a, httpd_method(r), httpd_fields(r), &f);
	httpd_reply(r, &a, &b);
}

static int
on_body(void *arg, struct httpd_request *r, const void *p, size_t len)
{
	const char *c = p;
	size_t i;

	(void)arg;
	(void)r;
	for (i = 0; i < len; i++)
		if (c[i] != 'u')
			return (-1);
	atomic_fetch_add(&uploaded, len);
	return (0);
}

static struct httpd *
start(void (*change)(struct httpd_conf *c), int *at)
{
	struct httpd_conf c = { .handler = handler };
	struct httpd *h;
	int fd;

	httpd_conf_defaults(&c);
	c.server = "test";
	if (change != NULL)
		change(&c);
	fd = httpd_listen("127.0.0.1:0");
	assert_int_not_equal(fd, -1);
	*at = httpd_port(fd);
	h = httpd_start(&c, &fd, 1);
	assert_non_null(h);
	assert_int_equal(fd, -1);
	return (h);
}

static void
get(struct web *w, const char *target, const char *fields)
{
	char text[1024];

	(void)snprintf(text, sizeof(text),
	    "GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n", target, fields);
	web_sends(w, text);
}

static void
expect(struct web *w, int status, const char *body, size_t len)
{
	struct web_answer a;

	web_read(w, &a, false);
	assert_int_equal(a.status, status);
	assert_true(a.complete);
	assert_int_equal(a.len, len);
	assert_memory_equal(a.body, body, len);
	web_free(&a);
}

static void
wait_for(atomic_int *v, int value)
{
	struct timespec ts = { .tv_nsec = 5000000 };
	int64_t until = clock_boot_ms() + 1000 * WEB_TIMEOUT_S;

	while (atomic_load(v) < value && clock_boot_ms() < until)
		(void)nanosleep(&ts, NULL);
	assert_true(atomic_load(v) >= value);
}

static void
keeps_connections(void **state)
{
	struct web w;
	int i;

	(void)state;
	web_open(&w, port);
	for (i = 0; i < 50; i++) {
		get(&w, "/mem", "");
		expect(&w, 200, TEXT, strlen(TEXT));
		get(&w, "/absent", "");
		expect(&w, 404, "", 0);
	}
	web_close(&w);
}

static void
answers_pipelined_requests_in_order(void **state)
{
	struct web w;
	int i;

	(void)state;
	web_open(&w, port);
	for (i = 0; i < 20; i++) {
		get(&w, "/mem", "");
		get(&w, "/fd", "Range: bytes=7-9\r\n");
		get(&w, "/waits", "");
		get(&w, "/stream", "Range: bytes=0-4999\r\n");
	}
	for (i = 0; i < 20; i++) {
		expect(&w, 200, TEXT, strlen(TEXT));
		expect(&w, 206, pattern + 7, 3);
		expect(&w, 404, "", 0);
		expect(&w, 206, pattern, 5000);
	}
	web_close(&w);
}

/* RFC 9110, 9.3.2 and 15.4.5: lengths told, nothing sent. */
static void
sends_no_body_for_head_and_304(void **state)
{
	static const struct {
		const char *request;
		int status;
		const char *length;
	} cases[] = {
		{ "HEAD /mem", 200, "10" },
		{ "HEAD /fd", 200, "300000" },
		{ "HEAD /stream", 200, "300000" },
		{ "HEAD /absent", 404, "0" },
		{ "GET /mem", 304, "10" },
		{ "GET /fd", 304, "300000" },
		{ "HEAD /fd", 304, "300000" },
	};
	char text[512], value[512];
	struct web_answer a;
	struct web w;
	size_t i;

	(void)state;
	web_open(&w, port);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(text, sizeof(text),
		    "%s HTTP/1.1\r\nHost: a\r\n%s\r\n", cases[i].request,
		    cases[i].status == 304 ? "If-None-Match: \"tag\"\r\n" : "");
		web_sends(&w, text);
		web_read(&w, &a, true);
		assert_int_equal(a.status, cases[i].status);
		assert_non_null(web_field(&a, "Content-Length", value));
		assert_string_equal(value, cases[i].length);
		assert_non_null(web_field(&a, "Via", value));
		assert_string_equal(value, "1.1 test");
		web_free(&a);
		get(&w, "/mem", "");	/* still in step */
		expect(&w, 200, TEXT, strlen(TEXT));
	}
	web_close(&w);
}

/* Of a field's lines: how many there are. */
static int
count_lines(const struct web_answer *a, const char *start)
{
	const char *p;
	int n = 0;

	for (p = a->head; (p = strcasestr(p, start)) != NULL; p++)
		n++;
	return (n);
}

static void
passes_fields_on(void **state)
{
	static const char sent[] = "X-One: a b\r\nx-two:\r\nX-One: c\r\n"
	    "Range: lines=1-2\r\n";
	static const char seen[] =
	    "Host=a|X-One=a b|x-two=|X-One=c|Range=lines=1-2|";
	struct web_answer a;
	char value[512];
	struct web w;

	(void)state;
	web_open(&w, port);
	get(&w, "/fields", sent);
	web_read(&w, &a, false);
	assert_int_equal(a.status, 200);
	assert_string_equal(a.body, seen);
	assert_int_equal(count_lines(&a, "\r\nDate:"), 1);
	assert_string_equal(web_field(&a, "Date", value),
	    "Sun, 09 Sep 2001 01:46:40 GMT");
	assert_int_equal(count_lines(&a, "\r\nContent-Type:"), 1);
	assert_string_equal(web_field(&a, "Content-Type", value), "text/x");
	assert_non_null(strstr(a.head, "\r\nX-Twice: 1\r\nX-Twice: 2\r\n"));
	assert_string_equal(web_field(&a, "X-Tab", value), "one two");
	assert_string_equal(web_field(&a, "Via", value), "1.1 test");
	assert_null(web_field(&a, "Empty", value));
	assert_null(web_field(&a, "Cache-Control", value));
	web_free(&a);
	get(&w, "/fields/via", "");
	web_read(&w, &a, false);
	assert_int_equal(count_lines(&a, "\r\nVia:"), 1);
	assert_string_equal(web_field(&a, "Via", value),
	    "1.0 far, 1.1 near, 1.1 test");
	assert_int_equal(count_lines(&a, "\r\nDate:"), 1);
	web_free(&a);
	get(&w, "/mem", "");		/* nothing stays */
	expect(&w, 200, TEXT, strlen(TEXT));
	web_close(&w);
}

static void
sends_ranges_of_every_kind_of_body(void **state)
{
	static const char *const target[] = { "/fd", "/stream" };
	static const struct {
		const char *range;
		size_t offset, len;
		const char *told;
	} cases[] = {
		{ "0-0", 0, 1, "bytes 0-0/300000" },
		{ "-1", BIG - 1, 1, "bytes 299999-299999/300000" },
		{ "100-70000", 100, 69901, "bytes 100-70000/300000" },
		{ "299000-", 299000, 1000, "bytes 299000-299999/300000" },
		{ "0-999999", 0, BIG, "bytes 0-299999/300000" },
	};
	char field[64], value[512];
	struct web_answer a;
	struct web w;
	size_t i, k;

	(void)state;
	web_open(&w, port);
	for (k = 0; k < 2; k++)
		for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			(void)snprintf(field, sizeof(field),
			    "Range: bytes=%s\r\n", cases[i].range);
			get(&w, target[k], field);
			web_read(&w, &a, false);
			assert_int_equal(a.status, 206);
			assert_non_null(web_field(&a, "Content-Range", value));
			assert_string_equal(value, cases[i].told);
			assert_int_equal(a.len, cases[i].len);
			assert_memory_equal(a.body, pattern + cases[i].offset,
			    cases[i].len);
			web_free(&a);
		}
	get(&w, "/mem", "Range: bytes=2-4\r\n");
	expect(&w, 206, "234", 3);
	get(&w, "/mem", "Range: bytes=2-4\r\nRange: bytes=6-7\r\n");
	expect(&w, 200, TEXT, strlen(TEXT));
	get(&w, "/mem", "Range: bytes=10-\r\n");
	expect(&w, 416, "", 0);
	get(&w, "/mem", "If-None-Match: \"x\"\r\nIf-None-Match: \"tag\"\r\n");
	expect(&w, 304, "", 0);
	web_close(&w);
}

static void *
read_stream(void *arg)
{
	struct web w;

	web_open(&w, port);
	get(&w, arg, "");
	expect(&w, 200, pattern, BIG);
	get(&w, "/waits", "");
	expect(&w, 404, "", 0);
	web_close(&w);
	return (NULL);
}

static void
together(int n, char *target)
{
	pthread_t t[CLIENTS];
	int i;

	for (i = 0; i < n; i++)
		assert_int_equal(pthread_create(&t[i], NULL, read_stream,
		    target), 0);
	for (i = 0; i < n; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
}

static void
streams_with_thousands_of_waits(void **state)
{
	char target[] = "/stream";
	int before = atomic_load(&waits);

	(void)state;
	together(STREAMS, target);
	assert_true(atomic_load(&waits) - before >=
	    STREAMS * (BIG / STREAM_STEP));
}

static void
serves_a_hundred_clients(void **state)
{
	char target[] = "/fd";

	(void)state;
	together(CLIENTS, target);
}

/* G4: a body that fails must not look complete. */
static void
cuts_a_body_that_fails(void **state)
{
	struct web_answer a;
	struct web w;

	(void)state;
	web_open(&w, port);
	get(&w, "/fails", "");
	get(&w, "/mem", "");
	web_read(&w, &a, false);
	assert_int_equal(a.status, 200);
	assert_false(a.complete);
	assert_true(a.len <= 20000);
	web_free(&a);
	assert_true(web_at_end(&w));
	web_close(&w);
}

static void
releases_every_body_and_state(void **state)
{
	int before = atomic_load(&released), gone;
	struct web w;
	int i;

	(void)state;
	gone = atomic_load(&state_released);
	for (i = 0; i < 10; i++) {
		web_open(&w, port);
		get(&w, "/mem", "If-None-Match: *\r\n");
		expect(&w, 304, "", 0);
		get(&w, "/stuck", "");
		web_close(&w);		/* while it waits */
		web_open(&w, port);
		get(&w, "/never", "");
		(void)shutdown(w.fd, SHUT_RDWR);
		web_close(&w);
	}
	wait_for(&released, before + 20);
	wait_for(&state_released, gone + 10);
}

static void
uploads(struct httpd_conf *c)
{

	c->on_body = on_body;
}

static void
put(struct web *w, const char *target, size_t len, char byte)
{
	char text[256], *body;

	(void)snprintf(text, sizeof(text), "PUT %s HTTP/1.1\r\nHost: a\r\n"
	    "Content-Length: %zu\r\n\r\n", target, len);
	assert_non_null(body = malloc(len));
	memset(body, byte, len);
	web_sends(w, text);
	web_send(w, body, len);
	free(body);
}

static void
takes_uploads(void **state)
{
	struct web_answer a;
	char value[512];
	struct httpd *h;
	struct web w;
	int at;

	(void)state;
	h = start(uploads, &at);
	web_open(&w, at);
	put(&w, "/blob", UPLOAD, 'u');
	expect(&w, 201, "", 0);
	put(&w, "/blob", 1, 'u');
	expect(&w, 201, "", 0);
	assert_true(atomic_load(&uploaded) == UPLOAD + 1);
	get(&w, "/mem", "");
	expect(&w, 200, TEXT, strlen(TEXT));

	/* Refused before the body: the answer arrives in spite of it. */
	put(&w, "/refused", UPLOAD, 'u');
	web_read(&w, &a, false);
	assert_int_equal(a.status, 409);
	assert_non_null(web_field(&a, "ETag", value));
	web_free(&a);
	assert_true(web_at_end(&w));
	web_close(&w);
	assert_true(atomic_load(&uploaded) == UPLOAD + 1);

	/* A body that the daemon does not want any more. */
	web_open(&w, at);
	put(&w, "/blob", UPLOAD, 'x');
	web_read(&w, &a, false);
	assert_int_equal(a.status, 0);
	web_close(&w);
	httpd_stop(&h);
}

static void
hasty(struct httpd_conf *c)
{

	c->header_s = c->idle_s = 1;
	c->body_s = 1;
	c->stop_s = 1;
	uploads(c);
}

static void
cuts_what_is_too_slow(void **state)
{
	static const char *const starts[] = {
		"",					/* nothing at all */
		"GET /mem HT",				/* half a line */
		"GET /mem HTTP/1.1\r\nHost: a\r\nX-",	/* half a head */
		"PUT /blob HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nu",
		"GET /mem HTTP/1.1\r\nHost: a\r\n\r\n",	/* idle afterwards */
	};
	struct web w[sizeof(starts) / sizeof(starts[0])], never;
	struct web_answer a;
	struct httpd *h;
	size_t i, n = sizeof(starts) / sizeof(starts[0]);
	int64_t then;
	int at;

	(void)state;
	h = start(hasty, &at);
	web_open(&never, at);
	get(&never, "/never", "");
	for (i = 0; i < n; i++) {
		web_open(&w[i], at);
		web_sends(&w[i], starts[i]);
	}
	then = clock_boot_ms();
	for (i = 0; i < n; i++) {
		web_read(&w[i], &a, false);
		assert_int_equal(a.status, i == n - 1 ? 200 : 0);
		web_free(&a);
		assert_true(web_at_end(&w[i]));
		web_close(&w[i]);
	}
	assert_true(clock_boot_ms() - then < 10000);
	/* But one that waits for us is not. */
	assert_int_equal(recv(never.fd, &i, 1, MSG_DONTWAIT), -1);
	web_close(&never);
	httpd_stop(&h);
}

static void
endless(struct httpd_conf *c)
{

	hasty(c);
	c->idle_s = c->header_s = 60;
}

/* A head that its client has given up holds no place until its deadline. */
static void
cuts_half_a_head_after_the_end(void **state)
{
	static const struct {
		const char	*text;
		int		 status;
	} c[] = {
		{ "GET /mem HT", 0 },
		{ "GET /mem HTTP/1.1\r\nHost: a\r\nX-", 0 },
		{ "GET /mem HTTP/1.1\r\nHost: a\r\n\r\n", 200 },
	};
	struct web_answer a;
	struct httpd *h;
	struct web w;
	int64_t then = clock_boot_ms();
	int at;

	(void)state;
	h = start(endless, &at);
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		web_open(&w, at);
		web_sends(&w, c[i].text);
		assert_int_equal(shutdown(w.fd, SHUT_WR), 0);
		web_read(&w, &a, false);
		assert_int_equal(a.status, c[i].status);
		web_free(&a);
		assert_true(web_at_end(&w));
		web_close(&w);
	}
	assert_true(clock_boot_ms() - then < 15000);
	httpd_stop(&h);
}

static void
bounded(struct httpd_conf *c)
{

	hasty(c);
	c->header_s = c->idle_s = 60;
	c->connections = 4;
	c->per_address = 3;
	c->requests = 3;
}

static void
expect_limited(struct httpd *h, enum limit l, uint64_t n)
{
	struct timespec ts = { .tv_nsec = 5000000 };
	int64_t until = clock_boot_ms() + 1000 * WEB_TIMEOUT_S;
	struct httpd_stats s;

	do {
		(void)nanosleep(&ts, NULL);
		httpd_stats(h, &s);
	} while (s.limited[l] < n && clock_boot_ms() < until);
	if (s.limited[l] != n)
		fail_msg("%s: %ju, not %ju", limit_names[l],
		    (uintmax_t)s.limited[l], (uintmax_t)n);
}

static void
bounds_connections(void **state)
{
	struct httpd_conf c;
	struct web w[4], more;
	struct httpd *h;
	int at, i;

	(void)state;
	h = start(bounded, &at);
	for (i = 0; i < 3; i++) {
		web_open(&w[i], at);
		get(&w[i], "/mem", "");
		expect(&w[i], 200, TEXT, strlen(TEXT));
	}
	web_open(&more, at);
	assert_true(web_at_end(&more));
	web_close(&more);
	expect_limited(h, LIMIT_PER_ADDRESS, 1);
	expect_limited(h, LIMIT_CONNECTIONS, 0);

	/* While it runs, both ways; those that are there stay. */
	httpd_conf_defaults(&c);
	bounded(&c);
	c.per_address = 10;
	httpd_limit(h, &c);
	web_open(&w[3], at);
	get(&w[3], "/mem", "");
	expect(&w[3], 200, TEXT, strlen(TEXT));
	c.connections = 2;
	httpd_limit(h, &c);
	web_open(&more, at);
	assert_true(web_at_end(&more));
	web_close(&more);
	expect_limited(h, LIMIT_CONNECTIONS, 1);
	for (i = 0; i < 4; i++) {
		get(&w[i], "/mem", "");
		expect(&w[i], 200, TEXT, strlen(TEXT));
		web_close(&w[i]);
	}
	httpd_stop(&h);
}

/* The last answer says so, whatever its request waits for and its body is. */
static void
bounds_requests_of_a_connection(void **state)
{
	static const struct {
		const char	*target;
		int		 status;
		const char	*body;
		size_t		 len;
	} c[] = {
		{ "/mem", 200, TEXT, sizeof(TEXT) - 1 },
		{ "/fd", 200, pattern, BIG },
		{ "/stream", 200, pattern, BIG },
		{ "/waits", 404, "", 0 },
		{ "/absent", 404, "", 0 },
	};
	struct web_answer a;
	char value[512];
	struct httpd *h;
	struct web w;
	size_t i;
	int at, k;

	(void)state;
	h = start(bounded, &at);
	for (i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		web_open(&w, at);
		for (k = 0; k < 5; k++)
			get(&w, c[i].target, "");
		for (k = 0; k < 3; k++) {
			web_read(&w, &a, false);
			assert_int_equal(a.status, c[i].status);
			assert_true(a.complete);
			assert_int_equal(a.len, c[i].len);
			assert_memory_equal(a.body, c[i].body, a.len);
			if (web_field(&a, "Connection", value) == NULL)
				value[0] = '\0';
			assert_int_equal(strcasecmp(value, "close") == 0,
			    k == 2);
			web_free(&a);
		}
		assert_true(web_at_end(&w));
		web_close(&w);
		expect_limited(h, LIMIT_REQUESTS, i + 1);
	}
	httpd_stop(&h);
}

static void
counts_what_it_cuts(void **state)
{
	static const struct {
		const char	*text;
		enum limit	 limit;
	} c[] = {
		{ "", LIMIT_HEAD_TIMEOUT },
		{ "GET /mem HT", LIMIT_HEAD_TIMEOUT },
		{ "GET /mem HTTP/1.1\r\nHost: a\r\nX-", LIMIT_HEAD_TIMEOUT },
		{ "GET /mem HTTP/1.1\r\nHost: a\r\n\r\n", LIMIT_IDLE_TIMEOUT },
		{ "PUT /blob HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nu",
		    LIMIT_SLOW_SENDERS },
	};
	uint64_t want[LIMIT_N] = { 0 };
	char head[300000];
	struct web_answer a;
	struct httpd *h;
	struct web w;
	size_t i;
	int at;

	(void)state;
	h = start(hasty, &at);
	for (i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		web_open(&w, at);
		web_sends(&w, c[i].text);
		web_read(&w, &a, false);
		web_free(&a);
		assert_true(web_at_end(&w));
		web_close(&w);
		expect_limited(h, c[i].limit, ++want[c[i].limit]);
	}
	memset(head, 'x', sizeof(head));
	(void)memcpy(head, "GET /", 5);
	web_open(&w, at);
	web_send(&w, head, sizeof(head));
	expect_limited(h, LIMIT_HEAD_SIZE, 1);
	web_close(&w);
	for (i = 0; i < LIMIT_N; i++)
		expect_limited(h, (enum limit)i, i == LIMIT_HEAD_SIZE ? 1 :
		    want[i]);
	httpd_stop(&h);
}

static void
counts_addresses(void **state)
{
	static const struct {
		const char	*a, *b;
		bool		 same;
	} c[] = {
		{ "::ffff:192.0.2.1", "::ffff:192.0.2.1", true },
		{ "::ffff:192.0.2.1", "::ffff:192.0.2.2", false },
		{ "2001:db8::1", "2001:db8::ffff:1", true },
		{ "2001:db8::1", "2001:db8:0:1::1", false },
		{ "fe80::1", "fe80::2", false },
		{ "fe80::1", "fe80::1", true },
		{ "::1", "::ffff:0.0.0.1", false },
	};
	struct sockaddr_in6 a = { .sin6_family = AF_INET6 }, b = a;
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct address *p[1000], *one;
	struct addresses *t;
	size_t i;

	(void)state;
	assert_non_null(t = addresses_new(10));
	for (i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		assert_int_equal(inet_pton(AF_INET6, c[i].a, &a.sin6_addr), 1);
		assert_int_equal(inet_pton(AF_INET6, c[i].b, &b.sin6_addr), 1);
		one = address_take(t, (struct sockaddr *)&a);
		assert_non_null(one);
		if (address_count(t, (struct sockaddr *)&b) != c[i].same)
			fail_msg("%s and %s", c[i].a, c[i].b);
		address_give(&one);
	}
	/* The same address, with and without IPv6. */
	assert_int_equal(inet_pton(AF_INET6, c[0].a, &a.sin6_addr), 1);
	assert_int_equal(inet_pton(AF_INET, "192.0.2.1", &v4.sin_addr), 1);
	one = address_take(t, (struct sockaddr *)&v4);
	assert_int_equal(address_count(t, (struct sockaddr *)&a), 1);
	address_give(&one);
	/* More than there are chains. */
	for (i = 0; i < 1000; i++) {
		v4.sin_addr.s_addr = htonl((uint32_t)i / 2);
		p[i] = address_take(t, (struct sockaddr *)&v4);
		assert_int_equal(address_count(t, (struct sockaddr *)&v4),
		    i % 2 + 1);
	}
	for (i = 0; i < 1000; i++)
		address_give(&p[i]);
	assert_int_equal(address_count(t, (struct sockaddr *)&v4), 0);
	addresses_destroy(&t);
}

static ssize_t
zeros(void *arg, uint64_t off, void *p, size_t max)
{

	(void)arg;
	(void)off;
	memset(p, 0, max);
	return ((ssize_t)max);
}

static void
send_zeros(void *arg, struct httpd_request *r)
{
	struct answer_file f = { .size = 1ull << 34, .time = -1, .type = "x" };
	struct httpd_body *b;
	struct answer a;

	(void)arg;
	assert_non_null(b = httpd_body_stream(zeros, count_release, NULL));
	answer_file(&a, httpd_method(r), httpd_fields(r), &f);
	httpd_reply(r, &a, &b);
}

static void
endless_zeros(struct httpd_conf *c)
{

	endless(c);
	c->handler = send_zeros;
}

static void
cuts_a_reader_that_stands_still(void **state)
{
	int before = atomic_load(&released), at;
	struct httpd *h;
	struct web w;

	(void)state;
	h = start(endless_zeros, &at);
	web_open(&w, at);
	get(&w, "/", "");
	wait_for(&released, before + 1);
	expect_limited(h, LIMIT_SLOW_READERS, 1);
	web_close(&w);
	httpd_stop(&h);
}

static void
stops_while_requests_wait(void **state)
{
	int before = atomic_load(&released), i, at;
	int gone = atomic_load(&state_released);
	struct web never[20], stuck[20], idle;
	struct web_answer a;
	struct httpd_stats s;
	struct httpd *h;
	int64_t then;

	(void)state;
	h = start(hasty, &at);
	then = atomic_load(&handled);
	for (i = 0; i < 20; i++) {
		web_open(&never[i], at);
		get(&never[i], "/never", "");
		web_open(&stuck[i], at);
		get(&stuck[i], "/stuck", "");
	}
	wait_for(&handled, (int)then + 40);
	web_open(&idle, at);
	httpd_stats(h, &s);
	assert_int_equal(s.requests, 40);
	then = clock_boot_ms();
	httpd_stop(&h);
	assert_null(h);
	assert_true(clock_boot_ms() - then >= 900);
	assert_true(clock_boot_ms() - then < 10000);
	assert_int_equal(atomic_load(&released), before + 20);
	assert_int_equal(atomic_load(&state_released), gone + 20);
	for (i = 0; i < 20; i++) {
		web_read(&never[i], &a, false);
		assert_int_equal(a.status, 0);
		web_read(&stuck[i], &a, false);
		assert_int_equal(a.status, 200);
		assert_false(a.complete);
		web_free(&a);
		web_close(&never[i]);
		web_close(&stuck[i]);
	}
	assert_true(web_at_end(&idle));
	web_close(&idle);
}

/* A running answer is finished, within stop_s, and nobody new is let in. */
static void *
stop_it(void *arg)
{

	httpd_stop(arg);
	return (NULL);
}

static void
patient(struct httpd_conf *c)
{

	c->stop_s = 20;
}

static void
finishes_running_answers_when_stopped(void **state)
{
	struct web_answer a;
	struct httpd *h;
	struct web w;
	pthread_t t;
	int at, before = atomic_load(&handled);

	(void)state;
	h = start(patient, &at);
	web_open(&w, at);
	get(&w, "/stream", "");
	wait_for(&handled, before + 1);
	assert_int_equal(pthread_create(&t, NULL, stop_it, &h), 0);
	web_read(&w, &a, false);
	assert_int_equal(a.status, 200);
	assert_true(a.complete);
	assert_memory_equal(a.body, pattern, BIG);
	web_free(&a);
	assert_true(web_at_end(&w));
	assert_int_equal(pthread_join(t, NULL), 0);
	web_close(&w);
}

/* Clients that come and go, at a port that changes; 0: no more. */
static void *
crowd(void *arg)
{
	static const char request[] = "GET /mem HTTP/1.1\r\nHost: x\r\n\r\n";
	struct sockaddr_in sin = { .sin_family = AF_INET };
	atomic_int *at = arg;
	char got[256];
	int fd, to;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	while ((to = atomic_load(at)) != 0) {
		sin.sin_port = htons((uint16_t)to);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0 &&
		    send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0)
			(void)recv(fd, got, sizeof(got), 0);
		(void)close(fd);
	}
	return (NULL);
}

static void
stops_among_clients(void **state)
{
	pthread_t client[CROWD];
	struct httpd *h;
	atomic_int now;
	int i, at;

	(void)state;
	atomic_init(&now, port);
	for (i = 0; i < CROWD; i++)
		assert_int_equal(pthread_create(&client[i], NULL, crowd, &now),
		    0);
	for (i = 0; i < STOPS; i++) {
		h = start(hasty, &at);
		atomic_store(&now, at);
		wait_for(&handled, atomic_load(&handled) + CROWD);
		httpd_stop(&h);
	}
	atomic_store(&now, 0);
	for (i = 0; i < CROWD; i++)
		(void)pthread_join(client[i], NULL);
}

static void
listens(void **state)
{
	static const struct {
		const char *address;
		bool ok;
	} cases[] = {
		{ "127.0.0.1:0", true }, { "[::]:0", true }, { "*:0", true },
		{ "127.0.0.1", false }, { "127.0.0.1:", false },
		{ "127.0.0.1:x", false }, { "::1:0", false }, { ":0", false },
		{ "[]:0", false }, { "127.0.0.1:65536", false }, { "", false },
		{ "300.0.0.1:0", false },
	};
	struct web w;
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fd = httpd_listen(cases[i].address);
		if ((fd != -1) != cases[i].ok)
			fail_msg("listen on \"%s\"", cases[i].address);
		if (fd == -1)
			continue;
		web_open(&w, httpd_port(fd));	/* IPv4 reaches each */
		web_close(&w);
		fd_close(&fd);
	}
}

static int
set_up(void **state)
{
	size_t i;
	int fd;

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < BIG; i++)
		pattern[i] = (char)((i * 2654435761u) >> 13);
	if ((fd = mkstemp(file_name)) == -1 ||
	    fd_write_all(fd, pattern, BIG) == -1)
		return (-1);
	fd_close(&fd);
	server = start(NULL, &port);
	return (0);
}

static int
tear_down(void **state)
{

	(void)state;
	httpd_stop(&server);
	(void)unlink(file_name);
	return (0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_connections),
		cmocka_unit_test(answers_pipelined_requests_in_order),
		cmocka_unit_test(sends_no_body_for_head_and_304),
		cmocka_unit_test(passes_fields_on),
		cmocka_unit_test(sends_ranges_of_every_kind_of_body),
		cmocka_unit_test(streams_with_thousands_of_waits),
		cmocka_unit_test(serves_a_hundred_clients),
		cmocka_unit_test(cuts_a_body_that_fails),
		cmocka_unit_test(releases_every_body_and_state),
		cmocka_unit_test(takes_uploads),
		cmocka_unit_test(cuts_what_is_too_slow),
		cmocka_unit_test(cuts_half_a_head_after_the_end),
		cmocka_unit_test(bounds_connections),
		cmocka_unit_test(bounds_requests_of_a_connection),
		cmocka_unit_test(counts_what_it_cuts),
		cmocka_unit_test(counts_addresses),
		cmocka_unit_test(cuts_a_reader_that_stands_still),
		cmocka_unit_test(stops_while_requests_wait),
		cmocka_unit_test(finishes_running_answers_when_stopped),
		cmocka_unit_test(stops_among_clients),
		cmocka_unit_test(listens),
	};
	pthread_t filler;
	int failed;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (pthread_create(&filler, NULL, fill, NULL) != 0)
		return (1);
	failed = cmocka_run_group_tests_name("httpd", tests, set_up, tear_down);
	atomic_store(&stop_filling, true);
	(void)pthread_join(filler, NULL);
	return (failed);
}
