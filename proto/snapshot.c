/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Generations in memory: whole (head, manifest, chunk table), or as the delta
 * to the generation that followed.  Immutable and reference-counted; any
 * thread.
 */

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"
#include "proto/chunk.h"
#include "proto/snapshot.h"

#define	SNAPSHOT_MAGIC	0x534e4150
#define	DELTA_MAGIC	0x44454c54

struct snapshot {
	unsigned	 magic;
	atomic_uint	 refs;
	uint64_t	 serial;
	struct head	 head;
	struct snapshot	*base;			/* whose manifest and rows
						 * these are; NULL: our own */
	struct manifest	*manifest;
	uint8_t		*rows;
	size_t		 rows_len;		/* bytes */
};

struct delta {
	unsigned	 magic;
	atomic_uint	 refs;
	struct head	 head;
	struct manifest	*manifest;	/* removed or changed; links as files */
	struct manifest	*added;		/* paths that the successor added */
	uint8_t		*rows;
};

static uint64_t
next_serial(void)
{
	static _Atomic uint64_t last;

	return (atomic_fetch_add(&last, 1) + 1);
}

static int
check_sums(struct snapshot *s, size_t manifest_len, bool verify,
    struct parse_error *err)
{
	const struct head *h = &s->head;
	struct digest d;
	const char *text;

	if (manifest_len != h->manifest_size || s->rows_len != h->chunks_size)
		return (parse_fail(err, 0, "manifest or chunk table has "
		    "another size than the head says"));
	if (verify) {
		text = manifest_text(s->manifest, NULL);
		digest_of(&d, text, manifest_len);
		if (!digest_eq(&d, &h->manifest))
			return (parse_fail(err, 0, "the manifest's digest is "
			    "not the head's"));
		digest_of(&d, s->rows, s->rows_len);
		if (!digest_eq(&d, &h->chunks))
			return (parse_fail(err, 0, "the chunk table's digest "
			    "is not the head's"));
	}
	if (manifest_files(s->manifest) != h->files ||
	    manifest_bytes(s->manifest) != h->bytes)
		return (parse_fail(err, 0, "the manifest has other files or "
		    "bytes than the head says"));
	if (manifest_rows(s->manifest) * DIGEST_LEN != s->rows_len)
		return (parse_fail(err, 0, "the chunk table has another "
		    "number of chunks than the manifest's files"));
	return (0);
}

struct snapshot *
snapshot_new(const struct head *h, char **manifest, size_t manifest_len,
    uint8_t **chunks, size_t chunks_len, bool verify, struct parse_error *err)
{
	struct snapshot *s;

	if ((s = calloc(1, sizeof(*s))) == NULL) {
		free(*manifest);
		free(*chunks);
		*manifest = NULL;
		*chunks = NULL;
		(void)parse_fail(err, 0, "out of memory");
		return (NULL);
	}
	s->magic = SNAPSHOT_MAGIC;
	atomic_init(&s->refs, 1);
	s->serial = next_serial();
	s->head = *h;
	s->rows = *chunks;
	s->rows_len = chunks_len;
	*chunks = NULL;
	if ((s->manifest = manifest_parse(manifest, manifest_len, err)) ==
	    NULL || check_sums(s, manifest_len, verify, err) == -1)
		snapshot_unref(&s);
	return (s);
}

struct snapshot *
snapshot_signed(struct snapshot *base, const struct head *h)
{
	struct snapshot *s;

	CHECK_OBJ(base, SNAPSHOT_MAGIC);
	CHECK(digest_eq(&base->head.digest, &h->digest));
	if ((s = calloc(1, sizeof(*s))) == NULL)
		return (NULL);
	s->magic = SNAPSHOT_MAGIC;
	atomic_init(&s->refs, 1);
	s->serial = next_serial();
	s->head = *h;
	s->base = snapshot_ref(base);
	s->manifest = base->manifest;
	s->rows = base->rows;
	s->rows_len = base->rows_len;
	return (s);
}

struct snapshot *
snapshot_ref(struct snapshot *s)
{

	CHECK_OBJ(s, SNAPSHOT_MAGIC);
	(void)atomic_fetch_add(&s->refs, 1);
	return (s);
}

