/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_COMMAND_H
#define	MASTER_COMMAND_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "proto/buf.h"
#include "proto/config.h"

/* What the commands of pkgcast(1) share.  One thread, but where said. */
enum command_exit {
	COMMAND_DONE = 0,
	COMMAND_FAILED = 1,		/* nothing was published */
	COMMAND_USAGE = 2,		/* or configuration */
	COMMAND_UNSWITCHED = 3,		/* published, edges are missing */
	COMMAND_INTERRUPTED = 4,	/* repeat to go on */
	COMMAND_DIFFERS = 5		/* verify found differences */
};

/* Set by TERM, INT and HUP once command_catch() was called; any thread. */
extern volatile sig_atomic_t command_stop;
/* The first signal asks to stop, the second one ends the program. */
void	command_catch(void);

/* -v was given. */
extern bool command_verbose;

/* Prints how a command is called, to stderr; returns COMMAND_USAGE. */
int	command_usage(const char *command);

/* Whether an operand is a set's name; says so where it is none. */
bool	command_set_ok(const char *set);
/* Sleeps; shorter when a signal came. */
void	command_sleep_ms(long ms);
/* "1.2 GB" and the like. */
#define	COMMAND_BYTES	24
char	*command_bytes(unsigned long long n, char out[COMMAND_BYTES]);

int	cmd_publish(const struct pkgcast_conf *c, int argc, char **argv);
int	cmd_rollback(const struct pkgcast_conf *c, int argc, char **argv);
int	cmd_status(const struct pkgcast_conf *c, int argc, char **argv);
int	cmd_verify(const struct pkgcast_conf *c, int argc, char **argv);
int	cmd_edge(const struct pkgcast_conf *c, int argc, char **argv);

#endif
