/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket, both ends.
 */

#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "edge/control.h"
#include "proto/clock.h"
#include "proto/fd.h"

static struct {
	char	 path[64];
	int	 fd;
	struct control *control;
	unsigned calls;
	char	 last[CONTROL_LINE];
} dir;

static int
command(void *arg, const char *line, char *answer, size_t size)
{

	assert_ptr_equal(arg, &dir);
	dir.calls++;
	(void)snprintf(dir.last, sizeof(dir.last), "%s", line);
	if (strcmp(line, "long") == 0) {
		memset(answer, 'x', size - 1);
		answer[size - 1] = '\0';
		return (0);
	}
	if (strncmp(line, "mark ", 5) != 0) {
		(void)snprintf(answer, size, "no such command");
		return (-1);
	}
	(void)snprintf(answer, size, "marked %s", line + 5);
	return (0);
}

static int
setup(void **state)
{

	(void)state;
	(void)snprintf(dir.path, sizeof(dir.path), "/tmp/test_control.XXXXXX");
	dir.calls = 0;
	if (mkdtemp(dir.path) == NULL ||
	    (dir.fd = fd_open_dir(AT_FDCWD, dir.path)) == -1)
		return (-1);
	dir.control = control_start(dir.fd, dir.path, command, &dir);
	return (dir.control != NULL ? 0 : -1);
}

static int
teardown(void **state)
{

	(void)state;
	control_stop(&dir.control);
	fd_close(&dir.fd);
	return (fd_remove_tree(AT_FDCWD, dir.path));
}

/* A connection that has sent so much. */
static int
client(const void *bytes, size_t len)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd;

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/control", dir.path);
	assert_int_not_equal(fd = socket(AF_UNIX, SOCK_STREAM, 0), -1);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
	return (fd);
}

/* What is sent back until the end. */
static void
expect(int *fd, const char *text)
{
	char got[1024];
	size_t len = 0;
	ssize_t n;

	while ((n = recv(*fd, got + len, sizeof(got) - 1 - len, 0)) > 0)
		len += (size_t)n;
	got[len] = '\0';
	assert_string_equal(got, text);
	fd_close(fd);
}

static void
answers(void **state)
{
	char answer[CONTROL_ANSWER];
	struct stat st;

	(void)state;
	assert_int_equal(control_ask(dir.path, "mark a/b", answer), 0);
	assert_string_equal(answer, "marked a/b");
	assert_string_equal(dir.last, "mark a/b");
	assert_int_equal(control_ask(dir.path, "purge a", answer), 1);
	assert_string_equal(answer, "no such command");
	assert_int_equal(control_ask(dir.path, "long", answer), 0);
	assert_int_equal(strlen(answer), CONTROL_ANSWER - 1);
	assert_int_equal(fstatat(dir.fd, "control", &st, 0), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void
takes_one_line(void **state)
{
	static const struct { const char *bytes; size_t len; } bad[] = {
		{ "mark a\nmark b\n", 14 }, { "mark a\nm", 8 },
		{ "mark\0a\n", 7 }, { "\0\n", 2 },
	};
	char line[CONTROL_LINE + 1];
	size_t i;
	int fd;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fd = client(bad[i].bytes, bad[i].len);
		expect(&fd, "error: one line is expected\n");
	}
	memset(line, 'a', sizeof(line));
	fd = client(line, CONTROL_LINE);
	expect(&fd, "error: one line is expected\n");
	assert_int_equal(dir.calls, 0);
	/* The longest one, and one that comes in parts. */
	line[CONTROL_LINE - 1] = '\n';
	fd = client(line, CONTROL_LINE);
	expect(&fd, "error: no such command\n");
	assert_int_equal(strlen(dir.last), CONTROL_LINE - 1);
	fd = client("ma", 2);
	clock_sleep(50);
	assert_int_equal(send(fd, "rk a\n", 5, MSG_NOSIGNAL), 5);
	expect(&fd, "ok marked a\n");
}

/* Who says nothing, or says it slowly, is given up after a second. */
static void
waits_for_nobody(void **state)
{
	char answer[CONTROL_ANSWER];
	int64_t began = clock_boot_ms();
	int silent = client("", 0), slow = client("mark", 4), gone;

	(void)state;
	gone = client("mark a\n", 7);
	fd_close(&gone);
	assert_int_equal(control_ask(dir.path, "mark b", answer), 0);
	assert_in_range(clock_boot_ms() - began, 1900, 10000);
	expect(&silent, "error: one line is expected\n");
	expect(&slow, "error: one line is expected\n");
	assert_string_equal(dir.last, "mark b");
}

static void
stops_at_once(void **state)
{
	char answer[CONTROL_ANSWER];
	int silent = client("", 0);
	int64_t began;

	(void)state;
	clock_sleep(50);
	began = clock_boot_ms();
	control_stop(&dir.control);
	assert_null(dir.control);
	assert_in_range(clock_boot_ms() - began, 0, 900);
	assert_int_equal(faccessat(dir.fd, "control", F_OK, 0), -1);
	assert_int_equal(control_ask(dir.path, "mark a", answer), -1);
	assert_int_equal(errno, ENOENT);
	fd_close(&silent);
}

static void
replaces_what_a_dead_process_left(void **state)
{
	char answer[CONTROL_ANSWER];
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd;

	(void)state;
	control_stop(&dir.control);
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/control", dir.path);
	assert_int_not_equal(fd = socket(AF_UNIX, SOCK_STREAM, 0), -1);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	fd_close(&fd);
	assert_int_equal(control_ask(dir.path, "mark a", answer), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_non_null(dir.control = control_start(dir.fd, dir.path, command,
	    &dir));
	assert_int_equal(control_ask(dir.path, "mark a", answer), 0);
}

static void
refuses_what_does_not_fit(void **state)
{
	char path[200], line[CONTROL_LINE + 1], answer[CONTROL_ANSWER];

	(void)state;
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_false(control_fits(path));
	assert_null(control_start(dir.fd, path, command, &dir));
	assert_int_equal(errno, ENAMETOOLONG);
	assert_int_equal(control_ask(path, "mark a", answer), -1);
	assert_int_equal(errno, ENAMETOOLONG);
	path[90] = '\0';
	assert_true(control_fits(path));
	memset(line, 'a', sizeof(line));
	line[CONTROL_LINE - 1] = '\0';
	assert_int_equal(control_ask(dir.path, line, answer), 1);
	line[CONTROL_LINE - 1] = 'a';
	line[CONTROL_LINE] = '\0';
	assert_int_equal(control_ask(dir.path, line, answer), -1);
	assert_int_equal(errno, EINVAL);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(answers, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_one_line, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(waits_for_nobody, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(stops_at_once, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    replaces_what_a_dead_process_left, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_does_not_fit,
		    setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("control", tests, NULL, NULL));
}
