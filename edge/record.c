/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records of cached URLs on their way to the database: a queue, which a thread
 * writes in transactions of many.  What cannot be written waits, up to a limit;
 * beyond that puts are forgotten, but not that the older record on disk has to
 * go.  Called by HTTP threads, threads of fills and polls, and main.
 *
 * Locks: db_lock, then lock.  The thread waits for the disk with the first one
 * held; others take that at start only, so put and remove do not wait.
 */
#include <sys/param.h>
#include <sys/queue.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "edge/record.h"
#include "edge/record_db.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/log.h"

#define	RECORDS_MAGIC	0x72656373u
#define	BATCH_MS	100		/* a put waits that long for others */
#define	BATCH_N		1000u		/* of a transaction */
#define	BATCH_BYTES	(4u << 20)
#define	QUEUE_MAX	(32u << 20)	/* bytes, with what is being written */
#define	RETRY_MS	5000		/* after a failed transaction */

struct item {
	TAILQ_ENTRY(item) link;
	uint64_t	 number;
	size_t		 cost;
	struct record	 rec;		/* its texts are in key and body */
	char		*body;		/* NULL: the key is removed */
	char		 key[];
};
TAILQ_HEAD(items, item);

/* Lives as long as all does. */
struct epoch {
	SLIST_ENTRY(epoch) link;
	uint64_t	 value;
	uint64_t	 writing;	/* the thread's; 0: not in this batch */
	bool		 dirty;
	char		 set[];
};

/* What one transaction writes. */
struct batch {
	struct items	 items;
	struct epoch	*epochs;	/* no new ones come behind it */
	size_t		 n;
	uint64_t	 upto;
	bool		 clear, durable;
};

struct records {
	unsigned	 magic;
	pthread_t	 thread;
	pthread_mutex_t	 db_lock;	/* db */
	struct record_db *db;
	bool		 failing;	/* the thread's */

	pthread_mutex_t	 lock;		/* from here on */
	pthread_cond_t	 work, done;
	struct items	 queue;
	SLIST_HEAD(, epoch) epochs;
	size_t		 n;		/* in the queue */
	size_t		 bytes;		/* of the queue and the batch */
	/* All that is to be written has a number, from 1 on. */
	uint64_t	 queued, written;
	uint64_t	 hurry;		/* somebody waits for that one */
	uint64_t	 failures;
	bool		 clear;		/* all that is on disk goes first */
	bool		 stop;
};

static struct log_limit memory_limit;

static struct epoch *
find_epoch(struct records *r, const char *set)
{
	struct epoch *e;

	SLIST_FOREACH(e, &r->epochs, link)
		if (strcmp(e->set, set) == 0)
			break;
	return (e);
}

/* NULL: no memory. */
static struct epoch *
raise_epoch(struct records *r, const char *set, uint64_t value)
{
	struct epoch *e = find_epoch(r, set);
	size_t len = strlen(set) + 1;

	if (e == NULL) {
		if ((e = calloc(1, sizeof(*e) + len)) == NULL)
			return (NULL);
		memcpy(e->set, set, len);
		SLIST_INSERT_HEAD(&r->epochs, e, link);
	}
	e->value = MAX(e->value, value);
	return (e);
}

static void
know_epoch(void *arg, const char *set, uint64_t value)
{
	struct records *r = arg;

	(void)pthread_mutex_lock(&r->lock);
	/* Else this set begins at 0, and none of its records may be good. */
	if (raise_epoch(r, set, value) == NULL)
		r->clear = true;
	(void)pthread_mutex_unlock(&r->lock);
}

static void
free_item(struct records *r, struct item *it)
{

	r->bytes -= it->cost;
	free(it->body);
	free(it);
}

static void
free_items(struct records *r, struct items *list)
{
	struct item *it;

	while ((it = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, it, link);
		free_item(r, it);
	}
}

static void
clear(struct records *r)
{

	free_items(r, &r->queue);
	r->n = 0;
	r->clear = true;
}

