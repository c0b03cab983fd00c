/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who may connect to our CURVE servers: a ZAP handler (RFC 27) over a list in
 * memory.  The handshakes of all sockets of CZMQ's global context ask it.  The
 * master's main starts it before any server socket is bound; its thread owns
 * the REP socket, and replaces CZMQ's zauth, whose folder mode aborts on two
 * files with one key and misses replaced ones.
 *
 * The lock guards the list of allowed keys.  It is a leaf.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <czmq.h>

#include "keys/curve_memory.h"
#include "keys/zap.h"
#include "proto/check.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	ZAP_MAGIC	0x2a90a47eu
#define	ZAP_ENDPOINT	"inproc://zeromq.zap.01"
#define	ZAP_VERSION	"1.0"
#define	ZAP_FRAMES_MAX	16		/* of a request; CURVE has 7 */
#define	ZAP_WARNINGS	5		/* a second */
#define	CURVE_RAW	32
#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define	ZMQ_ZAP_ENFORCE_DOMAIN	93	/* a draft: not always declared */
#endif

typedef char key_text[CURVE_TEXT];

struct zap {
	unsigned	 magic;
	zsock_t		*socket;	/* the thread's while it runs */
	int		 stop[2];	/* pipe: closing [1] ends the thread */
	pthread_t	 thread;
	pthread_mutex_t	 lock;
	size_t		 n;
	key_text	*key;		/* sorted */
};

/* Frames of a request, in their order (RFC 27). */
enum frame {
	FRAME_VERSION, FRAME_REQUEST, FRAME_DOMAIN, FRAME_ADDRESS,
	FRAME_IDENTITY, FRAME_MECHANISM, FRAME_CREDENTIALS, FRAMES
};

static int
compare_keys(const void *a, const void *b)
{

	return (strcmp(a, b));
}

static bool
allowed(struct zap *z, const char *key)
{
	bool yes;

	CHECK(pthread_mutex_lock(&z->lock) == 0);
	yes = z->n > 0 && bsearch(key, z->key, z->n, sizeof(*z->key),
	    compare_keys) != NULL;
	CHECK(pthread_mutex_unlock(&z->lock) == 0);
	return (yes);
}

static bool
is(zframe_t *f, const char *s)
{

	return (f != NULL && zframe_size(f) == strlen(s) &&
	    memcmp(zframe_data(f), s, strlen(s)) == 0);
}

/* Why the request is refused, or NULL; key is the peer's if it has one. */
static const char *
judge(struct zap *z, zframe_t *const frame[FRAMES], size_t n, key_text key)
{

	key[0] = '\0';
	if (n != FRAMES || !is(frame[FRAME_VERSION], ZAP_VERSION))
		return ("not a CURVE request of this protocol");
	if (!is(frame[FRAME_MECHANISM], "CURVE") ||
	    zframe_size(frame[FRAME_CREDENTIALS]) != CURVE_RAW)
		return ("not CURVE");
	if (zmq_z85_encode(key, zframe_data(frame[FRAME_CREDENTIALS]),
	    CURVE_RAW) == NULL)
		return ("no key");
	if (!is(frame[FRAME_DOMAIN], ZAP_DOMAIN))
		return ("of another domain");
	if (!allowed(z, key))
		return ("its key is not allowed");
	return (NULL);
}

static void
report(zframe_t *address, const char *key, const char *why)
{
	static struct log_limit limit;
	char peer[LOG_TEXT];

	if (!log_allowed(&limit, ZAP_WARNINGS))
		return;
	(void)log_escape(peer, sizeof(peer),
	    address == NULL ? (const void *)"?" : zframe_data(address),
	    address == NULL ? 1 : zframe_size(address));
	log_warn("refuse peer=%s key=%s: %s (suppressed=%lu)", peer,
	    key[0] == '\0' ? "none" : key, why, limit.dropped);
}

static void
reply(zsock_t *socket, zframe_t *request, bool ok, const char *key)
{
	zmsg_t *m;

	if ((m = zmsg_new()) == NULL)
		return;
	(void)zmsg_addstr(m, ZAP_VERSION);
	if (request == NULL)
		(void)zmsg_addstr(m, "");
	else
		(void)zmsg_addmem(m, zframe_data(request),
		    zframe_size(request));
	(void)zmsg_addstr(m, ok ? "200" : "400");
	(void)zmsg_addstr(m, ok ? "OK" : "not allowed");
	(void)zmsg_addstr(m, ok ? key : "");
	(void)zmsg_addstr(m, "");		/* no metadata */
	if (zmsg_send(&m, socket) == -1)
		zmsg_destroy(&m);
}

static void
answer(struct zap *z)
{
	zframe_t *frame[FRAMES] = { NULL }, *f;
	const char *why;
	key_text key;
	size_t n = 0;
	zmsg_t *m;

	if ((m = zmsg_recv(z->socket)) == NULL)
		return;
	for (f = zmsg_first(m); f != NULL && n < ZAP_FRAMES_MAX;
	    f = zmsg_next(m), n++)
		if (n < FRAMES)
			frame[n] = f;
	if ((why = judge(z, frame, n, key)) != NULL)
		report(frame[FRAME_ADDRESS], key, why);
	reply(z->socket, frame[FRAME_REQUEST], why == NULL, key);
	zmsg_destroy(&m);
}

