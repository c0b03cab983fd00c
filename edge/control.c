/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket: a thread that takes one client after the other, reads a
 * line, has it done, and answers with a line.  And the client's end, for
 * mark.c in another process.  Who may connect is what the socket's mode says.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "edge/control.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	CONTROL_MAGIC	0x6374726cu
#define	CONTROL_NAME	"control"
#define	CONTROL_MODE	0600
#define	CONTROL_WAITING	16		/* clients */
#define	LINE_MS		1000		/* for a client's line */
#define	TROUBLE_MS	1000		/* after a client that was not taken */
#define	ASK_S		30		/* for an answer */
#define	OK		"ok "
#define	ERROR		"error: "

struct control {
	unsigned	 magic;
	int		 statedir;	/* borrowed */
	int		 fd;
	int		 wake[2];	/* pipe: can be read when it is to stop */
	atomic_bool	 stop;
	int		(*command)(void *arg, const char *line, char *answer,
			    size_t size);
	void		*arg;
	pthread_t	 thread;
};

/* -1: ENAMETOOLONG. */
static int
address(struct sockaddr_un *a, const char *state)
{
	int n;

	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	n = snprintf(a->sun_path, sizeof(a->sun_path), "%s/%s", state,
	    CONTROL_NAME);
	if (n >= 0 && (size_t)n < sizeof(a->sun_path))
		return (0);
	errno = ENAMETOOLONG;
	return (-1);
}

bool
control_fits(const char *state)
{
	struct sockaddr_un a;

	return (address(&a, state) == 0);
}

/* Waits for fd, at most so long; with -1, for the time to pass or for the end of
 * the thread.  True: fd can be read. */
static bool
wait_for(const struct control *c, int fd, int ms)
{
	struct pollfd p[2] = { { .fd = c->wake[0], .events = POLLIN },
	    { .fd = fd, .events = POLLIN } };

	return (poll(p, 2, ms) > 0 && p[0].revents == 0);
}

/* One line and nothing after it, without its LF.  -1: there is none. */
static int
read_line(const struct control *c, int fd, char line[CONTROL_LINE])
{
	int64_t end = clock_boot_ms() + LINE_MS, left;
	size_t len = 0;
	ssize_t n;
	char *lf;

	while (len < CONTROL_LINE && (left = end - clock_boot_ms()) > 0 &&
	    wait_for(c, fd, (int)left)) {
		n = recv(fd, line + len, CONTROL_LINE - len, MSG_DONTWAIT);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return (-1);
		len += (size_t)n;
		if ((lf = memchr(line, '\n', len)) == NULL)
			continue;
		*lf = '\0';
		return (strlen(line) == len - 1 ? 0 : -1);
	}
	return (-1);
}

