/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_CURVE_MEMORY_H
#define	KEYS_CURVE_MEMORY_H

/*
 * From now on ZeroMQ's CURVE handshakes of this process have memory that costs no
 * system calls.  Any thread, any number of times.  (The sodium_allocarray() and
 * sodium_free() of all programs that use secret keys are those of
 * curve_memory.c; until this is called they do as libsodium's.)
 */
void	curve_memory(void);

#define	CURVE_BLOCKS	32		/* so many texts at once, */
#define	CURVE_BLOCK	1024		/* bytes of one; an edge's have less */

#endif
