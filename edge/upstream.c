/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HTTP client: transfers for fills, in one thread of their own around a
 * curl multi handle, and small documents for the follow thread, in that
 * thread.  Only this file and strict.c name libcurl.
 *
 * u->lock guards the limits and the list of transfers that wait; all else of a
 * transfer belongs to the transfer thread, but for `cancel`.
 */
#include <sys/param.h>
#include <sys/queue.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "edge/fields.h"
#include "edge/fresh.h"
#include "edge/health.h"
#include "edge/rate.h"
#include "edge/reply.h"
#include "edge/strict.h"
#include "proto/buf.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/daemon.h"
#include "proto/log.h"

#define	URL_MAX		8192		/* bytes, percent-coded */
#define	HEADER_MAX	8192		/* of a request's field */
#define	REDIRECTS_MAX	3
#define	RECEIVE_SIZE	131072L		/* bytes at once */
#define	DISCARD_MAX	65536u		/* bytes of an error's body */
#define	TICK_MS		1000		/* deadlines are looked at that often */
#define	IDLE_MS		60000
#define	KEPT_MS		2000		/* for an answer on a kept connection */
#define	KEPT_IDLE_MS	10000		/* then it is not used again */
#define	TRANSFER_MAGIC	0x7472616eu
#define	PROTOCOLS	"http,https"

struct limits {
	int64_t		connect_ms, first_ms;
	int64_t		low_bytes;	/* a second */
	int64_t		low_ms;
	unsigned	per_upstream;
	uint64_t	rate;		/* bytes a second; 0: no limit */
};

struct transfer {
	unsigned	 magic;
	struct upstreams *u;
	struct transfer_want w;
	char		*set, *path;
	TAILQ_ENTRY(transfer) link;
	atomic_bool	 cancel;
	struct upstream	*upstream;
	struct limits	 limits;
	CURL		*curl;
	struct curl_slist *headers;
	char		 error[CURL_ERROR_SIZE];
	bool		 by_path;	/* a static tree's, not by digest */
	bool		 ranged;
	struct reply	 reply;
	struct buf	 fields;	/* of the answer, if plain; see fields.h */
	bool		 judged;	/* the head's `head` was called */
	bool		 declined;	/* by it: no body is wanted */
	char		*tail;		/* the last bytes, until all is well */
	size_t		 tail_len;
	struct strict	 strict;
	bool		 accepted, over;
	uint64_t	 skip;		/* bytes to read through */
	enum coding	 coding;
	uint64_t	 wanted;	/* bytes; the most, if coded */
	uint64_t	 given;		/* bytes given to data() */
	uint64_t	 received;
	int64_t		 start_ms, slow_ms, tick_ms;
	uint64_t	 tick_received;
	bool		 first;		/* the answer has begun */
	bool		 anew;		/* asked again, on a new connection */
	bool		 paused;	/* by the rate; and: */
	bool		 held;		/* it was since the last tick */
	enum transfer_result result;
	enum health_event event;
	char		 reason[UPSTREAM_REASON];
};

TAILQ_HEAD(transfers, transfer);

struct upstreams {
	struct health	 health;
	pthread_mutex_t	 lock;
	struct limits	 limits;
	struct transfers waiting, running;
	atomic_bool	 stopping;
	bool		 started;
	CURLM		*multi;
	struct strict_kept kept;	/* the transfer thread's; and: */
	struct rate	 rate;
	int64_t		 dead_ms;	/* a kept connection was found dead */
	pthread_t	 thread;
};

static void	*transfer_thread(void *arg);

static void
set_limits(struct upstreams *u, const struct edge_conf *c)
{

	(void)pthread_mutex_lock(&u->lock);
	u->limits = (struct limits){
		.connect_ms = (int64_t)c->fill_connect * 1000,
		.first_ms = (int64_t)c->fill_first * 1000,
		.low_bytes = (int64_t)c->fill_low_rate,
		.low_ms = (int64_t)c->fill_low_time * 1000,
		.per_upstream = (unsigned)MAX(1,
		    MIN(c->per_upstream, UINT_MAX)),
		.rate = c->fill_rate,
	};
	(void)pthread_mutex_unlock(&u->lock);
}