/* Oldest first, to half of the limit, so that this is seldom. */
static void
trim(struct records *r)
{
	struct item *it;
	size_t body;

	TAILQ_FOREACH(it, &r->queue, link) {
		if (r->bytes <= QUEUE_MAX / 2)
			break;
		if (it->body == NULL)
			continue;
		body = strlen(it->rec.fields) + strlen(it->rec.vary) + 2;
		free(it->body);
		it->body = NULL;
		it->cost -= body;
		r->bytes -= body;
	}
	log_warn("records: too many wait to be written: %s are forgotten",
	    r->bytes > QUEUE_MAX / 2 ? "all" : "the oldest");
	if (r->bytes > QUEUE_MAX / 2)
		clear(r);
}

/* NULL: no memory. */
static struct item *
make_item(const char *key)
{
	size_t len = strlen(key) + 1;
	struct item *it;

	if ((it = calloc(1, sizeof(*it) + len)) == NULL)
		return (NULL);
	it->cost = sizeof(*it) + len;
	memcpy(it->key, key, len);
	return (it);
}

/* False: no memory. */
static bool
add_body(struct item *it, const struct record *rec)
{
	size_t fields = strlen(rec->fields) + 1, vary = strlen(rec->vary) + 1;

	if ((it->body = malloc(fields + vary)) == NULL)
		return (false);
	it->cost += fields + vary;
	it->rec = *rec;
	it->rec.key = it->key;
	it->rec.fields = memcpy(it->body, rec->fields, fields);
	it->rec.vary = memcpy(it->body + fields, rec->vary, vary);
	return (true);
}

/* NULL: no memory, and what is there by that key cannot stay. */
static void
enqueue(struct records *r, struct item *it)
{

	(void)pthread_mutex_lock(&r->lock);
	r->queued++;
	if (it == NULL) {
		if (log_allowed(&memory_limit, 1))
			log_warn("records: no memory: all are forgotten");
		clear(r);
	} else {
		it->number = r->queued;
		TAILQ_INSERT_TAIL(&r->queue, it, link);
		r->n++;
		r->bytes += it->cost;
		if (r->bytes > QUEUE_MAX)
			trim(r);
	}
	if (r->n <= 1 || r->n == BATCH_N)
		(void)pthread_cond_signal(&r->work);
	(void)pthread_mutex_unlock(&r->lock);
}

void
records_put(struct records *r, const struct record *rec)
{
	struct item *it;

	CHECK_OBJ(r, RECORDS_MAGIC);
	if ((it = make_item(rec->key)) != NULL)
		(void)add_body(it, rec);
	enqueue(r, it);
}

void
records_remove(struct records *r, const char *key)
{

	CHECK_OBJ(r, RECORDS_MAGIC);
	enqueue(r, make_item(key));
}

/* The lock is held, also below. */
static void
take_epochs(struct records *r, struct batch *b)
{
	struct epoch *e;

	b->epochs = SLIST_FIRST(&r->epochs);
	SLIST_FOREACH(e, &r->epochs, link) {
		e->writing = e->dirty ? e->value : 0;
		b->durable |= e->dirty;
		e->dirty = false;
	}
}

static void
take(struct records *r, struct batch *b)
{
	struct item *it;
	size_t bytes = 0;

	*b = (struct batch){ .upto = r->queued, .clear = r->clear };
	TAILQ_INIT(&b->items);
	r->clear = false;
	take_epochs(r, b);
	while ((it = TAILQ_FIRST(&r->queue)) != NULL) {
		if (b->n == BATCH_N || bytes > BATCH_BYTES) {
			b->upto = it->number - 1;
			break;
		}
		TAILQ_REMOVE(&r->queue, it, link);
		TAILQ_INSERT_TAIL(&b->items, it, link);
		bytes += it->cost;
		b->n++;
	}
	r->n -= b->n;
}

/* What could not be written is tried again, before all that came later. */
static void
put_back(struct records *r, struct batch *b)
{
	struct epoch *e;

	SLIST_FOREACH(e, &r->epochs, link)
		e->dirty = true;
	if (r->clear) {			/* since then */
		free_items(r, &b->items);
		return;
	}
	TAILQ_CONCAT(&b->items, &r->queue, link);
	TAILQ_CONCAT(&r->queue, &b->items, link);
	r->n += b->n;
	r->clear = b->clear;
}

