/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What goes from the blob store: unnamed blobs first, then partial files, then
 * SIEVE's choice.  Called by blob.c in threads of fill and follow.  With
 * millions of blobs each hold of the store's lock stays short: a choice looks
 * at some hundred blobs at most, and disks and `named` are asked without it.
 */
#include <sys/param.h>
#include <sys/statvfs.h>

#include <errno.h>
#include <inttypes.h>
#include <sched.h>

#include "edge/evict.h"
#include "proto/clock.h"
#include "proto/log.h"

#define	LOOK_MAX	512u		/* blobs looked at in one hold */
#define	SWEEP_BATCH	128u		/* likewise, by a sweep */
#define	SPACE_MS	1000		/* free space is asked for this often */

/*
 * SIEVE (Zhang et al., NSDI 2024): the next one that nobody asked for since
 * the hand last passed.  Where all of LOOK_MAX were asked for, it is the first
 * of them: what the hand would come back to if the rest were like these.
 * Looks at no more than *left.
 */
static struct blob *
sieve(struct blob_store *s, size_t *left)
{
	struct blob *b = s->hand, *passed = NULL;
	unsigned looks;

	for (looks = 0; looks < LOOK_MAX && *left > 0; looks++, --*left) {
		if (b == NULL &&
		    (b = TAILQ_LAST(&s->q[Q_NAMED], blob_queue)) == NULL)
			break;
		if (atomic_load_explicit(&b->visited, memory_order_relaxed)) {
			atomic_store_explicit(&b->visited, false,
			    memory_order_relaxed);
			if (passed == NULL && !table_in_use(b))
				passed = b;
		} else if (!table_in_use(b)) {
			s->hand = b;
			return (b);
		}
		b = TAILQ_PREV(b, blob_queue, link);
	}
	s->hand = b;
	return (passed);
}

/* The oldest that nobody names; those in use get out of the way. */
static struct blob *
unnamed(struct blob_store *s)
{
	size_t looks = MIN(s->n[Q_UNNAMED], LOOK_MAX);
	struct blob *b;

	for (; looks > 0; looks--) {
		b = TAILQ_LAST(&s->q[Q_UNNAMED], blob_queue);
		if (!table_in_use(b))
			return (b);
		table_refresh(b);
	}
	return (NULL);
}

/* What goes next, or NULL.  Unlocks in between. */
static struct blob *
candidate(struct blob_store *s)
{
	size_t left = 2 * s->n[Q_NAMED];
	struct blob *b;

	for (;;) {
		if ((b = unnamed(s)) != NULL ||
		    (b = TAILQ_LAST(&s->q[Q_IDLE], blob_queue)) != NULL ||
		    (b = sieve(s, &left)) != NULL || left == 0 ||
		    s->n[Q_NAMED] == 0)
			return (b);
		(void)pthread_mutex_unlock(&s->lock);
		(void)sched_yield();
		(void)pthread_mutex_lock(&s->lock);
	}
}

/* The queue for what `named` says; unlocked. */
static enum table_queue
ask(struct blob_store *s, const struct digest *d)
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

/*
 * Evicts a candidate unless `named`, asked without the lock, knows better.
 * Returns the bytes of the budget that became free.
 */
static uint64_t
evict(struct blob_store *s, struct blob *b)
{
	enum table_queue was = b->queue, now;
	uint64_t charge = b->charge, freed = 0;

	if (was == Q_IDLE) {
		table_discard(b);
		return (charge);
	}
	atomic_fetch_add(&b->refs, 1);
	(void)pthread_mutex_unlock(&s->lock);
	now = ask(s, &b->digest);
	(void)pthread_mutex_lock(&s->lock);
	if (b->queue != was)
		;			/* another thread was faster */
	else if (now == Q_NEEDED || (now == Q_NAMED && was == Q_UNNAMED))
		table_move(b, now, b->charge);
	else if (table_discard_unused(b, 2)) {	/* the table's and ours */
		log_debug("evict size=%" PRIu64, charge);
		s->evicted++;
		freed = charge;
	}
	table_unref(b);
	return (freed);
}

void
evict_ask_disk(struct blob_store *s)
{

	s->space_ms = 0;
}

/*
 * Asks for the disk's free space, now and then: on some systems it grows only
 * a while after files were removed, and asking after each would remove all.  A
 * disk that cannot tell is left to the errors of write(2).
 */
static void
ask_disk(struct blob_store *s, uint64_t need)
{
	int64_t now = clock_boot_ms();
	uint64_t space = UINT64_MAX, bytes = s->bytes - need;
	struct statvfs v;

	if (now < s->space_ms)
		return;
	s->space_ms = now + SPACE_MS;
	(void)pthread_mutex_unlock(&s->lock);
	if (fstatvfs(s->partials, &v) == 0)
		space = (uint64_t)v.f_bavail * v.f_frsize;
	(void)pthread_mutex_lock(&s->lock);
	s->space = space;
	s->space_bytes = bytes;
}

