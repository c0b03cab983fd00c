/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fills from upstreams that are good, bad, slow and lying: no byte may be
 * readable that is not the blob's, and what can be had must be had.
 */
#include "tests/filling.h"

#define	MANY	(5u * CHUNK_SIZE + 777)
#define	BACKLOG_FULL	4u	/* sockets */

static const struct {
	const char	*what;
	enum mode	 mode;
	bool		 alone;		/* it alone is enough */
	bool		 fault;		/* counted, with a reason */
	bool		 aside;		/* at the first fault */
} faults[] = {
	{ "good", GOOD, true, false, false },
	{ "no ranges", NO_RANGES, true, false, false },
	{ "chunked coding", CHUNKED, true, false, false },
	{ "bit flip in the first chunk", FLIP_FIRST, false, true, true },
	{ "bit flip in the middle", FLIP_MIDDLE, false, true, true },
	{ "bit flip in the last chunk", FLIP_LAST, false, true, true },
	{ "other file of the same length", OTHER, false, true, true },
	{ "short", SHORT, false, true, false },
	{ "short without a length", SHORT_NO_LENGTH, false, true, false },
	{ "too long", TOO_LONG, true, true, false },
	{ "wrong length", WRONG_LENGTH, false, true, false },
	{ "error page with 200", ERROR_PAGE, false, true, false },
	{ "404", NOT_FOUND, false, false, false },
	{ "403", FORBIDDEN, false, true, false },
	{ "500", ERROR_500, false, true, false },
	{ "503", ERROR_503, false, true, false },
	{ "accepts and hangs", HANG, false, true, true },
	{ "stalls", STALL, false, true, true },
	{ "resets", RESET, false, true, false },
	{ "gzip", GZIP, false, true, false },
	{ "redirect loop", LOOP, false, true, false },
	{ "garbage", GARBAGE, false, true, false },
	{ "refuses", REFUSE, false, true, true },
};
static const size_t sizes[] = { 1, 1000, CHUNK_SIZE, CHUNK_SIZE + 1, MANY };

/* Where half of it is nothing, half of it cannot be told from the whole. */
static bool
applies(enum mode mode, size_t size)
{

	return (size > 1 || mode != SHORT_NO_LENGTH);
}

static void
test_bad_then_good(void **state)
{
	struct upstream_stat st[2];
	struct bench b;
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		for (k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			if (faults[i].aside && k > 0 && k < 4 &&
			    (faults[i].mode == HANG || faults[i].mode == STALL))
				continue;	/* slow, and all the same */
			bench_start(&b, sizes[k], true, 2,
			    (enum mode[]){ faults[i].mode, GOOD });
			if (!fetch_whole(&b))
				fail_msg("%s, %zu bytes", faults[i].what,
				    sizes[k]);
			assert_stored(&b);
			wait_running(&b, 0);
			assert_int_equal(upstreams_stats(b.upstreams, st, 2),
			    2);
			if ((st[0].faults > 0) != faults[i].fault ||
			    (st[0].reason[0] != '\0') != faults[i].fault ||
			    st[0].aside != faults[i].aside ||
			    st[1].faults > 0)
				fail_msg("%s, %zu bytes: faults %" PRIu64
				    " reason \"%s\" aside %d", faults[i].what,
				    sizes[k], st[0].faults, st[0].reason,
				    st[0].aside);
			bench_stop(&b);
		}
}

static void
test_bad_alone(void **state)
{
	struct upstream_stat st;
	struct fills_stats fs;
	struct bench b;
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		for (k = 1; k < sizeof(sizes) / sizeof(sizes[0]); k += 3) {
			if (k == 1 && (faults[i].mode == HANG ||
			    faults[i].mode == STALL))
				continue;	/* slow, and all the same */
			bench_start(&b, sizes[k], true, 1, &faults[i].mode);
			if (applies(faults[i].mode, sizes[k]) &&
			    fetch_whole(&b) != faults[i].alone)
				fail_msg("%s, %zu bytes", faults[i].what,
				    sizes[k]);
			wait_running(&b, 0);
			fills_stats(b.fills, &fs);
			assert_int_equal(fs.done + fs.failed, 1);
			assert_int_equal(fs.done, faults[i].alone);
			/* The last usable one is never set aside. */
			(void)upstreams_stats(b.upstreams, &st, 1);
			assert_false(st.aside);
			bench_stop(&b);
		}
}

