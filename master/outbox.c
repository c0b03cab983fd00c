/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between publishing threads and the link thread: a bounded queue of
 * announcements and the list of pending prepares, copied in and out, so that no
 * pointer is shared.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "master/outbox.h"
#include "proto/check.h"
#include "proto/digest.h"

#define	OUTBOX_MAGIC	0x6f757462u
#define	PREPARE_EXTRA	3		/* quotes and comma in the reply */

struct prepared {			/* a prepare that replies repeat */
	LIST_ENTRY(prepared) link;
	char		 set[SET_NAME_MAX + 1];
	struct digest	 digest;
	size_t		 len, cost;	/* cost: in JSON */
	char		*text;
};

struct outbox {
	unsigned	 magic;
	pthread_mutex_t	 lock;		/* guards what follows */
	size_t		 nqueue, nprepared;
	struct outgoing_list queue;
	LIST_HEAD(, prepared) prepares;
};

static struct outgoing *
outgoing_new(const char *kind, const char *set, const char *text, size_t len)
{
	struct outgoing *g;

	if (strlen(set) > SET_NAME_MAX || len > HEAD_MAX) {
		errno = EINVAL;
		return (NULL);
	}
	if ((g = malloc(sizeof(*g) + len)) == NULL)
		return (NULL);
	g->kind = kind;
	memcpy(g->set, set, strlen(set) + 1);
	memcpy(g->text, text, len);
	g->len = len;
	return (g);
}

/* Takes *g over.  Called with the lock held. */
static int
enqueue(struct outbox *o, struct outgoing **g)
{

	if (o->nqueue >= ANNOUNCE_QUEUE) {
		free(*g);
		*g = NULL;
		errno = ENOBUFS;
		return (-1);
	}
	STAILQ_INSERT_TAIL(&o->queue, *g, link);
	*g = NULL;
	o->nqueue++;
	return (0);
}

static void
prepared_free(struct prepared *p)
{

	if (p != NULL)
		free(p->text);
	free(p);
}

/* The set's name and the length were checked by outgoing_new(). */
static struct prepared *
prepared_new(const char *set, const char *text, size_t len)
{
	struct prepared *p;
	size_t i;

	if ((p = calloc(1, sizeof(*p))) == NULL ||
	    (p->text = malloc(len + 1)) == NULL) {
		prepared_free(p);
		return (NULL);
	}
	memcpy(p->set, set, strlen(set) + 1);
	memcpy(p->text, text, len);
	p->text[len] = '\0';
	p->len = len;
	digest_of(&p->digest, text, len);
	p->cost = len + PREPARE_EXTRA;
	for (i = 0; i < len; i++)
		if (text[i] == '\n' || text[i] == '"' || text[i] == '\\')
			p->cost++;
	return (p);
}

/* Called with the lock held. */
static void
prepared_drop(struct outbox *o, const char *set)
{
	struct prepared *p;

	LIST_FOREACH(p, &o->prepares, link)
		if (strcmp(p->set, set) == 0) {
			LIST_REMOVE(p, link);
			o->nprepared--;
			prepared_free(p);
			return;
		}
}

int
outbox_prepare(struct outbox *o, const char *set, const char *signed_lines,
    size_t len)
{
	struct outgoing *g;
	struct prepared *p;
	int ret = -1;

	CHECK_OBJ(o, OUTBOX_MAGIC);
	if ((g = outgoing_new("prepare", set, signed_lines, len)) == NULL)
		return (-1);
	if ((p = prepared_new(set, signed_lines, len)) == NULL) {
		free(g);
		return (-1);
	}
	pthread_mutex_lock(&o->lock);
	prepared_drop(o, set);
	if (o->nprepared >= ANNOUNCE_PREPARES) {
		prepared_free(p);
		free(g);
		errno = ENOBUFS;
	} else {
		LIST_INSERT_HEAD(&o->prepares, p, link);
		o->nprepared++;
		ret = enqueue(o, &g);
	}
	pthread_mutex_unlock(&o->lock);
	return (ret);
}

void
outbox_prepare_end(struct outbox *o, const char *set)
{

	CHECK_OBJ(o, OUTBOX_MAGIC);
	pthread_mutex_lock(&o->lock);
	prepared_drop(o, set);
	pthread_mutex_unlock(&o->lock);
}

int
outbox_commit(struct outbox *o, const char *set, const char *head, size_t len)
{
	struct outgoing *g;
	int ret = -1;

	CHECK_OBJ(o, OUTBOX_MAGIC);
	g = outgoing_new("commit", set, head, len);
	pthread_mutex_lock(&o->lock);
	prepared_drop(o, set);
	if (g != NULL)
		ret = enqueue(o, &g);
	pthread_mutex_unlock(&o->lock);
	return (ret);
}

void
outbox_take(struct outbox *o, struct outgoing_list *list)
{

	CHECK_OBJ(o, OUTBOX_MAGIC);
	pthread_mutex_lock(&o->lock);
	STAILQ_CONCAT(list, &o->queue);
	o->nqueue = 0;
	pthread_mutex_unlock(&o->lock);
}

static bool
wants(const struct renew *n, const struct prepared *p)
{
	size_t i;

	for (i = 0; i < n->nset; i++)
		if (strcmp(n->set[i].name, p->set) == 0)
			return (!n->set[i].has_prepared ||
			    !digest_eq(&n->set[i].prepared, &p->digest));
	return (n->all);
}

struct lease_prepare *
outbox_wanted(struct outbox *o, const struct renew *n, size_t max,
    size_t *nprepare, size_t *cost)
{
	struct lease_prepare *list = NULL;
	const struct prepared *p;
	char *text;

	CHECK_OBJ(o, OUTBOX_MAGIC);
	*nprepare = *cost = 0;
	pthread_mutex_lock(&o->lock);
	if (o->nprepared > 0)
		list = calloc(o->nprepared, sizeof(*list));
	LIST_FOREACH(p, &o->prepares, link) {
		if (list == NULL || *cost + p->cost > max)
			break;
		if (!wants(n, p) || (text = malloc(p->len + 1)) == NULL)
			continue;
		memcpy(text, p->text, p->len + 1);
		list[*nprepare].text = text;
		list[*nprepare].len = p->len;
		++*nprepare;
		*cost += p->cost;
	}
	pthread_mutex_unlock(&o->lock);
	return (list);
}

struct outbox *
outbox_new(void)
{
	struct outbox *o = check_alloc(calloc(1, sizeof(*o)));

	o->magic = OUTBOX_MAGIC;
	pthread_mutex_init(&o->lock, NULL);
	STAILQ_INIT(&o->queue);
	LIST_INIT(&o->prepares);
	return (o);
}

void
outbox_destroy(struct outbox **op)
{
	struct outbox *o = *op;
	struct outgoing *g;
	struct prepared *p;

	if (o == NULL)
		return;
	*op = NULL;
	CHECK_OBJ(o, OUTBOX_MAGIC);
	while ((g = STAILQ_FIRST(&o->queue)) != NULL) {
		STAILQ_REMOVE_HEAD(&o->queue, link);
		free(g);
	}
	while ((p = LIST_FIRST(&o->prepares)) != NULL) {
		LIST_REMOVE(p, link);
		prepared_free(p);
	}
	pthread_mutex_destroy(&o->lock);
	explicit_bzero(&o->magic, sizeof(o->magic));
	free(o);
}
