/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * The lease rules that G2 and G7 rest on (pkgcast-protocol(7)), one case each,
 * against a roster whose clock stands still until a case moves it.
 */
#include <sys/stat.h>
#include <fcntl.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "keys/cert.h"
#include "keys/minisign.h"
#include "master/roster.h"
#include "proto/fd.h"

#define	TTL		10000
#define	START		1000000
#define	ROOM		60000
#define	NEDGE		3
#define	ALL		NULL		/* an edge that carries all sets */

static int64_t		 now;		/* the roster's clock */
static struct roster	*r;
static char		 dir[64], edges_dir[80];
static int		 dirfd_state = -1;
static char		 key[NEDGE][CURVE_TEXT];

static int64_t
fake_clock(void)
{

	return (now);
}

static void
open_roster(uint64_t ttl_ms)
{
	struct roster_conf c = { .dirfd = dirfd_state, .ttl_ms = ttl_ms,
	    .clock = fake_clock };
	struct parse_error err;
	struct edges *e;

	assert_non_null(r = roster_new(&c, &err));
	assert_non_null(e = edges_read(edges_dir, NULL, NULL));
	assert_int_equal(edges_n(e), NEDGE);
	roster_set_edges(r, &e);
	assert_null(e);
}

static int
setup(void **state)
{
	struct cert c;
	char path[128];
	int i;

	(void)state;
	now = START;
	assert_int_equal(keys_init(), 0);
	snprintf(dir, sizeof(dir), "/tmp/test_roster.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(edges_dir, sizeof(edges_dir), "%s/edges", dir);
	assert_int_equal(mkdir(edges_dir, 0700), 0);
	for (i = 0; i < NEDGE; i++) {
		assert_int_equal(cert_new(&c), 0);
		c.secret_key[0] = '\0';
		snprintf(c.name, sizeof(c.name), "e%d", i);
		snprintf(path, sizeof(path), "%s/e%d", edges_dir, i);
		assert_int_equal(cert_write(&c, path, 0644), 0);
		memcpy(key[i], c.public_key, CURVE_TEXT);
	}
	assert_true((dirfd_state = fd_open_dir(AT_FDCWD, dir)) != -1);
	open_roster(TTL);
	return (0);
}

static int
teardown(void **state)
{

	(void)state;
	roster_destroy(&r);
	fd_close(&dirfd_state);
	return (fd_remove_tree(AT_FDCWD, dir));
}

/* The digest that stands for generation g of a set in these tests. */
static struct digest
dig(const char *set, uint64_t g)
{
	struct digest d;
	char text[256];

	digest_of(&d, text, (size_t)snprintf(text, sizeof(text), "%s %llu", set,
	    (unsigned long long)g));
	return (d);
}

/* One set, of which the edge holds generation g (0: nothing). */
static struct lease *
renew_full(int edge, char instance, const char *only, const char *set,
    uint64_t g, const struct digest *prepared, int64_t received)
{
	struct renew_set rs;
	struct renew n;

	memset(&n, 0, sizeof(n));
	memset(&rs, 0, sizeof(rs));
	n.sequence = 7;
	memset(n.instance, instance, INSTANCE_HEX);
	n.all = only == ALL;
	snprintf(rs.name, sizeof(rs.name), "%s", set);
	rs.generation = g;
	rs.digest = dig(set, g);
	if (prepared != NULL) {
		rs.has_prepared = true;
		rs.prepared = *prepared;
	}
	n.set = &rs;
	n.nset = n.all && g == 0 && prepared == NULL ? 0 : 1;
	return (roster_renew(r, key[edge], &n, received, ROOM));
}

static void
renew(int edge, uint64_t g, size_t nbehind)
{
	struct lease *l = renew_full(edge, 'a', ALL, "s", g, NULL, now);

	assert_non_null(l);
	assert_int_equal(l->ttl_ms, TTL);
	assert_int_equal(l->sequence, 7);
	assert_int_equal(l->nbehind, nbehind);
	if (nbehind > 0)
		assert_string_equal(l->behind[0], "s");
	lease_destroy(&l);
}

static int
agree(void *arg)
{

	(void)arg;
	return (0);
}

static int
refuse(void *arg)
{

	(void)arg;
	errno = EEXIST;
	return (-1);
}

static struct roster_wait *
commit(const char *set, uint64_t g)
{
	struct digest d = dig(set, g);
	struct roster_wait *w = roster_commit(r, set, g, &d, INT64_MAX, agree,
	    NULL);

	assert_non_null(w);
	return (w);
}

static void
expect(struct roster_wait *w, enum roster_state state, size_t acked,
    size_t leased, size_t missing)
{
	struct roster_result res;

	assert_int_equal(roster_wait_switched(r, w, 0, &res), state);
	assert_int_equal(res.acked, acked);
	assert_int_equal(res.leased, leased);
	assert_int_equal(res.nmissing, missing);
	roster_result_free(&res);
}

static void
current(const char *set, uint64_t g)
{
	struct digest d = dig(set, g);

	assert_int_equal(roster_set_current(r, set, g, &d), 0);
}

static void
unknown_key_gets_no_reply(void **state)
{
	struct renew n;

	(void)state;
	memset(&n, 0, sizeof(n));
	memset(n.instance, 'a', INSTANCE_HEX);
	assert_null(roster_renew(r, "not a key", &n, now, ROOM));
}

static void
edge_without_the_set_is_behind_and_not_waited_for(void **state)
{
	struct roster_wait *w;

	(void)state;
	current("s", 1);
	renew(0, 0, 1);
	w = commit("s", 2);
	expect(w, ROSTER_OVER, 0, 0, 0);
	roster_wait_destroy(r, &w);
}

static void
equal_digest_is_waited_for_until_it_runs_out(void **state)
{
	struct roster_result res;
	struct roster_wait *w;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	w = commit("s", 2);
	expect(w, ROSTER_RUNNING, 0, 1, 0);
	now += TTL - 1;
	expect(w, ROSTER_RUNNING, 0, 1, 0);
	now += 1;
	assert_int_equal(roster_wait_switched(r, w, 0, &res), ROSTER_OVER);
	assert_int_equal(res.nmissing, 1);
	assert_string_equal(res.missing[0], "e0");
	roster_result_free(&res);
	roster_wait_destroy(r, &w);
}

static void
lease_counts_from_when_the_renewal_came_in(void **state)
{
	struct roster_wait *w;
	struct lease *l;

	(void)state;
	current("s", 1);
	l = renew_full(0, 'a', ALL, "s", 1, NULL, now - 400);
	lease_destroy(&l);
	w = commit("s", 2);
	now += TTL - 401;
	expect(w, ROSTER_RUNNING, 0, 1, 0);
	now += 1;
	expect(w, ROSTER_OVER, 0, 1, 1);
	roster_wait_destroy(r, &w);
}

static void
equal_digest_acknowledges_with_its_time(void **state)
{
	struct roster_result res;
	struct roster_wait *w;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	renew(1, 1, 0);
	now += 5;
	w = commit("s", 2);
	now += 30;
	renew(0, 2, 0);
	expect(w, ROSTER_RUNNING, 1, 2, 0);
	now += 40;
	renew(1, 2, 0);
	assert_int_equal(roster_wait_switched(r, w, 0, &res), ROSTER_OVER);
	assert_int_equal(res.generation, 2);
	assert_int_equal(res.acked, 2);
	assert_int_equal(res.p50_ms, 30);
	assert_int_equal(res.p99_ms, 70);
	assert_int_equal(res.max_ms, 70);
	assert_int_equal(res.nmissing, 0);
	roster_result_free(&res);
	roster_wait_destroy(r, &w);
}

static void
old_digest_is_never_covered_after_the_commit(void **state)
{
	struct roster_wait *w;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	w = commit("s", 2);
	now += 6000;
	renew(0, 1, 1);		/* still on 1: its earlier cover runs on */
	expect(w, ROSTER_RUNNING, 0, 1, 0);
	now += 4000;		/* and ends when it was to end */
	expect(w, ROSTER_OVER, 0, 1, 1);
	roster_wait_destroy(r, &w);
}

static void
earlier_cover_of_a_set_in_behind_still_counts(void **state)
{
	struct roster_wait *w, *w2;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	w = commit("s", 2);
	now += 3000;
	renew(0, 1, 1);
	w2 = commit("s", 3);
	expect(w2, ROSTER_RUNNING, 0, 1, 0);
	now += 7000;
	expect(w2, ROSTER_OVER, 0, 1, 1);
	roster_wait_destroy(r, &w);
	roster_wait_destroy(r, &w2);
}

static void
first_publish_waits_like_any_other(void **state)
{
	struct roster_wait *w, *w2;

	(void)state;
	renew(0, 0, 0);
	w = commit("s", 1);
	expect(w, ROSTER_RUNNING, 0, 1, 0);
	now += 3000;
	renew(0, 0, 1);
	w2 = commit("s", 2);	/* what covered the first covers this one */
	expect(w2, ROSTER_RUNNING, 0, 1, 0);
	now += TTL - 3000;
	expect(w, ROSTER_OVER, 0, 1, 1);
	expect(w2, ROSTER_OVER, 0, 1, 1);
	roster_wait_destroy(r, &w);
	roster_wait_destroy(r, &w2);
}

static void
first_publish_is_acknowledged(void **state)
{
	struct roster_wait *w;

	(void)state;
	renew(0, 0, 0);
	w = commit("s", 1);
	renew(0, 1, 0);
	expect(w, ROSTER_OVER, 1, 1, 0);
	roster_wait_destroy(r, &w);
}

static void
edge_with_a_list_is_covered_for_that_alone(void **state)
{
	struct roster_wait *w, *w2;
	struct lease *l;

	(void)state;
	l = renew_full(0, 'a', "mine", "mine", 0, NULL, now);
	assert_int_equal(l->ttl_ms, TTL);
	assert_int_equal(l->nbehind, 0);
	lease_destroy(&l);
	w = commit("other", 1);
	expect(w, ROSTER_OVER, 0, 0, 0);
	w2 = commit("mine", 1);
	expect(w2, ROSTER_RUNNING, 0, 1, 0);
	l = renew_full(0, 'a', "mine", "mine", 0, NULL, now);
	assert_int_equal(l->nbehind, 1);	/* not "other" */
	assert_string_equal(l->behind[0], "mine");
	lease_destroy(&l);
	roster_wait_destroy(r, &w);
	roster_wait_destroy(r, &w2);
}

static void
each_instance_of_a_key_is_waited_for(void **state)
{
	struct roster_report *p;
	struct roster_wait *w;
	struct lease *l;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	l = renew_full(0, 'b', ALL, "s", 1, NULL, now);
	lease_destroy(&l);
	w = commit("s", 2);
	renew(0, 2, 0);
	expect(w, ROSTER_RUNNING, 1, 2, 0);
	assert_non_null(p = roster_report_new(r));
	assert_int_equal(p->nedge, NEDGE);
	assert_string_equal(p->edge[0].edge.name, "e0");
	assert_true(p->edge[0].duplicate);
	assert_false(p->edge[1].duplicate);
	assert_int_equal(p->edge[0].ninstance, 2);
	roster_report_destroy(&p);
	now += TTL;
	expect(w, ROSTER_OVER, 1, 2, 1);	/* the silent one by name */
	roster_wait_destroy(r, &w);
}

static void
refused_decision_changes_nothing(void **state)
{
	struct digest d = dig("s", 2);

	(void)state;
	current("s", 1);
	assert_null(roster_commit(r, "s", 2, &d, INT64_MAX, refuse,
	    NULL));
	assert_int_equal(errno, EEXIST);
	assert_int_equal(roster_generation(r, "s"), 1);
	renew(0, 1, 0);
	assert_null(roster_commit(r, "new", 1, &d, INT64_MAX, refuse,
	    NULL));
	assert_int_equal(roster_generation(r, "new"), 0);
}

static void
later_current_head_acknowledges_an_earlier_wait(void **state)
{
	struct roster_wait *w, *w2;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	w = commit("s", 2);
	w2 = commit("s", 3);
	renew(0, 3, 0);
	expect(w, ROSTER_OVER, 1, 1, 0);
	expect(w2, ROSTER_OVER, 1, 1, 0);
	roster_wait_destroy(r, &w);
	roster_wait_destroy(r, &w2);
}

static void
edge_ahead_is_neither_current_nor_acknowledges(void **state)
{
	struct roster_wait *w;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	w = commit("s", 2);
	renew(0, 9, 1);
	expect(w, ROSTER_RUNNING, 0, 1, 0);
	assert_true(roster_ahead_news(r, "s", 9));
	assert_false(roster_ahead_news(r, "s", 9));
	assert_false(roster_ahead_news(r, "s", 2));
	assert_true(roster_ahead_news(r, "s", 10));
	roster_wait_destroy(r, &w);
}

static void
set_that_only_the_edge_has_is_behind(void **state)
{

	(void)state;
	renew(0, 4, 1);
}

static void
after_a_start_nothing_is_over_before_the_longest_ttl(void **state)
{
	struct roster_wait *w;

	(void)state;
	renew(0, 0, 0);			/* this process granted TTL */
	roster_destroy(&r);
	now += 2000;
	open_roster(TTL);
	current("s", 1);
	w = commit("s", 2);
	expect(w, ROSTER_RUNNING, 0, 0, 0);
	now += TTL - 1;
	expect(w, ROSTER_RUNNING, 0, 0, 0);
	now += 1;
	expect(w, ROSTER_OVER, 0, 0, 0);
	roster_wait_destroy(r, &w);
}

static void
edges_that_show_up_after_a_start_must_acknowledge(void **state)
{
	struct roster_result res;
	struct roster_wait *w;

	(void)state;
	renew(0, 0, 0);
	roster_destroy(&r);
	open_roster(TTL);
	current("s", 1);
	w = commit("s", 2);
	now += 1000;
	renew(0, 1, 1);
	renew(1, 2, 0);
	expect(w, ROSTER_RUNNING, 1, 2, 0);
	now += TTL - 1001;
	renew(2, 1, 1);
	expect(w, ROSTER_RUNNING, 1, 3, 0);
	now += 1;
	assert_int_equal(roster_wait_switched(r, w, 0, &res), ROSTER_OVER);
	assert_int_equal(res.nmissing, 2);
	assert_string_equal(res.missing[0], "e0");
	assert_string_equal(res.missing[1], "e2");
	roster_result_free(&res);
	roster_wait_destroy(r, &w);
}

static void
edge_seen_after_a_start_is_covered_by_the_hold(void **state)
{
	struct roster_wait *w;

	(void)state;
	renew(0, 0, 0);
	roster_destroy(&r);
	open_roster(TTL);
	current("s", 2);
	renew(0, 1, 1);		/* behind, but may hold the old process's lease */
	w = commit("s", 3);
	expect(w, ROSTER_RUNNING, 0, 1, 0);
	renew(0, 3, 0);
	expect(w, ROSTER_RUNNING, 1, 1, 0);
	now += TTL;
	expect(w, ROSTER_OVER, 1, 1, 0);
	roster_wait_destroy(r, &w);
}

static void
longest_ttl_is_on_disk_before_a_grant(void **state)
{
	struct stat st, st2;
	char *text;
	size_t len;

	(void)state;
	assert_null(fd_slurp(dirfd_state, "ttl", 64, &len));
	renew(0, 0, 0);
	assert_non_null(text = fd_slurp(dirfd_state, "ttl", 64, &len));
	assert_string_equal(text, "10000\n");
	free(text);
	assert_int_equal(fstatat(dirfd_state, "ttl", &st, 0), 0);
	renew(0, 0, 0);
	renew(1, 0, 0);
	assert_int_equal(fstatat(dirfd_state, "ttl", &st2, 0), 0);
	assert_int_equal(st.st_ino, st2.st_ino);	/* not once a renewal */
	roster_destroy(&r);
	open_roster(TTL / 2);		/* a smaller one leaves it */
	lease_destroy(&(struct lease *){ renew_full(0, 'a', ALL, "s", 0, NULL,
	    now) });
	assert_non_null(text = fd_slurp(dirfd_state, "ttl", 64, &len));
	assert_string_equal(text, "10000\n");
	free(text);
}

static void
no_lease_when_the_ttl_cannot_be_recorded(void **state)
{
	struct lease *l;

	(void)state;
	assert_int_equal(mkdirat(dirfd_state, ".new.ttl", 0700), 0);
	l = renew_full(0, 'a', ALL, "s", 0, NULL, now);
	assert_non_null(l);
	assert_int_equal(l->ttl_ms, 0);
	lease_destroy(&l);
}

static void
damaged_ttl_is_refused_with_advice(void **state)
{
	static const char *const bad[] = { "", "\n", "10000", "x\n", "-1\n",
	    "99999999999\n" };
	struct roster_conf c = { .dirfd = dirfd_state, .ttl_ms = TTL };
	struct parse_error err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(fd_replace(dirfd_state, "ttl", bad[i],
		    strlen(bad[i]), 0644), 0);
		assert_null(roster_new(&c, &err));
		assert_non_null(strstr(err.reason, "link.ttl"));
	}
}

