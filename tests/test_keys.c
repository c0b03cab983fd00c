/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * minisign keys and signatures, with the minisign program itself as the other
 * side; CURVE certificates, with CZMQ's zcert as the other side; the folder of
 * edges.
 */

#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <czmq.h>

#include "keys/cert.h"
#include "keys/minisign.h"
#include "proto/fd.h"

#define	N(a)	(sizeof(a) / sizeof((a)[0]))

static const char password[] = "correct horse";

/* Each test runs in an empty folder of its own. */
static int
enter_folder(void **state)
{
	char *dir = strdup("/tmp/test_keys.XXXXXX");

	assert_non_null(dir);
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	*state = dir;
	return (0);
}

static int
leave_folder(void **state)
{

	assert_int_equal(chdir("/"), 0);
	assert_int_equal(fd_remove_tree(AT_FDCWD, *state), 0);
	free(*state);
	return (0);
}

static void
put_file(const char *name, const char *text)
{

	assert_int_equal(fd_replace(AT_FDCWD, name, text, strlen(text), 0644),
	    0);
}

static char *
get_file(const char *name)
{
	char *text = fd_slurp(AT_FDCWD, name, 65536, NULL);

	assert_non_null(text);
	return (text);
}

/* Runs minisign with these arguments; `input` on its standard input. */
static int
run_minisign(const char *input, const char *const *args)
{
	char *argv[16] = { NULL };
	int null, p[2], status;
	size_t i;
	pid_t pid;

	argv[0] = strdup("minisign");
	for (i = 0; args[i] != NULL; i++) {
		assert_true(i + 2 < N(argv));
		argv[i + 1] = strdup(args[i]);
	}
	assert_int_equal(pipe(p), 0);
	assert_int_not_equal(pid = fork(), -1);
	if (pid == 0) {
		null = open("/dev/null", O_RDWR);
		(void)dup2(p[0], 0);
		(void)dup2(null, 1);
		(void)dup2(null, 2);
		(void)close(p[1]);
		execvp(argv[0], argv);
		_exit(127);
	}
	(void)close(p[0]);
	assert_int_equal(fd_write_all(p[1], input, strlen(input)), 0);
	(void)close(p[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (i = 0; argv[i] != NULL; i++)
		free(argv[i]);
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), 127);
	return (WEXITSTATUS(status));
}
#define	MINISIGN(input, ...) \
	run_minisign(input, (const char *const []){ __VA_ARGS__, NULL })

static int
say(void *arg, char *out, size_t size)
{

	(void)snprintf(out, size, "%s", (const char *)arg);
	return (0);
}

static int
say_nothing(void *arg, char *out, size_t size)
{

	(void)arg, (void)out, (void)size;
	return (-1);
}

static struct seckey *
read_key(const char *path, const char *secret)
{
	struct parse_error err = { .reason = "" };
	struct seckey *k;

	k = seckey_read(path, secret == NULL ? NULL : say,
	    (void *)(uintptr_t)secret, &err);
	assert_string_equal(err.reason, "");
	return (k);
}

static void
key_refused(const char *path, const char *secret, const char *why)
{
	struct parse_error err = { .reason = "" };

	assert_null(seckey_read(path, secret == NULL ? say_nothing : say,
	    (void *)(uintptr_t)secret, &err));
	assert_non_null(strstr(err.reason, why));
	assert_non_null(strstr(err.reason, path));
}

/* Signs file with k as file.minisig, as minisign -S would. */
static void
sign_file(const struct seckey *k, const char *file)
{
	char *text = get_file(file), name[64];
	struct buf b = BUF_INIT(8192);

	assert_int_equal(seckey_sign(k, text, strlen(text), "a comment", &b),
	    0);
	(void)snprintf(name, sizeof(name), "%s.minisig", file);
	put_file(name, b.p);
	buf_free(&b);
	free(text);
}

static int
verify_file(const struct pubkey *k, const char *file)
{
	char *text = get_file(file), *sig, name[64];
	struct signature s;
	int ret;

	(void)snprintf(name, sizeof(name), "%s.minisig", file);
	sig = get_file(name);
	ret = signature_parse(&s, sig, strlen(sig), NULL);
	if (ret == 0)
		ret = signature_verify(&s, k, text, strlen(text));
	free(sig);
	free(text);
	return (ret);
}

/* Public keys. */

