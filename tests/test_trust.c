/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The trust document: its grammar, whose signatures make a version count, what
 * a head's signer may sign, and the chain on disk.
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "keys/trust.h"
#include "proto/date.h"
#include "proto/fd.h"

#define	N(a)	(sizeof(a) / sizeof((a)[0]))
#define	KEYS	8

/* Keys 0 to 3 are roots, 4 to 7 publishers, by custom. */
static struct seckey *key[KEYS];
static const int64_t created = 1795335617;	/* 2026-11-22T08:20:17Z */
static const int64_t expires = 1795335617 + 1000;

static int
make_keys(void **state)
{
	size_t i;

	(void)state;
	assert_int_equal(keys_init(), 0);
	for (i = 0; i < KEYS; i++)
		assert_non_null(key[i] = seckey_new());
	return (0);
}

static int
destroy_keys(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < KEYS; i++)
		seckey_destroy(&key[i]);
	return (0);
}

/*
 * A version in short: roots, publishers and signers are strings of key
 * numbers; publisher 4 has the glob "demo*", 5 has "FreeBSD:*" and so on.
 */
struct spec {
	unsigned	 version, threshold;
	const char	*roots, *publishers, *signers;
};
static const char *const globs[KEYS] = { "*", "*", "*", "*", "demo*",
    "FreeBSD:*", "d?mo", "*" };

static void
add_version(struct buf *b, const struct spec *s)
{
	struct trust_doc d = { .version = s->version, .created = created,
	    .expires = expires, .threshold = s->threshold };
	struct buf doc = BUF_INIT(TRUST_MAX);
	size_t i, k, signed_len;

	d.nroot = strlen(s->roots);
	d.npublisher = strlen(s->publishers);
	assert_non_null(d.publisher = calloc(d.npublisher + 1,
	    sizeof(*d.publisher)));
	for (i = 0; i < d.nroot; i++)
		d.root[i] = *seckey_pubkey(key[s->roots[i] - '0']);
	for (i = 0; i < d.npublisher; i++) {
		k = (size_t)(s->publishers[i] - '0');
		d.publisher[i].key = *seckey_pubkey(key[k]);
		(void)snprintf(d.publisher[i].glob, SET_NAME_MAX, "%s",
		    globs[k]);
	}
	assert_int_equal(trust_doc_write(&doc, &d), 0);
	signed_len = doc.len;
	for (i = 0; s->signers[i] != '\0'; i++)
		assert_int_equal(seckey_sign(key[s->signers[i] - '0'], doc.p,
		    signed_len, "trust", &doc), 0);
	assert_int_equal(buf_add(b, doc.p, doc.len), 0);
	buf_free(&doc);
	free(d.publisher);
}

static struct trust *
new_trust(const char *roots, unsigned threshold)
{
	struct pubkey root[TRUST_ROOTS];
	size_t i;

	for (i = 0; roots[i] != '\0'; i++)
		root[i] = *seckey_pubkey(key[roots[i] - '0']);
	return (trust_new(root, i, threshold));
}

/* A head of that set, signed by a key (-1: not at all). */
static void
make_head(struct head *h, const char *set, int signer)
{
	static const char zero[] = "000000000000000000000000000000000000000000"
	    "0000000000000000000000";
	struct buf b = BUF_INIT(HEAD_MAX);
	struct parse_error err = { .reason = "" };

	(void)buf_addf(&b, "pkgcast-head 1\nset %s\ngeneration 1\noldest 1\n"
	    "created 2026-11-22T08:20:17Z\nfiles 0\nbytes 0\n"
	    "manifest sha256:%s 11\nchunks sha256:%s 0\nprevious none\n", set,
	    zero, zero);
	if (signer == -1)
		assert_int_equal(head_parse_signed(h, b.p, b.len, &err), 0);
	else {
		assert_int_equal(seckey_sign(key[signer], b.p, b.len, "head",
		    &b), 0);
		if (head_parse(h, b.p, b.len, &err) == -1)
			fail_msg("%s", err.reason);
	}
	buf_free(&b);
}

/* Grammar. */

static const struct spec plain = { 1, 1, "0", "45", "0" };

