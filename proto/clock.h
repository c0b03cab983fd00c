/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_CLOCK_H
#define	PROTO_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The only place that reads clocks.  Milliseconds.  boot runs on while the
 * machine is suspended (CLOCK_BOOTTIME; where a system lacks it, the monotonic
 * clock that runs on in suspend); real is the wall clock since 1970.
 */
int64_t	clock_boot_ms(void);
int64_t	clock_real_ms(void);
/* Wall clock in whole seconds. */
int64_t	clock_real(void);

/*
 * Delays, which steps of the wall clock do not change; in suspend they may stand
 * still.  A condition variable for clock_wait(); pthread_cond_destroy() ends it.
 */
void	clock_cond_init(pthread_cond_t *cond);
/* Like pthread_cond_wait(), for at most ms.  False: the time is up. */
bool	clock_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t ms);
/* Less, when a signal comes. */
void	clock_sleep(int64_t ms);

#endif
