/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory of CURVE handshakes, for ZeroMQ.
 *
 * It takes each text that it decrypts there from sodium_allocarray(), several in
 * a handshake: pages of their own, locked, between pages that cannot be touched.
 * Making and unmaking these takes a dozen system calls, of which some stop all
 * threads of the process.  To a master they were half of what it did while
 * thousands of edges came back.
 *
 * The functions here are found before libsodium's, since a program's own are.
 * They share out blocks of one such allocation, made once: locked, kept out of
 * core dumps, between guard pages, and wiped when they are given back.  What a
 * block does not hold, and what comes when all are taken, is libsodium's.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <strings.h>

#include <sodium.h>

#include "keys/curve_memory.h"
#include "proto/check.h"

#define	BLOCKS		32		/* bits of `taken` */
#define	BLOCK		1024		/* bytes: no text of a handshake has more */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void *(*their_allocarray)(size_t, size_t);
static void (*their_free)(void *);
static unsigned char *blocks;		/* NULL: there was no memory for them */
static _Atomic uint32_t taken;

static void
init(void)
{

	/* As POSIX has it for functions. */
	*(void **)&their_allocarray = dlsym(RTLD_NEXT, "sodium_allocarray");
	*(void **)&their_free = dlsym(RTLD_NEXT, "sodium_free");
	CHECK(their_allocarray != NULL && their_free != NULL);
	if (sodium_init() != -1)
		blocks = sodium_malloc((size_t)BLOCKS * BLOCK);
}

void
curve_memory(void)
{

	(void)pthread_once(&once, init);
}

/* NULL: all are taken. */
static void *
take_block(void)
{
	uint32_t t = atomic_load(&taken);
	int i;

	do {
		if ((i = ffs((int)~t)) == 0)
			return (NULL);
	} while (!atomic_compare_exchange_weak(&taken, &t,
	    t | UINT32_C(1) << (i - 1)));
	return (blocks + (size_t)(i - 1) * BLOCK);
}

void *
sodium_allocarray(size_t count, size_t size)
{
	void *p;

	curve_memory();
	if (blocks != NULL && (size == 0 || count <= BLOCK / size) &&
	    (p = take_block()) != NULL)
		return (p);
	return (their_allocarray(count, size));
}

void
sodium_free(void *p)
{
	uintptr_t at;

	curve_memory();
	at = (uintptr_t)p - (uintptr_t)blocks;
	if (blocks == NULL || at >= (uintptr_t)BLOCKS * BLOCK) {
		their_free(p);
		return;
	}
	CHECK(at % BLOCK == 0);
	CHECK(atomic_load(&taken) >> (at / BLOCK) & 1);
	sodium_memzero(p, BLOCK);
	atomic_fetch_and(&taken, ~(UINT32_C(1) << (at / BLOCK)));
}
