/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pending publishes: the list of them, what is said to a head that is posted,
 * and their record on disk (set/<set>/pending), by which they outlive a
 * restart.  Called by the publish listener's threads, by the origin's, and by
 * main.
 */

#include <sodium.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "master/pending_impl.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	PENDINGS_MAX	1024
#define	CLOCK_AHEAD_S	600		/* of a head's created */

const char *
pending_state_name(enum pending_state s)
{
	static const char *const name[] = { "manifest", "blobs", "prepare",
	    "committed", "failed" };

	return (name[s]);
}

struct pending *
pending_new(struct pendings *a, const struct head *h, unsigned prepare_wait_s)
{
	uint8_t random[PENDING_TOKEN / 2];
	struct pending *p;

	if ((p = calloc(1, sizeof(*p))) == NULL)
		return (NULL);
	p->magic = PENDING_MAGIC;
	p->all = a;
	p->head = *h;
	p->refs = 1;
	p->posted = clock_real();
	p->prepare_wait_s = prepare_wait_s;
	randombytes_buf(random, sizeof(random));
	(void)sodium_bin2hex(p->token, sizeof(p->token), random,
	    sizeof(random));
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_cond_init(&p->attached, NULL);
	return (p);
}

void
pending_release(struct pending **pp)
{
	struct pending *p = *pp;
	struct pendings *a;
	bool last;

	*pp = NULL;
	if (p == NULL)
		return;
	CHECK_OBJ(p, PENDING_MAGIC);
	a = p->all;
	(void)pthread_mutex_lock(&a->lock);
	last = --p->refs == 0;
	(void)pthread_mutex_unlock(&a->lock);
	if (!last)
		return;
	if (p->wait != NULL)
		roster_wait_destroy(a->c.roster, &p->wait);
	snapshot_unref(&p->next);
	snapshot_unref(&p->before);
	free(p->want);
	(void)pthread_mutex_destroy(&p->lock);
	(void)pthread_cond_destroy(&p->attached);
	explicit_bzero(p->token, sizeof(p->token));
	explicit_bzero(&p->magic, sizeof(p->magic));
	free(p);
}

/* Under the list's lock. */
static struct pending *
find(struct pendings *a, const char *set)
{
	struct pending *p;

	TAILQ_FOREACH(p, &a->list, link)
		if (strcmp(p->head.set, set) == 0)
			return (p);
	return (NULL);
}

struct pending *
pending_find(struct pendings *a, const char *set)
{
	struct pending *p;

	CHECK_OBJ(a, PENDINGS_MAGIC);
	(void)pthread_mutex_lock(&a->lock);
	if ((p = find(a, set)) != NULL)
		p->refs++;
	(void)pthread_mutex_unlock(&a->lock);
	return (p);
}

bool
pending_authorised(const struct pending *p, const char *authorization)
{
	static const char scheme[] = "Bearer ";
	const char *token;

	if (authorization == NULL ||
	    strncasecmp(authorization, scheme, strlen(scheme)) != 0)
		return (false);
	token = authorization + strlen(scheme);
	return (strlen(token) == PENDING_TOKEN &&
	    sodium_memcmp(token, p->token, PENDING_TOKEN) == 0);
}

enum pending_state
pending_state(struct pending *p)
{
	enum pending_state s;

	(void)pthread_mutex_lock(&p->lock);
	s = p->state;
	(void)pthread_mutex_unlock(&p->lock);
	return (s);
}

/* The record on disk, under the list's lock. */
static int
write_record(struct pending *p)
{
	int dir, ret;

	if ((dir = generation_dir(p->all->c.statefd, p->head.set, true)) == -1)
		return (-1);
	ret = fd_replace(dir, "pending", p->head.text, p->head.len, 0644);
	fd_close(&dir);
	return (ret);
}

void
pending_remove_record(struct pending *p)
{
	int dir;

	if ((dir = generation_dir(p->all->c.statefd, p->head.set, false)) ==
	    -1)
		return;
	if (unlinkat(dir, "pending", 0) == 0)
		(void)fd_sync_dir(dir);
	fd_close(&dir);
}