static void
test_all_bad(void **state)
{
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 3,
	    (enum mode[]){ FLIP_FIRST, ERROR_500, SHORT_NO_LENGTH });
	/* The third gives half of what it is asked for, again and again. */
	(void)fetch_whole(&b);
	bench_stop(&b);
	bench_start(&b, MANY, true, 3,
	    (enum mode[]){ FLIP_FIRST, ERROR_500, NOT_FOUND });
	assert_false(fetch_whole(&b));
	wait_running(&b, 0);
	/* Each was asked more than once, and none without end. */
	assert_true(b.server[0].gets >= 2 && b.server[0].gets <= 8);
	assert_true(b.server[1].gets >= 2 && b.server[1].gets <= 8);
	assert_int_equal(b.server[2].gets, 1);
	assert_false(blob_have(b.store, &b.want.digest));
	/* A later request starts anew. */
	assert_false(fetch_whole(&b));
	bench_stop(&b);
}

static void
test_no_upstream(void **state)
{
	struct bench b;

	(void)state;
	bench_start(&b, 1000, true, 0, NULL);
	assert_false(fetch_whole(&b));
	bench_stop(&b);
}

static void *
client_thread(void *arg)
{
	struct client *c = arg;

	client_read(c, c->len);
	return (NULL);
}

static void
test_readers_share_one_get(void **state)
{
	static struct client c[100];
	pthread_t t[100];
	struct bench b;
	unsigned i;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, CHUNK_SIZE);
	for (i = 0; i < 100; i++) {
		client_start(&c[i], &b, 0, b.size);
		if (i <= 50)		/* later ones may find it done */
			assert_int_equal(fill_reader_collapsed(c[i].r), i > 0);
		assert_int_equal(pthread_create(&t[i], NULL, client_thread,
		    &c[i]), 0);
		if (i == 50)
			atomic_store(&b.server[0].gate, SIZE_MAX);
	}
	for (i = 0; i < 100; i++) {
		(void)pthread_join(t[i], NULL);
		assert_false(c[i].failed);
		assert_int_equal(c[i].got, b.size);
		client_end(&c[i]);
	}
	assert_int_equal(b.server[0].gets, 1);
	assert_int_equal(b.server[0].sent, b.size);
	assert_stored(&b);
	bench_stop(&b);
}

static void
test_first_chunk_goes_out_first(void **state)
{
	struct client c, early;
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	/* All but the last bytes of the first chunk: nothing may be read. */
	atomic_store(&b.server[0].gate, CHUNK_SIZE - 1);
	client_start(&early, &b, 0, b.size);
	assert_int_equal(fill_reader_state(early.r), FILL_WAIT);
	while (b.server[0].sent < CHUNK_SIZE - PIECE)
		pause_ms(2);
	assert_int_equal(fill_reader_state(early.r), FILL_WAIT);
	/* The first chunk alone: it can. */
	atomic_store(&b.server[0].gate, CHUNK_SIZE);
	client_start(&c, &b, 0, b.size);
	client_read(&c, CHUNK_SIZE);
	assert_int_equal(c.got, CHUNK_SIZE);
	client_wait(&early);
	assert_int_equal(fill_reader_state(early.r), FILL_READY);
	client_end(&early);
	atomic_store(&b.server[0].gate, SIZE_MAX);
	client_read(&c, b.size);
	assert_int_equal(c.got, b.size);
	client_end(&c);
	bench_stop(&b);
}

static void
test_goes_on_without_readers(void **state)
{
	struct client c;
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, CHUNK_SIZE);
	client_start(&c, &b, 0, b.size);
	client_read(&c, 1);
	client_end(&c);
	atomic_store(&b.server[0].gate, SIZE_MAX);
	assert_stored(&b);
	assert_int_equal(b.server[0].gets, 1);
	bench_stop(&b);
}

