/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loaded in front of a daemon (LD_PRELOAD) by integration/checker: steps of its
 * clocks.  PKGCAST_CLOCK names a file of two 64-bit numbers, milliseconds that
 * are added to the wall clock and to the one that runs on in suspend; they may
 * change at any time.  The monotonic clock, which times waits, stays.
 */
#define	_GNU_SOURCE
#include <sys/mman.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define	STEPS	2

static const volatile int64_t *step;

__attribute__((constructor)) static void
begin(void)
{
	const char *name = getenv("PKGCAST_CLOCK");
	void *p = MAP_FAILED;
	int fd;

	if (name == NULL || (fd = open(name, O_RDONLY | O_CLOEXEC)) == -1)
		return;
	p = mmap(NULL, STEPS * sizeof(*step), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		step = p;
}

static void
add(struct timespec *ts, int64_t ms)
{
	int64_t ns = (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec +
	    ms * 1000000;

	ts->tv_sec = (time_t)(ns / 1000000000);
	ts->tv_nsec = (long)(ns % 1000000000);
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{

	if (syscall(SYS_clock_gettime, id, ts) == -1)
		return (-1);
	if (step != NULL && id == CLOCK_REALTIME)
		add(ts, step[0]);
	else if (step != NULL && id == CLOCK_BOOTTIME)
		add(ts, step[1]);
	return (0);
}
