/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pkgcast-edge mark: the operator's word that a plain set has changed.  Run by
 * main() instead of the daemon; the daemon of the same configuration answers.
 */
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "edge/control.h"
#include "edge/mark.h"
#include "proto/config.h"
#include "proto/name.h"

#define	EXIT_CONFIG	2

/* Why nobody could be asked. */
static void
explain(const struct edge_conf *c, int error)
{
	const char *s = c->state;

	switch (error) {
	case ENOENT:
	case ECONNREFUSED:
		warnx("%s: no pkgcast-edge with plain sets runs on this state folder",
		    s);
		break;
	case EACCES:
		warnx("%s: not allowed: run this as root or as the edge's user, \"%s\"",
		    s, c->user);
		break;
	case EAGAIN:
		warnx("%s: the edge does not answer", s);
		break;
	default:
		warnx("%s: cannot ask the edge: %s", s, strerror(error));
		break;
	}
}

int
mark_command(const char *file, const char *set)
{
	char line[CONTROL_LINE], answer[CONTROL_ANSWER];
	struct parse_error error;
	struct edge_conf *c;
	int ret;

	if (!set_name_ok(set, strlen(set))) {
		warnx("\"%s\" is not the name of a set", set);
		return (EXIT_CONFIG);
	}
	if ((c = config_edge(file, &error)) == NULL) {
		warnx("%s", error.reason);
		return (EXIT_CONFIG);
	}
	(void)snprintf(line, sizeof(line), "mark %s", set);
	switch (ret = control_ask(c->state, line, answer)) {
	case 0:
		(void)printf("%s\n", answer);
		break;
	case 1:
		warnx("%s", answer);
		break;
	default:
		explain(c, errno);
		ret = 1;
		break;
	}
	config_edge_destroy(&c);
	return (ret);
}
