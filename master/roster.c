/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The roster: which edges there are, what each of their instances reported, and
 * until when each holds a lease for which set.  A grant is recorded here, under
 * the same lock that a commit takes, before it is sent; so whoever commits sees
 * every lease that can still be alive.  Called by the link thread for each
 * renewal, by publishing threads, and by those that make the status page.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/roster_impl.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	TTL_FILE	"ttl"		/* below the state folder; ms */
#define	TTL_TEXT_MAX	32
#define	PRUNE_MS	30000
#define	BEHIND_EXTRA	3		/* quotes and comma in the reply */

/*
 * Records
 */
struct record_bucket *
record_bucket(struct roster *r, const char *key)
{
	uint32_t h = 2166136261u;

	for (; *key != '\0'; key++)
		h = (h ^ (unsigned char)*key) * 16777619u;
	return (&r->bucket[h % ROSTER_BUCKETS]);
}

static void
record_remove(struct roster *r, struct record *rec)
{
	TAILQ_REMOVE(&r->records, rec, all);
	LIST_REMOVE(rec, bucket);
	r->nrecord--;
	free(rec->cover);
	free(rec);
}

/* No lease of it can be alive. */
static bool
record_ran_out(const struct record *rec, int64_t now)
{
	size_t i;

	if (rec->others_until > now || rec->held_until > now ||
	    rec->granted_until > now)
		return (false);
	for (i = 0; i < rec->ncover; i++)
		if (rec->cover[i].until > now)
			return (false);
	return (true);
}

static void
prune(struct roster *r, int64_t now)
{
	struct record *rec, *next;

	if (now - r->pruned_ms < PRUNE_MS)
		return;
	r->pruned_ms = now;
	for (rec = TAILQ_FIRST(&r->records); rec != NULL; rec = next) {
		next = TAILQ_NEXT(rec, all);
		if (now - rec->last_ms >= ROSTER_SILENCE_MS &&
		    record_ran_out(rec, now))
			record_remove(r, rec);
	}
}

/*
 * Room for one more instance under the key: one that ran out makes way, so an
 * edge that is restarted again and again is not locked out by its past.
 */
static bool
record_room(struct roster *r, const char *key, const char *name, int64_t now)
{
	static struct log_limit limit;
	struct record *rec, *gone = NULL;
	size_t n = 0;

	LIST_FOREACH(rec, record_bucket(r, key), bucket)
		if (strcmp(rec->key, key) == 0) {
			n++;
			if (record_ran_out(rec, now) && (gone == NULL ||
			    rec->last_ms < gone->last_ms))
				gone = rec;
		}
	if (n < ROSTER_INSTANCES && r->nrecord < ROSTER_RECORDS)
		return (true);
	if (gone != NULL) {
		record_remove(r, gone);
		return (true);
	}
	if (log_allowed(&limit, 2))
		log_err("refuse edge=%s instances=%zu records=%zu: no room for "
		    "another lease record%s", name, n, r->nrecord,
		    n < ROSTER_INSTANCES ? "" : "; is its key used by several "
		    "hosts?");
	return (false);
}

static struct record *
record_find(struct roster *r, const char *key, const char *instance)
{
	struct record *rec;

	LIST_FOREACH(rec, record_bucket(r, key), bucket)
		if (strcmp(rec->instance, instance) == 0 &&
		    strcmp(rec->key, key) == 0)
			return (rec);
	return (NULL);
}

static struct record *
record_new(struct roster *r, const struct edge_entry *e, const char *instance,
    int64_t now)
{
	struct record *rec;

	if (!record_room(r, e->key, e->name, now) ||
	    (rec = calloc(1, sizeof(*rec))) == NULL)
		return (NULL);
	snprintf(rec->key, sizeof(rec->key), "%s", e->key);
	snprintf(rec->instance, sizeof(rec->instance), "%s", instance);
	rec->id = ++r->next_id;
	rec->held_until = r->hold_until;
	rec->first_ms = now;
	TAILQ_INSERT_TAIL(&r->records, rec, all);
	LIST_INSERT_HEAD(record_bucket(r, e->key), rec, bucket);
	r->nrecord++;
	return (rec);
}