static int
parse(const char *text, size_t len, struct parse_error *err)
{
	struct trust_doc d;
	int ret;

	if ((ret = trust_doc_parse(&d, text, len, err)) == 0)
		trust_doc_free(&d);
	return (ret);
}

/* text with the first `from` replaced by `to`. */
static char *
edit(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	char *out;

	assert_non_null(at);
	assert_int_not_equal(asprintf(&out, "%.*s%s%s", (int)(at - text), text,
	    to, at + strlen(from)), -1);
	return (out);
}

static void
grammar(void **state)
{
	static const struct { const char *from, *to; bool good; } cases[] = {
	    { "pkgcast-trust 1", "pkgcast-trust 1", true },
	    { "pkgcast-trust 1", "pkgcast-trust 2", false },
	    { "pkgcast-trust 1\n", "", false },
	    { "pkgcast-trust 1", "\xef\xbb\xbfpkgcast-trust 1", false },
	    { "version 1", "version 2", true },
	    { "version 1", "version 1024", true },
	    { "version 1", "version 1025", false },
	    { "version 1", "version 01", false },
	    { "version 1", "version 0", false },
	    { "version 1", "version  1", false },
	    { "version 1", "version 1 ", false },
	    { "version 1\n", "version 1\nversion 1\n", false },
	    { "version 1\n", "", false },
	    { "version 1\n", "version 1\r\n", false },
	    { "created 2026-11-22T08:20:17Z", "created 2026-11-22", false },
	    { "created 2026-11-22T08:20:17Z", "created 2026-11-22T08:36:57Z",
	      false },
	    { "created 2026-11-22T08:20:17Z", "created 2026-11-31T08:20:17Z",
	      false },
	    { "threshold 1", "threshold 2", false },
	    { "threshold 1", "threshold 0", false },
	    { "threshold 1", "threshold 17", false },
	    { "threshold 1\n", "threshold 1\nnote x\n", false },
	    { "root RW", "root  RW", false },
	    { "root RW", "root XW", false },
	    { "root RW", "Root RW", false },
	    { "publisher RW", "publisher RW?", false },
	    { " demo*\n", " demo*/\?[a-z]\n", true },
	    { " demo*\n", " \n", false },
	    { " demo*\n", "\n", false },
	    { " demo*\n", " demo*\t\n", false },
	    { " demo*\n", " demo* \n", false },
	    { " demo*\n", " de\\mo\n", false },
	    { "untrusted comment: ", "untrusted  comment: ", false },
	    { "untrusted comment: ", "\nuntrusted comment: ", false },
	    { "\ntrusted comment: ", "\nuntrusted comment: ", false },
	};
	struct buf b = BUF_INIT(TRUST_MAX);
	struct parse_error err;
	size_t i;
	char *text;

	(void)state;
	add_version(&b, &plain);
	for (i = 0; i < N(cases); i++) {
		text = edit(b.p, cases[i].from, cases[i].to);
		err.reason[0] = '\0';
		if (parse(text, strlen(text), &err) !=
		    (cases[i].good ? 0 : -1))
			fail_msg("case %zu: %s", i, err.reason);
		free(text);
	}
	buf_free(&b);
}

static void
limits(void **state)
{
	static const struct spec cases[] = {
	    /* version, threshold, roots, publishers, signers */
	    { 1, 1, "00", "4", "0" },		/* a root twice */
	    { 1, 1, "0", "44", "0" },		/* a publisher twice */
	    { 1, 1, "0", "4", "" },		/* nobody signed */
	    { 1, 1, "0", "4",			/* 33 signatures */
	      "000000000000000000000000000000000" },
	    { 1, 1, "", "4", "0" },		/* no root */
	};
	struct buf b = BUF_INIT(TRUST_MAX);
	struct trust_doc d;
	size_t i;

	(void)state;
	for (i = 0; i < N(cases); i++) {
		add_version(&b, &cases[i]);
		assert_int_equal(parse(b.p, b.len, NULL), -1);
		buf_free(&b);
	}
	add_version(&b, &(const struct spec){ 7, 2, "012", "457", "0123" });
	assert_int_equal(trust_doc_parse(&d, b.p, b.len, NULL), 0);
	assert_int_equal(d.version, 7);
	assert_int_equal(d.threshold, 2);
	assert_int_equal(d.nroot, 3);
	assert_int_equal(d.npublisher, 3);
	assert_int_equal(d.nsignature, 4);
	assert_int_equal(d.created, created);
	assert_int_equal(d.expires, expires);
	assert_string_equal(d.publisher[1].glob, "FreeBSD:*");
	trust_doc_free(&d);
	/* No truncation is a document, but one after a whole signature. */
	for (i = 0; i < d.signed_len + 40; i++)
		assert_int_equal(parse(b.p, i, NULL), -1);
	buf_free(&b);
}

