/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration files of the three programs (pkgcast.conf(5)): from the tables
 * in config.h to their structs.  zpl.c reads the form and value.c knows what a
 * value must look like; here is what must be there.  Called while starting and
 * on HUP, one thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/config.h"
#include "proto/fd.h"
#include "proto/name.h"
#include "proto/value.h"
#include "proto/zpl.h"

#define	RESTART_MAX	4096
#define	DEFAULT_MAX	100		/* bytes of a default */

#define	MASTER_ROW(kind, section, key, field, def, restart) \
	{ ZPL_##kind, section, key, offsetof(struct master_conf, field), \
	    def, restart, false },
#define	EDGE_ROW(kind, section, key, field, def, restart) \
	{ ZPL_##kind, section, key, offsetof(struct edge_conf, field), \
	    def, restart, false },
#define	PKGCAST_ROW(kind, section, key, field, def, restart) \
	{ ZPL_##kind, section, key, offsetof(struct pkgcast_conf, field), \
	    def, restart, false },
#define	PLAIN_ROW(kind, section, key, field, def, restart) \
	{ ZPL_##kind, section, key, offsetof(struct plain_conf, field), \
	    def, restart, true },

#define	MASTER_LIMIT(kind, section, key, field, def, restart) \
	MASTER_ROW(kind, section, key, limits.field, def, restart)
#define	EDGE_LIMIT(kind, section, key, field, def, restart) \
	EDGE_ROW(kind, section, key, limits.field, def, restart)

static const struct zpl_key master_keys[] = {
	MASTER_KEYS(MASTER_ROW)
	HTTP_KEYS(MASTER_LIMIT)
};
static const struct zpl_key edge_keys[] = {
	EDGE_KEYS(EDGE_ROW)
	HTTP_KEYS(EDGE_LIMIT)
	/* Of a section that repeats, the first key is needed in each. */
	{ ZPL_S, "upstream", "url", 0, NULL, false, true },
	{ ZPL_S, "upstream", "kind", 0, "master", false, true },
	PLAIN_KEYS(PLAIN_ROW)
};
static const struct zpl_key plain_keys[] = { PLAIN_KEYS(PLAIN_ROW) };
static const struct zpl_key pkgcast_keys[] = { PKGCAST_KEYS(PKGCAST_ROW) };
#define	NKEYS(a)	(sizeof(a) / sizeof((a)[0]))

/* A file while it is read. */
struct load {
	const char		*file;
	struct zpl		*zpl;
	struct parse_error	*err;
};

/* Takes *s over. */
static int
list_add(struct config_list *list, char **s)
{
	char **v;

	if (*s == NULL || (v = realloc(list->v,
	    (list->n + 1) * sizeof(*v))) == NULL) {
		free(*s);
		*s = NULL;
		return (-1);
	}
	list->v = v;
	list->v[list->n++] = *s;
	*s = NULL;
	return (0);
}

static void
list_free(struct config_list *list)
{
	size_t i;

	for (i = 0; i < list->n; i++)
		free(list->v[i]);
	free(list->v);
	*list = (struct config_list){ 0 };
}

static bool
list_same(const struct config_list *a, const struct config_list *b)
{
	size_t i;

	if (a->n != b->n)
		return (false);
	for (i = 0; i < a->n; i++)
		if (strcmp(a->v[i], b->v[i]) != 0)
			return (false);
	return (true);
}

/* Fields, by what the table says of them. */
static char **
text_field(void *conf, const struct zpl_key *k)
{

	return ((char **)(void *)((char *)conf + k->offset));
}

static uint64_t *
number_field(void *conf, const struct zpl_key *k)
{

	return ((uint64_t *)(void *)((char *)conf + k->offset));
}

static struct config_list *
list_field(void *conf, const struct zpl_key *k)
{

	return ((struct config_list *)(void *)((char *)conf + k->offset));
}

