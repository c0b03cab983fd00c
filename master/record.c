/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What pkgcast keeps beside a publisher's key: which numbers were signed, so
 * that none is signed twice, publishes that were not finished, so that they go
 * on with the same head, and where scans are remembered.  Called by publish and
 * rollback, in one thread; other processes are kept away by lock files.
 */

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/record.h"
#include "proto/check.h"
#include "proto/chunk.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/manifest.h"

#define	SIGNED_FILE	"signed"
#define	SIGNED_LOCK	"signed.lock"
#define	SIGNED_MAX	(64u << 20)	/* bytes of the file */
#define	SIGNED_KEPT	1000		/* lines of a set; older ones go */
#define	LOCK_WAIT_MS	10000
#define	LOCK_STEP_MS	20
#define	RECORD_MAGIC	0x7265636fu

struct record {
	unsigned	 magic;
	int		 homefd, scanfd, pendingfd, lockfd;
	char		*home;
	char		 set[SET_NAME_MAX + 1];
	uint64_t	 highest;
	char		 scan_name[DIGEST_HEX + 1];
};

/* One line of the file. */
struct number {
	const char	*set;
	size_t		 set_len;
	uint64_t	 generation;
	struct digest	 digest;
};

static bool
number_parse(struct number *n, const char *line, size_t len)
{
	static const char algorithm[] = "sha256:";
	const size_t alen = sizeof(algorithm) - 1;
	const char *sp, *end = line + len;
	unsigned long long v;

	n->set = line;
	if ((sp = memchr(line, ' ', len)) == NULL)
		return (false);
	n->set_len = (size_t)(sp - line);
	if (!set_name_ok(line, n->set_len))
		return (false);
	line = sp + 1;
	if ((sp = memchr(line, ' ', (size_t)(end - line))) == NULL ||
	    parse_u64(line, (size_t)(sp - line), HEAD_GENERATION_MAX, &v) ==
	    -1 || v == 0)
		return (false);
	n->generation = v;
	line = sp + 1;
	return ((size_t)(end - line) == alen + DIGEST_HEX &&
	    memcmp(line, algorithm, alen) == 0 &&
	    digest_parse(&n->digest, line + alen, DIGEST_HEX) == 0);
}

/*
 * Reads the file: the set's highest number goes to *highest, that number's
 * digest to *digest, and how many lines it has to *lines.  The text stays with
 * the caller.
 */
static char *
read_signed(const struct record *r, size_t *len, uint64_t *highest,
    struct digest *digest, size_t *lines, struct parse_error *err)
{
	struct number n;
	const char *p, *nl;
	unsigned long line = 1;
	char *text;

	*highest = 0;
	*lines = *len = 0;
	if ((text = fd_slurp(r->homefd, SIGNED_FILE, SIGNED_MAX, len)) ==
	    NULL) {
		if (errno == ENOENT)
			return (strdup(""));
		(void)parse_fail(err, 0, "%s/%s: %s", r->home, SIGNED_FILE,
		    strerror(errno));
		return (NULL);
	}
	for (p = text; p < text + *len; p = nl + 1, line++) {
		nl = memchr(p, '\n', (size_t)(text + *len - p));
		if (nl == NULL || !number_parse(&n, p, (size_t)(nl - p))) {
			(void)parse_fail(err, line,
			    "%s/%s:%lu: damaged: restore it, or correct the line, so that no number is signed twice",
			    r->home, SIGNED_FILE, line);
			free(text);
			return (NULL);
		}
		if (n.set_len != strlen(r->set) ||
		    memcmp(n.set, r->set, n.set_len) != 0)
			continue;
		++*lines;
		if (n.generation > *highest) {
			*highest = n.generation;
			*digest = n.digest;
		}
	}
	return (text);
}

static int
lock_signed(const struct record *r)
{
	int64_t end = clock_boot_ms() + LOCK_WAIT_MS;
	int fd;

	while ((fd = fd_lock(r->homefd, SIGNED_LOCK)) == -1 &&
	    errno == EWOULDBLOCK && clock_boot_ms() < end)
		clock_sleep(LOCK_STEP_MS);
	return (fd);
}

static int
open_folder(int dirfd, const char *name)
{
	int fd;

	if (fd_mkdirs(dirfd, name, 0700) == -1 ||
	    (fd = fd_open_dir(dirfd, name)) == -1)
		return (-1);
	return (fd);
}

