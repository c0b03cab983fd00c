/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who gets through our ZAP handler: real CURVE handshakes over loopback.
 */

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <czmq.h>
#include <sodium.h>

#include "keys/cert.h"
#include "keys/curve_memory.h"
#include "keys/minisign.h"
#include "keys/zap.h"
#include "proto/fd.h"

#define	PATIENCE_MS	10000		/* for what must come */
#define	REPLY		6		/* frames of a ZAP reply */

static struct cert server_cert, good, other;
static char dir[] = "/tmp/test_zap.XXXXXX";

static int
set_up(void **state)
{

	(void)state;
	zsys_handler_set(NULL);
	assert_int_equal(keys_init(), 0);
	assert_int_equal(cert_new(&server_cert), 0);
	assert_int_equal(cert_new(&good), 0);
	assert_int_equal(cert_new(&other), 0);
	assert_non_null(mkdtemp(dir));
	return (0);
}

static int
clean_up(void **state)
{

	(void)state;
	return (fd_remove_tree(AT_FDCWD, dir));
}

/* Allows these (NULL-terminated) and no other. */
static void
allow(struct zap *z, const struct cert *a, const struct cert *b)
{
	char path[128];
	struct cert c;
	struct edges *e;

	assert_int_equal(fd_remove_tree(AT_FDCWD, dir), 0);
	assert_int_equal(mkdir(dir, 0700), 0);
	for (; a != NULL; a = b, b = NULL) {
		c = *a;
		memset(c.secret_key, 0, sizeof(c.secret_key));
		(void)snprintf(path, sizeof(path), "%s/%s", dir,
		    b != NULL ? "first" : "last");
		assert_int_equal(cert_write(&c, path, 0644), 0);
	}
	assert_non_null(e = edges_read(dir, NULL, NULL));
	assert_int_equal(zap_allow(z, e), 0);
	edges_destroy(&e);
}

static zsock_t *
new_server(char *endpoint, size_t size)
{
	zsock_t *s;

	assert_non_null(s = zsock_new(ZMQ_ROUTER));
	zsock_set_rcvtimeo(s, PATIENCE_MS);
	assert_int_equal(zap_server(zsock_resolve(s), server_cert.secret_key),
	    0);
	assert_int_not_equal(zsock_bind(s, "tcp://127.0.0.1:*"), -1);
	(void)snprintf(endpoint, size, "%s", zsock_endpoint(s));
	return (s);
}

/* The key, to be told apart by, and an empty frame (see expect()). */
static void
say(zsock_t *s, const struct cert *c)
{

	assert_int_equal(zstr_sendx(s, c->public_key, "", NULL), 0);
}

static zsock_t *
new_client(const char *endpoint, const struct cert *c)
{
	zsock_t *s;

	assert_non_null(s = zsock_new(ZMQ_DEALER));
	assert_int_equal(zap_client(zsock_resolve(s), server_cert.public_key,
	    c->public_key, c->secret_key), 0);
	assert_int_equal(zsock_connect(s, "%s", endpoint), 0);
	say(s, c);
	return (s);
}

/*
 * The next message must be that client's, and carry its key as User-Id.  Text
 * is copied by zmq_recv(): libzmq's thread decrypts into the memory of larger
 * frames, and hands it over in a way that thread sanitizers do not see.
 */
static void
expect(zsock_t *server, const struct cert *c)
{
	void *s = zsock_resolve(server);
	char id[256], key[CURVE_TEXT] = "";
	zmq_msg_t last;

	assert_int_not_equal(zmq_recv(s, id, sizeof(id), 0), -1);
	assert_int_equal(zmq_recv(s, key, sizeof(key) - 1, 0), CURVE_TEXT - 1);
	assert_string_equal(key, c->public_key);
	zmq_msg_init(&last);
	assert_int_equal(zmq_msg_recv(&last, s, 0), 0);
	assert_non_null(zmq_msg_gets(&last, "User-Id"));
	assert_string_equal(zmq_msg_gets(&last, "User-Id"), c->public_key);
	zmq_msg_close(&last);
}

/*
 * Waits until the client's handshake has failed by the server's refusal: a
 * monitor tells, so that "nothing came" is not merely "nothing came yet".
 */
