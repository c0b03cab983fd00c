/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records of cached URLs: what is put is there after a restart, whatever became
 * of the process, the disk, or the file in between; and what is not there is
 * never replaced by something older.
 */
#include <sys/param.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "edge/record.h"
#include "proto/clock.h"
#include "proto/fd.h"

#define	MANY		100000u
#define	KEY		64
#define	FIELDS		1024
#define	WAL_HEADER	32u

static char dir[] = "/tmp/test_records.XXXXXX";
static char path[64], wal[80], damaged[80], said[64];
static atomic_uint syncs;

/* In the place of the C library's, for all of this program. */
int
fdatasync(int fd)
{
	int (*real)(int) = (int (*)(int))(uintptr_t)dlsym(RTLD_NEXT,
	    "fdatasync");

	atomic_fetch_add(&syncs, 1);
	return (real(fd));
}

int
fsync(int fd)
{
	int (*real)(int) = (int (*)(int))(uintptr_t)dlsym(RTLD_NEXT, "fsync");

	atomic_fetch_add(&syncs, 1);
	return (real(fd));
}

/*
 * Records are made of two numbers: which, and how often it was replaced.  The
 * texts have all bytes that field values may have.
 */
struct sample {
	struct record	 rec;
	char		 key[KEY], fields[FIELDS], vary[KEY];
};

static struct record *
sample(struct sample *s, unsigned which, unsigned version)
{
	unsigned i, n;

	memset(s, 0, sizeof(*s));
	(void)snprintf(s->key, sizeof(s->key), "debian/pool/main/p/%05u.deb?v",
	    which);
	n = (unsigned)snprintf(s->fields, sizeof(s->fields),
	    "Content-Type: application/x-deb\nETag: \"%u-%u\"\nX-Octets: ",
	    which, version);
	for (i = 0; i < which % 600; i++)
		s->fields[n + i] = (char)(0x80 + i % 0x80);
	if (which % 3 == 0)
		(void)snprintf(s->vary, sizeof(s->vary), "accept: \xe4 %u\n",
		    version);
	s->rec = (struct record){ .key = s->key, .fields = s->fields,
	    .vary = s->vary, .status = which % 7 == 0 ? 404 : 200,
	    .size = which % 5 == 0 ? UINT64_MAX - which : which,
	    .request_time = 1700000000 + which, .response_time = -1 - which,
	    .epoch = version };
	digest_of(&s->rec.digest, s->fields, strlen(s->fields));
	return (&s->rec);
}

static void
put(struct records *r, unsigned which, unsigned version)
{
	struct sample s;

	records_put(r, sample(&s, which, version));
}

static struct records *
open_it(void)
{
	struct parse_error err = { .reason = "" };
	struct records *r = records_open(path, &err);

	if (r == NULL)
		fail_msg("%s", err.reason);
	return (r);
}

/* What there is: versions by number, 0: none. */
struct found {
	unsigned	 n;
	unsigned	 version[MANY];
};
static struct found found;

static void
take(void *arg, struct record *rec)
{
	struct found *f = arg;
	struct sample s;
	unsigned which;

	assert_int_equal(sscanf(rec->key, "debian/pool/main/p/%5u", &which), 1);
	assert_true(which < MANY && rec->epoch > 0);
	(void)sample(&s, which, (unsigned)rec->epoch);
	assert_string_equal(rec->key, s.key);
	assert_string_equal(rec->fields, s.fields);
	assert_string_equal(rec->vary, s.vary);
	assert_int_equal(rec->status, s.rec.status);
	assert_true(rec->size == s.rec.size);
	assert_true(rec->request_time == s.rec.request_time);
	assert_true(rec->response_time == s.rec.response_time);
	assert_true(digest_eq(&rec->digest, &s.rec.digest));
	assert_int_equal(f->version[which], 0);
	f->version[which] = (unsigned)rec->epoch;
	f->n++;
	if (which % 2 == 0) {		/* ours from now on */
		free(rec->fields);
		rec->fields = NULL;
	}
}