static void
too_large_a_reply_grants_nothing(void **state)
{
	struct roster_wait *w;
	struct lease *l;
	struct renew n;

	(void)state;
	current("s", 1);
	memset(&n, 0, sizeof(n));
	n.all = true;
	memset(n.instance, 'a', INSTANCE_HEX);
	l = roster_renew(r, key[0], &n, now, 3);
	assert_non_null(l);
	assert_int_equal(l->ttl_ms, 0);
	assert_int_equal(l->nbehind, 0);
	lease_destroy(&l);
	w = commit("new", 1);
	expect(w, ROSTER_OVER, 0, 0, 0);
	roster_wait_destroy(r, &w);
	l = roster_renew(r, key[0], &n, now, 4 + 6);
	assert_int_equal(l->ttl_ms, TTL);
	lease_destroy(&l);
}

static void
revoked_edge_gets_no_reply_but_its_lease_counts(void **state)
{
	struct roster_wait *w;
	struct edges *e;
	char path[128], name[ROSTER_NAME];

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	snprintf(path, sizeof(path), "%s/e0", edges_dir);
	assert_int_equal(unlink(path), 0);
	assert_non_null(e = edges_read(edges_dir, NULL, NULL));
	roster_set_edges(r, &e);
	assert_false(roster_edge_name(r, key[0], name));
	assert_true(roster_edge_name(r, key[1], name));
	assert_string_equal(name, "e1");
	assert_null(renew_full(0, 'a', ALL, "s", 1, NULL, now));
	w = commit("s", 2);
	expect(w, ROSTER_RUNNING, 0, 1, 0);
	now += TTL;
	expect(w, ROSTER_OVER, 0, 1, 1);
	roster_wait_destroy(r, &w);
}

