/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Publishing through the master's own listener: intake, refusals, trees (G3).
 */

#include "tests/master.h"

#include "master/origin.h"

static void
test_whole(void **arg)
{
	struct say s = { .generation = 3, .created = month_ago() };
	char token[64], again[64];
	struct draft d;

	(void)arg;
	up();
	draft_make(&d, first, &s);
	assert_int_equal(try("GET", SET, NULL, "", 0, NULL), 404);
	assert_int_equal(post(&d, token), 201);
	assert_int_equal(post(&d, again), 200);
	assert_string_equal(token, again);
	assert_int_equal(missing(&d, token, NULL), 2);
	assert_int_equal(put_lists(&d, token), 201);
	/* "one two#3.pkg" and "same.pkg" are one blob. */
	assert_int_equal(missing(&d, token, NULL), 3);
	put_blobs(&d, token, SIZE_MAX);
	assert_int_equal(follow(SET, NULL), 0);
	assert_int_equal(put(&d, token, &d.blob[0].d, d.blob[0].p,
	    d.blob[0].len, NULL), 200);
	assert_int_equal(post(&d, token), 200);
	down();
	check_current(&d);
	assert_int_equal(count("blob"), 5);
	up();
	assert_int_equal(post(&d, token), 200);
	assert_int_equal(follow(SET, NULL), 0);
	down();
	check_current(&d);
	draft_free(&d);
}

/* Heads that are refused, after generation 5, whose oldest is 2. */
static void
test_refused_heads(void **arg)
{
	struct draft d, five;
	struct web_answer a;
	struct head other;
	char token[64], etag[512], hex[DIGEST_HEX + 3];
	int64_t t = month_ago();
	struct say s = { .generation = 5, .created = t, .oldest = 2 };
	const struct {
		const char	*what;
		struct say	 say;
		int		 status;
		const char	*why;
	} cases[] = {
	{ "a lower generation", { .generation = 4, .created = t + 1,
	    .oldest = 2, .previous = &five.h }, 409, "not above 5" },
	{ "a repeated generation", { .generation = 5, .created = t + 1,
	    .oldest = 2, .previous = &five.h }, 409, "not above 5" },
	{ "no previous", { .generation = 6, .created = t + 1, .oldest = 2 },
	    409, "previous is not the current head" },
	{ "a wrong previous", { .generation = 6, .created = t + 1,
	    .oldest = 2, .previous = &other }, 409,
	    "previous is not the current head" },
	{ "the same second", { .generation = 6, .created = t, .oldest = 2,
	    .previous = &five.h }, 422, "created is not later" },
	{ "from the future", { .generation = 6, .created = clock_real() + 700,
	    .oldest = 2, .previous = &five.h }, 422, "10 minutes ahead" },
	{ "oldest goes back", { .generation = 6, .created = t + 1,
	    .oldest = 1, .previous = &five.h }, 422, "oldest 1 is below" },
	{ "a key that nobody trusts", { .generation = 6, .created = t + 1,
	    .oldest = 2, .previous = &five.h, .key = stranger }, 403, NULL },
	{ "a set that the key may not sign", { .set = "other/set",
	    .generation = 1, .created = t }, 403, NULL },
	{ "a name that is a prefix of another", { .set = "test:1",
	    .generation = 1, .created = t }, 409, "clashes with set" },
	{ "a name below another", { .set = SET "/x", .generation = 1,
	    .created = t }, 409, "clashes with set" },
	};
	size_t i;

	(void)arg;
	up();
	draft_make(&five, first, &s);
	publish_draft(&five);
	other = five.h;
	other.digest.b[0] ^= 1;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		print_message("# %s\n", cases[i].what);
		draft_make(&d, first, &cases[i].say);
		assert_int_equal(ask("POST", d.h.set, NULL, d.h.text,
		    d.h.len, &a), cases[i].status);
		if (cases[i].why != NULL)
			assert_non_null(strstr(a.body, cases[i].why));
		if (a.status == 409 && strcmp(d.h.set, SET) == 0) {
			(void)snprintf(hex, sizeof(hex), "\"%s\"",
			    digest_hex(&five.h.digest, etag));
			assert_string_equal(web_field(&a, "ETag", etag), hex);
		}
		web_free(&a);
		draft_free(&d);
	}
	five.h.text[10] ^= 1;
	assert_int_equal(post(&five, token), 422);
	five.h.text[10] ^= 1;
	assert_int_equal(try("POST", SET, NULL, "", 0, "head"), 422);
	assert_int_equal(try("POST", SET "?now=1", NULL, "x", 1, NULL), 400);
	assert_int_equal(try("POST", "..", NULL, "x", 1, NULL), 400);
	assert_int_equal(try("GET", "unknown", NULL, "", 0, NULL), 404);
	down();
	check_current(&five);
	assert_false(there("set/test:1/pending"));
	draft_free(&five);
}