/* Only what the first so many chunks lack is fetched. */
static void
assert_goes_on_after(struct bench *b, size_t chunks)
{
	size_t sent;

	pause_ms(20);
	b->server[0].sent = 0;
	assert_true(fetch_whole(b));
	assert_stored(b);
	sent = b->server[0].sent;
	assert_int_equal(sent, b->size - chunks * CHUNK_SIZE);
}

/* Set so, it does not; and goes on where it was. */
static void
test_stops_without_readers(void **state)
{
	struct fills_stats st;
	struct client c;
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	b.conf.when_left = (char *)(uintptr_t)"stop";
	fills_configure(b.fills, &b.conf);
	atomic_store(&b.server[0].gate, 3 * CHUNK_SIZE + 10);
	client_start(&c, &b, 0, b.size);
	client_read(&c, 3 * CHUNK_SIZE);
	client_end(&c);
	/* Somebody may come at any moment of its end. */
	client_start(&c, &b, 0, 10);
	client_read(&c, 10);
	assert_int_equal(c.got, 10);
	client_end(&c);
	wait_running(&b, 0);
	assert_false(blob_have(b.store, &b.want.digest));
	fills_stats(b.fills, &st);
	assert_true(st.left >= 1 && st.failed == 0 && st.done == 0);
	atomic_store(&b.server[0].gate, SIZE_MAX);
	assert_goes_on_after(&b, 3);
	bench_stop(&b);
}

static void
test_many_readers_of_one_fill(void **state)
{
	static struct client c[1001];
	struct bench b;
	size_t i;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, 0);
	for (i = 0; i < 1000; i++) {
		client_start(&c[i], &b, i % 2 == 0 ? 0 : MANY - 10, 10);
		assert_int_equal(fill_reader_state(c[i].r), FILL_WAIT);
	}
	assert_null(fill_reader_new(b.fills, &b.want, 0, 10, wake, &c[1000]));
	client_end(&c[0]);
	client_start(&c[0], &b, 0, 10);
	atomic_store(&b.server[0].gate, SIZE_MAX);
	for (i = 0; i < 1000; i++) {
		client_read(&c[i], 10);
		assert_int_equal(c[i].got, 10);
		client_end(&c[i]);
	}
	assert_stored(&b);
	bench_stop(&b);
}

/* No more than it says, and what waits for its turn has not stalled. */
static void
test_rate(void **state)
{
	struct client c[3];
	struct bench b;
	int64_t ms;
	size_t i;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	b.conf.fill_low_rate = 250000;		/* in a second */
	b.conf.fill_rate = MANY / 3;
	assert_int_equal(upstreams_configure(b.upstreams, &b.conf), 0);
	ms = clock_boot_ms();
	for (i = 0; i < 3; i++) {
		client_start(&c[i], &b, i * 2 * CHUNK_SIZE, CHUNK_SIZE);
		assert_int_equal(fill_reader_state(c[i].r), FILL_WAIT);
	}
	for (i = 0; i < 3; i++) {
		client_read(&c[i], CHUNK_SIZE);
		assert_int_equal(c[i].got, CHUNK_SIZE);
		client_end(&c[i]);
	}
	assert_stored(&b);
	assert_true(clock_boot_ms() - ms >= 2500);
	bench_stop(&b);
}

