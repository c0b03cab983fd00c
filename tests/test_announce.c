/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The master's links over real sockets on loopback: CURVE with our ZAP handler,
 * announcements to a subscriber, renewals and their replies, a revoked edge.
 */
#include <sys/stat.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <czmq.h>

#include <cmocka.h>

#include "keys/cert.h"
#include "keys/minisign.h"
#include "keys/zap.h"
#include "master/announce.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/message.h"

#define	WAIT_MS		5000
#define	FLOOD		5000		/* more than all queues hold */
#define	QUIET_MS	300		/* long enough for a reply on loopback */

static char		 dir[64];
static int		 dirfd_state = -1;
static struct cert	 master, edge, stranger;
static struct zap	*zap;
static struct roster	*roster;
static struct announce	*announce;
static const char	 signed_lines[] = "pkgcast-head 1\nset s\n";

static uint64_t
trust_seven(void *arg)
{

	(void)arg;
	return (7);
}

static int
never_shown(void *arg, const struct head *h)
{

	(void)arg;
	(void)h;
	return (-1);
}

static void
allow(void)
{
	struct edges *e = edges_read(dir, NULL, NULL);

	assert_non_null(e);
	zap_allow(zap, e);
	roster_set_edges(roster, &e);
}

static int
setup(void **state)
{
	struct roster_conf rc = { .ttl_ms = 10000 };
	struct announce_conf c = { .announce = "tcp://127.0.0.1:*",
	    .lease = "tcp://127.0.0.1:0", .secret_key = master.secret_key,
	    .trust_version = trust_seven, .shown = never_shown };
	struct parse_error err;
	struct cert public;
	char path[128];

	(void)state;
	assert_int_equal(keys_init(), 0);
	assert_int_equal(cert_new(&master), 0);
	assert_int_equal(cert_new(&edge), 0);
	assert_int_equal(cert_new(&stranger), 0);
	snprintf(dir, sizeof(dir), "/tmp/test_announce.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/brno1", dir);
	public = edge;
	public.secret_key[0] = '\0';
	assert_int_equal(cert_write(&public, path, 0644), 0);
	assert_true((dirfd_state = fd_open_dir(AT_FDCWD, dir)) != -1);
	rc.dirfd = dirfd_state;
	assert_non_null(roster = roster_new(&rc, &err));
	assert_non_null(zap = zap_start());
	allow();
	c.roster = roster;
	announce = announce_start(&c, &err);
	if (announce == NULL)
		fail_msg("%s", err.reason);
	return (0);
}

static int
teardown(void **state)
{

	(void)state;
	announce_stop(&announce);
	zap_stop(&zap);
	roster_destroy(&roster);
	fd_close(&dirfd_state);
	return (fd_remove_tree(AT_FDCWD, dir));
}

static zsock_t *
join(int type, const char *endpoint, const struct cert *c)
{
	zsock_t *z = zsock_new(type);

	assert_non_null(z);
	assert_int_equal(zap_client(zsock_resolve(z), master.public_key,
	    c->public_key, c->secret_key), 0);
	if (type == ZMQ_SUB)
		zsock_set_subscribe(z, "");
	assert_int_equal(zsock_connect(z, "%s", endpoint), 0);
	return (z);
}

static void
send_renewal(zsock_t *z, uint64_t sequence)
{
	struct renew n = { .sequence = sequence, .version = "0.1",
	    .all = true };
	zframe_t *f;
	char *text;
	size_t len;

	memset(n.instance, 'a', INSTANCE_HEX);
	assert_non_null(text = renew_write(&n, &len));
	assert_non_null(f = zframe_new(text, len));
	free(text);
	assert_int_equal(zframe_send(&f, z, 0), 0);
}

/* NULL: nothing within ms. */
static struct lease *
receive_lease(zsock_t *z, int ms)
{
	struct parse_error err;
	struct lease *l;
	zframe_t *f;

	zsock_set_rcvtimeo(z, ms);
	if ((f = zframe_recv(z)) == NULL)
		return (NULL);
	assert_false(zframe_more(f));
	l = lease_parse((const char *)zframe_data(f), zframe_size(f), &err);
	if (l == NULL)
		fail_msg("%s", err.reason);
	zframe_destroy(&f);
	return (l);
}

static void
renewal_is_answered_with_its_sequence(void **state)
{
	zsock_t *z = join(ZMQ_DEALER, announce_lease_endpoint(announce),
	    &edge);
	struct lease *l;

	(void)state;
	send_renewal(z, 41);
	assert_non_null(l = receive_lease(z, WAIT_MS));
	assert_int_equal(l->sequence, 41);
	assert_int_equal(l->instance[0], 'a');
	assert_int_equal(l->ttl_ms, 10000);
	assert_int_equal(l->trust, 7);
	assert_int_equal(l->nbehind, 0);
	assert_int_equal(l->nprepare, 0);
	lease_destroy(&l);
	zsock_destroy(&z);
}

static void
pending_prepare_is_repeated_until_it_ends(void **state)
{
	zsock_t *z = join(ZMQ_DEALER, announce_lease_endpoint(announce),
	    &edge);
	struct lease *l;

	(void)state;
	assert_int_equal(announce_prepare(announce, "s", signed_lines,
	    strlen(signed_lines)), 0);
	send_renewal(z, 1);
	assert_non_null(l = receive_lease(z, WAIT_MS));
	assert_int_equal(l->nprepare, 1);
	assert_int_equal(l->prepare[0].len, strlen(signed_lines));
	assert_memory_equal(l->prepare[0].text, signed_lines,
	    strlen(signed_lines));
	lease_destroy(&l);
	announce_prepare_end(announce, "s");
	send_renewal(z, 2);
	assert_non_null(l = receive_lease(z, WAIT_MS));
	assert_int_equal(l->nprepare, 0);
	lease_destroy(&l);
	zsock_destroy(&z);
}

