/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The access log, in the combined format.  Each server thread appends to a
 * buffer that it shares with few others; a thread of this file exchanges full
 * buffers for empty ones and writes them, so that no request waits for a disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
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
#define	SHARDS		8
#define	BUFFER_SIZE	(1u << 20)	/* bytes; each shard has two, at most */
#define	BUFFER_HURRY	(BUFFER_SIZE / 2)
#define	BATCH_MS	1000		/* at least that often */
#define	TARGET_TEXT	2048		/* bytes of a target in a line */
#define	LINE_MAX_BYTES	4096
#define	NOTHING_YET	((size_t)-1)
#define	CACHE_LINE	64

struct shard {
	_Alignas(CACHE_LINE) pthread_mutex_t lock;	/* guards what follows */
	char		*buffer;		/* NULL before its first line */
	size_t		 len;
	size_t		 reopen_at;		/* or NOTHING_YET */
	unsigned long	 dropped;
};

/* What the writer took from a shard. */
struct batch {
	char		*buffer;
	size_t		 len, cut;
	unsigned long	 dropped;
};

/* Locks: accesslog.lock, then a shard's. */
struct accesslog {
	unsigned	 magic;
	char		*path;
	int		 fd;			/* the writer's, once started */
	bool		 torn;			/* likewise: a line was cut */
	char		*spare[SHARDS];		/* likewise: empty buffers */
	bool		 started;
	pthread_t	 writer;
	pthread_cond_t	 wake;
	pthread_mutex_t	 lock;			/* guards what follows */
	bool		 hurry, stop;
	struct shard	 shard[SHARDS];
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
	int error, i;

