/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ZPL, the form of configuration files (pkgcast.conf(5)), and the only file
 * that names CZMQ's zconfig.  zconfig keeps no line numbers, prints syntax
 * errors without a file name to standard output, and knows no table of keys.
 * So a pass of our own goes first, which leaves nothing for zconfig to complain
 * about; then zconfig reads the same text, and its k-th node must be our k-th
 * line that is neither blank nor comment.  Called by config.c while starting
 * and on HUP, one thread.
 */

#include <czmq.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/zpl.h"

#define	NAME_SHOWN	40		/* bytes of a name in a message */
#define	GUESS_MAX	24		/* longest name that is guessed */

struct pass {
	const char		*file;
	const struct zpl_key	*keys;
	size_t			 nkey;
	unsigned long		 line;
	const char		*section;	/* NULL at first, "": top */
	struct zpl		*zpl;
	struct parse_error	*err;
};

/* One line, cut into its parts; value is NULL for a section. */
struct parts {
	size_t		 level;
	const char	*name, *value;
	size_t		 name_len, value_len;
};

int
zpl_fail(struct parse_error *err, const char *file, unsigned long line,
    const char *fmt, ...)
{
	char text[sizeof(err->reason)];
	size_t len = strlen(file), shown = sizeof(text) / 2;
	const char *cut = "";
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (len > shown) {		/* the end of a long path tells more */
		file += len - shown;
		cut = "...";
	}
	if (line == 0)
		return (parse_fail(err, line, "%s%s: %s", cut, file, text));
	return (parse_fail(err, line, "%s%s:%lu: %s", cut, file, line, text));
}

#define	FAIL(p, ...)	zpl_fail((p)->err, (p)->file, (p)->line, __VA_ARGS__)

void
zpl_wipe(char *s)
{

	if (s != NULL)
		explicit_bzero(s, strlen(s));
	free(s);
}

void
zpl_destroy(struct zpl **z)
{
	size_t i;

	if (*z == NULL)
		return;
	for (i = 0; i < (*z)->n; i++)
		zpl_wipe((*z)->item[i].value);
	free((*z)->item);
	free(*z);
	*z = NULL;
}

/*
 * Edits from a to b, two letters exchanged being one; both at most GUESS_MAX
 * bytes.
 */
