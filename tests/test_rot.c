/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stored files whose bytes change on the disk: found at the first use after a
 * start, and by the scrub; no wrong byte is ever read.
 */
#include "tests/filling.h"

#include "edge/scrub.h"

#define	MANY	(5u * CHUNK_SIZE + 777)

/* What lies in the store at the start is verified at its first use; whether it
 * was since then. */
static bool
was_checked(struct bench *b)
{
	struct blob *blob = blob_get(b->store, &b->want.digest, b->size);
	bool is;

	assert_non_null(blob);
	is = blob_checked(blob);
	blob_put(&blob);
	return (is);
}

static void
restart_rotten(struct bench *b, size_t at)
{

	edge_stop(b);
	if (at < b->size)
		rot(b, at);
	b->server[0].sent = 0;
	b->server[0].gets = 0;
	edge_start(b, UINT64_MAX / 2);
}

static void
test_stored_is_verified_at_first_use(void **state)
{
	static const struct {
		size_t	size;
		bool	rows;
		size_t	at, sent;
	} cases[] = {
		{ MANY, true, SIZE_MAX, 0 },
		{ MANY, true, 0, CHUNK_SIZE },
		{ MANY, true, 2 * CHUNK_SIZE + 5, CHUNK_SIZE },
		{ MANY, true, MANY - 1, (MANY - 1) % CHUNK_SIZE + 1 },
		{ MANY, false, MANY - 1, MANY },
		{ CHUNK_SIZE, true, SIZE_MAX, 0 },
		{ CHUNK_SIZE, true, 7, CHUNK_SIZE },
		{ 1000, true, 999, 1000 },
	};
	struct blob_stats st;
	struct client c;
	struct bench b;
	size_t i, sent;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bench_start(&b, cases[i].size, cases[i].rows, 1,
		    (enum mode[]){ GOOD });
		assert_true(fetch_whole(&b));
		assert_stored(&b);
		assert_true(was_checked(&b));
		restart_rotten(&b, cases[i].at);
		assert_false(was_checked(&b));
		client_start(&c, &b, 0, b.size);
		client_read(&c, b.size);
		assert_false(c.failed);
		assert_int_equal(fill_reader_hit(c.r), cases[i].sent == 0);
		client_end(&c);
		wait_running(&b, 0);
		assert_true(was_checked(&b));
		assert_stored(&b);
		sent = b.server[0].sent;
		assert_int_equal(sent, cases[i].sent);
		blob_store_stats(b.store, &st);
		assert_int_equal(st.dropped, cases[i].sent > 0);
		assert_int_equal(st.partial, 0);
		bench_stop(&b);
	}
}

/* Of a rotten file with no upstream: what is right, and no byte more. */
static void
test_rotten_and_nobody_has_it(void **state)
{
	struct client c;
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	restart_rotten(&b, 2 * CHUNK_SIZE + 5);
	b.server[0].mode = NOT_FOUND;
	client_start(&c, &b, 0, b.size);
	client_read(&c, b.size);
	assert_true(c.failed);
	assert_in_range(c.got, 0, 2 * CHUNK_SIZE);
	client_end(&c);
	wait_running(&b, 0);
	/* What was right is kept. */
	b.server[0].mode = GOOD;
	b.server[0].sent = 0;
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	assert_int_equal(b.server[0].sent, CHUNK_SIZE);
	bench_stop(&b);
}

/* What is verified without asking anybody: all of it, before a byte is read. */
static void
test_local(void **state)
{
	static const size_t sizes[] = { 1000, CHUNK_SIZE, MANY };
	struct blob_stats st;
	struct client c, d;
	struct bench b;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		bench_start(&b, sizes[i], false, 1, (enum mode[]){ GOOD });
		b.want.local = true;
		assert_false(fetch_whole(&b));		/* not there */
		assert_int_equal(b.server[0].gets, 0);
		b.want.local = false;
		assert_true(fetch_whole(&b));
		assert_stored(&b);
		restart_rotten(&b, SIZE_MAX);
		b.want.local = true;
		client_start(&c, &b, b.size - 1, 1);
		client_read(&c, 1);
		assert_int_equal(c.got, 1);
		assert_true(fill_reader_hit(c.r));
		client_end(&c);
		wait_running(&b, 0);
		assert_true(was_checked(&b));
		restart_rotten(&b, b.size / 2);
		client_start(&c, &b, 0, b.size);
		/* Those who may ask upstreams are served all the same. */
		b.want.local = false;
		client_start(&d, &b, 0, b.size);
		client_read(&c, b.size);
		assert_true(c.failed && c.got == 0);
		client_read(&d, b.size);
		assert_int_equal(d.got, b.size);
		client_end(&c);
		client_end(&d);
		assert_stored(&b);
		assert_int_equal(b.server[0].sent, b.size);
		blob_store_stats(b.store, &st);
		assert_int_equal(st.dropped, 1);
		assert_int_equal(st.partial, 0);
		bench_stop(&b);
	}
}

/* Whoever reads all of it, one after the other, finds it. */
static void
test_scrub(void **state)
{
	int64_t end = clock_boot_ms() + PATIENCE_MS;
	struct blob_stats st;
	struct edge_scrub *s;
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	restart_rotten(&b, SIZE_MAX);
	assert_non_null(s = edge_scrub_start(b.store, UINT64_C(1) << 30));
	while (!was_checked(&b)) {
		assert_true(clock_boot_ms() < end);
		pause_ms(2);
	}
	edge_scrub_stop(&s);
	rot(&b, MANY - 1);
	assert_non_null(s = edge_scrub_start(b.store, UINT64_C(1) << 30));
	while (blob_have(b.store, &b.want.digest)) {
		assert_true(clock_boot_ms() < end);
		pause_ms(2);
	}
	edge_scrub_stop(&s);
	blob_store_stats(b.store, &st);
	assert_int_equal(st.dropped, 1);
	assert_int_equal(st.scrubbed, 2);
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	bench_stop(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stored_is_verified_at_first_use),
		cmocka_unit_test(test_rotten_and_nobody_has_it),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_scrub),
	};

	(void)cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("rot", tests, NULL, NULL));
}
