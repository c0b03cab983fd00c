/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pkgcast status: the origin's status document, as a table of 80 columns.
 * Called by master/pkgcast.c.
 */

#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "master/client.h"
#include "master/command.h"
#include "master/fetch.h"
#include "proto/clock.h"
#include "proto/date.h"
#include "proto/log.h"

#define	DAY_S	86400

static const char *
text_of(const json_t *j, const char *name, char *out, size_t size)
{
	const char *v = json_string_value(json_object_get(j, name));

	return (log_escape(out, size, v == NULL ? "-" : v,
	    v == NULL ? 1 : strlen(v)));
}

static uint64_t
number_of(const json_t *j, const char *name)
{
	json_int_t v = json_integer_value(json_object_get(j, name));

	return (v < 0 ? 0 : (uint64_t)v);
}

/* "3 s", "12 min", "5 h", "9 d" */
static const char *
duration(int64_t s, char out[COMMAND_BYTES])
{

	if (s < 0)
		s = 0;
	if (s < 120)
		(void)snprintf(out, COMMAND_BYTES, "%" PRId64 " s", s);
	else if (s < 7200)
		(void)snprintf(out, COMMAND_BYTES, "%" PRId64 " min", s / 60);
	else if (s < 2 * DAY_S)
		(void)snprintf(out, COMMAND_BYTES, "%" PRId64 " h", s / 3600);
	else
		(void)snprintf(out, COMMAND_BYTES, "%" PRId64 " d",
		    s / DAY_S);
	return (out);
}

static void
show_switch(const json_t *sw)
{
	char name[LOG_TEXT];
	const json_t *missing;
	const char *v;
	size_t i;

	if (!json_is_object(sw))
		return;
	(void)printf("    switched %" PRIu64 " of %" PRIu64 " edges",
	    number_of(sw, "acked"), number_of(sw, "leased"));
	if (number_of(sw, "acked") > 0) {
		v = json_string_value(json_object_get(sw, "slowest"));
		(void)printf(": p50 %" PRIu64 " ms, p99 %" PRIu64
		    " ms, slowest %s%s%" PRIu64 " ms", number_of(sw, "p50_ms"),
		    number_of(sw, "p99_ms"), v == NULL ? "" :
		    log_escape(name, sizeof(name), v, strlen(v)),
		    v == NULL ? "" : " ", number_of(sw, "max_ms"));
	}
	if (json_is_false(json_object_get(sw, "done")))
		(void)printf(" (still waiting)");
	(void)printf("\n");
	missing = json_object_get(sw, "missing");
	for (i = 0; i < json_array_size(missing); i++) {
		v = json_string_value(json_array_get(missing, i));
		(void)printf("    not switched: %s\n", v == NULL ? "?" :
		    log_escape(name, sizeof(name), v, strlen(v)));
	}
}

static void
show_sets(const json_t *sets)
{
	char name[SET_NAME_MAX * 4 + 1], age[COMMAND_BYTES];
	char size[COMMAND_BYTES];
	const char *created;
	const json_t *s;
	int64_t t;
	size_t i;

	(void)printf("%-36s %10s %8s %9s %9s\n", "SET", "GENERATION", "AGE",
	    "FILES", "SIZE");
	for (i = 0; i < json_array_size(sets); i++) {
		s = json_array_get(sets, i);
		created = json_string_value(json_object_get(s, "created"));
		if (created == NULL ||
		    date_iso_parse(created, strlen(created), &t) == -1)
			(void)snprintf(age, sizeof(age), "-");
		else
			(void)duration(clock_real() - t, age);
		(void)printf("%-36s %10" PRIu64 " %8s %9" PRIu64 " %9s\n",
		    text_of(s, "name", name, sizeof(name)),
		    number_of(s, "generation"), age, number_of(s, "files"),
		    command_bytes(number_of(s, "bytes"), size));
		show_switch(json_object_get(s, "switch"));
	}
	if (json_array_size(sets) == 0)
		(void)printf("nothing is published yet\n");
}

/* Generation of a set in the status document's list; 0: none. */
static uint64_t
generation_of(const json_t *sets, const char *name)
{
	const char *v;
	size_t i;

	for (i = 0; i < json_array_size(sets); i++) {
		v = json_string_value(json_object_get(json_array_get(sets, i),
		    "name"));
		if (v != NULL && name != NULL && strcmp(v, name) == 0)
			return (number_of(json_array_get(sets, i),
			    "generation"));
	}
	return (0);
}

static void
show_behind(const json_t *instance, const json_t *sets)
{
	const json_t *list = json_object_get(instance, "sets"), *s;
	char name[SET_NAME_MAX * 4 + 1];
	size_t i;

	for (i = 0; i < json_array_size(list); i++) {
		s = json_array_get(list, i);
		if (json_is_true(json_object_get(s, "current")))
			continue;
		(void)printf("    %s: generation %" PRIu64 ", here %" PRIu64
		    "\n", text_of(s, "name", name, sizeof(name)),
		    number_of(s, "generation"), generation_of(sets,
		    json_string_value(json_object_get(s, "name"))));
	}
}

