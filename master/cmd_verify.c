/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pkgcast verify: compares a folder, or what an HTTP server answers, with the
 * current generation of a set.  Called by master/pkgcast.c.
 */

#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keys/trust.h"
#include "master/command.h"
#include "master/fetch.h"
#include "master/progress.h"
#include "master/scan.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/log.h"

#define	VERIFY_PARALLEL	4

struct verify {
	const struct pkgcast_conf *conf;
	struct client	*client;
	const char	*set, *what;
	size_t		 nroot;
	struct pubkey	 root[TRUST_ROOTS];
	unsigned	 threshold;
	struct head	 head;
	struct manifest	*manifest;
	uint64_t	 compared, differences, unread;
	struct progress	 progress;
};

static void
difference(struct verify *v, const char *kind, const char *path)
{
	char text[PATH_BYTES_MAX * 4 + 1];

	v->differences++;
	progress_end(&v->progress);
	(void)printf("%s: %s\n", kind,
	    log_escape(text, sizeof(text), path, strlen(path)));
}

static int
add_root(struct verify *v, const char *text)
{

	if (v->nroot == TRUST_ROOTS) {
		warnx("--root-key: at most %d", TRUST_ROOTS);
		return (-1);
	}
	if (pubkey_parse(&v->root[v->nroot], text, strlen(text)) == -1) {
		warnx("--root-key %s: not a minisign public key", text);
		return (-1);
	}
	v->nroot++;
	return (0);
}

static int
options(struct verify *v, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "root-key", required_argument, NULL, 'k' },
		{ NULL, 0, NULL, 0 }
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c != 'k') {
			(void)command_usage("verify");
			return (-1);
		}
		if (add_root(v, optarg) == -1)
			return (-1);
	}
	if (argc - optind != 2) {
		(void)command_usage("verify");
		return (-1);
	}
	v->set = argv[optind];
	v->what = argv[optind + 1];
	return (command_set_ok(v->set) ? 0 : -1);
}

/* Root keys of master.conf, where it can be read. */
static int
configured_roots(struct verify *v)
{
	struct master_conf *m;
	struct parse_error err;
	size_t i;
	int ret = 0;

	if (v->nroot > 0 || access(v->conf->master, R_OK) == -1)
		return (0);
	if ((m = config_master(v->conf->master, &err)) == NULL) {
		warnx("%s", err.reason);
		return (-1);
	}
	for (i = 0; i < m->root_key.n && ret == 0; i++)
		ret = add_root(v, m->root_key.v[i]);
	v->threshold = (unsigned)m->root_threshold;
	config_master_destroy(&m);
	return (ret);
}

/* Judges the head's signature, and says what was judged. */
static int
judge(struct verify *v)
{
	struct trust *t = NULL;
	struct parse_error err;
	char *text = NULL;
	size_t len;
	int ret = -1;

	if (v->nroot == 0) {
		warnx("%s: the signature is not checked: no root key is known here (--root-key, or %s readable)",
		    v->set, v->conf->master);
		return (0);
	}
	if ((t = trust_new(v->root, v->nroot, v->threshold)) == NULL) {
		warnx("out of memory");
		return (-1);
	}
	if ((text = fetch_document(v->client, v->conf->origin, "trust",
	    TRUST_ALL_MAX, &len, NULL, &err)) == NULL ||
	    trust_update(t, text, len, &err) == -1 ||
	    trust_judge(t, &v->head, clock_real(), &err) != TRUST_OK)
		warnx("%s: %s", v->set, err.reason);
	else
		ret = 0;
	free(text);
	trust_destroy(&t);
	return (ret);
}

static int
get_generation(struct verify *v)
{
	struct parse_error err;
	int got;

	got = fetch_current(v->client, v->conf->origin, v->set, &v->head,
	    NULL, &err);
	if (got == 0) {
		warnx("%s: not published on %s", v->set, v->conf->origin);
		return (-1);
	}
	if (got == -1 || (v->manifest = fetch_manifest(v->client,
	    v->conf->origin, &v->head, &err)) == NULL) {
		warnx("%s: %s", v->set, err.reason);
		return (-1);
	}
	return (judge(v));
}

static bool
same(const struct entry *e, const struct scan_entry *s)
{

	if (s->odd || s->type != e->type)
		return (false);
	if (e->type == ENTRY_LINK)
		return (strcmp(s->link, e->link) == 0);
	return (s->size == e->size && digest_eq(&s->digest, &e->digest));
}

