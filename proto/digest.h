/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_DIGEST_H
#define	PROTO_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define	DIGEST_LEN	32		/* SHA-256 */
#define	DIGEST_HEX	64

struct digest { uint8_t b[DIGEST_LEN]; };

/* Exactly 64 lower-case hex digits at hex (no NUL needed).  0, or -1. */
int	digest_parse(struct digest *d, const char *hex, size_t len);
char	*digest_hex(const struct digest *d, char out[DIGEST_HEX + 1]);
bool	digest_eq(const struct digest *a, const struct digest *b);
void	digest_of(struct digest *d, const void *data, size_t len);

/* Of the first size bytes of a file, read in pieces; its offset stays.  -1:
 * errno; EIO where it is shorter. */
int	digest_of_file(struct digest *d, int fd, uint64_t size);

/* Incremental hashing.  sha256_new() is NULL when out of memory; an ended
 * hash starts again with the next sha256_add(). */
struct sha256;
struct sha256	*sha256_new(void);
void		 sha256_add(struct sha256 *s, const void *data, size_t len);
void		 sha256_end(struct sha256 *s, struct digest *d);
void		 sha256_destroy(struct sha256 **s);

#endif
