/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_MARK_H
#define	EDGE_MARK_H

/*
 * `pkgcast-edge mark SET`: tells the edge that runs with this configuration that
 * a plain set has changed.  Prints its answer; the exit status.
 */
int	mark_command(const char *file, const char *set);

#endif
