/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * minisign secret keys: make, read, write, sign.  Used by the operators'
 * commands only; a key is in guarded memory and used by one thread.
 *
 * A file's 158 bytes, in base64 after a comment line: "Ed", then "Sc"
 * (encrypted by scrypt) or two zeros, "B2", salt[32], two little-endian scrypt
 * limits of 8 bytes, and what the key stream of scrypt is XORed to: key id[8],
 * secret key[64] (seed and public key), BLAKE2b-256[32] of "Ed", key id and
 * secret key.  The minisign program leaves the last one zero without a
 * password.
 */

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "keys/armor.h"
#include "keys/minisign.h"
#include "proto/base64.h"
#include "proto/check.h"
#include "proto/fd.h"

#define	SECKEY_MAGIC	0x5ec4e71du
#define	SECKEY_BYTES	158
#define	SECRET_COMMENT	"minisign encrypted secret key"
#define	PUBLIC_COMMENT	"minisign public key "
#define	SIGN_COMMENT	"signature from pkgcast secret key"

/* Parts of a file's bytes. */
enum {
	AT_KDF = 2, AT_CHECKSUM = 4, AT_SALT = 6, AT_OPS = 38, AT_MEM = 46,
	AT_ID = 54, AT_KEY = 62, AT_SUM = 126,
	SEALED = SECKEY_BYTES - AT_ID, SUM = SECKEY_BYTES - AT_SUM
};

/* The most that a file may ask for, and what we write: minisign's own. */
#define	SCRYPT_OPS	crypto_pwhash_scryptsalsa208sha256_OPSLIMIT_SENSITIVE
#define	SCRYPT_MEM	crypto_pwhash_scryptsalsa208sha256_MEMLIMIT_SENSITIVE
#define	SCRYPT_OPS_MIN	crypto_pwhash_scryptsalsa208sha256_OPSLIMIT_INTERACTIVE
#define	SCRYPT_MEM_MIN	crypto_pwhash_scryptsalsa208sha256_MEMLIMIT_INTERACTIVE

struct seckey {
	unsigned	magic;
	struct pubkey	public;
	uint8_t		sk[64];
};

static struct seckey *
alloc(void)
{
	struct seckey *k;

	if ((k = sodium_malloc(sizeof(*k))) == NULL)
		return (NULL);
	memset(k, 0, sizeof(*k));
	k->magic = SECKEY_MAGIC;
	return (k);
}

struct seckey *
seckey_new(void)
{
	struct seckey *k;

	if ((k = alloc()) == NULL)
		return (NULL);
	randombytes_buf(k->public.id, sizeof(k->public.id));
	if (crypto_sign_keypair(k->public.pk, k->sk) != 0)
		seckey_destroy(&k);
	return (k);
}

void
seckey_destroy(struct seckey **k)
{

	if (*k == NULL)
		return;
	CHECK_OBJ(*k, SECKEY_MAGIC);
	sodium_free(*k);		/* wipes it, too */
	*k = NULL;
}

const struct pubkey *
seckey_pubkey(const struct seckey *k)
{

	CHECK_OBJ(k, SECKEY_MAGIC);
	return (&k->public);
}

