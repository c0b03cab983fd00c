/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The address space of pkgcast-protocol(7), asked over a real socket: a set
 * "s/t" of which generations 1 to 3 are kept, and what a daemon may say of its
 * lease and its files.
 */
#include "tests/web.h"

#include <signal.h>
#include <stdatomic.h>

#include "proto/clock.h"
#include "proto/serve.h"

#define	GRACE		3600
#define	IMMUTABLE	"public, max-age=31536000, immutable"
#define	CREATED		1000000000

static struct site *site;
static int port;
static atomic_int lease = SERVE_FRESH, got = SERVE_BODY;
static atomic_bool hit = true, collapsed = false, learns = false;
static atomic_int files, unknowns;
static const char *const contents[] = { "one", "two", "three", "next" };

static const char *
content_of(const struct digest *d)
{
	struct digest c;
	size_t i;

	for (i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
		digest_of(&c, contents[i], strlen(contents[i]));
		if (digest_eq(&c, d))
			return (contents[i]);
	}
	return (NULL);
}

/* A generation of set "s/t"; words are "path=content". */
static struct snapshot *
generation(uint64_t n, int64_t created, const char *words)
{
	struct head h = { .set = "s/t", .generation = n, .oldest = 1,
	    .created = created };
	struct buf text = BUF_INIT(65536);
	struct parse_error err;
	uint8_t *rows = NULL;
	struct snapshot *s;
	struct entry e;
	const char *p;
	char *m;

	(void)buf_adds(&text, MANIFEST_FIRST);
	for (p = words; *p != '\0'; p += strspn(p, " ")) {
		memset(&e, 0, sizeof(e));
		e.type = ENTRY_FILE;
		e.time = CREATED + (int64_t)n;
		e.path_len = strcspn(p, "=");
		memcpy(e.path, p, e.path_len);
		p += e.path_len + 1;
		e.size = strcspn(p, " ");
		digest_of(&e.digest, p, e.size);
		p += e.size;
		h.files++;
		h.bytes += e.size;
		assert_int_equal(manifest_add(&text, &e), 0);
	}
	h.manifest_size = text.len;
	digest_of(&h.manifest, text.p, text.len);
	digest_of(&h.chunks, "", 0);
	h.len = (size_t)snprintf(h.text, sizeof(h.text), "head %d\n", (int)n);
	h.signed_len = h.len;
	h.nentry = 1;			/* its glob: "head" */
	h.entry[0].len = 4;
	digest_of(&h.digest, h.text, h.len);
	m = buf_take(&text, NULL);
	s = snapshot_new(&h, &m, h.manifest_size, &rows, 0, true, &err);
	if (s == NULL)
		fail_msg("%s: %s", words, err.reason);
	return (s);
}

static void
publish(uint64_t n, int64_t created, const char *words)
{
	struct snapshot *was = site_current(site, "s/t");
	struct snapshot *next = generation(n, created, words);
	struct delta *back = was == NULL ? NULL : delta_new(was, next);

	assert_int_equal(site_switch(site, &next, &back, created), 0);
	snapshot_unref(&was);
}

static enum serve_got
file(void *arg, struct httpd_request *r, const struct serve_file *f,
    const struct answer *a, struct serve_body *out)
{
	const char *c = content_of(f->digest);
	static int marker;
	char *copy;

	(void)arg;
	(void)a;
	atomic_fetch_add(&files, 1);
	if (atomic_load(&got) == SERVE_WAITING && httpd_state(r) == NULL) {
		httpd_set_state(r, &marker, NULL);
		httpd_wait(r);
		httpd_wake(r);
		return (SERVE_WAITING);
	}
	if (atomic_load(&got) == SERVE_UNAVAILABLE ||
	    atomic_load(&got) == SERVE_NOT_HERE)
		return ((enum serve_got)atomic_load(&got));
	assert_non_null(copy = calloc(1, f->size + 1));
	if (c != NULL)
		memcpy(copy, c, strlen(c));
	out->body = httpd_body_mem(copy, f->size, free, copy);
	out->hit = atomic_load(&hit);
	out->collapsed = atomic_load(&collapsed);
	return (SERVE_BODY);
}

static enum serve_lease
ask_lease(void *arg, const struct site_set *set)
{

	(void)arg;
	(void)set;
	return ((enum serve_lease)atomic_load(&lease));
}

