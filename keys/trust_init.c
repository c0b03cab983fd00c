/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `pkgcast trust init`: makes the first version of the trust document, signs
 * it with the root keys and puts it where the master looks for it.  Called by
 * cmd_trust.c, in the command's only thread.
 */

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keys/home.h"
#include "keys/password.h"
#include "keys/trust.h"
#include "keys/trust_init.h"
#include "keys/trust_place.h"
#include "proto/clock.h"
#include "proto/date.h"
#include "proto/fd.h"

enum { DONE = 0, FAILED = 1, USAGE = 2 };

#define	DAY		86400
#define	DAYS_DEFAULT	365
#define	DAYS_MAX	36500
#define	FIRST		"1"		/* file of version 1 */

struct init {
	struct trust_doc	 doc;
	struct seckey		*key[TRUST_ROOTS];	/* doc.nroot of them */
	const char		*out;			/* NULL: the master's */
	/* From the command line. */
	const char		*root[TRUST_ROOTS];
	const char		*publisher[TRUST_PUBLISHERS];
	size_t			 nroot, npublisher;
	bool			 anew;		/* though there was one */
};

static int	fail(const char *fmt, ...)
		    __attribute__((format(printf, 1, 2)));

static int
fail(const char *fmt, ...)
{
	va_list ap;

	(void)fprintf(stderr, "pkgcast: ");
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "\n");
	return (FAILED);
}

static int
add_root(struct init *in, const char *file)
{
	struct trust_doc *d = &in->doc;
	struct parse_error err;
	struct seckey *k;
	size_t i;

	if ((k = seckey_read(file, password_ask, (void *)(uintptr_t)file,
	    &err)) == NULL)
		return (fail("%s", err.reason));
	for (i = 0; i < d->nroot; i++)
		if (pubkey_same(&d->root[i], seckey_pubkey(k))) {
			seckey_destroy(&k);
			return (fail("%s: the same root key twice", file));
		}
	in->key[d->nroot] = k;
	d->root[d->nroot++] = *seckey_pubkey(k);
	return (DONE);
}

/* The public key that text[0..len) is, or that the file of this name holds. */
static int
read_publisher(struct pubkey *k, const char *text, size_t len)
{
	char *file;
	int ret;

	if (pubkey_parse(k, text, len) == 0)
		return (DONE);
	if ((file = strndup(text, len)) == NULL)
		return (fail("out of memory"));
	if ((ret = pubkey_read(k, file)) == -1)
		ret = fail("%s: %s", file, errno == EINVAL ?
		    "not a minisign public key" : strerror(errno));
	free(file);
	return (ret);
}

/* KEY or FILE, then :GLOB or nothing, which is all sets. */
static int
add_publisher(struct init *in, const char *arg)
{
	struct trust_doc *d = &in->doc;
	size_t len = strcspn(arg, ":");
	const char *glob = arg[len] == ':' ? arg + len + 1 : "*";
	struct trust_publisher *p;

	if (!set_glob_ok(glob, strlen(glob)))
		return (fail("%s: not a glob of set names", glob));
	if ((p = realloc(d->publisher,
	    (d->npublisher + 1) * sizeof(*p))) == NULL)
		return (fail("out of memory"));
	d->publisher = p;
	p += d->npublisher;
	if (read_publisher(&p->key, arg, len) != DONE)
		return (FAILED);
	memcpy(p->glob, glob, strlen(glob) + 1);
	d->npublisher++;
	return (DONE);
}

