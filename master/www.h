/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_WWW_H
#define	MASTER_WWW_H

#include "keys/trust.h"
#include "proto/site.h"

/*
 * The folder www/ that a static HTTP server can serve: derived from the truth,
 * remade at start.  statefd is the state folder; one thread at a time.
 * -1: errno.
 */

/* Folders and .pkgcast/blob. */
int	www_init(int statefd);
/* The set's link into its tree. */
int	www_set(int statefd, const char *set);
/* .pkgcast/heads, as the site has them. */
int	www_heads(int statefd, struct site *site);
/* One document of .pkgcast/head/: made unless it is there; removed; and all
 * removed that the site does not keep. */
int	www_head(int statefd, const struct head *h);
void	www_head_remove(int statefd, const struct digest *d);
int	www_head_tidy(int statefd, struct site *site);
/* .pkgcast/trust.  Again whenever the trust document changed. */
int	www_trust(int statefd, struct trust *t);

#endif
