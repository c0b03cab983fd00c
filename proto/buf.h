/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_BUF_H
#define	PROTO_BUF_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A growing buffer with a cap.  Initialise with BUF_INIT(max).  A failed
 * addition (cap or memory) sets `failed` and leaves the content as it was;
 * test it once at the end.  The content is always followed by a NUL that len
 * does not count (p is NULL while nothing was added).
 */
struct buf {
	char	*p;
	size_t	 len, size, max;
	bool	 failed;
};
#define	BUF_INIT(cap)	{ .p = NULL, .len = 0, .size = 0, .max = (cap), .failed = false }

int	 buf_add(struct buf *b, const void *data, size_t len);
int	 buf_adds(struct buf *b, const char *s);
int	 buf_addf(struct buf *b, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));
/* Hands the memory over (caller frees); the buffer is empty afterwards. */
char	*buf_take(struct buf *b, size_t *len);
void	 buf_free(struct buf *b);

/* What a strict parser says of the first thing that it refuses. */
struct parse_error {
	unsigned long	line;		/* from 1; 0: the whole */
	char		reason[192];
};
/* Fills err (may be NULL) and returns -1. */
int	 parse_fail(struct parse_error *err, unsigned long line,
	    const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * Strict unsigned decimal: digits only, no leading zero, at most max.
 * Returns 0, or -1.  The text need not be NUL-terminated.
 */
int	 parse_u64(const char *s, size_t len, unsigned long long max,
	    unsigned long long *out);

#endif
