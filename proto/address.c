/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Counts connections per address, for conn.c, under its lock.  A hash table of
 * those that have one; its key is random, so that nobody can choose addresses
 * that fall into one chain.
 */
#include <sys/queue.h>
#include <netinet/in.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/address.h"
#include "proto/check.h"

#define	CHAINS_MIN	64u
#define	CHAINS_MAX	(1u << 20)

enum family { FAMILY_NONE, FAMILY_V4, FAMILY_V6, FAMILY_LINK_LOCAL };

struct key {
	enum family	family;
	uint64_t	bits;
};

struct address {
	LIST_ENTRY(address)	 entry;
	struct key		 key;
	size_t			 n;
};

LIST_HEAD(chain, address);

struct addresses {
	size_t		 mask;
	uint64_t	 seed[2];
	struct chain	 chain[];
};

struct addresses *
addresses_new(size_t n)
{
	struct addresses *a;
	size_t chains = CHAINS_MIN, i;

	while (chains < n && chains < CHAINS_MAX)
		chains *= 2;
	if ((a = malloc(sizeof(*a) + chains * sizeof(a->chain[0]))) == NULL)
		return (NULL);
	a->mask = chains - 1;
	for (i = 0; i < chains; i++)
		LIST_INIT(&a->chain[i]);
	if (getentropy(a->seed, sizeof(a->seed)) == -1) {
		free(a);
		return (NULL);
	}
	return (a);
}

void
addresses_destroy(struct addresses **ap)
{
	struct addresses *a = *ap;
	size_t i;

	if (a == NULL)
		return;
	for (i = 0; i <= a->mask; i++)
		CHECK(LIST_EMPTY(&a->chain[i]));
	free(a);
	*ap = NULL;
}

static struct key
key_of_v6(const struct in6_addr *in)
{
	struct key k = { .family = FAMILY_V6 };
	const uint8_t *p = in->s6_addr;
	uint32_t v4;

	if (IN6_IS_ADDR_V4MAPPED(in)) {
		(void)memcpy(&v4, p + 12, sizeof(v4));
		return ((struct key){ .family = FAMILY_V4, .bits = v4 });
	}
	if (IN6_IS_ADDR_LINKLOCAL(in)) {
		k.family = FAMILY_LINK_LOCAL;
		p += 8;
	}
	(void)memcpy(&k.bits, p, sizeof(k.bits));
	return (k);
}

static struct key
key_of(const struct sockaddr *sa)
{
	struct sockaddr_in6 sin6;
	struct sockaddr_in sin;

	switch (sa->sa_family) {
	case AF_INET:
		(void)memcpy(&sin, sa, sizeof(sin));
		return ((struct key){ .family = FAMILY_V4,
		    .bits = sin.sin_addr.s_addr });
	case AF_INET6:
		(void)memcpy(&sin6, sa, sizeof(sin6));
		return (key_of_v6(&sin6.sin6_addr));
	default:
		return ((struct key){ .family = FAMILY_NONE });
	}
}

static size_t
chain_of(const struct addresses *a, const struct key *k)
{
	uint64_t h = k->bits ^ a->seed[0];

	h = (h ^ h >> 32) * (a->seed[1] | 1);
	h = (h ^ h >> 29) * 0x9e3779b97f4a7c15ull;
	return ((size_t)(h >> 32) & a->mask);
}

static struct address *
find(const struct addresses *a, const struct key *k)
{
	struct address *p;

	LIST_FOREACH(p, &a->chain[chain_of(a, k)], entry)
		if (p->key.bits == k->bits && p->key.family == k->family)
			return (p);
	return (NULL);
}

size_t
address_count(const struct addresses *a, const struct sockaddr *sa)
{
	struct key k = key_of(sa);
	const struct address *p = find(a, &k);

	return (p == NULL ? 0 : p->n);
}

struct address *
address_take(struct addresses *a, const struct sockaddr *sa)
{
	struct key k = key_of(sa);
	struct address *p;

	if ((p = find(a, &k)) == NULL) {
		if ((p = malloc(sizeof(*p))) == NULL)
			return (NULL);
		*p = (struct address){ .key = k };
		LIST_INSERT_HEAD(&a->chain[chain_of(a, &k)], p, entry);
	}
	p->n++;
	return (p);
}

void
address_give(struct address **pp)
{
	struct address *p = *pp;

	*pp = NULL;
	CHECK(p->n > 0);
	if (--p->n > 0)
		return;
	LIST_REMOVE(p, entry);
	free(p);
}
