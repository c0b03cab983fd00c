/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which blobs a commit may have left without a name.  What a dropped generation
 * had is in its own delta, or in a later one, or current: so the deltas of those
 * that were dropped, and their heads, name all that can have gone.  The one that
 * was current has no delta before the commit, and none after it if it is not
 * kept: then it is all of it that can have gone.  Called by publishes' threads.
 */

#include <stdlib.h>

#include "master/gone.h"

struct gone {
	struct snapshot	*current;		/* before; NULL: none */
	size_t		 n;
	struct delta	*delta[HEAD_KEPT_MAX];	/* kept before, newest first */
};

struct gone *
gone_new(struct site *site, const char *set)
{
	const struct site_set *s;
	struct gone *g;

	if ((g = calloc(1, sizeof(*g))) == NULL)
		return (NULL);
	if ((s = site_named(site_enter(site), set)) != NULL) {
		g->current = snapshot_ref(s->current);
		for (; g->n < s->nearlier; g->n++)
			g->delta[g->n] = delta_ref(s->earlier[g->n]);
	}
	site_leave(site);
	return (g);
}

void
gone_destroy(struct gone **gp)
{
	struct gone *g = *gp;

	*gp = NULL;
	if (g == NULL)
		return;
	snapshot_unref(&g->current);
	while (g->n > 0)
		delta_unref(&g->delta[--g->n]);
	free(g);
}

/* The oldest go first: how many of the deltas are kept, and whether what was
 * current is. */
static size_t
still_kept(const struct gone *g, struct site *site, const char *set,
    bool *current)
{
	const struct site_set *s;
	const struct head *was;
	size_t i, k, kept = 0;

	*current = g->current == NULL;
	was = *current ? NULL : snapshot_head(g->current);
	if ((s = site_named(site_enter(site), set)) != NULL) {
		if (was != NULL)
			*current = digest_eq(&was->digest,
			    &snapshot_head(s->current)->digest);
		for (k = 0; k < s->nearlier; k++) {
			for (i = kept; i < g->n; i++)
				if (s->earlier[k] == g->delta[i])
					kept = i + 1;
			if (was != NULL && digest_eq(&was->digest,
			    &delta_head(s->earlier[k])->digest))
				*current = true;
		}
	}
	site_leave(site);
	return (kept);
}

static void
add(struct digest *d, size_t *n, const struct head *h,
    const struct manifest *m)
{
	struct facts f;
	size_t i;

	d[(*n)++] = h->manifest;
	d[(*n)++] = h->chunks;
	for (i = 0; i < manifest_n(m); i++)
		if (manifest_facts(m, i, &f))
			d[(*n)++] = f.digest;
}

struct digest *
gone_digests(const struct gone *g, struct site *site, const char *set,
    size_t *n)
{
	struct digest *d;
	bool current;
	size_t i, kept = still_kept(g, site, set, &current), size = 1;

	if (!current)
		size += 2 + manifest_n(snapshot_manifest(g->current));
	for (i = kept; i < g->n; i++)
		size += 2 + manifest_n(delta_manifest(g->delta[i]));
	*n = 0;
	if ((d = calloc(size, sizeof(*d))) == NULL)
		return (NULL);
	if (!current)
		add(d, n, snapshot_head(g->current),
		    snapshot_manifest(g->current));
	for (i = kept; i < g->n; i++)
		add(d, n, delta_head(g->delta[i]),
		    delta_manifest(g->delta[i]));
	return (d);
}
