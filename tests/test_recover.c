/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What of a master's state stays, and comes back: retention, withdrawal,
 * restarts, and kill -9 in the middle of publishing (G5).  For the last the
 * program starts itself, as a master that publishes for ever.
 */

#include "tests/master.h"

#define	KEY_FILES	"keys"		/* folder in the state folder */

static const char	*program;

static void
test_retention(void **arg)
{
	int64_t t = clock_real() - 60 * DAY;
	struct draft d, next;
	uint64_t g;

	(void)arg;
	up();
	draft_numbered(&d, 1, 1, t, NULL);
	publish_draft(&d);
	for (g = 2; g <= 13; g++) {
		draft_numbered(&next, g, 1, t, &d.h);
		publish_draft(&next);
		draft_free(&d);
		d = next;
	}
	pause_ms(100);
	down();
	check_current(&d);
	assert_int_equal(count("set/" SET "/kept"), 10);
	assert_false(there("set/" SET "/kept/3"));
	assert_true(there("set/" SET "/kept/4"));
	assert_int_equal(count("www/.pkgcast/head"), 10);
	assert_true(there("tree/" SET "/12"));
	assert_false(there("tree/" SET "/11"));
	/* 10 manifests, own files; the one that stays; the empty table. */
	assert_int_equal(count("blob"), 22);
	up();
	draft_numbered(&next, 14, 14, t, &d.h);
	publish_draft(&next);
	pause_ms(100);
	down();
	check_current(&next);
	assert_int_equal(count("set/" SET "/kept"), 1);
	assert_int_equal(count("www/.pkgcast/head"), 1);
	assert_int_equal(count("blob"), 4);
	assert_false(there("tree/" SET "/13"));
	draft_free(&d);
	draft_free(&next);
}

/* A restart in the middle of the upload; one blob did not survive it. */
static void
test_restart(void **arg)
{
	struct say s = { .generation = 1, .created = month_ago() };
	char token[64], path[100], hex[DIGEST_HEX + 1];
	struct draft d;

	(void)arg;
	up();
	draft_make(&d, first, &s);
	assert_int_equal(post(&d, token), 201);
	assert_int_equal(put_lists(&d, token), 201);
	put_blobs(&d, token, 2);
	assert_int_equal(missing(&d, token, NULL), 1);
	down();
	(void)snprintf(path, sizeof(path), "blob/%s",
	    digest_hex(&d.blob[0].d, hex));
	assert_int_equal(unlinkat(state, path, 0), 0);
	d.blob[0].p[9] ^= 1;
	assert_int_equal(fd_replace(state, path, d.blob[0].p, BIG, 0444), 0);
	d.blob[0].p[9] ^= 1;
	up();
	assert_int_equal(try("GET", SET "/missing", token, "", 0, NULL), 401);
	assert_int_equal(post(&d, token), 200);
	assert_int_equal(missing(&d, token, NULL), 2);
	down();
	/* All that is missing comes by other ways: it goes on by itself. */
	assert_int_equal(unlinkat(state, path, 0), -1);
	assert_int_equal(fd_replace(state, path, d.blob[0].p, BIG, 0444), 0);
	(void)snprintf(path, sizeof(path), "blob/%s",
	    digest_hex(&d.blob[2].d, hex));
	assert_int_equal(fd_replace(state, path, d.blob[2].p, d.blob[2].len,
	    0444), 0);
	up();
	assert_int_equal(follow(SET, NULL), 0);
	down();
	check_current(&d);
	draft_free(&d);
}

static void
litter(const char *path)
{

	assert_int_equal(fd_replace(state, path, "x", 1, 0644), 0);
}

/* What a crash can leave: before the decisive rename, and after it. */
static void
test_leftovers(void **arg)
{
	int64_t t = clock_real() - 60 * DAY;
	struct draft one, two;
	char *text;
	size_t len;

	(void)arg;
	up();
	draft_numbered(&one, 1, 1, t, NULL);
	publish_draft(&one);
	draft_numbered(&two, 2, 1, t, &one.h);
	publish_draft(&two);
	down();
	/* After: what is derived is still that of the first one. */
	assert_int_equal(unlinkat(state, "tree/" SET "/current", 0), 0);
	assert_int_equal(symlinkat("1", state, "tree/" SET "/current"), 0);
	assert_int_equal(fd_replace(state, "www/.pkgcast/heads", one.h.text,
	    one.h.len, 0644), 0);
	assert_int_equal(fd_replace(state, "set/" SET "/pending", two.h.text,
	    two.h.len, 0644), 0);
	litter("tmp/blob.1");
	litter("set/" SET "/.next");
	litter("set/" SET "/kept/.new.3");
	litter("set/" SET "/kept/3");
	assert_int_equal(fd_mkdirs(state, "tree/" SET "/3/All", 0755), 0);
	litter("blob/00000000000000000000000000000000"
	    "00000000000000000000000000000000");
	up();
	pause_ms(100);
	down();
	check_current(&two);
	assert_false(there("set/" SET "/.next"));
	assert_false(there("set/" SET "/kept/.new.3"));
	assert_false(there("set/" SET "/kept/3"));
	assert_false(there("tree/" SET "/3"));
	assert_false(there("blob/00000000000000000000000000000000"
	    "00000000000000000000000000000000"));
	/* All that is derived is lost. */
	assert_int_equal(fd_remove_tree(state, "www"), 0);
	assert_int_equal(fd_remove_tree(state, "tree"), 0);
	up();
	down();
	check_current(&two);
	assert_int_equal(count("www/.pkgcast/head"), 2);
	/* Before: all of the second is there but for its name. */
	assert_non_null(text = fd_slurp(state, "set/" SET "/kept/1", HEAD_MAX,
	    &len));
	assert_int_equal(fd_replace(state, "set/" SET "/head", text, len,
	    0644), 0);
	free(text);
	assert_int_equal(fd_replace(state, "set/" SET "/pending", two.h.text,
	    two.h.len, 0644), 0);
	up();
	assert_int_equal(follow(SET, NULL), 0);
	down();
	check_current(&two);
	draft_free(&one);
	draft_free(&two);
}