static unsigned
look(struct records *r)
{

	memset(&found, 0, sizeof(found));
	assert_int_equal(records_each(r, take, &found), 0);
	return (found.n);
}

static unsigned
look_again(struct records **r)
{

	records_close(r);
	*r = open_it();
	return (look(*r));
}

static bool
is_there(const char *name)
{

	return (access(name, F_OK) == 0);
}

static void
limit_files(rlim_t bytes)
{
	struct rlimit l;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &l), 0);
	l.rlim_cur = MIN(bytes, l.rlim_max);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

/* No file can be written, that of this test's output neither. */
static void
fill_disk(void)
{

	limit_files(0);
}

static void
empty_disk(void)
{

	limit_files(RLIM_INFINITY);
}

static int
fresh(void **state)
{
	int fd;

	(void)state;
	empty_disk();			/* a failed test may have left it */
	if ((fd = fd_open_dir(AT_FDCWD, "/tmp")) == -1 ||
	    fd_remove_tree(fd, dir + 5) == -1 || mkdir(dir, 0755) == -1)
		return (-1);
	fd_close(&fd);
	return (0);
}

/* What is logged from here on goes to a file; until said_so(). */
static int
listen_to_log(void)
{
	int was = dup(STDERR_FILENO), fd;

	assert_true((fd = open(said, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND,
	    0600)) != -1);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	fd_close(&fd);
	return (was);
}

static bool
said_so(int *was, const char *what)
{
	char *text;
	size_t len;
	bool yes;

	(void)dup2(*was, STDERR_FILENO);
	fd_close(was);
	assert_non_null(text = fd_slurp(AT_FDCWD, said, 1 << 20, &len));
	yes = strstr(text, what) != NULL;
	free(text);
	return (yes);
}

static void
test_puts_replaces_removes(void **state)
{
	struct records *r = open_it();
	unsigned i;

	(void)state;
	assert_int_equal(look(r), 0);
	for (i = 0; i < 3000; i++)
		put(r, i, 1);
	for (i = 0; i < 3000; i += 3)
		put(r, i, 2);
	for (i = 0; i < 3000; i += 10) {
		struct sample s;

		records_remove(r, sample(&s, i, 1)->key);
	}
	put(r, 10, 3);
	records_remove(r, "debian/never/there");
	records_flush(r);
	assert_int_equal(look(r), 2701);
	assert_int_equal(look_again(&r), 2701);
	for (i = 0; i < 3000; i++)
		assert_int_equal(found.version[i], i == 10 ? 3 :
		    i % 10 == 0 ? 0 : i % 3 == 0 ? 2 : 1);
	records_close(&r);
	assert_null(r);
	records_close(&r);
	assert_false(is_there(wal));
	assert_false(is_there(damaged));
}

static void
test_without_a_flush(void **state)
{
	struct records *r = open_it();
	struct stat st;
	int64_t end = clock_boot_ms() + 20000;
	off_t before;

	(void)state;
	assert_int_equal(stat(wal, &st), 0);
	before = st.st_size;
	put(r, 1, 1);
	while (stat(wal, &st) == 0 && st.st_size == before &&
	    clock_boot_ms() < end)
		clock_sleep(10);
	assert_true(st.st_size > before);
	records_close(&r);
}

