/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The only file that names ZeroMQ: the subscriber that hears announcements and
 * the dealer that renews the lease, both owned by one thread, which never waits
 * for anything but them.  What arrives is capped, checked for form and handed to
 * follow.c; what it means is decided there.  The thread can own many links: an
 * edge has one, a swarm of test edges thousands.
 *
 * There are no ZMTP heartbeats (an aborting assertion of libzmq 4.3): a link
 * that is connected and gives no lease reply for a while is made anew, and one
 * that ZeroMQ has given up: the master may allow this key by then, or it is the
 * master again that answers there.  All else is left to ZeroMQ, which connects
 * again and again: a master to which thousands come back at once needs some time
 * for each, and whoever gives up then begins at the end of the queue.  Monitors
 * tell which of these it is.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zmq.h>

#include "edge/link.h"
#include "keys/monitor.h"
#include "keys/zap.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/daemon.h"
#include "proto/fd.h"
#include "proto/log.h"

#define	LINK_MAGIC	0x6c696e6b
#define	LINKS_MAGIC	0x6c696e73
#define	RENEW_MS	3000
#define	RENEW_MIN_MS	100
#define	RENEW_RETRY_MS	1000		/* when a renewal could not be made */
#define	SILENCE_MS	10000		/* no reply, no try: made anew */
#define	SILENCE_JITTER	5		/* spreads a fleet: up to a fifth more */
#define	HANDSHAKE_MS	40000
#define	CONNECTING_MS	60000		/* more than a handshake may take */
#define	CONNECT_MS	3000
#define	RECONNECT_MS	200
#define	RECONNECT_MAX_MS 3000
#define	KEEPALIVE_S	30
#define	KEEPALIVE_STEP_S 10
#define	RECV_QUEUE	1000		/* messages */
#define	SEND_QUEUE	16
#define	DRAIN_MAX	256		/* messages a socket and turn */
#define	FRAME_EXTRA	64		/* what CURVE adds to a frame */
#define	ANNOUNCE_FRAMES	3
#define	KIND_MAX	16		/* "prepare", "commit" */
#define	EVENTS		(ZMQ_EVENT_CONNECTED | ZMQ_EVENT_DISCONNECTED | \
			ZMQ_EVENT_HANDSHAKE_SUCCEEDED | \
			ZMQ_EVENT_CONNECT_RETRIED)
#define	SOCKETS		6		/* of a link; a monitor has two */
#define	SOCKETS_SPARE	64

/* What is polled of a link. */
enum { ITEM_DEALER, ITEM_SUB, ITEM_EVENTS, ITEMS };

struct frame {
	char			*data;
	size_t			 size, len;	/* len > size: was cut */
};

/* A socket, NULL when it is not open, and its monitor. */
struct channel {
	void			*socket, *monitor;
	int64_t			 silent_ms;	/* then made anew, boot clock */
};

struct link {
	unsigned		 magic;
	struct link_conf	 conf;
	struct links		*links;
	atomic_bool		 asked;		/* to renew: any thread */
	struct channel		 dealer, sub;	/* below: the thread only */
	bool			 heard;		/* a reply, on this connection */
	int64_t			 next_ms;	/* renewal, boot clock */
	int64_t			 retry_ms;	/* nothing opened before that */
	int64_t			 every_ms;	/* between renewals */
	_Atomic int64_t		 last_reply;
	_Atomic uint64_t	 renewals, replies, announcements, sockets;
};

struct links {
	unsigned		 magic;
	void			*zmq;
	int			 wake[2];	/* pipe: [1] any thread */
	atomic_bool		 stop;
	bool			 started;
	pthread_t		 thread;
	size_t			 n, max;
	struct link		**link;
	zmq_pollitem_t		*item;		/* the pipe, then each link's */
	char			 text[MESSAGE_MAX];	/* received */
};

bool
link_carries(const struct config_list *sets, const char *set)
{

	if (sets->n == 0)
		return (true);
	for (size_t i = 0; i < sets->n; i++)
		if (strcmp(sets->v[i], set) == 0)
			return (true);
	return (false);
}

static int64_t
jitter(int64_t max_ms)
{
	uint32_t r;

	if (getentropy(&r, sizeof(r)) == -1)
		return (0);
	return ((int64_t)(r % (uint32_t)max_ms));
}

static int
set_int(void *socket, int option, int value)
{

	return (zmq_setsockopt(socket, option, &value, sizeof(value)));
}

