# SPDX-License-Identifier: BSD-2-Clause
"""Memory, descriptors and threads of the daemons over time, for integration/soak
and integration/flat, and whether they grow."""
import os
import statistics

from conftest import VARIANT

# What the last quarter of a run may have above the one before it: sanitizers
# keep books of their own that grow for a long time.
MEMORY_MB = {"asan": 24, "tsan": 48}.get(VARIANT, 6)
MEMORY_PART = {"asan": 0.06, "tsan": 0.10}.get(VARIANT, 0.04)
DESCRIPTORS = 24


def status(pid):
    """Those numbers of a process that are looked at here."""
    out = {}
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            k, _, v = line.partition(":")
            if k in ("RssAnon", "VmRSS", "Threads"):
                out[k] = int(v.split()[0])
    return out


def memory_mb(pid):
    """Of its own (not the pages of files), and all that is resident."""
    kb = status(pid)
    return kb["RssAnon"] / 1024, kb["VmRSS"] / 1024


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


class Watch:
    def __init__(self, pids):
        self.pids = pids
        # (own MB, all MB, fds, threads)
        self.samples = {n: [] for n in pids}

    def sample(self):
        for name, pid in self.pids.items():
            try:
                self.samples[name].append(memory_mb(pid) + (
                    descriptors(pid), status(pid)["Threads"]))
            except OSError:
                pass                        # ended; its exit status tells

    def lines(self):
        yield "%-8s %29s %29s %20s %10s" % (
            "", "own MB at 10 50 100 %", "resident MB at 10 50 100 %",
            "descriptors", "MB/hour")
        for name, s in self.samples.items():
            if len(s) < 4:
                continue
            at = [s[min(len(s) * p // 100, len(s) - 1)] for p in
                  (10, 50, 100)]
            yield "%-8s %29s %29s %20s %10.1f" % (
                (name,) + tuple(" ".join("%.1f" % a[i] for a in at)
                                for i in (0, 1)) +
                (" ".join(str(a[2]) for a in at), self.slope(s)))

    @staticmethod
    def slope(s, every=10):
        """Of the second half, by least squares."""
        y = [a[0] for a in s[len(s) // 2:]]
        x = [i * every / 3600 for i in range(len(y))]
        if len(y) < 3:
            return 0.0
        return statistics.linear_regression(x, y).slope

    def growing(self):
        """A text for each daemon that has grown too much."""
        for name, s in self.samples.items():
            q = len(s) // 4
            if q < 3:
                continue
            third, last = s[2 * q:3 * q], s[3 * q:]
            a, b = (statistics.median(v[0] for v in part)
                    for part in (third, last))
            allowed = max(MEMORY_MB, a * MEMORY_PART)
            if b - a > allowed:
                yield ("%s: its own memory grew from %.1f to %.1f MB in the "
                       "last quarter; %.1f allowed" % (name, a, b, allowed))
            a, b = (statistics.median(v[2] for v in part)
                    for part in (third, last))
            if b - a > DESCRIPTORS:
                yield ("%s: from %d to %d descriptors in the last quarter; "
                       "%d more allowed" % (name, a, b, DESCRIPTORS))
