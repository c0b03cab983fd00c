/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cache's file system fails: each call that the store makes, in turn, once
 * and from then on, with each error.  Clients get right bytes all the same, and
 * when the trouble is over files are stored again.
 */
#include "tests/filling.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <dlfcn.h>

#include "edge/memory.h"

enum way { ONCE, FROM_THEN_ON };

#define	LARGE	(3u * CHUNK_SIZE + 777)

/* The calls are counted in all threads; the one numbered `at` fails. */
static atomic_int calls, at, failures;
static _Atomic enum way way;
static atomic_int error;		/* 0: less is written than was asked */
static atomic_bool unreadable;		/* pread() has failed */
static atomic_bool lose;		/* the next fdatasync() fails */

static bool
fails(void)
{
	int n = atomic_fetch_add(&calls, 1) + 1;
	bool yes = atomic_load(&at) > 0 && (atomic_load(&way) == ONCE ?
	    n == atomic_load(&at) : n >= atomic_load(&at));

	if (!yes)
		return (false);
	atomic_fetch_add(&failures, 1);
	errno = atomic_load(&error) == 0 ? EIO : atomic_load(&error);
	return (true);
}

static bool
writes_short(size_t len)
{

	return (atomic_load(&error) == 0 && len > 1);
}

#define	REAL(name)	((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

/*
 * In the place of the C library's, for all of this program.  What has no
 * folder is not the store's: curl's, the resolver's.
 */
int
openat(int dir, const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode = 0;

	if ((flags & O_CREAT) != 0) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	if (dir != AT_FDCWD && fails())
		return (-1);
	return (REAL(openat)(dir, path, flags, mode));
}

ssize_t
pread(int fd, void *p, size_t len, off_t off)
{

	if (fails()) {
		atomic_store(&unreadable, true);
		return (-1);
	}
	return (REAL(pread)(fd, p, len, off));
}

ssize_t
pwrite(int fd, const void *p, size_t len, off_t off)
{

	if (fails()) {
		if (!writes_short(len))
			return (-1);
		len /= 2;
	}
	return (REAL(pwrite)(fd, p, len, off));
}

int
ftruncate(int fd, off_t len)
{

	return (fails() ? -1 : REAL(ftruncate)(fd, len));
}

int
fdatasync(int fd)
{

	if (!atomic_load(&lose))
		return (fails() ? -1 : REAL(fdatasync)(fd));
	/* The system may have given up what it could not write. */
	if (REAL(ftruncate)(fd, 0) == -1 || REAL(ftruncate)(fd, LARGE) == -1)
		abort();
	atomic_store(&lose, false);
	errno = EIO;
	return (-1);
}

int
mkdirat(int dir, const char *path, mode_t mode)
{

	return (fails() ? -1 : REAL(mkdirat)(dir, path, mode));
}

int
renameat(int dir, const char *from, int to_dir, const char *to)
{

	return (fails() ? -1 : REAL(renameat)(dir, from, to_dir, to));
}

int
unlinkat(int dir, const char *path, int flags)
{

	return (fails() ? -1 : REAL(unlinkat)(dir, path, flags));
}

int
fstat(int fd, struct stat *st)
{

	return (fails() ? -1 : REAL(fstat)(fd, st));
}

int
fstatat(int dir, const char *path, struct stat *st, int flags)
{

	return (fails() ? -1 : REAL(fstatat)(dir, path, st, flags));
}

int
fstatvfs(int fd, struct statvfs *st)
{

	return (fails() ? -1 : REAL(fstatvfs)(fd, st));
}

#ifndef __SANITIZE_THREAD__		/* it maps before it is ready for that */
void *
mmap(void *p, size_t len, int prot, int flags, int fd, off_t off)
{

	if (fd != -1 && fails())
		return (MAP_FAILED);
	return (REAL(mmap)(p, len, prot, flags, fd, off));
}
#endif

#ifdef __SANITIZE_THREAD__
#define	STEP	7		/* it takes its time */
#else
#define	STEP	1
#endif

/* The first two for every call, the others for every third. */
static const int errors[] = { ENOSPC, EIO, EMFILE, EDQUOT, 0 };
#define	ERRORS		(sizeof(errors) / sizeof(errors[0]))

/* What a hit does; whatever is there is right. */
static void
hit(struct bench *b)
{
	struct memory *m = NULL;
	struct blob *blob;
	char *copy;
	size_t len;

	if ((blob = blob_get(b->store, &b->want.digest, b->size)) == NULL)
		return;
	if ((copy = blob_slurp(blob, &len)) != NULL) {
		if (len != b->size || memcmp(copy, b->content, len) != 0)
			abort();
		free(copy);
	}
	/* As serve does. */
	if (b->size <= MEMORY_COPY_MAX || blob_checked(blob))
		m = memory_load(blob);
	if (m != NULL && memcmp(memory_bytes(m), b->content, b->size) != 0)
		abort();
	memory_unref(m);
	blob_put(&blob);
}