/* A socket with the limits of both, not connected yet. */
static void *
new_socket(struct link *l, int type, int64_t max)
{
	const struct link_conf *c = &l->conf;
	void *s;

	if ((s = zmq_socket(l->links->zmq, type)) == NULL)
		return (NULL);
	if (set_int(s, ZMQ_LINGER, 0) == -1 ||
	    set_int(s, ZMQ_IPV6, 1) == -1 ||
	    set_int(s, ZMQ_RCVHWM, RECV_QUEUE) == -1 ||
	    set_int(s, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) == -1 ||
	    set_int(s, ZMQ_CONNECT_TIMEOUT, CONNECT_MS) == -1 ||
	    set_int(s, ZMQ_RECONNECT_IVL, RECONNECT_MS) == -1 ||
	    set_int(s, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) == -1 ||
	    set_int(s, ZMQ_TCP_KEEPALIVE, 1) == -1 ||
	    set_int(s, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_S) == -1 ||
	    set_int(s, ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_STEP_S) == -1 ||
	    zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &max, sizeof(max)) == -1 ||
	    zap_client(s, c->master_key, c->public_key, c->secret_key) == -1) {
		zmq_close(s);
		return (NULL);
	}
	return (s);
}

/* For so long from now, and some more, nothing need be heard of it. */
static void
be_silent(struct channel *ch, int64_t ms)
{

	ch->silent_ms = clock_boot_ms() + ms + jitter(ms / SILENCE_JITTER);
}

static void
channel_close(struct channel *ch)
{

	if (ch->monitor != NULL)
		monitor_close(ch->socket, &ch->monitor);
	if (ch->socket != NULL)
		zmq_close(ch->socket);
	ch->socket = NULL;
}

/* Not connected yet. */
static int
channel_open(struct link *l, struct channel *ch, int type, int64_t max)
{

	be_silent(ch, CONNECTING_MS);
	if ((ch->socket = new_socket(l, type, max)) == NULL ||
	    (ch->monitor = monitor_open(l->links->zmq, ch->socket, EVENTS)) ==
	    NULL)
		return (-1);
	return (0);
}

static void
close_sockets(struct link *l)
{

	channel_close(&l->sub);
	channel_close(&l->dealer);
	l->heard = false;
}

/* Subscriptions match prefixes; whole names are compared on receipt. */
static int
subscribe(struct link *l)
{
	const struct config_list *sets = l->conf.sets;

	if (sets->n == 0)
		return (zmq_setsockopt(l->sub.socket, ZMQ_SUBSCRIBE, "", 0));
	for (size_t i = 0; i < sets->n; i++)
		if (zmq_setsockopt(l->sub.socket, ZMQ_SUBSCRIBE, sets->v[i],
		    strlen(sets->v[i])) == -1)
			return (-1);
	return (0);
}

/*
 * IMMEDIATE: a renewal is not queued for a peer that is not there; it is made
 * when it can be sent.
 */
static int
open_dealer(struct link *l)
{
	struct channel *d = &l->dealer;

	l->next_ms = clock_boot_ms();
	if (channel_open(l, d, ZMQ_DEALER, MESSAGE_MAX + FRAME_EXTRA) == -1 ||
	    set_int(d->socket, ZMQ_IMMEDIATE, 1) == -1 ||
	    set_int(d->socket, ZMQ_SNDHWM, SEND_QUEUE) == -1 ||
	    zmq_connect(d->socket, l->conf.lease) == -1)
		return (-1);
	atomic_fetch_add(&l->sockets, 1);
	return (0);
}

/*
 * Only after a reply: where thousands of edges come back at once, a handshake is
 * long to come, and the one that brings the lease is to come first.
 */
static int
open_sub(struct link *l)
{

	return (channel_open(l, &l->sub, ZMQ_SUB, HEAD_MAX + FRAME_EXTRA) ==
	    -1 || subscribe(l) == -1 ? -1 :
	    zmq_connect(l->sub.socket, l->conf.announce));
}

/*
 * One message of at most max frames; what is longer, or a frame too many, is
 * read and dropped.  Returns the number of frames that it had, 0 when there is
 * none.  ZeroMQ copies them: what it decrypts into belongs to its own thread.
 */
static int
receive(void *socket, struct frame *frame, int max)
{
	struct frame none = { NULL, 0, 0 };
	size_t size = sizeof(int);
	int n = 0, more = 1;

	while (more) {
		struct frame *f = n < max ? &frame[n] : &none;
		int len = zmq_recv(socket, f->data, f->size, ZMQ_DONTWAIT);

		if (len == -1)
			return (0);
		f->len = (size_t)len;
		n++;
		if (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) == -1)
			return (0);
	}
	return (n);
}