static int
take(const struct load *l, void *conf, const struct zpl_item *it)
{
	const struct config_list *list;
	size_t i;
	char *s;

	switch (it->key->kind) {
	case ZPL_S:
		if ((s = value_text(it, l->file, l->err)) == NULL)
			return (-1);
		*text_field(conf, it->key) = s;
		return (0);
	case ZPL_L:
		list = list_field(conf, it->key);
		if (list->n == CONFIG_LIST)
			return (zpl_fail(l->err, l->file, it->line,
			    "\"%s\" is given more than %d times",
			    it->key->key, CONFIG_LIST));
		for (i = 0; i < list->n; i++)
			if (strcmp(list->v[i], it->value) == 0)
				return (zpl_fail(l->err, l->file, it->line,
				    "\"%s\" is given twice with the same value",
				    it->key->key));
		s = value_text(it, l->file, l->err);
		return (list_add(list_field(conf, it->key), &s));
	case ZPL_N:
	case ZPL_B:
	case ZPL_T:
		return (value_number(it, number_field(conf, it->key), l->file,
		    l->err));
	}
	return (0);
}

static bool
is_given(const struct zpl *z, const struct zpl_key *k)
{
	size_t i;

	for (i = 0; i < z->n; i++)
		if (z->item[i].key == k)
			return (true);
	return (false);
}

/* Where a setting stands, for messages; 0: nowhere. */
static unsigned long
line_of(const struct zpl *z, const char *section, const char *key)
{
	size_t i;

	for (i = 0; i < z->n; i++)
		if (z->item[i].key != NULL &&
		    strcmp(z->item[i].key->section, section) == 0 &&
		    strcmp(z->item[i].key->key, key) == 0)
			return (z->item[i].line);
	return (0);
}

/* What the file gives, then defaults for the rest, through the same checks. */
static int
take_all(const struct load *l, void *conf, const struct zpl_key *keys,
    size_t n)
{
	char def[DEFAULT_MAX + 1];
	struct zpl_item it;
	size_t i;

	/* What else a list can fail of; every other fault says its own. */
	(void)zpl_fail(l->err, l->file, 0, "out of memory");
	for (i = 0; i < l->zpl->n; i++)
		if (l->zpl->item[i].key != NULL &&
		    !l->zpl->item[i].key->many &&
		    take(l, conf, &l->zpl->item[i]) == -1)
			return (-1);
	for (i = 0; i < n; i++) {
		if (keys[i].many || keys[i].def == NULL ||
		    is_given(l->zpl, &keys[i]))
			continue;
		(void)snprintf(def, sizeof(def), "%s", keys[i].def);
		it = (struct zpl_item){ .key = &keys[i], .value = def };
		if (take(l, conf, &it) == -1)
			return (-1);
	}
	return (0);
}

/* many: fields of a section that repeats. */
static void
free_fields(void *conf, const struct zpl_key *keys, size_t n, bool many)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (keys[i].many != many)
			continue;
		if (keys[i].kind == ZPL_S)
			zpl_wipe(*text_field(conf, &keys[i]));
		else if (keys[i].kind == ZPL_L)
			list_free(list_field(conf, &keys[i]));
	}
}

static int
check_roots(const struct load *l, const struct config_list *keys,
    uint64_t threshold)
{

	if (keys->n == 0)
		return (zpl_fail(l->err, l->file, 0,
		    "\"root-key\" is missing (\"pkgcast trust init\" prints the line, \"pkgcast trust show\" the key)"));
	if (threshold > keys->n)
		return (zpl_fail(l->err, l->file,
		    line_of(l->zpl, "", "root-threshold"),
		    "\"root-threshold\" is %ju, but there are only %zu of \"root-key\"",
		    (uintmax_t)threshold, keys->n));
	return (0);
}

static int
take_upstream(const struct load *l, struct edge_conf *c,
    const struct zpl_item *it)
{
	static const struct { const char *name; enum upstream_kind kind; }
	    kinds[] = { { "master", UPSTREAM_MASTER },
		{ "edge", UPSTREAM_EDGE }, { "sibling", UPSTREAM_SIBLING },
		{ "static", UPSTREAM_STATIC } };
	struct upstream_conf *u;
	size_t i;

	if (it->key == NULL) {
		if (c->nupstream == CONFIG_UPSTREAMS)
			return (zpl_fail(l->err, l->file, it->line,
			    "more than %d upstreams", CONFIG_UPSTREAMS));
		if ((u = realloc(c->upstream,
		    (c->nupstream + 1) * sizeof(*u))) == NULL)
			return (zpl_fail(l->err, l->file, it->line,
			    "out of memory"));
		c->upstream = u;
		c->upstream[c->nupstream++] = (struct upstream_conf){
		    .url = NULL, .kind = UPSTREAM_MASTER };
		return (0);
	}
	u = &c->upstream[c->nupstream - 1];
	if (strcmp(it->key->key, "url") == 0) {
		u->url = value_text(it, l->file, l->err);
		return (u->url == NULL ? -1 : 0);
	}
	for (i = 0; i < NKEYS(kinds); i++)
		if (strcmp(it->value, kinds[i].name) == 0) {
			u->kind = kinds[i].kind;
			return (0);
		}
	return (zpl_fail(l->err, l->file, it->line,
	    "\"kind\" must be \"master\", \"edge\", \"sibling\" or \"static\", not \"%.32s\"",
	    it->value));
}

