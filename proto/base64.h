/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_BASE64_H
#define	PROTO_BASE64_H

#include <stddef.h>

/*
 * Decodes base64 that must be exactly the coding of out_len bytes: no other
 * length, digit or bit.  0, or -1.  (Coding is sodium_bin2base64().)
 */
int	base64_decode(void *out, size_t out_len, const char *b64, size_t len);

#endif
