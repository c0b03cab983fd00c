/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Warming (design.md, section 6, step 5).  A job is a prepared generation.  One
 * of a few threads looks for what to fetch: files whose content the current
 * generation does not have, and whose predecessor there was asked for here: the
 * file of the same path, or of the same name but for its version.  Then all of
 * them fetch, each one file at a time, as patient readers of ordinary fills.
 *
 * Lock: warm->lock guards jobs; nothing is called with it held but what its
 * comment says.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "edge/warm.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/log.h"

#define	WARM_MAGIC	0x7761726d
#define	THREADS		4
#define	YIELD_MS	50		/* while clients' fills wait */
#define	NAMESAKES	16		/* looked at for a predecessor */

/* What to fetch: an entry of the manifest. */
struct item {
	uint32_t	 index;
	bool		 entry;		/* of entry paths: first */
};

struct job {
	TAILQ_ENTRY(job) link;
	struct snapshot	*current, *next;
	bool		 planned, dropped;
	unsigned	 running;	/* threads */
	size_t		 n, at;		/* items begun */
	struct item	*item;
};

struct warm {
	unsigned	 magic;
	struct warm_conf conf;		/* bytes, at_once: under the lock */
	atomic_bool	 stop;
	size_t		 nthread;
	pthread_t	 thread[THREADS];
	pthread_mutex_t	 lock;		/* what follows */
	pthread_cond_t	 work;
	unsigned	 fetching;
	TAILQ_HEAD(, job) jobs;
	struct warm_stats stats;
};

/*
 * What to fetch
 */

/* Length of the path up to its version: the first "-" or "_" of its last
 * segment that a digit follows.  0: there is none. */
static size_t
stem(const char *path)
{
	const char *name = strrchr(path, '/'), *p;

	for (p = name == NULL ? path : name + 1; *p != '\0'; p++)
		if ((*p == '-' || *p == '_') && p[1] >= '0' && p[1] <= '9')
			return ((size_t)(p - path));
	return (0);
}

static bool
was_asked(const struct job *j, const struct warm *w, size_t index, bool entry)
{
	const struct manifest *m = snapshot_manifest(j->current);
	struct facts f;

	if (!manifest_facts(m, index, &f))
		return (false);
	return (entry ? blob_have(w->conf.store, &f.digest) :
	    blob_asked(w->conf.store, &f.digest));
}

/* Whether a file of the current generation that this one takes the place of
 * was asked for here. */
static bool
predecessor_asked(const struct job *j, const struct warm *w,
    const struct entry *e, bool entry)
{
	const struct manifest *m = snapshot_manifest(j->current);
	ssize_t same = manifest_find(m, e->path, e->path_len);
	size_t len = stem(e->path), i, end;
	struct entry old;

	if (same != -1)
		return (was_asked(j, w, (size_t)same, entry));
	if (len == 0)
		return (false);
	i = manifest_lower(m, e->path, len);
	end = i + NAMESAKES < manifest_n(m) ? i + NAMESAKES : manifest_n(m);
	for (; i < end; i++) {
		manifest_entry(m, i, &old);
		if (strncmp(old.path, e->path, len) != 0)
			break;
		if (stem(old.path) == len && was_asked(j, w, i, entry))
			return (true);
	}
	return (false);
}

static int
entries_first(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->entry != y->entry)
		return (x->entry ? -1 : 1);
	return (x->index < y->index ? -1 : x->index > y->index);
}

static bool
wanted(const struct job *j, const struct warm *w, size_t i, struct item *it,
    uint64_t *size)
{
	const struct manifest *m = snapshot_manifest(j->next);
	struct facts f;
	struct entry e;

	if (manifest_type(m, i) != ENTRY_FILE || !manifest_facts(m, i, &f) ||
	    f.size == 0 || manifest_find_digest(snapshot_manifest(j->current),
	    &f.digest) != -1 || blob_have(w->conf.store, &f.digest))
		return (false);
	manifest_entry(m, i, &e);
	it->index = (uint32_t)i;
	it->entry = head_is_entry(snapshot_head(j->next), e.path);
	*size = f.size;
	return (predecessor_asked(j, w, &e, it->entry));
}