static uint64_t
load64(const uint8_t *p)
{
	uint64_t v = 0;
	int i;

	for (i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return (v);
}

static void
store64(uint8_t *p, uint64_t v)
{
	int i;

	for (i = 0; i < 8; i++, v >>= 8)
		p[i] = (uint8_t)(v & 0xff);
}

static void
checksum(uint8_t out[SUM], const uint8_t raw[SECKEY_BYTES])
{
	crypto_generichash_state state;

	(void)crypto_generichash_init(&state, NULL, 0, SUM);
	(void)crypto_generichash_update(&state, raw, 2);
	(void)crypto_generichash_update(&state, raw + AT_ID, AT_SUM - AT_ID);
	(void)crypto_generichash_final(&state, out, SUM);
	sodium_memzero(&state, sizeof(state));
}

/* XORs the key stream of password and limits to the sealed part. */
static int
seal(uint8_t *raw, const char *password, uint64_t ops, uint64_t mem)
{
	uint8_t *stream;
	int i, ret = -1;

	if ((stream = sodium_malloc(SEALED)) == NULL)
		return (-1);
	if (crypto_pwhash_scryptsalsa208sha256(stream, SEALED, password,
	    strlen(password), raw + AT_SALT, ops, (size_t)mem) == 0) {
		for (i = 0; i < SEALED; i++)
			raw[AT_ID + i] ^= stream[i];
		ret = 0;
	}
	sodium_free(stream);
	return (ret);
}

static int
unseal(uint8_t *raw, int (*password)(void *arg, char *out, size_t size),
    void *arg, struct parse_error *err)
{
	uint64_t ops = load64(raw + AT_OPS), mem = load64(raw + AT_MEM);
	uint8_t sum[SUM];
	char *secret;
	int ret = -1;

	if (ops > SCRYPT_OPS || mem > SCRYPT_MEM)
		return (parse_fail(err, 2,
		    "asks for more work than any minisign key does"));
	if (password == NULL)
		return (parse_fail(err, 0, "is encrypted"));
	if ((secret = sodium_malloc(SECKEY_PASSWORD)) == NULL)
		return (parse_fail(err, 0, "out of memory"));
	if (password(arg, secret, SECKEY_PASSWORD) == -1)
		(void)parse_fail(err, 0, "no password given");
	else if (seal(raw, secret, ops, mem) == -1)
		(void)parse_fail(err, 0,
		    "not enough memory to decrypt it: %llu MiB needed",
		    (unsigned long long)(mem >> 20));
	else {
		checksum(sum, raw);
		if (sodium_memcmp(sum, raw + AT_SUM, SUM) == 0)
			ret = 0;
		else
			(void)parse_fail(err, 0, "wrong password");
	}
	sodium_free(secret);
	return (ret);
}

/* Opens what a file's bytes hold: 0, or -1 and err. */
static int
open_raw(struct seckey *k, uint8_t *raw,
    int (*password)(void *arg, char *out, size_t size), void *arg,
    struct parse_error *err)
{
	uint8_t pk[32], sum[SUM];

	if (memcmp(raw, "Ed", 2) != 0 ||
	    memcmp(raw + AT_CHECKSUM, "B2", 2) != 0)
		return (parse_fail(err, 2, "not a minisign secret key"));
	if (memcmp(raw + AT_KDF, "Sc", 2) == 0) {
		if (unseal(raw, password, arg, err) == -1)
			return (-1);
	} else if (memcmp(raw + AT_KDF, "\0\0", 2) != 0)
		return (parse_fail(err, 2, "is encrypted in an unknown way"));
	checksum(sum, raw);
	memcpy(k->public.id, raw + AT_ID, sizeof(k->public.id));
	/* From the seed: a damaged copy of the public key inside the secret
	 * one would let a signature tell the secret. */
	(void)crypto_sign_seed_keypair(pk, k->sk, raw + AT_KEY);
	memcpy(k->public.pk, pk, sizeof(pk));
	if (sodium_memcmp(k->sk, raw + AT_KEY, sizeof(k->sk)) != 0 ||
	    (!sodium_is_zero(raw + AT_SUM, SUM) &&
	    sodium_memcmp(sum, raw + AT_SUM, SUM) != 0))
		return (parse_fail(err, 2, "the key is damaged"));
	return (0);
}

struct seckey *
seckey_parse(const char *text, size_t len,
    int (*password)(void *arg, char *out, size_t size), void *arg,
    struct parse_error *err)
{
	const char *p = text, *end = text + len, *line;
	struct seckey *k = NULL;
	uint8_t *raw = NULL;
	size_t n;

	if (armor_line(&p, end, &line, &n) == -1 ||
	    !armor_comment(line, n, ARMOR_UNTRUSTED, NULL, NULL)) {
		(void)parse_fail(err, 1,
		    "not a minisign secret key: no \"untrusted comment: \"");
		return (NULL);
	}
	if ((k = alloc()) == NULL ||
	    (raw = sodium_malloc(SECKEY_BYTES)) == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		goto fail;
	}
	if (armor_line(&p, end, &line, &n) == -1 || p != end ||
	    base64_decode(raw, SECKEY_BYTES, line, n) == -1) {
		(void)parse_fail(err, 2,
		    "not the base64 of a minisign secret key");
		goto fail;
	}
	if (open_raw(k, raw, password, arg, err) == -1)
		goto fail;
	sodium_free(raw);
	return (k);
fail:
	sodium_free(raw);
	seckey_destroy(&k);
	return (NULL);
}

/* The file's text into text, which has SECKEY_FILE_MAX bytes. */
static int
read_secret(const char *path, char *text, size_t *len,
    struct parse_error *err)
{
	struct stat st;
	int fd, ret = -1;

	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) == -1)
		return (parse_fail(err, 0, "%s: %s", path, strerror(errno)));
	if (fstat(fd, &st) == -1)
		(void)parse_fail(err, 0, "%s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		(void)parse_fail(err, 0, "%s: not a regular file", path);
	else if ((st.st_mode & 077) != 0)
		(void)parse_fail(err, 0,
		    "%s: others can read or write this secret (mode %04o): "
		    "run chmod 600", path, (unsigned)st.st_mode & 07777);
	else if (st.st_size < 0 || st.st_size > SECKEY_FILE_MAX)
		(void)parse_fail(err, 0, "%s: too large for a secret key",
		    path);
	else {
		*len = (size_t)st.st_size;
		if ((ret = fd_pread_all(fd, text, *len, 0)) == -1)
			(void)parse_fail(err, 0, "%s: %s", path,
			    strerror(errno));
	}
	fd_close(&fd);
	return (ret);
}

