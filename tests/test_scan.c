/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a folder holds: order, refusals, memory of the last scan, and trees that
 * change; and which entry paths are recognised in it.
 */

#include <sys/stat.h>

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "master/compose.h"
#include "master/scan.h"
#include "proto/chunk.h"
#include "proto/fd.h"

static char root[] = "/tmp/test_scan.XXXXXX";
static int rootfd = -1;

static void
put(const char *path, const char *text)
{
	char dir[PATH_BYTES_MAX];
	char *slash;
	int fd;

	(void)snprintf(dir, sizeof(dir), "%s", path);
	if ((slash = strrchr(dir, '/')) != NULL) {
		*slash = '\0';
		assert_int_equal(fd_mkdirs(rootfd, dir, 0755), 0);
	}
	fd = openat(rootfd, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd != -1);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	(void)close(fd);
}

/* The tree is made below root/tree, memory and the like stand beside it. */
static int
set_up(void **state)
{

	(void)state;
	memcpy(root + sizeof(root) - 7, "XXXXXX", 6);
	if (mkdtemp(root) == NULL)
		return (-1);
	rootfd = fd_open_dir(AT_FDCWD, root);
	return (mkdirat(rootfd, "tree", 0755));
}

static int
tear_down(void **state)
{

	(void)state;
	fd_close(&rootfd);
	return (fd_remove_tree(AT_FDCWD, root));
}

static struct scan *
scan(struct scan_conf *c, struct parse_error *err)
{
	static char dir[sizeof(root) + 8];

	(void)snprintf(dir, sizeof(dir), "%s/tree", root);
	c->dir = dir;
	c->threads = 2;
	return (scan_new(c, err));
}

static void
test_order(void **state)
{
	static const char *const want[] = {
		"All", "All-x", "All/a", "All/b", "B", "a", "a/b", "a/b/c",
		"link", "z.pkg"
	};
	struct scan_conf c = { .cachefd = -1 };
	struct parse_error err;
	const struct scan_entry *e;
	struct digest d;
	struct scan *s;
	size_t i;

	(void)state;
	put("tree/z.pkg", "z");
	put("tree/All/b", "b");
	put("tree/All/a", "a");
	put("tree/All-x", "x");
	put("tree/B", "B");
	put("tree/a/b/c", "z");
	assert_int_equal(mkdirat(rootfd, "tree/a/nothing", 0755), 0);
	assert_int_equal(mkdirat(rootfd, "tree/a/nothing/in", 0755), 0);
	assert_int_equal(symlinkat("All/../a/b/c", rootfd, "tree/link"), 0);
	s = scan(&c, &err);
	assert_non_null(s);
	assert_int_equal(scan_n(s), sizeof(want) / sizeof(want[0]));
	for (i = 0; i < scan_n(s); i++)
		assert_string_equal(scan_nth(s, i)->path, want[i]);
	digest_of(&d, "z", 1);
	e = scan_nth(s, 8);
	assert_int_equal(e->type, ENTRY_LINK);
	assert_string_equal(e->link, "All/../a/b/c");
	assert_true(digest_eq(&e->digest, &d));
	assert_true(scan_find_digest(s, &d) == 7 ||
	    scan_find_digest(s, &d) == 9);
	digest_of(&d, "nobody's", 8);
	assert_int_equal(scan_find_digest(s, &d), -1);
	scan_destroy(&s);
	assert_null(s);
}

static void
test_rows(void **state)
{
	struct scan_conf c = { .cachefd = -1 };
	struct parse_error err;
	const struct scan_entry *e;
	struct digest d;
	struct scan *s;
	char *big;

	(void)state;
	big = calloc(1, CHUNK_SIZE + 2);
	assert_non_null(big);
	memset(big, 'x', CHUNK_SIZE + 1);
	put("tree/big", big);
	s = scan(&c, &err);
	assert_non_null(s);
	e = scan_nth(s, 0);
	assert_int_equal(e->size, CHUNK_SIZE + 1);
	digest_of(&d, big, CHUNK_SIZE);
	assert_memory_equal(e->rows, d.b, DIGEST_LEN);
	digest_of(&d, "x", 1);
	assert_memory_equal(e->rows + DIGEST_LEN, d.b, DIGEST_LEN);
	scan_destroy(&s);
	free(big);
}

static void
make_link(const char *to)
{

	assert_int_equal(symlinkat(to, rootfd, "tree/dir/it"), 0);
}

