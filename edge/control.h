/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_CONTROL_H
#define	EDGE_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The control socket: what an operator on this host tells a running edge.  It is
 * the file `control` in the state folder, for the daemon's user alone.  A client
 * sends one line, such as "mark debian", and gets one: "ok TEXT" or "error:
 * TEXT".
 */
#define	CONTROL_LINE	256		/* bytes of a line, with LF */
#define	CONTROL_ANSWER	256		/* bytes of a text, with NUL */

struct control;

/* Whether the socket's path is one that the system takes: below 100 bytes or so. */
bool	 control_fits(const char *state);

/*
 * Listens in the folder `state`, which statedir (borrowed) is too, and starts a
 * thread; after privileges are dropped, by who holds the folder's lock: a socket
 * that is there already is a dead process's.  command() gets each line, without
 * LF, in that thread, and fills in the answer's text: 0 for "ok", -1 for
 * "error: ".  Clients come in turn, each has a second for its line.  NULL: errno.
 */
struct control *control_start(int statedir, const char *state,
	    int (*command)(void *arg, const char *line, char *answer,
	    size_t size), void *arg);
/* Waits for a command that runs; the socket is removed. */
void	 control_stop(struct control **c);

/*
 * The client's end: sends a line (without LF) and waits for half a minute.  0:
 * "ok", 1: "error", and the text in answer; -1: errno, ENOENT or ECONNREFUSED
 * where nobody listens, EPROTO where the answer is none.
 */
int	 control_ask(const char *state, const char *line,
	    char answer[CONTROL_ANSWER]);

#endif
