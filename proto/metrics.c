/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Status documents as samples for Prometheus.  So there is one list of what a
 * daemon counts, and both forms of it tell the same.  Called by serve.c and by
 * the master's status listener.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "proto/buf.h"
#include "proto/metrics.h"

#define	TEXT_MAX	(64u << 20)	/* bytes */
#define	NAME_SIZE	192u
#define	LABELS_SIZE	1024u
#define	PREFIX		"pkgcast"

/* What leads to a value. */
struct at {
	char	name[NAME_SIZE];
	char	labels[LABELS_SIZE];	/* with commas; "" for none */
};

static void	add_object(struct buf *b, const struct at *at, json_t *o);

/* Names are of letters, digits and "_". */
static bool
extend_name(struct at *at, const char *member)
{
	size_t n = strlen(at->name), i;

	if (n + 1 + strlen(member) >= sizeof(at->name))
		return (false);
	at->name[n++] = '_';
	for (i = 0; member[i] != '\0'; i++)
		at->name[n++] = strchr("abcdefghijklmnopqrstuvwxyz"
		    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", member[i]) !=
		    NULL ? member[i] : '_';
	at->name[n] = '\0';
	return (true);
}

/* Adds key="value", with what has a meaning of its own escaped. */
static bool
extend_labels(struct at *at, const char *key, const char *value)
{
	struct buf b = BUF_INIT(sizeof(at->labels) - 1 - strlen(at->labels));
	bool ok;

	(void)buf_addf(&b, "%s%s=\"", at->labels[0] != '\0' ? "," : "", key);
	for (; *value != '\0'; value++) {
		if (*value == '\n') {
			(void)buf_adds(&b, "\\n");
			continue;
		}
		if (*value == '"' || *value == '\\')
			(void)buf_adds(&b, "\\");
		(void)buf_add(&b, value, 1);
	}
	(void)buf_adds(&b, "\"");
	if ((ok = !b.failed))
		memcpy(at->labels + strlen(at->labels), b.p, b.len + 1);
	buf_free(&b);
	return (ok);
}

static void
add_value(struct buf *b, const struct at *at, json_t *v)
{
	const char *open = "", *close = "";

	if (!json_is_number(v) && !json_is_boolean(v))
		return;
	if (at->labels[0] != '\0') {
		open = "{";
		close = "}";
	}
	(void)buf_addf(b, "%s%s%s%s ", at->name, open, at->labels, close);
	if (json_is_real(v))
		(void)buf_addf(b, "%.17g\n", json_real_value(v));
	else
		(void)buf_addf(b, "%lld\n", json_is_boolean(v) ?
		    (long long)json_is_true(v) : (long long)json_integer_value(v));
}

/* The label that tells the objects of an array "sets" apart is "set". */
static void
one_of(const char *member, char key[NAME_SIZE])
{
	size_t n = strlen(member);

	(void)snprintf(key, NAME_SIZE, "%.*s", (int)(n > 1 &&
	    member[n - 1] == 's' ? n - 1 : n), member);
}

static void
add_array(struct buf *b, const struct at *at, const char *member,
    json_t *a)
{
	static const char *const names[] = { "name", "url", "instance" };
	const size_t nnames = sizeof(names) / sizeof(names[0]);
	char key[NAME_SIZE], number[24];
	const char *text;
	struct at below;
	json_t *o;
	size_t i, k;

	one_of(member, key);
	for (i = 0; i < json_array_size(a); i++) {
		if (!json_is_object(o = json_array_get(a, i)))
			continue;
		below = *at;
		(void)snprintf(number, sizeof(number), "%zu", i);
		for (text = NULL, k = 0; text == NULL && k < nnames; k++)
			text = json_string_value(json_object_get(o, names[k]));
		if (extend_labels(&below, key, text != NULL ? text : number))
			add_object(b, &below, o);
	}
}

static void
add_object(struct buf *b, const struct at *at, json_t *o)
{
	const char *member;
	struct at below;
	json_t *v;

	json_object_foreach(o, member, v) {
		below = *at;
		if (!extend_name(&below, member))
			continue;
		if (json_is_object(v))
			add_object(b, &below, v);
		else if (json_is_array(v))
			add_array(b, &below, member, v);
		else
			add_value(b, &below, v);
	}
}

static int
by_text(const void *a, const void *b)
{

	return (strcmp(*(const char *const *)a, *(const char *const *)b));
}

/* The format wants all samples of a name in a row.  Ends the text's use. */
static char *
sorted(char *text, size_t len)
{
	char **line, *out, *p, *end;
	size_t n = 0, i;

	for (p = text; (p = strchr(p, '\n')) != NULL; p++)
		n++;
	line = calloc(n + 1, sizeof(*line));
	out = malloc(len + 1);
	if (line != NULL && out != NULL) {
		for (i = 0, p = text; i < n; i++, p = end + 1) {
			line[i] = p;
			end = strchr(p, '\n');
			*end = '\0';
		}
		qsort(line, n, sizeof(*line), by_text);
		for (i = 0, p = out; i < n; i++) {
			p = stpcpy(p, line[i]);
			*p++ = '\n';
		}
		*p = '\0';
	} else {
		free(out);
		out = NULL;
	}
	free(line);
	free(text);
	return (out);
}

char *
metrics_of(char **text, size_t *len)
{
	struct buf b = BUF_INIT(TEXT_MAX);
	struct at at = { .name = PREFIX };
	json_t *o = NULL;
	char *out = NULL;

	if (*text != NULL)
		o = json_loads(*text, 0, NULL);
	free(*text);
	*text = NULL;
	if (o == NULL)
		return (NULL);
	add_object(&b, &at, o);
	json_decref(o);
	(void)buf_adds(&b, "");		/* even if there is nothing */
	if (!b.failed && (out = buf_take(&b, len)) != NULL)
		out = sorted(out, *len);
	buf_free(&b);
	return (out);
}
