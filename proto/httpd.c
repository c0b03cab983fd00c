/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HTTP server of both daemons, on libmicrohttpd: it turns requests into
 * calls of the daemon's handler, refuses those that are ambiguous, and
 * suspends and resumes connections that wait.  Handlers and bodies run on the library's worker
 * threads; httpd_start() and httpd_stop() on the daemon's main thread;
 * httpd_wake() on any.
 *
 * A request lives inside its connection's object: one at a time, and its body
 * is released before the connection is closed.
 */
#include <sys/socket.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <microhttpd.h>

#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/framing.h"
#include "proto/httpd_recv.h"
#include "proto/httpd_request.h"
#include "proto/log.h"

#define	HTTPD_MAGIC	0x68747470u

#define	UPLOAD_MEMORY	(256u << 10)	/* a connection that takes uploads */
#define	THREADS_MAX	256
#define	CONNECTIONS_MAX	(1u << 21)	/* of a thread; more than any limit */
#define	LOG_BURST	2		/* of the library's messages a second */
#define	STOP_STEP_MS	20
#define	CLOSE_MS	5000		/* for connections that were cut */

struct httpd {
	unsigned		 magic;
	struct httpd_conf	 conf;
	char			 via[ANSWER_VALUE];
	struct conn_table	*table;
	size_t			 n;
	struct MHD_Daemon	**daemon;
	int			*fd;		/* its listening socket */
	int			 silent[2];	/* see close_sockets() */
	_Atomic uint64_t	 requests, connections, refused, bytes;
	atomic_uint		 stop_s;
};

const char *
httpd_via(const struct httpd *h)
{

	return (h->via[0] != '\0' ? h->via : NULL);
}

/* From the library to the handler. */

/* Calls the handler, as often as it was woken before it could wait. */
static enum MHD_Result
dispatch(struct httpd_request *r)
{
	const struct httpd_conf *conf = &r->httpd->conf;

	for (;;) {
		if (conn_is_cut(&r->conn))
			return (MHD_NO);
		r->action = ACTION_NONE;
		conf->handler(conf->arg, r);
		CHECK(r->action != ACTION_NONE);
		switch (r->action) {
		case ACTION_REPLY:
			r->early = r->length > r->received;
			return ((enum MHD_Result)httpd_answer(r));
		case ACTION_ACCEPT:
			r->accepted = true;
			conn_phase(&r->conn, CONN_RECEIVE);
			return (MHD_YES);
		case ACTION_NONE:
		case ACTION_WAIT:
			break;
		}
		switch (conn_wait(&r->conn)) {
		case CONN_AGAIN:
			break;
		case CONN_SUSPENDED:
			return (MHD_YES);
		case CONN_CUT:
			return (MHD_NO);
		}
	}
}

/*
 * The first call: the head was read, a body was not.  A response that is queued
 * now also closes the connection, which is what a refusal wants.
 */
static enum MHD_Result
begin(struct httpd_request *r, const char *url, const char *method,
    const char *version)
{
	struct answer a;
	int status;

	r->begun = true;
	conn_phase(&r->conn, CONN_WORK);
	if ((status = httpd_head_read(r, url, method, version,
	    r->httpd->conf.on_body != NULL)) == -1)
		return (MHD_NO);
	if (status != 0) {
		atomic_fetch_add(&r->httpd->refused, 1);
		answer_status(&a, (unsigned)status, 0);
		if (status == 405)
			answer_header(&a, "Allow", "%s",
			    r->httpd->conf.on_body != NULL ?
			    "GET, HEAD, OPTIONS, POST, PUT" :
			    "GET, HEAD, OPTIONS");
		r->early = true;
		httpd_reply(r, &a, NULL);
		return ((enum MHD_Result)httpd_answer(r));
	}
	atomic_fetch_add(&r->httpd->requests, 1);
	/* So does an answer that is its connection's last. */
	return (r->length > 0 || conn_is_last(&r->conn) ? dispatch(r) :
	    MHD_YES);
}

static enum MHD_Result
handle(void *arg, struct MHD_Connection *mhd, const char *url,
    const char *method, const char *version, const char *data, size_t *size,
    void **ctx)
{
	struct httpd_request *r = *ctx;
	const struct httpd_conf *conf;

	(void)arg;
	(void)mhd;
	if (r == NULL)			/* no memory for its target */
		return (MHD_NO);
	CHECK_OBJ(r, REQUEST_MAGIC);
	if (!r->begun)
		return (begin(r, url, method, version));
	/* 0.9.75 offers 0 bytes of a body that is not there, once it said 100. */
	if (*size == 0)
		return (data != NULL ? MHD_YES : dispatch(r));
	conf = &r->httpd->conf;
	if (!r->accepted || *size > r->length - r->received)
		return (MHD_NO);
	r->received += *size;
	conn_received(&r->conn, *size);
	if (conf->on_body(conf->arg, r, data, *size) == -1)
		return (MHD_NO);
	*size = 0;
	if (r->received == r->length)
		conn_phase(&r->conn, CONN_WORK);
	return (MHD_YES);
}

