/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages of a mapping are in memory: Linux's mincore(2) tells of the page
 * cache, FreeBSD's, unless vm.mincore_mapped is 0, of what this process has
 * touched.  Called by memory.c on any thread.
 */
#include <sys/param.h>
#include <sys/mman.h>

#include <stddef.h>
#include <unistd.h>

#include "edge/resident.h"

#define	PAGES	4096u			/* asked about in one call */

bool
resident(const void *p, uint64_t off, uint64_t len)
{
	const char *base = p;
	unsigned char present[PAGES];
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n, i;
	uint64_t end = off + len;

	if (!RESIDENT_TOLD)
		return (false);
	for (off -= off % page; off < end; off += n * page) {
		n = (size_t)MIN((end - off + page - 1) / page, PAGES);
		if (mincore((void *)(uintptr_t)(base + off), n * page,
		    (void *)present) == -1)
			return (false);
		for (i = 0; i < n; i++)
			if ((present[i] & 1) == 0)
				return (false);
	}
	return (true);
}
