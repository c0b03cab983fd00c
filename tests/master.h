/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_MASTER_H
#define	TESTS_MASTER_H

/*
 * The publishing half of a master for tests, with its own listener and links,
 * but no edges; generations to publish; and looks at what is on disk.  A case
 * has a state folder of its own, and calls up() and down() as it likes.
 */

#include "tests/web.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>

#include <jansson.h>

#include "keys/cert.h"
#include "keys/trust.h"
#include "keys/zap.h"
#include "master/announce.h"
#include "master/generation.h"
#include "master/publish.h"
#include "master/roster.h"
#include "proto/chunk.h"
#include "proto/clock.h"
#include "proto/fd.h"

#define	SET		"test:1/latest"
#define	DAY		86400
#define	BIG		600000		/* bytes: three chunks */
#define	FILES_MAX	16
#define	WAIT_MS		20000

struct item {				/* of a tree, sorted by path */
	const char	*path, *link;
	size_t		 size;		/* a folder when 0 and fill 0 */
	int		 fill;		/* every byte */
	int64_t		 time;		/* 0: the head's created */
};

struct draft {
	struct head	 h;
	char		*manifest;
	size_t		 manifest_len;
	uint8_t		*chunks;
	size_t		 chunks_len;
	size_t		 n;
	struct { struct digest d; uint8_t *p; size_t len; } blob[FILES_MAX];
};

/* What a head says beside its files, and how it is wrong. */
struct say {
	const char	*set;
	uint64_t	 generation, oldest;
	int64_t		 created;
	const struct head *previous;
	const struct seckey *key;
	uint64_t	 more_files;	/* than there are */
	bool		 bad_chunks;	/* a row is another */
};

static char		 dir[64];
static int		 state = -1;
static struct seckey	*root, *good, *stranger;

/* The daemon. */
static struct trust	*trust;
static struct store	*store;
static struct site	*site;
static struct generations *gens;
static struct roster	*roster;
static struct zap	*zap;
static struct announce	*announce;
static struct publish	*publish;
static struct httpd	*server;
static int		 port;

static inline uint64_t
trust_number(void *arg)
{

	(void)arg;
	return (trust_version(trust));
}

static inline int
shown(void *arg, const struct head *h)
{

	(void)arg;
	return (generation_accept(gens, h));
}

/* Version v: the good key may sign "test:*", unless it is revoked. */
static inline void
trust_write(uint64_t v, bool revoked)
{
	struct buf b = BUF_INIT(TRUST_MAX);
	struct trust_doc d = { .version = v, .created = clock_real() - 10,
	    .expires = clock_real() + 30 * DAY, .threshold = 1, .nroot = 1,
	    .npublisher = 1 };
	struct buf all = BUF_INIT(TRUST_ALL_MAX);
	struct parse_error err = { .reason = "" };
	size_t len;
	char *held;

	d.root[0] = *seckey_pubkey(root);
	d.publisher = calloc(1, sizeof(*d.publisher));
	assert_non_null(d.publisher);
	d.publisher[0].key = *seckey_pubkey(revoked ? stranger : good);
	(void)snprintf(d.publisher[0].glob, sizeof(d.publisher[0].glob),
	    "test:*");
	assert_int_equal(trust_doc_write(&b, &d), 0);
	assert_int_equal(seckey_sign(root, b.p, b.len, "test", &b), 0);
	assert_non_null(held = trust_text(trust, &len));
	assert_int_equal(buf_add(&all, held, len), 0);
	assert_int_equal(buf_add(&all, b.p, b.len), 0);
	if (trust_update(trust, all.p, all.len, &err) == -1)
		fail_msg("%s", err.reason);
	free(held);
	free(d.publisher);
	buf_free(&all);
	buf_free(&b);
}

static inline void
set_currents(void)
{
	const struct site_view *v = site_enter(site);
	const struct head *h;
	size_t i;

	for (i = 0; i < site_nsets(v); i++) {
		h = snapshot_head(site_nth(v, i)->current);
		assert_int_equal(roster_set_current(roster, h->set,
		    h->generation, &h->digest), 0);
	}
	site_leave(site);
}

