/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lookups over several generations of several sets, and switching while others
 * read.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/chunk.h"
#include "proto/site.h"

#define	DAY	86400

/* "name=content" words make a generation; content's digest is the file's; a
 * content of "BIG" is a file of three chunks.  "name>target" is a link. */
static struct snapshot *
generation(const char *set, uint64_t n, int64_t created, const char *words)
{
	struct buf text = BUF_INIT(MANIFEST_MAX), rows = BUF_INIT(1 << 20);
	struct head h = { .generation = n, .oldest = 1, .created = created };
	char copy[1024], *w, *save = NULL, *eq;
	struct parse_error err;
	struct snapshot *s;
	uint8_t *table;
	struct entry e;
	size_t rows_len;
	char *m;

	(void)snprintf(h.set, sizeof(h.set), "%s", set);
	(void)snprintf(copy, sizeof(copy), "%s", words);
	(void)buf_adds(&text, MANIFEST_FIRST);
	for (w = strtok_r(copy, " ", &save); w != NULL;
	    w = strtok_r(NULL, " ", &save)) {
		memset(&e, 0, sizeof(e));
		eq = w + strcspn(w, "=>");
		e.type = *eq == '=' ? ENTRY_FILE : *eq == '>' ? ENTRY_LINK :
		    ENTRY_DIR;
		e.time = 5;
		if (e.type == ENTRY_FILE) {
			digest_of(&e.digest, eq + 1, strlen(eq + 1));
			e.size = strcmp(eq + 1, "BIG") == 0 ?
			    2 * CHUNK_SIZE + 1 : strlen(eq + 1);
			h.files++;
			h.bytes += e.size;
			if (e.size > CHUNK_SIZE) {
				char fill[3 * DIGEST_LEN];

				memset(fill, (int)n, sizeof(fill));
				(void)buf_add(&rows, fill, sizeof(fill));
			}
		} else if (e.type == ENTRY_LINK) {
			e.link_len = strlen(eq + 1);
			memcpy(e.link, eq + 1, e.link_len + 1);
		}
		*eq = '\0';
		e.path_len = strlen(w);
		memcpy(e.path, w, e.path_len + 1);
		assert_int_equal(manifest_add(&text, &e), 0);
	}
	h.manifest_size = text.len;
	digest_of(&h.manifest, text.p, text.len);
	h.chunks_size = rows.len;
	digest_of(&h.chunks, rows.p == NULL ? "" : rows.p, rows.len);
	digest_of(&h.digest, &n, sizeof(n));
	m = buf_take(&text, NULL);
	table = (uint8_t *)buf_take(&rows, &rows_len);
	s = snapshot_new(&h, &m, h.manifest_size, &table, rows_len, true, &err);
	if (s == NULL)
		fail_msg("%s: line %lu: %s", words, err.line, err.reason);
	return (s);
}

static void
publish(struct site *site, const char *set, uint64_t n, int64_t created,
    const char *words)
{
	struct snapshot *was = site_current(site, set);
	struct snapshot *next = generation(set, n, created, words);
	struct delta *back = was == NULL ? NULL : delta_new(was, next);

	assert_int_equal(site_switch(site, &next, &back, created), 0);
	snapshot_unref(&was);
}

static const char *
content(const struct site_file *f)
{
	static const char *const all[] = { "one", "two", "three", "BIG" };
	struct digest d;
	size_t i;

	for (i = 0; i < 4; i++) {
		digest_of(&d, all[i], strlen(all[i]));
		if (digest_eq(&d, &f->facts.digest))
			return (all[i]);
	}
	return ("?");
}

