/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pkgcast edge: which mirror hosts may connect to the master.  Works on the
 * master's edges folder, which the master reads again by itself.  Called by
 * master/pkgcast.c.
 */

#include <sys/stat.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keys/cert.h"
#include "keys/minisign.h"
#include "master/command.h"
#include "master/edge_leases.h"
#include "proto/daemon.h"
#include "proto/fd.h"

#define	MASTER_CERT	"master.cert"
#define	CONFIG_TEXT_MAX	65536
#define	HOST_MAX	256
#define	FILE_MAX	4096

static int
edge_path(const struct master_conf *m, const char *name, char out[FILE_MAX])
{
	int n;

	n = snprintf(out, FILE_MAX, "%s/%s", m->edges, name);
	if (n > 0 && n < FILE_MAX)
		return (0);
	warnx("%s: too long a path", m->edges);
	return (-1);
}

/* The group that the master reads with: its state folder's. */
static void
give_to_master(const struct master_conf *m, const char *path)
{
	struct stat st;

	if (geteuid() == 0 && stat(m->state, &st) == 0 &&
	    chown(path, (uid_t)-1, st.st_gid) == -1)
		warn("%s: the master may not be able to read it", path);
}

static int
edges_folder(const struct master_conf *m)
{
	struct stat st;

	if (stat(m->edges, &st) == 0)
		return (0);
	if (fd_mkdirs(AT_FDCWD, m->edges, 0750) == -1) {
		warn("%s", m->edges);
		return (-1);
	}
	give_to_master(m, m->edges);
	return (0);
}

/* The master takes one file for a key, so a second one would be for nothing. */
static int
check_unused(const struct master_conf *m, const char *key)
{
	const struct edge_entry *e = NULL;
	struct edges *edges;

	if ((edges = edges_read(m->edges, NULL, NULL)) == NULL) {
		warn("%s", m->edges);
		return (-1);
	}
	if ((e = edges_by_key(edges, key)) != NULL)
		warnx("%s: this is the key of edge %s already; every edge needs its own",
		    key, e->name);
	edges_destroy(&edges);
	return (e == NULL ? 0 : -1);
}

static int
write_edge(const struct master_conf *m, const struct cert *c)
{
	char path[FILE_MAX];
	struct cert public = *c;
	struct stat st;
	int ret;

	if (edge_path(m, c->name, path) == -1 || edges_folder(m) == -1)
		return (-1);
	if (lstat(path, &st) == 0) {
		warnx("%s: there is such an edge already; first: pkgcast edge revoke %s",
		    path, c->name);
		return (-1);
	}
	if (check_unused(m, c->public_key) == -1)
		return (-1);
	explicit_bzero(public.secret_key, sizeof(public.secret_key));
	if ((ret = cert_write(&public, path, 0640)) == -1)
		warn("%s", path);
	else
		give_to_master(m, path);
	return (ret);
}

static int
check_name(const char *name, const char *url)
{
	struct cert c;

	if (!edge_name_ok(name)) {
		warnx("%s: not a name for an edge (A-Z a-z 0-9 . _ -, at most 64)",
		    name);
		return (-1);
	}
	if (url != NULL && (strlen(url) >= sizeof(c.url) ||
	    !config_url_ok(url))) {
		warnx("%s: not an http:// or https:// URL without user, password, query",
		    url);
		return (-1);
	}
	return (0);
}