/* Who must have signed. */

static void
thresholds(void **state)
{
	static const struct {
		const char *roots; unsigned threshold;	/* configured */
		struct spec v[3];
		int good;				/* versions taken */
	} cases[] = {
	    { "0", 0, { { 1, 1, "0", "4", "0" } }, 1 },
	    { "0", 0, { { 1, 1, "0", "4", "1" } }, 0 },
	    /* All configured keys must sign unless root-threshold says less. */
	    { "01", 0, { { 1, 1, "01", "4", "0" } }, 0 },
	    { "01", 0, { { 1, 1, "01", "4", "01" } }, 1 },
	    { "01", 1, { { 1, 1, "01", "4", "1" } }, 1 },
	    /* Who signs twice counts once. */
	    { "01", 2, { { 1, 1, "01", "4", "00" } }, 0 },
	    { "0", 0, { { 1, 2, "01", "4", "00" } }, 0 },
	    /* Its own threshold of its own roots counts, too. */
	    { "0", 0, { { 1, 2, "01", "4", "0" } }, 0 },
	    { "0", 0, { { 1, 1, "1", "4", "0" } }, 0 },
	    { "0", 0, { { 1, 1, "1", "4", "01" } }, 1 },
	    /* Version 2: version 1's roots and its own. */
	    { "0", 0, { { 1, 1, "0", "4", "0" }, { 2, 1, "1", "5", "01" } },
	      2 },
	    { "0", 0, { { 1, 1, "0", "4", "0" }, { 2, 1, "1", "5", "1" } },
	      1 },
	    { "0", 0, { { 1, 1, "0", "4", "0" }, { 2, 1, "1", "5", "0" } },
	      1 },
	    { "0", 0, { { 1, 2, "012", "4", "01" },
	      { 2, 1, "012", "5", "2" } }, 1 },
	    { "0", 0, { { 1, 2, "012", "4", "01" },
	      { 2, 1, "012", "5", "12" } }, 2 },
	    /* Version 3 needs 2's roots, not 1's. */
	    { "0", 0, { { 1, 1, "0", "4", "0" }, { 2, 1, "1", "5", "01" },
	      { 3, 1, "0", "6", "0" } }, 2 },
	    { "0", 0, { { 1, 1, "0", "4", "0" }, { 2, 1, "1", "5", "01" },
	      { 3, 1, "1", "6", "1" } }, 3 },
	    /* Numbers are neither left out nor repeated. */
	    { "0", 0, { { 2, 1, "0", "4", "0" } }, 0 },
	    { "0", 0, { { 1, 1, "0", "4", "0" }, { 3, 1, "0", "4", "0" } },
	      1 },
	    { "0", 0, { { 1, 1, "0", "4", "0" }, { 1, 1, "0", "5", "0" } },
	      1 },
	};
	struct parse_error err;
	struct buf b;
	struct trust *t;
	size_t i, j, n;
	int ret;

	(void)state;
	for (i = 0; i < N(cases); i++) {
		b = (struct buf)BUF_INIT(TRUST_ALL_MAX);
		for (j = n = 0; j < 3 && cases[i].v[j].version != 0; j++, n++)
			add_version(&b, &cases[i].v[j]);
		assert_non_null(t = new_trust(cases[i].roots,
		    cases[i].threshold));
		err.reason[0] = '\0';
		ret = trust_update(t, b.p, b.len, &err);
		if (trust_version(t) != (uint64_t)cases[i].good ||
		    ret != ((int)n == cases[i].good ? (int)n : -1))
			fail_msg("case %zu: %s", i, err.reason);
		if (ret == -1)
			assert_true(err.reason[0] != '\0');
		trust_destroy(&t);
		buf_free(&b);
	}
}

