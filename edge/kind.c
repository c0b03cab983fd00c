/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kinds of package repositories: which of their files tell that something has
 * changed, which never change, which are no pages.  Pure functions, called for
 * plain upstreams on any thread.
 */
#include <fnmatch.h>
#include <string.h>

#include "edge/kind.h"

#define	PATTERNS	16

/* Patterns of fnmatch(3), of the last segment; immutable: of the whole path,
 * and they begin with any folder or none. */
struct kind {
	const char	*word;
	const char	*identifies[PATTERNS];
	const char	*immutable[PATTERNS];
	const char	*packages[PATTERNS];	/* beside both */
};

static const struct kind kinds[] = {
	[KIND_OTHER] = { .word = "other" },
	[KIND_FREEBSD] = {
		.word = "freebsd",
		.identifies = { "meta.conf", "meta.txz", "data.pkg",
		    "data.tzst", "data.txz", "packagesite.pkg",
		    "packagesite.tzst", "packagesite.txz" },
		.immutable = { "*/All/Hashed/*" },
		.packages = { "*.pkg", "*.tzst", "*.txz", "*.tbz", "*.tgz",
		    "*.sig", "*.pubkeysig" },
	},
	[KIND_DEBIAN] = {
		.word = "debian",
		.identifies = { "InRelease", "Release" },
		.immutable = { "*/pool/*", "*/by-hash/*" },
		.packages = { "*.deb", "*.udeb", "*.ddeb", "*.dsc", "*.tar.*",
		    "*.diff.*", "Release.gpg", "Packages*", "Sources*",
		    "Contents-*", "Translation-*", "Components-*", "Commands-*",
		    "Index" },
	},
	[KIND_ARCH] = {
		.word = "arch",
		.identifies = { "*.db", "*.db.tar.*" },
		.immutable = { "*/*.pkg.tar.*" },
		.packages = { "*.files", "*.files.tar.*", "*.sig" },
	},
};
#define	KINDS	(sizeof(kinds) / sizeof(kinds[0]))

int
kind_parse(enum repo_kind *k, const char *word)
{
	size_t i;

	for (i = 0; i < KINDS; i++)
		if (strcmp(kinds[i].word, word) == 0) {
			*k = (enum repo_kind)i;
			return (0);
		}
	return (-1);
}

const char *
kind_word(enum repo_kind k)
{

	return (kinds[k].word);
}

/* The last segment; NULL: none, or a query, which may choose anything. */
static const char *
file_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *file = slash == NULL ? path : slash + 1;

	return (*file == '\0' || strchr(path, '?') != NULL ? NULL : file);
}

static bool
file_matches(const char *const patterns[PATTERNS], const char *path)
{
	const char *file = file_of(path);
	size_t i;

	for (i = 0; file != NULL && i < PATTERNS && patterns[i] != NULL; i++)
		if (fnmatch(patterns[i], file, 0) == 0)
			return (true);
	return (false);
}

bool
kind_identifies(enum repo_kind k, const char *path)
{
	size_t len = strlen(path);

	if (len >= 4 && strcmp(path + len - 4, ".sig") == 0)
		return (false);		/* comes after what it signs */
	return (file_matches(kinds[k].identifies, path));
}

bool
kind_immutable(enum repo_kind k, const char *path)
{
	const char *p;
	size_t i;

	if (file_of(path) == NULL)
		return (false);
	for (i = 0; i < PATTERNS && (p = kinds[k].immutable[i]) != NULL; i++)
		if (fnmatch(p, path, 0) == 0 ||
		    fnmatch(p + strlen("*/"), path, 0) == 0)
			return (true);
	return (false);
}

bool
kind_package(enum repo_kind k, const char *path)
{

	return (kind_immutable(k, path) || kind_identifies(k, path) ||
	    file_matches(kinds[k].packages, path));
}

enum repo_kind
kind_of(const char *const *identify, size_t n)
{
	size_t i, k;

	for (i = 0; i < n; i++)
		for (k = 0; k < KINDS; k++)
			if (kind_identifies((enum repo_kind)k, identify[i]))
				return ((enum repo_kind)k);
	return (KIND_OTHER);
}
