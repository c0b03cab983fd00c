/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The blob store's table and its eviction.  Called by blob.c alone, in its
 * callers' threads; table.h states the locks.
 */
#include <sys/param.h>
#include <sys/statvfs.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/table.h"
#include "proto/check.h"
#include "proto/log.h"

void
table_init(struct blob_store *s)
{
	unsigned i;

	(void)pthread_mutex_init(&s->lock, NULL);
	for (i = 0; i < TABLE_STRIPES; i++)
		(void)pthread_mutex_init(&s->stripe[i], NULL);
	for (i = 0; i < Q_N; i++)
		TAILQ_INIT(&s->q[i]);
	TAILQ_INIT(&s->in_memory);
}

void
table_free(struct blob_store *s)
{
	struct blob *b;
	unsigned i;

	for (i = 0; i < TABLE_BUCKETS; i++)
		while ((b = LIST_FIRST(&s->bucket[i])) != NULL) {
			LIST_REMOVE(b, chain);
			table_memory_unref(b->memory);
			free(b);
		}
	for (i = 0; i < TABLE_STRIPES; i++)
		(void)pthread_mutex_destroy(&s->stripe[i]);
	(void)pthread_mutex_destroy(&s->lock);
}

pthread_mutex_t *
table_stripe(struct blob_store *s, const struct digest *d)
{

	return (&s->stripe[d->b[1] % TABLE_STRIPES]);
}

static unsigned
bucket_of(const struct digest *d)
{

	return ((unsigned)d->b[0] << 8 | d->b[1]);
}

struct blob *
table_find(struct blob_store *s, const struct digest *d)
{
	struct blob *b;

	LIST_FOREACH(b, &s->bucket[bucket_of(d)], chain)
		if (digest_eq(&b->digest, d))
			return (b);
	return (NULL);
}

