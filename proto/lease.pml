/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lease protocol as a model (design.md, sections 1 and 5), small enough to
 * be searched exhaustively by spin(1); integration/model does that.  Two edges,
 * one master, one set.  What is a step here is the work of the C functions that
 * its comment names; whoever changes a rule there changes it here.
 *
 * Time is ticks, and as much or as little as one likes happens between two of
 * them.  All times are kept as what is left of them.  The master counts TTL
 * ticks, the edge GOOD, and an edge's clock may miss one of any TTL ticks.  A
 * process that is not run for long (SIGSTOP) is one that takes no step.  Master
 * and edge 0 crash as often as they like, and edge 0 has the slow clock; edge 1,
 * whose leases depend on nothing of edge 0, has neither.  With -DONE_KEY both are
 * living instances of one edge.
 *
 * Promised, and asserted:
 *   G2	 When a publish has returned, no edge that believes itself leased answers
 *	 from an earlier generation to a request that starts after that.  If it
 *	 returned 0, who was leased at the commit has the new generation, unless
 *	 the lease was granted by a master that crashed since: such an edge is
 *	 waited for, but only named if it shows up (wait_join(), left out here).
 *   G7	 What an edge serves never decreases, over crashes too.  Who believes
 *	 itself leased is known as such to the master, so who is cut off from it
 *	 has no lease once the time to live has passed.
 *   Also: nothing is served that was not committed.
 *
 * Not in here: several sets (a set's lease is its own), a master restored from a
 * backup, publishes that come to nothing, and more than two instances of an edge
 * that master or network still remember.
 *
 * -DPLANT_X breaks one rule, and the search has to find it:
 *   FROM_REPLY	  the edge counts a lease from when the reply came
 *   NO_FIFTH	  the edge counts the whole time to live, by a clock that is slow
 *   CLOCK_STOPS  the edge counts by a clock that stops in suspend
 *   ANY_INSTANCE the edge takes a reply to its earlier instance for its own
 *   LOWER_HEAD	  the edge follows a late announcement of an earlier head
 *   SERVE_FIRST  a head is served before it is durable
 *   REPORT_FIRST a head is reported before it is served
 *   PASS_READERS a head is reported while requests are inside the old view
 *   PREPARED	  the edge takes prepare for commit
 *   GRANT_BEHIND the master grants whatever head was reported
 *   SEND_FIRST	  the master sends a grant before it records it
 *   GATHER_FIRST publish reads the records before the head changes
 *   NO_HOLD	  a restarted master does not wait for earlier leases
 *   BY_KEY	  what one instance acknowledges counts for all of its key
 *   NO_NAMES	  an edge that did not acknowledge does not change the status
 *
 * REACHED(n, what) prints n when `what` has come about, so that a search which
 * finds no fault is seen to have been everywhere:
 *   1 the last publish returns 0, and both edges are leased
 *   2 a publish returns 3
 *   3 a request gets a stale answer from before a publish that returned
 *   4 a reply reaches an edge that was started anew since it asked
 *   5 a publish returns 0 though an instance that has a successor ran out
 *   6 a later head acknowledges a publish
 *   7 an edge crashes between a head's being durable and being served
 *   8 a master that was restarted waits for leases that it does not know of
 *   9 a renewal is answered with no lease
 */
c_decl {
static void
been(int n)
{
	static int seen[10];

	if (!seen[n]++)
		printf("reached %d\n", n);
}
}

#ifndef PUBLISHES
#define	PUBLISHES	3
#endif
#define	WIRES		2	/* renewals and replies under way at once */
#ifndef TTL
#define	TTL		2
#endif
#ifdef PLANT_NO_FIFTH
#define	GOOD		TTL
#else
#define	GOOD		(TTL - 1)	/* edge/lease.c: PART_NUM, PART_DEN */
#endif
#define	EDGES		2
#define	RECORDS		3	/* the edges' present instances, and: */
#define	OLD		2	/* the one of edge 0 before that */

#define	NOWHERE		0
#define	TO_MASTER	1
#define	TO_EDGE		2

typedef renewal {		/* or the reply to it */
	byte at;
	byte from;		/* instance, as a record's number */
	byte head;		/* reported: its digest */
	byte left;		/* of the lease that it asked for */
};

typedef edge_state {
	byte head;		/* durable: edge/held.c */
	byte served;		/* proto/site.c: the view */
	byte lease;		/* left; 0: answers are stale */
	byte reading;		/* a request is inside an outdated view */
	byte missed;		/* ticks until its clock may miss one again */
};

typedef member {		/* of a wait: a record */
	byte in;		/* and has not acknowledged */
	byte succeeded;
	byte left;
};

typedef wait_state {		/* of a publish, by generation */
	byte running;
	member m[RECORDS];
	byte leased[EDGES];	/* asserted only: at the commit, and lacks it */
};

renewal net[WIRES];
edge_state edge[EDGES];
byte current;			/* durable: set/<set>/head; 0: none */
byte until[RECORDS];		/* left of what was granted to each */
byte hold;			/* left of what earlier processes granted */
wait_state wait[PUBLISHES + 1];
byte returned;			/* asserted only: newest that did */
#ifdef PLANT_SEND_FIRST
byte owed[RECORDS];
#endif
#ifdef PLANT_GATHER_FIRST
byte gathered;
#endif

hidden byte g, j, k;		/* scratch within a step */
hidden byte ok;

#define	CODE(n)		(((n.at * 3 + n.from) * 4 + n.head) * 4 + n.left)
#define	SWAP(x)		j = net[0].x; net[0].x = net[1].x; net[1].x = j
/* Such a reply is as good as lost. */
#ifdef PLANT_FROM_REPLY
#define	TOO_LATE(n)	false
#else
#define	TOO_LATE(n)	(n.at == TO_EDGE && n.from != OLD && n.left == 0)
#endif
#define	DEC(x)		x = (x > 0 -> x - 1 : 0)
#define	FREE_WIRE	(net[0].at == NOWHERE || net[1].at == NOWHERE)
#ifdef ONE_KEY			/* both edges are instances of one */
#define	OLDER(a, b)	(a != b)
#define	SAME_KEY(a, b)	true
#else
#define	OLDER(a, b)	(a == OLD && b == 0)
#define	SAME_KEY(a, b)	(a == b)
#endif
#if defined(PLANT_LOWER_HEAD)
#define	FOLLOWS(e, new)	(new > 0 && new <= current && !edge[e].reading)
#elif defined(PLANT_PASS_READERS)
#define	FOLLOWS(e, new)	(new > edge[e].head && new <= current)
#else
#define	FOLLOWS(e, new)	(new > edge[e].head && new <= current && \
			!edge[e].reading)