static void
prepare_waits_for_leased_edges(void **state)
{
	struct digest d = dig("s", 2);
	size_t prepared, leased;
	struct lease *l;

	(void)state;
	current("s", 1);
	assert_int_equal(roster_wait_prepared(r, "s", &d, 0, NULL, NULL),
	    ROSTER_OVER);			/* nobody to wait for */
	renew(0, 1, 0);
	renew(1, 1, 0);
	renew(2, 0, 1);				/* has no lease for it */
	l = renew_full(0, 'a', ALL, "s", 1, &d, now);
	lease_destroy(&l);
	assert_int_equal(roster_wait_prepared(r, "s", &d, 0, &prepared,
	    &leased), ROSTER_RUNNING);
	assert_int_equal(prepared, 1);
	assert_int_equal(leased, 2);
	l = renew_full(1, 'a', ALL, "s", 1, &d, now);
	lease_destroy(&l);
	assert_int_equal(roster_wait_prepared(r, "s", &d, 0, &prepared,
	    &leased), ROSTER_OVER);
	assert_int_equal(prepared, 2);
}

static void
instances_of_a_key_are_bounded(void **state)
{
	struct lease *l;
	int i;

	(void)state;
	for (i = 0; i < ROSTER_INSTANCES; i++) {
		l = renew_full(0, (char)('a' + i), ALL, "s", 0, NULL, now);
		assert_int_equal(l->ttl_ms, TTL);
		lease_destroy(&l);
	}
	l = renew_full(0, 'z', ALL, "s", 0, NULL, now);
	assert_int_equal(l->ttl_ms, 0);
	lease_destroy(&l);
	now += TTL;			/* those that ran out make way */
	l = renew_full(0, 'z', ALL, "s", 0, NULL, now);
	assert_int_equal(l->ttl_ms, TTL);
	lease_destroy(&l);
}