static void
settle(struct records *r, struct batch *b, bool ok)
{

	if (ok) {
		r->written = b->upto;
		free_items(r, &b->items);
	} else {
		put_back(r, b);
		r->failures++;
		r->hurry = 0;
	}
	(void)pthread_cond_broadcast(&r->done);
}

static bool
ready(struct records *r)
{

	return (record_db_is_open(r->db) ||
	    record_db_open(r->db, know_epoch, r) == RECORD_DB_OK);
}

/* No lock is held. */
static bool
write_batch(struct records *r, const struct batch *b)
{
	struct epoch *e;
	struct item *it;

	if (!ready(r))
		return (false);
	record_db_begin(r->db, b->durable);
	if (b->clear)
		record_db_clear(r->db);
	TAILQ_FOREACH(it, &b->items, link)
		if (it->body == NULL)
			record_db_remove(r->db, it->key);
		else
			record_db_put(r->db, &it->rec);
	for (e = b->epochs; e != NULL; e = SLIST_NEXT(e, link))
		if (e->writing != 0)
			record_db_epoch(r->db, e->set, e->writing);
	return (record_db_commit(r->db) == RECORD_DB_OK);
}

static bool
write_or_tell(struct records *r, const struct batch *b)
{
	bool ok;

	(void)pthread_mutex_lock(&r->db_lock);
	ok = write_batch(r, b);
	if (!ok && !r->failing)
		log_err("records cannot be written: %s; they are in memory "
		    "only", record_db_reason(r->db));
	else if (ok && r->failing)
		log_info("records are written again");
	r->failing = !ok;
	(void)pthread_mutex_unlock(&r->db_lock);
	return (ok);
}

/* Until somebody waits for what is queued, it is so much, or the time is up. */
static void
linger(struct records *r, int64_t ms, size_t n)
{
	int64_t until = clock_boot_ms() + ms, now;

	while (!r->stop && r->hurry <= r->written && r->n < n &&
	    (now = clock_boot_ms()) < until)
		(void)clock_wait(&r->work, &r->lock, until - now);
}

static void *
run(void *arg)
{
	struct records *r = arg;
	struct batch b;
	bool ok;

	CHECK_OBJ(r, RECORDS_MAGIC);
	(void)pthread_mutex_lock(&r->lock);
	for (;;) {
		while (!r->stop && r->written == r->queued)
			(void)pthread_cond_wait(&r->work, &r->lock);
		linger(r, BATCH_MS, BATCH_N);
		if (r->stop)
			break;
		take(r, &b);
		(void)pthread_mutex_unlock(&r->lock);
		ok = write_or_tell(r, &b);
		(void)pthread_mutex_lock(&r->lock);
		settle(r, &b, ok);
		if (!ok)
			linger(r, RETRY_MS, SIZE_MAX);
	}
	(void)pthread_mutex_unlock(&r->lock);
	return (NULL);
}

/* With the lock: until all that is queued is written; false: it cannot be. */
static bool
wait_written(struct records *r)
{
	uint64_t upto = r->queued, failures = r->failures;

	r->hurry = upto;
	(void)pthread_cond_signal(&r->work);
	while (r->written < upto && r->failures == failures)
		(void)pthread_cond_wait(&r->done, &r->lock);
	return (r->written >= upto);
}

void
records_flush(struct records *r)
{

	CHECK_OBJ(r, RECORDS_MAGIC);
	(void)pthread_mutex_lock(&r->lock);
	(void)wait_written(r);
	(void)pthread_mutex_unlock(&r->lock);
}

uint64_t
records_epoch(struct records *r, const char *set)
{
	const struct epoch *e;
	uint64_t value;

	CHECK_OBJ(r, RECORDS_MAGIC);
	(void)pthread_mutex_lock(&r->lock);
	e = find_epoch(r, set);
	value = e == NULL ? 0 : e->value;
	(void)pthread_mutex_unlock(&r->lock);
	return (value);
}

