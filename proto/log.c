/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages to standard error or syslog, formatted once, one line an event.
 * Any thread.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "proto/clock.h"
#include "proto/date.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	LINE_MAX_LEN	2048

static const char *program = "pkgcast";
static bool to_syslog;
static enum log_level lowest = LOG_LEVEL_INFO;
static const char *const names[] = { "err", "warn", "info", "debug" };
static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

int
log_open(const char *name, const char *to, int verbose)
{

	if (strcmp(to, "syslog") != 0 && strcmp(to, "stderr") != 0) {
		errno = EINVAL;
		return (-1);
	}
	program = name;
	to_syslog = strcmp(to, "syslog") == 0;
	lowest = verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
	if (to_syslog)
		openlog(program, LOG_PID | LOG_NDELAY, LOG_DAEMON);
	return (0);
}

static void emit(enum log_level level, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void
emit(enum log_level level, const char *fmt, va_list ap)
{
	char text[LINE_MAX_LEN - 128], line[LINE_MAX_LEN], when[DATE_ISO];
	int saved = errno, n;
	int64_t now;

	(void)vsnprintf(text, sizeof(text), fmt, ap);
	if (to_syslog) {
		syslog(priorities[level], "%s", text);
	} else {
		now = clock_real_ms();
		n = snprintf(line, sizeof(line), "%.19s.%03dZ %s: %s: %s\n",
		    date_iso(now / 1000, when), (int)(now % 1000), program,
		    names[level], text);
		if (n > 0)
			(void)fd_write_all(STDERR_FILENO, line,
			    (size_t)n < sizeof(line) ? (size_t)n :
			    sizeof(line) - 1);
	}
	errno = saved;
}

#define	LOG_FUNCTION(name, level)					\
void									\
name(const char *fmt, ...)						\
{									\
	va_list ap;							\
									\
	if ((level) > lowest)						\
		return;							\
	va_start(ap, fmt);						\
	emit((level), fmt, ap);						\
	va_end(ap);							\
}

LOG_FUNCTION(log_err, LOG_LEVEL_ERR)
LOG_FUNCTION(log_warn, LOG_LEVEL_WARN)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)

int
log_allowed(struct log_limit *l, unsigned burst)
{
	long now = (long)(clock_boot_ms() / 1000);

	/* Counts may be a little off between threads; the limit holds. */
	if (__atomic_exchange_n(&l->second, now, __ATOMIC_RELAXED) != now)
		__atomic_store_n(&l->n, 0, __ATOMIC_RELAXED);
	if (__atomic_fetch_add(&l->n, 1, __ATOMIC_RELAXED) < burst)
		return (1);
	(void)__atomic_fetch_add(&l->dropped, 1, __ATOMIC_RELAXED);
	return (0);
}

char *
log_escape(char *out, size_t size, const void *text, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *p = text;
	size_t i, o = 0, need;
	bool plain;

	if (size == 0)
		return (out);
	for (i = 0; i < len; i++) {
		plain = p[i] >= ' ' && p[i] <= '~' && p[i] != '\\' &&
		    p[i] != '"';
		need = plain ? 1 : 4;
		/* Leave room for "..." unless this is the end. */
		if (o + need + (i + 1 < len ? 3 : 0) + 1 > size) {
			while (o + 4 > size && o > 0)
				o--;
			if (size >= 4) {
				memcpy(out + o, "...", 3);
				o += 3;
			}
			break;
		}
		if (plain) {
			out[o++] = (char)p[i];
			continue;
		}
		out[o++] = '\\';
		out[o++] = 'x';
		out[o++] = hex[p[i] >> 4];
		out[o++] = hex[p[i] & 15];
	}
	out[o] = '\0';
	return (out);
}