static bool
unknown(void *arg, struct httpd_request *r, const char *path)
{

	(void)arg;
	(void)path;
	atomic_fetch_add(&unknowns, 1);
	if (!atomic_load(&learns))
		return (false);
	publish(4, clock_real(), "a=three late=two");
	httpd_wait(r);
	httpd_wake(r);
	return (true);
}

static char *
trust(void *arg, size_t *len)
{

	(void)arg;
	*len = 5;
	return (strdup("trust"));
}

static char *
status(void *arg, size_t *len)
{

	(void)arg;
	*len = 2;
	return (strdup("{}"));
}

static bool
prepared(void *arg, const struct digest *d, struct site_prepared *p)
{
	struct digest next;

	(void)arg;
	digest_of(&next, "next", 4);
	p->part = HEAD_NEITHER;
	p->size = 4;
	return (digest_eq(d, &next));
}

static void
ask(const char *method, const char *target, const char *fields,
    struct web_answer *a)
{
	char text[1024];
	struct web w;

	web_open(&w, port);
	(void)snprintf(text, sizeof(text),
	    "%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n", method, target, fields);
	web_sends(&w, text);
	web_read(&w, a, strcmp(method, "HEAD") == 0);
	web_close(&w);
}

static void
check(const char *method, const char *target, int want, const char *name,
    const char *value)
{
	struct web_answer a;
	char field[512];

	ask(method, target, "", &a);
	if (a.status != want)
		fail_msg("%s: %d", target, a.status);
	if (value != NULL && web_field(&a, name, field) == NULL)
		fail_msg("%s: no %s", target, name);
	if (value != NULL)
		assert_string_equal(field, value);
	else if (name != NULL)
		assert_null(web_field(&a, name, field));
	web_free(&a);
}

static const struct {
	const char	*target;
	int		 status;
	const char	*body, *cache_status, *cache_control;
} cases[] = {
	/* Current paths. */
	{ "/s/t/a", 200, "two", "pkgcast; hit; key=\"s/t@3\"", "no-cache" },
	{ "//s/./t//a?x", 200, "two", "pkgcast; hit; key=\"s/t@3\"",
	    "no-cache" },
	{ "/s/t/new", 200, "three", "pkgcast; hit; key=\"s/t@3\"",
	    "no-cache" },
	/* Removed by generation 3, within grace; by 2, before it. */
	{ "/s/t/gone2", 200, "one", "pkgcast; hit; key=\"s/t@2\"",
	    "no-cache" },
	{ "/s/t/gone1", 404, "", "pkgcast; key=\"s/t@3\"", "no-store" },
	{ "/s/t/none", 404, "", "pkgcast; key=\"s/t@3\"", "no-store" },
	{ "/s/t", 404, "", "pkgcast; key=\"s/t@3\"", "no-store" },
	{ "/s/t/", 404, "", "pkgcast; key=\"s/t@3\"", "no-store" },
	{ "/s/t/a/", 404, "", "pkgcast; key=\"s/t@3\"", "no-store" },
	{ "/s", 404, "", "pkgcast", "no-store" },
	{ "/other/a", 404, "", "pkgcast", "no-store" },
	{ "/", 404, "", "pkgcast", "no-store" },
	/* Pinned ones. */
	{ "/s/t/@3/a", 200, "two", "pkgcast; hit; key=\"s/t@3\"", IMMUTABLE },
	{ "/s/t/@1/a", 200, "one", "pkgcast; hit; key=\"s/t@1\"", IMMUTABLE },
	{ "/s/t/@1/gone1", 200, "two", "pkgcast; hit; key=\"s/t@1\"",
	    IMMUTABLE },
	{ "/s/t/@1/new", 404, "", "pkgcast; key=\"s/t@1\"", "no-store" },
	{ "/s/t/@9/a", 410, "", "pkgcast; key=\"s/t@9\"", "no-store" },
	{ "/s/t/@0/a", 404, "", "pkgcast", "no-store" },
	{ "/s/t/@x", 404, "", "pkgcast", "no-store" },
	/* Documents. */
	{ "/.pkgcast/heads", 200, "head 3\n", "pkgcast; hit", "no-cache" },
	{ "/.pkgcast/trust", 200, "trust", "pkgcast; hit", "no-cache" },
	{ "/.pkgcast/status", 200, "{}", "pkgcast; hit", "no-store" },
	{ "/.pkgcast/mirrors/s/t", 404, "", NULL, "no-store" },
	{ "/.pkgcast/none", 404, "", NULL, "no-store" },
	{ "/a/../b", 400, "", NULL, "no-store" },
	{ "/a%2Fb", 400, "", NULL, "no-store" },
};