static void
test_mode(void **state)
{
	mode_t was = umask(0);
	struct records *r = open_it();
	struct stat st;

	(void)state;
	put(r, 1, 1);
	records_flush(r);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(stat(wal, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	records_close(&r);
	(void)umask(was);
}

static void
test_epochs(void **state)
{
	struct records *r = open_it();
	unsigned before;

	(void)state;
	assert_true(records_epoch(r, "debian") == 0);
	before = atomic_load(&syncs);
	assert_int_equal(records_set_epoch(r, "debian", 7), 0);
	assert_true(atomic_load(&syncs) > before);
	assert_int_equal(records_set_epoch(r, "debian", 5), 0);
	assert_int_equal(records_set_epoch(r, "arch", UINT64_MAX), 0);
	assert_true(records_epoch(r, "debian") == 7);
	assert_int_equal(look_again(&r), 0);
	assert_true(records_epoch(r, "debian") == 7);
	assert_true(records_epoch(r, "arch") == UINT64_MAX);
	assert_true(records_epoch(r, "deb") == 0);
	records_close(&r);
}

/* Puts, and says how much is surely written, until it is killed. */
static _Noreturn void
put_for_ever(int fd, unsigned version)
{
	struct parse_error err;
	struct records *r = records_open(path, &err);
	unsigned i;

	if (r == NULL)
		_exit(1);
	if (records_set_epoch(r, "debian", version) == -1)
		_exit(1);
	for (i = 0;; i = (i + 1) % MANY) {
		put(r, i, version);
		if (i % 97 == 0) {
			records_flush(r);
			if (write(fd, &i, sizeof(i)) != sizeof(i))
				_exit(1);
		}
	}
}

static pid_t
start_child(int *out, unsigned version)
{
	int p[2];
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	assert_true((pid = fork()) != -1);
	if (pid == 0) {
		(void)close(p[0]);
		put_for_ever(p[1], version);
	}
	(void)close(p[1]);
	*out = p[0];
	return (pid);
}

/* Kills it once it has said n numbers; the last one that it said. */
static unsigned
kill_child(pid_t pid, int fd, unsigned n, unsigned us)
{
	unsigned last = 0, i;
	int status;

	for (i = 0; i < n; i++)
		assert_int_equal(read(fd, &last, sizeof(last)), sizeof(last));
	(void)usleep(us);
	assert_int_equal(kill(pid, SIGKILL), 0);
	while (read(fd, &i, sizeof(i)) == sizeof(i))
		last = i;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	fd_close(&fd);
	return (last);
}

static void
test_kill(void **state)
{
	struct records *r;
	unsigned round, last, i;
	pid_t pid;
	int fd;

	(void)state;
	for (round = 1; round <= 20; round++) {
		pid = start_child(&fd, round);
		last = kill_child(pid, fd, 1 + round % 5,
		    (unsigned)random() % 20000);
		r = open_it();
		assert_true(records_epoch(r, "debian") == round);
		(void)look(r);
		for (i = 0; i <= last; i++)
			assert_int_equal(found.version[i], round);
		records_close(&r);
		assert_false(is_there(damaged));
	}
}

static void
fill(unsigned n)
{
	struct records *r = open_it();
	unsigned i;

	for (i = 0; i < n; i++)
		put(r, i, 1);
	assert_int_equal(records_set_epoch(r, "debian", 3), 0);
	records_close(&r);
}

static void
write_at(const char *name, off_t at, const void *p, size_t len, int flags)
{
	int fd;

	assert_true((fd = open(name, O_WRONLY | flags, 0640)) != -1);
	assert_int_equal(fd_pwrite_all(fd, p, len, at), 0);
	fd_close(&fd);
}

static void
not_a_database(void)
{
	static const char text[] = "Not a database at all, but long enough to "
	    "be taken for one by its length: that is a hundred bytes and more.";

	write_at(path, 0, text, sizeof(text), O_CREAT | O_TRUNC);
}

static void
no_header(void)
{

	write_at(path, 0, "XXXXXXXXXXXXXXXXXXXX", 20, 0);
}

static void
half(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size / 2 / 4096 * 4096), 0);
}

static void
not_quite(void)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size - 1000), 0);
}

static void
few_bytes(void)
{

	assert_int_equal(truncate(path, 10), 0);
}

static void
no_roots(void)
{
	char zeros[8192] = { 0 };

	write_at(path, 4096, zeros, sizeof(zeros), 0);
}

/* Of a later program; the number stands in the header, big-endian. */
static void
other_version(void)
{

	write_at(path, 60, "\0\0\0\2", 4, 0);
}

static void
no_version(void)
{

	write_at(path, 60, "\0\0\0\0", 4, 0);
}

