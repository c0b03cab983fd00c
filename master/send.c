/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The dialogue with the publish listener: head, manifest, chunk table, blobs,
 * then the wait for the edges.  Called by master/release.c, in the program's
 * one thread.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/command.h"
#include "master/progress.h"
#include "master/scan.h"
#include "master/send.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	SEND_PARALLEL	8
#define	RETRY_MS	30000		/* without any progress */
#define	RETRY_STEP_MS	250
#define	POLL_MIN_MS	20
#define	POLL_MAX_MS	200
#define	TOKEN_MAX	128
#define	MISSING_MAX	((DIGEST_HEX + 1) * 1000000u)
#define	SMALL_MAX	4096		/* answers that nobody reads */
#define	UNSTABLE	"unstable tree: changed since it was scanned; repeat when nothing writes there"

enum step { STEP_OK, STEP_AGAIN, STEP_CONFLICT, STEP_FORBIDDEN, STEP_FAILED };

struct dialogue {
	struct send		*s;
	const struct head	*h;
	struct parse_error	*err;
	char			 token[TOKEN_MAX + 1];
	int64_t			 progress_ms;	/* when it last went on */
};

/* What an answer without the wanted status means. */
static enum step
judge(struct dialogue *d, const char *url, const struct client_answer *a)
{
	char text[LOG_TEXT];

	(void)log_escape(text, sizeof(text), a->body == NULL ? "" : a->body,
	    a->len > 0 && a->body[a->len - 1] == '\n' ? a->len - 1 : a->len);
	switch (a->status) {
	case 0:
		(void)parse_fail(d->err, 0, "%s", a->error);
		return (a->again ? STEP_AGAIN : STEP_FAILED);
	case 401:
	case 404:
	case 503:
		(void)parse_fail(d->err, 0, "%s: answered with status %u",
		    url, a->status);
		return (STEP_AGAIN);
	case 403:
		(void)parse_fail(d->err, 0,
		    "the master refuses the signature: is this publisher key trusted for %s? (pkgcast trust show)%s%s",
		    d->h->set, text[0] == '\0' ? "" : ": ", text);
		return (STEP_FORBIDDEN);
	case 409:
		(void)parse_fail(d->err, 0,
		    "the master refuses to publish %s%s%s",
		    d->h->set, text[0] == '\0' ? "" : ": ", text);
		return (STEP_CONFLICT);
	case 507:
		(void)parse_fail(d->err, 0,
		    "no room on the master: make some, then repeat the command");
		return (STEP_FAILED);
	default:
		(void)parse_fail(d->err, 0,
		    "%s: refused with status %u%s%s (its log says more)", url,
		    a->status, text[0] == '\0' ? "" : ": ", text);
		return (STEP_FAILED);
	}
}

