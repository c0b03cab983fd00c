/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A publish whose blobs are all there: tree, prepare, commit, and what follows.
 * A thread of its own for each; it ends early, and goes on after a restart,
 * when the daemon stops.
 */

#include <errno.h>
#include <string.h>

#include "master/announce.h"
#include "master/pending_impl.h"
#include "master/tree.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/log.h"

#define	SLICE_MS	200		/* how late a stop may be noticed */

static int
run_fail(struct parse_error *err, const char *what)
{

	return (parse_fail(err, 0, "%s: %s", what, strerror(errno)));
}

/* Everything on disk that precedes prepare. */
static int
build(struct pending *p, struct parse_error *err)
{
	const struct publish_conf *c = &p->all->c;
	struct snapshot *current;
	int ret;

	if (generation_accept(c->generations, &p->head) == -1)
		return (run_fail(err, "cannot record the generation"));
	if (store_sync(c->store) == -1)
		return (run_fail(err, "cannot sync the blobs"));
	current = site_current(c->site, p->head.set);
	ret = tree_build(c->statefd, c->store, p->next, current, &p->all->stop,
	    err);
	snapshot_unref(&current);
	return (ret);
}

/* What is left of the time to prepare.  Whoever posts the head again may have
 * less of it: an urgent publish need not wait for the end of a patient one. */
static int64_t
prepare_left(struct pending *p)
{
	int64_t wait_ms;

	(void)pthread_mutex_lock(&p->lock);
	wait_ms = (int64_t)p->prepare_wait_s * 1000;
	(void)pthread_mutex_unlock(&p->lock);
	return (p->prepare_ms + wait_ms - clock_boot_ms());
}

/* Until all leased edges are prepared or the time is up; false: stopped. */
static bool
prepare(struct pending *p)
{
	const struct publish_conf *c = &p->all->c;
	enum roster_state state = ROSTER_RUNNING;
	size_t prepared = 0, leased = 0;
	int64_t left;

	p->prepare_ms = clock_boot_ms();
	if (prepare_left(p) <= 0)
		return (true);
	if (announce_prepare(c->announce, p->head.set, p->head.text,
	    p->head.signed_len) == -1)
		log_warn("cannot announce prepare set=%s: %s", p->head.set,
		    strerror(errno));
	while (state == ROSTER_RUNNING && !atomic_load(&p->all->stop) &&
	    (left = prepare_left(p)) > 0) {
		state = roster_wait_prepared(c->roster, p->head.set,
		    &p->head.digest, left < SLICE_MS ? (int)left : SLICE_MS,
		    &prepared, &leased);
		(void)pthread_mutex_lock(&p->lock);
		p->prepared = prepared;
		p->leased = leased;
		(void)pthread_mutex_unlock(&p->lock);
	}
	return (state != ROSTER_STOPPED && !atomic_load(&p->all->stop));
}

/* The origin and the truth have it. */
static void
committed(struct pending *p, struct roster_wait **wait, const struct gone *g)
{
	const struct publish_conf *c = &p->all->c;

	if (announce_commit(c->announce, p->head.set, p->head.text,
	    p->head.len) == -1)
		log_warn("cannot announce commit set=%s: %s; edges learn of "
		    "it when they renew", p->head.set, strerror(errno));
	log_info("published set=%s generation=%llu files=%llu bytes=%llu",
	    p->head.set, (unsigned long long)p->head.generation,
	    (unsigned long long)p->head.files,
	    (unsigned long long)p->head.bytes);
	/* Before it is reported: who publishes may look at the tree then. */
	generation_finish(c->generations, p->head.set);
	(void)pthread_mutex_lock(&p->lock);
	p->state = PENDING_COMMITTED;
	p->wait = *wait;
	*wait = NULL;
	(void)pthread_mutex_unlock(&p->lock);
	pending_forget(p);
	generation_retain(c->generations, p->head.set);
	pendings_collect(p->all, g, p->head.set);
}

static void
commit(struct pending *p)
{
	const struct publish_conf *c = &p->all->c;
	struct gone *g = gone_new(c->site, p->head.set);
	struct roster_wait *wait;
	struct parse_error err;

	switch (generation_commit(c->generations, p->next, c->roster,
	    p->prepare_ms, &wait, &err)) {
	case GENERATION_DONE:
		committed(p, &wait, g);
		break;
	case GENERATION_CONFLICT:
	case GENERATION_FAILED:
		announce_prepare_end(c->announce, p->head.set);
		generation_retain(c->generations, p->head.set);
		pending_fail(p, &err);
		break;
	}
	gone_destroy(&g);
}

/* Notes what a step took that began at since_ms. */
static void
note_time(struct pending *p, int64_t *step_ms, int64_t since_ms)
{

	(void)pthread_mutex_lock(&p->lock);
	*step_ms = clock_boot_ms() - since_ms;
	(void)pthread_mutex_unlock(&p->lock);
}

static void *
run(void *arg)
{
	struct pending *p = arg;
	struct pendings *a = p->all;
	struct parse_error err = { .reason = "" };
	int64_t since_ms = clock_boot_ms();
	bool go;

	CHECK_OBJ(p, PENDING_MAGIC);
	if (build(p, &err) == -1) {
		if (!atomic_load(&a->stop))
			pending_fail(p, &err);
	} else {
		note_time(p, &p->tree_ms, since_ms);
		go = prepare(p);
		note_time(p, &p->waited_ms, p->prepare_ms);
		if (go)
			commit(p);
		else
			announce_prepare_end(a->c.announce, p->head.set);
	}
	pending_release(&p);
	pendings_thread_ends(a);
	return (NULL);
}

void
pending_start(struct pending *p)
{
	struct pendings *a = p->all;
	struct parse_error err;
	bool start = false;

	CHECK_OBJ(p, PENDING_MAGIC);
	(void)pthread_mutex_lock(&a->lock);
	(void)pthread_mutex_lock(&p->lock);
	if (p->listed && p->state == PENDING_BLOBS && p->nwant == 0 &&
	    !atomic_load(&a->stop)) {
		p->state = PENDING_PREPARE;
		p->refs++;
		start = true;
	}
	(void)pthread_mutex_unlock(&p->lock);
	(void)pthread_mutex_unlock(&a->lock);
	if (start && pendings_thread(a, run, p) == -1) {
		(void)run_fail(&err, "cannot start a thread");
		pending_fail(p, &err);
		pending_release(&p);
	}
}
