/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The head: the signed document that makes a manifest generation N of a set
 * (pkgcast-formats(5)).  Parsed and written here; whose signature counts is
 * keys/trust.c's business.  Pure.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"
#include "proto/chunk.h"
#include "proto/date.h"
#include "proto/head.h"
#include "proto/manifest.h"

#define	SIGNATURE_LINES	4
#define	KEEP_COUNT	10
#define	KEEP_SECONDS	(48 * 3600)

/* A document being read line by line. */
struct reader {
	struct parse_error *err;
	const char	*p, *end;
	unsigned long	 nr;		/* of the line last read */
	const char	*value;		/* what follows the key in that line */
	size_t		 len;
};

static int
wrong(struct reader *r, const char *what)
{

	return (parse_fail(r->err, r->nr, "%s", what));
}

/* Reads the next line, which must be "<key> <value>"; false and unread when it
 * has another key. */
static bool
next(struct reader *r, const char *key)
{
	size_t n = strlen(key);
	const char *nl;

	if ((size_t)(r->end - r->p) <= n || memcmp(r->p, key, n) != 0 ||
	    r->p[n] != ' ' ||
	    (nl = memchr(r->p, '\n', (size_t)(r->end - r->p))) == NULL)
		return (false);
	r->nr++;
	r->value = r->p + n + 1;
	r->len = (size_t)(nl - r->value);
	r->p = nl + 1;
	return (true);
}

static int
need(struct reader *r, const char *key)
{

	if (next(r, key))
		return (0);
	return (parse_fail(r->err, r->nr + 1, "expected \"%s ...\"", key));
}

static int
need_u64(struct reader *r, const char *key, unsigned long long max,
    uint64_t *out)
{
	unsigned long long v;

	if (need(r, key) == -1)
		return (-1);
	if (parse_u64(r->value, r->len, max, &v) == -1)
		return (parse_fail(r->err, r->nr,
		    "%s: expected a number of at most %llu", key, max));
	*out = v;
	return (0);
}

/* sha256:<64 hex>[ <size>] */
static int
digest_value(struct reader *r, struct digest *d, uint64_t max, uint64_t *size)
{
	unsigned long long v;
	const size_t n = 7 + DIGEST_HEX;

	if (r->len < n || memcmp(r->value, "sha256:", 7) != 0 ||
	    digest_parse(d, r->value + 7, DIGEST_HEX) == -1)
		return (wrong(r, "expected sha256: and 64 digits"));
	if (size == NULL)
		return (r->len == n ? 0 : wrong(r, "nothing follows a digest"));
	if (r->len < n + 2 || r->value[n] != ' ' ||
	    parse_u64(r->value + n + 1, r->len - n - 1, max, &v) == -1)
		return (parse_fail(r->err, r->nr, "expected a size of at most "
		    "%" PRIu64 " bytes after the digest", max));
	*size = v;
	return (0);
}

static int
read_entries(struct reader *r, struct head *h)
{
	size_t i;

	while (next(r, "entry")) {
		if (h->nentry == HEAD_ENTRIES)
			return (wrong(r, "more than 16 entry lines"));
		if (!entry_glob_ok(r->value, r->len))
			return (wrong(r, "bad entry"));
		for (i = 0; i < h->nentry; i++)
			if (h->entry[i].len == r->len && memcmp(h->text +
			    h->entry[i].off, r->value, r->len) == 0)
				return (wrong(r, "repeated entry"));
		h->entry[h->nentry].off = (uint16_t)(r->value - h->text);
		h->entry[h->nentry].len = (uint16_t)r->len;
		h->nentry++;
	}
	return (0);
}

static int
read_fields(struct reader *r, struct head *h)
{

	if (need(r, "pkgcast-head") == -1)
		return (-1);
	if (r->len != 1 || r->value[0] != '1')
		return (wrong(r, "not version 1 of this format"));
	if (need(r, "set") == -1)
		return (-1);
	if (!set_name_ok(r->value, r->len))
		return (wrong(r, "bad set name"));
	memcpy(h->set, r->value, r->len);
	if (need_u64(r, "generation", HEAD_GENERATION_MAX,
	    &h->generation) == -1 ||
	    need_u64(r, "oldest", HEAD_GENERATION_MAX, &h->oldest) == -1)
		return (-1);
	if (h->generation == 0 || h->oldest == 0 || h->oldest > h->generation)
		return (wrong(r, "generations count from 1, and oldest is at "
		    "most the generation"));
	if (need(r, "created") == -1)
		return (-1);
	if (date_iso_parse(r->value, r->len, &h->created) == -1)
		return (wrong(r, "expected a time like 2026-11-22T08:20:17Z"));
	if (need_u64(r, "files", MANIFEST_ENTRIES, &h->files) == -1 ||
	    need_u64(r, "bytes", INT64_MAX, &h->bytes) == -1 ||
	    need(r, "manifest") == -1 ||
	    digest_value(r, &h->manifest, MANIFEST_MAX,
	    &h->manifest_size) == -1 ||
	    need(r, "chunks") == -1 ||
	    digest_value(r, &h->chunks, CHUNK_TABLE_MAX, &h->chunks_size) == -1)
		return (-1);
	if (h->chunks_size % DIGEST_LEN != 0)
		return (wrong(r, "a chunk table has 32 bytes a chunk"));
	if (read_entries(r, h) == -1 || need(r, "previous") == -1)
		return (-1);
	if (r->len == 4 && memcmp(r->value, "none", 4) == 0)
		return (0);
	h->has_previous = true;
	return (digest_value(r, &h->previous, 0, NULL));
}

