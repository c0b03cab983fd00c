# SPDX-License-Identifier: BSD-2-Clause
"""The files that the benchmark publishes, and the order in which they are asked
for: the same on every run."""
import bisect
import os
import random

FIXED = {"1K": 1 << 10, "64K": 64 << 10, "1M": 1 << 20, "10M": 10 << 20,
         "100M": 100 << 20}
# A package mirror in small: sizes log-normal with a median near 46 KiB and a
# few large ones, 1.6 GB in all; a package's rank says nothing of its size.
ZIPF_FILES = 20000
ZIPF_MEDIAN = 46000
ZIPF_SIGMA = 1.0
ZIPF_LARGE = {300: 16 << 20, 700: 24 << 20, 1500: 32 << 20, 4000: 48 << 20}
ZIPF_EXPONENT = 0.9
ZIPF_REQUESTS = 100000
POOL = 64 << 20
# Packages as on a mirror have the same median and a long tail.
MIRROR_SIGMA = 2.3
MIRROR_LARGEST = 1 << 30


def zipf_path(rank):
    return "zipf/%02x/%05d" % (rank & 255, rank)


def zipf_sizes():
    rng = random.Random(20000)
    sizes = [max(200, int(rng.lognormvariate(0, ZIPF_SIGMA) * ZIPF_MEDIAN))
             for _ in range(ZIPF_FILES)]
    for rank, size in ZIPF_LARGE.items():
        sizes[rank] = size
    return sizes


def mirror_sizes(files, total):
    """Sizes of a whole mirror's packages, that many bytes in all."""
    rng = random.Random(files)
    sizes = [min(MIRROR_LARGEST, rng.lognormvariate(0, MIRROR_SIGMA) *
                 ZIPF_MEDIAN) for _ in range(files)]
    factor = total / sum(sizes)
    return [max(200, int(size * factor)) for size in sizes]


def zipf_order():
    """The ranks asked for, in their order."""
    rng = random.Random(1)
    total, sums = 0.0, []
    for rank in range(ZIPF_FILES):
        total += (rank + 1) ** -ZIPF_EXPONENT
        sums.append(total)
    return [bisect.bisect_left(sums, rng.random() * total)
            for _ in range(ZIPF_REQUESTS)]


def write(path, number, size, pool):
    """A file like no other: its number, then a piece of the random pool."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        head = b"%016d" % number
        f.write(head)
        left = size - len(head)
        at = number * 4099 % (POOL // 2)
        while left > 0:
            piece = pool[at:at + left]
            f.write(piece)
            left -= len(piece)
            at = 0


def make(where, fixed, zipf):
    """Writes the named fixed files, and the mix; returns their bytes."""
    pool = memoryview(os.urandom(POOL))
    total = 0
    for i, name in enumerate(fixed):
        write(os.path.join(where, name), i, FIXED[name], pool)
        total += FIXED[name]
    if zipf:
        for rank, size in enumerate(zipf_sizes()):
            write(os.path.join(where, zipf_path(rank)), 1000 + rank, size,
                  pool)
            total += size
    return total
