/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How far some work is, on stderr.  Called by publish and verify, in the
 * program's one thread.
 */

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "master/command.h"
#include "master/progress.h"
#include "proto/clock.h"

#define	QUIET_MS	1000		/* nothing is shown before */
#define	TTY_MS		200
#define	LINE_MS		5000

void
progress_begin(struct progress *p, const char *what, uint64_t bytes)
{

	p->what = what;
	p->began_ms = p->shown_ms = clock_boot_ms();
	p->began_bytes = bytes;
	p->tty = isatty(STDERR_FILENO) == 1;
	p->drawn = false;
}

void
progress_show(struct progress *p, uint64_t files, uint64_t bytes,
    uint64_t all_files, uint64_t all_bytes)
{
	char done[COMMAND_BYTES], all[COMMAND_BYTES], rate[COMMAND_BYTES];
	int64_t now = clock_boot_ms(), ms = now - p->began_ms;
	uint64_t moved = bytes > p->began_bytes ? bytes - p->began_bytes : 0;

	if (ms < QUIET_MS || now - p->shown_ms < (p->tty ? TTY_MS : LINE_MS))
		return;
	p->shown_ms = now;
	(void)fprintf(stderr, "%s%s %" PRIu64 " of %" PRIu64
	    " files, %s of %s, %s/s%s", p->tty ? "\r" : "", p->what, files,
	    all_files, command_bytes(bytes, done),
	    command_bytes(all_bytes, all),
	    command_bytes(moved * 1000 / (uint64_t)ms, rate),
	    p->tty ? "\033[K" : "\n");
	p->drawn = p->tty;
}

void
progress_end(struct progress *p)
{

	if (p->drawn)
		(void)fprintf(stderr, "\r\033[K");
	p->drawn = false;
}
