/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MASTER_STATUS_TEXT_H
#define	MASTER_STATUS_TEXT_H

#include <stdbool.h>

/*
 * A master's status document (a json_t) for people, on standard output, at most
 * 80 columns wide where names are not longer.  Of many edges those that need
 * attention are shown, with all every one.  -1: it is no such document.
 */
int		 status_text(const void *document, bool all);

#endif