static void
expect_refusal(const char *endpoint, const struct cert *c)
{
	zsock_t *client = zsock_new(ZMQ_DEALER);
	zactor_t *monitor = zactor_new(zmonitor, client);
	zmsg_t *event;
	char *what;

	assert_non_null(monitor);
	assert_int_equal(zstr_sendx(monitor, "LISTEN", "ALL", NULL), 0);
	assert_int_equal(zstr_send(monitor, "START"), 0);
	assert_int_equal(zsock_wait(monitor), 0);
	zsock_set_rcvtimeo(zactor_sock(monitor), PATIENCE_MS);
	if (c != NULL)
		assert_int_equal(zap_client(zsock_resolve(client),
		    server_cert.public_key, c->public_key, c->secret_key), 0);
	assert_int_equal(zsock_connect(client, "%s", endpoint), 0);
	for (;;) {
		assert_non_null(event = zmsg_recv(monitor));
		assert_non_null(what = zmsg_popstr(event));
		zmsg_destroy(&event);
		assert_string_not_equal(what, "HANDSHAKE_SUCCEEDED");
		if (strncmp(what, "HANDSHAKE_FAILED", 16) == 0 ||
		    strcmp(what, "DISCONNECTED") == 0)
			break;
		freen(what);
	}
	freen(what);
	zactor_destroy(&monitor);
	zsock_destroy(&client);
}

/* An allowed client gets through; then all ends. */
static void
pass_and_end(struct zap **z, zsock_t **server, const char *endpoint)
{
	zsock_t *client;

	allow(*z, &good, NULL);
	client = new_client(endpoint, &good);
	expect(*server, &good);
	zsock_destroy(&client);
	zsock_destroy(server);
	zap_stop(z);
}

/* What was decrypted was in blocks of curve_memory.c, and is gone.  The first
 * test: libsodium fills what it gives with a byte that is not 0. */
static void
handshakes_use_our_memory(void **state)
{
	unsigned char *p[CURVE_BLOCKS];
	unsigned used = 0, untouched = 0;
	struct zap *z = zap_start();
	zsock_t *server;
	char endpoint[128];

	(void)state;
	assert_non_null(z);
	server = new_server(endpoint, sizeof(endpoint));
	pass_and_end(&z, &server, endpoint);
	for (unsigned i = 0; i < CURVE_BLOCKS; i++) {
		assert_non_null(p[i] = sodium_allocarray(CURVE_BLOCK, 1));
		used += sodium_is_zero(p[i], CURVE_BLOCK) == 1;
		untouched += p[i][0] != 0 && p[i][CURVE_BLOCK - 1] == p[i][0];
	}
	for (unsigned i = 0; i < CURVE_BLOCKS; i++)
		sodium_free(p[i]);
	assert_int_not_equal(used, 0);
	assert_int_not_equal(untouched, 0);
	assert_int_equal(used + untouched, CURVE_BLOCKS);
}

static void
allowed_and_refused(void **state)
{
	struct zap *z = zap_start();
	zsock_t *server, *first, *second;
	char endpoint[128];

	(void)state;
	assert_non_null(z);
	server = new_server(endpoint, sizeof(endpoint));
	/* Nobody yet. */
	expect_refusal(endpoint, &good);
	allow(z, &good, NULL);
	first = new_client(endpoint, &good);
	expect(server, &good);
	expect_refusal(endpoint, &other);
	/* A client without CURVE. */
	expect_refusal(endpoint, NULL);
	/* Both, at run time; the first one's connection stays. */
	allow(z, &good, &other);
	second = new_client(endpoint, &other);
	expect(server, &other);
	say(first, &good);
	expect(server, &good);
	zsock_destroy(&second);
	zsock_destroy(&first);
	/* Replaced: the one that was allowed is refused. */
	allow(z, &other, NULL);
	expect_refusal(endpoint, &good);
	second = new_client(endpoint, &other);
	expect(server, &other);
	zsock_destroy(&second);
	zsock_destroy(&server);
	zap_stop(&z);
	assert_null(z);
}

