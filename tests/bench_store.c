/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The blob store at scale: how long it takes to start, what a blob costs in
 * memory, and whom eviction and sweeps hold up.  A command of measurements,
 * run by integration/bench-store; nothing here passes or fails.
 */
#include <sys/stat.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "edge/blob.h"
#include "proto/fd.h"

#define	SMALL		4096u		/* larger files get no bytes */
#define	UNLIMITED	(UINT64_MAX / 2)
#define	BURST		100		/* hits between two rests */
#define	SAMPLES		(16u << 20)	/* a series; later ones are not kept */

static uint64_t	      nblob;		/* numbered from 0 */
static struct digest *ids;		/* theirs */

static uint64_t
now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return ((uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec);
}

static void
rest_us(long us)
{
	struct timespec t = { .tv_nsec = us * 1000 };

	(void)nanosleep(&t, NULL);
}

/* Of blob i; its bytes are never looked at here. */
static struct digest
id(uint64_t i)
{
	struct digest d;

	digest_of(&d, &i, sizeof(i));
	return (d);
}

static uint64_t
size_of(const struct digest *d, uint64_t max)
{
	uint64_t r;

	memcpy(&r, d->b + 8, sizeof(r));
	return (1 + r % max);
}

/* Durations of one kind of step. */
struct series {
	const char	*name;
	size_t		 n, all;	/* kept, seen */
	uint64_t	 max;
	uint32_t	*ns;
};

static void
series_add(struct series *s, uint64_t since)
{
	uint64_t ns = now_ns() - since;

	if (s->ns == NULL &&
	    (s->ns = malloc(SAMPLES * sizeof(*s->ns))) == NULL)
		err(1, "malloc");
	s->all++;
	if (s->n < SAMPLES)
		s->ns[s->n++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
	if (ns > s->max)
		s->max = ns;
}

static int
by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x < y ? -1 : x > y);
}

static void
series_print(struct series *s)
{

	if (s->n == 0)
		return;
	qsort(s->ns, s->n, sizeof(*s->ns), by_value);
	(void)printf("  %-22s %8zu  p50 %8.1f  p99 %8.1f  p99.9 %8.1f"
	    "  max %8.1f us\n", s->name, s->n, s->ns[s->n / 2] / 1e3,
	    s->ns[s->n * 99 / 100] / 1e3, s->ns[s->n * 999 / 1000] / 1e3,
	    (double)s->max / 1e3);
	free(s->ns);
}

/* What ps(1) says, in bytes. */
static uint64_t
resident(void)
{
	unsigned long kib = 0;
	char cmd[64];
	FILE *f;

	(void)snprintf(cmd, sizeof(cmd), "ps -o rss= -p %ld", (long)getpid());
	if ((f = popen(cmd, "r")) == NULL || fscanf(f, "%lu", &kib) != 1)
		err(1, "ps");
	(void)pclose(f);
	return ((uint64_t)kib * 1024);
}

static void
remember_ids(void)
{
	uint64_t i;

	if ((ids = calloc((size_t)nblob, sizeof(*ids))) == NULL)
		err(1, "calloc");
	for (i = 0; i < nblob; i++)
		ids[i] = id(i);
}

/* Opens the store, which must hold something, and says what that cost. */
static struct blob_store *
start(const char *dir)
{
	struct blob_store *s;
	struct blob_stats st;
	uint64_t t, sized, before = resident(), after;

	t = now_ns();
	if ((s = blob_store_new(dir, UNLIMITED, 0)) == NULL)
		err(1, "%s", dir);
	t = now_ns() - t;
	for (sized = now_ns(), blob_store_stats(s, &st); st.counting;
	    blob_store_stats(s, &st))
		rest_us(10000);
	sized = now_ns() - sized;
	after = resident();
	if ((nblob = st.count) == 0)
		errx(1, "%s holds no blobs: first make some", dir);
	(void)printf("  start %.2f s, all sizes known after %.2f s more;"
	    " %llu blobs, %llu bytes; RSS %.1f MB, %.0f bytes a blob\n",
	    (double)t / 1e9, (double)sized / 1e9,
	    (unsigned long long)st.count, (unsigned long long)st.bytes,
	    (double)after / 1e6, (double)(after - before) / (double)st.count);
	remember_ids();
	return (s);
}

/* One blob's file. */
static void
make_one(int top, const struct digest *d, uint64_t max)
{
	static const char zero[SMALL];
	char hex[DIGEST_HEX + 1], from[DIGEST_HEX + 16], to[DIGEST_HEX + 16];
	uint64_t size = size_of(d, max);
	int fd, e;

	(void)digest_hex(d, hex);
	(void)snprintf(from, sizeof(from), "partial/%s", hex);
	(void)snprintf(to, sizeof(to), "blob/%.2s/%s", hex, hex);
	if ((fd = openat(top, from, O_WRONLY | O_CREAT, 0644)) == -1)
		err(1, "%s", from);
	e = size > SMALL ? posix_fallocate(fd, 0, (off_t)size) :
	    fd_write_all(fd, zero, (size_t)size) == -1 ? errno : 0;
	if ((errno = e) != 0)
		err(1, "%s", from);
	fd_close(&fd);
	if (renameat(top, from, top, to) == -1)
		err(1, "%s", to);
}

