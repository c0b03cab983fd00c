/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <zmq.h>

#include "keys/monitor.h"

#define	ENDPOINT	64		/* bytes */
#define	EVENT		6		/* bytes: kind (16 bits), value (32) */

void *
monitor_open(void *context, void *socket, int events)
{
	static _Atomic uint64_t opened;
	char endpoint[ENDPOINT];
	int any = 0, error;
	void *m = NULL;

	/* Never used before: ZeroMQ forgets a name some time after its end. */
	(void)snprintf(endpoint, sizeof(endpoint), "inproc://monitor-%" PRIu64,
	    atomic_fetch_add(&opened, 1));
	if (zmq_socket_monitor(socket, endpoint, events) == -1)
		return (NULL);
	/* No limit: ZeroMQ's own thread would wait for us to read. */
	if ((m = zmq_socket(context, ZMQ_PAIR)) != NULL &&
	    zmq_setsockopt(m, ZMQ_RCVHWM, &any, sizeof(any)) == 0 &&
	    zmq_connect(m, endpoint) == 0)
		return (m);
	error = errno;
	monitor_close(socket, &m);
	errno = error;
	return (NULL);
}

void
monitor_close(void *socket, void **mp)
{

	(void)zmq_socket_monitor(socket, NULL, 0);
	if (*mp != NULL)
		zmq_close(*mp);
	*mp = NULL;
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
