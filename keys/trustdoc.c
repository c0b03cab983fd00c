/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One version of the trust document (pkgcast-formats(5)): strict parse, write,
 * and who signed it.  Used by trust.c and `pkgcast trust`; no state, any
 * thread.
 */

#include <stdlib.h>
#include <string.h>

#include "keys/armor.h"
#include "keys/trust.h"
#include "proto/check.h"
#include "proto/date.h"

#define	FIRST_LINE	"pkgcast-trust 1"
#define	KEY_DIGITS	(PUBKEY_TEXT - 1)
#define	SIGNATURE_LINES	4

/* The lines of a document, one after the other. */
struct lines {
	const char	*p, *end;
	const char	*line;			/* the one that is read now */
	size_t		 len;
	unsigned long	 number;		/* of that line, from 1 */
};

/* Reads the next line if there is a whole one. */
static bool
next(struct lines *l)
{

	if (armor_line(&l->p, l->end, &l->line, &l->len) == -1)
		return (false);
	l->number++;
	return (true);
}

/* Whether the line that comes next begins with this. */
static bool
ahead(const struct lines *l, const char *prefix)
{
	size_t n = strlen(prefix);

	return ((size_t)(l->end - l->p) >= n && memcmp(l->p, prefix, n) == 0);
}

/* Reads the line `name value`; value and its length are in l then. */
static int
field(struct lines *l, const char *name, struct parse_error *err)
{
	size_t n = strlen(name);

	if (!next(l))
		return (parse_fail(err, l->number + 1,
		    "the document ends before \"%s\"", name));
	if (l->len < n + 2 || memcmp(l->line, name, n) != 0 ||
	    l->line[n] != ' ')
		return (parse_fail(err, l->number, "\"%s VALUE\" expected",
		    name));
	l->line += n + 1;
	l->len -= n + 1;
	return (0);
}

static int
number(struct lines *l, const char *name, uint64_t max, uint64_t *out,
    struct parse_error *err)
{
	unsigned long long v;

	if (field(l, name, err) == -1)
		return (-1);
	if (parse_u64(l->line, l->len, max, &v) == -1 || v == 0)
		return (parse_fail(err, l->number,
		    "\"%s\" must be a number from 1 to %llu", name,
		    (unsigned long long)max));
	*out = v;
	return (0);
}

static int
date(struct lines *l, const char *name, int64_t *out, struct parse_error *err)
{

	if (field(l, name, err) == -1)
		return (-1);
	if (date_iso_parse(l->line, l->len, out) == -1)
		return (parse_fail(err, l->number,
		    "\"%s\" must be a date as 2026-11-22T08:20:17Z", name));
	return (0);
}

static int
parse_root(struct trust_doc *d, struct lines *l, struct parse_error *err)
{
	struct pubkey *k = &d->root[d->nroot];
	size_t i;

	if (d->nroot == TRUST_ROOTS)
		return (parse_fail(err, l->number + 1,
		    "more than %d root keys", TRUST_ROOTS));
	if (field(l, "root", err) == -1)
		return (-1);
	if (pubkey_parse(k, l->line, l->len) == -1)
		return (parse_fail(err, l->number,
		    "not a minisign public key"));
	for (i = 0; i < d->nroot; i++)
		if (pubkey_same(&d->root[i], k))
			return (parse_fail(err, l->number,
			    "the same root key twice"));
	d->nroot++;
	return (0);
}

static bool
same_publisher(const struct trust_publisher *a, const struct trust_publisher *b)
{

	return (pubkey_same(&a->key, &b->key) && strcmp(a->glob, b->glob) == 0);
}

static int
parse_publisher(struct trust_doc *d, struct lines *l, struct parse_error *err)
{
	struct trust_publisher *p;
	size_t i, n;

	if (d->npublisher == TRUST_PUBLISHERS)
		return (parse_fail(err, l->number + 1,
		    "more than %d publishers", TRUST_PUBLISHERS));
	if (field(l, "publisher", err) == -1)
		return (-1);
	if ((p = realloc(d->publisher,
	    (d->npublisher + 1) * sizeof(*p))) == NULL)
		return (parse_fail(err, l->number, "out of memory"));
	d->publisher = p;
	p += d->npublisher;
	if (l->len < KEY_DIGITS + 2 || l->line[KEY_DIGITS] != ' ' ||
	    pubkey_parse(&p->key, l->line, KEY_DIGITS) == -1)
		return (parse_fail(err, l->number,
		    "\"publisher KEY GLOB\" expected"));
	n = l->len - KEY_DIGITS - 1;
	if (n > SET_NAME_MAX || !set_glob_ok(l->line + KEY_DIGITS + 1, n))
		return (parse_fail(err, l->number,
		    "not a glob of set names"));
	memcpy(p->glob, l->line + KEY_DIGITS + 1, n);
	p->glob[n] = '\0';
	for (i = 0; i < d->npublisher; i++)
		if (same_publisher(&d->publisher[i], p))
			return (parse_fail(err, l->number,
			    "the same publisher and sets twice"));
	d->npublisher++;
	return (0);
}

