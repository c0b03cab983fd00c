/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_FUZZ_H
#define	TESTS_FUZZ_H

#include <sys/stat.h>

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/fd.h"

/*
 * A fuzz target is a file that includes this one and defines
 * LLVMFuzzerTestOneInput().  With -DFUZZER and -fsanitize=fuzzer it is a fuzzer;
 * otherwise it replays the files and folders that it is given (tests/corpus/NAME
 * for tests/fuzz_NAME, when none), and says how many, as one TAP test.
 */
int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifndef FUZZER
#define	REPLAY_MAX	(1u << 20)

static int
replay_file(int dirfd, const char *name)
{
	char *data;
	size_t len;

	if ((data = fd_slurp(dirfd, name, REPLAY_MAX, &len)) == NULL)
		err(1, "%s", name);
	(void)LLVMFuzzerTestOneInput((const uint8_t *)data, len);
	free(data);
	return (1);
}

static int
replay(const char *path)
{
	struct dirent *e;
	DIR *d;
	int n = 0;

	if ((d = opendir(path)) == NULL)
		return (replay_file(AT_FDCWD, path));
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			n += replay_file(dirfd(d), e->d_name);
	(void)closedir(d);
	return (n);
}

int
main(int argc, char *argv[])
{
	char corpus[1024];
	const char *name;
	int i, n = 0;

	if (argc == 1 && (name = strstr(argv[0], "fuzz_")) != NULL) {
		(void)snprintf(corpus, sizeof(corpus), "%.*scorpus/%s",
		    (int)(name - argv[0]), argv[0], name + 5);
		n = replay(corpus);
	}
	for (i = 1; i < argc; i++)
		n += replay(argv[i]);
	(void)printf("1..1\n%sok 1 - %s replayed %d inputs\n",
	    n > 0 ? "" : "not ", argv[0], n);
	return (n > 0 ? 0 : 1);
}
#endif

#endif
