/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Manifest, chunk table and blobs of a pending publish: what is wanted, and
 * what comes in.  Called by the publish listener's threads, and by the start's
 * thread for what the last run left.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "master/pending_impl.h"
#include "proto/check.h"
#include "proto/chunk.h"
#include "proto/log.h"

/* The state of one pending_check(). */
struct check {
	struct pending	*p;
	struct snapshot	*next, *current;
	bool		 doubt;
	uint8_t		*want;
	size_t		 nwant;
	struct parse_error err;
};

static struct snapshot *
load(struct pending *p, struct parse_error *err)
{
	const struct head *h = &p->head;
	struct store *store = p->all->c.store;
	char *manifest, *chunks = NULL;
	struct snapshot *s = NULL;
	uint8_t *rows;

	if ((manifest = store_slurp(store, &h->manifest, h->manifest_size)) ==
	    NULL ||
	    (chunks = store_slurp(store, &h->chunks, h->chunks_size)) == NULL) {
		(void)parse_fail(err, 0, "cannot read manifest or chunk "
		    "table: %s", strerror(errno));
	} else {
		rows = (uint8_t *)chunks;
		s = snapshot_new(h, &manifest, (size_t)h->manifest_size,
		    &rows, (size_t)h->chunks_size, true, err);
		chunks = NULL;
	}
	free(manifest);
	free(chunks);
	return (s);
}

/* Clients rely on it: the date of a path never goes back, and is another when
 * the content is. */
static int
check_time(struct check *c, const struct entry *e)
{
	const struct manifest *old;
	char shown[LOG_TEXT];
	struct facts now, was;
	ssize_t at;

	if (e->time > c->p->head.created)
		return (parse_fail(&c->err, 0, "\"%.100s\" has a time later "
		    "than the head's created", log_escape(shown,
		    sizeof(shown), e->path, e->path_len)));
	if (c->current == NULL)
		return (0);
	old = snapshot_manifest(c->current);
	if ((at = manifest_find(old, e->path, e->path_len)) == -1 ||
	    !manifest_facts(old, (size_t)at, &was))
		return (0);
	at = manifest_find(snapshot_manifest(c->next), e->path, e->path_len);
	CHECK(at != -1 && manifest_facts(snapshot_manifest(c->next),
	    (size_t)at, &now));
	if (now.time > was.time || (now.time == was.time &&
	    digest_eq(&now.digest, &was.digest)))
		return (0);
	return (parse_fail(&c->err, 0, "the time of \"%.100s\" does not go "
	    "on from the current generation's", log_escape(shown,
	    sizeof(shown), e->path, e->path_len)));
}

/* Whether a generation vouches for a blob's rows: 1, 0, -1: it has others. */
static int
known_rows(struct check *c, const struct facts *f, const uint8_t *rows)
{
	struct site *site = c->p->all->c.site;
	struct site_file known;
	int ret = 0;

	if (site_find_blob(site_enter(site), &f->digest, &known, NULL) &&
	    known.facts.size == f->size) {
		if (rows == NULL)
			ret = 1;
		else if (known.rows != NULL)
			ret = memcmp(known.rows, rows,
			    (size_t)chunk_rows(f->size) * DIGEST_LEN) == 0 ?
			    1 : -1;
	}
	site_leave(site);
	return (ret);
}

/* A blob that is there: 1 usable, 0 to be sent again, -1: err. */
static int
check_present(struct check *c, const struct facts *f, const uint8_t *rows)
{
	struct store *store = c->p->all->c.store;
	char hex[DIGEST_HEX + 1];
	int known = 0;

	if (rows != NULL || c->doubt)
		known = known_rows(c, f, rows);
	else
		known = 1;
	if (known == 0) {
		if (store_check(store, &f->digest, f->size, rows) == 0) {
			known = !c->doubt || store_unsynced(store,
			    &f->digest) == 0;
		} else if (errno == EBADMSG && rows != NULL &&
		    store_check(store, &f->digest, f->size, NULL) == 0) {
			known = -1;
		} else {
			log_warn("blob removed digest=%s: not what its name "
			    "says", digest_hex(&f->digest, hex));
			(void)store_remove(store, &f->digest);
		}
	}
	if (known == -1)
		return (parse_fail(&c->err, 0, "the chunk table is not that "
		    "of file sha256:%s", digest_hex(&f->digest, hex)));
	return (known);
}

/* One file.  Entries that name one digest share the want of the one that the
 * manifest finds by it, and have to agree with it. */
