/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The access log: what a line looks like, that no peer can break one, and that
 * none is lost when the file is renamed.
 */
#include "tests/web.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "proto/accesslog.h"
#include "proto/fd.h"
#include "proto/httpd.h"

#define	WRITERS		4
#define	LINES		5000		/* of each writer */
#define	LOG_MAX		(64u << 20)
#define	AGENT		"pkg/2.8.99.1"

static char dir[] = "/tmp/test_accesslog.XXXXXX";
static char path[128], old_path[128];

static char *
content(const char *name)
{
	size_t len;
	char *p;

	assert_non_null(p = fd_slurp(AT_FDCWD, name, LOG_MAX, &len));
	assert_int_equal(strlen(p), len);
	return (p);
}

static size_t
lines(const char *p)
{
	size_t n = 0;

	for (; (p = strchr(p, '\n')) != NULL; p++)
		n++;
	return (n);
}

/* The line without its time. */
static void
check_line(const struct access_line *a, const char *before, const char *after)
{
	struct accesslog *l;
	char *p, *end;

	(void)unlink(path);
	assert_non_null(l = accesslog_open(path));
	accesslog_add(l, a);		/* also before it is started */
	accesslog_close(&l);
	assert_null(l);
	p = content(path);
	assert_int_equal(lines(p), 1);
	assert_int_equal(strncmp(p, before, strlen(before)), 0);
	assert_non_null(end = strchr(p, ']'));
	assert_string_equal(end, after);
	free(p);
}

static void
writes_the_combined_format(void **state)
{
	struct access_line a = { .peer = "::1", .method = "GET",
	    .target = "/a?b", .referer = NULL, .user_agent = AGENT,
	    .version = 11, .status = 200, .bytes = 12345678901 };

	(void)state;
	check_line(&a, "::1 - - [",
	    "] \"GET /a?b HTTP/1.1\" 200 12345678901 \"-\" \"" AGENT "\"\n");
	a.bytes = -1;
	a.version = 10;
	a.target = NULL;
	check_line(&a, "::1 - - [",
	    "] \"GET - HTTP/1.0\" 200 - \"-\" \"" AGENT "\"\n");
	a.target = "/\"\n\\\303";
	a.user_agent = "";
	a.referer = "\"x\r\n1.2.3.4 - - [";
	check_line(&a, "::1 - - [", "] \"GET /\\x22\\x0a\\x5c\\xc3 HTTP/1.0\" "
	    "200 - \"\\x22x\\x0d\\x0a1.2.3.4 - - [\" \"-\"\n");
}

static void *
write_many(void *arg)
{
	struct access_line a = { .peer = "::1", .method = "GET",
	    .target = "/x", .version = 11, .status = 200 };
	struct timespec ts = { .tv_nsec = 1000000 };
	int i;

	for (i = 0; i < LINES; i++) {
		a.bytes = i;
		accesslog_add(arg, &a);
		if (i % 100 == 0)
			(void)nanosleep(&ts, NULL);
	}
	return (NULL);
}

static void
loses_nothing_when_the_file_is_renamed(void **state)
{
	struct timespec ts = { .tv_nsec = 5000000 };
	pthread_t t[WRITERS];
	struct accesslog *l;
	size_t n = 0, k;
	char name[160], *p;
	int i;

	(void)state;
	(void)unlink(path);
	assert_non_null(l = accesslog_open(path));
	assert_int_equal(accesslog_start(l), 0);
	for (i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, write_many, l), 0);
	for (i = 0; i < 8; i++) {
		(void)snprintf(name, sizeof(name), "%s.%d", path, i);
		assert_int_equal(rename(path, name), 0);
		accesslog_reopen(l);
		while (access(path, F_OK) == -1)
			(void)nanosleep(&ts, NULL);
	}
	for (i = 0; i < WRITERS; i++)
		(void)pthread_join(t[i], NULL);
	accesslog_close(&l);
	for (i = 0; i <= 8; i++) {
		if (i < 8)
			(void)snprintf(name, sizeof(name), "%s.%d", path, i);
		p = content(i < 8 ? name : path);
		k = lines(p);
		assert_true(k == 0 || p[strlen(p) - 1] == '\n');
		n += k;
		free(p);
		(void)unlink(i < 8 ? name : path);
	}
	assert_int_equal(n, WRITERS * LINES);
}