/*
 * n files of 1 to max bytes, made as fills make them: in partial/, then
 * renamed.  Large ones get blocks, but no bytes.
 */
static int
make(const char *dir, uint64_t n, uint64_t max)
{
	struct digest d;
	char aa[16];
	uint64_t i;
	int top;

	if (fd_mkdirs(AT_FDCWD, dir, 0755) == -1 ||
	    (top = fd_open_dir(AT_FDCWD, dir)) == -1 ||
	    fd_mkdirs(top, "partial", 0755) == -1 ||
	    fd_mkdirs(top, "blob", 0755) == -1)
		err(1, "%s", dir);
	for (i = 0; i < 256; i++) {
		(void)snprintf(aa, sizeof(aa), "blob/%02x", (unsigned)i);
		if (mkdirat(top, aa, 0755) == -1 && errno != EEXIST)
			err(1, "%s", aa);
	}
	for (i = 0; i < n; i++) {
		d = id(i);
		make_one(top, &d, max);
	}
	fd_close(&top);
	return (0);
}

/* Threads that run beside what is measured, and what they saw. */
struct beside {
	pthread_t	   thread;
	struct blob_store *store;
	uint64_t	   max;		/* of a blob's size */
	uint64_t	   seed;
	bool		   resting;	/* between bursts */
	struct series	   hit, lock;
};

static atomic_bool done;

static uint64_t
next_random(uint64_t *seed)
{

	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (*seed >> 33);
}

static void
hit(struct blob_store *s, const struct digest *d, uint64_t max)
{
	struct blob *b = blob_get(s, d, size_of(d, max));

	blob_put(&b);
}

/* Hits of random blobs. */
static void *
hitter(void *arg)
{
	struct beside *b = arg;
	const struct digest *d;
	uint64_t t;
	int i;

	while (!atomic_load(&done)) {
		for (i = 0; i < BURST; i++) {
			d = &ids[next_random(&b->seed) % nblob];
			t = now_ns();
			hit(b->store, d, b->max);
			series_add(&b->hit, t);
		}
		if (b->resting)
			rest_us(1000);
	}
	return (NULL);
}

/* How long the lock of fills takes: a short step below it, again and again. */
static void *
locker(void *arg)
{
	struct beside *b = arg;
	struct blob_stats st;
	uint64_t t;

	while (!atomic_load(&done)) {
		t = now_ns();
		blob_store_stats(b->store, &st);
		series_add(&b->lock, t);
		rest_us(100);
	}
	return (NULL);
}

static void
beside_start(struct beside *b, void *(*run)(void *))
{

	atomic_store(&done, false);
	if (pthread_create(&b->thread, NULL, run, b) != 0)
		errx(1, "no thread");
}

static void
beside_end(struct beside *b)
{

	atomic_store(&done, true);
	(void)pthread_join(b->thread, NULL);
	series_print(&b->hit);
	series_print(&b->lock);
}

/* Hits as fast as they go, by `threads` at once. */
static int
hits(const char *dir, uint64_t threads, uint64_t max)
{
	struct beside b[16];
	uint64_t i, sum = 0, t;

	if (threads < 1 || threads > 16)
		errx(2, "threads: 1 to 16");
	memset(b, 0, sizeof(b));
	b[0].store = start(dir);
	t = now_ns();
	for (i = 0; i < threads; i++) {
		b[i] = (struct beside){ .store = b[0].store, .seed = i + 1,
		    .max = max, .hit.name = "hit" };
		beside_start(&b[i], hitter);
	}
	rest_us(999999);
	rest_us(999999);
	atomic_store(&done, true);
	for (i = 0; i < threads; i++) {
		(void)pthread_join(b[i].thread, NULL);
		sum += b[i].hit.all;
	}
	t = now_ns() - t;
	(void)printf("  %llu threads: %.2f million hits a second\n",
	    (unsigned long long)threads, (double)sum * 1e3 / (double)t);
	for (i = 0; i < threads; i++)
		series_print(&b[i].hit);
	blob_store_destroy(&b[0].store);
	return (0);
}

/* One new blob; the step that makes room is a series of its own. */
static void
fill(struct blob_store *s, uint64_t i, uint64_t max, struct series *room,
    struct series *rest)
{
	static const char zero[SMALL];
	struct digest d = id(i);
	uint64_t t = now_ns(), size = size_of(&d, max);
	bool fresh;
	int fd;

	if ((fd = blob_partial_open(s, &d, size, &fresh)) == -1)
		err(1, "blob_partial_open");
	series_add(room, t);
	if (fd_pwrite_all(fd, zero, size < SMALL ? (size_t)size : SMALL,
	    0) == -1)
		err(1, "write");
	t = now_ns();
	if (blob_partial_commit(s, &d, fd) == -1)
		err(1, "blob_partial_commit");
	series_add(rest, t);
	fd_close(&fd);
}

