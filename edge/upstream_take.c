/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Answers of upstreams: whether they are what was asked for, and their bytes, to
 * whom they are for.  Called by libcurl and upstream.c in the transfer thread.
 */
#include <sys/param.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge/fields.h"
#include "edge/fresh.h"
#include "edge/upstream_impl.h"
#include "proto/check.h"

#define	DISCARD_MAX	65536u		/* bytes of an error's body */

void
give_up(struct transfer *t, enum transfer_result result,
    enum health_event event, const char *fmt, ...)
{
	va_list ap;

	if (t->over)
		return;
	t->over = true;
	t->result = result;
	t->event = event;
	va_start(ap, fmt);
	(void)vsnprintf(t->reason, sizeof(t->reason), fmt, ap);
	va_end(ap);
}

/* True: the answer is framed wrongly. */
static bool
give_up_framing(struct transfer *t)
{

	if (t->reply.fault == NULL)
		return (false);
	give_up(t, TRANSFER_FAULT, HEALTH_SOFT_FAULT, "%s", t->reply.fault);
	return (true);
}

/*
 * Other content than the digest asks for.  In a static tree the path may be
 * another generation's, which is no lie.
 */
static enum health_event
content_event(const struct transfer *t, enum health_event event)
{

	return (t->by_path ? HEALTH_NEUTRAL : event);
}

/* Of a document that may come coded.  True: that is all to be said. */
static bool
judge_coded(struct transfer *t)
{
	const struct transfer_coded *c = t->w.coded;
	char reason[UPSTREAM_REASON];

	switch (reply_judge_coded(&t->reply, c->dictionary != NULL, c->max,
	    reason)) {
	case REPLY_BODY:
		t->accepted = true;
		t->coding = t->reply.coding;
		t->wanted = c->max;
		return (true);
	case REPLY_BROKEN:
		give_up(t, TRANSFER_FAULT, HEALTH_WRONG_BYTES, "%s", reason);
		return (true);
	case REPLY_ELSE:
	case REPLY_OTHER:
		break;
	}
	if (t->reply.status != 200 || t->reply.coded ||
	    t->reply.coding != CODING_NONE || t->w.size <= c->plain)
		return (false);
	give_up(t, TRANSFER_STOPPED, HEALTH_GOOD, "not coded");
	return (true);
}

/* The first answer for a plain file: its caller knows what is wanted of it. */
static void
judge_head(struct transfer *t)
{
	const struct reply *r = &t->reply;
	struct transfer_head h = {
		.url = t->upstream->url, .status = r->status,
		.fields = t->fields.p,
		.has_length = r->has_length, .length = r->length,
		.by_close = !r->has_length && !r->chunked,
	};

	t->judged = true;
	if (r->has_length)
		t->wanted = r->length;
	switch (t->w.plain->head(t->w.arg, t, &h)) {
	case TRANSFER_GO:
		t->accepted = true;
		break;
	case TRANSFER_ENOUGH:
		t->declined = true;
		break;
	case TRANSFER_WRONG:
		give_up(t, TRANSFER_FAULT, HEALTH_SOFT_FAULT, "%s", h.reason);
		break;
	case TRANSFER_BROKEN:
		give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "local fault");
		break;
	}
}

/* Whether more of a plain file is of the version that its beginning was of. */
static bool
is_same_version(const struct transfer *t)
{
	const char *validator = t->w.plain->validator;
	char value[FRESH_ETAG];

	return (fields_get(t->fields.p, validator[0] == '"' ? "ETag" :
	    "Last-Modified", value, sizeof(value)) != NULL &&
	    strcmp(value, validator) == 0);
}

/* True: that is all to be said. */
static bool
judge_plain(struct transfer *t)
{

	if (buf_add(&t->fields, "", 0) == -1) {
		give_up(t, TRANSFER_FAULT, HEALTH_SOFT_FAULT,
		    "head longer than %d bytes", FIELDS_MAX);
		return (true);
	}
	if (t->w.plain->head != NULL) {
		/* 1xx are followed by another one, chunks by trailers. */
		if (!t->judged && t->reply.status >= 200)
			judge_head(t);
		return (true);
	}
	if ((t->reply.status != 200 && t->reply.status != 206) ||
	    is_same_version(t))
		return (false);
	give_up(t, TRANSFER_FAULT, HEALTH_NEUTRAL, "changed meanwhile");
	return (true);
}

