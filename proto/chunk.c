/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Digests of files and of their chunks, in one read.  Any thread.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/chunk.h"
#include "proto/fd.h"

int
chunk_scan(int fd, uint64_t size, struct digest *d, uint8_t *rows)
{
	struct sha256 *whole = NULL;
	struct digest row;
	uint64_t off;
	uint8_t *chunk = NULL;
	char extra;
	ssize_t more;
	size_t n;
	int ret = -1;

	if (chunk_rows(size) == 0)
		rows = NULL;
	if ((whole = sha256_new()) == NULL ||
	    (chunk = malloc(CHUNK_SIZE)) == NULL)
		goto out;
	for (off = 0; off < size; off += n) {
		n = size - off < CHUNK_SIZE ? (size_t)(size - off) : CHUNK_SIZE;
		if (fd_pread_all(fd, chunk, n, (off_t)off) == -1) {
			if (errno == EIO && lseek(fd, 0, SEEK_END) <
			    (off_t)(off + n))
				errno = ESTALE;
			goto out;
		}
		sha256_add(whole, chunk, n);
		if (rows != NULL) {
			digest_of(&row, chunk, n);
			memcpy(rows, row.b, DIGEST_LEN);
			rows += DIGEST_LEN;
		}
	}
	if ((more = pread(fd, &extra, 1, (off_t)size)) != 0) {
		if (more > 0)
			errno = ESTALE;
		goto out;
	}
	sha256_end(whole, d);
	ret = 0;
out:
	free(chunk);
	sha256_destroy(&whole);
	return (ret);
}
