/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_LOG_H
#define	PROTO_LOG_H

#include <stddef.h>

/*
 * One event, one line: verb, key=value pairs, reason.  Usable from any thread.
 * err: an operator must act; warn: we recovered or dropped a peer; info: state
 * changes; debug: the rest.  Before log_open() everything goes to stderr at
 * info.
 */
enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/*
 * Name of the program (borrowed for ever), destination "stderr" or "syslog",
 * and whether debug messages are wanted.  Returns -1 with errno EINVAL on
 * another destination.
 */
int	log_open(const char *program, const char *to, int verbose);

void	log_err(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * Rate limit for messages that a peer can cause: true at most `burst` times in
 * a second per `struct log_limit` (zero-initialised, static, any thread); the
 * next allowed message after a suppression should say how many were left out
 * (limit->dropped, reset by the caller's log line is not needed).
 */
struct log_limit { long second; unsigned n; unsigned long dropped; };
int	log_allowed(struct log_limit *l, unsigned burst);

/*
 * Peer text made printable: other bytes than ' '..'~', and '\\' and '"', as
 * \xNN; cut with "..." at size.  Returns out.
 */
char	*log_escape(char *out, size_t size, const void *text, size_t len);
/* Buffer size that is enough for most names: use with log_escape(). */
#define	LOG_TEXT	256

#endif