/* The thread. */
static void *
run(void *arg)
{
	struct zap *z = arg;
	zmq_pollitem_t item[2];
	int n;

	CHECK_OBJ(z, ZAP_MAGIC);
	memset(item, 0, sizeof(item));
	item[0].socket = zsock_resolve(z->socket);
	item[1].fd = z->stop[0];
	item[0].events = item[1].events = ZMQ_POLLIN;
	for (;;) {
		if ((n = zmq_poll(item, 2, -1)) == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return (NULL);	/* the context ends: nobody asks */
		if (item[1].revents != 0)
			return (NULL);
		if (item[0].revents != 0)
			answer(z);
	}
}

static void
destroy(struct zap **z)
{
	int saved = errno;

	fd_close(&(*z)->stop[0]);
	fd_close(&(*z)->stop[1]);
	/* Closing frees the endpoint's name some time later, this at once. */
	if ((*z)->socket != NULL)
		(void)zsock_unbind((*z)->socket, ZAP_ENDPOINT);
	zsock_destroy(&(*z)->socket);
	(void)pthread_mutex_destroy(&(*z)->lock);
	free((*z)->key);
	explicit_bzero(&(*z)->magic, sizeof((*z)->magic));
	free(*z);
	*z = NULL;
	errno = saved;
}

struct zap *
zap_start(void)
{
	struct zap *z;

	if ((z = calloc(1, sizeof(*z))) == NULL)
		return (NULL);
	if ((errno = pthread_mutex_init(&z->lock, NULL)) != 0) {
		free(z);
		return (NULL);
	}
	z->magic = ZAP_MAGIC;
	z->stop[0] = z->stop[1] = -1;
	if (pipe2(z->stop, O_CLOEXEC) == -1 ||
	    (z->socket = zsock_new(ZMQ_REP)) == NULL ||
	    zsock_bind(z->socket, ZAP_ENDPOINT) == -1 ||
	    (errno = pthread_create(&z->thread, NULL, run, z)) != 0)
		destroy(&z);
	return (z);
}

void
zap_stop(struct zap **z)
{

	if (*z == NULL)
		return;
	CHECK_OBJ(*z, ZAP_MAGIC);
	fd_close(&(*z)->stop[1]);
	CHECK(pthread_join((*z)->thread, NULL) == 0);
	destroy(z);
}

int
zap_allow(struct zap *z, const struct edges *e)
{
	key_text *key, *old;
	size_t i, n = edges_n(e);

	CHECK_OBJ(z, ZAP_MAGIC);
	if ((key = calloc(n + 1, sizeof(*key))) == NULL)
		return (-1);
	for (i = 0; i < n; i++)
		memcpy(key[i], edges_nth(e, i)->key, sizeof(*key));
	if (n > 0)
		qsort(key, n, sizeof(*key), compare_keys);
	CHECK(pthread_mutex_lock(&z->lock) == 0);
	old = z->key;
	z->key = key;
	z->n = n;
	CHECK(pthread_mutex_unlock(&z->lock) == 0);
	free(old);
	return (0);
}

int
zap_server(void *zmq_socket, const char *secret_key)
{
	int on = 1, enforced = 0;
	size_t len = sizeof(enforced);

	curve_memory();
	if (zmq_setsockopt(zmq_socket, ZMQ_CURVE_SERVER, &on,
	    sizeof(on)) == -1 ||
	    zmq_setsockopt(zmq_socket, ZMQ_CURVE_SECRETKEY, secret_key,
	    strlen(secret_key) + 1) == -1 ||
	    zmq_setsockopt(zmq_socket, ZMQ_ZAP_DOMAIN, ZAP_DOMAIN,
	    strlen(ZAP_DOMAIN)) == -1 ||
	    zmq_setsockopt(zmq_socket, ZMQ_ZAP_ENFORCE_DOMAIN, &on,
	    sizeof(on)) == -1 ||
	    zmq_getsockopt(zmq_socket, ZMQ_ZAP_ENFORCE_DOMAIN, &enforced,
	    &len) == -1)
		return (-1);
	if (enforced != 1) {
		errno = EPROTONOSUPPORT;
		return (-1);
	}
	return (0);
}

int
zap_client(void *zmq_socket, const char *server_key, const char *public_key,
    const char *secret_key)
{

	curve_memory();
	if (zmq_setsockopt(zmq_socket, ZMQ_CURVE_SERVERKEY, server_key,
	    strlen(server_key) + 1) == -1 ||
	    zmq_setsockopt(zmq_socket, ZMQ_CURVE_PUBLICKEY, public_key,
	    strlen(public_key) + 1) == -1 ||
	    zmq_setsockopt(zmq_socket, ZMQ_CURVE_SECRETKEY, secret_key,
	    strlen(secret_key) + 1) == -1)
		return (-1);
	return (0);
}