static void
test_far_reader(void **state)
{
	size_t size = 60u * CHUNK_SIZE + 99, sent;
	struct client c, far, near;
	struct bench b;

	(void)state;
	bench_start(&b, size, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, 2 * CHUNK_SIZE);
	client_start(&c, &b, 0, b.size);
	client_read(&c, CHUNK_SIZE);
	/* The last byte need not wait for the 58 chunks before it ... */
	client_start(&far, &b, size - 1, 1);
	assert_int_equal(fill_reader_state(far.r), FILL_WAIT);
	while (b.server[0].gets < 2)
		pause_ms(2);
	/* ... one that is near waits for the transfer that runs. */
	client_start(&near, &b, 5 * CHUNK_SIZE, 10);
	assert_int_equal(fill_reader_state(near.r), FILL_WAIT);
	atomic_store(&b.server[0].gate, SIZE_MAX);
	client_read(&far, 1);
	client_read(&near, 10);
	client_read(&c, b.size);
	assert_true(far.got == 1 && near.got == 10 && c.got == b.size);
	client_end(&c);
	client_end(&far);
	client_end(&near);
	assert_stored(&b);
	assert_int_equal(b.server[0].gets, 2);
	sent = b.server[0].sent;
	assert_in_range(sent, size, size + 4 * CHUNK_SIZE);
	bench_stop(&b);
}

static void
test_range_of_a_cold_file(void **state)
{
	struct client c;
	struct bench b;

	(void)state;
	bench_start(&b, 40u * CHUNK_SIZE, true, 1, (enum mode[]){ GOOD });
	client_start(&c, &b, b.size - 5, 5);
	client_read(&c, 5);
	assert_int_equal(c.got, 5);
	client_end(&c);
	assert_stored(&b);
	assert_true(b.server[0].sent <= b.size + CHUNK_SIZE);
	bench_stop(&b);
}

/* The first transfer breaks off after three chunks; the edge starts again. */
static void
leave_partial(struct bench *b)
{
	struct client c;

	bench_start(b, MANY, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b->server[0].gate, 3 * CHUNK_SIZE);
	client_start(&c, b, 0, b->size);
	client_read(&c, 3 * CHUNK_SIZE);
	client_end(&c);
	edge_stop(b);
	atomic_store(&b->server[0].gate, SIZE_MAX);
	b->server[0].sent = 0;
}

static void
test_restart_goes_on(void **state)
{
	struct bench b;

	(void)state;
	leave_partial(&b);
	edge_start(&b, UINT64_MAX / 2);
	assert_goes_on_after(&b, 3);
	bench_stop(&b);
}

/* Killed between the last write and the renaming. */
static void
test_restart_finds_a_small_file(void **state)
{
	char name[256];
	struct bench b;
	int fd;

	(void)state;
	bench_start(&b, 1000, true, 1, (enum mode[]){ GOOD });
	edge_stop(&b);
	fd = open(partial_name(&b, name), O_WRONLY | O_CREAT, 0644);
	assert_true(fd != -1);
	assert_int_equal(fd_pwrite_all(fd, b.content, b.size, 0), 0);
	fd_close(&fd);
	b.server[0].sent = 0;
	edge_start(&b, UINT64_MAX / 2);
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	assert_int_equal(b.server[0].sent, 0);
	bench_stop(&b);
}

static void
test_restart_trusts_no_file(void **state)
{
	char name[256];
	struct bench b;
	size_t sent;
	int fd;

	(void)state;
	leave_partial(&b);
	fd = open(partial_name(&b, name), O_RDWR);
	assert_true(fd != -1);
	assert_int_equal(fd_pwrite_all(fd, "wrong", 5, CHUNK_SIZE + 7), 0);
	assert_int_equal(ftruncate(fd, 2 * MANY), 0);
	fd_close(&fd);
	pause_ms(20);
	b.server[0].sent = 0;
	edge_start(&b, UINT64_MAX / 2);
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	sent = b.server[0].sent;
	assert_in_range(sent, b.size - 2 * CHUNK_SIZE,
	    b.size - 2 * CHUNK_SIZE + PIECE);
	bench_stop(&b);
}

static void
test_no_ranges_are_read_through(void **state)
{
	struct bench b;

	(void)state;
	leave_partial(&b);
	b.server[0].mode = NO_RANGES;
	edge_start(&b, UINT64_MAX / 2);
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	bench_stop(&b);
	leave_partial(&b);
	b.server[0].mode = WRONG_RANGE;
	edge_start(&b, UINT64_MAX / 2);
	assert_false(fetch_whole(&b));
	bench_stop(&b);
}