/* The lines that the signatures cover. */
static int
parse_signed(struct trust_doc *d, struct lines *l, struct parse_error *err)
{
	uint64_t threshold;

	if (!next(l) || l->len != strlen(FIRST_LINE) ||
	    memcmp(l->line, FIRST_LINE, l->len) != 0)
		return (parse_fail(err, 1,
		    "not a trust document: \"%s\" expected", FIRST_LINE));
	if (number(l, "version", TRUST_VERSIONS, &d->version, err) == -1 ||
	    date(l, "created", &d->created, err) == -1 ||
	    date(l, "expires", &d->expires, err) == -1)
		return (-1);
	if (d->expires <= d->created)
		return (parse_fail(err, l->number,
		    "expires before it was created"));
	if (number(l, "threshold", TRUST_ROOTS, &threshold, err) == -1)
		return (-1);
	d->threshold = (unsigned)threshold;
	while (ahead(l, "root "))
		if (parse_root(d, l, err) == -1)
			return (-1);
	if (d->nroot < d->threshold)
		return (parse_fail(err, l->number + 1,
		    "a threshold of %u needs as many root keys, here are %zu",
		    d->threshold, d->nroot));
	while (ahead(l, "publisher "))
		if (parse_publisher(d, l, err) == -1)
			return (-1);
	return (0);
}

static int
parse_signature(struct trust_doc *d, struct lines *l, struct parse_error *err)
{
	struct parse_error why;
	const char *start = l->p;
	unsigned long before = l->number;
	int i;

	if (d->nsignature == TRUST_SIGNATURES)
		return (parse_fail(err, l->number + 1,
		    "more than %d signatures", TRUST_SIGNATURES));
	for (i = 0; i < SIGNATURE_LINES; i++)
		if (!next(l))
			return (parse_fail(err, l->number + 1,
			    "the signature is cut off"));
	if (signature_parse(&d->signature[d->nsignature], start,
	    (size_t)(l->p - start), &why) == -1)
		return (parse_fail(err, before + why.line, "%s", why.reason));
	d->nsignature++;
	return (0);
}

int
trust_doc_parse(struct trust_doc *d, const char *text, size_t len,
    struct parse_error *err)
{
	struct lines l = { .p = text, .end = text + len };

	memset(d, 0, sizeof(*d));
	if (len > TRUST_MAX)
		return (parse_fail(err, 0, "more than %d bytes", TRUST_MAX));
	if (parse_signed(d, &l, err) == -1)
		goto fail;
	d->signed_len = (size_t)(l.p - text);
	while (ahead(&l, ARMOR_UNTRUSTED))
		if (parse_signature(d, &l, err) == -1)
			goto fail;
	if (l.p != l.end) {
		(void)parse_fail(err, l.number + 1,
		    "neither \"root\", \"publisher\" nor a signature, or not "
		    "in its place");
		goto fail;
	}
	if (d->nsignature == 0) {
		(void)parse_fail(err, l.number + 1, "there is no signature");
		goto fail;
	}
	return (0);
fail:
	trust_doc_free(d);
	return (-1);
}

void
trust_doc_free(struct trust_doc *d)
{

	free(d->publisher);
	d->publisher = NULL;
	d->npublisher = 0;
}

int
trust_doc_write(struct buf *b, const struct trust_doc *d)
{
	char created[DATE_ISO], expires[DATE_ISO], key[PUBKEY_TEXT];
	size_t i;

	CHECK(d->nroot <= TRUST_ROOTS && d->npublisher <= TRUST_PUBLISHERS);
	(void)buf_addf(b, "%s\nversion %llu\ncreated %s\nexpires %s\n"
	    "threshold %u\n", FIRST_LINE, (unsigned long long)d->version,
	    date_iso(d->created, created), date_iso(d->expires, expires),
	    d->threshold);
	for (i = 0; i < d->nroot; i++)
		(void)buf_addf(b, "root %s\n", pubkey_text(&d->root[i], key));
	for (i = 0; i < d->npublisher; i++)
		(void)buf_addf(b, "publisher %s %s\n",
		    pubkey_text(&d->publisher[i].key, key),
		    d->publisher[i].glob);
	return (b->failed ? -1 : 0);
}

/*
 * A document reaches to the next first line, or to the end: no line within one
 * can be FIRST_LINE.
 */
size_t
trust_doc_span(const char *text, size_t len)
{
	static const char mark[] = "\n" FIRST_LINE "\n";
	const char *next_doc;

	next_doc = memmem(text, len, mark, sizeof(mark) - 1);
	if (next_doc != NULL)
		return ((size_t)(next_doc - text) + 1);
	return (len > 0 && text[len - 1] == '\n' ? len : 0);
}

static bool
signed_by(const struct trust_doc *d, const char *text, const struct pubkey *k)
{
	size_t i;

	for (i = 0; i < d->nsignature; i++)
		if (signature_verify(&d->signature[i], k, text,
		    d->signed_len) == 0)
			return (true);
	return (false);
}

unsigned
trust_doc_signers(const struct trust_doc *d, const char *text,
    const struct pubkey *key, size_t n, bool *signer)
{
	unsigned count = 0;
	size_t i, j;
	bool yes;

	for (i = 0; i < n; i++) {
		yes = signed_by(d, text, &key[i]);
		if (signer != NULL)
			signer[i] = yes;
		for (j = 0; j < i && !pubkey_same(&key[i], &key[j]); j++)
			;
		if (yes && j == i)
			count++;
	}
	return (count);
}
