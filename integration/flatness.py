# SPDX-License-Identifier: BSD-2-Clause
"""Many publishes and many reconnects, and whether the daemons' memory stays level
meanwhile: for integration/flat and test_flat.py."""
import json
import os
import random
import re
import statistics
import subprocess
import threading
import time

from conftest import HERE, get, make_tree, until
from soak_watch import Watch

# What is kept of a set reaches its most after so many publishes, as generations
# of which a later one is "--withdraw" are not kept.  (Kept as long as they may
# be, 200 of each set, they would fill up through the whole run.)
WITHDRAW_EVERY = 5
# Small, so that the edges' caches, and the books of them, are soon full.
EDGE_OPTIONS = ("cache.cache-size=16M", "cache.memory=2M", "grace=10s")
FILES, SIZE = 6, 12000
SAMPLES = 100
DESCRIPTORS = THREADS = 8
RECONNECT = os.path.join(os.environ.get("PKGCAST_BUILD",
                                        os.path.dirname(HERE)),
                         "tests", "bench_reconnect")


def edge_arguments():
    return [w for o in EDGE_OPTIONS for w in ("--edge-option", o)]


class Level(Watch):
    """Samples against a count of something, and a verdict."""

    def __init__(self, box, names):
        super().__init__({n: box.pid(n) for n in names})
        self.counts = []

    def take(self, count):
        self.counts.append(count)
        self.sample()

    def rise(self, name):
        """Bytes of its own for each one counted, over the second half."""
        half = len(self.counts) // 2
        own = [s[0] * 2 ** 20 for s in self.samples[name][half:]]
        return statistics.linear_regression(self.counts[half:], own).slope

    def quarters(self, name, what):
        """The most in the third quarter, and in the last."""
        values = [s[what] for s in self.samples[name]]
        q = len(values) // 4
        return max(values[2 * q:3 * q]), max(values[3 * q:])

    def growing(self, each, floor):
        """A text for whatever is not level: memory, if it rises by more than
        `each` bytes for one, and in the second half by more than `floor`."""
        for name in self.samples:
            rise = self.rise(name)
            over = self.counts[-1] - self.counts[len(self.counts) // 2]
            if rise > each and rise * over > floor:
                yield ("%s: its own memory rises by %.0f bytes for each, %.1f "
                       "MB in the second half" % (name, rise,
                                                  rise * over / 2 ** 20))
            for what, word, allowed in ((2, "descriptors", DESCRIPTORS),
                                        (3, "threads", THREADS)):
                a, b = self.quarters(name, what)
                if b > a + allowed:
                    yield "%s: from %d to %d %s in the last quarter" % (
                        name, a, b, word)

    def table(self, what):
        yield "%-8s %22s %22s %14s %11s %9s" % (
            what, "own MB 10 50 100 %", "resident MB", "descriptors",
            "threads", "B for one")
        for name, s in self.samples.items():
            at = [s[min(len(s) * p // 100, len(s) - 1)] for p in
                  (10, 50, 100)]
            yield "%-8s %22s %22s %14s %11s %9.0f" % (
                (name,) + tuple(" ".join("%.1f" % a[i] for a in at)
                                for i in (0, 1)) +
                tuple(" ".join(str(a[i]) for a in at) for i in (2, 3)) +
                (self.rise(name),))


class Publishers:
    """Threads that publish small changes of their own sets in turn, and ask
    every edge for what they have published."""

    def __init__(self, box, where, sets):
        self.box, self.where, self.sets = box, str(where), sets
        self.lock, self.over = threading.Lock(), threading.Event()
        self.rounds = [0] * sets
        self.late, self.threads = 0, []

    def start(self, count, threads):
        """That many publishes; a negative number: until end()."""
        self.left, self.done, self.error = count, 0, None
        self.over.clear()
        self.busy = min(threads, self.sets)
        self.threads = [threading.Thread(target=self.work, args=(i,))
                        for i in range(self.busy)]
        for t in self.threads:
            t.start()

    def work(self, first):
        try:
            while True:
                for i in range(first, self.sets, self.busy):
                    if not self.take():
                        return
                    self.publish(i)
                    with self.lock:
                        self.done += 1
        except BaseException as e:                          # noqa: B902
            self.error = e

    def take(self):
        with self.lock:
            if self.left == 0 or self.over.is_set() or self.error:
                return False
            self.left -= 1
            return True

    def publish(self, i):
        rng = random.Random((i, self.rounds[i]).__repr__())
        tree = os.path.join(self.where, "set%03d" % i)
        n = self.rounds[i]
        files = {"file%d" % (n % FILES): rng.randbytes(SIZE),
                 "latest": b"%d %d\n" % (i, n)}
        # A path that comes and goes.
        make_tree(tree, dict(files, extra=b"%d\n" % n))
        if n % 2:
            os.unlink(os.path.join(tree, "extra"))
        name = "flat%03d" % i
        out = (n + i) % WITHDRAW_EVERY == 0
        p = self.box.publish(name, tree, "--entry", "latest",
                             *(["--withdraw"] if out else []), check=False)
        # An edge that could not acknowledge in time is told, and is no fault.
        assert p.returncode in (0, 3), p.stdout + p.stderr
        self.late += p.returncode == 3
        for edge in self.box.edges if p.returncode == 0 else []:
            for path, body in files.items():
                got = get(edge, "/%s/%s" % (name, path))
                assert got.status == 200 and got.body == body, (name, path, n)
        self.rounds[i] += 1

    def wait(self, level, count, tell=None):
        """Until all is done, with samples on the way."""
        level.take(0)
        step = max(1, count // SAMPLES)
        while any(t.is_alive() for t in self.threads):
            done = self.done
            if done >= level.counts[-1] + step:
                level.take(done)
                if tell:
                    tell(done)
            time.sleep(0.05)
        self.end()

    def end(self):
        self.over.set()
        for t in self.threads:
            t.join()
        self.threads = []
        if self.error:
            raise self.error


class Visitor:
    """Somebody with an edge's key who comes and goes."""

    def __init__(self, box, name="visitor"):
        self.box = box
        text = box.pkgcast("edge", "invite", name, "--url",
                           "http://127.0.0.1:1").stdout
        keys = re.findall(r'^    (?:public|secret)-key = "([^"]*)"', text,
                          re.M)
        assert len(keys) == 3, text
        self.keys = "".join(k + "\n" for k in keys)
        with open(box.path("sandbox.json")) as f:
            self.ports = json.load(f)["ports"]
        # The master reads its edges' folder when that has changed.
        until(self.welcome, 60, 0.5)

    def welcome(self):
        """the master lets the visitor in"""
        p = self.start("lease", 1)
        p.stdin = None
        p.communicate()
        return p.returncode == 0

    def start(self, kind, count):
        p = subprocess.Popen(
            [RECONNECT, kind, "tcp://127.0.0.1:%d" % self.ports[kind],
             str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        p.stdin.write(self.keys)
        p.stdin.close()
        return p

    def visit(self, kind, count, level):
        step = max(50, count // SAMPLES)
        p = self.start(kind, count)
        try:
            level.take(0)
            for line in p.stdout:
                if int(line) >= level.counts[-1] + step:
                    level.take(int(line))
            assert p.wait() == 0, p.stderr.read()
        finally:
            p.kill()
            p.wait()
            p.stdout.close()
            p.stderr.close()
