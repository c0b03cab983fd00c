/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SHA-256, by libcrypto, which uses the processor's instructions for it.  The
 * only file that names libcrypto.  Any thread; a struct sha256 belongs to one.
 */

#include <openssl/evp.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"
#include "proto/digest.h"
#include "proto/fd.h"

#define	READ_SIZE	65536		/* bytes at once */

struct sha256 {
	EVP_MD_CTX	*ctx;
	bool		 running;
};

/* By character, HEX_GOOD included; a manifest has 64 of them in each line. */
#define	HEX_GOOD	0x10u
static const uint8_t hex_value[256] = {
	['0'] = 0x10, ['1'] = 0x11, ['2'] = 0x12, ['3'] = 0x13, ['4'] = 0x14,
	['5'] = 0x15, ['6'] = 0x16, ['7'] = 0x17, ['8'] = 0x18, ['9'] = 0x19,
	['a'] = 0x1a, ['b'] = 0x1b, ['c'] = 0x1c, ['d'] = 0x1d, ['e'] = 0x1e,
	['f'] = 0x1f
};

int
digest_parse(struct digest *d, const char *hex, size_t len)
{
	unsigned hi, lo;
	size_t i;

	if (len != DIGEST_HEX)
		return (-1);
	for (i = 0; i < DIGEST_LEN; i++) {
		hi = hex_value[(unsigned char)hex[2 * i]];
		lo = hex_value[(unsigned char)hex[2 * i + 1]];
		if ((hi & lo & HEX_GOOD) == 0)
			return (-1);
		d->b[i] = (uint8_t)((hi & 0xfu) << 4 | (lo & 0xfu));
	}
	return (0);
}

char *
digest_hex(const struct digest *d, char out[DIGEST_HEX + 1])
{
	static const char hex[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < DIGEST_LEN; i++) {
		out[2 * i] = hex[d->b[i] >> 4];
		out[2 * i + 1] = hex[d->b[i] & 15];
	}
	out[DIGEST_HEX] = '\0';
	return (out);
}

bool
digest_eq(const struct digest *a, const struct digest *b)
{

	return (memcmp(a->b, b->b, DIGEST_LEN) == 0);
}

void
digest_of(struct digest *d, const void *data, size_t len)
{

	CHECK(EVP_Digest(data, len, d->b, NULL, EVP_sha256(), NULL) == 1);
}

struct sha256 *
sha256_new(void)
{
	struct sha256 *s;

	if ((s = calloc(1, sizeof(*s))) == NULL)
		return (NULL);
	if ((s->ctx = EVP_MD_CTX_new()) == NULL) {
		free(s);
		return (NULL);
	}
	return (s);
}

void
sha256_add(struct sha256 *s, const void *data, size_t len)
{

	if (!s->running)
		CHECK(EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) == 1);
	s->running = true;
	CHECK(EVP_DigestUpdate(s->ctx, data, len) == 1);
}

void
sha256_end(struct sha256 *s, struct digest *d)
{

	sha256_add(s, "", 0);
	CHECK(EVP_DigestFinal_ex(s->ctx, d->b, NULL) == 1);
	s->running = false;
}

void
sha256_destroy(struct sha256 **sp)
{
	struct sha256 *s = *sp;

	*sp = NULL;
	if (s == NULL)
		return;
	EVP_MD_CTX_free(s->ctx);
	free(s);
}

int
digest_of_file(struct digest *d, int fd, uint64_t size)
{
	char buf[READ_SIZE];
	struct sha256 *sha;
	uint64_t off;
	size_t n;
	int error = 0;

	if ((sha = sha256_new()) == NULL)
		return (-1);
	for (off = 0; off < size && error == 0; off += n) {
		n = size - off < sizeof(buf) ? (size_t)(size - off) :
		    sizeof(buf);
		if (fd_pread_all(fd, buf, n, (off_t)off) == -1)
			error = errno;
		else
			sha256_add(sha, buf, n);
	}
	sha256_end(sha, d);
	sha256_destroy(&sha);
	errno = error;
	return (error == 0 ? 0 : -1);
}
