/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the names of files in package repositories tell, by kind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "edge/kind.h"

#define	ID	1		/* identifies */
#define	FOREVER	2		/* is immutable */
#define	PACKAGE	4

static const struct {
	enum repo_kind	 kind;
	const char	*path;
	int		 is;
} paths[] = {
	{ KIND_FREEBSD, "meta.conf", ID | PACKAGE },
	{ KIND_FREEBSD, "FreeBSD:14:amd64/latest/meta.conf", ID | PACKAGE },
	{ KIND_FREEBSD, "data.pkg", ID | PACKAGE },
	{ KIND_FREEBSD, "packagesite.pkg", ID | PACKAGE },
	{ KIND_FREEBSD, "packagesite.txz", ID | PACKAGE },
	{ KIND_FREEBSD, "a/packagesite.tzst", ID | PACKAGE },
	{ KIND_FREEBSD, "mydata.pkg", PACKAGE },
	{ KIND_FREEBSD, "files.pkg", PACKAGE },
	{ KIND_FREEBSD, "All/pkg-2.1.pkg", PACKAGE },
	{ KIND_FREEBSD, "Latest/pkg.txz", PACKAGE },
	{ KIND_FREEBSD, "Latest/pkg.pkg.sig", PACKAGE },
	{ KIND_FREEBSD, "All/Hashed/a-1~2%24ic1pp.pkg", FOREVER | PACKAGE },
	{ KIND_FREEBSD, "a/latest/All/Hashed/b-1.pkg", FOREVER | PACKAGE },
	{ KIND_FREEBSD, "Small/Hashed/b.x", 0 },
	{ KIND_FREEBSD, "All/Hashed/", 0 },
	{ KIND_FREEBSD, "All/Hashed", 0 },
	{ KIND_FREEBSD, "all/hashed/a", 0 },
	{ KIND_FREEBSD, "data.pkg?x", 0 },
	{ KIND_FREEBSD, "All/Hashed/a.pkg?x", 0 },
	{ KIND_FREEBSD, "meta.conf/", 0 },
	{ KIND_FREEBSD, "index.html", 0 },
	{ KIND_FREEBSD, "", 0 },
	{ KIND_FREEBSD, "dists/a/InRelease", 0 },

	{ KIND_DEBIAN, "dists/bookworm/InRelease", ID | PACKAGE },
	{ KIND_DEBIAN, "dists/bookworm/updates/Release", ID | PACKAGE },
	{ KIND_DEBIAN, "InRelease", ID | PACKAGE },
	{ KIND_DEBIAN, "dists/bookworm/Release.gpg", PACKAGE },
	{ KIND_DEBIAN, "dists/a/main/binary-amd64/Packages.xz", PACKAGE },
	{ KIND_DEBIAN, "dists/a/main/source/Sources.gz", PACKAGE },
	{ KIND_DEBIAN, "dists/a/main/i18n/Translation-en.xz", PACKAGE },
	{ KIND_DEBIAN, "dists/a/main/Contents-amd64.gz", PACKAGE },
	{ KIND_DEBIAN, "dists/a/main/binary-amd64/Packages.diff/Index",
	    PACKAGE },
	{ KIND_DEBIAN, "dists/a/main/binary-amd64/by-hash/SHA256/ab",
	    FOREVER | PACKAGE },
	{ KIND_DEBIAN, "by-hash/SHA256/ab", FOREVER | PACKAGE },
	{ KIND_DEBIAN, "pool/main/a/a_1_all.deb", FOREVER | PACKAGE },
	{ KIND_DEBIAN, "security/pool/a.orig.tar.xz", FOREVER | PACKAGE },
	{ KIND_DEBIAN, "carpool/a", 0 },
	{ KIND_DEBIAN, "pool/main/", 0 },
	{ KIND_DEBIAN, "pool", 0 },
	{ KIND_DEBIAN, "./a.deb", PACKAGE },
	{ KIND_DEBIAN, "a.dsc", PACKAGE },
	{ KIND_DEBIAN, "doc/README.html", 0 },
	{ KIND_DEBIAN, "dists/", 0 },
	{ KIND_DEBIAN, "meta.conf", 0 },

	{ KIND_ARCH, "core/os/x86_64/core.db", ID | PACKAGE },
	{ KIND_ARCH, "core.db.tar.gz", ID | PACKAGE },
	{ KIND_ARCH, "core.db.sig", PACKAGE },
	{ KIND_ARCH, "core.db.tar.gz.sig", PACKAGE },
	{ KIND_ARCH, "core.files", PACKAGE },
	{ KIND_ARCH, "core.files.tar.zst", PACKAGE },
	{ KIND_ARCH, "a-1-1-any.pkg.tar.zst", FOREVER | PACKAGE },
	{ KIND_ARCH, "core/os/x86_64/a-1-1-any.pkg.tar.xz.sig",
	    FOREVER | PACKAGE },
	{ KIND_ARCH, "lastupdate", 0 },
	{ KIND_ARCH, "core.db/", 0 },
	{ KIND_ARCH, "core.db?x=y", 0 },

	{ KIND_OTHER, "meta.conf", 0 },
	{ KIND_OTHER, "pool/a.deb", 0 },
	{ KIND_OTHER, "InRelease", 0 },
};

static void
reads_names(void **state)
{
	size_t i;
	int is;

	(void)state;
	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		is = (kind_identifies(paths[i].kind, paths[i].path) ? ID : 0) |
		    (kind_immutable(paths[i].kind, paths[i].path) ?
		    FOREVER : 0) |
		    (kind_package(paths[i].kind, paths[i].path) ? PACKAGE : 0);
		if (is != paths[i].is)
			fail_msg("kind %d, %s: %d, not %d",
			    (int)paths[i].kind, paths[i].path, is,
			    paths[i].is);
	}
}

static void
recognises_kinds(void **state)
{
	static const struct {
		const char	*identify[2];
		size_t		 n;
		enum repo_kind	 kind;
	} t[] = {
		{ { "meta.conf" }, 1, KIND_FREEBSD },
		{ { "latest/packagesite.pkg" }, 1, KIND_FREEBSD },
		{ { "dists/bookworm/InRelease" }, 1, KIND_DEBIAN },
		{ { "Release" }, 1, KIND_DEBIAN },
		{ { "core/os/x86_64/core.db" }, 1, KIND_ARCH },
		{ { "INDEX", "extra.db" }, 2, KIND_ARCH },
		{ { "meta.conf", "extra.db" }, 2, KIND_FREEBSD },
		{ { "INDEX", "README" }, 2, KIND_OTHER },
		{ { NULL }, 0, KIND_OTHER },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		assert_int_equal(kind_of(t[i].identify, t[i].n), t[i].kind);
}

static void
knows_words(void **state)
{
	enum repo_kind k = KIND_OTHER;

	(void)state;
	assert_int_equal(kind_parse(&k, "freebsd"), 0);
	assert_int_equal(k, KIND_FREEBSD);
	assert_int_equal(kind_parse(&k, "debian"), 0);
	assert_int_equal(k, KIND_DEBIAN);
	assert_int_equal(kind_parse(&k, "arch"), 0);
	assert_int_equal(k, KIND_ARCH);
	assert_int_equal(kind_parse(&k, "other"), 0);
	assert_int_equal(k, KIND_OTHER);
	assert_int_equal(kind_parse(&k, "Debian"), -1);
	assert_int_equal(kind_parse(&k, ""), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_names),
		cmocka_unit_test(recognises_kinds),
		cmocka_unit_test(knows_words),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests(tests, NULL, NULL));
}
