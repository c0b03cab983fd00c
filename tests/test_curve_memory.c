/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory that CURVE handshakes get: ours, found before libsodium's.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "keys/curve_memory.h"

#define	THREADS		4
#define	TURNS		2000

static int
set_up(void **state)
{

	(void)state;
	curve_memory();
	return (sodium_init() == -1 ? -1 : 0);
}

/* Takes as many blocks as there are, in one row of memory, which begins at the
 * result; and two that are not among them. */
static unsigned char *
take_all(unsigned char *p[CURVE_BLOCKS], unsigned char *more[2])
{
	unsigned char *first = NULL;

	for (int i = 0; i < CURVE_BLOCKS; i++) {
		assert_non_null(p[i] = sodium_allocarray(CURVE_BLOCK, 1));
		if (first == NULL || p[i] < first)
			first = p[i];
	}
	for (int i = 0; i < CURVE_BLOCKS; i++) {
		assert_true((size_t)(p[i] - first) < (size_t)CURVE_BLOCKS * CURVE_BLOCK);
		for (int k = 0; k < i; k++)
			assert_ptr_not_equal(p[i], p[k]);
	}
	for (int i = 0; i < 2; i++) {
		assert_non_null(more[i] = sodium_allocarray(16, 8));
		assert_true((uintptr_t)more[i] - (uintptr_t)first >=
		    (uintptr_t)CURVE_BLOCKS * CURVE_BLOCK);
	}
	return (first);
}

static void
give_all(unsigned char *p[CURVE_BLOCKS], unsigned char *more[2])
{

	for (int i = 0; i < CURVE_BLOCKS; i++)
		sodium_free(p[i]);
	sodium_free(more[0]);
	sodium_free(more[1]);
}

/* What ZeroMQ, a shared library, calls. */
static void
test_libraries_find_ours(void **state)
{

	(void)state;
	assert_ptr_equal(dlsym(RTLD_DEFAULT, "sodium_allocarray"),
	    (void *)(uintptr_t)sodium_allocarray);
	assert_ptr_equal(dlsym(RTLD_DEFAULT, "sodium_free"),
	    (void *)(uintptr_t)sodium_free);
	assert_ptr_not_equal(dlsym(RTLD_NEXT, "sodium_free"),
	    (void *)(uintptr_t)sodium_free);
}

static void
test_when_all_are_taken_libsodium_has_more(void **state)
{
	unsigned char *p[CURVE_BLOCKS], *more[2], *again[CURVE_BLOCKS];

	(void)state;
	(void)take_all(p, more);
	for (int i = 0; i < CURVE_BLOCKS; i++)
		memset(p[i], i + 1, CURVE_BLOCK);
	memset(more[0], 0xff, 128);
	give_all(p, more);
	/* Each is there again, and wiped. */
	(void)take_all(again, more);
	for (int i = 0; i < CURVE_BLOCKS; i++)
		assert_true(sodium_is_zero(again[i], CURVE_BLOCK));
	give_all(again, more);
}

static void
test_sizes(void **state)
{
	static const struct { size_t count, size; bool ours; } cases[] = {
		{ 1, 1, true }, { CURVE_BLOCK, 1, true }, { 1, CURVE_BLOCK, true },
		{ 2, CURVE_BLOCK / 2, true }, { 0, 1, true }, { 1, 0, true },
		{ CURVE_BLOCK + 1, 1, false }, { 3, CURVE_BLOCK / 2, false },
	};
	unsigned char *p, *all[CURVE_BLOCKS], *more[2], *first;

	(void)state;
	first = take_all(all, more);
	give_all(all, more);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		p = sodium_allocarray(cases[i].count, cases[i].size);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p - (uintptr_t)first <
		    (uintptr_t)CURVE_BLOCKS * CURVE_BLOCK, cases[i].ours);
		sodium_free(p);
	}
	assert_null(sodium_allocarray(SIZE_MAX / 2, 3));
	sodium_free(NULL);
	/* Not ZeroMQ's: libsodium's from first to last. */
	p = sodium_malloc(100);
	assert_non_null(p);
	sodium_free(p);
}

static void *
hammer(void *arg)
{
	const unsigned char mine = *(unsigned char *)arg;
	unsigned char *p[CURVE_BLOCKS / 2];

	for (int turn = 0; turn < TURNS; turn++) {
		size_t n = 1 + (size_t)turn % (sizeof(p) / sizeof(p[0]));

		/* More than there are, all together, now and then. */
		for (size_t i = 0; i < n; i++) {
			if ((p[i] = sodium_allocarray(i + 1, 8)) == NULL)
				return (arg);
			memset(p[i], mine, (i + 1) * 8);
		}
		for (size_t i = 0; i < n; i++) {
			for (size_t k = 0; k < (i + 1) * 8; k++)
				if (p[i][k] != mine)
					return (arg);
			sodium_free(p[i]);
		}
	}
	return (NULL);
}

static void
test_threads(void **state)
{
	unsigned char name[THREADS];
	pthread_t t[THREADS];
	void *wrong;

	(void)state;
	for (int i = 0; i < THREADS; i++) {
		name[i] = (unsigned char)(i + 1);
		assert_int_equal(pthread_create(&t[i], NULL, hammer, &name[i]),
		    0);
	}
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(t[i], &wrong), 0);
		assert_null(wrong);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_libraries_find_ours),
		cmocka_unit_test(test_when_all_are_taken_libsodium_has_more),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_threads),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests(tests, set_up, NULL));
}