static struct httpd_request *
request_of(struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info;

	info = MHD_get_connection_info(mhd,
	    MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	return (info == NULL ? NULL : info->socket_context);
}

/* The request line was read: its target, before the library takes it apart. */
static void *
request_line(void *arg, const char *uri, struct MHD_Connection *mhd)
{
	struct httpd_request *r = request_of(mhd);
	size_t len = strlen(uri);

	(void)arg;
	if (r == NULL)
		return (NULL);
	CHECK_OBJ(r, REQUEST_MAGIC);
	if (httpd_request_room(r, len + 1) == -1)
		return (NULL);
	(void)memcpy(r->text, uri, len + 1);
	r->target = r->text;
	r->target_len = len;
	r->text_len = len + 1;
	r->active = true;
	r->early = false;
	conn_request(&r->conn);
	return (r);
}

static void
completed(void *arg, struct MHD_Connection *mhd, void **ctx,
    enum MHD_RequestTerminationCode toe)
{
	struct httpd_request *r = *ctx;
	bool complete = toe == MHD_REQUEST_TERMINATED_COMPLETED_OK;

	(void)arg;
	(void)mhd;
	*ctx = NULL;
	if (r == NULL)
		return;
	CHECK_OBJ(r, REQUEST_MAGIC);
	atomic_fetch_add(&r->httpd->bytes, complete ? r->body_length :
	    r->handed);
	if (r->active && r->httpd->conf.log != NULL)
		httpd_request_log(r, r->httpd->conf.log, complete);
	if (r->state_release != NULL)
		r->state_release(r->state);
	if (r->shared_release != NULL)
		r->shared_release(r->shared);
	httpd_request_reset(r);
	conn_phase(&r->conn, CONN_IDLE);
}

static void
suspend(struct conn *c)
{
	struct httpd_request *r = (struct httpd_request *)(void *)
	    ((char *)c - offsetof(struct httpd_request, conn));

	MHD_suspend_connection(r->mhd);
}

static void
resume(struct conn *c)
{
	struct httpd_request *r = (struct httpd_request *)(void *)
	    ((char *)c - offsetof(struct httpd_request, conn));

	MHD_resume_connection(r->mhd);
}

/* Asked for each connection before anything is made for it. */
static enum MHD_Result
admit(void *arg, const struct sockaddr *sa, socklen_t len)
{
	struct httpd *h = arg;

	CHECK_OBJ(h, HTTPD_MAGIC);
	(void)len;
	return (conn_admit(h->table, sa) ? MHD_YES : MHD_NO);
}

static void
connection_open(struct httpd *h, struct MHD_Connection *mhd, void **ctx)
{
	const union MHD_ConnectionInfo *info;
	struct httpd_request *r;
	int fd;

	/* 1.0 has one place for what it tells of a connection: take it away
	 * before asking again. */
	info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	fd = info != NULL ? info->connect_fd : -1;
	info = MHD_get_connection_info(mhd,
	    MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	if (fd == -1 || info == NULL)
		return;			/* its requests end at request_line() */
	if ((r = calloc(1, sizeof(*r))) == NULL || !conn_open(&r->conn,
	    h->table, fd, info->client_addr)) {
		(void)shutdown(fd, SHUT_RDWR);
		free(r);
		return;
	}
	r->magic = REQUEST_MAGIC;
	r->httpd = h;
	r->mhd = mhd;
	httpd_request_reset(r);
	if (h->conf.on_body == NULL)
		httpd_recv_watch(fd);
	atomic_fetch_add(&h->connections, 1);
	*ctx = r;
}

static void
connection(void *arg, struct MHD_Connection *mhd, void **ctx,
    enum MHD_ConnectionNotificationCode code)
{
	struct httpd *h = arg;
	struct httpd_request *r = *ctx;

	CHECK_OBJ(h, HTTPD_MAGIC);
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		connection_open(h, mhd, ctx);
		return;
	}
	if (r == NULL)
		return;
	CHECK_OBJ(r, REQUEST_MAGIC);
	*ctx = NULL;
	httpd_recv_forget(r->conn.fd);
	conn_close(&r->conn, r->early);
	free(r->text);
	explicit_bzero(r, sizeof(*r));
	free(r);
}

/* Targets stay as they were sent: route.c decodes, once. */
static size_t
unescape(void *arg, struct MHD_Connection *mhd, char *s)
{

	(void)arg;
	(void)mhd;
	return (strlen(s));
}

static void library_log(void *arg, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

/* What the library says whenever a client goes away, is cut, or sends what
 * cannot be parsed, or its socket was closed (close_sockets()). */
static bool
is_routine(const char *message)
{
	static const char *const starts[] = {
		"Closing connection", "Connection socket is closed",
		"Failed to send", "Failed to parse", "Error processing request",
		"Application reported internal error", "Too large value",
		"Received HTTP/1.1 request without",
		"Not enough memory in pool", "Connection was closed by remote",
		"The request line", "The NUL character",
		"Too many meaningless",
		"Error accepting connection: Socket operation on non-socket",
	};
	size_t i;

	for (i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
		if (strncmp(message, starts[i], strlen(starts[i])) == 0)
			return (true);
	return (false);
}

/* Only here does it say that it refused a head that its memory cannot hold. */
static bool
is_too_large(const char *message)
{
	static const char start[] =
	    "Error processing request (HTTP response code is ";
	const char *code = message + sizeof(start) - 1;

	return (strncmp(message, start, sizeof(start) - 1) == 0 &&
	    (strncmp(code, "414", 3) == 0 || strncmp(code, "431", 3) == 0));
}

static void
library_log(void *arg, const char *fmt, va_list ap)
{
	static struct log_limit limit;
	char text[LOG_TEXT], line[LOG_TEXT];
	size_t len;

	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		return;
	if (is_too_large(text))
		conn_table_count(((struct httpd *)arg)->table, LIMIT_HEAD_SIZE);
	for (len = strlen(text); len > 0 && isspace((unsigned char)
	    text[len - 1]); len--)
		continue;
	(void)log_escape(line, sizeof(line), text, len);
	if (is_routine(text))
		log_debug("httpd: %s", line);
	else if (log_allowed(&limit, LOG_BURST))
		log_warn("httpd: %s", line);
}

/* Starting and stopping. */

void
httpd_conf_defaults(struct httpd_conf *c)
{

	c->connections = 10000;
	c->per_address = 256;
	c->header_s = 15;
	c->idle_s = 75;
	c->body_bytes = 61440;		/* 1 KiB/s */
	c->body_s = 60;
	c->requests = 10000;
	c->stop_s = 30;
	c->memory = 16384;
}

int
httpd_listen(const char *address)
{

	return (tcp_listen(address));
}

int
httpd_port(int fd)
{

	return (tcp_port(fd));
}

static unsigned
thread_count(unsigned wish)
{
	long n = (long)wish;

	if (n == 0)
		n = sysconf(_SC_NPROCESSORS_ONLN);
	return (n < 2 && wish == 0 ? 2 : n < 1 ? 1 :
	    n > THREADS_MAX ? THREADS_MAX : (unsigned)n);
}

static struct MHD_Daemon *
daemon_start(struct httpd *h, int fd)
{
	unsigned threads = thread_count(h->conf.threads);
	unsigned flags = MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem pool[2] = { { MHD_OPTION_END, 0, NULL },
	    { MHD_OPTION_END, 0, NULL } };

	flags |= MHD_is_feature_supported(MHD_FEATURE_EPOLL) == MHD_YES ?
	    MHD_USE_EPOLL_INTERNAL_THREAD : MHD_USE_AUTO_INTERNAL_THREAD;
	/* Told of a pool of one, or none, the library complains. */
	if (threads > 1)
		pool[0] = (struct MHD_OptionItem){ MHD_OPTION_THREAD_POOL_SIZE,
		    (intptr_t)threads, NULL };
	/* Its own limits, which it counts nowhere, are out of reach. */
	return (MHD_start_daemon(flags, 0, admit, h, handle, h,
	    MHD_OPTION_EXTERNAL_LOGGER, library_log, h,
	    MHD_OPTION_LISTEN_SOCKET, fd,
	    MHD_OPTION_ARRAY, pool,
	    MHD_OPTION_CONNECTION_LIMIT, threads * CONNECTIONS_MAX,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, h->conf.memory,
	    MHD_OPTION_STRICT_FOR_CLIENT, 1,
	    MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
	    MHD_OPTION_URI_LOG_CALLBACK, request_line, h,
	    MHD_OPTION_NOTIFY_COMPLETED, completed, h,
	    MHD_OPTION_NOTIFY_CONNECTION, connection, h,
	    MHD_OPTION_END));
}

static struct conn_limits
conn_limits(const struct httpd_conf *c)
{

	return ((struct conn_limits){
		.connections = c->connections, .per_address = c->per_address,
		.header_s = c->header_s, .idle_s = c->idle_s,
		.body_s = c->body_s, .body_bytes = c->body_bytes,
		.requests = c->requests,
	});
}

void
httpd_limit(struct httpd *h, const struct httpd_conf *c)
{
	struct conn_limits l = conn_limits(c);

	if (conn_table_limit(h->table, &l) == -1)
		log_err("limits not changed reason=\"%s\"", strerror(errno));
	atomic_store(&h->stop_s, c->stop_s);
}

struct httpd *
httpd_start(const struct httpd_conf *c, int *fds, size_t n)
{
	struct conn_library library = { .suspend = suspend, .resume = resume };
	struct conn_limits limits = conn_limits(c);
	struct httpd *h;
	size_t i;
	int error;

	CHECK(c->handler != NULL && n > 0);
	if ((h = calloc(1, sizeof(*h))) == NULL)
		goto fail;
	h->magic = HTTPD_MAGIC;
	h->conf = *c;
	if (c->server != NULL)
		(void)snprintf(h->via, sizeof(h->via), "1.1 %s", c->server);
	if (c->on_body != NULL && h->conf.memory < UPLOAD_MEMORY)
		h->conf.memory = UPLOAD_MEMORY;
	h->n = n;
	h->silent[0] = h->silent[1] = -1;
	atomic_init(&h->stop_s, c->stop_s);
	if ((h->daemon = calloc(n, sizeof(struct MHD_Daemon *))) == NULL ||
	    (h->fd = calloc(n, sizeof(*h->fd))) == NULL ||
	    pipe2(h->silent, O_CLOEXEC) == -1 ||
	    (h->table = conn_table_new(&limits, &library)) == NULL)
		goto fail;
	for (i = 0; i < n; i++) {
		if ((h->daemon[i] = daemon_start(h, fds[i])) == NULL)
			goto fail;
		h->fd[i] = fds[i];
		fds[i] = -1;
	}
	return (h);
fail:
	error = errno != 0 ? errno : EINVAL;
	httpd_stop(&h);
	for (i = 0; i < n; i++)
		fd_close(&fds[i]);
	errno = error;
	return (NULL);
}

/* Ends all connections, those that wait included: the library aborts when it
 * is stopped while one is suspended. */
static void
end_connections(struct httpd *h)
{
	int64_t until = clock_boot_ms() + 1000 *
	    (int64_t)atomic_load(&h->stop_s);
	size_t n;

	while ((n = conn_table_cut_idle(h->table)) > 0 &&
	    clock_boot_ms() < until)
		clock_sleep(STOP_STEP_MS);
	if (n > 0)
		log_warn("stop cut=%zu reason=\"answers that are not finished within stop-timeout\"",
		    n);
	until = clock_boot_ms() + CLOSE_MS;
	do {
		conn_table_cut_all(h->table);
		clock_sleep(STOP_STEP_MS);
	} while (conn_table_n(h->table) > 0 && clock_boot_ms() < until);
}

/*
 * Nobody new is let in.  The library would have us call MHD_quiesce_daemon(),
 * but where it uses epoll, that and the thread that waits both take the socket out
 * of the set, and who comes second aborts the process (seen in 0.9.75).  So the
 * sockets are closed, and what the library waits for under their numbers is the
 * end of a pipe, which stays silent while its other end is open.
 */
static void
close_sockets(struct httpd *h)
{
	size_t i;

	for (i = 0; i < h->n; i++)
		if (h->daemon[i] != NULL)
			(void)dup3(h->silent[0], h->fd[i], O_CLOEXEC);
}

void
httpd_stop(struct httpd **hp)
{
	struct httpd *h = *hp;
	size_t i;

	if (h == NULL)
		return;
	CHECK_OBJ(h, HTTPD_MAGIC);
	*hp = NULL;
	if (h->table != NULL) {
		close_sockets(h);
		end_connections(h);
	}
	for (i = 0; h->daemon != NULL && i < h->n; i++)
		if (h->daemon[i] != NULL)
			MHD_stop_daemon(h->daemon[i]);
	fd_close(&h->silent[0]);
	fd_close(&h->silent[1]);
	conn_table_destroy(&h->table);
	free(h->fd);
	free(h->daemon);
	explicit_bzero(h, sizeof(*h));
	free(h);
}

void
httpd_stats(const struct httpd *h, struct httpd_stats *s)
{

	s->requests = atomic_load(&h->requests);
	s->connections = atomic_load(&h->connections);
	s->refused = atomic_load(&h->refused);
	s->bytes = atomic_load(&h->bytes);
	s->open = conn_table_n(h->table);
	conn_table_counts(h->table, s->limited);
}
