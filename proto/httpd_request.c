/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests and bodies of the HTTP server, as far as they need nothing of the
 * library: what handlers see of a request, and what httpd.c keeps of its head.
 * Called by handlers and httpd.c on the server's threads; httpd_wake() on any.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/accesslog.h"
#include "proto/check.h"
#include "proto/fd.h"
#include "proto/httpd_request.h"

#define	TEXT_KEEP	4096		/* bytes kept between requests */

static struct httpd_body *
body_new(enum body_kind kind)
{
	struct httpd_body *b;

	if ((b = calloc(1, sizeof(*b))) == NULL)
		return (NULL);
	b->magic = BODY_MAGIC;
	b->kind = kind;
	b->fd = -1;
	return (b);
}

struct httpd_body *
httpd_body_mem(const void *p, size_t len, void (*release)(void *arg), void *arg)
{
	struct httpd_body *b;

	if ((b = body_new(BODY_MEM)) == NULL)
		return (NULL);
	b->p = p;
	b->len = len;
	b->release = release;
	b->arg = arg;
	return (b);
}

struct httpd_body *
httpd_body_copy(const void *p, size_t len)
{
	struct httpd_body *b;
	void *copy;

	if ((copy = malloc(len > 0 ? len : 1)) == NULL)
		return (NULL);
	if (len > 0)
		(void)memcpy(copy, p, len);
	if ((b = httpd_body_mem(copy, len, free, copy)) == NULL)
		free(copy);
	return (b);
}

struct httpd_body *
httpd_body_fd(int *fd)
{
	struct httpd_body *b;

	if ((b = body_new(BODY_FD)) == NULL) {
		fd_close(fd);
		return (NULL);
	}
	b->fd = *fd;
	*fd = -1;
	return (b);
}

struct httpd_body *
httpd_body_stream(ssize_t (*read)(void *arg, uint64_t off, void *p, size_t max),
    void (*release)(void *arg), void *arg)
{
	struct httpd_body *b;

	if ((b = body_new(BODY_STREAM)) == NULL)
		return (NULL);
	b->read = read;
	b->release = release;
	b->arg = arg;
	return (b);
}

void
httpd_body_destroy(struct httpd_body **bp)
{
	struct httpd_body *b = *bp;

	if (b == NULL)
		return;
	CHECK_OBJ(b, BODY_MAGIC);
	*bp = NULL;
	if (b->release != NULL)
		b->release(b->arg);
	fd_close(&b->fd);
	explicit_bzero(b, sizeof(*b));
	free(b);
}

/* What a handler sees and does. */

enum http_method
httpd_method(const struct httpd_request *r)
{

	return (r->method);
}

const char *
httpd_target(const struct httpd_request *r)
{

	return (r->target);
}

const struct http_fields *
httpd_fields(const struct httpd_request *r)
{

	return (&r->fields);
}

void
httpd_set_state(struct httpd_request *r, void *state,
    void (*release)(void *state))
{

	r->state = state;
	r->state_release = release;
}

void *
httpd_state(const struct httpd_request *r)
{

	return (r->state);
}

void
httpd_set_shared(struct httpd_request *r, void *shared,
    void (*release)(void *shared))
{

	r->shared = shared;
	r->shared_release = release;
}

void *
httpd_shared(const struct httpd_request *r)
{

	return (r->shared);
}

unsigned *
httpd_note(struct httpd_request *r)
{

	return (&r->note);
}

/* The suspension itself follows the handler's return, so that it may call this
 * with locks held; a wake in between is not lost. */
void
httpd_wait(struct httpd_request *r)
{

	CHECK_OBJ(r, REQUEST_MAGIC);
	CHECK(r->action == ACTION_NONE);
	r->action = ACTION_WAIT;
}

void
httpd_wake(void *request)
{
	struct httpd_request *r = request;

	CHECK_OBJ(r, REQUEST_MAGIC);
	conn_wake(&r->conn);
}

void
httpd_accept_body(struct httpd_request *r)
{

	CHECK_OBJ(r, REQUEST_MAGIC);
	CHECK(r->action == ACTION_NONE);
	CHECK(r->length > 0 && !r->accepted);
	r->action = ACTION_ACCEPT;
}

bool
httpd_body_done(const struct httpd_request *r)
{

	return (r->received == r->length);
}