static unsigned
distance(const char *a, size_t na, const char *b, size_t nb)
{
	unsigned d[GUESS_MAX + 1][GUESS_MAX + 1], best;
	size_t i, j;

	for (i = 0; i <= na; i++)
		d[i][0] = (unsigned)i;
	for (j = 0; j <= nb; j++)
		d[0][j] = (unsigned)j;
	for (i = 1; i <= na; i++)
		for (j = 1; j <= nb; j++) {
			best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	return (d[na][nb]);
}

/* How far b is from what was written, or UINT_MAX when it is no guess. */
static unsigned
guess(const struct parts *t, const char *b)
{
	size_t nb = strlen(b);
	unsigned d;

	if (t->name_len > GUESS_MAX || nb > GUESS_MAX)
		return (UINT_MAX);
	d = distance(t->name, t->name_len, b, nb);
	return (d <= 1 + nb / 4 && d < nb ? d : UINT_MAX);
}

/* For "%.*s". */
static int
shown(const struct parts *t)
{

	return ((int)(t->name_len < NAME_SHOWN ? t->name_len : NAME_SHOWN));
}

static bool
is(const struct parts *t, const char *name)
{

	return (strlen(name) == t->name_len &&
	    memcmp(t->name, name, t->name_len) == 0);
}

static const struct zpl_key *
find_key(const struct pass *p, const char *section, const struct parts *t)
{
	size_t i;

	for (i = 0; i < p->nkey; i++)
		if (strcmp(p->keys[i].section, section) == 0 &&
		    is(t, p->keys[i].key))
			return (&p->keys[i]);
	return (NULL);
}

static const char *
find_section(const struct pass *p, const struct parts *t)
{
	size_t i;

	for (i = 0; i < p->nkey; i++)
		if (p->keys[i].section[0] != '\0' &&
		    is(t, p->keys[i].section))
			return (p->keys[i].section);
	return (NULL);
}

static int
unknown_key(const struct pass *p, const struct parts *t)
{
	const struct zpl_key *best = NULL, *k;
	unsigned d, least = UINT_MAX;
	bool elsewhere;
	size_t i;

	for (i = 0; i < p->nkey; i++) {
		k = &p->keys[i];
		elsewhere = strcmp(k->section, p->section) != 0;
		if (elsewhere && is(t, k->key) && k->section[0] == '\0')
			return (FAIL(p, "unknown key \"%s\" in section \"%s\" (it belongs at the top, not indented)",
			    k->key, p->section));
		if (elsewhere && is(t, k->key))
			return (FAIL(p, "unknown key \"%s\" (it belongs into section \"%s\")",
			    k->key, k->section));
		/* One of this section is the better guess. */
		if ((d = guess(t, k->key)) != UINT_MAX)
			d = 2 * d + elsewhere;
		if (d < least) {
			least = d;
			best = k;
		}
	}
	if (best != NULL && strcmp(best->section, p->section) != 0)
		return (FAIL(p, "unknown key \"%.*s\" (did you mean \"%s\" %s%s%s?)",
		    shown(t), t->name, best->key,
		    best->section[0] == '\0' ? "at the top" : "in section \"",
		    best->section, best->section[0] == '\0' ? "" : "\""));
	if (best != NULL)
		return (FAIL(p, "unknown key \"%.*s\" (did you mean \"%s\"?)",
		    shown(t), t->name, best->key));
	return (FAIL(p, "unknown key \"%.*s\"",
	    shown(t), t->name));
}

static int
unknown_section(const struct pass *p, const struct parts *t)
{
	const char *best = NULL;
	unsigned d, least = UINT_MAX;
	size_t i;

	for (i = 0; i < p->nkey; i++)
		if (p->keys[i].section[0] != '\0' &&
		    (d = guess(t, p->keys[i].section)) < least) {
			least = d;
			best = p->keys[i].section;
		}
	if (best != NULL)
		return (FAIL(p, "unknown section \"%.*s\" (did you mean \"%s\"?)",
		    shown(t), t->name, best));
	return (FAIL(p, "unknown section \"%.*s\"",
	    shown(t), t->name));
}

/* A section or key that may stand once, and has been there before. */
static int
given_before(const struct pass *p, const char *section,
    const struct zpl_key *key)
{
	const struct zpl_item *it;
	size_t i;

	for (i = p->zpl->n; i > 0; i--) {
		it = &p->zpl->item[i - 1];
		if (it->key != key || strcmp(it->section, section) != 0) {
			/* A section that repeats: only this one counts. */
			if (key != NULL && key->many && it->key == NULL)
				return (0);
			continue;
		}
		return (FAIL(p, "%s \"%s\" is given twice (first in line %lu)",
		    key == NULL ? "section" : "key",
		    key == NULL ? section : key->key, it->line));
	}
	return (0);
}

static bool
section_repeats(const struct pass *p, const char *section)
{
	size_t i;

	for (i = 0; i < p->nkey; i++)
		if (p->keys[i].section == section)
			return (p->keys[i].many);
	return (false);
}

static int
add_item(struct pass *p, const struct zpl_key *key, const struct parts *t)
{
	struct zpl *z = p->zpl;
	struct zpl_item *items, it = { .line = p->line, .section = p->section,
	    .key = key };
	size_t size;

	if (z->n == z->size) {
		size = z->size == 0 ? 64 : z->size * 2;
		if (z->n >= ZPL_ITEMS)
			return (FAIL(p, "more than %d settings", ZPL_ITEMS));
		if ((items = realloc(z->item, size * sizeof(*items))) == NULL)
			return (FAIL(p, "out of memory"));
		z->item = items;
		z->size = size;
	}
	if (key != NULL &&
	    (it.value = strndup(t->value, t->value_len)) == NULL)
		return (FAIL(p, "out of memory"));
	z->item[z->n++] = it;
	return (0);
}

static int
take_section(struct pass *p, const struct parts *t)
{
	const char *section;

	if (t->level > 0 || ((section = find_section(p, t)) == NULL &&
	    find_key(p, "", t) != NULL))
		return (FAIL(p, "\"%.*s\" needs a value: %.*s = \"...\"",
		    shown(t), t->name,
		    shown(t), t->name));
	if (section == NULL)
		return (unknown_section(p, t));
	p->section = section;
	if (!section_repeats(p, section) &&
	    given_before(p, section, NULL) == -1)
		return (-1);
	return (add_item(p, NULL, t));
}

static int
take_key(struct pass *p, const struct parts *t)
{
	const struct zpl_key *key;

	if (t->level == 0)
		p->section = "";
	else if (p->section == NULL || p->section[0] == '\0')
		return (FAIL(p, "\"%.*s\" is indented, but stands in no section",
		    shown(t), t->name));
	if ((key = find_key(p, p->section, t)) == NULL) {
		if (t->level == 0 && find_section(p, t) != NULL)
			return (FAIL(p, "\"%.*s\" is a section: write its name alone, and its keys below it, indented by %d blanks",
			    shown(t), t->name, ZPL_INDENT));
		return (unknown_key(p, t));
	}
	if (key->kind != ZPL_L && given_before(p, p->section, key) == -1)
		return (-1);
	return (add_item(p, key, t));
}

static bool
name_byte(char c)
{

	return ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || c == '-' || c == '_');
}

