# SPDX-License-Identifier: BSD-2-Clause
"""The limits of fills, by what an upstream sees of them: how many at once in
all, how many from one upstream, how many clients of one, how fast; and how often
one large file is fetched that a client takes in 16 pieces."""
import concurrent.futures
import os
import shutil
import subprocess
import threading
import time
import urllib.parse

import pytest

from conftest import SLOW, get, make_tree, until
from proxy import Upstream

MB = 1 << 20
FILES = {"p%d" % i: 50000 + i for i in range(24)}


class Held:
    """An upstream that answers when it is told to, and the edge behind it."""

    def __init__(self, sandbox, tmp, *options, ups=1, files=FILES):
        self.go = threading.Event()
        self.ups = [Upstream(None) for _ in range(ups)]
        self.box = sandbox(
            "--edges", "1", "--edge-option", "first-byte=200",
            *[a for o in options for a in ("--edge-option", o)],
            *[a for up in self.ups for a in ("--upstream", up.url)])
        for up in self.ups:
            up.origin = urllib.parse.urlsplit(self.box.master)
        tree = make_tree(tmp / "tree", files)
        self.box.publish("demo", tree)
        self.base, self.content = self.box.edges[0], {}
        for name in files:
            with open(os.path.join(tree, name), "rb") as f:
                self.content[name] = f.read()
        for up in self.ups:
            until(lambda: up.running == 0, 20)
            up.fault, up.most = self.hold, 0
            up.requests.clear()
            up.sent.clear()

    def hold(self, path, sock, head, body):
        assert self.go.wait(120)
        return False

    def ask(self, names, pool, **headers):
        return [(n, pool.submit(get, self.base, "/demo/" + n, "GET", headers,
                                60)) for n in names]

    def right(self, asked):
        for name, answer in asked:
            a = answer.result()
            assert a.status == 200 and a.body == self.content[name], name

    def blobs(self):
        return sum(len(up.blobs()) for up in self.ups)

    def close(self):
        self.go.set()
        for up in self.ups:
            up.close()


@pytest.fixture
def held(sandbox, tmp_path):
    made = []

    def make(*options, **kw):
        made.append(Held(sandbox, tmp_path, *options, **kw))
        return made[0]

    yield make
    for h in made:
        h.close()


@pytest.mark.parametrize("options, ups, most", [
    (("fills=5", "per-upstream=20"), 1, 5),
    (("fills=20", "per-upstream=3"), 1, 3),
    ((), 1, 8),                         # what they are if nothing is set
    # The first one takes what it may; no more go to it or past it.
    (("fills=20", "per-upstream=3"), 2, 3),
])
def test_as_many_transfers_at_once_as_are_allowed(held, options, ups, most):
    h = held(*options, ups=ups)
    with concurrent.futures.ThreadPoolExecutor(len(FILES)) as pool:
        try:
            asked = h.ask(FILES, pool)
            until(lambda: h.blobs() >= most, 20)
            # All others wait in the edge, as its own numbers say.
            until(lambda: h.box.status(h.base)["counters"]["misses"] ==
                  len(FILES), 20)
            assert h.blobs() == most
        finally:
            h.go.set()
        h.right(asked)
    assert h.ups[0].most == most
    assert h.blobs() == len(FILES)      # each once


@pytest.mark.quick
def test_so_many_clients_of_one_fill_and_no_more(held):
    h = held("clients-per-fill=6")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        try:
            asked = h.ask(["p0"] * 6, pool)
            until(lambda: h.box.status(h.base)["counters"]["misses"] == 6,
                  20)
            more = h.ask(["p0"] * 9, pool)
            for _, answer in more:
                a = answer.result()
                assert a.status == 503 and a.body == b"" and a["Retry-After"]
            other = h.ask(["p1"], pool)     # another file's are others
            until(lambda: h.blobs() == 2, 20)
        finally:
            h.go.set()
        h.right(asked + other)
    # Once it is there it is anybody's.
    until(lambda: "; hit" in get(h.base, "/demo/p0").cache_status, 10)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        h.right(h.ask(["p0"] * 20, pool))
    assert h.blobs() == 2


def test_all_fills_together_keep_the_rate(held):
    """Never faster than that, but for what a tenth of a second has saved up
    and curl hands over at once; not much slower on a machine that is busy."""
    rate, files = 4 * MB, {"f%d" % i: 2 * MB for i in range(6)}
    h = held("fill.rate=4M", files=files)
    h.go.set()
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(files)) as pool:
        h.right(h.ask(files, pool))
    took = time.monotonic() - start
    want = sum(files.values()) / rate
    print("%.2f s, at the rate: %.2f s" % (took, want))
    assert took > want * 0.9 - 0.1, took
    assert took < want * 3 * SLOW, took


def test_sixteen_pieces_of_a_cold_file_cost_it_once(sandbox, tmp_path,
                                                    request):
    """aria2c -x16 -s16: only what a transfer that is cut short had under way
    comes twice.  Its first request is for all of the file, so that one is cut
    where the next piece begins.  The upstream is slower than the edge, as they
    are; else megabytes of loopback's buffers are under way."""
    if not shutil.which("aria2c"):
        pytest.skip("aria2c is not here: integration/deps check")
    size = request.config.getoption("--large") * MB
    up = Upstream(None)
    box = sandbox("--edges", "1", "--upstream", up.url)
    up.origin = urllib.parse.urlsplit(box.master)
    up.rate = 6 * MB // SLOW            # each transfer
    path = tmp_path / "tree/big"
    os.makedirs(path.parent)
    with open(path, "wb") as f:
        for _ in range(size // MB):
            f.write(os.urandom(MB))
    box.publish("demo", path.parent)
    start = time.monotonic()
    p = subprocess.run(
        ["aria2c", "-q", "--no-conf", "-x16", "-s16", "-k1M",
         "--file-allocation=none", "-d", str(tmp_path), "-o", "out",
         box.edges[0] + "/demo/big"], stdin=subprocess.DEVNULL,
        timeout=600 * SLOW)
    took = time.monotonic() - start
    assert p.returncode == 0
    assert subprocess.run(["cmp", str(path), str(tmp_path / "out")],
                          timeout=600).returncode == 0
    until(lambda: up.running == 0, 60)
    blob = next(r for r in up.blobs() if up.sent[r] >= size)
    cost = up.sent[blob] / size
    asked = up.requests.count(blob)
    print("%d MB in %.1f s, %d transfers, %.4f times the file" % (
        size // MB, took, asked, cost))
    assert 1 < up.most <= 8             # really in pieces, as many as may be
    assert 1 <= cost <= 1.02, cost
    up.close()
