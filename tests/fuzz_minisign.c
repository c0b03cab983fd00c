/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What minisign files hold: signatures, public keys, secret keys.  Everything
 * that is accepted must have been the one spelling of what it means.
 */

#include "tests/fuzz.h"

#include "keys/minisign.h"
#include "proto/check.h"

static void
try_pubkey(const char *text, size_t size)
{
	char again[PUBKEY_TEXT];
	struct pubkey k;

	if (pubkey_parse(&k, text, size) == 0) {
		CHECK(size == PUBKEY_TEXT - 1);
		CHECK(memcmp(pubkey_text(&k, again), text, size) == 0);
	}
	if (pubkey_file_parse(&k, text, size) == 0)
		CHECK(memcmp(pubkey_text(&k, again),
		    text + size - PUBKEY_TEXT, PUBKEY_TEXT - 1) == 0);
}

static void
try_signature(const char *text, size_t size)
{
	struct parse_error err;
	struct signature s;
	struct pubkey k;
	char id[17];

	if (signature_parse(&s, text, size, &err) == -1)
		return;
	CHECK(s.comment >= text && s.comment_len <= SIGNATURE_COMMENT_MAX &&
	    (size_t)(s.comment - text) + s.comment_len < size);
	(void)signature_id(&s, id);
	/* Some key, with the id that is asked for. */
	memcpy(k.id, s.id, sizeof(k.id));
	memcpy(k.pk, s.sig, sizeof(k.pk));
	(void)signature_verify(&s, &k, "data", 4);
}

static void
try_seckey(const char *text, size_t size)
{
	struct buf b = BUF_INIT(4096);
	struct parse_error err;
	struct signature s;
	struct seckey *k;

	if ((k = seckey_parse(text, size, NULL, NULL, &err)) == NULL)
		return;
	CHECK(seckey_sign(k, "data", 4, "comment", &b) == 0);
	CHECK(signature_parse(&s, b.p, b.len, &err) == 0);
	CHECK(signature_verify(&s, seckey_pubkey(k), "data", 4) == 0);
	buf_free(&b);
	seckey_destroy(&k);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;

	CHECK(keys_init() == 0);
	try_pubkey(text, size);
	try_signature(text, size);
	try_seckey(text, size);
	return (0);
}
