/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Limits of an HTTP server, between its configuration and what it is told.
 * Called while starting and on HUP, by the daemon's main thread; limits_log()
 * by the server's reaper.
 */
#include <sys/resource.h>

#include <stdio.h>

#include "proto/httpd.h"
#include "proto/limits.h"
#include "proto/log.h"

/* Files that are open for other things than connections. */
#define	FILES_RESERVED	1024u

#define	LIMIT_NAME(name, counter)	[LIMIT_##name] = #counter,
const char *const limit_names[LIMIT_N] = { LIMITS(LIMIT_NAME) };

static uint64_t
spare(uint64_t files)
{

	return (files / 4 < FILES_RESERVED ? files / 4 : FILES_RESERVED);
}

/* Connections that the limit of open files leaves room for. */
static uint64_t
room(uint64_t files)
{

	return (files - spare(files));
}

/* How many may be open; what is no number is large. */
static uint64_t
files_max(void)
{
	struct rlimit files;

	return (getrlimit(RLIMIT_NOFILE, &files) == -1 ? UINT64_MAX :
	    files.rlim_cur);
}

unsigned
limits_spare_files(void)
{

	return ((unsigned)spare(files_max()));
}

void
limits_conf(struct httpd_conf *c, const struct http_limits *l)
{
	uint64_t connections = l->connections, files = files_max();

	if (connections > room(files)) {
		connections = room(files);
		log_warn("limit connections=%ju not %ju reason=\"only %ju files may be open at once: raise that limit to %ju, or set http.connections lower\"",
		    (uintmax_t)connections, (uintmax_t)l->connections,
		    (uintmax_t)files,
		    (uintmax_t)(l->connections + FILES_RESERVED));
	}
	c->connections = (unsigned)connections;
	c->per_address = (unsigned)l->per_address;
	c->header_s = (unsigned)l->head_timeout;
	c->idle_s = (unsigned)l->idle_timeout;
	c->body_bytes = l->low_rate * l->low_time;
	c->body_s = (unsigned)l->low_time;
	c->requests = l->requests_per_connection;
	c->stop_s = (unsigned)l->stop_timeout;
	c->memory = (size_t)l->head_size;
}

void
limits_log(const uint64_t count[LIMIT_N], uint64_t told[LIMIT_N])
{
	char line[512] = "";
	size_t len = 0;
	int i, n;

	for (i = 0; i < LIMIT_N; i++) {
		if (count[i] == told[i] || i == LIMIT_IDLE_TIMEOUT ||
		    i == LIMIT_REQUESTS || i == LIMIT_GONE)
			continue;
		n = snprintf(line + len, sizeof(line) - len, " %s=%ju",
		    limit_names[i], (uintmax_t)(count[i] - told[i]));
		if (n < 0 || (size_t)n >= sizeof(line) - len)
			break;
		len += (size_t)n;
		told[i] = count[i];
	}
	if (len > 0)
		log_warn("limits struck%s", line);
}