static int
read_head(struct head *h, const char *text, size_t len, struct reader *r,
    struct parse_error *err)
{

	memset(h, 0, sizeof(*h));
	if (len > HEAD_MAX)
		return (parse_fail(err, 0, "a head has at most %d bytes",
		    HEAD_MAX));
	memcpy(h->text, text, len);
	h->len = len;
	r->err = err;
	r->p = h->text;
	r->end = h->text + len;
	r->nr = 0;
	if (read_fields(r, h) == -1)
		return (-1);
	h->signed_len = (size_t)(r->p - h->text);
	digest_of(&h->digest, h->text, h->signed_len);
	return (0);
}

int
head_parse_signed(struct head *h, const char *text, size_t len,
    struct parse_error *err)
{
	struct reader r;

	if (read_head(h, text, len, &r, err) == -1)
		return (-1);
	if (r.p != r.end)
		return (parse_fail(err, r.nr + 1,
		    "nothing follows the line \"previous\" here"));
	return (0);
}

int
head_parse(struct head *h, const char *text, size_t len,
    struct parse_error *err)
{
	struct reader r;
	const char *nl;
	unsigned i;

	if (read_head(h, text, len, &r, err) == -1)
		return (-1);
	for (i = 0; i < SIGNATURE_LINES; i++) {
		if ((nl = memchr(r.p, '\n', (size_t)(r.end - r.p))) == NULL)
			return (parse_fail(err, r.nr + 1, "the signature has "
			    "four lines"));
		r.p = nl + 1;
		r.nr++;
	}
	if (r.p != r.end)
		return (parse_fail(err, r.nr + 1,
		    "nothing follows the signature"));
	return (0);
}

size_t
head_span(const char *text, size_t len)
{
	static const char mark[] = "untrusted comment: ";
	const char *p = text, *end = text + len, *nl;
	unsigned left = 0;

	while ((nl = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		if (left == 0 && (size_t)(nl - p) >= sizeof(mark) - 1 &&
		    memcmp(p, mark, sizeof(mark) - 1) == 0)
			left = SIGNATURE_LINES;
		p = nl + 1;
		if (left > 0 && --left == 0)
			return ((size_t)(p - text));
	}
	return (0);
}

int
head_write(struct buf *b, const struct head *h, const char *const *entries)
{
	char hex[DIGEST_HEX + 1], when[DATE_ISO];
	size_t i;

	(void)buf_addf(b, "pkgcast-head 1\nset %s\ngeneration %" PRIu64
	    "\noldest %" PRIu64 "\ncreated %s\nfiles %" PRIu64 "\nbytes %"
	    PRIu64 "\n", h->set, h->generation, h->oldest,
	    date_iso(h->created, when), h->files, h->bytes);
	(void)buf_addf(b, "manifest sha256:%s %" PRIu64 "\n",
	    digest_hex(&h->manifest, hex), h->manifest_size);
	(void)buf_addf(b, "chunks sha256:%s %" PRIu64 "\n",
	    digest_hex(&h->chunks, hex), h->chunks_size);
	for (i = 0; i < h->nentry; i++)
		(void)buf_addf(b, "entry %s\n", entries[i]);
	if (h->has_previous)
		(void)buf_addf(b, "previous sha256:%s\n",
		    digest_hex(&h->previous, hex));
	else
		(void)buf_adds(b, "previous none\n");
	return (b->failed ? -1 : 0);
}

const char *
head_entry(const struct head *h, size_t i, char *out, size_t size)
{
	size_t n;

	CHECK(i < h->nentry && size > 0);
	n = h->entry[i].len < size ? h->entry[i].len : size - 1;
	memcpy(out, h->text + h->entry[i].off, n);
	out[n] = '\0';
	return (out);
}

enum head_part
head_part(const struct head *h, const struct digest *d, uint64_t *size)
{

	if (digest_eq(&h->manifest, d)) {
		*size = h->manifest_size;
		return (HEAD_MANIFEST);
	}
	if (digest_eq(&h->chunks, d)) {
		*size = h->chunks_size;
		return (HEAD_CHUNKS);
	}
	return (HEAD_NEITHER);
}

bool
head_is_entry(const struct head *h, const char *path)
{
	char glob[PATH_BYTES_MAX + 1];
	size_t i;

	for (i = 0; i < h->nentry; i++)
		if (entry_glob_match(head_entry(h, i, glob, sizeof(glob)),
		    path))
			return (true);
	return (false);
}

size_t
head_retain(const uint64_t *generation, const int64_t *created, size_t n,
    uint64_t oldest, int64_t now)
{
	size_t keep;

	for (keep = 0; keep < n && keep < HEAD_KEPT_MAX; keep++)
		if (generation[keep] < oldest || (keep >= KEEP_COUNT &&
		    created[keep] <= now - KEEP_SECONDS))
			break;
	return (keep);
}
