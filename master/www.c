/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The folder www/, which a static HTTP server can serve as a full upstream for
 * edges that poll.  Everything in it is derived.  Called at start and after
 * commits, by one thread at a time.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/www.h"
#include "proto/fd.h"

#define	WWW_PATH	(SET_NAME_MAX + 2 * DIGEST_HEX)

/* Makes path a symbolic link to target; fsync is not needed, since the start
 * makes it again. */
static int
make_link(int statefd, const char *target, const char *path)
{
	char is[WWW_PATH];
	ssize_t n;

	n = readlinkat(statefd, path, is, sizeof(is));
	if (n >= 0 && (size_t)n == strlen(target) &&
	    memcmp(is, target, (size_t)n) == 0)
		return (0);
	if ((n >= 0 || errno == EINVAL) && fd_remove_tree(statefd, path) == -1)
		return (-1);
	return (symlinkat(target, statefd, path));
}

int
www_init(int statefd)
{

	if (fd_mkdirs(statefd, "www/.pkgcast/head", 0755) == -1)
		return (-1);
	return (make_link(statefd, "../../blob", "www/.pkgcast/blob"));
}

int
www_set(int statefd, const char *set)
{
	struct buf target = BUF_INIT(WWW_PATH);
	char path[WWW_PATH], *slash;
	const char *p;
	int ret = -1;

	(void)snprintf(path, sizeof(path), "www/%s", set);
	slash = strrchr(path, '/');
	*slash = '\0';
	if (fd_mkdirs(statefd, path, 0755) == -1)
		return (-1);
	*slash = '/';
	for (p = set; p != NULL; p = strchr(p + 1, '/'))
		(void)buf_adds(&target, "../");
	(void)buf_addf(&target, "tree/%s/current", set);
	if (!target.failed)
		ret = make_link(statefd, target.p, path);
	buf_free(&target);
	return (ret);
}

/* Unless it is so already: a start needs no room on the disk. */
static int
put(int statefd, const char *path, const char *text, size_t len)
{
	char *is;
	size_t n;
	bool same;

	if ((is = fd_slurp(statefd, path, len, &n)) != NULL) {
		same = n == len && memcmp(is, text, len) == 0;
		free(is);
		if (same)
			return (0);
	}
	return (fd_replace(statefd, path, text, len, 0644));
}

int
www_heads(int statefd, struct site *site)
{
	struct buf all = BUF_INIT(HEADS_MAX);
	const struct site_view *v = site_enter(site);
	const struct head *h;
	size_t i;
	int ret;

	for (i = 0; i < site_nsets(v); i++) {
		h = snapshot_head(site_nth(v, i)->current);
		(void)buf_add(&all, h->text, h->len);
	}
	site_leave(site);
	if (all.failed) {
		buf_free(&all);
		errno = ENOMEM;
		return (-1);
	}
	ret = put(statefd, "www/.pkgcast/heads", all.p == NULL ? "" : all.p,
	    all.len);
	buf_free(&all);
	return (ret);
}

static void
head_path(char out[WWW_PATH], const struct digest *d)
{
	char hex[DIGEST_HEX + 1];

	(void)snprintf(out, WWW_PATH, "www/.pkgcast/head/%s",
	    digest_hex(d, hex));
}

int
www_head(int statefd, const struct head *h)
{
	char path[WWW_PATH];

	head_path(path, &h->digest);
	return (put(statefd, path, h->text, h->len));
}

void
www_head_remove(int statefd, const struct digest *d)
{
	char path[WWW_PATH];

	head_path(path, d);
	(void)unlinkat(statefd, path, 0);
}

int
www_head_tidy(int statefd, struct site *site)
{
	struct dirent *e;
	struct digest d;
	DIR *dir;
	bool kept;
	int fd;

	if ((fd = fd_open_dir(statefd, "www/.pkgcast/head")) == -1)
		return (-1);
	if ((dir = fdopendir(fd)) == NULL) {
		fd_close(&fd);
		return (-1);
	}
	while ((e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		kept = false;
		if (digest_parse(&d, e->d_name, strlen(e->d_name)) == 0) {
			kept = site_find_head(site_enter(site), &d) != NULL;
			site_leave(site);
		}
		if (!kept)
			(void)unlinkat(fd, e->d_name, 0);
	}
	(void)closedir(dir);
	return (0);
}

int
www_trust(int statefd, struct trust *t)
{
	char *text;
	size_t len;
	int ret;

	if ((text = trust_text(t, &len)) == NULL)
		return (-1);
	ret = put(statefd, "www/.pkgcast/trust", text, len);
	free(text);
	return (ret);
}