static void
pending_name(const char *set, char out[sizeof("pending/") + SET_NAME_MAX])
{
	char *p;

	(void)snprintf(out, sizeof("pending/") + SET_NAME_MAX, "pending/%s",
	    set);
	for (p = out + sizeof("pending/") - 1; *p != '\0'; p++)
		if (*p == '/')
			*p = ',';
}

static int
open_all(struct record *r, struct parse_error *err)
{
	char name[sizeof("pending/") + SET_NAME_MAX];
	struct digest digest;
	struct stat st;
	size_t len, lines;
	char *text;

	if ((r->homefd = open_folder(AT_FDCWD, r->home)) == -1 ||
	    fstat(r->homefd, &st) == -1)
		return (parse_fail(err, 0, "%s: %s", r->home,
		    strerror(errno)));
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return (parse_fail(err, 0,
		    "%s: others may write there; run: chmod 700 %s",
		    r->home, r->home));
	pending_name(r->set, name);
	if ((r->scanfd = open_folder(r->homefd, "scan")) == -1 ||
	    (r->pendingfd = open_folder(r->homefd, name)) == -1)
		return (parse_fail(err, 0, "%s: %s", r->home,
		    strerror(errno)));
	if ((r->lockfd = fd_lock(r->pendingfd, "lock")) == -1) {
		if (errno == EWOULDBLOCK)
			return (parse_fail(err, 0,
			    "another pkgcast is publishing %s (lock %s/%s/lock): wait for it",
			    r->set, r->home, name));
		return (parse_fail(err, 0, "%s/%s/lock: %s", r->home, name,
		    strerror(errno)));
	}
	if ((text = read_signed(r, &len, &r->highest, &digest, &lines, err)) ==
	    NULL)
		return (-1);
	free(text);
	return (0);
}

struct record *
record_open(const char *home, const char *set, struct parse_error *err)
{
	struct record *r;

	CHECK(set_name_ok(set, strlen(set)));
	if ((r = calloc(1, sizeof(*r))) == NULL ||
	    (r->home = strdup(home)) == NULL) {
		free(r);
		(void)parse_fail(err, 0, "out of memory");
		return (NULL);
	}
	r->magic = RECORD_MAGIC;
	r->homefd = r->scanfd = r->pendingfd = r->lockfd = -1;
	memcpy(r->set, set, strlen(set) + 1);
	if (open_all(r, err) == -1)
		record_close(&r);
	return (r);
}

void
record_close(struct record **r)
{

	if (*r == NULL)
		return;
	CHECK_OBJ(*r, RECORD_MAGIC);
	fd_close(&(*r)->lockfd);
	fd_close(&(*r)->pendingfd);
	fd_close(&(*r)->scanfd);
	fd_close(&(*r)->homefd);
	free((*r)->home);
	free(*r);
	*r = NULL;
}

uint64_t
record_highest(const struct record *r)
{

	CHECK_OBJ(r, RECORD_MAGIC);
	return (r->highest);
}

/* The text without the set's first (oldest) line. */
static void
drop_oldest(const struct record *r, char *text, size_t *len)
{
	struct number n;
	char *p, *nl;

	for (p = text; p < text + *len; p = nl + 1) {
		if ((nl = memchr(p, '\n', (size_t)(text + *len - p))) == NULL)
			return;
		if (!number_parse(&n, p, (size_t)(nl - p)) ||
		    n.set_len != strlen(r->set) ||
		    memcmp(n.set, r->set, n.set_len) != 0)
			continue;
		*len -= (size_t)(nl + 1 - p);
		memmove(p, nl + 1, (size_t)(text + *len - p));
		return;
	}
}

static int
add_number(struct record *r, const struct head *h, char *text, size_t len,
    struct parse_error *err)
{
	struct buf b = BUF_INIT(SIGNED_MAX);
	char hex[DIGEST_HEX + 1];
	int ret = -1;

	(void)buf_add(&b, text, len);
	(void)buf_addf(&b, "%s %llu sha256:%s\n", h->set,
	    (unsigned long long)h->generation, digest_hex(&h->digest, hex));
	if (b.failed) {
		(void)parse_fail(err, 0, "%s/%s: full", r->home, SIGNED_FILE);
		goto out;
	}
	if (fd_replace(r->homefd, SIGNED_FILE, b.p, b.len, 0600) == -1) {
		(void)parse_fail(err, 0, "%s/%s: %s", r->home, SIGNED_FILE,
		    strerror(errno));
		goto out;
	}
	r->highest = h->generation;
	ret = 0;
out:
	buf_free(&b);
	return (ret);
}

