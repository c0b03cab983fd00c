/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_MONITOR_H
#define	KEYS_MONITOR_H

#include <stdint.h>

/*
 * What becomes of a ZeroMQ socket's connections and handshakes
 * (zmq_socket_monitor(3)).  Raw sockets, all of one thread and context.
 */

/* The socket to poll, which tells of what comes from now on.  NULL: errno. */
void		*monitor_open(void *context, void *socket, int events);
/* Before the socket itself is closed: an event that nobody can take any more
 * would have ZeroMQ's own thread wait for ever.  Clears *monitor. */
void		 monitor_close(void *socket, void **monitor);
/* The next event, with its value (NULL: not wanted); 0: none there. */
unsigned	 monitor_take(void *monitor, uint32_t *value);

#endif
