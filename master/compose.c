/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From what a generation shall hold to its manifest, chunk table and head.
 * Called by publish and rollback, in the program's one thread.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/compose.h"
#include "master/scan.h"
#include "proto/check.h"
#include "proto/chunk.h"
#include "proto/date.h"

struct content {
	const struct scan	*scan;		/* one of the two */
	const struct snapshot	*snapshot;
	uint64_t		 files;
	size_t			 n;
};

/* One entry of either source: time is not set. */
struct view {
	struct entry	 e;
	struct digest	 leads;		/* digest of the file, links followed */
	const uint8_t	*rows;
};

static void
view(const struct content *c, size_t i, struct view *v)
{
	const struct manifest *m;
	const struct scan_entry *s;
	struct facts f;

	v->rows = NULL;
	if (c->scan != NULL) {
		s = scan_nth(c->scan, i);
		v->e.type = s->type;
		v->e.size = s->size;
		v->e.digest = v->leads = s->digest;
		v->e.path_len = strlen(s->path);
		memcpy(v->e.path, s->path, v->e.path_len + 1);
		v->e.link_len = s->link == NULL ? 0 : strlen(s->link);
		memcpy(v->e.link, s->link == NULL ? "" : s->link,
		    v->e.link_len + 1);
		v->rows = s->rows;
		return;
	}
	m = snapshot_manifest(c->snapshot);
	manifest_entry(m, i, &v->e);
	if (!manifest_facts(m, i, &f))
		return;
	v->leads = f.digest;
	if (v->e.type == ENTRY_FILE)
		v->rows = snapshot_rows(c->snapshot, &f);
}

static const char *
view_path(const struct content *c, size_t i, enum entry_type *type,
    struct entry *e)
{
	const struct scan_entry *s;

	if (c->scan != NULL) {
		s = scan_nth(c->scan, i);
		*type = s->type;
		return (s->path);
	}
	manifest_entry(snapshot_manifest(c->snapshot), i, e);
	*type = e->type;
	return (e->path);
}

struct content *
content_of_scan(const struct scan *s)
{
	struct content *c;
	size_t i;

	if ((c = calloc(1, sizeof(*c))) == NULL)
		return (NULL);
	c->scan = s;
	c->n = scan_n(s);
	for (i = 0; i < c->n; i++)
		c->files += scan_nth(s, i)->type == ENTRY_FILE;
	return (c);
}

struct content *
content_of_snapshot(const struct snapshot *s)
{
	struct content *c;

	if ((c = calloc(1, sizeof(*c))) == NULL)
		return (NULL);
	c->snapshot = s;
	c->n = manifest_n(snapshot_manifest(s));
	c->files = manifest_files(snapshot_manifest(s));
	return (c);
}

void
content_destroy(struct content **c)
{

	free(*c);
	*c = NULL;
}

uint64_t
content_files(const struct content *c)
{

	return (c->files);
}

bool
content_same(const struct content *c, const struct manifest *m)
{
	struct view v;
	struct entry e;
	size_t i;

	if (c->n != manifest_n(m) || c->files != manifest_files(m))
		return (false);
	for (i = 0; i < c->n; i++) {
		view(c, i, &v);
		manifest_entry(m, i, &e);
		if (v.e.type != e.type || strcmp(v.e.path, e.path) != 0)
			return (false);
		if (e.type == ENTRY_FILE && (v.e.size != e.size ||
		    !digest_eq(&v.e.digest, &e.digest)))
			return (false);
		if (e.type == ENTRY_LINK && strcmp(v.e.link, e.link) != 0)
			return (false);
	}
	return (true);
}

uint64_t
content_lost(const struct content *c, const struct manifest *m)
{
	uint64_t kept = 0;
	enum entry_type type;
	struct entry e;
	const char *path;
	ssize_t at;
	size_t i;

	for (i = 0; i < c->n; i++) {
		path = view_path(c, i, &type, &e);
		if (type != ENTRY_FILE)
			continue;
		at = manifest_find(m, path, strlen(path));
		kept += at != -1 && manifest_type(m, (size_t)at) == ENTRY_FILE;
	}
	return (manifest_files(m) - kept);
}

uint64_t
content_new(const struct content *c, const struct manifest *m)
{
	uint64_t fresh = 0;
	struct view v;
	size_t i;

	for (i = 0; i < c->n; i++) {
		view(c, i, &v);
		if (v.e.type == ENTRY_FILE && (m == NULL ||
		    manifest_find_digest(m, &v.e.digest) == -1))
			fresh++;
	}
	return (fresh);
}

/*
 * What clients of each kind of repository read first.  A row counts where some
 * path matches `witness` and some path matches `glob`.
 */
