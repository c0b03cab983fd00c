/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The manifest: an mtree(5) file in one canonical form (pkgcast-formats(5)).
 * The text itself is the index: an array of line offsets in canonical order for
 * binary search by path, and a hash table over the digests.  Written and parsed
 * by master, edge and publisher; immutable and so usable by any thread.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"
#include "proto/chunk.h"
#include "proto/manifest.h"

#define	LINE_BYTES	(8 * PATH_BYTES_MAX + 256)	/* longest line */
#define	NONE		UINT32_MAX
#define	TIME_MAX	253402300799LL			/* end of year 9999 */

struct manifest {
	char		*text;
	size_t		 len, n;
	uint32_t	*line;		/* offset of each entry's line */
	uint32_t	*row;		/* first row of files, else rows so far */
	uint32_t	*slot;		/* hash table of file entries by digest */
	size_t		 mask;
	uint64_t	 files, bytes, rows;
};

/* A line taken apart, nothing decoded yet. */
struct line {
	enum entry_type	 type;
	const char	*path, *link, *digest;
	size_t		 path_len, link_len;	/* still escaped */
	uint64_t	 size;
	int64_t		 time;
};

static bool
plain(unsigned char c)
{

	return (c >= '!' && c <= '~' && strchr("\\#*?[]=", c) == NULL);
}

/* Decodes escapes into out (PATH_BYTES_MAX + 1 bytes, NUL-terminated).  Only
 * the canonical spelling is taken.  Length, or -1. */
static ssize_t
unescape(const char *s, size_t len, char *out)
{
	unsigned v;
	size_t i, o = 0;

	for (i = 0; i < len; o++) {
		if (o == PATH_BYTES_MAX)
			return (-1);
		if (s[i] != '\\') {
			if (!plain((unsigned char)s[i]))
				return (-1);
			out[o] = s[i++];
			continue;
		}
		if (len - i < 4 || s[i + 1] < '0' || s[i + 1] > '3' ||
		    s[i + 2] < '0' || s[i + 2] > '7' || s[i + 3] < '0' ||
		    s[i + 3] > '7')
			return (-1);
		v = (unsigned)(s[i + 1] - '0') * 64 +
		    (unsigned)(s[i + 2] - '0') * 8 + (unsigned)(s[i + 3] - '0');
		if (plain((unsigned char)v))
			return (-1);
		out[o] = (char)v;
		i += 4;
	}
	out[o] = '\0';
	return ((ssize_t)o);
}

static int
escape(struct buf *b, const char *s, size_t len)
{
	unsigned char c;
	size_t i;

	for (i = 0; i < len; i++) {
		c = (unsigned char)s[i];
		if (plain(c))
			(void)buf_add(b, &s[i], 1);
		else
			(void)buf_addf(b, "\\%03o", (unsigned)c);
	}
	return (b->failed ? -1 : 0);
}

/* Takes `word` off the front of *p; NULL when it is not there. */
static const char *
skip(const char *p, const char *end, const char *word)
{
	size_t n = strlen(word);

	if (p == NULL || (size_t)(end - p) < n || memcmp(p, word, n) != 0)
		return (NULL);
	return (p + n);
}

static const char *
number(const char *p, const char *end, unsigned long long max, uint64_t *out)
{
	unsigned long long v;
	size_t n = 0;

	if (p == NULL)
		return (NULL);
	while ((size_t)(end - p) > n && p[n] >= '0' && p[n] <= '9')
		n++;
	if (parse_u64(p, n, max, &v) == -1)
		return (NULL);
	*out = v;
	return (p + n);
}

/* What stands up to the next blank or the end. */
static const char *
word(const char *p, const char *end, const char **start, size_t *len)
{

	*start = p;
	while (p < end && *p != ' ')
		p++;
	*len = (size_t)(p - *start);
	return (p);
}

/*
 * One line without its LF.  Returns NULL, or what is wrong with it.  The only
 * reader of the grammar, for parsing and for looking entries up later.
 */
