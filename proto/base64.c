/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Base64 with one spelling only, for keys, signatures and header values.  No
 * state, any thread.
 */

#include <sodium.h>

#include "proto/base64.h"

int
base64_decode(void *out, size_t out_len, const char *b64, size_t len)
{
	const char *end;
	size_t i, n;

	/* libsodium 1.0.18 takes some bytes above 127 for digits. */
	for (i = 0; i < len; i++)
		if (b64[i] <= ' ' || b64[i] > '~')
			return (-1);
	if (len + 1 != sodium_base64_ENCODED_LEN(out_len,
	    sodium_base64_VARIANT_ORIGINAL))
		return (-1);
	if (sodium_base642bin(out, out_len, b64, len, NULL, &n, &end,
	    sodium_base64_VARIANT_ORIGINAL) != 0)
		return (-1);
	return (n == out_len && end == b64 + len ? 0 : -1);
}
