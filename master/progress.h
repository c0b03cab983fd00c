/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_PROGRESS_H
#define	MASTER_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * How far some work is, on stderr: a line drawn again on a terminal, else a
 * line every few seconds.  Work that is over soon shows nothing.  Plain data;
 * one thread.
 */
struct progress {
	const char	*what;
	int64_t		 began_ms, shown_ms;
	uint64_t	 began_bytes;		/* bytes when it began */
	bool		 tty, drawn;
};
void	progress_begin(struct progress *p, const char *what, uint64_t bytes);
void	progress_show(struct progress *p, uint64_t files, uint64_t bytes,
	    uint64_t all_files, uint64_t all_bytes);
/* Clears a line that was drawn. */
void	progress_end(struct progress *p);

#endif