/*
 * How many bytes are too many.  Since the disk was asked, its free space is
 * taken to have changed as the sum of charges did.
 */
static uint64_t
excess(const struct blob_store *s)
{
	uint64_t over = 0, want = s->min_free, have = s->space;

	if (s->bytes > s->max_bytes && s->sizing == 0)
		over = s->bytes - s->max_bytes;
	if (have == UINT64_MAX)
		return (over);
	if (s->bytes > s->space_bytes)
		want += s->bytes - s->space_bytes;
	else
		have += s->space_bytes - s->bytes;
	return (want > have ? MAX(over, want - have) : over);
}

/*
 * Soon after a start not all sizes are known.  Nothing goes for the budget's
 * sake then, and what goes for the disk's waits until it can be chosen.
 */
static void
wait_for_sizes(struct blob_store *s)
{

	while (s->sizing > 0)
		(void)pthread_cond_wait(&s->changed, &s->lock);
}

/*
 * Where nothing can be removed nothing is evicted: what left the table would
 * be on the disk still, beyond the budget, and no hit any more.  Asked each time,
 * without the lock; a disk that cannot tell is not.
 */
static bool
is_read_only(struct blob_store *s)
{
	struct statvfs v;
	bool is;

	(void)pthread_mutex_unlock(&s->lock);
	is = fstatvfs(s->partials, &v) == 0 && (v.f_flag & ST_RDONLY) != 0;
	(void)pthread_mutex_lock(&s->lock);
	return (is);
}

int
evict_room(struct blob_store *s, uint64_t need)
{
	struct blob *b;
	uint64_t over;

	ask_disk(s, need);
	if (s->fixed > s->max_bytes) {
		errno = ENOSPC;
		return (-1);
	}
	if (excess(s) > 0)
		wait_for_sizes(s);
	if ((over = excess(s)) > s->bytes - s->fixed) {
		errno = ENOSPC;
		return (-1);
	}
	if (over > 0 && is_read_only(s)) {
		errno = EROFS;
		return (-1);
	}
	for (; over > 0; over = excess(s)) {
		if ((b = candidate(s)) == NULL) {
			errno = ENOSPC;
			return (-1);
		}
		(void)evict(s, b);
	}
	return (0);
}

int
evict_shrink(struct blob_store *s, uint64_t bytes)
{
	struct blob *b;
	uint64_t freed = 0;

	wait_for_sizes(s);
	while (freed < bytes) {
		if ((b = candidate(s)) == NULL) {
			errno = ENOSPC;
			return (-1);
		}
		freed += evict(s, b);
	}
	return (0);
}

/* Copies the next digests, oldest first. */
static size_t
next_batch(struct blob_store *s, struct digest *d, size_t max)
{
	size_t n;

	for (n = 0; n < max && s->broom != NULL; n++) {
		d[n] = s->broom->digest;
		s->broom = TAILQ_PREV(s->broom, blob_queue, link);
	}
	return (n);
}

/* Moves a blob to where it belongs now, if it is still there. */
static void
settle(struct blob_store *s, const struct digest *d, enum table_queue to)
{
	struct blob *b = table_find(s, d);

	if (b != NULL && table_complete(b) && b->queue != to)
		table_move(b, to, b->charge);
	else if (b != NULL && b->queue == Q_IDLE && to == Q_UNNAMED)
		table_discard(b);
}

static void
sweep_queue(struct blob_store *s, enum table_queue q)
{
	struct digest d[SWEEP_BATCH];
	enum table_queue to[SWEEP_BATCH];
	size_t i, n, left;

	(void)pthread_mutex_lock(&s->lock);
	left = s->n[q];			/* not those that come meanwhile */
	s->broom = TAILQ_LAST(&s->q[q], blob_queue);
	while ((n = next_batch(s, d, MIN(left, SWEEP_BATCH))) > 0) {
		(void)pthread_mutex_unlock(&s->lock);
		for (i = 0; i < n; i++)
			to[i] = ask(s, &d[i]);
		(void)pthread_mutex_lock(&s->lock);
		for (i = 0; i < n; i++)
			if (to[i] != q)
				settle(s, &d[i], to[i]);
		left -= n;
	}
	s->broom = NULL;
	(void)pthread_mutex_unlock(&s->lock);
}

void
evict_sweep(struct blob_store *s)
{
	static const enum table_queue order[] = {
		Q_UNNAMED, Q_NEEDED, Q_NAMED, Q_IDLE
	};
	unsigned i;

	for (i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		sweep_queue(s, order[i]);
}