static void
answers_each_address(void **state)
{
	struct web_answer a;
	char value[512];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ask("GET", cases[i].target, "", &a);
		if (a.status != cases[i].status ||
		    strcmp(a.body, cases[i].body) != 0)
			fail_msg("%s: %d \"%s\"", cases[i].target, a.status,
			    a.body);
		if (cases[i].cache_status == NULL)
			assert_null(web_field(&a, "Cache-Status", value));
		else {
			assert_non_null(web_field(&a, "Cache-Status", value));
			assert_string_equal(value, cases[i].cache_status);
		}
		assert_non_null(web_field(&a, "Cache-Control", value));
		assert_string_equal(value, cases[i].cache_control);
		web_free(&a);
	}
}

static void
answers_by_digest(void **state)
{
	char target[128], hex[DIGEST_HEX + 1], value[512], etag[80];
	struct web_answer a;
	struct digest d;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
		digest_of(&d, contents[i], strlen(contents[i]));
		(void)snprintf(target, sizeof(target), "/.pkgcast/blob/%s",
		    digest_hex(&d, hex));
		ask("GET", target, "", &a);
		assert_int_equal(a.status, 200);
		assert_string_equal(a.body, contents[i]);
		(void)snprintf(etag, sizeof(etag), "\"%s\"", hex);
		assert_string_equal(web_field(&a, "ETag", value), etag);
		assert_string_equal(web_field(&a, "Cache-Control", value),
		    IMMUTABLE);
		assert_null(web_field(&a, "Last-Modified", value));
		web_free(&a);
	}
	digest_of(&d, "unknown", 7);
	(void)snprintf(target, sizeof(target), "/.pkgcast/blob/%s",
	    digest_hex(&d, hex));
	check("GET", target, 404, NULL, NULL);
	digest_of(&d, "head 2\n", 7);
	(void)snprintf(target, sizeof(target), "/.pkgcast/head/%s",
	    digest_hex(&d, hex));
	ask("GET", target, "", &a);
	assert_int_equal(a.status, 200);
	assert_string_equal(a.body, "head 2\n");
	assert_string_equal(web_field(&a, "Cache-Control", value), IMMUTABLE);
	web_free(&a);
	digest_of(&d, "head 9\n", 7);
	(void)snprintf(target, sizeof(target), "/.pkgcast/head/%s",
	    digest_hex(&d, hex));
	check("GET", target, 404, NULL, NULL);
}

static void
refuses_other_methods(void **state)
{
	struct web_answer a;
	char value[512];

	(void)state;
	ask("OPTIONS", "/s/t/a", "", &a);
	assert_int_equal(a.status, 204);
	assert_string_equal(web_field(&a, "Allow", value),
	    "GET, HEAD, OPTIONS");
	web_free(&a);
	check("OPTIONS", "*", 204, "Allow", "GET, HEAD, OPTIONS");
	check("DELETE", "/s/t/a", 405, "Allow", "GET, HEAD, OPTIONS");
}

static void
asks_for_no_bytes_where_none_are_sent(void **state)
{
	static const struct {
		const char *method, *fields;
		int status;
	} no[] = {
		{ "HEAD", "", 200 },
		{ "GET", "If-None-Match: *\r\n", 304 },
		{ "GET", "If-Match: \"x\"\r\n", 412 },
		{ "GET", "Range: bytes=3-\r\n", 416 },
	};
	int before = atomic_load(&files);
	struct web_answer a;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		ask(no[i].method, "/s/t/a", no[i].fields, &a);
		assert_int_equal(a.status, no[i].status);
		web_free(&a);
	}
	assert_int_equal(atomic_load(&files), before);
}

