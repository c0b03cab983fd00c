/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_ZCODE_H
#define	PROTO_ZCODE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/digest.h"

/*
 * The content codings zstd (RFC 8878, RFC 9659) and dcz (RFC 9842) of a whole
 * document in memory.  The only file that names libzstd.  Pure; any thread.
 *
 * Memory: encoding takes at most `max` bytes for the outcome and ZCODE_MEMORY;
 * decoding the size of the outcome, and less than 1 MiB: the window that a frame
 * asks for lies in the outcome itself.
 */
#define	ZCODE_MEMORY	(16u << 20)
#define	ZCODE_DCZ_HEAD	40	/* bytes before the frame */
#define	ZCODE_WINDOW	(8u << 20)	/* bytes; with a dictionary: */
#define	ZCODE_WINDOW_MAX (128u << 20)	/* 1.25 times its size, up to that */

struct zcode_dictionary {		/* borrowed */
	const void	*p;
	size_t		 len;
	struct digest	 digest;	/* of p: the caller's word */
};

/*
 * Codes len bytes as one frame with a checksum: as dcz with a dictionary, as zstd
 * where that is NULL.  *out is malloc'd.  -1: errno ENOMEM, or EFBIG: it would
 * take more than max bytes.
 */
int	zcode_encode(const struct zcode_dictionary *d, const void *p,
	    size_t len, size_t max, char **out, size_t *out_len);
/*
 * The other way round.  size bytes must come out, no fewer and no more, of one
 * frame with nothing behind it, whose window is within the limits above, and which
 * names the dictionary's digest.  *out is malloc'd, with a NUL behind.  -1: errno
 * ENOMEM, or EBADMSG; *reason (static) tells.
 */
int	zcode_decode(const struct zcode_dictionary *d, const void *p,
	    size_t len, size_t size, char **out, const char **reason);
/* Bytes that a body which is coded well takes at most. */
uint64_t zcode_bound(uint64_t size);

#endif