/* Lines before the rename are in the old file, those after it in the new. */
static void
divides_at_the_rename(void **state)
{
	struct access_line a = { .peer = "::1", .method = "GET",
	    .target = "/old", .version = 11, .status = 200 };
	struct accesslog *l;
	char *p;

	(void)state;
	(void)unlink(path);
	assert_non_null(l = accesslog_open(path));
	accesslog_add(l, &a);
	assert_int_equal(rename(path, old_path), 0);
	accesslog_reopen(l);
	a.target = "/new";
	accesslog_add(l, &a);
	assert_int_equal(accesslog_start(l), 0);
	accesslog_close(&l);
	p = content(old_path);
	assert_non_null(strstr(p, "/old"));
	assert_null(strstr(p, "/new"));
	free(p);
	p = content(path);
	assert_non_null(strstr(p, "/new"));
	assert_null(strstr(p, "/old"));
	free(p);
	(void)unlink(old_path);
}

static void
handler(void *arg, struct httpd_request *r)
{
	struct answer_file f = { .size = 7, .time = -1, .type = "x" };
	struct httpd_body *b = httpd_body_copy("content", 7);
	struct answer a;

	(void)arg;
	answer_file(&a, httpd_method(r), httpd_fields(r), &f);
	httpd_reply(r, &a, &b);
}

static void
tells_of_each_request(void **state)
{
	static const char *const want[] = {
		"\"GET /a?b HTTP/1.1\" 200 7 \"-\" \"" AGENT "\"\n",
		"\"HEAD /h HTTP/1.1\" 200 0 \"http://x/\" \"-\"\n",
		"\"GET /r HTTP/1.1\" 206 2 \"-\" \"-\"\n",
		"\"BREW /c HTTP/1.1\" 405 0 \"-\" \"-\"\n",
	};
	struct httpd_conf c = { .handler = handler };
	struct web_answer a;
	struct httpd *h;
	struct web w;
	size_t i;
	char *p;
	int fd, port;

	(void)state;
	(void)unlink(path);
	httpd_conf_defaults(&c);
	c.stop_s = 1;
	assert_non_null(c.log = accesslog_open(path));
	assert_int_equal(accesslog_start(c.log), 0);
	assert_int_not_equal(fd = httpd_listen("[::]:0"), -1);
	port = httpd_port(fd);
	assert_non_null(h = httpd_start(&c, &fd, 1));
	web_open(&w, port);
	web_sends(&w, "GET /a?b HTTP/1.1\r\nHost: a\r\nUser-Agent: " AGENT
	    "\r\n\r\nHEAD /h HTTP/1.1\r\nHost: a\r\nReferer: http://x/\r\n\r\n"
	    "GET /r HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n"
	    "BREW /c HTTP/1.1\r\nHost: a\r\n\r\n");
	for (i = 0; i < 4; i++) {
		web_read(&w, &a, i == 1);
		assert_int_not_equal(a.status, 0);
		web_free(&a);
	}
	web_close(&w);
	httpd_stop(&h);
	accesslog_close(&c.log);
	p = content(path);
	assert_int_equal(lines(p), 4);
	for (i = 0; i < 4; i++)
		if (strstr(p, want[i]) == NULL)
			fail_msg("no %s in %s", want[i], p);
	assert_int_equal(strncmp(p, "127.0.0.1 - - [", 15), 0);
	free(p);
}

static int
set_up(void **state)
{

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	if (mkdtemp(dir) == NULL)
		return (-1);
	(void)snprintf(path, sizeof(path), "%s/log", dir);
	(void)snprintf(old_path, sizeof(old_path), "%s/log.old", dir);
	return (0);
}

static int
tear_down(void **state)
{

	(void)state;
	(void)unlink(path);
	return (rmdir(dir));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_the_combined_format),
		cmocka_unit_test(loses_nothing_when_the_file_is_renamed),
		cmocka_unit_test(divides_at_the_rename),
		cmocka_unit_test(tells_of_each_request),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("accesslog", tests, set_up,
	    tear_down));
}