static inline void
start_links(void)
{
	struct parse_error err = { .reason = "" };
	struct announce_conf c = { .announce = "tcp://127.0.0.1:*",
	    .lease = "tcp://127.0.0.1:*", .roster = roster,
	    .trust_version = trust_number, .shown = shown };
	struct cert cert;

	assert_int_equal(cert_new(&cert), 0);
	c.secret_key = cert.secret_key;
	assert_non_null(zap = zap_start());
	if ((announce = announce_start(&c, &err)) == NULL)
		fail_msg("%s", err.reason);
}

static inline void
up(void)
{
	struct parse_error err = { .reason = "" };
	struct publish_conf c;
	struct roster_conf rc = { .dirfd = state, .ttl_ms = 1000 };
	struct httpd_conf hc;
	int fd;

	assert_non_null(trust = trust_new(seckey_pubkey(root), 1, 1));
	trust_write(1, false);
	assert_non_null(store = store_new(state));
	assert_non_null(site = site_new(NULL, NULL));
	if ((gens = generation_new(state, store, site, trust, &err)) == NULL)
		fail_msg("%s", err.reason);
	assert_non_null(roster = roster_new(&rc, &err));
	set_currents();
	start_links();
	c = (struct publish_conf){ .statefd = state, .store = store,
	    .site = site, .trust = trust, .generations = gens,
	    .roster = roster, .announce = announce };
	if ((publish = publish_new(&c, &err)) == NULL)
		fail_msg("%s", err.reason);
	memset(&hc, 0, sizeof(hc));
	httpd_conf_defaults(&hc);
	publish_httpd(publish, &hc);
	assert_int_not_equal(fd = httpd_listen("127.0.0.1:0"), -1);
	port = httpd_port(fd);
	assert_non_null(server = httpd_start(&hc, &fd, 1));
}

static inline void
down(void)
{

	httpd_stop(&server);
	roster_stop(roster);
	publish_destroy(&publish);
	announce_stop(&announce);
	zap_stop(&zap);
	generation_destroy(&gens);
	roster_destroy(&roster);
	site_destroy(&site);
	store_destroy(&store);
	trust_destroy(&trust);
}

static inline int
setup(void **arg)
{

	(void)arg;
	(void)snprintf(dir, sizeof(dir), "/tmp/test_publish.XXXXXX");
	assert_non_null(mkdtemp(dir));
	assert_int_not_equal(state = fd_open_dir(AT_FDCWD, dir), -1);
	return (0);
}

static inline int
teardown(void **arg)
{

	(void)arg;
	if (server != NULL)		/* a case failed in the middle */
		down();
	fd_close(&state);
	return (fd_remove_tree(AT_FDCWD, dir));
}

/* Drafts. */

static inline void
add_blob(struct draft *d, struct entry *e, int fill, struct buf *rows)
{
	struct digest row;
	uint8_t *p;
	size_t off, n;

	assert_true(d->n < FILES_MAX);
	assert_non_null(p = malloc((size_t)e->size + 1));
	memset(p, fill, (size_t)e->size);
	digest_of(&e->digest, p, (size_t)e->size);
	for (off = 0; e->size > CHUNK_SIZE && off < e->size; off += n) {
		n = e->size - off < CHUNK_SIZE ? (size_t)e->size - off :
		    CHUNK_SIZE;
		digest_of(&row, p + off, n);
		(void)buf_add(rows, row.b, DIGEST_LEN);
	}
	d->blob[d->n].d = e->digest;
	d->blob[d->n].len = (size_t)e->size;
	d->blob[d->n++].p = p;
}

