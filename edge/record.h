/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_RECORD_H
#define	EDGE_RECORD_H

#include <stdint.h>

#include "proto/buf.h"
#include "proto/digest.h"

/*
 * What is kept of cached URLs over restarts: an SQLite database, which a thread
 * of its own writes.  No call but those that say so waits for the disk.  Where
 * the database cannot be written (disk full), that is logged, and tried again
 * every few seconds; until then the records are in the caller's memory only.
 * Any thread.
 */
struct records;

/* One cached URL.  Texts are never NULL. */
struct record {
	char		*key;		/* "<set>/<path>[?query]", coded form */
	unsigned	 status;	/* 200, 301, ..., 404 */
	char		*fields;	/* "Name: value\n" ..., as received */
	char		*vary;		/* fresh_vary_key(); "": none */
	struct digest	 digest;	/* of a 200's body, as is size */
	uint64_t	 size;
	int64_t		 request_time;	/* of the last answer or validation; */
	int64_t		 response_time;	/* seconds since 1970 */
	uint64_t	 epoch;		/* of the set, when last verified */
};

/*
 * Opens the database, or makes it (mode 0640); waits for the disk.  A damaged
 * one, or one of another version, is named in the log, moved aside to
 * <path>.damaged, and made anew.  One process at a time; the path is good as
 * long as this is open.  With a full disk it succeeds: what the database holds
 * then is forgotten later.  NULL: err (without a line).
 */
struct records	*records_open(const char *path, struct parse_error *err);
/*
 * Calls back for each record written; waits for the disk.  At start, before
 * others put or remove.  The callee takes what it wants of rec's texts by
 * leaving NULL; it may put and remove, nothing else.  -1: errno; not all.
 */
int		 records_each(struct records *r,
		    void (*each)(void *arg, struct record *rec), void *arg);

/*
 * A copy is queued, to replace what is there by that key.  Without memory, or
 * when too much waits for a slow or full disk, the record is removed instead
 * (never is an older one kept), or in the end all are.
 */
void		 records_put(struct records *r, const struct record *rec);
void		 records_remove(struct records *r, const char *key);

/* 0 for a set that never was marked. */
uint64_t	 records_epoch(struct records *r, const char *set);
/*
 * Durable before it returns; waits for the disk.  An epoch never falls.  -1:
 * errno (ENOMEM: as if not called; EIO: records_epoch() knows it, and it will
 * be written as soon as that is possible).
 */
int		 records_set_epoch(struct records *r, const char *set,
		    uint64_t epoch);

/* Waits until all from before is written, or could not be. */
void		 records_flush(struct records *r);
/* Flushes first; accepts NULL. */
void		 records_close(struct records **r);

#endif