static const char *
split(const char *p, const char *end, struct line *l)
{
	const char *q;
	uint64_t t = 0;

	if ((p = skip(p, end, "./")) == NULL)
		return ("a path begins with \"./\"");
	p = word(p, end, &l->path, &l->path_len);
	if ((q = skip(p, end, " type=dir")) != NULL) {
		l->type = ENTRY_DIR;
		return (q == end ? NULL : "nothing follows type=dir");
	}
	if ((q = skip(p, end, " type=file size=")) != NULL) {
		l->type = ENTRY_FILE;
		q = number(q, end, INT64_MAX, &l->size);
		q = skip(q, end, " time=");
	} else if ((q = skip(p, end, " type=link time=")) != NULL) {
		l->type = ENTRY_LINK;
	} else
		return ("expected type=dir, type=file size= or type=link time=");
	q = number(q, end, TIME_MAX, &t);
	l->time = (int64_t)t;
	if ((q = skip(q, end, ".000000000")) == NULL)
		return ("expected size (files) and time in whole seconds");
	if (l->type == ENTRY_FILE) {
		if ((q = skip(q, end, " sha256=")) == NULL)
			return ("expected sha256=");
		l->digest = q;
		return (end - q == DIGEST_HEX ? NULL :
		    "a digest has 64 digits");
	}
	if ((q = skip(q, end, " link=")) == NULL)
		return ("expected link=");
	q = word(q, end, &l->link, &l->link_len);
	return (q == end && l->link_len > 0 ? NULL : "bad link");
}

static void
line_at(const struct manifest *m, size_t i, struct line *l)
{
	const char *p, *end;

	CHECK(i < m->n);
	p = m->text + m->line[i];
	end = memchr(p, '\n', m->len - m->line[i]);
	CHECK(end != NULL && split(p, end, l) == NULL);
}

/* Compares a decoded path with an escaped one, which ends at a blank. */
static int
compare(const char *path, size_t len, const char *esc)
{
	unsigned c;
	size_t i;

	for (i = 0; i < len; i++) {
		if (*esc == ' ')
			return (1);
		if (*esc == '\\') {
			c = (unsigned)(esc[1] - '0') * 64 +
			    (unsigned)(esc[2] - '0') * 8 +
			    (unsigned)(esc[3] - '0');
			esc += 4;
		} else
			c = (unsigned char)*esc++;
		if ((unsigned char)path[i] != c)
			return ((unsigned char)path[i] < c ? -1 : 1);
	}
	return (*esc == ' ' ? 0 : -1);
}

static ssize_t
find(const struct manifest *m, size_t n, const char *path, size_t len)
{
	size_t lo = 0, hi = n, mid;
	int c;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		c = compare(path, len, m->text + m->line[mid] + 2);
		if (c == 0)
			return ((ssize_t)mid);
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return (-1);
}

ssize_t
manifest_find(const struct manifest *m, const char *path, size_t len)
{

	return (find(m, m->n, path, len));
}

size_t
manifest_lower(const struct manifest *m, const char *path, size_t len)
{
	size_t lo = 0, hi = m->n, mid;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		if (compare(path, len, m->text + m->line[mid] + 2) <= 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return (lo);
}

ssize_t
manifest_link_target(const char *path, const char *link,
    char out[PATH_BYTES_MAX + 1])
{
	const char *slash, *p;
	size_t len, n;

	if (link[0] == '/' || link[0] == '\0')
		return (-1);
	slash = strrchr(path, '/');
	len = slash == NULL ? 0 : (size_t)(slash - path);
	memcpy(out, path, len);
	for (p = link; *p != '\0'; p += n) {
		while (*p == '/')
			p++;
		n = strcspn(p, "/");
		if (n == 0 || (n == 1 && p[0] == '.'))
			continue;
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			if (len == 0)
				return (-1);
			while (len > 0 && out[len - 1] != '/')
				len--;
			if (len > 0)
				len--;
			continue;
		}
		if (len + (len > 0) + n > PATH_BYTES_MAX)
			return (-1);
		if (len > 0)
			out[len++] = '/';
		memcpy(out + len, p, n);
		len += n;
	}
	out[len] = '\0';
	return ((ssize_t)len);
}

