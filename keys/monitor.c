/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <zmq.h>

#include "keys/monitor.h"

#define	ENDPOINT	64		/* bytes */
#define	EVENT		6		/* bytes: kind (16 bits), value (32) */

void *
monitor_open(void *context, void *socket, int events)
{
	char endpoint[ENDPOINT];
	int any = 0, error;
	void *m;

	(void)snprintf(endpoint, sizeof(endpoint), "inproc://monitor-%p",
	    socket);
	if (zmq_socket_monitor(socket, endpoint, events) == -1 ||
	    (m = zmq_socket(context, ZMQ_PAIR)) == NULL)
		return (NULL);
	/* No limit: ZeroMQ's own thread would wait for us to read. */
	if (zmq_setsockopt(m, ZMQ_RCVHWM, &any, sizeof(any)) == 0 &&
	    zmq_connect(m, endpoint) == 0)
		return (m);
	error = errno;
	zmq_close(m);
	errno = error;
	return (NULL);
}

unsigned
monitor_take(void *monitor, uint32_t *value)
{
	uint8_t event[EVENT] = { 0 };
	size_t size = sizeof(int);
	uint16_t kind;
	int more = 0;

	if (zmq_recv(monitor, event, sizeof(event), ZMQ_DONTWAIT) == -1)
		return (0);
	/* The endpoint. */
	while (zmq_getsockopt(monitor, ZMQ_RCVMORE, &more, &size) == 0 &&
	    more && zmq_recv(monitor, NULL, 0, ZMQ_DONTWAIT) != -1)
		continue;
	memcpy(&kind, event, sizeof(kind));
	if (value != NULL)
		memcpy(value, event + sizeof(kind), sizeof(*value));
	return (kind);
}