struct upstreams *
upstreams_new(const struct edge_conf *c)
{
	struct upstreams *u;

	if ((u = calloc(1, sizeof(*u))) == NULL)
		return (NULL);
	TAILQ_INIT(&u->waiting);
	TAILQ_INIT(&u->running);
	u->dead_ms = INT64_MIN / 2;
	(void)pthread_mutex_init(&u->lock, NULL);
	health_init(&u->health);
	set_limits(u, c);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0 ||
	    (u->multi = curl_multi_init()) == NULL ||
	    health_configure(&u->health, c) == -1 ||
	    pthread_create(&u->thread, NULL, transfer_thread, u) != 0) {
		upstreams_destroy(&u);
		errno = ENOMEM;
		return (NULL);
	}
	u->started = true;
	return (u);
}

int
upstreams_configure(struct upstreams *u, const struct edge_conf *c)
{

	set_limits(u, c);
	return (health_configure(&u->health, c));
}

void
upstreams_stop(struct upstreams *u)
{

	atomic_store(&u->stopping, true);
	if (!u->started)
		return;
	(void)curl_multi_wakeup(u->multi);
	(void)pthread_join(u->thread, NULL);
	u->started = false;
}

void
upstreams_destroy(struct upstreams **up)
{
	struct upstreams *u = *up;

	if (u == NULL)
		return;
	*up = NULL;
	upstreams_stop(u);
	if (u->multi != NULL)
		(void)curl_multi_cleanup(u->multi);
	health_free(&u->health);
	(void)pthread_mutex_destroy(&u->lock);
	free(u);
	curl_global_cleanup();
}

size_t
upstreams_stats(struct upstreams *u, struct upstream_stat *st, size_t n)
{

	return (health_stats(&u->health, st, n));
}

void
upstream_bad(struct upstreams *u, const char *url, const char *reason)
{

	log_warn("document upstream=%s refused: %s", url, reason);
	health_bad(&u->health, url, reason);
}