/* Whether a name can stand beside that of another set, which may be NULL. */
static int
check_names(const struct load *l, const struct zpl_item *it, const char *other)
{

	if (other == NULL || !set_names_clash(other, it->value))
		return (0);
	if (strcmp(other, it->value) == 0)
		return (zpl_fail(l->err, l->file, it->line,
		    "set \"%.60s\" is given twice", it->value));
	return (zpl_fail(l->err, l->file, it->line,
	    "set \"%.60s\" cannot stand beside set \"%.60s\": one contains the other",
	    it->value, other));
}

static int
begin_plain(const struct load *l, struct edge_conf *c,
    const struct zpl_item *it)
{
	struct plain_conf *p;

	if (c->nplain == CONFIG_PLAIN)
		return (zpl_fail(l->err, l->file, it->line,
		    "more than %d sets with \"plain\"", CONFIG_PLAIN));
	if ((p = realloc(c->plain, (c->nplain + 1) * sizeof(*p))) == NULL)
		return (zpl_fail(l->err, l->file, it->line, "out of memory"));
	c->plain = p;
	c->plain[c->nplain++] = (struct plain_conf){
	    .poll = CONFIG_PLAIN_POLL };
	return (0);
}

/* A line of a set's section, which has a setting `plain` or has not. */
static int
take_set(const struct load *l, struct edge_conf *c, const struct zpl_item *it,
    bool plain)
{
	size_t i;
	char *s;

	if (it->key == NULL)
		return (plain ? begin_plain(l, c, it) : 0);
	if (strcmp(it->key->key, "name") == 0) {
		for (i = 0; i < c->sets.n; i++)
			if (check_names(l, it, c->sets.v[i]) == -1)
				return (-1);
		for (i = 0; i < c->nplain; i++)
			if (check_names(l, it, c->plain[i].name) == -1)
				return (-1);
	}
	if (plain)
		return (take(l, &c->plain[c->nplain - 1], it));
	if (strcmp(it->key->key, "name") != 0)
		return (zpl_fail(l->err, l->file, it->line,
		    "\"%s\" is only for a set with \"plain\": add the address where it is fetched",
		    it->key->key));
	if ((s = value_text(it, l->file, l->err)) == NULL)
		return (-1);
	return (list_add(&c->sets, &s));
}

/* Whether the section that begins at item i has this key. */
static bool
section_has(const struct zpl *z, size_t i, const char *key)
{

	while (++i < z->n && z->item[i].key != NULL)
		if (z->item[i].key->many &&
		    strcmp(z->item[i].key->key, key) == 0)
			return (true);
	return (false);
}

static int
take_repeated(const struct load *l, struct edge_conf *c)
{
	const struct zpl_item *it;
	const char *first;
	bool upstream, plain = false;
	size_t i;

	for (i = 0; i < l->zpl->n; i++) {
		it = &l->zpl->item[i];
		upstream = strcmp(it->section, "upstream") == 0;
		if (!upstream && strcmp(it->section, "set") != 0)
			continue;
		first = upstream ? "url" : "name";
		if (it->key == NULL && !section_has(l->zpl, i, first))
			return (zpl_fail(l->err, l->file, it->line,
			    "section \"%s\" needs \"%s\"", it->section, first));
		if (it->key == NULL)
			plain = section_has(l->zpl, i, "plain");
		if ((upstream ? take_upstream(l, c, it) :
		    take_set(l, c, it, plain)) == -1)
			return (-1);
	}
	return (0);
}