static void
test_refused_blobs(void **arg)
{
	struct say s = { .generation = 1, .created = month_ago() };
	struct digest none = { .b = { 1 } };
	const char *wrong = "00000000000000000000000000000000";
	char token[64];
	struct draft d;
	uint8_t *big;

	(void)arg;
	up();
	draft_make(&d, first, &s);
	assert_int_equal(put_lists(&d, wrong), 404);
	assert_int_equal(post(&d, token), 201);
	assert_int_equal(put_lists(&d, wrong), 401);
	assert_int_equal(put_lists(&d, NULL), 401);
	assert_int_equal(try("GET", SET "/missing", NULL, "", 0, NULL), 401);
	assert_int_equal(try("GET", SET, wrong, "", 0, NULL), 401);
	/* A tampered manifest: length, then content. */
	assert_int_equal(put(&d, token, &d.h.manifest, d.manifest,
	    d.manifest_len - 1, "bytes"), 409);
	d.manifest[d.manifest_len - 2] ^= 1;
	assert_int_equal(put(&d, token, &d.h.manifest, d.manifest,
	    d.manifest_len, "not those of the digest"), 422);
	d.manifest[d.manifest_len - 2] ^= 1;
	/* Blobs are not wanted before. */
	assert_int_equal(put(&d, token, &d.blob[2].d, d.blob[2].p,
	    d.blob[2].len, NULL), 404);
	assert_int_equal(put_lists(&d, token), 201);
	assert_int_equal(put(&d, token, &none, "x", 1, "does not want"), 404);
	big = d.blob[0].p;
	assert_int_equal(put(&d, token, &d.blob[0].d, big, BIG + 1, NULL),
	    409);
	assert_int_equal(put(&d, token, &d.blob[0].d, big, BIG - 1, NULL),
	    409);
	big[CHUNK_SIZE + 5] ^= 1;
	assert_int_equal(put(&d, token, &d.blob[0].d, big, BIG,
	    "not those of the digest"), 422);
	big[CHUNK_SIZE + 5] ^= 1;
	d.blob[2].p[0] ^= 1;
	assert_int_equal(put(&d, token, &d.blob[2].d, d.blob[2].p,
	    d.blob[2].len, "not those of the digest"), 422);
	d.blob[2].p[0] ^= 1;
	assert_int_equal(missing(&d, token, NULL), 3);
	assert_int_equal(count("tmp"), 0);
	put_blobs(&d, token, SIZE_MAX);
	assert_int_equal(follow(SET, NULL), 0);
	down();
	check_current(&d);
	draft_free(&d);
}