/* Options that every request has. */
static int
set_common(CURL *c, const char *url, const struct limits *l, char *error)
{

	error[0] = '\0';
	if (curl_easy_setopt(c, CURLOPT_URL, url) != CURLE_OK ||
	    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, PROTOCOLS) != CURLE_OK ||
	    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, PROTOCOLS) !=
	    CURLE_OK ||
	    /* No proxy that some environment variable names. */
	    curl_easy_setopt(c, CURLOPT_PROXY, "") != CURLE_OK ||
	    curl_easy_setopt(c, CURLOPT_USERAGENT,
	    "pkgcast-edge/" PKGCAST_VERSION) != CURLE_OK)
		return (-1);
	(void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error);
	(void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c, CURLOPT_HTTP_VERSION,
	    (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
	(void)curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
	(void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS,
	    (long)l->connect_ms);
	(void)curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	(void)curl_easy_setopt(c, CURLOPT_BUFFERSIZE, RECEIVE_SIZE);
	return (0);
}

/* Percent-codes what is not safe everywhere; keeps slashes. */
static void
add_path(struct buf *b, const char *path)
{
	static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789-._~/:";

	for (; *path != '\0'; path++)
		if (strchr(safe, *path) != NULL)
			(void)buf_add(b, path, 1);
		else
			(void)buf_addf(b, "%%%02X", (unsigned char)*path);
}

/* The URL of a transfer; NULL: out of memory or too long. */
static char *
transfer_url(struct transfer *t)
{
	struct buf b = BUF_INIT(URL_MAX);
	char hex[DIGEST_HEX + 1], *url = NULL;

	t->by_path = t->w.plain != NULL ||
	    (t->upstream->kind == UPSTREAM_STATIC &&
	    t->set != NULL && t->path != NULL);
	(void)buf_addf(&b, "%s/", t->upstream->url);
	if (t->w.plain != NULL)
		(void)buf_adds(&b, t->w.plain->target);
	else if (t->by_path) {
		add_path(&b, t->set);
		(void)buf_adds(&b, "/");
		add_path(&b, t->path);
	} else
		(void)buf_addf(&b, ".pkgcast/blob/%s",
		    digest_hex(&t->w.digest, hex));
	if (!b.failed)
		url = buf_take(&b, NULL);
	buf_free(&b);
	return (url);
}

/* The first fault counts; those that follow from it do not. */
static void
give_up(struct transfer *t, enum transfer_result result,
    enum health_event event, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void
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

/* Without what may stand around the value. */
static void
keep_field(struct transfer *t, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);

	if (colon == NULL)
		return;			/* refused elsewhere */
	(void)buf_add(&t->fields, line, (size_t)(colon + 1 - line));
	(void)buf_adds(&t->fields, " ");
	len -= (size_t)(colon + 1 - line);
	for (line = colon + 1; len > 0 && (*line == ' ' || *line == '\t');
	    line++)
		len--;
	while (len > 0 && memchr(" \t\r\n", line[len - 1], 4) != NULL)
		len--;
	(void)buf_add(&t->fields, line, len);
	(void)buf_adds(&t->fields, "\n");
}

static size_t
on_header(char *line, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * n;

	CHECK_OBJ(t, TRANSFER_MAGIC);
	t->first = true;
	if (t->accepted)		/* trailers say nothing */
		return (len);
	switch (reply_line(&t->reply, line, len)) {
	case REPLY_STATUS:
		buf_free(&t->fields);
		t->fields = (struct buf)BUF_INIT(FIELDS_MAX);
		break;
	case REPLY_FIELD:
		if (t->w.plain != NULL)
			keep_field(t, line, len);
		break;
	case REPLY_END:
		judge(t);
		break;
	}
	return (t->over ? 0 : len);
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
		give_up(t, TRANSFER_FAULT,
		    content_event(t, HEALTH_WRONG_BYTES),
		    "wrong bytes: they have another digest");
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

static size_t
on_body(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * n, rest = len, part;
	uint64_t want;

	CHECK_OBJ(t, TRANSFER_MAGIC);
	if (t->over || atomic_load(&t->cancel) || give_up_framing(t))
		return (0);
	if (rate_wait(&t->u->rate) > 0) {
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

/*
 * A kept connection may be dead without a sign: a router between forgot it, or
 * was started anew.  So those that were idle for long are not used, and where
 * one was found dead, none that is older.
 */
static void
limit_kept(struct transfer *t)
{
	int64_t ms = MIN(KEPT_IDLE_MS, t->start_ms - t->u->dead_ms);

	(void)curl_easy_setopt(t->curl, CURLOPT_MAXAGE_CONN,
	    (long)(ms / 1000));
}

static int
add_header(struct transfer *t, const char *name, const char *value)
{
	char line[HEADER_MAX];
	struct curl_slist *l;

	if ((size_t)snprintf(line, sizeof(line), "%s: %s", name, value) >=
	    sizeof(line) || (l = curl_slist_append(t->headers, line)) == NULL)
		return (-1);
	t->headers = l;
	return (0);
}

/* The fields that a plain file is asked for with. */
static int
add_fields(struct transfer *t)
{
	const struct transfer_plain *p = t->w.plain;
	const char *line = p->fields, *end;
	struct curl_slist *l;
	char one[HEADER_MAX];
	size_t n;

	for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		n = (size_t)(end - line);
		if (n >= sizeof(one))
			return (-1);
		memcpy(one, line, n);
		one[n] = '\0';
		/* What has no value is written so for the library. */
		if (n >= 2 && one[n - 1] == ' ' && one[n - 2] == ':')
			one[n - 2] = ';', one[n - 1] = '\0';
		if ((l = curl_slist_append(t->headers, one)) == NULL)
			return (-1);
		t->headers = l;
	}
	return (p->validator == NULL || !t->ranged ? 0 :
	    add_header(t, "If-Range", p->validator));
}

static int
offer_codings(struct transfer *t)
{
	const struct transfer_coded *c = t->w.coded;

	if (add_header(t, "Accept-Encoding", c->accept) == -1)
		return (-1);
	return (c->dictionary == NULL ? 0 :
	    add_header(t, "Available-Dictionary", c->dictionary));
}

/* Makes the request.  -1: not possible for a local reason. */
static int
begin(struct transfer *t)
{
	CURL *c;
	char range[64], *url;
	int ret = -1;

	if ((url = transfer_url(t)) == NULL)
		return (-1);
	if ((c = t->curl = curl_easy_init()) == NULL ||
	    set_common(c, url, &t->limits, t->error) == -1)
		goto out;
	if ((t->upstream->kind == UPSTREAM_SIBLING &&
	    add_header(t, "Cache-Control", "only-if-cached") == -1) ||
	    (t->w.coded != NULL && offer_codings(t) == -1))
		goto out;
	t->ranged = t->w.from > 0 || t->w.to < t->w.size;
	if (t->w.plain != NULL) {
		(void)curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
		if (add_fields(t) == -1)
			goto out;
	}
	if (t->ranged) {
		(void)snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64,
		    t->w.from, t->w.to - 1);
		if (curl_easy_setopt(c, CURLOPT_RANGE, range) != CURLE_OK)
			goto out;
	}
	strict_begin(&t->strict, c, &t->reply, &t->u->kept,
	    t->w.plain != NULL && strncmp(url, "https:", 6) == 0);
	(void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
	(void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	(void)curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
	(void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	(void)curl_easy_setopt(c, CURLOPT_PRIVATE, t);
	t->start_ms = t->tick_ms = clock_boot_ms();
	limit_kept(t);
	ret = curl_multi_add_handle(t->u->multi, c) == CURLM_OK ? 0 : -1;
out:
	free(url);
	return (ret);
}

static bool
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
static void
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

static void
transfer_free(struct transfer *t)
{

	if (t->curl != NULL)
		curl_easy_cleanup(t->curl);
	curl_slist_free_all(t->headers);
	free(t->tail);
	buf_free(&t->fields);
	free(t->set);
	free(t->path);
	explicit_bzero(&t->magic, sizeof(t->magic));
	free(t);
}

/* Tells the caller, and forgets the transfer, which is in no list any more. */
static void
finish(struct transfer *t)
{
	struct transfer_end e = { .result = t->result, .coding = t->coding,
	    .received = t->received };

	if (t->curl != NULL)
		(void)curl_multi_remove_handle(t->u->multi, t->curl);
	(void)log_escape(e.reason, sizeof(e.reason), t->reason,
	    strlen(t->reason));
	if (t->upstream != NULL) {
		e.slot = t->upstream->slot;
		e.kind = t->upstream->kind;
		(void)snprintf(e.url, sizeof(e.url), "%s", t->upstream->url);
		health_end(&t->u->health, t->upstream, t->received, t->event,
		    e.reason);
	}
	t->w.done(t->w.arg, &e);
	transfer_free(t);
}

/* Starts a transfer that waits, if its turn has come.  False: not yet. */
static bool
try_start(struct upstreams *u, struct transfer *t)
{
	bool full = false;

	(void)pthread_mutex_lock(&u->lock);
	t->limits = u->limits;
	(void)pthread_mutex_unlock(&u->lock);
	if (atomic_load(&u->stopping) || atomic_load(&t->cancel))
		give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "cancelled");
	else if ((t->upstream = health_pick(&u->health, t->w.tried,
	    t->w.coded != NULL ? HEALTH_CODED : HEALTH_BLOB,
	    t->w.urgent ? UINT_MAX : t->limits.per_upstream, &full)) == NULL) {
		if (full)
			return (false);
		give_up(t, TRANSFER_NONE, HEALTH_NEUTRAL, "no upstream left");
	}
	(void)pthread_mutex_lock(&u->lock);
	TAILQ_REMOVE(&u->waiting, t, link);
	(void)pthread_mutex_unlock(&u->lock);
	if (!t->over && begin(t) == 0) {
		TAILQ_INSERT_TAIL(&u->running, t, link);
		return (true);
	}
	give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "out of memory");
	finish(t);
	return (true);
}

static void
start_waiting(struct upstreams *u)
{
	struct transfer *t, *next;

	(void)pthread_mutex_lock(&u->lock);
	t = TAILQ_FIRST(&u->waiting);
	(void)pthread_mutex_unlock(&u->lock);
	/* Only this thread removes; what is added meanwhile wakes the poll. */
	for (; t != NULL; t = next) {
		(void)pthread_mutex_lock(&u->lock);
		next = TAILQ_NEXT(t, link);
		(void)pthread_mutex_unlock(&u->lock);
		(void)try_start(u, t);
	}
}

/* The transfer's deadlines stay as they are. */
static void
ask_anew(struct transfer *t)
{

	t->anew = true;
	(void)curl_multi_remove_handle(t->u->multi, t->curl);
	(void)curl_easy_setopt(t->curl, CURLOPT_FRESH_CONNECT, 1L);
	if (curl_multi_add_handle(t->u->multi, t->curl) != CURLM_OK)
		give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "out of memory");
}

/*
 * What a kept connection does not answer soon is asked once more, on a new one.
 * While a connection is being made none was made yet, and nothing was asked.
 */
static void
leave_kept(struct transfer *t, int64_t now)
{
	curl_off_t asked_us = 0;
	long made = 1;

	if (t->anew || now - t->start_ms < KEPT_MS ||
	    curl_easy_getinfo(t->curl, CURLINFO_NUM_CONNECTS, &made) !=
	    CURLE_OK || made > 0 ||
	    curl_easy_getinfo(t->curl, CURLINFO_PRETRANSFER_TIME_T,
	    &asked_us) != CURLE_OK || asked_us == 0)
		return;
	t->u->dead_ms = now;
	ask_anew(t);
}

/* Limits of time.  Once a second they are certain enough. */
static void
tick(struct transfer *t, int64_t now)
{
	int64_t ms = now - t->tick_ms;

	if (!t->first) {
		if (t->limits.first_ms > 0 &&
		    now - t->start_ms >= t->limits.first_ms)
			give_up(t, TRANSFER_FAULT, HEALTH_HARD_FAULT,
			    "no answer within %" PRId64 " s",
			    t->limits.first_ms / 1000);
		else
			leave_kept(t, now);
		t->tick_ms = now;
		return;
	}
	if (ms < TICK_MS)
		return;
	if (t->held || (int64_t)(t->received - t->tick_received) * 1000 >=
	    t->limits.low_bytes * ms)
		t->slow_ms = 0;
	else
		t->slow_ms += ms;
	t->held = t->paused;
	t->tick_ms = now;
	t->tick_received = t->received;
	if (t->limits.low_ms > 0 && t->slow_ms >= t->limits.low_ms)
		give_up(t, TRANSFER_FAULT, HEALTH_HARD_FAULT,
		    "stalled: below %" PRId64 " bytes/s for %" PRId64 " s",
		    t->limits.low_bytes, t->limits.low_ms / 1000);
}

/* Ends what is cancelled or out of time. */
static void
reap(struct upstreams *u)
{
	struct transfer *t, *next;
	int64_t now = clock_boot_ms();

	for (t = TAILQ_FIRST(&u->running); t != NULL; t = next) {
		next = TAILQ_NEXT(t, link);
		tick(t, now);
		if (!t->over && !atomic_load(&u->stopping) &&
		    !atomic_load(&t->cancel))
			continue;
		give_up(t, TRANSFER_STOPPED, HEALTH_NEUTRAL, "cancelled");
		TAILQ_REMOVE(&u->running, t, link);
		finish(t);
	}
}

/* Takes what curl is through with. */
static void
collect(struct upstreams *u)
{
	struct transfer *t;
	CURLcode rc;
	CURLMsg *m;
	char *p;
	int n;

	while ((m = curl_multi_info_read(u->multi, &n)) != NULL) {
		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &p);
		t = (struct transfer *)(void *)p;
		CHECK_OBJ(t, TRANSFER_MAGIC);
		rc = m->data.result;	/* m is gone with the handle */
		if (strict_end(&t->strict)) {
			ask_anew(t);
			if (!t->over)
				continue;
		}
		conclude(t, rc);
		TAILQ_REMOVE(&u->running, t, link);
		finish(t);
	}
}

/*
 * Lets transfers that the rate held go on, as long as it allows, those first that
 * have waited longest.  How long to wait for what comes next.
 */
static int
resume(struct upstreams *u)
{
	struct transfer *t, *next, *last = TAILQ_LAST(&u->running, transfers);
	CURLcode rc;
	int ms;

	for (t = TAILQ_FIRST(&u->running); t != NULL; t = next) {
		next = t == last ? NULL : TAILQ_NEXT(t, link);
		if (!t->paused)
			continue;
		if ((ms = rate_wait(&u->rate)) > 0)
			return (ms);
		t->paused = false;
		TAILQ_REMOVE(&u->running, t, link);
		TAILQ_INSERT_TAIL(&u->running, t, link);
		if ((rc = curl_easy_pause(t->curl, CURLPAUSE_CONT)) != CURLE_OK)
			conclude(t, rc);	/* reap() takes it */
	}
	return (TICK_MS);
}

static void *
transfer_thread(void *arg)
{
	struct upstreams *u = arg;
	bool idle, stopping;
	int n;

	for (;;) {
		start_waiting(u);
		/* Under the lock: who did not see `stopping` has added. */
		(void)pthread_mutex_lock(&u->lock);
		stopping = atomic_load(&u->stopping);
		idle = TAILQ_EMPTY(&u->running) && TAILQ_EMPTY(&u->waiting);
		rate_set(&u->rate, u->limits.rate);
		(void)pthread_mutex_unlock(&u->lock);
		if (idle && stopping)
			break;
		(void)curl_multi_poll(u->multi, NULL, 0,
		    idle ? IDLE_MS : resume(u), NULL);
		(void)curl_multi_perform(u->multi, &n);
		collect(u);
		reap(u);
	}
	return (NULL);
}

struct transfer *
transfer_start(struct upstreams *u, const struct transfer_want *w)
{
	struct transfer *t;

	CHECK(w->from < w->to && w->to <= w->size);
	if ((t = calloc(1, sizeof(*t))) == NULL)
		return (NULL);
	t->magic = TRANSFER_MAGIC;
	t->u = u;
	t->w = *w;
	t->wanted = w->to - w->from;
	t->w.set = t->w.path = NULL;
	if ((w->set != NULL && (t->set = strdup(w->set)) == NULL) ||
	    (w->path != NULL && (t->path = strdup(w->path)) == NULL)) {
		transfer_free(t);
		return (NULL);
	}
	(void)pthread_mutex_lock(&u->lock);
	if (atomic_load(&u->stopping)) {
		(void)pthread_mutex_unlock(&u->lock);
		transfer_free(t);
		return (NULL);
	}
	if (w->urgent)
		TAILQ_INSERT_HEAD(&u->waiting, t, link);
	else
		TAILQ_INSERT_TAIL(&u->waiting, t, link);
	(void)pthread_mutex_unlock(&u->lock);
	(void)curl_multi_wakeup(u->multi);
	return (t);
}

void
transfer_hand_over(struct transfer *t, uint64_t size,
    const struct transfer_plain *plain,
    enum transfer_more (*data)(void *arg, const void *p, size_t len),
    void (*done)(void *arg, const struct transfer_end *e), void *arg)
{

	CHECK_OBJ(t, TRANSFER_MAGIC);
	CHECK(t->judged && t->given == 0 && size == t->wanted);
	t->w.size = t->w.to = size;
	t->w.plain = plain;
	t->w.data = data;
	t->w.done = done;
	t->w.arg = arg;
}

void
transfer_cancel(struct upstreams *u, struct transfer *t)
{

	CHECK_OBJ(t, TRANSFER_MAGIC);
	atomic_store(&t->cancel, true);
	(void)curl_multi_wakeup(u->multi);
}

char *
upstream_resolve(const char *url, const char *target, const char *location)
{
	char base[URL_MAX], *out = NULL, *copy = NULL;
	CURLU *u;

	if ((size_t)snprintf(base, sizeof(base), "%s/%s", url, target) >=
	    sizeof(base) || (u = curl_url()) == NULL)
		return (NULL);
	/* A relative one is taken as from what is there. */
	if (curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_URL, location, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_URL, &out, 0) == CURLUE_OK)
		copy = strdup(out);
	curl_free(out);
	curl_url_cleanup(u);
	return (copy);
}