static void
epoch_changed(void)
{
	char *text, *at;
	size_t len;

	assert_non_null(text = fd_slurp(AT_FDCWD, path, 1 << 24, &len));
	/* The name and its value, 3, stand there alike. */
	for (at = text; (at = memmem(at, len - (size_t)(at - text), "debian\3",
	    7)) != NULL; at++)
		write_at(path, at - text + 6, "\2", 1, 0);
	free(text);
}

static void
test_damaged(void **state)
{
	static const struct {
		const char	*what;
		void		(*damage)(void);
	} t[] = {
		{ "no database", not_a_database },
		{ "no header", no_header },
		{ "half", half },
		{ "not quite whole", not_quite },
		{ "ten bytes", few_bytes },
		{ "zeros", no_roots },
		{ "another version", other_version },
		{ "no version", no_version },
		{ "an epoch is another", epoch_changed },
	};
	struct records *r;
	char *was, *is;
	size_t len, i;
	int fd;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		print_message("# %s\n", t[i].what);
		assert_int_equal(fresh(state), 0);
		fill(1000);
		t[i].damage();
		assert_non_null(was = fd_slurp(AT_FDCWD, path, 1 << 24, &len));
		fd = listen_to_log();
		r = open_it();
		assert_true(said_so(&fd, damaged));
		assert_non_null(is = fd_slurp(AT_FDCWD, damaged, 1 << 24,
		    &len));
		assert_memory_equal(is, was, len);
		assert_int_equal(look(r), 0);
		assert_true(records_epoch(r, "debian") == 0);
		put(r, 5, 2);
		assert_int_equal(look_again(&r), 1);
		assert_int_equal(found.version[5], 2);
		records_close(&r);
		free(was);
		free(is);
	}
}

static void
test_empty_file(void **state)
{
	struct records *r;

	(void)state;
	write_at(path, 0, "", 0, O_CREAT);
	r = open_it();
	put(r, 1, 1);
	assert_int_equal(look_again(&r), 1);
	assert_false(is_there(damaged));
	records_close(&r);
}

/* What remains of a damaged file is right, and it can be used. */
static void
check_rest(unsigned n)
{
	struct records *r = open_it();
	unsigned left = look(r), again;
	uint64_t epoch = records_epoch(r, "debian");

	assert_true(left <= n && (epoch == 3 || (epoch == 0 && left == 0)));
	put(r, 1, 2);
	put(r, n, 2);
	left += (found.version[1] == 0) + 1;
	again = look_again(&r);
	assert_int_equal(again, left);
	assert_int_equal(found.version[1], 2);
	records_close(&r);
}

static void
test_damaged_anywhere(void **state)
{
	unsigned round, i, n, whole = 0, some = 0;
	char junk[64], *good;
	size_t len;
	int fd;

	assert_int_equal(fresh(state), 0);
	fill(500);
	assert_non_null(good = fd_slurp(AT_FDCWD, path, 1 << 24, &len));
	for (round = 0; round < 150; round++) {
		assert_int_equal(fresh(state), 0);
		write_at(path, 0, good, len, O_CREAT);
		n = 1 + (unsigned)random() % sizeof(junk);
		for (i = 0; i < n; i++)
			junk[i] = (char)random();
		write_at(path, random() % (long)(len - n), junk, n, 0);
		fd = listen_to_log();
		check_rest(500);
		(void)said_so(&fd, "");
		if (is_there(damaged))
			whole++;
		else
			some++;
	}
	print_message("# %u were moved aside, %u not\n", whole, some);
	assert_true(whole > 0 && some > 0);
	free(good);
}

