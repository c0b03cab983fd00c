/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Passwords of secret keys, from the terminal or a line of standard input.
 * Called by the operators' commands, in their only thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <sodium.h>

#include "keys/minisign.h"
#include "keys/password.h"
#include "proto/fd.h"

#define	CONTROL_C	3

/*
 * One line without its LF, a byte at a time: what follows belongs to the next
 * reader.  An empty one is good: not every password is ours to choose.
 */
static int
read_line(int fd, char *out, size_t size)
{
	size_t n = 0;
	ssize_t got;

	for (;;) {
		if ((got = read(fd, out + n, 1)) == -1 && errno == EINTR)
			continue;
		if (got != 1 || out[n] == '\n')
			break;
		if (out[n] == CONTROL_C || out[n] == '\0' || ++n == size)
			goto none;
	}
	if (got == -1 || (got == 0 && n == 0))
		goto none;
	out[n] = '\0';
	return (0);
none:
	sodium_memzero(out, size);
	return (-1);
}

/*
 * Signals of the keyboard are off meanwhile, so that none leaves the terminal
 * without echo: ^C arrives as a byte and gives up.
 */
static int
ask(int tty, const char *question, const char *what, char *out, size_t size)
{
	struct termios old, quiet;
	int ret;

	if (tcgetattr(tty, &old) == -1)
		return (-1);
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
	if (tcsetattr(tty, TCSAFLUSH, &quiet) == -1)
		return (-1);
	(void)dprintf(tty, "%s %s: ", question, what);
	ret = read_line(tty, out, size);
	(void)dprintf(tty, "\n");
	(void)tcsetattr(tty, TCSAFLUSH, &old);
	return (ret);
}

/* The terminal, or -1: read standard input. */
static int
open_tty(void)
{

	return (isatty(STDIN_FILENO) ?
	    open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC) : -1);
}

int
password_ask(void *what, char *out, size_t size)
{
	int ret, tty;

	if ((tty = open_tty()) == -1)
		return (read_line(STDIN_FILENO, out, size));
	ret = ask(tty, "Password for", what, out, size);
	fd_close(&tty);
	return (ret);
}

int
password_new(const char *what, char *out, size_t size)
{
	bool same = false;
	char *again;
	int ret, tty;

	if ((tty = open_tty()) == -1)
		return (read_line(STDIN_FILENO, out, size));
	if ((again = sodium_malloc(size)) == NULL) {
		fd_close(&tty);
		return (-1);
	}
	do {
		ret = ask(tty, "New password for", what, out, size);
		if (ret == 0)
			ret = ask(tty, "The same again for", what, again,
			    size);
		same = ret == 0 && strcmp(out, again) == 0;
		if (ret == 0 && !same)
			(void)dprintf(tty, "They differ; once more.\n");
	} while (ret == 0 && !same);
	sodium_free(again);
	fd_close(&tty);
	return (ret);
}
