/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lines of minisign files, strictly: what a signature covers must have one
 * spelling only.  Used by minisign.c and seckey.c; no state, any thread.
 */

#include <string.h>

#include "keys/armor.h"
#include "keys/minisign.h"

int
armor_line(const char **p, const char *end, const char **line, size_t *len)
{
	const char *lf;

	if (*p == end || (lf = memchr(*p, '\n', (size_t)(end - *p))) == NULL)
		return (-1);
	*line = *p;
	*len = (size_t)(lf - *p);
	*p = lf + 1;
	return (0);
}

bool
armor_comment_ok(const char *text, size_t len)
{
	size_t i;

	if (len > SIGNATURE_COMMENT_MAX)
		return (false);
	for (i = 0; i < len; i++)
		if ((text[i] < ' ' || text[i] > '~') && text[i] != '\t')
			return (false);
	return (true);
}

bool
armor_comment(const char *line, size_t len, const char *prefix,
    const char **text, size_t *text_len)
{
	size_t n = strlen(prefix);

	if (len < n || memcmp(line, prefix, n) != 0 ||
	    !armor_comment_ok(line + n, len - n))
		return (false);
	if (text != NULL)
		*text = line + n;
	if (text_len != NULL)
		*text_len = len - n;
	return (true);
}