/* The log that a killed process left is damaged: then it ends there. */
static void
test_damaged_log(void **state)
{
	char *db, *log, junk[32];
	size_t db_len, log_len, i;
	unsigned round;
	pid_t pid;
	int fd;

	assert_int_equal(fresh(state), 0);
	pid = start_child(&fd, 3);
	(void)kill_child(pid, fd, 5, 0);
	assert_non_null(db = fd_slurp(AT_FDCWD, path, 1 << 24, &db_len));
	assert_non_null(log = fd_slurp(AT_FDCWD, wal, 1 << 24, &log_len));
	assert_true(log_len > WAL_HEADER);
	for (round = 0; round < 60; round++) {
		assert_int_equal(fresh(state), 0);
		write_at(path, 0, db, db_len, O_CREAT);
		write_at(wal, 0, log, log_len, O_CREAT);
		for (i = 0; i < sizeof(junk); i++)
			junk[i] = (char)random();
		if (round % 2 == 0)
			write_at(wal, random() %
			    (long)(log_len - sizeof(junk)), junk,
			    sizeof(junk), 0);
		else
			assert_int_equal(truncate(wal, random() %
			    (long)log_len), 0);
		fd = listen_to_log();
		check_rest(MANY - 1);
		(void)said_so(&fd, "");
	}
	free(db);
	free(log);
}

/* A second one leaves nothing of the first beside it. */
static void
test_damaged_twice(void **state)
{
	struct records *r;
	char other[96];
	int fd;

	(void)state;
	(void)snprintf(other, sizeof(other), "%s-wal", damaged);
	not_a_database();
	write_at(wal, 0, "of the first", 12, O_CREAT);
	fd = listen_to_log();
	r = open_it();
	records_close(&r);
	assert_true(is_there(damaged));
	not_a_database();
	r = open_it();
	records_close(&r);
	assert_true(said_so(&fd, damaged));
	assert_true(is_there(damaged));
	assert_false(is_there(other));
}

static void
test_damaged_while_open(void **state)
{
	struct records *r = open_it();
	char *junk;
	struct stat st;
	unsigned i, n;
	int fd;

	(void)state;
	for (i = 0; i < 20000; i++)
		put(r, i, 1);
	assert_int_equal(records_set_epoch(r, "debian", 4), 0);
	records_close(&r);
	r = open_it();
	assert_int_equal(stat(path, &st), 0);
	assert_non_null(junk = malloc((size_t)st.st_size));
	memset(junk, 0x5a, (size_t)st.st_size);
	write_at(path, 0, junk, (size_t)st.st_size, 0);
	free(junk);
	fd = listen_to_log();
	for (i = 0; i < 20000; i += 10)
		put(r, i, 2);
	records_flush(r);
	records_flush(r);
	n = look_again(&r);
	assert_true(said_so(&fd, damaged));
	/* Those after the one before the one that found the damage. */
	assert_true(n > 0 && n <= 2000);
	for (i = 19000; i < 20000; i += 10)
		assert_int_equal(found.version[i], 2);
	assert_true(records_epoch(r, "debian") == 4);
	records_close(&r);
}

static void
test_full_and_not(void **state)
{
	struct records *r = open_it();
	unsigned i;

	(void)state;
	for (i = 0; i < 100; i++)
		put(r, i, 1);
	records_flush(r);
	fill_disk();
	for (i = 0; i < 5000; i++)
		put(r, i, 2);
	records_flush(r);
	assert_int_equal(records_set_epoch(r, "debian", 2), -1);
	assert_true(records_epoch(r, "debian") == 2);
	assert_int_equal(look(r), 100);
	empty_disk();
	for (i = 0; i < 10; i++)
		put(r, i, 3);
	records_flush(r);
	assert_int_equal(look_again(&r), 5000);
	for (i = 0; i < 5000; i++)
		assert_int_equal(found.version[i], i < 10 ? 3 : 2);
	assert_true(records_epoch(r, "debian") == 2);
	records_close(&r);
}

/* Nobody asks for it. */
static void
test_full_recovers_by_itself(void **state)
{
	struct records *r = open_it();
	struct stat st;
	int64_t end = clock_boot_ms() + 60000;
	off_t before;

	(void)state;
	assert_int_equal(stat(wal, &st), 0);
	before = st.st_size;
	fill_disk();
	put(r, 1, 1);
	records_flush(r);
	empty_disk();
	while (stat(wal, &st) == 0 && st.st_size == before &&
	    clock_boot_ms() < end)
		clock_sleep(50);
	assert_true(st.st_size > before);
	records_close(&r);
}

