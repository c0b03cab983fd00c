/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_PASSWORD_H
#define	KEYS_PASSWORD_H

#include <stddef.h>

/*
 * Asks for the password of what (a string: the key's file) on the terminal,
 * without echo; where standard input is none, reads a line of that, and writes
 * no prompt.  For seckey_read().  At most size bytes with NUL.  -1: none given
 * (end of input, ^C, too long).
 */
int	password_ask(void *what, char *out, size_t size);
/* A new one: on a terminal asked twice, until both are the same. */
int	password_new(const char *what, char *out, size_t size);

#endif
