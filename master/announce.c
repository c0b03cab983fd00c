/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The master's end of the links: one thread owns the announce socket (XPUB) and
 * the lease socket (ROUTER), and no other file of the master knows ZeroMQ.
 * Publishing threads queue what is to be announced and wake it through a pipe;
 * renewals are answered here, from the roster.
 */
#include <sys/queue.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <czmq.h>

#include "keys/monitor.h"
#include "keys/zap.h"
#include "master/announce.h"
#include "master/outbox.h"
#include "master/peers.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"
#include "proto/message.h"

#define	ANNOUNCE_MAGIC	0x616e6e6fu
#define	ENDPOINT_MAX	256
#define	LEASE_BATCH	64		/* renewals between two looks at the queue */
#define	FRAME_EXTRA	64		/* what CURVE adds to a message */
#define	LEASE_FIXED	512		/* reply without behind and prepare */
#define	PREPARE_BYTES	(MESSAGE_MAX / 2)	/* all prepares of a reply */
#define	SUBSCRIPTION_MAX 1024		/* also fits the CURVE handshake */
#define	HANDSHAKE_MS	40000	/* when thousands come back at once */
#define	BACKLOG		16384	/* the system has a limit of its own */
#define	KEEPALIVE_S	30
#define	KEEPALIVE_STEP_S 10
#define	KEEPALIVE_N	3
#define	ANNOUNCE_HWM	1000		/* announcements one edge may lag */
#define	LEASE_HWM	16		/* an edge has one renewal on the way */
#define	IDLE_MS		1000
#define	FOREIGN_MS	60000		/* between two messages */

struct announce {
	unsigned	 magic;
	struct announce_conf conf;
	char		 endpoint[ENDPOINT_MAX], lease_endpoint[ENDPOINT_MAX];
	bool		 running;
	pthread_t	 thread;
	int		 wake[2];	/* pipe: read end is the thread's */
	atomic_bool	 stop, cut;	/* orders, with a wake */
	struct outbox	*outbox;

	/* The thread's own. */
	zsock_t		*xpub, *router;
	void		*monitor;	/* of the router; NULL: none */
	struct peers	*peers;
	uint64_t	 nforeign;	/* refused since the last message, at: */
	int64_t		 foreign_ms;
};

/*
 * Any thread
 */
static void
wake(struct announce *a)
{
	int saved = errno;

	/* Full: the thread is woken already. */
	if (write(a->wake[1], "", 1) == -1 && errno != EAGAIN)
		log_err("wake link thread: %s", strerror(errno));
	errno = saved;
}

int
announce_prepare(struct announce *a, const char *set, const char *signed_lines,
    size_t len)
{
	int ret;

	CHECK_OBJ(a, ANNOUNCE_MAGIC);
	ret = outbox_prepare(a->outbox, set, signed_lines, len);
	wake(a);
	return (ret);
}

void
announce_prepare_end(struct announce *a, const char *set)
{

	CHECK_OBJ(a, ANNOUNCE_MAGIC);
	outbox_prepare_end(a->outbox, set);
}

int
announce_commit(struct announce *a, const char *set, const char *head,
    size_t len)
{
	int ret;

	CHECK_OBJ(a, ANNOUNCE_MAGIC);
	ret = outbox_commit(a->outbox, set, head, len);
	wake(a);
	return (ret);
}

void
announce_cut_revoked(struct announce *a)
{

	CHECK_OBJ(a, ANNOUNCE_MAGIC);
	atomic_store(&a->cut, true);
	wake(a);
}

const char *
announce_endpoint(const struct announce *a)
{

	CHECK_OBJ(a, ANNOUNCE_MAGIC);
	return (a->endpoint);
}

const char *
announce_lease_endpoint(const struct announce *a)
{

	CHECK_OBJ(a, ANNOUNCE_MAGIC);
	return (a->lease_endpoint);
}

/*
 * Link thread: sending
 */
