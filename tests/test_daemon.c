/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What both daemons do around their work.
 */

#include <sys/types.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/daemon.h"
#include "proto/fd.h"

static void
refuses_secrets_that_others_can_read(void **state)
{
	static const struct { mode_t mode; int ret; } cases[] = {
		{ 0600, 0 }, { 0640, 0 }, { 0400, 0 }, { 0644, -1 },
		{ 0604, -1 }, { 0602, -1 }, { 0601, -1 },
	};
	char name[] = "/tmp/test_daemon.XXXXXX";
	struct parse_error err;
	size_t i;
	int fd;

	(void)state;
	assert_int_not_equal(fd = mkstemp(name), -1);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(fchmod(fd, cases[i].mode), 0);
		assert_int_equal(daemon_secret_ok(name, &err), cases[i].ret);
	}
	assert_non_null(strstr(err.reason, name));
	assert_non_null(strstr(err.reason, "0601"));
	fd_close(&fd);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(daemon_secret_ok(name, &err), 0);	/* absent */
}

/* In a child, since there is no way back. */
static int
in_child(int (*what)(void))
{
	int status;
	pid_t pid;

	if ((pid = fork()) == 0)
		_exit(what());
	if (pid == -1 || waitpid(pid, &status, 0) != pid)
		return (-1);
	return (WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static int
become_nobody(void)
{
	struct parse_error err;
	gid_t groups[64];
	int i, n;

	if (daemon_become("nobody", &err) == -1)
		return (1);
	if (getuid() == 0 || geteuid() == 0 || getgid() == 0)
		return (2);
	if ((n = getgroups(64, groups)) == -1)
		return (3);
	for (i = 0; i < n; i++)
		if (groups[i] == 0)
			return (4);
	return (setuid(0) == -1 ? 0 : 5);
}

static int
become_nobody_known(void)
{
	struct parse_error err;

	if (daemon_become("no-such-user", &err) != -1)
		return (1);
	return (strncmp(err.reason, "user \"no-such-user\": no such user", 33)
	    == 0 ? 0 : 2);
}

static int
stay_root(void)
{

	return (daemon_become("root", NULL) == 0 && geteuid() == 0 ? 0 : 1);
}

static void
becomes_another_user_for_good(void **state)
{

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_child(become_nobody), 0);
	assert_int_equal(in_child(become_nobody_known), 0);
	assert_int_equal(in_child(stay_root), 0);
}

static int
usage_of(const char *command, char *const argv[], int argc)
{
	struct daemon_options o;
	char *copy[8] = { NULL };
	int i, status;
	pid_t pid;

	for (i = 0; i < argc; i++)
		copy[i] = argv[i];
	if ((pid = fork()) == 0) {
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(99);
		daemon_options(&o, "pkgcast-edge", "/d", command, argc, copy);
		_exit((strcmp(o.file, "/f") == 0 ? 10 : 20) +
		    (o.test ? 1 : 0) + (o.verbose ? 4 : 0) +
		    (o.operand == NULL ? 0 :
		    strcmp(o.operand, "a") == 0 ? 40 : 80));
	}
	if (pid == -1 || waitpid(pid, &status, 0) != pid)
		return (-1);
	return (WEXITSTATUS(status));
}

static void
takes_options(void **state)
{
	char p[] = "pkgcast-edge", f[] = "-f", file[] = "/f", t[] = "-t";
	char tv[] = "-tv", v[] = "-v", x[] = "-x", word[] = "mark", a[] = "a";
	char part[] = "mar", more[] = "marks";
	const char *no = NULL, *mark = "mark set";

	(void)state;
	assert_int_equal(usage_of(no, (char *[]){ p }, 1), 20);
	assert_int_equal(usage_of(no, (char *[]){ p, t }, 2), 21);
	assert_int_equal(usage_of(no, (char *[]){ p, tv, f, file }, 4), 15);
	assert_int_equal(usage_of(no, (char *[]){ p, x }, 2), 2);
	assert_int_equal(usage_of(no, (char *[]){ p, f }, 2), 2);
	assert_int_equal(usage_of(no, (char *[]){ p, word }, 2), 2);
	assert_int_equal(usage_of(no, (char *[]){ p, word, a }, 3), 2);
	assert_int_equal(usage_of(mark, (char *[]){ p, f, file }, 3), 10);
	assert_int_equal(usage_of(mark, (char *[]){ p, word, a }, 3), 60);
	assert_int_equal(usage_of(mark, (char *[]){ p, f, file, word, a }, 5),
	    50);
	assert_int_equal(usage_of(mark, (char *[]){ p, word }, 2), 2);
	assert_int_equal(usage_of(mark, (char *[]){ p, part, a }, 3), 2);
	assert_int_equal(usage_of(mark, (char *[]){ p, more, a }, 3), 2);
	assert_int_equal(usage_of(mark, (char *[]){ p, word, a, a }, 4), 2);
	assert_int_equal(usage_of(mark, (char *[]){ p, t, word, a }, 4), 2);
	assert_int_equal(usage_of(mark, (char *[]){ p, v, word, a }, 4), 2);
}

static void
waits_for_signals(void **state)
{

	(void)state;
	daemon_block_signals();
	assert_int_equal(kill(getpid(), SIGHUP), 0);
	assert_int_equal(daemon_signal(), SIGHUP);
	assert_int_equal(kill(getpid(), SIGTERM), 0);
	assert_int_equal(daemon_signal(), SIGTERM);
	assert_int_equal(raise(SIGPIPE), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_secrets_that_others_can_read),
		cmocka_unit_test(becomes_another_user_for_good),
		cmocka_unit_test(takes_options),
		cmocka_unit_test(waits_for_signals),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("daemon", tests, NULL, NULL));
}