/* The master's own certificate, made when there is none. */
static int
master_cert(const struct master_conf *m, struct cert *c)
{
	char path[FILE_MAX], secret[FILE_MAX + 8];
	struct parse_error err;
	struct stat st;
	int n;

	n = snprintf(path, sizeof(path), "%s/%s", m->state, MASTER_CERT);
	if (n < 0 || (size_t)n >= sizeof(path)) {
		warnx("%s: too long a path", m->state);
		return (-1);
	}
	(void)snprintf(secret, sizeof(secret), "%s_secret", path);
	if (lstat(secret, &st) == 0) {
		if (cert_read(c, secret, &err) == 0)
			return (0);
		warnx("%s", err.reason);
		return (-1);
	}
	if (errno != ENOENT) {
		warn("%s", secret);
		return (-1);
	}
	if (stat(m->state, &st) == -1 &&
	    (fd_mkdirs(AT_FDCWD, m->state, 0750) == -1 ||
	    daemon_own(m->state, m->user) == -1 ||
	    stat(m->state, &st) == -1)) {
		warn("%s", m->state);
		return (-1);
	}
	if (cert_new(c) == -1 || cert_write(c, path, 0644) == -1 ||
	    (geteuid() == 0 && (chown(secret, st.st_uid, st.st_gid) == -1 ||
	    chown(path, st.st_uid, st.st_gid) == -1))) {
		warn("%s", path);
		return (-1);
	}
	(void)fprintf(stderr, "made the master's certificate %s\n", secret);
	return (0);
}

/* The host of a URL, brackets of an IPv6 address included. */
static int
host_of(const char *url, char out[HOST_MAX])
{
	const char *p = strstr(url, "://");
	size_t n;

	if (p == NULL)
		return (-1);
	p += 3;
	n = *p == '[' ? strcspn(p, "]") + 1 : strcspn(p, ":/");
	if (n == 0 || n >= HOST_MAX || n > strlen(p))
		return (-1);
	memcpy(out, p, n);
	out[n] = '\0';
	return (0);
}

/* ":PORT" of the end of an address; "" without one. */
static const char *
port_of(const char *address)
{
	const char *p = strrchr(address, ':');

	return (p == NULL ? "" : p);
}

static int
master_host(const struct master_conf *m, const char *given,
    char host[HOST_MAX], struct buf *url)
{
	const char *port;

	if (given == NULL && (m->public_url == NULL ||
	    host_of(m->public_url, host) == -1)) {
		warnx("which host is the master? Give --master HOST, or set http/public in master.conf");
		return (-1);
	}
	if (given != NULL && (given[0] == '\0' ||
	    strlen(given) >= HOST_MAX - 2 ||
	    strpbrk(given, "/\"\\ \t") != NULL)) {
		warnx("--master %s: not the name of a host", given);
		return (-1);
	}
	if (given != NULL)
		(void)snprintf(host, HOST_MAX, strchr(given, ':') != NULL &&
		    given[0] != '[' ? "[%s]" : "%s", given);
	if (m->public_url != NULL && given == NULL) {
		(void)buf_adds(url, m->public_url);
	} else {
		port = m->http_listen.n > 0 ? port_of(m->http_listen.v[0]) : "";
		(void)buf_addf(url, "http://%s%s", host,
		    strcmp(port, ":80") == 0 ? "" : port);
	}
	return (url->failed ? -1 : 0);
}

static void
write_config(struct buf *b, const struct master_conf *m, const struct cert *e,
    const struct cert *master, const char *host, const char *upstream)
{
	size_t i;

	(void)buf_addf(b, "# edge.conf for %s, made by pkgcast edge invite; see pkgcast.conf(5)\n",
	    e->name);
	(void)buf_addf(b, "name = \"%s\"\n", e->name);
	if (e->url[0] != '\0')
		(void)buf_addf(b, "public = \"%s\"\n", e->url);
	for (i = 0; i < m->root_key.n; i++)
		(void)buf_addf(b, "root-key = \"%s\"\n", m->root_key.v[i]);
	if (m->root_threshold > 0)
		(void)buf_addf(b, "root-threshold = \"%llu\"\n",
		    (unsigned long long)m->root_threshold);
	(void)buf_adds(b, "stale = \"serve\"\n"
	    "http\n"
	    "    listen = \"[::]:80\"\n"
	    "cache\n"
	    "    dir = \"" CONFIG_CACHE "\"\n"
	    "    cache-size = \"20G\"\n");
	(void)buf_addf(b, "master\n"
	    "    announce = \"tcp://%s%s\"\n"
	    "    lease = \"tcp://%s%s\"\n"
	    "    public-key = \"%s\"\n",
	    host, port_of(m->announce), host, port_of(m->lease),
	    master->public_key);
	(void)buf_addf(b, "upstream\n"
	    "    url = \"%s\"\n"
	    "    kind = \"master\"\n", upstream);
	(void)buf_addf(b, "curve\n"
	    "    public-key = \"%s\"\n"
	    "    secret-key = \"%s\"\n", e->public_key, e->secret_key);
}

