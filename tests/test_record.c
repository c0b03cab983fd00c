/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is kept beside a publisher's key: numbers that were signed, and heads
 * that are on their way.
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

#include "keys/minisign.h"
#include "master/compose.h"
#include "master/record.h"
#include "proto/fd.h"

static char root[] = "/tmp/test_record.XXXXXX";
static char home[sizeof(root) + 8];

static int
set_up(void **state)
{

	(void)state;
	memcpy(root + sizeof(root) - 7, "XXXXXX", 6);
	if (mkdtemp(root) == NULL)
		return (-1);
	(void)snprintf(home, sizeof(home), "%s/home", root);
	return (0);
}

static int
tear_down(void **state)
{

	(void)state;
	return (fd_remove_tree(AT_FDCWD, root));
}

static struct record *
reopen(struct record **r, const char *set)
{
	struct parse_error err;

	record_close(r);
	*r = record_open(home, set, &err);
	assert_non_null(*r);
	return (*r);
}

static void
head_of(struct head *h, const char *set, uint64_t generation, int content)
{

	memset(h, 0, sizeof(*h));
	(void)snprintf(h->set, sizeof(h->set), "%s", set);
	h->generation = generation;
	memset(h->digest.b, content, DIGEST_LEN);
}

static void
test_numbers(void **state)
{
	static struct head h;
	struct parse_error err;
	struct record *r = NULL;

	(void)state;
	reopen(&r, "a/b");
	assert_int_equal(record_highest(r), 0);
	head_of(&h, "a/b", 1, 1);
	assert_int_equal(record_sign(r, &h, &err), 0);
	assert_int_equal(record_highest(r), 1);
	/* The same once more is no second signature. */
	assert_int_equal(record_sign(r, &h, &err), 0);
	/* Another content under that number is. */
	head_of(&h, "a/b", 1, 2);
	assert_int_equal(record_sign(r, &h, &err), -1);
	assert_non_null(strstr(err.reason, "was signed before"));
	head_of(&h, "a/b", 5, 2);
	assert_int_equal(record_sign(r, &h, &err), 0);
	/* Nor one below the highest. */
	head_of(&h, "a/b", 3, 3);
	assert_int_equal(record_sign(r, &h, &err), -1);
	reopen(&r, "a/b");
	assert_int_equal(record_highest(r), 5);
	reopen(&r, "a");
	assert_int_equal(record_highest(r), 0);
	record_close(&r);
}

static void
test_many_numbers(void **state)
{
	static struct head h;
	struct parse_error err;
	struct record *r = NULL;
	struct stat st;
	char path[sizeof(home) + 16];
	uint64_t i;
	off_t size = 0;

	(void)state;
	reopen(&r, "x");
	for (i = 1; i <= 1020; i++) {
		head_of(&h, "x", i + 10000, 1);
		assert_int_equal(record_sign(r, &h, &err), 0);
		(void)snprintf(path, sizeof(path), "%s/signed", home);
		assert_int_equal(stat(path, &st), 0);
		if (i == 1000)
			size = st.st_size;
	}
	assert_int_equal(st.st_size, size);
	reopen(&r, "x");
	assert_int_equal(record_highest(r), 11020);
	record_close(&r);
}

static void
test_damaged(void **state)
{
	static const char *const bad[] = {
		"a 1 sha256:00\n",
		"a 1\n",
		"a 01 sha256:0000000000000000000000000000000000000000000000000000000000000000\n",
		"a 0 sha256:0000000000000000000000000000000000000000000000000000000000000000\n",
		"a 1 sha256:0000000000000000000000000000000000000000000000000000000000000000",
		"a 1 sha256:0000000000000000000000000000000000000000000000000000000000000000 \n",
		".a 1 sha256:0000000000000000000000000000000000000000000000000000000000000000\n",
		"\n",
	};
	struct record *r = NULL;
	struct parse_error err;
	char path[sizeof(home) + 16];
	size_t i;

	(void)state;
	reopen(&r, "a");
	record_close(&r);
	(void)snprintf(path, sizeof(path), "%s/signed", home);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fd_replace(AT_FDCWD, path, bad[i],
		    strlen(bad[i]), 0600), 0);
		assert_null(record_open(home, "a", &err));
		assert_non_null(strstr(err.reason, ":1: damaged"));
	}
}

static void
test_one_at_a_time(void **state)
{
	struct record *r = NULL, *other;
	struct parse_error err;

	(void)state;
	reopen(&r, "a");
	assert_null(record_open(home, "a", &err));
	assert_non_null(strstr(err.reason, "another pkgcast"));
	other = record_open(home, "b", &err);
	assert_non_null(other);
	record_close(&other);
	record_close(&r);
}

static void
fill_in(struct draft *p, struct seckey *k)
{
	static const struct globs none;
	struct parse_error err;

	memset(p, 0, sizeof(*p));
	p->manifest = strdup(MANIFEST_FIRST);
	p->manifest_len = strlen(p->manifest);
	p->chunks = strdup("");
	(void)snprintf(p->head.set, sizeof(p->head.set), "a/b");
	p->head.generation = p->head.oldest = 1;
	p->head.created = 1700000000;
	p->head.manifest_size = p->manifest_len;
	digest_of(&p->head.manifest, p->manifest, p->manifest_len);
	digest_of(&p->head.chunks, "", 0);
	assert_int_equal(compose_head(p, &none, &err), 0);
	assert_int_equal(compose_sign(p, k, &err), 0);
}

static void
test_drafts(void **state)
{
	static struct draft p, q;
	static const char *const part[] = { "head", "manifest", "chunks" };
	char path[sizeof(home) + 64];
	struct record *r = NULL;
	struct seckey *k;
	size_t i;

	(void)state;
	assert_int_equal(keys_init(), 0);
	k = seckey_new();
	assert_non_null(k);
	reopen(&r, "a/b");
	assert_false(record_load(r, &q));
	fill_in(&p, k);
	p.rollback = true;
	assert_int_equal(record_save(r, &p), 0);
	reopen(&r, "a/b");
	assert_true(record_load(r, &q));
	assert_true(q.rollback);
	assert_int_equal(q.head.len, p.head.len);
	assert_memory_equal(q.head.text, p.head.text, p.head.len);
	assert_string_equal(q.manifest, p.manifest);
	draft_free(&q);
	p.rollback = false;
	for (i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		assert_int_equal(record_save(r, &p), 0);
		assert_true(record_load(r, &q));
		assert_false(q.rollback);
		draft_free(&q);
		(void)snprintf(path, sizeof(path), "%s/pending/a,b/%s", home,
		    part[i]);
		assert_int_equal(fd_replace(AT_FDCWD, path, "x", 1, 0600), 0);
		assert_false(record_load(r, &q));
	}
	assert_int_equal(record_forget(r), 0);
	assert_int_equal(record_forget(r), 0);
	draft_free(&p);
	seckey_destroy(&k);
	record_close(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_numbers, set_up,
		    tear_down),
		cmocka_unit_test_setup_teardown(test_many_numbers, set_up,
		    tear_down),
		cmocka_unit_test_setup_teardown(test_damaged, set_up,
		    tear_down),
		cmocka_unit_test_setup_teardown(test_one_at_a_time, set_up,
		    tear_down),
		cmocka_unit_test_setup_teardown(test_drafts, set_up,
		    tear_down),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("record", tests, NULL, NULL));
}
