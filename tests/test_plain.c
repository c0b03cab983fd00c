/* SPDX-License-Identifier: BSD-2-Clause */
/* Plain sets between a scripted server and clients, in one process. */
#include "tests/web.h"

#include <stdatomic.h>

#include "edge/plain.h"
#include "keys/minisign.h"
#include "proto/clock.h"
#include "proto/httpd.h"
#include "proto/route.h"

#define	MODIFIED	INT64_C(1600000000)

static char dir[64], url[64];
static struct config_list urls;
static struct edge_conf conf;
static struct plain_conf sets[2];
static struct blob_store *store;
static struct upstreams *upstreams;
static struct fills *fills;
static struct cold_pool *cold;
static struct bytes_source source;
static struct plains *plains;
static struct httpd *origin, *edge;
static int port;
static atomic_uint asked;

struct looked {
	const char	*name;
	char		*value;
};

static void
look(void *arg, const char *name, const char *value)
{
	struct looked *l = arg;

	if (strcasecmp(name, l->name) == 0)
		(void)snprintf(l->value, 64, "%s", value);
}

/* A request's field, or "-". */
static void
field_of(struct httpd_request *r, const char *name, char value[64])
{
	struct looked l = { .name = name, .value = value };

	(void)snprintf(value, 64, "-");
	httpd_each_field(r, look, &l);
}

static void
reply(struct httpd_request *r, const char *body, const char *fields)
{
	struct answer_file f = { .size = strlen(body), .time = MODIFIED,
	    .cache_control = "" };
	struct httpd_body *b = httpd_body_copy(body, f.size);
	struct answer a;

	answer_file(&a, httpd_method(r), httpd_fields(r), &f);
	a.fields = fields;
	if (a.status == 304)
		httpd_body_destroy(&b);
	httpd_reply(r, &a, &b);
}

/* The server: what it answers is told by the file's name. */
static void
serve(void *arg, struct httpd_request *r)
{
	const char *name = strrchr(httpd_target(r), '/') + 1;
	char value[64], fields[256];
	struct answer a;

	(void)arg;
	atomic_fetch_add(&asked, 1);
	if (strcmp(name, "language") == 0) {
		field_of(r, "Accept-Language", value);
		reply(r, value, "Vary: Accept-Language\n"
		    "Cache-Control: max-age=100\n");
	} else if (strcmp(name, "cookie") == 0) {
		field_of(r, "Cookie", value);
		(void)snprintf(fields, sizeof(fields), "Set-Cookie: id=%s\n"
		    "Cache-Control: private, max-age=100\n", value);
		reply(r, value, fields);
	} else if (strcmp(name, "sets-cookie") == 0)
		reply(r, "same", "Set-Cookie: id=1\n"
		    "Cache-Control: max-age=100\n");
	else if (strcmp(name, "broken") == 0)
		httpd_reply_status(r, 500, 0);
	else if (strncmp(name, "none", 4) == 0) {
		answer_status(&a, 404, 0);
		a.nheader = 0;		/* no-store */
		httpd_reply(r, &a, NULL);
	} else
		reply(r, "content", "Cache-Control: max-age=0\n");
}

static void
handle(void *arg, struct httpd_request *r)
{
	struct route route;

	(void)arg;
	route_parse(httpd_target(r), strlen(httpd_target(r)), &route);
	if (!plains_request(plains, r, route.path))
		httpd_reply_status(r, 404, 0);
}

static struct httpd *
server(void (*handler)(void *, struct httpd_request *), int *at)
{
	struct httpd_conf c;
	struct httpd *h;
	int fd;

	memset(&c, 0, sizeof(c));
	httpd_conf_defaults(&c);
	c.handler = handler;
	c.threads = 2;
	assert_int_not_equal(fd = httpd_listen("127.0.0.1:0"), -1);
	*at = httpd_port(fd);
	assert_non_null(h = httpd_start(&c, &fd, 1));
	return (h);
}

static int
start(void **state)
{
	static char *address = url;
	struct plains_conf pc = { .edge = &conf, .bytes = &source,
	    .name = "test" };
	struct parse_error err;
	int at;

	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/test_plain.XXXXXX");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(keys_init(), 0);
	origin = server(serve, &at);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/tree", at);
	urls.v = &address;
	urls.n = 1;
	sets[0] = (struct plain_conf){ .name = (char *)(uintptr_t)"http",
	    .plain = urls, .poll = 300 };
	sets[1] = (struct plain_conf){ .name = (char *)(uintptr_t)"mark",
	    .plain = urls, .poll = 300,
	    .freshness = (char *)(uintptr_t)"mark" };
	conf = (struct edge_conf){
		.state = dir, .fills = 64, .per_upstream = 8,
		.fill_connect = 1, .fill_first = 1, .fill_low_rate = 1000,
		.fill_low_time = 1, .fill_aside = 60, .clients_per_fill = 1000,
		.when_left = (char *)(uintptr_t)"finish",
		.nplain = 2, .plain = sets,
	};
	assert_non_null(store = blob_store_new(dir, UINT64_MAX / 2, 0));
	assert_non_null(upstreams = upstreams_new(&conf));
	assert_non_null(fills = fills_new(store, upstreams, &conf));
	assert_non_null(cold = cold_pool_new());
	bytes_source_init(&source, store, fills, cold);
	pc.store = store;
	pc.fills = fills;
	assert_non_null(plains = plains_new(&pc, &err));
	assert_int_equal(plains_start(plains), 0);
	edge = server(handle, &port);
	return (0);
}