static size_t
instances(size_t edge)
{
	struct roster_report *p = roster_report_new(r);
	size_t n;

	assert_non_null(p);
	n = p->edge[edge].ninstance;
	roster_report_destroy(&p);
	return (n);
}

static void
silent_records_are_forgotten(void **state)
{

	(void)state;
	renew(0, 0, 0);
	now += ROSTER_SILENCE_MS - 1;
	renew(1, 0, 0);
	assert_int_equal(instances(0), 1);
	now += 60000;
	renew(1, 0, 0);
	assert_int_equal(instances(0), 0);
	assert_int_equal(instances(1), 1);
}

static void
repeated_publish_shares_the_running_wait(void **state)
{
	struct roster_wait *w, *w2, *w3;

	(void)state;
	assert_null(roster_watch(r, "s"));
	assert_int_equal(errno, ENOENT);
	current("s", 1);
	renew(0, 1, 0);
	w = commit("s", 2);
	w2 = roster_watch(r, "s");
	assert_ptr_equal(w, w2);
	roster_wait_destroy(r, &w);
	renew(0, 2, 0);
	expect(w2, ROSTER_OVER, 1, 1, 0);
	w3 = roster_watch(r, "s");	/* afterwards: who has it now */
	assert_ptr_not_equal(w2, w3);
	expect(w3, ROSTER_OVER, 1, 1, 0);
	roster_wait_destroy(r, &w2);
	roster_wait_destroy(r, &w3);
}