	if ((l = aligned_alloc(CACHE_LINE, sizeof(*l))) == NULL)
		return (NULL);
	memset(l, 0, sizeof(*l));
	l->magic = ACCESSLOG_MAGIC;
	(void)pthread_mutex_init(&l->lock, NULL);
	clock_cond_init(&l->wake);
	for (i = 0; i < SHARDS; i++) {
		(void)pthread_mutex_init(&l->shard[i].lock, NULL);
		l->shard[i].reopen_at = NOTHING_YET;
	}
	if ((l->fd = open_log(path)) == -1 ||
	    (l->path = strdup(path)) == NULL) {
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

/* Takes a shard's lines for an empty buffer. */
static void
take(struct shard *h, char **spare, struct batch *b)
{

	(void)pthread_mutex_lock(&h->lock);
	*b = (struct batch){ .buffer = h->buffer, .len = h->len,
	    .cut = h->reopen_at, .dropped = h->dropped };
	h->buffer = *spare;		/* NULL: its next line makes one */
	h->len = 0;
	h->reopen_at = NOTHING_YET;
	h->dropped = 0;
	(void)pthread_mutex_unlock(&h->lock);
	*spare = NULL;
}

/*
 * Writes what is there.  Of each shard, what came before accesslog_reopen()
 * goes to the old file, and the rest to the new one.
 */
static void
flush(struct accesslog *l)
{
	struct batch batch[SHARDS], *b;
	unsigned long dropped = 0;
	bool again = false;
	int i;

	for (i = 0; i < SHARDS; i++) {
		b = &batch[i];
		take(&l->shard[i], &l->spare[i], b);
		dropped += b->dropped;
		again = again || b->cut != NOTHING_YET;
		if (b->cut == NOTHING_YET)
			b->cut = b->len;
		put(l, b->buffer, b->cut);
	}
	if (again)
		reopen(l);
	for (i = 0; i < SHARDS; i++) {
		b = &batch[i];
		if (b->len > b->cut)
			put(l, b->buffer + b->cut, b->len - b->cut);
		l->spare[i] = b->buffer;
	}
	if (dropped > 0)
		log_warn("drop access log lines=%lu: file=%s is too slow",
		    dropped, l->path);
}

static void *
write_lines(void *arg)
{
	struct accesslog *l = arg;

	(void)pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		while (!l->stop && !l->hurry &&
		    clock_wait(&l->wake, &l->lock, BATCH_MS))
			continue;
		l->hurry = false;
		(void)pthread_mutex_unlock(&l->lock);
		flush(l);
		(void)pthread_mutex_lock(&l->lock);
	}
	(void)pthread_mutex_unlock(&l->lock);
	return (NULL);
}

static void
hurry(struct accesslog *l)
{

	(void)pthread_mutex_lock(&l->lock);
	l->hurry = true;
	(void)pthread_cond_signal(&l->wake);
	(void)pthread_mutex_unlock(&l->lock);
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

/* A line while it is written; what has no room makes it too long. */
struct text {
	char	*p, *end;
	bool	 full;
};

static void
add(struct text *t, const char *s, size_t len)
{

	if ((size_t)(t->end - t->p) <= len) {
		t->full = true;
		return;
	}
	memcpy(t->p, s, len);
	t->p += len;
}

static void
adds(struct text *t, const char *s)
{

	add(t, s, strlen(s));
}

/* Peer text, at most size bytes of it. */
static void
add_escaped(struct text *t, size_t size, const char *s)
{
	size_t room = (size_t)(t->end - t->p);

	if (s == NULL || *s == '\0')
		s = "-";
	if (room < size) {
		t->full = true;
		return;
	}
	t->p += strlen(log_escape(t->p, size, s, strlen(s)));
}

static void
add_number(struct text *t, uint64_t v)
{
	char digits[20], *p = digits + sizeof(digits);

	do
		*--p = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	add(t, p, (size_t)(digits + sizeof(digits) - p));
}

/* The whole line in buf.  Its length, or 0: it is too long. */
static size_t
format(const struct access_line *a, char *buf, size_t size)
{
	struct text t = { .p = buf, .end = buf + size };

	adds(&t, a->peer);
	adds(&t, " - - [");
	adds(&t, time_text());
	adds(&t, "] \"");
	add_escaped(&t, LOG_TEXT, a->method);
	adds(&t, " ");
	add_escaped(&t, TARGET_TEXT, a->target);
	adds(&t, a->version == 10 ? " HTTP/1.0\" " : " HTTP/1.1\" ");
	add_number(&t, a->status);
	adds(&t, " ");
	if (a->bytes >= 0)
		add_number(&t, (uint64_t)a->bytes);
	else
		adds(&t, "-");
	adds(&t, " \"");
	add_escaped(&t, 2 * LOG_TEXT, a->referer);
	adds(&t, "\" \"");
	add_escaped(&t, 2 * LOG_TEXT, a->user_agent);
	adds(&t, "\"\n");
	return (t.full ? 0 : (size_t)(t.p - buf));
}

/* Threads take shards in turn, and keep theirs. */
static struct shard *
my_shard(struct accesslog *l)
{
	static atomic_uint threads;
	static _Thread_local unsigned mine;

	if (mine == 0)
		mine = atomic_fetch_add(&threads, 1) % SHARDS + 1;
	return (&l->shard[mine - 1]);
}

void
accesslog_add(struct accesslog *l, const struct access_line *a)
{
	char line[LINE_MAX_BYTES];
	struct shard *h;
	size_t len, before;
	bool full;

	CHECK_OBJ(l, ACCESSLOG_MAGIC);
	len = format(a, line, sizeof(line));
	h = my_shard(l);
	(void)pthread_mutex_lock(&h->lock);
	before = h->len;
	if (h->buffer == NULL)
		h->buffer = malloc(BUFFER_SIZE);
	if (h->buffer == NULL || len == 0 || len > BUFFER_SIZE - h->len)
		h->dropped++;
	else {
		memcpy(h->buffer + h->len, line, len);
		h->len += len;
	}
	full = before < BUFFER_HURRY && h->len >= BUFFER_HURRY;
	(void)pthread_mutex_unlock(&h->lock);
	if (full)
		hurry(l);
}

void
accesslog_reopen(struct accesslog *l)
{
	struct shard *h;
	int i;

	CHECK_OBJ(l, ACCESSLOG_MAGIC);
	for (i = 0; i < SHARDS; i++) {
		h = &l->shard[i];
		(void)pthread_mutex_lock(&h->lock);
		if (h->reopen_at == NOTHING_YET)
			h->reopen_at = h->len;
		(void)pthread_mutex_unlock(&h->lock);
	}
	hurry(l);
}

void
accesslog_close(struct accesslog **lp)
{
	struct accesslog *l = *lp;
	int i;

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
	if (l->fd != -1)
		flush(l);
	fd_close(&l->fd);
	for (i = 0; i < SHARDS; i++) {
		(void)pthread_mutex_destroy(&l->shard[i].lock);
		free(l->shard[i].buffer);
		free(l->spare[i]);
	}
	(void)pthread_cond_destroy(&l->wake);
	(void)pthread_mutex_destroy(&l->lock);
	free(l->path);
	explicit_bzero(l, sizeof(*l));
	free(l);
}