static size_t
skip_blanks(const char *s, size_t len, size_t i)
{

	while (i < len && s[i] == ' ')
		i++;
	return (i);
}

static int
check_bytes(const struct pass *p, const char *s, size_t len)
{
	unsigned char c;
	size_t i;

	if (len > ZPL_LINE_MAX)
		return (FAIL(p, "line is longer than %d bytes", ZPL_LINE_MAX));
	for (i = 0; i < len; i++) {
		c = (unsigned char)s[i];
		if (c == '\t')
			return (FAIL(p, "tab in line: use blanks, %d a level",
			    ZPL_INDENT));
		if (c == '\r')
			return (FAIL(p, "carriage return in line: lines end with LF alone"));
		if (c < ' ' || c == 0x7f)
			return (FAIL(p, "control byte 0x%02x in line", c));
	}
	return (0);
}

/* `= "value"` from s[i] on, and nothing after it but a comment. */
static int
split_value(const struct pass *p, const char *s, size_t len, size_t i,
    struct parts *t)
{
	const char *end;

	i = skip_blanks(s, len, i + 1);
	if (i == len || s[i] != '"')
		return (FAIL(p, "the value of \"%.*s\" must stand in double quotes",
		    shown(t), t->name));
	t->value = s + i + 1;
	if ((end = memchr(t->value, '"', len - i - 1)) == NULL)
		return (FAIL(p, "the value of \"%.*s\" has no closing quote",
		    shown(t), t->name));
	t->value_len = (size_t)(end - t->value);
	i = skip_blanks(s, len, (size_t)(end - s) + 1);
	if (i < len && s[i] != '#')
		return (FAIL(p, "text after the value of \"%.*s\" (a value holds no double quote)",
		    shown(t), t->name));
	return (0);
}