/* Until a commit has failed. */
static void
wait_lost(void)
{
	int64_t end = clock_boot_ms() + PATIENCE_MS;

	while (atomic_load(&lose)) {
		assert_true(clock_boot_ms() < end);
		pause_ms(2);
	}
	pause_ms(50);
}

/* Only what was to be read and cannot be may be cut short. */
static void
expect_whole(struct bench *b)
{

	if (!fetch_whole(b) && !atomic_load(&unreadable))
		abort();
}

/* From now on the call of that number fails; 0: none. */
static void
arm(int from, enum way how, int with)
{

	atomic_store(&calls, 0);
	atomic_store(&unreadable, false);
	atomic_store(&way, how);
	atomic_store(&error, with);
	atomic_store(&at, from);
}

/* How many calls there were. */
static int
disarm(void)
{

	atomic_store(&at, 0);
	return (atomic_load(&calls));
}

/* A cold file, a hit, an eviction, and the file again. */
static int
cold_file(struct bench *b, int from, enum way how, int with)
{

	arm(from, how, with);
	expect_whole(b);
	wait_running(b, 0);
	hit(b);
	blob_store_limits(b->store, 1, 0);
	blob_store_limits(b->store, UINT64_MAX / 2, 0);
	expect_whole(b);
	wait_running(b, 0);
	hit(b);
	return (disarm());
}

/* A stored file that rotted while the edge was down. */
static int
rotten_file(struct bench *b, int from, enum way how, int with)
{

	assert_true(fetch_whole(b));
	assert_stored(b);
	edge_stop(b);
	rot(b, CHUNK_SIZE + 9);
	edge_start(b, UINT64_MAX / 2);
	arm(from, how, with);
	expect_whole(b);
	wait_running(b, 0);
	hit(b);
	expect_whole(b);
	wait_running(b, 0);
	return (disarm());
}

/* The trouble is over.  Leaves an empty cache. */
static void
assert_recovers(struct bench *b)
{

	assert_true(fetch_whole(b));
	assert_stored(b);
	edge_stop(b);
	edge_start(b, UINT64_MAX / 2);
	assert_true(fetch_whole(b));
	assert_stored(b);
	edge_stop(b);
	assert_int_equal(fd_remove_tree(AT_FDCWD, b->dir), 0);
	assert_int_equal(mkdir(b->dir, 0755), 0);
	edge_start(b, UINT64_MAX / 2);
}

static void
try_all(size_t size, int (*work)(struct bench *b, int from, enum way how,
    int with))
{
	struct bench b;
	int n, max;
	size_t i, how;

	bench_start(&b, size, true, 1, (enum mode[]){ GOOD });
	max = work(&b, 0, ONCE, 0);
	assert_true(max > 0);
	assert_recovers(&b);
	for (i = 0; i < ERRORS; i++)
		for (how = ONCE; how <= FROM_THEN_ON; how++)
			for (n = 1; n <= max; n += i < 2 ? STEP : 3 * STEP) {
				(void)work(&b, n, how, errors[i]);
				assert_recovers(&b);
			}
	bench_stop(&b);
	print_message("# %zu bytes: %d calls, %d failures\n", size, max,
	    atomic_load(&failures));
}

static void
test_large_file(void **state)
{

	(void)state;
	try_all(LARGE, cold_file);
}

static void
test_rotten_file(void **state)
{

	(void)state;
	try_all(LARGE, rotten_file);
}

/* With a reader in the middle of it, who reads right bytes to the end; when it
 * is read anew it is stored. */
static void
test_lost_in_the_end(void **state)
{
	struct client c;
	struct blob *blob;
	struct bench b;

	(void)state;
	bench_start(&b, LARGE, true, 1, (enum mode[]){ GOOD });
	atomic_store(&error, EIO);
	atomic_store(&b.server[0].gate, CHUNK_SIZE);
	client_start(&c, &b, 0, LARGE);
	client_read(&c, 1000);
	atomic_store(&lose, true);
	atomic_store(&b.server[0].gate, SIZE_MAX);
	wait_lost();
	/* The follow thread's would not wait for such readers. */
	assert_int_equal(fill_fetch(b.fills, &b.want, 20, NULL, &blob), 0);
	blob_put(&blob);
	client_read(&c, LARGE);
	assert_int_equal(c.got, LARGE);
	client_end(&c);
	wait_running(&b, 0);
	assert_stored(&b);
	bench_stop(&b);
}

static void
test_small_file(void **state)
{

	(void)state;
	try_all(1000, cold_file);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lost_in_the_end),
		cmocka_unit_test(test_small_file),
		cmocka_unit_test(test_large_file),
		cmocka_unit_test(test_rotten_file),
	};

	(void)cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("storage", tests, NULL, NULL));
}