/* Both lists are in the same order; folders follow from what is in them. */
static void
compare(struct verify *v, const struct scan *scan)
{
	const struct scan_entry *s;
	struct entry e;
	size_t i = 0, k = 0, n = manifest_n(v->manifest), m = scan_n(scan);
	int c;

	while (i < n || k < m) {
		if (i < n && manifest_type(v->manifest, i) == ENTRY_DIR) {
			i++;
			continue;
		}
		if (i < n)
			manifest_entry(v->manifest, i, &e);
		s = k < m ? scan_nth(scan, k) : NULL;
		if (s != NULL && s->type == ENTRY_DIR && !s->odd) {
			k++;
			continue;
		}
		c = i == n ? 1 : s == NULL ? -1 : strcmp(e.path, s->path);
		if (c < 0) {
			difference(v, "missing", e.path);
		} else if (c > 0) {
			difference(v, "extra", s->path);
		} else {
			v->compared++;
			if (!same(&e, s))
				difference(v, "differs", e.path);
		}
		i += c <= 0;
		k += c >= 0;
	}
}

static void
show_scan(void *arg, uint64_t files, uint64_t bytes, uint64_t all_files,
    uint64_t all_bytes)
{

	progress_show(arg, files, bytes, all_files, all_bytes);
}

static int
verify_dir(struct verify *v)
{
	const struct scan_conf c = {
		.dir = v->what,
		.lenient = true,
		.cachefd = -1,
		.stop = &command_stop,
		.progress = show_scan,
		.arg = &v->progress
	};
	struct parse_error err;
	struct scan *scan;
	char hex[DIGEST_HEX + 1];

	progress_begin(&v->progress, "reading", 0);
	scan = scan_new(&c, &err);
	progress_end(&v->progress);
	if (scan == NULL) {
		warnx("%s: %s", v->what, err.reason);
		return (-1);
	}
	compare(v, scan);
	scan_destroy(&scan);
	(void)fprintf(stderr,
	    "the same with the base system, times included:\n    curl -s %s/.pkgcast/blob/%s | mtree -p %s\n",
	    v->conf->origin, digest_hex(&v->head.manifest, hex), v->what);
	return (0);
}

/* One path being fetched from the server. */
struct check {
	struct verify	*v;
	size_t		 index;
	struct facts	 facts;
	uint64_t	 got;
	struct sha256	*hash;
	char		*url;
};

struct checks {
	struct verify	*v;
	size_t		 next;
	uint64_t	 bytes, all_files, all_bytes;
};

static int
check_data(void *arg, const void *p, size_t len)
{
	struct check *k = arg;

	if (len > k->facts.size - k->got)
		return (-1);
	k->got += len;
	sha256_add(k->hash, p, len);
	return (0);
}

static bool
check_next(void *arg, struct client_request *q, void **cookie)
{
	struct checks *all = arg;
	struct buf url = BUF_INIT(CLIENT_URL_MAX);
	struct facts facts;
	struct entry e;
	struct check *k;

	while (all->next < manifest_n(all->v->manifest) &&
	    !manifest_facts(all->v->manifest, all->next, &facts))
		all->next++;
	if (all->next == manifest_n(all->v->manifest))
		return (false);
	k = check_alloc(calloc(1, sizeof(*k)));
	k->v = all->v;
	k->facts = facts;
	k->index = all->next++;
	k->hash = check_alloc(sha256_new());
	manifest_entry(all->v->manifest, k->index, &e);
	(void)buf_addf(&url, "%s/", all->v->what);
	(void)client_add_path(&url, all->v->set);
	(void)buf_adds(&url, "/");
	(void)client_add_path(&url, e.path);
	k->url = check_alloc(buf_take(&url, NULL));
	q->method = CLIENT_GET;
	q->url = k->url;
	q->max = UINT64_MAX;
	q->sink = check_data;
	q->arg = k;
	*cookie = k;
	return (true);
}

static int
check_done(void *arg, void *cookie, struct client_answer *a)
{
	struct checks *all = arg;
	struct check *k = cookie;
	struct verify *v = all->v;
	struct entry e;
	struct digest d;
	int ret = 0;

	sha256_end(k->hash, &d);
	manifest_entry(v->manifest, k->index, &e);
	if (a->status == 404 || a->status == 410) {
		difference(v, "missing", e.path);
	} else if (a->refused || (a->status == 200 && (k->got !=
	    k->facts.size || !digest_eq(&d, &k->facts.digest)))) {
		v->compared++;
		difference(v, "differs", e.path);
	} else if (a->status != 200) {
		progress_end(&v->progress);
		if (a->status == 0)
			warnx("%s", a->error);
		else
			warnx("%s: answered with status %u", k->url,
			    a->status);
		v->unread++;
		ret = a->status == 0 && !a->again ? -1 : 0;
	} else
		v->compared++;
	all->bytes += k->got;
	sha256_destroy(&k->hash);
	free(k->url);
	free(k);
	return (ret);
}