void
snapshot_unref(struct snapshot **sp)
{
	struct snapshot *s = *sp;

	*sp = NULL;
	if (s == NULL)
		return;
	CHECK_OBJ(s, SNAPSHOT_MAGIC);
	if (atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	if (s->base != NULL) {
		snapshot_unref(&s->base);
	} else {
		manifest_destroy(&s->manifest);
		free(s->rows);
	}
	explicit_bzero(&s->magic, sizeof(s->magic));
	free(s);
}

uint64_t
snapshot_serial(const struct snapshot *s)
{

	return (s->serial);
}

const struct head *
snapshot_head(const struct snapshot *s)
{

	return (&s->head);
}

const struct manifest *
snapshot_manifest(const struct snapshot *s)
{

	return (s->manifest);
}

const uint8_t *
snapshot_table(const struct snapshot *s, size_t *len)
{

	*len = s->rows_len;
	return (s->rows);
}

const uint8_t *
snapshot_rows(const struct snapshot *s, const struct facts *f)
{

	return (chunk_rows(f->size) == 0 ? NULL : s->rows + f->row * DIGEST_LEN);
}

/* What two manifests have that the other has not, while it is gathered. */
struct diff {
	const struct manifest *old, *next;
	const uint8_t	*old_rows;
	uint8_t		*keep;		/* per entry of old: goes into the delta */
	uint8_t		*fresh;		/* per entry of next: was not in old */
};

static void
mark_parents(const struct manifest *m, uint8_t *mark, const char *path)
{
	const char *p = path + strlen(path);
	ssize_t at;

	while (p > path) {
		if (*--p != '/')
			continue;
		at = manifest_find(m, path, (size_t)(p - path));
		CHECK(at != -1);
		mark[at] = 1;
	}
}

static bool
same_facts(const struct manifest *a, size_t i, const struct manifest *b,
    ssize_t j)
{
	struct facts fa, fb;

	return (j != -1 && manifest_facts(a, i, &fa) &&
	    manifest_facts(b, (size_t)j, &fb) && fa.size == fb.size &&
	    fa.time == fb.time && digest_eq(&fa.digest, &fb.digest));
}

static void
compare(struct diff *d)
{
	struct entry e;
	ssize_t at;
	size_t i;

	for (i = 0; i < manifest_n(d->old); i++) {
		manifest_entry(d->old, i, &e);
		if (e.type == ENTRY_DIR)
			continue;
		at = manifest_find(d->next, e.path, e.path_len);
		if (same_facts(d->old, i, d->next, at))
			continue;
		d->keep[i] = 1;
		mark_parents(d->old, d->keep, e.path);
	}
	for (i = 0; i < manifest_n(d->next); i++) {
		manifest_entry(d->next, i, &e);
		if (e.type == ENTRY_DIR)
			continue;
		at = manifest_find(d->old, e.path, e.path_len);
		if (at != -1 && manifest_type(d->old, (size_t)at) != ENTRY_DIR)
			continue;
		d->fresh[i] = 1;
		mark_parents(d->next, d->fresh, e.path);
	}
}

/* A manifest of the marked entries of m, links as the files they lead to;
 * their rows go to *rows if that is wanted. */
static struct manifest *
extract(const struct manifest *m, const uint8_t *mark,
    const uint8_t *all_rows, uint8_t **rows)
{
	struct buf text = BUF_INIT(2 * (size_t)MANIFEST_MAX);
	struct buf table = BUF_INIT(2 * (size_t)CHUNK_TABLE_MAX);
	struct entry e;
	struct facts f;
	size_t i, len;

	(void)buf_adds(&text, MANIFEST_FIRST);
	for (i = 0; i < manifest_n(m); i++) {
		if (mark[i] == 0)
			continue;
		manifest_entry(m, i, &e);
		if (e.type != ENTRY_DIR) {
			CHECK(manifest_facts(m, i, &f));
			e.type = ENTRY_FILE;
			e.size = rows == NULL ? 0 : f.size;
			e.time = f.time;
			e.digest = f.digest;
			if (rows != NULL && chunk_rows(f.size) > 0)
				(void)buf_add(&table, all_rows + f.row *
				    DIGEST_LEN, (size_t)chunk_rows(f.size) *
				    DIGEST_LEN);
		}
		(void)manifest_add(&text, &e);
	}
	if (text.failed || table.failed) {
		buf_free(&text);
		buf_free(&table);
		return (NULL);
	}
	if (rows != NULL)
		*rows = (uint8_t *)buf_take(&table, NULL);
	text.p = buf_take(&text, &len);
	/* NULL also where the links' files make it too large. */
	return (manifest_parse(&text.p, len, NULL));
}

struct delta *
delta_new(const struct snapshot *old, const struct snapshot *next)
{
	struct diff diff = { .old = old->manifest, .next = next->manifest,
	    .old_rows = old->rows };
	struct delta *d;

	CHECK_OBJ(old, SNAPSHOT_MAGIC);
	CHECK_OBJ(next, SNAPSHOT_MAGIC);
	CHECK(strcmp(old->head.set, next->head.set) == 0 &&
	    old->head.generation < next->head.generation);
	if ((d = calloc(1, sizeof(*d))) == NULL)
		return (NULL);
	d->magic = DELTA_MAGIC;
	atomic_init(&d->refs, 1);
	d->head = old->head;
	diff.keep = calloc(manifest_n(diff.old) + 1, 1);
	diff.fresh = calloc(manifest_n(diff.next) + 1, 1);
	if (diff.keep != NULL && diff.fresh != NULL) {
		compare(&diff);
		d->manifest = extract(diff.old, diff.keep, diff.old_rows,
		    &d->rows);
		d->added = extract(diff.next, diff.fresh, NULL, NULL);
	}
	if (d->manifest == NULL || d->added == NULL)
		delta_unref(&d);
	free(diff.keep);
	free(diff.fresh);
	return (d);
}

struct delta *
delta_ref(struct delta *d)
{

	CHECK_OBJ(d, DELTA_MAGIC);
	(void)atomic_fetch_add(&d->refs, 1);
	return (d);
}

void
delta_unref(struct delta **dp)
{
	struct delta *d = *dp;

	*dp = NULL;
	if (d == NULL)
		return;
	CHECK_OBJ(d, DELTA_MAGIC);
	if (atomic_fetch_sub(&d->refs, 1) != 1)
		return;
	manifest_destroy(&d->manifest);
	manifest_destroy(&d->added);
	free(d->rows);
	explicit_bzero(&d->magic, sizeof(d->magic));
	free(d);
}

const struct head *
delta_head(const struct delta *d)
{

	return (&d->head);
}

const struct manifest *
delta_manifest(const struct delta *d)
{

	return (d->manifest);
}

const uint8_t *
delta_rows(const struct delta *d, const struct facts *f)
{

	return (chunk_rows(f->size) == 0 ? NULL : d->rows + f->row * DIGEST_LEN);
}

bool
delta_added(const struct delta *d, const char *path, size_t len)
{
	ssize_t at = manifest_find(d->added, path, len);

	return (at != -1 && manifest_type(d->added, (size_t)at) != ENTRY_DIR);
}
