/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Makes content the next generation of a set: compares it with the current one,
 * numbers, signs and records it, sends it, and says which edges switched.
 * Called by publish and rollback, in the program's one thread.
 */

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keys/home.h"
#include "keys/password.h"
#include "master/command.h"
#include "master/fetch.h"
#include "master/release.h"
#include "master/send.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/daemon.h"

#define	ATTEMPTS	5		/* heads made for one command */
#define	BUSY_MS		100
#define	PATIENT_S	2		/* longer waits are told */

/* What the master has when an attempt begins. */
struct base {
	bool		 present;
	struct head	 head;
	struct manifest	*manifest;	/* NULL without */
	uint64_t	 highest;	/* that anybody knows of */
	uint64_t	 accepted;	/* that the master knows of */
	bool		 busy;		/* it commits a publish right now */
};

static void
base_free(struct base *b)
{

	manifest_destroy(&b->manifest);
}

static int
base_get(const struct release *r, struct base *b, struct parse_error *err)
{
	struct send_state state;
	int got;

	memset(b, 0, sizeof(*b));
	/* Before the head: a publish that is over has its head there then. */
	if (send_state_get(r->client, r->conf->publish, r->set, &state, NULL,
	    err) == -1)
		return (-1);
	b->highest = b->accepted = state.highest;
	b->busy = strcmp(state.state, "prepare") == 0;
	send_state_free(&state);
	if ((got = fetch_current(r->client, r->conf->origin, r->set, &b->head,
	    NULL, err)) == -1)
		return (-1);
	b->present = got == 1;
	if (b->present && (b->manifest = fetch_manifest(r->client,
	    r->conf->origin, &b->head, err)) == NULL)
		return (-1);
	if (b->present && b->head.generation > b->highest)
		b->highest = b->head.generation;
	if (record_highest(r->record) > b->highest)
		b->highest = record_highest(r->record);
	return (0);
}

static bool
withdrawn(const struct head *h)
{

	return (h->oldest == h->generation);
}

/* The current generation is what is asked for. */
static bool
nothing_to_do(const struct release *r, const struct base *b)
{

	return (b->present && (!r->withdraw || withdrawn(&b->head)) &&
	    compose_globs_same(&r->globs, &b->head) &&
	    content_same(r->content, b->manifest));
}

/* A head of an earlier run that can be sent again as it is. */
static bool
draft_good(const struct release *r, const struct base *b, struct draft *p)
{
	const struct head *h = &p->head;
	struct manifest *m;
	char *text;
	bool good;

	if (!record_load(r->record, p))
		return (false);
	good = h->has_previous == b->present &&
	    h->generation == record_highest(r->record) &&
	    compose_globs_same(&r->globs, h) &&
	    h->oldest == (r->withdraw ? h->generation :
	    b->present ? b->head.oldest : 1);
	if (good && b->present)
		good = digest_eq(&h->previous, &b->head.digest) &&
		    h->generation > b->head.generation;
	if (good && (text = strdup(p->manifest)) != NULL) {
		m = manifest_parse(&text, p->manifest_len, NULL);
		good = m != NULL && content_same(r->content, m);
		manifest_destroy(&m);
	} else
		good = false;
	if (!good)
		draft_free(p);
	return (good);
}

/* Waits until the clock is beyond the previous head's. */
static int
wait_clock(const struct base *b)
{
	int64_t left;

	if (!b->present)
		return (0);
	if ((left = b->head.created + 1 - clock_real()) > PATIENT_S)
		(void)fprintf(stderr,
		    "waiting %" PRId64 " s: the current generation was made at a later time than this clock's; check the clocks\n",
		    left);
	while (clock_real() < b->head.created + 1) {
		command_sleep_ms(20);
		if (command_stop)
			return (-1);
	}
	return (0);
}

/* Makes, records, signs and stores the next head. */
static int
make(const struct release *r, const struct base *b, struct draft *p,
    struct parse_error *err)
{
	struct head *h = &p->head;

	if (b->highest >= HEAD_GENERATION_MAX)
		return (parse_fail(err, 0, "no higher generation is possible"));
	if (wait_clock(b) == -1)
		return (parse_fail(err, 0, "interrupted"));
	memset(p, 0, sizeof(*p));
	if (compose_content(r->content, b->manifest, clock_real(), p, err) ==
	    -1)
		return (-1);
	memcpy(h->set, r->set, strlen(r->set) + 1);
	h->generation = b->highest + 1;
	h->oldest = r->withdraw ? h->generation :
	    b->present ? b->head.oldest : 1;
	h->has_previous = b->present;
	if (b->present)
		h->previous = b->head.digest;
	/* The number is taken, on disk, before anything carries it. */
	if (compose_head(p, &r->globs, err) == -1 ||
	    record_sign(r->record, h, err) == -1 ||
	    compose_sign(p, r->key, err) == -1)
		return (-1);
	p->rollback = r->rollback;
	if (record_save(r->record, p) == -1)
		return (parse_fail(err, 0, "cannot store the head: %s",
		    strerror(errno)));
	return (0);
}

