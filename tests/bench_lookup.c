/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What it costs to find a path and judge a conditional request: from the raw
 * target to the status, as an HTTP thread does it for each request.  Prints
 * nanoseconds of CPU time per request for sets of several sizes.
 *
 * usage: bench_lookup [PATHS]...
 */
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/answer.h"
#include "proto/buf.h"
#include "proto/check.h"
#include "proto/route.h"
#include "proto/site.h"

#define	SET		"FreeBSD:14:amd64/latest"
#define	REQUESTS	1000000u
#define	CREATED		1700000000

static void
path_of(unsigned i, char *out, size_t size)
{

	(void)snprintf(out, size, "All/%08x-package-%u.%u.pkg",
	    i * 2654435761u, i / 7, i % 7);
}

static int
by_text(const void *a, const void *b)
{

	return (strcmp(*(char *const *)a, *(char *const *)b));
}

static struct snapshot *
make_set(unsigned n)
{
	struct buf b = BUF_INIT(MANIFEST_MAX);
	struct entry e = { .type = ENTRY_FILE, .size = 1000, .time = CREATED };
	struct head h = { .generation = 1, .created = CREATED, .files = n,
	    .bytes = 1000ull * n };
	struct parse_error error;
	struct snapshot *s;
	uint8_t *rows;
	char **path, *text;
	unsigned i;
	size_t len;

	path = check_alloc(calloc(n, sizeof(*path)));
	for (i = 0; i < n; i++) {
		path[i] = check_alloc(malloc(64));
		path_of(i, path[i], 64);
	}
	qsort(path, n, sizeof(*path), by_text);
	(void)buf_adds(&b, MANIFEST_FIRST);
	(void)buf_adds(&b, "./All type=dir\n");
	for (i = 0; i < n; i++) {
		e.path_len = strlen(path[i]);
		memcpy(e.path, path[i], e.path_len + 1);
		digest_of(&e.digest, path[i], e.path_len);
		(void)manifest_add(&b, &e);
		free(path[i]);
	}
	free(path);
	(void)snprintf(h.set, sizeof(h.set), "%s", SET);
	text = check_alloc(buf_take(&b, &len));
	h.manifest_size = len;
	rows = check_alloc(malloc(1));
	if ((s = snapshot_new(&h, &text, len, &rows, 0, false, &error)) == NULL)
		errx(1, "%s", error.reason);
	return (s);
}

/* As proto/serve.c does it. */
static unsigned
one(struct site *site, const char *target, const char *etag)
{
	struct http_fields q = { .if_none_match = etag };
	struct answer_file facts = { .type = "" };
	const struct site_set *set;
	char hex[DIGEST_HEX + 1];
	struct site_file found;
	struct answer a;
	struct route r;
	const char *rest;

	route_parse(target, strlen(target), &r);
	set = site_match(site_enter(site), r.path, &rest);
	CHECK(set != NULL && site_find(set, rest, CREATED, 0, &found) ==
	    SITE_FOUND);
	facts.size = found.facts.size;
	facts.time = found.facts.time;
	facts.etag = digest_hex(&found.facts.digest, hex);
	answer_judge(&a, HTTP_GET, &q, &facts);
	site_leave(site);
	return (a.status);
}

static void
measure(unsigned n)
{
	struct snapshot *s = make_set(n);
	struct site *site = check_alloc(site_new(NULL, NULL));
	struct delta *none = NULL;
	char path[64], hex[DIGEST_HEX + 1];
	char (*target)[128], (*etag)[DIGEST_HEX + 3];
	struct digest d;
	clock_t start;
	unsigned i, matched = 0;

	if (site_switch(site, &s, &none, CREATED) == -1)
		errx(1, "out of memory");
	target = check_alloc(calloc(REQUESTS, sizeof(*target)));
	etag = check_alloc(calloc(REQUESTS, sizeof(*etag)));
	for (i = 0; i < REQUESTS; i++) {
		path_of((unsigned)random() % n, path, sizeof(path));
		(void)snprintf(target[i], sizeof(target[i]), "/%s/%s", SET,
		    path);
		digest_of(&d, path, strlen(path));
		(void)snprintf(etag[i], sizeof(etag[i]), "\"%s\"",
		    digest_hex(&d, hex));
	}
	start = clock();
	for (i = 0; i < REQUESTS; i++)
		matched += one(site, target[i], etag[i]) == 304;
	printf("paths=%u ns_per_request=%.0f\n", n, (double)(clock() - start) *
	    1e9 / CLOCKS_PER_SEC / REQUESTS);
	CHECK(matched == REQUESTS);
	free(target);
	free(etag);
	site_destroy(&site);
}

int
main(int argc, char *argv[])
{
	static const unsigned sizes[] = { 1000, 10000, 100000, 999000 };
	size_t i;
	int k;

	for (k = 1; k < argc; k++)
		measure((unsigned)strtoul(argv[k], NULL, 10));
	for (i = 0; argc == 1 && i < sizeof(sizes) / sizeof(sizes[0]); i++)
		measure(sizes[i]);
	return (0);
}