static void
make_fifo(const char *arg)
{

	(void)arg;
	assert_int_equal(mkfifoat(rootfd, "tree/dir/it", 0644), 0);
}

static void
make_file(const char *name)
{

	put(name, "x");
}

static void
make_loop(const char *arg)
{

	make_link(arg);
	assert_int_equal(symlinkat("it", rootfd, "tree/dir/loop"), 0);
}

static void
test_refused(void **state)
{
	static const struct {
		void (*make)(const char *arg);
		const char *arg, *path, *why;
	} bad[] = {
		{ make_fifo, NULL, "dir/it", "neither file" },
		{ make_link, "nowhere", "dir/it", "dangling" },
		{ make_link, "../dir", "dir/it", "link to a folder" },
		{ make_link, "..", "dir/it", "link to a folder" },
		{ make_link, "/etc/passwd", "dir/it", "outside" },
		{ make_link, "../../x", "dir/it", "outside" },
		{ make_loop, "loop", "dir/it", "8 steps" },
		{ make_file, "tree/@1", "@1", "no set can hold" },
		{ make_file, "tree/a\nb", "a\\x0ab", "no set can hold" },
		{ make_file, "tree/\177", "\\x7f", "no set can hold" },
	};
	struct scan_conf c = { .cachefd = -1 };
	struct parse_error err;
	struct scan *s;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fd_remove_tree(rootfd, "tree"), 0);
		put("tree/dir/good", "good");
		bad[i].make(bad[i].arg);
		c.lenient = false;
		s = scan(&c, &err);
		assert_null(s);
		assert_memory_equal(err.reason, bad[i].path,
		    strlen(bad[i].path));
		assert_non_null(strstr(err.reason, bad[i].why));
		/* Who only compares takes what is there. */
		c.lenient = true;
		s = scan(&c, &err);
		assert_non_null(s);
		scan_destroy(&s);
	}
}

static void
test_memory(void **state)
{
	struct scan_conf c = { .cachefd = rootfd, .cache = "memory" };
	struct parse_error err;
	struct digest d;
	struct scan *s;
	char *text, *large;
	size_t len;

	(void)state;
	large = calloc(1, CHUNK_SIZE + 2);
	memset(large, 'y', CHUNK_SIZE + 1);
	put("tree/a", "1");
	put("tree/b", large);
	(void)usleep(50000);	/* beyond the tick of the file system's clock */
	s = scan(&c, &err);
	assert_non_null(s);
	assert_int_equal(scan_nread(s), 2);
	scan_destroy(&s);
	s = scan(&c, &err);
	assert_non_null(s);
	assert_int_equal(scan_nread(s), 0);
	digest_of(&d, "y", 1);
	assert_memory_equal(scan_nth(s, 1)->rows + DIGEST_LEN, d.b,
	    DIGEST_LEN);
	scan_destroy(&s);

	/* Same size, other content. */
	put("tree/a", "2");
	s = scan(&c, &err);
	assert_non_null(s);
	assert_int_equal(scan_nread(s), 1);
	digest_of(&d, "2", 1);
	assert_true(digest_eq(&scan_nth(s, 0)->digest, &d));
	scan_destroy(&s);

	/* What changed a moment ago is not remembered. */
	c.settle_ms = 60000;
	put("tree/a", "3");
	s = scan(&c, &err);
	assert_non_null(s);
	scan_destroy(&s);
	s = scan(&c, &err);
	assert_int_equal(scan_nread(s), 2);
	scan_destroy(&s);

	/* A damaged memory is as good as none. */
	c.settle_ms = 0;
	s = scan(&c, &err);
	scan_destroy(&s);
	text = fd_slurp(rootfd, "memory", 1 << 20, &len);
	assert_non_null(text);
	for (; len > 0; len = len / 2) {
		text[len / 2] ^= 1;
		assert_int_equal(fd_replace(rootfd, "memory", text, len,
		    0600), 0);
		s = scan(&c, &err);
		assert_non_null(s);
		assert_int_equal(scan_nread(s), 2);
		assert_true(digest_eq(&scan_nth(s, 0)->digest,
		    &scan_nth(s, 0)->digest));
		scan_destroy(&s);
	}
	free(text);
	free(large);
}

