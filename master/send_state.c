/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How far a publish is, as the publish listener tells in JSON.  Called by
 * master/send.c and master/release.c, in the program's one thread.
 */

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "master/send.h"
#include "proto/log.h"

#define	STATE_MAX	(4u << 20)	/* bytes of JSON */

void
send_url(struct buf *b, const char *base, const char *set)
{

	(void)buf_addf(b, "%s/publish/", base);
	(void)client_add_path(b, set);
}

void
send_state_free(struct send_state *s)
{

	free(s->missing);
	s->missing = NULL;
	s->nmissing = 0;
}

static uint64_t
number(const json_t *j, const char *name)
{
	json_int_t v = json_integer_value(json_object_get(j, name));

	return (v < 0 ? 0 : (uint64_t)v);
}

static void
copy_text(const json_t *j, const char *name, char *out, size_t size)
{
	const char *v = json_string_value(json_object_get(j, name));

	(void)log_escape(out, size, v == NULL ? "" : v,
	    v == NULL ? 0 : strlen(v));
}

static int
state_missing(struct send_state *s, const json_t *list)
{
	struct buf b = BUF_INIT(STATE_MAX);
	char name[LOG_TEXT];
	const json_t *item;
	size_t i;

	for (i = 0; i < json_array_size(list); i++) {
		item = json_array_get(list, i);
		if (!json_is_string(item))
			continue;
		(void)log_escape(name, sizeof(name), json_string_value(item),
		    json_string_length(item));
		(void)buf_addf(&b, "%s%s", s->nmissing == 0 ? "" : ", ",
		    name);
		s->nmissing++;
	}
	if (b.failed) {
		buf_free(&b);
		return (-1);
	}
	s->missing = buf_take(&b, NULL);
	return (0);
}

static int
state_parse(struct send_state *s, const char *text, size_t len)
{
	json_t *j;
	uint64_t known;
	int ret;

	memset(s, 0, sizeof(*s));
	if (text == NULL || (j = json_loadb(text, len, 0, NULL)) == NULL)
		return (-1);
	s->generation = s->highest = number(j, "generation");
	if ((known = number(j, "accepted")) > s->highest)
		s->highest = known;
	copy_text(j, "state", s->state, sizeof(s->state));
	copy_text(j, "reason", s->reason, sizeof(s->reason));
	s->acked = number(j, "acked");
	s->leased = number(j, "leased");
	s->tree_ms = (int64_t)number(j, "tree_ms");
	s->prepare_ms = (int64_t)number(j, "prepare_ms");
	s->p50_ms = (int64_t)number(j, "p50_ms");
	s->p99_ms = (int64_t)number(j, "p99_ms");
	s->max_ms = (int64_t)number(j, "max_ms");
	copy_text(j, "slowest", s->slowest, sizeof(s->slowest));
	ret = state_missing(s, json_object_get(j, "missing"));
	s->over = json_is_true(json_object_get(j, "done"));
	json_decref(j);
	return (ret);
}

int
send_state_get(struct client *c, const char *base, const char *set,
    struct send_state *s, bool *again, struct parse_error *err)
{
	struct client_request q = {
		.method = CLIENT_GET, .fd = -1, .max = STATE_MAX
	};
	struct buf url = BUF_INIT(CLIENT_URL_MAX);
	struct client_answer a;
	int ret = 1;

	memset(s, 0, sizeof(*s));
	send_url(&url, base, set);
	q.url = url.p;
	client_do(c, &q, &a);
	if (again != NULL)
		*again = a.again || a.status == 503;
	if (a.status == 404)
		ret = 0;
	else if (a.status == 0)
		ret = parse_fail(err, 0, "%s", a.error);
	else if (a.status != 200)
		ret = parse_fail(err, 0, "%s: answered with status %u", q.url,
		    a.status);
	else if (state_parse(s, a.body, a.len) == -1)
		ret = parse_fail(err, 0,
		    "%s: not the answer of a publish listener", q.url);
	client_answer_free(&a);
	buf_free(&url);
	return (ret);
}
