/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The edge's blob store: what it keeps, what goes first, and what it finds
 * after a start.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
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
#include <unistd.h>

#include <cmocka.h>

#include "edge/memory.h"
#include "proto/fd.h"

#define	SIZE	1000u			/* of a test blob */

struct place {
	char		   dir[64];
	int		   fd;
	struct blob_store *store;
};

static int
setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	(void)snprintf(p->dir, sizeof(p->dir), "/tmp/test_blob.XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	/* It makes its folder. */
	assert_int_equal(rmdir(p->dir), 0);
	p->store = blob_store_new(p->dir, UINT64_MAX / 2, 0);
	assert_non_null(p->store);
	p->fd = fd_open_dir(AT_FDCWD, p->dir);
	*state = p;
	return (0);
}

static int
teardown(void **state)
{
	struct place *p = *state;

	blob_store_destroy(&p->store);
	fd_close(&p->fd);
	(void)fd_remove_tree(AT_FDCWD, p->dir);
	free(p);
	return (0);
}

static void
restart(struct place *p, uint64_t max)
{

	blob_store_destroy(&p->store);
	p->store = blob_store_new(p->dir, max, 0);
	assert_non_null(p->store);
}

/* Content number i, and its digest. */
static struct digest
content(unsigned i, char buf[SIZE])
{
	struct digest d;

	memset(buf, (int)(i & 0xff), SIZE);
	(void)snprintf(buf, SIZE, "blob %u", i);
	digest_of(&d, buf, SIZE);
	return (d);
}

static struct digest
id(unsigned i)
{
	char buf[SIZE];

	return (content(i, buf));
}

static int
put(struct place *p, unsigned i)
{
	char buf[SIZE];
	struct digest d = content(i, buf);
	bool fresh;
	int fd;

	if ((fd = blob_partial_open(p->store, &d, SIZE, &fresh)) == -1)
		return (-1);
	assert_int_equal(fd_pwrite_all(fd, buf, SIZE, 0), 0);
	assert_int_equal(blob_partial_commit(p->store, &d, fd), 0);
	fd_close(&fd);
	return (0);
}

static bool
have(struct place *p, unsigned i)
{
	struct digest d = id(i);

	return (blob_have(p->store, &d));
}

static struct blob *
get(struct place *p, unsigned i)
{
	struct digest d = id(i);

	return (blob_get(p->store, &d, SIZE));
}

static void
hit(struct place *p, unsigned i)
{
	struct blob *b = get(p, i);

	assert_non_null(b);
	blob_put(&b);
}

static char *
path_of(unsigned i, bool partial, char out[128])
{
	char hex[DIGEST_HEX + 1];
	struct digest d = id(i);

	(void)digest_hex(&d, hex);
	if (partial)
		(void)snprintf(out, 128, "partial/%s", hex);
	else
		(void)snprintf(out, 128, "blob/%.2s/%s", hex, hex);
	return (out);
}