struct seckey *
seckey_read(const char *path,
    int (*password)(void *arg, char *out, size_t size), void *arg,
    struct parse_error *err)
{
	struct parse_error why = { .line = 0 };
	struct seckey *k = NULL;
	size_t len = 0;
	char *text;

	if ((text = sodium_malloc(SECKEY_FILE_MAX)) == NULL) {
		(void)parse_fail(err, 0, "%s: out of memory", path);
		return (NULL);
	}
	if (read_secret(path, text, &len, err) == 0 &&
	    (k = seckey_parse(text, len, password, arg, &why)) == NULL)
		(void)parse_fail(err, why.line, "%s: %s", path, why.reason);
	sodium_free(text);
	return (k);
}

/* Encrypts with as much work as this machine has memory for. */
static int
seal_strongest(uint8_t *raw, const char *password)
{
	uint64_t ops = SCRYPT_OPS, mem = SCRYPT_MEM;

	memcpy(raw + AT_KDF, "Sc", 2);
	randombytes_buf(raw + AT_SALT, 32);
	while (seal(raw, password, ops, mem) == -1) {
		if (ops <= SCRYPT_OPS_MIN || mem <= SCRYPT_MEM_MIN) {
			errno = ENOMEM;
			return (-1);
		}
		ops /= 2;
		mem /= 2;
	}
	store64(raw + AT_OPS, ops);
	store64(raw + AT_MEM, mem);
	return (0);
}

/* A new file of `lines`, there as a whole or not at all. */
static int
write_new(const char *path, const char *lines, mode_t mode)
{
	int fd, ret = -1, saved;

	if ((fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
	    O_CLOEXEC, mode)) == -1)
		return (-1);
	if (fchmod(fd, mode) == 0 &&
	    fd_write_all(fd, lines, strlen(lines)) == 0 && fsync(fd) == 0)
		ret = 0;
	fd_close(&fd);
	if (ret == -1) {
		saved = errno;
		(void)unlink(path);
		errno = saved;
	}
	return (ret);
}

