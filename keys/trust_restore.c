/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `pkgcast trust restore`: gives a master that has lost its trust document the
 * versions that edges still hold, as they serve them.  Called by cmd_trust.c, in
 * the command's only thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keys/trust.h"
#include "keys/trust_init.h"
#include "keys/trust_restore.h"
#include "proto/fd.h"

enum { DONE = 0, FAILED = 1, USAGE = 2 };

static int
fail(const char *what, const char *why)
{

	(void)fprintf(stderr, "pkgcast: %s: %s\n", what, why);
	return (FAILED);
}

/* Files of versions that were added belong to the master. */
static int
give(int trustfd, uint64_t from, uint64_t to, uid_t uid, gid_t gid)
{
	char name[24];

	for (; geteuid() == 0 && from <= to; from++) {
		(void)snprintf(name, sizeof(name), "%llu",
		    (unsigned long long)from);
		if (fchownat(trustfd, name, uid, gid,
		    AT_SYMLINK_NOFOLLOW) == -1)
			return (-1);
	}
	return (0);
}

static int
add(struct trust *t, const struct trust_place *p, const char *file,
    const char *text, size_t len)
{
	struct parse_error err = { .reason = "" };
	int trustfd, ret = FAILED, added;
	uint64_t before;
	uid_t uid;
	gid_t gid;

	if ((trustfd = trust_folder(p, &uid, &gid)) == -1)
		return (FAILED);
	if (trust_load(t, trustfd, &err) == -1) {
		(void)fail(p->state, err.reason);
		goto out;
	}
	before = trust_version(t);
	if ((added = trust_update(t, text, len, &err)) == -1) {
		(void)fail(file, err.reason);
		if (before > 0)
			(void)fprintf(stderr, "If the one in %s/trust was made "
			    "by mistake: stop pkgcast-master, remove it, and "
			    "repeat this.\n", p->state);
		goto out;
	}
	if (trust_save(t, trustfd) == -1 || give(trustfd, before + 1,
	    trust_version(t), uid, gid) == -1) {
		(void)fail(p->state, strerror(errno));
		goto out;
	}
	(void)printf("%s/trust has versions up to %llu, %d of them new; a "
	    "running pkgcast-master takes them at once\n", p->state,
	    (unsigned long long)trust_version(t), added);
	ret = DONE;
out:
	fd_close(&trustfd);
	return (ret);
}

int
trust_restore(const struct pkgcast_conf *c, int argc, char *argv[])
{
	struct trust_place p = { .state = NULL };
	struct parse_error err;
	struct trust *t = NULL;
	char *text = NULL;
	size_t len;
	int ret = FAILED;

	if (argc != 2 || argv[1][0] == '-')
		return (-1);
	if (trust_place_read(&p, c->master, &err) == -1) {
		(void)fprintf(stderr, "pkgcast: %s\n", err.reason);
		return (USAGE);
	}
	if (p.nroot == 0)
		(void)fail(c->master, "has no root-key: give it those that "
		    "every edge.conf has");
	else if ((text = fd_slurp(AT_FDCWD, argv[1], TRUST_ALL_MAX, &len)) ==
	    NULL)
		(void)fail(argv[1], strerror(errno));
	else if (len == 0)
		(void)fail(argv[1], "is empty");
	else if ((t = trust_new(p.root, p.nroot, p.threshold)) == NULL)
		(void)fail(c->master, errno == EINVAL ? "root-threshold is "
		    "above the number of different root keys" :
		    strerror(errno));
	else
		ret = add(t, &p, argv[1], text, len);
	trust_destroy(&t);
	free(text);
	trust_place_free(&p);
	return (ret);
}
