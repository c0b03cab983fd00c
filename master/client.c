/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP requests of the operators' command, on libcurl's multi interface, which
 * nothing else of this program names.  Called by the commands, in the program's
 * one thread.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <curl/curl.h>

#include "master/client.h"
#include "proto/check.h"
#include "proto/clock.h"
#include "proto/daemon.h"
#include "proto/fd.h"

#define	CONNECT_S	10L
#define	SILENCE_S	120L		/* without a byte either way */
#define	TICK_MS		100
#define	SMALL_BODY	32768		/* goes out with its header */
#define	CLIENT_MAGIC	0x636c6e74u
#define	SLOT_MAGIC	0x736c6f74u
#define	ADDRESS_HINT	"check that pkgcast-master runs there, and the addresses in pkgcast.conf"

struct slot {
	unsigned		 magic;
	bool			 busy;
	CURL			*easy;
	struct curl_slist	*headers;
	struct client		*client;
	struct client_request	 q;
	struct client_answer	 a;
	void			*cookie;
	struct buf		 body;
	char			*small;		/* a file's bytes, SMALL_BODY */
	uint64_t		 sent, got;
	bool			 cut;		/* by sink() or max */
	bool			 short_file;
};

struct client {
	unsigned			 magic;
	CURLM				*multi;
	const volatile sig_atomic_t	*stop;
	long				 silence_s;
	struct slot			 slot[CLIENT_PARALLEL_MAX];
	uint64_t			 moved;
};

struct client *
client_new(const volatile sig_atomic_t *stop)
{
	struct client *c;
	size_t i;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return (NULL);
	if ((c = calloc(1, sizeof(*c))) == NULL)
		return (NULL);
	c->magic = CLIENT_MAGIC;
	c->stop = stop;
	c->silence_s = SILENCE_S;
	if ((c->multi = curl_multi_init()) == NULL) {
		free(c);
		return (NULL);
	}
	for (i = 0; i < CLIENT_PARALLEL_MAX; i++) {
		c->slot[i].magic = SLOT_MAGIC;
		c->slot[i].client = c;
	}
	return (c);
}

void
client_set_silence(struct client *c, unsigned s)
{

	CHECK_OBJ(c, CLIENT_MAGIC);
	c->silence_s = (long)s;
}

void
client_destroy(struct client **c)
{
	size_t i;

	if (*c == NULL)
		return;
	CHECK_OBJ(*c, CLIENT_MAGIC);
	for (i = 0; i < CLIENT_PARALLEL_MAX; i++) {
		if ((*c)->slot[i].easy != NULL)
			curl_easy_cleanup((*c)->slot[i].easy);
		free((*c)->slot[i].small);
	}
	(void)curl_multi_cleanup((*c)->multi);
	explicit_bzero(&(*c)->magic, sizeof((*c)->magic));
	free(*c);
	*c = NULL;
	curl_global_cleanup();
}

static size_t
on_read(char *p, size_t size, size_t n, void *arg)
{
	struct slot *s = arg;
	uint64_t left;
	ssize_t got;

	CHECK_OBJ(s, SLOT_MAGIC);
	left = s->q.size - s->sent;
	n *= size;
	if (n > left)
		n = (size_t)left;
	if (n == 0)
		return (0);
	if (s->q.fd == -1) {
		memcpy(p, (const char *)s->q.body + s->sent, n);
	} else {
		got = pread(s->q.fd, p, n, (off_t)s->sent);
		if (got <= 0) {
			s->short_file = true;
			return (CURL_READFUNC_ABORT);
		}
		n = (size_t)got;
	}
	s->sent += n;
	s->client->moved += n;
	return (n);
}

/* libcurl starts a body again when it has to use another connection. */
static int
on_seek(void *arg, curl_off_t off, int origin)
{
	struct slot *s = arg;

	CHECK_OBJ(s, SLOT_MAGIC);
	if (origin != SEEK_SET || off < 0 || (uint64_t)off > s->q.size)
		return (CURL_SEEKFUNC_CANTSEEK);
	s->client->moved -= s->sent - (uint64_t)off;
	s->sent = (uint64_t)off;
	return (CURL_SEEKFUNC_OK);
}

