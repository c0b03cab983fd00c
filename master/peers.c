/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Descriptors of edges' connections, as ZeroMQ tells them with each message,
 * and the key that last used each.  ZeroMQ itself never cuts a peer whose key
 * was revoked.  Called by the link thread.
 */
#include <sys/socket.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keys/cert.h"
#include "master/peers.h"
#include "proto/check.h"
#include "proto/log.h"

#define	PEERS_MAGIC	0x70656572u
#define	PEERS_MAX	(1 << 20)	/* descriptors that are remembered */
#define	PEERS_STEP	1024

struct peer {
	char	key[CURVE_TEXT];	/* "": nobody's */
};

struct peers {
	unsigned	 magic;
	size_t		 n;
	struct peer	*peer;		/* by descriptor */
};

void
peers_note(struct peers *p, int fd, const char *key)
{
	struct peer *q;
	size_t n;

	CHECK_OBJ(p, PEERS_MAGIC);
	if (fd < 0 || fd >= PEERS_MAX)
		return;
	if ((size_t)fd >= p->n) {
		n = ((size_t)fd / PEERS_STEP + 1) * PEERS_STEP;
		if ((q = realloc(p->peer, n * sizeof(*q))) == NULL)
			return;
		memset(q + p->n, 0, (n - p->n) * sizeof(*q));
		p->peer = q;
		p->n = n;
	}
	snprintf(p->peer[fd].key, sizeof(p->peer[fd].key), "%s", key);
}

/* Port of an endpoint that ZeroMQ gave; 0: none. */
static unsigned
endpoint_port(const char *endpoint)
{
	const char *colon = strrchr(endpoint, ':');

	return (colon == NULL ? 0 : (unsigned)strtoul(colon + 1, NULL, 10));
}

static unsigned
local_port(int fd)
{
	struct sockaddr_storage ss;
	struct sockaddr_in sin;
	struct sockaddr_in6 sin6;
	socklen_t len = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &len) == -1)
		return (0);
	if (ss.ss_family == AF_INET) {
		memcpy(&sin, &ss, sizeof(sin));
		return (ntohs(sin.sin_port));
	}
	if (ss.ss_family == AF_INET6) {
		memcpy(&sin6, &ss, sizeof(sin6));
		return (ntohs(sin6.sin6_port));
	}
	return (0);
}

/*
 * A descriptor's number may have passed on to something else since the peer
 * last spoke; only a connection to one of our ports is cut, and were it another
 * edge's by now, that one comes back at once.
 */
void
peers_cut(struct peers *p, const char *endpoint, const char *other,
    bool (*allowed)(void *arg, const char *key), void *arg)
{
	struct peer *q;
	unsigned port;
	size_t fd;

	CHECK_OBJ(p, PEERS_MAGIC);
	for (fd = 0; fd < p->n; fd++) {
		q = &p->peer[fd];
		if (q->key[0] == '\0' || allowed(arg, q->key))
			continue;
		port = local_port((int)fd);
		if (port != 0 && (port == endpoint_port(endpoint) ||
		    port == endpoint_port(other)) &&
		    shutdown((int)fd, SHUT_RDWR) == 0)
			log_info("cut key=%s: not among the edges any more",
			    q->key);
		memset(q, 0, sizeof(*q));
	}
}

struct peers *
peers_new(void)
{
	struct peers *p = check_alloc(calloc(1, sizeof(*p)));

	p->magic = PEERS_MAGIC;
	return (p);
}

void
peers_destroy(struct peers **pp)
{
	struct peers *p = *pp;

	if (p == NULL)
		return;
	*pp = NULL;
	CHECK_OBJ(p, PEERS_MAGIC);
	free(p->peer);
	explicit_bzero(&p->magic, sizeof(p->magic));
	free(p);
}
