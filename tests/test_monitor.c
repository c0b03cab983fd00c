/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a monitor tells of real handshakes, and that ZeroMQ's own thread does not
 * wait for one that is gone.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <zmq.h>

#include "keys/monitor.h"

#define	PATIENCE_MS	10000		/* for what must come */
#define	KEY		41
#define	EVENTS		(ZMQ_EVENT_CONNECTED | ZMQ_EVENT_DISCONNECTED | \
			ZMQ_EVENT_HANDSHAKE_SUCCEEDED | \
			ZMQ_EVENT_CONNECT_RETRIED)

static char server_public[KEY], server_secret[KEY], other_public[KEY];
static void *ctx;		/* of clients */

static int
set_up(void **state)
{
	char secret[KEY];

	(void)state;
	assert_int_equal(zmq_curve_keypair(server_public, server_secret), 0);
	assert_int_equal(zmq_curve_keypair(other_public, secret), 0);
	assert_non_null(ctx = zmq_ctx_new());
	return (0);
}

static int
clean_up(void **state)
{

	(void)state;
	return (zmq_ctx_term(ctx));
}

static void
set_int(void *s, int option, int value)
{

	assert_int_equal(zmq_setsockopt(s, option, &value, sizeof(value)), 0);
}

static void
set_key(void *s, int option, const char *key)
{

	assert_int_equal(zmq_setsockopt(s, option, key, strlen(key)), 0);
}

static void *
new_server(void *of)
{
	void *s;

	assert_non_null(s = zmq_socket(of, ZMQ_ROUTER));
	set_int(s, ZMQ_LINGER, 0);
	set_int(s, ZMQ_RCVTIMEO, PATIENCE_MS);
	set_int(s, ZMQ_CURVE_SERVER, 1);
	set_key(s, ZMQ_CURVE_SECRETKEY, server_secret);
	return (s);
}

static void
listen_at(void *server, char *endpoint, size_t size)
{

	assert_int_equal(zmq_bind(server, "tcp://127.0.0.1:*"), 0);
	assert_int_equal(zmq_getsockopt(server, ZMQ_LAST_ENDPOINT, endpoint,
	    &size), 0);
}

/* Takes this key for the server's. */
static void *
new_client(const char *endpoint, const char *key, void **monitor)
{
	char public[KEY], secret[KEY];
	void *s;

	assert_non_null(s = zmq_socket(ctx, ZMQ_DEALER));
	set_int(s, ZMQ_LINGER, 0);
	assert_int_equal(zmq_curve_keypair(public, secret), 0);
	set_key(s, ZMQ_CURVE_SERVERKEY, key);
	set_key(s, ZMQ_CURVE_PUBLICKEY, public);
	set_key(s, ZMQ_CURVE_SECRETKEY, secret);
	assert_non_null(*monitor = monitor_open(ctx, s, EVENTS));
	assert_int_equal(zmq_connect(s, endpoint), 0);
	return (s);
}

static void
expect(void *monitor, unsigned event)
{
	zmq_pollitem_t item = { .socket = monitor, .events = ZMQ_POLLIN };

	assert_int_equal(zmq_poll(&item, 1, PATIENCE_MS), 1);
	assert_int_equal(monitor_take(monitor, NULL), event);
}

static void
close_client(void *s, void **monitor)
{

	monitor_close(s, monitor);
	assert_null(*monitor);
	assert_int_equal(zmq_close(s), 0);
}

/* A peer that takes another key for the server's is cut off and tries again; the
 * other one is heard. */
static void
serves(void *server, const char *endpoint)
{
	void *bad, *good, *bad_monitor, *good_monitor;
	char text[8];

	bad = new_client(endpoint, other_public, &bad_monitor);
	expect(bad_monitor, ZMQ_EVENT_CONNECTED);
	expect(bad_monitor, ZMQ_EVENT_DISCONNECTED);
	expect(bad_monitor, ZMQ_EVENT_CONNECT_RETRIED);
	good = new_client(endpoint, server_public, &good_monitor);
	expect(good_monitor, ZMQ_EVENT_CONNECTED);
	expect(good_monitor, ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
	assert_int_equal(monitor_take(good_monitor, NULL), 0);
	assert_int_equal(zmq_send(good, "word", 4, 0), 4);
	assert_int_not_equal(zmq_recv(server, text, sizeof(text), 0), -1);
	assert_int_equal(zmq_recv(server, text, sizeof(text), 0), 4);
	close_client(bad, &bad_monitor);
	close_client(good, &good_monitor);
}

static void
tells_of_handshakes(void **state)
{
	void *of = zmq_ctx_new(), *server = new_server(of), *monitor;
	zmq_pollitem_t item = { .events = ZMQ_POLLIN };
	char endpoint[64];
	uint32_t value = 0;

	(void)state;
	assert_non_null(monitor = monitor_open(of, server,
	    ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL));
	listen_at(server, endpoint, sizeof(endpoint));
	serves(server, endpoint);
	item.socket = monitor;
	assert_int_equal(zmq_poll(&item, 1, PATIENCE_MS), 1);
	assert_int_equal(monitor_take(monitor, &value),
	    ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL);
	assert_int_equal(value, ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC);
	/* What happens now, nobody takes. */
	monitor_close(server, &monitor);
	serves(server, endpoint);
	assert_int_equal(zmq_close(server), 0);
	assert_int_equal(zmq_ctx_term(of), 0);
}

/* ZeroMQ's end of it is there before ours can be had. */
static void
one_that_cannot_be_had_hurts_nobody(void **state)
{
	void *of = zmq_ctx_new(), *server;
	char endpoint[64];

	(void)state;
	assert_int_equal(zmq_ctx_set(of, ZMQ_MAX_SOCKETS, 2), 0);
	server = new_server(of);
	assert_null(monitor_open(of, server,
	    ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL));
	assert_int_equal(errno, EMFILE);
	listen_at(server, endpoint, sizeof(endpoint));
	serves(server, endpoint);
	assert_int_equal(zmq_close(server), 0);
	assert_int_equal(zmq_ctx_term(of), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_of_handshakes),
		cmocka_unit_test(one_that_cannot_be_had_hurts_nobody),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests(tests, set_up, clean_up));
}