static inline void
write_files(struct draft *d, const struct item *items, const struct say *s)
{
	struct buf text = BUF_INIT(1 << 20), rows = BUF_INIT(1 << 20);
	const struct item *i;
	struct entry e;

	assert_int_equal(buf_adds(&text, MANIFEST_FIRST), 0);
	for (i = items; i->path != NULL; i++) {
		memset(&e, 0, sizeof(e));
		e.path_len = strlen(i->path);
		memcpy(e.path, i->path, e.path_len + 1);
		e.time = i->time != 0 ? i->time : s->created;
		e.type = i->link != NULL ? ENTRY_LINK : i->fill != 0 ||
		    i->size != 0 ? ENTRY_FILE : ENTRY_DIR;
		if (i->link != NULL) {
			e.link_len = strlen(i->link);
			memcpy(e.link, i->link, e.link_len + 1);
		} else if (e.type == ENTRY_FILE) {
			e.size = i->fill == -1 ? 0 : i->size;
			add_blob(d, &e, i->fill, &rows);
			d->h.files++;
			d->h.bytes += e.size;
		}
		assert_int_equal(manifest_add(&text, &e), 0);
	}
	if (s->bad_chunks)
		rows.p[0] ^= 1;
	d->manifest = buf_take(&text, &d->manifest_len);
	d->chunks = (uint8_t *)buf_take(&rows, &d->chunks_len);
}

static inline void
draft_make(struct draft *d, const struct item *items, const struct say *s)
{
	const char *const entries[] = { "Latest/*" };
	struct buf b = BUF_INIT(HEAD_MAX);
	struct parse_error err = { .reason = "" };
	struct head *h = &d->h;

	memset(d, 0, sizeof(*d));
	write_files(d, items, s);
	(void)snprintf(h->set, sizeof(h->set), "%s",
	    s->set != NULL ? s->set : SET);
	h->generation = s->generation;
	h->oldest = s->oldest != 0 ? s->oldest : 1;
	h->created = s->created;
	h->files += s->more_files;
	digest_of(&h->manifest, d->manifest, d->manifest_len);
	h->manifest_size = d->manifest_len;
	digest_of(&h->chunks, d->chunks, d->chunks_len);
	h->chunks_size = d->chunks_len;
	if (s->previous != NULL) {
		h->has_previous = true;
		h->previous = s->previous->digest;
	}
	h->nentry = 1;
	assert_int_equal(head_write(&b, h, entries), 0);
	assert_int_equal(seckey_sign(s->key != NULL ? s->key : good, b.p,
	    b.len, "test", &b), 0);
	if (head_parse(h, b.p, b.len, &err) == -1)
		fail_msg("%s", err.reason);
	buf_free(&b);
}

static inline void
draft_free(struct draft *d)
{
	size_t i;

	for (i = 0; i < d->n; i++)
		free(d->blob[i].p);
	free(d->manifest);
	free(d->chunks);
	memset(d, 0, sizeof(*d));
}

/* Requests. */

static inline int
ask(const char *method, const char *path, const char *token, const void *body,
    size_t len, struct web_answer *a)
{
	char head[1024];
	struct web w;
	int n;

	web_open(&w, port);
	n = snprintf(head, sizeof(head),
	    "%s /publish/%s HTTP/1.1\r\nHost: h\r\n"
	    "%s%s%sContent-Length: %zu\r\n\r\n", method, path,
	    token != NULL ? "Authorization: Bearer " : "",
	    token != NULL ? token : "", token != NULL ? "\r\n" : "", len);
	web_send(&w, head, (size_t)n);
	web_send(&w, body, len);
	web_read(&w, a, false);
	web_close(&w);
	return (a->status);
}

/* The answer's status alone; why, if not NULL, has to be in its body. */
static inline int
try(const char *method, const char *path, const char *token, const void *body,
    size_t len, const char *why)
{
	struct web_answer a;
	int status = ask(method, path, token, body, len, &a);

	if (why != NULL && strstr(a.body, why) == NULL)
		fail_msg("%d \"%s\" does not say \"%s\"", status, a.body, why);
	web_free(&a);
	return (status);
}

