/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scrubbing: a thread that reads every blob of the store at a bounded rate and
 * compares it with its name.  A bad one is dropped, and filled again when it is
 * next asked for.  It holds no lock and no reference while it reads.  Started and stopped by main.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "edge/scrub.h"
#include "proto/check.h"
#include "proto/fd.h"
#include "proto/log.h"
#include "proto/pace.h"

#define	SCRUB_MAGIC	0x73637265u
#define	REST_MS		3600000		/* between two rounds */
#define	COUNTING_MS	1000		/* looks whether sizes are known */
#define	TROUBLE_MS	60000		/* after a file that cannot be read */

struct edge_scrub {
	unsigned	 magic;
	struct blob_store *store;
	struct pace	 pace;
	pthread_t	 thread;
	struct sha256	*sha;		/* the thread's own, as is piece */
	char		 piece[PACE_PIECE];
};

/* Reads one blob to its end; false: stop. */
static bool
check_one(void *arg, const struct digest *d)
{
	struct edge_scrub *s = arg;
	struct digest got;
	int fd, e = 0;

	if (!pace_rest(&s->pace, 0))
		return (false);
	if ((fd = blob_look(s->store, d)) == -1)
		e = errno;
	else if (pace_digest(&s->pace, fd, s->sha, s->piece, &got) == -1)
		e = errno;
	fd_close(&fd);
	if (e == ECANCELED)
		return (false);
	if (e == 0)
		blob_found(s->store, d, digest_eq(&got, d));
	if (e == 0 || e == ENOENT)
		return (true);
	/* The disk's trouble, which may end. */
	log_err("scrub cannot read the cache: %s", strerror(e));
	return (pace_rest(&s->pace, TROUBLE_MS));
}

/* Until it is known how large the blobs should be.  False: stop. */
static bool
wait_for_sizes(struct edge_scrub *s)
{
	struct blob_stats st;

	for (;;) {
		blob_store_stats(s->store, &st);
		if (!st.counting)
			return (true);
		if (!pace_rest(&s->pace, COUNTING_MS))
			return (false);
	}
}

static void *
run(void *arg)
{
	struct edge_scrub *s = arg;

	CHECK_OBJ(s, SCRUB_MAGIC);
	do {
		if (!wait_for_sizes(s))
			break;
		if (blob_store_each(s->store, check_one, s) == -1)
			log_warn("scrub has no memory: it goes on later");
	} while (pace_rest(&s->pace, REST_MS));
	return (NULL);
}

struct edge_scrub *
edge_scrub_start(struct blob_store *store, uint64_t bytes_per_s)
{
	struct edge_scrub *s;
	int e = ENOMEM;

	if ((s = calloc(1, sizeof(*s))) == NULL)
		return (NULL);
	s->magic = SCRUB_MAGIC;
	s->store = store;
	pace_init(&s->pace, bytes_per_s);
	if ((s->sha = sha256_new()) != NULL &&
	    (e = pthread_create(&s->thread, NULL, run, s)) == 0)
		return (s);
	pace_free(&s->pace);
	sha256_destroy(&s->sha);
	free(s);
	errno = e;
	return (NULL);
}

void
edge_scrub_rate(struct edge_scrub *s, uint64_t bytes_per_s)
{

	CHECK_OBJ(s, SCRUB_MAGIC);
	pace_set(&s->pace, bytes_per_s);
}

void
edge_scrub_stop(struct edge_scrub **sp)
{
	struct edge_scrub *s = *sp;

	if (s == NULL)
		return;
	*sp = NULL;
	CHECK_OBJ(s, SCRUB_MAGIC);
	pace_stop(&s->pace);
	(void)pthread_join(s->thread, NULL);
	pace_free(&s->pace);
	sha256_destroy(&s->sha);
	explicit_bzero(&s->magic, sizeof(s->magic));
	free(s);
}