static void
send_one(struct announce *a, const struct outgoing *o)
{
	void *s = zsock_resolve(a->xpub);

	/* A slow edge's copy is dropped by ZeroMQ; its lease repairs that. */
	if (zmq_send(s, o->set, strlen(o->set), ZMQ_SNDMORE) == -1 ||
	    zmq_send(s, o->kind, strlen(o->kind), ZMQ_SNDMORE) == -1 ||
	    zmq_send(s, o->text, o->len, 0) == -1)
		log_err("announce set=%s kind=%s: %s", o->set, o->kind,
		    zmq_strerror(zmq_errno()));
	else
		log_debug("announce set=%s kind=%s", o->set, o->kind);
}

static void
send_all(struct announce *a)
{
	struct outgoing_list list = STAILQ_HEAD_INITIALIZER(list);
	struct outgoing *o;

	outbox_take(a->outbox, &list);
	while ((o = STAILQ_FIRST(&list)) != NULL) {
		STAILQ_REMOVE_HEAD(&list, link);
		send_one(a, o);
		free(o);
	}
}

/*
 * Link thread: renewals
 */

/* An edge holds a head above ours: this master has gone back in time. */
static void
note_ahead(struct announce *a, const char *edge, const struct renew_set *rs)
{
	static struct log_limit limit;
	struct parse_error err;
	struct head h;
	uint64_t here;

	err.reason[0] = '\0';
	if (head_parse(&h, rs->ahead, strlen(rs->ahead), &err) == -1 ||
	    strcmp(h.set, rs->name) != 0) {
		if (log_allowed(&limit, 1))
			log_warn("renew edge=%s set=%s: the head it shows is "
			    "malformed: %s", edge, rs->name, err.reason);
		return;
	}
	here = roster_generation(a->conf.roster, h.set);
	if (h.generation <= here || a->conf.shown(a->conf.arg, &h) == -1)
		return;
	if (roster_ahead_news(a->conf.roster, h.set, h.generation))
		log_err("ahead set=%s generation=%llu here=%llu edge=%s: an edge "
		    "holds a newer generation than this master; was the master "
		    "restored from an old copy? Nothing is accepted up to "
		    "generation %llu; run `pkgcast publish` for this set again, "
		    "which numbers above it, and edges follow", h.set,
		    (unsigned long long)h.generation,
		    (unsigned long long)here, edge,
		    (unsigned long long)h.generation);
}

static void
free_prepares(struct lease_prepare *list, size_t n)
{

	while (n > 0)
		free(list[--n].text);
	free(list);
}

/* The reply to a renewal, malloc'd, or NULL: none. */
static char *
answer_renewal(struct announce *a, const char *key, const char *edge,
    const struct renew *n, int64_t received_ms, size_t *len)
{
	struct lease_prepare *list;
	struct lease *l;
	size_t nprepare, cost;
	char *text;

	list = outbox_wanted(a->outbox, n, PREPARE_BYTES, &nprepare, &cost);
	l = roster_renew(a->conf.roster, key, n, received_ms,
	    MESSAGE_MAX - LEASE_FIXED - cost);
	if (l == NULL) {
		free_prepares(list, nprepare);
		return (NULL);
	}
	l->trust = a->conf.trust_version(a->conf.arg);
	l->prepare = list;
	l->nprepare = nprepare;
	if ((text = lease_write(l, len)) == NULL)
		log_err("renew edge=%s: no reply, it cannot be written", edge);
	lease_destroy(&l);
	return (text);
}

static void
handle_renewal(struct announce *a, zmq_msg_t *id, zmq_msg_t *body)
{
	static struct log_limit limit;
	int64_t received_ms = clock_boot_ms();
	const char *key = zmq_msg_gets(body, "User-Id");
	void *s = zsock_resolve(a->router);
	char edge[ROSTER_NAME], *text;
	struct parse_error err;
	struct renew *n;
	size_t i, len;

	if (key == NULL)
		return;
	peers_note(a->peers, zmq_msg_get(body, ZMQ_SRCFD), key);
	if (!roster_edge_name(a->conf.roster, key, edge)) {
		/* Revoked while it connected, so it was not among those cut. */
		atomic_store(&a->cut, true);
		return;
	}
	n = renew_parse(zmq_msg_data(body), zmq_msg_size(body), &err);
	if (n == NULL) {
		if (log_allowed(&limit, 1))
			log_warn("renew edge=%s: malformed: %s", edge,
			    err.reason);
		return;
	}
	for (i = 0; i < n->nset; i++)
		if (n->set[i].ahead != NULL)
			note_ahead(a, edge, &n->set[i]);
	text = answer_renewal(a, key, edge, n, received_ms, &len);
	/* To a peer that is gone or does not read: dropped, it asks again. */
	if (text != NULL && zmq_send(s, zmq_msg_data(id), zmq_msg_size(id),
	    ZMQ_SNDMORE | ZMQ_DONTWAIT) != -1)
		(void)zmq_send(s, text, len, ZMQ_DONTWAIT);
	free(text);
	renew_destroy(&n);
}

