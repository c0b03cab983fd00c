/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Manifests and chunk tables that come coded (RFC 9842), with the current ones as
 * dictionaries: what a switch costs is then what it changed.  Masters and edges
 * are asked, in turn; one that sends what cannot be decoded, or other bytes, is
 * treated like one that sent a file's wrong.  Where none has a coded one, or it
 * was interrupted again and again, a fill fetches the document as it is
 * (sync_fetch.c), which can go on where it was cut.
 * In memory are the body, at most as large as the document and a little, and the
 * document; the dictionary is there anyway.
 *
 * The follow thread runs it, but for what transfers call back, and for the edges
 * behind this one, which ask for a document while it is on its way: they wait, so
 * that it is not fetched a second time, and as a whole, for them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "edge/sync_impl.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/coding.h"
#include "proto/fd.h"
#include "proto/zcode.h"

#define	FETCH_MS	120000		/* for one document */
#define	LOOK_MS		500		/* for a stop */
#define	PLAIN_MAX	(1u << 20)	/* not coded: left to a fill above that */
/* An edge in front may hear of a prepare a moment after us: asked again so often,
 * after twice as long each time. */
#define	LATE_TRIES	3u
#define	LATE_MS		100
#define	LATE_STEP_MS	20

/* One document, on its way. */
struct fetch {
	struct digest	 digest;
	uint64_t	 size;
	struct zcode_dictionary dictionary;	/* p NULL: none */
	pthread_mutex_t	 lock;		/* of what follows, and done's wait */
	pthread_cond_t	 cond;
	bool		 ended;
	struct transfer_end end;
	struct buf	 body;		/* the transfer's until it has ended */
};

int
coming_init(struct coming *c)
{

	(void)pthread_mutex_init(&c->lock, NULL);
	return ((c->waiters = waiters_new(0)) == NULL ? -1 : 0);
}

void
coming_free(struct coming *c)
{

	waiters_destroy(&c->waiters);
	(void)pthread_mutex_destroy(&c->lock);
}

void
coming_begin(struct sync *s, const struct head *h)
{
	bool manifest = !blob_have(s->conf.store, &h->manifest);
	bool chunks = h->chunks_size > 0 &&
	    !blob_have(s->conf.store, &h->chunks);
	struct coming *c = &s->coming;

	(void)pthread_mutex_lock(&c->lock);
	CHECK(c->n == 0);
	if (manifest)
		c->digest[c->n++] = h->manifest;
	if (chunks)
		c->digest[c->n++] = h->chunks;
	(void)pthread_mutex_unlock(&c->lock);
	/* Who looks again now waits for them, and starts no fill. */
	s->conf.news(s->conf.arg);
}

/* NULL: nothing is any more. */
void
coming_end(struct sync *s, const struct digest *d)
{
	struct coming *c = &s->coming;
	size_t i, n = 0;

	(void)pthread_mutex_lock(&c->lock);
	for (i = 0; i < c->n; i++)
		if (d != NULL && !digest_eq(&c->digest[i], d))
			c->digest[n++] = c->digest[i];
	c->n = n;
	(void)pthread_mutex_unlock(&c->lock);
	waiters_wake(c->waiters);
}

/* Locked. */
static bool
is_coming(const struct coming *c, const struct digest *d)
{
	size_t i;

	for (i = 0; i < c->n; i++)
		if (digest_eq(&c->digest[i], d))
			return (true);
	return (false);
}

bool
sync_is_coming(struct sync *s, const struct digest *d)
{
	bool is;

	CHECK_OBJ(s, SYNC_MAGIC);
	(void)pthread_mutex_lock(&s->coming.lock);
	is = is_coming(&s->coming, d);
	(void)pthread_mutex_unlock(&s->coming.lock);
	return (is);
}

bool
sync_await(struct sync *s, const struct digest *d, struct waiter *w)
{
	bool is;

	CHECK_OBJ(s, SYNC_MAGIC);
	(void)pthread_mutex_lock(&s->coming.lock);
	/* It may wait already. */
	waiters_forget(s->coming.waiters, w);
	if ((is = is_coming(&s->coming, d)))
		waiters_add(s->coming.waiters, w);
	(void)pthread_mutex_unlock(&s->coming.lock);
	return (is);
}

