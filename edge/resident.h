/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_RESIDENT_H
#define	EDGE_RESIDENT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Whether the kernel tells which pages of a mapped file it has.  Where it does
 * not, files are sent by descriptor.
 */
#ifndef RESIDENT_TOLD
#ifdef __linux__
#define	RESIDENT_TOLD	1
#else
#define	RESIDENT_TOLD	0	/* FreeBSD's mincore() tells of page tables */
#endif
#endif

/* Whether all pages of that slice of a mapping at p are in memory; false where
 * it is not told. */
bool	resident(const void *p, uint64_t off, uint64_t len);

#endif