#endif
#ifdef PLANT_CLOCK_STOPS
#define	MAY_MISS	true
#else
#define	MAY_MISS	(edge[0].missed == 0)
#endif
#define	G2(x)		assert(x)
#define	G7(x)		assert(x)
#define	RECORDED(e)	(edge[e].lease <= until[e] || edge[e].lease <= hold)
#define	REACHED(n, what) if \
	:: (what) -> c_code { been(n); } \
	:: else \
	fi

inline forget(n)
{
	n.at = NOWHERE;
	n.from = 0;
	n.head = 0;
	n.left = 0
}

/* Which wire carries what does not matter, nor what is reported if it is neither
 * current nor waited for.  That saves most of the states. */
inline sort()
{
	for (k : 0 .. WIRES - 1) {
		if
		:: net[k].head != current && !wait[net[k].head].running ->
			net[k].head = 0
		:: else
		fi
	}
	if
	:: CODE(net[0]) > CODE(net[1]) ->
		SWAP(at);
		SWAP(from);
		SWAP(head);
		SWAP(left)
	:: else
	fi
}

/*
 * Edge
 */

/* edge/link.c: renew(), with edge/lease.c: leases_sent() and
 * edge/sync_table.c: report_set().  The lease counts from here. */
inline renew(e)
{
	k = 0;
	do
	:: net[k].at != NOWHERE -> k++
	:: else -> break
	od;
	net[k].at = TO_MASTER;
	net[k].from = e;
	net[k].left = GOOD;
#ifdef PLANT_REPORT_FIRST
	net[k].head = edge[e].head
#else
	net[k].head = edge[e].served
#endif
}

