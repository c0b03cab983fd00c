/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef KEYS_CERT_H
#define	KEYS_CERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"

/* CURVE key pairs and certificates, as CZMQ's zcert files. */
#define	CURVE_TEXT	41		/* Z85 and NUL */

struct cert {
	char	public_key[CURVE_TEXT];
	char	secret_key[CURVE_TEXT];	/* "": only the public half is known */
	char	name[65];		/* metadata; "" when absent */
	char	url[512];
};
bool	curve_key_ok(const char *z85);	/* 40 digits that decode */
int	cert_new(struct cert *c);
#define	CERT_FILE_MAX	8192		/* bytes */
/* NAME (public) or NAME_secret (both keys), which others must not be able to
 * read.  -1 and err, whose reason names the file. */
int	cert_read(struct cert *c, const char *path, struct parse_error *err);
/* The same from a file's text. */
int	cert_parse(struct cert *c, const char *text, size_t len,
	    struct parse_error *err);
/* Writes path (public half, mode) and, if it has a secret, path_secret 0600.
 * -1: errno; EINVAL: c does not hold what a certificate may. */
int	cert_write(const struct cert *c, const char *path, unsigned mode);
/* Public key that belongs to a secret one. */
int	curve_public(const char *secret_z85, char out[CURVE_TEXT]);

/*
 * The edges/ folder: one public certificate a file, whose name is the edge's.
 */
struct edge_entry {
	char	name[65];
	char	key[CURVE_TEXT];
	char	url[512];
};
#define	EDGES_MAX	20000
struct edges;				/* immutable list, by name */
/* Reads the folder.  Files that are not good, and second files for one key,
 * are left out and reported through `bad` (may be NULL).  NULL: errno. */
struct edges	*edges_read(const char *dir,
		    void (*bad)(void *arg, const char *file, const char *why),
		    void *arg);
void		 edges_destroy(struct edges **e);
size_t		 edges_n(const struct edges *e);
const struct edge_entry *edges_nth(const struct edges *e, size_t i);
const struct edge_entry *edges_by_key(const struct edges *e, const char *key);
/* Changes when any file's name or content does.  0: cannot be read. */
uint64_t	 edges_stamp(const char *dir);
/* A-Za-z0-9._- , 1 to 64, not beginning with a dot. */
bool		 edge_name_ok(const char *name);

#endif