static enum step
post_head(struct dialogue *d)
{
	struct client_request q = {
		.method = CLIENT_POST, .fd = -1, .max = SMALL_MAX,
		.body = d->h->text, .size = d->h->len
	};
	struct buf url = BUF_INIT(CLIENT_URL_MAX);
	char hex[DIGEST_HEX + 1];
	struct client_answer a;
	enum step ret = STEP_OK;

	send_url(&url, d->s->base, d->h->set);
	(void)buf_addf(&url, "?prepare-wait=%u", d->s->prepare_wait);
	q.url = url.p;
	client_do(d->s->client, &q, &a);
	d->token[0] = '\0';
	if (a.status == 200 || a.status == 201) {
		if (a.len > 0 && a.body[a.len - 1] == '\n')
			a.body[--a.len] = '\0';
		if (a.len == 0 || a.len > TOKEN_MAX ||
		    strspn(a.body, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/=_-.")
		    != a.len) {
			(void)parse_fail(d->err, 0,
			    "%s: answered without a token", q.url);
			ret = STEP_FAILED;
		} else
			memcpy(d->token, a.body, a.len + 1);
	} else if (a.status != 409 ||
	    strcmp(a.etag, digest_hex(&d->h->digest, hex)) != 0)
		ret = judge(d, q.url, &a);
	/* 409 with our own head: it is what is current. */
	client_answer_free(&a);
	buf_free(&url);
	return (ret);
}

static enum step
put_memory(struct dialogue *d, const struct digest *digest, const char *p,
    size_t len)
{
	struct client_request q = {
		.method = CLIENT_PUT, .fd = -1, .max = SMALL_MAX,
		.body = p, .size = len, .token = d->token
	};
	struct buf url = BUF_INIT(CLIENT_URL_MAX);
	char hex[DIGEST_HEX + 1];
	struct client_answer a;
	enum step ret = STEP_OK;

	send_url(&url, d->s->base, d->h->set);
	(void)buf_addf(&url, "/%s", digest_hex(digest, hex));
	q.url = url.p;
	client_do(d->s->client, &q, &a);
	if (a.status != 200 && a.status != 201)
		ret = judge(d, q.url, &a);
	else if (a.status == 201)
		d->progress_ms = clock_boot_ms();
	client_answer_free(&a);
	buf_free(&url);
	return (ret);
}

/* Files that the master does not have yet. */
struct upload {
	struct dialogue	*d;
	char		*list;		/* the answer's text */
	size_t		 len, at, n;
	uint64_t	 all_bytes;
	uint64_t	 files, began;
	struct progress	 progress;
	enum step	 step;
};

struct one {
	size_t		 index;
	int		 fd;
	char		*url;
};

static enum step
get_missing(struct dialogue *d, char **list, size_t *len)
{
	struct client_request q = {
		.method = CLIENT_GET, .fd = -1, .max = MISSING_MAX,
		.token = d->token
	};
	struct buf url = BUF_INIT(CLIENT_URL_MAX);
	struct client_answer a;
	enum step ret = STEP_OK;

	*list = NULL;
	*len = 0;
	send_url(&url, d->s->base, d->h->set);
	(void)buf_adds(&url, "/missing");
	q.url = url.p;
	client_do(d->s->client, &q, &a);
	if (a.status != 200) {
		ret = judge(d, q.url, &a);
	} else if (a.len % (DIGEST_HEX + 1) != 0) {
		(void)parse_fail(d->err, 0, "%s: not a list of digests",
		    q.url);
		ret = STEP_FAILED;
	} else {
		*list = a.body;
		*len = a.len;
		a.body = NULL;
	}
	client_answer_free(&a);
	buf_free(&url);
	return (ret);
}

/* Index of the file with the k-th missing digest, or -1. */
static ssize_t
missing_index(const struct upload *u, size_t k)
{
	const char *line = u->list + k * (DIGEST_HEX + 1);
	struct digest digest;

	if (u->d->s->scan == NULL ||
	    digest_parse(&digest, line, DIGEST_HEX) == -1)
		return (-1);
	return (scan_find_digest(u->d->s->scan, &digest));
}

static int
end_upload(struct upload *u, enum step step)
{

	if (u->step == STEP_OK)
		u->step = step;
	return (-1);
}

static int
measure(struct upload *u)
{
	ssize_t i;
	size_t k;

	u->n = u->len / (DIGEST_HEX + 1);
	for (k = 0; k < u->n; k++) {
		if ((i = missing_index(u, k)) == -1) {
			(void)parse_fail(u->d->err, 0,
			    "the master wants %.64s, which %s", u->list +
			    k * (DIGEST_HEX + 1), u->d->s->scan == NULL ?
			    "it does not have any more: publish the tree again instead" :
			    "the tree does not hold");
			return (end_upload(u, STEP_FAILED));
		}
		u->all_bytes += scan_nth(u->d->s->scan, (size_t)i)->size;
	}
	return (0);
}

static int
unstable(struct upload *u, const struct one *one)
{
	char name[LOG_TEXT / 2];
	const char *path = scan_nth(u->d->s->scan, one->index)->path;

	(void)parse_fail(u->d->err, 0, "%s: " UNSTABLE,
	    log_escape(name, sizeof(name), path, strlen(path)));
	return (end_upload(u, STEP_FAILED));
}

static bool
upload_next(void *arg, struct client_request *q, void **cookie)
{
	struct upload *u = arg;
	struct buf url = BUF_INIT(CLIENT_URL_MAX);
	struct one *one;
	ssize_t index;

	if (u->at >= u->n || u->step != STEP_OK)
		return (false);
	one = check_alloc(calloc(1, sizeof(*one)));
	index = missing_index(u, u->at);
	CHECK(index != -1);
	one->index = (size_t)index;
	if ((one->fd = scan_open(u->d->s->scan, one->index)) == -1) {
		(void)unstable(u, one);
		free(one);
		return (false);
	}
	send_url(&url, u->d->s->base, u->d->h->set);
	(void)buf_addf(&url, "/%.64s", u->list + u->at * (DIGEST_HEX + 1));
	one->url = check_alloc(buf_take(&url, NULL));
	u->at++;
	q->method = CLIENT_PUT;
	q->url = one->url;
	q->token = u->d->token;
	q->fd = one->fd;
	q->size = scan_nth(u->d->s->scan, one->index)->size;
	q->max = SMALL_MAX;
	*cookie = one;
	return (true);
}

static int
upload_done(void *arg, void *cookie, struct client_answer *a)
{
	struct upload *u = arg;
	struct one *one = cookie;
	bool same = scan_unchanged(u->d->s->scan, one->index, one->fd);
	int ret = 0;

	if (a->status == 200 || a->status == 201) {
		u->files++;
		u->d->s->files++;
		u->d->s->bytes += scan_nth(u->d->s->scan, one->index)->size;
		u->d->progress_ms = clock_boot_ms();
	} else if (!same || a->status == 409 || a->status == 422)
		ret = unstable(u, one);
	else
		ret = end_upload(u, judge(u->d, one->url, a));
	fd_close(&one->fd);
	free(one->url);
	free(one);
	return (ret);
}

static void
upload_tick(void *arg)
{
	struct upload *u = arg;
	uint64_t moved = client_moved(u->d->s->client) - u->began;

	progress_show(&u->progress, u->files, moved, u->n, u->all_bytes);
}

static enum step
upload(struct dialogue *d)
{
	struct upload u = { .d = d, .step = STEP_OK };
	const struct client_batch b = {
		.parallel = SEND_PARALLEL,
		.next = upload_next,
		.done = upload_done,
		.tick = upload_tick,
		.arg = &u
	};
	enum step step;

	if ((step = get_missing(d, &u.list, &u.len)) != STEP_OK)
		return (step);
	if (measure(&u) == 0) {
		progress_begin(&u.progress, "uploading", 0);
		u.began = client_moved(d->s->client);
		if (client_run(d->s->client, &b) == -1 && u.step == STEP_OK)
			u.step = STEP_AGAIN;	/* a signal came */
		progress_end(&u.progress);
	}
	free(u.list);
	return (u.step);
}

/*
 * Asks until the publish is committed and its leases are acknowledged or ran
 * out.  STEP_CONFLICT as soon as the state is about another one.
 */
static enum step
follow(struct send *s, const char *set, uint64_t generation,
    int64_t *progress_ms, struct parse_error *err)
{
	char last[sizeof(s->state.state)] = "";
	long ms = POLL_MIN_MS;
	bool again;
	int got;

	for (;;) {
		send_state_free(&s->state);
		if (command_stop)
			return (STEP_AGAIN);
		if ((got = send_state_get(s->client, s->base, set, &s->state,
		    &again, err)) == -1)
			return (again ? STEP_AGAIN : STEP_FAILED);
		if (got == 0) {
			(void)parse_fail(err, 0,
			    "the master knows of no publish of %s", set);
			return (STEP_AGAIN);
		}
		if (s->state.generation != generation) {
			(void)parse_fail(err, 0,
			    "generation %" PRIu64 " of %s took the place of %"
			    PRIu64, s->state.generation, set, generation);
			return (STEP_CONFLICT);
		}
		if (strcmp(s->state.state, "failed") == 0) {
			(void)parse_fail(err, 0, "the master says: %s",
			    s->state.reason);
			return (STEP_FAILED);
		}
		if (strcmp(s->state.state, "manifest") == 0 ||
		    strcmp(s->state.state, "blobs") == 0)
			return (STEP_AGAIN);
		*progress_ms = clock_boot_ms();
		if (strcmp(s->state.state, "committed") == 0 && s->state.over)
			return (STEP_OK);
		/* What is new may be over soon. */
		if (strcmp(last, s->state.state) != 0) {
			if (command_verbose)
				(void)fprintf(stderr, "%s: %s\n", set,
				    s->state.state);
			memcpy(last, s->state.state, sizeof(last));
			ms = POLL_MIN_MS;
		}
		command_sleep_ms(ms);
		ms = ms * 2 > POLL_MAX_MS ? POLL_MAX_MS : ms * 2;
	}
}

/* From the head to the last edge; everything is said again in the next round,
 * so that a master that restarted goes on where it was. */
static enum step
go_through(struct dialogue *d)
{
	const struct draft *p = d->s->draft;
	struct send_state now;
	enum step step;
	bool wanted;

	if ((step = post_head(d)) != STEP_OK)
		return (step);
	if (send_state_get(d->s->client, d->s->base, d->h->set, &now, NULL,
	    d->err) == -1)
		return (STEP_AGAIN);
	wanted = now.generation != d->h->generation ||
	    strcmp(now.state, "manifest") == 0 ||
	    strcmp(now.state, "blobs") == 0;
	send_state_free(&now);
	if (wanted && d->token[0] != '\0' &&
	    ((step = put_memory(d, &p->head.manifest, p->manifest,
	    p->manifest_len)) != STEP_OK ||
	    (step = put_memory(d, &p->head.chunks, p->chunks,
	    p->chunks_len)) != STEP_OK ||
	    (step = upload(d)) != STEP_OK))
		return (step);
	d->s->sent_ms = clock_boot_ms();
	return (follow(d->s, d->h->set, d->h->generation, &d->progress_ms,
	    d->err));
}

static enum send_result
conclude(enum step step)
{

	if (command_stop && step != STEP_OK)
		return (SEND_INTERRUPTED);
	switch (step) {
	case STEP_OK:
		return (SEND_DONE);
	case STEP_CONFLICT:
		return (SEND_CONFLICT);
	case STEP_FORBIDDEN:
		return (SEND_FORBIDDEN);
	default:
		return (SEND_FAILED);
	}
}

enum send_result
send_run(struct send *s, struct parse_error *err)
{
	struct dialogue d = {
		.s = s, .h = &s->draft->head, .err = err,
		.progress_ms = clock_boot_ms()
	};
	enum step step;

	while ((step = go_through(&d)) == STEP_AGAIN) {
		if (command_stop)
			break;
		if (clock_boot_ms() - d.progress_ms > RETRY_MS)
			return (SEND_FAILED);
		if (command_verbose)
			(void)fprintf(stderr, "%s: trying again\n",
			    err->reason);
		command_sleep_ms(RETRY_STEP_MS);
	}
	return (conclude(step));
}

/* Posts a head that is current: the state is that of now from then on.  Where
 * the master does not take it, it tells how the publish ended. */
static void
ask_anew(struct send *s, const struct head *h)
{
	struct client_request q = {
		.method = CLIENT_POST, .fd = -1, .max = SMALL_MAX,
		.body = h->text, .size = h->len
	};
	struct buf url = BUF_INIT(CLIENT_URL_MAX);
	struct client_answer a;

	send_url(&url, s->base, h->set);
	q.url = url.p;
	client_do(s->client, &q, &a);
	client_answer_free(&a);
	buf_free(&url);
}

enum send_result
send_wait(struct send *s, const struct head *h, struct parse_error *err)
{
	int64_t progress_ms = clock_boot_ms();
	const char *set = h->set;
	uint64_t generation = h->generation;
	struct send_state now;
	enum step step = STEP_OK;
	int got;

	/* Nothing known, or news of another publish: nobody to wait for. */
	if ((got = send_state_get(s->client, s->base, set, &now, NULL, err)) ==
	    1 && now.generation == generation) {
		step = STEP_AGAIN;
		ask_anew(s, h);
	}
	send_state_free(&now);
	if (got == -1)
		return (conclude(STEP_FAILED));
	while (step == STEP_AGAIN &&
	    (step = follow(s, set, generation, &progress_ms, err)) ==
	    STEP_AGAIN) {
		if (command_stop ||
		    clock_boot_ms() - progress_ms > RETRY_MS)
			break;
		command_sleep_ms(RETRY_STEP_MS);
	}
	return (conclude(step));
}