/* edge/lease.c: leases_granted().  A reply repeats instance and sequence.  The
 * sequence leads to what is left of the lease; a renewal sent before the one
 * that counts has less left. */
inline leases_granted(e, reply)
{
	if
	:: reply.from == OLD ->
		REACHED(4, true);
#ifdef PLANT_ANY_INSTANCE
		edge[e].lease = GOOD
#endif
	:: reply.from == e ->
#ifdef PLANT_FROM_REPLY
		edge[e].lease = GOOD
#else
		if
		:: reply.left > edge[e].lease -> edge[e].lease = reply.left
		:: else
		fi
#endif
	fi;
	G7(RECORDED(e))
}

inline forget_member(a)
{
	a.in = 0;
	a.succeeded = 0;
	a.left = 0
}

/* edge/main.c: make_instance(), edge/sync.c: sync_start().  What is durable is
 * served at once; memory, requests and the lease are gone. */
inline restart(e)
{
	G7(edge[e].served <= edge[e].head);
	edge[e].served = edge[e].head;
	edge[e].lease = 0;
	edge[e].missed = 0;
	edge[e].reading = 0;
	for (k : 0 .. WIRES - 1) {
		if
		:: net[k].at != NOWHERE && net[k].from == e ->
			net[k].from = OLD;
			net[k].left = 0
		:: else
		fi
	}
	sort();
	until[OLD] = until[e];
	until[e] = 0;
	for (k : 1 .. PUBLISHES) {
		wait[k].m[OLD].in = wait[k].m[e].in;
		wait[k].m[OLD].succeeded = wait[k].m[e].succeeded;
		wait[k].m[OLD].left = wait[k].m[e].left;
		forget_member(wait[k].m[e])
	}
}

/* Only edge 0, and when the instance before is forgotten everywhere. */
inline crash(e)
{
	ok = e == 0 && until[OLD] == 0;
	for (k : 1 .. PUBLISHES) {
		ok = ok && !wait[k].m[OLD].in
	}
	for (k : 0 .. WIRES - 1) {
		ok = ok && (net[k].at == NOWHERE || net[k].from != OLD)
	}
	if
	:: ok -> restart(e)
	:: else
	fi
}

/* edge/sync.c: switch_to(): edge/held.c: held_put() syncs the head, proto/site.c:
 * site_switch() serves it; in between a crash may come. */
inline switch_to(e, new, crashes)
{
#ifdef PLANT_SERVE_FIRST
	edge[e].served = new;
#else
	edge[e].head = new;
#endif
	if
	:: crashes ->
		REACHED(7, e == 0);
		crash(e)
	:: else
	fi;
#ifndef PLANT_REPORT_FIRST
	G7(edge[e].served <= new);
	edge[e].served = new;
#endif
	edge[e].head = new;
	assert(edge[e].served <= current);
	for (j : 1 .. new) {
		for (k : 0 .. EDGES - 1) {
			wait[j].leased[k] = wait[j].leased[k] && !SAME_KEY(k, e)
		}
	}
}

active [EDGES] proctype edges()
{
	do
	:: d_step { FREE_WIRE -> renew(_pid); sort(); skip }

	/* edge/sync.c: sync_prepare().  What is prepared only saves time, so it
	 * leaves no trace here, and nobody need have heard of it. */
#ifdef PLANT_PREPARED
	:: d_step { current < PUBLISHES && edge[_pid].served <= current ->
		switch_to(_pid, (current + 1), false); skip }
#endif

	/* edge/sync.c: consider(), follow_head().  A commit was announced, or
	 * heads were polled, as when a reply says that the set is behind: any
	 * head that was ever current, in any order, twice, late, or not at all.
	 * proto/site.c: exchange() returns, and the head is reported, once no
	 * request is inside the old view. */
	:: d_step { FOLLOWS(_pid, 1) -> switch_to(_pid, 1, false); skip }
	:: d_step { FOLLOWS(_pid, 2) -> switch_to(_pid, 2, false); skip }
	:: d_step { FOLLOWS(_pid, 3) -> switch_to(_pid, 3, false); skip }
	:: d_step { FOLLOWS(_pid, current) && _pid == 0 ->
		switch_to(_pid, current, true); skip }
#ifdef PLANT_REPORT_FIRST
	:: d_step { edge[_pid].served < edge[_pid].head &&
		!edge[_pid].reading -> edge[_pid].served = edge[_pid].head }
#endif

	:: d_step { _pid == 0 -> crash(_pid); skip }

	/* proto/serve.c: look_path(): a request enters the view.  Only those
	 * matter that start after a publish has returned and find a generation
	 * from before it. */
	:: d_step { edge[_pid].served < returned && !edge[_pid].reading ->
		edge[_pid].reading = 1 }
	/* Then edge/serve.c: get_lease() looks at the clock. */
	:: d_step { edge[_pid].reading ->
		G2(edge[_pid].lease == 0);
		REACHED(3, true);
		edge[_pid].reading = 0
	   }
	od
}

