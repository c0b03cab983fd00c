/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_CURVE_MEMORY_H
#define	KEYS_CURVE_MEMORY_H

/*
 * Gives ZeroMQ's CURVE handshakes of this process memory that costs no system
 * calls.  A program that calls it has its sodium_allocarray() and sodium_free()
 * from curve_memory.c.  Any thread, any number of times.
 */
void	curve_memory(void);

#endif