void
pending_forget(struct pending *p)
{
	struct pendings *a = p->all;

	(void)pthread_mutex_lock(&a->lock);
	if (p->listed)
		pending_remove_record(p);
	(void)pthread_mutex_unlock(&a->lock);
}

void
pending_fail(struct pending *p, const struct parse_error *err)
{

	(void)pthread_mutex_lock(&p->lock);
	p->err = *err;
	p->state = PENDING_FAILED;
	(void)pthread_mutex_unlock(&p->lock);
	atomic_store(&p->all->litter, true);
	pending_forget(p);
	log_warn("publish failed set=%s generation=%llu: %s", p->head.set,
	    (unsigned long long)p->head.generation, err->reason);
}

/* Under the list's lock: p takes the place of what the set had. */
static void
enlist(struct pendings *a, struct pending *p, struct pending **old)
{

	if ((*old = find(a, p->head.set)) != NULL) {
		TAILQ_REMOVE(&a->list, *old, link);
		(*old)->listed = false;
		a->n--;
		(void)pthread_mutex_lock(&(*old)->lock);
		/* A committed one's blobs are named by its generation. */
		if ((*old)->state != PENDING_COMMITTED) {
			atomic_store(&a->litter, true);
			if ((*old)->next != NULL)
				p->before = snapshot_ref((*old)->next);
			else if ((*old)->before != NULL)
				p->before = snapshot_ref((*old)->before);
		}
		(void)pthread_mutex_unlock(&(*old)->lock);
	}
	TAILQ_INSERT_TAIL(&a->list, p, link);
	p->listed = true;
	p->refs++;
	a->n++;
}

/* Status of a refusal, or 0. */
static unsigned
check_times(const struct head *h, const struct head *current,
    struct parse_error *err)
{

	if (h->created > clock_real() + CLOCK_AHEAD_S) {
		(void)parse_fail(err, 0, "created is more than 10 minutes "
		    "ahead of the master's clock; set the clocks right");
		return (422);
	}
	if (current == NULL)
		return (0);
	if (h->created <= current->created) {
		(void)parse_fail(err, 0, "created is not later than the "
		    "current head's; set the clock right");
		return (422);
	}
	if (h->oldest < current->oldest) {
		(void)parse_fail(err, 0, "oldest %llu is below the current "
		    "head's %llu", (unsigned long long)h->oldest,
		    (unsigned long long)current->oldest);
		return (422);
	}
	return (0);
}

static unsigned
check_numbers(struct pendings *a, const struct head *h,
    const struct head *current, struct parse_error *err)
{
	struct accepted known;

	generation_accepted(a->c.generations, h->set, &known);
	if (h->generation < known.generation ||
	    (h->generation == known.generation &&
	    !digest_eq(&h->digest, &known.digest))) {
		(void)parse_fail(err, 0, "generation %llu is not above %llu, "
		    "the highest known of the set; publish again",
		    (unsigned long long)h->generation,
		    (unsigned long long)known.generation);
		return (409);
	}
	if (current == NULL ? h->has_previous : !h->has_previous ||
	    !digest_eq(&h->previous, &current->digest)) {
		(void)parse_fail(err, 0, "previous is not the current head; "
		    "publish again");
		return (409);
	}
	return (0);
}

/* Under the list's lock. */
static unsigned
check_names(struct pendings *a, const struct head *h, struct parse_error *err)
{
	char clash[SET_NAME_MAX + 1];
	struct pending *p;

	if (generation_clash(a->c.generations, h->set, clash)) {
		(void)parse_fail(err, 0, "the name clashes with set %s",
		    clash);
		return (409);
	}
	TAILQ_FOREACH(p, &a->list, link)
		if (strcmp(p->head.set, h->set) != 0 &&
		    set_names_clash(p->head.set, h->set)) {
			(void)parse_fail(err, 0, "the name clashes with set "
			    "%s, which is being published", p->head.set);
			return (409);
		}
	return (0);
}

unsigned
pending_check_head(struct pendings *a, const struct head *h,
    const struct head *current, struct parse_error *err)
{
	unsigned status;

	if ((status = check_names(a, h, err)) != 0 ||
	    (status = check_numbers(a, h, current, err)) != 0)
		return (status);
	return (check_times(h, current, err));
}