/*
 * New blobs at the limit, each of which makes others go, for some seconds.
 * All blobs that were there have been asked for: the worst case for SIEVE.
 */
static int
evict(const char *dir, uint64_t seconds, uint64_t max)
{
	struct series room = { .name = "fill: open, room" };
	struct series rest = { .name = "fill: sync, commit" };
	struct beside b[3];
	struct blob_stats st;
	uint64_t i, end, before;

	memset(b, 0, sizeof(b));
	b[0].store = start(dir);
	blob_store_stats(b[0].store, &st);
	blob_store_limits(b[0].store, st.bytes, 0);
	for (i = 0; i < nblob; i++)
		hit(b[0].store, &ids[i], max);
	before = resident();
	for (i = 0; i < 3; i++) {
		b[i] = (struct beside){ .store = b[0].store, .seed = i + 1,
		    .max = max, .resting = true, .hit.name = "hit meanwhile",
		    .lock.name = "store's lock" };
		beside_start(&b[i], i < 2 ? hitter : locker);
	}
	end = now_ns() + seconds * 1000000000;
	/* A number that an earlier run did not use. */
	for (i = now_ns(); now_ns() < end; i++)
		fill(b[0].store, i, max, &room, &rest);
	series_print(&room);
	series_print(&rest);
	for (i = 0; i < 3; i++)
		beside_end(&b[i]);
	blob_store_stats(b[0].store, &st);
	(void)printf("  evicted %llu; over the limit by %lld; RSS %+.1f MB\n",
	    (unsigned long long)st.evicted,
	    (long long)(st.bytes - st.max_bytes),
	    ((double)resident() - (double)before) / 1e6);
	blob_store_destroy(&b[0].store);
	return (0);
}

/* What a switch leaves: digests in order, and those that it names. */
struct names {
	struct digest	*d;
	bool		 all;
};

static int
by_digest(const void *a, const void *b)
{

	return (memcmp(a, b, sizeof(struct digest)));
}

static enum blob_named
named(void *arg, const struct digest *d)
{
	const struct names *n = arg;

	if (bsearch(d, n->d, (size_t)nblob, sizeof(*d), by_digest) == NULL)
		return (BLOB_UNNAMED);
	return (n->all || d->b[31] % 2 == 0 ? BLOB_NAMED : BLOB_UNNAMED);
}

/* Sweeps: nothing changed, then half of all without a name. */
static int
sweep(const char *dir, uint64_t max)
{
	struct names n = { .all = true };
	struct beside b[2];
	uint64_t i, t;
	int run;

	memset(b, 0, sizeof(b));
	b[0].store = start(dir);
	if ((n.d = calloc((size_t)nblob, sizeof(*n.d))) == NULL)
		err(1, "calloc");
	memcpy(n.d, ids, (size_t)nblob * sizeof(*n.d));
	qsort(n.d, (size_t)nblob, sizeof(*n.d), by_digest);
	blob_store_named(b[0].store, named, &n);
	for (run = 0; run < 2; run++) {
		n.all = run == 0;
		for (i = 0; i < 2; i++) {
			b[i] = (struct beside){ .store = b[0].store,
			    .seed = i + 1, .max = max, .resting = true,
			    .hit.name = "hit meanwhile",
			    .lock.name = "store's lock" };
			beside_start(&b[i], i < 1 ? hitter : locker);
		}
		t = now_ns();
		blob_store_sweep(b[0].store);
		(void)printf("  sweep, %s: %.3f s\n",
		    run == 0 ? "all named" : "half of them named no more",
		    (double)(now_ns() - t) / 1e9);
		for (i = 0; i < 2; i++)
			beside_end(&b[i]);
	}
	blob_store_destroy(&b[0].store);
	free(n.d);
	return (0);
}

static int
usage(void)
{

	(void)fputs("usage: bench_store make DIR BLOBS MAX\n"
	    "       bench_store start DIR\n"
	    "       bench_store hits DIR THREADS MAX\n"
	    "       bench_store evict DIR SECONDS MAX\n"
	    "       bench_store sweep DIR MAX\n"
	    "MAX: the largest blob's bytes, as in make\n", stderr);
	return (2);
}

int
main(int argc, char *argv[])
{
	struct blob_store *s;
	uint64_t v[2] = { 0, 0 };
	int i;

	for (i = 3; i < argc && i < 5; i++)
		v[i - 3] = strtoull(argv[i], NULL, 10);
	if (argc == 5 && strcmp(argv[1], "make") == 0)
		return (make(argv[2], v[0], v[1]));
	if (argc == 5 && strcmp(argv[1], "hits") == 0)
		return (hits(argv[2], v[0], v[1]));
	if (argc == 5 && strcmp(argv[1], "evict") == 0)
		return (evict(argv[2], v[0], v[1]));
	if (argc == 4 && strcmp(argv[1], "sweep") == 0)
		return (sweep(argv[2], v[0]));
	if (argc != 3 || strcmp(argv[1], "start") != 0)
		return (usage());
	s = start(argv[2]);
	blob_store_destroy(&s);
	return (0);
}
