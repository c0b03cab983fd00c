/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_TRUST_H
#define	KEYS_TRUST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keys/minisign.h"
#include "proto/head.h"

#define	TRUST_MAX	65536		/* bytes of one version */
#define	TRUST_ROOTS	16
#define	TRUST_SIGNATURES	(2 * TRUST_ROOTS)	/* old and new roots */
#define	TRUST_PUBLISHERS	256
#define	TRUST_VERSIONS	1024
#define	TRUST_ALL_MAX	(4u << 20)	/* bytes of all versions */

/* One version, parsed.  Plain data but for `publisher`. */
struct trust_doc {
	uint64_t	 version;
	int64_t		 created, expires;
	unsigned	 threshold;
	size_t		 nroot, npublisher, nsignature;
	struct pubkey	 root[TRUST_ROOTS];
	struct trust_publisher {
		struct pubkey	key;
		char		glob[SET_NAME_MAX + 1];
	}		*publisher;		/* malloc'd, npublisher */
	/* Their comments point into the text. */
	struct signature signature[TRUST_SIGNATURES];
	size_t		 signed_len;
};
int	trust_doc_parse(struct trust_doc *d, const char *text, size_t len,
	    struct parse_error *err);
void	trust_doc_free(struct trust_doc *d);
/* How many of the n keys, counted by their 32 bytes, signed d, whose text this
 * is; signer[i], unless NULL, tells of each key. */
unsigned trust_doc_signers(const struct trust_doc *d, const char *text,
	    const struct pubkey *key, size_t n, bool *signer);
/* Writes the signed lines of d from its fields. */
int	trust_doc_write(struct buf *b, const struct trust_doc *d);
/* Length of the first document in several, or 0. */
size_t	trust_doc_span(const char *text, size_t len);

/*
 * The chain of versions from 1, verified from the configured roots on.  Any
 * thread (a lock inside).
 */
struct trust;
struct trust	*trust_new(const struct pubkey *root, size_t nroot,
		    unsigned threshold);	/* 0: all */
/* Trusts nobody: whatever it is given is refused. */
struct trust	*trust_none(void);
void		 trust_destroy(struct trust **t);
/*
 * Takes what is new in a document of all versions.  Versions already held must
 * be the same bytes.  Returns how many were added, or -1 and err (versions
 * before the refused one stay added).
 */
int		 trust_update(struct trust *t, const char *text, size_t len,
		    struct parse_error *err);
uint64_t	 trust_version(struct trust *t);	/* 0: none yet */
bool		 trust_expired(struct trust *t, int64_t now); /* none: true */
int64_t		 trust_expires(struct trust *t);
/* All versions, in order; malloc'd. */
char		*trust_text(struct trust *t, size_t *len);
/*
 * Judges a head: signature good, by a publisher key that the newest version
 * trusts for its set, and not expired.  0, or -1 and the reason.
 */
enum trust_verdict { TRUST_OK = 0, TRUST_BAD_SIGNATURE, TRUST_UNKNOWN_KEY,
	TRUST_NOT_FOR_SET, TRUST_EXPIRED, TRUST_NONE };
enum trust_verdict trust_judge(struct trust *t, const struct head *h,
		    int64_t now, struct parse_error *err);
/* Only that the signature is good by some key that some version listed as a
 * publisher of the set (heads already held stay). */
enum trust_verdict trust_judge_held(struct trust *t, const struct head *h,
		    struct parse_error *err);

/* Versions as files 1, 2, ... in a folder: load what is there (-1: err names
 * the file), write those that are missing. */
int		 trust_load(struct trust *t, int dirfd,
		    struct parse_error *err);
int		 trust_save(struct trust *t, int dirfd);

#endif
