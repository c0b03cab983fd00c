/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Blobs on their way to clients: from memory, as answers made once, and from a
 * disk that has to be waited for.
 */
#include "tests/web.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "edge/cold.h"
#include "edge/table.h"
#include "edge/memory.h"
#include "edge/resident.h"
#include "proto/fd.h"
#include "proto/httpd.h"

#define	SMALL		1000u
#define	LARGE		(5u << 20)
#define	PATIENCE_S	20
#define	READERS		4
#define	ROUNDS		200

static char dir[] = "/tmp/test_cold.XXXXXX";
static struct blob_store *store;
static struct cold_pool *pool;
static struct httpd *server;
static int port;
static struct digest small, large;
static char *bytes;			/* LARGE of them; the small blob begins so */

/* What the handler does next. */
static atomic_bool use_made;
static _Atomic uint64_t serial;
static atomic_uint nmade, nkept, ncold;

struct state {
	struct cold	*cold;
};

static void
release_state(void *p)
{
	struct state *st = p;

	cold_destroy(&st->cold);
	free(st);
}

static void
wake(void *r)
{

	httpd_wake(r);
}

/* As edge/bytes.c does it, without fills. */
static void
handler(void *arg, struct httpd_request *r)
{
	bool is_large = strcmp(httpd_target(r), "/large") == 0;
	const struct digest *d = is_large ? &large : &small;
	struct answer_file facts = { .size = is_large ? LARGE : SMALL,
	    .time = -1, .type = "application/octet-stream", .etag = "x" };
	struct made_key key = { .serial = serial, .status = 200 };
	struct state *st = httpd_state(r);
	struct httpd_prepared *p;
	struct httpd_body *body = NULL;
	struct memory *m;
	struct blob *b;
	struct answer a;

	(void)arg;
	answer_judge(&a, httpd_method(r), httpd_fields(r), &facts);
	key.status = a.status;
	if (use_made && a.status != 206 && (p = memory_made(store, d,
	    facts.size, &key, a.send_body)) != NULL) {
		nmade++;
		httpd_reply_prepared(r, &p);
		return;
	}
	answer_headers(&a, &facts);
	answer_header(&a, "X-Serial", "%u", (unsigned)serial);
	if (!a.send_body) {
		httpd_reply(r, &a, NULL);
		return;
	}
	if (st == NULL) {
		m = memory_get(store, d, facts.size);
		if (m != NULL && memory_at_once(m, a.offset, a.length)) {
			if (use_made && a.status != 206 &&
			    (p = httpd_prepare(r, &a, memory_bytes(m),
			    memory_unref, memory_ref(m))) != NULL) {
				memory_keep(m, &key, p);
				httpd_prepared_unref(&p);
				nkept++;
			}
			body = memory_body(&m);
			httpd_reply(r, &a, &body);
			return;
		}
		b = blob_get(store, d, facts.size);
		st = calloc(1, sizeof(*st));
		if (b == NULL || st == NULL) {
			memory_unref(m);
			blob_put(&b);
			free(st);
			httpd_reply_status(r, 503, 0);
			return;
		}
		ncold++;
		httpd_set_state(r, st, release_state);
		st->cold = cold_new(pool, &b, &m, a.offset, a.length, wake, r);
	}
	switch (cold_state(st->cold)) {
	case COLD_WAIT:
		httpd_wait(r);
		break;
	case COLD_READY:
		body = (m = cold_memory(&st->cold)) != NULL ?
		    memory_body(&m) : cold_body(&st->cold);
		httpd_reply(r, &a, &body);
		break;
	case COLD_FAILED:
		httpd_reply_status(r, 503, 0);
		break;
	}
}

static void
put(const struct digest *d, size_t len)
{
	bool fresh;
	int fd;

	if (blob_have(store, d))
		return;
	assert_int_not_equal(fd = blob_partial_open(store, d, len, &fresh), -1);
	assert_int_equal(fd_pwrite_all(fd, bytes, len, 0), 0);
	assert_int_equal(blob_partial_commit(store, d, fd), 0);
	fd_close(&fd);
}