static const struct {
	const char *witness, *glob;
} known[] = {
	/* pkg */
	{ "packagesite.*",	"meta.*" },
	{ "data.pkg",		"meta.*" },
	{ "packagesite.*",	"packagesite.*" },
	{ "meta.conf",		"data.*" },
	{ "packagesite.*",	"filesite.*" },
	{ "packagesite.*",	"digests.*" },
	{ "*/packagesite.*",	"*/meta.*" },
	{ "*/packagesite.*",	"*/packagesite.*" },
	{ "*/meta.conf",	"*/data.*" },
	{ "*/packagesite.*",	"*/filesite.*" },
	/* pkg_add */
	{ "INDEX*",		"INDEX*" },
	{ "Latest/*.tbz",	"Latest/*" },
	{ "Latest/*.tgz",	"Latest/*" },
	{ "*/INDEX*",		"*/INDEX*" },
	{ "*/Latest/*.tbz",	"*/Latest/*" },
	{ "*/Latest/*.tgz",	"*/Latest/*" },
	/* apt */
	{ "dists/*/InRelease",	"dists/*/InRelease" },
	{ "dists/*/Release",	"dists/*/Release" },
	{ "dists/*/Release.gpg", "dists/*/Release.gpg" },
	{ "dists/*/*/InRelease", "dists/*/*/InRelease" },
	{ "dists/*/*/Release.gpg", "dists/*/*/Release" },
	{ "dists/*/*/Release.gpg", "dists/*/*/Release.gpg" },
	{ "InRelease",		"InRelease" },
	{ "Release",		"Release" },
	{ "Release.gpg",	"Release.gpg" },
	/* pacman */
	{ "*.db.tar.*",		"*.db" },
	{ "*.db.tar.*",		"*.db.sig" },
	{ "*.db.tar.*",		"*.files" },
	{ "*.db.tar.*",		"*.files.sig" },
	{ "*/os/*/*.db.tar.*",	"*/os/*/*.db" },
	{ "*/os/*/*.db.tar.*",	"*/os/*/*.db.sig" },
	{ "*/os/*/*.db.tar.*",	"*/os/*/*.files" },
	{ "*/os/*/*.db.tar.*",	"*/os/*/*.files.sig" },
	/* apk */
	{ "APKINDEX.tar.gz",	"APKINDEX.tar.gz" },
	{ "*/APKINDEX.tar.gz",	"*/APKINDEX.tar.gz" },
	{ "*/*/APKINDEX.tar.gz", "*/*/APKINDEX.tar.gz" },
	/* rpm */
	{ "repodata/repomd.xml", "repodata/repomd.xml" },
	{ "repodata/repomd.xml.*", "repodata/repomd.xml.*" },
	{ "*/repodata/repomd.xml", "*/repodata/repomd.xml" },
	{ "*/repodata/repomd.xml.*", "*/repodata/repomd.xml.*" },
	{ "*/*/repodata/repomd.xml", "*/*/repodata/repomd.xml" },
	{ "*/*/repodata/repomd.xml.*", "*/*/repodata/repomd.xml.*" },
};
#define	KNOWN	(sizeof(known) / sizeof(known[0]))

static unsigned
slashes(const char *s)
{
	unsigned n = 0;

	for (; *s != '\0'; s++)
		n += *s == '/';
	return (n);
}

void
compose_globs(const struct content *c, struct globs *g, size_t *left)
{
	bool witness[KNOWN] = { false }, match[KNOWN] = { false };
	unsigned deep, depth[KNOWN];
	enum entry_type type;
	struct entry e;
	const char *path;
	size_t i, k;

	for (k = 0; k < KNOWN; k++)
		depth[k] = slashes(known[k].glob);
	for (i = 0; i < c->n; i++) {
		path = view_path(c, i, &type, &e);
		if (type == ENTRY_DIR)
			continue;
		deep = slashes(path);
		for (k = 0; k < KNOWN; k++) {
			if (depth[k] != deep)
				continue;
			witness[k] = witness[k] ||
			    entry_glob_match(known[k].witness, path);
			match[k] = match[k] ||
			    entry_glob_match(known[k].glob, path);
		}
	}
	g->n = *left = 0;
	for (k = 0; k < KNOWN; k++) {
		if (!witness[k] || !match[k])
			continue;
		for (i = 0; i < g->n; i++)
			if (strcmp(g->v[i], known[k].glob) == 0)
				break;
		if (i < g->n)
			continue;
		if (g->n == HEAD_ENTRIES)
			++*left;
		else
			g->v[g->n++] = known[k].glob;
	}
}

bool
compose_globs_same(const struct globs *g, const struct head *h)
{
	char text[PATH_BYTES_MAX + 1];
	size_t i;

	if (g->n != h->nentry)
		return (false);
	for (i = 0; i < g->n; i++)
		if (strcmp(g->v[i], head_entry(h, i, text, sizeof(text))) != 0)
			return (false);
	return (true);
}