/* Index of the file at the end of entry i; -1 for folders and bad links. */
static ssize_t
resolve(const struct manifest *m, size_t i)
{
	char path[PATH_BYTES_MAX + 1], link[PATH_BYTES_MAX + 1];
	char target[PATH_BYTES_MAX + 1];
	struct line l;
	ssize_t len, at;
	int step;

	for (step = 0; step <= MANIFEST_LINK_STEPS; step++) {
		line_at(m, i, &l);
		if (l.type == ENTRY_FILE)
			return ((ssize_t)i);
		if (l.type == ENTRY_DIR ||
		    unescape(l.path, l.path_len, path) == -1 ||
		    unescape(l.link, l.link_len, link) == -1 ||
		    (len = manifest_link_target(path, link, target)) <= 0 ||
		    (at = manifest_find(m, target, (size_t)len)) == -1)
			return (-1);
		i = (size_t)at;
	}
	return (-1);
}

static uint32_t
hash_start(const uint8_t *digest)
{
	uint32_t h;

	memcpy(&h, digest, sizeof(h));
	return (h);
}

static const char *
digest_at(const struct manifest *m, uint32_t i)
{
	struct line l;

	line_at(m, i, &l);
	return (l.digest);
}

static int
index_digests(struct manifest *m)
{
	struct digest d;
	struct line l;
	size_t size = 16, i, h;

	while (size < 2 * m->files)
		size *= 2;
	if ((m->slot = malloc(size * sizeof(*m->slot))) == NULL)
		return (-1);
	memset(m->slot, 0xff, size * sizeof(*m->slot));
	m->mask = size - 1;
	for (i = 0; i < m->n; i++) {
		line_at(m, i, &l);
		if (l.type != ENTRY_FILE)
			continue;
		CHECK(digest_parse(&d, l.digest, DIGEST_HEX) == 0);
		/* One slot a digest: the first path that has it. */
		for (h = hash_start(d.b) & m->mask; m->slot[h] != NONE &&
		    memcmp(digest_at(m, m->slot[h]), l.digest, DIGEST_HEX) != 0;
		    h = (h + 1) & m->mask)
			continue;
		if (m->slot[h] == NONE)
			m->slot[h] = (uint32_t)i;
	}
	return (0);
}

ssize_t
manifest_find_digest(const struct manifest *m, const struct digest *d)
{
	char hex[DIGEST_HEX + 1];
	size_t h;

	(void)digest_hex(d, hex);
	for (h = hash_start(d->b) & m->mask; m->slot[h] != NONE;
	    h = (h + 1) & m->mask)
		if (memcmp(digest_at(m, m->slot[h]), hex, DIGEST_HEX) == 0)
			return ((ssize_t)m->slot[h]);
	return (-1);
}

/* State of a running parse beside the manifest itself. */
struct parse {
	struct parse_error *err;
	uint8_t		*used;		/* a folder has a child */
	char		 last[PATH_BYTES_MAX + 1];
	size_t		 last_len;
};

static int
check_parent(struct manifest *m, struct parse *p, const char *path,
    unsigned long nr)
{
	const char *slash;
	struct line l;
	ssize_t at;

	if ((slash = strrchr(path, '/')) == NULL)
		return (0);
	at = find(m, m->n, path, (size_t)(slash - path));
	if (at != -1)
		line_at(m, (size_t)at, &l);
	if (at == -1 || l.type != ENTRY_DIR)
		return (parse_fail(p->err, nr,
		    "the parent folder is not an earlier type=dir entry"));
	p->used[at] = 1;
	return (0);
}

/* Compares as unsigned bytes; the shorter is less. */
static int
order(const char *a, size_t la, const char *b, size_t lb)
{
	int c = memcmp(a, b, la < lb ? la : lb);

	return (c != 0 ? c : la < lb ? -1 : la > lb);
}

