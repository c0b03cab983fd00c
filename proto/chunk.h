/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_CHUNK_H
#define	PROTO_CHUNK_H

#include <stdint.h>

#include "proto/digest.h"

#define	CHUNK_SIZE	262144u		/* bytes; larger files have rows */
#define	CHUNK_TABLE_MAX	(256u << 20)	/* bytes */

/* Rows that a file of this size has in the chunk table: 0 up to CHUNK_SIZE. */
static inline uint64_t
chunk_rows(uint64_t size)
{

	return (size <= CHUNK_SIZE ? 0 : (size + CHUNK_SIZE - 1) / CHUNK_SIZE);
}

/*
 * Digest and rows of an open file of exactly `size` bytes, read once from its
 * start.  rows has chunk_rows(size) * DIGEST_LEN bytes, or is NULL when only
 * the digest is wanted.  -1 with errno; ESTALE: the file has another size.
 */
int	chunk_scan(int fd, uint64_t size, struct digest *d, uint8_t *rows);

#endif