static void
end_that_nobody_saw_is_kept(void **state)
{
	struct roster_report *p;
	struct roster_wait *w, *w2;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	w = commit("s", 2);
	now += TTL;
	assert_non_null(p = roster_report_new(r));
	assert_int_equal(p->nswitch, 1);
	assert_true(p->last[0].over);
	assert_string_equal(p->last[0].set, "s");
	assert_int_equal(p->last[0].result.nmissing, 1);
	roster_report_destroy(&p);
	w2 = roster_watch(r, "s");
	expect(w2, ROSTER_OVER, 0, 1, 1);
	roster_wait_destroy(r, &w);
	roster_wait_destroy(r, &w2);
}

static void
report_tells_what_each_instance_holds(void **state)
{
	const struct roster_report_instance *i;
	struct roster_report *p;

	(void)state;
	current("s", 2);
	renew(0, 2, 0);
	renew(1, 1, 1);
	now += 100;
	assert_non_null(p = roster_report_new(r));
	i = &p->edge[0].instance[0];
	assert_true(p->edge[0].leased && i->leased && i->set[0].current);
	assert_true(i->set[0].leased);
	assert_int_equal(i->silent_ms, 100);
	i = &p->edge[1].instance[0];
	assert_false(p->edge[1].leased || i->leased || i->set[0].current);
	assert_string_equal(i->set[0].name, "s");
	assert_int_equal(i->set[0].generation, 1);
	assert_int_equal(i->set[0].here, 2);
	assert_int_equal(i->set[0].behind_ms, 100);
	assert_int_equal(i->set[0].switched_ms, -1);
	assert_int_equal(i->left_ms, TTL - 100);
	assert_false(p->edge[2].leased);
	roster_report_destroy(&p);
}

