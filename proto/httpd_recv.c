/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libmicrohttpd before 1.0 ends a line at LF alone and a head at a line that
 * begins with a colon or NUL, and puts NUL where it found CR, LF or the colon:
 * "NUL LF", "colon LF" and "CR LF" look alike afterwards, and no call of the
 * library shows the bytes as they came.  But it reads them with recv(), and the
 * dynamic linker lets the program's own recv() stand before the C library's.
 * A request without a body has no use for those bytes anywhere, so that it is
 * enough to look at the stream.
 *
 * Called by httpd.c, and by whatever reads from a socket, on any thread; one
 * thread reads from a descriptor.
 */
#include <sys/types.h>
#include <sys/socket.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <microhttpd.h>

#include "proto/httpd_recv.h"

#if MHD_VERSION < 0x01000000

#define	WATCH_MAX	(1 << 20)	/* descriptors; a byte each, if used */
#define	WATCHED		0x1u
#define	AFTER_CR	0x2u
#define	BAD		0x4u

static _Atomic uint8_t watched[WATCH_MAX];

static bool
in_table(int fd)
{

	return (fd >= 0 && fd < WATCH_MAX);
}

void
httpd_recv_watch(int fd)
{

	if (in_table(fd))
		atomic_store_explicit(&watched[fd], WATCHED,
		    memory_order_relaxed);
}

void
httpd_recv_forget(int fd)
{

	if (in_table(fd))
		atomic_store_explicit(&watched[fd], 0, memory_order_relaxed);
}

bool
httpd_recv_bad(int fd)
{

	return (in_table(fd) && (atomic_load_explicit(&watched[fd],
	    memory_order_relaxed) & BAD) != 0);
}

/* Whether none of the eight bytes at p is CR or lower; it may doubt more. */
static bool
all_above_cr(const unsigned char *p)
{
	const uint64_t ones = UINT64_MAX / 0xff;
	uint64_t x;

	(void)memcpy(&x, p, sizeof(x));
	return (((x - ones * ('\r' + 1)) & ~x & ones * 0x80) == 0);
}

/* The state after len more bytes. */
static unsigned
look(unsigned state, const unsigned char *p, size_t len)
{
	const unsigned char *end = p + len;
	bool cr = (state & AFTER_CR) != 0;

	for (; p < end; p++) {
		while (!cr && end - p > 8 && all_above_cr(p))
			p += 8;
		if (*p > '\r' && !cr)
			continue;
		if (*p == '\0' || cr != (*p == '\n'))
			return (WATCHED | BAD);
		cr = *p == '\r';
	}
	return (WATCHED | (cr ? AFTER_CR : 0));
}

ssize_t
recv(int fd, void *buf, size_t len, int flags)
{
	ssize_t n = recvfrom(fd, buf, len, flags, NULL, NULL);
	unsigned state;

	if (n <= 0 || (flags & MSG_PEEK) != 0 || !in_table(fd))
		return (n);
	state = atomic_load_explicit(&watched[fd], memory_order_relaxed);
	if ((state & WATCHED) != 0 && (state & BAD) == 0)
		atomic_store_explicit(&watched[fd],
		    (uint8_t)look(state, buf, (size_t)n),
		    memory_order_relaxed);
	return (n);
}

#else

void
httpd_recv_watch(int fd)
{

	(void)fd;
}

void
httpd_recv_forget(int fd)
{

	(void)fd;
}

bool
httpd_recv_bad(int fd)
{

	(void)fd;
	return (false);
}

#endif