/* Returns 1 for a line that says something, 0 for one that does not. */
static int
split_line(const struct pass *p, const char *s, size_t len, struct parts *t)
{
	size_t i, start;

	if (check_bytes(p, s, len) == -1)
		return (-1);
	if ((start = skip_blanks(s, len, 0)) == len)
		return (0);
	/* zconfig wants it of comments too. */
	if (start % ZPL_INDENT != 0)
		return (FAIL(p, "indented by %zu blanks: use %d a level", start,
		    ZPL_INDENT));
	if (s[start] == '#')
		return (0);
	if (start > ZPL_INDENT)
		return (FAIL(p, "indented by %zu blanks: keys of a section by %d",
		    start, ZPL_INDENT));
	*t = (struct parts){ .level = start / ZPL_INDENT, .name = s + start };
	for (i = start; i < len && name_byte(s[i]); i++)
		continue;
	t->name_len = i - start;
	i = skip_blanks(s, len, i);
	if (t->name_len > 0 && (i == len || s[i] == '#'))
		return (1);
	if (t->name_len == 0 || s[i] != '=')
		return (FAIL(p, "expected: name = \"value\", or the name of a section"));
	return (split_value(p, s, len, i, t) == -1 ? -1 : 1);
}

static int
first_pass(struct pass *p, const char *text, size_t len)
{
	const char *end = text + len, *eol;
	struct parts t;
	int said;

	while (text < end) {
		p->line++;
		if ((eol = memchr(text, '\n', (size_t)(end - text))) == NULL)
			eol = end;
		if ((said = split_line(p, text, (size_t)(eol - text),
		    &t)) == -1)
			return (-1);
		if (said == 1 && (t.value == NULL ? take_section(p, &t) :
		    take_key(p, &t)) == -1)
			return (-1);
		text = eol + (eol < end);
	}
	p->line = 0;
	return (0);
}

/* Compares zconfig's nodes from c on, in pre-order, with items from *i on. */
static bool
same_nodes(zconfig_t *c, const struct zpl *z, size_t *i)
{
	const struct zpl_item *it;

	for (; c != NULL; c = zconfig_next(c)) {
		if (*i == z->n)
			return (false);
		it = &z->item[(*i)++];
		if (strcmp(zconfig_name(c), it->key == NULL ? it->section :
		    it->key->key) != 0 ||
		    strcmp(zconfig_value(c),
		    it->value == NULL ? "" : it->value) != 0)
			return (false);
		if (!same_nodes(zconfig_child(c), z, i))
			return (false);
	}
	return (true);
}

static void
wipe_nodes(zconfig_t *c)
{

	for (; c != NULL; c = zconfig_next(c)) {
		explicit_bzero(zconfig_value(c), strlen(zconfig_value(c)));
		wipe_nodes(zconfig_child(c));
	}
}

/* zconfig reads the same; what it makes of it must be what we saw. */
static int
second_pass(const struct pass *p, const char *text, size_t len)
{
	zchunk_t *chunk;
	zconfig_t *root = NULL;
	size_t i = 0;
	int ret = -1;

	if ((chunk = zchunk_new(text, len)) != NULL)
		root = zconfig_chunk_load(chunk);
	if (root == NULL)
		ret = FAIL(p, "zconfig cannot read this file");
	else if (!same_nodes(zconfig_child(root), p->zpl, &i) ||
	    i != p->zpl->n)
		ret = FAIL(p, "zconfig reads other settings than are written here");
	else
		ret = 0;
	if (chunk != NULL)
		explicit_bzero(zchunk_data(chunk), zchunk_size(chunk));
	zchunk_destroy(&chunk);
	if (root != NULL)
		wipe_nodes(zconfig_child(root));
	zconfig_destroy(&root);
	return (ret);
}

struct zpl *
zpl_parse(const char *file, const char *text, size_t len,
    const struct zpl_key *keys, size_t nkey, struct parse_error *err)
{
	struct pass p = { .file = file, .keys = keys, .nkey = nkey,
	    .err = err };

	if (len > ZPL_FILE_MAX) {
		(void)FAIL(&p, "longer than %d bytes", ZPL_FILE_MAX);
		return (NULL);
	}
	if ((p.zpl = calloc(1, sizeof(*p.zpl))) == NULL) {
		(void)FAIL(&p, "out of memory");
		return (NULL);
	}
	if (first_pass(&p, text, len) == -1 || second_pass(&p, text, len) == -1)
		zpl_destroy(&p.zpl);
	return (p.zpl);
}
