/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `pkgcast keys` and `pkgcast trust`, as an operator runs them: exit statuses,
 * what is written, and what is never overwritten.
 */

#include <sys/stat.h>

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "keys/cmd_keys.h"
#include "keys/cmd_trust.h"
#include "keys/minisign.h"
#include "keys/trust.h"
#include "proto/fd.h"

#define	ARGS	16

static char home[] = "home", conf_file[] = "master.conf";
static struct pkgcast_conf conf = { .home = home, .master = conf_file };
static char output[65536];		/* of the last command */

static int
enter_folder(void **state)
{
	const char text[] = "user = \"root\"\nstate = \"state/master\"\n";
	char *dir = strdup("/tmp/test_keycmd.XXXXXX");

	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(fd_replace(AT_FDCWD, conf_file, text, strlen(text),
	    0644), 0);
	*state = dir;
	return (0);
}

static int
leave_folder(void **state)
{

	assert_int_equal(chdir("/"), 0);
	assert_int_equal(fd_remove_tree(AT_FDCWD, *state), 0);
	free(*state);
	return (0);
}

/* Puts fd where another one is; returns what was there. */
static int
divert(int fd, int where)
{
	int old = dup(where);

	assert_int_not_equal(old, -1);
	assert_int_equal(dup2(fd, where), where);
	assert_int_equal(close(fd), 0);
	return (old);
}

/* Runs a command line (words between blanks), standard input being `input`. */
static int
run(const char *input, const char *line)
{
	char *argv[ARGS + 1] = { NULL }, *copy = strdup(line), *p, *text;
	int argc = 0, in, out, error, p2[2], ret;
	size_t len;

	for (p = copy; p != NULL && argc < ARGS;)
		argv[argc++] = strsep(&p, " ");
	assert_int_equal(pipe(p2), 0);
	assert_int_equal(fd_write_all(p2[1], input, strlen(input)), 0);
	assert_int_equal(close(p2[1]), 0);
	(void)fflush(stdout);
	in = divert(p2[0], 0);
	out = divert(open("output", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND,
	    0600), 1);
	error = dup(2);
	assert_int_equal(dup2(1, 2), 2);
	ret = (strcmp(argv[0], "keys") == 0 ? cmd_keys : cmd_trust)(&conf,
	    argc, argv);
	(void)fflush(stdout);
	(void)close(divert(in, 0));
	(void)close(divert(out, 1));
	(void)close(divert(error, 2));
	assert_non_null(text = fd_slurp(AT_FDCWD, "output", sizeof(output) - 1,
	    &len));
	memcpy(output, text, len + 1);
	free(text);
	free(copy);
	return (ret);
}

static void
says(const char *text)
{

	if (strstr(output, text) == NULL)
		fail_msg("\"%s\" is not in: %s", text, output);
}

static mode_t
mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (st.st_mode & 07777);
}

static void
first_steps(void **state)
{
	struct pubkey root;
	char key[PUBKEY_TEXT], id[17];

	(void)state;
	assert_int_equal(run("", "keys generate -W"), 0);
	assert_int_equal(mode_of("home"), 0700);
	assert_int_equal(mode_of("home/publisher.key"), 0600);
	assert_int_equal(mode_of("home/publisher.pub"), 0644);
	assert_int_equal(run("", "trust init"), 1);
	says("keys generate home/root.key");
	assert_int_equal(run("", "keys generate --no-password home/root.key"),
	    0);
	assert_int_equal(run("", "trust show"), 1);
	says("\"pkgcast trust init\" makes it");
	assert_int_equal(run("", "trust init"), 0);
	assert_int_equal(pubkey_read(&root, "home/root.pub"), 0);
	says(pubkey_text(&root, key));
	says("root-key = \"");
	says("Written: state/master/trust/1");
	assert_int_equal(mode_of("state"), 0755);
	assert_int_equal(mode_of("state/master"), 0750);
	assert_int_equal(mode_of("state/master/trust"), 0755);
	assert_int_equal(mode_of("state/master/trust/1"), 0644);
	assert_int_equal(run("", "trust show"), 0);
	says(pubkey_id(&root, id));
	says("It verifies");
	says("version 1, created");
	says("(in 365 days)");
	/* Once. */
	assert_int_equal(run("", "trust init"), 1);
	says("is there already");
	assert_int_equal(run("", "keys generate -W"), 1);
	says("is not overwritten");
}

