/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pkgcast publish: a folder becomes the next generation of a set.  Called by
 * master/pkgcast.c.
 */

#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/command.h"
#include "master/progress.h"
#include "master/release.h"
#include "master/scan.h"
#include "proto/clock.h"

struct publish_options {
	const char	*set, *dir;
	struct globs	 globs;
	bool		 withdraw, force;
	unsigned	 prepare_wait;
};

static int
add_glob(struct globs *g, const char *glob)
{

	if (!entry_glob_ok(glob, strlen(glob))) {
		warnx("--entry %s: not a glob of a path (only * and ? are special; quote it for the shell)",
		    glob);
		return (-1);
	}
	if (g->n == HEAD_ENTRIES) {
		warnx("--entry: at most %d", HEAD_ENTRIES);
		return (-1);
	}
	g->v[g->n++] = glob;
	return (0);
}

static int
options(struct publish_options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "withdraw", no_argument, NULL, 'w' },
		{ "entry", required_argument, NULL, 'e' },
		{ "force", no_argument, NULL, 'f' },
		{ "prepare-wait", required_argument, NULL, 'p' },
		{ "now", no_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 }
	};
	int c;

	memset(o, 0, sizeof(*o));
	o->prepare_wait = PREPARE_WAIT_S;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		switch (c) {
		case 'w':
			o->withdraw = true;
			break;
		case 'e':
			if (add_glob(&o->globs, optarg) == -1)
				return (-1);
			break;
		case 'f':
			o->force = true;
			break;
		case 'p':
			if (release_seconds(optarg, &o->prepare_wait) == -1)
				return (-1);
			break;
		case 'n':
			o->prepare_wait = 0;
			break;
		default:
			(void)command_usage("publish");
			return (-1);
		}
	if (argc - optind != 2) {
		(void)command_usage("publish");
		return (-1);
	}
	o->set = argv[optind];
	o->dir = argv[optind + 1];
	return (command_set_ok(o->set) ? 0 : -1);
}

static void
show_scan(void *arg, uint64_t files, uint64_t bytes, uint64_t all_files,
    uint64_t all_bytes)
{

	progress_show(arg, files, bytes, all_files, all_bytes);
}

static struct scan *
scan_dir(const struct publish_options *o, struct record *record)
{
	struct progress progress;
	struct parse_error err;
	const struct scan_conf c = {
		.dir = o->dir,
		.cachefd = record_scan_dir(record),
		.cache = record_scan_name(record, o->dir),
		.settle_ms = SCAN_SETTLE_MS,
		.stop = &command_stop,
		.progress = show_scan,
		.arg = &progress
	};
	struct scan *s;

	progress_begin(&progress, "reading", 0);
	s = scan_new(&c, &err);
	progress_end(&progress);
	if (s == NULL)
		warnx("%s: %s", o->dir, command_stop ?
		    "interrupted: repeat the command" : err.reason);
	else if (command_verbose)
		(void)fprintf(stderr, "%s: %" PRIu64 " files read\n", o->dir,
		    scan_nread(s));
	return (s);
}

static void
recognise(const struct content *content, const char *set, struct globs *g)
{
	size_t left = 0;

	if (g->n > 0)
		return;
	compose_globs(content, g, &left);
	if (left > 0)
		warnx("%s: more than %d kinds of entry paths: name them with --entry",
		    set, HEAD_ENTRIES);
	if (g->n == 0 && command_verbose)
		warnx("%s: no repository recognised: no path is an entry path (--entry)",
		    set);
}

int
cmd_publish(const struct pkgcast_conf *c, int argc, char **argv)
{
	struct publish_options o;
	struct client *client = NULL;
	struct record *record = NULL;
	struct seckey *key = NULL;
	struct scan *scan = NULL;
	struct content *content = NULL;
	int64_t began_ms;
	int status = COMMAND_FAILED;

	if (options(&o, argc, argv) == -1)
		return (COMMAND_USAGE);
	command_catch();
	if (release_open(c, o.set, &client, &record, &key) == -1)
		goto out;
	began_ms = clock_boot_ms();	/* a password was typed before */
	if ((scan = scan_dir(&o, record)) == NULL) {
		if (command_stop)
			status = COMMAND_INTERRUPTED;
		goto out;
	}
	if ((content = content_of_scan(scan)) == NULL) {
		warnx("out of memory");
		goto out;
	}
	recognise(content, o.set, &o.globs);
	status = release_run(&(const struct release){
		.conf = c, .client = client, .record = record, .key = key,
		.set = o.set, .content = content, .scan = scan,
		.globs = o.globs, .withdraw = o.withdraw, .force = o.force,
		.prepare_wait = o.prepare_wait, .began_ms = began_ms,
		.read_ms = clock_boot_ms()
	});
out:
	content_destroy(&content);
	scan_destroy(&scan);
	seckey_destroy(&key);
	record_close(&record);
	client_destroy(&client);
	return (status);
}
