/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pkgcast status: the origin's status document, as a table or as it is; once,
 * or again and again.  Called by master/pkgcast.c.
 */

#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "master/client.h"
#include "master/command.h"
#include "master/fetch.h"
#include "master/status_text.h"
#include "proto/clock.h"
#include "proto/date.h"

#define	WATCH_S		2
#define	WATCH_MAX_S	3600
#define	SILENCE_S	10		/* then it does not answer */
#define	CLEAR		"\033[H\033[2J"	/* ECMA-48: home, erase all */

struct status_options {
	bool		 all, json, watch;
	unsigned	 watch_s;
};

static int
options(struct status_options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "all", no_argument, NULL, 'a' },
		{ "json", no_argument, NULL, 'j' },
		{ "watch", optional_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 }
	};
	unsigned long long v = WATCH_S;
	int c;

	memset(o, 0, sizeof(*o));
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		switch (c) {
		case 'a':
			o->all = true;
			break;
		case 'j':
			o->json = true;
			break;
		case 'w':
			o->watch = true;
			if (optarg != NULL && (parse_u64(optarg,
			    strlen(optarg), WATCH_MAX_S, &v) == -1 || v == 0)) {
				warnx("--watch=%s: not a number of seconds from 1 to %d",
				    optarg, WATCH_MAX_S);
				return (-1);
			}
			break;
		default:
			(void)command_usage("status");
			return (-1);
		}
	o->watch_s = (unsigned)v;
	if (argc == optind)
		return (0);
	(void)command_usage("status");
	return (-1);
}

/* The document itself; where it is one of many, in one line. */
static int
show_json(const char *text, size_t len, bool one_line)
{
	json_t *j;
	int ret;

	if (!one_line) {
		ret = fwrite(text, 1, len, stdout) == len ? 0 : -1;
		if (ret == 0 && len > 0 && text[len - 1] != '\n')
			ret = putchar('\n') == EOF ? -1 : 0;
		return (ret);
	}
	if ((j = json_loadb(text, len, 0, NULL)) == NULL)
		return (-1);
	ret = json_dumpf(j, stdout, JSON_COMPACT);
	if (putchar('\n') == EOF)
		ret = -1;
	json_decref(j);
	return (ret);
}

static int
show_table(const char *text, size_t len, bool all)
{
	json_t *j;
	int ret;

	if ((j = json_loadb(text, len, 0, NULL)) == NULL)
		return (-1);
	ret = status_text(j, all);
	json_decref(j);
	return (ret);
}

/* Above each table of a watch: of when it is, in place of the one before. */
static void
show_time(const char *origin)
{
	static bool again;
	char date[DATE_ISO];

	if (isatty(STDOUT_FILENO) == 1)
		(void)printf(CLEAR);
	else if (again)
		(void)printf("\n");
	again = true;
	(void)printf("%s  %s\n\n", date_iso(clock_real(), date), origin);
}

/* Once.  A failure is told to standard error, but on a terminal that shows one
 * table after the other: there it takes the table's place. */
static int
status_once(const struct pkgcast_conf *c, struct client *client,
    const struct status_options *o)
{
	struct parse_error err = { .reason = "" };
	size_t len;
	char *text;
	int ret = -1;

	text = fetch_document(client, c->origin, "status", FETCH_STATUS_MAX,
	    &len, NULL, &err);
	if (command_stop && o->watch)
		ret = 0;
	else {
		if (o->watch && !o->json)
			show_time(c->origin);
		if (text != NULL && (ret = o->json ?
		    show_json(text, len, o->watch) :
		    show_table(text, len, o->all)) == -1)
			(void)parse_fail(&err, 0, "%s/.pkgcast/status: not "
			    "the status of a master", c->origin);
	}
	free(text);
	if (ret == -1 && o->watch && !o->json)
		(void)printf("no answer: %s\n", err.reason);
	else if (ret == -1)
		warnx("%s", err.reason);
	return (ret);
}

static int
watch(const struct pkgcast_conf *c, struct client *client,
    const struct status_options *o)
{

	command_catch();
	while (!command_stop) {
		(void)status_once(c, client, o);
		if (fflush(stdout) == EOF || ferror(stdout) != 0) {
			warn("standard output");
			return (COMMAND_FAILED);
		}
		command_sleep_ms((long)o->watch_s * 1000);
	}
	return (COMMAND_DONE);
}

int
cmd_status(const struct pkgcast_conf *c, int argc, char **argv)
{
	struct status_options o;
	struct client *client;
	int status;

	if (options(&o, argc, argv) == -1)
		return (COMMAND_USAGE);
	if ((client = client_new(&command_stop)) == NULL) {
		warnx("out of memory");
		return (COMMAND_FAILED);
	}
	client_set_silence(client, SILENCE_S);
	if (o.watch)
		status = watch(c, client, &o);
	else
		status = status_once(c, client, &o) == 0 ? COMMAND_DONE :
		    COMMAND_FAILED;
	client_destroy(&client);
	return (status);
}
