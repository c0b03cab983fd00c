/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The database of records: the only file that names SQLite.  Its journal is a
 * write-ahead log; nobody else opens it while we have it.  SQLite knows when
 * its own structure is damaged, but not when a value is, so each row has a sum.
 * Called by record.c, one thread at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "edge/record_db.h"
#include "proto/check.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	DB_MAGIC	0x72636462u
#define	DB_MODE		0640
#define	DB_VERSION	"1"		/* of the tables below */
#define	BUSY_MS		2000		/* who looks at it with sqlite3(1) */
#define	REASON		256
#define	BAD_ROWS	20		/* lines a second about them */
#define	DAMAGED		".damaged"

enum statement {
	S_BEGIN, S_COMMIT, S_CLEAR, S_PUT, S_REMOVE, S_EPOCH, S_EACH, S_N
};

static const char *const sql[S_N] = {
	[S_BEGIN] = "BEGIN",
	[S_COMMIT] = "COMMIT",
	[S_CLEAR] = "DELETE FROM record",
	[S_PUT] = "REPLACE INTO record VALUES (?,?,?,?,?,?,?,?,?,?,?)",
	[S_REMOVE] = "DELETE FROM record WHERE id = ?",
	[S_EPOCH] = "REPLACE INTO epoch VALUES (?,?,?)",
	[S_EACH] = "SELECT * FROM record WHERE id > ? ORDER BY id",
};

/* The log of writes is checkpointed each 1000 pages, in a commit of ours. */
static const char settings[] =
    "PRAGMA locking_mode = EXCLUSIVE;"
    "PRAGMA cell_size_check = ON;"
    "PRAGMA mmap_size = 0;"
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA journal_size_limit = 8388608;"
    "PRAGMA journal_mode = WAL;";

/*
 * The id is the key's hash: SQLite sees when numbers are out of order, but not
 * when texts are, and loses rows then.  Of two keys with one hash the later one
 * stays, for which a cache is none the worse.
 */
static const char tables[] =
    "BEGIN;"
    "CREATE TABLE record (id INTEGER PRIMARY KEY, key BLOB NOT NULL,"
    " status INTEGER NOT NULL, fields BLOB NOT NULL, vary BLOB NOT NULL,"
    " digest BLOB NOT NULL, size INTEGER NOT NULL,"
    " request_time INTEGER NOT NULL, response_time INTEGER NOT NULL,"
    " epoch INTEGER NOT NULL, sum INTEGER NOT NULL);"
    "CREATE TABLE epoch (name TEXT NOT NULL PRIMARY KEY,"
    " epoch INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;"
    "PRAGMA user_version = " DB_VERSION ";"
    "COMMIT;";

struct record_db {
	unsigned	 magic;
	char		*path;
	sqlite3		*db;		/* NULL: not open */
	sqlite3_stmt	*statement[S_N];
	enum record_db_result result;	/* of the first that failed */
	char		 reason[REASON];
	int64_t		 after;		/* the id that each() goes on after */
};

static struct log_limit bad_limit;

struct record_db *
record_db_new(const char *path)
{
	struct record_db *d;

	CHECK(sqlite3_threadsafe() != 0);
	if ((d = calloc(1, sizeof(*d))) == NULL)
		return (NULL);
	d->magic = DB_MAGIC;
	if ((d->path = strdup(path)) == NULL) {
		free(d);
		return (NULL);
	}
	return (d);
}

static void
shut(struct record_db *d)
{
	int i;

	for (i = 0; i < S_N; i++) {
		(void)sqlite3_finalize(d->statement[i]);
		d->statement[i] = NULL;
	}
	CHECK(sqlite3_close(d->db) == SQLITE_OK);
	d->db = NULL;
}

void
record_db_destroy(struct record_db **dp)
{
	struct record_db *d = *dp;

	if (d == NULL)
		return;
	*dp = NULL;
	CHECK_OBJ(d, DB_MAGIC);
	shut(d);
	free(d->path);
	explicit_bzero(&d->magic, sizeof(d->magic));
	free(d);
}

bool
record_db_is_open(const struct record_db *d)
{

	CHECK_OBJ(d, DB_MAGIC);
	return (d->db != NULL);
}

const char *
record_db_reason(const struct record_db *d)
{

	CHECK_OBJ(d, DB_MAGIC);
	return (d->reason);
}

static bool
fail(struct record_db *d, enum record_db_result result, const char *reason)
{

	d->result = result;
	(void)log_escape(d->reason, sizeof(d->reason), reason, strlen(reason));
	return (false);
}

static bool
is_full(int e)
{

	return (e == ENOSPC || e == EDQUOT || e == EFBIG);
}

