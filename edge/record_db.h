/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_RECORD_DB_H
#define	EDGE_RECORD_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "edge/record.h"

/*
 * Inside of edge/record: the database, with no thread and no lock of its own.
 * All calls but the first wait for the disk.
 */
struct record_db;

enum record_db_result {
	RECORD_DB_OK,
	RECORD_DB_LATER,		/* disk full or failing, no memory */
	RECORD_DB_DAMAGED,		/* it was moved aside, and is closed */
	RECORD_DB_REFUSED		/* an operator has to see to it */
};

/* Nothing is open.  NULL: no memory. */
struct record_db *record_db_new(const char *path);
void		 record_db_destroy(struct record_db **d);

/*
 * Opens it, anew where it is damaged; epoch() is called for each one there is.
 * Never DAMAGED.
 */
enum record_db_result record_db_open(struct record_db *d,
		    void (*epoch)(void *arg, const char *set, uint64_t epoch),
		    void *arg);
bool		 record_db_is_open(const struct record_db *d);
/* Why the last call failed: good until the next one. */
const char	*record_db_reason(const struct record_db *d);

/*
 * Up to max more records, in any order; rewind: from the first on.  See
 * records_each().  0: these were the last, 1: go on, -1: errno.
 */
int		 record_db_each(struct record_db *d, bool rewind, unsigned max,
		    void (*each)(void *arg, struct record *rec), void *arg);

/*
 * All from begin to commit is written, or nothing of it; durable: it survives
 * the machine's end too.  What failed in between is said by commit.
 */
void		 record_db_begin(struct record_db *d, bool durable);
void		 record_db_clear(struct record_db *d);	/* epochs stay */
void		 record_db_put(struct record_db *d, const struct record *rec);
void		 record_db_remove(struct record_db *d, const char *key);
void		 record_db_epoch(struct record_db *d, const char *set,
		    uint64_t epoch);
enum record_db_result record_db_commit(struct record_db *d);

#endif
