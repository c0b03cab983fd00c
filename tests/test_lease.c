/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The edge's lease arithmetic: a grant counts from the moment of sending, for
 * four fifths of its time to live, on both clocks, and only for the renewal that
 * it answers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "edge/lease.h"

#define	INSTANCE	"00112233445566778899aabbccddeeff"
#define	OTHER		"ffeeddccbbaa99887766554433221100"
#define	T0		1000000		/* boot clock when the test begins */
#define	R0		1700000000000	/* wall clock */

/* A moment so many milliseconds after the beginning, on each clock. */
static struct lease_now
at(int64_t boot, int64_t real)
{

	return ((struct lease_now){ .boot = T0 + boot, .real = R0 + real });
}

static bool
grant(struct leases *l, uint64_t sequence, const char *instance,
    uint64_t ttl_ms, const char *behind)
{
	char names[1][SET_NAME_MAX + 1];
	struct lease reply = { .sequence = sequence, .ttl_ms = ttl_ms };

	memset(names, 0, sizeof(names));
	snprintf(reply.instance, sizeof(reply.instance), "%s", instance);
	if (behind != NULL) {
		snprintf(names[0], sizeof(names[0]), "%s", behind);
		reply.nbehind = 1;
		reply.behind = names;
	}
	return (leases_granted(l, &reply));
}

static struct leases *
fresh(void)
{
	struct leases *l;

	assert_non_null(l = leases_new(INSTANCE));
	return (l);
}

