/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_FRAMING_H
#define	PROTO_FRAMING_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/answer.h"

/*
 * What a request must be to be understood in one way only (RFC 9112): the
 * checks that the HTTP library does not make.  Pure.
 */
struct framing {			/* zero-initialise */
	unsigned	 nhost, nlength, ntransfer;
	bool		 bad;		/* a name or value is */
	bool		 unexpected;	/* what cannot be met is expected */
	uint64_t	 length;	/* of the body */
};

enum http_method framing_method(const char *method);
/* Whether a byte may stand in a token (RFC 9110, 5.6.2); in a field's value (5.5:
 * no control byte but HTAB). */
bool	framing_is_token(unsigned char c);
bool	framing_is_text(unsigned char c);
/* One header field, in the order of their arrival. */
void	framing_field(struct framing *f, const char *name, const char *value);
/*
 * Once all were seen: 0, or the status to refuse with: 400, 405, 411 or 417.
 * uploads: POST and PUT are taken, with a body of declared length.
 */
unsigned framing_verdict(const struct framing *f, enum http_method method,
	    const char *version, const char *target, bool uploads);

#endif