/*
 * Master
 */

/* master/roster_wait.c: member_ack(), reported(), succeed().  What is reported is
 * the head waited for, or, once a later one is current, that.  The edge's
 * earlier instances may live on: they are waited for, but need not acknowledge. */
inline member_ack(w, r, reported)
{
	if
	:: wait[w].running && reported > 0 && (reported == w ||
	   (current > w && reported == current)) ->
		REACHED(6, wait[w].m[r].in && reported > w);
		for (k : 0 .. RECORDS - 1) {
			if
			:: OLDER(k, r) && wait[w].m[k].in ->
				wait[w].m[k].succeeded = 1;
#ifdef PLANT_BY_KEY
				wait[w].m[k].left = 0
#endif
			:: else
			fi
		}
		forget_member(wait[w].m[r])
	:: else
	fi
}

/* master/announce.c: handle_renewal(), master/roster.c: renew_locked().  Under
 * the lock of the current head the report is noted, compared with it
 * (find_behind()) and the grant recorded (grant()); then the reply is sent.  One
 * that grants nothing makes the edge poll, which here it may do at any time. */
inline roster_renew(n)
{
	for (g : 1 .. PUBLISHES) {
		member_ack(g, n.from, n.head)
	}
	if
#ifdef PLANT_GRANT_BEHIND
	:: n.at == TO_MASTER ->
#else
	:: n.head == current ->
#endif
#ifdef PLANT_SEND_FIRST
		owed[n.from] = 1;
#else
		until[n.from] = TTL;
#endif
		n.at = TO_EDGE;
		n.head = 0;
		if
		:: TOO_LATE(n) -> forget(n)
		:: else
		fi
	:: else ->
		REACHED(9, true);
		forget(n)
	fi
}

/* master/roster_wait.c: members_gather(), master/roster_cover.c:
 * record_covered(). */
inline members_gather(w)
{
	for (k : 0 .. RECORDS - 1) {
		wait[w].m[k].left = until[k];
		wait[w].m[k].in = wait[w].m[k].left > 0
	}
}

/* master/roster_wait.c: roster_commit(); master/generation.c: decide() renames
 * and syncs set/<set>/head. */
inline roster_commit()
{
	current++;
#ifndef PLANT_GATHER_FIRST
	members_gather(current);
#endif
	wait[current].running = 1;
	for (k : 0 .. EDGES - 1) {
		wait[current].leased[k] = (hold == 0 && edge[k].lease > 0)
	}
}

/* master/roster_wait.c: result_missing(); the status is 0 if none is, else 3. */
inline result(w)
{
	ok = true;
	for (k : 0 .. RECORDS - 1) {
		ok = ok && (!wait[w].m[k].in || wait[w].m[k].succeeded)
	}
	REACHED(2, !ok);
	REACHED(5, ok && wait[w].m[OLD].succeeded);
	REACHED(1, w == PUBLISHES && ok && until[0] > 0 && until[1] > 0);
#ifdef PLANT_NO_NAMES
	ok = true;
#endif
	for (k : 0 .. EDGES - 1) {
		G2(!ok || !wait[w].leased[k])
	}
	returned = (w > returned -> w : returned)
}

