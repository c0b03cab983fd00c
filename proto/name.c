/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which names of sets, paths and globs are good (pkgcast-formats(5)).  Pure.
 */

#include <fnmatch.h>
#include <string.h>

#include "proto/name.h"

static bool
set_byte(char c)
{

	return ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    (c >= '0' && c <= '9') || (c != '\0' && strchr("._:+~-", c)));
}

bool
set_name_ok(const char *s, size_t len)
{
	size_t i, start = 0, segments = 1;

	if (len == 0 || len > SET_NAME_MAX)
		return (false);
	for (i = 0; i <= len; i++) {
		if (i < len && s[i] != '/') {
			if (!set_byte(s[i]))
				return (false);
			continue;
		}
		if (i == start || i - start > SET_SEGMENT_MAX ||
		    s[start] == '.')
			return (false);
		if (i < len)
			segments++;
		start = i + 1;
	}
	return (segments <= SET_SEGMENTS);
}

bool
set_names_clash(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b), n = la < lb ? la : lb;

	if (memcmp(a, b, n) != 0)
		return (false);
	return (la == lb || (la < lb ? b[n] : a[n]) == '/');
}

bool
path_ok(const char *s, size_t len)
{
	size_t i, start = 0, n;

	if (len == 0 || len > PATH_BYTES_MAX || s[0] == '@')
		return (false);
	for (i = 0; i <= len; i++) {
		if (i < len && s[i] != '/') {
			if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
				return (false);
			continue;
		}
		n = i - start;
		if (n == 0 || n > PATH_SEGMENT ||
		    (n == 1 && s[start] == '.') ||
		    (n == 2 && s[start] == '.' && s[start + 1] == '.'))
			return (false);
		start = i + 1;
	}
	return (true);
}

bool
entry_glob_ok(const char *s, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] > '~' || s[i] == '[' || s[i] == ']' ||
		    s[i] == '\\')
			return (false);
	return (path_ok(s, len));
}

bool
entry_glob_match(const char *glob, const char *path)
{

	return (fnmatch(glob, path, FNM_PATHNAME) == 0);
}

bool
set_glob_ok(const char *s, size_t len)
{
	size_t i;

	if (len == 0 || len > SET_NAME_MAX)
		return (false);
	for (i = 0; i < len; i++)
		if (!set_byte(s[i]) && (s[i] == '\0' ||
		    strchr("/*?[]", s[i]) == NULL))
			return (false);
	return (true);
}

bool
set_glob_match(const char *glob, const char *set)
{

	return (fnmatch(glob, set, 0) == 0);
}