/* Manifests and chunk tables: no rows, any size. */
static void
test_fetch(void **state)
{
	static const struct {
		enum mode	first, second;
		bool		ok;
	} cases[] = {
		{ GOOD, GOOD, true }, { FLIP_MIDDLE, GOOD, true },
		{ SHORT, GOOD, true }, { RESET, CHUNKED, true },
		{ OTHER, FLIP_LAST, false }, { NOT_FOUND, NOT_FOUND, false },
	};
	static const size_t lens[] = { 0, 10, MANY };
	struct blob *blob;
	struct bench b;
	size_t i, k;
	int ret;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (k = 0; k < 3; k++) {
			bench_start(&b, lens[k], false, 2, (enum mode[]){
			    cases[i].first, cases[i].second });
			ret = fill_fetch(b.fills, &b.want, 20, NULL, &blob);
			if ((ret == 0) != (cases[i].ok || lens[k] == 0))
				fail_msg("case %zu, %zu bytes", i, lens[k]);
			if (ret == 0)
				assert_stored(&b);
			else
				assert_int_equal(errno, EIO);
			blob_put(&blob);
			bench_stop(&b);
		}
}

static void
test_fetch_gives_up(void **state)
{
	atomic_bool stop = false;
	struct blob *blob;
	struct bench b;

	(void)state;
	bench_start(&b, 1000, false, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, 0);
	b.conf.fill_low_time = 60;
	assert_int_equal(upstreams_configure(b.upstreams, &b.conf), 0);
	assert_int_equal(fill_fetch(b.fills, &b.want, 1, &stop, &blob), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_null(blob);
	atomic_store(&stop, true);
	assert_int_equal(fill_fetch(b.fills, &b.want, 9, &stop, &blob), -1);
	assert_int_equal(errno, ECANCELED);
	assert_int_equal(fill_patiently(b.fills, &b.want, &stop), ECANCELED);
	/* It has gone on all the time. */
	atomic_store(&stop, false);
	atomic_store(&b.server[0].gate, SIZE_MAX);
	assert_int_equal(fill_patiently(b.fills, &b.want, &stop), 0);
	assert_stored(&b);
	bench_stop(&b);
}

static void *
stop_soon(void *arg)
{

	pause_ms(50);
	fills_stop(arg);
	return (NULL);
}

static void
test_stop_fails_waiting_readers(void **state)
{
	struct client c;
	struct bench b;
	pthread_t t;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, CHUNK_SIZE);
	client_start(&c, &b, 0, b.size);
	client_read(&c, CHUNK_SIZE);
	(void)pthread_create(&t, NULL, stop_soon, b.fills);
	client_read(&c, b.size);
	assert_true(c.failed);
	assert_int_equal(fill_reader_state(c.r), FILL_FAILED);
	client_end(&c);
	(void)pthread_join(t, NULL);
	assert_null(fill_reader_new(b.fills, &b.want, 0, 1, wake, &c));
	bench_stop(&b);
}

static void
test_no_room(void **state)
{
	struct fills_stats st;
	struct blob *blob;
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	edge_stop(&b);
	edge_start(&b, MANY - 1);
	/* It is served, and not kept. */
	assert_true(fetch_whole(&b));
	wait_running(&b, 0);
	assert_false(blob_have(b.store, &b.want.digest));
	fills_stats(b.fills, &st);
	assert_true(st.unstored == 1 && st.done == 0 && st.failed == 0);
	/* Where all of it is needed in the store, that fails. */
	assert_int_equal(fill_fetch(b.fills, &b.want, 30, NULL, &blob), -1);
	assert_int_equal(errno, EIO);
	wait_running(&b, 0);
	blob_store_limits(b.store, MANY, 0);
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	bench_stop(&b);
}

/* Long enough that what slow readers read is not kept. */
#define	LONG	((2 * UNSTORED_PIECES + 3u) * CHUNK_SIZE + 5)

