/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pending publishes as a whole: taking them up at start, which blobs they name,
 * dropping old ones.  Called by main, the origin's threads, and publishes'.
 */

#include <sys/stat.h>

#include <jansson.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/pending_impl.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

/* Whether a pending publish names the blob. */
static bool
names(struct pending *p, const struct digest *d, struct site_prepared *out)
{
	const struct manifest *m;
	struct facts f;
	ssize_t at;
	bool found = true;

	out->set[0] = '\0';
	out->part = head_part(&p->head, d, &out->size);
	if (out->part != HEAD_NEITHER) {
		(void)memcpy(out->set, p->head.set, sizeof(out->set));
	} else {
		(void)pthread_mutex_lock(&p->lock);
		found = false;
		m = p->next == NULL ? NULL : snapshot_manifest(p->next);
		if (m != NULL && (at = manifest_find_digest(m, d)) != -1 &&
		    manifest_facts(m, (size_t)at, &f)) {
			out->size = f.size;
			found = true;
		}
		if (!found && p->before != NULL)
			found = manifest_find_digest(
			    snapshot_manifest(p->before), d) != -1;
		(void)pthread_mutex_unlock(&p->lock);
	}
	return (found);
}

bool
pendings_prepared(struct pendings *a, const struct digest *d,
    struct site_prepared *out)
{
	struct pending *p;
	bool found = false;

	CHECK_OBJ(a, PENDINGS_MAGIC);
	(void)pthread_mutex_lock(&a->lock);
	TAILQ_FOREACH(p, &a->list, link)
		if (pending_state(p) == PENDING_PREPARE && names(p, d, out)) {
			found = true;
			break;
		}
	(void)pthread_mutex_unlock(&a->lock);
	return (found);
}

static bool
is_named(void *arg, const struct digest *d)
{
	struct pendings *a = arg;
	struct site_file f;
	struct site_prepared unused;
	struct pending *p;
	bool named;

	named = site_find_blob(site_enter(a->c.site), d, &f, NULL);
	site_leave(a->c.site);
	if (named)
		return (true);
	(void)pthread_mutex_lock(&a->lock);
	TAILQ_FOREACH(p, &a->list, link)
		if ((named = pending_state(p) != PENDING_COMMITTED &&
		    names(p, d, &unused)))
			break;
	(void)pthread_mutex_unlock(&a->lock);
	return (named);
}

void
pendings_collect(struct pendings *a, const struct gone *g, const char *set)
{
	struct digest *d = NULL;
	size_t some;
	long n;

	if (g != NULL && !atomic_load(&a->litter))
		d = gone_digests(g, a->c.site, set, &some);
	if (d != NULL) {
		n = store_collect_some(a->c.store, d, some, is_named, a);
		free(d);
	} else {
		/* What is left from now on is the next one's. */
		atomic_store(&a->litter, false);
		n = store_collect(a->c.store, is_named, a);
	}
	if (n == -1) {
		atomic_store(&a->litter, true);
		log_warn("cannot read folder=blob: %s", strerror(errno));
	} else if (n > 0)
		log_info("blobs removed n=%ld: no kept generation names them",
		    n);
}

void
pendings_tick(struct pendings *a)
{
	struct pending *p, *next;
	enum pending_state state;
	int64_t now = clock_real();
	bool dropped = false;

	CHECK_OBJ(a, PENDINGS_MAGIC);
	(void)pthread_mutex_lock(&a->lock);
	for (p = TAILQ_FIRST(&a->list); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		state = pending_state(p);
		if (now - p->posted < PENDING_KEEP_S ||
		    state == PENDING_PREPARE)
			continue;
		if (state != PENDING_COMMITTED)
			log_info("publish dropped set=%s generation=%llu: "
			    "pending for too long", p->head.set,
			    (unsigned long long)p->head.generation);
		pending_remove_record(p);
		TAILQ_REMOVE(&a->list, p, link);
		p->listed = false;
		a->n--;
		dropped = true;
		(void)pthread_mutex_unlock(&a->lock);
		pending_release(&p);
		(void)pthread_mutex_lock(&a->lock);
		next = TAILQ_FIRST(&a->list);
	}
	(void)pthread_mutex_unlock(&a->lock);
	if (dropped)
		pendings_collect(a, NULL, NULL);
}

/* What a record on disk says, if it can still be published. */
static struct pending *
read_record(struct pendings *a, const char *set, int dir,
    struct parse_error *err)
{
	struct pending *p = NULL;
	struct snapshot *current;
	struct stat st;
	struct head h;
	char *text;
	size_t len;

