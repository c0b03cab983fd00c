/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Edges as rows of a table, those first that an operator must look at.  Called by
 * status_text.c, in the program's one thread.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/command.h"
#include "master/status_row.h"
#include "proto/log.h"

#define	FEW_EDGES	20		/* are all shown */
#define	SETS_SHOWN	5		/* of one edge */
#define	EDGE_WIDTH	17
#define	COLUMNS		80

static const struct {
	const char	*word, *counted;
} states[EDGE_STATES] = {
	[EDGE_AHEAD] = { "AHEAD", "ahead of this master" },
	[EDGE_DOUBLE] = { "double", "with a key used twice" },
	[EDGE_BEHIND] = { "behind", "behind" },
	[EDGE_UNLEASED] = { "no lease", "without lease" },
	[EDGE_NEVER] = { "no lease", "never heard of" },
	[EDGE_CURRENT] = { "current", "current" },
};

const char *
doc_word(const json_t *j, const char *name)
{
	const char *v = json_string_value(json_object_get(j, name));

	return (v == NULL ? "-" : v);
}

const char *
doc_text(const json_t *j, const char *name, char *out, size_t size)
{
	const char *v = doc_word(j, name);

	return (log_escape(out, size, v, strlen(v)));
}

uint64_t
doc_number(const json_t *j, const char *name)
{
	json_int_t v = json_integer_value(json_object_get(j, name));

	return (v < 0 ? 0 : (uint64_t)v);
}

/* -1: null, or not there. */
int64_t
doc_ms(const json_t *j, const char *name)
{
	const json_t *v = json_object_get(j, name);

	return (json_is_integer(v) ? (int64_t)json_integer_value(v) : -1);
}

bool
doc_true(const json_t *j, const char *name)
{

	return (json_is_true(json_object_get(j, name)));
}

/* "3s", "12m", "5h", "9d"; "-": below 0. */
const char *
doc_duration(int64_t ms, char out[DOC_DURATION])
{
	int64_t s = ms / 1000;

	if (ms < 0)
		(void)snprintf(out, DOC_DURATION, "-");
	else if (s < 120)
		(void)snprintf(out, DOC_DURATION, "%" PRId64 "s", s);
	else if (s < 7200)
		(void)snprintf(out, DOC_DURATION, "%" PRId64 "m", s / 60);
	else if (s < 2 * 86400)
		(void)snprintf(out, DOC_DURATION, "%" PRId64 "h", s / 3600);
	else
		(void)snprintf(out, DOC_DURATION, "%" PRId64 "d", s / 86400);
	return (out);
}

/* "12ms", where that is not too long. */
static const char *
short_time(int64_t ms, char out[DOC_DURATION])
{

	if (ms < 0 || ms >= 10000)
		return (doc_duration(ms, out));
	(void)snprintf(out, DOC_DURATION, "%" PRId64 "ms", ms);
	return (out);
}

/* 1234567 as "1,234,567". */
static const char *
thousands(uint64_t n, char out[32])
{
	char digits[24];
	size_t len, i, o = 0;

	len = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, n);
	for (i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0)
			out[o++] = ',';
		out[o++] = digits[i];
	}
	out[o] = '\0';
	return (out);
}


/* The instance that renewed last; an older one is of an earlier run. */
static const json_t *
newest(const json_t *edge)
{
	const json_t *list = json_object_get(edge, "instances"), *best = NULL;
	const json_t *one;
	size_t i;

	for (i = 0; i < json_array_size(list); i++) {
		one = json_array_get(list, i);
		if (best == NULL || doc_number(one, "last_renewal_ms_ago") <
		    doc_number(best, "last_renewal_ms_ago"))
			best = one;
	}
	return (best);
}