/* 2027-11-22, 2027-11-22T00:00:00Z or 365d. */
static int
set_expires(struct init *in, const char *arg)
{
	struct trust_doc *d = &in->doc;
	unsigned long long days;
	char iso[DATE_ISO];
	size_t len = strlen(arg);

	if (len > 1 && arg[len - 1] == 'd' &&
	    parse_u64(arg, len - 1, DAYS_MAX, &days) == 0)
		d->expires = d->created + (int64_t)days * DAY;
	else {
		(void)snprintf(iso, sizeof(iso), "%.10s%s", arg,
		    len == 10 ? "T00:00:00Z" : len == 20 ? arg + 10 : "");
		if ((len != 10 && len != 20) ||
		    date_iso_parse(iso, strlen(iso), &d->expires) == -1)
			return (fail("--expires %s: a date (2027-11-22) or "
			    "days from now (365d) expected", arg));
	}
	if (d->expires <= d->created)
		return (fail("--expires %s: that is over", arg));
	return (DONE);
}

static int
set_threshold(struct init *in, const char *arg)
{
	unsigned long long n;

	if (parse_u64(arg, strlen(arg), TRUST_ROOTS, &n) == -1 || n == 0)
		return (fail("--threshold %s: a number from 1 to %d expected",
		    arg, TRUST_ROOTS));
	in->doc.threshold = (unsigned)n;
	return (DONE);
}

static int
note(const char **list, size_t *n, size_t max, const char *arg)
{

	if (*n == max)
		return (fail("%s: at most %zu are possible", arg, max));
	list[(*n)++] = arg;
	return (DONE);
}

/* What the command line says; no file is read yet.  -1: usage. */
static int
take_options(struct init *in, int argc, char *argv[])
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "threshold", required_argument, NULL, 't' },
		{ "publisher", required_argument, NULL, 'p' },
		{ "expires", required_argument, NULL, 'e' },
		{ "out", required_argument, NULL, 'o' },
		{ "new", no_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 }
	};
	int ch, ret = DONE;

	optind = 0;		/* starts anew, with GNU's and BSD's getopt */
	while (ret == DONE &&
	    (ch = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (ch == 'r')
			ret = note(in->root, &in->nroot, TRUST_ROOTS, optarg);
		else if (ch == 't')
			ret = set_threshold(in, optarg);
		else if (ch == 'p')
			ret = note(in->publisher, &in->npublisher,
			    TRUST_PUBLISHERS, optarg);
		else if (ch == 'e')
			ret = set_expires(in, optarg);
		else if (ch == 'o')
			in->out = optarg;
		else if (ch == 'n')
			in->anew = true;
		else
			return (-1);
	}
	return (ret == DONE && optind != argc ? -1 : ret);
}

/* The key that `pkgcast keys generate ~/.pkgcast/root.key` makes. */
static int
default_root(struct init *in, const struct pkgcast_conf *c)
{
	struct parse_error err;
	char *file;
	int ret;

	if ((file = home_file(c, "root.key", &err)) == NULL)
		return (fail("%s", err.reason));
	if (access(file, F_OK) == -1)
		ret = fail("%s: %s: make a root key with \"pkgcast keys "
		    "generate %s\", or name one with --root", file,
		    strerror(errno), file);
	else
		ret = add_root(in, file);
	free(file);
	return (ret);
}

/* The key that `pkgcast keys generate` makes, for all sets. */
static int
default_publisher(struct init *in, const struct pkgcast_conf *c)
{
	char *file = NULL, *key;
	struct parse_error err;
	int ret = FAILED;

	if ((key = home_key(c, &err)) == NULL ||
	    (file = home_public(key, &err)) == NULL)
		(void)fail("%s", err.reason);
	else if ((ret = add_publisher(in, file)) != DONE)
		(void)fail("make a publisher's key with \"pkgcast keys "
		    "generate\", or name one with --publisher");
	free(key);
	free(file);
	return (ret);
}

/* Publishers first: root keys may ask for passwords. */
static int
read_keys(struct init *in, const struct pkgcast_conf *c)
{
	struct trust_doc *d = &in->doc;
	size_t i;
	int ret;

	ret = in->npublisher == 0 ? default_publisher(in, c) : DONE;
	for (i = 0; ret == DONE && i < in->npublisher; i++)
		ret = add_publisher(in, in->publisher[i]);
	if (ret == DONE && in->nroot == 0)
		ret = default_root(in, c);
	for (i = 0; ret == DONE && i < in->nroot; i++)
		ret = add_root(in, in->root[i]);
	if (d->threshold == 0)
		d->threshold = (unsigned)d->nroot;
	if (ret == DONE && d->threshold > d->nroot)
		ret = fail("--threshold %u needs as many root keys, given are "
		    "%zu", d->threshold, d->nroot);
	return (ret);
}

