/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CURVE key pairs and the files that hold them, in the format of CZMQ's zcert.
 * Used by both daemons and `pkgcast edge`; no state, any thread.
 *
 * The files are read by a strict reader of our own: zcert_load() prefers a
 * NAME_secret that happens to lie beside NAME, takes any length of text, and
 * tells syntax errors to standard output; zcert_save() writes in place.
 */

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>
#include <zmq.h>

#include "keys/cert.h"
#include "proto/fd.h"

#define	INDENT		4
#define	SECRET_SUFFIX	"_secret"

bool
curve_key_ok(const char *z85)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
	char again[CURVE_TEXT];
	uint8_t raw[32];
	bool ok;

	if (strlen(z85) != CURVE_TEXT - 1 ||
	    strspn(z85, digits) != CURVE_TEXT - 1)
		return (false);
	/* Zero is no key: everybody knows what it shares with any other. */
	ok = zmq_z85_decode(raw, z85) != NULL &&
	    zmq_z85_encode(again, raw, sizeof(raw)) != NULL &&
	    sodium_memcmp(again, z85, CURVE_TEXT) == 0 &&
	    !sodium_is_zero(raw, sizeof(raw));
	sodium_memzero(again, sizeof(again));
	sodium_memzero(raw, sizeof(raw));
	return (ok);
}

int
cert_new(struct cert *c)
{

	memset(c, 0, sizeof(*c));
	return (zmq_curve_keypair(c->public_key, c->secret_key));
}

int
curve_public(const char *secret_z85, char out[CURVE_TEXT])
{

	if (!curve_key_ok(secret_z85)) {
		errno = EINVAL;
		return (-1);
	}
	return (zmq_curve_public(out, secret_z85));
}

