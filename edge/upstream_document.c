/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small documents from upstreams.  Called by the follow thread, which waits for them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge/upstream_impl.h"
#include "proto/check.h"
#include "proto/log.h"

void
upstream_bad(struct upstreams *u, const char *url, const char *reason)
{

	log_warn("document upstream=%s refused: %s", url, reason);
	health_bad(&u->health, url, reason);
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
	if (upstream_options(c, url, &l, error) == 0) {
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