static void
public_keys(void **state)
{
	static const struct { const char *text; bool good; } cases[] = {
	    { "RWQs/8/5AESMa7AkC4o6Xk/LR2mAqDdoBv9io7aAv2u3oGs1dc9XiFyz", true },
	    { "RWQs/8/5AESMa7AkC4o6Xk/LR2mAqDdoBv9io7aAv2u3oGs1dc9XiFy", false },
	    { "RWQs/8/5AESMa7AkC4o6Xk/LR2mAqDdoBv9io7aAv2u3oGs1dc9XiFyz\n", false },
	    { "RWQs/8/5AESMa7AkC4o6Xk/LR2mAqDdoBv9io7aAv2u3oGs1dc9XiF==", false },
	    { "RWQs_8/5AESMa7AkC4o6Xk/LR2mAqDdoBv9io7aAv2u3oGs1dc9XiFyz", false },
	    { "RUQs/8/5AESMa7AkC4o6Xk/LR2mAqDdoBv9io7aAv2u3oGs1dc9XiFyz", false },
	    { " WQs/8/5AESMa7AkC4o6Xk/LR2mAqDdoBv9io7aAv2u3oGs1dc9XiFyz", false },
	    /* Bytes that libsodium's decoder takes for digits. */
	    { "RWTy7TJKEF6keBQMY0IJQNCSn\204\305\263\27406F5vLsh3fOUmaIAsrGoW1NzRXH",
	      false },
	    { "", false },
	};
	char text[PUBKEY_TEXT], id[17];
	struct pubkey k;
	size_t i;

	(void)state;
	for (i = 0; i < N(cases); i++)
		assert_int_equal(pubkey_parse(&k, cases[i].text,
		    strlen(cases[i].text)), cases[i].good ? 0 : -1);
	assert_int_equal(pubkey_parse(&k, cases[0].text, 56), 0);
	assert_string_equal(pubkey_text(&k, text), cases[0].text);
	assert_string_equal(pubkey_id(&k, id), "6B8C4400F9CFFF2C");
}

static void
public_files(void **state)
{
#define	KEY "RWQs/8/5AESMa7AkC4o6Xk/LR2mAqDdoBv9io7aAv2u3oGs1dc9XiFyz"
	static const struct { const char *text; bool good; } cases[] = {
	    { "untrusted comment: x\n" KEY "\n", true },
	    { "untrusted comment: \n" KEY "\n", true },
	    { "untrusted comment: x\n" KEY, false },
	    { "untrusted comment: x\r\n" KEY "\r\n", false },
	    { "untrusted comment: x\n" KEY "\n\n", false },
	    { KEY "\n", false },
	    { "", false },
	};
	struct pubkey k;
	size_t i;

	(void)state;
	for (i = 0; i < N(cases); i++) {
		put_file("k.pub", cases[i].text);
		errno = 0;
		assert_int_equal(pubkey_read(&k, "k.pub"),
		    cases[i].good ? 0 : -1);
		assert_int_equal(errno, cases[i].good ? 0 : EINVAL);
	}
	assert_int_equal(pubkey_read(&k, "absent"), -1);
	assert_int_equal(errno, ENOENT);
}

/* Signatures. */

struct signed_data {
	struct seckey	*k;
	struct buf	 sig;
};
static const char data[] = "the signed lines\n";

static void
make_signed(struct signed_data *s)
{

	s->sig = (struct buf)BUF_INIT(8192);
	assert_non_null(s->k = seckey_new());
	assert_int_equal(seckey_sign(s->k, data, strlen(data),
	    "generation 7\tof demo", &s->sig), 0);
}

static void
free_signed(struct signed_data *s)
{

	seckey_destroy(&s->k);
	buf_free(&s->sig);
}

static int
check(const char *sig, size_t len, const struct pubkey *k, const char *text)
{
	struct signature s;

	if (signature_parse(&s, sig, len, NULL) == -1)
		return (-1);
	return (signature_verify(&s, k, text, strlen(text)));
}