static void
serve(struct control *c, int fd)
{
	char line[CONTROL_LINE], text[CONTROL_ANSWER] = "";
	char answer[sizeof(ERROR) + CONTROL_ANSWER + 1];
	bool good = false;
	int n;

	if (read_line(c, fd, line) == 0)
		good = c->command(c->arg, line, text, sizeof(text)) == 0;
	else
		(void)snprintf(text, sizeof(text), "one line is expected");
	n = snprintf(answer, sizeof(answer), "%s%s\n", good ? OK : ERROR, text);
	CHECK(n > 0 && (size_t)n < sizeof(answer));
	/* It fits a new socket's buffer; who has gone needs none. */
	(void)send(fd, answer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void *
run(void *arg)
{
	static struct log_limit limit;
	struct control *c = arg;
	int fd;

	CHECK_OBJ(c, CONTROL_MAGIC);
	while (!atomic_load(&c->stop)) {
		if (!wait_for(c, c->fd, -1))
			continue;
		fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd != -1)
			serve(c, fd);
		else if (errno != ECONNABORTED && errno != EAGAIN &&
		    errno != EINTR) {
			/* Such as no descriptors: that passes. */
			if (log_allowed(&limit, 1))
				log_err("control socket: %s", strerror(errno));
			(void)wait_for(c, -1, TROUBLE_MS);
		}
		fd_close(&fd);
	}
	return (NULL);
}

/* Nobody can connect before listen(2), so the mode is there in time. */
static int
open_socket(struct control *c, const struct sockaddr_un *a)
{

	if (unlinkat(c->statedir, CONTROL_NAME, 0) == -1 && errno != ENOENT)
		return (-1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd == -1 ||
	    bind(c->fd, (const struct sockaddr *)a, sizeof(*a)) == -1 ||
	    fchmodat(c->statedir, CONTROL_NAME, CONTROL_MODE, 0) == -1)
		return (-1);
	return (listen(c->fd, CONTROL_WAITING));
}

static void
control_free(struct control *c)
{

	fd_close(&c->fd);
	fd_close(&c->wake[0]);
	fd_close(&c->wake[1]);
	explicit_bzero(&c->magic, sizeof(c->magic));
	free(c);
}

struct control *
control_start(int statedir, const char *state, int (*command)(void *arg,
    const char *line, char *answer, size_t size), void *arg)
{
	struct sockaddr_un a;
	struct control *c;
	int error;

	if (address(&a, state) == -1 || (c = calloc(1, sizeof(*c))) == NULL)
		return (NULL);
	c->magic = CONTROL_MAGIC;
	c->statedir = statedir;
	c->fd = c->wake[0] = c->wake[1] = -1;
	c->command = command;
	c->arg = arg;
	if (fd_wake_pipe(c->wake) == -1 || open_socket(c, &a) == -1)
		error = errno;
	else if ((error = pthread_create(&c->thread, NULL, run, c)) == 0)
		return (c);
	control_free(c);
	errno = error;
	return (NULL);
}

void
control_stop(struct control **cp)
{
	struct control *c = *cp;
	ssize_t n;

	*cp = NULL;
	if (c == NULL)
		return;
	CHECK_OBJ(c, CONTROL_MAGIC);
	atomic_store(&c->stop, true);
	n = write(c->wake[1], "", 1);
	CHECK(n == 1);			/* the pipe was empty */
	(void)pthread_join(c->thread, NULL);
	(void)unlinkat(c->statedir, CONTROL_NAME, 0);
	control_free(c);
}

/*
 * The client.
 */

/* A connected socket, whose calls wait for ASK_S at most.  -1: errno. */
static int
connect_to(const char *state)
{
	const struct timeval limit = { .tv_sec = ASK_S };
	struct sockaddr_un a;
	int fd;

	if (address(&a, state) == -1 ||
	    (fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1)
		return (-1);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit,
	    sizeof(limit)) == 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO,
	    &limit, sizeof(limit)) == 0 &&
	    connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0)
		return (fd);
	fd_close(&fd);
	return (-1);
}

static int
send_line(int fd, const char *line)
{
	char text[CONTROL_LINE + 1];
	int n = snprintf(text, sizeof(text), "%s\n", line);

	if (n < 0 || (size_t)n >= sizeof(text)) {
		errno = EINVAL;
		return (-1);
	}
	/* It fits a new socket's buffer. */
	return (send(fd, text, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -1);
}

/* Until the other end closes.  -1: errno. */
static int
read_answer(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n = 0;

	while (len < size && (n = recv(fd, text + len, size - len, 0)) > 0)
		len += (size_t)n;
	if (n == -1)
		return (-1);
	if (len == 0 || len == size || text[len - 1] != '\n') {
		errno = EPROTO;
		return (-1);
	}
	text[len - 1] = '\0';
	return (0);
}

int
control_ask(const char *state, const char *line, char answer[CONTROL_ANSWER])
{
	char text[sizeof(ERROR) + CONTROL_ANSWER + 1];
	const char *rest = text;
	int fd, ret = -1;

	if ((fd = connect_to(state)) != -1 && send_line(fd, line) == 0 &&
	    read_answer(fd, text, sizeof(text)) == 0)
		ret = 0;
	fd_close(&fd);
	if (ret == -1)
		return (-1);
	if (strncmp(text, OK, strlen(OK)) == 0)
		rest += strlen(OK);
	else if (strncmp(text, ERROR, strlen(ERROR)) == 0) {
		rest += strlen(ERROR);
		ret = 1;
	}
	if (rest == text || strlen(rest) >= CONTROL_ANSWER) {
		errno = EPROTO;
		return (-1);
	}
	memcpy(answer, rest, strlen(rest) + 1);
	return (ret);
}