/* Signed, but manifest, chunk table and head do not belong together. */
static void
test_lying_publisher(void **arg)
{
	int64_t t = month_ago();
	struct say s = { .generation = 1, .created = t };
	static struct item early[] = {
		{ .path = "All" },
		{ .path = "All/big.pkg", .size = BIG, .fill = 'c', .time = 1 },
		{ .path = NULL }
	}, late[] = {
		{ .path = "All" },
		{ .path = "All/x", .size = 1, .fill = 'c',
		    .time = 4000000000 },
		{ .path = NULL }
	};
	struct draft one;
	const struct {
		const char		*what;
		const struct item	*items;
		struct say		 say;
		const char		*why;
	} cases[] = {
	{ "fewer files than the head says", first, { .generation = 2,
	    .created = t + 1, .previous = &one.h, .more_files = 1 },
	    "other files" },
	{ "rows that are not those of a blob that is there", first,
	    { .generation = 3, .created = t + 2, .previous = &one.h,
	    .bad_chunks = true }, "chunk table" },
	{ "a path whose time goes back", early, { .generation = 4,
	    .created = t + 3, .previous = &one.h }, "does not go on" },
	{ "a path from the future", late, { .generation = 5,
	    .created = t + 4, .previous = &one.h }, "later than" },
	};
	char token[64], reason[256];
	struct draft d;
	size_t i;

	(void)arg;
	up();
	draft_make(&one, first, &s);
	publish_draft(&one);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		print_message("# %s\n", cases[i].what);
		draft_make(&d, cases[i].items, &cases[i].say);
		assert_int_equal(post(&d, token), 201);
		assert_int_equal(put_lists(&d, token), 422);
		assert_int_equal(follow(SET, reason), -1);
		if (strstr(reason, cases[i].why) == NULL)
			fail_msg("\"%s\"", reason);
		draft_free(&d);
	}
	down();
	check_mtree(&one);
	up();
	down();
	check_current(&one);
	draft_free(&one);
}

__attribute__((format(printf, 1, 2)))
static ino_t
inode(const char *fmt, ...)
{
	char path[600];
	struct stat st;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	assert_int_equal(fstatat(state, path, &st, 0), 0);
	return (st.st_ino);
}

/* Blobs are stored once; a second time for a digest takes a copy, which the
 * next tree links to. */
static void
test_trees(void **arg)
{
	int64_t t = month_ago();
	const struct item second[] = {
		{ .path = "All" },
		{ .path = "All/big.pkg", .size = BIG, .fill = 'b', .time = t },
		{ .path = "All/new.pkg", .size = BIG, .fill = 'b' },
		{ .path = NULL }
	}, third[] = {
		{ .path = "All" },
		{ .path = "All/big.pkg", .size = BIG, .fill = 'b', .time = t },
		{ .path = "All/new.pkg", .size = BIG, .fill = 'b',
		    .time = t + 10 },
		{ .path = "All/z", .size = 1, .fill = 'z' },
		{ .path = NULL }
	};
	struct say s = { .generation = 1, .created = t };
	struct draft d[3];
	char hex[DIGEST_HEX + 1];

	(void)arg;
	up();
	draft_make(&d[0], first, &s);
	publish_draft(&d[0]);
	s = (struct say){ .generation = 2, .created = t + 10,
	    .previous = &d[0].h };
	draft_make(&d[1], second, &s);
	publish_draft(&d[1]);
	s = (struct say){ .generation = 3, .created = t + 20,
	    .previous = &d[1].h };
	draft_make(&d[2], third, &s);
	publish_draft(&d[2]);
	down();
	check_current(&d[2]);
	(void)digest_hex(&d[0].blob[0].d, hex);
	assert_int_equal(inode("blob/%s", hex),
	    inode("tree/" SET "/2/All/big.pkg"));
	assert_int_equal(inode("blob/%s", hex),
	    inode("tree/" SET "/3/All/big.pkg"));
	assert_int_not_equal(inode("blob/%s", hex),
	    inode("tree/" SET "/2/All/new.pkg"));
	assert_int_equal(inode("tree/" SET "/2/All/new.pkg"),
	    inode("tree/" SET "/3/All/new.pkg"));
	assert_false(there("tree/" SET "/1"));
	draft_free(&d[0]);
	draft_free(&d[1]);
	draft_free(&d[2]);
}