int
record_sign(struct record *r, const struct head *h, struct parse_error *err)
{
	struct digest digest;
	uint64_t highest;
	size_t len, lines;
	char *text = NULL;
	int lock, ret = -1;

	CHECK_OBJ(r, RECORD_MAGIC);
	CHECK(strcmp(h->set, r->set) == 0);
	if ((lock = lock_signed(r)) == -1)
		return (parse_fail(err, 0, "%s/%s: %s", r->home, SIGNED_LOCK,
		    strerror(errno)));
	if ((text = read_signed(r, &len, &highest, &digest, &lines, err)) ==
	    NULL)
		goto out;
	if (h->generation == highest && digest_eq(&h->digest, &digest)) {
		ret = 0;
		goto out;
	}
	if (h->generation <= highest) {
		(void)parse_fail(err, 0,
		    "generation %llu of %s was signed before; the highest is %llu",
		    (unsigned long long)h->generation, h->set,
		    (unsigned long long)highest);
		goto out;
	}
	if (lines >= SIGNED_KEPT)
		drop_oldest(r, text, &len);
	ret = add_number(r, h, text, len, err);
out:
	free(text);
	fd_close(&lock);
	return (ret);
}

int
record_scan_dir(const struct record *r)
{

	CHECK_OBJ(r, RECORD_MAGIC);
	return (r->scanfd);
}

const char *
record_scan_name(struct record *r, const char *dir)
{
	struct sha256 *s;
	struct digest d;

	CHECK_OBJ(r, RECORD_MAGIC);
	s = check_alloc(sha256_new());
	sha256_add(s, r->set, strlen(r->set) + 1);
	sha256_add(s, dir, strlen(dir));
	sha256_end(s, &d);
	sha256_destroy(&s);
	return (digest_hex(&d, r->scan_name));
}

int
record_save(struct record *r, const struct draft *p)
{

	CHECK_OBJ(r, RECORD_MAGIC);
	/* The head comes last: what it names is there then. */
	if (record_forget(r) == -1 ||
	    (p->rollback && fd_replace(r->pendingfd, "rollback", "", 0,
	    0600) == -1) ||
	    fd_replace(r->pendingfd, "manifest", p->manifest, p->manifest_len,
	    0600) == -1 ||
	    fd_replace(r->pendingfd, "chunks", p->chunks, p->chunks_len,
	    0600) == -1 ||
	    fd_replace(r->pendingfd, "head", p->head.text, p->head.len,
	    0600) == -1)
		return (-1);
	return (0);
}

static char *
load_part(const struct record *r, const char *name, uint64_t size,
    const struct digest *want, size_t *len)
{
	struct digest d;
	char *p;

	if ((p = fd_slurp(r->pendingfd, name, (size_t)size, len)) == NULL)
		return (NULL);
	digest_of(&d, p, *len);
	if (*len == size && digest_eq(&d, want))
		return (p);
	free(p);
	return (NULL);
}

bool
record_load(const struct record *r, struct draft *p)
{
	const struct head *h = &p->head;
	char *text;
	size_t len;
	bool good;

	CHECK_OBJ(r, RECORD_MAGIC);
	memset(p, 0, sizeof(*p));
	if ((text = fd_slurp(r->pendingfd, "head", HEAD_MAX, &len)) == NULL)
		return (false);
	good = head_parse(&p->head, text, len, NULL) == 0 &&
	    strcmp(h->set, r->set) == 0 &&
	    h->manifest_size <= MANIFEST_MAX &&
	    h->chunks_size <= CHUNK_TABLE_MAX;
	free(text);
	p->rollback = faccessat(r->pendingfd, "rollback", F_OK, 0) == 0;
	if (good && (p->manifest = load_part(r, "manifest", h->manifest_size,
	    &h->manifest, &p->manifest_len)) != NULL &&
	    (p->chunks = load_part(r, "chunks", h->chunks_size, &h->chunks,
	    &p->chunks_len)) != NULL)
		return (true);
	draft_free(p);
	return (false);
}

int
record_forget(struct record *r)
{
	static const char *const part[] = {
		"head", "manifest", "chunks", "rollback"
	};
	size_t i;

	CHECK_OBJ(r, RECORD_MAGIC);
	for (i = 0; i < sizeof(part) / sizeof(part[0]); i++)
		if (unlinkat(r->pendingfd, part[i], 0) == -1 &&
		    errno != ENOENT)
			return (-1);
	return (0);
}

void
draft_free(struct draft *p)
{

	free(p->manifest);
	free(p->chunks);
	p->manifest = p->chunks = NULL;
	p->manifest_len = p->chunks_len = 0;
}