static void
test_no_room_for_many(void **state)
{
	struct client c[6];
	struct fills_stats st;
	struct bench b;
	size_t i;

	(void)state;
	bench_start(&b, LONG, true, 1, (enum mode[]){ GOOD });
	edge_stop(&b);
	edge_start(&b, LONG - 1);
	for (i = 0; i < 6; i++)
		client_start(&c[i], &b, i == 5 ? LONG - 7 : 0,
		    i == 5 ? 7 : LONG);
	/* They share one fill, at paces of their own. */
	client_read(&c[0], 1);
	for (i = 0; i < 5; i++)
		client_read(&c[i], (i + 1) * LONG / 6);
	client_read(&c[5], 7);
	client_end(&c[5]);			/* leaves */
	client_end(&c[0]);
	for (i = 5; i-- > 1;) {
		client_read(&c[i], LONG);
		assert_int_equal(c[i].got, LONG);
	}
	fills_stats(b.fills, &st);
	assert_true(st.started == 1 && st.running == 1);
	/* Each window again for each of them, at the most. */
	assert_true(b.server[0].sent < 5 * LONG);
	for (i = 1; i < 5; i++)
		client_end(&c[i]);
	wait_running(&b, 0);
	fills_stats(b.fills, &st);
	assert_true(st.unstored == 1 && st.failed == 0);
	bench_stop(&b);
}

/* One that is left is joined at any moment: it ends, or it goes on. */
static void *
join_and_leave(void *arg)
{
	struct bench *b = arg;
	struct client c;
	unsigned i;

	for (i = 0; i < 1000; i++) {
		client_start(&c, b, 0, 1000);
		client_read(&c, 1000);
		if (c.failed)
			abort();
		client_end(&c);
	}
	return (NULL);
}

static void
test_left_and_joined(void **state)
{
	pthread_t t[4];
	struct bench b;
	size_t i;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	b.conf.when_left = (char *)(uintptr_t)"stop";
	fills_configure(b.fills, &b.conf);
	atomic_store(&b.server[0].gate, 2 * CHUNK_SIZE);
	for (i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, join_and_leave,
		    &b), 0);
	for (i = 0; i < 4; i++)
		(void)pthread_join(t[i], NULL);
	bench_stop(&b);
}

/* Somebody empties the cache's folder during a fill. */
static void
test_file_lost_while_it_is_read(void **state)
{
	char name[256];
	struct fills_stats st;
	struct client c;
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	atomic_store(&b.server[0].gate, 4 * CHUNK_SIZE);
	client_start(&c, &b, 0, b.size);
	client_read(&c, 3 * CHUNK_SIZE - 5);
	assert_int_equal(unlink(partial_name(&b, name)), 0);
	atomic_store(&b.server[0].gate, SIZE_MAX);
	client_read(&c, b.size);
	assert_int_equal(c.got, b.size);
	client_end(&c);
	wait_running(&b, 0);
	fills_stats(b.fills, &st);
	assert_int_equal(st.failed, 0);
	/* And from then on it is in the store. */
	assert_true(fetch_whole(&b));
	assert_stored(&b);
	bench_stop(&b);
}

static void
test_fills_wait_their_turn(void **state)
{
	struct fills_stats st;
	struct client c, d;
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 1, (enum mode[]){ GOOD });
	b.conf.fills = 1;
	fills_configure(b.fills, &b.conf);
	atomic_store(&b.server[0].gate, CHUNK_SIZE);
	client_start(&c, &b, 0, b.size);
	client_read(&c, 1);
	b.want.digest.b[0] ^= 1;		/* another, which nobody has */
	client_start(&d, &b, 0, b.size);
	assert_int_equal(fill_reader_state(d.r), FILL_WAIT);
	fills_stats(b.fills, &st);
	assert_true(st.running == 1 && st.queued == 1);
	/* One that waits may be left. */
	client_end(&d);
	b.want.digest.b[0] ^= 1;
	atomic_store(&b.server[0].gate, SIZE_MAX);
	client_read(&c, b.size);
	assert_int_equal(c.got, b.size);
	client_end(&c);
	wait_running(&b, 0);
	bench_stop(&b);
}