static int
add_line(struct manifest *m, struct parse *p, size_t off, size_t len,
    unsigned long nr)
{
	char path[PATH_BYTES_MAX + 1], link[PATH_BYTES_MAX + 1];
	const char *wrong;
	struct digest d;
	struct line l;
	ssize_t n;

	if ((wrong = split(m->text + off, m->text + off + len, &l)) != NULL)
		return (parse_fail(p->err, nr, "%s", wrong));
	if ((n = unescape(l.path, l.path_len, path)) == -1 ||
	    !path_ok(path, (size_t)n))
		return (parse_fail(p->err, nr, "bad path"));
	if (m->n > 0 && order(p->last, p->last_len, path, (size_t)n) >= 0)
		return (parse_fail(p->err, nr, "paths are not in order"));
	if (check_parent(m, p, path, nr) == -1)
		return (-1);
	memcpy(p->last, path, (size_t)n + 1);
	p->last_len = (size_t)n;
	m->line[m->n] = (uint32_t)off;
	m->row[m->n] = (uint32_t)m->rows;
	m->n++;
	if (l.type == ENTRY_LINK && ((n = unescape(l.link, l.link_len,
	    link)) == -1 || memchr(link, 0, (size_t)n) != NULL))
		return (parse_fail(p->err, nr, "bad link"));
	if (l.type != ENTRY_FILE)
		return (0);
	if (digest_parse(&d, l.digest, DIGEST_HEX) == -1)
		return (parse_fail(p->err, nr, "bad digest"));
	m->files++;
	if (l.size > INT64_MAX - m->bytes)
		return (parse_fail(p->err, nr, "sizes add up to too much"));
	m->bytes += l.size;
	m->rows += chunk_rows(l.size);
	if (m->rows > CHUNK_TABLE_MAX / DIGEST_LEN)
		return (parse_fail(p->err, nr, "the chunk table would be "
		    "larger than %u bytes", CHUNK_TABLE_MAX));
	return (0);
}

static int
add_lines(struct manifest *m, struct parse *p)
{
	size_t off = sizeof(MANIFEST_FIRST) - 1;
	unsigned long nr = 2;
	const char *nl;
	size_t len;

	while (off < m->len) {
		nr++;
		if ((nl = memchr(m->text + off, '\n', m->len - off)) == NULL)
			return (parse_fail(p->err, nr,
			    "the last line has no end"));
		len = (size_t)(nl - (m->text + off));
		if (len > LINE_BYTES)
			return (parse_fail(p->err, nr, "line too long"));
		if (add_line(m, p, off, len, nr) == -1)
			return (-1);
		off += len + 1;
	}
	return (0);
}

/* What can be told only when all entries are known. */
static int
check_whole(struct manifest *m, struct parse *p)
{
	struct line l;
	size_t i;

	for (i = 0; i < m->n; i++) {
		line_at(m, i, &l);
		if (l.type == ENTRY_DIR && p->used[i] == 0)
			return (parse_fail(p->err, i + 3, "empty folder"));
		if (l.type == ENTRY_LINK && resolve(m, i) == -1)
			return (parse_fail(p->err, i + 3, "the link does not "
			    "lead to a file of this manifest"));
	}
	return (0);
}

struct manifest *
manifest_parse(char **text, size_t len, struct parse_error *err)
{
	struct parse p = { .err = err };
	struct manifest *m;
	size_t n = 0, i;

	if ((m = calloc(1, sizeof(*m))) == NULL) {
		free(*text);
		*text = NULL;
		(void)parse_fail(err, 0, "out of memory");
		return (NULL);
	}
	m->text = *text;
	m->len = len;
	*text = NULL;
	if (len > MANIFEST_MAX) {
		(void)parse_fail(err, 0, "larger than %u bytes", MANIFEST_MAX);
		goto fail;
	}
	if (len < sizeof(MANIFEST_FIRST) - 1 || memcmp(m->text, MANIFEST_FIRST,
	    sizeof(MANIFEST_FIRST) - 1) != 0) {
		(void)parse_fail(err, 1, "does not begin with \"#mtree v2.0\" "
		    "and \". type=dir\"");
		goto fail;
	}
	for (i = sizeof(MANIFEST_FIRST) - 1; i < len; i++)
		n += m->text[i] == '\n';
	if (n > MANIFEST_ENTRIES) {
		(void)parse_fail(err, 0, "more than %d entries",
		    MANIFEST_ENTRIES);
		goto fail;
	}
	m->line = calloc(n + 1, sizeof(*m->line));
	m->row = calloc(n + 1, sizeof(*m->row));
	p.used = calloc(n + 1, 1);
	if (m->line == NULL || m->row == NULL || p.used == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		goto fail;
	}
	if (add_lines(m, &p) == -1 || check_whole(m, &p) == -1)
		goto fail;
	if (index_digests(m) == -1) {
		(void)parse_fail(err, 0, "out of memory");
		goto fail;
	}
	free(p.used);
	return (m);
fail:
	free(p.used);
	manifest_destroy(&m);
	return (NULL);
}

