/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes of blobs in memory, and answers made of them.  HTTP threads take what is
 * there under one short lock of many; threads that may wait for the disk (cold.c)
 * bring in what is not.
 */
#include <sys/param.h>
#include <sys/mman.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "edge/memory.h"
#include "edge/resident.h"
#include "edge/table.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/fd.h"
#include "proto/limits.h"

#define	MEMORY_MAGIC	0x6d656d6fu
#define	MADE_N		2		/* of 200 and of 304 */
#define	MADE_COST	2048		/* bytes that answers take, roughly */
#define	SECOND_CHANCES	64		/* in a row, then the next one goes */
#define	SEEN_MS		1000		/* pages stay that long, mostly */

struct made {
	struct made_key		 key;
	struct httpd_prepared	*answer;
};

struct memory {
	unsigned		 magic;
	atomic_uint		 refs;		/* the blob's, answers' */
	bool			 mapped;
	atomic_bool		 hit;		/* since it was last looked at */
	size_t			 len;
	const char		*p;
	int			 fd;		/* of c->files, or -1; both locks */
	_Atomic int64_t		 whole_ms;	/* all of it was last seen there */
	struct blob		*blob;		/* while that has it; the stripe */
	pthread_mutex_t		*stripe;	/* of the blob */
	struct made		 made[MADE_N];	/* the blob's stripe */
	TAILQ_ENTRY(memory)	 link, file;	/* the cache's lock */
	char			 data[];
};

void
memory_init(struct memory_cache *c, uint64_t max_bytes)
{

	(void)pthread_mutex_init(&c->lock, NULL);
	TAILQ_INIT(&c->list);
	TAILQ_INIT(&c->files);
	c->max_bytes = max_bytes;
	c->max_files = MIN(MEMORY_FILES, limits_spare_files() / 8);
}

void
memory_free(struct memory_cache *c)
{

	CHECK(TAILQ_EMPTY(&c->list) && TAILQ_EMPTY(&c->files));
	(void)pthread_mutex_destroy(&c->lock);
}

struct memory *
memory_ref(struct memory *m)
{

	CHECK_OBJ(m, MEMORY_MAGIC);
	(void)atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return (m);
}

void
memory_unref(void *memory)
{
	struct memory *m = memory;

	if (m == NULL)
		return;
	CHECK_OBJ(m, MEMORY_MAGIC);
	if (atomic_fetch_sub(&m->refs, 1) != 1)
		return;
	if (m->mapped)
		(void)munmap((void *)(uintptr_t)m->p, m->len);
	CHECK(m->fd == -1);
	explicit_bzero(&m->magic, sizeof(m->magic));
	free(m);
}

static unsigned
made_at(unsigned status)
{

	return (status == 304);
}

bool
memory_in_use(const struct memory *m)
{
	unsigned i, own = 1;

	if (m == NULL)
		return (false);
	for (i = 0; i < MADE_N; i++) {
		if (m->made[i].answer == NULL)
			continue;
		if (httpd_prepared_shared(m->made[i].answer))
			return (true);
		own++;
	}
	return (atomic_load(&m->refs) > own);
}

/* Of cache.memory. */
static size_t
cost(const struct memory *m)
{

	return (m->mapped ? 0 : MADE_COST + m->len);
}

/* The cache is locked, its stripe is not. */
static void
shut(struct memory_cache *c, struct memory *m)
{

	(void)pthread_mutex_lock(m->stripe);
	fd_close(&m->fd);
	(void)pthread_mutex_unlock(m->stripe);
	TAILQ_REMOVE(&c->files, m, file);
	c->nfiles--;
}

/* The cache is locked, also below. */
static void
forget(struct memory_cache *c, struct memory *m)
{
	struct made made[MADE_N];
	unsigned i;

	(void)pthread_mutex_lock(m->stripe);
	memcpy(made, m->made, sizeof(made));
	memset(m->made, 0, sizeof(m->made));
	m->blob->memory = NULL;
	m->blob = NULL;
	(void)pthread_mutex_unlock(m->stripe);
	TAILQ_REMOVE(&c->list, m, link);
	c->bytes -= cost(m);
	c->nmapped -= m->mapped;
	if (m->fd != -1)
		shut(c, m);
	for (i = 0; i < MADE_N; i++)
		httpd_prepared_unref(&made[i].answer);
	memory_unref(m);
}

void
memory_forget(struct blob *b)
{
	struct memory_cache *c = &b->store->memory;

	(void)pthread_mutex_lock(&c->lock);
	if (b->memory != NULL)
		forget(c, b->memory);
	(void)pthread_mutex_unlock(&c->lock);
}

static bool
too_much(const struct memory_cache *c)
{

	return (c->bytes > c->max_bytes || c->nmapped > MEMORY_MAPPED);
}