/*
 * One renewal
 */

/* Notes what the edge says.  The lists' lengths are capped by the parser. */
static void
note_report(struct roster *r, struct record *rec, const struct edge_entry *e,
    const struct renew *n)
{
	const struct renew_set *rs;
	struct rset *s;
	struct cover *c;
	size_t i, before;
	bool known = rec->last_ms != rec->first_ms;

	snprintf(rec->name, sizeof(rec->name), "%s", e->name);
	snprintf(rec->version, sizeof(rec->version), "%s", n->version);
	rec->carries_all = n->all;
	rec->requests = n->counters.requests;
	rec->hits = n->counters.hits;
	rec->misses = n->counters.misses;
	rec->fills = n->counters.fills;
	rec->fill_bytes = n->counters.fill_bytes;
	rec->cache_bytes = n->counters.cache_bytes;
	rec->cache_max = n->counters.cache_max;
	for (i = 0; i < rec->ncover; i++)
		rec->cover[i].listed = false;
	r->serial++;
	for (i = 0; i < n->nset; i++) {
		rs = &n->set[i];
		before = rec->ncover;
		if ((s = rset_of_edge(r, rs->name)) == NULL ||
		    (c = cover_add(rec, s)) == NULL)
			continue;	/* goes without a lease */
		s->seen = r->serial;
		c->listed = true;
		c->generation = rs->generation;
		c->digest = rs->digest;
		c->has_prepared = rs->has_prepared;
		c->prepared = rs->prepared;
		cover_note(c, known && rec->ncover > before, rec->last_ms);
	}
	cover_drop(rec, rec->last_ms);
}

/*
 * The sets that go without a lease: those listed that are not current, and,
 * where the edge carries all, published ones that it did not list.
 */
static int
find_behind(struct roster *r, const struct record *rec, const struct renew *n,
    size_t max, struct lease *l)
{
	const struct cover *c;
	const struct rset *s;
	size_t i, bytes = 0, most = n->nset + r->npublished;

	if ((l->behind = calloc(most + 1, sizeof(*l->behind))) == NULL)
		return (-1);
	for (i = 0; i < most; i++) {
		const char *name;

		if (i < n->nset) {
			name = n->set[i].name;
			if ((s = rset_find(r, name)) != NULL &&
			    (c = cover_find(rec, s)) != NULL && c->listed &&
			    cover_current(c))
				continue;
		} else {
			s = r->published[i - n->nset];
			if (!n->all || s->seen == r->serial)
				continue;
			name = s->name;
		}
		if ((bytes += strlen(name) + BEHIND_EXTRA) > max ||
		    l->nbehind == MESSAGE_SETS) {
			errno = EMSGSIZE;
			return (-1);
		}
		snprintf(l->behind[l->nbehind++], sizeof(*l->behind), "%s",
		    name);
	}
	return (0);
}

/* The longest time to live is on disk before anyone is granted it. */
static int
record_ttl(struct roster *r)
{
	static struct log_limit limit;
	char text[TTL_TEXT_MAX];
	int n;

	if (r->ttl_ms <= r->ttl_recorded_ms)
		return (0);
	n = snprintf(text, sizeof(text), "%lld\n", (long long)r->ttl_ms);
	if (fd_replace(r->dirfd, TTL_FILE, text, (size_t)n, 0644) == -1) {
		if (log_allowed(&limit, 1))
			log_err("grant file=%s: cannot be written, no leases "
			    "are given: %s", TTL_FILE, strerror(errno));
		return (-1);
	}
	r->ttl_recorded_ms = r->ttl_ms;
	return (0);
}