static void
good_and_forged(void **state)
{
	struct signed_data s;
	struct seckey *other;
	struct pubkey k;
	struct signature g;

	(void)state;
	make_signed(&s);
	k = *seckey_pubkey(s.k);
	assert_int_equal(check(s.sig.p, s.sig.len, &k, data), 0);
	assert_int_equal(signature_parse(&g, s.sig.p, s.sig.len, NULL), 0);
	assert_int_equal(g.comment_len, strlen("generation 7\tof demo"));
	assert_memory_equal(g.comment, "generation 7\tof demo", g.comment_len);
	/* Other data; another key; the right key under another id. */
	assert_int_equal(check(s.sig.p, s.sig.len, &k, "the signed lines"), -1);
	assert_non_null(other = seckey_new());
	assert_int_equal(check(s.sig.p, s.sig.len, seckey_pubkey(other), data),
	    -1);
	memcpy(k.pk, seckey_pubkey(other)->pk, sizeof(k.pk));
	assert_int_equal(check(s.sig.p, s.sig.len, &k, data), -1);
	k = *seckey_pubkey(s.k);
	k.id[0] ^= 1;
	assert_int_equal(check(s.sig.p, s.sig.len, &k, data), -1);
	seckey_destroy(&other);
	free_signed(&s);
}

static void
every_truncation_is_refused(void **state)
{
	struct signed_data s;
	struct signature g;
	size_t len;

	(void)state;
	make_signed(&s);
	for (len = 0; len < s.sig.len; len++)
		assert_int_equal(signature_parse(&g, s.sig.p, len, NULL), -1);
	free_signed(&s);
}

static void
every_changed_byte_is_refused(void **state)
{
	const char first[] = "untrusted comment: ";
	struct signed_data s;
	size_t i, end;
	int bit;

	(void)state;
	make_signed(&s);
	end = (size_t)(strchr(s.sig.p, '\n') - s.sig.p);
	for (i = 0; i < s.sig.len; i++) {
		/* The untrusted comment's text is free. */
		if (i >= strlen(first) && i < end)
			continue;
		for (bit = 1; bit < 256; bit <<= 1) {
			s.sig.p[i] = (char)(s.sig.p[i] ^ bit);
			assert_int_equal(check(s.sig.p, s.sig.len,
			    seckey_pubkey(s.k), data), -1);
			s.sig.p[i] = (char)(s.sig.p[i] ^ bit);
		}
	}
	assert_int_equal(check(s.sig.p, s.sig.len, seckey_pubkey(s.k), data),
	    0);
	free_signed(&s);
}

static void
a_second_trusted_comment_is_refused(void **state)
{
	struct signed_data a, b;
	char *from, *to;

	(void)state;
	make_signed(&a);
	b.sig = (struct buf)BUF_INIT(8192);
	assert_int_equal(seckey_sign(a.k, "other data", 10, "generation 8",
	    &b.sig), 0);
	/* a's signature with b's trusted comment and global signature. */
	to = strstr(a.sig.p, "trusted comment: g");
	from = strstr(b.sig.p, "trusted comment: g");
	assert_true(strlen(from) <= strlen(to));
	memcpy(to, from, strlen(from) + 1);
	assert_int_equal(check(a.sig.p, strlen(a.sig.p), seckey_pubkey(a.k),
	    data), -1);
	buf_free(&b.sig);
	free_signed(&a);
}

static void
comments(void **state)
{
	static const struct { size_t len; char byte; bool good; } cases[] = {
	    { 0, 'x', true }, { 1, '\t', true }, { 1, '~', true },
	    { SIGNATURE_COMMENT_MAX, 'x', true },
	    { SIGNATURE_COMMENT_MAX + 1, 'x', false },
	    { 1, '\n', false }, { 1, '\r', false }, { 1, 127, false },
	    { 1, (char)0x80, false }, { 1, 27, false },
	};
	char comment[SIGNATURE_COMMENT_MAX + 2];
	struct buf b = BUF_INIT(8192);
	struct seckey *k = seckey_new();
	size_t i;

	(void)state;
	for (i = 0; i < N(cases); i++) {
		memset(comment, cases[i].byte, cases[i].len);
		comment[cases[i].len] = '\0';
		assert_int_equal(seckey_sign(k, data, 1, comment, &b),
		    cases[i].good ? 0 : -1);
		if (cases[i].good)
			assert_int_equal(check(b.p, b.len, seckey_pubkey(k),
			    "t"), 0);
		buf_free(&b);
	}
	seckey_destroy(&k);
}

/* Keys and signatures of the program, and ours for the program. */

