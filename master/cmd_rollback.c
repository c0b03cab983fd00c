/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pkgcast rollback: an earlier generation's entries become the next generation
 * of a set; only manifest, chunk table and head are sent.  Called by
 * master/pkgcast.c.
 */

#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/command.h"
#include "master/fetch.h"
#include "master/release.h"
#include "proto/clock.h"

struct rollback_options {
	const char	*set;
	uint64_t	 generation;		/* 0: the one before */
	unsigned	 prepare_wait;
};

static int
options(struct rollback_options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "prepare-wait", required_argument, NULL, 'p' },
		{ "now", no_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 }
	};
	unsigned long long v;
	int c;

	memset(o, 0, sizeof(*o));
	o->prepare_wait = PREPARE_WAIT_S;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		switch (c) {
		case 'p':
			if (release_seconds(optarg, &o->prepare_wait) == -1)
				return (-1);
			break;
		case 'n':
			o->prepare_wait = 0;
			break;
		default:
			(void)command_usage("rollback");
			return (-1);
		}
	if (argc - optind < 1 || argc - optind > 2) {
		(void)command_usage("rollback");
		return (-1);
	}
	o->set = argv[optind];
	if (!command_set_ok(o->set))
		return (-1);
	if (argc - optind == 2) {
		if (parse_u64(argv[optind + 1], strlen(argv[optind + 1]),
		    HEAD_GENERATION_MAX, &v) == -1 || v == 0) {
			warnx("%s: not a generation's number",
			    argv[optind + 1]);
			return (-1);
		}
		o->generation = v;
	}
	return (0);
}

/* The current head was made by this very command, which was interrupted before
 * it could say so: going back once more would undo it. */
static bool
done_before(const struct record *record, const struct rollback_options *o,
    const struct head *current)
{
	struct draft *p;
	bool ret;

	if (o->generation != 0 || (p = calloc(1, sizeof(*p))) == NULL)
		return (false);
	ret = record_load(record, p) && p->rollback &&
	    digest_eq(&p->head.digest, &current->digest);
	draft_free(p);
	free(p);
	return (ret);
}

/* Walks `previous` from the current head down to the one that is wanted. */
static int
find_head(struct client *client, const char *origin,
    const struct record *record, const struct rollback_options *o,
    struct head *h, struct parse_error *err)
{
	uint64_t current, oldest;
	struct digest next;
	int got;

	if ((got = fetch_current(client, origin, o->set, h, NULL, err)) == -1)
		return (-1);
	if (got == 0)
		return (parse_fail(err, 0, "nothing is published yet"));
	if (done_before(record, o, h))
		return (0);
	current = h->generation;
	oldest = h->oldest;
	if (o->generation >= current)
		return (parse_fail(err, 0, o->generation == current ?
		    "generation %" PRIu64 " is the current one" :
		    "there is no generation %" PRIu64, o->generation));
	do {
		if (!h->has_previous || h->generation <= oldest ||
		    h->generation < o->generation)
			return (parse_fail(err, 0,
			    "there is no earlier generation%s",
			    o->generation == 0 ? " to go back to" :
			    " of that number"));
		next = h->previous;
		if (fetch_head(client, origin, &next, h, err) == -1)
			return (-1);
		if (strcmp(h->set, o->set) != 0 || h->generation >= current)
			return (parse_fail(err, 0,
			    "the heads on the master do not follow each other"));
	} while (o->generation != 0 && h->generation > o->generation);
	if (h->generation < oldest || (o->generation != 0 &&
	    h->generation != o->generation))
		return (parse_fail(err, 0,
		    "that generation was withdrawn, or never published"));
	return (0);
}

static int
roll(const struct pkgcast_conf *c, const struct rollback_options *o,
    struct client *client, struct record *record, const struct seckey *key)
{
	static char glob[HEAD_ENTRIES][PATH_BYTES_MAX + 1];
	struct release r = {
		.conf = c, .client = client, .record = record, .key = key,
		.set = o->set,
		.force = true, .rollback = true,
		.prepare_wait = o->prepare_wait, .began_ms = clock_boot_ms()
	};
	struct parse_error err;
	struct snapshot *earlier = NULL;
	struct content *content = NULL;
	struct head *h;
	size_t i;
	int status = COMMAND_FAILED;

	if ((h = calloc(1, sizeof(*h))) == NULL)
		return (warnx("out of memory"), COMMAND_FAILED);
	if (find_head(client, c->origin, record, o, h, &err) == -1 ||
	    (earlier = fetch_snapshot(client, c->origin, h, &err)) == NULL) {
		warnx("%s: %s", o->set, err.reason);
		goto out;
	}
	if ((content = content_of_snapshot(earlier)) == NULL) {
		warnx("out of memory");
		goto out;
	}
	(void)printf("%s: back to what generation %" PRIu64 " held\n", o->set,
	    h->generation);
	(void)fflush(stdout);
	for (i = 0; i < h->nentry; i++)
		r.globs.v[i] = head_entry(h, i, glob[i], sizeof(glob[i]));
	r.globs.n = h->nentry;
	r.content = content;
	r.read_ms = clock_boot_ms();
	status = release_run(&r);
out:
	content_destroy(&content);
	if (earlier != NULL)
		snapshot_unref(&earlier);
	free(h);
	return (status);
}

int
cmd_rollback(const struct pkgcast_conf *c, int argc, char **argv)
{
	struct rollback_options o;
	struct client *client = NULL;
	struct record *record = NULL;
	struct seckey *key = NULL;
	int status = COMMAND_FAILED;

	if (options(&o, argc, argv) == -1)
		return (COMMAND_USAGE);
	command_catch();
	if (release_open(c, o.set, &client, &record, &key) == 0)
		status = roll(c, &o, client, record, key);
	if (command_stop && status == COMMAND_FAILED)
		status = COMMAND_INTERRUPTED;
	seckey_destroy(&key);
	record_close(&record);
	client_destroy(&client);
	return (status);
}
