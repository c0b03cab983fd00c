/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP sockets of the HTTP server: listening, addresses, and what the kernel
 * knows of a connection's peer.  Called at start and by the server's threads;
 * keeps no state.
 */
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <netdb.h>
#include <netinet/in.h>

#include <errno.h>
#include <poll.h>
#include <string.h>

/* The kernel's own header tells more of a connection than libc's, and the two
 * cannot be had in one file. */
#if defined(__has_include)
#if __has_include(<linux/tcp.h>)
#include <linux/tcp.h>
#define	HAVE_BYTES_ACKED
#define	STATE_ESTABLISHED	1	/* tcpi_state; named for the kernel only */
#define	STATE_CLOSE_WAIT	8
#endif
#if __has_include(<linux/sockios.h>)
#include <linux/sockios.h>
#endif
#if __has_include(<sys/filio.h>)
#include <sys/filio.h>
#endif
#endif

#include "proto/buf.h"
#include "proto/fd.h"
#include "proto/tcp.h"

#define	ADDRESS_MAX	256		/* bytes of an address */
#define	PORT_MAX	65535

/* Splits "ADDR:PORT", "[v6]:PORT" or "*:PORT". */
static int
split(const char *address, char host[ADDRESS_MAX], const char **port)
{
	const char *colon = strrchr(address, ':');
	unsigned long long n;
	size_t len;

	if (colon == NULL ||
	    parse_u64(colon + 1, strlen(colon + 1), PORT_MAX, &n) == -1)
		goto bad;
	len = (size_t)(colon - address);
	if (len >= 2 && address[0] == '[' && colon[-1] == ']') {
		address++;
		len -= 2;
	} else if (memchr(address, ':', len) != NULL)
		goto bad;		/* IPv6 without brackets */
	if (len == 0 || len >= ADDRESS_MAX)
		goto bad;
	(void)memcpy(host, address, len);
	host[len] = '\0';
	*port = colon + 1;
	return (0);
bad:
	errno = EINVAL;
	return (-1);
}

static int
listen_on(const struct addrinfo *ai, bool dual)
{
	int fd, on = 1, v6only = dual ? 0 : 1;

	if ((fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC |
	    SOCK_NONBLOCK, ai->ai_protocol)) == -1)
		return (-1);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
	    (ai->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6,
	    IPV6_V6ONLY, &v6only, sizeof(v6only)) == -1) ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) == -1 ||
	    listen(fd, SOMAXCONN) == -1)
		fd_close(&fd);
	return (fd);
}

static int
listen_at(const char *host, const char *port, bool dual)
{
	struct addrinfo hints, *list;
	int fd;

	(void)memset(&hints, 0, sizeof(hints));
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
	switch (getaddrinfo(host, port, &hints, &list)) {
	case 0:
		break;
	case EAI_SYSTEM:
		return (-1);
	default:
		errno = EADDRNOTAVAIL;
		return (-1);
	}
	fd = listen_on(list, dual);
	freeaddrinfo(list);
	return (fd);
}

int
tcp_listen(const char *address)
{
	char host[ADDRESS_MAX];
	const char *port;
	bool dual;
	int fd;

	if (split(address, host, &port) == -1)
		return (-1);
	dual = strcmp(host, "*") == 0 || strcmp(host, "::") == 0;
	fd = listen_at(dual ? "::" : host, port, dual);
	/* A host that has no IPv6 can still serve. */
	if (fd == -1 && dual && (errno == EAFNOSUPPORT ||
	    errno == EADDRNOTAVAIL || errno == EPROTONOSUPPORT))
		fd = listen_at("0.0.0.0", port, false);
	return (fd);
}

int
tcp_port(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &len) == -1)
		return (-1);
	if (ss.ss_family == AF_INET)
		return (ntohs(((struct sockaddr_in *)&ss)->sin_port));
	if (ss.ss_family == AF_INET6)
		return (ntohs(((struct sockaddr_in6 *)&ss)->sin6_port));
	errno = EAFNOSUPPORT;
	return (-1);
}

void
tcp_peer(const struct sockaddr *sa, char out[TCP_PEER])
{
	static const char mapped[] = "::ffff:";
	socklen_t len = sa->sa_family == AF_INET6 ?
	    sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

	if ((sa->sa_family != AF_INET && sa->sa_family != AF_INET6) ||
	    getnameinfo(sa, len, out, TCP_PEER, NULL, 0, NI_NUMERICHOST) != 0) {
		(void)memcpy(out, "-", 2);
		return;
	}
	if (strncmp(out, mapped, sizeof(mapped) - 1) == 0 &&
	    strchr(out, '.') != NULL)
		(void)memmove(out, out + sizeof(mapped) - 1,
		    strlen(out + sizeof(mapped) - 1) + 1);
}

uint64_t
tcp_progress(int fd, bool *exact)
{
	int queued = 0;

#ifdef HAVE_BYTES_ACKED
	struct tcp_info info;
	socklen_t len = sizeof(info);

	(void)memset(&info, 0, sizeof(info));
	*exact = true;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	    len >= offsetof(struct tcp_info, tcpi_bytes_acked) +
	    sizeof(info.tcpi_bytes_acked))
		return (info.tcpi_bytes_acked);
#endif
	*exact = false;
#if defined(FIONWRITE)
	(void)ioctl(fd, FIONWRITE, &queued);
#elif defined(SIOCOUTQ)
	(void)ioctl(fd, SIOCOUTQ, &queued);
#endif
	return ((uint64_t)queued);
}

/* What poll(2) and recv(2) tell of the peer. */
static enum tcp_peer_state
peer_state(int fd)
{
	struct pollfd p = { .fd = fd, .events = 0 };
	char c;

#ifdef POLLRDHUP
	p.events = POLLRDHUP;
#endif
	if (poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP)) != 0)
		return (TCP_GONE);
#ifdef POLLRDHUP
	if ((p.revents & POLLRDHUP) != 0)
		return (TCP_HALF_CLOSED);
#endif
	if (recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
		return (TCP_HALF_CLOSED);
	return (TCP_THERE);
}

void
tcp_look(int fd, struct tcp_look *out)
{
#ifdef HAVE_BYTES_ACKED
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	    len >= offsetof(struct tcp_info, tcpi_last_data_recv) +
	    sizeof(info.tcpi_last_data_recv)) {
		out->quiet_ms = info.tcpi_last_data_recv;
		out->peer = info.tcpi_state == STATE_ESTABLISHED ? TCP_THERE :
		    info.tcpi_state == STATE_CLOSE_WAIT ? TCP_HALF_CLOSED :
		    TCP_GONE;
		return;
	}
#endif
	out->quiet_ms = -1;
	out->peer = peer_state(fd);
}

void
tcp_drop(int fd)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
}
