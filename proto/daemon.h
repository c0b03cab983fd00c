/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_DAEMON_H
#define	PROTO_DAEMON_H

#include <stdbool.h>

#include "proto/buf.h"

/*
 * What both daemons do around their work: options, user, signals.
 */
struct daemon_options {
	const char	*file;		/* -f */
	bool		 test, verbose;	/* -t, -v */
	const char	*operand;	/* of the command; NULL: none given */
};
/*
 * getopt; prints usage and exits 2 on an error.  command: "word operand", as
 * usage shows it, a word that may be given with its one operand; NULL: none is.
 */
void	daemon_options(struct daemon_options *o, const char *program,
	    const char *default_file, const char *command, int argc,
	    char *argv[]);
/*
 * Refuses secrets that others can read: -1 and err names the file.  A file
 * that is absent is no fault.
 */
int	daemon_secret_ok(const char *path, struct parse_error *err);
/* Raises RLIMIT_NOFILE to what is allowed. */
void	daemon_raise_files(void);
/* Started as root: whether `user` exists.  -1 and err. */
int	daemon_user_ok(const char *user, struct parse_error *err);
/*
 * Started as root: become `user` (groups, gid, uid, read back); "root" stays.
 * Otherwise nothing.  -1 and err, when the user does not exist or it fails.
 */
int	daemon_become(const char *user, struct parse_error *err);
/* Gives path (no recursion) to `user` when started as root.  0 or -1 errno. */
int	daemon_own(const char *path, const char *user);
/*
 * Blocks TERM, INT, HUP for all threads started later, ignores PIPE; call
 * before any thread.  daemon_signal() waits for the next one of them.
 */
void	daemon_block_signals(void);
int	daemon_signal(void);

#define	PKGCAST_VERSION	"0.1"

#endif