/* The child's publisher is ours. */
static void
keys_move(bool out)
{
	const struct { const char *name; struct seckey **key; } f[] = {
	    { "root", &root }, { "good", &good }, { "stranger", &stranger } };
	struct parse_error err = { .reason = "" };
	char path[128], pub[136];
	size_t i;

	if (out)
		assert_int_equal(fd_mkdirs(state, KEY_FILES, 0700), 0);
	for (i = 0; i < sizeof(f) / sizeof(f[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/" KEY_FILES "/%s", dir,
		    f[i].name);
		(void)snprintf(pub, sizeof(pub), "%s.pub", path);
		if (out)
			assert_int_equal(seckey_write(*f[i].key, path, pub,
			    NULL), 0);
		else if ((*f[i].key = seckey_read(path, NULL, NULL, &err)) ==
		    NULL)
			_exit(1);
	}
}

/* Publishes one generation after the other until it is killed; says which it
 * saw acknowledged. */
static void
publish_forever(int64_t t)
{
	struct draft d, next;
	struct snapshot *s;
	uint64_t g;

	up();
	memset(&d, 0, sizeof(d));
	if ((s = site_current(site, SET)) != NULL)
		d.h = *snapshot_head(s);
	for (g = d.h.generation + 1;; g++) {
		draft_numbered(&next, g, 1, t, d.h.len == 0 ? NULL : &d.h);
		publish_draft(&next);
		if (fd_write_all(STDOUT_FILENO, &g, sizeof(g)) == -1)
			_exit(1);
		draft_free(&d);
		d = next;
	}
}

#define	CRASHES		12

/* What can go on without a publisher has gone on. */
static void
settle(void)
{
	struct web_answer a;
	bool busy = true;

	while (busy) {
		(void)ask("GET", SET, NULL, "", 0, &a);
		busy = strstr(a.body, "\"prepare\"") != NULL;
		web_free(&a);
		pause_ms(50);
	}
}

/* What the disk says is published; 0: nothing.  Not what the daemon said: it
 * may have gone on until it was down. */
static uint64_t
read_published(struct draft *d)
{
	char path[80], hex[DIGEST_HEX + 1], *text;
	struct parse_error err;
	size_t len;

	memset(d, 0, sizeof(*d));
	if ((text = fd_slurp(state, "set/" SET "/head", HEAD_MAX, &len)) ==
	    NULL)
		return (0);
	assert_int_equal(head_parse(&d->h, text, len, &err), 0);
	free(text);
	(void)snprintf(path, sizeof(path), "blob/%s",
	    digest_hex(&d->h.manifest, hex));
	d->manifest = fd_slurp(state, path, MANIFEST_MAX, &d->manifest_len);
	assert_non_null(d->manifest);
	return (d->h.generation);
}

static void
crash_once(uint64_t *current, int64_t t, unsigned ms)
{
	struct draft d;
	uint64_t g, acked = 0;
	int fds[2], status;
	char start[32];
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	if ((pid = fork()) == 0) {
		(void)snprintf(start, sizeof(start), "%lld", (long long)t);
		(void)dup2(fds[1], STDOUT_FILENO);
		(void)execl(program, program, dir, start, (char *)NULL);
		_exit(127);
	}
	(void)close(fds[1]);
	pause_ms((long)ms);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	while (read(fds[0], &g, sizeof(g)) == (ssize_t)sizeof(g))
		acked = g;
	(void)close(fds[0]);
	up();
	settle();
	down();
	g = read_published(&d);
	assert_true(g >= acked && g >= *current);
	*current = g;
	if (g > 0)
		check_published(&d);
	draft_free(&d);
}

static void
test_crashes(void **arg)
{
	int64_t t = clock_real() - 2000 * DAY;
	uint64_t current = 0;
	unsigned i;

	(void)arg;
	keys_move(true);
	for (i = 0; i < CRASHES; i++)
		crash_once(&current, t, 60 + i * 37 % 200);
	print_message("# %llu generations in %d crashes\n",
	    (unsigned long long)current, CRASHES);
}

static int
child(const char *folder, const char *start)
{

	(void)snprintf(dir, sizeof(dir), "%s", folder);
	if (keys_init() == -1 ||
	    (state = fd_open_dir(AT_FDCWD, dir)) == -1)
		return (1);
	keys_move(false);
	publish_forever(strtoll(start, NULL, 10));
	return (0);
}

int
main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_retention, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leftovers, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_crashes, setup, teardown),
	};

	program = argv[0];
	if (argc == 3)
		return (child(argv[1], argv[2]));
	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (keys_make() == -1)
		return (1);
	return (cmocka_run_group_tests_name("recover", tests, NULL, NULL));
}