/* Who switched; returns the exit status. */
static int
report(const struct send_state *s)
{

	if (s->leased == 0) {
		(void)printf("no edge held a lease (pkgcast status shows them)\n");
		return (COMMAND_DONE);
	}
	(void)printf("switched %" PRIu64 " of %" PRIu64 " edges", s->acked,
	    s->leased);
	if (s->acked > 0)
		(void)printf(": p50 %" PRId64 " ms, p99 %" PRId64
		    " ms, slowest %s%s%" PRId64 " ms", s->p50_ms, s->p99_ms,
		    s->slowest, s->slowest[0] == '\0' ? "" : " ", s->max_ms);
	(void)printf("\n");
	if (s->nmissing == 0)
		return (COMMAND_DONE);
	(void)printf("not switched, lease ran out: %s\n", s->missing);
	return (COMMAND_UNSWITCHED);
}

/* Where the time went; the last step ends now. */
static void
show_times(const struct release *r, const struct send *s)
{
	int64_t sent = s->sent_ms - r->read_ms;
	int64_t rest = clock_boot_ms() - s->sent_ms - s->state.tree_ms -
	    s->state.prepare_ms;

	(void)fprintf(stderr,
	    "%s: read %.1f s, sent %.1f s, tree %.1f s, prepared %.1f s, switched %.1f s\n",
	    r->set, (double)(r->read_ms - r->began_ms) / 1e3,
	    (double)sent / 1e3, (double)s->state.tree_ms / 1e3,
	    (double)s->state.prepare_ms / 1e3,
	    (double)(rest > 0 ? rest : 0) / 1e3);
}

static int
unchanged(const struct release *r, const struct base *b)
{
	struct send s = { .client = r->client, .base = r->conf->publish };
	struct parse_error err;
	int ret;

	(void)record_forget(r->record);
	(void)printf("%s: nothing changed, generation %" PRIu64
	    " is current\n", r->set, b->head.generation);
	(void)fflush(stdout);
	switch (send_wait(&s, &b->head, &err)) {
	case SEND_DONE:
	case SEND_CONFLICT:
		ret = report(&s.state);
		break;
	case SEND_INTERRUPTED:
		ret = COMMAND_INTERRUPTED;
		break;
	default:
		warnx("%s", err.reason);
		ret = COMMAND_UNSWITCHED;
		break;
	}
	send_state_free(&s.state);
	return (ret);
}

static void
published(const struct release *r, const struct base *b, const struct send *s)
{
	const struct head *h = &s->draft->head;
	char uploaded[COMMAND_BYTES];

	(void)printf("%s: generation %" PRIu64 " published, %" PRIu64
	    " files, %" PRIu64 " new (%s uploaded)\n", r->set, h->generation,
	    h->files, content_new(r->content, b->manifest),
	    command_bytes(s->bytes, uploaded));
}

/* The set may not shrink by accident. */
static int
shrunk(const struct release *r, const struct base *b)
{
	uint64_t lost;

	if (r->force)
		return (0);
	if (content_files(r->content) == 0) {
		warnx("%s: no file to publish; --force publishes an empty set",
		    r->set);
		return (-1);
	}
	if (!b->present)
		return (0);
	lost = content_lost(r->content, b->manifest);
	if (lost <= manifest_files(b->manifest) / 2)
		return (0);
	warnx("%s: %" PRIu64 " of %" PRIu64
	    " files would go: is the folder complete? --force publishes it",
	    r->set, lost, manifest_files(b->manifest));
	return (-1);
}

enum attempt {
	ATTEMPT_OVER,
	ATTEMPT_BUSY,		/* another publish is being committed: wait */
	ATTEMPT_CONFLICT,	/* another head, if the master moved on */
	ATTEMPT_REFUSED		/* another head is needed */
};

static enum attempt
judge(const struct send *s, enum send_result result, bool reused, int *status)
{

	switch (result) {
	case SEND_INTERRUPTED:
		*status = COMMAND_INTERRUPTED;
		return (ATTEMPT_OVER);
	case SEND_CONFLICT:
		return (ATTEMPT_CONFLICT);
	case SEND_FORBIDDEN:
		/* The key may have been replaced since that head was signed. */
		return (reused ? ATTEMPT_REFUSED : ATTEMPT_OVER);
	default:
		return (strcmp(s->state.state, "failed") == 0 ?
		    ATTEMPT_CONFLICT : ATTEMPT_OVER);
	}
}

/* One head, from making it (or finding it) to its fate.  *tried gets its
 * generation. */