/* Fills in the job's items.  Nothing is locked: the job is this thread's. */
static void
plan(struct warm *w, struct job *j, uint64_t budget)
{
	size_t n = manifest_n(snapshot_manifest(j->next)), room = 0;
	struct item it, *more;
	uint64_t size;

	for (size_t i = 0; i < n && !atomic_load(&w->stop); i++) {
		if (!wanted(j, w, i, &it, &size) || size > budget)
			continue;
		if (j->n == room) {
			room = room == 0 ? 64 : room * 2;
			if ((more = realloc(j->item, room * sizeof(*more))) ==
			    NULL)
				break;
			j->item = more;
		}
		budget -= size;
		j->item[j->n++] = it;
	}
	if (j->n > 0)
		qsort(j->item, j->n, sizeof(*j->item), entries_first);
}

/*
 * Threads
 */
static void
job_free(struct job *j)
{

	snapshot_unref(&j->current);
	snapshot_unref(&j->next);
	free(j->item);
	free(j);
}

/* Not while a client's fill waits for its turn. */
static void
let_clients_pass(struct warm *w)
{
	struct fills_stats st;

	for (fills_stats(w->conf.fills, &st);
	    st.queued > 0 && !atomic_load(&w->stop);
	    fills_stats(w->conf.fills, &st))
		clock_sleep(YIELD_MS);
}

static void
fetch(struct warm *w, const struct job *j, size_t at)
{
	const struct manifest *m = snapshot_manifest(j->next);
	struct fill_want want;
	struct facts f;
	struct entry e;
	int error;

	let_clients_pass(w);
	CHECK(manifest_facts(m, j->item[at].index, &f));
	manifest_entry(m, j->item[at].index, &e);
	want = (struct fill_want){ .digest = f.digest, .size = f.size,
	    .rows = snapshot_rows(j->next, &f),
	    .set = snapshot_head(j->next)->set, .path = e.path };
	error = fill_patiently(w->conf.fills, &want, &w->stop);
	pthread_mutex_lock(&w->lock);
	if (error == 0) {
		w->stats.files++;
		w->stats.bytes += f.size;
	} else if (error != ECANCELED)
		w->stats.failed++;
	pthread_mutex_unlock(&w->lock);
}

/* With the lock held: a job with something to do for one more thread. */
static struct job *
next_job(struct warm *w)
{
	struct job *j;

	TAILQ_FOREACH(j, &w->jobs, link)
		if (!j->dropped && (j->planned ? j->at < j->n &&
		    w->fetching < w->conf.at_once : j->running == 0))
			return (j);
	return (NULL);
}

/* With the lock held, given up meanwhile. */
static void
one_step(struct warm *w, struct job *j)
{
	uint64_t budget = w->conf.bytes;
	size_t at = j->at;
	bool planned = j->planned;

	j->running++;
	if (planned) {
		j->at++;
		w->fetching++;
	}
	pthread_mutex_unlock(&w->lock);
	if (planned)
		fetch(w, j, at);
	else
		plan(w, j, budget);
	pthread_mutex_lock(&w->lock);
	if (planned)
		w->fetching--;
	j->planned = true;
	j->running--;
	pthread_cond_broadcast(&w->work);
}

/* With the lock held, given up meanwhile: nobody needs the job any more. */
static void
end_job(struct warm *w, struct job *j)
{
	bool told = j->dropped || atomic_load(&w->stop);

	TAILQ_REMOVE(&w->jobs, j, link);
	pthread_mutex_unlock(&w->lock);
	if (!told) {
		if (j->n > 0)
			log_info("warmed set=%s generation=%ju files=%zu",
			    snapshot_head(j->next)->set,
			    (uintmax_t)snapshot_head(j->next)->generation,
			    j->n);
		w->conf.done(w->conf.arg, &snapshot_head(j->next)->digest);
	}
	job_free(j);
	pthread_mutex_lock(&w->lock);
}