/* Last-Modified: as it was, where the path still leads to the same bytes. */
static int64_t
time_of(const struct view *v, const struct manifest *previous, int64_t created)
{
	struct facts f;
	ssize_t at;

	if (previous == NULL ||
	    (at = manifest_find(previous, v->e.path, v->e.path_len)) == -1 ||
	    !manifest_facts(previous, (size_t)at, &f) ||
	    !digest_eq(&f.digest, &v->leads))
		return (created);
	return (f.time);
}

static int
write_content(const struct content *c, const struct manifest *previous,
    int64_t created, struct buf *manifest, struct buf *chunks,
    struct parse_error *err)
{
	struct view v;
	size_t i;

	(void)buf_adds(manifest, MANIFEST_FIRST);
	(void)buf_add(chunks, "", 0);
	for (i = 0; i < c->n; i++) {
		view(c, i, &v);
		v.e.time = v.e.type == ENTRY_DIR ? 0 :
		    time_of(&v, previous, created);
		(void)manifest_add(manifest, &v.e);
		if (v.e.type == ENTRY_FILE && v.rows != NULL)
			(void)buf_add(chunks, v.rows,
			    (size_t)chunk_rows(v.e.size) * DIGEST_LEN);
	}
	if (manifest->failed)
		return (parse_fail(err, 0,
		    "the manifest would be larger than %u MiB: split the set",
		    MANIFEST_MAX >> 20));
	if (chunks->failed)
		return (parse_fail(err, 0,
		    "the chunk table would be larger than %u MiB: split the set",
		    CHUNK_TABLE_MAX >> 20));
	return (0);
}

/* The parser decides whether the manifest is one, and counts. */
static int
count(struct draft *p, struct parse_error *err)
{
	struct manifest *m;
	struct parse_error why;
	char *text;

	if ((text = malloc(p->manifest_len + 1)) == NULL)
		return (parse_fail(err, 0, "out of memory"));
	memcpy(text, p->manifest, p->manifest_len + 1);
	if ((m = manifest_parse(&text, p->manifest_len, &why)) == NULL)
		return (parse_fail(err, 0, "manifest line %lu: %s", why.line,
		    why.reason));
	CHECK(manifest_rows(m) * DIGEST_LEN == p->chunks_len);
	p->head.files = manifest_files(m);
	p->head.bytes = manifest_bytes(m);
	manifest_destroy(&m);
	return (0);
}

int
compose_content(const struct content *c, const struct manifest *previous,
    int64_t created, struct draft *p, struct parse_error *err)
{
	struct buf manifest = BUF_INIT(MANIFEST_MAX);
	struct buf chunks = BUF_INIT(CHUNK_TABLE_MAX);
	int ret = -1;

	draft_free(p);
	if (write_content(c, previous, created, &manifest, &chunks, err) == -1)
		goto out;
	p->manifest = buf_take(&manifest, &p->manifest_len);
	p->chunks = buf_take(&chunks, &p->chunks_len);
	if (p->chunks == NULL && (p->chunks = strdup("")) == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		goto out;
	}
	if (count(p, err) == -1)
		goto out;
	p->head.created = created;
	p->head.manifest_size = p->manifest_len;
	p->head.chunks_size = p->chunks_len;
	digest_of(&p->head.manifest, p->manifest, p->manifest_len);
	digest_of(&p->head.chunks, p->chunks, p->chunks_len);
	ret = 0;
out:
	buf_free(&manifest);
	buf_free(&chunks);
	return (ret);
}

int
compose_head(struct draft *p, const struct globs *g, struct parse_error *err)
{
	struct buf b = BUF_INIT(HEAD_MAX);
	struct head h = p->head;
	int ret;

	h.nentry = g->n;
	if (head_write(&b, &h, g->v) == -1 || b.failed)
		ret = parse_fail(err, 0, "the head would be larger than %d bytes: use fewer --entry",
		    HEAD_MAX);
	else
		ret = head_parse_signed(&p->head, b.p, b.len, err);
	buf_free(&b);
	return (ret);
}

int
compose_sign(struct draft *p, const struct seckey *k,
    struct parse_error *err)
{
	struct buf b = BUF_INIT(HEAD_MAX);
	char comment[SET_NAME_MAX + 64], created[DATE_ISO];
	int n, ret = -1;

	n = snprintf(comment, sizeof(comment), "%s generation %llu %s",
	    p->head.set, (unsigned long long)p->head.generation,
	    date_iso(p->head.created, created));
	CHECK(n > 0 && (size_t)n < sizeof(comment));
	(void)buf_add(&b, p->head.text, p->head.signed_len);
	if (seckey_sign(k, p->head.text, p->head.signed_len, comment, &b) ==
	    -1 || b.failed)
		(void)parse_fail(err, 0, "cannot sign: out of room or memory");
	else
		ret = head_parse(&p->head, b.p, b.len, err);
	buf_free(&b);
	return (ret);
}
