/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Documents coded by zstd, with another one as dictionary or without.  The coder's
 * thread (coder.c) encodes, an edge's follow thread decodes.
 *
 * Measured with a manifest of 30,000 files (4.5 MB) of which 1% changed: level 1
 * makes it 1.6 MB in 20 ms, and no level up to 9 makes it less, as what is left
 * are digests in hexadecimal.  With the one before as dictionary it is 16 KB in 16
 * ms, where long matches are searched for by a table of their own; without that
 * table matches are found in the last part of a large dictionary only.  Decoding
 * takes 3 to 5 ms.
 */
#include <sys/param.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>
#include <zstd_errors.h>

#include "proto/check.h"
#include "proto/zcode.h"

#define	LEVEL		1
#define	WINDOW_LOG_MIN	10
#define	FRAME_MIN	6		/* bytes: magic, descriptor, a byte more */

/* A skippable frame's head (RFC 9842, 5); the digest follows. */
static const uint8_t dcz_magic[] = {
	0x5e, 0x2a, 0x4d, 0x18, 0x20, 0x00, 0x00, 0x00
};
static const uint8_t frame_magic[] = { 0x28, 0xb5, 0x2f, 0xfd };

/* How far back a frame may reach. */
static uint64_t
window_max(const struct zcode_dictionary *d)
{
	uint64_t max = ZCODE_WINDOW;

	if (d != NULL)
		max = MAX(max, (uint64_t)d->len + d->len / 4);
	return (MIN(max, ZCODE_WINDOW_MAX));
}

/*
 * The dictionary can be used as far as the window reaches, so it is to hold the
 * whole document: then it is as large as that.  Else it is a power of two.
 */
static int
window_log(uint64_t size, uint64_t max)
{
	int n = WINDOW_LOG_MIN;

	while (UINT64_C(1) << n < MIN(size, max))
		n++;
	return (size > max && UINT64_C(1) << n > max ? n - 1 : n);
}

/* -1: out of memory. */
static int
set_up(ZSTD_CCtx *c, const struct zcode_dictionary *d, size_t len)
{
	int log = window_log(len, window_max(d));

	if (ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel,
	    LEVEL)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, log)))
		return (-1);
	if (d == NULL)
		return (0);
	return (ZSTD_isError(ZSTD_CCtx_setParameter(c,
	    ZSTD_c_enableLongDistanceMatching, 1)) ||
	    ZSTD_isError(ZSTD_CCtx_refPrefix(c, d->p, d->len)) ? -1 : 0);
}

int
zcode_encode(const struct zcode_dictionary *d, const void *p, size_t len,
    size_t max, char **out, size_t *out_len)
{
	size_t head = d != NULL ? ZCODE_DCZ_HEAD : 0, n;
	ZSTD_CCtx *c = NULL;
	char *b = NULL, *fit;
	int error = ENOMEM;

	max = MIN(max, head + ZSTD_compressBound(len));
	if (max <= head) {
		errno = EFBIG;
		return (-1);
	}
	if ((b = malloc(max)) == NULL || (c = ZSTD_createCCtx()) == NULL ||
	    set_up(c, d, len) == -1)
		goto out;
	if (d != NULL) {
		(void)memcpy(b, dcz_magic, sizeof(dcz_magic));
		(void)memcpy(b + sizeof(dcz_magic), d->digest.b, DIGEST_LEN);
	}
	n = ZSTD_compress2(c, b + head, max - head, p, len);
	if (ZSTD_isError(n)) {
		error = ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall ?
		    EFBIG : ENOMEM;
		goto out;
	}
	*out_len = head + n;
	*out = (fit = realloc(b, *out_len)) != NULL ? fit : b;
	b = NULL;
	error = 0;
out:
	(void)ZSTD_freeCCtx(c);
	free(b);
	errno = error;
	return (error == 0 ? 0 : -1);
}

/* The frame's window in bytes (RFC 8878, 3.1.1.1.2). */
static uint64_t
frame_window(const uint8_t *p, unsigned long long content)
{
	uint64_t base;

	if ((p[4] & 0x20) != 0)		/* one segment: all of it */
		return (content);
	base = UINT64_C(1) << (WINDOW_LOG_MIN + (p[5] >> 3));
	return (base + base / 8 * (p[5] & 7));
}

/* Exactly one frame that may be decoded; NULL, or what is wrong. */
static const char *
judge(const uint8_t *p, size_t len, size_t size, uint64_t window)
{
	unsigned long long content;
	size_t n;

	if (len < FRAME_MIN || memcmp(p, frame_magic, sizeof(frame_magic)) != 0)
		return ("no zstd frame");
	content = ZSTD_getFrameContentSize(p, len);
	if (content == ZSTD_CONTENTSIZE_ERROR)
		return ("malformed zstd frame");
	if (content != ZSTD_CONTENTSIZE_UNKNOWN && content != size)
		return ("zstd frame of another size");
	if (frame_window(p, content) > window)
		return ("zstd window too large");
	n = ZSTD_findFrameCompressedSize(p, len);
	if (ZSTD_isError(n))
		return ("zstd frame malformed or cut short");
	return (n != len ? "bytes behind the zstd frame" : NULL);
}

/* The same for what dcz has before it, which *p and *len move beyond. */
static const char *
judge_head(const struct zcode_dictionary *d, const uint8_t **p, size_t *len)
{

	if (*len < ZCODE_DCZ_HEAD ||
	    memcmp(*p, dcz_magic, sizeof(dcz_magic)) != 0)
		return ("no dcz head");
	if (memcmp(*p + sizeof(dcz_magic), d->digest.b, DIGEST_LEN) != 0)
		return ("another dictionary than offered");
	*p += ZCODE_DCZ_HEAD;
	*len -= ZCODE_DCZ_HEAD;
	return (NULL);
}

int
zcode_decode(const struct zcode_dictionary *d, const void *data, size_t len,
    size_t size, char **out, const char **reason)
{
	const uint8_t *p = data;
	ZSTD_DCtx *c = NULL;
	char *b = NULL;
	int error = EBADMSG;
	size_t n;

	*reason = d != NULL ? judge_head(d, &p, &len) : NULL;
	if (*reason != NULL ||
	    (*reason = judge(p, len, size, window_max(d))) != NULL)
		goto out;
	*reason = "out of memory";
	error = ENOMEM;
	if ((b = malloc(size + 1)) == NULL || (c = ZSTD_createDCtx()) == NULL ||
	    (d != NULL && ZSTD_isError(ZSTD_DCtx_refPrefix(c, d->p, d->len))))
		goto out;
	error = EBADMSG;
	n = ZSTD_decompressDCtx(c, b, size, p, len);
	if (ZSTD_isError(n))
		*reason = "zstd frame cannot be decoded";
	else if (n != size)
		*reason = "zstd frame of another size";
	else {
		b[size] = '\0';
		*out = b;
		b = NULL;
		error = 0;
	}
out:
	(void)ZSTD_freeDCtx(c);
	free(b);
	errno = error;
	return (error == 0 ? 0 : -1);
}

uint64_t
zcode_bound(uint64_t size)
{

	return (ZCODE_DCZ_HEAD + ZSTD_compressBound((size_t)size));
}
