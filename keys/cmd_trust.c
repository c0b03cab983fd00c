/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `pkgcast trust`, and of it `trust show`: all versions of the trust document
 * in words, and whether they verify.  `trust init` is in trust_init.c.  Called
 * by master/pkgcast.c, in its only thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keys/cmd_trust.h"
#include "keys/trust.h"
#include "keys/trust_init.h"
#include "keys/trust_restore.h"
#include "keys/trust_place.h"
#include "proto/clock.h"
#include "proto/date.h"
#include "proto/fd.h"

enum { DONE = 0, FAILED = 1, USAGE = 2 };

#define	DAY		86400
#define	TRUST_FOLDER	"trust"

static int
usage(void)
{

	(void)fprintf(stderr,
	    "usage: pkgcast trust init [--root FILE]... [--threshold N]\n"
	    "           [--publisher KEY|FILE[:GLOB]]... [--expires DATE|DAYSd]\n"
	    "           [--out FILE] [--new]\n"
	    "       pkgcast trust restore FILE\n"
	    "       pkgcast trust show [FILE]\n");
	return (USAGE);
}

static void
print_roots(const struct trust_doc *d, const char *text)
{
	char key[PUBKEY_TEXT], id[17];
	bool signer[TRUST_ROOTS];
	size_t i, j;

	(void)trust_doc_signers(d, text, d->root, d->nroot, signer);
	(void)printf("  root keys, %u of %zu must sign:\n", d->threshold,
	    d->nroot);
	for (i = 0; i < d->nroot; i++)
		(void)printf("    %s  %s  %s\n", pubkey_id(&d->root[i], id),
		    pubkey_text(&d->root[i], key),
		    signer[i] ? "signed" : "did not sign");
	for (i = 0; i < d->nsignature; i++) {
		for (j = 0; j < d->nroot && memcmp(d->root[j].id,
		    d->signature[i].id, sizeof(d->root[j].id)) != 0; j++)
			;
		if (j == d->nroot)
			(void)printf("    %s  also signed\n",
			    signature_id(&d->signature[i], id));
	}
}

static void
print_doc(const struct trust_doc *d, const char *text)
{
	char created[DATE_ISO], expires[DATE_ISO], key[PUBKEY_TEXT], id[17];
	int64_t left = d->expires - clock_real();
	size_t i;

	(void)printf("version %llu, created %s, ",
	    (unsigned long long)d->version, date_iso(d->created, created));
	(void)date_iso(d->expires, expires);
	if (left > 0)
		(void)printf("expires %s (in %lld days)\n", expires,
		    (long long)(left + DAY / 2) / DAY);
	else
		(void)printf("EXPIRED %s\n", expires);
	print_roots(d, text);
	(void)printf("  publishers:\n");
	for (i = 0; i < d->npublisher; i++)
		(void)printf("    %s  %s  %s\n",
		    pubkey_id(&d->publisher[i].key, id),
		    pubkey_text(&d->publisher[i].key, key),
		    d->publisher[i].glob);
	if (d->npublisher == 0)
		(void)printf("    none: nobody may publish\n");
}

/* Each version in words; how many there are, or -1. */
static int
print_all(const char *text, size_t len)
{
	struct parse_error err;
	struct trust_doc d;
	size_t n, off;
	int count = 0;

	for (off = 0; off < len; off += n) {
		if ((n = trust_doc_span(text + off, len - off)) == 0) {
			(void)fprintf(stderr, "pkgcast: version %d is cut "
			    "off\n", count + 1);
			return (-1);
		}
		if (trust_doc_parse(&d, text + off, n, &err) == -1) {
			(void)fprintf(stderr, "pkgcast: version %d, line %lu: "
			    "%s\n", count + 1, err.line, err.reason);
			return (-1);
		}
		print_doc(&d, text + off);
		trust_doc_free(&d);
		count++;
	}
	return (count);
}

/* Whether all `count` versions verify from the roots on, said in a line. */
static int
print_verdict(const char *text, size_t len, int count, const char *whose,
    const struct pubkey *root, size_t nroot, unsigned threshold)
{
	struct parse_error err = { .line = 0 };
	struct trust *t;
	int n;

	if ((t = trust_new(root, nroot, threshold)) == NULL) {
		(void)fprintf(stderr, "pkgcast: %s: %s\n", whose,
		    errno == EINVAL ? "root-threshold is above the number of "
		    "different root keys" : strerror(errno));
		return (FAILED);
	}
	n = trust_update(t, text, len, &err);
	trust_destroy(&t);
	if (n == count) {
		(void)printf("%s with the root keys of %s.\n", count == 1 ?
		    "It verifies" : "They all verify", whose);
		return (DONE);
	}
	(void)printf("NOT GOOD with the root keys of %s: %s\n", whose,
	    err.reason);
	return (FAILED);
}

