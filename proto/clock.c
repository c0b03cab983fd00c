/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The only place that reads clocks.  Any thread.
 */

#include <time.h>

#include "proto/check.h"
#include "proto/clock.h"

/* FreeBSD's CLOCK_MONOTONIC counts suspended time; Linux's does not. */
#ifdef CLOCK_BOOTTIME
#define	CLOCK_RUNS_ON	CLOCK_BOOTTIME
#else
#define	CLOCK_RUNS_ON	CLOCK_MONOTONIC
#endif

static int64_t
read_ms(clockid_t id)
{
	struct timespec ts;

	CHECK(clock_gettime(id, &ts) == 0);
	return ((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

int64_t
clock_boot_ms(void)
{

	return (read_ms(CLOCK_RUNS_ON));
}

int64_t
clock_real_ms(void)
{

	return (read_ms(CLOCK_REALTIME));
}

int64_t
clock_real(void)
{

	return (read_ms(CLOCK_REALTIME) / 1000);
}