static int
write_public(const struct seckey *k, const char *path)
{
	char b64[PUBKEY_TEXT], id[17], lines[256];

	(void)snprintf(lines, sizeof(lines), "%s%s%s\n%s\n", ARMOR_UNTRUSTED,
	    PUBLIC_COMMENT, pubkey_id(&k->public, id),
	    pubkey_text(&k->public, b64));
	return (write_new(path, lines, 0644));
}

int
seckey_write(const struct seckey *k, const char *path, const char *pub_path,
    const char *password)
{
	size_t n = sizeof(ARMOR_UNTRUSTED SECRET_COMMENT "\n") - 1;
	uint8_t *raw = NULL;
	char *lines = NULL;
	int ret = -1, saved;

	CHECK_OBJ(k, SECKEY_MAGIC);
	if ((raw = sodium_malloc(SECKEY_BYTES)) == NULL ||
	    (lines = sodium_malloc(SECKEY_FILE_MAX)) == NULL)
		goto out;
	memset(raw, 0, SECKEY_BYTES);
	memcpy(raw, "Ed", 2);
	memcpy(raw + AT_CHECKSUM, "B2", 2);
	memcpy(raw + AT_ID, k->public.id, sizeof(k->public.id));
	memcpy(raw + AT_KEY, k->sk, sizeof(k->sk));
	if (password != NULL) {
		checksum(raw + AT_SUM, raw);
		if (seal_strongest(raw, password) == -1)
			goto out;
	}
	memcpy(lines, ARMOR_UNTRUSTED SECRET_COMMENT "\n", n);
	(void)sodium_bin2base64(lines + n, SECKEY_FILE_MAX - n, raw,
	    SECKEY_BYTES, sodium_base64_VARIANT_ORIGINAL);
	n += strlen(lines + n);
	memcpy(lines + n, "\n", 2);
	if (write_new(path, lines, 0600) == -1)
		goto out;
	if ((ret = write_public(k, pub_path)) == -1) {
		saved = errno;
		(void)unlink(path);
		errno = saved;
	}
out:
	sodium_free(lines);
	sodium_free(raw);
	return (ret);
}

int
seckey_sign(const struct seckey *k, const void *data, size_t len,
    const char *trusted_comment, struct buf *b)
{
	uint8_t hash[64], raw[74] = { 'E', 'D' }, second[64];
	uint8_t global[64 + SIGNATURE_COMMENT_MAX];
	char b64[sodium_base64_ENCODED_LEN(74, sodium_base64_VARIANT_ORIGINAL)];
	size_t n = strlen(trusted_comment);

	CHECK_OBJ(k, SECKEY_MAGIC);
	if (!armor_comment_ok(trusted_comment, n)) {
		errno = EINVAL;
		return (-1);
	}
	memcpy(raw + 2, k->public.id, sizeof(k->public.id));
	if (crypto_generichash(hash, sizeof(hash), data, len, NULL, 0) != 0 ||
	    crypto_sign_detached(raw + 10, NULL, hash, sizeof(hash),
	    k->sk) != 0)
		return (-1);
	memcpy(global, raw + 10, 64);
	memcpy(global + 64, trusted_comment, n);
	if (crypto_sign_detached(second, NULL, global, 64 + n, k->sk) != 0)
		return (-1);
	(void)buf_addf(b, "%s%s\n%s\n", ARMOR_UNTRUSTED, SIGN_COMMENT,
	    sodium_bin2base64(b64, sizeof(b64), raw, sizeof(raw),
	    sodium_base64_VARIANT_ORIGINAL));
	(void)buf_addf(b, "%s%s\n%s\n", ARMOR_TRUSTED, trusted_comment,
	    sodium_bin2base64(b64, sizeof(b64), second, sizeof(second),
	    sodium_base64_VARIANT_ORIGINAL));
	return (b->failed ? -1 : 0);
}
