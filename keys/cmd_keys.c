/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `pkgcast keys`: makes publishers' and root keys, and shows what a key file
 * holds.  Called by master/pkgcast.c, in its only thread.
 */

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "keys/armor.h"
#include "keys/cert.h"
#include "keys/cmd_keys.h"
#include "keys/home.h"
#include "keys/minisign.h"
#include "keys/password.h"
#include "proto/fd.h"

enum { DONE = 0, FAILED = 1, USAGE = 2 };

#define	PATH_SIZE	4096

static int
usage(void)
{

	(void)fprintf(stderr,
	    "usage: pkgcast keys generate [-W | --no-password] [FILE]\n"
	    "       pkgcast keys show [FILE]\n");
	return (USAGE);
}

static int
fail(const char *what, const char *why)
{

	(void)fprintf(stderr, "pkgcast: %s%s%s\n", what,
	    what[0] != '\0' ? ": " : "", why);
	return (FAILED);
}

/* The folder of path, which nobody else may enter, if it is not there yet. */
static int
make_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_SIZE];

	if (slash == NULL || slash == path)
		return (0);
	if ((size_t)(slash - path) >= sizeof(dir)) {
		errno = ENAMETOOLONG;
		return (-1);
	}
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = '\0';
	return (mkdir(dir, 0700) == -1 && errno != EEXIST ? -1 : 0);
}

/* A new password in guarded memory, or NULL after a message. */
static char *
new_password(const char *file)
{
	char *password;

	if ((password = sodium_malloc(SECKEY_PASSWORD)) == NULL) {
		(void)fail(file, "out of memory");
		return (NULL);
	}
	if (password_new(file, password, SECKEY_PASSWORD) == 0 &&
	    password[0] != '\0')
		return (password);
	sodium_free(password);
	(void)fail(file, "no password given (-W makes a key without one)");
	return (NULL);
}

static int
make_key(const char *file, const char *public, const char *password)
{
	char text[PUBKEY_TEXT], id[17];
	struct seckey *k;

	if ((k = seckey_new()) == NULL)
		return (fail(file, "out of memory"));
	if (seckey_write(k, file, public, password) == -1) {
		(void)fprintf(stderr, "pkgcast: cannot write %s and %s: %s\n",
		    file, public, strerror(errno));
		seckey_destroy(&k);
		return (FAILED);
	}
	(void)printf("key id:      %s\npublic key:  %s\n"
	    "secret key:  %s%s\npublic file: %s\n",
	    pubkey_id(seckey_pubkey(k), id),
	    pubkey_text(seckey_pubkey(k), text), file,
	    password == NULL ? " (without password)" : "", public);
	(void)printf("Keep the secret key safe, and a copy of it elsewhere.\n"
	    "Which keys may sign which sets says the trust document: "
	    "\"pkgcast trust init\" makes it.\n");
	seckey_destroy(&k);
	return (DONE);
}

static int
generate_file(const char *file, bool encrypt)
{
	struct parse_error err;
	char *password = NULL, *public;
	int ret = FAILED;

	if ((public = home_public(file, &err)) == NULL)
		return (fail("", err.reason));
	/* Before a password is asked for; seckey_write() is what makes sure. */
	if (access(file, F_OK) == 0)
		(void)fail(file, "is there already; it is not overwritten");
	else if (access(public, F_OK) == 0)
		(void)fail(public, "is there already; it is not overwritten");
	else if (make_folder(file) == -1)
		(void)fail(file, strerror(errno));
	else if (!encrypt || (password = new_password(file)) != NULL)
		ret = make_key(file, public, password);
	sodium_free(password);
	free(public);
	return (ret);
}

static int
generate(const struct pkgcast_conf *c, int argc, char *argv[])
{
	static const struct option options[] = {
		{ "no-password", no_argument, NULL, 'W' },
		{ NULL, 0, NULL, 0 }
	};
	struct parse_error err;
	bool encrypt = true;
	char *file = NULL;
	int ch, ret;

	optind = 0;		/* starts anew, with GNU's and BSD's getopt */
	while ((ch = getopt_long(argc, argv, "W", options, NULL)) != -1) {
		if (ch != 'W')
			return (usage());
		encrypt = false;
	}
	if (argc - optind > 1)
		return (usage());
	if (argc - optind == 1)
		return (generate_file(argv[optind], encrypt));
	if ((file = home_key(c, &err)) == NULL)
		return (fail("", err.reason));
	ret = generate_file(file, encrypt);
	free(file);
	return (ret);
}

static void
print_pubkey(const struct pubkey *k, const char *kind)
{
	char text[PUBKEY_TEXT], id[17];

	(void)printf("kind:        %s\nkey id:      %s\npublic key:  %s\n",
	    kind, pubkey_id(k, id), pubkey_text(k, text));
}

static int
show_minisign(const char *file)
{
	struct parse_error err;
	struct pubkey public;
	struct seckey *k;

	if (pubkey_read(&public, file) == 0) {
		print_pubkey(&public, "minisign public key");
		return (DONE);
	}
	/* A secret key's id is encrypted, too. */
	k = seckey_read(file, password_ask, (void *)(uintptr_t)file, &err);
	if (k == NULL)
		return (fail("", err.reason));
	print_pubkey(seckey_pubkey(k), "minisign secret key");
	seckey_destroy(&k);
	return (DONE);
}

static int
show_cert(const char *file)
{
	struct parse_error err;
	struct cert c;

	if (cert_read(&c, file, &err) == -1) {
		(void)fail("", err.reason);
		return (fail(file, "neither a minisign key nor a certificate "
		    "that can be read"));
	}
	(void)printf("kind:        CURVE certificate%s\n",
	    c.secret_key[0] != '\0' ? ", with its secret key" : "");
	if (c.name[0] != '\0')
		(void)printf("name:        %s\n", c.name);
	if (c.url[0] != '\0')
		(void)printf("url:         %s\n", c.url);
	(void)printf("public key:  %s\n", c.public_key);
	sodium_memzero(&c, sizeof(c));
	return (DONE);
}

static int
show_file(const char *file)
{
	char start[sizeof(ARMOR_UNTRUSTED) - 1] = "";
	bool minisign;
	int fd;

	if ((fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) == -1)
		return (fail(file, strerror(errno)));
	minisign = fd_pread_all(fd, start, sizeof(start), 0) == 0 &&
	    memcmp(start, ARMOR_UNTRUSTED, sizeof(start)) == 0;
	fd_close(&fd);
	return (minisign ? show_minisign(file) : show_cert(file));
}

static int
show(const struct pkgcast_conf *c, int argc, char *argv[])
{
	struct parse_error err;
	char *file = NULL, *key;
	int ret;

	if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
		return (usage());
	if (argc == 2)
		return (show_file(argv[1]));
	if ((key = home_key(c, &err)) == NULL ||
	    (file = home_public(key, &err)) == NULL)
		ret = fail("", err.reason);
	else
		ret = show_file(file);
	free(key);
	free(file);
	return (ret);
}

int
cmd_keys(const struct pkgcast_conf *c, int argc, char *argv[])
{

	if (argc < 2)
		return (usage());
	if (keys_init() == -1)
		return (fail("", "libsodium cannot be used"));
	if (strcmp(argv[1], "generate") == 0)
		return (generate(c, argc - 1, argv + 1));
	if (strcmp(argv[1], "show") == 0)
		return (show(c, argc - 1, argv + 1));
	return (usage());
}
