/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_RELEASE_H
#define	MASTER_RELEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "keys/minisign.h"
#include "master/client.h"
#include "master/compose.h"
#include "master/record.h"
#include "proto/config.h"

/*
 * Makes content the next generation of a set: what publish and rollback have in
 * common.
 */
struct scan;

#define	PREPARE_WAIT_S		10
#define	PREPARE_WAIT_MAX_S	3600

struct release {			/* all borrowed */
	const struct pkgcast_conf *conf;
	struct client		*client;
	struct record		*record;
	const struct seckey	*key;
	const char		*set;
	const struct content	*content;
	const struct scan	*scan;		/* NULL: no file is at hand */
	struct globs		 globs;
	bool			 withdraw, force, rollback;
	unsigned		 prepare_wait;	/* seconds */
	int64_t			 began_ms;	/* boot clock: the command */
	int64_t			 read_ms;	/* and when content was known */
};
/* Prints what came of it; returns the command's exit status. */
int		 release_run(const struct release *r);

/* Opens what a release needs: client, record, key.  Prints what is wrong and
 * returns -1. */
int		 release_open(const struct pkgcast_conf *conf, const char *set,
		    struct client **client, struct record **record,
		    struct seckey **key);
/* Seconds of --prepare-wait.  -1: not a number, or too many. */
int		 release_seconds(const char *text, unsigned *s);

#endif