static void
test_changed_later(void **state)
{
	struct scan_conf c = { .cachefd = -1 };
	struct parse_error err;
	struct scan *s;
	int fd;

	(void)state;
	put("tree/a", "1");
	put("tree/b", "1");
	s = scan(&c, &err);
	assert_non_null(s);
	fd = scan_open(s, 0);
	assert_true(fd != -1);
	assert_true(scan_unchanged(s, 0, fd));
	put("tree/a", "22");
	assert_false(scan_unchanged(s, 0, fd));
	fd_close(&fd);
	assert_int_equal(scan_open(s, 0), -1);
	assert_int_equal(unlinkat(rootfd, "tree/b", 0), 0);
	assert_int_equal(scan_open(s, 1), -1);
	scan_destroy(&s);
}

/* Changes the tree while it is read, from the progress callback. */
static void
meddle(void *arg, uint64_t files, uint64_t bytes, uint64_t all_files,
    uint64_t all_bytes)
{

	(void)files;
	(void)bytes;
	(void)all_files;
	(void)all_bytes;
	(void)usleep(50000);	/* beyond the tick of the file system's clock */
	put(arg, "changed");
}

static void
test_unstable(void **state)
{
	static char changed[] = "tree/a", fresh[] = "tree/dir/fresh";
	static char *const what[] = { changed, fresh };
	struct scan_conf c = { .cachefd = -1, .progress = meddle };
	struct parse_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		put("tree/a", "1");
		put("tree/dir/b", "1");
		c.arg = what[i];
		assert_null(scan(&c, &err));
		assert_non_null(strstr(err.reason, "unstable tree"));
	}
}

static void
test_stop(void **state)
{
	static const volatile sig_atomic_t stop = 1;
	struct scan_conf c = { .cachefd = -1, .stop = &stop };
	struct parse_error err;

	(void)state;
	put("tree/a", "1");
	assert_null(scan(&c, &err));
	assert_string_equal(err.reason, "interrupted");
}

static void
test_globs(void **state)
{
	static const struct {
		const char *path[4], *glob[4];
	} t[] = {
		{ { "meta.conf", "packagesite.pkg", "All/x.pkg" },
		    { "meta.*", "packagesite.*" } },
		{ { "INDEX", "Latest/x.tbz", "All/x.tbz" },
		    { "INDEX*", "Latest/*" } },
		{ { "dists/sid/InRelease", "dists/sid/Release", "pool/x.deb" },
		    { "dists/*/InRelease", "dists/*/Release" } },
		{ { "Release", "Packages.gz" }, { "Release" } },
		{ { "x.db.tar.gz", "x.db", "x.pkg" }, { "*.db" } },
		{ { "x86_64/APKINDEX.tar.gz" }, { "*/APKINDEX.tar.gz" } },
		{ { "repodata/repomd.xml", "repodata/repomd.xml.asc" },
		    { "repodata/repomd.xml", "repodata/repomd.xml.*" } },
		{ { "data.txt", "some/file", "x.db" }, { NULL } },
	};
	struct scan_conf c = { .cachefd = -1 };
	struct parse_error err;
	struct content *content;
	struct globs g;
	struct scan *s;
	size_t i, k, left;

	(void)state;
	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		assert_int_equal(fd_remove_tree(rootfd, "tree"), 0);
		for (k = 0; k < 4 && t[i].path[k] != NULL; k++) {
			char path[128];

			(void)snprintf(path, sizeof(path), "tree/%s",
			    t[i].path[k]);
			put(path, "x");
		}
		s = scan(&c, &err);
		assert_non_null(s);
		content = content_of_scan(s);
		assert_non_null(content);
		compose_globs(content, &g, &left);
		assert_int_equal(left, 0);
		for (k = 0; k < 4 && t[i].glob[k] != NULL; k++) {
			assert_true(k < g.n);
			assert_string_equal(g.v[k], t[i].glob[k]);
		}
		assert_int_equal(g.n, k);
		content_destroy(&content);
		scan_destroy(&s);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_rows, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up,
		    tear_down),
		cmocka_unit_test_setup_teardown(test_memory, set_up,
		    tear_down),
		cmocka_unit_test_setup_teardown(test_changed_later, set_up,
		    tear_down),
		cmocka_unit_test_setup_teardown(test_unstable, set_up,
		    tear_down),
		cmocka_unit_test_setup_teardown(test_stop, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_globs, set_up, tear_down),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("scan", tests, NULL, NULL));
}