static void
test_until(void **state)
{
	static const struct {
		const char	*what;
		uint64_t	 ttl;
		int64_t		 boot, real;
		bool		 fresh;
	} cases[] = {
		{ "at the moment of sending",	10000,	0,	0,	true },
		{ "before four fifths",		10000,	7999,	7999,	true },
		{ "at four fifths",		10000,	8000,	8000,	false },
		{ "wall clock stands, boot clock ran on", 10000, 8000, 0, false },
		{ "wall clock jumped ahead",	10000,	10,	8000,	false },
		{ "wall clock jumped back",	10000,	7999,	-86400000, true },
		{ "jumped back, but time passed", 10000, 8000, -86400000, false },
		{ "no lease at all",		0,	0,	0,	false },
		{ "a longer one",		30000,	23999,	23999,	true },
		{ "absurdly long: capped",	UINT64_MAX, LEASE_TTL_MAX_MS,
		    LEASE_TTL_MAX_MS, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct leases *l = fresh();
		struct lease_set *s = leases_set(l, "demo");
		uint64_t n = leases_sent(l, at(0, 0));

		assert_false(leases_fresh(l, s, at(0, 0)));
		assert_true(grant(l, n, INSTANCE, cases[i].ttl, NULL));
		if (leases_fresh(l, s, at(cases[i].boot, cases[i].real)) !=
		    cases[i].fresh || leases_fresh(l, NULL,
		    at(cases[i].boot, cases[i].real)) != cases[i].fresh)
			fail_msg("%s", cases[i].what);
		leases_destroy(&l);
	}
}

/* It is the sending that counts, not when the reply came. */
static void
test_from_sending(void **state)
{
	struct leases *l = fresh();
	uint64_t first, second;

	(void)state;
	first = leases_sent(l, at(0, 0));
	second = leases_sent(l, at(3000, 3000));
	assert_true(grant(l, first, INSTANCE, 10000, NULL));
	assert_true(leases_fresh(l, NULL, at(7999, 7999)));
	assert_false(leases_fresh(l, NULL, at(8000, 8000)));
	assert_true(grant(l, second, INSTANCE, 10000, NULL));
	assert_true(leases_fresh(l, NULL, at(10999, 10999)));
	assert_int_equal(leases_left(l, NULL, at(10000, 10000)), 1000);
	assert_false(leases_fresh(l, NULL, at(11000, 11000)));
	leases_destroy(&l);
}

static void
test_matching(void **state)
{
	struct leases *l = fresh();
	uint64_t n = 0;

	(void)state;
	assert_false(grant(l, 0, INSTANCE, 10000, NULL));
	assert_false(grant(l, 1, INSTANCE, 10000, NULL));	/* not sent yet */
	n = leases_sent(l, at(0, 0));
	assert_false(grant(l, n, OTHER, 10000, NULL));
	assert_false(grant(l, n + 1, INSTANCE, 10000, NULL));
	assert_false(grant(l, n + LEASE_SENT_KEPT, INSTANCE, 10000, NULL));
	assert_false(leases_fresh(l, NULL, at(0, 0)));
	assert_true(grant(l, n, INSTANCE, 10000, NULL));
	assert_false(grant(l, n, INSTANCE, 10000, NULL));	/* twice */
	n = leases_sent(l, at(100, 100));
	for (int i = 0; i < LEASE_SENT_KEPT; i++)
		(void)leases_sent(l, at(200, 200));
	assert_false(grant(l, n, INSTANCE, 10000, NULL));	/* forgotten */
	n = leases_sent(l, at(300, 300));
	assert_true(grant(l, n, INSTANCE, 10000, NULL));
	assert_false(grant(l, n - 1, INSTANCE, 10000, NULL));	/* overtaken */
	leases_destroy(&l);
}

static void
test_behind(void **state)
{
	struct leases *l = fresh();
	struct lease_set *a = leases_set(l, "a"), *b = leases_set(l, "b"), *c;
	uint64_t n;

	(void)state;
	n = leases_sent(l, at(0, 0));
	assert_true(grant(l, n, INSTANCE, 10000, "a"));
	assert_false(leases_fresh(l, a, at(1, 1)));
	assert_true(leases_fresh(l, b, at(1, 1)));
	assert_true(leases_fresh(l, NULL, at(1, 1)));

	/* An earlier grant of the set that is behind keeps running, no more. */
	n = leases_sent(l, at(1000, 1000));
	assert_true(grant(l, n, INSTANCE, 10000, "b"));
	assert_true(leases_fresh(l, a, at(8500, 8500)));
	assert_true(leases_fresh(l, b, at(7999, 7999)));
	assert_false(leases_fresh(l, b, at(8000, 8000)));

	/* A set that is not held: what no set has is not covered. */
	n = leases_sent(l, at(2000, 2000));
	assert_true(grant(l, n, INSTANCE, 10000, "c"));
	assert_true(leases_fresh(l, a, at(9500, 9500)));
	assert_true(leases_fresh(l, NULL, at(8500, 8500)));
	assert_false(leases_fresh(l, NULL, at(9000, 9000)));

	/* Held from now on, it has what was granted for the others. */
	c = leases_set(l, "c");
	assert_true(leases_fresh(l, c, at(8500, 8500)));
	assert_false(leases_fresh(l, c, at(9000, 9000)));
	n = leases_sent(l, at(3000, 3000));
	assert_true(grant(l, n, INSTANCE, 10000, NULL));
	assert_true(leases_fresh(l, c, at(10999, 10999)));
	assert_true(leases_fresh(l, NULL, at(10999, 10999)));
	leases_destroy(&l);
}

static void
test_polled(void **state)
{
	struct leases *l = fresh();
	struct lease_set *a = leases_set(l, "a");

	(void)state;
	leases_polled(l, at(0, 0), 600000);
	assert_true(leases_fresh(l, a, at(599999, 599999)));
	assert_false(leases_fresh(l, a, at(600000, 0)));
	assert_false(leases_fresh(l, NULL, at(0, 600000)));
	leases_destroy(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_until),
		cmocka_unit_test(test_from_sending),
		cmocka_unit_test(test_matching),
		cmocka_unit_test(test_behind),
		cmocka_unit_test(test_polled),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("lease", tests, NULL, NULL));
}
