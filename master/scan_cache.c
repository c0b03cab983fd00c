/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory of a scan: a file of records "identity, digest, rows" between a
 * first line with the version and a digest of all before it.  Called by
 * master/scan.c, in one thread.
 *
 * Record: seven numbers of 8 bytes, least first (device, inode, size, mtime,
 * its nanoseconds, ctime, its nanoseconds), 32 bytes of digest, rows.
 */

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "master/scan_cache.h"
#include "proto/buf.h"
#include "proto/chunk.h"
#include "proto/fd.h"

#define	CACHE_FIRST	"pkgcast-scan 1\n"
#define	CACHE_FIRST_LEN	(sizeof(CACHE_FIRST) - 1)
#define	CACHE_MAX	(512u << 20)	/* bytes of the file */
#define	CACHE_NUMBERS	7
#define	RECORD_LEN	(CACHE_NUMBERS * 8 + DIGEST_LEN)

struct record_ref {
	struct scan_identity	 id;
	const uint8_t		*digest;	/* rows follow */
};

struct scan_cache {
	uint8_t			*text;
	struct record_ref	*record;	/* sorted */
	size_t			 n;
};

struct scan_cache_writer {
	struct buf	 b;
};

void
scan_identity(struct scan_identity *id, const struct stat *st)
{

	memset(id, 0, sizeof(*id));
	id->dev = (uint64_t)st->st_dev;
	id->ino = (uint64_t)st->st_ino;
	id->size = (uint64_t)st->st_size;
	id->mtime = (int64_t)st->st_mtim.tv_sec;
	id->mtime_ns = (uint64_t)st->st_mtim.tv_nsec;
	id->ctime = (int64_t)st->st_ctim.tv_sec;
	id->ctime_ns = (uint64_t)st->st_ctim.tv_nsec;
}

static void
numbers(const struct scan_identity *id, uint64_t v[CACHE_NUMBERS])
{

	v[0] = id->dev;
	v[1] = id->ino;
	v[2] = id->size;
	v[3] = (uint64_t)id->mtime;
	v[4] = id->mtime_ns;
	v[5] = (uint64_t)id->ctime;
	v[6] = id->ctime_ns;
}

int
scan_identity_cmp(const struct scan_identity *a, const struct scan_identity *b)
{
	uint64_t x[CACHE_NUMBERS], y[CACHE_NUMBERS];
	size_t i;

	numbers(a, x);
	numbers(b, y);
	for (i = 0; i < CACHE_NUMBERS; i++)
		if (x[i] != y[i])
			return (x[i] < y[i] ? -1 : 1);
	return (0);
}

static int
ref_cmp(const void *a, const void *b)
{
	const struct record_ref *x = a, *y = b;

	return (scan_identity_cmp(&x->id, &y->id));
}

static uint64_t
get64(const uint8_t *p)
{
	uint64_t v = 0;
	int i;

	for (i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return (v);
}

/* Counts the records in [p, end), or notes them in c.  -1: not well-formed. */
static int
parse(struct scan_cache *c, const uint8_t *p, const uint8_t *end, bool note)
{
	struct scan_identity id;
	uint64_t rows;

	for (c->n = 0; p < end; c->n++) {
		if ((size_t)(end - p) < RECORD_LEN)
			return (-1);
		id.dev = get64(p);
		id.ino = get64(p + 8);
		id.size = get64(p + 16);
		id.mtime = (int64_t)get64(p + 24);
		id.mtime_ns = get64(p + 32);
		id.ctime = (int64_t)get64(p + 40);
		id.ctime_ns = get64(p + 48);
		p += CACHE_NUMBERS * 8;
		if (id.size > INT64_MAX)
			return (-1);
		rows = chunk_rows(id.size);
		if (rows > (size_t)(end - p - DIGEST_LEN) / DIGEST_LEN)
			return (-1);
		if (note) {
			c->record[c->n].id = id;
			c->record[c->n].digest = p;
		}
		p += DIGEST_LEN + rows * DIGEST_LEN;
	}
	return (0);
}

struct scan_cache *
scan_cache_read(int dirfd, const char *name)
{
	struct scan_cache *c;
	struct digest d;
	const uint8_t *first, *end;
	size_t len;

	if ((c = calloc(1, sizeof(*c))) == NULL)
		return (NULL);
	if ((c->text = (uint8_t *)fd_slurp(dirfd, name, CACHE_MAX, &len)) ==
	    NULL || len < CACHE_FIRST_LEN + DIGEST_LEN ||
	    memcmp(c->text, CACHE_FIRST, CACHE_FIRST_LEN) != 0)
		goto bad;
	first = c->text + CACHE_FIRST_LEN;
	end = c->text + len - DIGEST_LEN;
	digest_of(&d, c->text, len - DIGEST_LEN);
	if (memcmp(d.b, end, DIGEST_LEN) != 0)
		goto bad;
	if (parse(c, first, end, false) == -1 ||
	    (c->record = calloc(c->n + 1, sizeof(*c->record))) == NULL ||
	    parse(c, first, end, true) == -1)
		goto bad;
	qsort(c->record, c->n, sizeof(*c->record), ref_cmp);
	return (c);
bad:
	scan_cache_destroy(&c);
	return (NULL);
}

void
scan_cache_destroy(struct scan_cache **c)
{

	if (*c == NULL)
		return;
	free((*c)->text);
	free((*c)->record);
	free(*c);
	*c = NULL;
}

bool
scan_cache_find(const struct scan_cache *c, const struct scan_identity *id,
    struct digest *d, const uint8_t **rows)
{
	const struct record_ref *r;
	struct record_ref key = { .id = *id };

	if (c == NULL || (r = bsearch(&key, c->record, c->n,
	    sizeof(*c->record), ref_cmp)) == NULL)
		return (false);
	memcpy(d->b, r->digest, DIGEST_LEN);
	*rows = chunk_rows(id->size) > 0 ? r->digest + DIGEST_LEN : NULL;
	return (true);
}

struct scan_cache_writer *
scan_cache_begin(void)
{
	struct scan_cache_writer *w;

	if ((w = calloc(1, sizeof(*w))) == NULL)
		return (NULL);
	w->b = (struct buf)BUF_INIT(CACHE_MAX);
	(void)buf_adds(&w->b, CACHE_FIRST);
	return (w);
}

void
scan_cache_add(struct scan_cache_writer *w, const struct scan_identity *id,
    const struct digest *d, const uint8_t *rows)
{
	uint64_t v[CACHE_NUMBERS];
	uint8_t bytes[CACHE_NUMBERS * 8];
	size_t i;

	if (w == NULL || w->b.failed)
		return;
	numbers(id, v);
	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(v[i / 8] >> (i % 8 * 8));
	(void)buf_add(&w->b, bytes, sizeof(bytes));
	(void)buf_add(&w->b, d->b, DIGEST_LEN);
	if (rows != NULL)
		(void)buf_add(&w->b, rows,
		    (size_t)chunk_rows(id->size) * DIGEST_LEN);
}

int
scan_cache_write(struct scan_cache_writer **w, int dirfd, const char *name)
{
	struct digest d;
	struct buf *b;
	int ret = -1;

	if (*w == NULL)
		return (-1);
	b = &(*w)->b;
	if (!b->failed) {
		digest_of(&d, b->p, b->len);
		if (buf_add(b, d.b, DIGEST_LEN) == 0)
			ret = fd_replace(dirfd, name, b->p, b->len, 0600);
	}
	buf_free(b);
	free(*w);
	*w = NULL;
	return (ret);
}
