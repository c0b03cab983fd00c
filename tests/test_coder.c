/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Coded manifests and chunk tables, asked for over real sockets: which requests
 * get which bytes, that many of them have one made, and what is kept.
 */
#include "tests/web.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "proto/chunk.h"
#include "proto/clock.h"
#include "proto/serve.h"
#include "proto/zcode.h"

#define	FILES		2000
#define	CREATED		1000000000
#define	MANY		150		/* clients at once */
#define	VARY		"Accept-Encoding, Available-Dictionary"

/* The documents that there are, by digest. */
struct document {
	char		*p;
	size_t		 len;
	struct digest	 digest;
};
enum { M1, C1, M2, C2, M3, C3, OTHER, OTHER_C, NDOC };
static struct document doc[NDOC];

static struct site *site;
static struct httpd *server;
static struct coder *coder;
static int port;
static atomic_int reads;
static atomic_bool lost;		/* nothing can be read */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void
keep(int at, const void *p, size_t len)
{

	free(doc[at].p);
	assert_non_null(doc[at].p = malloc(len + 1));
	memcpy(doc[at].p, p, len);
	doc[at].p[len] = '\0';
	doc[at].len = len;
	digest_of(&doc[at].digest, p, len);
}

/* Facts of file i that are the same from generation to generation, but for each
 * 50th file. */
static void
file_of(unsigned i, uint64_t generation, struct entry *e)
{
	uint64_t seed[2] = { i, i % 50 == 0 ? generation : 0 };

	memset(e, 0, sizeof(*e));
	e->type = ENTRY_FILE;
	e->time = CREATED;
	e->path_len = (size_t)snprintf(e->path, sizeof(e->path), "p%04u", i);
	e->size = i % 10 == 0 ? 3 * CHUNK_SIZE : 1000;
	digest_of(&e->digest, seed, sizeof(seed));
}

/* A generation of the set, whose documents are kept from `at` on. */
static struct snapshot *
generation(const char *set, uint64_t n, uint64_t oldest, int at)
{
	struct head h = { .generation = n, .oldest = oldest,
	    .created = CREATED + (int64_t)n };
	struct buf text = BUF_INIT(1u << 20), table = BUF_INIT(1u << 20);
	struct parse_error err;
	struct snapshot *s;
	struct digest row;
	struct entry e;
	uint8_t *rows;
	unsigned i, k;
	char *m;

	(void)snprintf(h.set, sizeof(h.set), "%s", set);
	(void)buf_adds(&text, MANIFEST_FIRST);
	for (i = 0; i < FILES; i++) {
		file_of(i, strcmp(set, "s") == 0 ? n : 1000, &e);
		h.files++;
		h.bytes += e.size;
		assert_int_equal(manifest_add(&text, &e), 0);
		for (k = 0; k < chunk_rows(e.size); k++) {
			digest_of(&row, &e.digest, DIGEST_LEN - k);
			(void)buf_add(&table, &row, sizeof(row));
		}
	}
	keep(at, text.p, h.manifest_size = text.len);
	keep(at + 1, table.p, h.chunks_size = table.len);
	h.manifest = doc[at].digest;
	h.chunks = doc[at + 1].digest;
	h.len = h.signed_len = (size_t)snprintf(h.text, sizeof(h.text),
	    "%s %d\n", set, (int)n);
	digest_of(&h.digest, h.text, h.len);
	m = buf_take(&text, NULL);
	rows = (uint8_t *)buf_take(&table, NULL);
	s = snapshot_new(&h, &m, h.manifest_size, &rows, h.chunks_size, true,
	    &err);
	if (s == NULL)
		fail_msg("%s", err.reason);
	return (s);
}

static void
switch_to(struct snapshot *next)
{
	struct snapshot *was = site_current(site, snapshot_head(next)->set);
	struct delta *back = was == NULL ? NULL : delta_new(was, next);

	assert_int_equal(site_switch(site, &next, &back, CREATED), 0);
	snapshot_unref(&was);
}

static char *
read_document(void *arg, const struct digest *d, uint64_t size)
{
	int i;
	char *p;

	(void)arg;
	(void)pthread_mutex_lock(&gate);
	(void)pthread_mutex_unlock(&gate);
	atomic_fetch_add(&reads, 1);
	for (i = 0; i < NDOC && !atomic_load(&lost); i++)
		if (digest_eq(&doc[i].digest, d) && doc[i].len == size) {
			assert_non_null(p = malloc(size + 1));
			memcpy(p, doc[i].p, size + 1);
			return (p);
		}
	return (NULL);
}