/* A head that is current already: its acknowledgement is all that is left. */
static void
watch_current(struct pendings *a, struct pending *p)
{

	p->state = PENDING_COMMITTED;
	p->wait = roster_watch(a->c.roster, p->head.set);
}

/* A head that is posted again once its end was told: how edges stand now is what
 * is asked for, not how they stood then.  Under the list's lock. */
static void
watch_again(struct pending *p)
{
	struct roster *r = p->all->c.roster;
	struct roster_wait *wait;

	(void)pthread_mutex_lock(&p->lock);
	if (p->told && (wait = roster_watch(r, p->head.set)) != NULL) {
		roster_wait_destroy(r, &p->wait);
		p->wait = wait;
		p->told = false;
	}
	(void)pthread_mutex_unlock(&p->lock);
}

/* Under the list's lock; *p gets a reference to what is to go on, *old the one
 * that it replaced. */
static unsigned
admit(struct pendings *a, const struct head *h, const struct head *current,
    unsigned prepare_wait_s, struct pending **p, struct pending **old,
    struct parse_error *err)
{
	struct pending *was = find(a, h->set);
	enum pending_state state;
	unsigned status;
	bool published = current != NULL &&
	    digest_eq(&current->digest, &h->digest);

	if (was != NULL) {
		state = pending_state(was);
		if (digest_eq(&was->head.digest, &h->digest) &&
		    state != PENDING_FAILED) {
			watch_again(was);
			was->refs++;
			*p = was;
			return (200);
		}
		if (state == PENDING_PREPARE) {
			(void)parse_fail(err, 0, "generation %llu of the set "
			    "is being committed; publish again when it is",
			    (unsigned long long)was->head.generation);
			return (409);
		}
	}
	if (!published &&
	    (status = pending_check_head(a, h, current, err)) != 0)
		return (status);
	if (a->n >= PENDINGS_MAX && was == NULL) {
		(void)parse_fail(err, 0, "too many sets are being published");
		return (503);
	}
	if ((*p = pending_new(a, h, prepare_wait_s)) == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		return (503);
	}
	if (published) {
		watch_current(a, *p);
	} else if (write_record(*p) == -1) {
		(void)parse_fail(err, 0, "cannot write set/%s/pending: %s",
		    h->set, strerror(errno));
		return (errno == ENOSPC || errno == EDQUOT ? 507 : 503);
	}
	enlist(a, *p, old);
	return (published ? 200 : 201);
}

void
pending_post(struct pendings *a, const char *set, const char *text, size_t len,
    unsigned prepare_wait_s, struct pending_answer *out)
{
	struct pending *p = NULL, *old = NULL;
	struct snapshot *current;
	struct head h;

	CHECK_OBJ(a, PENDINGS_MAGIC);
	memset(out, 0, sizeof(*out));
	if (head_parse(&h, text, len, &out->err) == -1) {
		out->status = 422;
		return;
	}
	if (strcmp(h.set, set) != 0) {
		out->status = 422;
		(void)parse_fail(&out->err, 0, "the head is of another set "
		    "than the address");
		return;
	}
	if (trust_judge(a->c.trust, &h, clock_real(), &out->err) != TRUST_OK) {
		out->status = 403;
		return;
	}
	(void)pthread_mutex_lock(&a->lock);
	current = site_current(a->c.site, h.set);
	out->status = admit(a, &h, current == NULL ? NULL :
	    snapshot_head(current), prepare_wait_s, &p, &old, &out->err);
	(void)pthread_mutex_unlock(&a->lock);
	if (current != NULL) {
		out->has_current = true;
		out->current = snapshot_head(current)->digest;
	}
	snapshot_unref(&current);
	pending_release(&old);
	if (out->status == 201)
		pending_attach(p);
	if (p != NULL && out->status < 300) {
		memcpy(out->token, p->token, sizeof(out->token));
		(void)pthread_mutex_lock(&p->lock);
		p->prepare_wait_s = prepare_wait_s;
		if (p->state == PENDING_FAILED) {
			out->err = p->err;
			out->status = 422;
		}
		(void)pthread_mutex_unlock(&p->lock);
		if (out->status == 201)
			log_info("publish begins set=%s generation=%llu",
			    h.set, (unsigned long long)h.generation);
	}
	pending_release(&p);
}
