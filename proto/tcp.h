/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_TCP_H
#define	PROTO_TCP_H

#include <sys/socket.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a server asks of the kernel about its TCP sockets. */

/* As httpd_listen(): a non-blocking listening socket, or -1 with errno. */
int	tcp_listen(const char *address);
int	tcp_port(int fd);
/* Numeric address without port; an IPv4 address mapped into IPv6 as IPv4. */
#define	TCP_PEER	64
void	tcp_peer(const struct sockaddr *sa, char out[TCP_PEER]);

/*
 * A number that grows with the bytes that the peer has taken.  Where the kernel
 * tells (Linux) it counts them and *exact is true; elsewhere it merely changes
 * while the send queue moves.
 */
uint64_t tcp_progress(int fd, bool *exact);

enum tcp_peer_state { TCP_THERE, TCP_HALF_CLOSED, TCP_GONE };
struct tcp_look {
	enum tcp_peer_state	peer;	/* it sent its FIN, or a reset */
	int64_t			quiet_ms; /* since its last byte; -1: unknown */
};
/* One system call, where the kernel tells. */
void	tcp_look(int fd, struct tcp_look *out);
/* What close(2) finds in the send queue is dropped, with a reset. */
void	tcp_drop(int fd);

#endif
