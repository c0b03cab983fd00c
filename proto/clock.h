/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_CLOCK_H
#define	PROTO_CLOCK_H

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

#endif
