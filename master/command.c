/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the commands of pkgcast(1) share: signals, usage, sizes in words.
 * Called by master/pkgcast.c and the cmd_ files, in the program's one thread.
 */

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/command.h"
#include "proto/clock.h"
#include "proto/name.h"

volatile sig_atomic_t command_stop;
bool command_verbose;

static const struct {
	const char *command, *usage;
} usages[] = {
	{ "publish",
	    "publish SET DIR [--withdraw] [--entry GLOB]... [--force]\n"
	    "               [--prepare-wait SECONDS | --now]" },
	{ "rollback",
	    "rollback SET [GENERATION] [--prepare-wait SECONDS | --now]" },
	{ "status", "status [--all] [--json] [--watch[=SECONDS]]" },
	{ "verify", "verify SET DIR|URL [--root-key KEY]..." },
	{ "keys", "keys generate [-W | --no-password] [FILE]" },
	{ "keys", "keys show [FILE]" },
	{ "trust",
	    "trust init [--root FILE]... [--threshold N]\n"
	    "               [--publisher KEY|FILE[:GLOB]]... [--expires DATE|DAYSd]\n"
	    "               [--out FILE] [--new]" },
	{ "trust", "trust restore FILE" },
	{ "trust", "trust show [FILE]" },
	{ "edge", "edge invite NAME [--url URL] [--master HOST]" },
	{ "edge", "edge allow NAME PUBLICKEY [URL]" },
	{ "edge", "edge list" },
	{ "edge", "edge revoke NAME" },
	{ "help", "help [COMMAND]" },
};

static void
caught(int sig)
{

	(void)sig;
	command_stop = 1;
}

void
command_catch(void)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = caught;
	sa.sa_flags = (int)SA_RESETHAND;
	(void)sigemptyset(&sa.sa_mask);
	(void)sigaction(SIGINT, &sa, NULL);
	(void)sigaction(SIGTERM, &sa, NULL);
	(void)sigaction(SIGHUP, &sa, NULL);
	sa.sa_handler = SIG_IGN;
	sa.sa_flags = 0;
	(void)sigaction(SIGPIPE, &sa, NULL);
}

int
command_usage(const char *command)
{
	const char *lead = "usage:";
	size_t i;

	if (command == NULL) {
		(void)fprintf(stderr,
		    "usage: pkgcast [-v] [-c FILE] COMMAND [ARGUMENT]...\n");
		lead = "      ";
	}
	for (i = 0; i < sizeof(usages) / sizeof(usages[0]); i++) {
		if (command != NULL && strcmp(usages[i].command, command) != 0)
			continue;
		(void)fprintf(stderr, "%s pkgcast %s\n", lead,
		    usages[i].usage);
		lead = "      ";
	}
	return (COMMAND_USAGE);
}

bool
command_set_ok(const char *set)
{

	if (set_name_ok(set, strlen(set)))
		return (true);
	warnx("%s: not a set's name (pkgcast-formats(5))", set);
	return (false);
}

void
command_sleep_ms(long ms)
{

	if (!command_stop)
		clock_sleep(ms);
}

char *
command_bytes(unsigned long long n, char out[COMMAND_BYTES])
{
	static const char unit[] = "kMGTPE";
	double v = (double)n;
	size_t i;

	if (n < 1000) {
		(void)snprintf(out, COMMAND_BYTES, "%llu B", n);
		return (out);
	}
	for (i = 0, v /= 1000; v >= 999.95 && unit[i + 1] != '\0'; i++)
		v /= 1000;
	(void)snprintf(out, COMMAND_BYTES, "%.1f %cB", v, unit[i]);
	return (out);
}