static int
stop(void **state)
{
	char command[128];

	(void)state;
	plains_stop(plains);
	httpd_stop(&edge);
	cold_pool_destroy(&cold);
	fills_stop(fills);
	upstreams_stop(upstreams);
	plains_stop_transfers(plains);
	fills_destroy(&fills);
	plains_destroy(&plains);
	upstreams_destroy(&upstreams);
	blob_store_destroy(&store);
	httpd_stop(&origin);
	(void)snprintf(command, sizeof(command), "rm -rf %s", dir);
	return (system(command));
}

/* An answer's body and one of its fields ("": none). */
static void
get(const char *target, const char *fields, int status, const char *body,
    const char *name, char value[512])
{
	struct web_answer a;

	web_get(port, target, fields, &a);
	assert_int_equal(a.status, status);
	assert_int_equal(a.len, strlen(body));
	assert_memory_equal(a.body, body, a.len);
	if (name != NULL && web_field(&a, name, value) == NULL)
		value[0] = '\0';
	web_free(&a);
}

static void
wait_stored(void)
{
	struct fills_stats st;

	do {
		clock_sleep(2);
		fills_stats(fills, &st);
	} while (st.running > 0);
}

/* The fill may be over before the client's thread has looked. */
static void
test_what_is_not_stored_arrives_at_once(void **state)
{
	unsigned before = atomic_load(&asked), i;

	(void)state;
	for (i = 0; i < 200; i++)
		get("/http/file", "Authorization: x\r\n", 200, "content",
		    NULL, NULL);
	assert_int_equal(atomic_load(&asked), before + 200);
}

static void
test_a_variant_is_not_verified_by_another(void **state)
{

	(void)state;
	get("/http/language", "Accept-Language: de\r\n", 200, "de", NULL, NULL);
	wait_stored();
	get("/http/language", "Accept-Language: fr\r\n", 200, "fr", NULL, NULL);
	wait_stored();
	get("/http/language", "Accept-Language: fr\r\n", 200, "fr", NULL, NULL);
}

static void
test_cookies_are_for_one(void **state)
{
	char value[512];

	(void)state;
	get("/mark/cookie", "Cookie: a\r\n", 200, "a", "Set-Cookie", value);
	assert_string_equal(value, "id=a");
	wait_stored();
	get("/mark/cookie", "Cookie: b\r\n", 200, "b", "Set-Cookie", value);
	assert_string_equal(value, "id=b");
	get("/mark/sets-cookie", "", 200, "same", NULL, NULL);
	wait_stored();
	get("/mark/sets-cookie", "", 200, "same", "Set-Cookie", value);
	assert_string_equal(value, "");
	get("/http/sets-cookie", "", 200, "same", NULL, NULL);
	wait_stored();
	get("/http/sets-cookie", "", 200, "same", "Set-Cookie", value);
	assert_string_equal(value, "id=1");
}

static void
test_errors_of_one_file_are_not_the_sets(void **state)
{
	char value[512];

	(void)state;
	get("/http/other", "", 200, "content", NULL, NULL);
	wait_stored();
	get("/http/broken", "", 503, "", NULL, NULL);
	get("/http/other", "", 200, "content", "Cache-Status", value);
	assert_string_equal(value, "pkgcast; fwd=stale; fwd-status=304");
}

static void
test_errors_are_kept_up_to_a_limit(void **state)
{
	struct plain_stats st;
	struct web_answer a;
	char text[128];
	struct web w;
	unsigned i, before;

	(void)state;
	for (i = 0; i < 10100; i++) {
		/* A connection has but so many requests. */
		if (i % 100 == 0)
			web_open(&w, port);
		(void)snprintf(text, sizeof(text),
		    "GET /mark/none%u HTTP/1.1\r\nHost: x\r\n\r\n", i);
		web_sends(&w, text);
		web_read(&w, &a, false);
		assert_int_equal(a.status, 404);
		web_free(&a);
		if (i % 100 == 99)
			web_close(&w);
	}
	plains_stats(plains, 1, &st);
	assert_in_range(st.files, 9000, 10010);
	before = atomic_load(&asked);
	get("/mark/none10099", "", 404, "", NULL, NULL);
	assert_int_equal(atomic_load(&asked), before);
	get("/mark/none1", "", 404, "", NULL, NULL);
	assert_int_equal(atomic_load(&asked), before + 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_not_stored_arrives_at_once),
		cmocka_unit_test(test_a_variant_is_not_verified_by_another),
		cmocka_unit_test(test_cookies_are_for_one),
		cmocka_unit_test(test_errors_of_one_file_are_not_the_sets),
		cmocka_unit_test(test_errors_are_kept_up_to_a_limit),
	};

	(void)cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("plain", tests, start, stop));
}
