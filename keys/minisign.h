/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_MINISIGN_H
#define	KEYS_MINISIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"

/*
 * minisign keys and signatures, byte for byte what the minisign program reads
 * and writes.  Only prehashed signatures ("ED").  keys_init() comes first.
 */
#define	PUBKEY_TEXT	57		/* 56 base64 digits and NUL */
#define	SIGNATURE_COMMENT_MAX	1024

struct pubkey {
	uint8_t	id[8];
	uint8_t	pk[32];
};
struct signature {
	uint8_t		id[8], sig[64], global[64];
	const char	*comment;	/* the trusted one's, in the input */
	size_t		 comment_len;
};
struct seckey;				/* in guarded memory */

int	keys_init(void);		/* sodium_init(); -1 on failure */

/* Base64 of a public key, exactly 56 digits. */
int	pubkey_parse(struct pubkey *k, const char *b64, size_t len);
char	*pubkey_text(const struct pubkey *k, char out[PUBKEY_TEXT]);
/* The text of a minisign .pub file: comment line, key line. */
int	pubkey_file_parse(struct pubkey *k, const char *text, size_t len);
/* Such a file.  -1: errno, EINVAL: syntax. */
int	pubkey_read(struct pubkey *k, const char *path);
/* Key id as minisign prints it, 16 upper-case hex digits. */
char	*pubkey_id(const struct pubkey *k, char out[17]);
/* By pk alone. */
bool	pubkey_same(const struct pubkey *a, const struct pubkey *b);

/*
 * Exactly the four lines of a signature.  Comments: printable ASCII and TAB,
 * at most SIGNATURE_COMMENT_MAX bytes.
 */
int	signature_parse(struct signature *s, const char *text, size_t len,
	    struct parse_error *err);
/* Key id of the signer that it names, as pubkey_id() prints it. */
char	*signature_id(const struct signature *s, char out[17]);
/* Both signatures, and the key id.  0 good, -1 not. */
int	signature_verify(const struct signature *s, const struct pubkey *k,
	    const void *data, size_t len);

/*
 * Secret keys.  seckey_read() asks `password` (NULL: give up) only when the
 * file is encrypted; it writes at most size bytes with NUL and returns -1 to
 * give up.  Files that others can read are refused.  NULL: err, whose reason
 * names the file.  Decryption takes seconds and up to 1 GiB, as scrypt should.
 */
#define	SECKEY_FILE_MAX	2048		/* bytes */
#define	SECKEY_PASSWORD	1024		/* bytes, NUL included */
struct seckey	*seckey_new(void);			/* a fresh key pair */
struct seckey	*seckey_read(const char *path,
		    int (*password)(void *arg, char *out, size_t size),
		    void *arg, struct parse_error *err);
/* The same from a file's text, already in memory. */
struct seckey	*seckey_parse(const char *text, size_t len,
		    int (*password)(void *arg, char *out, size_t size),
		    void *arg, struct parse_error *err);
/* Writes path (0600, O_EXCL) and its public key to pub_path (0644, O_EXCL);
 * password NULL: not encrypted.  -1: errno, and neither file was made. */
int		 seckey_write(const struct seckey *k, const char *path,
		    const char *pub_path, const char *password);
void		 seckey_destroy(struct seckey **k);
const struct pubkey *seckey_pubkey(const struct seckey *k);
/* Adds the four lines of a signature over data to b.  -1: EINVAL, a comment
 * that no signature may have; else b->failed. */
int		 seckey_sign(const struct seckey *k, const void *data,
		    size_t len, const char *trusted_comment, struct buf *b);

#endif