/* A file that the shell made for the output is no longer readable by all: the
 * edge would refuse a secret in it. */
static void
close_output_to_others(void)
{
	struct stat st;

	if (fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode) &&
	    (st.st_mode & S_IRWXO) != 0 &&
	    fchmod(STDOUT_FILENO, st.st_mode & 07770) == -1)
		warn("the configuration holds a secret; chmod o-rwx it");
}

static int
print_config(const struct master_conf *m, const struct cert *e,
    const struct cert *master, const char *host, const char *upstream)
{
	struct buf b = BUF_INIT(CONFIG_TEXT_MAX);
	struct parse_error err;
	struct edge_conf *c = NULL;
	int ret = -1;

	close_output_to_others();
	write_config(&b, m, e, master, host, upstream);
	if (b.failed || (c = config_edge_text("edge.conf", b.p, b.len,
	    &err)) == NULL)
		warnx("no good configuration would come out: %s", b.failed ?
		    "out of memory" : err.reason);
	else if (write_edge(m, e) == 0)
		ret = 0;
	if (ret == 0 && (fwrite(b.p, 1, b.len, stdout) != b.len ||
	    fflush(stdout) == EOF)) {
		warn("standard output");
		ret = -1;
	}
	config_edge_destroy(&c);
	if (b.p != NULL)
		explicit_bzero(b.p, b.len);
	buf_free(&b);
	return (ret);
}

static int
invite(const struct master_conf *m, const char *name, const char *url,
    const char *given)
{
	struct cert e, master;
	struct buf upstream = BUF_INIT(1024);
	char host[HOST_MAX];
	int ret = COMMAND_FAILED;

	memset(&e, 0, sizeof(e));
	memset(&master, 0, sizeof(master));
	if (check_name(name, url) == -1)
		return (COMMAND_USAGE);
	if (master_host(m, given, host, &upstream) == -1) {
		ret = COMMAND_USAGE;
		goto out;
	}
	if (master_cert(m, &master) == -1)
		goto out;
	if (cert_new(&e) == -1) {
		warn("cannot make a key");
		goto out;
	}
	memcpy(e.name, name, strlen(name) + 1);
	if (url != NULL)
		memcpy(e.url, url, strlen(url) + 1);
	if (print_config(m, &e, &master, host, upstream.p) == -1)
		goto out;
	(void)fprintf(stderr,
	    "%s is allowed. The configuration that was printed holds its secret key: copy it to %s/edge.conf there (0640, root:pkgcast), and keep no other copy.\n",
	    name, CONFIG_DIR);
	ret = COMMAND_DONE;
out:
	explicit_bzero(&e, sizeof(e));
	explicit_bzero(&master, sizeof(master));
	buf_free(&upstream);
	return (ret);
}

static int
cmd_invite(const struct master_conf *m, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "url", required_argument, NULL, 'u' },
		{ "master", required_argument, NULL, 'm' },
		{ NULL, 0, NULL, 0 }
	};
	const char *url = NULL, *host = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		switch (c) {
		case 'u':
			url = optarg;
			break;
		case 'm':
			host = optarg;
			break;
		default:
			return (command_usage("edge"));
		}
	if (argc - optind != 1)
		return (command_usage("edge"));
	return (invite(m, argv[optind], url, host));
}

