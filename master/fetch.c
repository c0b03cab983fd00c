/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Heads, manifests and other documents of an origin or an edge, verified as far
 * as digests go.  Called by the commands, in the program's one thread.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/fetch.h"
#include "proto/chunk.h"

char *
fetch_document(struct client *c, const char *base, const char *name,
    size_t max, size_t *len, unsigned *status, struct parse_error *err)
{
	struct client_request q = {
		.method = CLIENT_GET, .fd = -1, .max = max
	};
	struct buf url = BUF_INIT(CLIENT_URL_MAX);
	struct client_answer a;
	char *body = NULL;

	if (status != NULL)
		*status = 0;
	if (buf_addf(&url, "%s/.pkgcast/%s", base, name) == -1) {
		(void)parse_fail(err, 0, "%.60s...: too long a URL", base);
		goto out;
	}
	q.url = url.p;
	client_do(c, &q, &a);
	if (status != NULL)
		*status = a.status;
	if (a.status == 0)
		(void)parse_fail(err, 0, "%s", a.error);
	else if (a.status != 200)
		(void)parse_fail(err, 0, "%s: answered with status %u", url.p,
		    a.status);
	else if ((body = a.body == NULL ? strdup("") : a.body) == NULL)
		(void)parse_fail(err, 0, "out of memory");
	*len = a.len;
	if (body == a.body)
		a.body = NULL;
	client_answer_free(&a);
out:
	buf_free(&url);
	return (body);
}

int
fetch_current(struct client *c, const char *base, const char *set,
    struct head *h, unsigned *status, struct parse_error *err)
{
	const char *p;
	char *text;
	size_t len, span;
	int ret = 0;

	if ((text = fetch_document(c, base, "heads", HEADS_MAX, &len, status,
	    err)) == NULL)
		return (-1);
	for (p = text; p < text + len; p += span) {
		if ((span = head_span(p, (size_t)(text + len - p))) == 0 ||
		    head_parse(h, p, span, err) == -1) {
			if (span == 0)
				(void)parse_fail(err, 0,
				    "%s/.pkgcast/heads: not a list of heads",
				    base);
			ret = -1;
			break;
		}
		if (strcmp(h->set, set) == 0) {
			ret = 1;
			break;
		}
	}
	free(text);
	return (ret);
}

int
fetch_head(struct client *c, const char *base, const struct digest *d,
    struct head *h, struct parse_error *err)
{
	char name[sizeof("head/") + DIGEST_HEX], hex[DIGEST_HEX + 1];
	char *text;
	size_t len;
	int ret;

	(void)snprintf(name, sizeof(name), "head/%s", digest_hex(d, hex));
	if ((text = fetch_document(c, base, name, HEAD_MAX, &len, NULL,
	    err)) == NULL)
		return (-1);
	ret = head_parse(h, text, len, err);
	if (ret == 0 && !digest_eq(&h->digest, d))
		ret = parse_fail(err, 0,
		    "%s/.pkgcast/%s: holds another head", base, name);
	free(text);
	return (ret);
}

/* A blob of that size, verified by its digest. */
static char *
get_blob(struct client *c, const char *base, const struct digest *d,
    uint64_t size, struct parse_error *err)
{
	char name[sizeof("blob/") + DIGEST_HEX], hex[DIGEST_HEX + 1];
	struct digest got;
	char *text;
	size_t len;

	(void)snprintf(name, sizeof(name), "blob/%s", digest_hex(d, hex));
	if ((text = fetch_document(c, base, name, (size_t)size, &len, NULL,
	    err)) == NULL)
		return (NULL);
	digest_of(&got, text, len);
	if (len == size && digest_eq(&got, d))
		return (text);
	(void)parse_fail(err, 0, "%s/.pkgcast/%s: wrong content", base, name);
	free(text);
	return (NULL);
}

struct manifest *
fetch_manifest(struct client *c, const char *base, const struct head *h,
    struct parse_error *err)
{
	struct manifest *m;
	char *text;

	if (h->manifest_size > MANIFEST_MAX) {
		(void)parse_fail(err, 0, "too large a manifest");
		return (NULL);
	}
	if ((text = get_blob(c, base, &h->manifest, h->manifest_size,
	    err)) == NULL ||
	    (m = manifest_parse(&text, (size_t)h->manifest_size, err)) == NULL)
		return (NULL);
	if (manifest_files(m) == h->files && manifest_bytes(m) == h->bytes)
		return (m);
	(void)parse_fail(err, 0, "manifest and head of %s do not agree",
	    h->set);
	manifest_destroy(&m);
	return (NULL);
}

struct snapshot *
fetch_snapshot(struct client *c, const char *base, const struct head *h,
    struct parse_error *err)
{
	struct snapshot *s = NULL;
	char *manifest;
	uint8_t *chunks = NULL;

	if (h->manifest_size > MANIFEST_MAX ||
	    h->chunks_size > CHUNK_TABLE_MAX) {
		(void)parse_fail(err, 0, "too large a manifest");
		return (NULL);
	}
	if ((manifest = get_blob(c, base, &h->manifest, h->manifest_size,
	    err)) == NULL ||
	    (chunks = (uint8_t *)get_blob(c, base, &h->chunks,
	    h->chunks_size, err)) == NULL)
		goto out;
	s = snapshot_new(h, &manifest, (size_t)h->manifest_size, &chunks,
	    (size_t)h->chunks_size, false, err);
out:
	free(manifest);
	free(chunks);
	return (s);
}
