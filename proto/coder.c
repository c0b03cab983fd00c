/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Coded bodies for serve.c, in both daemons.  A thousand edges ask for one within
 * a tenth of a second of a prepare: the first request has it made, the others
 * wait for that, suspended, and all are sent the same bytes.  HTTP threads only
 * look things up; the thread here reads, codes, and drops what is not wanted any
 * more.
 *
 * Anybody may ask, for any pair of kept generations; so there is one thread, a
 * short queue, and, beyond that, the document as it is.
 *
 * Lock: the coder's guards all but what is said to be the thread's.  wake() is
 * called with it held; nothing else is.
 */
#include <sys/param.h>
#include <sys/queue.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"
#include "proto/clock.h"
#include "proto/coder.h"
#include "proto/httpd.h"
#include "proto/log.h"
#include "proto/zcode.h"

#define	CODER_MAGIC	0x636f6472u
#define	WAIT_MAGIC	0x63647774u
#define	LOOK_MS		60000		/* for what is not wanted any more */
#define	WAKE_BATCH	32u		/* requests, before others get the lock */

struct coded {				/* immutable */
	atomic_uint	 refs;
	size_t		 len;
	char		*p;
};

enum stage { STAGE_QUEUED, STAGE_RUNNING, STAGE_DONE };

struct job {
	struct coder_want	 want;
	enum stage		 stage;
	struct coded		*coded;		/* NULL: to be sent as it is */
	int64_t			 used_ms;
	LIST_HEAD(, coder_wait)	 waits;
	TAILQ_ENTRY(job)	 link;
};
TAILQ_HEAD(jobs, job);

struct coder {
	unsigned		 magic;
	struct coder_conf	 conf;
	pthread_t		 thread;
	pthread_mutex_t		 lock;
	pthread_cond_t		 work;
	bool			 stop;
	struct jobs		 queue;		/* not done yet, oldest first */
	struct jobs		 done;		/* least recently used first */
	unsigned		 nqueue, ndone;
	size_t			 bytes;		/* of those done */
	uint64_t		 made, answers;
};

struct coder_wait {
	unsigned		 magic;
	struct coder		*coder;
	struct coder_want	 want;
	enum coder_state	 state;
	struct coded		*coded;		/* CODER_CODED: a reference */
	void			(*wake)(void *);
	void			*arg;
	LIST_ENTRY(coder_wait)	 link;		/* CODER_WAIT: the job's */
};

static struct coded *
coded_ref(struct coded *b)
{

	(void)atomic_fetch_add(&b->refs, 1);
	return (b);
}