static size_t
on_write(char *p, size_t size, size_t n, void *arg)
{
	struct slot *s = arg;

	CHECK_OBJ(s, SLOT_MAGIC);
	n *= size;
	if (n > s->q.max || s->got > s->q.max - n) {
		s->cut = true;
		return (0);
	}
	s->got += n;
	s->client->moved += n;
	if (s->q.sink != NULL ? s->q.sink(s->q.arg, p, n) == -1 :
	    buf_add(&s->body, p, n) == -1) {
		s->cut = true;
		return (0);
	}
	return (n);
}

/* Keeps a digest in ETag; each status line begins a new answer. */
static size_t
on_header(char *p, size_t size, size_t n, void *arg)
{
	static const char name[] = "etag:";
	struct slot *s = arg;
	struct digest d;
	size_t i;

	CHECK_OBJ(s, SLOT_MAGIC);
	n *= size;
	if (n >= 5 && memcmp(p, "HTTP/", 5) == 0)
		s->a.etag[0] = '\0';
	if (n < sizeof(name) || strncasecmp(p, name, sizeof(name) - 1) != 0)
		return (n);
	for (i = sizeof(name) - 1; i < n && (p[i] == ' ' || p[i] == '"'); i++)
		;
	if (n - i > DIGEST_HEX && digest_parse(&d, p + i, DIGEST_HEX) == 0)
		(void)digest_hex(&d, s->a.etag);
	return (n);
}

static int
add_header(struct slot *s, const char *line)
{
	struct curl_slist *l;

	if ((l = curl_slist_append(s->headers, line)) == NULL)
		return (-1);
	s->headers = l;
	return (0);
}

/* The whole of a small body, or NULL: then it is read while it is sent. */
static const void *
small_body(struct slot *s)
{

	if (s->q.size > SMALL_BODY)
		return (NULL);
	if (s->q.fd == -1)
		return (s->q.size == 0 ? "" : s->q.body);
	if (s->small == NULL && (s->small = malloc(SMALL_BODY)) == NULL)
		return (NULL);
	if (fd_pread_all(s->q.fd, s->small, (size_t)s->q.size, 0) == -1)
		return (NULL);
	return (s->small);
}

/* One packet, not two, for each of many small files. */
static void
set_small_body(struct slot *s, const void *p)
{
	CURL *e = s->easy;

	(void)curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE,
	    (curl_off_t)s->q.size);
	(void)curl_easy_setopt(e, CURLOPT_POSTFIELDS, p);
	if (s->q.method == CLIENT_PUT)
		(void)curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, "PUT");
	s->sent = s->q.size;
	s->client->moved += s->q.size;
}

static void
set_large_body(struct slot *s)
{
	CURL *e = s->easy;

	(void)curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
	(void)curl_easy_setopt(e, CURLOPT_READDATA, s);
	(void)curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
	(void)curl_easy_setopt(e, CURLOPT_SEEKDATA, s);
	if (s->q.method == CLIENT_PUT) {
		(void)curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
		(void)curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE,
		    (curl_off_t)s->q.size);
	} else {
		(void)curl_easy_setopt(e, CURLOPT_POST, 1L);
		(void)curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE,
		    (curl_off_t)s->q.size);
	}
}

static int
set_body(struct slot *s)
{
	const void *small;

	if (s->q.method == CLIENT_GET)
		return (0);
	if ((small = small_body(s)) != NULL)
		set_small_body(s, small);
	else
		set_large_body(s);
	return (add_header(s, "Expect:") == -1 ||
	    add_header(s, "Content-Type: application/octet-stream") == -1 ?
	    -1 : 0);
}