void
sync_forget(struct sync *s, struct waiter *w)
{

	CHECK_OBJ(s, SYNC_MAGIC);
	waiters_forget(s->coming.waiters, w);
}

void
coming_count(struct sync *s, enum coding coding, uint64_t size, uint64_t bytes)
{
	struct coming *c = &s->coming;

	(void)pthread_mutex_lock(&c->lock);
	c->stats.bytes += bytes;
	if (size > 0) {
		c->stats.fetched++;
		c->stats.size += size;
		c->stats.zstd += coding == CODING_ZSTD;
		c->stats.dcz += coding == CODING_DCZ;
	}
	(void)pthread_mutex_unlock(&c->lock);
}

void
sync_stats(struct sync *s, struct sync_stats *st)
{

	CHECK_OBJ(s, SYNC_MAGIC);
	(void)pthread_mutex_lock(&s->coming.lock);
	*st = s->coming.stats;
	(void)pthread_mutex_unlock(&s->coming.lock);
}

/* Callbacks of the transfer's thread. */

static enum transfer_more
on_data(void *arg, const void *p, size_t len)
{
	struct fetch *f = arg;

	return (buf_add(&f->body, p, len) == 0 ? TRANSFER_GO :
	    TRANSFER_BROKEN);
}

static void
on_done(void *arg, const struct transfer_end *e)
{
	struct fetch *f = arg;

	(void)pthread_mutex_lock(&f->lock);
	f->end = *e;
	f->ended = true;
	(void)pthread_cond_signal(&f->cond);
	(void)pthread_mutex_unlock(&f->lock);
}

/* Until the transfer has ended, which is told to where nobody wants it any more. */
static void
wait_for(struct sync *s, struct fetch *f, struct transfer *t,
    const atomic_bool *stop, int64_t deadline)
{
	bool cancelled = false;

	(void)pthread_mutex_lock(&f->lock);
	while (!f->ended) {
		if (!cancelled && (atomic_load(stop) ||
		    clock_boot_ms() >= deadline)) {
			cancelled = true;
			transfer_cancel(s->conf.upstreams, t);
		}
		(void)clock_wait(&f->cond, &f->lock, LOOK_MS);
	}
	(void)pthread_mutex_unlock(&f->lock);
}

/* What one upstream sends; f->end tells.  -1: nobody could be asked. */
static int
ask(struct sync *s, struct fetch *f, uint64_t tried, const atomic_bool *stop,
    int64_t deadline)
{
	char dictionary[CODING_DICTIONARY];
	struct transfer_coded coded = {
		.accept = f->dictionary.p != NULL ? "dcz, zstd" : "zstd",
		.dictionary = f->dictionary.p == NULL ? NULL :
		    coding_dictionary(&f->dictionary.digest, dictionary),
		.max = zcode_bound(f->size), .plain = PLAIN_MAX,
	};
	struct transfer_want w = {
		.digest = f->digest, .size = f->size, .from = 0,
		.to = f->size, .tried = tried, .urgent = true,
		.coded = &coded, .data = on_data, .done = on_done, .arg = f,
	};
	struct transfer *t;

	f->ended = false;
	buf_free(&f->body);
	f->body = (struct buf)BUF_INIT((size_t)coded.max);
	if ((t = transfer_start(s->conf.upstreams, &w)) == NULL)
		return (-1);
	wait_for(s, f, t, stop, deadline);
	coming_count(s, CODING_NONE, 0, f->end.received);
	return (0);
}

/* The document's bytes from the body.  NULL: errno; EBADMSG: reason. */
static char *
decode(struct fetch *f, const char **reason)
{
	const struct zcode_dictionary *d = f->end.coding == CODING_DCZ ?
	    &f->dictionary : NULL;
	struct digest digest;
	char *p = NULL;

	if (f->end.coding == CODING_NONE)
		p = buf_take(&f->body, NULL);
	else if (zcode_decode(d, f->body.p, f->body.len, (size_t)f->size, &p,
	    reason) == -1)
		return (NULL);
	digest_of(&digest, p, (size_t)f->size);
	if (digest_eq(&digest, &f->digest))
		return (p);
	free(p);
	*reason = "wrong bytes: they have another digest";
	errno = EBADMSG;
	return (NULL);
}