static enum edge_state
judge(const struct row *r, bool ahead, bool twice)
{

	if (r->instance == NULL)
		return (EDGE_NEVER);
	if (ahead)
		return (EDGE_AHEAD);
	if (twice)
		return (EDGE_DOUBLE);
	if (doc_number(r->instance, "lease_left_ms") == 0)
		return (EDGE_UNLEASED);
	return (r->behind_ms >= 0 || !doc_true(r->instance, "leased") ?
	    EDGE_BEHIND : EDGE_CURRENT);
}

static void
row_fill(struct row *r, const json_t *edge)
{
	const json_t *sets, *s;
	bool ahead = false;
	int64_t ms;
	size_t i;

	r->name = doc_word(edge, "name");
	r->instance = newest(edge);
	r->behind_ms = r->switched_ms = r->took_ms = -1;
	sets = json_object_get(r->instance, "sets");
	for (i = 0; i < json_array_size(sets); i++) {
		s = json_array_get(sets, i);
		ahead = ahead || doc_true(s, "ahead");
		if (doc_number(s, "behind") > r->behind)
			r->behind = doc_number(s, "behind");
		if (!doc_true(s, "current") && !doc_true(s, "ahead") &&
		    (ms = doc_ms(s, "behind_ms")) > r->behind_ms)
			r->behind_ms = ms;
		ms = doc_ms(s, "switched_ms_ago");
		if (ms >= 0 && (r->switched_ms < 0 || ms < r->switched_ms)) {
			r->switched_ms = ms;
			r->took_ms = doc_ms(s, "switch_ms");
		}
	}
	r->state = judge(r, ahead, doc_true(edge, "duplicate"));
}

static int
row_cmp(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->state != y->state)
		return (x->state < y->state ? -1 : 1);
	if (x->behind_ms != y->behind_ms)
		return (x->behind_ms > y->behind_ms ? -1 : 1);
	return (strcmp(x->name, y->name));
}

/* All edges in the order in which they are shown; NULL: out of memory. */
struct row *
rows_new(const json_t *edges)
{
	size_t n = json_array_size(edges), i;
	struct row *rows;

	if ((rows = calloc(n + 1, sizeof(*rows))) == NULL)
		return (NULL);
	for (i = 0; i < n; i++)
		row_fill(&rows[i], json_array_get(edges, i));
	qsort(rows, n, sizeof(*rows), row_cmp);
	return (rows);
}

/* What the edge says of that set; NULL: nothing. */
const json_t *
row_set(const struct row *r, const char *set)
{
	const json_t *sets = json_object_get(r->instance, "sets"), *s;
	size_t i;

	for (i = 0; i < json_array_size(sets); i++) {
		s = json_array_get(sets, i);
		if (strcmp(doc_word(s, "name"), set) == 0)
			return (s);
	}
	return (NULL);
}

static void
show_row_sets(const struct row *r)
{
	const json_t *sets = json_object_get(r->instance, "sets"), *s;
	char name[DOC_SET], ago[DOC_DURATION];
	uint64_t generation;
	size_t i, n = 0;

	for (i = 0; i < json_array_size(sets); i++) {
		s = json_array_get(sets, i);
		if (doc_true(s, "current") || n++ >= SETS_SHOWN)
			continue;
		generation = doc_number(s, "generation");
		(void)printf("    %s: ", doc_text(s, "name", name,
		    sizeof(name)));
		if (generation == 0)
			(void)printf("no generation yet");
		else
			(void)printf("generation %" PRIu64, generation);
		if (doc_number(s, "behind") > 0)
			(void)printf(" of %" PRIu64 ", behind for %s",
			    generation + doc_number(s, "behind"),
			    doc_duration(doc_ms(s, "behind_ms"), ago));
		else
			(void)printf(doc_true(s, "ahead") ?
			    ", more than this master has" :
			    ", but with another head than here");
		(void)printf("\n");
	}
	if (n > SETS_SHOWN)
		(void)printf("    and %zu more sets\n", n - SETS_SHOWN);
}