/* Takes one whole message from s into m[0..1], for release(); -1: none there.
 * *nframe counts all its frames, those beyond two are dropped. */
static int
receive(void *s, zmq_msg_t m[2], size_t *nframe)
{
	zmq_msg_t rest;
	zmq_msg_t *to;

	zmq_msg_init(&m[0]);
	zmq_msg_init(&m[1]);
	for (*nframe = 0;; ++*nframe) {
		to = &rest;
		zmq_msg_init(&rest);
		if (*nframe < 2)
			to = &m[*nframe];
		if (zmq_msg_recv(to, s, ZMQ_DONTWAIT) == -1) {
			zmq_msg_close(&rest);
			return (-1);
		}
		if (!zmq_msg_more(to)) {
			++*nframe;
			zmq_msg_close(&rest);
			return (0);
		}
		zmq_msg_close(&rest);
	}
}

static void
release(zmq_msg_t m[2])
{

	zmq_msg_close(&m[0]);
	zmq_msg_close(&m[1]);
}

/* True when there may be more. */
static bool
take_renewal(struct announce *a)
{
	zmq_msg_t m[2];
	size_t nframe;
	int got;

	got = receive(zsock_resolve(a->router), m, &nframe);
	if (got == 0 && nframe == 2)
		handle_renewal(a, &m[0], &m[1]);
	release(m);
	return (got == 0);
}

/* Subscriptions only tell whose a connection is. */
static bool
take_subscription(struct announce *a)
{
	char edge[ROSTER_NAME];
	const char *key;
	zmq_msg_t m[2];
	size_t nframe;
	int got;

	got = receive(zsock_resolve(a->xpub), m, &nframe);
	if (got == 0 && (key = zmq_msg_gets(&m[0], "User-Id")) != NULL) {
		peers_note(a->peers, zmq_msg_get(&m[0], ZMQ_SRCFD), key);
		if (!roster_edge_name(a->conf.roster, key, edge))
			atomic_store(&a->cut, true);
	}
	release(m);
	return (got == 0);
}

/* A peer could not even say hello, as it used another key than ours: an edge,
 * after this master has lost its own, or anybody.  They try several times a
 * second. */
static void
note_foreign(struct announce *a)
{
	int64_t now = clock_boot_ms();

	a->nforeign++;
	if (a->foreign_ms != 0 && now - a->foreign_ms < FOREIGN_MS)
		return;
	a->foreign_ms = now;
	log_err("refuse links n=%ju: peers do not take this master's public key. "
	    "If edges stay away, master.cert_secret was lost: restore it, or "
	    "give every edge the public key that is in master.cert "
	    "(pkgcast-master(8), MOVING AND RESTORING)",
	    (uintmax_t)a->nforeign);
	a->nforeign = 0;
}

/* Handshakes that failed.  True when there may be more. */
static bool
take_monitor(struct announce *a)
{
	uint32_t value = 0;

	if (a->monitor == NULL || monitor_take(a->monitor, &value) == 0)
		return (false);
	if (value == ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)
		note_foreign(a);
	return (true);
}

/*
 * Link thread: its loop
 */
static bool
allowed(void *arg, const char *key)
{
	char name[ROSTER_NAME];

	return (roster_edge_name(arg, key, name));
}

