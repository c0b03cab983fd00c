/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The messages of the lease socket, renew and lease (pkgcast-protocol(7)), and
 * the only file of proto/ that names jansson.  What comes in is as strange as
 * its sender likes: every member is known, there, of its type and in its range,
 * or the message is refused.  No state; any thread.
 */

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "proto/log.h"
#include "proto/message.h"

#define	NUMBER_MAX	HEAD_GENERATION_MAX	/* exact in every JSON reader */
#define	TTL_MAX_MS	3600000
#define	WHERE_MAX	32

/*
 * A member that an object may have.  JSON_TRUE stands for both booleans.
 * value is NULL where an optional one is absent.
 */
struct member {
	const char	*name;
	json_type	 type;
	bool		 optional;
	json_t		*value;
};

static const char *
type_name(json_type t)
{

	switch (t) {
	case JSON_OBJECT:
		return ("an object");
	case JSON_ARRAY:
		return ("an array");
	case JSON_STRING:
		return ("a string");
	case JSON_INTEGER:
		return ("an integer");
	default:
		return ("true or false");
	}
}

static bool
has_type(const json_t *v, json_type t)
{

	if (t == JSON_TRUE)
		return (json_is_boolean(v));
	return (json_typeof(v) == t);
}

/* Exactly the n members, each of its type; `where` for messages. */
static int
take_members(json_t *o, const char *where, struct member *m, size_t n,
    struct parse_error *err)
{
	char shown[LOG_TEXT];
	const char *key;
	json_t *value;			/* of the loop; not needed */
	size_t i;

	if (!json_is_object(o))
		return (parse_fail(err, 0, "%s is not an object", where));
	for (i = 0; i < n; i++) {
		m[i].value = json_object_get(o, m[i].name);
		if (m[i].value == NULL && !m[i].optional)
			return (parse_fail(err, 0, "\"%s\" of %s is missing",
			    m[i].name, where));
		if (m[i].value != NULL && !has_type(m[i].value, m[i].type))
			return (parse_fail(err, 0, "\"%s\" of %s is not %s",
			    m[i].name, where, type_name(m[i].type)));
	}
	json_object_foreach(o, key, value) {
		for (i = 0; i < n && strcmp(m[i].name, key) != 0; i++)
			continue;
		if (i == n)
			return (parse_fail(err, 0,
			    "unknown member \"%.64s\" of %s", log_escape(shown,
			    sizeof(shown), key, strlen(key)), where));
	}
	return (0);
}

static int
take_number(const struct member *m, const char *where, uint64_t max,
    uint64_t *out, struct parse_error *err)
{
	json_int_t n = json_integer_value(m->value);

	if (n < 0 || (uint64_t)n > max)
		return (parse_fail(err, 0,
		    "\"%s\" of %s is not between 0 and %ju", m->name, where,
		    (uintmax_t)max));
	*out = (uint64_t)n;
	return (0);
}

static int
take_digest(const struct member *m, const char *where, struct digest *d,
    struct parse_error *err)
{

	if (digest_parse(d, json_string_value(m->value),
	    json_string_length(m->value)) == -1)
		return (parse_fail(err, 0,
		    "\"%s\" of %s is not 64 lower-case hex digits", m->name,
		    where));
	return (0);
}

static int
take_instance(const struct member *m, const char *where,
    char out[INSTANCE_HEX + 1], struct parse_error *err)
{
	const char *s = json_string_value(m->value);
	size_t len = json_string_length(m->value);

	if (len != INSTANCE_HEX || strspn(s, "0123456789abcdef") != len)
		return (parse_fail(err, 0,
		    "\"%s\" of %s is not %d lower-case hex digits", m->name,
		    where, INSTANCE_HEX));
	memcpy(out, s, len + 1);
	return (0);
}

static int
take_version(const struct member *m, const char *where, char *out, size_t size,
    struct parse_error *err)
{
	const char *s = json_string_value(m->value);
	size_t i, len = json_string_length(m->value);

	for (i = 0; i < len && s[i] > ' ' && s[i] <= '~'; i++)
		continue;
	if (len == 0 || len >= size || i < len)
		return (parse_fail(err, 0,
		    "\"%s\" of %s is not 1 to %zu printable bytes", m->name,
		    where, size - 1));
	memcpy(out, s, len + 1);
	return (0);
}

static int
take_set_name(const json_t *v, const char *where, char out[SET_NAME_MAX + 1],
    struct parse_error *err)
{

	if (!json_is_string(v) || !set_name_ok(json_string_value(v),
	    json_string_length(v)))
		return (parse_fail(err, 0, "name of a set in %s is malformed",
		    where));
	memcpy(out, json_string_value(v), json_string_length(v) + 1);
	return (0);
}