static void
says_what_the_daemon_found(void **state)
{

	(void)state;
	atomic_store(&hit, false);
	check("GET", "/s/t/a", 200, "Cache-Status",
	    "pkgcast; fwd=miss; key=\"s/t@3\"");
	atomic_store(&collapsed, true);
	check("GET", "/s/t/a", 200, "Cache-Status",
	    "pkgcast; fwd=miss; key=\"s/t@3\"; collapsed");
	atomic_store(&hit, true);
	atomic_store(&collapsed, false);
	atomic_store(&got, SERVE_WAITING);
	check("GET", "/s/t/a", 200, "Cache-Status",
	    "pkgcast; hit; key=\"s/t@3\"");
	atomic_store(&got, SERVE_UNAVAILABLE);
	check("GET", "/s/t/a", 503, "Retry-After", "10");
	check("HEAD", "/s/t/a", 200, NULL, NULL);
	atomic_store(&got, SERVE_NOT_HERE);
	check("GET", "/s/t/a", 504, "Content-Length", "0");
	atomic_store(&got, SERVE_BODY);
}

/* The rest of what If-Range names, while a kept generation has it; of the
 * current file, if it names that; else the whole current file. */
static void
goes_on_with_what_a_download_began(void **state)
{
	static const struct {
		const char *content;
		int status;
		const char *body, *range, *cache_status;
	} resumed[] = {
		{ "one", 206, "ne", "bytes 1-2/3",
		    "pkgcast; hit; key=\"s/t@1\"" },
		{ "two", 206, "wo", "bytes 1-2/3",
		    "pkgcast; hit; key=\"s/t@3\"" },
		{ "three", 200, "two", NULL, "pkgcast; hit; key=\"s/t@3\"" },
	};
	char fields[256], hex[DIGEST_HEX + 1], value[512];
	struct web_answer a;
	struct digest d;
	const char *range;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(resumed) / sizeof(resumed[0]); i++) {
		digest_of(&d, resumed[i].content, strlen(resumed[i].content));
		(void)snprintf(fields, sizeof(fields), "Range: bytes=1-\r\n"
		    "If-Range: \"%s\"\r\n", digest_hex(&d, hex));
		ask("GET", "/s/t/a", fields, &a);
		assert_int_equal(a.status, resumed[i].status);
		assert_string_equal(a.body, resumed[i].body);
		range = web_field(&a, "Content-Range", value);
		if (resumed[i].range == NULL)
			assert_null(range);
		else
			assert_string_equal(range, resumed[i].range);
		assert_string_equal(web_field(&a, "Cache-Status", value),
		    resumed[i].cache_status);
		web_free(&a);
	}
}

/* Only a part of the earlier file is: not the whole, nor "you have it". */
static void
goes_on_with_nothing_but_a_part(void **state)
{
	static const struct {
		const char *method, *fields;
	} whole[] = {
		{ "HEAD", "Range: bytes=1-\r\n" },
		{ "GET", "Range: bytes=0-0,2-2\r\n" },
		{ "GET", "Range: bytes=x\r\n" },
		{ "GET", "Range: bytes=1-\r\nIf-Modified-Since: "
		    "Sun, 09 Sep 2001 01:46:41 GMT\r\n" },
	};
	char fields[256], tag[DIGEST_HEX + 3], hex[DIGEST_HEX + 1], value[512];
	struct web_answer a;
	struct digest d;
	size_t i;

	(void)state;
	digest_of(&d, "one", 3);
	for (i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
		(void)snprintf(fields, sizeof(fields), "%sIf-Range: \"%s\"\r\n",
		    whole[i].fields, digest_hex(&d, hex));
		ask(whole[i].method, "/s/t/a", fields, &a);
		assert_int_equal(a.status, 200);
		assert_string_equal(web_field(&a, "Cache-Status", value),
		    "pkgcast; hit; key=\"s/t@3\"");
		web_free(&a);
	}
	(void)snprintf(tag, sizeof(tag), "\"%s\"", hex);
	(void)snprintf(fields, sizeof(fields), "Range: bytes=1-\r\n"
	    "If-Range: %s\r\nIf-None-Match: %s\r\n", tag, tag);
	ask("GET", "/s/t/a", fields, &a);
	assert_int_equal(a.status, 200);
	assert_string_equal(a.body, "two");
	web_free(&a);
	/* Nor a part of an entry path (G8). */
	(void)snprintf(fields, sizeof(fields), "Range: bytes=1-\r\n"
	    "If-Range: %s\r\n", tag);
	ask("GET", "/s/t/head", fields, &a);
	assert_int_equal(a.status, 200);
	assert_string_equal(a.body, "two");
	web_free(&a);
}