static bool
has_blob(const struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	return (there("blob/%s", digest_hex(d, hex)));
}

/* Blobs go with the last kept generation that names them, of any set. */
static void
test_blobs_go(void **arg)
{
	int64_t t = month_ago();
	const struct item second[] = {
		{ .path = "All" },
		{ .path = "All/new.pkg", .size = 5, .fill = 'n' },
		{ .path = NULL }
	}, other[] = {
		{ .path = "All" },
		{ .path = "All/big.pkg", .size = BIG, .fill = 'b' },
		{ .path = NULL }
	};
	struct say s = { .generation = 1, .created = t };
	struct draft d[4];
	size_t i;

	(void)arg;
	up();
	draft_make(&d[0], first, &s);
	publish_draft(&d[0]);
	s = (struct say){ .set = "test:2", .generation = 1, .created = t };
	draft_make(&d[1], other, &s);
	publish_draft(&d[1]);
	s = (struct say){ .generation = 2, .created = t + 10,
	    .previous = &d[0].h };
	draft_make(&d[2], second, &s);
	publish_draft(&d[2]);
	for (i = 0; i < d[0].n; i++)
		assert_true(has_blob(&d[0].blob[i].d));
	s = (struct say){ .generation = 3, .oldest = 3, .created = t + 20,
	    .previous = &d[2].h };
	draft_make(&d[3], second, &s);
	publish_draft(&d[3]);
	down();
	check_current(&d[3]);
	/* The first is the other set's too. */
	assert_true(has_blob(&d[0].blob[0].d));
	for (i = 1; i < d[0].n; i++)
		assert_false(has_blob(&d[0].blob[i].d) &&
		    d[0].blob[i].len > 0);
	assert_false(has_blob(&d[0].h.manifest));
	assert_false(has_blob(&d[2].h.manifest));
	assert_true(has_blob(&d[3].blob[0].d));
	for (i = 0; i < 4; i++)
		draft_free(&d[i]);
}

/* What came for a publish that another one replaced goes with that one. */
static void
test_litter_goes(void **arg)
{
	struct say s = { .generation = 1, .created = month_ago() };
	const struct item other[] = {
		{ .path = "All" },
		{ .path = "All/new.pkg", .size = 5, .fill = 'n' },
		{ .path = NULL }
	};
	struct draft d, e;
	char token[64];

	(void)arg;
	up();
	draft_make(&d, first, &s);
	assert_int_equal(post(&d, token), 201);
	assert_int_equal(put_lists(&d, token), 201);
	put_blobs(&d, token, 1);
	assert_true(has_blob(&d.blob[0].d) || has_blob(&d.blob[1].d) ||
	    has_blob(&d.blob[2].d));
	s.generation = 2;
	draft_make(&e, other, &s);
	publish_draft(&e);
	down();
	check_current(&e);
	assert_int_equal(count("blob"), 3);
	draft_free(&d);
	draft_free(&e);
}

static void
test_newer_post(void **arg)
{
	struct say s = { .generation = 1, .created = month_ago() };
	char token[64], newer[64];
	struct draft d, e;

	(void)arg;
	up();
	draft_make(&d, first, &s);
	s.generation = 2;
	draft_make(&e, first, &s);
	assert_int_equal(post(&d, token), 201);
	assert_int_equal(put_lists(&d, token), 201);
	put_blobs(&d, token, 1);
	assert_int_equal(post(&e, newer), 201);
	assert_int_equal(try("GET", SET "/missing", token, "", 0, NULL), 401);
	/* The same manifest and chunk table: they are there already. */
	assert_int_equal(missing(&e, newer, NULL), 2);
	put_blobs(&e, newer, SIZE_MAX);
	assert_int_equal(follow(SET, NULL), 0);
	down();
	check_current(&e);
	draft_free(&d);
	draft_free(&e);
}