/* What the report says of an edge's only set. */
static struct roster_report_set
reported(size_t edge)
{
	struct roster_report *p = roster_report_new(r);
	struct roster_report_set s;

	assert_non_null(p);
	assert_int_equal(p->edge[edge].instance[0].nset, 1);
	s = p->edge[edge].instance[0].set[0];
	roster_report_destroy(&p);
	return (s);
}

static void
expect_lag(size_t edge, uint64_t generation, int64_t behind_ms,
    int64_t switched_ms, int64_t took_ms)
{
	struct roster_report_set s = reported(edge);

	assert_int_equal(s.generation, generation);
	assert_int_equal(s.behind_ms, behind_ms);
	assert_int_equal(s.switched_ms, switched_ms);
	assert_int_equal(s.took_ms, took_ms);
	assert_true(s.current == (behind_ms == -1));
}

static void
report_tells_who_lags_and_since_when(void **state)
{
	struct roster_wait *w;

	(void)state;
	current("s", 2);
	renew(0, 2, 0);
	renew(1, 2, 0);
	expect_lag(0, 2, -1, -1, -1);		/* no switch was seen */
	now += 1000;
	w = commit("s", 3);
	roster_wait_destroy(r, &w);
	now += 40;
	renew(0, 3, 0);
	expect_lag(0, 3, -1, 0, 40);
	expect_lag(1, 2, 40, -1, -1);		/* silent, and counted */
	now += 60;
	w = commit("s", 4);
	roster_wait_destroy(r, &w);
	now += 900;
	renew(1, 2, 1);
	expect_lag(0, 3, 900, 960, 40);
	expect_lag(1, 2, 1000, -1, -1);		/* since it lacked the first */
	assert_int_equal(reported(1).here, 4);
	renew(1, 4, 0);
	now += 5;
	expect_lag(1, 4, -1, 5, 900);
	/* A start is no switch; what is ahead is not current. */
	renew(2, 7, 1);
	assert_false(reported(2).current);
	assert_true(reported(2).generation > reported(2).here);
}

