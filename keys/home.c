/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where an operator's keys are.  Called by the operators' commands, in their
 * only thread.
 */

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keys/home.h"

#define	KEY_SUFFIX	".key"

static char *
join(struct parse_error *err, const char *a, size_t len, const char *b)
{
	size_t size = len + strlen(b) + 1;
	char *p;

	if ((p = malloc(size)) == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		return (NULL);
	}
	memcpy(p, a, len);
	memcpy(p + len, b, size - len);
	return (p);
}

char *
home_dir(const struct pkgcast_conf *c, struct parse_error *err)
{
	const char *home = c->home, *below = "";
	const struct passwd *pw;

	if (home == NULL) {
		below = "/.pkgcast";
		home = getenv("HOME");
		if ((home == NULL || home[0] != '/') &&
		    (pw = getpwuid(getuid())) != NULL)
			home = pw->pw_dir;
	}
	if (home == NULL || home[0] == '\0') {
		(void)parse_fail(err, 0,
		    "no home folder: set \"home\" in pkgcast.conf");
		return (NULL);
	}
	return (join(err, home, strlen(home), below));
}

char *
home_file(const struct pkgcast_conf *c, const char *name,
    struct parse_error *err)
{
	char *home, *dir, *path = NULL;

	if ((home = home_dir(c, err)) == NULL)
		return (NULL);
	if ((dir = join(err, home, strlen(home), "/")) != NULL)
		path = join(err, dir, strlen(dir), name);
	free(dir);
	free(home);
	return (path);
}

char *
home_key(const struct pkgcast_conf *c, struct parse_error *err)
{

	if (c->key != NULL)
		return (join(err, c->key, strlen(c->key), ""));
	return (home_file(c, "publisher" KEY_SUFFIX, err));
}

char *
home_public(const char *key, struct parse_error *err)
{
	size_t len = strlen(key), suffix = sizeof(KEY_SUFFIX) - 1;

	if (len > suffix && strcmp(key + len - suffix, KEY_SUFFIX) == 0)
		len -= suffix;
	return (join(err, key, len, ".pub"));
}
