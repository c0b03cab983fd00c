/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The master's status document as a table: sets and their last switch, edges,
 * what is being published, trust.  Called by cmd_status.c, in the program's one
 * thread.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/command.h"
#include "master/status_row.h"
#include "master/status_text.h"
#include "proto/clock.h"
#include "proto/date.h"
#include "proto/log.h"

#define	NAMES_SHOWN	8		/* in one line */

/*
 * Sets
 */

/* Names, of which only the first are shown: add_name() each, then end_names(). */
struct names {
	const char	*lead;
	size_t		 n;
};

static void
add_name(struct names *l, const char *name, const char *more)
{
	char text[LOG_TEXT];

	if (l->n++ < NAMES_SHOWN)
		(void)printf("%s%s%s", l->n == 1 ? l->lead : ", ",
		    log_escape(text, sizeof(text), name, strlen(name)), more);
}

static void
end_names(const struct names *l, const char *tail)
{

	if (l->n > NAMES_SHOWN)
		(void)printf(" and %zu more", l->n - NAMES_SHOWN);
	if (l->n > 0)
		(void)printf("%s", tail);
}

static const struct row *
row_named(const struct row *rows, size_t n, const char *name)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (strcmp(rows[i].name, name) == 0)
			return (&rows[i]);
	return (NULL);
}

/* Whose lease ran out before it had switched, and what became of it. */
static void
show_missing(const json_t *missing, const char *set, const struct row *rows,
    size_t n)
{
	struct names names = { .lead = "    not switched in time: " };
	const struct row *r;
	const char *name;
	size_t i;

	for (i = 0; i < json_array_size(missing); i++) {
		if ((name = json_string_value(json_array_get(missing, i))) ==
		    NULL)
			continue;
		r = names.n < NAMES_SHOWN ? row_named(rows, n, name) : NULL;
		add_name(&names, name, r != NULL && doc_true(row_set(r, set),
		    "current") ? " (has since)" : "");
	}
	end_names(&names, "\n");
}

/* Edges with a lease that are waited for. */
static void
show_waiting(const char *set, const struct row *rows, size_t n)
{
	struct names names = { .lead = "    waiting for: " };
	const json_t *s;
	size_t i;

	for (i = 0; i < n; i++)
		if (rows[i].instance != NULL &&
		    doc_number(rows[i].instance, "lease_left_ms") > 0 &&
		    (s = row_set(&rows[i], set)) != NULL &&
		    !doc_true(s, "current"))
			add_name(&names, rows[i].name, "");
	end_names(&names, "\n");
}

static void
show_switch(const json_t *sw, const char *set, const struct row *rows,
    size_t n)
{
	char name[LOG_TEXT];
	bool slowest;

	if (!json_is_object(sw))
		return;
	if (doc_number(sw, "leased") == 0) {
		(void)printf("    no edge held a lease when it was published\n");
		return;
	}
	(void)printf("    switched %" PRIu64 " of %" PRIu64 " edges",
	    doc_number(sw, "acked"), doc_number(sw, "leased"));
	if (doc_number(sw, "acked") > 0) {
		(void)doc_text(sw, "slowest", name, sizeof(name));
		slowest = name[0] != '\0' && strcmp(name, "-") != 0;
		(void)printf(": p50 %" PRIu64 " ms, p99 %" PRIu64
		    " ms, slowest %s%s%" PRIu64 " ms", doc_number(sw, "p50_ms"),
		    doc_number(sw, "p99_ms"), slowest ? name : "",
		    slowest ? " " : "", doc_number(sw, "max_ms"));
	}
	(void)printf("\n");
	if (json_is_false(json_object_get(sw, "done")))
		show_waiting(set, rows, n);
	show_missing(json_object_get(sw, "missing"), set, rows, n);
}

/* Edges that hold more than this master has of the set. */
static void
show_ahead(const char *set, uint64_t here, const struct row *rows, size_t n)
{
	struct names names = { .lead = "    AHEAD: " };
	uint64_t most = 0;
	const json_t *s;
	size_t i;

	for (i = 0; i < n && rows[i].state == EDGE_AHEAD; i++) {
		if (!doc_true(s = row_set(&rows[i], set), "ahead"))
			continue;
		add_name(&names, rows[i].name, "");
		if (doc_number(s, "generation") > most)
			most = doc_number(s, "generation");
	}
	if (most == 0)
		return;
	end_names(&names, names.n == 1 ? " holds" : " hold");
	(void)printf(" generation %" PRIu64 ", this master has ", most);
	if (here == 0)
		(void)printf("none");
	else
		(void)printf("%" PRIu64, here);
	(void)printf(":\n    publish the set again, which numbers above it (pkgcast-master(8), MOVING\n    AND RESTORING)\n");
}