inline wait_release(w)
{
	wait[w].running = 0;
	for (k : 0 .. RECORDS - 1) {
		forget_member(wait[w].m[k])
	}
	for (k : 0 .. EDGES - 1) {
		wait[w].leased[k] = 0
	}
}

/* master/roster_wait.c: wait_over(). */
inline wait_over(w)
{
#ifdef PLANT_NO_HOLD
	ok = true;
#else
	ok = hold == 0;
#endif
	for (k : 0 .. RECORDS - 1) {
		ok = ok && (!wait[w].m[k].in || wait[w].m[k].left == 0)
	}
	REACHED(8, hold > 0 && edge[0].lease > until[0]);
	if
	:: ok ->
		result(w);
		wait_release(w);
		sort()
	:: else
	fi
}

/* The next publish may be made while one waits.  Before the commit comes
 * master/pending_run.c: prepare(): who prepares is waited for, but not for ever;
 * so for nobody here. */
active proctype publish()
{
	do
#ifdef PLANT_GATHER_FIRST
	:: d_step { current < PUBLISHES && !gathered ->
		members_gather(current + 1);
		gathered = 1 }
	:: d_step { gathered -> roster_commit(); sort(); gathered = 0 }
#else
	:: d_step { current < PUBLISHES -> roster_commit(); sort(); skip }
#endif
	:: d_step { wait[1].running -> wait_over(1); skip }
#if PUBLISHES > 1
	:: d_step { wait[2].running -> wait_over(2); skip }
#endif
#if PUBLISHES > 2
	:: d_step { wait[3].running -> wait_over(3); skip }
#endif
	od
}

/* Records are lost, and so are waits but that for the current head, which the
 * publisher asks for again (master/roster_wait.c: roster_watch()).  A publish that
 * was being prepared goes on.  What earlier processes granted may live on
 * (master/roster.c: read_ttl()). */
active proctype master_restart()
{
	do
	:: d_step { true ->
		for (g : 1 .. PUBLISHES) {
			ok = wait[g].running && g == current;
			wait_release(g);
			wait[g].running = ok
		}
		for (k : 0 .. RECORDS - 1) {
			until[k] = 0
		}
		sort();
		hold = TTL
	   }
	od
}

/*
 * Network and time
 */

/* Renewals and replies arrive late, out of order, or not; replies twice too. */
#define	WIRE		net[_pid - EDGES - 2]
active [WIRES] proctype wire()
{
	do
	:: d_step { WIRE.at != NOWHERE -> forget(WIRE); sort(); skip }
	:: d_step { WIRE.at == TO_MASTER -> roster_renew(WIRE); sort(); skip }
	:: d_step { WIRE.at == TO_EDGE ->
		leases_granted((WIRE.from % OLD), WIRE); skip }
	od
}

/* The lease, and the age of renewals, go by the edge's clock.  What it missed
 * when nothing was counted is of no account. */
inline tick_edge(e)
{
	edge[e].missed = (edge[e].missed > 0 -> edge[e].missed - 1 : 0);
	DEC(edge[e].lease);
	ok = edge[e].lease > 0;
	for (k : 0 .. WIRES - 1) {
		if
		:: net[k].from == e && net[k].left > 0 ->
			net[k].left--;
			ok = ok || net[k].left > 0;
			if
			:: TOO_LATE(net[k]) -> forget(net[k])
			:: else
			fi
		:: else
		fi
	}
	edge[e].missed = (ok -> edge[e].missed : 0);
	sort()
}

inline tick_master()
{
	DEC(hold);
	for (k : 0 .. RECORDS - 1) {
		DEC(until[k])
	}
	for (g : 1 .. PUBLISHES) {
		for (k : 0 .. RECORDS - 1) {
			DEC(wait[g].m[k].left)
		}
	}
	G7(RECORDED(0) && RECORDED(1))
}

/* Edge 0 has the slow clock. */
active proctype clock()
{
	do
	:: d_step { true -> tick_edge(0); tick_edge(1); tick_master() }
	:: d_step { MAY_MISS -> edge[0].missed = TTL - 1; tick_edge(1);
		tick_master() }
#ifdef PLANT_SEND_FIRST
	:: d_step { owed[0] -> owed[0] = 0; until[0] = TTL }
#endif
	od
}