static void
keeps_to_the_lease(void **state)
{
	char target[128], hex[DIGEST_HEX + 1];
	struct digest d;

	(void)state;
	digest_of(&d, "one", 3);
	(void)snprintf(target, sizeof(target), "/.pkgcast/blob/%s",
	    digest_hex(&d, hex));
	atomic_store(&lease, SERVE_STALE);
	check("GET", "/s/t/a", 200, "Cache-Status",
	    "pkgcast; hit; key=\"s/t@3\"; detail=stale");
	check("GET", "/s/t/none", 404, "Cache-Status",
	    "pkgcast; key=\"s/t@3\"; detail=stale");
	check("GET", "/.pkgcast/heads", 200, "Cache-Status",
	    "pkgcast; hit; detail=stale");
	/* What never changes is never stale. */
	check("GET", "/s/t/@3/a", 200, "Cache-Status",
	    "pkgcast; hit; key=\"s/t@3\"");
	check("GET", "/.pkgcast/status", 200, "Cache-Status", "pkgcast; hit");
	atomic_store(&lease, SERVE_REFUSE);
	check("GET", "/s/t/a", 503, "Retry-After", "10");
	check("HEAD", "/s/t/a", 503, "Retry-After", "10");
	check("GET", "/s/t/none", 503, "Retry-After", "10");
	check("GET", "/other", 503, "Retry-After", "10");
	check("GET", "/s/t/@3/a", 200, NULL, NULL);
	check("GET", "/s/t/@1/a", 200, NULL, NULL);
	check("GET", target, 200, NULL, NULL);
	check("GET", "/.pkgcast/status", 200, NULL, NULL);
	atomic_store(&lease, SERVE_FRESH);
}

static void
asks_once_for_what_it_does_not_know(void **state)
{
	int before = atomic_load(&unknowns);

	(void)state;
	check("GET", "/s/t/", 404, NULL, NULL);
	check("GET", "/s/t/@1/none", 404, NULL, NULL);
	assert_int_equal(atomic_load(&unknowns), before);
	check("GET", "/s/t/none", 404, NULL, NULL);
	assert_int_equal(atomic_load(&unknowns), before + 1);
	atomic_store(&learns, true);
	check("GET", "/s/t/late", 200, "Cache-Status",
	    "pkgcast; hit; key=\"s/t@4\"");
	assert_int_equal(atomic_load(&unknowns), before + 2);
	atomic_store(&learns, false);
}

static struct serve serve = {
	.grace = GRACE, .file = file, .lease = ask_lease, .unknown = unknown,
	.trust = trust, .status = status, .prepared = prepared,
};
static struct httpd *server;

static int
set_up(void **state)
{
	struct httpd_conf c = { .handler = serve_request, .arg = &serve };
	int64_t now = clock_real();
	int fd;

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	serve.site = site = site_new(NULL, NULL);
	publish(1, now - 9 * GRACE, "a=one gone1=two gone2=one head=one");
	publish(2, now - 8 * GRACE, "a=two gone2=one head=two");
	publish(3, now - 60, "a=two head=two new=three");
	httpd_conf_defaults(&c);
	if ((fd = httpd_listen("127.0.0.1:0")) == -1)
		return (-1);
	port = httpd_port(fd);
	return ((server = httpd_start(&c, &fd, 1)) == NULL ? -1 : 0);
}

static int
tear_down(void **state)
{

	(void)state;
	httpd_stop(&server);
	site_destroy(&site);
	return (0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_each_address),
		cmocka_unit_test(answers_by_digest),
		cmocka_unit_test(refuses_other_methods),
		cmocka_unit_test(asks_for_no_bytes_where_none_are_sent),
		cmocka_unit_test(says_what_the_daemon_found),
		cmocka_unit_test(goes_on_with_what_a_download_began),
		cmocka_unit_test(goes_on_with_nothing_but_a_part),
		cmocka_unit_test(keeps_to_the_lease),
		cmocka_unit_test(asks_once_for_what_it_does_not_know),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("serve", tests, set_up,
	    tear_down));
}
