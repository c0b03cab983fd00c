/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Heads for the cache of plain upstreams, with an empty line between them: a
 * response's, a request's, a 304's.  Whatever they say, nothing is lost of what
 * forbids, and no field of a connection goes further.
 */
#include "tests/fuzz.h"

#include "edge/fields.h"
#include "edge/fresh.h"
#include "edge/kind.h"
#include "proto/check.h"
#include "proto/date.h"

#define	TIME	1000000000

static const int64_t times[] = { INT64_MIN, 0, TIME, TIME + 100, INT64_MAX };
#define	NTIMES	(sizeof(times) / sizeof(times[0]))

/* Well formed, and nothing hop by hop. */
static void
check_text(const char *text)
{
	static const char *const hops[] = { "connection", "te", "upgrade",
	    "transfer-encoding", "proxy-authorization" };
	size_t i, lines = 0, n = 0;
	const char *p;
	struct field f;

	CHECK(strlen(text) <= FIELDS_MAX);
	for (p = text; (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	for (p = text; fields_next(&p, &f); n++)
		for (i = 0; i < sizeof(hops) / sizeof(hops[0]); i++)
			CHECK(!field_is(&f, hops[i]));
	CHECK(n == lines && n <= 2 * FIELDS_N + 2);
}

static void
check_filter(char *(*filter)(const char *), const char *fields)
{
	char *once, *twice;

	if ((once = filter(fields)) == NULL)
		return;
	check_text(once);
	CHECK((twice = filter(once)) != NULL);
	CHECK(strcmp(once, twice) == 0);
	free(once);
	free(twice);
}

static void
check_use(const struct fresh_response *r, const struct fresh_request *q)
{
	int64_t lifetime = fresh_lifetime(r), age;
	enum fresh_use use;
	size_t i;

	CHECK(lifetime >= 0 && lifetime <= FRESH_MAX);
	for (i = 0; i + 2 < NTIMES; i++) {
		age = fresh_age(r, times[i], times[i + 1], times[i + 2]);
		CHECK(age >= 0 && age <= FRESH_MAX);
		use = fresh_use(r, q, age);
		CHECK(use != FRESH_SERVE || lifetime > age);
		CHECK(use == FRESH_VERIFY || (!r->no_cache && !q->no_cache &&
		    (q->max_age < 0 || age <= q->max_age)));
		CHECK(use != FRESH_SERVE_STALE || !r->must_revalidate);
		if (fresh_may_be_stale(r, q, age))
			CHECK(!r->no_cache &&
			    (lifetime > age || !r->must_revalidate));
	}
	if (fresh_storable(r, q))
		CHECK(!r->private && !r->vary_any && !q->no_store &&
		    (!r->no_store || r->must_understand));
}

static void
check_strong(const struct fresh_response *r)
{
	char out[FRESH_ETAG];
	int64_t t;

	(void)fresh_strong(r, out);
	if (out[0] == '"')
		CHECK(strcmp(out, r->etag) == 0 && r->has_etag);
	else if (out[0] != '\0')
		CHECK(date_http_parse(out, strlen(out), &t) == 0 &&
		    t == r->last_modified && !r->has_etag);
}

/* What decides whether and how long is the same once it is stored. */
static void
check_stored(const struct fresh_response *r, const char *fields)
{
	struct fresh_response s;
	char *stored, *again;

	if ((stored = fields_stored(fields, TIME)) == NULL)
		return;
	check_text(stored);
	fresh_parse(&s, r->status, stored);
	CHECK(s.date == (r->date == -1 ? TIME : r->date));
	CHECK(s.age == r->age && s.expires == r->expires &&
	    s.max_age == r->max_age && s.s_maxage == r->s_maxage &&
	    s.stale_if_error == r->stale_if_error &&
	    s.no_store == r->no_store && s.no_cache == r->no_cache &&
	    s.private == r->private && s.vary_any == r->vary_any &&
	    s.must_revalidate == r->must_revalidate &&
	    s.must_understand == r->must_understand);
	/* But for a limit that the Date passes. */
	if ((again = fields_stored(stored, TIME + 1)) != NULL)
		CHECK(strcmp(again, stored) == 0);
	free(again);
	free(stored);
}

static void
check_update(const char *old, const char *new304)
{
	struct fresh_response o, n, u;
	char *stored, *fields, *updated;

	stored = fields_stored(old, TIME);
	fields = fields_stored(new304, TIME + 1);
	updated = stored == NULL ? NULL :
	    fresh_update(stored, new304, TIME + 1);
	CHECK(updated == NULL || fields != NULL);
	if (updated != NULL) {
		check_text(updated);
		fresh_parse(&o, 200, stored);
		fresh_parse(&n, 304, fields);
		fresh_parse(&u, 200, updated);
		CHECK(u.age == n.age && u.date == n.date);
		CHECK(strcmp(u.etag, (n.has_etag ? &n : &o)->etag) == 0);
		CHECK(!n.no_store || u.no_store);
		if (fresh_confirms(&o, &n) && n.etag_strong)
			CHECK(strcmp(o.etag, u.etag) == 0);
	}
	free(updated);
	free(fields);
	free(stored);
}

static void
check_vary(const struct fresh_response *r, const char *vary,
    const char *request)
{
	char *key = fresh_vary_key(vary, request);
	struct field f;
	const char *p = key;
	size_t i;

	if (key == NULL)
		return;
	CHECK(!r->vary_any);
	for (; fields_next(&p, &f);) {
		CHECK(!field_is(&f, "accept-encoding"));
		for (i = 0; i < f.nlen; i++)
			CHECK(f.name[i] < 'A' || f.name[i] > 'Z');
	}
	CHECK(*p == '\0');
	free(key);
}

/* The first line, as a path. */
static void
check_kinds(const char *text)
{
	char *copy = strndup(text, strcspn(text, "\n"));
	const char *path = copy;
	enum repo_kind k;

	CHECK(copy != NULL);
	for (k = KIND_OTHER; k <= KIND_ARCH; k++)
		CHECK(kind_package(k, path) || (!kind_identifies(k, path) &&
		    !kind_immutable(k, path)));
	(void)kind_parse(&k, path);
	CHECK((kind_of(&path, 1) == KIND_OTHER) ==
	    !(kind_identifies(KIND_FREEBSD, path) ||
	    kind_identifies(KIND_DEBIAN, path) ||
	    kind_identifies(KIND_ARCH, path)));
	free(copy);
}

static void
check(const char *response, const char *request, const char *new304)
{
	char control[FIELDS_MAX], pragma[256], vary[FIELDS_MAX];
	static const unsigned status[] = { 200, 302, 304, 404, 503 };
	struct fresh_response r;
	struct fresh_request q;
	size_t i;

	fresh_request_parse(&q,
	    fields_get(request, "Cache-Control", control, sizeof(control)),
	    fields_get(request, "Pragma", pragma, sizeof(pragma)),
	    fields_get(request, "Authorization", vary, sizeof(vary)) != NULL);
	for (i = 0; i < sizeof(status) / sizeof(status[0]); i++) {
		fresh_parse(&r, status[i], response);
		check_use(&r, &q);
	}
	check_strong(&r);
	check_stored(&r, response);
	check_filter(fields_end_to_end_response, response);
	check_filter(fields_end_to_end_request, request);
	check_update(response, new304);
	if (fields_get(response, "Vary", vary, sizeof(vary)) != NULL)
		check_vary(&r, vary, request);
	check_kinds(response);
}

/* Text from *s to an empty line or the end. */
static char *
head(char **s)
{
	char *from = *s, *end = strstr(from, "\n\n");

	*s = end == NULL ? from + strlen(from) : end + 2;
	if (end != NULL)
		end[1] = '\0';
	return (from);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text, *p, *response, *request;

	/* A copy, so that a byte beyond it is noticed. */
	CHECK((p = text = strndup((const char *)data, size)) != NULL);
	response = head(&p);
	request = head(&p);
	check(response, request, head(&p));
	free(text);
	return (0);
}