/* False: stop. */
static bool
take_orders(struct announce *a)
{
	char junk[64];

	while (read(a->wake[0], junk, sizeof(junk)) > 0)
		continue;
	send_all(a);
	if (atomic_exchange(&a->cut, false))
		peers_cut(a->peers, a->endpoint, a->lease_endpoint, allowed,
		    a->conf.roster);
	return (!atomic_load(&a->stop));
}

static void
close_sockets(struct announce *a)
{

	if (a->monitor != NULL)
		monitor_close(zsock_resolve(a->router), &a->monitor);
	zsock_destroy(&a->xpub);
	zsock_destroy(&a->router);
}

static void *
run(void *arg)
{
	struct announce *a = arg;
	zmq_pollitem_t item[4];
	int n, nitem = a->monitor != NULL ? 4 : 3;

	CHECK_OBJ(a, ANNOUNCE_MAGIC);
	memset(item, 0, sizeof(item));
	item[0].socket = zsock_resolve(a->router);
	item[1].socket = zsock_resolve(a->xpub);
	item[2].fd = a->wake[0];
	item[0].events = item[1].events = item[2].events = ZMQ_POLLIN;
	item[3].socket = a->monitor;
	item[3].events = ZMQ_POLLIN;
	while (take_orders(a)) {
		if (zmq_poll(item, nitem, IDLE_MS) == -1 && zmq_errno() != EINTR) {
			log_err("poll links: %s", zmq_strerror(zmq_errno()));
			break;
		}
		for (n = 0; n < LEASE_BATCH && take_subscription(a); n++)
			continue;
		for (n = 0; n < LEASE_BATCH && take_renewal(a); n++)
			continue;
		for (n = 0; n < LEASE_BATCH && take_monitor(a); n++)
			continue;
	}
	/* Closed by the thread that used them. */
	close_sockets(a);
	return (NULL);
}

/*
 * Start and end
 */
static int
set_options(void *s, int64_t message_max, int hwm)
{
	static const struct { int option, value; } common[] = {
		{ ZMQ_IPV6, 1 },
		{ ZMQ_LINGER, 0 },
		{ ZMQ_BACKLOG, BACKLOG },
		{ ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS },
		{ ZMQ_TCP_KEEPALIVE, 1 },
		{ ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_S },
		{ ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_STEP_S },
		{ ZMQ_TCP_KEEPALIVE_CNT, KEEPALIVE_N },
	};
	size_t i;

	for (i = 0; i < sizeof(common) / sizeof(common[0]); i++)
		if (zmq_setsockopt(s, common[i].option, &common[i].value,
		    sizeof(common[i].value)) == -1)
			return (-1);
	if (zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &message_max,
	    sizeof(message_max)) == -1 ||
	    zmq_setsockopt(s, ZMQ_SNDHWM, &hwm, sizeof(hwm)) == -1)
		return (-1);
	return (zmq_setsockopt(s, ZMQ_RCVHWM, &hwm, sizeof(hwm)));
}

/* "tcp://[::ffff:192.0.2.1]:7302" is what an operator calls
 * "tcp://192.0.2.1:7302". */
static void
plain_ipv4(char *endpoint)
{
	static const char mapped[] = "tcp://[::ffff:";
	size_t skip = sizeof(mapped) - 1, to = strlen("tcp://");
	char *end = strchr(endpoint, ']');

	if (strncmp(endpoint, mapped, skip) != 0 || end == NULL ||
	    memchr(endpoint + skip, '.', (size_t)(end - endpoint) - skip) ==
	    NULL)
		return;
	memmove(end, end + 1, strlen(end));
	memmove(endpoint + to, endpoint + skip, strlen(endpoint + skip) + 1);
}

/* Binds, on a host without IPv6 to IPv4, and reads the endpoint back. */
static int
bind_to(void *s, const char *endpoint, char real[ENDPOINT_MAX])
{
	size_t len = ENDPOINT_MAX;
	int off = 0;

	if (zmq_bind(s, endpoint) == -1 &&
	    ((zmq_errno() != EAFNOSUPPORT && zmq_errno() != EADDRNOTAVAIL) ||
	    zmq_setsockopt(s, ZMQ_IPV6, &off, sizeof(off)) == -1 ||
	    zmq_bind(s, endpoint) == -1))
		return (-1);
	if (zmq_getsockopt(s, ZMQ_LAST_ENDPOINT, real, &len) == -1)
		return (-1);
	plain_ipv4(real);
	return (0);
}

