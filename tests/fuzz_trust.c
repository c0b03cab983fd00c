/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any bytes as a trust document and as all its versions.  The seeds are signed
 * for real, by the root key below (whose secret half is gone).
 */

#include "tests/fuzz.h"

#include "keys/trust.h"
#include "proto/check.h"

static const char root_text[] =
    "RWSd2pxAjPvuqeVbp+ADTGbM34Y4D2BpOlxLu0vNuzF1t3hE7sk7c26E";

/* What is taken must be written again as the same signed lines. */
static void
one_version(const char *text, size_t len)
{
	struct buf b = BUF_INIT(TRUST_MAX);
	struct parse_error err;
	struct trust_doc d;

	if (trust_doc_parse(&d, text, len, &err) == -1)
		return;
	CHECK(trust_doc_write(&b, &d) == 0);
	CHECK(b.len == d.signed_len && memcmp(b.p, text, b.len) == 0);
	buf_free(&b);
	CHECK(d.nroot >= d.threshold && d.threshold >= 1);
	CHECK(trust_doc_signers(&d, text, d.root, d.nroot, NULL) <= d.nroot);
	trust_doc_free(&d);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct parse_error err;
	struct pubkey root;
	struct trust *t;
	size_t len, n, off;
	char *held;
	int added;

	CHECK(keys_init() == 0);
	CHECK(pubkey_parse(&root, root_text, sizeof(root_text) - 1) == 0);
	for (off = 0; (n = trust_doc_span(text + off, size - off)) > 0;
	    off += n)
		one_version(text + off, n);
	if ((t = trust_new(&root, 1, 0)) == NULL)
		return (0);
	/* What was added is what the text begins with, and no more. */
	added = trust_update(t, text, size, &err);
	if ((held = trust_text(t, &len)) != NULL) {
		CHECK(len <= size && memcmp(held, text, len) == 0);
		CHECK(added == -1 || (len == size &&
		    trust_version(t) == (uint64_t)added));
		CHECK(trust_update(t, held, len, &err) == 0);
	}
	free(held);
	trust_destroy(&t);
	return (0);
}
