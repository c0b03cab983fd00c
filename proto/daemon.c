/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What both daemons do around their work: options, secrets' modes, limits, the
 * change from root to an unprivileged user, signals.  Called by the daemons'
 * main(), in its thread.
 */

#include <sys/types.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/check.h"
#include "proto/daemon.h"

#define	EXIT_USAGE	2

static _Noreturn void
usage(const char *program, const char *command)
{

	(void)fprintf(stderr, "usage: %s [-tv] [-f file]\n", program);
	if (command != NULL)
		(void)fprintf(stderr, "       %s [-f file] %s\n", program,
		    command);
	exit(EXIT_USAGE);
}

/* Whether s is the command's word. */
static bool
is_word(const char *command, const char *s)
{
	size_t len = strcspn(command, " ");

	return (strlen(s) == len && memcmp(s, command, len) == 0);
}

void
daemon_options(struct daemon_options *o, const char *program,
    const char *default_file, const char *command, int argc, char *argv[])
{
	int c;

	*o = (struct daemon_options){ .file = default_file };
	while ((c = getopt(argc, argv, "f:tv")) != -1)
		switch (c) {
		case 'f':
			o->file = optarg;
			break;
		case 't':
			o->test = true;
			break;
		case 'v':
			o->verbose = true;
			break;
		default:
			usage(program, command);
		}
	if (optind == argc)
		return;
	if (command == NULL || argc - optind != 2 || o->test || o->verbose ||
	    !is_word(command, argv[optind]))
		usage(program, command);
	o->operand = argv[optind + 1];
}

int
daemon_secret_ok(const char *path, struct parse_error *err)
{
	struct stat st;

	if (stat(path, &st) == -1) {
		if (errno == ENOENT)
			return (0);
		return (parse_fail(err, 0, "%s: %s", path, strerror(errno)));
	}
	if ((st.st_mode & S_IRWXO) != 0)
		return (parse_fail(err, 0,
		    "%s: holds a secret, but its mode is %04o: chmod o-rwx it",
		    path, (unsigned)st.st_mode & 07777u));
	return (0);
}

void
daemon_raise_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1 ||
	    limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	/* What cannot be raised stays: connections are refused at the limit. */
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* True if there is nobody to become. */
static bool
stays(const char *user)
{

	return (geteuid() != 0 || strcmp(user, "root") == 0);
}

int
daemon_user_ok(const char *user, struct parse_error *err)
{

	errno = 0;
	if (stays(user) || getpwnam(user) != NULL)
		return (0);
	return (parse_fail(err, 0, "user \"%s\": %s: add the user, or set \"user\" to another",
	    user, errno == 0 || errno == ENOENT ? "no such user" :
	    strerror(errno)));
}

int
daemon_become(const char *user, struct parse_error *err)
{
	const struct passwd *pw;
	uid_t uid, ruid, euid, suid;
	gid_t gid, rgid, egid, sgid;

	if (stays(user))
		return (0);
	if (daemon_user_ok(user, err) == -1 || (pw = getpwnam(user)) == NULL)
		return (-1);
	uid = pw->pw_uid;
	gid = pw->pw_gid;
	if (uid == 0)
		return (parse_fail(err, 0, "user \"%s\" is root under another name: give it a number of its own",
		    user));
	if (initgroups(user, gid) == -1 || setgid(gid) == -1 ||
	    setuid(uid) == -1)
		return (parse_fail(err, 0, "cannot become user \"%s\": %s",
		    user, strerror(errno)));
	if (getresuid(&ruid, &euid, &suid) == -1 ||
	    getresgid(&rgid, &egid, &sgid) == -1 ||
	    ruid != uid || euid != uid || suid != uid ||
	    rgid != gid || egid != gid || sgid != gid ||
	    setuid(0) != -1 || seteuid(0) != -1)
		return (parse_fail(err, 0,
		    "became user \"%s\", but not for good", user));
	return (0);
}

int
daemon_own(const char *path, const char *user)
{
	const struct passwd *pw;

	if (stays(user))
		return (0);
	errno = 0;
	if ((pw = getpwnam(user)) == NULL) {
		if (errno == 0)
			errno = ENOENT;
		return (-1);
	}
	/* A link below a folder of that user must not give away its target. */
	return (fchownat(AT_FDCWD, path, pw->pw_uid, pw->pw_gid,
	    AT_SYMLINK_NOFOLLOW));
}

static void
our_signals(sigset_t *set)
{

	(void)sigemptyset(set);
	(void)sigaddset(set, SIGTERM);
	(void)sigaddset(set, SIGINT);
	(void)sigaddset(set, SIGHUP);
}

void
daemon_block_signals(void)
{
	sigset_t set;

	our_signals(&set);
	if ((errno = pthread_sigmask(SIG_BLOCK, &set, NULL)) != 0)
		err(1, "pthread_sigmask");
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		err(1, "signal");
}

int
daemon_signal(void)
{
	sigset_t set;
	int n;

	our_signals(&set);
	while ((errno = sigwait(&set, &n)) == EINTR)
		continue;
	CHECK(errno == 0);
	return (n);
}
