/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes for answers: what memory has at once, what the disk has after a wait, and
 * what a fill brings.  serve.c calls it in HTTP threads; wakes come from the
 * threads of cold.c and fill.c.
 */
#include <sys/param.h>

#include <string.h>
#include <strings.h>

#include "edge/bytes.h"
#include "proto/check.h"
#include "proto/limits.h"

/*
 * A large body is sent from a mapping while there are few of them, and by
 * sendfile(2) when there are many: sockets then hold no copy of what waits to be
 * sent, which costs a sixth of the CPU time at 256 downloads (integration/bench,
 * 10M/256).  For readers who keep up, the copy is cheaper (tests/bench_body.c).
 * Each takes a descriptor, so a part of those that connections leave.
 */
#define	LARGE_FEW	4u
#define	LARGE_MANY	256u

void
bytes_source_init(struct bytes_source *s, struct blob_store *store,
    struct fills *fills, struct cold_pool *cold)
{

	s->store = store;
	s->fills = fills;
	s->cold = cold;
	s->large_max = MIN(LARGE_MANY, limits_spare_files() / 4);
	atomic_init(&s->large, 0);
	atomic_init(&s->hits, 0);
	atomic_init(&s->misses, 0);
}

void
bytes_hit(struct bytes_source *s)
{

	atomic_fetch_add_explicit(&s->hits, 1, memory_order_relaxed);
}

void
bytes_release(struct bytes *b)
{

	fill_reader_destroy(&b->reader);
	cold_destroy(&b->cold);
	if (b->large == NULL)
		return;
	(void)atomic_fetch_sub(&b->source->large, 1);
	memory_unref(b->large);
	b->large = NULL;
}

static struct bytes *
place(const struct bytes_user *u, struct httpd_request *r)
{
	struct bytes *b = u->place(u->arg, r);

	if (b != NULL)
		b->source = u->source;
	return (b);
}

static ssize_t
stream_read(void *reader, uint64_t off, void *p, size_t max)
{

	return (fill_reader_read(reader, off, p, max));
}

static void
stream_release(void *reader)
{
	struct fill_reader *r = reader;

	fill_reader_destroy(&r);
}

/* Among the directives, and not as part of another. */
bool
bytes_only_if_cached(const struct httpd_request *r)
{
	static const char word[] = "only-if-cached";
	const char *p = httpd_fields(r)->cache_control;

	while (p != NULL && *p != '\0') {
		p += strspn(p, " \t,");
		if (strncasecmp(p, word, sizeof(word) - 1) == 0 &&
		    strchr(" \t,", p[sizeof(word) - 1]) != NULL)
			return (true);
		p += strcspn(p, ",");
	}
	return (false);
}

static void
reads(struct bytes *b, const struct fill_want *w, const struct answer *a)
{

	b->digest = w->digest;
	b->offset = a->offset;
	b->length = a->length;
}

/* A switch while the request waited may have changed what is asked for (G1):
 * then what it waited for is of no use any more. */
static void
drop_others(struct bytes *b, const struct fill_want *w, const struct answer *a)
{

	if (digest_eq(&b->digest, &w->digest) && b->offset == a->offset &&
	    b->length == a->length)
		return;
	fill_reader_destroy(&b->reader);
	cold_destroy(&b->cold);
}

/* Bytes that are in memory.  Takes *m over. */
static enum serve_got
get_memory(struct bytes *b, struct memory **m, const struct answer *a,
    struct serve_body *out)
{
	unsigned others;
	int fd = -1;

	if (a->length > MEMORY_ASK) {
		CHECK(b->large == NULL);
		b->large = memory_ref(*m);
		others = atomic_fetch_add(&b->source->large, 1);
		if (others >= LARGE_FEW && others < b->source->large_max)
			fd = memory_file(*m);
	}
	out->hit = true;
	if (fd == -1)
		out->body = memory_body(m);
	else {
		out->body = httpd_body_fd(&fd);
		memory_unref(*m);
		*m = NULL;
	}
	return (out->body == NULL ? SERVE_UNAVAILABLE : SERVE_BODY);
}

/* Loading small ones verifies them; the rest of what is not verified yet is a
 * fill's, which looks at what is there first. */
static bool
is_usable(const struct blob *blob, uint64_t size)
{

	return (size <= MEMORY_COPY_MAX || blob_checked(blob));
}

/* From the store, if need be after a wait for the disk.  SERVE_NOT_HERE: it is
 * not there, or not verified (or was found bad and dropped). */