static int
check_file(struct check *c, size_t i)
{
	const struct manifest *m = snapshot_manifest(c->next);
	const uint8_t *rows, *first_rows;
	struct facts f, first;
	ssize_t at;
	int ret;

	CHECK(manifest_facts(m, i, &f));
	CHECK((at = manifest_find_digest(m, &f.digest)) != -1);
	rows = snapshot_rows(c->next, &f);
	if ((size_t)at != i) {
		CHECK(manifest_facts(m, (size_t)at, &first));
		first_rows = snapshot_rows(c->next, &first);
		if (first.size == f.size && (rows == NULL || memcmp(rows,
		    first_rows, (size_t)chunk_rows(f.size) * DIGEST_LEN) == 0))
			return (0);
		return (parse_fail(&c->err, 0, "two files of one digest "
		    "differ in size or chunks"));
	}
	ret = 0;
	if (store_has(c->p->all->c.store, &f.digest, f.size) &&
	    (ret = check_present(c, &f, rows)) == -1)
		return (-1);
	if (ret == 0) {
		c->want[i] = 1;
		c->nwant++;
	}
	return (0);
}

static int
check_files(struct check *c)
{
	const struct manifest *m = snapshot_manifest(c->next);
	struct entry e;
	size_t i;

	if ((c->want = calloc(manifest_n(m) + 1, 1)) == NULL)
		return (parse_fail(&c->err, 0, "out of memory"));
	for (i = 0; i < manifest_n(m); i++) {
		if (manifest_type(m, i) == ENTRY_DIR)
			continue;
		manifest_entry(m, i, &e);
		if (check_time(c, &e) == -1 ||
		    (e.type == ENTRY_FILE && check_file(c, i) == -1))
			return (-1);
	}
	return (0);
}

/* The manifest or chunk table of the last run may be damaged, or not be there
 * at all: then they are asked for again. */
static bool
both_there(struct pending *p, bool doubt)
{
	const struct head *h = &p->head;
	struct store *store = p->all->c.store;
	const struct digest *d[] = { &h->manifest, &h->chunks };
	const uint64_t size[] = { h->manifest_size, h->chunks_size };
	bool both = true;
	size_t i;

	for (i = 0; i < 2; i++) {
		if (!store_has(store, d[i], size[i])) {
			both = false;
		} else if (doubt) {
			if (store_check(store, d[i], size[i], NULL) == -1 ||
			    store_unsynced(store, d[i]) == -1) {
				(void)store_remove(store, d[i]);
				both = false;
			}
		}
	}
	return (both);
}

static void
check_done(struct check *c, bool good)
{
	struct pending *p = c->p;

	(void)pthread_mutex_lock(&p->lock);
	if (good) {
		p->next = c->next;
		p->want = c->want;
		p->nwant = c->nwant;
		c->next = NULL;
		c->want = NULL;
		p->state = PENDING_BLOBS;
		if (p->before != NULL)
			atomic_store(&p->all->litter, true);
		snapshot_unref(&p->before);
	}
	p->attaching = false;
	(void)pthread_cond_broadcast(&p->attached);
	(void)pthread_mutex_unlock(&p->lock);
}

void
pending_check(struct pending *p)
{
	struct check c = { .p = p, .doubt = atomic_load(&p->all->doubt) };
	bool there, good = false;

	CHECK_OBJ(p, PENDING_MAGIC);
	store_hold(p->all->c.store);
	if ((there = both_there(p, c.doubt))) {
		c.current = site_current(p->all->c.site, p->head.set);
		good = (c.next = load(p, &c.err)) != NULL &&
		    check_files(&c) == 0;
	}
	if (there && !good)
		pending_fail(p, &c.err);
	check_done(&c, good);
	store_release(p->all->c.store);
	snapshot_unref(&c.next);
	snapshot_unref(&c.current);
	free(c.want);
	if (good)
		pending_start(p);
}

void
pending_attach(struct pending *p)
{
	const struct head *h = &p->head;
	struct store *store = p->all->c.store;
	bool mine = false;

	(void)pthread_mutex_lock(&p->lock);
	if (p->state == PENDING_MANIFEST && !p->attaching &&
	    store_has(store, &h->manifest, h->manifest_size) &&
	    store_has(store, &h->chunks, h->chunks_size))
		mine = p->attaching = true;
	(void)pthread_mutex_unlock(&p->lock);
	if (mine)
		pending_check(p);
}

/* Waits for another thread's pending_check(); p->lock is held. */
static void
wait_attached(struct pending *p)
{

	while (p->attaching)
		(void)pthread_cond_wait(&p->attached, &p->lock);
}

static void
add_digest(struct buf *b, const struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	(void)buf_adds(b, digest_hex(d, hex));
	(void)buf_adds(b, "\n");
}