/* The whole document, verified as a master and an edge will do it. */
static int
make(const struct init *in, struct buf *b)
{
	const struct trust_doc *d = &in->doc;
	struct parse_error err = { .line = 0 };
	size_t i, signed_len;
	struct trust *t;
	int n;

	if (trust_doc_write(b, d) == -1)
		return (fail("the trust document would be too long"));
	signed_len = b->len;
	for (i = 0; i < d->nroot; i++)
		if (seckey_sign(in->key[i], b->p, signed_len,
		    "pkgcast trust document, version 1", b) == -1)
			return (fail("the trust document would be too long"));
	if ((t = trust_new(d->root, d->nroot, d->threshold)) == NULL)
		return (fail("%s", strerror(errno)));
	n = trust_update(t, b->p, b->len, &err);
	trust_destroy(&t);
	return (n == 1 ? DONE : fail("%s", err.reason));
}

/*
 * A folder that is made if needed; run as root it gets the owner.  Folders
 * above it that are missing, too, are for everybody to pass.
 */
static int
open_folder(int dirfd, const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	bool new;
	int fd;

	new = faccessat(dirfd, path, F_OK, 0) == -1;
	if (new && fd_mkdirs(dirfd, path, 0755) == -1)
		return (-1);
	if ((fd = fd_open_dir(dirfd, path)) == -1)
		return (-1);
	if (new && (fchmod(fd, mode) == -1 ||
	    (geteuid() == 0 && fchown(fd, uid, gid) == -1)))
		fd_close(&fd);
	return (fd);
}

/* Whom the master's files belong to: its state folder's owner, or its user. */
static int
find_owner(const struct trust_place *p, uid_t *uid, gid_t *gid)
{
	const struct passwd *pw;
	struct stat st;

	if (stat(p->state, &st) == 0) {
		*uid = st.st_uid;
		*gid = st.st_gid;
		return (DONE);
	}
	*uid = geteuid();
	*gid = getegid();
	if (geteuid() != 0)
		return (DONE);
	if ((pw = getpwnam(p->user)) == NULL)
		return (fail("user \"%s\" does not exist: make it, or set "
		    "\"user\" in the master's configuration", p->user));
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
	return (DONE);
}

int
trust_folder(const struct trust_place *p, uid_t *uid, gid_t *gid)
{
	int statefd, trustfd = -1;

	if (find_owner(p, uid, gid) != DONE)
		return (-1);
	if ((statefd = open_folder(AT_FDCWD, p->state, 0750, *uid, *gid)) ==
	    -1 || (trustfd = open_folder(statefd, "trust", 0755, *uid,
	    *gid)) == -1)
		(void)fail("%s/trust: %s", p->state, strerror(errno));
	fd_close(&statefd);
	return (trustfd);
}

static int
write_state(const struct trust_place *p, const struct buf *b)
{
	int trustfd, ret = FAILED;
	uid_t uid;
	gid_t gid;

	if ((trustfd = trust_folder(p, &uid, &gid)) == -1)
		return (FAILED);
	if (faccessat(trustfd, FIRST, F_OK, 0) == 0)
		(void)fail("%s/trust/%s is there already: a trust document is "
		    "made once", p->state, FIRST);
	else if (fd_replace(trustfd, FIRST, b->p, b->len, 0644) == -1 ||
	    (geteuid() == 0 && fchownat(trustfd, FIRST, uid, gid,
	    AT_SYMLINK_NOFOLLOW) == -1))
		(void)fail("%s/trust/%s: %s", p->state, FIRST,
		    strerror(errno));
	else {
		(void)printf("Written: %s/trust/%s\n", p->state, FIRST);
		ret = DONE;
	}
	fd_close(&trustfd);
	return (ret);
}