static void
grant(struct roster *r, struct record *rec, struct lease *l)
{
	int64_t until = rec->last_ms + r->ttl_ms;
	size_t i;

	for (i = 0; i < rec->ncover; i++)
		if (rec->cover[i].listed && cover_current(&rec->cover[i]))
			rec->cover[i].until = until;
	if (rec->carries_all)
		rec->others_until = until;
	rec->granted_until = until;
	l->ttl_ms = (uint64_t)r->ttl_ms;
}

static struct lease *
renew_locked(struct roster *r, const char *key, const struct renew *n,
    int64_t received_ms, size_t behind_max)
{
	static struct log_limit limit;
	const struct edge_entry *e;
	struct record *rec;
	struct lease *l;
	bool fresh = false;

	if (r->edges == NULL || (e = edges_by_key(r->edges, key)) == NULL ||
	    (l = calloc(1, sizeof(*l))) == NULL)
		return (NULL);
	l->sequence = n->sequence;
	snprintf(l->instance, sizeof(l->instance), "%s", n->instance);
	prune(r, received_ms);
	if ((rec = record_find(r, key, n->instance)) == NULL) {
		if ((rec = record_new(r, e, n->instance, received_ms)) == NULL)
			return (l);		/* no lease */
		fresh = true;
	}
	rec->last_ms = received_ms;
	note_report(r, rec, e, n);
	if (fresh && received_ms < r->hold_until)
		wait_join(r, rec);
	wait_note(r, rec, received_ms);
	if (find_behind(r, rec, n, behind_max, l) == -1) {
		if (log_allowed(&limit, 1))
			log_err("grant edge=%s: no lease, the sets it lacks do "
			    "not fit into a reply: %s", rec->name,
			    strerror(errno));
		l->nbehind = 0;
		return (l);
	}
	if (record_ttl(r) == 0)
		grant(r, rec, l);
	return (l);
}

struct lease *
roster_renew(struct roster *r, const char *key, const struct renew *n,
    int64_t received_ms, size_t behind_max)
{
	struct lease *l;

	CHECK_OBJ(r, ROSTER_MAGIC);
	pthread_mutex_lock(&r->lock);
	l = renew_locked(r, key, n, received_ms, behind_max);
	pthread_mutex_unlock(&r->lock);
	return (l);
}

/*
 * Edges and sets
 */
void
roster_set_edges(struct roster *r, struct edges **e)
{
	struct edges *old;

	CHECK_OBJ(r, ROSTER_MAGIC);
	pthread_mutex_lock(&r->lock);
	old = r->edges;
	r->edges = *e;
	*e = NULL;
	pthread_mutex_unlock(&r->lock);
	edges_destroy(&old);
}

bool
roster_edge_name(struct roster *r, const char *key, char name[ROSTER_NAME])
{
	const struct edge_entry *e = NULL;

	CHECK_OBJ(r, ROSTER_MAGIC);
	pthread_mutex_lock(&r->lock);
	if (r->edges != NULL && (e = edges_by_key(r->edges, key)) != NULL)
		snprintf(name, ROSTER_NAME, "%s", e->name);
	pthread_mutex_unlock(&r->lock);
	return (e != NULL);
}

int
roster_set_current(struct roster *r, const char *set, uint64_t generation,
    const struct digest *head)
{
	struct rset *s;

	CHECK_OBJ(r, ROSTER_MAGIC);
	CHECK(generation > 0);
	pthread_mutex_lock(&r->lock);
	if ((s = rset_intern(r, set)) != NULL) {
		if (s->generation == 0)
			r->published[r->npublished++] = s;
		s->generation = generation;
		s->digest = *head;
	}
	pthread_mutex_unlock(&r->lock);
	return (s == NULL ? -1 : 0);
}