/* The shape of a head, whole or not: its parser is the receiver's business. */
static char *
take_head(const json_t *v, const char *where, size_t *out_len,
    struct parse_error *err)
{
	const char *s = json_string_value(v);
	size_t i = 0, len = json_string_length(v);
	char *copy;

	if (json_is_string(v) && len > 0 && len <= HEAD_MAX)
		for (; i < len; i++)
			if ((s[i] < ' ' || s[i] > '~') && s[i] != '\n' &&
			    s[i] != '\t')
				break;
	if (i == 0 || i < len) {
		(void)parse_fail(err, 0, "head in %s is malformed", where);
		return (NULL);
	}
	if ((copy = malloc(len + 1)) == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		return (NULL);
	}
	memcpy(copy, s, len + 1);
	if (out_len != NULL)
		*out_len = len;
	return (copy);
}

static json_t *
load(const char *json, size_t len, struct parse_error *err)
{
	char shown[LOG_TEXT];
	json_error_t e;
	json_t *o;

	if (len > MESSAGE_MAX) {
		(void)parse_fail(err, 0, "longer than %d bytes", MESSAGE_MAX);
		return (NULL);
	}
	if ((o = json_loadb(json, len, JSON_REJECT_DUPLICATES, &e)) == NULL)
		(void)parse_fail(err, 0, "not JSON at byte %d: %.120s",
		    e.position, log_escape(shown, sizeof(shown), e.text,
		    strlen(e.text)));
	return (o);
}

/* JSON of o, whose reference is consumed; NULL: too large or no memory. */
static char *
dump(json_t *o, bool complete, size_t *len)
{
	char *text = NULL;

	if (complete)
		text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (text != NULL && (*len = strlen(text)) > MESSAGE_MAX) {
		free(text);
		text = NULL;
	}
	return (text);
}

static json_t *
number(uint64_t n)
{

	return (json_integer((json_int_t)(n < NUMBER_MAX ? n : NUMBER_MAX)));
}

static json_t *
digest_text(const struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	return (json_string(digest_hex(d, hex)));
}

/*
 * json_object_set_new() and json_array_append_new() take the value's reference,
 * accept NULL for either argument, and then return -1.
 */
#define	SET(o, name, v)	(json_object_set_new((o), (name), (v)) == 0)

static json_t *
set_json(const struct renew_set *s)
{
	json_t *o = json_object();

	if (SET(o, "name", json_string(s->name)) &&
	    SET(o, "generation", number(s->generation)) &&
	    (s->generation == 0 ||
	    SET(o, "digest", digest_text(&s->digest))) &&
	    (!s->has_prepared ||
	    SET(o, "prepared", digest_text(&s->prepared))) &&
	    (s->ahead == NULL || SET(o, "head", json_string(s->ahead))))
		return (o);
	json_decref(o);
	return (NULL);
}

#define	COUNTERS(X) \
	X(requests) X(hits) X(misses) X(fills) X(fill_bytes) X(cache_bytes) \
	X(cache_max)

