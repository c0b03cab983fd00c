/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_STATUS_ROW_H
#define	MASTER_STATUS_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "proto/name.h"

/*
 * The edges of a master's status document, as `pkgcast status` shows them; and
 * how members of that document are read.  One thread.
 */

/* The most urgent first; this is the order in which edges are shown. */
enum edge_state { EDGE_AHEAD, EDGE_DOUBLE, EDGE_BEHIND, EDGE_UNLEASED,
	EDGE_NEVER, EDGE_CURRENT, EDGE_STATES };

struct row {
	const char	*name;		/* as the document has it */
	const json_t	*instance;	/* the newest; NULL: none */
	enum edge_state	 state;
	uint64_t	 behind;	/* generations, of its worst set */
	int64_t		 behind_ms;	/* -1: it is not */
	int64_t		 switched_ms;	/* ago, the last; -1: not seen */
	int64_t		 took_ms;
};

/* One for each edge, borrowing from the document; free() it.  NULL: out of
 * memory. */
struct row	*rows_new(const json_t *edges);
/* Of many only those that are not current, unless all are asked for. */
void		 rows_show(const struct row *rows, size_t n, bool all);
/* What the edge says of that set; NULL: nothing. */
const json_t	*row_set(const struct row *r, const char *set);

/* Members of an object: "-", 0, -1 or false where there is no such. */
const char	*doc_word(const json_t *j, const char *name);
const char	*doc_text(const json_t *j, const char *name, char *out,
		    size_t size);	/* printable */
uint64_t	 doc_number(const json_t *j, const char *name);
int64_t		 doc_ms(const json_t *j, const char *name);
bool		 doc_true(const json_t *j, const char *name);

#define	DOC_SET		(SET_NAME_MAX * 4 + 1)	/* bytes of a set's name */
#define	DOC_DURATION	16
/* "3s", "12m", "5h", "9d"; "-": below 0. */
const char	*doc_duration(int64_t ms, char out[DOC_DURATION]);

#endif