static void
report_tells_what_an_edge_lacks(void **state)
{
	struct roster_wait *w;

	(void)state;
	renew(0, 0, 0);
	now += 10;
	w = commit("s", 1);
	roster_wait_destroy(r, &w);
	now += 20;
	expect_lag(0, 0, 20, -1, -1);
	renew(0, 1, 0);
	expect_lag(0, 1, -1, 0, 20);
	/* Started after the publish. */
	renew(1, 0, 1);
	now += 30;
	expect_lag(1, 0, 30, -1, -1);
	renew(1, 1, 0);
	expect_lag(1, 1, -1, 0, 50);
}

static void
an_edge_that_was_started_anew_is_not_two(void **state)
{
	struct roster_report *p;
	struct lease *l;
	int i;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	for (i = 0; i < 2; i++) {
		now += 1000;
		l = renew_full(0, 'b', ALL, "s", 1, NULL, now);
		lease_destroy(&l);
		assert_non_null(p = roster_report_new(r));
		assert_int_equal(p->edge[0].ninstance, 2);
		assert_false(p->edge[0].duplicate);
		roster_report_destroy(&p);
	}
	now += 1000;
	renew(0, 1, 0);		/* the first one is still there */
	assert_non_null(p = roster_report_new(r));
	assert_true(p->edge[0].duplicate);
	roster_report_destroy(&p);
}

static void
stop_ends_waits(void **state)
{
	struct roster_result res;
	struct roster_wait *w;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	w = commit("s", 2);
	roster_stop(r);
	assert_int_equal(roster_wait_switched(r, w, 60000, &res),
	    ROSTER_STOPPED);
	roster_result_free(&res);
	roster_wait_destroy(r, &w);
}

static struct roster_wait *
commit_since(const char *set, uint64_t g, int64_t since)
{
	struct digest d = dig(set, g);
	struct roster_wait *w = roster_commit(r, set, g, &d, since, agree,
	    NULL);

	assert_non_null(w);
	return (w);
}

static void
lease_that_ran_out_since_prepare_is_named(void **state)
{
	struct roster_result res;
	struct roster_wait *w;
	int64_t since;

	(void)state;
	current("s", 1);
	renew(1, 1, 0);
	now += TTL;			/* e1's is over before prepare began */
	renew(0, 1, 0);
	since = now;
	now += TTL;			/* e0's when it ended */
	w = commit_since("s", 2, since);
	assert_int_equal(roster_wait_switched(r, w, 0, &res), ROSTER_OVER);
	assert_int_equal(res.leased, 1);
	assert_int_equal(res.nmissing, 1);
	assert_string_equal(res.missing[0], "e0");
	roster_result_free(&res);
	roster_wait_destroy(r, &w);
}

static void
edge_back_since_prepare_is_waited_for_once(void **state)
{
	struct roster_wait *w;
	int64_t since;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	since = now;
	now += TTL + 1;
	renew(0, 1, 0);
	w = commit_since("s", 2, since);
	expect(w, ROSTER_RUNNING, 0, 1, 0);
	renew(0, 2, 0);
	expect(w, ROSTER_OVER, 1, 1, 0);
	roster_wait_destroy(r, &w);
}

static void
renew_as(char instance, uint64_t g)
{
	struct lease *l = renew_full(0, instance, ALL, "s", g, NULL, now);

	assert_non_null(l);
	lease_destroy(&l);
}

static void
edge_started_anew_is_not_named_when_it_acknowledged(void **state)
{
	struct roster_wait *w;
	int64_t since;

	(void)state;
	current("s", 1);
	renew_as('a', 1);
	renew_as('b', 1);		/* before the commit */
	w = commit("s", 2);
	renew_as('b', 2);
	expect(w, ROSTER_RUNNING, 1, 2, 0);	/* a's lease may be in use */
	now += TTL;
	expect(w, ROSTER_OVER, 1, 1, 0);
	roster_wait_destroy(r, &w);

	renew_as('b', 2);		/* b's ran out while it prepared */
	since = now;
	now += TTL;
	renew_as('c', 2);
	w = commit_since("s", 3, since);
	expect(w, ROSTER_RUNNING, 0, 2, 1);
	renew_as('c', 3);
	expect(w, ROSTER_OVER, 1, 1, 0);
	roster_wait_destroy(r, &w);

	renew_as('c', 3);
	w = commit("s", 4);
	renew_as('d', 3);		/* after the commit */
	expect(w, ROSTER_RUNNING, 0, 1, 0);
	renew_as('d', 4);
	expect(w, ROSTER_RUNNING, 0, 1, 0);
	now += TTL;
	expect(w, ROSTER_OVER, 0, 0, 0);
	roster_wait_destroy(r, &w);
}

