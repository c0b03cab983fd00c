/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_KIND_H
#define	EDGE_KIND_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Kinds of package repositories: what the names of their files tell.  Pure.
 * Paths are below the set, without a slash in front; one with a query ("?"),
 * or of a folder, is nothing that a kind knows.
 */
enum repo_kind { KIND_OTHER, KIND_FREEBSD, KIND_DEBIAN, KIND_ARCH };

/* freebsd, debian, arch, other.  0, or -1: unknown word. */
int		kind_parse(enum repo_kind *k, const char *word);
const char	*kind_word(enum repo_kind k);
/* Of the first of these identification files that a kind knows; else other. */
enum repo_kind	kind_of(const char *const *identify, size_t n);
/*
 * Changes whenever the repository does: meta.conf, data.pkg and packagesite.pkg
 * (and their older suffixes); InRelease, Release; *.db and *.db.tar.*.
 */
bool		kind_identifies(enum repo_kind k, const char *path);
/* Never changes under its name: All/Hashed/; pool/, by-hash/; *.pkg.tar.*. */
bool		kind_immutable(enum repo_kind k, const char *path);
/* A package or an index: a page of HTML in its place is an error. */
bool		kind_package(enum repo_kind k, const char *path);

#endif