void
manifest_destroy(struct manifest **mp)
{
	struct manifest *m = *mp;

	*mp = NULL;
	if (m == NULL)
		return;
	free(m->text);
	free(m->line);
	free(m->row);
	free(m->slot);
	free(m);
}

const char *
manifest_text(const struct manifest *m, size_t *len)
{

	if (len != NULL)
		*len = m->len;
	return (m->text);
}

size_t
manifest_n(const struct manifest *m)
{

	return (m->n);
}

uint64_t
manifest_files(const struct manifest *m)
{

	return (m->files);
}

uint64_t
manifest_bytes(const struct manifest *m)
{

	return (m->bytes);
}

uint64_t
manifest_rows(const struct manifest *m)
{

	return (m->rows);
}

void
manifest_entry(const struct manifest *m, size_t i, struct entry *e)
{
	struct line l;
	ssize_t n;

	line_at(m, i, &l);
	e->type = l.type;
	e->size = l.type == ENTRY_FILE ? l.size : 0;
	e->time = l.type == ENTRY_DIR ? 0 : l.time;
	memset(&e->digest, 0, sizeof(e->digest));
	if (l.type == ENTRY_FILE)
		CHECK(digest_parse(&e->digest, l.digest, DIGEST_HEX) == 0);
	CHECK((n = unescape(l.path, l.path_len, e->path)) != -1);
	e->path_len = (size_t)n;
	e->link[0] = '\0';
	e->link_len = 0;
	if (l.type == ENTRY_LINK) {
		CHECK((n = unescape(l.link, l.link_len, e->link)) != -1);
		e->link_len = (size_t)n;
	}
}

enum entry_type
manifest_type(const struct manifest *m, size_t i)
{
	struct line l;

	line_at(m, i, &l);
	return (l.type);
}

bool
manifest_facts(const struct manifest *m, size_t i, struct facts *f)
{
	struct line l;
	int64_t when;
	ssize_t at;

	line_at(m, i, &l);
	if (l.type == ENTRY_DIR)
		return (false);
	when = l.time;
	if (l.type == ENTRY_LINK) {
		/* Parsing has shown that every link ends at a file. */
		CHECK((at = resolve(m, i)) != -1);
		i = (size_t)at;
		line_at(m, i, &l);
	}
	f->size = l.size;
	f->time = when;
	f->row = m->row[i];
	CHECK(digest_parse(&f->digest, l.digest, DIGEST_HEX) == 0);
	return (true);
}

int
manifest_add(struct buf *b, const struct entry *e)
{
	char hex[DIGEST_HEX + 1];

	(void)buf_adds(b, "./");
	(void)escape(b, e->path, e->path_len);
	switch (e->type) {
	case ENTRY_DIR:
		(void)buf_adds(b, " type=dir\n");
		break;
	case ENTRY_FILE:
		(void)buf_addf(b, " type=file size=%" PRIu64 " time=%" PRId64
		    ".000000000 sha256=%s\n", e->size, e->time,
		    digest_hex(&e->digest, hex));
		break;
	case ENTRY_LINK:
		(void)buf_addf(b, " type=link time=%" PRId64
		    ".000000000 link=", e->time);
		(void)escape(b, e->link, e->link_len);
		(void)buf_adds(b, "\n");
		break;
	}
	return (b->failed ? -1 : 0);
}