static const struct {
	uint64_t	 generation;	/* 0: as a client without "@" asks */
	const char	*path;
	int64_t		 now;
	enum site_found	 found;
	const char	*content;
	uint64_t	 answers;
} lookups[] = {
	{ 0, "a", 0, SITE_FOUND, "two", 3 },
	{ 0, "d/x", 0, SITE_FOUND, "three", 3 },
	{ 0, "new", 0, SITE_FOUND, "one", 3 },
	{ 0, "l", 0, SITE_FOUND, "two", 3 },
	{ 0, "d", 0, SITE_ABSENT, NULL, 0 },
	{ 0, "none", 0, SITE_ABSENT, NULL, 0 },
	{ 0, "gone1", 0, SITE_FOUND, "one", 1 },
	{ 0, "gone2", 0, SITE_FOUND, "BIG", 2 },
	{ 0, "gone2", 3 + DAY, SITE_ABSENT, NULL, 0 },
	{ 0, "gone1", 1 + DAY, SITE_FOUND, "one", 1 },
	{ 0, "gone1", 2 + DAY, SITE_ABSENT, NULL, 0 },
	{ 1, "a", 0, SITE_FOUND, "one", 1 },
	{ 1, "l", 0, SITE_FOUND, "one", 1 },
	{ 1, "gone1", 9 * DAY, SITE_FOUND, "one", 1 },
	{ 1, "gone2", 0, SITE_ABSENT, NULL, 0 },
	{ 1, "new", 0, SITE_ABSENT, NULL, 0 },
	{ 1, "d/x", 0, SITE_FOUND, "three", 1 },
	{ 2, "a", 0, SITE_FOUND, "two", 2 },
	{ 2, "gone1", 0, SITE_ABSENT, NULL, 0 },
	{ 2, "gone2", 0, SITE_FOUND, "BIG", 2 },
	{ 3, "gone2", 0, SITE_ABSENT, NULL, 0 },
	{ 4, "a", 0, SITE_GONE, NULL, 0 },
	{ 9, "a", 0, SITE_GONE, NULL, 0 },
};

static struct site *
three_generations(void)
{
	struct site *site = site_new(NULL, NULL);

	assert_non_null(site);
	publish(site, "pub/demo", 1, 1, "a=one d d/x=three gone1=one l>a");
	publish(site, "pub/demo", 2, 2, "a=two d d/x=three gone2=BIG l>a");
	publish(site, "pub/demo", 3, 3, "a=two d d/x=three l>a new=one");
	publish(site, "pub/other", 7, 3, "b=two");
	return (site);
}

static void
every_kept_generation_answers(void **state)
{
	struct site *site = three_generations();
	const struct site_set *set;
	struct site_file f;
	enum site_found found;
	size_t i;

	(void)state;
	set = site_named(site_enter(site), "pub/demo");
	assert_non_null(set);
	for (i = 0; i < sizeof(lookups) / sizeof(lookups[0]); i++) {
		found = lookups[i].generation == 0 ?
		    site_find(set, lookups[i].path, lookups[i].now, DAY, &f) :
		    site_find_in(set, lookups[i].generation, lookups[i].path,
		    &f);
		if (found != lookups[i].found)
			fail_msg("case %zu: %s@%d: found %d", i,
			    lookups[i].path, (int)lookups[i].generation,
			    (int)found);
		if (found != SITE_FOUND)
			continue;
		assert_string_equal(content(&f), lookups[i].content);
		assert_int_equal(f.head->generation, lookups[i].answers);
		if (strcmp(content(&f), "BIG") == 0)
			assert_int_equal(f.rows[0], 2);
	}
	site_leave(site);
	site_destroy(&site);
}

static void
sets_are_matched_by_prefix(void **state)
{
	struct site *site = three_generations();
	const struct site_view *v;
	const char *rest;

	(void)state;
	v = site_enter(site);
	assert_string_equal(site_match(v, "pub/demo/d/x", &rest)->name,
	    "pub/demo");
	assert_string_equal(rest, "d/x");
	assert_string_equal(site_match(v, "pub/other", &rest)->name,
	    "pub/other");
	assert_string_equal(rest, "");
	assert_null(site_match(v, "pub", &rest));
	assert_null(site_match(v, "pub/demoX/a", &rest));
	assert_null(site_match(v, "", &rest));
	site_leave(site);
	site_destroy(&site);
}