char *
renew_write(const struct renew *r, size_t *len)
{
	json_t *o = json_object(), *sets = json_array();
	json_t *counters = json_object();
	bool ok = r->nset <= MESSAGE_SETS;
	size_t i;

	for (i = 0; ok && i < r->nset; i++)
		ok = json_array_append_new(sets, set_json(&r->set[i])) == 0;
#define	WRITE_COUNTER(name) \
	ok = SET(counters, #name, number(r->counters.name)) && ok;
	COUNTERS(WRITE_COUNTER)
	ok = SET(o, "sequence", number(r->sequence)) && ok;
	ok = SET(o, "instance", json_string(r->instance)) && ok;
	ok = SET(o, "version", json_string(r->version)) && ok;
	ok = SET(o, "all", json_boolean(r->all)) && ok;
	ok = SET(o, "sets", sets) && ok;
	ok = SET(o, "counters", counters) && ok;
	return (dump(o, ok, len));
}

static int
take_counters(struct renew *r, json_t *o, struct parse_error *err)
{
#define	COUNTER_MEMBER(name)	{ #name, JSON_INTEGER, false, NULL },
	struct member m[] = { COUNTERS(COUNTER_MEMBER) };
	size_t i = 0;

	if (take_members(o, "\"counters\"", m, sizeof(m) / sizeof(m[0]),
	    err) == -1)
		return (-1);
#define	TAKE_COUNTER(name) \
	if (take_number(&m[i++], "\"counters\"", NUMBER_MAX, \
	    &r->counters.name, err) == -1) \
		return (-1);
	COUNTERS(TAKE_COUNTER)
	return (0);
}

static int
take_set(struct renew_set *s, json_t *o, size_t index,
    struct parse_error *err)
{
	enum { NAME, GENERATION, DIGEST, PREPARED, HEAD };
	struct member m[] = {
		[NAME] = { "name", JSON_STRING, false, NULL },
		[GENERATION] = { "generation", JSON_INTEGER, false, NULL },
		[DIGEST] = { "digest", JSON_STRING, true, NULL },
		[PREPARED] = { "prepared", JSON_STRING, true, NULL },
		[HEAD] = { "head", JSON_STRING, true, NULL },
	};
	char where[WHERE_MAX];

	(void)snprintf(where, sizeof(where), "set %zu", index);
	if (take_members(o, where, m, sizeof(m) / sizeof(m[0]), err) == -1 ||
	    take_set_name(m[NAME].value, where, s->name, err) == -1 ||
	    take_number(&m[GENERATION], where, HEAD_GENERATION_MAX,
	    &s->generation, err) == -1)
		return (-1);
	if ((m[DIGEST].value != NULL) != (s->generation > 0))
		return (parse_fail(err, 0,
		    "\"digest\" of %s must be there if \"generation\" is not 0, and only then",
		    where));
	if (m[DIGEST].value != NULL &&
	    take_digest(&m[DIGEST], where, &s->digest, err) == -1)
		return (-1);
	s->has_prepared = m[PREPARED].value != NULL;
	if (s->has_prepared &&
	    take_digest(&m[PREPARED], where, &s->prepared, err) == -1)
		return (-1);
	if (m[HEAD].value != NULL &&
	    (s->ahead = take_head(m[HEAD].value, where, NULL, err)) == NULL)
		return (-1);
	return (0);
}

static int
take_sets(struct renew *r, json_t *a, struct parse_error *err)
{
	size_t i, j, n = json_array_size(a);

	if (n > MESSAGE_SETS)
		return (parse_fail(err, 0, "more than %d sets", MESSAGE_SETS));
	if (n > 0 && (r->set = calloc(n, sizeof(*r->set))) == NULL)
		return (parse_fail(err, 0, "out of memory"));
	r->nset = n;
	for (i = 0; i < n; i++) {
		if (take_set(&r->set[i], json_array_get(a, i), i, err) == -1)
			return (-1);
		for (j = 0; j < i; j++)
			if (strcmp(r->set[i].name, r->set[j].name) == 0)
				return (parse_fail(err, 0,
				    "sets %zu and %zu have the same name", j,
				    i));
	}
	return (0);
}

struct renew *
renew_parse(const char *json, size_t len, struct parse_error *err)
{
	enum { SEQUENCE, INSTANCE, VERSION, ALL, SETS, COUNTERS_OF };
	struct member m[] = {
		[SEQUENCE] = { "sequence", JSON_INTEGER, false, NULL },
		[INSTANCE] = { "instance", JSON_STRING, false, NULL },
		[VERSION] = { "version", JSON_STRING, false, NULL },
		[ALL] = { "all", JSON_TRUE, false, NULL },
		[SETS] = { "sets", JSON_ARRAY, false, NULL },
		[COUNTERS_OF] = { "counters", JSON_OBJECT, false, NULL },
	};
	const char *where = "renew";
	struct renew *r = NULL;
	json_t *o;

	if ((o = load(json, len, err)) == NULL ||
	    take_members(o, where, m, sizeof(m) / sizeof(m[0]), err) == -1)
		goto out;
	if ((r = calloc(1, sizeof(*r))) == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		goto out;
	}
	r->all = json_is_true(m[ALL].value);
	if (take_number(&m[SEQUENCE], where, NUMBER_MAX, &r->sequence,
	    err) == -1 ||
	    take_instance(&m[INSTANCE], where, r->instance, err) == -1 ||
	    take_version(&m[VERSION], where, r->version, sizeof(r->version),
	    err) == -1 ||
	    take_sets(r, m[SETS].value, err) == -1 ||
	    take_counters(r, m[COUNTERS_OF].value, err) == -1)
		renew_destroy(&r);
out:
	json_decref(o);
	return (r);
}

void
renew_free(struct renew *r)
{
	size_t i;

	for (i = 0; i < r->nset; i++)
		free(r->set[i].ahead);
	free(r->set);
	r->set = NULL;
	r->nset = 0;
}

void
renew_destroy(struct renew **r)
{

	if (*r == NULL)
		return;
	renew_free(*r);
	free(*r);
	*r = NULL;
}

char *
lease_write(const struct lease *l, size_t *len)
{
	json_t *o = json_object(), *behind = json_array();
	json_t *prepare = json_array();
	bool ok = l->nbehind <= MESSAGE_SETS && l->nprepare <= MESSAGE_SETS;
	size_t i;

	for (i = 0; ok && i < l->nbehind; i++)
		ok = json_array_append_new(behind,
		    json_string(l->behind[i])) == 0;
	for (i = 0; ok && i < l->nprepare; i++)
		ok = json_array_append_new(prepare, json_stringn(
		    l->prepare[i].text, l->prepare[i].len)) == 0;
	ok = SET(o, "sequence", number(l->sequence)) && ok;
	ok = SET(o, "instance", json_string(l->instance)) && ok;
	ok = SET(o, "ttl_ms", number(l->ttl_ms)) && ok;
	ok = SET(o, "trust", number(l->trust)) && ok;
	ok = SET(o, "behind", behind) && ok;
	ok = SET(o, "prepare", prepare) && ok;
	return (dump(o, ok, len));
}

static int
take_behind(struct lease *l, json_t *a, struct parse_error *err)
{
	size_t i, j, n = json_array_size(a);

	if (n > MESSAGE_SETS)
		return (parse_fail(err, 0, "more than %d sets in \"behind\"",
		    MESSAGE_SETS));
	if (n > 0 && (l->behind = calloc(n, sizeof(*l->behind))) == NULL)
		return (parse_fail(err, 0, "out of memory"));
	l->nbehind = n;
	for (i = 0; i < n; i++) {
		if (take_set_name(json_array_get(a, i), "\"behind\"",
		    l->behind[i], err) == -1)
			return (-1);
		for (j = 0; j < i; j++)
			if (strcmp(l->behind[i], l->behind[j]) == 0)
				return (parse_fail(err, 0,
				    "a set stands twice in \"behind\""));
	}
	return (0);
}

static int
take_prepare(struct lease *l, json_t *a, struct parse_error *err)
{
	size_t i, n = json_array_size(a);

	if (n > MESSAGE_SETS)
		return (parse_fail(err, 0, "more than %d heads in \"prepare\"",
		    MESSAGE_SETS));
	if (n > 0 && (l->prepare = calloc(n, sizeof(*l->prepare))) == NULL)
		return (parse_fail(err, 0, "out of memory"));
	l->nprepare = n;
	for (i = 0; i < n; i++)
		if ((l->prepare[i].text = take_head(json_array_get(a, i),
		    "\"prepare\"", &l->prepare[i].len, err)) == NULL)
			return (-1);
	return (0);
}

struct lease *
lease_parse(const char *json, size_t len, struct parse_error *err)
{
	enum { SEQUENCE, INSTANCE, TTL, TRUST, BEHIND, PREPARE };
	struct member m[] = {
		[SEQUENCE] = { "sequence", JSON_INTEGER, false, NULL },
		[INSTANCE] = { "instance", JSON_STRING, false, NULL },
		[TTL] = { "ttl_ms", JSON_INTEGER, false, NULL },
		[TRUST] = { "trust", JSON_INTEGER, false, NULL },
		[BEHIND] = { "behind", JSON_ARRAY, false, NULL },
		[PREPARE] = { "prepare", JSON_ARRAY, false, NULL },
	};
	const char *where = "lease";
	struct lease *l = NULL;
	json_t *o;

	if ((o = load(json, len, err)) == NULL ||
	    take_members(o, where, m, sizeof(m) / sizeof(m[0]), err) == -1)
		goto out;
	if ((l = calloc(1, sizeof(*l))) == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		goto out;
	}
	if (take_number(&m[SEQUENCE], where, NUMBER_MAX, &l->sequence,
	    err) == -1 ||
	    take_instance(&m[INSTANCE], where, l->instance, err) == -1 ||
	    take_number(&m[TTL], where, TTL_MAX_MS, &l->ttl_ms, err) == -1 ||
	    take_number(&m[TRUST], where, NUMBER_MAX, &l->trust, err) == -1 ||
	    take_behind(l, m[BEHIND].value, err) == -1 ||
	    take_prepare(l, m[PREPARE].value, err) == -1)
		lease_destroy(&l);
out:
	json_decref(o);
	return (l);
}

void
lease_destroy(struct lease **l)
{
	size_t i;

	if (*l == NULL)
		return;
	free((*l)->behind);
	for (i = 0; i < (*l)->nprepare; i++)
		free((*l)->prepare[i].text);
	free((*l)->prepare);
	free(*l);
	*l = NULL;
}
