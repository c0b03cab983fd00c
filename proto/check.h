/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_CHECK_H
#define	PROTO_CHECK_H

/*
 * Always-on checks of our own invariants.  No byte from outside may make one
 * fire; a failed check is a bug of ours, says where, and aborts.
 */
#define	CHECK(e) \
	((e) ? (void)0 : check_fail(__func__, __FILE__, __LINE__, #e))
#define	CHECK_OBJ(o, m)	CHECK((o) != NULL && (o)->magic == (m))

_Noreturn void	check_fail(const char *func, const char *file, int line,
		    const char *expr);

/* For allocations while starting up: never NULL; exits 1 when out of memory. */
void		*check_alloc(void *p);

#endif
