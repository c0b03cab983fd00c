/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_ADDRESS_H
#define	PROTO_ADDRESS_H

#include <sys/socket.h>
#include <stddef.h>

/*
 * How many connections each address has.  One is an IPv4 address, mapped into
 * IPv6 or not; the first 64 bits of an IPv6 address, since whoever has one has
 * all 2^64 below them (RFC 6177); or a whole link-local address, where those
 * bits are the same for everybody.  The caller's lock guards all of it.
 */
struct addresses;
struct address;

/* Fastest with up to n addresses.  NULL: errno. */
struct addresses *addresses_new(size_t n);
void		 addresses_destroy(struct addresses **a);
/* Connections of the address of sa now. */
size_t		 address_count(const struct addresses *a,
		    const struct sockaddr *sa);
/* One more; NULL: out of memory. */
struct address	*address_take(struct addresses *a, const struct sockaddr *sa);
/* One less. */
void		 address_give(struct address **p);

#endif