static void
plain_keys_of_minisign(void **state)
{
	struct seckey *k;
	struct pubkey public;

	(void)state;
	assert_int_equal(MINISIGN("", "-G", "-W", "-p", "p", "-s", "s"), 0);
	assert_int_equal(pubkey_read(&public, "p"), 0);
	k = read_key("s", NULL);
	assert_memory_equal(&public, seckey_pubkey(k), sizeof(public));
	put_file("f", "some text\n");
	assert_int_equal(MINISIGN("", "-S", "-s", "s", "-m", "f"), 0);
	assert_int_equal(verify_file(&public, "f"), 0);
	sign_file(k, "f");
	assert_int_equal(MINISIGN("", "-V", "-H", "-p", "p", "-m", "f"), 0);
	put_file("f", "some texT\n");
	assert_int_equal(verify_file(&public, "f"), -1);
	assert_int_not_equal(MINISIGN("", "-V", "-p", "p", "-m", "f"), 0);
	/* The legacy algorithm signs the whole file and is not ours. */
	assert_int_equal(MINISIGN("", "-S", "-l", "-s", "s", "-m", "f"), 0);
	assert_int_equal(verify_file(&public, "f"), -1);
	seckey_destroy(&k);
}

static void
plain_keys_for_minisign(void **state)
{
	struct seckey *k = seckey_new(), *again;
	struct pubkey public;
	struct stat st;

	(void)state;
	assert_int_equal(seckey_write(k, "s", "p", NULL), 0);
	assert_int_equal(stat("s", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(pubkey_read(&public, "p"), 0);
	assert_memory_equal(&public, seckey_pubkey(k), sizeof(public));
	again = read_key("s", NULL);
	assert_memory_equal(seckey_pubkey(again), &public, sizeof(public));
	put_file("f", "some text\n");
	assert_int_equal(MINISIGN("", "-S", "-s", "s", "-m", "f"), 0);
	assert_int_equal(MINISIGN("", "-V", "-p", "p", "-m", "f"), 0);
	assert_int_equal(verify_file(&public, "f"), 0);
	/* Neither file is overwritten, and a failure leaves none behind. */
	assert_int_equal(seckey_write(k, "s", "p2", NULL), -1);
	assert_int_equal(errno, EEXIST);
	assert_int_equal(access("p2", F_OK), -1);
	assert_int_equal(seckey_write(k, "s2", "p", NULL), -1);
	assert_int_equal(access("s2", F_OK), -1);
	seckey_destroy(&again);
	seckey_destroy(&k);
}

static void
encrypted_keys_of_minisign(void **state)
{
	struct seckey *k;
	struct pubkey public;

	(void)state;
	assert_int_equal(MINISIGN("correct horse\ncorrect horse\n", "-G", "-p",
	    "p", "-s", "s"), 0);
	assert_int_equal(pubkey_read(&public, "p"), 0);
	k = read_key("s", password);
	assert_memory_equal(&public, seckey_pubkey(k), sizeof(public));
	seckey_destroy(&k);
	key_refused("s", "correct horse ", "wrong password");
	key_refused("s", NULL, "no password given");
}

static void
encrypted_keys_for_minisign(void **state)
{
	struct seckey *k = seckey_new(), *again;

	(void)state;
	assert_int_equal(seckey_write(k, "s", "p", password), 0);
	put_file("f", "some text\n");
	assert_int_equal(MINISIGN("correct horse\n", "-S", "-s", "s", "-m",
	    "f"), 0);
	assert_int_equal(verify_file(seckey_pubkey(k), "f"), 0);
	assert_int_equal(MINISIGN("", "-V", "-p", "p", "-m", "f"), 0);
	again = read_key("s", password);
	sign_file(again, "f");
	assert_int_equal(MINISIGN("", "-V", "-p", "p", "-m", "f"), 0);
	seckey_destroy(&again);
	seckey_destroy(&k);
}

static void
bad_secret_keys(void **state)
{
	struct seckey *k = seckey_new();
	char *text, *key, good;
	size_t i, len;

	(void)state;
	assert_int_equal(seckey_write(k, "s", "p", NULL), 0);
	seckey_destroy(&k);
	text = get_file("s");
	len = strlen(text);
	assert_int_equal(chmod("s", 0640), 0);
	key_refused("s", NULL, "chmod 600");
	assert_int_equal(chmod("s", 0604), 0);
	key_refused("s", NULL, "chmod 600");
	key_refused("absent", NULL, "No such file");
	key_refused(".", NULL, "");
	for (i = 0; i < len; i++)
		assert_null(seckey_parse(text, i, NULL, NULL, NULL));
	/* A damaged half would let a signature tell the key. */
	key = strchr(text, '\n') + 1;
	for (i = 84; i < 164; i++) {
		good = key[i];
		key[i] = good == 'A' ? 'B' : 'A';
		assert_null(seckey_parse(text, len, NULL, NULL, NULL));
		key[i] = good;
	}
	assert_non_null(k = seckey_parse(text, len, NULL, NULL, NULL));
	seckey_destroy(&k);
	free(text);
}

/* Certificates. */

static void
curve_keys(void **state)
{
	static const struct { const char *key; bool good; } cases[] = {
	    { "&rJdM/P!YhLwhhx!yCO9T++9k.UH+3CZXC+Vo>#Z", true },
	    { "&rJdM/P!YhLwhhx!yCO9T++9k.UH+3CZXC+Vo>#", false },
	    { "&rJdM/P!YhLwhhx!yCO9T++9k.UH+3CZXC+Vo>#ZZ", false },
	    { "&rJdM/P!YhLwhhx!yCO9T++9k.UH+3CZXC+Vo>\"Z", false },
	    { "&rJdM/P!YhLwhhx!yCO9T++9k.UH+3CZXC+Vo>\x80Z", false },
	    { "#####P!YhLwhhx!yCO9T++9k.UH+3CZXC+Vo>#ZZ", false },
	    { "0000000000000000000000000000000000000000", false },
	    { "", false },
	};
	char public[CURVE_TEXT];
	struct cert c;
	size_t i;

	(void)state;
	for (i = 0; i < N(cases); i++)
		assert_int_equal(curve_key_ok(cases[i].key), cases[i].good);
	assert_int_equal(cert_new(&c), 0);
	assert_int_equal(curve_public(c.secret_key, public), 0);
	assert_string_equal(public, c.public_key);
	assert_int_equal(curve_public("short", public), -1);
}

static void
certificates(void **state)
{
	struct parse_error err;
	struct cert c, d;
	struct stat st;

	(void)state;
	assert_int_equal(cert_new(&c), 0);
	memcpy(c.name, "brno1", 6);
	memcpy(c.url, "http://brno1.example.org", 25);
	assert_int_equal(cert_write(&c, "brno1", 0640), 0);
	assert_int_equal(stat("brno1", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(stat("brno1_secret", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(cert_read(&d, "brno1_secret", &err), 0);
	assert_memory_equal(&c, &d, sizeof(c));
	/* The public file alone, though its secret one lies beside it. */
	assert_int_equal(cert_read(&d, "brno1", &err), 0);
	assert_string_equal(d.public_key, c.public_key);
	assert_string_equal(d.secret_key, "");
	assert_string_equal(d.url, c.url);
	assert_int_equal(chmod("brno1_secret", 0640), 0);
	assert_int_equal(cert_read(&d, "brno1_secret", &err), -1);
	assert_non_null(strstr(err.reason, "chmod 600"));
	assert_int_equal(cert_read(&d, "absent", &err), -1);
	/* What could not be read again is not written. */
	memcpy(c.url, "http://a\"b", 11);
	assert_int_equal(cert_write(&c, "bad", 0644), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(access("bad", F_OK), -1);
}

static void
certificates_of_czmq(void **state)
{
	struct parse_error err;
	struct cert c;
	zcert_t *z;

	(void)state;
	assert_non_null(z = zcert_new());
	zcert_set_meta(z, "name", "%s", "brno1");
	zcert_set_meta(z, "url", "%s", "https://brno1.example.org:8443/x");
	zcert_set_meta(z, "note", "%s", "rack 5, \xc5\x99" "editel");
	assert_int_equal(zcert_save(z, "c"), 0);
	assert_int_equal(cert_read(&c, "c", &err), 0);
	assert_string_equal(c.public_key, zcert_public_txt(z));
	assert_string_equal(c.name, "brno1");
	assert_string_equal(c.url, "https://brno1.example.org:8443/x");
	assert_int_equal(cert_read(&c, "c_secret", &err), 0);
	assert_string_equal(c.secret_key, zcert_secret_txt(z));
	zcert_destroy(&z);
	/* And the other way. */
	assert_int_equal(cert_new(&c), 0);
	memcpy(c.name, "brno2", 6);
	assert_int_equal(cert_write(&c, "d", 0644), 0);
	assert_non_null(z = zcert_load("d"));
	assert_string_equal(zcert_public_txt(z), c.public_key);
	assert_string_equal(zcert_secret_txt(z), c.secret_key);
	assert_string_equal(zcert_meta(z, "name"), "brno2");
	zcert_destroy(&z);
}

#define	PUB	"&rJdM/P!YhLwhhx!yCO9T++9k.UH+3CZXC+Vo>#Z"

static void
bad_certificates(void **state)
{
	static const struct { const char *text, *why; } cases[] = {
	    { "curve\n    public-key = \"" PUB "\"\n", NULL },
	    { "# x\n\ncurve\n    public-key = '" PUB "'\nmetadata\n", NULL },
	    { "", "no valid curve/public-key" },
	    { "metadata\n    name = \"x\"\n", "no valid curve/public-key" },
	    { "curve\n    public-key = \"" PUB "\"", "no end" },
	    { "curve\n    public-key = \"short\"\n", "no valid curve" },
	    { "curve\n    public-key = \"" PUB "ZZ\"\n", "too long" },
	    { "curve\n    public-key = " PUB "\n", "expected" },
	    { "curve\n  public-key = \"" PUB "\"\n", "four blanks" },
	    { "curve\n\tpublic-key = \"" PUB "\"\n", "control byte" },
	    { "curve\r\n    public-key = \"" PUB "\"\r\n", "control byte" },
	    { "    public-key = \"" PUB "\"\n", "in a section" },
	    { "curve\n    public-key = \"" PUB "\"\n    public-key = \"" PUB
	      "\"\n", "twice" },
	    { "curve\n    public-key = \"" PUB "\"\ncurve\n", "twice" },
	    { "curve\n    public-key = \"" PUB "\"\n    x = \"y\"\n",
	      "unknown key" },
	    { "other\n", "expected" },
	    { "curve\n    public-key = \"" PUB "\"\n    secret-key = \"" PUB
	      "\"\n", "does not belong" },
	    { "curve\n    public-key = \"" PUB "\"\nmetadata\n"
	      "    url = \"ftp://x\"\n", "URL" },
	    { "curve\n    public-key = \"" PUB "\"\nmetadata\n"
	      "    url = \"http://a b\"\n", "URL" },
	    { "curve\n    public-key = \"" PUB "\"\nmetadata\n"
	      "    name = \"../x\"\n", "not a name" },
	};
	struct parse_error err;
	struct cert c;
	size_t i;

	(void)state;
	for (i = 0; i < N(cases); i++) {
		err.reason[0] = '\0';
		assert_int_equal(cert_parse(&c, cases[i].text,
		    strlen(cases[i].text), &err), cases[i].why == NULL ? 0 :
		    -1);
		if (cases[i].why != NULL &&
		    strstr(err.reason, cases[i].why) == NULL)
			fail_msg("case %zu: %s", i, err.reason);
	}
}

/* The folder of edges. */

struct bad_list { size_t n; char text[16][256]; };

static void
note_bad(void *arg, const char *file, const char *why)
{
	struct bad_list *l = arg;

	assert_true(l->n < N(l->text));
	(void)snprintf(l->text[l->n++], sizeof(l->text[0]), "%.60s: %s", file,
	    why);
}

static void
put_cert(const char *name, const char *key)
{
	char text[256];

	(void)snprintf(text, sizeof(text), "metadata\n    url = "
	    "\"http://%s.example.org\"\ncurve\n    public-key = \"%s\"\n",
	    name[0] == 'e' ? name + 2 : "x", key);
	put_file(name, text);
}

static void
edges_folder(void **state)
{
	static const char *const why[] = {
	    "bad name: the file's name is not", "empty: no valid curve",
	    "folder: not a regular file", "huge: too large",
	    "secret-inside: holds a secret key", "zwei: another file has" };
	char *huge = calloc(1, CERT_FILE_MAX + 2);
	struct bad_list bad = { .n = 0 };
	struct cert a, b, c;
	struct edges *e;
	size_t i;

	(void)state;
	assert_int_equal(mkdir("e", 0700), 0);
	assert_int_equal(cert_new(&a), 0);
	assert_int_equal(cert_new(&b), 0);
	assert_int_equal(cert_new(&c), 0);
	put_cert("e/one", a.public_key);
	put_cert("e/three", b.public_key);
	put_cert("e/zwei", a.public_key);
	put_cert("e/bad name", c.public_key);
	put_cert("e/.hidden", c.public_key);
	assert_int_equal(cert_write(&c, "e/x", 0644), 0);
	assert_int_equal(rename("e/x_secret", "e/secret-inside"), 0);
	assert_int_equal(rename("e/x", "e/y_secret"), 0);
	put_file("e/empty", "");
	memset(huge, '#', CERT_FILE_MAX + 1);
	put_file("e/huge", huge);
	free(huge);
	assert_int_equal(mkdir("e/folder", 0700), 0);
	assert_non_null(e = edges_read("e", note_bad, &bad));
	assert_int_equal(edges_n(e), 2);
	assert_string_equal(edges_nth(e, 0)->name, "one");
	assert_string_equal(edges_nth(e, 0)->url, "http://one.example.org");
	assert_string_equal(edges_nth(e, 1)->name, "three");
	assert_null(edges_nth(e, 2));
	assert_string_equal(edges_by_key(e, a.public_key)->name, "one");
	assert_string_equal(edges_by_key(e, b.public_key)->name, "three");
	assert_null(edges_by_key(e, c.public_key));
	assert_int_equal(bad.n, N(why));
	for (i = 0; i < N(why); i++)
		if (strncmp(bad.text[i], why[i], strlen(why[i])) != 0)
			fail_msg("%s", bad.text[i]);
	edges_destroy(&e);
	assert_null(edges_read("absent", NULL, NULL));
	assert_int_equal(errno, ENOENT);
}

static void
edges_stamps(void **state)
{
	uint64_t before, after;
	struct cert a, b;

	(void)state;
	assert_int_equal(edges_stamp("e"), 0);
	assert_int_equal(mkdir("e", 0700), 0);
	assert_int_not_equal(before = edges_stamp("e"), 0);
	assert_int_equal(cert_new(&a), 0);
	assert_int_equal(cert_new(&b), 0);
	put_cert("e/one", a.public_key);
	assert_int_not_equal(after = edges_stamp("e"), before);
	assert_int_equal(edges_stamp("e"), after);
	/* The same name, size and second. */
	put_cert("e/one", b.public_key);
	assert_int_not_equal(before = edges_stamp("e"), after);
	assert_int_equal(rename("e/one", "e/two"), 0);
	assert_int_not_equal(after = edges_stamp("e"), before);
	put_file("e/.new.x", "half");
	assert_int_equal(edges_stamp("e"), after);
	assert_int_equal(unlink("e/two"), 0);
	assert_int_not_equal(edges_stamp("e"), after);
}

static void
edge_names(void **state)
{
	static const struct { const char *name; bool good; } cases[] = {
	    { "a", true }, { "brno1.example_x-Y", true }, { "", false },
	    { ".a", false }, { "a/b", false }, { "a b", false },
	    { "a\n", false }, { "\xc5\x99", false },
	    { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	      true },
	    { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	      false },
	};
	size_t i;

	(void)state;
	for (i = 0; i < N(cases); i++)
		assert_int_equal(edge_name_ok(cases[i].name), cases[i].good);
}

int
main(void)
{
#define	IN_FOLDER(f) \
	cmocka_unit_test_setup_teardown(f, enter_folder, leave_folder)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(public_keys),
		IN_FOLDER(public_files),
		cmocka_unit_test(good_and_forged),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(every_changed_byte_is_refused),
		cmocka_unit_test(a_second_trusted_comment_is_refused),
		cmocka_unit_test(comments),
		IN_FOLDER(plain_keys_of_minisign),
		IN_FOLDER(plain_keys_for_minisign),
		IN_FOLDER(encrypted_keys_of_minisign),
		IN_FOLDER(encrypted_keys_for_minisign),
		IN_FOLDER(bad_secret_keys),
		cmocka_unit_test(curve_keys),
		IN_FOLDER(certificates),
		IN_FOLDER(certificates_of_czmq),
		cmocka_unit_test(bad_certificates),
		IN_FOLDER(edges_folder),
		IN_FOLDER(edges_stamps),
		cmocka_unit_test(edge_names),
	};

	zsys_handler_set(NULL);
	if (keys_init() == -1)
		return (1);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return (cmocka_run_group_tests_name("keys", tests, NULL, NULL));
}
