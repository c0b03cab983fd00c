/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The chain of trust documents: verifies each version against the one before
 * it and the first against the configured root keys, judges heads by it, and
 * keeps it on disk.  Both daemons have one and use it from any thread.
 *
 * The lock guards everything in struct trust but the configured roots.  It is
 * a leaf: nothing is called with it held that takes another lock or does I/O.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keys/armor.h"
#include "keys/trust.h"
#include "proto/check.h"
#include "proto/date.h"
#include "proto/fd.h"

#define	TRUST_MAGIC	0x7705701du

struct version {
	char			*text;
	size_t			 len;
	struct trust_doc	 doc;
};

struct trust {
	unsigned	 magic;
	struct pubkey	 root[TRUST_ROOTS];	/* configured, for version 1 */
	size_t		 nroot;
	unsigned	 threshold;
	pthread_mutex_t	 lock;
	size_t		 n, bytes;
	struct version	*version;		/* version[i] is number i + 1 */
};

struct trust *
trust_none(void)
{
	struct trust *t;

	if ((t = calloc(1, sizeof(*t))) == NULL)
		return (NULL);
	if ((errno = pthread_mutex_init(&t->lock, NULL)) != 0) {
		free(t);
		return (NULL);
	}
	t->threshold = 1;		/* of no keys */
	t->magic = TRUST_MAGIC;
	return (t);
}

struct trust *
trust_new(const struct pubkey *root, size_t nroot, unsigned threshold)
{
	struct trust *t;
	size_t i, j;

	if ((t = trust_none()) == NULL)
		return (NULL);
	for (i = 0; i < nroot; i++) {
		for (j = 0; j < t->nroot &&
		    !pubkey_same(&root[i], &t->root[j]); j++)
			;
		if (j < t->nroot)
			continue;
		if (t->nroot == TRUST_ROOTS)
			goto invalid;
		t->root[t->nroot++] = root[i];
	}
	t->threshold = threshold == 0 ? (unsigned)t->nroot : threshold;
	if (t->nroot == 0 || t->threshold > t->nroot)
		goto invalid;
	return (t);
invalid:
	trust_destroy(&t);
	errno = EINVAL;
	return (NULL);
}

static void
version_clear(struct version *v)
{

	trust_doc_free(&v->doc);
	free(v->text);
	v->text = NULL;
}

void
trust_destroy(struct trust **t)
{
	size_t i;

	if (*t == NULL)
		return;
	CHECK_OBJ(*t, TRUST_MAGIC);
	for (i = 0; i < (*t)->n; i++)
		version_clear(&(*t)->version[i]);
	free((*t)->version);
	(void)pthread_mutex_destroy(&(*t)->lock);
	explicit_bzero(&(*t)->magic, sizeof((*t)->magic));
	free(*t);
	*t = NULL;
}

static void
enter(struct trust *t)
{

	CHECK_OBJ(t, TRUST_MAGIC);
	CHECK(pthread_mutex_lock(&t->lock) == 0);
}

static void
leave(struct trust *t)
{

	CHECK(pthread_mutex_unlock(&t->lock) == 0);
}

/* Adding versions. */

/* Whether those who must have signed version v; t->n is the one before. */
static int
verify(const struct trust *t, const struct version *v, struct parse_error *err)
{
	const struct trust_doc *before, *d = &v->doc;
	const struct pubkey *root = t->root;
	unsigned threshold = t->threshold, n;
	size_t nroot = t->nroot;
	char of[32] = "configured (root-key)";

	if (t->n > 0) {
		before = &t->version[t->n - 1].doc;
		root = before->root;
		nroot = before->nroot;
		threshold = before->threshold;
		(void)snprintf(of, sizeof(of), "of version %zu", t->n);
	}
	n = trust_doc_signers(d, v->text, root, nroot, NULL);
	if (n < threshold)
		return (parse_fail(err, 0,
		    "version %llu is signed by %u of the root keys %s, "
		    "needed are %u", (unsigned long long)d->version, n, of,
		    threshold));
	n = trust_doc_signers(d, v->text, d->root, d->nroot, NULL);
	if (n < d->threshold)
		return (parse_fail(err, 0,
		    "version %llu is signed by %u of its own root keys, its "
		    "threshold is %u", (unsigned long long)d->version, n,
		    d->threshold));
	return (0);
}

/* Takes over *v, which is verified. */
static int
append(struct trust *t, struct version *v, struct parse_error *err)
{
	struct version *all;

	if (v->len > TRUST_ALL_MAX - t->bytes)
		return (parse_fail(err, 0,
		    "all versions have more than %u bytes", TRUST_ALL_MAX));
	if ((all = realloc(t->version, (t->n + 1) * sizeof(*all))) == NULL)
		return (parse_fail(err, 0, "out of memory"));
	t->version = all;
	t->version[t->n++] = *v;
	t->bytes += v->len;
	memset(v, 0, sizeof(*v));
	return (0);
}