static void
blobs_and_heads_of_kept_generations_are_found(void **state)
{
	struct site *site = three_generations();
	const struct site_view *v;
	struct site_file f;
	struct digest d;
	uint64_t n;

	(void)state;
	v = site_enter(site);
	digest_of(&d, "BIG", 3);
	assert_true(site_find_blob(v, &d, &f, NULL));
	assert_int_equal(f.facts.size, 2 * CHUNK_SIZE + 1);
	assert_non_null(f.rows);
	digest_of(&d, "never", 5);
	assert_false(site_find_blob(v, &d, &f, NULL));
	for (n = 1; n <= 3; n++) {
		digest_of(&d, &n, sizeof(n));
		assert_non_null(site_find_head(v, &d));
		d = site_find_head(v, &d)->manifest;
		assert_true(site_find_blob(v, &d, &f, NULL));
		assert_null(f.rows);
	}
	site_leave(site);
	site_destroy(&site);
}

static void
a_withdrawn_generation_is_never_answered(void **state)
{
	struct site *site = three_generations();
	struct snapshot *was = site_current(site, "pub/demo"), *next;
	struct head h;
	struct delta *back;
	struct site_file f;
	const char *text;
	size_t len;
	char *copy;
	uint8_t *rows = NULL;

	(void)state;
	h = *snapshot_head(was);
	h.generation = h.oldest = 4;
	digest_of(&h.digest, "4", 1);
	text = manifest_text(snapshot_manifest(was), &len);
	copy = strdup(text);
	next = snapshot_new(&h, &copy, len, &rows, 0, true, NULL);
	assert_non_null(next);
	back = delta_new(was, next);
	assert_int_equal(site_switch(site, &next, &back, 4), 0);
	snapshot_unref(&was);
	assert_int_equal(site_find_in(site_named(site_enter(site), "pub/demo"),
	    3, "a", &f), SITE_GONE);
	site_leave(site);
	site_destroy(&site);
}

/* Readers that check that a view is of one generation while a writer switches:
 * generation n has exactly the file "f" with content n. */
static atomic_bool stop;

static void *
reader(void *arg)
{
	struct site *site = arg;
	const struct site_set *set;
	struct site_file f;
	struct digest d;
	char text[32];

	while (!atomic_load(&stop)) {
		set = site_named(site_enter(site), "s");
		if (site_find(set, "f", 0, 0, &f) != SITE_FOUND)
			abort();
		(void)snprintf(text, sizeof(text), "v%d",
		    (int)f.head->generation);
		digest_of(&d, text, strlen(text));
		if (!digest_eq(&d, &f.facts.digest))
			abort();
		site_leave(site);
	}
	return (NULL);
}

static void
readers_never_see_a_mixture(void **state)
{
	struct site *site = site_new(NULL, NULL);
	pthread_t t[3];
	char text[32];
	uint64_t n;
	int i;

	(void)state;
	publish(site, "s", 1, 1, "f=v1");
	for (i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, reader, site), 0);
	for (n = 2; n < 400; n++) {
		(void)snprintf(text, sizeof(text), "f=v%d", (int)n);
		publish(site, "s", n, (int64_t)n, text);
	}
	atomic_store(&stop, true);
	for (i = 0; i < 3; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_int_equal(site_named(site_enter(site), "s")->nearlier, 199);
	site_leave(site);
	site_destroy(&site);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kept_generation_answers),
		cmocka_unit_test(sets_are_matched_by_prefix),
		cmocka_unit_test(blobs_and_heads_of_kept_generations_are_found),
		cmocka_unit_test(a_withdrawn_generation_is_never_answered),
		cmocka_unit_test(readers_never_see_a_mixture),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("site", tests, NULL, NULL));
}