static void
check_tick(void *arg)
{
	struct checks *all = arg;

	progress_show(&all->v->progress, all->v->compared, all->bytes,
	    all->all_files, all->all_bytes);
}

/* Whether the server's own head is the current one. */
static int
compare_heads(struct verify *v)
{
	struct parse_error err;
	struct head *h;
	unsigned status;
	int got;

	h = check_alloc(calloc(1, sizeof(*h)));
	got = fetch_current(v->client, v->what, v->set, h, &status, &err);
	if (got == -1 && status == 0) {
		warnx("%s", err.reason);
		free(h);
		return (-1);
	}
	if (got == -1 && status != 404) {
		warnx("%s", err.reason);
		v->differences++;
	} else if (got == -1)
		warnx("%s: has no heads: only its files are compared", v->what);
	else if (got == 0) {
		(void)printf("missing: the set %s\n", v->set);
		v->differences++;
	} else if (!digest_eq(&h->digest, &v->head.digest)) {
		(void)printf("differs: generation %" PRIu64
		    ", the origin has %" PRIu64 "\n", h->generation,
		    v->head.generation);
		v->differences++;
	}
	free(h);
	return (0);
}

static int
verify_url(struct verify *v)
{
	struct checks all = { .v = v };
	const struct client_batch b = {
		.parallel = VERIFY_PARALLEL,
		.next = check_next,
		.done = check_done,
		.tick = check_tick,
		.arg = &all
	};
	struct facts f;
	size_t i;

	if (compare_heads(v) == -1)
		return (-1);
	for (i = 0; i < manifest_n(v->manifest); i++)
		if (manifest_facts(v->manifest, i, &f)) {
			all.all_files++;
			all.all_bytes += f.size;
		}
	progress_begin(&v->progress, "fetching", 0);
	(void)client_run(v->client, &b);
	progress_end(&v->progress);
	return (v->unread > 0 || command_stop ? -1 : 0);
}

static bool
is_url(const char *s)
{

	return (strncmp(s, "http://", 7) == 0 ||
	    strncmp(s, "https://", 8) == 0);
}

/* The server's address, from its own or from that of the set on it. */
static char *
server_of(const char *url, const char *set)
{
	char *s = check_alloc(strdup(url));
	size_t len = strlen(s), n = strlen(set);

	while (len > 0 && s[len - 1] == '/')
		s[--len] = '\0';
	if (len > n && s[len - n - 1] == '/' && strcmp(s + len - n, set) == 0)
		s[len - n - 1] = '\0';
	return (s);
}

static int
verify_all(struct verify *v)
{

	if (configured_roots(v) == -1)
		return (COMMAND_USAGE);
	if ((v->client = client_new(&command_stop)) == NULL) {
		warnx("out of memory");
		return (COMMAND_FAILED);
	}
	if (get_generation(v) == -1 ||
	    (is_url(v->what) ? verify_url(v) : verify_dir(v)) == -1)
		return (command_stop ? COMMAND_INTERRUPTED : COMMAND_FAILED);
	(void)printf("%s: generation %" PRIu64
	    " (%s), %" PRIu64 " paths compared, %" PRIu64 " differences\n",
	    v->set, v->head.generation, v->nroot > 0 ?
	    "signature, trust and digests verified" :
	    "digests verified, signature not", v->compared, v->differences);
	return (v->differences > 0 ? COMMAND_DIFFERS : COMMAND_DONE);
}

int
cmd_verify(const struct pkgcast_conf *c, int argc, char **argv)
{
	struct verify *v;
	char *what = NULL;
	int status;

	if (keys_init() == -1) {
		warnx("libsodium cannot be used");
		return (COMMAND_FAILED);
	}
	v = check_alloc(calloc(1, sizeof(*v)));
	v->conf = c;
	if (options(v, argc, argv) == -1) {
		free(v);
		return (COMMAND_USAGE);
	}
	if (is_url(v->what))
		v->what = what = server_of(v->what, v->set);
	command_catch();
	status = verify_all(v);
	manifest_destroy(&v->manifest);
	client_destroy(&v->client);
	free(what);
	free(v);
	return (status);
}