/*
 * Of signature blocks anybody can change the untrusted comments, or leave out
 * one that is not needed: whoever did that to what we hold must not make us
 * refuse the original for ever.
 */
static bool
same(const struct version *v, const char *text, size_t len)
{
	size_t n = v->doc.signed_len, mark = strlen(ARMOR_UNTRUSTED);

	return (len >= n + mark && memcmp(text, v->text, n) == 0 &&
	    memcmp(text + n, ARMOR_UNTRUSTED, mark) == 0);
}

/* One document as number i + 1.  1: added, 0: it is held already, -1: err. */
static int
take(struct trust *t, size_t i, const char *text, size_t len,
    struct parse_error *err)
{
	struct version v = { .len = len };
	int ret = -1;

	if (i < t->n) {
		if (same(&t->version[i], text, len))
			return (0);
		return (parse_fail(err, 0,
		    "version %zu differs from the one that is held: was the "
		    "master's lost and another made? It can take back this "
		    "one (pkgcast trust restore)", i + 1));
	}
	if (len > TRUST_MAX)
		return (parse_fail(err, 0, "version %zu has more than %d bytes",
		    i + 1, TRUST_MAX));
	if ((v.text = malloc(len + 1)) == NULL)
		return (parse_fail(err, 0, "out of memory"));
	memcpy(v.text, text, len);
	v.text[len] = '\0';
	if (trust_doc_parse(&v.doc, v.text, len, err) == -1)
		goto out;
	if (v.doc.version != i + 1)
		(void)parse_fail(err, 2, "version %zu expected, not %llu",
		    i + 1, (unsigned long long)v.doc.version);
	else if (verify(t, &v, err) == 0 && append(t, &v, err) == 0)
		ret = 1;
out:
	version_clear(&v);
	return (ret);
}

int
trust_update(struct trust *t, const char *text, size_t len,
    struct parse_error *err)
{
	size_t i, n, off = 0;
	int added = 0, ret = 0;

	if (len > TRUST_ALL_MAX)
		return (parse_fail(err, 0, "more than %u bytes",
		    TRUST_ALL_MAX));
	enter(t);
	for (i = 0; off < len; i++, off += n) {
		if ((n = trust_doc_span(text + off, len - off)) == 0) {
			ret = parse_fail(err, 0, "version %zu is cut off",
			    i + 1);
			break;
		}
		if ((ret = take(t, i, text + off, n, err)) == -1)
			break;
		added += ret;
	}
	leave(t);
	return (ret == -1 ? -1 : added);
}

/* Asking. */

/* The newest version, or NULL. */
static const struct trust_doc *
newest(const struct trust *t)
{

	return (t->n == 0 ? NULL : &t->version[t->n - 1].doc);
}

uint64_t
trust_version(struct trust *t)
{
	uint64_t n;

	enter(t);
	n = t->n;
	leave(t);
	return (n);
}

int64_t
trust_expires(struct trust *t)
{
	const struct trust_doc *d;
	int64_t expires = 0;

	enter(t);
	if ((d = newest(t)) != NULL)
		expires = d->expires;
	leave(t);
	return (expires);
}

bool
trust_expired(struct trust *t, int64_t now)
{

	return (now >= trust_expires(t));
}

char *
trust_text(struct trust *t, size_t *len)
{
	size_t i, off = 0;
	char *p;

	enter(t);
	if ((p = malloc(t->bytes + 1)) != NULL) {
		for (i = 0; i < t->n; i++) {
			memcpy(p + off, t->version[i].text, t->version[i].len);
			off += t->version[i].len;
		}
		p[off] = '\0';
		*len = off;
	}
	leave(t);
	return (p);
}

/*
 * Whether d lets the signer sign for h's set.  *key is the key that is known to
 * have signed h, or NULL as long as none is.
 */
static enum trust_verdict
permits(const struct trust_doc *d, const struct head *h,
    const struct signature *s, const struct pubkey **key)
{
	enum trust_verdict verdict = TRUST_UNKNOWN_KEY;
	const struct trust_publisher *p;
	size_t i;

	for (i = 0; i < d->npublisher; i++) {
		p = &d->publisher[i];
		if (memcmp(p->key.id, s->id, sizeof(s->id)) != 0)
			continue;
		if (*key == NULL || !pubkey_same(*key, &p->key)) {
			if (signature_verify(s, &p->key, h->text,
			    h->signed_len) == -1) {
				if (verdict == TRUST_UNKNOWN_KEY)
					verdict = TRUST_BAD_SIGNATURE;
				continue;
			}
			*key = &p->key;
		}
		if (set_glob_match(p->glob, h->set))
			return (TRUST_OK);
		verdict = TRUST_NOT_FOR_SET;
	}
	return (verdict);
}

