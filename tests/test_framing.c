/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests that two readers could understand in two ways (RFC 9112; CWE-444),
 * sent over real sockets.  None is served, its connection ends, and nothing
 * that follows it on the connection is served either.
 */
#include "tests/web.h"

#include <signal.h>
#include <stdatomic.h>

#include "proto/fd.h"
#include "proto/httpd.h"

#define	NEXT	"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
#define	H	"Host: a\r\n"
#define	OK	"GET /x HTTP/1.1\r\n" H

static atomic_int served;
static int port, upload_port;
static struct httpd *server, *upload_server;

struct raw {
	const char	*name, *text;
	size_t		 len;
};
#define	RAW(n, t)	{ n, t, sizeof(t) - 1 }

/* On a listener that only serves. */
static const struct raw refused[] = {
	/* RFC 9112, 6: a body, or doubt about its length. */
	RAW("body of GET", OK "Content-Length: 5\r\n\r\nhello"),
	RAW("body that is a request", OK "Content-Length: 37\r\n\r\n" NEXT),
	RAW("two lengths", OK "Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
	RAW("two other lengths",
	    OK "Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello"),
	RAW("list of lengths", OK "Content-Length: 0, 0\r\n\r\n"),
	RAW("negative length", OK "Content-Length: -1\r\n\r\n"),
	RAW("signed length", OK "Content-Length: +0\r\n\r\n"),
	RAW("hexadecimal length", OK "Content-Length: 0x0\r\n\r\n"),
	RAW("empty length", OK "Content-Length:\r\n\r\n"),
	RAW("leading zero", OK "Content-Length: 00\r\n\r\n"),
	RAW("huge length",
	    OK "Content-Length: 99999999999999999999999\r\n\r\n"),
	RAW("chunked", OK "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
	RAW("chunked and length", OK "Transfer-Encoding: chunked\r\n"
	    "Content-Length: 0\r\n\r\n0\r\n\r\n"),
	RAW("length and chunked", OK "Content-Length: 5\r\n"
	    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
	RAW("identity", OK "Transfer-Encoding: identity\r\n\r\n"),
	RAW("unknown coding", OK "Transfer-Encoding: x\r\n\r\n"),
	RAW("coding in capitals", OK "TRANSFER-ENCODING: Chunked\r\n\r\n"),
	RAW("two codings", OK "Transfer-Encoding: gzip\r\n"
	    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
	RAW("chunked with tab", OK "Transfer-Encoding:\tchunked\r\n\r\n"),
	/* 5.1: names. */
	RAW("blank before colon", OK "Content-Length : 0\r\n\r\n"),
	RAW("blank before colon of coding",
	    OK "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
	RAW("tab before colon", OK "X\t: 0\r\n\r\n"),
	RAW("blank in name", OK "X Y: 0\r\n\r\n"),
	RAW("control byte in name", OK "X\001: 0\r\n\r\n"),
	RAW("slash in name", OK "X/Y: 0\r\n\r\n"),
	RAW("parenthesis in name", OK "X(Y): 0\r\n\r\n"),
	RAW("byte above 127 in name", OK "X\303\244: 0\r\n\r\n"),
	RAW("empty name", OK ": 0\r\n\r\n"),
	RAW("empty name and value", OK ":\r\n\r\n"),
	RAW("empty name first",
	    "GET /x HTTP/1.1\r\n: 0\r\n" H "\r\n"),
	RAW("request behind an empty name", OK ":\r\n" NEXT),
	RAW("no colon", OK "nonsense\r\n\r\n"),
	/* 5.2: folded lines. */
	RAW("folded by blank", OK "X: 1\r\n 2\r\n\r\n"),
	RAW("folded by tab", OK "X: 1\r\n\tContent-Length: 5\r\n\r\nhello"),
	RAW("folded host", "GET /x HTTP/1.1\r\nHost:\r\n a\r\n\r\n"),
	RAW("folded before the first",
	    "GET /x HTTP/1.1\r\n X: 1\r\n" H "\r\n"),
	/* 2.2: line ends, and bytes that hide. */
	RAW("bare LF after request line", "GET /x HTTP/1.1\n" H "\r\n"),
	RAW("bare LF in the middle", OK "X: 1\nY: 2\r\n\r\n"),
	RAW("bare LF after last field",
	    "GET /x HTTP/1.1\r\nHost: a\n\r\n"),
	RAW("bare LF at the end", OK "\n"),
	RAW("only bare LF", "GET /x HTTP/1.1\nHost: a\n\n"),
	RAW("bare LF first", "\n" OK "\r\n"),
	RAW("colon and LF at the end", OK ":\n" NEXT),
	RAW("LF and colon at the end",
	    "GET /x HTTP/1.1\r\nHost: a\n:\r\n" NEXT),
	RAW("NUL and LF as a line end", OK "X: 1\0\nY: 2\r\n\r\n"),
	RAW("NUL and LF at the end", OK "\0\n" NEXT),
	RAW("NUL and LF first", "\0\n" OK "\r\n"),
	RAW("line that NUL hides", "\0POST /y HTTP/1.1\r\n" OK "\r\n"),
	RAW("bare CR at the end", OK "\r\r\n"),
	RAW("bare CR in value", OK "X: 1\rY: 2\r\n\r\n"),
	RAW("NUL in value", OK "X: 1\0002\r\nY: 3\r\n\r\n"),
	RAW("NUL in last value", OK "X: 1\0002\r\n\r\n"),
	RAW("NUL in host", "GET /x HTTP/1.1\r\nHost: a\0b\r\nX: 1\r\n\r\n"),
	RAW("NUL in name", OK "X\000Y: 1\r\n\r\n"),
	RAW("NUL in target", "GET /x\0y HTTP/1.1\r\n" H "\r\n"),
	RAW("control byte in value", OK "X: a\001b\r\n\r\n"),
	RAW("DEL in value", OK "X: a\177b\r\n\r\n"),
	RAW("escape in value", OK "User-Agent: \033[2J\r\n\r\n"),
	/* 3.2: Host. */
	RAW("no host", "GET /x HTTP/1.1\r\nX: 1\r\n\r\n"),
	RAW("no fields", "GET /x HTTP/1.1\r\n\r\n"),
	RAW("two hosts", OK "Host: a\r\n\r\n"),
	RAW("two other hosts", OK "Host: b\r\n\r\n"),
	RAW("two hosts, 1.0", "GET /x HTTP/1.0\r\n" H "Host: b\r\n\r\n"),
	RAW("list of hosts", "GET /x HTTP/1.1\r\nHost: a, b\r\n\r\n"),
	RAW("host with path", "GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n"),
	RAW("host with user", "GET /x HTTP/1.1\r\nHost: u@a\r\n\r\n"),
	RAW("host with a word as port",
	    "GET /x HTTP/1.1\r\nHost: a:b\r\n\r\n"),
	RAW("host with half a bracket",
	    "GET /x HTTP/1.1\r\nHost: [::1\r\n\r\n"),
	RAW("host with more behind a bracket",
	    "GET /x HTTP/1.1\r\nHost: [::1]a\r\n\r\n"),
	RAW("user in absolute form", "GET http://u@a/x HTTP/1.1\r\n" H "\r\n"),
	RAW("no host in absolute form",
	    "GET http:///x HTTP/1.1\r\n" H "\r\n"),
	RAW("only a port in absolute form",
	    "GET http://:80/x HTTP/1.1\r\n" H "\r\n"),
	RAW("host with blank", "GET /x HTTP/1.1\r\nHost: a b\r\n\r\n"),
	/* 3: the request line. */
	RAW("method unknown", "BREW /x HTTP/1.1\r\n" H "\r\n"),
	RAW("method in small letters", "get /x HTTP/1.1\r\n" H "\r\n"),
	RAW("DELETE", "DELETE /x HTTP/1.1\r\n" H "\r\n"),
	RAW("TRACE", "TRACE /x HTTP/1.1\r\n" H "\r\n"),
	RAW("CONNECT", "CONNECT a:80 HTTP/1.1\r\n" H "\r\n"),
	RAW("POST", "POST /x HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n"),
	RAW("POST with body",
	    "POST /x HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello"),
	RAW("PUT, chunked", "PUT /x HTTP/1.1\r\n" H
	    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
	RAW("relative target", "GET x HTTP/1.1\r\n" H "\r\n"),
	RAW("star for GET", "GET * HTTP/1.1\r\n" H "\r\n"),
	RAW("another scheme", "GET ftp://a/x HTTP/1.1\r\n" H "\r\n"),
	RAW("blank in target", "GET /x y HTTP/1.1\r\n" H "\r\n"),
	RAW("fragment", "GET /x#y HTTP/1.1\r\n" H "\r\n"),
	RAW("bad escape", "GET /%4x HTTP/1.1\r\n" H "\r\n"),
	RAW("half an escape", "GET /%4 HTTP/1.1\r\n" H "\r\n"),
	RAW("two blanks before target", "GET  /x HTTP/1.1\r\n" H "\r\n"),
	RAW("two blanks before version", "GET /x  HTTP/1.1\r\n" H "\r\n"),
	RAW("blank after version", "GET /x HTTP/1.1 \r\n" H "\r\n"),
	RAW("tab in request line", "GET\t/x HTTP/1.1\r\n" H "\r\n"),
	RAW("tab in target", "GET /x\ty HTTP/1.1\r\n" H "\r\n"),
	RAW("control byte in target", "GET /x\001 HTTP/1.1\r\n" H "\r\n"),
	RAW("no target", "GET HTTP/1.1\r\n" H "\r\n"),
	RAW("no version", "GET /x\r\n" H "\r\n"),
	RAW("old version", "GET /x HTTP/0.9\r\n" H "\r\n"),
	RAW("version 2", "GET /x HTTP/2.0\r\n" H "\r\n"),
	RAW("version in small letters", "GET /x http/1.1\r\n" H "\r\n"),
	RAW("version with digits", "GET /x HTTP/1.10\r\n" H "\r\n"),
	RAW("not HTTP", "\026\003\001\002\000\001\000\001\374\003\003\r\n\r\n"),
};

/* On a listener that takes uploads. */
static const struct raw upload_refused[] = {
	RAW("no length", "PUT /x HTTP/1.1\r\n" H "\r\n"),
	RAW("two lengths", "PUT /x HTTP/1.1\r\n" H "Content-Length: 5\r\n"
	    "Content-Length: 5\r\n\r\nhello"),
	RAW("two other lengths", "PUT /x HTTP/1.1\r\n" H "Content-Length: 5\r\n"
	    "Content-Length: 42\r\n\r\nhello"),
	RAW("chunked", "PUT /x HTTP/1.1\r\n" H
	    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
	RAW("length and chunked", "POST /x HTTP/1.1\r\n" H
	    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello"),
	RAW("list of lengths",
	    "POST /x HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\nhello"),
	RAW("leading zero",
	    "POST /x HTTP/1.1\r\n" H "Content-Length: 05\r\n\r\nhello"),
	RAW("body of GET", OK "Content-Length: 5\r\n\r\nhello"),
	RAW("DELETE", "DELETE /x HTTP/1.1\r\n" H "\r\n"),
};

/* What must go on working, several on one connection. */
static const struct raw accepted[] = {
	RAW("plain", OK "\r\n"),
	RAW("no bytes of body", OK "Content-Length: 0\r\n\r\n"),
	RAW("pkg, libfetch", "GET //All/gtk+demo-2.0_1,1.pkg HTTP/1.1\r\n"
	    "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
	    "Host: mirror.example.org:8080\r\nAccept: */*\r\n"
	    "User-Agent: pkg/2.8.99.1\r\n\r\n"),
	RAW("absolute form", "GET http://b/x HTTP/1.1\r\n" H "\r\n"),
	RAW("absolute form, https", "GET https://b/x HTTP/1.1\r\n" H "\r\n"),
	RAW("query", "GET /x?a=b&c=%20+ HTTP/1.1\r\n" H "\r\n"),
	RAW("escapes", "GET /%78%2e HTTP/1.1\r\n" H "\r\n"),
	RAW("raw bytes above 127", "GET /\303\244 HTTP/1.1\r\n" H "\r\n"),
	RAW("IPv6 host", "GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
	RAW("empty host", "GET /x HTTP/1.1\r\nHost:\r\n\r\n"),
	RAW("tab in value", OK "X: a\tb\r\n\r\n"),
	RAW("no blank after colon", OK "X:a\r\n\r\n"),
	RAW("blank after host", "GET /x HTTP/1.1\r\nHost: a \r\n\r\n"),
	RAW("blank after value", OK "X: a \r\nY: b\r\n\r\n"),
	RAW("empty value", OK "X:\r\nY: b\r\n\r\n"),
	RAW("empty last value", OK "X:\r\n\r\n"),
	RAW("OPTIONS", "OPTIONS /x HTTP/1.1\r\n" H "\r\n"),
	RAW("OPTIONS of all", "OPTIONS * HTTP/1.1\r\n" H "\r\n"),
	RAW("later minor version", "GET /x HTTP/1.2\r\n" H "\r\n"),
};

static void
handler(void *arg, struct httpd_request *r)
{

	(void)arg;
	atomic_fetch_add(&served, 1);
	httpd_reply_status(r, 204, 0);
}

static int
on_body(void *arg, struct httpd_request *r, const void *p, size_t len)
{

	(void)arg;
	(void)r;
	(void)p;
	(void)len;
	atomic_fetch_add(&served, 1);
	return (0);
}

/* Sends a bad request and a good one; whatever comes back until the end of the
 * connection must be an error.  (What the library answers by itself need not be
 * well formed: 0.9.75 sends some of its heads twice.) */
static void
refuse(const struct raw *c, int at)
{
	int before = atomic_load(&served);
	struct web w;

	web_open(&w, at);
	web_send(&w, c->text, c->len);
	web_sends(&w, NEXT);
	while (web_more(&w) > 0)
		continue;
	web_close(&w);
	w.buf[w.len] = '\0';
	if (w.len > 0 && strncmp(w.buf, "HTTP/1.1 4", 10) != 0 &&
	    strncmp(w.buf, "HTTP/1.1 5", 10) != 0)
		fail_msg("%s: answered %s", c->name, w.buf);
	if (strstr(w.buf, "HTTP/1.1 2") != NULL)
		fail_msg("%s: went on with %s", c->name, w.buf);
	if (atomic_load(&served) != before)
		fail_msg("%s: served", c->name);
}

static void
refuse_all(const struct raw *cases, size_t n, int at)
{
	size_t i;

	for (i = 0; i < n; i++)
		refuse(&cases[i], at);
}

static void
refuses_what_is_ambiguous(void **state)
{

	(void)state;
	refuse_all(refused, sizeof(refused) / sizeof(refused[0]), port);
}

static void
refuses_uploads_of_doubtful_length(void **state)
{

	(void)state;
	refuse_all(upload_refused, sizeof(upload_refused) /
	    sizeof(upload_refused[0]), upload_port);
}

static void
refuses_without_a_body_and_says_why(void **state)
{
	static const struct {
		const char *text;
		int status;
		const char *allow;
	} cases[] = {
		{ "POST /x HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", 405,
		    "GET, HEAD, OPTIONS" },
		{ "DELETE /x HTTP/1.1\r\n" H "\r\n", 405,
		    "GET, HEAD, OPTIONS" },
		{ OK "Host: b\r\n\r\n", 400, NULL },
		{ OK "Expect: more\r\n\r\n", 417, NULL },
		{ OK "Content-Length: 5\r\n\r\nhello", 400, NULL },
	};
	struct web_answer a;
	char value[512];
	struct web w;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		web_open(&w, port);
		web_sends(&w, cases[i].text);
		web_read(&w, &a, false);
		assert_int_equal(a.status, cases[i].status);
		assert_non_null(web_field(&a, "Content-Length", value));
		assert_string_equal(value, "0");
		assert_non_null(web_field(&a, "Connection", value));
		assert_string_equal(value, "close");
		if (cases[i].allow != NULL) {
			assert_non_null(web_field(&a, "Allow", value));
			assert_string_equal(value, cases[i].allow);
		}
		web_free(&a);
		web_close(&w);
	}
}

static void
serves_what_is_right(void **state)
{
	size_t i, n = sizeof(accepted) / sizeof(accepted[0]);
	struct web_answer a;
	struct web w;

	(void)state;
	web_open(&w, port);
	for (i = 0; i < n; i++)
		web_send(&w, accepted[i].text, accepted[i].len);
	for (i = 0; i < n; i++) {
		web_read(&w, &a, false);
		if (a.status != 204)
			fail_msg("%s: %d", accepted[i].name, a.status);
		web_free(&a);
	}
	web_close(&w);
	web_open(&w, port);
	web_sends(&w, "GET /x HTTP/1.0\r\n\r\n");
	web_read(&w, &a, false);
	assert_int_equal(a.status, 204);
	web_free(&a);
	web_close(&w);
}

static struct httpd *
start(int *at, bool uploads)
{
	struct httpd_conf c = { .handler = handler };
	int fd;

	httpd_conf_defaults(&c);
	if (uploads)
		c.on_body = on_body;
	assert_int_not_equal(fd = httpd_listen("127.0.0.1:0"), -1);
	*at = httpd_port(fd);
	return (httpd_start(&c, &fd, 1));
}

static int
set_up(void **state)
{

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	server = start(&port, false);
	upload_server = start(&upload_port, true);
	return (server == NULL || upload_server == NULL ? -1 : 0);
}

static int
tear_down(void **state)
{

	(void)state;
	httpd_stop(&server);
	httpd_stop(&upload_server);
	return (0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_what_is_ambiguous),
		cmocka_unit_test(refuses_uploads_of_doubtful_length),
		cmocka_unit_test(refuses_without_a_body_and_says_why),
		cmocka_unit_test(serves_what_is_right),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("framing", tests, set_up,
	    tear_down));
}