/* Oldest first, with a second chance for what was hit. */
static void
trim(struct memory_cache *c)
{
	struct memory *m;
	unsigned chances = 0;

	while (too_much(c) && (m = TAILQ_LAST(&c->list, memory_list)) != NULL) {
		if (chances < SECOND_CHANCES &&
		    atomic_exchange(&m->hit, false)) {
			chances++;
			TAILQ_REMOVE(&c->list, m, link);
			TAILQ_INSERT_HEAD(&c->list, m, link);
			continue;
		}
		chances = 0;
		forget(c, m);
	}
}

void
memory_limit(struct memory_cache *c, uint64_t max_bytes)
{

	(void)pthread_mutex_lock(&c->lock);
	c->max_bytes = max_bytes;
	trim(c);
	(void)pthread_mutex_unlock(&c->lock);
}

void
memory_stats(struct memory_cache *c, uint64_t *bytes, uint64_t *mapped)
{

	(void)pthread_mutex_lock(&c->lock);
	*bytes = c->bytes;
	*mapped = c->nmapped;
	(void)pthread_mutex_unlock(&c->lock);
}

static void
note_hit(atomic_bool *bit)
{

	if (!atomic_load_explicit(bit, memory_order_relaxed))
		atomic_store_explicit(bit, true, memory_order_relaxed);
}

/* The stripe is locked. */
static struct memory *
find(struct blob_store *s, const struct digest *d, uint64_t size)
{
	struct blob *b = table_find(s, d);

	if (b == NULL || !table_complete(b) || b->size != size ||
	    b->memory == NULL)
		return (NULL);
	note_hit(&b->visited);
	note_hit(&b->memory->hit);
	return (b->memory);
}

struct memory *
memory_get(struct blob_store *s, const struct digest *d, uint64_t size)
{
	pthread_mutex_t *stripe = table_stripe(s, d);
	struct memory *m;

	(void)pthread_mutex_lock(stripe);
	if ((m = find(s, d, size)) != NULL)
		(void)memory_ref(m);
	(void)pthread_mutex_unlock(stripe);
	return (m);
}

static bool
key_eq(const struct made_key *a, const struct made_key *b)
{

	return (a->serial == b->serial && a->time == b->time &&
	    a->status == b->status);
}

struct httpd_prepared *
memory_made(struct blob_store *s, const struct digest *d, uint64_t size,
    const struct made_key *k, bool body)
{
	pthread_mutex_t *stripe = table_stripe(s, d);
	struct httpd_prepared *p = NULL;
	struct memory *m;
	struct made *made;

	(void)pthread_mutex_lock(stripe);
	if ((m = find(s, d, size)) != NULL) {
		made = &m->made[made_at(k->status)];
		if (made->answer != NULL && key_eq(&made->key, k))
			p = httpd_prepared_ref(made->answer);
	}
	(void)pthread_mutex_unlock(stripe);
	/* m lives as long as p. */
	if (p != NULL && body && !memory_at_once(m, 0, m->len))
		httpd_prepared_unref(&p);
	return (p);
}

void
memory_keep(struct memory *m, const struct made_key *k,
    struct httpd_prepared *p)
{
	struct made *made = &m->made[made_at(k->status)];
	struct httpd_prepared *was = p;

	CHECK_OBJ(m, MEMORY_MAGIC);
	(void)httpd_prepared_ref(p);
	(void)pthread_mutex_lock(m->stripe);
	if (m->blob != NULL) {		/* nobody else would let go of it */
		was = made->answer;
		made->answer = p;
		made->key = *k;
	}
	(void)pthread_mutex_unlock(m->stripe);
	httpd_prepared_unref(&was);
}

const void *
memory_bytes(const struct memory *m)
{

	return (m->p);
}

bool
memory_resident(struct memory *m, uint64_t off, uint64_t len)
{

	CHECK(off <= m->len && len <= m->len - off);
	if (!m->mapped)
		return (true);
	if (!resident(m->p, off, len))
		return (false);
	if (len == m->len)
		atomic_store_explicit(&m->whole_ms, clock_boot_ms(),
		    memory_order_relaxed);
	return (true);
}

bool
memory_seen(const struct memory *m)
{
	int64_t ms = atomic_load_explicit(&m->whole_ms, memory_order_relaxed);

	return (ms != 0 && clock_boot_ms() - ms < SEEN_MS);
}

bool
memory_at_once(struct memory *m, uint64_t off, uint64_t len)
{

	return (!m->mapped || (len <= MEMORY_ASK &&
	    (memory_seen(m) || memory_resident(m, off, len))));
}

int
memory_file(struct memory *m)
{
	int fd = -1;

	(void)pthread_mutex_lock(m->stripe);
	if (m->fd != -1)
		fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 0);
	(void)pthread_mutex_unlock(m->stripe);
	return (fd);
}

