/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_MONITOR_H
#define	KEYS_MONITOR_H

#include <stdint.h>

/*
 * What becomes of a ZeroMQ socket's connections and handshakes
 * (zmq_socket_monitor(3)).  Raw sockets, all of one thread and context.
 */

/* The socket to poll, which tells of what comes from now on; the caller closes it
 * after the other one.  NULL: errno. */
void		*monitor_open(void *context, void *socket, int events);
/* The next event, with its value (NULL: not wanted); 0: none there. */
unsigned	 monitor_take(void *monitor, uint32_t *value);

#endif