static enum serve_got
file(void *arg, struct httpd_request *r, const struct serve_file *f,
    const struct answer *a, struct serve_body *out)
{
	char *p;
	int i;

	(void)arg;
	(void)r;
	(void)a;
	for (i = 0; i < NDOC; i++)
		if (digest_eq(&doc[i].digest, f->digest))
			break;
	p = i < NDOC ? doc[i].p : calloc(1, f->size + 1);
	out->body = i < NDOC ? httpd_body_copy(p, f->size) :
	    httpd_body_mem(p, f->size, free, p);
	out->hit = true;
	return (SERVE_BODY);
}

static enum serve_lease
lease(void *arg, const struct site_set *set)
{

	(void)arg;
	(void)set;
	return (SERVE_FRESH);
}

/* Generation 3 of s is being prepared until it is current. */
static bool
prepared(void *arg, const struct digest *d, struct site_prepared *p)
{

	(void)arg;
	if (digest_eq(d, &doc[M3].digest))
		*p = (struct site_prepared){ HEAD_MANIFEST, doc[M3].len, "s" };
	else if (digest_eq(d, &doc[C3].digest))
		*p = (struct site_prepared){ HEAD_CHUNKS, doc[C3].len, "s" };
	else
		return (false);
	return (true);
}

/* Fields that offer dcz and zstd, with that dictionary. */
static const char *
with(int dictionary, char out[256])
{
	char value[CODING_DICTIONARY];

	(void)snprintf(out, 256, "Accept-Encoding: dcz, zstd\r\n"
	    "Available-Dictionary: %s\r\n",
	    coding_dictionary(&doc[dictionary].digest, value));
	return (out);
}

static void
send_for(struct web *w, const char *method, int at, const char *fields)
{
	char text[1024], hex[DIGEST_HEX + 1];

	web_open(w, port);
	(void)snprintf(text, sizeof(text), "%s /.pkgcast/blob/%s HTTP/1.1\r\n"
	    "Host: a\r\n%s\r\n", method, digest_hex(&doc[at].digest, hex),
	    fields);
	web_sends(w, text);
}

static void
ask(const char *method, int at, const char *fields, struct web_answer *a)
{
	struct web w;

	send_for(&w, method, at, fields);
	web_read(&w, a, strcmp(method, "HEAD") == 0);
	web_close(&w);
}

static void
assert_field(const struct web_answer *a, const char *name, const char *want)
{
	char value[512];
	const char *is = web_field(a, name, value);

	if (want == NULL ? is != NULL : is == NULL || strcmp(is, want) != 0)
		fail_msg("%s: %s instead of %s", name, is != NULL ? is :
		    "nothing", want != NULL ? want : "nothing");
}

/* The entity tag of document `at` in that coding. */
static const char *
tag(int at, enum coding c, int dictionary, char out[256])
{
	char hex[DIGEST_HEX + 1], of[DIGEST_HEX + 1];

	(void)snprintf(out, 256, "\"%s%s%s%s%s\"",
	    digest_hex(&doc[at].digest, hex), c == CODING_NONE ? "" : "-",
	    c == CODING_NONE ? "" : coding_name(c),
	    c == CODING_DCZ ? "-" : "", c == CODING_DCZ ?
	    digest_hex(&doc[dictionary].digest, of) : "");
	return (out);
}

/* 200 with the document `at` in that coding, which is taken off. */
static void
assert_is(const struct web_answer *a, int at, enum coding c, int dictionary)
{
	struct zcode_dictionary d = { .p = doc[dictionary].p,
	    .len = doc[dictionary].len, .digest = doc[dictionary].digest };
	const char *reason;
	char text[256], *p;

	assert_int_equal(a->status, 200);
	assert_true(a->complete);
	assert_field(a, "Content-Encoding", coding_name(c));
	assert_field(a, "ETag", tag(at, c, dictionary, text));
	assert_field(a, "Vary", VARY);
	assert_field(a, "Accept-Ranges", c == CODING_NONE ? "bytes" : NULL);
	assert_field(a, "Content-Range", NULL);
	assert_field(a, "Cache-Control",
	    "public, max-age=31536000, immutable");
	if (c == CODING_NONE) {
		assert_int_equal(a->len, doc[at].len);
		assert_memory_equal(a->body, doc[at].p, a->len);
		return;
	}
	assert_true(a->len < doc[at].len);
	if (zcode_decode(c == CODING_DCZ ? &d : NULL, a->body, a->len,
	    doc[at].len, &p, &reason) == -1)
		fail_msg("%s", reason);
	assert_memory_equal(p, doc[at].p, doc[at].len);
	free(p);
}

