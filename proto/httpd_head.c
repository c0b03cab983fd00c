/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A request's head, from libmicrohttpd's hands: checked by framing.c and for
 * what the library hides, then kept as far as handlers ask for it.  Called by
 * httpd.c on the server's threads.
 */
#include <stdio.h>
#include <string.h>

#include <microhttpd.h>

#include "proto/check.h"
#include "proto/framing.h"
#include "proto/httpd_recv.h"
#include "proto/httpd_request.h"

struct head_walk {
	struct framing		 framing;
	const char		*end;	/* expected place of the next name */
	size_t			 size;	/* of all values, with room to join */
};

/*
 * libmicrohttpd before 1.0 parses in place and hides bare LF, NUL and folded
 * lines; the gaps between what it found give them away.
 */
static void
check_gap(struct head_walk *w, const char *name, const char *value)
{

#if MHD_VERSION < 0x01000000
	if (name != w->end)
		w->framing.bad = true;
	w->end = value + strlen(value) + 2;	/* CR LF */
#else
	(void)w;
	(void)name;
	(void)value;
#endif
}

/*
 * Likewise the end: it takes a line that begins with a colon for the empty one,
 * and what follows for the next request.
 */
static void
check_end(struct head_walk *w, struct MHD_Connection *mhd, const char *start)
{

#if MHD_VERSION < 0x01000000
	const union MHD_ConnectionInfo *info;

	info = MHD_get_connection_info(mhd,
	    MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	if (info == NULL || start + info->header_size != w->end + 2)
		w->framing.bad = true;
#else
	(void)w;
	(void)mhd;
	(void)start;
#endif
}

static enum MHD_Result
see_field(void *arg, enum MHD_ValueKind kind, const char *name, size_t name_len,
    const char *value, size_t value_len)
{
	struct head_walk *w = arg;

	(void)kind;
	if (value == NULL)		/* a line without a colon */
		w->framing.bad = true;
	if (w->framing.bad)
		return (MHD_NO);
	if (strlen(name) != name_len || strlen(value) != value_len)
		w->framing.bad = true;
	check_gap(w, name, value);
	framing_field(&w->framing, name, value);
	w->size += strlen(value) + sizeof(", ");
	return (MHD_YES);
}

static enum MHD_Result
join_field(void *arg, enum MHD_ValueKind kind, const char *name,
    size_t name_len, const char *value, size_t value_len)
{

	(void)kind;
	(void)name_len;
	(void)value_len;
	httpd_request_join(arg, name, value);
	return (MHD_YES);
}

static enum MHD_Result
keep_field(void *arg, enum MHD_ValueKind kind, const char *name,
    size_t name_len, const char *value, size_t value_len)
{
	struct httpd_request *r = arg;
	struct httpd_join j = { .r = r, .name = name };

	(void)kind;
	(void)name_len;
	(void)value_len;
	if (httpd_request_keep(r, name, value))
		(void)MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND,
		    join_field, &j);
	return (MHD_YES);
}

struct visit {
	void		(*each)(void *, const char *, const char *);
	void		*arg;
};

static enum MHD_Result
visit_field(void *arg, enum MHD_ValueKind kind, const char *name,
    size_t name_len, const char *value, size_t value_len)
{
	struct visit *v = arg;

	(void)kind;
	(void)name_len;
	(void)value_len;
	v->each(v->arg, name, value);
	return (MHD_YES);
}

void
httpd_each_field(const struct httpd_request *r, void (*each)(void *arg,
    const char *name, const char *value), void *arg)
{
	struct visit v = { .each = each, .arg = arg };

	CHECK_OBJ(r, REQUEST_MAGIC);
	(void)MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, visit_field,
	    &v);
}

int
httpd_head_read(struct httpd_request *r, const char *url, const char *method,
    const char *version, bool uploads)
{
	struct head_walk w;
	unsigned verdict;

	(void)memset(&w, 0, sizeof(w));
	r->method = framing_method(method);
	(void)snprintf(r->verb, sizeof(r->verb), "%s", method);
	r->version = strcmp(version, MHD_HTTP_VERSION_1_0) == 0 ? 10 : 11;
#if MHD_VERSION < 0x01000000
	if (url != method + strlen(method) + 1 ||
	    version != url + r->target_len + 1)
		w.framing.bad = true;
	w.end = version + strlen(version) + 2;
#else
	(void)url;
#endif
	(void)MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, see_field,
	    &w);
	check_end(&w, r->mhd, method);
	if (httpd_recv_bad(r->conn.fd))
		w.framing.bad = true;
	if ((verdict = framing_verdict(&w.framing, r->method, version,
	    r->target, uploads)) != 0)
		return ((int)verdict);
	r->length = w.framing.length;
	if (httpd_request_room(r, r->text_len + 2 * w.size + 1) == -1)
		return (-1);
	r->target = r->text;
	(void)MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, keep_field,
	    r);
	return (0);
}