int
records_set_epoch(struct records *r, const char *set, uint64_t epoch)
{
	struct epoch *e;
	int ret = -1;

	CHECK_OBJ(r, RECORDS_MAGIC);
	(void)pthread_mutex_lock(&r->lock);
	if ((e = raise_epoch(r, set, epoch)) == NULL) {
		errno = ENOMEM;
	} else {
		e->dirty = true;
		r->queued++;
		if (wait_written(r))
			ret = 0;
		else
			errno = EIO;
	}
	(void)pthread_mutex_unlock(&r->lock);
	return (ret);
}

int
records_each(struct records *r, void (*each)(void *, struct record *),
    void *arg)
{
	bool rewind = true;
	int more;

	CHECK_OBJ(r, RECORDS_MAGIC);
	do {
		(void)pthread_mutex_lock(&r->db_lock);
		more = !record_db_is_open(r->db) ? 0 :
		    record_db_each(r->db, rewind, BATCH_N, each, arg);
		if (more == -1)
			log_err("records cannot be read: %s",
			    record_db_reason(r->db));
		(void)pthread_mutex_unlock(&r->db_lock);
		rewind = false;
		/* Many may be removed meanwhile: more than wait at once. */
		if (more > 0)
			records_flush(r);
	} while (more > 0);
	return (more);
}

static int
start(struct records *r, struct parse_error *err, const char *path)
{
	enum record_db_result got;
	int e;

	got = record_db_open(r->db, know_epoch, r);
	if (got != RECORD_DB_OK && got != RECORD_DB_LATER)
		return (parse_fail(err, 0, "%s: %s", path,
		    record_db_reason(r->db)));
	/* The caller will not know what is in there. */
	if (got == RECORD_DB_LATER)
		r->clear = true;
	if (r->clear)
		r->queued++;
	if ((e = pthread_create(&r->thread, NULL, run, r)) != 0)
		return (parse_fail(err, 0, "no thread: %s", strerror(e)));
	return (0);
}

static void
destroy(struct records *r)
{
	struct epoch *e;

	free_items(r, &r->queue);
	CHECK(r->bytes == 0);
	while ((e = SLIST_FIRST(&r->epochs)) != NULL) {
		SLIST_REMOVE_HEAD(&r->epochs, link);
		free(e);
	}
	record_db_destroy(&r->db);
	(void)pthread_cond_destroy(&r->done);
	(void)pthread_cond_destroy(&r->work);
	(void)pthread_mutex_destroy(&r->lock);
	(void)pthread_mutex_destroy(&r->db_lock);
	explicit_bzero(&r->magic, sizeof(r->magic));
	free(r);
}

struct records *
records_open(const char *path, struct parse_error *err)
{
	struct records *r;

	if ((r = calloc(1, sizeof(*r))) == NULL) {
		(void)parse_fail(err, 0, "no memory");
		return (NULL);
	}
	r->magic = RECORDS_MAGIC;
	(void)pthread_mutex_init(&r->db_lock, NULL);
	(void)pthread_mutex_init(&r->lock, NULL);
	clock_cond_init(&r->work);
	(void)pthread_cond_init(&r->done, NULL);
	TAILQ_INIT(&r->queue);
	SLIST_INIT(&r->epochs);
	if ((r->db = record_db_new(path)) == NULL)
		(void)parse_fail(err, 0, "no memory");
	else if (start(r, err, path) == 0)
		return (r);
	destroy(r);
	return (NULL);
}

void
records_close(struct records **rp)
{
	struct records *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	CHECK_OBJ(r, RECORDS_MAGIC);
	(void)pthread_mutex_lock(&r->lock);
	if (!wait_written(r))
		log_warn("records: %zu changes are lost", r->n);
	r->stop = true;
	(void)pthread_cond_signal(&r->work);
	(void)pthread_mutex_unlock(&r->lock);
	(void)pthread_join(r->thread, NULL);
	destroy(r);
}