static void
show_set(const json_t *s, const struct row *rows, size_t n)
{
	char name[DOC_SET], age[DOC_DURATION], size[COMMAND_BYTES];
	const char *created = json_string_value(json_object_get(s, "created"));
	int64_t t;

	if (created == NULL ||
	    date_iso_parse(created, strlen(created), &t) == -1)
		(void)doc_duration(-1, age);
	else
		(void)doc_duration(clock_real() > t ? (clock_real() - t) * 1000 :
		    0, age);
	(void)printf("%-36s %10" PRIu64 " %8s %9" PRIu64 " %9s\n",
	    doc_text(s, "name", name, sizeof(name)),
	    doc_number(s, "generation"), age, doc_number(s, "files"),
	    command_bytes(doc_number(s, "bytes"), size));
	show_switch(json_object_get(s, "switch"), doc_word(s, "name"), rows, n);
	show_ahead(doc_word(s, "name"), doc_number(s, "generation"), rows, n);
}

static bool
is_here(const json_t *sets, const char *name)
{
	size_t i;

	for (i = 0; i < json_array_size(sets); i++)
		if (strcmp(doc_word(json_array_get(sets, i), "name"), name) ==
		    0)
			return (true);
	return (false);
}

/* Sets that edges hold and this master lacks: it has lost them. */
static void
show_lost(const json_t *sets, const struct row *rows, size_t n)
{
	const json_t *list;
	const char *name;
	char text[DOC_SET];
	json_t *seen = json_object();
	size_t i, k;

	for (i = 0; i < n && rows[i].state == EDGE_AHEAD; i++) {
		list = json_object_get(rows[i].instance, "sets");
		for (k = 0; k < json_array_size(list); k++) {
			name = doc_word(json_array_get(list, k), "name");
			if (!doc_true(json_array_get(list, k), "ahead") ||
			    is_here(sets, name) ||
			    json_object_get(seen, name) != NULL)
				continue;
			(void)json_object_set_new(seen, name, json_true());
			(void)printf("%-36s %10s %8s %9s %9s\n",
			    log_escape(text, sizeof(text), name,
			    strlen(name)), "-", "-", "-", "-");
			show_ahead(name, 0, rows, n);
		}
	}
	json_decref(seen);
}

static void
show_sets(const json_t *sets, const struct row *rows, size_t n)
{
	size_t i;

	(void)printf("%-36s %10s %8s %9s %9s\n", "SET", "GENERATION", "AGE",
	    "FILES", "SIZE");
	for (i = 0; i < json_array_size(sets); i++)
		show_set(json_array_get(sets, i), rows, n);
	if (json_array_size(sets) == 0)
		(void)printf("nothing is published yet\n");
	show_lost(sets, rows, n);
}

/*
 * The rest
 */
static void
show_publishing(const json_t *list)
{
	char name[DOC_SET], state[LOG_TEXT], reason[LOG_TEXT];
	const json_t *p;
	size_t i;

	for (i = 0; i < json_array_size(list); i++) {
		p = json_array_get(list, i);
		(void)doc_text(p, "reason", reason, sizeof(reason));
		(void)printf("%s%s: publishing generation %" PRIu64
		    ": %s%s%s", i == 0 ? "\n" : "",
		    doc_text(p, "set", name, sizeof(name)),
		    doc_number(p, "generation"),
		    doc_text(p, "state", state, sizeof(state)),
		    reason[0] == '\0' ? "" : ": ", reason);
		if (doc_number(p, "preparing") > 0)
			(void)printf(", %" PRIu64 " of %" PRIu64
			    " edges are ready", doc_number(p, "prepared"),
			    doc_number(p, "preparing"));
		(void)printf("\n");
	}
}

static void
show_trust(const json_t *trust)
{
	char expires[LOG_TEXT];

	if (doc_number(trust, "version") == 0)
		(void)printf("\ntrust: none yet: nothing can be published (pkgcast trust init)\n");
	else
		(void)printf("\ntrust: version %" PRIu64 ", %s %s\n",
		    doc_number(trust, "version"), doc_true(trust, "expired") ?
		    "EXPIRED" : "expires",
		    doc_text(trust, "expires", expires, sizeof(expires)));
}

int
status_text(const void *document, bool all)
{
	const json_t *j = document, *sets = json_object_get(j, "sets");
	const json_t *edges = json_object_get(j, "edges");
	struct row *rows;
	size_t n = json_array_size(edges);

	if (!json_is_array(sets) ||
	    !json_is_object(json_object_get(j, "trust")) ||
	    (rows = rows_new(edges)) == NULL)
		return (-1);
	show_sets(sets, rows, n);
	rows_show(rows, n, all);
	show_publishing(json_object_get(j, "publishing"));
	show_trust(json_object_get(j, "trust"));
	free(rows);
	return (0);
}