static bool
frame_is(const struct frame *f, const char *word)
{

	return (f->len == strlen(word) && memcmp(f->data, word, f->len) == 0);
}

/* set name, "prepare" or "commit", document. */
static void
take_announcement(struct link *l, const struct frame *frame, int n)
{
	static struct log_limit limit;
	char set[SET_NAME_MAX + 1];
	bool commit;

	if (n != ANNOUNCE_FRAMES || frame[0].len > SET_NAME_MAX ||
	    frame[2].len > HEAD_MAX ||
	    !set_name_ok(frame[0].data, frame[0].len) ||
	    (!(commit = frame_is(&frame[1], "commit")) &&
	    !frame_is(&frame[1], "prepare"))) {
		if (log_allowed(&limit, 1))
			log_warn("announcement dropped frames=%d malformed", n);
		return;
	}
	memcpy(set, frame[0].data, frame[0].len);
	set[frame[0].len] = '\0';
	if (!link_carries(l->conf.sets, set))
		return;
	atomic_fetch_add(&l->announcements, 1);
	l->conf.announced(l->conf.arg, set, commit, frame[2].data,
	    frame[2].len);
}

static void
drain_sub(struct link *l)
{
	char set[SET_NAME_MAX], kind[KIND_MAX];
	struct frame frame[ANNOUNCE_FRAMES] = {
		{ set, sizeof(set), 0 }, { kind, sizeof(kind), 0 },
		{ l->links->text, HEAD_MAX, 0 },
	};
	int n = 1;

	for (int turn = 0; n > 0 && turn < DRAIN_MAX; turn++)
		if ((n = receive(l->sub.socket, frame, ANNOUNCE_FRAMES)) > 0)
			take_announcement(l, frame, n);
}

static void
take_reply(struct link *l, const struct frame *frame, int n)
{
	static struct log_limit limit;
	struct parse_error err = { .reason = "more than one frame" };
	struct lease *reply = NULL;

	if (n != 1 || (reply = lease_parse(frame->data, frame->len, &err)) ==
	    NULL) {
		if (log_allowed(&limit, 1))
			log_warn("lease reply dropped reason=\"%s\"",
			    err.reason);
		return;
	}
	if (leases_granted(l->conf.leases, reply)) {
		int64_t now = clock_boot_ms(), third;

		atomic_store(&l->last_reply, now);
		atomic_fetch_add(&l->replies, 1);
		be_silent(&l->dealer, SILENCE_MS);
		third = reply->ttl_ms >= 3 * RENEW_MS ? RENEW_MS :
		    (int64_t)reply->ttl_ms / 3;
		l->every_ms = reply->ttl_ms == 0 ? RENEW_MS :
		    third < RENEW_MIN_MS ? RENEW_MIN_MS : third;
		l->heard = true;
		l->conf.leased(l->conf.arg, reply);
	}
	lease_destroy(&reply);
}

static void
drain_dealer(struct link *l)
{
	struct frame frame = { l->links->text, sizeof(l->links->text), 0 };
	int n = 1;

	for (int turn = 0; n > 0 && turn < DRAIN_MAX; turn++)
		if ((n = receive(l->dealer.socket, &frame, 1)) > 0)
			take_reply(l, &frame, n);
}

/*
 * A lease is heard of all the time, an announcement need not be.  The subscriber
 * goes with the dealer's connection and comes after the next lease.
 */
static void
take_event(struct link *l, struct channel *ch, unsigned event)
{
	bool leases = ch == &l->dealer;

	switch (event) {
	case ZMQ_EVENT_CONNECTED:
		be_silent(ch, CONNECTING_MS);
		if (leases)
			l->next_ms = clock_boot_ms();	/* as soon as it goes */
		break;
	case ZMQ_EVENT_CONNECT_RETRIED:
		be_silent(ch, CONNECTING_MS);
		break;
	case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
		be_silent(ch, SILENCE_MS);
		if (!leases)
			ch->silent_ms = INT64_MAX;
		break;
	case ZMQ_EVENT_DISCONNECTED:
		be_silent(ch, SILENCE_MS);
		if (leases) {
			channel_close(&l->sub);
			l->heard = false;
		}
		break;
	default:
		break;
	}
}

static void
drain_monitor(struct link *l, struct channel *ch)
{
	unsigned event = 1;

	for (int turn = 0; event != 0 && turn < DRAIN_MAX; turn++)
		if ((event = monitor_take(ch->monitor, NULL)) != 0)
			take_event(l, ch, event);
}