static void
check(int at, const char *fields, enum coding c, int dictionary)
{
	struct web_answer a;

	ask("GET", at, fields, &a);
	assert_is(&a, at, c, dictionary);
	web_free(&a);
}

static void
each_request_gets_what_it_takes(void **state)
{
	char fields[256];

	(void)state;
	check(M2, "", CODING_NONE, 0);
	check(M2, "Accept-Encoding: gzip, br\r\n", CODING_NONE, 0);
	check(M2, "Accept-Encoding: zstd\r\n", CODING_ZSTD, 0);
	check(M2, "Accept-Encoding: zstd;q=0.5, identity\r\n", CODING_NONE, 0);
	check(M2, "Accept-Encoding: dcz\r\n", CODING_NONE, 0);
	check(M2, "Accept-Encoding: br\r\nAccept-Encoding: zstd\r\n",
	    CODING_ZSTD, 0);
	check(M2, with(M1, fields), CODING_DCZ, M1);
	check(M1, with(M2, fields), CODING_DCZ, M2);
	check(C2, with(C1, fields), CODING_DCZ, C1);
	/* Digests cannot be made smaller. */
	check(C2, "Accept-Encoding: zstd\r\n", CODING_NONE, 0);
}

static void
only_the_same_set_s_same_document_is_a_dictionary(void **state)
{
	static const int no[] = { C1, M2, M3, C2, OTHER, OTHER_C };
	char fields[256];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		check(M2, with(no[i], fields), CODING_ZSTD, 0);
	check(M2, "Accept-Encoding: dcz, zstd\r\nAvailable-Dictionary: :AAA=:"
	    "\r\n", CODING_ZSTD, 0);
	check(C2, with(M1, fields), CODING_NONE, 0);
	check(OTHER, with(M1, fields), CODING_ZSTD, 0);
}

static void
what_is_prepared_is_coded_with_what_is_kept(void **state)
{
	char fields[256];

	(void)state;
	check(M3, "Accept-Encoding: zstd\r\n", CODING_ZSTD, 0);
	check(M3, with(M2, fields), CODING_DCZ, M2);
	check(M3, with(M1, fields), CODING_DCZ, M1);
	check(C3, with(C2, fields), CODING_DCZ, C2);
	check(C3, with(M2, fields), CODING_NONE, 0);
	check(M3, with(OTHER, fields), CODING_ZSTD, 0);
}

static void
files_are_never_coded(void **state)
{
	char text[256], hex[DIGEST_HEX + 1];
	struct web_answer a;
	struct entry e;
	struct web w;

	(void)state;
	file_of(1, 2, &e);
	web_open(&w, port);
	(void)snprintf(text, sizeof(text), "GET /.pkgcast/blob/%s HTTP/1.1\r\n"
	    "Host: a\r\nAccept-Encoding: zstd, dcz\r\n\r\n",
	    digest_hex(&e.digest, hex));
	web_sends(&w, text);
	web_read(&w, &a, false);
	web_close(&w);
	assert_int_equal(a.status, 200);
	assert_int_equal(a.len, e.size);
	assert_field(&a, "Content-Encoding", NULL);
	assert_field(&a, "Vary", NULL);
	web_free(&a);
}