static int
open_blob(const struct digest *d, int flags)
{
	char hex[DIGEST_HEX + 1], path[256];
	int fd;

	(void)digest_hex(d, hex);
	(void)snprintf(path, sizeof(path), "%s/blob/%.2s/%s", dir, hex, hex);
	assert_int_not_equal(fd = open(path, flags | O_CLOEXEC), -1);
	return (fd);
}

/* Leaves the large blob's pages to the disk; false: this file system keeps
 * them. */
static bool
make_cold(void)
{
	struct memory *m;
	struct blob *b;
	bool is_cold;
	int fd, i;

	/* Pages that are mapped stay: so it goes, once nobody uses it. */
	for (i = 0; blob_have(store, &large) && i < PATIENCE_S * 1000; i++) {
		blob_store_limits(store, 0, 0);
		(void)usleep(1000);
	}
	assert_false(blob_have(store, &large));
	blob_store_limits(store, UINT64_MAX / 2, 0);
	put(&small, SMALL);
	put(&large, LARGE);
	fd = open_blob(&large, O_RDONLY);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	fd_close(&fd);
	assert_non_null(b = blob_get(store, &large, LARGE));
	assert_non_null(m = memory_load(b));
	is_cold = !memory_resident(m, 0, LARGE);
	memory_unref(m);
	blob_put(&b);
	return (is_cold);
}

static int
setup(void **state)
{
	struct httpd_conf c = { .handler = handler };
	int fd;
	size_t i;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_non_null(bytes = malloc(LARGE));
	for (i = 0; i < LARGE; i++)
		bytes[i] = (char)(i * 2654435761u >> 13);
	digest_of(&small, bytes, SMALL);
	digest_of(&large, bytes, LARGE);
	assert_non_null(store = blob_store_new(dir, UINT64_MAX / 2, 0));
	assert_non_null(pool = cold_pool_new());
	put(&small, SMALL);
	put(&large, LARGE);
	httpd_conf_defaults(&c);
	assert_int_not_equal(fd = httpd_listen("127.0.0.1:0"), -1);
	port = httpd_port(fd);
	assert_non_null(server = httpd_start(&c, &fd, 1));
	return (0);
}

static int
teardown(void **state)
{

	(void)state;
	httpd_stop(&server);
	cold_pool_destroy(&pool);
	blob_store_destroy(&store);
	(void)fd_remove_tree(AT_FDCWD, dir);
	free(bytes);
	return (0);
}

static void
get(struct web *w, struct web_answer *a, const char *target, const char *fields)
{
	char request[512];

	(void)snprintf(request, sizeof(request),
	    "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", target, fields);
	web_sends(w, request);
	web_read(w, a, false);
}

static void
expect(struct web *w, const char *target, const char *fields, int status,
    size_t off, size_t len)
{
	struct web_answer a;

	get(w, &a, target, fields);
	assert_int_equal(a.status, status);
	assert_int_equal(a.len, len);
	assert_memory_equal(a.body, bytes + off, len);
	free(a.body);
}

static void
test_small_and_large_come_whole(void **state)
{
	struct web w;
	int i;

	(void)state;
	web_open(&w, port);
	for (i = 0; i < 3; i++) {
		expect(&w, "/small", "", 200, 0, SMALL);
		expect(&w, "/large", "", 200, 0, LARGE);
		expect(&w, "/large", "Range: bytes=100000-3000000\r\n", 206,
		    100000, 2900001);
		expect(&w, "/small", "Range: bytes=-10\r\n", 206, SMALL - 10,
		    10);
	}
	web_close(&w);
}