static int
cmd_allow(const struct master_conf *m, int argc, char **argv)
{
	struct cert e;
	const char *url = argc == 4 ? argv[3] : NULL;

	if (argc < 3 || argc > 4)
		return (command_usage("edge"));
	if (check_name(argv[1], url) == -1)
		return (COMMAND_USAGE);
	if (strlen(argv[2]) != CURVE_TEXT - 1 || !curve_key_ok(argv[2])) {
		warnx("%s: not a public key of 40 digits (Z85; quote it for the shell)",
		    argv[2]);
		return (COMMAND_USAGE);
	}
	memset(&e, 0, sizeof(e));
	memcpy(e.name, argv[1], strlen(argv[1]) + 1);
	memcpy(e.public_key, argv[2], sizeof(e.public_key));
	if (url != NULL)
		memcpy(e.url, url, strlen(url) + 1);
	if (write_edge(m, &e) == -1)
		return (COMMAND_FAILED);
	(void)printf("%s is allowed\n", argv[1]);
	return (COMMAND_DONE);
}

static void
bad_file(void *arg, const char *file, const char *why)
{

	(void)arg;
	warnx("%s: %s", file, why);
}

static int
cmd_list(const struct pkgcast_conf *conf, const struct master_conf *m,
    int argc)
{
	const struct edge_entry *e;
	struct edge_leases *leases;
	struct edges *edges;
	size_t i;

	if (argc != 1)
		return (command_usage("edge"));
	if ((edges = edges_read(m->edges, bad_file, NULL)) == NULL &&
	    errno != ENOENT) {
		warn("%s", m->edges);
		return (COMMAND_FAILED);
	}
	if (edges == NULL || edges_n(edges) == 0) {
		(void)printf("no edge is allowed yet (pkgcast edge invite)\n");
		edges_destroy(&edges);
		return (COMMAND_DONE);
	}
	leases = edge_leases_get(conf->origin);
	(void)printf("%-20s %-9s %s\n", "EDGE", "LEASE", "URL");
	for (i = 0; i < edges_n(edges); i++) {
		e = edges_nth(edges, i);
		(void)printf("%-20s %-9s %s\n", e->name,
		    edge_leases_word(leases, e->name),
		    e->url[0] == '\0' ? "-" : e->url);
	}
	if (leases == NULL)
		warnx("%s does not answer: leases are not known",
		    conf->origin);
	edge_leases_destroy(&leases);
	edges_destroy(&edges);
	return (COMMAND_DONE);
}

static int
cmd_revoke(const struct master_conf *m, int argc, char **argv)
{
	char path[FILE_MAX];

	if (argc != 2)
		return (command_usage("edge"));
	if (check_name(argv[1], NULL) == -1)
		return (COMMAND_USAGE);
	if (edge_path(m, argv[1], path) == -1)
		return (COMMAND_FAILED);
	if (unlink(path) == -1) {
		if (errno == ENOENT)
			warnx("%s: no such edge (pkgcast edge list)", argv[1]);
		else
			warn("%s", path);
		return (COMMAND_FAILED);
	}
	(void)printf("%s is revoked; its lease, if any, runs out within %llu s\n",
	    argv[1], (unsigned long long)m->ttl);
	return (COMMAND_DONE);
}

static bool
known(const char *verb)
{

	return (strcmp(verb, "invite") == 0 || strcmp(verb, "allow") == 0 ||
	    strcmp(verb, "list") == 0 || strcmp(verb, "revoke") == 0);
}

int
cmd_edge(const struct pkgcast_conf *c, int argc, char **argv)
{
	struct parse_error err;
	struct master_conf *m;
	int status;

	if (argc < 2 || !known(argv[1]))
		return (command_usage("edge"));
	if (keys_init() == -1) {
		warnx("libsodium cannot be used");
		return (COMMAND_FAILED);
	}
	if ((m = config_master(c->master, &err)) == NULL) {
		warnx("%s", err.reason);
		if (access(c->master, F_OK) == -1)
			warnx("the edge commands work on the master's host; \"master\" in pkgcast.conf says where its configuration is");
		return (COMMAND_USAGE);
	}
	argc--;
	argv++;
	if (strcmp(argv[0], "invite") == 0)
		status = cmd_invite(m, argc, argv);
	else if (strcmp(argv[0], "allow") == 0)
		status = cmd_allow(m, argc, argv);
	else if (strcmp(argv[0], "list") == 0)
		status = cmd_list(c, m, argc);
	else
		status = cmd_revoke(m, argc, argv);
	config_master_destroy(&m);
	return (status);
}
