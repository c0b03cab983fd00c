/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_METRICS_H
#define	PROTO_METRICS_H

#include <stddef.h>

/*
 * A status document as Prometheus takes it (text format 0.0.4): each number and
 * each truth value in it as a sample "pkgcast_a_b_c{...} 1", named by the members
 * on the way to it.  An object in an array "things" is told from the others by a
 * label thing: its member name, url or instance, or else its number.  Other texts are left out.  Takes the document over.  malloc'd; NULL: out of memory, or *text was.
 */
#define	METRICS_TYPE	"text/plain; version=0.0.4"

char	*metrics_of(char **text, size_t *len);

#endif