static void
edge_started_anew_is_named_while_it_has_not_acknowledged(void **state)
{
	struct roster_wait *w;

	(void)state;
	current("s", 1);
	renew_as('a', 1);
	w = commit("s", 2);
	renew_as('b', 1);
	now += TTL;
	expect(w, ROSTER_OVER, 0, 1, 1);
	roster_wait_destroy(r, &w);
}

static void
another_edge_does_not_acknowledge_for_it(void **state)
{
	struct roster_wait *w;

	(void)state;
	current("s", 1);
	renew(0, 1, 0);
	renew(1, 1, 0);
	w = commit("s", 2);
	renew(1, 2, 0);
	now += TTL;
	expect(w, ROSTER_OVER, 1, 2, 1);
	roster_wait_destroy(r, &w);
}

static void
more_sets_than_a_reply_may_name_grant_nothing(void **state)
{
	struct lease *l;
	struct renew n;
	char name[32];
	int i;

	(void)state;
	memset(&n, 0, sizeof(n));
	n.all = true;
	memset(n.instance, 'a', INSTANCE_HEX);
	for (i = 0; i <= MESSAGE_SETS; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		current(name, 1);
	}
	l = roster_renew(r, key[0], &n, now, ROOM);
	assert_non_null(l);
	assert_int_equal(l->ttl_ms, 0);
	assert_int_equal(l->nbehind, 0);
	lease_destroy(&l);
}

#define	CASE(f)	cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(unknown_key_gets_no_reply),
		CASE(edge_without_the_set_is_behind_and_not_waited_for),
		CASE(equal_digest_is_waited_for_until_it_runs_out),
		CASE(lease_counts_from_when_the_renewal_came_in),
		CASE(equal_digest_acknowledges_with_its_time),
		CASE(old_digest_is_never_covered_after_the_commit),
		CASE(earlier_cover_of_a_set_in_behind_still_counts),
		CASE(first_publish_waits_like_any_other),
		CASE(first_publish_is_acknowledged),
		CASE(edge_with_a_list_is_covered_for_that_alone),
		CASE(each_instance_of_a_key_is_waited_for),
		CASE(refused_decision_changes_nothing),
		CASE(later_current_head_acknowledges_an_earlier_wait),
		CASE(edge_ahead_is_neither_current_nor_acknowledges),
		CASE(set_that_only_the_edge_has_is_behind),
		CASE(after_a_start_nothing_is_over_before_the_longest_ttl),
		CASE(edges_that_show_up_after_a_start_must_acknowledge),
		CASE(edge_seen_after_a_start_is_covered_by_the_hold),
		CASE(longest_ttl_is_on_disk_before_a_grant),
		CASE(no_lease_when_the_ttl_cannot_be_recorded),
		CASE(damaged_ttl_is_refused_with_advice),
		CASE(too_large_a_reply_grants_nothing),
		CASE(revoked_edge_gets_no_reply_but_its_lease_counts),
		CASE(prepare_waits_for_leased_edges),
		CASE(instances_of_a_key_are_bounded),
		CASE(silent_records_are_forgotten),
		CASE(repeated_publish_shares_the_running_wait),
		CASE(end_that_nobody_saw_is_kept),
		CASE(report_tells_what_each_instance_holds),
		CASE(report_tells_who_lags_and_since_when),
		CASE(report_tells_what_an_edge_lacks),
		CASE(an_edge_that_was_started_anew_is_not_two),
		CASE(lease_that_ran_out_since_prepare_is_named),
		CASE(edge_back_since_prepare_is_waited_for_once),
		CASE(edge_started_anew_is_not_named_when_it_acknowledged),
		CASE(edge_started_anew_is_named_while_it_has_not_acknowledged),
		CASE(another_edge_does_not_acknowledge_for_it),
		CASE(more_sets_than_a_reply_may_name_grant_nothing),
		CASE(stop_ends_waits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("roster", tests, NULL, NULL));
}
