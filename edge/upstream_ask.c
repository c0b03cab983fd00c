/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests to upstreams: address, options and header fields.  Called by upstream.c in
 * the transfer thread, upstream_options() by upstream_document.c in its callers'.
 */
#include <sys/param.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge/upstream_impl.h"
#include "proto/clock.h"
#include "proto/daemon.h"

#define	URL_MAX		8192		/* bytes, percent-coded */
#define	HEADER_MAX	8192		/* of a request's field */
#define	REDIRECTS_MAX	3
#define	RECEIVE_SIZE	131072L		/* bytes at once */
#define	KEPT_IDLE_MS	10000		/* then it is not used again */
#define	PROTOCOLS	"http,https"

/* Options that every request has. */
int
upstream_options(CURL *c, const char *url, const struct limits *l, char *error)
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
int
transfer_ask(struct transfer *t)
{
	CURL *c;
	char range[64], *url;
	int ret = -1;

	if ((url = transfer_url(t)) == NULL)
		return (-1);
	if ((c = t->curl = curl_easy_init()) == NULL ||
	    upstream_options(c, url, &t->limits, t->error) == -1)
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
	(void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION,
	    transfer_on_header);
	(void)curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
	(void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION,
	    transfer_on_body);
	(void)curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	(void)curl_easy_setopt(c, CURLOPT_PRIVATE, t);
	t->start_ms = t->tick_ms = clock_boot_ms();
	limit_kept(t);
	ret = curl_multi_add_handle(t->u->multi, c) == CURLM_OK ? 0 : -1;
out:
	free(url);
	return (ret);
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