static int
set_up(struct slot *s)
{
	char line[256];
	CURL *e;

	if (s->easy == NULL && (s->easy = curl_easy_init()) == NULL)
		return (-1);
	e = s->easy;
	curl_easy_reset(e);
	if (s->q.token != NULL) {
		(void)snprintf(line, sizeof(line), "Authorization: Bearer %s",
		    s->q.token);
		if (add_header(s, line) == -1)
			return (-1);
	}
	if (set_body(s) == -1)
		return (-1);
	(void)curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	(void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
	(void)curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	(void)curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
	    (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
	(void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
	(void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME,
	    s->client->silence_s);
	(void)curl_easy_setopt(e, CURLOPT_USERAGENT,
	    "pkgcast/" PKGCAST_VERSION);
	(void)curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_write);
	(void)curl_easy_setopt(e, CURLOPT_WRITEDATA, s);
	(void)curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	(void)curl_easy_setopt(e, CURLOPT_HEADERDATA, s);
	(void)curl_easy_setopt(e, CURLOPT_PRIVATE, s);
	if (curl_easy_setopt(e, CURLOPT_HTTPHEADER, s->headers) != CURLE_OK ||
	    curl_easy_setopt(e, CURLOPT_URL, s->q.url) != CURLE_OK)
		return (-1);
	return (0);
}

static bool
worth_again(CURLcode rc)
{

	switch (rc) {
	case CURLE_COULDNT_CONNECT:
	case CURLE_GOT_NOTHING:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_SEND_FAIL_REWIND:
		return (true);
	default:
		return (false);
	}
}

/* Fills in the answer from how the transfer ended. */
static void
conclude(struct slot *s, CURLcode rc)
{
	long status = 0;

	s->a.refused = s->cut;
	if (rc == CURLE_OK) {
		(void)curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE,
		    &status);
		s->a.status = (unsigned)status;
		s->a.body = buf_take(&s->body, &s->a.len);
		return;
	}
	s->a.again = worth_again(rc);
	if (s->short_file)
		(void)snprintf(s->a.error, sizeof(s->a.error),
		    "%s: the file became shorter while it was sent",
		    s->q.url);
	else if (s->cut)
		(void)snprintf(s->a.error, sizeof(s->a.error),
		    "%s: the answer is longer than it may be", s->q.url);
	else
		(void)snprintf(s->a.error, sizeof(s->a.error), "%s: %s%s%s",
		    s->q.url, curl_easy_strerror(rc),
		    rc == CURLE_COULDNT_CONNECT ||
		    rc == CURLE_COULDNT_RESOLVE_HOST ? ": " : "",
		    rc == CURLE_COULDNT_CONNECT ||
		    rc == CURLE_COULDNT_RESOLVE_HOST ? ADDRESS_HINT : "");
}

static void
slot_end(struct slot *s)
{

	client_answer_free(&s->a);
	buf_free(&s->body);
	curl_slist_free_all(s->headers);
	s->headers = NULL;
	s->busy = false;
}

/* Takes the next request into slot s.  0: none; -1: out of memory. */
static int
slot_begin(struct slot *s, const struct client_batch *b)
{
	struct client_request q;
	void *cookie = NULL;

	memset(&q, 0, sizeof(q));
	q.fd = -1;
	if (!b->next(b->arg, &q, &cookie))
		return (0);
	s->q = q;
	s->cookie = cookie;
	memset(&s->a, 0, sizeof(s->a));
	s->body = (struct buf)BUF_INIT((size_t)q.max + 1);
	s->sent = s->got = 0;
	s->cut = s->short_file = false;
	s->busy = true;
	if (set_up(s) == -1 ||
	    curl_multi_add_handle(s->client->multi, s->easy) != CURLM_OK)
		return (-1);
	return (1);
}

/* Ends finished transfers; -1 when done() wants no more. */
static int
collect(struct client *c, const struct client_batch *b, unsigned *running)
{
	struct slot *s;
	CURLMsg *msg;
	void *private;
	int left, ret = 0;

	while ((msg = curl_multi_info_read(c->multi, &left)) != NULL) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		CHECK(curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE,
		    (char **)&private) == CURLE_OK);
		s = private;
		CHECK_OBJ(s, SLOT_MAGIC);
		conclude(s, msg->data.result);
		(void)curl_multi_remove_handle(c->multi, s->easy);
		--*running;
		if (ret == 0 && b->done(b->arg, s->cookie, &s->a) == -1)
			ret = -1;
		slot_end(s);
	}
	return (ret);
}