bool
edge_name_ok(const char *name)
{
	size_t n = strlen(name);

	return (n >= 1 && n < sizeof(((struct edge_entry *)0)->name) &&
	    name[0] != '.' && strspn(name, "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n);
}

/* Reading. */

static bool
url_ok(const char *url)
{
	const char *p;

	if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		return (false);
	for (p = url; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~' || *p == '"' || *p == '\\')
			return (false);
	return (true);
}

enum section { SECTION_NONE, SECTION_METADATA, SECTION_CURVE, SECTIONS };

/* One value into its place, which must be empty yet. */
static int
put(char *place, size_t size, const char *value, size_t len,
    unsigned long line, struct parse_error *err)
{

	if (place[0] != '\0')
		return (parse_fail(err, line, "given twice"));
	if (len == 0 || len >= size)
		return (parse_fail(err, line, "empty or too long"));
	memcpy(place, value, len);
	place[len] = '\0';
	return (0);
}

static bool
is(const char *word, const char *s, size_t len)
{

	return (strlen(word) == len && memcmp(word, s, len) == 0);
}

/* `name = "value"`, without its indentation. */
static int
parse_pair(struct cert *c, enum section section, const char *s, size_t len,
    unsigned long line, struct parse_error *err)
{
	const char *value, *eq;
	size_t n, nvalue;

	eq = memmem(s, len, " = ", 3);
	n = eq == NULL ? 0 : (size_t)(eq - s);
	if (n == 0 || len < n + 5 || (eq[3] != '"' && eq[3] != '\'') ||
	    s[len - 1] != eq[3])
		return (parse_fail(err, line, "name = \"value\" expected"));
	value = eq + 4;
	nvalue = len - n - 5;
	if (memchr(value, eq[3], nvalue) != NULL)
		return (parse_fail(err, line, "a quote within the value"));
	if (section == SECTION_CURVE && is("public-key", s, n))
		return (put(c->public_key, sizeof(c->public_key), value,
		    nvalue, line, err));
	if (section == SECTION_CURVE && is("secret-key", s, n))
		return (put(c->secret_key, sizeof(c->secret_key), value,
		    nvalue, line, err));
	if (section == SECTION_METADATA && is("name", s, n))
		return (put(c->name, sizeof(c->name), value, nvalue, line,
		    err));
	if (section == SECTION_METADATA && is("url", s, n))
		return (put(c->url, sizeof(c->url), value, nvalue, line, err));
	if (section == SECTION_METADATA)
		return (0);		/* an operator's own note */
	return (parse_fail(err, line, "unknown key"));
}

/* One line; *section is where it stands, seen[] which sections began. */
static int
parse_line(struct cert *c, enum section *section, bool seen[SECTIONS],
    const char *s, size_t len, unsigned long line, struct parse_error *err)
{
	size_t blanks = 0, i;

	for (i = 0; i < len; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 127)
			return (parse_fail(err, line, "a control byte"));
	while (blanks < len && s[blanks] == ' ')
		blanks++;
	if (blanks == len || s[blanks] == '#')
		return (0);
	if (blanks == 0) {
		if (is("metadata", s, len))
			*section = SECTION_METADATA;
		else if (is("curve", s, len))
			*section = SECTION_CURVE;
		else
			return (parse_fail(err, line,
			    "\"metadata\" or \"curve\" expected"));
		if (seen[*section])
			return (parse_fail(err, line, "the section twice"));
		seen[*section] = true;
		return (0);
	}
	if (blanks != INDENT || *section == SECTION_NONE)
		return (parse_fail(err, line,
		    "expected are four blanks, in a section"));
	return (parse_pair(c, *section, s + blanks, len - blanks, line, err));
}

int
cert_parse(struct cert *c, const char *text, size_t len,
    struct parse_error *err)
{
	const char *p = text, *end = text + len, *lf;
	enum section section = SECTION_NONE;
	bool seen[SECTIONS] = { false };
	char public[CURVE_TEXT];
	unsigned long line = 0;
	size_t n;

	memset(c, 0, sizeof(*c));
	if (len > CERT_FILE_MAX)
		return (parse_fail(err, 0, "more than %d bytes",
		    CERT_FILE_MAX));
	for (; p < end; p += n + 1) {
		line++;
		if ((lf = memchr(p, '\n', (size_t)(end - p))) == NULL)
			return (parse_fail(err, line, "the line has no end"));
		n = (size_t)(lf - p);
		if (parse_line(c, &section, seen, p, n, line, err) == -1)
			return (-1);
	}
	if (!curve_key_ok(c->public_key))
		return (parse_fail(err, 0,
		    "no valid curve/public-key (40 digits of Z85)"));
	if (c->secret_key[0] != '\0' &&
	    (curve_public(c->secret_key, public) == -1 ||
	    strcmp(public, c->public_key) != 0))
		return (parse_fail(err, 0,
		    "the secret key does not belong to the public one"));
	if (c->name[0] != '\0' && !edge_name_ok(c->name))
		return (parse_fail(err, 0, "metadata/name is not a name "
		    "(A-Z a-z 0-9 . _ -, at most 64)"));
	if (c->url[0] != '\0' && !url_ok(c->url))
		return (parse_fail(err, 0,
		    "metadata/url is not a http:// or https:// URL"));
	return (0);
}

int
cert_read(struct cert *c, const char *path, struct parse_error *err)
{
	struct parse_error why = { .line = 0 };
	struct stat st;
	size_t len;
	char *text;
	int ret = -1;

	memset(c, 0, sizeof(*c));
	if ((text = fd_slurp(AT_FDCWD, path, CERT_FILE_MAX, &len)) == NULL)
		return (parse_fail(err, 0, "%s: %s", path, errno == EINVAL ?
		    "not a regular file" : strerror(errno)));
	if (cert_parse(c, text, len, &why) == -1)
		(void)parse_fail(err, why.line, "%s: %s", path, why.reason);
	else if (c->secret_key[0] != '\0' && stat(path, &st) == 0 &&
	    (st.st_mode & 077) != 0)
		(void)parse_fail(err, 0,
		    "%s: others can read or write this secret (mode %04o): "
		    "run chmod 600", path, (unsigned)st.st_mode & 07777);
	else
		ret = 0;
	sodium_memzero(text, len);
	free(text);
	if (ret == -1)
		sodium_memzero(c, sizeof(*c));
	return (ret);
}

/* Writing. */

static int
write_half(const struct cert *c, const char *path, bool secret, mode_t mode)
{
	char text[CERT_FILE_MAX];
	struct cert again;
	int n, ret = -1;

	n = snprintf(text, sizeof(text),
	    "#   ZeroMQ CURVE %s Certificate, made by pkgcast\n%s\nmetadata\n"
	    "%s%s%s%s%s%scurve\n    public-key = \"%s\"\n%s%s%s",
	    secret ? "**Secret**" : "Public", secret ?
	    "#   DO NOT PROVIDE THIS FILE TO OTHER USERS nor change its "
	    "permissions.\n" : "",
	    c->name[0] != '\0' ? "    name = \"" : "", c->name,
	    c->name[0] != '\0' ? "\"\n" : "",
	    c->url[0] != '\0' ? "    url = \"" : "", c->url,
	    c->url[0] != '\0' ? "\"\n" : "", c->public_key,
	    secret ? "    secret-key = \"" : "", secret ? c->secret_key : "",
	    secret ? "\"\n" : "");
	/* What could not be read again is not written. */
	if (n < 0 || (size_t)n >= sizeof(text) ||
	    cert_parse(&again, text, (size_t)n, NULL) == -1)
		errno = EINVAL;
	else
		ret = fd_replace(AT_FDCWD, path, text, (size_t)n, mode);
	sodium_memzero(&again, sizeof(again));
	sodium_memzero(text, sizeof(text));
	return (ret);
}

/* The secret first: who finds the public half finds a whole certificate. */
int
cert_write(const struct cert *c, const char *path, unsigned mode)
{
	size_t size = strlen(path) + sizeof(SECRET_SUFFIX);
	char *secret;
	int ret = 0;

	if (c->secret_key[0] != '\0') {
		if ((secret = malloc(size)) == NULL)
			return (-1);
		(void)snprintf(secret, size, "%s%s", path, SECRET_SUFFIX);
		ret = write_half(c, secret, true, 0600);
		free(secret);
	}
	return (ret == 0 ? write_half(c, path, false, mode) : -1);
}