/* An edge either has a link to its master, with all that needs, or polls. */
static int
check_link(const struct load *l, const struct edge_conf *c)
{
	const struct { const char *section, *key, *value; } needed[] = {
		{ "master", "announce", c->announce },
		{ "master", "lease", c->lease },
		{ "master", "public-key", c->master_key },
		{ "curve", "public-key", c->curve_public },
		{ "curve", "secret-key", c->curve_secret },
	};
	size_t i, given = NKEYS(needed), missing = NKEYS(needed);

	for (i = NKEYS(needed); i > 0; i--) {
		if (needed[i - 1].value != NULL)
			given = i - 1;
		else
			missing = i - 1;
	}
	if (given == NKEYS(needed) || missing == NKEYS(needed))
		return (0);
	return (zpl_fail(l->err, l->file,
	    line_of(l->zpl, needed[given].section, needed[given].key),
	    "\"%s\" is missing in section \"%s\", which \"%s\" in section \"%s\" needs",
	    needed[missing].key, needed[missing].section, needed[given].key,
	    needed[given].section));
}

bool
config_published(const struct edge_conf *c)
{

	return (c->nplain == 0 || c->nupstream > 0 || c->root_key.n > 0 ||
	    c->sets.n > 0 || c->curve_secret != NULL);
}

static int
check_edge(const struct load *l, const struct edge_conf *c)
{
	size_t i;

	if (!config_published(c))
		return (check_link(l, c));
	if (c->name == NULL)
		return (zpl_fail(l->err, l->file, 0,
		    "\"name\" is missing (this edge's name at its master)"));
	if (check_roots(l, &c->root_key, c->root_threshold) == -1)
		return (-1);
	if (c->nupstream == 0)
		return (zpl_fail(l->err, l->file, 0,
		    "section \"upstream\" is missing (where to fetch from)"));
	for (i = 0; i < c->nupstream; i++)
		if (c->upstream[i].kind != UPSTREAM_SIBLING)
			return (check_link(l, c));
	return (zpl_fail(l->err, l->file, 0,
	    "every upstream is a sibling: one of another kind is needed"));
}

static struct zpl *
read_file(const char *file, const struct zpl_key *keys, size_t n,
    struct parse_error *err)
{
	struct zpl *z;
	size_t len;
	char *text;

	if ((text = fd_slurp(AT_FDCWD, file, ZPL_FILE_MAX, &len)) == NULL) {
		if (errno == EFBIG)
			(void)zpl_fail(err, file, 0, "longer than %d bytes",
			    ZPL_FILE_MAX);
		else
			(void)zpl_fail(err, file, 0, "cannot read: %s",
			    errno == EINVAL ? "not a regular file" :
			    strerror(errno));
		return (NULL);
	}
	z = zpl_parse(file, text, len, keys, n, err);
	explicit_bzero(text, len);
	free(text);
	return (z);
}

struct master_conf *
config_master(const char *file, struct parse_error *err)
{
	struct load l = { .file = file, .err = err };
	struct master_conf *c;

	if ((l.zpl = read_file(file, master_keys, NKEYS(master_keys),
	    err)) == NULL)
		return (NULL);
	if ((c = calloc(1, sizeof(*c))) == NULL)
		(void)zpl_fail(err, file, 0, "out of memory");
	else if (take_all(&l, c, master_keys, NKEYS(master_keys)) == -1 ||
	    check_roots(&l, &c->root_key, c->root_threshold) == -1)
		config_master_destroy(&c);
	zpl_destroy(&l.zpl);
	return (c);
}

/* Takes *z over. */
static struct edge_conf *
edge_from(struct zpl **z, const char *file, struct parse_error *err)
{
	struct load l = { .file = file, .zpl = *z, .err = err };
	struct edge_conf *c;

	if (*z == NULL)
		return (NULL);
	if ((c = calloc(1, sizeof(*c))) == NULL)
		(void)zpl_fail(err, file, 0, "out of memory");
	else if (take_all(&l, c, edge_keys, NKEYS(edge_keys)) == -1 ||
	    take_repeated(&l, c) == -1 || check_edge(&l, c) == -1)
		config_edge_destroy(&c);
	zpl_destroy(z);
	return (c);
}

struct edge_conf *
config_edge_text(const char *file, const char *text, size_t len,
    struct parse_error *err)
{
	struct zpl *z;

	z = zpl_parse(file, text, len, edge_keys, NKEYS(edge_keys), err);
	return (edge_from(&z, file, err));
}

struct edge_conf *
config_edge(const char *file, struct parse_error *err)
{
	struct zpl *z;

	z = read_file(file, edge_keys, NKEYS(edge_keys), err);
	return (edge_from(&z, file, err));
}