static void
show_row(const struct row *r)
{
	char name[LOG_TEXT], lease[DOC_DURATION], lag[DOC_DURATION], ago[DOC_DURATION], took[DOC_DURATION];
	char version[LOG_TEXT], bytes[COMMAND_BYTES], behind[24];
	int64_t left = doc_ms(r->instance, "lease_left_ms");
	char switched[DOC_DURATION + 4];

	(void)log_escape(name, sizeof(name), r->name, strlen(r->name));
	if (strlen(name) > EDGE_WIDTH) {
		(void)printf("%s\n", name);
		name[0] = '\0';
	}
	(void)snprintf(behind, sizeof(behind), r->behind > 0 ? "%" PRIu64 :
	    "-", r->behind);
	(void)snprintf(switched, sizeof(switched), r->switched_ms < 0 ? "-" :
	    "%s ago", doc_duration(r->switched_ms, ago));
	(void)printf("%-*s %-8s %5s %6s %5s %8s %6s %-8.8s %8s\n", EDGE_WIDTH,
	    name, states[r->state].word, doc_duration(left > 0 ? left : -1, lease),
	    behind, doc_duration(r->behind_ms, lag), switched,
	    short_time(r->took_ms, took),
	    doc_text(r->instance, "version", version, sizeof(version)),
	    r->instance == NULL ? "-" : command_bytes(doc_number(
	    json_object_get(r->instance, "counters"), "cache_bytes"), bytes));
	if (r->state == EDGE_UNLEASED)
		(void)printf("    last heard of %s ago\n", doc_duration(
		    doc_ms(r->instance, "last_renewal_ms_ago"), ago));
	if (r->state == EDGE_NEVER)
		(void)printf("    never heard of since this master started\n");
	if (r->state == EDGE_DOUBLE)
		(void)printf("    two hosts use this key at the same time: give each its own\n    (pkgcast edge invite)\n");
	show_row_sets(r);
}

/* "1,000 edges: 998 current, 1 behind, 1 without lease" */
static void
show_summary(const struct row *rows, size_t n)
{
	size_t count[EDGE_STATES] = { 0 }, i, column;
	char number[32], part[64];
	const char *comma = ": ";
	enum edge_state s;

	for (i = 0; i < n; i++)
		count[rows[i].state]++;
	column = (size_t)printf("\n%s edge%s", thousands(n, number),
	    n == 1 ? "" : "s");
	for (i = 0; i < EDGE_STATES; i++) {
		/* What is well first. */
		s = (enum edge_state)((i + EDGE_CURRENT) % EDGE_STATES);
		if (count[s] == 0)
			continue;
		(void)snprintf(part, sizeof(part), "%s %s",
		    thousands(count[s], number), states[s].counted);
		if (column + strlen(part) + 2 >= COLUMNS) {
			(void)printf(",\n    ");
			comma = "";
			column = 4;
		}
		column += (size_t)printf("%s%s", comma, part);
		comma = ", ";
	}
	(void)printf("\n");
}

void
rows_show(const struct row *rows, size_t n, bool all)
{
	size_t i, shown = n, current = 0;

	if (n == 0) {
		(void)printf("\nno edge is allowed yet (pkgcast edge invite)\n");
		return;
	}
	show_summary(rows, n);
	if (!all && n > FEW_EDGES) {
		while (current < n &&
		    rows[n - 1 - current].state == EDGE_CURRENT)
			current++;
		shown = n - current < FEW_EDGES ? n - current : FEW_EDGES;
	}
	if (shown > 0)
		(void)printf("\n%-*s %-8s %5s %6s %5s %8s %6s %-8s %8s\n",
		    EDGE_WIDTH, "EDGE", "STATE", "LEASE", "BEHIND", "FOR",
		    "SWITCHED", "TOOK", "VERSION", "CACHE");
	for (i = 0; i < shown; i++)
		show_row(&rows[i]);
	if (n - current > shown)
		(void)printf("and %zu more that are not current (--all shows every edge)\n",
		    n - current - shown);
}
