/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the bytes of an answer come from: memory, the disk, a fill; or, asked for
 * what the store has, no fill.  One blob, over HTTP.
 */
#include "tests/filling.h"
#include "tests/web.h"

#include "edge/bytes.h"
#include "edge/memory.h"

#define	SMALL	5000u			/* copied to memory */
#define	MANY	(5u * CHUNK_SIZE + 777)
#define	LARGE	(MEMORY_ASK + 1u)

static struct bench bench;
static struct bytes_source source;
static struct cold_pool *pool;
static struct httpd *server;
static int port;
static atomic_uint placed;		/* requests that had to keep something */

static void
release(void *bytes)
{

	bytes_release(bytes);
	free(bytes);
}

static struct bytes *
place(void *arg, struct httpd_request *r)
{
	struct bytes *b = httpd_state(r);

	(void)arg;
	if (b == NULL && (b = calloc(1, sizeof(*b))) != NULL) {
		atomic_fetch_add(&placed, 1);
		httpd_set_state(r, b, release);
	}
	return (b);
}

/* /local asks the store alone. */
static void
handler(void *arg, struct httpd_request *r)
{
	struct answer_file facts = { .size = bench.size, .time = -1 };
	struct bytes_user u = { .source = &source, .place = place };
	struct fill_want want = bench.want;
	struct serve_body out = { .hit = false };
	struct answer a;

	(void)arg;
	want.local = strcmp(httpd_target(r), "/local") == 0;
	answer_file(&a, httpd_method(r), httpd_fields(r), &facts);
	switch (bytes_get(&u, httpd_state(r), r, &want, &a, &out)) {
	case SERVE_WAITING:
		return;
	case SERVE_NOT_HERE:
		httpd_reply_status(r, 504, 0);
		return;
	case SERVE_UNAVAILABLE:
		httpd_reply_status(r, 503, 0);
		return;
	case SERVE_BODY:
		break;
	}
	answer_header(&a, "X-Hit", "%d", out.hit);
	httpd_reply(r, &a, &out.body);
}

/* On what the store has by now, of which nothing was verified. */
static void
serve_start(void)
{
	struct httpd_conf c = { .handler = handler, .threads = 2 };
	int fd;

	assert_non_null(pool = cold_pool_new());
	bytes_source_init(&source, bench.store, bench.fills, pool);
	atomic_store(&placed, 0);
	httpd_conf_defaults(&c);
	assert_int_not_equal(fd = httpd_listen("127.0.0.1:0"), -1);
	port = httpd_port(fd);
	assert_non_null(server = httpd_start(&c, &fd, 1));
}

static void
serve_stop(void)
{

	httpd_stop(&server);
	cold_pool_destroy(&pool);
}

static void
start(size_t size, bool rows, enum mode mode)
{

	bench_start(&bench, size, rows, 1, &mode);
	serve_start();
}

static void
stop(void)
{

	serve_stop();
	bench_stop(&bench);
}

static void
restart(size_t rotten)
{

	serve_stop();
	edge_stop(&bench);
	if (rotten < bench.size)
		rot(&bench, rotten);
	edge_start(&bench, UINT64_MAX / 2);
	serve_start();
}

static void
expect(const char *target, const char *fields, int status, int hit)
{
	char value[512];
	struct web_answer a;
	size_t off = 0, len = bench.size;

	web_get(port, target, fields, &a);
	assert_int_equal(a.status, status);
	if (status == 206)
		assert_int_equal(sscanf(fields, "Range: bytes=%zu-", &off), 1);
	len = status < 300 ? len - off : 0;
	assert_int_equal(a.len, len);
	assert_memory_equal(a.body, bench.content + off, len);
	if (status < 300) {
		assert_non_null(web_field(&a, "X-Hit", value));
		assert_int_equal(value[0] - '0', hit);
	}
	web_free(&a);
}

static const size_t sizes[] = { SMALL, MANY, LARGE };
#define	SIZES	(sizeof(sizes) / sizeof(sizes[0]))

static void
test_fill_then_hits(void **state)
{
	uint64_t gets;
	size_t i;

	(void)state;
	for (i = 0; i < SIZES; i++) {
		start(sizes[i], true, GOOD);
		expect("/", "", 200, 0);
		assert_stored(&bench);
		wait_running(&bench, 0);
		gets = bench.server[0].gets;
		expect("/", "", 200, 1);
		expect("/", "Range: bytes=1000-\r\n", 206, 1);
		expect("/", "Cache-Control: only-if-cached\r\n", 200, 1);
		/* As it lies there after a start. */
		restart(SIZE_MAX);
		expect("/", "Range: bytes=4999-\r\n", 206, 1);
		expect("/", "", 200, 1);
		assert_int_equal(bench.server[0].gets, gets);
		assert_int_equal(source.hits, 2);
		assert_int_equal(source.misses, 0);
		stop();
	}
}

static void
test_memory_needs_no_state(void **state)
{

	(void)state;
	start(SMALL, true, GOOD);
	expect("/", "", 200, 0);
	assert_stored(&bench);
	expect("/", "", 200, 1);
	assert_int_equal(placed, 2);
	expect("/", "", 200, 1);
	expect("/local", "Range: bytes=10-\r\n", 206, 1);
	assert_int_equal(placed, 2);
	assert_int_equal(source.misses, 1);
	stop();
}

static void
test_cannot_be_had(void **state)
{

	(void)state;
	start(MANY, true, NOT_FOUND);
	expect("/", "Cache-Control: only-if-cached\r\n", 504, 0);
	expect("/local", "", 504, 0);
	assert_int_equal(bench.server[0].gets, 0);
	assert_int_equal(source.misses, 0);
	expect("/", "", 503, 0);
	assert_int_equal(source.misses, 1);
	assert_int_equal(source.hits, 0);
	stop();
}

static void
test_store_alone(void **state)
{
	uint64_t gets;
	size_t i;

	(void)state;
	for (i = 0; i < SIZES; i++) {
		start(sizes[i], false, GOOD);
		expect("/", "", 200, 0);
		assert_stored(&bench);
		restart(SIZE_MAX);
		gets = bench.server[0].gets;
		expect("/local", "", 200, 1);
		expect("/local", "Range: bytes=4000-\r\n", 206, 1);
		assert_int_equal(source.hits, 2);
		/* What is bad is not there. */
		restart(sizes[i] - 1);
		expect("/local", "Range: bytes=0-\r\n", 504, 0);
		assert_false(blob_have(bench.store, &bench.want.digest));
		assert_int_equal(bench.server[0].gets, gets);
		assert_int_equal(source.hits, 0);
		assert_int_equal(source.misses, 0);
		expect("/", "", 200, 0);
		stop();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fill_then_hits),
		cmocka_unit_test(test_memory_needs_no_state),
		cmocka_unit_test(test_cannot_be_had),
		cmocka_unit_test(test_store_alone),
	};

	(void)cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("bytes", tests, NULL, NULL));
}
