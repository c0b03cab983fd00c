/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_RECORD_H
#define	MASTER_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/digest.h"
#include "proto/head.h"

/*
 * What is kept beside the publisher's key, for one set at a time:
 *
 *	signed			lines "SET GENERATION sha256:DIGEST" of heads
 *	scan/DIGEST		memory of scans
 *	pending/SET/		head, manifest, chunks of a publish at work
 *
 * In pending/, "/" of the set's name is written as ",".
 */
struct record;

/*
 * Opens, or makes (0700), the folder.  Waits for no other command: one that
 * works on the same set is an error.  NULL: err.
 */
struct record	*record_open(const char *home, const char *set,
		    struct parse_error *err);
void		 record_close(struct record **r);

/* Highest generation of the set that was ever signed; 0: none. */
uint64_t	 record_highest(const struct record *r);
/*
 * Notes, durably, that this head is about to be signed.  -1: err; a number
 * that was signed with other content, or lies below the highest, is refused.
 */
int		 record_sign(struct record *r, const struct head *h,
		    struct parse_error *err);

/* Folder of scan caches (borrowed), and the name of the one for dir. */
int		 record_scan_dir(const struct record *r);
const char	*record_scan_name(struct record *r, const char *dir);

/* A signed head on its way to the master, with what it names. */
struct draft {
	struct head	 head;
	bool		 rollback;	/* made by that command */
	char		*manifest, *chunks;	/* malloc'd, NUL-terminated */
	size_t		 manifest_len, chunks_len;
};
/* Durable on return.  -1: errno. */
int		 record_save(struct record *r, const struct draft *p);
/* False: none, or one that is damaged. */
bool		 record_load(const struct record *r, struct draft *p);
int		 record_forget(struct record *r);
void		 draft_free(struct draft *p);

#endif
