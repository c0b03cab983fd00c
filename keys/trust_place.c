/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a master keeps its trust document, by its configuration.  Called by
 * `pkgcast trust`, in its only thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "keys/trust_place.h"
#include "proto/config.h"
#include "proto/fd.h"
#include "proto/zpl.h"

#define	ROW(kind_, section_, key_, field_, def_, restart_) \
	{ .kind = ZPL_##kind_, .section = section_, .key = key_, \
	    .offset = offsetof(struct master_conf, field_), .def = def_, \
	    .restart = restart_ },

static const struct zpl_key keys[] = { MASTER_KEYS(ROW) };

static int
replace(char **place, const char *value, struct parse_error *err)
{
	char *copy;

	if ((copy = strdup(value)) == NULL)
		return (parse_fail(err, 0, "out of memory"));
	free(*place);
	*place = copy;
	return (0);
}

/* A value that counts here, given or default. */
static int
take(struct trust_place *p, const char *file, unsigned long line,
    const struct zpl_key *key, const char *value, struct parse_error *err)
{
	unsigned long long n;

	if (key->section[0] != '\0' || value == NULL)
		return (0);
	if (strcmp(key->key, "state") == 0)
		return (replace(&p->state, value, err));
	if (strcmp(key->key, "user") == 0)
		return (replace(&p->user, value, err));
	if (strcmp(key->key, "root-threshold") == 0) {
		if (parse_u64(value, strlen(value), TRUST_ROOTS, &n) == -1)
			return (zpl_fail(err, file, line,
			    "\"root-threshold\" must be at most %d",
			    TRUST_ROOTS));
		p->threshold = (unsigned)n;
	}
	if (strcmp(key->key, "root-key") == 0) {
		if (p->nroot == TRUST_ROOTS)
			return (zpl_fail(err, file, line,
			    "more than %d of \"root-key\"", TRUST_ROOTS));
		if (pubkey_parse(&p->root[p->nroot++], value,
		    strlen(value)) == -1)
			return (zpl_fail(err, file, line,
			    "\"root-key\" is not a minisign public key"));
	}
	return (0);
}

int
trust_place_read(struct trust_place *p, const char *file,
    struct parse_error *err)
{
	const size_t n = sizeof(keys) / sizeof(keys[0]);
	struct zpl *z = NULL;
	size_t i, len;
	int ret = -1;
	char *text;

	memset(p, 0, sizeof(*p));
	if ((text = fd_slurp(AT_FDCWD, file, ZPL_FILE_MAX, &len)) == NULL)
		return (zpl_fail(err, file, 0, "cannot read: %s",
		    strerror(errno)));
	if ((z = zpl_parse(file, text, len, keys, n, err)) == NULL)
		goto out;
	for (i = 0; i < n; i++)
		if (take(p, file, 0, &keys[i], keys[i].def, err) == -1)
			goto out;
	for (i = 0; i < z->n; i++)
		if (z->item[i].key != NULL && take(p, file, z->item[i].line,
		    z->item[i].key, z->item[i].value, err) == -1)
			goto out;
	ret = 0;
out:
	zpl_destroy(&z);
	free(text);
	if (ret == -1)
		trust_place_free(p);
	return (ret);
}

void
trust_place_free(struct trust_place *p)
{

	free(p->state);
	free(p->user);
	p->state = p->user = NULL;
}