/* Gives work to idle slots.  -1: out of memory; that request ends so. */
static int
feed(struct client *c, const struct client_batch *b, unsigned *running,
    bool *more)
{
	struct slot *s;
	unsigned i;
	int got, ret;

	for (i = 0; i < b->parallel && *more; i++) {
		s = &c->slot[i];
		if (s->busy)
			continue;
		if ((got = slot_begin(s, b)) == 0)
			*more = false;
		if (got == 1)
			++*running;
		if (got == -1) {
			(void)snprintf(s->a.error, sizeof(s->a.error),
			    "%s: not a URL that can be used, or out of memory",
			    s->q.url);
			ret = b->done(b->arg, s->cookie, &s->a);
			slot_end(s);
			if (ret == -1)
				return (-1);
		}
	}
	return (0);
}

/* Ends a request that is at work, since all end. */
static void
cut(struct slot *s, const struct client_batch *b)
{

	(void)curl_multi_remove_handle(s->client->multi, s->easy);
	s->a.again = true;
	(void)snprintf(s->a.error, sizeof(s->a.error), "interrupted");
	(void)b->done(b->arg, s->cookie, &s->a);
	slot_end(s);
}

int
client_run(struct client *c, const struct client_batch *b)
{
	unsigned i, running = 0;
	bool more = true;
	int64_t ticked = clock_boot_ms();
	int alive, ret = 0;

	CHECK_OBJ(c, CLIENT_MAGIC);
	CHECK(b->parallel > 0 && b->parallel <= CLIENT_PARALLEL_MAX);
	for (;;) {
		if ((ret = feed(c, b, &running, &more)) == -1 || running == 0)
			break;
		if (c->stop != NULL && *c->stop != 0) {
			ret = -1;
			break;
		}
		(void)curl_multi_perform(c->multi, &alive);
		if ((ret = collect(c, b, &running)) == -1)
			break;
		if ((unsigned)alive == running && running > 0)
			(void)curl_multi_poll(c->multi, NULL, 0, TICK_MS,
			    NULL);
		if (b->tick != NULL && clock_boot_ms() - ticked >= TICK_MS) {
			ticked = clock_boot_ms();
			b->tick(b->arg);
		}
	}
	for (i = 0; i < CLIENT_PARALLEL_MAX; i++)
		if (c->slot[i].busy)
			cut(&c->slot[i], b);
	return (ret);
}

/* A batch of one. */
struct single {
	const struct client_request	*q;
	struct client_answer		*a;
	bool				 given;
};

static bool
single_next(void *arg, struct client_request *q, void **cookie)
{
	struct single *one = arg;

	(void)cookie;
	if (one->given)
		return (false);
	one->given = true;
	*q = *one->q;
	return (true);
}

static int
single_done(void *arg, void *cookie, struct client_answer *a)
{
	struct single *one = arg;

	(void)cookie;
	*one->a = *a;
	a->body = NULL;
	return (0);
}

void
client_do(struct client *c, const struct client_request *q,
    struct client_answer *a)
{
	struct single one = { .q = q, .a = a, .given = false };
	const struct client_batch b = {
		.parallel = 1,
		.next = single_next,
		.done = single_done,
		.arg = &one
	};

	memset(a, 0, sizeof(*a));
	if (client_run(c, &b) == -1 && a->error[0] == '\0')
		(void)snprintf(a->error, sizeof(a->error), "interrupted");
}

void
client_answer_free(struct client_answer *a)
{

	free(a->body);
	a->body = NULL;
	a->len = 0;
}

uint64_t
client_moved(const struct client *c)
{

	return (c->moved);
}

int
client_add_path(struct buf *b, const char *path)
{
	static const char plain[] = "/-._~:+,@=$!*'();&";
	const unsigned char *p;

	for (p = (const unsigned char *)path; *p != '\0'; p++)
		if ((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ||
		    (*p >= '0' && *p <= '9') ||
		    strchr(plain, *p) != NULL)
			(void)buf_add(b, p, 1);
		else
			(void)buf_addf(b, "%%%02X", *p);
	return (b->failed ? -1 : 0);
}