static bool
on_disk(struct place *p, const char *name)
{

	return (faccessat(p->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
}

static void
write_file(struct place *p, const char *name, const void *data, size_t len)
{
	int fd = openat(p->fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd != -1);
	assert_int_equal(fd_write_all(fd, data, len), 0);
	fd_close(&fd);
}

/* One step a letter: a..z puts a blob, A..Z hits it. */
static const struct {
	const char	*what, *steps, *left;
	unsigned	 room;
} eviction[] = {
	{ "all stay while they fit", "abc", "abc", 3 },
	{ "the oldest goes first", "abcd", "bcd", 3 },
	{ "one that was asked for stays", "abcAd", "acd", 3 },
	{ "and outlasts those that nobody asks for", "abcAdefg", "afg", 3 },
	{ "many hits count as one", "abcAAAABdef", "def", 3 },
	{ "all asked for: the hand goes round", "abcABCd", "bcd", 3 },
};

static void
test_eviction_order(void **state)
{
	struct place *p = *state;
	const char *s;
	size_t i;
	unsigned k;

	for (i = 0; i < sizeof(eviction) / sizeof(eviction[0]); i++) {
		(void)fd_remove_tree(p->fd, "blob");
		restart(p, eviction[i].room * SIZE);
		for (s = eviction[i].steps; *s != '\0'; s++)
			if (*s >= 'a')
				assert_int_equal(put(p, (unsigned)*s), 0);
			else
				hit(p, (unsigned)(*s - 'A' + 'a'));
		for (k = 'a'; k <= 'h'; k++)
			if (have(p, k) !=
			    (strchr(eviction[i].left, (int)k) != NULL))
				fail_msg("%s: %c", eviction[i].what, (int)k);
	}
}

static void
test_popular_survives_a_scan(void **state)
{
	struct place *p = *state;
	unsigned i;

	blob_store_limits(p->store, 10 * SIZE, 0);
	assert_int_equal(put(p, 1), 0);
	for (i = 100; i < 200; i++) {
		hit(p, 1);
		assert_int_equal(put(p, i), 0);
	}
	assert_true(have(p, 1));
}

static void
test_budget_is_kept(void **state)
{
	struct place *p = *state;
	struct blob_stats st;
	unsigned i;

	blob_store_limits(p->store, 5 * SIZE + 1, 0);
	for (i = 0; i < 40; i++) {
		assert_int_equal(put(p, i), 0);
		blob_store_stats(p->store, &st);
		assert_true(st.bytes <= 5 * SIZE + 1);
	}
	assert_int_equal(st.count, 5);
	assert_int_equal(st.evicted, 35);
	/* A smaller budget takes effect at once. */
	blob_store_limits(p->store, 2 * SIZE, 0);
	blob_store_stats(p->store, &st);
	assert_int_equal(st.count, 2);
}

static void
test_too_large_evicts_nothing(void **state)
{
	struct place *p = *state;
	struct blob_stats st;
	struct digest d = id(9);
	bool fresh;

	blob_store_limits(p->store, 5 * SIZE, 0);
	assert_int_equal(put(p, 1), 0);
	assert_int_equal(put(p, 2), 0);
	assert_int_equal(blob_partial_open(p->store, &d, 5 * SIZE + 1,
	    &fresh), -1);
	assert_int_equal(errno, ENOSPC);
	assert_true(have(p, 1) && have(p, 2));
	/* A disk with less free than min-free, whatever is evicted. */
	blob_store_limits(p->store, 5 * SIZE, UINT64_MAX / 4);
	assert_int_equal(put(p, 3), -1);
	assert_int_equal(errno, ENOSPC);
	assert_true(have(p, 1) && have(p, 2));
	blob_store_stats(p->store, &st);
	assert_int_equal(st.bytes, 2 * SIZE);
	assert_int_equal(st.partial, 0);
}

static void
test_in_use_is_never_removed(void **state)
{
	struct place *p = *state;
	struct blob *b, *c;
	unsigned i;
	size_t len;
	char *text;

	blob_store_limits(p->store, 3 * SIZE, 0);
	assert_int_equal(put(p, 1), 0);
	assert_int_equal(put(p, 2), 0);
	b = get(p, 1);
	c = get(p, 2);
	for (i = 10; i < 30; i++)
		assert_int_equal(put(p, i), 0);
	assert_true(have(p, 1) && have(p, 2));
	text = blob_slurp(b, &len);
	assert_non_null(text);
	assert_string_equal(text, "blob 1");
	free(text);
	/* All in use: no room, and nothing lost. */
	blob_store_limits(p->store, 2 * SIZE, 0);
	assert_int_equal(put(p, 40), -1);
	assert_int_equal(errno, ENOSPC);
	assert_true(have(p, 1) && have(p, 2));
	blob_put(&b);
	blob_put(&c);
	/* Both were asked for: the hand passes once, then one goes. */
	assert_int_equal(put(p, 40), 0);
	assert_true(have(p, 1) != have(p, 2));
}

/* Blobs below 10 are needed, those from 50 on unnamed. */
static enum blob_named
by_number(void *arg, const struct digest *d)
{
	struct digest k;
	unsigned i;

	(void)arg;
	for (i = 0; i < 100; i++) {
		k = id(i);
		if (digest_eq(&k, d))
			return (i < 10 ? BLOB_NEEDED :
			    i < 50 ? BLOB_NAMED : BLOB_UNNAMED);
	}
	return (BLOB_UNNAMED);
}

static void
test_unnamed_go_first_needed_never(void **state)
{
	struct place *p = *state;
	unsigned i;

	blob_store_named(p->store, by_number, NULL);
	blob_store_limits(p->store, 6 * SIZE, 0);
	assert_int_equal(put(p, 1), 0);		/* needed, and the oldest */
	assert_int_equal(put(p, 20), 0);
	assert_int_equal(put(p, 21), 0);
	assert_int_equal(put(p, 50), 0);
	assert_int_equal(put(p, 51), 0);
	hit(p, 50);
	blob_store_sweep(p->store);
	assert_int_equal(put(p, 22), 0);
	assert_int_equal(put(p, 23), 0);
	assert_false(have(p, 50));
	assert_int_equal(put(p, 24), 0);
	assert_false(have(p, 51));
	assert_true(have(p, 1) && have(p, 20) && have(p, 21));
	for (i = 25; i < 40; i++)
		assert_int_equal(put(p, i), 0);
	assert_true(have(p, 1));
	/* Without a sweep too, and when nothing else is left. */
	for (i = 2; i < 7; i++)
		assert_int_equal(put(p, i), 0);
	assert_int_equal(put(p, 41), -1);
	for (i = 1; i < 7; i++)
		assert_true(have(p, i));
}

static void
test_named_again(void **state)
{
	struct place *p = *state;

	blob_store_limits(p->store, 3 * SIZE, 0);
	assert_int_equal(put(p, 60), 0);
	assert_int_equal(put(p, 61), 0);
	blob_store_named(p->store, by_number, NULL);
	blob_store_sweep(p->store);
	blob_store_named(p->store, NULL, NULL);	/* a rollback: all named */
	assert_int_equal(put(p, 20), 0);
	hit(p, 60);
	assert_int_equal(put(p, 21), 0);
	assert_true(have(p, 60) && have(p, 61));	/* as new ones */
	assert_false(have(p, 20));
}

static void
test_restart(void **state)
{
	struct place *p = *state;
	char buf[SIZE], name[128];
	struct blob_stats st;
	struct digest d;
	bool fresh;
	int fd;

	assert_int_equal(put(p, 1), 0);
	assert_int_equal(put(p, 2), 0);
	d = content(3, buf);
	fd = blob_partial_open(p->store, &d, SIZE, &fresh);
	assert_true(fd != -1 && fresh);
	assert_int_equal(fd_pwrite_all(fd, buf, 600, 0), 0);
	fd_close(&fd);
	/* Left as a crash would, and some things that are not ours. */
	write_file(p, "partial/.tmp", "x", 1);
	write_file(p, "partial/0123", "x", 1);
	(void)path_of(1, false, name);
	name[strlen(name) - 1] = '\0';
	write_file(p, name, "x", 1);
	assert_int_equal(mkdirat(p->fd, "partial/lost+found", 0755), 0);
	write_file(p, path_of(2, true, buf), "x", 1);	/* complete as well */

	restart(p, UINT64_MAX / 2);
	assert_true(have(p, 1) && have(p, 2));
	assert_false(have(p, 3));
	assert_false(on_disk(p, "partial/.tmp"));
	assert_false(on_disk(p, "partial/0123"));
	assert_false(on_disk(p, name));
	assert_false(on_disk(p, path_of(2, true, buf)));
	assert_true(on_disk(p, "partial/lost+found"));
	blob_store_stats(p->store, &st);
	assert_int_equal(st.count, 2);
	assert_int_equal(st.partial, 1);
	assert_int_equal(st.bytes, 2 * SIZE + 600);
	fd = blob_partial_open(p->store, &d, SIZE, &fresh);
	assert_true(fd != -1);
	assert_false(fresh);
	assert_int_equal(blob_partial_open(p->store, &d, SIZE, &fresh), -1);
	assert_int_equal(errno, EBUSY);
	fd_close(&fd);
	blob_partial_close(p->store, &d, true);
	assert_true(on_disk(p, path_of(3, true, buf)));
}

static void
test_partials_go(void **state)
{
	struct place *p = *state;
	char buf[SIZE];
	struct blob_stats st;
	struct digest d = content(20, buf), e = content(60, buf);
	bool fresh;
	int fd;

	/* Closed without keeping: gone at once. */
	fd = blob_partial_open(p->store, &d, SIZE, &fresh);
	fd_close(&fd);
	blob_partial_close(p->store, &d, false);
	assert_false(on_disk(p, path_of(20, true, buf)));
	/* Idle ones that nobody names go with a sweep, others when room is
	 * needed. */
	for (int i = 0; i < 2; i++) {
		fd = blob_partial_open(p->store, i ? &e : &d, SIZE, &fresh);
		assert_int_equal(fd_pwrite_all(fd, buf, SIZE, 0), 0);
		fd_close(&fd);
		blob_partial_close(p->store, i ? &e : &d, true);
	}
	blob_store_named(p->store, by_number, NULL);
	blob_store_sweep(p->store);
	assert_false(on_disk(p, path_of(60, true, buf)));
	assert_true(on_disk(p, path_of(20, true, buf)));
	assert_int_equal(put(p, 30), 0);
	blob_store_limits(p->store, 2 * SIZE, 0);
	assert_int_equal(put(p, 31), 0);
	assert_false(on_disk(p, path_of(20, true, buf)));
	assert_true(have(p, 30) && have(p, 31));
	blob_store_stats(p->store, &st);
	assert_int_equal(st.partial, 0);
}

/* What may happen to a complete file, and what must come of it. */
static const struct {
	const char	*what;
	size_t		 len;		/* of what replaces it; 0: gone */
	bool		 other_size;
} damage[] = {
	{ "other bytes of the same length", SIZE, false },
	{ "cut", SIZE / 2, false },
	{ "longer", SIZE + 5, false },
	{ "removed", 0, false },
	{ "cut before the start", SIZE / 2, true },
};

static void
test_damaged_blobs_are_dropped(void **state)
{
	struct place *p = *state;
	char junk[SIZE + 5], name[128];
	struct blob_stats st;
	struct blob *b;
	size_t i;

	memset(junk, 'j', sizeof(junk));
	for (i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
		assert_int_equal(put(p, (unsigned)i), 0);
		(void)path_of((unsigned)i, false, name);
		if (damage[i].len > 0)
			write_file(p, name, junk, damage[i].len);
		else
			assert_int_equal(unlinkat(p->fd, name, 0), 0);
		if (damage[i].other_size)
			restart(p, UINT64_MAX / 2);
		b = get(p, (unsigned)i);
		assert_int_equal(b == NULL, damage[i].other_size);
		if (b != NULL) {
			assert_null(memory_load(b));
			blob_put(&b);
		}
		if (have(p, (unsigned)i) || on_disk(p, name))
			fail_msg("%s", damage[i].what);
		/* And it can be filled again. */
		assert_int_equal(put(p, (unsigned)i), 0);
		hit(p, (unsigned)i);
	}
	blob_store_stats(p->store, &st);
	assert_int_equal(st.dropped, 1);	/* since the restart */
}

/* A blob's bytes, brought to memory if they are not there. */
static struct memory *
load(struct place *p, unsigned i)
{
	struct blob *b = get(p, i);
	struct memory *m;

	assert_non_null(b);
	m = memory_load(b);
	assert_non_null(m);
	blob_put(&b);
	return (m);
}

static void
test_bodies_come_from_memory(void **state)
{
	struct place *p = *state;
	struct blob_stats st;
	struct memory *m, *again;
	struct digest d;
	char name[128];

	assert_int_equal(put(p, 1), 0);
	d = id(1);
	assert_null(memory_get(p->store, &d, SIZE));
	m = load(p, 1);
	assert_true(memory_resident(m, 0, SIZE));
	/* The disk is not asked any more. */
	assert_int_equal(unlinkat(p->fd, path_of(1, false, name), 0), 0);
	again = memory_get(p->store, &d, SIZE);
	assert_ptr_equal(again, m);
	assert_null(memory_get(p->store, &d, SIZE + 1));
	memory_unref(again);
	blob_store_stats(p->store, &st);
	assert_true(st.memory + st.mapped > 0);
	/* What is being sent is not evicted; */
	blob_store_limits(p->store, 0, 0);
	assert_true(have(p, 1));
	/* what was, is, and its bytes go with it. */
	memory_unref(m);
	blob_store_limits(p->store, 0, 0);
	assert_false(have(p, 1));
	blob_store_stats(p->store, &st);
	assert_true(st.memory == 0 && st.mapped == 0);
}

static atomic_bool done;

static void *
reader(void *arg)
{
	struct place *p = arg;
	struct blob *b;
	unsigned i;
	size_t len;
	char *text, wanted[32];

	for (i = 0; !atomic_load(&done); i = (i + 7) % 50) {
		if ((b = get(p, i)) == NULL)
			continue;
		(void)snprintf(wanted, sizeof(wanted), "blob %u", i);
		if ((text = blob_slurp(b, &len)) == NULL ||
		    len != SIZE || strcmp(text, wanted) != 0)
			abort();	/* in use, and lost */
		free(text);
		blob_put(&b);
	}
	return (NULL);
}

static void
test_threads(void **state)
{
	struct place *p = *state;
	pthread_t t[4];
	unsigned i;

	blob_store_limits(p->store, 10 * SIZE, 0);
	atomic_store(&done, false);
	for (i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, reader, p), 0);
	for (i = 0; i < 1000; i++)
		if (!have(p, i % 50))
			assert_true(put(p, i % 50) == 0 || errno == ENOSPC);
	atomic_store(&done, true);
	for (i = 0; i < 4; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
}

#define	MANY	12000u		/* more than are looked at before a start ends */

/* As a store leaves it, without its syncing. */
static void
place(struct place *p, unsigned i)
{
	char buf[SIZE], name[128];

	(void)content(i, buf);
	(void)path_of(i, false, name);
	name[strlen("blob/ab")] = '\0';
	if (mkdirat(p->fd, name, 0755) == -1)
		assert_int_equal(errno, EEXIST);
	write_file(p, path_of(i, false, name), buf, SIZE);
}

static struct blob_stats
counted(struct place *p)
{
	struct blob_stats st;
	int i;

	for (i = 0; i < 6000; i++) {
		blob_store_stats(p->store, &st);
		if (!st.counting)
			return (st);
		(void)poll(NULL, 0, 10);
	}
	fail_msg("sizes are never known");
	return (st);
}

static void
test_many_are_served_while_they_are_counted(void **state)
{
	struct place *p = *state;
	struct blob_stats st;
	char name[128];
	unsigned i;
	struct blob *b;
	size_t len;

	for (i = 0; i < MANY; i++)
		place(p, i);
	write_file(p, path_of(7, false, name), "x", 1);
	assert_int_equal(unlinkat(p->fd, path_of(8, false, name), 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", p->fd, name), 0);
	restart(p, UINT64_MAX / 2);
	/* What is no blob is found out by counting or by opening. */
	for (i = 7; i < 9; i++)
		if ((b = get(p, i)) != NULL) {
			assert_null(blob_slurp(b, &len));
			blob_put(&b);
		}
	for (i = 10; i < MANY; i++)
		hit(p, i);
	assert_int_equal(put(p, MANY), 0);
	st = counted(p);
	assert_false(have(p, 7) || have(p, 8));
	assert_false(on_disk(p, path_of(7, false, name)));
	assert_false(on_disk(p, path_of(8, false, name)));
	assert_int_equal(st.count, MANY - 1);
	assert_int_equal(st.bytes, (MANY - 1) * SIZE);
	/* All asked for: still, one goes for one. */
	blob_store_limits(p->store, st.bytes, 0);
	for (i = MANY + 1; i < MANY + 10; i++)
		assert_int_equal(put(p, i), 0);
	blob_store_stats(p->store, &st);
	assert_int_equal(st.evicted, 9);
	assert_int_equal(st.count, MANY - 1);
}

static void
test_too_many_go_once_counted(void **state)
{
	struct place *p = *state;
	struct blob_stats st;
	unsigned i;

	for (i = 0; i < MANY; i++)
		place(p, i);
	restart(p, 100 * SIZE);
	assert_int_equal(put(p, MANY), 0);
	(void)counted(p);
	assert_int_equal(put(p, MANY + 1), 0);
	blob_store_stats(p->store, &st);
	assert_int_equal(st.count, 100);
	assert_int_equal(st.bytes, 100 * SIZE);
	assert_int_equal(st.evicted, MANY + 2 - 100);
}

/* Opens a partial file and gives it up, over and over. */
static void *
opener(void *arg)
{
	struct place *p = arg;
	struct digest d = id(1);
	char name[128];
	bool fresh;
	unsigned i;
	int fd;

	(void)path_of(1, true, name);
	for (i = 0; i < 1000; i++) {
		fd = blob_partial_open(p->store, &d, SIZE, &fresh);
		if (fd == -1) {
			if (errno != EBUSY)
				abort();
			continue;
		}
		if (!fresh || !on_disk(p, name))
			abort();	/* another's removal took it */
		fd_close(&fd);
		blob_partial_close(p->store, &d, false);
	}
	return (NULL);
}

static void
test_filled_again_while_it_goes(void **state)
{
	struct place *p = *state;
	pthread_t t[3];
	unsigned i;

	for (i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, opener, p), 0);
	for (i = 0; i < 3; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_int_equal(put(p, 1), 0);
	hit(p, 1);
}

/* With the first question, all that there is goes. */
static enum blob_named
empties(void *arg, const struct digest *d)
{
	struct place *p = arg;

	(void)d;
	blob_store_named(p->store, NULL, NULL);
	blob_store_limits(p->store, 0, 0);
	return (BLOB_UNNAMED);
}

static void
test_all_goes_during_a_sweep(void **state)
{
	struct place *p = *state;
	struct blob_stats st;
	unsigned i;

	for (i = 0; i < 1000; i++)
		place(p, i);
	restart(p, UINT64_MAX / 2);
	blob_store_named(p->store, empties, p);
	blob_store_sweep(p->store);
	blob_store_stats(p->store, &st);
	assert_int_equal(st.count, 0);
	assert_int_equal(st.bytes, 0);
	blob_store_limits(p->store, 2 * SIZE, 0);
	assert_int_equal(put(p, 1), 0);
	hit(p, 1);
}

#define	T(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_eviction_order),
		T(test_popular_survives_a_scan),
		T(test_budget_is_kept),
		T(test_too_large_evicts_nothing),
		T(test_in_use_is_never_removed),
		T(test_unnamed_go_first_needed_never),
		T(test_named_again),
		T(test_restart),
		T(test_partials_go),
		T(test_damaged_blobs_are_dropped),
		T(test_bodies_come_from_memory),
		T(test_threads),
		T(test_many_are_served_while_they_are_counted),
		T(test_too_many_go_once_counted),
		T(test_filled_again_while_it_goes),
		T(test_all_goes_during_a_sweep),
	};

	(void)cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("blob", tests, NULL, NULL));
}
