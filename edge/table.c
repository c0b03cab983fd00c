/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The blob store's table: finding blobs, changing their state, taking them
 * away.  Called by the other parts of the store, in its callers' threads;
 * table.h states the locks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/table.h"
#include "proto/check.h"
#include "proto/log.h"

#define	BUCKETS_MIN	8u		/* of a stripe that holds something */
#define	BUCKETS_MAX	(1u << 20)
#define	WARN_BURST	20		/* lines a second of a kind */

static struct log_limit damage_limit, remove_limit;

void
table_init(struct blob_store *s)
{
	unsigned i;

	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_cond_init(&s->changed, NULL);
	for (i = 0; i < TABLE_STRIPES; i++)
		(void)pthread_mutex_init(&s->stripe[i].lock, NULL);
	for (i = 0; i < Q_N; i++)
		TAILQ_INIT(&s->q[i]);
	s->space = UINT64_MAX;		/* until the disk is asked */
	memory_init(&s->memory, MEMORY_DEFAULT);
}

static void
free_stripe(struct table_stripe *t)
{
	struct blob *b;
	uint32_t i;

	for (i = 0; i < t->nbucket; i++)
		while ((b = t->bucket[i]) != NULL) {
			t->bucket[i] = b->chain;
			memory_forget(b);
			free(b);
		}
	free(t->bucket);
	(void)pthread_mutex_destroy(&t->lock);
}

void
table_free(struct blob_store *s)
{
	unsigned i;

	for (i = 0; i < TABLE_STRIPES; i++)
		free_stripe(&s->stripe[i]);
	memory_free(&s->memory);
	(void)pthread_cond_destroy(&s->changed);
	(void)pthread_mutex_destroy(&s->lock);
}

/* A digest is as good as random: its bytes are the hash. */
static struct table_stripe *
stripe_of(struct blob_store *s, const struct digest *d)
{

	return (&s->stripe[((unsigned)d->b[0] << 8 | d->b[1]) %
	    TABLE_STRIPES]);
}

pthread_mutex_t *
table_stripe(struct blob_store *s, const struct digest *d)
{

	return (&stripe_of(s, d)->lock);
}

static struct blob **
bucket_of(const struct table_stripe *t, const struct digest *d)
{
	uint32_t h;

	memcpy(&h, d->b + 4, sizeof(h));
	return (&t->bucket[h & (t->nbucket - 1)]);
}

struct blob *
table_find(struct blob_store *s, const struct digest *d)
{
	const struct table_stripe *t = stripe_of(s, d);
	struct blob *b = NULL;

	if (t->nbucket > 0)
		for (b = *bucket_of(t, d); b != NULL; b = b->chain)
			if (digest_eq(&b->digest, d))
				break;
	return (b);
}

bool
table_complete(const struct blob *b)
{

	return (b->queue <= Q_UNNAMED);
}

ssize_t
table_digests(struct blob_store *s, unsigned stripe, struct digest **v)
{
	struct table_stripe *t = &s->stripe[stripe];
	const struct blob *b;
	ssize_t n = -1;
	uint32_t i;

	CHECK(stripe < TABLE_STRIPES);
	(void)pthread_mutex_lock(&t->lock);
	if ((*v = calloc((size_t)t->nblob + 1, sizeof(**v))) != NULL)
		for (n = 0, i = 0; i < t->nbucket; i++)
			for (b = t->bucket[i]; b != NULL; b = b->chain)
				if (table_complete(b))
					(*v)[n++] = b->digest;
	(void)pthread_mutex_unlock(&t->lock);
	return (n);
}

char *
table_name(const struct digest *d, char out[BLOB_NAME])
{

	(void)digest_hex(d, out + 3);
	out[0] = out[3];
	out[1] = out[4];
	out[2] = '/';
	return (out);
}

