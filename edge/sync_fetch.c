/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What syncing needs from upstreams: the trust document, and manifests and chunk
 * tables as snapshots.  The follow thread runs it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge/sync_impl.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"

#define	FETCH_S		120		/* for a manifest or chunk table */
#define	TRUST_S		20
#define	PUT_OFF_MAX	2		/* interruptions of a coded fetch */
#define	FOLDER_SIZE	4096

/* Takes what is new in a trust document; true when it is a good one. */
static bool
take_trust(struct sync *s, const char *text, size_t len, const char *from)
{
	struct parse_error err = { .reason = "" };
	int added;

	added = trust_update(s->conf.trust, text, len, &err);
	if (added == -1) {
		log_warn("trust document refused from=%s line=%lu reason=\"%s\"",
		    from, err.line, err.reason);
		upstream_bad(s->conf.upstreams, from, err.reason);
	} else if (added > 0)
		log_info("trust document taken version=%ju from=%s",
		    (uintmax_t)trust_version(s->conf.trust), from);
	if (trust_save(s->conf.trust, s->conf.trust_dir) == -1)
		log_err("trust document not saved reason=\"%s\"",
		    strerror(errno));
	if (trust_version(s->conf.trust) > 0)
		atomic_store(&s->expires, trust_expires(s->conf.trust));
	return (added != -1);
}

bool
sync_trust(struct sync *s, uint64_t version)
{
	char from[UPSTREAM_URL], *text;
	uint64_t tried = 0;
	bool good = false;
	size_t len;

	CHECK_OBJ(s, SYNC_MAGIC);
	s->trust_ms = clock_boot_ms();
	while ((text = upstream_get(s->conf.upstreams, &tried,
	    "/.pkgcast/trust", TRUST_ALL_MAX, TRUST_S, s->conf.interrupt, &len,
	    from)) != NULL) {
		if (take_trust(s, text, len, from))
			good = true;
		free(text);
		if (good && trust_version(s->conf.trust) >= version)
			break;
	}
	return (good);
}

bool
sync_trust_expired(const struct sync *s, int64_t now)
{

	return (now >= atomic_load(&s->expires));
}

/* As it is, by a fill.  0, or -1: errno.  Its digest is the fill's to verify, which
 * tells of the upstream that has other bytes. */
static int
fill_document(struct sync *s, const struct fill_want *want,
    const atomic_bool *stop, char **out, size_t *len)
{
	struct blob *b;

	if (fill_fetch(s->conf.fills, want, FETCH_S, stop, &b) == -1)
		return (-1);
	coming_count(s, CODING_NONE, want->size, want->size);
	*out = blob_slurp(b, len);
	blob_put(&b);
	return (*out == NULL ? -1 : 0);
}

/*
 * What was interrupted begins anew the next time; where that happens again and
 * again, as others are announced more often than it takes, it is left to a fill,
 * which goes on by itself.
 */
static void
note_interrupted(struct sync *s, const struct fill_want *want)
{
	struct sync_set *set;

	if (atomic_load(s->conf.stop) || (set = sync_get(s, want->set)) == NULL)
		return;
	if (!digest_eq(&set->put_off, &want->digest))
		set->nput_off = 0;
	set->put_off = want->digest;
	set->nput_off++;
}

static bool
is_left(struct sync *s, const struct fill_want *want)
{
	const struct sync_set *set = sync_get(s, want->set);

	return (set != NULL && digest_eq(&set->put_off, &want->digest) &&
	    set->nput_off >= PUT_OFF_MAX);
}

/* All bytes of a manifest or chunk table: from the store, else fetched into it.  0,
 * or -1: errno. */
static int
load_document(struct sync *s, const struct head *h, enum head_part part,
    const atomic_bool *stop, char **out, size_t *len)
{
	struct fill_want want = {
		.digest = part == HEAD_MANIFEST ? h->manifest : h->chunks,
		.size = part == HEAD_MANIFEST ? h->manifest_size :
		    h->chunks_size,
		.set = h->set,
	};
	struct digest empty;
	struct blob *b;

	*len = 0;
	if (want.size == 0) {
		digest_of(&empty, "", 0);
		errno = digest_eq(&empty, &want.digest) ? 0 : EBADMSG;
		return (errno == 0 && (*out = calloc(1, 1)) != NULL ? 0 : -1);
	}
	if ((b = blob_get(s->conf.store, &want.digest, want.size)) != NULL) {
		*out = blob_slurp(b, len);
		blob_put(&b);
		if (*out != NULL)
			return (0);
	}
	if (stop == NULL) {
		errno = ENOENT;
		return (-1);
	}
	if (atomic_load(stop)) {
		errno = ECANCELED;
		return (-1);
	}
	*out = is_left(s, &want) ? NULL : sync_coded(s, &want, part, stop);
	coming_end(s, &want.digest);
	if (*out != NULL) {
		*len = (size_t)want.size;
		return (0);
	}
	if (atomic_load(stop)) {	/* a fill would go on by itself */
		note_interrupted(s, &want);
		if (!is_left(s, &want)) {
			errno = ECANCELED;
			return (-1);
		}
	}
	return (fill_document(s, &want, stop, out, len));
}

/*
 * A blob's file is synced when it is complete; its name is only when its folder
 * (and the folder's own name) is.  A head may name it from then on.
 */
static int
sync_name(const struct sync *s, const struct digest *d)
{
	char hex[DIGEST_HEX + 1], path[FOLDER_SIZE];
	int fd = -1, ret = -1;

	(void)digest_hex(d, hex);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/blob/%.*s", s->conf.cache_dir,
		    i == 0 ? 2 : 0, hex);
		if ((fd = fd_open_dir(AT_FDCWD, path)) == -1 ||
		    fd_sync_dir(fd) == -1)
			goto out;
		fd_close(&fd);
	}
	ret = 0;
out:
	fd_close(&fd);
	return (ret);
}

/* Both, and what a head that names them may rest on. */
static int
load(struct sync *s, const struct head *h, const atomic_bool *stop,
    char **manifest, size_t *manifest_len, char **chunks, size_t *chunks_len)
{
	int error, ret;

	if (stop != NULL)
		coming_begin(s, h);
	ret = load_document(s, h, HEAD_MANIFEST, stop, manifest,
	    manifest_len) == -1 || load_document(s, h, HEAD_CHUNKS, stop,
	    chunks, chunks_len) == -1 || (stop != NULL &&
	    (sync_name(s, &h->manifest) == -1 || (h->chunks_size > 0 &&
	    sync_name(s, &h->chunks) == -1))) ? -1 : 0;
	error = errno;
	if (stop != NULL)
		coming_end(s, NULL);
	errno = error;
	return (ret);
}

struct snapshot *
sync_load(struct sync *s, const struct head *h, const atomic_bool *stop,
    struct parse_error *err)
{
	struct snapshot *snapshot = NULL;
	size_t manifest_len = 0, chunks_len = 0;
	char *manifest = NULL, *chunks = NULL;
	uint8_t *rows;

	err->line = 0;
	err->reason[0] = '\0';
	if (load(s, h, stop, &manifest, &manifest_len, &chunks,
	    &chunks_len) == -1) {
		if (errno == EBADMSG)
			(void)parse_fail(err, 0, "the chunk table's digest is "
			    "not that of an empty one");
		free(manifest);
		free(chunks);
		return (NULL);
	}
	rows = (uint8_t *)chunks;
	if ((snapshot = snapshot_new(h, &manifest, manifest_len, &rows,
	    chunks_len, false, err)) == NULL)
		errno = EBADMSG;
	return (snapshot);
}
