/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The access log, in the combined format.  Server threads append lines to one
 * of two buffers of fixed size; a thread of this file exchanges the buffers and
 * writes the full one, so that no request waits for a disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/accesslog.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	ACCESSLOG_MAGIC	0x61636c67u
#define	BUFFER_SIZE	(2u << 20)	/* bytes, each of two */
#define	BUFFER_HURRY	(BUFFER_SIZE / 2)
#define	BATCH_S		1		/* at least that often */
#define	TARGET_TEXT	2048		/* bytes of a target in a line */
#define	LINE_MAX_BYTES	4096
#define	NOTHING_YET	((size_t)-1)

struct accesslog {
	unsigned	 magic;
	char		*path;
	int		 fd;			/* the writer's, once started */
	bool		 torn;			/* likewise: a line was cut */
	bool		 started;
	pthread_t	 writer;
	pthread_cond_t	 wake;
	pthread_mutex_t	 lock;			/* guards what follows */
	char		*buffer, *other;	/* other: the writer's */
	size_t		 len;
	size_t		 reopen_at;		/* or NOTHING_YET */
	unsigned long	 dropped;
	bool		 stop;
};

static int
open_log(const char *path)
{

	return (open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
}

struct accesslog *
accesslog_open(const char *path)
{
	struct accesslog *l;
	pthread_condattr_t attr;
	int error;

	if ((l = calloc(1, sizeof(*l))) == NULL)
		return (NULL);
	l->magic = ACCESSLOG_MAGIC;
	l->reopen_at = NOTHING_YET;
	(void)pthread_mutex_init(&l->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&l->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	if ((l->fd = open_log(path)) == -1 ||
	    (l->path = strdup(path)) == NULL ||
	    (l->buffer = malloc(BUFFER_SIZE)) == NULL ||
	    (l->other = malloc(BUFFER_SIZE)) == NULL) {
		error = errno;
		accesslog_close(&l);
		errno = error;
	}
	return (l);
}

/* The writer's: what fails is lost, and said so. */
static void
put(struct accesslog *l, const char *p, size_t len)
{
	static struct log_limit limit;

	if (len == 0)
		return;
	if ((!l->torn || fd_write_all(l->fd, "\n", 1) == 0) &&
	    fd_write_all(l->fd, p, len) == 0) {
		l->torn = false;
		return;
	}
	l->torn = true;
	if (log_allowed(&limit, 1))
		log_err("write file=%s: %s; access log lines are lost",
		    l->path, strerror(errno));
}

static void
reopen(struct accesslog *l)
{
	int fd;

	if ((fd = open_log(l->path)) == -1) {
		log_err("open file=%s: %s; still writing to the old file",
		    l->path, strerror(errno));
		return;
	}
	fd_close(&l->fd);
	l->fd = fd;
	l->torn = false;
}

/* Writes what is there.  The lock is held, and let go of meanwhile. */
static void
flush(struct accesslog *l)
{
	char *p = l->buffer;
	size_t len = l->len, cut = l->reopen_at;
	unsigned long dropped = l->dropped;

	l->buffer = l->other;
	l->len = 0;
	l->reopen_at = NOTHING_YET;
	l->dropped = 0;
	(void)pthread_mutex_unlock(&l->lock);
	if (cut == NOTHING_YET)
		put(l, p, len);
	else {
		put(l, p, cut);
		reopen(l);
		put(l, p + cut, len - cut);
	}
	if (dropped > 0)
		log_warn("drop access log lines=%lu: file=%s is too slow",
		    dropped, l->path);
	(void)pthread_mutex_lock(&l->lock);
	l->other = p;
}

static void *
write_lines(void *arg)
{
	struct accesslog *l = arg;
	struct timespec ts;

	(void)pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		(void)clock_gettime(CLOCK_MONOTONIC, &ts);
		ts.tv_sec += BATCH_S;
		while (!l->stop && l->len < BUFFER_HURRY &&
		    l->reopen_at == NOTHING_YET &&
		    pthread_cond_timedwait(&l->wake, &l->lock, &ts) == 0)
			continue;
		flush(l);
	}
	(void)pthread_mutex_unlock(&l->lock);
	return (NULL);
}

int
accesslog_start(struct accesslog *l)
{
	int error;

	CHECK_OBJ(l, ACCESSLOG_MAGIC);
	if ((error = pthread_create(&l->writer, NULL, write_lines, l)) != 0) {
		errno = error;
		return (-1);
	}
	l->started = true;
	return (0);
}

/* Not strftime(3): its months depend on the locale. */
static const char *
time_text(void)
{
	static const char month[12][4] = { "Jan", "Feb", "Mar", "Apr", "May",
	    "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	static _Thread_local int64_t second = -1;
	static _Thread_local char text[32];
	int64_t now = clock_real();
	time_t t = (time_t)now;
	struct tm tm;

	if (now != second && gmtime_r(&t, &tm) != NULL) {
		(void)snprintf(text, sizeof(text),
		    "%02d/%s/%04d:%02d:%02d:%02d +0000", tm.tm_mday % 100,
		    month[tm.tm_mon], (tm.tm_year + 1900) % 10000,
		    tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
		second = now;
	}
	return (text);
}

static const char *
escaped(char *out, size_t size, const char *text)
{

	return (text == NULL || *text == '\0' ? "-" :
	    log_escape(out, size, text, strlen(text)));
}

void
accesslog_add(struct accesslog *l, const struct access_line *a)
{
	char target[TARGET_TEXT], referer[LOG_TEXT * 2], agent[LOG_TEXT * 2];
	char method[LOG_TEXT], bytes[24] = "-", line[LINE_MAX_BYTES];
	const char *t, *r, *u, *m;
	int n;

	CHECK_OBJ(l, ACCESSLOG_MAGIC);
	m = escaped(method, sizeof(method), a->method);
	t = escaped(target, sizeof(target), a->target);
	r = escaped(referer, sizeof(referer), a->referer);
	u = escaped(agent, sizeof(agent), a->user_agent);
	if (a->bytes >= 0)
		(void)snprintf(bytes, sizeof(bytes), "%lld",
		    (long long)a->bytes);
	n = snprintf(line, sizeof(line),
	    "%s - - [%s] \"%s %s HTTP/%u.%u\" %u %s \"%s\" \"%s\"\n",
	    a->peer, time_text(), m, t, a->version / 10, a->version % 10,
	    a->status, bytes, r, u);
	(void)pthread_mutex_lock(&l->lock);
	if (n < 0 || (size_t)n >= sizeof(line) ||
	    (size_t)n > BUFFER_SIZE - l->len)
		l->dropped++;
	else {
		(void)memcpy(l->buffer + l->len, line, (size_t)n);
		l->len += (size_t)n;
		if (l->len >= BUFFER_HURRY)
			(void)pthread_cond_signal(&l->wake);
	}
	(void)pthread_mutex_unlock(&l->lock);
}

void
accesslog_reopen(struct accesslog *l)
{

	CHECK_OBJ(l, ACCESSLOG_MAGIC);
	(void)pthread_mutex_lock(&l->lock);
	if (l->reopen_at == NOTHING_YET)
		l->reopen_at = l->len;
	(void)pthread_cond_signal(&l->wake);
	(void)pthread_mutex_unlock(&l->lock);
}

void
accesslog_close(struct accesslog **lp)
{
	struct accesslog *l = *lp;

	if (l == NULL)
		return;
	CHECK_OBJ(l, ACCESSLOG_MAGIC);
	*lp = NULL;
	(void)pthread_mutex_lock(&l->lock);
	l->stop = true;
	(void)pthread_cond_signal(&l->wake);
	(void)pthread_mutex_unlock(&l->lock);
	if (l->started)
		(void)pthread_join(l->writer, NULL);
	if (l->fd != -1 && l->len > 0) {
		(void)pthread_mutex_lock(&l->lock);
		flush(l);
		(void)pthread_mutex_unlock(&l->lock);
	}
	fd_close(&l->fd);
	(void)pthread_cond_destroy(&l->wake);
	(void)pthread_mutex_destroy(&l->lock);
	free(l->path);
	free(l->buffer);
	free(l->other);
	explicit_bzero(l, sizeof(*l));
	free(l);
}