static void
test_sibling_is_asked_first(void **state)
{
	struct upstream_stat st[2];
	struct bench b;

	(void)state;
	bench_start(&b, MANY, true, 2, (enum mode[]){ GOOD, ERROR_503 });
	b.up[1].kind = UPSTREAM_SIBLING;
	assert_int_equal(upstreams_configure(b.upstreams, &b.conf), 0);
	assert_true(fetch_whole(&b));
	assert_int_equal(b.server[1].gets, 1);
	assert_int_equal(b.server[1].asked_cached, 1);
	assert_int_equal(b.server[0].gets, 1);
	assert_int_equal(b.server[0].asked_cached, 0);
	(void)upstreams_stats(b.upstreams, st, 2);
	assert_int_equal(st[0].requests, 1);
	bench_stop(&b);
}

static void
test_static_tree_is_asked_by_path(void **state)
{
	struct bench b;
	char *line;

	(void)state;
	bench_start(&b, 1000, true, 1, (enum mode[]){ GOOD });
	b.up[0].kind = UPSTREAM_STATIC;
	assert_int_equal(upstreams_configure(b.upstreams, &b.conf), 0);
	b.want.set = "FreeBSD:14/latest";
	b.want.path = "All/gtk+ 2%_1,1.pkg";
	assert_true(fetch_whole(&b));
	(void)pthread_mutex_lock(&b.server[0].lock);
	line = b.server[0].last;
	line[strcspn(line, "\r")] = '\0';
	assert_string_equal(line,
	    "GET /FreeBSD:14/latest/All/gtk%2B%202%25_1%2C1.pkg HTTP/1.1");
	(void)pthread_mutex_unlock(&b.server[0].lock);
	bench_stop(&b);
	/* Another generation's file under that path is no lie. */
	bench_start(&b, 1000, true, 2, (enum mode[]){ OTHER, GOOD });
	b.up[0].kind = UPSTREAM_STATIC;
	assert_int_equal(upstreams_configure(b.upstreams, &b.conf), 0);
	b.want.set = "s";
	b.want.path = "p";
	assert_true(fetch_whole(&b));
	struct upstream_stat st;
	(void)upstreams_stats(b.upstreams, &st, 1);
	assert_false(st.aside);
	bench_stop(&b);
}

static void
test_documents(void **state)
{
	char from[UPSTREAM_URL], *p;
	struct upstream_stat st[3];
	uint64_t tried = 0;
	struct bench b;
	size_t len;

	(void)state;
	bench_start(&b, 1000, true, 3,
	    (enum mode[]){ ERROR_500, GOOD, GOOD });
	p = upstream_get(b.upstreams, &tried, "/.pkgcast/heads", 1000, 5,
	    NULL, &len, from);
	assert_non_null(p);
	assert_int_equal(len, 1000);
	assert_memory_equal(p, b.content, len);
	assert_string_equal(from, b.up[1].url);
	free(p);
	/* It is no good: the next. */
	upstream_bad(b.upstreams, from, "forged");
	p = upstream_get(b.upstreams, &tried, "/.pkgcast/heads", 1000, 5,
	    NULL, &len, from);
	assert_non_null(p);
	assert_string_equal(from, b.up[2].url);
	free(p);
	assert_null(upstream_get(b.upstreams, &tried, "/.pkgcast/heads", 1000,
	    5, NULL, &len, from));
	/* Larger than the caller can take. */
	tried = 0;
	assert_null(upstream_get(b.upstreams, &tried, "/x", 999, 5, NULL, &len,
	    from));
	assert_int_equal(errno, EIO);
	(void)upstreams_stats(b.upstreams, st, 3);
	assert_true(st[1].aside);
	assert_string_equal(st[0].reason, "status 500");
	bench_stop(&b);

	bench_start(&b, 1000, true, 2, (enum mode[]){ NOT_FOUND, NOT_FOUND });
	tried = 0;
	assert_null(upstream_get(b.upstreams, &tried, "/x", 1000, 5, NULL,
	    &len, from));
	assert_int_equal(errno, ENOENT);
	bench_stop(&b);
}