/* The publisher's key is revoked while the blobs come in. */
static void
test_revoked_meanwhile(void **arg)
{
	struct say s = { .generation = 1, .created = month_ago() };
	char token[64], reason[256];
	struct draft d;

	(void)arg;
	up();
	draft_make(&d, first, &s);
	assert_int_equal(post(&d, token), 201);
	assert_int_equal(put_lists(&d, token), 201);
	trust_write(2, true);
	put_blobs(&d, token, SIZE_MAX);
	assert_int_equal(follow(SET, reason), -1);
	assert_int_not_equal(strlen(reason), 0);
	assert_int_equal(post(&d, token), 403);
	down();
	assert_false(there("set/" SET "/head"));
	assert_false(there("tree/" SET "/1"));
	assert_true(there("set/" SET "/accepted"));
	up();
	down();
	assert_false(there("set/" SET "/kept/1"));
	draft_free(&d);
}

static char *
no_status(void *arg, size_t *len)
{

	(void)arg;
	*len = 2;
	return (strdup("{}"));
}

static void
origin_get(int at, const char *path, int status, const void *body, size_t len)
{
	struct web_answer a;
	char head[512];
	struct web w;

	web_open(&w, at);
	(void)snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n",
	    path);
	web_sends(&w, head);
	web_read(&w, &a, false);
	web_close(&w);
	assert_int_equal(a.status, status);
	assert_int_equal(a.len, len);
	assert_memory_equal(a.body, body, len);
	web_free(&a);
}

/* What was published is what the origin answers, at once. */
static void
test_origin(void **arg)
{
	struct say s = { .generation = 1, .created = month_ago() };
	struct origin_conf oc;
	struct httpd_conf hc;
	struct origin *o;
	struct httpd *h;
	struct draft d;
	char path[128], hex[DIGEST_HEX + 1];
	int fd, at;

	(void)arg;
	up();
	oc = (struct origin_conf){ .site = site, .store = store,
	    .trust = trust, .publish = publish, .grace = DAY,
	    .status = no_status };
	assert_non_null(o = origin_new(&oc));
	memset(&hc, 0, sizeof(hc));
	httpd_conf_defaults(&hc);
	origin_httpd(o, &hc);
	assert_int_not_equal(fd = httpd_listen("127.0.0.1:0"), -1);
	at = httpd_port(fd);
	assert_non_null(h = httpd_start(&hc, &fd, 1));
	draft_make(&d, first, &s);
	origin_get(at, "/" SET "/All/big.pkg", 404, "", 0);
	publish_draft(&d);
	origin_get(at, "/" SET "/Latest/big.pkg", 200, d.blob[0].p, BIG);
	origin_get(at, "/" SET "/All/empty", 200, "", 0);
	origin_get(at, "/" SET "/All", 404, "", 0);
	origin_get(at, "/.pkgcast/heads", 200, d.h.text, d.h.len);
	origin_get(at, "/.pkgcast/status", 200, "{}", 2);
	(void)snprintf(path, sizeof(path), "/.pkgcast/blob/%s",
	    digest_hex(&d.h.manifest, hex));
	origin_get(at, path, 200, d.manifest, d.manifest_len);
	/* A lost blob is a clear answer, and no empty file. */
	assert_int_equal(store_remove(store, &d.blob[0].d), 0);
	origin_get(at, "/" SET "/All/big.pkg", 503, "", 0);
	httpd_stop(&h);
	origin_destroy(&o);
	down();
	draft_free(&d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_heads, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_refused_blobs, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_lying_publisher, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_trees, setup, teardown),
		cmocka_unit_test_setup_teardown(test_blobs_go, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_litter_goes, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_newer_post, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_revoked_meanwhile, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_origin, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (keys_make() == -1)
		return (1);
	return (cmocka_run_group_tests_name("publish", tests, NULL, NULL));
}