/* The cache is locked.  Makes an open file the newest; whether one is missing. */
static bool
lacks_file(struct memory_cache *c, struct memory *m)
{

	if (m->fd != -1) {
		TAILQ_REMOVE(&c->files, m, file);
		TAILQ_INSERT_HEAD(&c->files, m, file);
	}
	return (m->fd == -1 && m->blob != NULL && c->max_files > 0);
}

void
memory_keep_file(struct memory *m, struct blob *b)
{
	struct memory_cache *c = &b->store->memory;
	bool lacks;
	int fd;

	if (!m->mapped || m->len <= MEMORY_ASK)
		return;
	(void)pthread_mutex_lock(&c->lock);
	lacks = lacks_file(c, m);
	(void)pthread_mutex_unlock(&c->lock);
	if (!lacks || (fd = blob_open(b)) == -1)
		return;
	(void)pthread_mutex_lock(&c->lock);
	if (lacks_file(c, m)) {
		if (c->nfiles >= c->max_files)
			shut(c, TAILQ_LAST(&c->files, memory_list));
		(void)pthread_mutex_lock(m->stripe);
		m->fd = fd;
		(void)pthread_mutex_unlock(m->stripe);
		fd = -1;
		TAILQ_INSERT_HEAD(&c->files, m, file);
		c->nfiles++;
	}
	(void)pthread_mutex_unlock(&c->lock);
	fd_close(&fd);
}

struct httpd_body *
memory_body(struct memory **mp)
{
	struct httpd_body *body;

	CHECK_OBJ(*mp, MEMORY_MAGIC);
	if ((body = httpd_body_mem((*mp)->p, (*mp)->len, memory_unref,
	    *mp)) == NULL)
		memory_unref(*mp);
	*mp = NULL;
	return (body);
}

/* With one reference and nothing to send yet. */
static struct memory *
memory_new(struct blob *b, size_t room)
{
	struct memory *m;

	if ((m = calloc(1, sizeof(*m) + room)) == NULL)
		return (NULL);
	m->magic = MEMORY_MAGIC;
	atomic_init(&m->refs, 1);
	m->stripe = table_stripe(b->store, &b->digest);
	m->len = b->size;
	m->p = m->data;
	m->fd = -1;
	return (m);
}

static struct memory *
load_copy(struct blob *b)
{
	struct memory *m;

	if ((m = memory_new(b, b->size)) != NULL &&
	    blob_read(b, m->data) == -1) {
		memory_unref(m);
		m = NULL;
	}
	return (m);
}

static struct memory *
load_mapping(struct blob *b)
{
	struct memory *m = NULL;
	int fd, e = 0;
	void *p;

	if ((fd = blob_open(b)) == -1)
		return (NULL);
	p = mmap(NULL, b->size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		e = errno;
	else if ((m = memory_new(b, 0)) == NULL) {
		e = ENOMEM;
		(void)munmap(p, b->size);
	} else {
		m->mapped = true;
		m->p = p;
	}
	fd_close(&fd);
	errno = e;
	return (m);
}

/*
 * Whether a small blob stays a copy: to make and free them by turns would cost
 * more than they save.
 */
static bool
copied(const struct blob *b)
{
	struct memory_cache *c = &b->store->memory;
	bool room;

	/* Where nothing tells of a mapping's pages it is of little use. */
	if (b->size <= MEMORY_COPY_ALWAYS || !RESIDENT_TOLD)
		return (true);
	(void)pthread_mutex_lock(&c->lock);
	room = c->bytes + b->size + MADE_COST <= c->max_bytes;
	(void)pthread_mutex_unlock(&c->lock);
	return (room);
}

/* For want of room a mapping; what is small is verified all the same. */
static struct memory *
load_small(struct blob *b)
{
	struct memory *m = load_copy(b), *mapping;

	if (m == NULL || copied(b) || (mapping = load_mapping(b)) == NULL)
		return (m);
	memory_unref(m);
	return (mapping);
}

/* Gives it to its blob, unless that is gone or has some already. */
static void
keep(struct memory *m, struct blob *b)
{
	struct memory_cache *c = &b->store->memory;

	(void)pthread_mutex_lock(&c->lock);
	(void)pthread_mutex_lock(m->stripe);
	if (table_complete(b) && b->memory == NULL) {
		b->memory = memory_ref(m);
		m->blob = b;
	}
	(void)pthread_mutex_unlock(m->stripe);
	if (m->blob == b) {
		TAILQ_INSERT_HEAD(&c->list, m, link);
		c->bytes += cost(m);
		c->nmapped += m->mapped;
		trim(c);
	}
	(void)pthread_mutex_unlock(&c->lock);
}

struct memory *
memory_load(struct blob *b)
{
	struct memory *m;

	if ((m = memory_get(b->store, &b->digest, b->size)) != NULL)
		return (m);
	m = b->size <= MEMORY_COPY_MAX ? load_small(b) : load_mapping(b);
	if (m != NULL)
		keep(m, b);
	return (m);
}