static void
without_handler_nobody(void **state)
{
	struct zap *z;
	zsock_t *server;
	char endpoint[128];

	(void)state;
	/* The domain is enforced: no handler, no entry. */
	server = new_server(endpoint, sizeof(endpoint));
	expect_refusal(endpoint, &good);
	/* A handler that comes again after a stop works. */
	assert_non_null(z = zap_start());
	pass_and_end(&z, &server, endpoint);
}

static void
one_a_process(void **state)
{
	struct zap *z = zap_start();

	(void)state;
	assert_non_null(z);
	errno = 0;
	assert_null(zap_start());
	assert_int_equal(errno, EADDRINUSE);
	zap_stop(&z);
	zap_stop(&z);
}

/* All frames of a reply, each copied by libzmq as in expect(). */
static void
take_reply(zsock_t *req, char reply[REPLY][64])
{
	int i, n;

	for (i = 0; i < REPLY; i++) {
		n = zmq_recv(zsock_resolve(req), reply[i], 63, 0);
		assert_in_range(n, 0, 63);
		reply[i][n] = '\0';
		assert_int_equal(zsock_rcvmore(req), i < REPLY - 1);
	}
}

/* Replies of the handler to what libzmq itself never sends. */
static void
strange_requests(void **state)
{
	static const struct {
		const char *version, *domain, *mechanism; size_t key;
		unsigned extra; const char *status;
	} cases[] = {
	    { "1.0", ZAP_DOMAIN, "CURVE", 32, 0, "200" },
	    { "2.0", ZAP_DOMAIN, "CURVE", 32, 0, "400" },
	    { "1.0", "other", "CURVE", 32, 0, "400" },
	    { "1.0", "", "CURVE", 32, 0, "400" },
	    { "1.0", ZAP_DOMAIN, "NULL", 32, 0, "400" },
	    { "1.0", ZAP_DOMAIN, "PLAIN", 32, 0, "400" },
	    { "1.0", ZAP_DOMAIN, "CURVE", 31, 0, "400" },
	    { "1.0", ZAP_DOMAIN, "CURVE", 0, 0, "400" },
	    { "1.0", ZAP_DOMAIN, "CURVE", 32, 1, "400" },
	    { "1.0", ZAP_DOMAIN, "CURVE", 32, 100, "400" },
	};
	struct zap *z = zap_start();
	char reply[REPLY][64];
	uint8_t raw[32];
	zsock_t *req;
	zmsg_t *m;
	size_t i, j;

	(void)state;
	assert_non_null(z);
	allow(z, &good, NULL);
	assert_non_null(zmq_z85_decode(raw, good.public_key));
	assert_non_null(req = zsock_new(ZMQ_REQ));
	zsock_set_rcvtimeo(req, PATIENCE_MS);
	assert_int_equal(zsock_connect(req, "inproc://zeromq.zap.01"), 0);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		m = zmsg_new();
		(void)zmsg_addstr(m, cases[i].version);
		(void)zmsg_addstr(m, "77");
		(void)zmsg_addstr(m, cases[i].domain);
		(void)zmsg_addstr(m, "127.0.0.1");
		(void)zmsg_addstr(m, "");
		(void)zmsg_addstr(m, cases[i].mechanism);
		(void)zmsg_addmem(m, raw, cases[i].key);
		for (j = 0; j < cases[i].extra; j++)
			(void)zmsg_addstr(m, "x");
		assert_int_equal(zmsg_send(&m, req), 0);
		take_reply(req, reply);
		assert_string_equal(reply[0], "1.0");
		assert_string_equal(reply[1], "77");
		assert_string_equal(reply[2], cases[i].status);
		assert_string_equal(reply[4], strcmp(cases[i].status, "200") ==
		    0 ? good.public_key : "");
	}
	/* A request of one frame is answered, too. */
	assert_int_equal(zstr_send(req, "x"), 0);
	take_reply(req, reply);
	zsock_destroy(&req);
	zap_stop(&z);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handshakes_use_our_memory),
		cmocka_unit_test(allowed_and_refused),
		cmocka_unit_test(without_handler_nobody),
		cmocka_unit_test(one_a_process),
		cmocka_unit_test(strange_requests),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("zap", tests, set_up, clean_up));
}