static void
test_full_at_start(void **state)
{
	struct records *r;
	unsigned i;

	(void)state;
	fill_disk();
	r = open_it();
	assert_int_equal(look(r), 0);
	for (i = 0; i < 100; i++)
		put(r, i, 1);
	assert_int_equal(records_set_epoch(r, "debian", 1), -1);
	records_flush(r);
	empty_disk();
	records_flush(r);
	assert_int_equal(records_set_epoch(r, "debian", 2), 0);
	assert_int_equal(look_again(&r), 100);
	/* What is there can be read. */
	records_close(&r);
	fill_disk();
	r = open_it();
	i = look(r);
	assert_true(records_epoch(r, "debian") == 2);
	empty_disk();
	assert_int_equal(i, 100);
	records_close(&r);
}

static void
test_full_at_the_end(void **state)
{
	struct records *r = open_it();

	(void)state;
	put(r, 1, 1);
	records_flush(r);
	fill_disk();
	put(r, 1, 2);
	records_close(&r);		/* does not wait for ever */
	empty_disk();
	r = open_it();
	assert_int_equal(look(r), 1);
	records_close(&r);
}

/* More than waits: old puts become removals. */
static void
test_full_for_long(void **state)
{
	struct records *r = open_it();
	unsigned i;

	(void)state;
	for (i = 0; i < 100; i++)
		put(r, i, 1);
	records_flush(r);
	fill_disk();
	for (i = 0; i < 50; i++)
		put(r, i, 2);
	for (i = 1000; i < 70000; i++)
		put(r, i, 2);
	put(r, 30, 3);
	empty_disk();
	records_flush(r);
	assert_true(look_again(&r) > 10000);
	for (i = 0; i < 100; i++)
		assert_int_equal(found.version[i], i == 30 ? 3 :
		    i < 50 ? 0 : 1);
	for (i = 69000; i < 70000; i++)
		assert_int_equal(found.version[i], 2);
	records_close(&r);
}

/* Even removals are too many: then nothing that is there is good. */
static void
test_full_for_very_long(void **state)
{
	struct records *r = open_it();
	char key[32];
	unsigned i;

	(void)state;
	for (i = 0; i < 100; i++)
		put(r, i, 1);
	assert_int_equal(records_set_epoch(r, "debian", 6), 0);
	fill_disk();
	put(r, 8, 2);
	records_flush(r);		/* fails, and so will what comes */
	for (i = 0; i < 400000; i++) {
		(void)snprintf(key, sizeof(key), "arch/%u", i);
		records_remove(r, key);
	}
	put(r, 7, 2);
	records_flush(r);
	empty_disk();
	records_flush(r);
	assert_int_equal(look_again(&r), 1);
	assert_int_equal(found.version[7], 2);
	assert_true(records_epoch(r, "debian") == 6);
	records_close(&r);
}

static void
test_refused(void **state)
{
	struct parse_error err = { .reason = "" };
	pid_t pid;
	int fd;

	(void)state;
	assert_null(records_open("/nonexistent/x/plain.db", &err));
	assert_non_null(strstr(err.reason, "No such file"));
	assert_null(records_open(dir, &err));
	assert_non_null(strstr(err.reason, "directory"));
	pid = start_child(&fd, 1);
	assert_int_equal(read(fd, (unsigned [1]){ 0 }, 4), 4);
	assert_null(records_open(path, &err));
	assert_non_null(strstr(err.reason, "locked"));
	(void)kill_child(pid, fd, 0, 0);
}

static void
remove_it(void *arg, struct record *rec)
{

	records_remove(arg, rec->key);
}

/*
 * As many as a large cache has.  On two cores that were busy with other things
 * and a virtual disk: 6,000 to 13,000 puts a second, for 70 us of CPU each;
 * 60 MB; opened (which reads all) in 0.2 to 0.5 s, read in 0.3 to 0.8 s, most
 * of that this test's comparison.
 */
