/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Answers and bodies as responses of libmicrohttpd, made for one request or
 * once for many.  Called by handlers and by httpd.c, on the server's threads.
 */
#include <sys/param.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <microhttpd.h>

#include "proto/buf.h"
#include "proto/check.h"
#include "proto/fd.h"
#include "proto/httpd_request.h"

#define	PREPARED_MAGIC	0x70726570u
/*
 * What a stream has in memory.  Each block is a turn of the server's loop and a few
 * locks: with small ones a hundred readers of one fill cost twice the CPU time.
 * Thousands of readers cost memory: then those that come are given small ones.
 */
#define	STREAM_BLOCK	65536u		/* bytes */
#define	STREAM_SMALL	16384u
#define	STREAMS_FEW	128u

static atomic_uint streams;		/* now, of all servers */

struct httpd_prepared {
	unsigned		 magic;
	atomic_uint		 refs;
	struct MHD_Response	*response;
	unsigned		 status;
	uint64_t		 length;
	void			(*release)(void *);
	void			*arg;
};

/* The library lets go of a response's body. */
static void
body_free(void *arg)
{
	struct httpd_body *b = arg;

	httpd_body_destroy(&b);
}

static void
stream_free(void *arg)
{

	(void)atomic_fetch_sub(&streams, 1);
	body_free(arg);
}

static ssize_t
stream_read(void *arg, uint64_t pos, char *buf, size_t max)
{
	struct httpd_body *b = arg;
	struct httpd_request *r;
	ssize_t n;

	CHECK_OBJ(b, BODY_MAGIC);
	r = b->request;
	for (;;) {
		if (conn_is_cut(&r->conn))
			return (MHD_CONTENT_READER_END_WITH_ERROR);
		n = b->read(b->arg, b->offset + pos, buf, max);
		if (n > 0) {
			CHECK((size_t)n <= max);
			r->handed = pos + (uint64_t)n;
			return (n);
		}
		if (n != HTTPD_WAIT)
			return (MHD_CONTENT_READER_END_WITH_ERROR);
		switch (conn_wait(&r->conn)) {
		case CONN_AGAIN:
			break;
		case CONN_SUSPENDED:
			return (0);
		case CONN_CUT:
			return (MHD_CONTENT_READER_END_WITH_ERROR);
		}
	}
}

/* Of HEAD and 304, whose body is announced and never read. */
static ssize_t
no_read(void *arg, uint64_t pos, char *buf, size_t max)
{

	(void)arg;
	(void)pos;
	(void)buf;
	(void)max;
	return (MHD_CONTENT_READER_END_WITH_ERROR);
}

/* What is announced but not sent: nothing of it is kept. */
static struct MHD_Response *
without_body(uint64_t length)
{
	static char nothing[1];

	if (length == 0)
		return (MHD_create_response_from_buffer(0, nothing,
		    MHD_RESPMEM_PERSISTENT));
	return (MHD_create_response_from_callback(length, 1, no_read, NULL,
	    NULL));
}

static struct MHD_Response *
stream_new(uint64_t length, struct httpd_body *b)
{
	unsigned block = atomic_fetch_add(&streams, 1) < STREAMS_FEW ?
	    STREAM_BLOCK : STREAM_SMALL;
	struct MHD_Response *resp;

	resp = MHD_create_response_from_callback(length,
	    (size_t)MIN(length, block), stream_read, b, stream_free);
	if (resp == NULL)
		(void)atomic_fetch_sub(&streams, 1);
	return (resp);
}

/* A response for one request; takes *bp over where it is sent. */
static struct MHD_Response *
response_new(struct httpd_request *r, const struct answer *a,
    struct httpd_body **bp)
{
	struct MHD_Response *resp;
	struct httpd_body *b = *bp;

	if (a->length == 0 || !a->send_body)
		return (without_body(a->length));
	CHECK_OBJ(b, BODY_MAGIC);
	b->offset = a->offset;
	b->request = r;
	switch (b->kind) {
	case BODY_MEM:
		CHECK(a->offset <= b->len && a->length <= b->len - a->offset);
		resp = MHD_create_response_from_buffer_with_free_callback_cls(
		    a->length, (char *)(uintptr_t)b->p + a->offset,
		    body_free, b);
		break;
	case BODY_FD:
		resp = MHD_create_response_from_fd_at_offset64(a->length,
		    b->fd, a->offset);
		if (resp != NULL)
			b->fd = -1;
		return (resp);
	case BODY_STREAM:
		resp = stream_new(a->length, b);
		r->streams = resp != NULL;
		break;
	default:
		CHECK(false);
	}
	if (resp != NULL)
		*bp = NULL;
	return (resp);
}

static void
add_via(struct buf *via, const char *value)
{

	(void)buf_adds(via, via->len > 0 ? ", " : "");
	(void)buf_adds(via, value);
}

/* One line, which is taken apart: into the response or, of a Via, into the list.
 * The library takes no tab; within a value a blank says the same. */
static void
add_line(struct MHD_Response *resp, char *line, struct buf *via)
{
	char *value, *p;

	if ((value = strchr(line, ':')) == NULL)
		return;
	*value++ = '\0';
	for (p = value; (p = strchr(p, '\t')) != NULL;)
		*p = ' ';
	value += strspn(value, " ");
	if (*value == '\0')
		return;
	if (strcasecmp(line, "Via") == 0)
		add_via(via, value);
	else
		(void)MHD_add_response_header(resp, line, value);
}

