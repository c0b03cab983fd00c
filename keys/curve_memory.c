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
 * The functions here are found before a shared libsodium's, since a program's own
 * are (with a static one they clash).  They share out blocks of one such
 * allocation, made once: locked if the system lets it, kept out of core dumps,
 * between guard pages, and wiped when they are given back.  No guard is between
 * one block and the next.  What a block does not hold, and what comes when all
 * are taken, is libsodium's.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <strings.h>

#include <sodium.h>

#include "keys/curve_memory.h"
#include "proto/check.h"

static pthread_once_t found = PTHREAD_ONCE_INIT, made = PTHREAD_ONCE_INIT;
static void *(*their_allocarray)(size_t, size_t);
static void (*their_free)(void *);
static unsigned char *_Atomic blocks;	/* NULL: none yet, or no memory */
static _Atomic uint32_t taken;		/* a bit for each of CURVE_BLOCKS */

static void
find(void)
{

	/* As POSIX has it for functions. */
	*(void **)&their_allocarray = dlsym(RTLD_NEXT, "sodium_allocarray");
	*(void **)&their_free = dlsym(RTLD_NEXT, "sodium_free");
	CHECK(their_allocarray != NULL && their_free != NULL);
}

static void
make(void)
{

	if (sodium_init() != -1)
		atomic_store(&blocks, sodium_malloc((size_t)CURVE_BLOCKS *
		    CURVE_BLOCK));
}

void
curve_memory(void)
{

	(void)pthread_once(&made, make);
}

/* NULL: all are taken. */
static void *
take_block(unsigned char *first)
{
	uint32_t t = atomic_load(&taken);
	int i;

	do {
		if ((i = ffs((int)~t)) == 0)
			return (NULL);
	} while (!atomic_compare_exchange_weak(&taken, &t,
	    t | UINT32_C(1) << (i - 1)));
	return (first + (size_t)(i - 1) * CURVE_BLOCK);
}

void *
sodium_allocarray(size_t count, size_t size)
{
	unsigned char *first = atomic_load(&blocks);
	void *p;

	if (first != NULL && (size == 0 || count <= CURVE_BLOCK / size) &&
	    (p = take_block(first)) != NULL)
		return (p);
	(void)pthread_once(&found, find);
	return (their_allocarray(count, size));
}

void
sodium_free(void *p)
{
	unsigned char *first = atomic_load(&blocks);
	uintptr_t at = (uintptr_t)p - (uintptr_t)first;

	if (first == NULL || at >= (uintptr_t)CURVE_BLOCKS * CURVE_BLOCK) {
		(void)pthread_once(&found, find);
		their_free(p);
		return;
	}
	CHECK(at % CURVE_BLOCK == 0);
	CHECK(atomic_load(&taken) >> (at / CURVE_BLOCK) & 1);
	sodium_memzero(p, CURVE_BLOCK);
	atomic_fetch_and(&taken, ~(UINT32_C(1) << (at / CURVE_BLOCK)));
}