static void
test_cold_pages_are_read_ahead(void **state)
{
	struct web w;
	unsigned before;

	(void)state;
	if (!make_cold())
		skip();
	web_open(&w, port);
	before = ncold;
	expect(&w, "/large", "Range: bytes=4000000-\r\n", 206, 4000000,
	    LARGE - 4000000);
	expect(&w, "/large", "", 200, 0, LARGE);
	assert_true(ncold >= before + 2);
	/* Now it is warm, and a slice that is not too large to ask about comes at
	 * once; others do after a look. */
	before = ncold;
	expect(&w, "/large", "Range: bytes=1-1000000\r\n", 206, 1, 1000000);
	assert_int_equal(ncold, RESIDENT_TOLD ? before : before + 1);
	before = ncold;
	expect(&w, "/large", "", 200, 0, LARGE);
	assert_int_equal(ncold, before + 1);
	web_close(&w);
}

static bool
has_file(struct memory *m)
{
	int fd = memory_file(m);
	bool has = fd != -1;

	fd_close(&fd);
	return (has);
}

/* Without room for a copy, too, what is small is verified first. */
static void
test_small_files_are_verified(void **state)
{
	const size_t len = MEMORY_COPY_MAX - 1;
	struct memory *m;
	struct digest d;
	struct blob *b;
	int fd;

	(void)state;
	digest_of(&d, bytes, len);
	put(&d, len);
	blob_store_memory(store, 0);
	assert_non_null(b = blob_get(store, &d, len));
	assert_non_null(m = memory_load(b));
	assert_memory_equal(memory_bytes(m), bytes, len);
	memory_unref(m);
	memory_forget(b);
	fd = open_blob(&d, O_RDWR);
	assert_int_equal(fd_pwrite_all(fd, "wrong", 5, 40000), 0);
	fd_close(&fd);
	assert_null(memory_load(b));
	assert_false(blob_have(store, &d));
	blob_put(&b);
	blob_store_memory(store, MEMORY_DEFAULT);
}

/* The ones that were wanted last keep theirs. */
static void
test_files_of_large_blobs(void **state)
{
	size_t most = store->memory.max_files, i;
	struct memory *m[3];
	struct digest d[3];
	struct blob *b[3];

	(void)state;
	assert_in_range(most, 1, MEMORY_FILES);
	for (i = 0; i < 3; i++) {
		digest_of(&d[i], bytes, LARGE - 1 - i);
		put(&d[i], LARGE - 1 - i);
		assert_non_null(b[i] = blob_get(store, &d[i], LARGE - 1 - i));
		assert_non_null(m[i] = memory_load(b[i]));
		assert_false(has_file(m[i]));
	}
	store->memory.max_files = 2;
	memory_keep_file(m[0], b[0]);
	memory_keep_file(m[1], b[1]);
	memory_keep_file(m[0], b[0]);
	assert_true(has_file(m[0]) && has_file(m[1]));
	memory_keep_file(m[2], b[2]);
	assert_true(has_file(m[0]) && !has_file(m[1]) && has_file(m[2]));
	memory_keep_file(m[1], b[1]);
	assert_true(!has_file(m[0]) && has_file(m[1]) && has_file(m[2]));
	assert_int_equal(store->memory.nfiles, 2);
	for (i = 0; i < 3; i++) {
		memory_unref(m[i]);
		blob_drop(&b[i]);
	}
	assert_int_equal(store->memory.nfiles, 0);
	store->memory.max_files = most;
}