static zsock_t *
open_socket(int type, const char *endpoint, const char *secret_key,
    int64_t message_max, int hwm, char real[ENDPOINT_MAX],
    struct parse_error *err)
{
	zsock_t *z;
	void *s;
	int all = 1;

	if ((z = zsock_new(type)) == NULL) {
		(void)parse_fail(err, 0, "%s: %s", endpoint,
		    zmq_strerror(zmq_errno()));
		return (NULL);
	}
	s = zsock_resolve(z);
	/* Each subscription is passed up: it tells whose a connection is. */
	if (set_options(s, message_max, hwm) == -1 ||
	    (type == ZMQ_XPUB && zmq_setsockopt(s, ZMQ_XPUB_VERBOSE, &all,
	    sizeof(all)) == -1))
		(void)parse_fail(err, 0, "%s: options: %s", endpoint,
		    zmq_strerror(zmq_errno()));
	else if (zap_server(s, secret_key) == -1)
		(void)parse_fail(err, 0, "%s: cannot make it ask for keys of "
		    "edges; is libzmq built with CURVE?", endpoint);
	else if (bind_to(s, endpoint, real) == -1)
		(void)parse_fail(err, 0, "%s: %s", endpoint,
		    zmq_strerror(zmq_errno()));
	else
		return (z);
	zsock_destroy(&z);
	return (NULL);
}

static int
open_all(struct announce *a, struct parse_error *err)
{
	const struct announce_conf *c = &a->conf;

	if (fd_wake_pipe(a->wake) == -1)
		return (parse_fail(err, 0, "pipe: %s", strerror(errno)));
	a->xpub = open_socket(ZMQ_XPUB, c->announce, c->secret_key,
	    SUBSCRIPTION_MAX, ANNOUNCE_HWM, a->endpoint, err);
	if (a->xpub == NULL)
		return (-1);
	a->router = open_socket(ZMQ_ROUTER, c->lease, c->secret_key,
	    MESSAGE_MAX + FRAME_EXTRA, LEASE_HWM, a->lease_endpoint, err);
	if (a->router == NULL)
		return (-1);
	/* Without it only a message is missing. */
	if ((a->monitor = monitor_open(zsys_init(), zsock_resolve(a->router),
	    ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL)) == NULL)
		log_warn("monitor links: %s", zmq_strerror(zmq_errno()));
	return (0);
}

void
announce_init(void)
{

	zsys_handler_set(NULL);
}

struct announce *
announce_start(const struct announce_conf *c, struct parse_error *err)
{
	struct announce *a = check_alloc(calloc(1, sizeof(*a)));
	int e;

	a->magic = ANNOUNCE_MAGIC;
	a->conf = *c;
	a->outbox = outbox_new();
	a->peers = peers_new();
	if (open_all(a, err) == -1) {
		announce_stop(&a);
		return (NULL);
	}
	a->conf.announce = a->conf.lease = a->conf.secret_key = NULL;
	if ((e = pthread_create(&a->thread, NULL, run, a)) != 0) {
		(void)parse_fail(err, 0, "link thread: %s", strerror(e));
		announce_stop(&a);
		return (NULL);
	}
	a->running = true;
	return (a);
}

void
announce_stop(struct announce **ap)
{
	struct announce *a = *ap;

	if (a == NULL)
		return;
	*ap = NULL;
	CHECK_OBJ(a, ANNOUNCE_MAGIC);
	if (a->running) {
		atomic_store(&a->stop, true);
		wake(a);
		pthread_join(a->thread, NULL);
	}
	close_sockets(a);
	fd_close(&a->wake[0]);
	fd_close(&a->wake[1]);
	outbox_destroy(&a->outbox);
	peers_destroy(&a->peers);
	explicit_bzero(&a->magic, sizeof(a->magic));
	free(a);
}
