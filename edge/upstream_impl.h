/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EDGE_UPSTREAM_IMPL_H
#define	EDGE_UPSTREAM_IMPL_H

#include <sys/queue.h>

#include <pthread.h>

#include <curl/curl.h>

#include "edge/health.h"
#include "edge/rate.h"
#include "edge/reply.h"
#include "edge/strict.h"
#include "proto/buf.h"

/*
 * Inside of the HTTP client, for upstream*.c alone: upstream.c runs the transfers,
 * upstream_ask.c makes their requests, upstream_take.c takes their answers, and
 * upstream_document.c has small documents for the follow thread, in that thread.
 * They and strict.c are the only ones that name libcurl.
 *
 * u->lock guards the limits and the list of transfers that wait; all else of a
 * transfer belongs to the transfer thread, but for `cancel`.
 */
#define	TRANSFER_MAGIC	0x7472616eu

struct limits {
	int64_t		connect_ms, first_ms;
	int64_t		low_bytes;	/* a second */
	int64_t		low_ms;
	unsigned	per_upstream;
	uint64_t	rate;		/* bytes a second; 0: no limit */
};

struct transfer {
	unsigned	 magic;
	struct upstreams *u;
	struct transfer_want w;
	char		*set, *path;
	TAILQ_ENTRY(transfer) link;
	atomic_bool	 cancel;
	struct upstream	*upstream;
	struct limits	 limits;
	CURL		*curl;
	struct curl_slist *headers;
	char		 error[CURL_ERROR_SIZE];
	bool		 by_path;	/* a static tree's, not by digest */
	bool		 ranged;
	struct reply	 reply;
	struct buf	 fields;	/* of the answer, if plain; see fields.h */
	bool		 judged;	/* the head's `head` was called */
	bool		 declined;	/* by it: no body is wanted */
	char		*tail;		/* the last bytes, until all is well */
	size_t		 tail_len;
	struct strict	 strict;
	bool		 accepted, over;
	uint64_t	 skip;		/* bytes to read through */
	enum coding	 coding;
	uint64_t	 wanted;	/* bytes; the most, if coded */
	uint64_t	 given;		/* bytes given to data() */
	uint64_t	 received;
	int64_t		 start_ms, slow_ms, tick_ms;
	uint64_t	 tick_received;
	bool		 first;		/* the answer has begun */
	bool		 anew;		/* asked again, on a new connection */
	bool		 paused;	/* by the rate; and: */
	bool		 held;		/* it was since the last tick */
	enum transfer_result result;
	enum health_event event;
	char		 reason[UPSTREAM_REASON];
};

TAILQ_HEAD(transfers, transfer);

struct upstreams {
	struct health	 health;
	pthread_mutex_t	 lock;
	struct limits	 limits;
	struct transfers waiting, running;
	atomic_bool	 stopping;
	bool		 started;
	CURLM		*multi;
	struct strict_kept kept;	/* the transfer thread's; and: */
	struct rate	 rate;
	int64_t		 dead_ms;	/* a kept connection was found dead */
	pthread_t	 thread;
};

/* upstream_ask.c */
/* Options that every request has; error: CURL_ERROR_SIZE bytes.  -1: no memory. */
int	upstream_options(CURL *c, const char *url, const struct limits *l,
	    char *error);
/* Makes the request.  -1: not possible for a local reason. */
int	transfer_ask(struct transfer *t);

/* upstream_take.c */
size_t	transfer_on_header(char *line, size_t size, size_t n, void *arg);
size_t	transfer_on_body(char *p, size_t size, size_t n, void *arg);
/* The first fault counts; those that follow from it do not. */
void	give_up(struct transfer *t, enum transfer_result result,
	    enum health_event event, const char *fmt, ...)
	    __attribute__((format(printf, 4, 5)));
/* What an ended transfer, which nothing was said about yet, comes to. */
void	conclude(struct transfer *t, CURLcode rc);
/* The end: bytes that it gave may have been wrong. */
void	check_given(struct transfer *t);
/* One that waiting does not mend. */
bool	is_hard(CURLcode rc);
/* Whoever takes its bytes wants them later. */
bool	is_later(const struct transfer *t);

#endif
