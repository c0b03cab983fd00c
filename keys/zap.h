/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_ZAP_H
#define	KEYS_ZAP_H

#include <stdbool.h>

#include "keys/cert.h"

/*
 * Our ZAP handler (RFC 27/ZAP over inproc://zeromq.zap.01): accepts CURVE
 * clients whose key is in the given list.  A thread of its own; one a process,
 * started before any server socket is bound.  User-Id of accepted peers is
 * their Z85 key.
 */
struct zap;
struct zap	*zap_start(void);	/* NULL: errno; allows nobody yet */
/* Replaces the list by a copy of e's keys.  Any thread.  -1: out of memory,
 * the old list stays. */
int		 zap_allow(struct zap *z, const struct edges *e);
void		 zap_stop(struct zap **z);
#define	ZAP_DOMAIN	"pkgcast"
/*
 * Makes a raw zmq socket handle a CURVE server in our domain with
 * ZMQ_ZAP_ENFORCE_DOMAIN (option 93) set and read back.  -1: it could not be
 * enforced; do not bind.
 */
int		 zap_server(void *zmq_socket, const char *secret_key);
/* Makes a raw zmq socket a CURVE client. */
int		 zap_client(void *zmq_socket, const char *server_key,
		    const char *public_key, const char *secret_key);

#endif