static enum record_db_result
result_of(int code, int e)
{

	switch (code & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR:		/* the tables are not ours */
		return (RECORD_DB_DAMAGED);
	case SQLITE_FULL:
	case SQLITE_IOERR:
	case SQLITE_NOMEM:
		return (RECORD_DB_LATER);
	case SQLITE_CANTOPEN:		/* its log, say */
		return (is_full(e) ? RECORD_DB_LATER : RECORD_DB_REFUSED);
	default:
		return (RECORD_DB_REFUSED);
	}
}

/* Whether it went well; else result and reason are kept. */
static bool
went(struct record_db *d, int code)
{
	char reason[REASON];
	int e = 0;

	if (code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW)
		return (true);
	if ((code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN)
		e = sqlite3_system_errno(d->db);
	(void)snprintf(reason, sizeof(reason), "%s%s%s", sqlite3_errmsg(d->db),
	    e == 0 ? "" : ": ", e == 0 ? "" : strerror(e));
	return (fail(d, result_of(code, e), reason));
}

static bool
execute(struct record_db *d, const char *text)
{

	return (went(d, sqlite3_exec(d->db, text, NULL, NULL, NULL)));
}

/* The first value that a statement gives, as text. */
static bool
ask(struct record_db *d, const char *text, char *out, size_t size)
{
	const unsigned char *value = NULL;
	sqlite3_stmt *s = NULL;
	bool ok;

	if ((ok = went(d, sqlite3_prepare_v2(d->db, text, -1, &s, NULL)) &&
	    went(d, sqlite3_step(s))))
		value = sqlite3_column_text(s, 0);
	(void)snprintf(out, size, "%s", value == NULL ? "" :
	    (const char *)value);
	(void)sqlite3_finalize(s);
	return (ok);
}

/* FNV-1a: finds what a bad disk does, not what a person does. */
#define	SUM_START	0xcbf29ce484222325u
static uint64_t
sum_add(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (; len > 0; len--)
		h = (h ^ *p++) * 0x100000001b3u;
	return (h);
}

static int64_t
sum_epoch(const char *set, uint64_t epoch)
{

	return ((int64_t)sum_add(sum_add(SUM_START, set, strlen(set) + 1),
	    &epoch, sizeof(epoch)));
}

/* From 0 on. */
static int64_t
id_of(const char *key)
{

	return ((int64_t)(sum_add(SUM_START, key, strlen(key)) >> 1));
}

static int64_t
sum_record(const struct record *rec)
{
	const int64_t numbers[] = { (int64_t)rec->status, (int64_t)rec->size,
	    rec->request_time, rec->response_time, (int64_t)rec->epoch };
	uint64_t h = sum_add(SUM_START, rec->key, strlen(rec->key) + 1);

	h = sum_add(h, rec->fields, strlen(rec->fields) + 1);
	h = sum_add(h, rec->vary, strlen(rec->vary) + 1);
	h = sum_add(h, rec->digest.b, sizeof(rec->digest.b));
	return ((int64_t)sum_add(h, numbers, sizeof(numbers)));
}

/* SQLite would make it with another mode. */
static bool
open_file(struct record_db *d)
{
	int fd;

	if ((fd = open(d->path, O_RDWR | O_CREAT | O_CLOEXEC, DB_MODE)) == -1)
		return (fail(d, is_full(errno) ? RECORD_DB_LATER :
		    RECORD_DB_REFUSED, strerror(errno)));
	fd_close(&fd);
	if (!went(d, sqlite3_open_v2(d->path, &d->db, SQLITE_OPEN_READWRITE |
	    SQLITE_OPEN_NOMUTEX, NULL)))
		return (false);
	(void)sqlite3_busy_timeout(d->db, BUSY_MS);
	return (execute(d, settings));
}

static bool
is_intact(struct record_db *d)
{
	char said[REASON];

	if (!ask(d, "PRAGMA quick_check(1)", said, sizeof(said)))
		return (false);
	return (strcmp(said, "ok") == 0 || fail(d, RECORD_DB_DAMAGED, said));
}

static bool
has_tables(struct record_db *d)
{
	char version[REASON], n[REASON], reason[REASON + 32];

	if (!ask(d, "PRAGMA user_version", version, sizeof(version)) ||
	    !ask(d, "SELECT count(*) FROM sqlite_master", n, sizeof(n)))
		return (false);
	if (strcmp(version, DB_VERSION) == 0)
		return (true);
	if (strcmp(version, "0") == 0 && strcmp(n, "0") == 0)
		return (execute(d, tables));
	(void)snprintf(reason, sizeof(reason), "its version is %s, not %s",
	    version, DB_VERSION);
	return (fail(d, RECORD_DB_DAMAGED, reason));
}

static bool
prepare(struct record_db *d)
{
	int i;

	for (i = 0; i < S_N; i++)
		if (!went(d, sqlite3_prepare_v2(d->db, sql[i], -1,
		    &d->statement[i], NULL)))
			return (false);
	return (true);
}

static bool
read_epochs(struct record_db *d, void (*epoch)(void *, const char *, uint64_t),
    void *arg)
{
	const char *set;
	sqlite3_stmt *s = NULL;
	uint64_t n;
	int code = SQLITE_OK;

	if (!went(d, sqlite3_prepare_v2(d->db, "SELECT * FROM epoch", -1, &s,
	    NULL)))
		return (false);
	while ((code = sqlite3_step(s)) == SQLITE_ROW) {
		set = (const char *)sqlite3_column_text(s, 0);
		n = (uint64_t)sqlite3_column_int64(s, 1);
		if (set == NULL || sum_epoch(set, n) !=
		    sqlite3_column_int64(s, 2))
			break;
		epoch(arg, set, n);
	}
	(void)went(d, code);
	(void)sqlite3_finalize(s);
	/* What was verified when could not be told any more. */
	if (code == SQLITE_ROW)
		(void)fail(d, RECORD_DB_DAMAGED, "an epoch is damaged");
	return (code == SQLITE_DONE);
}

static bool
move_file(const struct record_db *d, const char *suffix)
{
	char *from = NULL, *to = NULL;
	bool ok = false;

	if (asprintf(&from, "%s%s", d->path, suffix) == -1)
		from = NULL;
	else if (asprintf(&to, "%s%s%s", d->path, DAMAGED, suffix) == -1)
		to = NULL;
	else if (!(ok = rename(from, to) == 0) && errno == ENOENT)
		/* Left by one before, with which this one would be read. */
		ok = unlink(to) == 0 || errno == ENOENT;
	free(from);
	free(to);
	return (ok);
}

/*
 * The database itself is the last one: if we are ended before that, it is found
 * damaged again.
 */
static void
move_aside(struct record_db *d)
{

	shut(d);
	log_warn("records: %s: %s; moved to %s%s, begun anew", d->path,
	    d->reason, d->path, DAMAGED);
	if (!move_file(d, "-shm") || !move_file(d, "-journal") ||
	    !move_file(d, "-wal") || !move_file(d, ""))
		log_err("records: %s cannot be moved: %s", d->path,
		    strerror(errno));
}

enum record_db_result
record_db_open(struct record_db *d, void (*epoch)(void *, const char *,
    uint64_t), void *arg)
{
	int tries;

	CHECK_OBJ(d, DB_MAGIC);
	CHECK(d->db == NULL);
	for (tries = 0; tries < 2; tries++) {
		d->result = RECORD_DB_OK;
		if (open_file(d) && is_intact(d) && has_tables(d) &&
		    prepare(d) && read_epochs(d, epoch, arg))
			return (RECORD_DB_OK);
		CHECK(d->result != RECORD_DB_OK);
		if (d->result != RECORD_DB_DAMAGED) {
			shut(d);
			return (d->result);
		}
		move_aside(d);
	}
	return (RECORD_DB_REFUSED);
}

static char *
column(sqlite3_stmt *s, int i)
{
	const char *p = sqlite3_column_blob(s, i);
	int len = sqlite3_column_bytes(s, i);

	return (strndup(p == NULL ? "" : p, (size_t)len));
}

static void
free_texts(struct record *rec)
{

	free(rec->key);
	free(rec->fields);
	free(rec->vary);
}

/* False: errno (EBADMSG where the row is damaged); texts may be there. */
static bool
read_row(sqlite3_stmt *s, struct record *rec)
{

	*rec = (struct record){ .key = column(s, 1),
	    .status = (unsigned)sqlite3_column_int64(s, 2),
	    .fields = column(s, 3), .vary = column(s, 4),
	    .size = (uint64_t)sqlite3_column_int64(s, 6),
	    .request_time = sqlite3_column_int64(s, 7),
	    .response_time = sqlite3_column_int64(s, 8),
	    .epoch = (uint64_t)sqlite3_column_int64(s, 9) };
	if (rec->key == NULL || rec->fields == NULL || rec->vary == NULL)
		return (false);
	errno = EBADMSG;
	if (sqlite3_column_bytes(s, 5) != DIGEST_LEN)
		return (false);
	memcpy(rec->digest.b, sqlite3_column_blob(s, 5), DIGEST_LEN);
	return (sum_record(rec) == sqlite3_column_int64(s, 10) &&
	    id_of(rec->key) == sqlite3_column_int64(s, 0));
}

static void
drop_row(struct record_db *d, int64_t id)
{
	sqlite3_stmt *s = d->statement[S_REMOVE];

	if (log_allowed(&bad_limit, BAD_ROWS))
		log_warn("records: %s: a record is damaged, and dropped",
		    d->path);
	(void)sqlite3_bind_int64(s, 1, id);
	(void)sqlite3_step(s);
	(void)sqlite3_reset(s);
}

static bool
each_row(struct record_db *d, sqlite3_stmt *s,
    void (*each)(void *, struct record *), void *arg)
{
	struct record rec;
	bool ok;

	d->after = sqlite3_column_int64(s, 0);
	if ((ok = read_row(s, &rec))) {
		each(arg, &rec);
	} else if (errno == EBADMSG) {
		drop_row(d, d->after);
		ok = true;
	}
	free_texts(&rec);
	return (ok);
}

int
record_db_each(struct record_db *d, bool rewind, unsigned max,
    void (*each)(void *, struct record *), void *arg)
{
	sqlite3_stmt *s = d->statement[S_EACH];
	int code = SQLITE_ROW;
	bool ok = true;

	CHECK_OBJ(d, DB_MAGIC);
	CHECK(d->db != NULL);
	if (rewind)
		d->after = INT64_MIN;	/* a damaged id may be anything */
	(void)sqlite3_bind_int64(s, 1, d->after);
	while (ok && max-- > 0 && (code = sqlite3_step(s)) == SQLITE_ROW)
		if (!(ok = each_row(d, s, each, arg)))
			(void)fail(d, RECORD_DB_LATER, strerror(errno));
	if (ok && !(ok = went(d, code)))
		errno = EIO;
	(void)sqlite3_reset(s);
	return (ok ? code == SQLITE_ROW : -1);
}

static void
step(struct record_db *d, enum statement i)
{

	if (d->result == RECORD_DB_OK)
		(void)went(d, sqlite3_step(d->statement[i]));
	(void)sqlite3_reset(d->statement[i]);
}

void
record_db_begin(struct record_db *d, bool durable)
{

	CHECK_OBJ(d, DB_MAGIC);
	CHECK(d->db != NULL);
	d->result = RECORD_DB_OK;
	(void)execute(d, durable ? "PRAGMA synchronous = FULL" :
	    "PRAGMA synchronous = NORMAL");
	step(d, S_BEGIN);
}

void
record_db_clear(struct record_db *d)
{

	step(d, S_CLEAR);
}

/* Borrowed until the next one is bound, or longer but not looked at. */
static void
bind_blob(sqlite3_stmt *s, int i, const void *p, size_t len)
{

	(void)sqlite3_bind_blob64(s, i, p, len, SQLITE_STATIC);
}

void
record_db_put(struct record_db *d, const struct record *rec)
{
	sqlite3_stmt *s = d->statement[S_PUT];

	(void)sqlite3_bind_int64(s, 1, id_of(rec->key));
	bind_blob(s, 2, rec->key, strlen(rec->key));
	(void)sqlite3_bind_int64(s, 3, rec->status);
	bind_blob(s, 4, rec->fields, strlen(rec->fields));
	bind_blob(s, 5, rec->vary, strlen(rec->vary));
	bind_blob(s, 6, rec->digest.b, DIGEST_LEN);
	(void)sqlite3_bind_int64(s, 7, (int64_t)rec->size);
	(void)sqlite3_bind_int64(s, 8, rec->request_time);
	(void)sqlite3_bind_int64(s, 9, rec->response_time);
	(void)sqlite3_bind_int64(s, 10, (int64_t)rec->epoch);
	(void)sqlite3_bind_int64(s, 11, sum_record(rec));
	step(d, S_PUT);
}

void
record_db_remove(struct record_db *d, const char *key)
{

	(void)sqlite3_bind_int64(d->statement[S_REMOVE], 1, id_of(key));
	step(d, S_REMOVE);
}

void
record_db_epoch(struct record_db *d, const char *set, uint64_t epoch)
{
	sqlite3_stmt *s = d->statement[S_EPOCH];

	(void)sqlite3_bind_text(s, 1, set, -1, SQLITE_STATIC);
	(void)sqlite3_bind_int64(s, 2, (int64_t)epoch);
	(void)sqlite3_bind_int64(s, 3, sum_epoch(set, epoch));
	step(d, S_EPOCH);
}

enum record_db_result
record_db_commit(struct record_db *d)
{

	step(d, S_COMMIT);
	if (d->result != RECORD_DB_OK && sqlite3_get_autocommit(d->db) == 0)
		(void)sqlite3_exec(d->db, "ROLLBACK", NULL, NULL, NULL);
	if (d->result == RECORD_DB_DAMAGED)
		move_aside(d);
	return (d->result);
}