static void
configured_roots(void **state)
{
	struct pubkey twice[2];
	struct trust *t;

	(void)state;
	assert_null(new_trust("", 0));
	assert_null(new_trust("01", 3));
	/* One key given twice is one key. */
	twice[0] = twice[1] = *seckey_pubkey(key[0]);
	assert_null(trust_new(twice, 2, 2));
	assert_int_equal(errno, EINVAL);
	assert_non_null(t = trust_new(twice, 2, 0));
	trust_destroy(&t);
}

/* Who trusts nobody takes no version, whoever signed it. */
static void
nobody(void **state)
{
	static const struct spec v[] = { { 1, 1, "0", "4", "0" },
	    { 1, 1, "0", "4", "" } };
	struct parse_error err;
	struct trust *t;
	struct buf b;
	size_t i;

	(void)state;
	assert_non_null(t = trust_none());
	for (i = 0; i < N(v); i++) {
		b = (struct buf)BUF_INIT(TRUST_MAX);
		add_version(&b, &v[i]);
		assert_int_equal(trust_update(t, b.p, b.len, &err), -1);
		buf_free(&b);
	}
	assert_int_equal(trust_version(t), 0);
	assert_true(trust_expired(t, 0));
	trust_destroy(&t);
}

static void
updates(void **state)
{
	static const struct spec v[] = { { 1, 1, "0", "4", "0" },
	    { 2, 1, "0", "5", "0" }, { 3, 1, "0", "6", "0" } };
	struct buf b = BUF_INIT(TRUST_ALL_MAX), other = BUF_INIT(TRUST_MAX);
	struct trust *t = new_trust("0", 0);
	struct parse_error err;
	size_t len, one, two;
	char *text;

	(void)state;
	assert_int_equal(trust_version(t), 0);
	assert_true(trust_expired(t, 0));
	add_version(&b, &v[0]);
	one = b.len;
	assert_int_equal(trust_doc_span(b.p, b.len), one);
	assert_int_equal(trust_doc_span(b.p, b.len - 1), 0);
	assert_int_equal(trust_doc_span("", 0), 0);
	add_version(&b, &v[1]);
	two = b.len;
	assert_int_equal(trust_doc_span(b.p, b.len), one);
	add_version(&b, &v[2]);
	/* A damaged one keeps those before it. */
	assert_int_equal(trust_update(t, b.p, b.len - 1, &err), -1);
	assert_non_null(strstr(err.reason, "cut off"));
	assert_int_equal(trust_version(t), 2);
	assert_int_equal(trust_update(t, b.p, two, &err), 0);
	assert_int_equal(trust_update(t, b.p, b.len, &err), 1);
	assert_int_equal(trust_update(t, b.p, one, &err), 0);
	assert_int_equal(trust_update(t, "", 0, &err), 0);
	assert_int_equal(trust_version(t), 3);
	assert_int_equal(trust_expires(t), expires);
	assert_false(trust_expired(t, expires - 1));
	assert_true(trust_expired(t, expires));
	assert_non_null(text = trust_text(t, &len));
	assert_int_equal(len, b.len);
	assert_memory_equal(text, b.p, len);
	free(text);
	/* Another document under a number that is held, though well signed. */
	add_version(&other, &(const struct spec){ 1, 1, "0", "7", "0" });
	assert_int_equal(trust_update(t, other.p, other.len, &err), -1);
	assert_non_null(strstr(err.reason, "version 1 differs"));
	trust_destroy(&t);
	buf_free(&other);
	buf_free(&b);
}

/* Whoever gave us the first version may have changed what nobody signed; the
 * original must still be taken, and what follows it. */