static void
keys_shown(void **state)
{
	struct pubkey k;
	char id[17];

	(void)state;
	assert_int_equal(run("", "keys generate -W home/a.key"), 0);
	assert_int_equal(pubkey_read(&k, "home/a.pub"), 0);
	assert_int_equal(run("", "keys show home/a.key"), 0);
	says(pubkey_id(&k, id));
	says("minisign secret key");
	assert_int_equal(run("", "keys show home/a.pub"), 0);
	says(id);
	assert_int_equal(run("", "keys show"), 1);
	says("No such file");
	assert_int_equal(run("", "keys show master.conf"), 1);
	assert_int_equal(run("", "keys generate empty.key"), 1);
	says("no password given");
	assert_int_equal(access("empty.key", F_OK), -1);
}

/* Makes a public file's key the root key of master.conf. */
static void
pin_root(const char *file)
{
	char key[PUBKEY_TEXT], text[128];
	struct pubkey k;

	assert_int_equal(pubkey_read(&k, file), 0);
	(void)snprintf(text, sizeof(text), "root-key = \"%s\"\n",
	    pubkey_text(&k, key));
	assert_int_equal(fd_replace(AT_FDCWD, conf_file, text, strlen(text),
	    0644), 0);
}

static void
several_roots(void **state)
{
	(void)state;
	assert_int_equal(run("", "keys generate -W a"), 0);
	assert_int_equal(run("", "keys generate -W b"), 0);
	assert_int_equal(run("", "trust init --root a --root b --threshold 1 "
	    "--publisher a.pub:FreeBSD:* --publisher b.pub --expires 30d "
	    "--out t"), 0);
	says("root-threshold = \"1\"");
	assert_int_equal(run("", "trust show t"), 0);
	says("1 of 2 must sign");
	says("FreeBSD:*");
	says("(in 30 days)");
	/* With a root key that did not sign, it is not good. */
	assert_int_equal(run("", "keys generate -W c"), 0);
	assert_int_equal(run("", "trust init --root c --publisher a.pub "
	    "--out u"), 0);
	pin_root("c.pub");
	assert_int_equal(run("", "trust show u"), 0);
	assert_int_equal(run("", "trust show t"), 1);
	says("NOT GOOD with the root keys of master.conf");
}

static void
refused(void **state)
{
	static const struct { const char *line; int status; } cases[] = {
	    { "keys", 2 }, { "keys list", 2 }, { "keys generate a b", 2 },
	    { "keys generate -x", 2 }, { "keys show a b", 2 },
	    { "keys show -v", 2 }, { "trust", 2 }, { "trust sign", 2 },
	    { "trust init extra", 2 }, { "trust init --bogus", 2 },
	    { "trust init --threshold 0 --out t", 2 },
	    { "trust init --threshold 17 --out t", 2 },
	    { "trust init --expires yesterday --out t", 2 },
	    { "trust init --expires 2020-01-01 --out t", 2 },
	    { "trust init --expires 0d --out t", 2 },
	    { "trust init --root a --root a --publisher a.pub --out t", 1 },
	    { "trust init --root a --publisher a.pub --threshold 2 --out t", 1 },
	    { "trust init --root a --publisher a.pub:x\\y --out t", 1 },
	    { "trust init --root a --publisher a.pub --publisher a.pub:* "
	      "--out t", 1 },
	    { "trust init --root a.pub --publisher a.pub --out t", 1 },
	    { "trust init --root a --publisher a --out t", 1 },
	    { "trust init --root a --publisher absent.pub --out t", 1 },
	    { "trust init --root a --publisher a.pub --out a.pub", 1 },
	    { "trust show absent", 1 }, { "trust show a.pub", 1 },
	};
	size_t i;

	(void)state;
	assert_int_equal(run("", "keys generate -W a"), 0);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (run("", cases[i].line) != cases[i].status)
			fail_msg("%s: %s", cases[i].line, output);
	assert_int_equal(access("t", F_OK), -1);
	assert_int_equal(unlink(conf_file), 0);
	assert_int_equal(run("", "trust init --root a --publisher a.pub"), 2);
	says("--out FILE needs no master");
}

int
main(void)
{
#define	IN_FOLDER(f) \
	cmocka_unit_test_setup_teardown(f, enter_folder, leave_folder)
	const struct CMUnitTest tests[] = {
		IN_FOLDER(first_steps),
		IN_FOLDER(keys_shown),
		IN_FOLDER(several_roots),
		IN_FOLDER(refused),
	};

	(void)umask(022);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("keycmd", tests, NULL, NULL));
}
