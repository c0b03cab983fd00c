/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The only place that reads clocks.  Any thread.
 */

#include <errno.h>
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

void
clock_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	CHECK(pthread_condattr_init(&attr) == 0);
	CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	CHECK(pthread_cond_init(cond, &attr) == 0);
	CHECK(pthread_condattr_destroy(&attr) == 0);
}

bool
clock_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t ms)
{
	struct timespec ts;

	CHECK(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
	ts.tv_nsec += (long)(ms % 1000) * 1000000;
	ts.tv_sec += (time_t)(ms / 1000) + ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	return (pthread_cond_timedwait(cond, lock, &ts) != ETIMEDOUT);
}

void
clock_sleep(int64_t ms)
{
	const struct timespec ts = { .tv_sec = (time_t)(ms / 1000),
	    .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)nanosleep(&ts, NULL);
}
