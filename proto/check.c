/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Always-on checks of our own invariants: where one fails the program says
 * which, and aborts.  Any thread.
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/check.h"
#include "proto/fd.h"

void
check_fail(const char *func, const char *file, int line, const char *expr)
{
	char msg[512];
	int n;

	n = snprintf(msg, sizeof(msg), "%s:%d: %s: invariant broken: %s\n",
	    file, line, func, expr);
	if (n > 0)
		(void)fd_write_all(STDERR_FILENO, msg,
		    (size_t)n < sizeof(msg) ? (size_t)n : sizeof(msg) - 1);
	abort();
}

void *
check_alloc(void *p)
{

	if (p == NULL) {
		static const char msg[] = "out of memory while starting\n";

		(void)fd_write_all(STDERR_FILENO, msg, sizeof(msg) - 1);
		_exit(1);
	}
	return (p);
}
