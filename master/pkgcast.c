/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pkgcast: the operators' command.  Options, configuration, and the choice of
 * the command; what these do is in the cmd_ files of master/ and keys/.
 */

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keys/cmd_keys.h"
#include "keys/cmd_trust.h"
#include "master/command.h"
#include "proto/check.h"
#include "proto/log.h"

#define	DEFAULT_FILE	CONFIG_DIR "/pkgcast.conf"

static const struct {
	const char *name;
	int (*run)(const struct pkgcast_conf *c, int argc, char **argv);
} commands[] = {
	{ "publish", cmd_publish },
	{ "rollback", cmd_rollback },
	{ "status", cmd_status },
	{ "verify", cmd_verify },
	{ "keys", cmd_keys },
	{ "trust", cmd_trust },
	{ "edge", cmd_edge },
};
#define	COMMANDS	(sizeof(commands) / sizeof(commands[0]))

static int
help(int argc, char **argv)
{
	size_t i;

	if (argc > 2)
		return (command_usage("help"));
	for (i = 0; argc > 1 && i < COMMANDS; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			break;
	if (argc > 1 && i == COMMANDS && strcmp(argv[1], "help") != 0) {
		warnx("%s: no such command", argv[1]);
		return (command_usage(NULL));
	}
	/* Asked for: standard output, and no error. */
	if (dup2(STDOUT_FILENO, STDERR_FILENO) == -1)
		return (COMMAND_FAILED);
	(void)command_usage(argc > 1 ? argv[1] : NULL);
	(void)printf("see pkgcast(1)\n");
	return (COMMAND_DONE);
}

/* What a file that says nothing would give. */
static struct pkgcast_conf *
defaults(void)
{
	struct pkgcast_conf *c = check_alloc(calloc(1, sizeof(*c)));
	const char *value;

#define	TAKE(kind, section, key, field, def, restart) \
	if ((value = (def)) != NULL) \
		c->field = check_alloc(strdup(value));
	PKGCAST_KEYS(TAKE)
#undef TAKE
	return (c);
}

/* The file that was named must be there; the default one need not. */
static struct pkgcast_conf *
configuration(const char *file)
{
	struct parse_error err;
	struct pkgcast_conf *c;

	if (file == NULL) {
		file = DEFAULT_FILE;
		if (access(file, F_OK) == -1 && errno == ENOENT)
			return (defaults());
	}
	if ((c = config_pkgcast(file, &err)) == NULL)
		warnx("%s", err.reason);
	return (c);
}

static int
run(const char *file, int argc, char **argv)
{
	struct pkgcast_conf *c;
	size_t i;
	int status;

	for (i = 0; i < COMMANDS; i++)
		if (strcmp(argv[0], commands[i].name) == 0)
			break;
	if (i == COMMANDS) {
		warnx("%s: no such command", argv[0]);
		return (command_usage(NULL));
	}
	if ((c = configuration(file)) == NULL)
		return (COMMAND_USAGE);
	status = commands[i].run(c, argc, argv);
	config_pkgcast_destroy(&c);
	if (fflush(stdout) == EOF) {
		warn("standard output");
		if (status == COMMAND_DONE)
			status = COMMAND_FAILED;
	}
	return (status);
}

int
main(int argc, char *argv[])
{
	const char *file = NULL;
	int i;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "-c") == 0 && i + 1 < argc)
			file = argv[++i];
		else if (strcmp(argv[i], "-v") == 0)
			command_verbose = true;
		else if (strcmp(argv[i], "-h") == 0 ||
		    strcmp(argv[i], "--help") == 0)
			return (help(1, argv));
		else {
			warnx("%s: %s", argv[i], strcmp(argv[i], "-c") == 0 ?
			    "needs the name of a file" : "no such option");
			return (command_usage(NULL));
		}
	}
	if (i == argc)
		return (command_usage(NULL));
	(void)log_open("pkgcast", "stderr", command_verbose);
	if (strcmp(argv[i], "help") == 0)
		return (help(argc - i, argv + i));
	return (run(file, argc - i, argv + i));
}