/* Conditions, HEAD and ranges, of each of the three forms. */
static void
each_form_has_its_own_tag(void **state)
{
	static const enum coding forms[] = { CODING_NONE, CODING_ZSTD,
	    CODING_DCZ };
	char plain[256] = "", fields[600], is[256], not[256], dcz[256];
	struct web_answer get, a;
	char length[512], other[512];
	size_t i, k;

	(void)state;
	(void)with(M1, dcz);
	for (i = 0; i < 3; i++) {
		const char *offer = i == 0 ? plain : i == 1 ?
		    "Accept-Encoding: zstd\r\n" : dcz;

		(void)tag(M2, forms[i], M1, is);
		ask("GET", M2, offer, &get);
		ask("HEAD", M2, offer, &a);
		assert_int_equal(a.status, 200);
		assert_field(&a, "ETag", is);
		assert_field(&a, "Content-Encoding", coding_name(forms[i]));
		assert_string_equal(web_field(&a, "Content-Length", length),
		    web_field(&get, "Content-Length", other));
		web_free(&a);
		for (k = 0; k < 3; k++) {
			(void)tag(M2, forms[k], M1, not);
			(void)snprintf(fields, sizeof(fields),
			    "%sIf-None-Match: %s\r\n", offer, not);
			ask("GET", M2, fields, &a);
			assert_int_equal(a.status, i == k ? 304 : 200);
			assert_field(&a, "ETag", is);
			assert_field(&a, "Vary", VARY);
			web_free(&a);
			(void)snprintf(fields, sizeof(fields),
			    "%sIf-Match: %s\r\n", offer, not);
			ask("GET", M2, fields, &a);
			assert_int_equal(a.status, i == k ? 200 : 412);
			web_free(&a);
		}
		(void)snprintf(fields, sizeof(fields), "%sRange: bytes=3-7\r\n",
		    offer);
		ask("GET", M2, fields, &a);
		assert_int_equal(a.status, i == 0 ? 206 : 200);
		assert_int_equal(a.len, i == 0 ? 5 : get.len);
		assert_field(&a, "Vary", VARY);
		web_free(&a);
		(void)snprintf(fields, sizeof(fields),
		    "%sRange: bytes=99999999-\r\n", offer);
		ask("GET", M2, fields, &a);
		assert_int_equal(a.status, i == 0 ? 416 : 200);
		web_free(&a);
		web_free(&get);
	}
	/* With another dictionary it has other bytes. */
	(void)snprintf(fields, sizeof(fields), "%sIf-None-Match: %s\r\n",
	    with(M1, dcz), tag(M3, CODING_DCZ, M2, is));
	ask("GET", M3, fields, &a);
	assert_is(&a, M3, CODING_DCZ, M1);
	web_free(&a);
}

static void
nap(void)
{
	struct timespec t = { .tv_nsec = 2000000 };

	(void)nanosleep(&t, NULL);
}

static uint64_t
requests(void)
{
	struct httpd_stats s;

	httpd_stats(server, &s);
	return (s.requests);
}

/* Until so many have come; they are counted a moment before they wait. */
static void
until_wait(uint64_t n)
{
	int i;

	while (requests() < n)
		nap();
	for (i = 0; i < 50; i++)
		nap();
}

static uint64_t
made(void)
{
	struct coder_stats s;

	coder_stats(coder, &s);
	return (s.made);
}

static struct serve serve = {
	.grace = 3600, .file = file, .lease = lease, .prepared = prepared,
};

/* Server and coder, so that nothing is made yet.  No request of the ones before is
 * left when the server has ended. */
static void
begin_anew(void)
{
	struct coder_conf c = { .site = site, .read = read_document,
	    .prepared = prepared };
	struct httpd_conf hc = { .handler = serve_request, .arg = &serve };
	int fd;

	httpd_stop(&server);
	coder_destroy(&coder);
	assert_non_null(coder = coder_new(&c));
	serve.coder = coder;
	atomic_store(&reads, 0);
	httpd_conf_defaults(&hc);
	assert_int_not_equal(fd = httpd_listen("127.0.0.1:0"), -1);
	port = httpd_port(fd);
	assert_non_null(server = httpd_start(&hc, &fd, 1));
}

static void
one_is_made_for_many(void **state)
{
	static struct web w[MANY];
	struct web_answer a, first;
	char fields[256];
	int i;

	(void)state;
	begin_anew();
	(void)with(M2, fields);
	(void)pthread_mutex_lock(&gate);
	for (i = 0; i < MANY; i++)
		send_for(&w[i], i % 5 == 4 ? "HEAD" : "GET", M3, fields);
	until_wait(MANY);
	/* Nobody else waits with them; some of them leave. */
	check(M3, "", CODING_NONE, 0);
	for (i = 0; i < MANY; i += 10)
		web_close(&w[i]);
	(void)pthread_mutex_unlock(&gate);
	web_read(&w[1], &first, false);
	assert_is(&first, M3, CODING_DCZ, M2);
	for (i = 2; i < MANY; i++) {
		if (i % 10 == 0)
			continue;
		web_read(&w[i], &a, i % 5 == 4);
		assert_int_equal(a.status, 200);
		if (i % 5 != 4) {
			assert_int_equal(a.len, first.len);
			assert_memory_equal(a.body, first.body, a.len);
		}
		web_free(&a);
		web_close(&w[i]);
	}
	web_free(&first);
	web_close(&w[1]);
	assert_int_equal(made(), 1);
	assert_int_equal(atomic_load(&reads), 2);
}