/* Says why, for the version that was asked last. */
static void
explain(enum trust_verdict verdict, const struct head *h,
    const struct signature *s, uint64_t version, struct parse_error *err)
{
	unsigned long long v = version;
	char id[17];

	(void)signature_id(s, id);
	if (verdict == TRUST_UNKNOWN_KEY)
		(void)parse_fail(err, 0, "signed by key %s, which the trust "
		    "document (version %llu) does not list", id, v);
	else if (verdict == TRUST_NOT_FOR_SET)
		(void)parse_fail(err, 0, "signed by key %s, which the trust "
		    "document (version %llu) does not list for set %.64s", id,
		    v, h->set);
	else if (verdict == TRUST_BAD_SIGNATURE)
		(void)parse_fail(err, 0, "the signature is not good: made by "
		    "another key with id %s, or the head was changed", id);
}

static enum trust_verdict
parse_head_signature(const struct head *h, struct signature *s,
    struct parse_error *err)
{

	if (h->len == h->signed_len) {
		(void)parse_fail(err, 0, "the head is not signed");
		return (TRUST_BAD_SIGNATURE);
	}
	if (signature_parse(s, h->text + h->signed_len, h->len - h->signed_len,
	    err) == -1)
		return (TRUST_BAD_SIGNATURE);
	return (TRUST_OK);
}

enum trust_verdict
trust_judge(struct trust *t, const struct head *h, int64_t now,
    struct parse_error *err)
{
	const struct pubkey *key = NULL;
	enum trust_verdict verdict;
	const struct trust_doc *d;
	char expires[DATE_ISO];
	struct signature s;

	if ((verdict = parse_head_signature(h, &s, err)) != TRUST_OK)
		return (verdict);
	enter(t);
	if ((d = newest(t)) == NULL) {
		verdict = TRUST_NONE;
		(void)parse_fail(err, 0, "there is no trust document yet");
	} else if ((verdict = permits(d, h, &s, &key)) != TRUST_OK)
		explain(verdict, h, &s, d->version, err);
	else if (now >= d->expires) {
		verdict = TRUST_EXPIRED;
		(void)parse_fail(err, 0, "the trust document (version %llu) "
		    "expired at %s; the root keys must sign a new one",
		    (unsigned long long)d->version,
		    date_iso(d->expires, expires));
	}
	leave(t);
	return (verdict);
}

enum trust_verdict
trust_judge_held(struct trust *t, const struct head *h,
    struct parse_error *err)
{
	enum trust_verdict verdict, best = TRUST_NONE;
	const struct pubkey *key = NULL;
	struct signature s;
	size_t i;

	if ((verdict = parse_head_signature(h, &s, err)) != TRUST_OK)
		return (verdict);
	enter(t);
	if (t->n == 0)
		(void)parse_fail(err, 0, "there is no trust document yet");
	for (i = t->n; i-- > 0 && best != TRUST_OK;) {
		verdict = permits(&t->version[i].doc, h, &s, &key);
		/* A good key that may not sign this set says more than a
		 * version that does not know it. */
		if (verdict != TRUST_OK && best == TRUST_NOT_FOR_SET)
			continue;
		if (verdict == TRUST_UNKNOWN_KEY && best != TRUST_NONE)
			continue;
		best = verdict;
		explain(verdict, h, &s, i + 1, err);
	}
	leave(t);
	return (best);
}

/* On disk. */

int
trust_load(struct trust *t, int dirfd, struct parse_error *err)
{
	struct parse_error why = { .line = 0 };
	char name[16], *text;
	int i, ret = 0;
	size_t len;

	for (i = 0; ret != -1 && i < TRUST_VERSIONS; i++) {
		(void)snprintf(name, sizeof(name), "%d", i + 1);
		text = fd_slurp(dirfd, name, TRUST_MAX, &len);
		if (text == NULL && errno == ENOENT)
			break;
		if (text == NULL)
			return (parse_fail(err, 0, "trust/%s: %s", name,
			    strerror(errno)));
		enter(t);
		ret = take(t, (size_t)i, text, len, &why);
		leave(t);
		free(text);
		if (ret == -1)
			(void)parse_fail(err, why.line, "trust/%s: %s", name,
			    why.reason);
	}
	return (ret == -1 ? -1 : 0);
}

int
trust_save(struct trust *t, int dirfd)
{
	char name[16], *text;
	size_t i, len, n, off;
	int ret = 0;

	if ((text = trust_text(t, &len)) == NULL)
		return (-1);
	for (i = off = 0; ret == 0 && off < len; i++, off += n) {
		n = trust_doc_span(text + off, len - off);
		CHECK(n > 0);
		(void)snprintf(name, sizeof(name), "%zu", i + 1);
		if (faccessat(dirfd, name, F_OK, 0) == 0)
			continue;
		ret = fd_replace(dirfd, name, text + off, n, 0644);
	}
	free(text);
	return (ret);
}