static void
test_a_client_that_leaves_ends_its_read(void **state)
{
	struct web w;
	int i;

	(void)state;
	for (i = 0; i < 50; i++) {
		if (!make_cold())
			skip();
		web_open(&w, port);
		web_sends(&w, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
		if (i % 2 == 0)
			(void)web_more(&w);
		web_close(&w);
	}
}

static void
test_a_file_cut_short_is_never_a_whole_body(void **state)
{
	struct web_answer a;
	struct web w;
	int fd;

	(void)state;
	if (!make_cold())
		skip();
	fd = open_blob(&large, O_WRONLY);
	assert_int_equal(ftruncate(fd, LARGE / 2), 0);
	fd_close(&fd);
	web_open(&w, port);
	get(&w, &a, "/large", "");
	assert_true(a.status == 503 || !a.complete);
	free(a.body);
	web_close(&w);
	assert_false(blob_have(store, &large));
	put(&large, LARGE);
	web_open(&w, port);
	expect(&w, "/large", "", 200, 0, LARGE);
	web_close(&w);
}

/* The header field that shows in whose time an answer was made. */
static void
expect_serial(struct web *w, const char *fields, int status,
    const char *expected)
{
	struct web_answer a;
	char value[512];

	get(w, &a, "/small", fields);
	assert_int_equal(a.status, status);
	assert_string_equal(web_field(&a, "X-Serial", value), expected);
	if (status == 200)
		assert_memory_equal(a.body, bytes, SMALL);
	free(a.body);
}

static void
test_answers_are_made_once_a_generation(void **state)
{
	struct web w;
	int i;

	(void)state;
	use_made = true;
	serial = 1;
	nmade = nkept = 0;
	web_open(&w, port);
	expect(&w, "/small", "", 200, 0, SMALL);	/* to memory */
	for (i = 0; i < 10; i++)
		expect_serial(&w, "", 200, "1");
	assert_true(nkept == 1 && nmade >= 9);
	/* No answer of an earlier generation after a switch (G1). */
	serial = 2;
	for (i = 0; i < 10; i++)
		expect_serial(&w, "", 200, "2");
	assert_int_equal(nkept, 2);
	/* HEAD takes the same answer, without its body. */
	i = (int)nmade;
	web_sends(&w, "HEAD /small HTTP/1.1\r\nHost: x\r\n\r\n"
	    "GET /small HTTP/1.1\r\nHost: x\r\n\r\n");
	{
		struct web_answer a;
		char value[512];

		web_read(&w, &a, true);
		assert_int_equal(a.status, 200);
		assert_string_equal(web_field(&a, "Content-Length", value),
		    "1000");
		free(a.body);
		web_read(&w, &a, false);
		assert_int_equal(a.len, SMALL);
		free(a.body);
	}
	assert_int_equal(nmade, i + 2);
	web_close(&w);
	use_made = false;
}

static void *
reader(void *arg)
{
	struct web_answer a;
	struct web w;
	int i;

	(void)arg;
	web_open(&w, port);
	for (i = 0; i < ROUNDS; i++) {
		get(&w, &a, "/small", "");
		if (a.status == 200 && (a.len != SMALL ||
		    memcmp(a.body, bytes, SMALL) != 0))
			fail_msg("wrong bytes");
		free(a.body);
		if (a.status == 0) {
			web_close(&w);
			web_open(&w, port);
		}
	}
	web_close(&w);
	return (NULL);
}

/* While blobs are evicted and filled again, and generations change. */
static void
test_answers_outlive_their_blob(void **state)
{
	pthread_t t[READERS];
	int i;

	(void)state;
	use_made = true;
	for (i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, reader, NULL), 0);
	for (i = 0; i < ROUNDS; i++) {
		serial++;
		blob_store_memory(store, i % 2 == 0 ? 0 : 1 << 20);
		blob_store_limits(store, 0, 0);
		blob_store_limits(store, UINT64_MAX / 2, 0);
		if (!blob_have(store, &small))
			put(&small, SMALL);
	}
	for (i = 0; i < READERS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	use_made = false;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_and_large_come_whole),
		cmocka_unit_test(test_cold_pages_are_read_ahead),
		cmocka_unit_test(test_small_files_are_verified),
		cmocka_unit_test(test_files_of_large_blobs),
		cmocka_unit_test(test_a_client_that_leaves_ends_its_read),
		cmocka_unit_test(test_a_file_cut_short_is_never_a_whole_body),
		cmocka_unit_test(test_answers_are_made_once_a_generation),
		cmocka_unit_test(test_answers_outlive_their_blob),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("cold", tests, setup, teardown));
}
