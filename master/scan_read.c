/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Digests and rows of the files of a scan.  Called by master/scan.c; starts
 * threads and ends them.
 */

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/scan_impl.h"
#include "proto/chunk.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	SCAN_THREADS	64
#define	SCAN_TICK_MS	200

/* A file to be read. */
struct todo {
	uint64_t	 size;
	size_t		 index;
};

/* Readers at work. */
struct reading {
	const struct scan_conf	*conf;
	struct scan		*scan;
	struct parse_error	*err;
	struct todo		*todo;		/* the largest first */
	size_t			 n;
	atomic_size_t		 next;
	atomic_uint_fast64_t	 files, bytes;
	atomic_bool		 failed;
	pthread_mutex_t		 lock;		/* guards err, running */
	pthread_cond_t		 ended;
	unsigned		 running;
};

int
scan_refuse(struct parse_error *err, const char *path, const char *why)
{
	char name[LOG_TEXT / 2];

	(void)log_escape(name, sizeof(name), path, strlen(path));
	return (parse_fail(err, 0, "%s: %s", name, why));
}

bool
scan_stopped(const struct scan_conf *c)
{

	return (c->stop != NULL && *c->stop != 0);
}

int
scan_open_item(const struct scan *s, const struct item *it)
{
	struct scan_identity now;
	struct stat st;
	int fd;

	if ((fd = openat(s->dirfd, it->e.path, O_RDONLY | O_NOFOLLOW |
	    O_NONBLOCK | O_CLOEXEC)) == -1)
		return (-1);
	if (fstat(fd, &st) == -1)
		goto fail;
	scan_identity(&now, &st);
	/* A new hard link changes ctime: the content is what counts here. */
	now.ctime = it->id.ctime;
	now.ctime_ns = it->id.ctime_ns;
	if (!S_ISREG(st.st_mode) || scan_identity_cmp(&now, &it->id) != 0) {
		errno = ESTALE;
		goto fail;
	}
	return (fd);
fail:
	fd_close(&fd);
	return (-1);
}

static int
read_item(const struct reading *w, struct item *it)
{
	size_t rows = (size_t)chunk_rows(it->e.size) * DIGEST_LEN;
	int fd, ret = -1;

	if (rows > CHUNK_TABLE_MAX) {
		errno = EFBIG;
		return (-1);
	}
	if ((fd = scan_open_item(w->scan, it)) == -1)
		return (-1);
	if (rows > 0 && !w->conf->lenient &&
	    (it->e.rows = malloc(rows)) == NULL)
		goto out;
	ret = chunk_scan(fd, it->e.size, &it->e.digest, it->e.rows);
out:
	fd_close(&fd);
	return (ret);
}

static const char *
read_reason(int error)
{

	switch (error) {
	case ESTALE:
	case ENOENT:
		return (SCAN_UNSTABLE);
	default:
		return (strerror(error));
	}
}

static void *
reader(void *arg)
{
	struct reading *w = arg;
	struct item *it;
	size_t i;

	for (;;) {
		if (atomic_load(&w->failed) || scan_stopped(w->conf) ||
		    (i = atomic_fetch_add(&w->next, 1)) >= w->n)
			break;
		it = &w->scan->item[w->todo[i].index];
		if (read_item(w, it) == -1) {
			int error = errno;

			(void)pthread_mutex_lock(&w->lock);
			if (!atomic_exchange(&w->failed, true))
				(void)scan_refuse(w->err, it->e.path,
				    read_reason(error));
			(void)pthread_mutex_unlock(&w->lock);
			break;
		}
		(void)atomic_fetch_add(&w->files, 1);
		(void)atomic_fetch_add(&w->bytes, it->e.size);
	}
	(void)pthread_mutex_lock(&w->lock);
	w->running--;
	(void)pthread_cond_signal(&w->ended);
	(void)pthread_mutex_unlock(&w->lock);
	return (NULL);
}

/* Until all readers ended; tells progress meanwhile, and at the end. */
static void
wait_readers(struct reading *w, uint64_t all_files, uint64_t all_bytes)
{
	bool more = true;

	while (more) {
		(void)pthread_mutex_lock(&w->lock);
		if (w->running > 0)
			(void)clock_wait(&w->ended, &w->lock, SCAN_TICK_MS);
		more = w->running > 0;
		(void)pthread_mutex_unlock(&w->lock);
		if (w->conf->progress != NULL)
			w->conf->progress(w->conf->arg,
			    atomic_load(&w->files), atomic_load(&w->bytes),
			    all_files, all_bytes);
	}
}

static int
largest_first(const void *a, const void *b)
{
	const struct todo *x = a, *y = b;

	if (x->size != y->size)
		return (x->size < y->size ? 1 : -1);
	return (x->index < y->index ? -1 : 1);
}

/* Were a large file the last one, the others would wait for its reader. */
static int
list_files(struct reading *w, uint64_t *bytes)
{
	const struct scan *s = w->scan;
	size_t i;

	if ((w->todo = calloc(s->n + 1, sizeof(*w->todo))) == NULL)
		return (parse_fail(w->err, 0, "out of memory"));
	for (i = 0; i < s->n; i++)
		if (s->item[i].read) {
			w->todo[w->n].size = s->item[i].e.size;
			w->todo[w->n++].index = i;
			*bytes += s->item[i].e.size;
		}
	qsort(w->todo, w->n, sizeof(*w->todo), largest_first);
	return (0);
}

static unsigned
count_threads(const struct reading *w, unsigned want)
{
	long cores;

	if (want == 0)
		want = (cores = sysconf(_SC_NPROCESSORS_ONLN)) < 1 ? 1 :
		    (unsigned)cores;
	if (want > SCAN_THREADS)
		want = SCAN_THREADS;
	return (want > w->n ? (unsigned)w->n : want);
}

static int
read_files(struct reading *w, unsigned want)
{
	pthread_t thread[SCAN_THREADS];
	uint64_t bytes = 0;
	unsigned n;
	size_t i;
	int error = 0;

	if (list_files(w, &bytes) == -1)
		return (-1);
	w->scan->nread = w->n;
	if (w->n == 0)
		return (0);
	w->running = want = count_threads(w, want);
	for (n = 0; n < want; n++)
		if ((error = pthread_create(&thread[n], NULL, reader, w)) != 0)
			break;
	(void)pthread_mutex_lock(&w->lock);
	w->running -= want - n;
	(void)pthread_mutex_unlock(&w->lock);
	wait_readers(w, w->n, bytes);
	for (i = 0; i < n; i++)
		(void)pthread_join(thread[i], NULL);
	if (n == 0)
		return (parse_fail(w->err, 0, "cannot start a thread: %s",
		    strerror(error)));
	if (scan_stopped(w->conf) && !atomic_load(&w->failed))
		return (parse_fail(w->err, 0, "interrupted"));
	return (atomic_load(&w->failed) ? -1 : 0);
}

int
scan_read(struct scan *s, const struct scan_conf *c, struct parse_error *err)
{
	struct reading *w;
	int ret;

	if ((w = calloc(1, sizeof(*w))) == NULL)
		return (parse_fail(err, 0, "out of memory"));
	w->conf = c;
	w->scan = s;
	w->err = err;
	(void)pthread_mutex_init(&w->lock, NULL);
	clock_cond_init(&w->ended);
	ret = read_files(w, c->threads);
	(void)pthread_cond_destroy(&w->ended);
	(void)pthread_mutex_destroy(&w->lock);
	free(w->todo);
	free(w);
	return (ret);
}