uint64_t
roster_generation(struct roster *r, const char *set)
{
	const struct rset *s;
	uint64_t generation;

	CHECK_OBJ(r, ROSTER_MAGIC);
	pthread_mutex_lock(&r->lock);
	s = rset_find(r, set);
	generation = s == NULL ? 0 : s->generation;
	pthread_mutex_unlock(&r->lock);
	return (generation);
}

bool
roster_ahead_news(struct roster *r, const char *set, uint64_t generation)
{
	struct rset *s;
	bool news = false;

	CHECK_OBJ(r, ROSTER_MAGIC);
	pthread_mutex_lock(&r->lock);
	if ((s = rset_of_edge(r, set)) != NULL &&
	    generation > s->generation && generation > s->ahead) {
		s->ahead = generation;
		news = true;
	}
	pthread_mutex_unlock(&r->lock);
	return (news);
}

/*
 * Start and end
 */

/*
 * Leases that an earlier process granted may run on for the longest time that
 * it ever granted: nothing is over until then.
 */
static int
read_ttl(struct roster *r, struct parse_error *err)
{
	unsigned long long v;
	char *text;
	size_t len;

	if ((text = fd_slurp(r->dirfd, TTL_FILE, TTL_TEXT_MAX, &len)) == NULL) {
		if (errno == ENOENT)
			return (0);
		return (parse_fail(err, 0, "%s: %s", TTL_FILE,
		    strerror(errno)));
	}
	if (len < 2 || text[len - 1] != '\n' ||
	    parse_u64(text, len - 1, ROSTER_TTL_MAX_MS, &v) == -1) {
		free(text);
		return (parse_fail(err, 0, "%s: damaged; write into it the "
		    "longest link.ttl that was ever configured, in "
		    "milliseconds", TTL_FILE));
	}
	free(text);
	r->ttl_recorded_ms = (int64_t)v;
	/* Restored from a copy, the file may be older than the configuration. */
	r->hold_until = r->clock() + (r->ttl_ms > r->ttl_recorded_ms ?
	    r->ttl_ms : r->ttl_recorded_ms);
	return (0);
}

struct roster *
roster_new(const struct roster_conf *c, struct parse_error *err)
{
	struct roster *r;

	CHECK(c->ttl_ms >= 1 && c->ttl_ms <= ROSTER_TTL_MAX_MS);
	r = check_alloc(calloc(1, sizeof(*r)));
	r->magic = ROSTER_MAGIC;
	pthread_mutex_init(&r->lock, NULL);
	clock_cond_init(&r->change);
	TAILQ_INIT(&r->records);
	LIST_INIT(&r->waits);
	r->dirfd = c->dirfd;
	r->ttl_ms = (int64_t)c->ttl_ms;
	r->clock = c->clock != NULL ? c->clock : clock_boot_ms;
	r->pruned_ms = r->clock();
	if (read_ttl(r, err) == -1)
		roster_destroy(&r);
	return (r);
}

void
roster_destroy(struct roster **rp)
{
	struct roster *r = *rp;
	size_t i;

	if (r == NULL)
		return;
	*rp = NULL;
	CHECK_OBJ(r, ROSTER_MAGIC);
	while (!TAILQ_EMPTY(&r->records))
		record_remove(r, TAILQ_FIRST(&r->records));
	for (i = 0; i < r->nset; i++) {
		wait_release(&r->set[i]->last);
		free(r->set[i]);
	}
	CHECK(LIST_EMPTY(&r->waits));
	free(r->set);
	free(r->published);
	edges_destroy(&r->edges);
	pthread_cond_destroy(&r->change);
	pthread_mutex_destroy(&r->lock);
	explicit_bzero(&r->magic, sizeof(r->magic));
	free(r);
}

void
roster_stop(struct roster *r)
{
	CHECK_OBJ(r, ROSTER_MAGIC);
	pthread_mutex_lock(&r->lock);
	r->stopped = true;
	pthread_cond_broadcast(&r->change);
	pthread_mutex_unlock(&r->lock);
}
