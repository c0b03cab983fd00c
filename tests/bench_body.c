/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where from a file's bytes are sent best, by size: a copy in memory, a mapping
 * (both as answers made once), or a descriptor opened for each answer, for one
 * client and for many that read as fast as they can.  MEMORY_COPY_MAX comes from
 * its table.
 *
 * usage: bench_body [SECONDS]
 */
#include "tests/web.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "proto/check.h"
#include "proto/fd.h"
#include "proto/httpd.h"

#define	CLIENTS_MAX	32u

enum source { COPY, MAPPING, DESCRIPTOR, SOURCES };
static const char *const names[SOURCES] = { "copy", "mapping", "descriptor" };
static const size_t sizes[] = { 1u << 10, 4u << 10, 16u << 10, 64u << 10,
	256u << 10, 1u << 20, 4u << 20, 16u << 20 };
#define	SIZES		(sizeof(sizes) / sizeof(sizes[0]))

static char path[] = "/tmp/bench_body.XXXXXX";
static char *copy, *mapping;
static _Atomic(struct httpd_prepared *) made[SOURCES][SIZES];
static const unsigned clients[] = { 1, CLIENTS_MAX };
static int port, seconds = 2;

/* The target is /SOURCE/SIZE, both as indexes of one digit. */
static void
handler(void *arg, struct httpd_request *r)
{
	const char *target = httpd_target(r);
	unsigned source = (unsigned)(target[1] - '0');
	unsigned size = (unsigned)(target[3] - '0');
	struct answer_file facts = { .time = -1, .etag = "x",
	    .type = "application/octet-stream" };
	struct httpd_prepared *p, *none = NULL;
	struct httpd_body *body;
	struct answer a;
	int fd;

	(void)arg;
	CHECK(source < SOURCES && size < SIZES);
	facts.size = sizes[size];
	answer_file(&a, httpd_method(r), httpd_fields(r), &facts);
	if (source == DESCRIPTOR) {
		CHECK((fd = open(path, O_RDONLY | O_CLOEXEC)) != -1);
		body = httpd_body_fd(&fd);
		httpd_reply(r, &a, &body);
		return;
	}
	if ((p = made[source][size]) == NULL) {
		p = check_alloc(httpd_prepare(r, &a, source == COPY ? copy :
		    mapping, NULL, NULL));
		if (!atomic_compare_exchange_strong(&made[source][size], &none,
		    p))
			httpd_prepared_unref(&p);
		p = made[source][size];
	}
	p = httpd_prepared_ref(p);
	httpd_reply_prepared(r, &p);
}

static double
now(void)
{
	struct timespec ts;

	CHECK(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
	return ((double)ts.tv_sec + (double)ts.tv_nsec / 1e9);
}

struct load {
	const char	*request;
	size_t		 size;
	double		 end;
	unsigned	 n;
};

static void *
client(void *arg)
{
	static _Thread_local char sink[1u << 18];
	struct load *l = arg;
	struct web w;
	char *body;
	size_t left;
	ssize_t n;

	web_open(&w, port);
	while (now() < l->end) {
		web_sends(&w, l->request);
		w.len = 0;
		do
			CHECK(web_more(&w) > 0);
		while ((body = strstr(w.buf, "\r\n\r\n")) == NULL);
		body += 4;
		left = l->size - (w.len - (size_t)(body - w.buf));
		for (; left > 0; left -= (size_t)n)
			CHECK((n = recv(w.fd, sink, sizeof(sink), 0)) > 0);
		l->n++;
	}
	web_close(&w);
	return (NULL);
}

/* In a process of its own, so that its CPU time is not the server's. */
static unsigned
requests(unsigned source, unsigned size, unsigned nclient)
{
	char request[128];
	struct load load[CLIENTS_MAX];
	pthread_t t[CLIENTS_MAX];
	unsigned n = 0, i;
	int fd[2], status;
	pid_t pid;

	(void)snprintf(request, sizeof(request),
	    "GET /%u/%u HTTP/1.1\r\nHost: x\r\n\r\n", source, size);
	if (pipe(fd) == -1 || (pid = fork()) == -1)
		err(1, "fork");
	if (pid == 0) {
		for (i = 0; i < nclient; i++) {
			load[i] = (struct load){ .request = request,
			    .size = sizes[size], .end = now() + seconds };
			CHECK(pthread_create(&t[i], NULL, client, &load[i]) ==
			    0);
		}
		for (i = 0; i < nclient; i++) {
			(void)pthread_join(t[i], NULL);
			n += load[i].n;
		}
		CHECK(write(fd[1], &n, sizeof(n)) == sizeof(n));
		_exit(0);
	}
	CHECK(read(fd[0], &n, sizeof(n)) == sizeof(n));
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	(void)close(fd[0]);
	(void)close(fd[1]);
	return (n);
}

static double
cpu(void)
{
	struct rusage u;

	CHECK(getrusage(RUSAGE_SELF, &u) == 0);
	return ((double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	    (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
}

static void
measure(unsigned size, unsigned source, unsigned nclient)
{
	double before = cpu();
	unsigned n = requests(source, size, nclient);

	printf("%9zu %8u  %-10s %9.0f/s %9.1f us\n", sizes[size], nclient,
	    names[source], (double)n / seconds, (cpu() - before) * 1e6 / n);
}

int
main(int argc, char *argv[])
{
	struct httpd_conf c = { .handler = handler };
	struct httpd *h;
	size_t max = sizes[SIZES - 1];
	unsigned i, j, k;
	int fd, file;

	if (argc > 1)
		seconds = (int)strtol(argv[1], NULL, 10);
	copy = check_alloc(calloc(1, max));
	memset(copy, 'x', max);
	if ((file = mkstemp(path)) == -1 || fd_write_all(file, copy, max) ==
	    -1)
		err(1, "%s", path);
	mapping = mmap(NULL, max, PROT_READ, MAP_SHARED, file, 0);
	CHECK(mapping != MAP_FAILED);
	httpd_conf_defaults(&c);
	c.requests = 0;
	CHECK((fd = httpd_listen("127.0.0.1:0")) != -1);
	port = httpd_port(fd);
	if ((h = httpd_start(&c, &fd, 1)) == NULL)
		err(1, "httpd");
	printf("     size  clients  from         requests   CPU/request\n");
	for (i = 0; i < SIZES; i++)
		for (j = 0; j < sizeof(clients) / sizeof(clients[0]); j++)
			for (k = 0; k < SOURCES; k++)
				measure(i, k, clients[j]);
	httpd_stop(&h);
	fd_close(&file);
	(void)unlink(path);
	return (0);
}