/* A document on its way. */
struct document {
	struct upstreams *u;
	const atomic_bool *stop;
	struct reply	 reply;
	struct buf	 body;
};

static size_t
on_document(char *p, size_t size, size_t n, void *arg)
{
	struct document *d = arg;

	if (d->reply.fault != NULL)
		return (0);
	return (buf_add(&d->body, p, size * n) == 0 ? size * n : 0);
}

static int
on_progress(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total,
    curl_off_t up)
{
	struct document *d = arg;

	(void)total;
	(void)now;
	(void)up_total;
	(void)up;
	return (atomic_load(&d->u->stopping) ||
	    (d->stop != NULL && atomic_load(d->stop)));
}

/* One GET of a document.  *status: of the answer.  What went wrong in error. */
static CURLcode
get(struct document *d, const char *url, unsigned timeout_s, long *status,
    char *error)
{
	struct limits l;
	struct strict strict;
	CURLcode rc = CURLE_OUT_OF_MEMORY;
	CURL *c;

	(void)pthread_mutex_lock(&d->u->lock);
	l = d->u->limits;
	(void)pthread_mutex_unlock(&d->u->lock);
	*status = 0;
	if ((c = curl_easy_init()) == NULL)
		return (rc);
	if (set_common(c, url, &l, error) == 0) {
		(void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS,
		    (long)timeout_s * 1000);
		(void)curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
		(void)curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION,
		    on_progress);
		(void)curl_easy_setopt(c, CURLOPT_XFERINFODATA, d);
		(void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_document);
		(void)curl_easy_setopt(c, CURLOPT_WRITEDATA, d);
		strict_begin(&strict, c, &d->reply, NULL, false);
		rc = curl_easy_perform(c);
		(void)strict_end(&strict);
		(void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, status);
	}
	curl_easy_cleanup(c);
	return (rc);
}