static void
unsigned_comments_do_not_matter(void **state)
{
	static const char mark[] = "\nuntrusted comment: ";
	static const struct spec v[] = { { 1, 1, "0", "4", "0" },
	    { 2, 1, "0", "5", "0" } };
	struct buf b = BUF_INIT(TRUST_ALL_MAX);
	struct trust *t = new_trust("0", 0);
	struct parse_error err;
	char *comment;

	(void)state;
	add_version(&b, &v[0]);
	assert_non_null(comment = memmem(b.p, b.len, mark, strlen(mark)));
	comment += strlen(mark);
	*comment ^= 1;
	assert_int_equal(trust_update(t, b.p, b.len, &err), 1);
	*comment ^= 1;
	add_version(&b, &v[1]);
	assert_int_equal(trust_update(t, b.p, b.len, &err), 1);
	assert_int_equal(trust_version(t), 2);
	trust_destroy(&t);
	buf_free(&b);
}

static void
a_changed_byte_is_refused(void **state)
{
	struct buf b = BUF_INIT(TRUST_MAX);
	struct trust *t = new_trust("0", 0);
	size_t i, end;

	(void)state;
	add_version(&b, &plain);
	end = (size_t)(strstr(b.p, "untrusted comment: ") - b.p);
	for (i = 0; i < end; i++) {
		b.p[i] = (char)(b.p[i] ^ 1);
		assert_int_equal(trust_update(t, b.p, b.len, NULL), -1);
		b.p[i] = (char)(b.p[i] ^ 1);
	}
	assert_int_equal(trust_update(t, b.p, b.len, NULL), 1);
	trust_destroy(&t);
	buf_free(&b);
}

/* Judging heads. */

static void
judging(void **state)
{
	static const struct {
		const char *set; int signer; int64_t late;
		enum trust_verdict now, held; const char *why;
	} cases[] = {
	    /* Versions: 1 lists 4 (demo*), 5 (FreeBSD:*); 2 lists 4, 7 (*). */
	    { "demo", 4, 0, TRUST_OK, TRUST_OK, "" },
	    { "demo/a", 4, 0, TRUST_OK, TRUST_OK, "" },
	    { "other", 4, 0, TRUST_NOT_FOR_SET, TRUST_NOT_FOR_SET,
	      "which the trust document (version 2) does not list for set other" },
	    { "other", 7, 0, TRUST_OK, TRUST_OK, "" },
	    { "FreeBSD:14:amd64/latest", 5, 0, TRUST_UNKNOWN_KEY, TRUST_OK,
	      "which the trust document (version 2) does not list" },
	    { "demo", 5, 0, TRUST_UNKNOWN_KEY, TRUST_NOT_FOR_SET, "" },
	    { "demo", 6, 0, TRUST_UNKNOWN_KEY, TRUST_UNKNOWN_KEY, "" },
	    { "demo", 0, 0, TRUST_UNKNOWN_KEY, TRUST_UNKNOWN_KEY, "" },
	    { "demo", 4, 1, TRUST_EXPIRED, TRUST_OK, "expired at" },
	    { "demo", -1, 0, TRUST_BAD_SIGNATURE, TRUST_BAD_SIGNATURE,
	      "not signed" },
	};
	struct buf b = BUF_INIT(TRUST_ALL_MAX);
	struct trust *t = new_trust("0", 0);
	struct parse_error err;
	enum trust_verdict v;
	struct head h;
	size_t i;

	(void)state;
	make_head(&h, "demo", 4);
	assert_int_equal(trust_judge(t, &h, created, &err), TRUST_NONE);
	assert_int_equal(trust_judge_held(t, &h, &err), TRUST_NONE);
	add_version(&b, &(const struct spec){ 1, 1, "0", "45", "0" });
	add_version(&b, &(const struct spec){ 2, 1, "0", "47", "0" });
	assert_int_equal(trust_update(t, b.p, b.len, &err), 2);
	for (i = 0; i < N(cases); i++) {
		make_head(&h, cases[i].set, cases[i].signer);
		err.reason[0] = '\0';
		v = trust_judge(t, &h, cases[i].late ? expires : created, &err);
		if (v != cases[i].now ||
		    strstr(err.reason, cases[i].why) == NULL)
			fail_msg("case %zu: %d %s", i, (int)v, err.reason);
		v = trust_judge_held(t, &h, &err);
		if (v != cases[i].held)
			fail_msg("case %zu, held: %d", i, (int)v);
	}
	trust_destroy(&t);
	buf_free(&b);
}

