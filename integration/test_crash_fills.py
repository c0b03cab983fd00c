# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of an edge at random moments while it fills: what it then serves is
right, a fill goes on with exactly the bytes that its partial file lacks, and
nothing piles up.  `make torture` does it half as often again as KILLS says."""
import concurrent.futures
import hashlib
import http.client
import os
import random
import time
import urllib.parse

import pytest

from conftest import get, make_tree, sha256, until
from proxy import Upstream

CHUNK = 262144
BATCH = 40                              # files of one generation
RATE = 5 << 20                          # bytes a second of one transfer
MOST = 3 << 20                          # bytes of a file


class Edge:
    """The edge of a box, its upstream, and the files that it may be asked for."""

    def __init__(self, box, up, tmp, rng):
        self.box, self.up, self.tmp, self.rng = box, up, tmp, rng
        self.generation, self.cold, self.warm = 0, {}, {}
        self.process, self.kills = None, 0
        self.continued, self.saved = 0, 0   # partial files; their bytes

    def publish(self):
        """New content, which nothing has cached.  The edge may have been
        killed just now: it follows when it has a lease."""
        self.generation += 1
        self.cold = {"All/p%d.pkg" % i:
                     self.rng.randbytes(self.rng.choice(
                         [self.rng.randrange(1, 100000)] +
                         [self.rng.randrange(CHUNK, MOST)
                          for _ in range(3)]))
                     for i in range(BATCH)}
        self.warm = {}
        base = self.box.edges[0]
        until(lambda: self.box.status(base)["lease"]["held"], 30)
        tree = make_tree(self.tmp / "tree", self.cold)
        p = self.box.publish("demo", tree, check=False)
        assert p.returncode in (0, 3), p.stdout + p.stderr
        until(lambda: int((self.box.head(base, "demo") or {
            "generation": 0})["generation"]) == self.generation, 30)

    def cache(self, *parts):
        return self.box.path("edge1", "cache", *parts)

    def partials(self):
        return os.listdir(self.cache("partial"))

    def ask(self, name, content, first=0, last=None):
        """One request for bytes first to last while the edge may die: all that
        comes is right, and what is not whole does not look so."""
        last = len(content) - 1 if last is None else last
        want = content[first:last + 1]
        try:
            a = get(self.box.edges[0], "/demo/" + name, headers={
                "Range": "bytes=%d-%d" % (first, last)})
        except http.client.IncompleteRead as e:
            return want.startswith(e.partial) and len(e.partial) < len(want)
        except (OSError, http.client.HTTPException):
            return True                 # no answer
        return a.status == 503 or (a.status == 206 and a.body == want)

    def lacks(self, name, content):
        """Bytes of a file that are not verifiably on disk, while nothing
        runs: chunks whose digest is another than the content's."""
        digest = sha256(content)
        if os.path.exists(self.cache("blob", digest[:2], digest)):
            return 0
        try:
            with open(self.cache("partial", digest), "rb") as f:
                have = f.read()
        except FileNotFoundError:
            return len(content)
        assert len(have) <= len(content)
        return sum(len(content[i:i + CHUNK])
                   for i in range(0, len(content), CHUNK)
                   if hashlib.sha256(have[i:i + CHUNK]).digest() !=
                   hashlib.sha256(content[i:i + CHUNK]).digest())

    def kill(self):
        self.box.kill("edge1")
        if self.process:
            self.process.wait()
        self.kills += 1

    def start(self):
        self.process = self.box.spawn("edge1")

        def up():
            assert self.process.poll() is None, self.box.log("edge1")[-3000:]
            try:
                return get(self.box.edges[0],
                           "/.pkgcast/heads").status == 200
            except OSError:
                return False
        until(up, 30)

    def idle(self):
        """No transfer runs, so that all bytes are counted."""
        until(lambda: self.up.running == 0, 20)

    def fill_and_kill(self, names):
        """Has the files filled by some clients; kills the edge meanwhile."""
        self.up.rate = RATE
        jobs = []
        for name in names:
            c = self.cold[name]
            jobs.append((name, c))
            if len(c) > CHUNK and self.rng.random() < 0.5:
                first = self.rng.randrange(len(c))
                jobs.append((name, c, first,
                             self.rng.randrange(first, len(c))))
        blobs = ["/.pkgcast/blob/" + sha256(self.cold[n]) for n in names]
        self.up.sent.clear()
        part = self.rng.random() * 1.2 * sum(len(self.cold[n])
                                             for n in names)
        with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
            asked = [pool.submit(self.ask, *j) for j in jobs]
            until(lambda: sum(self.up.sent[b] for b in blobs) >= part or
                  all(a.done() for a in asked), 60, pause=0.001)
            time.sleep(self.rng.random() * 0.03)
            self.kill()
            assert all(a.result() for a in asked), names
        self.idle()

    def resume(self, name, content):
        """The file is whole, and costs what it lacked.  Small ones come all
        at once, so none is ever partial."""
        lacks, digest = self.missing[name], sha256(content)
        self.up.rate = None
        self.up.sent.clear()
        a = get(self.box.edges[0], "/demo/" + name)
        assert a.status == 200 and a.body == content, name
        self.idle()
        sent = self.up.sent["/.pkgcast/blob/" + digest]
        assert sent == lacks, (name, len(content), lacks, sent)
        if 0 < lacks < len(content):
            self.continued += 1
            self.saved += len(content) - lacks
        where = self.cache("blob", digest[:2], digest)
        until(lambda: os.path.exists(where), 20)
        with open(where, "rb") as f:
            assert sha256(f.read()) == digest, name
        self.warm[name] = self.cold.pop(name)

    def round(self):
        if len(self.cold) < 4:
            self.publish()
        names = self.rng.sample(sorted(self.cold), self.rng.randrange(1, 4))
        self.fill_and_kill(names)
        while self.rng.random() < 0.3:  # again, while it goes on
            self.start()
            self.fill_and_kill(names)
        self.missing = {n: self.lacks(n, self.cold[n]) for n in names}
        self.start()
        for name in names:
            self.resume(name, self.cold[name])
        for name in self.rng.sample(sorted(self.warm),
                                    min(4, len(self.warm))):
            a = get(self.box.edges[0], "/demo/" + name)
            assert a.status == 200 and a.body == self.warm[name], name
            assert "; hit" in a.cache_status, name
        until(lambda: not self.partials(), 20)


@pytest.mark.quick
def test_kills_while_files_are_filled(sandbox, tmp_path, request):
    kills = request.config.getoption("--kills") * 5 // 2
    up = Upstream(None)
    box = sandbox("--edges", "1", "--upstream", up.url)
    up.origin = urllib.parse.urlsplit(box.master)
    edge = Edge(box, up, tmp_path, random.Random(kills))
    while edge.kills < kills:
        edge.round()
    print("%d kills, %d generations, %d partial files continued, "
          "%d bytes not fetched again" % (
              edge.kills, edge.generation, edge.continued, edge.saved))
    # They did hit fills.
    assert edge.continued > (kills / 5 if kills > 100 else 0)
    up.close()
