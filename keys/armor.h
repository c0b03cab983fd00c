/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_ARMOR_H
#define	KEYS_ARMOR_H

#include <stdbool.h>
#include <stddef.h>

/* Lines that minisign files are made of; the others are base64. */
#define	ARMOR_UNTRUSTED	"untrusted comment: "
#define	ARMOR_TRUSTED	"trusted comment: "

/* Takes the next line, whose LF must be there, off *p.  0, or -1. */
int	armor_line(const char **p, const char *end, const char **line,
	    size_t *len);
/*
 * A line of prefix and text, the text printable ASCII and TAB, at most
 * SIGNATURE_COMMENT_MAX bytes.  text and text_len may be NULL.
 */
bool	armor_comment(const char *line, size_t len, const char *prefix,
	    const char **text, size_t *text_len);
/* Printable ASCII and TAB, at most SIGNATURE_COMMENT_MAX bytes. */
bool	armor_comment_ok(const char *text, size_t len);

#endif