/*
 * Asks one upstream.  NULL: errno ENOENT (not there), ECANCELED or EIO.  The
 * use of `from` is ended.
 */
static char *
get_from(struct document *d, struct upstream *from, const char *target,
    unsigned timeout_s, size_t *len)
{
	enum health_event event = HEALTH_GOOD;
	char error[CURL_ERROR_SIZE], reason[UPSTREAM_REASON] = "", *p = NULL;
	char url[UPSTREAM_URL + 256];
	CURLcode rc;
	long status;
	int e = EIO;

	(void)snprintf(url, sizeof(url), "%s%s", from->url, target);
	rc = get(d, url, timeout_s, &status, error);
	if (rc == CURLE_ABORTED_BY_CALLBACK) {
		event = HEALTH_NEUTRAL;
		e = ECANCELED;
	} else if (d->reply.fault != NULL)
		(void)snprintf(reason, sizeof(reason), "%s", d->reply.fault);
	else if (d->body.failed)
		(void)snprintf(reason, sizeof(reason),
		    "longer than %zu bytes", d->body.max);
	else if (rc != CURLE_OK)
		(void)log_escape(reason, sizeof(reason), strict_reason(rc, error),
		    strlen(strict_reason(rc, error)));
	else if (status == 404 || status == 410)
		e = ENOENT;
	else if (status != 200)
		(void)snprintf(reason, sizeof(reason), "status %ld", status);
	else if (buf_add(&d->body, "", 0) == 0)
		p = buf_take(&d->body, len);
	if (reason[0] != '\0') {
		event = is_hard(rc) ? HEALTH_HARD_FAULT : HEALTH_SOFT_FAULT;
		log_warn("document upstream=%s target=%s reason=%s", from->url,
		    target, reason);
	}
	health_end(&d->u->health, from, d->body.len + (p != NULL ? *len : 0),
	    event, reason);
	errno = e;
	return (p);
}

char *
upstream_get(struct upstreams *u, uint64_t *tried, const char *target,
    size_t max, unsigned timeout_s, const atomic_bool *stop, size_t *len,
    char from[UPSTREAM_URL])
{
	struct document d = { .u = u, .stop = stop, .body = BUF_INIT(max) };
	struct upstream *one;
	char *p = NULL;
	int e = ENOENT;
	bool full;

	from[0] = '\0';
	while (p == NULL && e != ECANCELED && !atomic_load(&u->stopping) &&
	    (one = health_pick(&u->health, *tried, HEALTH_DOCUMENT, UINT_MAX,
	    &full)) != NULL) {
		*tried |= UINT64_C(1) << one->slot;
		(void)snprintf(from, UPSTREAM_URL, "%s", one->url);
		p = get_from(&d, one, target, timeout_s, len);
		if (p == NULL && errno != ENOENT)
			e = errno;
		buf_free(&d.body);
		d.body = (struct buf)BUF_INIT(max);
		d.reply = (struct reply){ .status = 0 };
	}
	if (p == NULL)
		errno = atomic_load(&u->stopping) ? ECANCELED : e;
	return (p);
}
