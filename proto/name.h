/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_NAME_H
#define	PROTO_NAME_H

#include <stdbool.h>
#include <stddef.h>

/* Names of sets and paths in a set (pkgcast-formats(5)). */
#define	SET_NAME_MAX	200		/* bytes */
#define	SET_SEGMENTS	8
#define	SET_SEGMENT_MAX	64
#define	PATH_BYTES_MAX	1024
#define	PATH_SEGMENT	255

bool	set_name_ok(const char *s, size_t len);
/* One is a path prefix of the other, or both are the same. */
bool	set_names_clash(const char *a, const char *b);
/* Decoded path; also false for NUL within len. */
bool	path_ok(const char *s, size_t len);

/* Glob of an entry line: bytes a path may hold, and '*' '?' (no '[', '\\'). */
bool	entry_glob_ok(const char *s, size_t len);
/* fnmatch(3) with FNM_PATHNAME; both NUL-terminated. */
bool	entry_glob_match(const char *glob, const char *path);
/* Glob of a publisher line: set name bytes and '*' '?' '[' ']'. */
bool	set_glob_ok(const char *s, size_t len);
/* fnmatch(3) without FNM_PATHNAME. */
bool	set_glob_match(const char *glob, const char *set);

#endif