static void
more_than_the_queue_is_sent_as_it_is(void **state)
{
	static const int from[] = { M1, M2, M3 };
	struct web w[9];
	struct web_answer a;
	char fields[256];
	unsigned i, plain = 0, n = 0;

	(void)state;
	begin_anew();
	(void)pthread_mutex_lock(&gate);
	/* 4 with dictionaries that are kept, 3 without, 2 chunk tables. */
	for (i = 0; i < 3; i++) {
		send_for(&w[n++], "GET", from[i], "Accept-Encoding: zstd\r\n");
		send_for(&w[n++], "GET", from[i], with(i == 0 ? M2 : M1,
		    fields));
	}
	send_for(&w[n++], "GET", M3, with(M2, fields));
	send_for(&w[n++], "GET", C3, with(C2, fields));
	send_for(&w[n++], "GET", C2, with(C1, fields));
	until_wait(n);
	(void)pthread_mutex_unlock(&gate);
	for (i = 0; i < n; i++) {
		web_read(&w[i], &a, false);
		assert_int_equal(a.status, 200);
		plain += strstr(a.head, "Content-Encoding") == NULL;
		web_free(&a);
		web_close(&w[i]);
	}
	assert_int_equal(plain, n - CODER_QUEUE);
}

static void
what_cannot_be_read_is_asked_for_again(void **state)
{

	(void)state;
	begin_anew();
	atomic_store(&lost, true);
	check(M2, "Accept-Encoding: zstd\r\n", CODING_NONE, 0);
	atomic_store(&lost, false);
	check(M2, "Accept-Encoding: zstd\r\n", CODING_ZSTD, 0);
	check(M2, "Accept-Encoding: zstd\r\n", CODING_ZSTD, 0);
	assert_int_equal(atomic_load(&reads), 2);
	/* What is not worth it is known from then on. */
	check(C2, "Accept-Encoding: zstd\r\n", CODING_NONE, 0);
	check(C2, "Accept-Encoding: zstd\r\n", CODING_NONE, 0);
	assert_int_equal(atomic_load(&reads), 3);
}

static uint64_t
kept(void)
{
	struct coder_stats s;

	coder_stats(coder, &s);
	return (s.kept);
}

static void
what_is_withdrawn_is_dropped(void **state)
{
	char fields[256];

	(void)state;
	begin_anew();
	check(M1, "Accept-Encoding: zstd\r\n", CODING_ZSTD, 0);
	check(M2, with(M1, fields), CODING_DCZ, M1);
	check(M2, "Accept-Encoding: zstd\r\n", CODING_ZSTD, 0);
	assert_int_equal(kept(), 3);
	switch_to(generation("s", 3, 3, M3));
	check(M3, with(M2, fields), CODING_ZSTD, 0);
	while (kept() != 1)
		nap();
	check(OTHER, "Accept-Encoding: zstd\r\n", CODING_ZSTD, 0);
	assert_int_equal(kept(), 2);
}

static int
set_up(void **state)
{
	struct snapshot *next;

	(void)state;
	(void)signal(SIGPIPE, SIG_IGN);
	serve.site = site = site_new(NULL, NULL);
	switch_to(generation("other", 1, 1, OTHER));
	switch_to(generation("s", 1, 1, M1));
	switch_to(generation("s", 2, 1, M2));
	next = generation("s", 3, 1, M3);
	snapshot_unref(&next);
	begin_anew();
	return (0);
}

static int
tear_down(void **state)
{
	int i;

	(void)state;
	httpd_stop(&server);
	coder_destroy(&coder);
	site_destroy(&site);
	for (i = 0; i < NDOC; i++)
		free(doc[i].p);
	return (0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_request_gets_what_it_takes),
		cmocka_unit_test(
		    only_the_same_set_s_same_document_is_a_dictionary),
		cmocka_unit_test(what_is_prepared_is_coded_with_what_is_kept),
		cmocka_unit_test(files_are_never_coded),
		cmocka_unit_test(each_form_has_its_own_tag),
		cmocka_unit_test(one_is_made_for_many),
		cmocka_unit_test(more_than_the_queue_is_sent_as_it_is),
		cmocka_unit_test(what_cannot_be_read_is_asked_for_again),
		cmocka_unit_test(what_is_withdrawn_is_dropped),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("coder", tests, set_up,
	    tear_down));
}
