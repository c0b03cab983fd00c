/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lease arithmetic (design.md, section 5), on which G2 and G7 rest: a grant is
 * counted from the moment its renewal was sent, for four fifths of its time to
 * live, on a clock that runs on in suspend, and ends too when the wall clock
 * advanced by more.  link.c reports renewals and replies; HTTP threads ask, for
 * each request, and take no lock.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "edge/lease.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/plant.h"

#define	LEASES_MAGIC	0x6c656173
#define	PART_NUM	4		/* the edge counts 4/5 of the ttl */
#define	PART_DEN	5

/*
 * When a grant ends, on both clocks.  The writer stores `real` first and
 * readers load `boot` first, so a reader sees the pair, or an older boot with a
 * newer real: then the newer grant holds on both, as its boot is later.
 */
struct until {
	_Atomic int64_t	boot, real;
};

struct lease_set {
	struct until		 until;
	struct lease_set	*next;
	char			 name[SET_NAME_MAX + 1];
};

struct sent {
	uint64_t		sequence;
	struct lease_now	when;
};

struct leases {
	unsigned	 magic;
	char		 instance[INSTANCE_HEX + 1];
	pthread_mutex_t	 lock;		/* all below but `until` members */
	struct until	 others;
	struct lease_set *sets;
	uint64_t	 sequence;	/* last sent */
	uint64_t	 granted;	/* last that counted */
	struct sent	 sent[LEASE_SENT_KEPT];
};

struct lease_now
lease_clock(void)
{

	return ((struct lease_now){ .boot = clock_boot_ms(),
	    .real = clock_real_ms() });
}

static void
until_set(struct until *u, struct lease_now from, int64_t good_ms)
{

	atomic_store_explicit(&u->real, from.real + good_ms,
	    memory_order_relaxed);
	atomic_store_explicit(&u->boot, from.boot + good_ms,
	    memory_order_release);
}

/* Milliseconds left, or 0. */
static int64_t
until_left(const struct until *u, struct lease_now now)
{
	int64_t boot, real;

	boot = atomic_load_explicit(&u->boot, memory_order_acquire) - now.boot;
	real = atomic_load_explicit(&u->real, memory_order_relaxed) - now.real;
	if (boot <= 0 || real <= 0)
		return (0);
	return (boot < real ? boot : real);
}

struct leases *
leases_new(const char *instance)
{
	struct leases *l;

	CHECK(strlen(instance) == INSTANCE_HEX);
	if ((l = calloc(1, sizeof(*l))) == NULL)
		return (NULL);
	l->magic = LEASES_MAGIC;
	memcpy(l->instance, instance, sizeof(l->instance));
	/* Nothing granted: INT64_MIN would overflow in until_left(). */
	until_set(&l->others, (struct lease_now){ 0, 0 }, INT64_MIN / 4);
	pthread_mutex_init(&l->lock, NULL);
	return (l);
}

void
leases_destroy(struct leases **lp)
{
	struct leases *l = *lp;
	struct lease_set *s;

	*lp = NULL;
	if (l == NULL)
		return;
	CHECK_OBJ(l, LEASES_MAGIC);
	while ((s = l->sets) != NULL) {
		l->sets = s->next;
		free(s);
	}
	pthread_mutex_destroy(&l->lock);
	explicit_bzero(&l->magic, sizeof(l->magic));
	free(l);
}

void *
leases_set(void *leases, const char *set)
{
	struct leases *l = leases;
	struct lease_set *s;
	size_t len = strlen(set);

	CHECK_OBJ(l, LEASES_MAGIC);
	CHECK(len <= SET_NAME_MAX);
	if ((s = calloc(1, sizeof(*s))) == NULL)
		return (NULL);
	memcpy(s->name, set, len);
	pthread_mutex_lock(&l->lock);
	atomic_store(&s->until.real, atomic_load(&l->others.real));
	atomic_store(&s->until.boot, atomic_load(&l->others.boot));
	s->next = l->sets;
	l->sets = s;
	pthread_mutex_unlock(&l->lock);
	return (s);
}

uint64_t
leases_sent(struct leases *l, struct lease_now now)
{
	uint64_t sequence;

	CHECK_OBJ(l, LEASES_MAGIC);
	pthread_mutex_lock(&l->lock);
	sequence = ++l->sequence;
	l->sent[sequence % LEASE_SENT_KEPT] = (struct sent){
	    .sequence = sequence, .when = now };
	pthread_mutex_unlock(&l->lock);
	return (sequence);
}

static bool
is_behind(const struct lease *reply, const char *set)
{

	for (size_t i = 0; i < reply->nbehind; i++)
		if (strcmp(reply->behind[i], set) == 0)
			return (true);
	return (false);
}

static bool
held(const struct leases *l, const char *set)
{

	for (const struct lease_set *s = l->sets; s != NULL; s = s->next)
		if (strcmp(s->name, set) == 0)
			return (true);
	return (false);
}

/* With the lock held: what a reply to that renewal covers. */
static void
extend(struct leases *l, const struct lease *reply, struct lease_now from)
{
	uint64_t ttl = reply->ttl_ms;
	int64_t good_ms;
	bool others = true;

	if (ttl > LEASE_TTL_MAX_MS)
		ttl = LEASE_TTL_MAX_MS;
	good_ms = (int64_t)(ttl * PART_NUM / PART_DEN);
	for (size_t i = 0; i < reply->nbehind; i++)
		if (!held(l, reply->behind[i]))
			others = false;
	if (others)
		until_set(&l->others, from, good_ms);
	for (struct lease_set *s = l->sets; s != NULL; s = s->next)
		if (!is_behind(reply, s->name))
			until_set(&s->until, from, good_ms);
}

bool
leases_granted(struct leases *l, const struct lease *reply)
{
	const struct sent *sent;
	bool good = false;

	CHECK_OBJ(l, LEASES_MAGIC);
	if (strcmp(reply->instance, l->instance) != 0)
		return (false);
	pthread_mutex_lock(&l->lock);
	sent = &l->sent[reply->sequence % LEASE_SENT_KEPT];
	if (reply->sequence > l->granted && reply->sequence != 0 &&
	    sent->sequence == reply->sequence) {
		good = true;
		l->granted = reply->sequence;
		if (reply->ttl_ms > 0)
			extend(l, reply, sent->when);
	}
	pthread_mutex_unlock(&l->lock);
	return (good);
}

int64_t
leases_left(const struct leases *l, const struct lease_set *s,
    struct lease_now now)
{

	CHECK_OBJ(l, LEASES_MAGIC);
	return (until_left(s != NULL ? &s->until : &l->others, now));
}

bool
leases_fresh(const struct leases *l, const struct lease_set *s,
    struct lease_now now)
{

#ifdef PLANT
	/* A lease that was granted once never ends. */
	if (plant_is("lease") && atomic_load(&(s != NULL ? &s->until :
	    &l->others)->boot) > 0)
		return (true);
#endif
	return (leases_left(l, s, now) > 0);
}

void
leases_polled(struct leases *l, struct lease_now now, int64_t good_ms)
{

	CHECK_OBJ(l, LEASES_MAGIC);
	pthread_mutex_lock(&l->lock);
	until_set(&l->others, now, good_ms);
	for (struct lease_set *s = l->sets; s != NULL; s = s->next)
		until_set(&s->until, now, good_ms);
	pthread_mutex_unlock(&l->lock);
}