static inline int
post(const struct draft *d, char token[64])
{
	char path[SET_NAME_MAX + 32];
	struct web_answer a;
	int status;

	(void)snprintf(path, sizeof(path), "%s?prepare-wait=5", d->h.set);
	status = ask("POST", path, NULL, d->h.text, d->h.len, &a);
	token[0] = '\0';
	if (status < 300) {
		assert_int_equal(a.len, 33);
		(void)snprintf(token, 64, "%.32s", a.body);
	} else
		print_message("# %d %s", status, a.body);
	web_free(&a);
	return (status);
}

static inline int
put(const struct draft *d, const char *token, const struct digest *digest,
    const void *p, size_t len, const char *why)
{
	char path[SET_NAME_MAX + 80], hex[DIGEST_HEX + 1];

	(void)snprintf(path, sizeof(path), "%s/%s", d->h.set,
	    digest_hex(digest, hex));
	return (try("PUT", path, token, p, len, why));
}

static inline int
put_lists(const struct draft *d, const char *token)
{
	int status;

	status = put(d, token, &d->h.manifest, d->manifest, d->manifest_len,
	    NULL);
	if (status >= 300)
		return (status);
	return (put(d, token, &d->h.chunks, d->chunks, d->chunks_len, NULL));
}

/* Digests that are missing; list may be NULL. */
static inline size_t
missing(const struct draft *d, const char *token, char **list)
{
	char path[SET_NAME_MAX + 32];
	struct web_answer a;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/missing", d->h.set);
	assert_int_equal(ask("GET", path, token, "", 0, &a), 200);
	assert_int_equal(a.len % (DIGEST_HEX + 1), 0);
	n = a.len / (DIGEST_HEX + 1);
	if (list != NULL)
		*list = a.body;
	else
		web_free(&a);
	return (n);
}

static inline void
put_blobs(const struct draft *d, const char *token, size_t n)
{
	char *list = NULL, hex[DIGEST_HEX + 1];
	size_t i;

	(void)missing(d, token, &list);
	for (i = 0; i < d->n && n > 0; i++) {
		if (strstr(list, digest_hex(&d->blob[i].d, hex)) == NULL)
			continue;
		assert_in_range(put(d, token, &d->blob[i].d, d->blob[i].p,
		    d->blob[i].len, NULL), 200, 201);
		n--;
	}
	free(list);
}

static inline void
pause_ms(long ms)
{
	struct timespec ts = { .tv_sec = ms / 1000,
	    .tv_nsec = ms % 1000 * 1000000 };

	(void)nanosleep(&ts, NULL);
}

/* Until the publish is over: 0, or -1 and why it failed. */
static inline int
follow(const char *set, char reason[256])
{
	int64_t until = clock_boot_ms() + WAIT_MS;
	struct web_answer a;
	const char *s;
	int ret = 1;
	json_t *j;

	while (ret == 1) {
		assert_true(clock_boot_ms() < until);
		assert_int_equal(ask("GET", set, NULL, "", 0, &a), 200);
		assert_non_null(j = json_loadb(a.body, a.len, 0, NULL));
		s = json_string_value(json_object_get(j, "state"));
		if (strcmp(s, "failed") == 0)
			ret = -1;
		else if (strcmp(s, "committed") == 0 &&
		    json_is_true(json_object_get(j, "done")))
			ret = 0;
		if (reason != NULL)
			(void)snprintf(reason, 256, "%s", json_string_value(
			    json_object_get(j, "reason")));
		json_decref(j);
		web_free(&a);
		if (ret == 1)
			pause_ms(10);
	}
	return (ret);
}

static inline void
publish_draft(const struct draft *d)
{
	char token[64], reason[256];

	assert_in_range(post(d, token), 200, 201);
	assert_in_range(put_lists(d, token), 200, 201);
	put_blobs(d, token, SIZE_MAX);
	if (follow(d->h.set, reason) == -1)
		fail_msg("%s", reason);
}

/* Looks at the disk. */

__attribute__((format(printf, 1, 2)))
static inline bool
there(const char *fmt, ...)
{
	char path[600];
	struct stat st;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	return (fstatat(state, path, &st, 0) == 0);
}