static void
show_instance(const char *edge, const json_t *e, const json_t *instance,
    const json_t *sets)
{
	const json_t *list = json_object_get(instance, "sets");
	const json_t *counters = json_object_get(instance, "counters");
	char version[LOG_TEXT], seen[COMMAND_BYTES];
	char used[COMMAND_BYTES], max[COMMAND_BYTES];
	size_t i, behind = 0;

	for (i = 0; i < json_array_size(list); i++)
		behind += !json_is_true(json_object_get(json_array_get(list,
		    i), "current"));
	(void)printf("%-20s %-7s %6zu %10s %-9s %9s of %8s\n", edge,
	    json_is_true(json_object_get(instance, "leased")) ? "yes" : "no",
	    behind, duration((int64_t)(number_of(instance,
	    "last_renewal_ms_ago") / 1000), seen),
	    text_of(instance, "version", version, sizeof(version)),
	    command_bytes(number_of(counters, "cache_bytes"), used),
	    command_bytes(number_of(counters, "cache_max"), max));
	show_behind(instance, sets);
	if (json_is_true(json_object_get(e, "duplicate")))
		(void)printf("    two edges use this key at the same time: give each its own (edge invite)\n");
}

static void
show_edges(const json_t *edges, const json_t *sets)
{
	const json_t *e, *instances;
	char name[LOG_TEXT];
	size_t i, k;

	(void)printf("\n%-20s %-7s %6s %10s %-9s %21s\n", "EDGE", "LEASE",
	    "BEHIND", "SEEN AGO", "VERSION", "CACHE");
	for (i = 0; i < json_array_size(edges); i++) {
		e = json_array_get(edges, i);
		(void)text_of(e, "name", name, sizeof(name));
		instances = json_object_get(e, "instances");
		for (k = 0; k < json_array_size(instances); k++)
			show_instance(name, e, json_array_get(instances, k),
			    sets);
		if (json_array_size(instances) == 0)
			(void)printf("%-20s %-7s %6s %10s %-9s %21s\n", name,
			    "no", "-", "never", "-", "-");
	}
	if (json_array_size(edges) == 0)
		(void)printf("no edge is allowed yet (pkgcast edge invite)\n");
}

static void
show_publishing(const json_t *list)
{
	char name[SET_NAME_MAX * 4 + 1], state[LOG_TEXT], reason[LOG_TEXT];
	const json_t *p;
	size_t i;

	for (i = 0; i < json_array_size(list); i++) {
		p = json_array_get(list, i);
		(void)text_of(p, "reason", reason, sizeof(reason));
		(void)printf("%s%s: publishing generation %" PRIu64
		    ": %s%s%s\n", i == 0 ? "\n" : "",
		    text_of(p, "set", name, sizeof(name)),
		    number_of(p, "generation"),
		    text_of(p, "state", state, sizeof(state)),
		    reason[0] == '\0' ? "" : ": ", reason);
	}
}

static void
show_trust(const json_t *trust)
{
	char expires[LOG_TEXT];

	if (number_of(trust, "version") == 0)
		(void)printf("\ntrust: none yet: nothing can be published (pkgcast trust init)\n");
	else
		(void)printf("\ntrust: version %" PRIu64 ", %s %s\n",
		    number_of(trust, "version"),
		    json_is_true(json_object_get(trust, "expired")) ?
		    "EXPIRED" : "expires",
		    text_of(trust, "expires", expires, sizeof(expires)));
}

static int
show(const char *text, size_t len, const char *origin)
{
	const json_t *sets;
	json_t *j;

	if ((j = json_loadb(text, len, 0, NULL)) == NULL ||
	    !json_is_array(sets = json_object_get(j, "sets")) ||
	    !json_is_object(json_object_get(j, "trust"))) {
		warnx("%s/.pkgcast/status: not the status of a master",
		    origin);
		json_decref(j);
		return (COMMAND_FAILED);
	}
	show_sets(sets);
	show_edges(json_object_get(j, "edges"), sets);
	show_publishing(json_object_get(j, "publishing"));
	show_trust(json_object_get(j, "trust"));
	json_decref(j);
	return (COMMAND_DONE);
}

int
cmd_status(const struct pkgcast_conf *c, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 }
	};
	struct parse_error err;
	struct client *client;
	char *text;
	size_t len;
	bool json = false;
	int o, status = COMMAND_FAILED;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (o != 'j')
			return (command_usage("status"));
		json = true;
	}
	if (argc != optind)
		return (command_usage("status"));
	if ((client = client_new(NULL)) == NULL) {
		warnx("out of memory");
		return (COMMAND_FAILED);
	}
	text = fetch_document(client, c->origin, "status", FETCH_STATUS_MAX,
	    &len, NULL, &err);
	if (text == NULL)
		warnx("%s", err.reason);
	else if (!json)
		status = show(text, len, c->origin);
	else if (fwrite(text, 1, len, stdout) == len)
		status = len > 0 && text[len - 1] != '\n' &&
		    putchar('\n') == EOF ? COMMAND_FAILED : COMMAND_DONE;
	free(text);
	client_destroy(&client);
	return (status);
}