/* The first version's own root keys, for want of configured ones. */
static int
verdict_of_its_own(const char *text, size_t len, int count)
{
	struct trust_doc d;
	size_t n = trust_doc_span(text, len);
	int ret;

	if (trust_doc_parse(&d, text, n, NULL) == -1)
		return (FAILED);
	ret = print_verdict(text, len, count, "version 1 itself, since no "
	    "configuration says others (root-key)", d.root, d.nroot,
	    d.threshold);
	trust_doc_free(&d);
	return (ret);
}

static const char *
hint(int error)
{

	return (error == ENOENT ? ": \"pkgcast trust init\" makes it" : "");
}

/* All versions in the master's state folder, malloc'd; NULL after a message. */
static char *
read_state(const char *state, size_t *len)
{
	struct buf b = BUF_INIT(TRUST_ALL_MAX);
	char name[32], *text;
	int dirfd, i, tfd;
	size_t n;

	if ((dirfd = fd_open_dir(AT_FDCWD, state)) == -1 ||
	    (tfd = fd_open_dir(dirfd, TRUST_FOLDER)) == -1) {
		(void)fprintf(stderr, "pkgcast: %s/%s: %s%s\n", state,
		    TRUST_FOLDER, strerror(errno), hint(errno));
		fd_close(&dirfd);
		return (NULL);
	}
	for (i = 1; i <= TRUST_VERSIONS; i++) {
		(void)snprintf(name, sizeof(name), "%d", i);
		if ((text = fd_slurp(tfd, name, TRUST_MAX, &n)) == NULL)
			break;
		(void)buf_add(&b, text, n);
		free(text);
	}
	if (i == 1 || (i <= TRUST_VERSIONS && errno != ENOENT)) {
		(void)fprintf(stderr, "pkgcast: %s/%s/%d: %s%s\n", state,
		    TRUST_FOLDER, i, strerror(errno), hint(errno));
		buf_free(&b);
	}
	fd_close(&tfd);
	fd_close(&dirfd);
	return (buf_take(&b, len));
}

static int
show_text(const char *text, size_t len, const char *conf,
    const struct trust_place *p)
{
	int count;

	if ((count = print_all(text, len)) <= 0)
		return (FAILED);
	if (p->nroot == 0)
		return (verdict_of_its_own(text, len, count));
	return (print_verdict(text, len, count, conf, p->root, p->nroot,
	    p->threshold));
}

static int
show(const struct pkgcast_conf *c, int argc, char *argv[])
{
	struct trust_place p = { .state = NULL };
	struct parse_error err;
	char *text;
	size_t len = 0;
	int ret = FAILED;

	if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
		return (usage());
	/* A file can be shown where there is no master, too. */
	if ((argc == 1 || access(c->master, F_OK) == 0) &&
	    trust_place_read(&p, c->master, &err) == -1) {
		(void)fprintf(stderr, "pkgcast: %s\n", err.reason);
		return (USAGE);
	}
	if (argc == 1)
		text = read_state(p.state, &len);
	else if ((text = fd_slurp(AT_FDCWD, argv[1], TRUST_ALL_MAX,
	    &len)) == NULL)
		(void)fprintf(stderr, "pkgcast: %s: %s\n", argv[1],
		    strerror(errno));
	if (text != NULL)
		ret = show_text(text, len, c->master, &p);
	free(text);
	trust_place_free(&p);
	return (ret);
}

int
cmd_trust(const struct pkgcast_conf *c, int argc, char *argv[])
{
	int ret = -1;

	if (argc < 2)
		return (usage());
	if (keys_init() == -1) {
		(void)fprintf(stderr, "pkgcast: libsodium cannot be used\n");
		return (FAILED);
	}
	if (strcmp(argv[1], "show") == 0)
		return (show(c, argc - 1, argv + 1));
	if (strcmp(argv[1], "restore") == 0)
		ret = trust_restore(c, argc - 1, argv + 1);
	if (strcmp(argv[1], "init") == 0)
		ret = trust_init(c, argc - 1, argv + 1);
	return (ret == -1 ? usage() : ret);
}