static inline size_t
count(const char *path)
{
	struct dirent *e;
	size_t n = 0;
	DIR *d;
	int fd;

	assert_int_not_equal(fd = fd_open_dir(state, path), -1);
	assert_non_null(d = fdopendir(fd));
	while ((e = readdir(d)) != NULL)
		n += e->d_name[0] != '.' || e->d_name[1] == 'n';
	(void)closedir(d);
	return (n);
}

/* What the base system's tool says of the current tree. */
static inline void
check_mtree(const struct draft *d)
{
	char tree[600], list[200], out[300];
	int status;
	pid_t pid;

	(void)snprintf(tree, sizeof(tree), "%s/tree/%s/current", dir,
	    d->h.set);
	(void)snprintf(list, sizeof(list), "%s.mtree", dir);
	(void)snprintf(out, sizeof(out), "%s.out", dir);
	assert_int_equal(fd_replace(AT_FDCWD, list, d->manifest,
	    d->manifest_len, 0644), 0);
	if ((pid = fork()) == 0) {
		if (freopen(out, "w", stdout) == NULL)
			_exit(1);
		(void)execlp("mtree", "mtree", "-p", tree, "-f", list,
		    (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	(void)unlink(list);
	(void)unlink(out);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 127)
		print_message("# no mtree here: trees are not verified\n");
	else
		assert_int_equal(WEXITSTATUS(status), 0);
}

static inline void
check_published(const struct draft *d)
{
	char path[400], *text, link[64];
	size_t len;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "set/%s/head", d->h.set);
	assert_non_null(text = fd_slurp(state, path, HEAD_MAX, &len));
	assert_int_equal(len, d->h.len);
	assert_memory_equal(text, d->h.text, len);
	free(text);
	(void)snprintf(path, sizeof(path), "tree/%s/current", d->h.set);
	assert_true((n = readlinkat(state, path, link, sizeof(link) - 1)) > 0);
	link[n] = '\0';
	assert_int_equal(strtoull(link, NULL, 10), d->h.generation);
	assert_non_null(text = fd_slurp(state, "www/.pkgcast/heads",
	    HEADS_MAX, &len));
	assert_non_null(strstr(text, d->h.text));
	free(text);
	assert_true(there("set/%s/kept/%llu", d->h.set,
	    (unsigned long long)d->h.generation));
	assert_true(there("www/%s/All", d->h.set));
	assert_int_equal(count("tmp"), 0);
	check_mtree(d);
}

static inline void
check_current(const struct draft *d)
{

	check_published(d);
	assert_false(there("set/%s/pending", d->h.set));
}

__attribute__((unused)) static const struct item first[] = {
	{ .path = "All" },
	{ .path = "All/big.pkg", .size = BIG, .fill = 'b' },
	{ .path = "All/empty", .fill = -1 },
	{ .path = "All/one two#3.pkg", .size = 1000, .fill = '1' },
	{ .path = "All/same.pkg", .size = 1000, .fill = '1' },
	{ .path = "Latest" },
	{ .path = "Latest/big.pkg", .link = "../All/big.pkg" },
	{ .path = NULL }
};

static inline int64_t
month_ago(void)
{

	return (clock_real() - 40 * DAY);
}

/* Generation g, three days after the one before, with a file of its own. */
static inline void
draft_numbered(struct draft *d, uint64_t g, uint64_t oldest, int64_t t,
    const struct head *previous)
{
	const struct item items[] = {
		{ .path = "All" },
		{ .path = "All/own", .size = (size_t)g, .fill = 'x' },
		{ .path = "All/same", .size = 77, .fill = 'y', .time = t },
		{ .path = NULL }
	};
	struct say s = { .generation = g, .oldest = oldest,
	    .created = t + (int64_t)g * 3 * DAY, .previous = previous };

	draft_make(d, items, &s);
}

/* The keys of all cases; from files in a folder, for a child process. */
static inline int
keys_make(void)
{

	return (keys_init() == -1 || (root = seckey_new()) == NULL ||
	    (good = seckey_new()) == NULL ||
	    (stranger = seckey_new()) == NULL ? -1 : 0);
}

#endif