/* The moment that counts is taken before anything is said. */
static void
renew(struct link *l)
{
	static struct log_limit limit;
	struct renew r = { .all = false };
	char *text = NULL;
	size_t len = 0;

	r.sequence = leases_sent(l->conf.leases, lease_clock());
	memcpy(r.instance, l->conf.instance, INSTANCE_HEX);
	memcpy(r.version, PKGCAST_VERSION, sizeof(PKGCAST_VERSION));
	l->next_ms = clock_boot_ms() + l->every_ms;
	if (l->conf.report(l->conf.arg, &r) == -1 ||
	    (text = renew_write(&r, &len)) == NULL ||
	    zmq_send(l->dealer.socket, text, len, ZMQ_DONTWAIT) == -1) {
		if (text == NULL && log_allowed(&limit, 1))
			log_warn("renewal not made: out of memory, or more "
			    "than %d sets or %d bytes", MESSAGE_SETS,
			    MESSAGE_MAX);
		l->next_ms = clock_boot_ms() + RENEW_RETRY_MS;
	} else
		atomic_fetch_add(&l->renewals, 1);
	free(text);
	renew_free(&r);
}

/* Opens what is to be open by now; later, if memory or descriptors are short. */
static void
link_open(struct link *l, int64_t now)
{
	static struct log_limit limit;
	struct channel *ch = NULL;

	if (now < l->retry_ms)
		return;
	if (l->dealer.socket == NULL && open_dealer(l) == -1)
		ch = &l->dealer;
	else if (l->heard && l->sub.socket == NULL && open_sub(l) == -1)
		ch = &l->sub;
	if (ch == NULL)
		return;
	if (log_allowed(&limit, 1))
		log_warn("link not opened reason=\"%s\"", zmq_strerror(errno));
	channel_close(ch);
	l->retry_ms = now + RENEW_RETRY_MS;
}

/*
 * What the link waits for, from now on, in its items; the moment when its turn
 * comes in any case.
 */
static int64_t
link_wants(struct link *l, zmq_pollitem_t item[ITEMS], int64_t now)
{
	int64_t until;

	link_open(l, now);
	if (atomic_exchange(&l->asked, false))
		l->next_ms = now;
	memset(item, 0, ITEMS * sizeof(*item));
	/* Not open: a descriptor that poll() passes over. */
	item[ITEM_DEALER].socket = l->dealer.socket;
	item[ITEM_SUB].socket = l->sub.socket;
	item[ITEM_EVENTS].socket = l->dealer.monitor;
	for (int i = 0; i < ITEMS; i++) {
		item[i].fd = -1;
		item[i].events = ZMQ_POLLIN;
	}
	if (l->dealer.socket == NULL)
		return (l->retry_ms);
	until = l->dealer.silent_ms;
	if (now >= l->next_ms)
		item[ITEM_DEALER].events |= ZMQ_POLLOUT;
	else if (l->next_ms < until)
		until = l->next_ms;
	if (l->sub.socket != NULL)
		return (l->sub.silent_ms < until ? l->sub.silent_ms : until);
	return (l->heard && l->retry_ms < until ? l->retry_ms : until);
}

static void
look_for_silence(struct link *l, int64_t now)
{
	static struct log_limit limit;

	if (now >= l->dealer.silent_ms) {
		log_debug("link made anew: no lease reply");
		close_sockets(l);
	} else if (l->sub.socket != NULL && now >= l->sub.silent_ms) {
		if (log_allowed(&limit, 1))
			log_warn("announcements do not come from %s: it "
			    "refused, or is no master; tried again",
			    l->conf.announce);
		channel_close(&l->sub);
	}
}

/*
 * Monitors after the rest: what was received before they told of the end.  The
 * subscriber's can wait for the next lease reply.
 */
static void
link_turn(struct link *l, const zmq_pollitem_t item[ITEMS])
{

	if (l->dealer.socket == NULL)
		return;
	if (item[ITEM_SUB].revents & ZMQ_POLLIN)
		drain_sub(l);
	if (item[ITEM_DEALER].revents & ZMQ_POLLIN) {
		drain_dealer(l);
		if (l->sub.socket != NULL)
			drain_monitor(l, &l->sub);
	}
	if (item[ITEM_EVENTS].revents & ZMQ_POLLIN)
		drain_monitor(l, &l->dealer);
	if (item[ITEM_DEALER].revents & ZMQ_POLLOUT)
		renew(l);
	look_for_silence(l, clock_boot_ms());
}