static enum attempt
attempt(const struct release *r, const struct base *b, uint64_t *tried,
    int *status, struct parse_error *err)
{
	struct draft *p;
	struct send s = {
		.client = r->client,
		.base = r->conf->publish,
		.scan = r->scan,
		.prepare_wait = r->prepare_wait
	};
	enum attempt ret = ATTEMPT_OVER;
	enum send_result result;
	bool reused;

	*status = COMMAND_FAILED;
	if ((p = calloc(1, sizeof(*p))) == NULL) {
		(void)parse_fail(err, 0, "out of memory");
		return (ATTEMPT_OVER);
	}
	s.draft = p;
	reused = draft_good(r, b, p);
	if (!reused && b->busy) {
		ret = ATTEMPT_BUSY;
		goto out;
	}
	if (!reused && make(r, b, p, err) == -1)
		goto out;
	if (reused && command_verbose)
		(void)fprintf(stderr, "%s: going on with generation %" PRIu64
		    "\n", r->set, p->head.generation);
	*tried = p->head.generation;
	if ((result = send_run(&s, err)) == SEND_DONE) {
		published(r, b, &s);
		*status = report(&s.state);
		if (command_verbose)
			show_times(r, &s);
		(void)record_forget(r->record);
	} else if ((ret = judge(&s, result, reused, status)) ==
	    ATTEMPT_REFUSED)
		(void)record_forget(r->record);
out:
	send_state_free(&s.state);
	draft_free(p);
	free(p);
	return (ret);
}

/* Attempts until one is over; returns the exit status.  err is empty when all
 * was said. */
static int
attempts(const struct release *r, struct base *b, struct parse_error *err)
{
	struct digest before = { .b = { 0 } };
	enum attempt last = ATTEMPT_REFUSED;
	uint64_t tried = 0;
	unsigned n = 0;
	int status = COMMAND_FAILED;

	while (n < ATTEMPTS && !command_stop) {
		base_free(b);
		if (base_get(r, b, err) == -1)
			return (COMMAND_FAILED);
		if (nothing_to_do(r, b)) {
			err->reason[0] = '\0';
			return (unchanged(r, b));
		}
		if (last == ATTEMPT_CONFLICT && !b->busy &&
		    digest_eq(&before, &b->head.digest) &&
		    b->accepted < tried)
			return (COMMAND_FAILED);
		if (shrunk(r, b) == -1) {
			err->reason[0] = '\0';
			return (COMMAND_FAILED);
		}
		before = b->head.digest;
		last = attempt(r, b, &tried, &status, err);
		if (last == ATTEMPT_OVER)
			break;
		if (last == ATTEMPT_BUSY)
			command_sleep_ms(BUSY_MS);
		else
			n++;
	}
	return (status);
}

int
release_run(const struct release *r)
{
	struct parse_error err = { .reason = "" };
	struct base *b;
	int status;

	if ((b = calloc(1, sizeof(*b))) == NULL) {
		warnx("out of memory");
		return (COMMAND_FAILED);
	}
	status = attempts(r, b, &err);
	base_free(b);
	free(b);
	if (command_stop && status == COMMAND_FAILED)
		status = COMMAND_INTERRUPTED;
	if (status == COMMAND_INTERRUPTED)
		warnx("interrupted: repeat the command to go on");
	else if (status == COMMAND_FAILED && err.reason[0] != '\0')
		warnx("%s: %s", r->set, err.reason);
	return (status);
}

int
release_open(const struct pkgcast_conf *conf, const char *set,
    struct client **client, struct record **record, struct seckey **key)
{
	struct parse_error err = { .reason = "out of memory" };
	char *home = NULL, *path = NULL;
	int ret = -1;

	CHECK(set_name_ok(set, strlen(set)));
	if (keys_init() == -1) {
		warnx("libsodium cannot be used");
		return (-1);
	}
	if ((home = home_dir(conf, &err)) == NULL ||
	    (path = home_key(conf, &err)) == NULL ||
	    daemon_secret_ok(path, &err) == -1 ||
	    (*record = record_open(home, set, &err)) == NULL ||
	    (*client = client_new(&command_stop)) == NULL)
		goto out;
	if ((*key = seckey_read(path, password_ask, path, &err)) == NULL) {
		warnx("%s%s", err.reason, access(path, F_OK) == -1 ?
		    ": `pkgcast keys generate` makes a publisher's key" : "");
		goto out_quiet;
	}
	ret = 0;
out:
	if (ret == -1)
		warnx("%s", err.reason);
out_quiet:
	free(home);
	free(path);
	return (ret);
}

int
release_seconds(const char *text, unsigned *s)
{
	unsigned long long v;

	if (parse_u64(text, strlen(text), PREPARE_WAIT_MAX_S, &v) == -1) {
		warnx("--prepare-wait %s: not a number of seconds up to %d",
		    text, PREPARE_WAIT_MAX_S);
		return (-1);
	}
	*s = (unsigned)v;
	return (0);
}