/* -1: out of memory. */
static int
add_fields(struct MHD_Response *resp, const char *fields, const char *own)
{
	struct buf via = BUF_INIT(strlen(fields) + ANSWER_VALUE);
	char *copy, *rest, *line;
	int ret;

	if ((copy = strdup(fields)) == NULL)
		return (-1);
	for (rest = copy; (line = strsep(&rest, "\n")) != NULL;)
		add_line(resp, line, &via);
	free(copy);
	if (own != NULL)
		add_via(&via, own);
	if (via.len > 0)
		(void)MHD_add_response_header(resp, "Via", via.p);
	ret = via.failed ? -1 : 0;
	buf_free(&via);
	return (ret);
}

/* -1: out of memory, and some of a->fields may be missing. */
static int
add_headers(struct MHD_Response *resp, const struct answer *a,
    const struct httpd *h)
{
	const char *via = httpd_via(h);
	size_t i;

	for (i = 0; i < a->nheader; i++)
		(void)MHD_add_response_header(resp, a->header[i].name,
		    a->header[i].value);
	if (a->fields != NULL)
		return (add_fields(resp, a->fields, via));
	if (via != NULL)
		(void)MHD_add_response_header(resp, "Via", via);
	return (0);
}

void
httpd_reply(struct httpd_request *r, const struct answer *a,
    struct httpd_body **body)
{
	struct httpd_body *none = NULL;

	CHECK_OBJ(r, REQUEST_MAGIC);
	CHECK(r->action == ACTION_NONE);
	if (body == NULL)
		body = &none;
	r->action = ACTION_REPLY;
	r->status = a->status;
	r->body_length = a->send_body ? a->length : 0;
	/* Without memory for it the connection is cut, see httpd_answer(). */
	r->response = response_new(r, a, body);
	httpd_body_destroy(body);
	if (r->response != NULL &&
	    add_headers(r->response, a, r->httpd) == -1) {
		MHD_destroy_response(r->response);
		r->response = NULL;
	}
}

void
httpd_reply_status(struct httpd_request *r, unsigned status,
    unsigned retry_after)
{
	struct answer a;

	answer_status(&a, status, retry_after);
	httpd_reply(r, &a, NULL);
}

struct httpd_prepared *
httpd_prepare(const struct httpd_request *r, const struct answer *a,
    const void *p, void (*release)(void *arg), void *arg)
{
	struct httpd_prepared *q;

	CHECK_OBJ(r, REQUEST_MAGIC);
	if ((q = calloc(1, sizeof(*q))) == NULL)
		return (NULL);
	q->response = a->length == 0 || !a->send_body ?
	    without_body(a->length) : MHD_create_response_from_buffer(
	    a->length, (char *)(uintptr_t)p + a->offset,
	    MHD_RESPMEM_PERSISTENT);
	if (q->response == NULL) {
		free(q);
		return (NULL);
	}
	if (add_headers(q->response, a, r->httpd) == -1) {
		MHD_destroy_response(q->response);
		free(q);
		return (NULL);
	}
	q->magic = PREPARED_MAGIC;
	atomic_init(&q->refs, 1);
	q->status = a->status;
	q->length = a->send_body ? a->length : 0;
	q->release = release;
	q->arg = arg;
	return (q);
}

struct httpd_prepared *
httpd_prepared_ref(struct httpd_prepared *q)
{

	CHECK_OBJ(q, PREPARED_MAGIC);
	(void)atomic_fetch_add_explicit(&q->refs, 1, memory_order_relaxed);
	return (q);
}

bool
httpd_prepared_shared(const struct httpd_prepared *q)
{

	return (atomic_load(&q->refs) > 1);
}

/*
 * When the last request that it answered has completed, the library may still
 * hold the response for a moment, but reads no byte of its body any more.
 */
void
httpd_prepared_unref(struct httpd_prepared **qp)
{
	struct httpd_prepared *q = *qp;

	*qp = NULL;
	if (q == NULL)
		return;
	CHECK_OBJ(q, PREPARED_MAGIC);
	if (atomic_fetch_sub(&q->refs, 1) != 1)
		return;
	MHD_destroy_response(q->response);
	if (q->release != NULL)
		q->release(q->arg);
	explicit_bzero(&q->magic, sizeof(q->magic));
	free(q);
}

void
httpd_reply_prepared(struct httpd_request *r, struct httpd_prepared **qp)
{

	CHECK_OBJ(r, REQUEST_MAGIC);
	CHECK_OBJ(*qp, PREPARED_MAGIC);
	CHECK(r->action == ACTION_NONE);
	r->action = ACTION_REPLY;
	r->prepared = *qp;
	*qp = NULL;
	r->status = r->prepared->status;
	r->body_length = r->method == HTTP_HEAD ? 0 : r->prepared->length;
}

int
httpd_answer(struct httpd_request *r)
{
	enum MHD_Result ok;

	conn_phase(&r->conn, CONN_SEND);
	if (r->prepared != NULL)
		return (MHD_queue_response(r->mhd, r->status,
		    r->prepared->response));
	if (r->response == NULL)
		return (MHD_NO);
	ok = MHD_queue_response(r->mhd, r->status, r->response);
	MHD_destroy_response(r->response);
	r->response = NULL;
	return (ok);
}