static void
turn(struct links *ls)
{
	int64_t now = clock_boot_ms(), until = INT64_MAX, at;
	char buf[64];

	for (size_t i = 0; i < ls->n; i++) {
		at = link_wants(ls->link[i], &ls->item[1 + ITEMS * i], now);
		if (at < until)
			until = at;
	}
	if (zmq_poll(ls->item, (int)(1 + ITEMS * ls->n), until > now ?
	    (long)(until - now) : 0) == -1)
		return;
	if (ls->item[0].revents != 0)
		while (read(ls->wake[0], buf, sizeof(buf)) > 0)
			continue;
	for (size_t i = 0; i < ls->n; i++)
		link_turn(ls->link[i], &ls->item[1 + ITEMS * i]);
}

static void *
run(void *arg)
{
	struct links *ls = arg;

	CHECK_OBJ(ls, LINKS_MAGIC);
	while (!atomic_load(&ls->stop))
		turn(ls);
	for (size_t i = 0; i < ls->n; i++)
		close_sockets(ls->link[i]);
	return (NULL);
}

struct links *
links_new(size_t max)
{
	struct links *ls;
	int error;

	if ((ls = calloc(1, sizeof(*ls))) == NULL)
		return (NULL);
	ls->magic = LINKS_MAGIC;
	ls->max = max;
	ls->wake[0] = ls->wake[1] = -1;
	if ((ls->link = calloc(max, sizeof(*ls->link))) == NULL ||
	    (ls->item = calloc(1 + ITEMS * max, sizeof(*ls->item))) == NULL ||
	    fd_wake_pipe(ls->wake) == -1 || (ls->zmq = zmq_ctx_new()) == NULL ||
	    zmq_ctx_set(ls->zmq, ZMQ_MAX_SOCKETS,
	    /* As many again that ZeroMQ has not closed yet. */
	    (int)(2 * SOCKETS * max + SOCKETS_SPARE)) == -1) {
		error = errno;
		links_destroy(&ls);
		errno = error;
		return (NULL);
	}
	ls->item[0].fd = ls->wake[0];
	ls->item[0].events = ZMQ_POLLIN;
	return (ls);
}

struct link *
links_add(struct links *ls, const struct link_conf *c)
{
	struct link *l;

	CHECK_OBJ(ls, LINKS_MAGIC);
	CHECK(!ls->started && ls->n < ls->max);
	if ((l = calloc(1, sizeof(*l))) == NULL)
		return (NULL);
	l->magic = LINK_MAGIC;
	l->conf = *c;
	l->links = ls;
	l->every_ms = RENEW_MS;
	ls->link[ls->n++] = l;
	return (l);
}

int
links_start(struct links *ls)
{

	CHECK_OBJ(ls, LINKS_MAGIC);
	if ((errno = pthread_create(&ls->thread, NULL, run, ls)) != 0)
		return (-1);
	ls->started = true;
	return (0);
}

static void
wake(struct links *ls)
{
	ssize_t n;

	/* A full pipe wakes as well as one more byte would. */
	n = write(ls->wake[1], "", 1);
	(void)n;
}

void
link_renew(struct link *l)
{

	CHECK_OBJ(l, LINK_MAGIC);
	atomic_store(&l->asked, true);
	wake(l->links);
}

void
links_stop(struct links *ls)
{

	if (ls == NULL || !ls->started)
		return;
	CHECK_OBJ(ls, LINKS_MAGIC);
	atomic_store(&ls->stop, true);
	wake(ls);
	pthread_join(ls->thread, NULL);
	ls->started = false;
}

void
links_destroy(struct links **lsp)
{
	struct links *ls = *lsp;

	*lsp = NULL;
	if (ls == NULL)
		return;
	CHECK_OBJ(ls, LINKS_MAGIC);
	CHECK(!ls->started);
	for (size_t i = 0; i < ls->n; i++) {
		CHECK(ls->link[i]->dealer.socket == NULL);
		explicit_bzero(&ls->link[i]->magic, sizeof(ls->link[i]->magic));
		free(ls->link[i]);
	}
	if (ls->zmq != NULL)
		zmq_ctx_term(ls->zmq);
	fd_close(&ls->wake[0]);
	fd_close(&ls->wake[1]);
	free(ls->link);
	free(ls->item);
	explicit_bzero(&ls->magic, sizeof(ls->magic));
	free(ls);
}

void
link_stats(const struct link *l, struct link_stats *s)
{

	CHECK_OBJ(l, LINK_MAGIC);
	s->last_reply = atomic_load(&l->last_reply);
	s->renewals = atomic_load(&l->renewals);
	s->replies = atomic_load(&l->replies);
	s->announcements = atomic_load(&l->announcements);
	s->sockets = atomic_load(&l->sockets);
}