static void
test_many(void **state)
{
	struct records *r = open_it();
	int64_t t0 = clock_boot_ms(), t1, t2, t3, t4;
	struct stat st;
	unsigned i;

	(void)state;
	for (i = 0; i < MANY; i++) {
		put(r, i, 1);
		if (i == MANY / 2)
			records_flush(r);	/* where all is slow */
	}
	t1 = clock_boot_ms();
	records_flush(r);
	t2 = clock_boot_ms();
	assert_int_equal(stat(wal, &st), 0);
	assert_true(st.st_size < 32 << 20);
	records_close(&r);
	assert_int_equal(stat(path, &st), 0);
	t3 = clock_boot_ms();
	r = open_it();
	t4 = clock_boot_ms();
	(void)look(r);
	print_message("# %u records, %jd bytes: queued in %" PRId64 " ms, "
	    "written after %" PRId64 " ms, opened in %" PRId64 " ms, read and "
	    "checked in %" PRId64 " ms\n", found.n, (intmax_t)st.st_size,
	    t1 - t0, t2 - t0, t4 - t3, clock_boot_ms() - t4);
	assert_int_equal(records_each(r, remove_it, r), 0);
	records_flush(r);
	assert_int_equal(look(r), 0);
	records_close(&r);
}

static void *
use(void *arg)
{
	struct records *r = arg;
	static atomic_uint threads;
	unsigned me = atomic_fetch_add(&threads, 1) % 4, i;
	struct sample s;

	for (i = 0; i < 2000; i++) {
		put(r, i * 4 + me, 1);
		if (i % 3 == 0)
			records_remove(r, sample(&s, i * 4 + me, 1)->key);
		if (i % 500 == 0)
			records_flush(r);
		if (i % 400 == 0 && records_set_epoch(r, me % 2 == 0 ?
		    "debian" : "arch", i) == -1)
			return (arg);
		(void)records_epoch(r, "arch");
	}
	return (NULL);
}

static void
test_threads(void **state)
{
	struct records *r = open_it();
	pthread_t t[4];
	void *bad;
	unsigned i;

	(void)state;
	for (i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, use, r), 0);
	for (i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(t[i], &bad), 0);
		assert_null(bad);
	}
	assert_int_equal(look_again(&r), 4 * 1333);
	assert_true(records_epoch(r, "debian") == 1600);
	records_close(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_puts_replaces_removes, fresh),
		cmocka_unit_test_setup(test_without_a_flush, fresh),
		cmocka_unit_test_setup(test_mode, fresh),
		cmocka_unit_test_setup(test_epochs, fresh),
		cmocka_unit_test_setup(test_kill, fresh),
		cmocka_unit_test_setup(test_damaged, fresh),
		cmocka_unit_test_setup(test_empty_file, fresh),
		cmocka_unit_test_setup(test_damaged_anywhere, fresh),
		cmocka_unit_test_setup(test_damaged_log, fresh),
		cmocka_unit_test_setup(test_damaged_twice, fresh),
		cmocka_unit_test_setup(test_damaged_while_open, fresh),
		cmocka_unit_test_setup(test_full_and_not, fresh),
		cmocka_unit_test_setup(test_full_recovers_by_itself, fresh),
		cmocka_unit_test_setup(test_full_at_start, fresh),
		cmocka_unit_test_setup(test_full_at_the_end, fresh),
		cmocka_unit_test_setup(test_full_for_long, fresh),
		cmocka_unit_test_setup(test_full_for_very_long, fresh),
		cmocka_unit_test_setup(test_refused, fresh),
		cmocka_unit_test_setup(test_threads, fresh),
		cmocka_unit_test_setup(test_many, fresh),
	};
	int failed, fd;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (mkdtemp(dir) == NULL || signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
		return (1);
	(void)snprintf(path, sizeof(path), "%s/plain.db", dir);
	(void)snprintf(wal, sizeof(wal), "%s-wal", path);
	(void)snprintf(damaged, sizeof(damaged), "%s.damaged", path);
	(void)snprintf(said, sizeof(said), "%s/said", dir);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	if ((fd = fd_open_dir(AT_FDCWD, "/tmp")) == -1 ||
	    fd_remove_tree(fd, dir + 5) == -1)
		return (1);
	fd_close(&fd);
	return (failed);
}