/* Verified bytes to the store.  -1: a fill will find out why not. */
static int
store_bytes(struct blob_store *store, const struct digest *d, const char *p,
    size_t len)
{
	bool fresh;
	int fd, ret = -1;

	if ((fd = blob_partial_open(store, d, len, &fresh)) == -1)
		return (errno == EEXIST ? 0 : -1);
	if (fd_pwrite_all(fd, p, len, 0) == 0 &&
	    blob_partial_commit(store, d, fd) == 0)
		ret = 0;
	else
		blob_partial_close(store, d, false);
	fd_close(&fd);
	return (ret);
}

/* False: nobody wants it any more. */
static bool
pause_ms(const atomic_bool *stop, unsigned ms)
{
	int64_t until = clock_boot_ms() + ms;

	while (!atomic_load(stop) && clock_boot_ms() < until)
		clock_sleep(LATE_STEP_MS);
	return (!atomic_load(stop));
}

/* One upstream after the other, until one has sent the document. */
static char *
fetch_bytes(struct sync *s, struct fetch *f, const atomic_bool *stop)
{
	int64_t deadline = clock_boot_ms() + FETCH_MS;
	const char *reason;
	uint64_t tried = 0, late = 0, bit;
	unsigned tries = 0;
	char *p;

	while (ask(s, f, tried, stop, deadline) == 0) {
		bit = UINT64_C(1) << f->end.slot;
		switch (f->end.result) {
		case TRANSFER_DONE:
			if ((p = decode(f, &reason)) != NULL)
				return (p);
			if (errno != EBADMSG)
				return (NULL);
			upstream_bad(s->conf.upstreams, f->end.url, reason);
			break;
		case TRANSFER_ABSENT:
			late |= f->end.kind == UPSTREAM_EDGE ? bit : 0;
			break;
		case TRANSFER_FAULT:
			break;
		case TRANSFER_STOPPED:
			return (NULL);
		case TRANSFER_NONE:
			if (late == 0 || tries == LATE_TRIES ||
			    !pause_ms(stop, LATE_MS << tries++))
				return (NULL);
			tried &= ~late;
			late = bit = 0;
			break;
		}
		tried |= bit;
	}
	return (NULL);
}

/* The same document of the current generation, good as long as that is held. */
static void
set_dictionary(struct fetch *f, const struct snapshot *current,
    enum head_part part)
{
	const struct head *h;

	if (current == NULL)
		return;
	h = snapshot_head(current);
	if (part == HEAD_MANIFEST) {
		f->dictionary.p = manifest_text(snapshot_manifest(current),
		    &f->dictionary.len);
		f->dictionary.digest = h->manifest;
	} else {
		f->dictionary.p = snapshot_table(current, &f->dictionary.len);
		f->dictionary.digest = h->chunks;
	}
	if (f->dictionary.len == 0 ||
	    digest_eq(&f->dictionary.digest, &f->digest))
		f->dictionary.p = NULL;
}

char *
sync_coded(struct sync *s, const struct fill_want *want, enum head_part part,
    const atomic_bool *stop)
{
	struct snapshot *current = site_current(s->conf.site, want->set);
	struct fetch f = {
		.digest = want->digest, .size = want->size,
		.lock = PTHREAD_MUTEX_INITIALIZER, .body = BUF_INIT(0),
	};
	char *p;

	clock_cond_init(&f.cond);
	set_dictionary(&f, current, part);
	if ((p = fetch_bytes(s, &f, stop)) != NULL && store_bytes(
	    s->conf.store, &f.digest, p, (size_t)f.size) == -1) {
		free(p);
		p = NULL;
	}
	if (p != NULL)
		coming_count(s, f.end.coding, f.size, 0);
	buf_free(&f.body);
	(void)pthread_cond_destroy(&f.cond);
	(void)pthread_mutex_destroy(&f.lock);
	snapshot_unref(&current);
	return (p);
}