static void
test_document_that_hangs(void **state)
{
	atomic_bool stop = true;
	char from[UPSTREAM_URL];
	uint64_t tried = 0;
	struct bench b;
	size_t len;

	(void)state;
	bench_start(&b, 1000, true, 1, (enum mode[]){ HANG });
	assert_null(upstream_get(b.upstreams, &tried, "/x", 1000, 1, NULL,
	    &len, from));
	assert_int_equal(errno, EIO);
	tried = 0;
	assert_null(upstream_get(b.upstreams, &tried, "/x", 1000, 60, &stop,
	    &len, from));
	assert_int_equal(errno, ECANCELED);
	bench_stop(&b);
}

/* A port where connections neither come about nor are refused. */
static void
full_port(char url[UPSTREAM_URL], int fd[BACKLOG_FULL])
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof(a);
	size_t i;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (i = 0; i < BACKLOG_FULL; i++) {
		fd[i] = socket(AF_INET, SOCK_STREAM | (i > 0 ? SOCK_NONBLOCK :
		    0), 0);
		assert_int_not_equal(fd[i], -1);
		if (i > 0) {
			(void)connect(fd[i], (struct sockaddr *)&a, len);
			continue;
		}
		assert_int_equal(bind(fd[0], (struct sockaddr *)&a, len), 0);
		assert_int_equal(listen(fd[0], 0), 0);
		assert_int_equal(getsockname(fd[0], (struct sockaddr *)&a,
		    &len), 0);
	}
	(void)snprintf(url, UPSTREAM_URL, "http://127.0.0.1:%d",
	    ntohs(a.sin_port));
}

/* One connection is tried, for as long as is configured: it is none that was
 * kept. */
static void
test_unreachable(void **state)
{
	struct upstream_stat st[2];
	char url[UPSTREAM_URL];
	int fd[BACKLOG_FULL];
	struct bench b;
	int64_t began;
	size_t i;

	(void)state;
	bench_start(&b, 1000, true, 2, (enum mode[]){ GOOD, GOOD });
	full_port(url, fd);
	b.up[0].url = url;
	b.conf.fill_connect = 3;
	b.conf.fill_first = 15;
	assert_int_equal(upstreams_configure(b.upstreams, &b.conf), 0);
	began = clock_boot_ms();
	assert_true(fetch_whole(&b));
	assert_in_range(clock_boot_ms() - began, 2900, 4900);
	assert_int_equal(upstreams_stats(b.upstreams, st, 2), 2);
	assert_int_equal(st[0].faults, 1);
	bench_stop(&b);
	for (i = 0; i < BACKLOG_FULL; i++)
		(void)close(fd[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_then_good),
		cmocka_unit_test(test_bad_alone),
		cmocka_unit_test(test_all_bad),
		cmocka_unit_test(test_no_upstream),
		cmocka_unit_test(test_readers_share_one_get),
		cmocka_unit_test(test_first_chunk_goes_out_first),
		cmocka_unit_test(test_goes_on_without_readers),
		cmocka_unit_test(test_stops_without_readers),
		cmocka_unit_test(test_many_readers_of_one_fill),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_far_reader),
		cmocka_unit_test(test_range_of_a_cold_file),
		cmocka_unit_test(test_restart_goes_on),
		cmocka_unit_test(test_restart_finds_a_small_file),
		cmocka_unit_test(test_restart_trusts_no_file),
		cmocka_unit_test(test_no_ranges_are_read_through),
		cmocka_unit_test(test_fetch),
		cmocka_unit_test(test_fetch_gives_up),
		cmocka_unit_test(test_stop_fails_waiting_readers),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_no_room_for_many),
		cmocka_unit_test(test_left_and_joined),
		cmocka_unit_test(test_file_lost_while_it_is_read),
		cmocka_unit_test(test_fills_wait_their_turn),
		cmocka_unit_test(test_sibling_is_asked_first),
		cmocka_unit_test(test_static_tree_is_asked_by_path),
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_document_that_hangs),
		cmocka_unit_test(test_unreachable),
	};

	(void)cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("fill", tests, NULL, NULL));
}