/* The head of the answer is complete: whether its body is what we want. */
static void
judge(struct transfer *t)
{
	char reason[UPSTREAM_REASON];

	if (give_up_framing(t))
		return;
	if (t->w.coded != NULL && judge_coded(t))
		return;
	if (t->w.plain != NULL && judge_plain(t))
		return;
	switch (reply_judge(&t->reply, t->w.size, t->w.from, t->w.to, t->ranged,
	    &t->skip, reason)) {
	case REPLY_BODY:
		t->accepted = true;
		break;
	case REPLY_ELSE:		/* conclude() knows what it means */
		break;
	case REPLY_BROKEN:
		give_up(t, TRANSFER_FAULT, HEALTH_SOFT_FAULT, "%s", reason);
		break;
	case REPLY_OTHER:
		give_up(t, TRANSFER_FAULT, content_event(t, HEALTH_SOFT_FAULT),
		    "%s", reason);
		break;
	}
}

/* Without its end. */
static void
keep_line(struct transfer *t, const char *line, size_t len)
{

	while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n'))
		len--;
	(void)buf_add(&t->fields, line, len);
	(void)buf_adds(&t->fields, "\n");
}

size_t
transfer_on_header(char *line, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * n;

	CHECK_OBJ(t, TRANSFER_MAGIC);
	t->first = true;
	if (t->accepted)		/* trailers say nothing */
		return (len);
	switch (strict_line(&t->strict, line, len)) {
	case REPLY_STATUS:
		buf_free(&t->fields);
		t->fields = (struct buf)BUF_INIT(FIELDS_MAX);
		break;
	case REPLY_FIELD:
		if (t->w.plain != NULL)
			keep_line(t, line, len);
		break;
	case REPLY_END:
		judge(t);
		break;
	}
	return (t->over ? 0 : len);
}

static void
give_up_wrong(struct transfer *t)
{

	give_up(t, TRANSFER_FAULT, content_event(t, HEALTH_WRONG_BYTES),
	    "wrong bytes: they have another digest");
}

void
check_given(struct transfer *t)
{

	if (!t->accepted || t->w.verified == NULL || t->w.verified(t->w.arg))
		return;
	t->over = false;		/* whatever was said of its end */
	give_up_wrong(t);
}

/* Gives bytes that are wanted to the caller. */
static void
give(struct transfer *t, const char *p, size_t len)
{

	switch (t->w.data(t->w.arg, p, len)) {
	case TRANSFER_GO:
		t->given += len;
		break;
	case TRANSFER_ENOUGH:
		t->given += len;
		give_up(t, TRANSFER_STOPPED, HEALTH_GOOD, "enough");
		break;
	case TRANSFER_WRONG:
		give_up_wrong(t);
		break;
	case TRANSFER_BROKEN:
		give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "local fault");
		break;
	}
}

/*
 * What nobody can verify is complete only when the answer has ended as it should:
 * the last bytes are kept back until then.  True: these were.
 */
static bool
keep_back(struct transfer *t, const char *p, size_t len)
{

	if (t->w.plain == NULL || t->wanted == TRANSFER_UNKNOWN ||
	    t->given + len < t->wanted ||
	    (t->reply.status == 200 && t->w.to < t->w.size))
		return (false);
	if ((t->tail = malloc(len)) == NULL)
		give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "out of memory");
	else {
		memcpy(t->tail, p, len);
		t->tail_len = len;
	}
	return (true);
}

bool
is_later(const struct transfer *t)
{

	return (t->accepted && t->w.plain != NULL &&
	    t->w.plain->later != NULL && t->w.plain->later(t->w.arg));
}