	(void)parse_fail(err, 0, "its record cannot be read");
	current = site_current(a->c.site, set);
	text = fd_slurp(dir, "pending", HEAD_MAX, &len);
	if (text != NULL && head_parse(&h, text, len, err) == 0 &&
	    strcmp(h.set, set) == 0 &&
	    trust_judge(a->c.trust, &h, clock_real(), err) == TRUST_OK &&
	    pending_check_head(a, &h, current == NULL ? NULL :
	    snapshot_head(current), err) == 0 &&
	    (p = pending_new(a, &h, PENDING_WAIT_S)) != NULL &&
	    fstatat(dir, "pending", &st, AT_SYMLINK_NOFOLLOW) == 0)
		p->posted = (int64_t)st.st_mtim.tv_sec;
	snapshot_unref(&current);
	free(text);
	return (p);
}

static int
restore(void *arg, const char *set)
{
	struct parse_error err = { .reason = "" };
	struct pendings *a = arg;
	struct pending *p;
	int dir;

	if ((dir = generation_dir(a->c.statefd, set, false)) == -1)
		return (-1);
	if ((p = read_record(a, set, dir, &err)) == NULL) {
		/* Among these: a crash right after its commit. */
		log_info("publish dropped set=%s: %s", set, err.reason);
		(void)unlinkat(dir, "pending", 0);
	} else {
		/* Whoever asks waits for restore_blobs(). */
		p->attaching = p->restored = true;
		TAILQ_INSERT_TAIL(&a->list, p, link);
		p->listed = true;
		a->n++;
		log_info("publish goes on set=%s generation=%llu", set,
		    (unsigned long long)p->head.generation);
	}
	fd_close(&dir);
	return (0);
}

static struct pending *
next_restored(struct pendings *a)
{
	struct pending *p;

	(void)pthread_mutex_lock(&a->lock);
	TAILQ_FOREACH(p, &a->list, link)
		if (p->restored)
			break;
	if (p != NULL) {
		p->restored = false;
		p->refs++;
	}
	(void)pthread_mutex_unlock(&a->lock);
	return (p);
}

/* Verifies what the restored ones name, then removes what nothing names: from
 * then on every blob in the store is good. */
static void *
restore_blobs(void *arg)
{
	struct pendings *a = arg;
	struct pending *p;

	while ((p = next_restored(a)) != NULL) {
		pending_check(p);
		pending_release(&p);
	}
	if (!atomic_load(&a->stop)) {
		pendings_collect(a, NULL, NULL);
		atomic_store(&a->doubt, false);
	}
	pendings_thread_ends(a);
	return (NULL);
}

int
pendings_thread(struct pendings *a, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	int error;

	(void)pthread_mutex_lock(&a->lock);
	a->running++;
	(void)pthread_mutex_unlock(&a->lock);
	if ((error = pthread_attr_init(&attr)) == 0) {
		(void)pthread_attr_setdetachstate(&attr,
		    PTHREAD_CREATE_DETACHED);
		error = pthread_create(&thread, &attr, run, arg);
		(void)pthread_attr_destroy(&attr);
	}
	if (error == 0)
		return (0);
	pendings_thread_ends(a);
	errno = error;
	return (-1);
}

void
pendings_thread_ends(struct pendings *a)
{

	(void)pthread_mutex_lock(&a->lock);
	if (--a->running == 0)
		(void)pthread_cond_broadcast(&a->idle);
	(void)pthread_mutex_unlock(&a->lock);
}

struct pendings *
pendings_new(const struct publish_conf *c, struct parse_error *err)
{
	struct pendings *a;

	if ((a = calloc(1, sizeof(*a))) == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		return (NULL);
	}
	a->magic = PENDINGS_MAGIC;
	a->c = *c;
	TAILQ_INIT(&a->list);
	(void)pthread_mutex_init(&a->lock, NULL);
	(void)pthread_cond_init(&a->idle, NULL);
	atomic_init(&a->stop, false);
	atomic_init(&a->doubt, true);
	atomic_init(&a->litter, true);
	if (generation_each(c->statefd, "pending", restore, a) != 0 ||
	    pendings_thread(a, restore_blobs, a) == -1) {
		(void)parse_fail(err, 0, "cannot take up pending publishes: "
		    "%s", strerror(errno));
		pendings_destroy(&a);
	}
	return (a);
}

void
pendings_destroy(struct pendings **ap)
{
	struct pendings *a = *ap;
	struct pending *p;

	*ap = NULL;
	if (a == NULL)
		return;
	CHECK_OBJ(a, PENDINGS_MAGIC);
	atomic_store(&a->stop, true);
	(void)pthread_mutex_lock(&a->lock);
	while (a->running > 0)
		(void)pthread_cond_wait(&a->idle, &a->lock);
	while ((p = TAILQ_FIRST(&a->list)) != NULL) {
		TAILQ_REMOVE(&a->list, p, link);
		(void)pthread_mutex_unlock(&a->lock);
		pending_release(&p);
		(void)pthread_mutex_lock(&a->lock);
	}
	(void)pthread_mutex_unlock(&a->lock);
	(void)pthread_mutex_destroy(&a->lock);
	(void)pthread_cond_destroy(&a->idle);
	explicit_bzero(&a->magic, sizeof(a->magic));
	free(a);
}