struct pkgcast_conf *
config_pkgcast(const char *file, struct parse_error *err)
{
	struct load l = { .file = file, .err = err };
	struct pkgcast_conf *c;

	if ((l.zpl = read_file(file, pkgcast_keys, NKEYS(pkgcast_keys),
	    err)) == NULL)
		return (NULL);
	if ((c = calloc(1, sizeof(*c))) == NULL)
		(void)zpl_fail(err, file, 0, "out of memory");
	else if (take_all(&l, c, pkgcast_keys, NKEYS(pkgcast_keys)) == -1)
		config_pkgcast_destroy(&c);
	zpl_destroy(&l.zpl);
	return (c);
}

void
config_master_destroy(struct master_conf **c)
{

	if (*c == NULL)
		return;
	free_fields(*c, master_keys, NKEYS(master_keys), false);
	free(*c);
	*c = NULL;
}

void
config_edge_destroy(struct edge_conf **c)
{
	size_t i;

	if (*c == NULL)
		return;
	free_fields(*c, edge_keys, NKEYS(edge_keys), false);
	for (i = 0; i < (*c)->nupstream; i++)
		free((*c)->upstream[i].url);
	free((*c)->upstream);
	for (i = 0; i < (*c)->nplain; i++)
		free_fields(&(*c)->plain[i], plain_keys, NKEYS(plain_keys),
		    true);
	free((*c)->plain);
	list_free(&(*c)->sets);
	free(*c);
	*c = NULL;
}

void
config_pkgcast_destroy(struct pkgcast_conf **c)
{

	if (*c == NULL)
		return;
	free_fields(*c, pkgcast_keys, NKEYS(pkgcast_keys), false);
	free(*c);
	*c = NULL;
}

static bool
same_text(const char *a, const char *b)
{

	if (a == NULL || b == NULL)
		return (a == b);
	return (strcmp(a, b) == 0);
}

static bool
same_field(const void *a, const void *b, const struct zpl_key *k)
{
	const char *pa = (const char *)a + k->offset;
	const char *pb = (const char *)b + k->offset;

	switch (k->kind) {
	case ZPL_S:
		return (same_text(*(char *const *)(const void *)pa,
		    *(char *const *)(const void *)pb));
	case ZPL_L:
		return (list_same((const struct config_list *)(const void *)pa,
		    (const struct config_list *)(const void *)pb));
	case ZPL_N:
	case ZPL_B:
	case ZPL_T:
		return (memcmp(pa, pb, sizeof(uint64_t)) == 0);
	}
	return (true);
}

static void
add_name(struct buf *b, const char *section, const char *key)
{

	(void)buf_addf(b, "%s%s%s%s", b->len > 0 ? ", " : "", section,
	    section[0] != '\0' ? "." : "", key);
}

static void
restart_names(struct buf *b, const void *old, const void *new,
    const struct zpl_key *keys, size_t n)
{
	size_t i;

	(void)buf_adds(b, "");
	for (i = 0; i < n; i++)
		if (keys[i].restart && !keys[i].many &&
		    !same_field(old, new, &keys[i]))
			add_name(b, keys[i].section, keys[i].key);
}

/* The text, or NULL. */
static char *
names_end(struct buf *b)
{

	if (b->failed)
		buf_free(b);
	return (buf_take(b, NULL));
}

char *
config_master_restart(const struct master_conf *a, const struct master_conf *b)
{
	struct buf out = BUF_INIT(RESTART_MAX);

	restart_names(&out, a, b, master_keys, NKEYS(master_keys));
	return (names_end(&out));
}

/* The same, of sections set. */
static void
restart_sets(struct buf *out, const struct edge_conf *a,
    const struct edge_conf *b)
{
	size_t i, j, n = a->nplain < b->nplain ? a->nplain : b->nplain;
	bool same = list_same(&a->sets, &b->sets) && a->nplain == b->nplain;

	for (i = 0; i < NKEYS(plain_keys); i++, same = true) {
		for (j = 0; j < n; j++)
			same = same && same_field(&a->plain[j], &b->plain[j],
			    &plain_keys[i]);
		/* The first is the name: sets came or went. */
		if (!same)
			add_name(out, "set", plain_keys[i].key);
	}
}

char *
config_edge_restart(const struct edge_conf *a, const struct edge_conf *b)
{
	struct buf out = BUF_INIT(RESTART_MAX);

	restart_names(&out, a, b, edge_keys, NKEYS(edge_keys));
	restart_sets(&out, a, b);
	return (names_end(&out));
}