size_t
transfer_on_body(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * n, rest = len, part;
	uint64_t want;

	CHECK_OBJ(t, TRANSFER_MAGIC);
	if (t->over || atomic_load(&t->cancel) || give_up_framing(t))
		return (0);
	if (rate_wait(&t->u->rate) > 0 || is_later(t)) {
		t->paused = t->held = true;
		return (CURL_WRITEFUNC_PAUSE);
	}
	rate_take(&t->u->rate, len);
	t->received += len;
	if (!t->accepted)
		return (t->received > DISCARD_MAX ? 0 : len);
	part = (size_t)MIN(t->skip, rest);
	t->skip -= part;
	p += part;
	rest -= part;
	want = t->wanted - t->given - t->tail_len;
	part = (size_t)MIN(want, rest);
	if (part > 0 && !keep_back(t, p, part))
		give(t, p, part);
	if (rest > part && t->coding != CODING_NONE)
		give_up(t, TRANSFER_FAULT, HEALTH_WRONG_BYTES,
		    "coded body longer than %" PRIu64 " bytes", t->wanted);
	else if (rest > part && (t->reply.status == 206 || t->w.to == t->w.size))
		give_up(t, TRANSFER_FAULT, HEALTH_SOFT_FAULT,
		    "body longer than %" PRIu64 " bytes", t->w.size);
	else if (rest > part)		/* read through: the rest is known */
		give_up(t, TRANSFER_DONE, HEALTH_GOOD, "enough");
	return (t->over ? 0 : len);
}

bool
is_hard(CURLcode rc)
{

	return (rc == CURLE_COULDNT_CONNECT ||
	    rc == CURLE_COULDNT_RESOLVE_HOST ||
	    rc == CURLE_OPERATION_TIMEDOUT);
}

/* Every byte came, as far as can be told. */
static bool
is_complete(const struct transfer *t, CURLcode rc)
{

	if (t->declined)
		return (rc == CURLE_OK || rc == CURLE_WRITE_ERROR ||
		    rc == CURLE_PARTIAL_FILE);
	if (!t->accepted)
		return (false);
	return (t->coding != CODING_NONE || t->reply.chunked ||
	    t->wanted == TRANSFER_UNKNOWN || t->tail_len > 0 ?
	    rc == CURLE_OK : t->given == t->wanted);
}

/* What an ended transfer, which nothing was said about yet, comes to. */
void
conclude(struct transfer *t, CURLcode rc)
{
	unsigned status = t->reply.status;

	if (atomic_load(&t->cancel))
		give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "cancelled");
	else if (give_up_framing(t))
		return;
	else if (is_complete(t, rc)) {
		if (t->tail_len > 0)
			give(t, t->tail, t->tail_len);
		give_up(t, TRANSFER_DONE, HEALTH_GOOD, "done");
	}
	else if (!t->accepted && (rc == CURLE_OK || rc == CURLE_WRITE_ERROR ||
	    rc == CURLE_PARTIAL_FILE) && status != 0) {
		if (status == 404 || status == 410 || (status == 504 &&
		    t->upstream->kind == UPSTREAM_SIBLING))
			give_up(t, TRANSFER_ABSENT, HEALTH_GOOD,
			    "not there (status %u)", status);
		else
			give_up(t, TRANSFER_FAULT, HEALTH_SOFT_FAULT,
			    "status %u", status);
	} else if (rc == CURLE_PARTIAL_FILE && t->given == t->wanted)
		give_up(t, TRANSFER_FAULT, HEALTH_SOFT_FAULT,
		    "body without its last chunk");
	else if (rc == CURLE_OK || rc == CURLE_PARTIAL_FILE)
		give_up(t, TRANSFER_FAULT, HEALTH_SOFT_FAULT,
		    "body ended after %" PRIu64 " of %" PRIu64 " bytes",
		    t->given, t->coding != CODING_NONE &&
		    t->reply.has_length ? (uint64_t)t->reply.length :
		    t->wanted);
	else
		give_up(t, TRANSFER_FAULT,
		    is_hard(rc) ? HEALTH_HARD_FAULT : HEALTH_SOFT_FAULT, "%s",
		    strict_reason(rc, t->error));
}
