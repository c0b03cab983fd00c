/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Comes as an edge to one of a master's sockets and leaves again, many times: a
 * connection, the CURVE handshake, a subscription on the announce socket, the
 * end.  integration/flat looks at what the master keeps of it.
 *
 * usage: bench_reconnect announce|lease ENDPOINT COUNT
 *
 * Standard input has three lines: the master's public key, the edge's public and
 * secret keys.  Prints how often it was there, each STEP times.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zmq.h>

#include "keys/cert.h"
#include "keys/zap.h"
#include "proto/check.h"

#define	STEP		50
#define	PATIENCE_MS	30000
#define	EVENTS		(ZMQ_EVENT_HANDSHAKE_SUCCEEDED | \
			ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | \
			ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | \
			ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

typedef char line_text[CURVE_TEXT + 1];		/* a key and LF */

static void
read_key(line_text key)
{

	if (fgets(key, sizeof(line_text), stdin) == NULL ||
	    strlen(key) != CURVE_TEXT || key[CURVE_TEXT - 1] != '\n')
		errx(2, "standard input has not three keys");
	key[CURVE_TEXT - 1] = '\0';
}

static void
set_int(void *s, int option, int value)
{

	CHECK(zmq_setsockopt(s, option, &value, sizeof(value)) == 0);
}

/* The next event of a socket's monitor. */
static unsigned
next_event(void *monitor)
{
	zmq_msg_t m, address;
	uint16_t event;

	CHECK(zmq_msg_init(&m) == 0 && zmq_msg_init(&address) == 0);
	if (zmq_msg_recv(&m, monitor, 0) == -1 ||
	    zmq_msg_recv(&address, monitor, 0) == -1)
		errx(1, "no handshake within %d s", PATIENCE_MS / 1000);
	CHECK(zmq_msg_size(&m) == 6);
	memcpy(&event, zmq_msg_data(&m), sizeof(event));
	CHECK(zmq_msg_close(&m) == 0 && zmq_msg_close(&address) == 0);
	return (event);
}

static void
visit(void *ctx, int type, const char *endpoint, line_text key[3],
    unsigned nth)
{
	char watch[40];
	void *s, *monitor;
	unsigned event;

	(void)snprintf(watch, sizeof(watch), "inproc://visit.%u", nth);
	CHECK((s = zmq_socket(ctx, type)) != NULL);
	CHECK((monitor = zmq_socket(ctx, ZMQ_PAIR)) != NULL);
	set_int(s, ZMQ_LINGER, 0);
	set_int(monitor, ZMQ_LINGER, 0);
	set_int(monitor, ZMQ_RCVTIMEO, PATIENCE_MS);
	CHECK(zap_client(s, key[0], key[1], key[2]) == 0);
	CHECK(zmq_socket_monitor(s, watch, EVENTS) == 0);
	CHECK(zmq_connect(monitor, watch) == 0);
	if (type == ZMQ_SUB)
		CHECK(zmq_setsockopt(s, ZMQ_SUBSCRIBE, "", 0) == 0);
	if (zmq_connect(s, endpoint) == -1)
		errx(2, "%s: %s", endpoint, zmq_strerror(zmq_errno()));
	if ((event = next_event(monitor)) != ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
		errx(1, "visit %u: the handshake failed (event %#x)", nth,
		    event);
	CHECK(zmq_socket_monitor(s, NULL, 0) == 0);
	CHECK(zmq_close(s) == 0 && zmq_close(monitor) == 0);
}

int
main(int argc, char **argv)
{
	line_text key[3];
	unsigned long count;
	unsigned i;
	void *ctx;
	int type;

	if (argc != 4 || (count = strtoul(argv[3], NULL, 10)) == 0 ||
	    (strcmp(argv[1], "announce") != 0 && strcmp(argv[1], "lease") != 0))
		errx(2, "usage: bench_reconnect announce|lease ENDPOINT COUNT");
	type = strcmp(argv[1], "announce") == 0 ? ZMQ_SUB : ZMQ_DEALER;
	for (i = 0; i < 3; i++)
		read_key(key[i]);
	CHECK((ctx = zmq_ctx_new()) != NULL);
	for (i = 1; i <= count; i++) {
		visit(ctx, type, argv[2], key, i);
		if (i % STEP == 0 || i == count) {
			(void)printf("%u\n", i);
			(void)fflush(stdout);
		}
	}
	CHECK(zmq_ctx_term(ctx) == 0);
	return (0);
}
