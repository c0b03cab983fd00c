/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What fills of plain files do otherwise: they begin with a transfer that runs
 * already, since only its head tells how long the file is; their pieces are taken
 * as they come; and the digest of the content is found at the end.  Called in the
 * transfer thread, and at the end in a worker.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "edge/pull.h"
#include "proto/check.h"
#include "proto/log.h"

static struct log_limit store_limit;

struct plain_part {
	struct upstreams *upstreams;
	char		*target, *fields, *validator;
	struct transfer_plain ask;	/* of the above */
	bool		 keep;
	void		(*done)(void *, const struct digest *);
	void		*arg;
	bool		 is_stored;	/* then: */
	struct digest	 content;
};

struct plain_part *
fill_plain_new(const struct fill_plain *w)
{
	struct plain_part *p;

	if ((p = calloc(1, sizeof(*p))) == NULL)
		return (NULL);
	p->upstreams = w->upstreams;
	p->keep = w->keep;
	p->done = w->done;
	p->arg = w->arg;
	if ((p->target = strdup(w->target)) == NULL ||
	    (p->fields = strdup(w->fields)) == NULL ||
	    (p->validator = strdup(w->validator)) == NULL) {
		fill_plain_destroy(&p);
		return (NULL);
	}
	p->ask = (struct transfer_plain){ .target = p->target,
	    .fields = p->fields, .validator = p->validator,
	    .later = pull_later };
	return (p);
}

void
fill_plain_destroy(struct plain_part **pp)
{
	struct plain_part *p = *pp;

	*pp = NULL;
	if (p == NULL)
		return;
	free(p->target);
	free(p->fields);
	free(p->validator);
	free(p);
}

struct upstreams *
fill_plain_upstreams(const struct plain_part *p)
{

	return (p->upstreams);
}

const struct transfer_plain *
fill_plain_ask(const struct plain_part *p)
{

	return (&p->ask);
}

bool
fill_plain_resumes(const struct plain_part *p)
{

	return (p->validator[0] != '\0');
}

void
fill_plain_commit(struct fill *fl)
{
	struct plain_part *p = fl->plain;
	struct blob_store *s = fills_store(fl->fills);

	if (fl->in_memory) {
		if (!p->keep)
			return;
		digest_of(&p->content, fl->bytes, fl->size);
		p->is_stored = fill_store_held(fl, &p->content);
		return;
	}
	if (!p->keep) {
		blob_partial_close(s, &fl->digest, false);
		return;
	}
	p->is_stored = digest_of_file(&p->content, fl->fd, fl->size) == 0 &&
	    blob_partial_commit_as(s, &fl->digest, &p->content, fl->fd) == 0;
	if (p->is_stored)
		return;
	if (log_allowed(&store_limit, 1))
		log_err("fill cannot store file=%s: %s", fl->path,
		    strerror(errno));
	blob_partial_close(s, &fl->digest, false);
}

void
fill_plain_end(struct plain_part *p)
{

	if (p->done != NULL)
		p->done(p->arg, p->is_stored ? &p->content : NULL);
}

struct fill *
fill_adopt(struct fills *f, const struct fill_want *w, struct transfer *t)
{
	struct fill *fl;
	const char *reason;
	bool adopted;

	CHECK(w->plain != NULL);
	if ((fl = fill_enter(f, w)) == NULL)
		return (NULL);
	(void)pthread_mutex_lock(&fl->lock);
	if (!(adopted = pull_adopt(fl, t)))
		fl->plain->done = NULL;
	(void)pthread_mutex_unlock(&fl->lock);
	reason = adopted ? fill_open_file(fl) : "out of memory";
	(void)pthread_mutex_lock(&fl->lock);
	if (reason != NULL)
		fill_fail(fl, reason);
	if (fl->stage == STAGE_QUEUED)
		fl->stage = STAGE_RUNNING;
	pull_schedule(fl);
	fl->opened = true;
	fill_leave(fl);
	if (!adopted)
		fill_let_go(&fl);
	return (fl);
}

void
fill_let_go(struct fill **flp)
{
	struct fill *fl = *flp;

	*flp = NULL;
	if (fl == NULL)
		return;
	CHECK_OBJ(fl, FILL_MAGIC);
	(void)pthread_mutex_lock(&fl->lock);
	fl->nreader--;
	fill_hand_on(fl);
	fill_unref(fl);
}
