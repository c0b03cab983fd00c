/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which content coding a request for a manifest or chunk table is answered with.
 * Pure functions on header values, which are any bytes without NUL.  Called by
 * serve.c on HTTP threads, and by an edge that asks its upstreams.
 */
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "proto/base64.h"
#include "proto/coding.h"

#define	WEIGHT_MAX	1000
#define	WEIGHT_UNSAID	(-1)

/* What a field says of the codings that concern us. */
struct weights {
	int	identity, zstd, dcz, any;	/* "*" */
};

const char *
coding_name(enum coding c)
{

	switch (c) {
	case CODING_ZSTD:
		return ("zstd");
	case CODING_DCZ:
		return ("dcz");
	case CODING_NONE:
		break;
	}
	return (NULL);
}

static const char *
skip_blanks(const char *s)
{

	return (s + strspn(s, " \t"));
}

/* RFC 9110, 5.6.2. */
static size_t
token(const char *s)
{

	return (strspn(s, "!#$%&'*+-.^_`|~0123456789"
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"));
}

/* RFC 9110, 12.4.2: ";q=0.5", at most three digits, in thousandths; moves *s
 * beyond it.  WEIGHT_MAX where there is none; -1: malformed. */
static int
weight(const char **s)
{
	const char *p = skip_blanks(*s);
	int w, unit = WEIGHT_MAX;

	if (*p != ';')
		return (WEIGHT_MAX);
	p = skip_blanks(p + 1);
	if ((*p != 'q' && *p != 'Q') || p[1] != '=' ||
	    (p[2] != '0' && p[2] != '1'))
		return (-1);
	w = p[2] == '1' ? WEIGHT_MAX : 0;
	p += 3;
	if (*p == '.')
		for (p++; *p >= '0' && *p <= '9' && unit > 1; p++) {
			unit /= 10;
			w += (*p - '0') * unit;
		}
	*s = p;
	return (w > WEIGHT_MAX ? -1 : w);
}

/* Of several for one coding the lowest counts. */
static void
note(int *place, int w)
{

	if (*place == WEIGHT_UNSAID || w < *place)
		*place = w;
}

static bool
is(const char *name, const char *p, size_t len)
{

	return (strlen(name) == len && strncasecmp(name, p, len) == 0);
}

static void
note_coding(struct weights *all, const char *p, size_t len, int w)
{

	if (is("identity", p, len))
		note(&all->identity, w);
	else if (is("zstd", p, len))
		note(&all->zstd, w);
	else if (is("dcz", p, len))
		note(&all->dcz, w);
	else if (is("*", p, len))
		note(&all->any, w);
}

static int
parse(const char *s, struct weights *all)
{
	const char *name;
	size_t len;
	int w;

	for (;;) {
		s += strspn(s, " \t,");		/* empty elements are legal */
		if (*s == '\0')
			return (0);
		name = s;
		if ((len = token(s)) == 0)
			return (-1);
		s += len;
		if ((w = weight(&s)) == -1)
			return (-1);
		s = skip_blanks(s);
		if (*s != ',' && *s != '\0')
			return (-1);
		note_coding(all, name, len, w);
	}
}

/* Whether a coding of that weight, which "*" may give it, is better than none. */
static bool
takes(const struct weights *all, int named)
{
	int w = named != WEIGHT_UNSAID ? named : all->any;
	/* What is not said of no coding at all is acceptable, but the last. */
	int none = all->identity != WEIGHT_UNSAID ? all->identity : all->any;

	return (w > 0 && (named != WEIGHT_UNSAID ? w >= none : w > none));
}

enum coding
coding_choose(const char *accept_encoding, bool dcz)
{
	struct weights all = { WEIGHT_UNSAID, WEIGHT_UNSAID, WEIGHT_UNSAID,
	    WEIGHT_UNSAID };
	int of_dcz, of_zstd;

	if (accept_encoding == NULL || parse(accept_encoding, &all) == -1)
		return (CODING_NONE);
	of_dcz = all.dcz != WEIGHT_UNSAID ? all.dcz : all.any;
	of_zstd = all.zstd != WEIGHT_UNSAID ? all.zstd : all.any;
	if (dcz && takes(&all, all.dcz) && of_dcz >= of_zstd)
		return (CODING_DCZ);
	return (takes(&all, all.zstd) ? CODING_ZSTD :
	    dcz && takes(&all, all.dcz) ? CODING_DCZ : CODING_NONE);
}

/* RFC 9651, 3.3.5: ":base64:". */
#define	DIGITS	(sodium_base64_ENCODED_LEN(DIGEST_LEN, \
	    sodium_base64_VARIANT_ORIGINAL) - 1)

char *
coding_dictionary(const struct digest *d, char out[CODING_DICTIONARY])
{

	out[0] = ':';
	(void)sodium_bin2base64(out + 1, CODING_DICTIONARY - 1, d->b,
	    DIGEST_LEN, sodium_base64_VARIANT_ORIGINAL);
	(void)memcpy(out + 1 + DIGITS, ":", sizeof(":"));
	return (out);
}

int
coding_dictionary_parse(const char *value, struct digest *d)
{

	if (strlen(value) != DIGITS + 2 || value[0] != ':' ||
	    value[1 + DIGITS] != ':')
		return (-1);
	return (base64_decode(d->b, DIGEST_LEN, value + 1, DIGITS));
}
