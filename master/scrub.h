/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_SCRUB_H
#define	MASTER_SCRUB_H

#include <stdint.h>

#include "master/store.h"
#include "proto/buf.h"
#include "proto/site.h"

/*
 * Reads all stored blobs again and again, slowly, and removes those that are
 * not what their name says (G3).  A thread of its own.
 */
struct scrub;

struct scrub	*scrub_start(struct store *store, struct site *site,
		    uint64_t bytes_per_s, struct parse_error *err);
/* 0: pauses.  Any thread. */
void		 scrub_set_rate(struct scrub *s, uint64_t bytes_per_s);
void		 scrub_stop(struct scrub **s);

#endif