int
pending_missing(struct pending *p, struct buf *b)
{
	const struct head *h = &p->head;
	struct store *store = p->all->c.store;
	const struct manifest *m;
	struct facts f;
	size_t i;

	CHECK_OBJ(p, PENDING_MAGIC);
	(void)pthread_mutex_lock(&p->lock);
	wait_attached(p);
	if (p->state == PENDING_MANIFEST) {
		if (!store_has(store, &h->manifest, h->manifest_size))
			add_digest(b, &h->manifest);
		if (!store_has(store, &h->chunks, h->chunks_size) &&
		    !digest_eq(&h->chunks, &h->manifest))
			add_digest(b, &h->chunks);
	} else if (p->state == PENDING_BLOBS) {
		m = snapshot_manifest(p->next);
		for (i = 0; i < manifest_n(m) && p->nwant > 0; i++)
			if (p->want[i] && manifest_facts(m, i, &f))
				add_digest(b, &f.digest);
	}
	(void)pthread_mutex_unlock(&p->lock);
	return (b->failed ? -1 : 0);
}

/* Size and rows of a blob of this publish, under its lock. */
static bool
find_blob(struct pending *p, const struct digest *d, uint64_t *size,
    const uint8_t **rows, bool *wanted)
{
	const struct head *h = &p->head;
	const struct manifest *m;
	struct facts f;
	ssize_t at;

	/* Files first: an empty one has the digest of an empty chunk table. */
	m = p->next == NULL ? NULL : snapshot_manifest(p->next);
	if (m != NULL && (at = manifest_find_digest(m, d)) != -1) {
		CHECK(manifest_facts(m, (size_t)at, &f));
		*size = f.size;
		*rows = snapshot_rows(p->next, &f);
		*wanted = p->state == PENDING_BLOBS && p->want[at];
		return (true);
	}
	*rows = NULL;
	if (digest_eq(d, &h->manifest))
		*size = h->manifest_size;
	else if (digest_eq(d, &h->chunks))
		*size = h->chunks_size;
	else
		return (false);
	*wanted = p->state == PENDING_MANIFEST &&
	    !store_has(p->all->c.store, d, *size);
	return (true);
}

/* What an intake's errno is as a status. */
static void
answer_errno(struct pending_answer *out, int error)
{

	switch (error) {
	case EBADMSG:
	case EFBIG:
		out->status = 422;
		(void)parse_fail(&out->err, 0, "the bytes are not those of "
		    "the digest");
		return;
	case ENOSPC:
	case EDQUOT:
		out->status = 507;
		break;
	default:
		out->status = 503;
	}
	(void)parse_fail(&out->err, 0, "cannot store the blob: %s",
	    strerror(error));
}

void
pending_put_begin(struct pending *p, const struct digest *d, uint64_t length,
    struct intake **in, struct pending_answer *out)
{
	const uint8_t *rows = NULL;
	uint64_t size = 0;
	bool wanted = false;

	CHECK_OBJ(p, PENDING_MAGIC);
	memset(out, 0, sizeof(*out));
	(void)pthread_mutex_lock(&p->lock);
	wait_attached(p);
	if (!find_blob(p, d, &size, &rows, &wanted)) {
		out->status = 404;
		(void)parse_fail(&out->err, 0, "this publish does not want "
		    "the blob");
	} else if (!wanted) {
		out->status = 200;
	} else if (length != size) {
		out->status = 409;
		(void)parse_fail(&out->err, 0, "the blob has %" PRIu64
		    " bytes, not %" PRIu64, size, length);
	}
	(void)pthread_mutex_unlock(&p->lock);
	/* rows live as long as p->next, that is as p. */
	if (out->status == 0 && (*in = store_begin(p->all->c.store, d, size,
	    rows)) == NULL)
		answer_errno(out, errno);
}

/* What came for one that was replaced meanwhile may be for nothing. */
static void
note_litter(struct pending *p)
{
	struct pendings *a = p->all;

	(void)pthread_mutex_lock(&a->lock);
	if (!p->listed)
		atomic_store(&a->litter, true);
	(void)pthread_mutex_unlock(&a->lock);
}

void
pending_put_end(struct pending *p, const struct digest *d, struct intake **in,
    struct pending_answer *out)
{
	bool all_there = false;
	ssize_t at;

	CHECK_OBJ(p, PENDING_MAGIC);
	memset(out, 0, sizeof(*out));
	if (store_end(in) == -1) {
		answer_errno(out, errno);
		return;
	}
	out->status = 201;
	pending_attach(p);
	(void)pthread_mutex_lock(&p->lock);
	wait_attached(p);
	if (p->state == PENDING_BLOBS) {
		at = manifest_find_digest(snapshot_manifest(p->next), d);
		if (at != -1 && p->want[at]) {
			p->want[at] = 0;
			p->nwant--;
		}
		all_there = p->nwant == 0;
	} else if (p->state == PENDING_FAILED) {
		out->status = 422;
		out->err = p->err;
	}
	(void)pthread_mutex_unlock(&p->lock);
	note_litter(p);
	if (all_there)
		pending_start(p);
}