static void *
run(void *arg)
{
	struct warm *w = arg;
	struct job *j;

	CHECK_OBJ(w, WARM_MAGIC);
	pthread_mutex_lock(&w->lock);
	while (!atomic_load(&w->stop)) {
		if ((j = next_job(w)) == NULL) {
			pthread_cond_wait(&w->work, &w->lock);
			continue;
		}
		one_step(w, j);
		if (j->running == 0 && (j->dropped || j->at == j->n))
			end_job(w, j);
	}
	pthread_mutex_unlock(&w->lock);
	return (NULL);
}

bool
warm_begin(struct warm *w, struct snapshot *current, struct snapshot *next)
{
	struct job *j, *old, *after;
	bool begun = false;

	CHECK_OBJ(w, WARM_MAGIC);
	if (current == NULL || (j = calloc(1, sizeof(*j))) == NULL)
		return (false);
	j->current = snapshot_ref(current);
	j->next = snapshot_ref(next);
	pthread_mutex_lock(&w->lock);
	for (old = TAILQ_FIRST(&w->jobs); old != NULL; old = after) {
		after = TAILQ_NEXT(old, link);
		if (strcmp(snapshot_head(old->next)->set,
		    snapshot_head(next)->set) != 0)
			continue;
		old->dropped = true;
		if (old->running == 0) {
			TAILQ_REMOVE(&w->jobs, old, link);
			job_free(old);
		}
	}
	if (w->conf.bytes > 0 && !atomic_load(&w->stop)) {
		TAILQ_INSERT_TAIL(&w->jobs, j, link);
		pthread_cond_signal(&w->work);
		begun = true;
	}
	pthread_mutex_unlock(&w->lock);
	if (!begun)
		job_free(j);
	return (begun);
}

void
warm_stats(struct warm *w, struct warm_stats *st)
{

	CHECK_OBJ(w, WARM_MAGIC);
	pthread_mutex_lock(&w->lock);
	*st = w->stats;
	pthread_mutex_unlock(&w->lock);
}

/*
 * Start and end
 */
struct warm *
warm_new(const struct warm_conf *c)
{
	struct warm *w;
	int error;

	if ((w = calloc(1, sizeof(*w))) == NULL)
		return (NULL);
	w->magic = WARM_MAGIC;
	w->conf = *c;
	TAILQ_INIT(&w->jobs);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	for (; w->nthread < THREADS; w->nthread++)
		if ((error = pthread_create(&w->thread[w->nthread], NULL, run,
		    w)) != 0) {
			warm_destroy(&w);
			errno = error;
			return (NULL);
		}
	return (w);
}

void
warm_configure(struct warm *w, uint64_t bytes, uint64_t at_once)
{

	CHECK_OBJ(w, WARM_MAGIC);
	pthread_mutex_lock(&w->lock);
	w->conf.bytes = bytes;
	w->conf.at_once = at_once;
	pthread_cond_broadcast(&w->work);
	pthread_mutex_unlock(&w->lock);
}

void
warm_stop(struct warm *w)
{

	CHECK_OBJ(w, WARM_MAGIC);
	pthread_mutex_lock(&w->lock);
	atomic_store(&w->stop, true);
	pthread_cond_broadcast(&w->work);
	pthread_mutex_unlock(&w->lock);
	for (; w->nthread > 0; w->nthread--)
		pthread_join(w->thread[w->nthread - 1], NULL);
}

void
warm_destroy(struct warm **wp)
{
	struct warm *w = *wp;
	struct job *j;

	*wp = NULL;
	if (w == NULL)
		return;
	warm_stop(w);
	while ((j = TAILQ_FIRST(&w->jobs)) != NULL) {
		TAILQ_REMOVE(&w->jobs, j, link);
		job_free(j);
	}
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->lock);
	explicit_bzero(&w->magic, sizeof(w->magic));
	free(w);
}