static enum serve_got
get_hit(const struct bytes_user *u, struct httpd_request *r,
    const struct fill_want *w, const struct answer *a, struct serve_body *out)
{
	struct bytes_source *s = u->source;
	struct memory *m;
	struct bytes *b;
	struct blob *blob;

	out->hit = true;
	m = memory_get(s->store, &w->digest, w->size);
	if (m != NULL && memory_at_once(m, a->offset, a->length)) {
		out->body = memory_body(&m);
		return (out->body == NULL ? SERVE_UNAVAILABLE : SERVE_BODY);
	}
	blob = blob_get(s->store, &w->digest, w->size);
	if (blob == NULL || !is_usable(blob, w->size)) {
		memory_unref(m);
		blob_put(&blob);
		return (SERVE_NOT_HERE);
	}
	if ((b = place(u, r)) == NULL) {
		memory_unref(m);
		blob_put(&blob);
		return (SERVE_UNAVAILABLE);
	}
	if (m != NULL && memory_seen(m) &&
	    atomic_load(&s->large) >= LARGE_FEW) {
		blob_put(&blob);
		return (get_memory(b, &m, a, out));
	}
	b->cold = cold_new(s->cold, &blob, &m, a->offset, a->length,
	    httpd_wake, r);
	if (b->cold == NULL)
		return (SERVE_UNAVAILABLE);
	reads(b, w, a);
	httpd_wait(r);
	return (SERVE_WAITING);
}

/* What the request's wait for the disk has come to. */
static enum serve_got
get_cold(struct bytes *b, struct httpd_request *r, const struct answer *a,
    struct serve_body *out)
{
	struct memory *m;

	switch (cold_state(b->cold)) {
	case COLD_WAIT:
		httpd_wait(r);
		return (SERVE_WAITING);
	case COLD_READY:
		if ((m = cold_memory(&b->cold)) != NULL)
			return (get_memory(b, &m, a, out));
		out->hit = true;
		out->body = cold_body(&b->cold);
		return (out->body == NULL ? SERVE_UNAVAILABLE : SERVE_BODY);
	case COLD_FAILED:
		break;
	}
	cold_destroy(&b->cold);
	return (SERVE_NOT_HERE);
}

/* Begins a fill, or joins one.  NULL: out of memory. */
static struct bytes *
new_reader(const struct bytes_user *u, struct httpd_request *r,
    const struct fill_want *w, const struct answer *a)
{
	struct bytes *b;

	if ((b = place(u, r)) == NULL ||
	    (b->reader = fill_reader_new(u->source->fills, w, a->offset,
	    a->length, httpd_wake, r)) == NULL)
		return (NULL);
	reads(b, w, a);
	if (!fill_reader_hit(b->reader))
		atomic_fetch_add_explicit(&u->source->misses, 1,
		    memory_order_relaxed);
	return (b);
}

/* What the request's fill has come to.  SERVE_NOT_HERE: it has failed. */
static enum serve_got
get_filled(struct bytes *b, struct httpd_request *r, struct serve_body *out)
{

	switch (fill_reader_state(b->reader)) {
	case FILL_WAIT:
		httpd_wait(r);
		return (SERVE_WAITING);
	case FILL_READY:
		out->hit = fill_reader_hit(b->reader);
		out->collapsed = !out->hit &&
		    fill_reader_collapsed(b->reader);
		out->body = httpd_body_stream(stream_read, stream_release,
		    b->reader);
		if (out->body == NULL)
			return (SERVE_UNAVAILABLE);
		b->reader = NULL;	/* the body's now */
		return (SERVE_BODY);
	case FILL_FAILED:
		break;
	}
	fill_reader_destroy(&b->reader);
	return (SERVE_NOT_HERE);
}

static enum serve_got
find(const struct bytes_user *u, struct bytes *b, struct httpd_request *r,
    const struct fill_want *w, const struct answer *a, struct serve_body *out)
{
	enum serve_got got;

	if (b != NULL)
		drop_others(b, w, a);
	if (b == NULL || b->reader == NULL) {
		got = b != NULL && b->cold != NULL ?
		    get_cold(b, r, a, out) : get_hit(u, r, w, a, out);
		if (got != SERVE_NOT_HERE)
			return (got);
		if ((w->local || bytes_only_if_cached(r)) &&
		    !blob_have(u->source->store, &w->digest))
			return (SERVE_NOT_HERE);
		if ((b = new_reader(u, r, w, a)) == NULL)
			return (SERVE_UNAVAILABLE);
	}
	got = get_filled(b, r, out);
	/* It may be complete by another's fill that ended in between.  Once: what
	 * is there but cannot be opened makes fills fail as well. */
	if (got == SERVE_NOT_HERE && !b->again) {
		b->again = true;
		got = get_hit(u, r, w, a, out);
	}
	return (got == SERVE_NOT_HERE && !w->local ? SERVE_UNAVAILABLE : got);
}

enum serve_got
bytes_get(const struct bytes_user *u, struct bytes *b, struct httpd_request *r,
    const struct fill_want *w, const struct answer *a, struct serve_body *out)
{
	enum serve_got got = find(u, b, r, w, a, out);

	if (got == SERVE_BODY && out->hit)
		bytes_hit(u->source);
	return (got);
}
