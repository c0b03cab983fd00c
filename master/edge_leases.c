/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which edges hold a lease, as an origin's status tells.  Called by pkgcast
 * edge list, in the program's one thread.
 */

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "master/client.h"
#include "master/command.h"
#include "master/fetch.h"
#include "master/edge_leases.h"

struct edge_leases {
	json_t	*status;
};

struct edge_leases *
edge_leases_get(const char *origin)
{
	struct edge_leases *l = NULL;
	struct client *c;
	char *text = NULL;
	size_t len;

	if ((c = client_new(&command_stop)) != NULL &&
	    (text = fetch_document(c, origin, "status", FETCH_STATUS_MAX, &len,
	    NULL, NULL)) != NULL && (l = calloc(1, sizeof(*l))) != NULL &&
	    (l->status = json_loadb(text, len, 0, NULL)) == NULL)
		edge_leases_destroy(&l);
	free(text);
	client_destroy(&c);
	return (l);
}

void
edge_leases_destroy(struct edge_leases **l)
{

	if (*l == NULL)
		return;
	json_decref((*l)->status);
	free(*l);
	*l = NULL;
}

const char *
edge_leases_word(const struct edge_leases *l, const char *edge)
{
	const json_t *edges, *e;
	const char *name;
	size_t i;

	if (l == NULL)
		return ("?");
	edges = json_object_get(l->status, "edges");
	for (i = 0; i < json_array_size(edges); i++) {
		e = json_array_get(edges, i);
		name = json_string_value(json_object_get(e, "name"));
		if (name != NULL && strcmp(name, edge) == 0)
			return (json_is_true(json_object_get(e, "leased")) ?
			    "leased" : "none");
	}
	return ("?");
}
