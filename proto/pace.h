/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PROTO_PACE_H
#define	PROTO_PACE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/digest.h"

/*
 * The pace of a thread that reads stored blobs in the background: so many bytes a
 * second, until it is stopped.  One thread takes the pauses; the others set the
 * rate and stop it.
 */
#define	PACE_PIECE	65536		/* bytes read at once */

struct pace {
	pthread_mutex_t	 lock;		/* guards what follows */
	pthread_cond_t	 change;
	bool		 stop;
	uint64_t	 rate;		/* bytes a second; 0: paused */
	uint64_t	 owed;		/* bytes that were not paid for yet */
};

void	pace_init(struct pace *p, uint64_t bytes_per_s);
void	pace_free(struct pace *p);
void	pace_set(struct pace *p, uint64_t bytes_per_s);
/* All pauses end, and no further one begins. */
void	pace_stop(struct pace *p);

/* A pause of ms milliseconds, or longer, until the rate is not 0.  False: stop. */
bool	pace_rest(struct pace *p, int64_t ms);
/*
 * The digest of a file from where it is read to its end, with a pause for each
 * piece.  -1: stopped (errno ECANCELED), or it cannot be read.  buf: PACE_PIECE
 * bytes.
 */
int	pace_digest(struct pace *p, int fd, struct sha256 *sha, void *buf,
	    struct digest *d);

#endif