static void
coded_unref(void *p)
{
	struct coded *b = p;

	if (b == NULL || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	free(b->p);
	free(b);
}

static bool
same(const struct coder_want *a, const struct coder_want *b)
{

	return (digest_eq(&a->digest, &b->digest) &&
	    a->has_dictionary == b->has_dictionary && (!a->has_dictionary ||
	    digest_eq(&a->dictionary, &b->dictionary)));
}

/* Locked. */
static void
forget(struct coder *c, struct job *j)
{

	CHECK(j->stage == STAGE_DONE && LIST_EMPTY(&j->waits));
	TAILQ_REMOVE(&c->done, j, link);
	c->ndone--;
	c->bytes -= j->coded != NULL ? j->coded->len : 0;
	coded_unref(j->coded);
	free(j);
}

/* Locked: room for one more of that size. */
static void
make_room(struct coder *c, size_t len)
{

	while (c->ndone > 0 && (c->ndone >= CODER_ENTRIES ||
	    c->bytes + len > CODER_BYTES))
		forget(c, TAILQ_FIRST(&c->done));
}

/*
 * The thread's work: reads, codes.  False: something could not be had, which may
 * be otherwise the next time.  *out NULL: it would not be smaller.
 */
static bool
code(struct coder *c, const struct coder_want *w, struct coded **out)
{
	struct zcode_dictionary d = { .digest = w->dictionary };
	char *document = NULL, *dictionary = NULL;
	struct coded *b = NULL;
	size_t max = (size_t)MIN(w->size - 1, CODER_BYTES);
	bool done = false;

	*out = NULL;
	if ((document = c->conf.read(c->conf.arg, &w->digest, w->size)) ==
	    NULL || (w->has_dictionary && (dictionary = c->conf.read(
	    c->conf.arg, &w->dictionary, w->dictionary_size)) == NULL) ||
	    (b = calloc(1, sizeof(*b))) == NULL)
		goto out;
	atomic_init(&b->refs, 1);
	d.p = dictionary;
	d.len = (size_t)w->dictionary_size;
	if (zcode_encode(w->has_dictionary ? &d : NULL, document,
	    (size_t)w->size, max, &b->p, &b->len) == 0) {
		*out = b;
		b = NULL;
		done = true;
	} else
		done = errno == EFBIG;
out:
	free(b);
	free(dictionary);
	free(document);
	return (done);
}

static void
say(const struct coder_want *w, bool done, const struct coded *b, int64_t ms)
{
	char hex[DIGEST_HEX + 1], of[DIGEST_HEX + 1];

	log_debug("coded digest=%s dictionary=%s size=%llu bytes=%zu ms=%lld%s",
	    digest_hex(&w->digest, hex), w->has_dictionary ?
	    digest_hex(&w->dictionary, of) : "none",
	    (unsigned long long)w->size, b != NULL ? b->len : 0, (long long)ms,
	    !done ? ": not possible" : b == NULL ? ": not smaller" : "");
}

/* Locked: tells those who wait, unlocking now and then. */
static void
wake_all(struct coder *c, struct job *j)
{
	struct coder_wait *w;
	unsigned n = 0;

	while ((w = LIST_FIRST(&j->waits)) != NULL) {
		LIST_REMOVE(w, link);
		w->state = j->coded != NULL ? CODER_CODED : CODER_PLAIN;
		if (j->coded != NULL)
			w->coded = coded_ref(j->coded);
		w->wake(w->arg);
		if (++n % WAKE_BATCH == 0) {
			(void)pthread_mutex_unlock(&c->lock);
			(void)pthread_mutex_lock(&c->lock);
		}
	}
}

/* Locked: the oldest that is to be made, until it is. */
static void
work_on(struct coder *c, struct job *j)
{
	int64_t began = clock_boot_ms();
	struct coded *b;
	bool done;

	j->stage = STAGE_RUNNING;
	(void)pthread_mutex_unlock(&c->lock);
	done = code(c, &j->want, &b);
	say(&j->want, done, b, clock_boot_ms() - began);
	(void)pthread_mutex_lock(&c->lock);
	make_room(c, b != NULL ? b->len : 0);
	TAILQ_REMOVE(&c->queue, j, link);
	c->nqueue--;
	TAILQ_INSERT_TAIL(&c->done, j, link);
	c->ndone++;
	j->stage = STAGE_DONE;
	j->coded = b;
	j->used_ms = clock_boot_ms();
	if (b != NULL) {
		c->bytes += b->len;
		c->made++;
	}
	wake_all(c, j);
	if (!done)
		forget(c, j);
}

/* Whether a generation that is kept or prepared has it. */
static bool
is_wanted(struct coder *c, const struct digest *d)
{
	struct site_prepared p;
	struct site_file f;
	bool is;

	is = site_find_blob(site_enter(c->conf.site), d, &f, NULL);
	site_leave(c->conf.site);
	return (is || c->conf.prepared(c->conf.arg, d, &p));
}

/* Locked: drops what nobody can ask for any more, or has for long.  Only this
 * thread drops, so they stay while it is unlocked. */
static void
look(struct coder *c)
{
	int64_t now = clock_boot_ms();
	unsigned n = c->ndone;		/* those that are used meanwhile move */
	struct job *j, *next;
	bool keep;

	for (j = TAILQ_FIRST(&c->done); j != NULL && n > 0; j = next, n--) {
		(void)pthread_mutex_unlock(&c->lock);
		keep = is_wanted(c, &j->want.digest) &&
		    (!j->want.has_dictionary ||
		    is_wanted(c, &j->want.dictionary));
		(void)pthread_mutex_lock(&c->lock);
		next = TAILQ_NEXT(j, link);
		if (!keep || now - j->used_ms >= CODER_IDLE_MS)
			forget(c, j);
	}
}

/* Locked: until there is something to do. */
static void
wait_for_work(struct coder *c)
{

	if (c->ndone == 0)
		(void)pthread_cond_wait(&c->work, &c->lock);
	else if (!clock_wait(&c->work, &c->lock, LOOK_MS))
		look(c);
}

static void *
run(void *arg)
{
	struct coder *c = arg;
	struct job *j;

	CHECK_OBJ(c, CODER_MAGIC);
	(void)pthread_mutex_lock(&c->lock);
	while (!c->stop) {
		if ((j = TAILQ_FIRST(&c->queue)) == NULL) {
			wait_for_work(c);
			continue;
		}
		work_on(c, j);
		/* What it replaces may be of no use by now. */
		look(c);
	}
	(void)pthread_mutex_unlock(&c->lock);
	return (NULL);
}

struct coder *
coder_new(const struct coder_conf *conf)
{
	struct coder *c;
	int error;

	if ((c = calloc(1, sizeof(*c))) == NULL)
		return (NULL);
	c->magic = CODER_MAGIC;
	c->conf = *conf;
	TAILQ_INIT(&c->queue);
	TAILQ_INIT(&c->done);
	(void)pthread_mutex_init(&c->lock, NULL);
	clock_cond_init(&c->work);
	if ((error = pthread_create(&c->thread, NULL, run, c)) != 0) {
		(void)pthread_cond_destroy(&c->work);
		(void)pthread_mutex_destroy(&c->lock);
		free(c);
		errno = error;
		return (NULL);
	}
	return (c);
}

void
coder_destroy(struct coder **cp)
{
	struct coder *c = *cp;
	struct job *j;

	*cp = NULL;
	if (c == NULL)
		return;
	CHECK_OBJ(c, CODER_MAGIC);
	(void)pthread_mutex_lock(&c->lock);
	c->stop = true;
	(void)pthread_cond_signal(&c->work);
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_join(c->thread, NULL);
	while (c->ndone > 0)
		forget(c, TAILQ_FIRST(&c->done));
	while ((j = TAILQ_FIRST(&c->queue)) != NULL) {
		CHECK(LIST_EMPTY(&j->waits));
		TAILQ_REMOVE(&c->queue, j, link);
		free(j);
	}
	(void)pthread_cond_destroy(&c->work);
	(void)pthread_mutex_destroy(&c->lock);
	explicit_bzero(&c->magic, sizeof(c->magic));
	free(c);
}

/* Locked: what is there, or begun; one that is done is the last used now. */
static struct job *
find(struct coder *c, const struct coder_want *w)
{
	struct job *j;

	TAILQ_FOREACH(j, &c->queue, link)
		if (same(&j->want, w))
			return (j);
	TAILQ_FOREACH(j, &c->done, link)
		if (same(&j->want, w))
			break;
	if (j != NULL) {
		TAILQ_REMOVE(&c->done, j, link);
		TAILQ_INSERT_TAIL(&c->done, j, link);
		j->used_ms = clock_boot_ms();
	}
	return (j);
}

/* Locked.  NULL: there is too much to do, or no memory. */
static struct job *
begin(struct coder *c, const struct coder_want *w)
{
	struct job *j;

	if (c->stop || c->nqueue >= CODER_QUEUE ||
	    (j = calloc(1, sizeof(*j))) == NULL)
		return (NULL);
	j->want = *w;
	j->stage = STAGE_QUEUED;
	LIST_INIT(&j->waits);
	TAILQ_INSERT_TAIL(&c->queue, j, link);
	c->nqueue++;
	(void)pthread_cond_signal(&c->work);
	return (j);
}

struct coder_wait *
coder_ask(struct coder *c, const struct coder_want *want,
    void (*wake)(void *arg), void *arg)
{
	struct coder_wait *w;
	struct job *j;

	CHECK_OBJ(c, CODER_MAGIC);
	CHECK(want->size > 0);
	if ((w = calloc(1, sizeof(*w))) == NULL)
		return (NULL);
	w->magic = WAIT_MAGIC;
	w->coder = c;
	w->want = *want;
	w->wake = wake;
	w->arg = arg;
	(void)pthread_mutex_lock(&c->lock);
	if ((j = find(c, want)) == NULL && (j = begin(c, want)) == NULL) {
		free(w);
		w = NULL;
	} else if (j->stage != STAGE_DONE) {
		w->state = CODER_WAIT;
		LIST_INSERT_HEAD(&j->waits, w, link);
	} else if (j->coded == NULL)
		w->state = CODER_PLAIN;
	else {
		w->state = CODER_CODED;
		w->coded = coded_ref(j->coded);
	}
	(void)pthread_mutex_unlock(&c->lock);
	return (w);
}

void
coder_wait_destroy(struct coder_wait **wp)
{
	struct coder_wait *w = *wp;

	*wp = NULL;
	if (w == NULL)
		return;
	CHECK_OBJ(w, WAIT_MAGIC);
	(void)pthread_mutex_lock(&w->coder->lock);
	if (w->state == CODER_WAIT)
		LIST_REMOVE(w, link);
	(void)pthread_mutex_unlock(&w->coder->lock);
	coded_unref(w->coded);
	explicit_bzero(&w->magic, sizeof(w->magic));
	free(w);
}

enum coder_state
coder_state(struct coder_wait *w)
{
	enum coder_state state;

	CHECK_OBJ(w, WAIT_MAGIC);
	(void)pthread_mutex_lock(&w->coder->lock);
	state = w->state;
	(void)pthread_mutex_unlock(&w->coder->lock);
	return (state);
}

enum coding
coder_coding(const struct coder_wait *w)
{

	return (w->want.has_dictionary ? CODING_DCZ : CODING_ZSTD);
}

size_t
coder_length(const struct coder_wait *w)
{

	CHECK(w->coded != NULL);
	return (w->coded->len);
}

char *
coder_etag(const struct coder_wait *w, char out[CODER_ETAG])
{
	char hex[DIGEST_HEX + 1], of[DIGEST_HEX + 1] = "";

	if (w->want.has_dictionary)
		(void)digest_hex(&w->want.dictionary, of);
	(void)snprintf(out, CODER_ETAG, "%s-%s%s%s",
	    digest_hex(&w->want.digest, hex), coding_name(coder_coding(w)),
	    w->want.has_dictionary ? "-" : "", of);
	return (out);
}

struct httpd_body *
coder_body(struct coder_wait *w)
{
	struct coded *b = coded_ref(w->coded);
	struct httpd_body *body;

	if ((body = httpd_body_mem(b->p, b->len, coded_unref, b)) == NULL) {
		coded_unref(b);
		return (NULL);
	}
	(void)pthread_mutex_lock(&w->coder->lock);
	w->coder->answers++;
	(void)pthread_mutex_unlock(&w->coder->lock);
	return (body);
}

void
coder_stats(struct coder *c, struct coder_stats *s)
{

	CHECK_OBJ(c, CODER_MAGIC);
	(void)pthread_mutex_lock(&c->lock);
	*s = (struct coder_stats){ .made = c->made, .answers = c->answers,
	    .kept = c->ndone, .bytes = c->bytes };
	(void)pthread_mutex_unlock(&c->lock);
}
