/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any bytes as a scan cache: its digest is put behind them, so that they count.
 */

#include "tests/fuzz.h"

#include <unistd.h>

#include "master/scan_cache.h"
#include "proto/buf.h"
#include "proto/check.h"

#define	NAME	"cache"

static int dir = -1;
static char path[] = "/tmp/pkgcast-fuzz.XXXXXX";

static void
clean(void)
{

	(void)unlinkat(dir, NAME, 0);
	(void)rmdir(path);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf b = BUF_INIT(1 << 20);
	struct scan_identity id = { .size = 300000 };
	struct scan_cache *c;
	struct digest d;
	const uint8_t *rows;
	int fd;

	if (dir == -1) {
		CHECK(mkdtemp(path) != NULL);
		CHECK((dir = fd_open_dir(AT_FDCWD, path)) != -1);
		CHECK(atexit(clean) == 0);
	}
	digest_of(&d, data, size);
	(void)buf_add(&b, data, size);
	(void)buf_add(&b, d.b, DIGEST_LEN);
	CHECK(!b.failed);
	CHECK((fd = openat(dir, NAME, O_WRONLY | O_CREAT | O_TRUNC, 0600)) !=
	    -1);
	CHECK(fd_write_all(fd, b.p, b.len) == 0);
	fd_close(&fd);
	buf_free(&b);
	if ((c = scan_cache_read(dir, NAME)) == NULL)
		return (0);
	(void)scan_cache_find(c, &id, &d, &rows);
	scan_cache_destroy(&c);
	return (0);
}
