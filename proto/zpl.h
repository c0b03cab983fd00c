/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_ZPL_H
#define	PROTO_ZPL_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/buf.h"

#define	ZPL_FILE_MAX	65536		/* bytes */
#define	ZPL_LINE_MAX	1000		/* bytes, without LF */
#define	ZPL_ITEMS	1000		/* keys and sections in a file */
#define	ZPL_INDENT	4		/* blanks a level */

/* Kinds of values (proto/config.h). */
enum zpl_kind { ZPL_S, ZPL_N, ZPL_B, ZPL_T, ZPL_L };

/* A row of a program's table of keys. */
struct zpl_key {
	enum zpl_kind	 kind;
	const char	*section, *key;		/* section "": top level */
	size_t		 offset;		/* of the field */
	const char	*def;
	bool		 restart;
	bool		 many;			/* its section repeats */
};

/* A line that says something. */
struct zpl_item {
	unsigned long		 line;
	const char		*section;	/* the table's */
	const struct zpl_key	*key;		/* NULL: a section begins */
	char			*value;
};
struct zpl {
	size_t		 n, size;
	struct zpl_item	*item;
};

/*
 * Reads len bytes of ZPL against a table.  NULL: err->reason is the whole
 * message, FILE:LINE: included.
 */
struct zpl	*zpl_parse(const char *file, const char *text, size_t len,
		    const struct zpl_key *keys, size_t nkey,
		    struct parse_error *err);
/* Values are wiped: some are secret. */
void		 zpl_destroy(struct zpl **z);
void		 zpl_wipe(char *s);	/* wipes and frees; NULL is fine */
/* Fills err with FILE:LINE: (line 0: FILE:) and the message; returns -1. */
int		 zpl_fail(struct parse_error *err, const char *file,
		    unsigned long line, const char *fmt, ...)
		    __attribute__((format(printf, 4, 5)));

#endif