static void
malformed_renewal_gets_no_reply(void **state)
{
	zsock_t *z = join(ZMQ_DEALER, announce_lease_endpoint(announce),
	    &edge);
	struct lease *l;

	(void)state;
	assert_int_equal(zstr_send(z, "{}"), 0);
	assert_int_equal(zstr_sendx(z, "two", "frames", NULL), 0);
	assert_null(receive_lease(z, QUIET_MS));
	send_renewal(z, 3);
	assert_non_null(l = receive_lease(z, WAIT_MS));
	assert_int_equal(l->sequence, 3);
	lease_destroy(&l);
	zsock_destroy(&z);
}

static void
stranger_gets_no_reply(void **state)
{
	zsock_t *z = join(ZMQ_DEALER, announce_lease_endpoint(announce),
	    &stranger);

	(void)state;
	send_renewal(z, 1);
	assert_null(receive_lease(z, QUIET_MS));
	zsock_destroy(&z);
}

/* A subscription takes a moment: what is sent before it is lost by design. */
static void
announcements_reach_a_subscriber(void **state)
{
	zsock_t *z = join(ZMQ_SUB, announce_endpoint(announce), &edge);
	int64_t end = clock_boot_ms() + WAIT_MS;
	char *set = NULL, *kind = NULL, *text = NULL;

	(void)state;
	zsock_set_rcvtimeo(z, 50);
	while (set == NULL && clock_boot_ms() < end) {
		assert_int_equal(announce_commit(announce, "s", "the head",
		    8), 0);
		(void)zstr_recvx(z, &set, &kind, &text, NULL);
	}
	assert_non_null(set);
	assert_string_equal(set, "s");
	assert_string_equal(kind, "commit");
	assert_string_equal(text, "the head");
	zstr_free(&set);
	zstr_free(&kind);
	zstr_free(&text);
	zsock_destroy(&z);
}

static void
revoked_edge_is_cut(void **state)
{
	zsock_t *z = join(ZMQ_DEALER, announce_lease_endpoint(announce),
	    &edge);
	char path[128];
	struct lease *l;

	(void)state;
	send_renewal(z, 1);
	assert_non_null(l = receive_lease(z, WAIT_MS));
	lease_destroy(&l);
	snprintf(path, sizeof(path), "%s/brno1", dir);
	assert_int_equal(unlink(path), 0);
	allow();
	announce_cut_revoked(announce);
	send_renewal(z, 2);
	assert_null(receive_lease(z, QUIET_MS));
	zsock_destroy(&z);
}

/* It connected while it was allowed, but said nothing until it was not. */
static void
revoked_edge_that_was_silent_is_cut_when_it_subscribes(void **state)
{
	zsock_t *z = zsock_new(ZMQ_SUB);
	char path[128], *set = NULL;
	int i;

	(void)state;
	assert_non_null(z);
	assert_int_equal(zap_client(zsock_resolve(z), master.public_key,
	    edge.public_key, edge.secret_key), 0);
	assert_int_equal(zsock_connect(z, "%s", announce_endpoint(announce)),
	    0);
	zclock_sleep(QUIET_MS);
	snprintf(path, sizeof(path), "%s/brno1", dir);
	assert_int_equal(unlink(path), 0);
	allow();
	announce_cut_revoked(announce);
	zclock_sleep(QUIET_MS);
	zsock_set_subscribe(z, "");
	zclock_sleep(QUIET_MS);
	zsock_set_rcvtimeo(z, 50);
	for (i = 0; i < 5 && set == NULL; i++) {
		assert_int_equal(announce_commit(announce, "s", "the head",
		    8), 0);
		set = zstr_recv(z);
	}
	assert_null(set);
	zsock_destroy(&z);
}

static void
peer_that_does_not_read_holds_nobody_up(void **state)
{
	zsock_t *slow = join(ZMQ_DEALER, announce_lease_endpoint(announce),
	    &edge), *z;
	struct lease *l;
	int i;

	(void)state;
	for (i = 1; i <= FLOOD; i++)
		send_renewal(slow, (uint64_t)i);
	z = join(ZMQ_DEALER, announce_lease_endpoint(announce), &edge);
	send_renewal(z, 7);
	assert_non_null(l = receive_lease(z, WAIT_MS));
	assert_int_equal(l->sequence, 7);
	lease_destroy(&l);
	zsock_destroy(&z);
	zsock_destroy(&slow);
}

#define	CASE(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(renewal_is_answered_with_its_sequence),
		CASE(pending_prepare_is_repeated_until_it_ends),
		CASE(malformed_renewal_gets_no_reply),
		CASE(stranger_gets_no_reply),
		CASE(announcements_reach_a_subscriber),
		CASE(revoked_edge_is_cut),
		CASE(revoked_edge_that_was_silent_is_cut_when_it_subscribes),
		CASE(peer_that_does_not_read_holds_nobody_up),
	};

	announce_init();
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("announce", tests, NULL, NULL));
}