static void
forged_heads(void **state)
{
	struct buf b = BUF_INIT(TRUST_ALL_MAX);
	struct trust *t = new_trust("0", 0);
	struct parse_error err;
	struct head h, other;
	char *comment;

	(void)state;
	add_version(&b, &plain);
	assert_int_equal(trust_update(t, b.p, b.len, &err), 1);
	/* A signature of another head. */
	make_head(&h, "demo", 4);
	make_head(&other, "dema", 4);
	memcpy(h.text + h.signed_len, other.text + other.signed_len,
	    other.len - other.signed_len);
	assert_int_equal(trust_judge(t, &h, created, &err),
	    TRUST_BAD_SIGNATURE);
	assert_int_equal(trust_judge_held(t, &h, &err), TRUST_BAD_SIGNATURE);
	/* A trusted comment that was changed. */
	make_head(&h, "demo", 4);
	assert_non_null(comment = strstr(h.text, "\ntrusted comment: "));
	comment[18] = 'H';
	assert_int_equal(trust_judge(t, &h, created, &err),
	    TRUST_BAD_SIGNATURE);
	trust_destroy(&t);
	buf_free(&b);
}

/* On disk. */

static void
on_disk(void **state)
{
	struct buf b = BUF_INIT(TRUST_ALL_MAX);
	struct trust *t = new_trust("0", 0), *again = new_trust("0", 0);
	char dir[] = "/tmp/test_trust.XXXXXX", *text;
	struct parse_error err;
	size_t one, len;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_not_equal(fd = fd_open_dir(AT_FDCWD, dir), -1);
	assert_int_equal(trust_load(again, fd, &err), 0);
	assert_int_equal(trust_version(again), 0);
	add_version(&b, &(const struct spec){ 1, 1, "0", "4", "0" });
	one = b.len;
	add_version(&b, &(const struct spec){ 2, 1, "0", "5", "0" });
	assert_int_equal(trust_update(t, b.p, one, &err), 1);
	assert_int_equal(trust_save(t, fd), 0);
	assert_int_equal(trust_update(t, b.p, b.len, &err), 1);
	assert_int_equal(trust_save(t, fd), 0);
	assert_int_equal(faccessat(fd, "3", F_OK, 0), -1);
	assert_non_null(text = fd_slurp(fd, "2", TRUST_MAX, &len));
	assert_int_equal(len, b.len - one);
	assert_memory_equal(text, b.p + one, len);
	assert_int_equal(trust_load(again, fd, &err), 0);
	assert_int_equal(trust_load(again, fd, &err), 0);
	assert_int_equal(trust_version(again), 2);
	trust_destroy(&again);
	/* A damaged file is named, and those before it count. */
	text[40] ^= 1;
	assert_int_equal(fd_replace(fd, "2", text, len, 0644), 0);
	again = new_trust("0", 0);
	assert_int_equal(trust_load(again, fd, &err), -1);
	assert_non_null(strstr(err.reason, "trust/2"));
	assert_int_equal(trust_version(again), 1);
	trust_destroy(&again);
	/* Another root: nothing of it counts. */
	again = new_trust("1", 0);
	assert_int_equal(trust_load(again, fd, &err), -1);
	assert_non_null(strstr(err.reason, "root-key"));
	trust_destroy(&again);
	free(text);
	fd_close(&fd);
	assert_int_equal(fd_remove_tree(AT_FDCWD, dir), 0);
	trust_destroy(&t);
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grammar),
		cmocka_unit_test(limits),
		cmocka_unit_test(thresholds),
		cmocka_unit_test(configured_roots),
		cmocka_unit_test(nobody),
		cmocka_unit_test(updates),
		cmocka_unit_test(unsigned_comments_do_not_matter),
		cmocka_unit_test(a_changed_byte_is_refused),
		cmocka_unit_test(judging),
		cmocka_unit_test(forged_heads),
		cmocka_unit_test(on_disk),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("trust", tests, make_keys,
	    destroy_keys));
}