void
table_unref(struct blob *b)
{

	if (atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	CHECK(b->queue == Q_GONE && b->memory == NULL);
	explicit_bzero(&b->magic, sizeof(b->magic));
	free(b);
}

/* Out of its queue; places there move on. */
static void
dequeue(struct blob *b, enum table_queue from)
{
	struct blob_store *s = b->store;

	if (s->hand == b)
		s->hand = TAILQ_PREV(b, blob_queue, link);
	if (s->broom == b)
		s->broom = TAILQ_PREV(b, blob_queue, link);
	TAILQ_REMOVE(&s->q[from], b, link);
}

/* The part of a move that only threads with the store's lock see. */
static void
account(struct blob *b, enum table_queue from, enum table_queue to,
    uint64_t charge)
{
	struct blob_store *s = b->store;

	if (from == Q_NEEDED || from == Q_FILLING)
		s->fixed -= b->charge;
	s->bytes -= b->charge;
	s->n[from]--;
	b->charge = charge;
	s->n[to]++;
	s->bytes += charge;
	if (to == Q_NEEDED || to == Q_FILLING)
		s->fixed += charge;
	if (to < Q_N)
		TAILQ_INSERT_HEAD(&s->q[to], b, link);
}

void
table_move(struct blob *b, enum table_queue to, uint64_t charge)
{
	pthread_mutex_t *stripe = table_stripe(b->store, &b->digest);
	enum table_queue from = b->queue;

	if (from < Q_N)
		dequeue(b, from);
	(void)pthread_mutex_lock(stripe);
	b->queue = to;
	(void)pthread_mutex_unlock(stripe);
	account(b, from, to, charge);
}

void
table_size(struct blob *b, uint64_t size)
{
	struct blob_store *s = b->store;
	pthread_mutex_t *stripe = table_stripe(s, &b->digest);

	CHECK(table_complete(b));
	s->bytes += size - b->charge;
	s->space_bytes += size - b->charge;	/* it was there already */
	if (b->queue == Q_NEEDED)
		s->fixed += size - b->charge;
	b->charge = size;
	(void)pthread_mutex_lock(stripe);
	if (b->size == BLOB_UNSIZED)
		b->size = size;
	(void)pthread_mutex_unlock(stripe);
}

void
table_refresh(struct blob *b)
{

	CHECK(b->queue < Q_N);
	dequeue(b, b->queue);
	TAILQ_INSERT_HEAD(&b->store->q[b->queue], b, link);
}

/*
 * One blob a bucket.  What is moved at a time is one stripe's share.  Without
 * memory the chains become longer, nothing else.
 */
static void
grow(struct table_stripe *t)
{
	struct blob **old = t->bucket, **new, *b, **at;
	uint32_t i, n = t->nbucket;

	if (t->nblob < n || n >= BUCKETS_MAX || (new = calloc(n == 0 ?
	    BUCKETS_MIN : n * 2, sizeof(struct blob *))) == NULL)
		return;
	(void)pthread_mutex_lock(&t->lock);
	t->bucket = new;
	t->nbucket = n == 0 ? BUCKETS_MIN : n * 2;
	for (i = 0; i < n; i++)
		while ((b = old[i]) != NULL) {
			old[i] = b->chain;
			at = bucket_of(t, &b->digest);
			b->chain = *at;
			*at = b;
		}
	(void)pthread_mutex_unlock(&t->lock);
	free(old);
}

struct blob *
table_add(struct blob_store *s, const struct digest *d, enum table_queue queue,
    uint64_t size, uint64_t charge)
{
	struct table_stripe *t = stripe_of(s, d);
	struct blob *b, **at;

	grow(t);
	if (t->nbucket == 0 || (b = calloc(1, sizeof(*b))) == NULL)
		return (NULL);
	b->magic = BLOB_MAGIC;
	b->store = s;
	b->digest = *d;
	b->size = size;
	b->queue = queue;
	atomic_init(&b->refs, 1);
	s->n[Q_GONE]++;
	account(b, Q_GONE, queue, charge);
	(void)pthread_mutex_lock(&t->lock);
	at = bucket_of(t, d);
	b->chain = *at;
	*at = b;
	t->nblob++;
	(void)pthread_mutex_unlock(&t->lock);
	return (b);
}

/* Nobody finds it any more. */
static void
unlist(struct blob *b)
{
	struct table_stripe *t = stripe_of(b->store, &b->digest);
	struct blob **at;

	(void)pthread_mutex_lock(&t->lock);
	for (at = bucket_of(t, &b->digest); *at != b; at = &(*at)->chain)
		CHECK(*at != NULL);
	*at = b->chain;
	t->nblob--;
	b->queue = Q_GONE;
	(void)pthread_mutex_unlock(&t->lock);
}

static void
remove_file(const struct blob *b, bool partial)
{
	const struct blob_store *s = b->store;
	char name[BLOB_NAME];

	(void)table_name(&b->digest, name);
	if (unlinkat(partial ? s->partials : s->blobs,
	    partial ? name + 3 : name, 0) == -1 && errno != ENOENT &&
	    log_allowed(&remove_limit, WARN_BURST))
		log_err("store cannot remove blob=%s: %s", name + 3,
		    strerror(errno));
}

/* A blob that was made Q_GOING goes: its file, then the rest. */
static void
finish(struct blob *b, bool partial)
{
	struct blob_store *s = b->store;

	(void)pthread_mutex_unlock(&s->lock);
	remove_file(b, partial);
	memory_forget(b);		/* and it gets none any more */
	(void)pthread_mutex_lock(&s->lock);
	account(b, Q_GOING, Q_GONE, 0);
	s->n[Q_GONE]--;
	unlist(b);
	(void)pthread_cond_broadcast(&s->changed);
	table_unref(b);
}

void
table_damaged(struct blob *b, const char *then)
{
	char hex[DIGEST_HEX + 1];

	CHECK(table_complete(b));
	b->store->dropped++;
	if (log_allowed(&damage_limit, WARN_BURST))
		log_warn("store drops blob=%s: its file is damaged; %s",
		    digest_hex(&b->digest, hex), then);
}

void
table_discard(struct blob *b)
{
	bool partial = !table_complete(b);

	table_move(b, Q_GOING, 0);
	finish(b, partial);
}

/* The stripe is locked. */
static bool
used(const struct blob *b, unsigned refs)
{

	return (atomic_load(&b->refs) > refs || memory_in_use(b->memory));
}

bool
table_in_use(const struct blob *b)
{
	pthread_mutex_t *stripe = table_stripe(b->store, &b->digest);
	bool is;

	(void)pthread_mutex_lock(stripe);
	is = used(b, 1);		/* the table's */
	(void)pthread_mutex_unlock(stripe);
	return (is);
}

bool
table_discard_unused(struct blob *b, unsigned refs)
{
	pthread_mutex_t *stripe = table_stripe(b->store, &b->digest);
	enum table_queue from = b->queue;
	bool partial = !table_complete(b), ok;

	CHECK(from < Q_N);
	(void)pthread_mutex_lock(stripe);
	if ((ok = !used(b, refs)))
		b->queue = Q_GOING;
	(void)pthread_mutex_unlock(stripe);
	if (!ok)
		return (false);
	dequeue(b, from);
	account(b, from, Q_GOING, 0);
	finish(b, partial);
	return (true);
}