static int
write_out(const char *file, const struct buf *b)
{

	if (access(file, F_OK) == 0)
		return (fail("%s is there already; it is not overwritten",
		    file));
	if (fd_replace(AT_FDCWD, file, b->p, b->len, 0644) == -1)
		return (fail("%s: %s", file, strerror(errno)));
	(void)printf("Written: %s\n", file);
	return (DONE);
}

static void
print_next(const struct init *in, const char *conf)
{
	const struct trust_doc *d = &in->doc;
	char key[PUBKEY_TEXT], expires[DATE_ISO];
	size_t i;

	(void)printf("It expires %s; from then on no new head is accepted.\n\n"
	    "These lines belong into %s and into every edge.conf:\n",
	    date_iso(d->expires, expires), conf);
	for (i = 0; i < d->nroot; i++)
		(void)printf("root-key = \"%s\"\n",
		    pubkey_text(&d->root[i], key));
	if (d->threshold < d->nroot)
		(void)printf("root-threshold = \"%u\"\n", d->threshold);
	(void)printf("\nThen start pkgcast-master; send it HUP if it runs "
	    "with these root keys already.\n");
}

/* Refuses early, before root keys ask for passwords. */
static int
check_first(const struct init *in, const struct trust_place *p)
{
	struct stat st;
	char *path;
	int ret = DONE;

	if (in->out != NULL)
		return (DONE);
	if (asprintf(&path, "%s/trust/%s", p->state, FIRST) == -1)
		return (fail("out of memory"));
	if (stat(path, &st) == 0)
		ret = fail("%s is there already: a trust document is made "
		    "once", path);
	free(path);
	return (ret);
}

/* Where sets were published edges hold a trust document already, and take no
 * other one as version 1. */
static int
check_unpublished(const struct init *in, const struct pkgcast_conf *c)
{
	struct parse_error err;
	struct stat st;
	char *path;
	int ret = DONE;

	if (in->out != NULL || in->anew)
		return (DONE);
	if ((path = home_file(c, "signed", &err)) == NULL)
		return (fail("%s", err.reason));
	if (stat(path, &st) == 0)
		ret = fail("%s: sets were published with these keys already, "
		    "so edges hold a trust document.  If this master has lost "
		    "it, fetch http://EDGE/.pkgcast/trust from one of them into "
		    "a file, and `pkgcast trust restore` that.  For other "
		    "edges than those, repeat this with --new", path);
	free(path);
	return (ret);
}

int
trust_init(const struct pkgcast_conf *c, int argc, char *argv[])
{
	struct trust_place place = { .state = NULL };
	struct init in = { .out = NULL };
	struct buf b = BUF_INIT(TRUST_MAX);
	struct parse_error err;
	size_t i;
	int ret;

	in.doc.version = 1;
	in.doc.created = clock_real();
	in.doc.expires = in.doc.created + (int64_t)DAYS_DEFAULT * DAY;
	if ((ret = take_options(&in, argc, argv)) != DONE)
		return (ret == -1 ? -1 : USAGE);
	if (in.out == NULL && trust_place_read(&place, c->master, &err) == -1) {
		(void)fail("%s (--out FILE needs no master)", err.reason);
		return (USAGE);
	}
	ret = check_first(&in, &place);
	if (ret == DONE)
		ret = check_unpublished(&in, c);
	if (ret == DONE)
		ret = read_keys(&in, c);
	if (ret == DONE)
		ret = make(&in, &b);
	if (ret == DONE)
		ret = in.out != NULL ? write_out(in.out, &b) :
		    write_state(&place, &b);
	if (ret == DONE)
		print_next(&in, c->master);
	for (i = 0; i < in.doc.nroot; i++)
		seckey_destroy(&in.key[i]);
	trust_doc_free(&in.doc);
	trust_place_free(&place);
	buf_free(&b);
	return (ret);
}