bool
table_complete(const struct blob *b)
{

	return (b->queue <= Q_UNNAMED);
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

void
table_memory_unref(void *memory)
{
	struct memory *m = memory;

	if (m != NULL && atomic_fetch_sub(&m->refs, 1) == 1)
		free(m);
}

void
table_move(struct blob *b, enum table_queue to, uint64_t charge)
{
	struct blob_store *s = b->store;

	if (b->queue < Q_N) {
		if (s->hand == b)
			s->hand = TAILQ_PREV(b, blob_queue, link);
		TAILQ_REMOVE(&s->q[b->queue], b, link);
	}
	if (b->queue == Q_NEEDED || b->queue == Q_FILLING)
		s->fixed -= b->charge;
	s->bytes -= b->charge;
	s->n[b->queue]--;
	(void)pthread_mutex_lock(table_stripe(s, &b->digest));
	b->queue = to;
	(void)pthread_mutex_unlock(table_stripe(s, &b->digest));
	b->charge = charge;
	s->n[to]++;
	s->bytes += charge;
	if (to == Q_NEEDED || to == Q_FILLING)
		s->fixed += charge;
	if (to < Q_N)
		TAILQ_INSERT_HEAD(&s->q[to], b, link);
}

void
table_memory_forget(struct blob *b)
{
	struct blob_store *s = b->store;
	struct memory *m;

	(void)pthread_mutex_lock(table_stripe(s, &b->digest));
	m = b->memory;
	b->memory = NULL;
	(void)pthread_mutex_unlock(table_stripe(s, &b->digest));
	if (m == NULL)
		return;
	TAILQ_REMOVE(&s->in_memory, b, memory_link);
	s->memory -= m->len;
	table_memory_unref(m);
}

struct blob *
table_add(struct blob_store *s, const struct digest *d, enum table_queue queue,
    uint64_t size, uint64_t charge)
{
	struct blob *b;

	if ((b = calloc(1, sizeof(*b))) == NULL)
		return (NULL);
	b->magic = BLOB_MAGIC;
	b->store = s;
	b->digest = *d;
	b->size = size;
	b->queue = Q_GONE;
	atomic_init(&b->refs, 1);
	s->n[Q_GONE]++;
	table_move(b, queue, charge);
	(void)pthread_mutex_lock(table_stripe(s, d));
	LIST_INSERT_HEAD(&s->bucket[bucket_of(d)], b, chain);
	(void)pthread_mutex_unlock(table_stripe(s, d));
	return (b);
}

/* Nobody finds it any more, unless more than max_refs use it. */
static bool
unlist(struct blob *b, unsigned max_refs)
{
	pthread_mutex_t *stripe = table_stripe(b->store, &b->digest);
	bool ok;

	(void)pthread_mutex_lock(stripe);
	ok = atomic_load(&b->refs) <= max_refs;
	if (ok)
		LIST_REMOVE(b, chain);
	(void)pthread_mutex_unlock(stripe);
	return (ok);
}

bool
table_discard(struct blob *b, unsigned max_refs)
{
	struct blob_store *s = b->store;
	char name[BLOB_NAME];
	bool partial = !table_complete(b);

	if (!unlist(b, max_refs))
		return (false);
	(void)table_name(&b->digest, name);
	if (unlinkat(partial ? s->partials : s->blobs,
	    partial ? name + 3 : name, 0) == -1 && errno != ENOENT)
		log_err("store cannot remove blob=%s: %s", name + 3,
		    strerror(errno));
	table_memory_forget(b);
	table_move(b, Q_GONE, 0);
	s->n[Q_GONE]--;
	table_unref(b);
	return (true);
}

/* A first look; table_discard() takes the second one, under the stripe. */
static bool
in_use(const struct blob *b)
{

	return (atomic_load(&b->refs) > 1);
}

/*
 * SIEVE (Zhang et al., NSDI 2024): the next one that nobody asked for since
 * the hand last passed.
 */
static struct blob *
sieve(struct blob_store *s)
{
	struct blob *b = s->hand;
	size_t steps;

	for (steps = 2 * s->n[Q_NAMED]; steps > 0; steps--) {
		if (b == NULL)
			b = TAILQ_LAST(&s->q[Q_NAMED], blob_queue);
		if (!in_use(b) && !atomic_exchange(&b->visited, false)) {
			s->hand = b;
			return (b);
		}
		b = TAILQ_PREV(b, blob_queue, link);
	}
	s->hand = b;
	return (NULL);
}

/* What goes next, or NULL. */
static struct blob *
candidate(struct blob_store *s)
{
	struct blob *b;

	TAILQ_FOREACH_REVERSE(b, &s->q[Q_UNNAMED], blob_queue, link)
		if (!in_use(b))
			return (b);
	if ((b = TAILQ_LAST(&s->q[Q_IDLE], blob_queue)) != NULL)
		return (b);
	return (sieve(s));
}

enum table_queue
table_ask(struct blob_store *s, const struct digest *d)
{

	switch (s->named == NULL ? BLOB_NAMED : s->named(s->named_arg, d)) {
	case BLOB_UNNAMED:
		return (Q_UNNAMED);
	case BLOB_NEEDED:
		return (Q_NEEDED);
	case BLOB_NAMED:
		break;
	}
	return (Q_NAMED);
}

/* Evicts a candidate unless `named`, asked without the lock, knows better. */
static void
evict(struct blob_store *s, struct blob *b)
{
	enum table_queue was = b->queue, now;
	uint64_t size = b->size;

	if (was == Q_IDLE) {
		(void)table_discard(b, UINT_MAX);
		return;
	}
	atomic_fetch_add(&b->refs, 1);
	(void)pthread_mutex_unlock(&s->lock);
	now = table_ask(s, &b->digest);
	(void)pthread_mutex_lock(&s->lock);
	if (b->queue != was)
		;			/* another thread was faster */
	else if (now == Q_NEEDED || (now == Q_NAMED && was == Q_UNNAMED))
		table_move(b, now, b->charge);
	else if (table_discard(b, 2)) {	/* the table's reference and ours */
		log_debug("evict size=%" PRIu64, size);
		s->evicted++;
	}
	table_unref(b);
}

/*
 * How many bytes are too many.  A disk whose free space cannot be told is left
 * to the errors of write(2).
 */
static uint64_t
excess(struct blob_store *s, uint64_t need)
{
	struct statvfs v;
	uint64_t over = 0, avail;

	if (s->bytes > s->max_bytes)
		over = s->bytes - s->max_bytes;
	if (fstatvfs(s->partials, &v) == 0) {
		avail = (uint64_t)v.f_bavail * v.f_frsize;
		if (avail < s->min_free + need)
			over = MAX(over, s->min_free + need - avail);
	}
	return (over);
}

int
table_room(struct blob_store *s, uint64_t need)
{
	struct blob *b;
	uint64_t over;

	if ((over = excess(s, need)) > s->bytes - s->fixed) {
		errno = ENOSPC;
		return (-1);
	}
	for (; over > 0; over = excess(s, need)) {
		if ((b = candidate(s)) == NULL) {
			errno = ENOSPC;
			return (-1);
		}
		evict(s, b);
	}
	return (0);
}

int
table_shrink(struct blob_store *s, uint64_t bytes)
{
	struct blob *b;
	uint64_t start = s->bytes;

	while (s->bytes + bytes > start) {
		if ((b = candidate(s)) == NULL) {
			errno = ENOSPC;
			return (-1);
		}
		evict(s, b);
	}
	return (0);
}
