/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * minisign public keys and signatures: parse, print, verify.  Used by whoever
 * judges a head or a trust document, in any thread; secret keys are in
 * seckey.c.
 *
 * Layouts: a public key is "Ed", key id[8], key[32]; a signature is "ED", key
 * id[8], signature[64] over the BLAKE2b-512 of the data, and a second
 * signature[64] over the first one and the trusted comment.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "keys/armor.h"
#include "keys/minisign.h"
#include "proto/base64.h"
#include "proto/fd.h"

#define	PUBKEY_BYTES	42
#define	SIGNATURE_BYTES	74
#define	PUBKEY_FILE_MAX	2048

int
keys_init(void)
{

	return (sodium_init() == -1 ? -1 : 0);
}

int
pubkey_parse(struct pubkey *k, const char *b64, size_t len)
{
	uint8_t raw[PUBKEY_BYTES];

	if (base64_decode(raw, sizeof(raw), b64, len) == -1 ||
	    raw[0] != 'E' || raw[1] != 'd')
		return (-1);
	memcpy(k->id, raw + 2, sizeof(k->id));
	memcpy(k->pk, raw + 10, sizeof(k->pk));
	return (0);
}

char *
pubkey_text(const struct pubkey *k, char out[PUBKEY_TEXT])
{
	uint8_t raw[PUBKEY_BYTES] = { 'E', 'd' };

	memcpy(raw + 2, k->id, sizeof(k->id));
	memcpy(raw + 10, k->pk, sizeof(k->pk));
	return (sodium_bin2base64(out, PUBKEY_TEXT, raw, sizeof(raw),
	    sodium_base64_VARIANT_ORIGINAL));
}

int
pubkey_file_parse(struct pubkey *k, const char *text, size_t len)
{
	const char *line, *p = text, *end = text + len;
	size_t n;

	if (armor_line(&p, end, &line, &n) == -1 ||
	    !armor_comment(line, n, ARMOR_UNTRUSTED, NULL, NULL) ||
	    armor_line(&p, end, &line, &n) == -1 || p != end)
		return (-1);
	return (pubkey_parse(k, line, n));
}

int
pubkey_read(struct pubkey *k, const char *path)
{
	size_t len;
	char *text;
	int ret;

	if ((text = fd_slurp(AT_FDCWD, path, PUBKEY_FILE_MAX, &len)) == NULL)
		return (-1);
	ret = pubkey_file_parse(k, text, len);
	free(text);
	if (ret == -1)
		errno = EINVAL;
	return (ret);
}

/* The id is a little-endian number: its last byte is printed first. */
static char *
id_text(const uint8_t id[8], char out[17])
{
	static const char digit[] = "0123456789ABCDEF";
	size_t i;

	for (i = 0; i < 8; i++) {
		out[2 * i] = digit[id[7 - i] >> 4];
		out[2 * i + 1] = digit[id[7 - i] & 15];
	}
	out[16] = '\0';
	return (out);
}

char *
pubkey_id(const struct pubkey *k, char out[17])
{

	return (id_text(k->id, out));
}

bool
pubkey_same(const struct pubkey *a, const struct pubkey *b)
{

	return (memcmp(a->pk, b->pk, sizeof(a->pk)) == 0);
}

/* Line 2: what is signed, by which key, and how. */
static int
parse_main(struct signature *s, const char *line, size_t len,
    struct parse_error *err)
{
	uint8_t raw[SIGNATURE_BYTES];

	if (base64_decode(raw, sizeof(raw), line, len) == -1)
		return (parse_fail(err, 2,
		    "not the base64 of a minisign signature"));
	if (raw[0] == 'E' && raw[1] == 'd')
		return (parse_fail(err, 2,
		    "signed with minisign's legacy algorithm (-l); "
		    "sign again without it"));
	if (raw[0] != 'E' || raw[1] != 'D')
		return (parse_fail(err, 2, "unknown signature algorithm"));
	memcpy(s->id, raw + 2, sizeof(s->id));
	memcpy(s->sig, raw + 10, sizeof(s->sig));
	return (0);
}

int
signature_parse(struct signature *s, const char *text, size_t len,
    struct parse_error *err)
{
	const char *p = text, *end = text + len, *line;
	size_t n;

	if (armor_line(&p, end, &line, &n) == -1 ||
	    !armor_comment(line, n, ARMOR_UNTRUSTED, NULL, NULL))
		return (parse_fail(err, 1,
		    "a signature begins with \"untrusted comment: \" and at "
		    "most %d printable bytes", SIGNATURE_COMMENT_MAX));
	if (armor_line(&p, end, &line, &n) == -1)
		return (parse_fail(err, 2, "the signature is cut off"));
	if (parse_main(s, line, n, err) == -1)
		return (-1);
	if (armor_line(&p, end, &line, &n) == -1 ||
	    !armor_comment(line, n, ARMOR_TRUSTED, &s->comment,
	    &s->comment_len))
		return (parse_fail(err, 3,
		    "third line of a signature is not \"trusted comment: \" "
		    "and at most %d printable bytes", SIGNATURE_COMMENT_MAX));
	if (armor_line(&p, end, &line, &n) == -1 ||
	    base64_decode(s->global, sizeof(s->global), line, n) == -1)
		return (parse_fail(err, 4,
		    "not the base64 of a minisign global signature"));
	if (p != end)
		return (parse_fail(err, 5,
		    "something follows the four lines of the signature"));
	return (0);
}

char *
signature_id(const struct signature *s, char out[17])
{

	return (id_text(s->id, out));
}

int
signature_verify(const struct signature *s, const struct pubkey *k,
    const void *data, size_t len)
{
	uint8_t hash[64], global[64 + SIGNATURE_COMMENT_MAX];

	if (memcmp(s->id, k->id, sizeof(s->id)) != 0 ||
	    s->comment_len > SIGNATURE_COMMENT_MAX)
		return (-1);
	if (crypto_generichash(hash, sizeof(hash), data, len, NULL, 0) != 0 ||
	    crypto_sign_verify_detached(s->sig, hash, sizeof(hash),
	    k->pk) != 0)
		return (-1);
	memcpy(global, s->sig, sizeof(s->sig));
	memcpy(global + sizeof(s->sig), s->comment, s->comment_len);
	return (crypto_sign_verify_detached(s->global, global,
	    sizeof(s->sig) + s->comment_len, k->pk) == 0 ? 0 : -1);
}