uint64_t
httpd_body_length(const struct httpd_request *r)
{

	return (r->length);
}

void
httpd_request_reset(struct httpd_request *r)
{

	r->active = r->begun = r->accepted = r->streams = false;
	r->method = HTTP_OTHER;
	r->version = 11;
	r->verb[0] = '\0';
	(void)memset(&r->fields, 0, sizeof(r->fields));
	r->joined = 0;
	r->target = NULL;
	r->target_len = r->text_len = 0;
	if (r->text_size > TEXT_KEEP) {
		free(r->text);
		r->text = NULL;
		r->text_size = 0;
	}
	r->length = r->received = 0;
	r->action = ACTION_NONE;
	r->response = NULL;
	httpd_prepared_unref(&r->prepared);
	r->status = 0;
	r->body_length = r->handed = 0;
	r->note = 0;
	r->state = r->shared = NULL;
	r->state_release = r->shared_release = NULL;
}

int
httpd_request_room(struct httpd_request *r, size_t len)
{
	char *p;

	if (len <= r->text_size)
		return (0);
	if ((p = realloc(r->text, len)) == NULL)
		return (-1);
	r->text = p;
	r->text_size = len;
	return (0);
}

/* The fields that handlers ask for; several lines of one name make one list
 * (RFC 9110, 5.3), which is no valid value where only one is allowed. */
static const struct {
	const char	*name;
	size_t		 offset;
} wanted[] = {
#define	FIELD(n, m)	{ n, offsetof(struct http_fields, m) }
	FIELD("Range", range),
	FIELD("If-Range", if_range),
	FIELD("If-Match", if_match),
	FIELD("If-None-Match", if_none_match),
	FIELD("If-Modified-Since", if_modified_since),
	FIELD("If-Unmodified-Since", if_unmodified_since),
	FIELD("Cache-Control", cache_control),
	FIELD("Authorization", authorization),
	FIELD("Accept-Encoding", accept_encoding),
	FIELD("Available-Dictionary", available_dictionary),
	FIELD("Host", host),
	FIELD("User-Agent", user_agent),
	FIELD("Referer", referer),
#undef FIELD
};

static const char **
field_place(struct httpd_request *r, const char *name, uint32_t *bit)
{
	size_t i;

	for (i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (strcasecmp(name, wanted[i].name) == 0) {
			*bit = (uint32_t)1 << i;
			return ((const char **)(void *)((char *)&r->fields +
			    wanted[i].offset));
		}
	return (NULL);
}

/*
 * text has the room for each value twice, as httpd.c counted it.  Blanks behind
 * a value are not of it (RFC 9110, 5.5).
 */
static void
keep(struct httpd_request *r, const char *value, size_t len)
{

	while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	(void)memcpy(r->text + r->text_len, value, len);
	r->text_len += len;
	r->text[r->text_len++] = '\0';
}

void
httpd_request_join(struct httpd_join *j, const char *name, const char *value)
{

	if (strcasecmp(name, j->name) != 0)
		return;
	if (j->more) {			/* over the NUL of the last one */
		j->r->text[j->r->text_len - 1] = ',';
		j->r->text[j->r->text_len++] = ' ';
	}
	j->more = true;
	keep(j->r, value, strlen(value));
}

bool
httpd_request_keep(struct httpd_request *r, const char *name, const char *value)
{
	const char **place;
	bool again;
	uint32_t bit;

	if ((place = field_place(r, name, &bit)) == NULL ||
	    (r->joined & bit) != 0)
		return (false);
	again = *place != NULL;
	*place = r->text + r->text_len;
	if (again)
		r->joined |= bit;
	else
		keep(r, value, strlen(value));
	return (again);
}

void
httpd_request_log(struct httpd_request *r, struct accesslog *log, bool complete)
{
	struct access_line line = {
		.peer = r->conn.peer, .method = r->verb, .target = r->target,
		.referer = r->fields.referer,
		.user_agent = r->fields.user_agent,
		.version = r->version,
		/* No answer of ours: the library's, to what it cannot parse. */
		.status = r->status != 0 ? r->status : 400,
		.bytes = complete ? (int64_t)r->body_length :
		    r->streams ? (int64_t)r->handed : -1,
	};

	accesslog_add(log, &line);
}
