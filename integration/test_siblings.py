# SPDX-License-Identifier: BSD-2-Clause
"""An edge that asks a sibling before the master: what the sibling has costs the
master nothing, what it has not costs one short answer on a connection that is
kept, and a sibling that is filling, lies, is gone or hangs changes nothing for
clients."""
import http.client
import time
import urllib.parse

import pytest

from conftest import SLOW, get, make_tree, sha256, until
from proxy import Upstream

MB = 1 << 20
SMALL = {"All/s%02d.pkg" % i: 20000 + 7 * i for i in range(20)}


class Pair:
    """edge1 asks edge2, then the master; edge2 asks the master.  Each way has
    a proxy that counts."""

    def __init__(self, sandbox, tmp, *options):
        self.sibling, self.master, self.other = (Upstream(None)
                                                 for _ in range(3))
        self.box = box = sandbox(
            "--edges", "2", *options,
            "--upstream", "edge1:" + self.master.url,
            "--upstream", "edge1:sibling=" + self.sibling.url,
            "--upstream", "edge2:" + self.other.url)
        self.one, self.two = box.edges
        self.master.origin = self.other.origin = urllib.parse.urlsplit(
            box.master)
        self.sibling.origin = urllib.parse.urlsplit(self.two)
        tree = make_tree(tmp / "tree", {**SMALL, "All/big.pkg": 5 * MB + 9})
        box.publish("demo", tree)
        self.content = {}
        for name in [*SMALL, "All/big.pkg"]:
            with open(tree + "/" + name, "rb") as f:
                self.content[name] = f.read()
        # A probe that failed before there was an origin says nothing.
        for up in (self.sibling, self.master, self.other):
            up.requests.clear()
            up.connections = 0
        self.before = self.sibling_status()

    def blob(self, name):
        return "/.pkgcast/blob/" + sha256(self.content[name])

    def get(self, base, name, **headers):
        a = get(base, "/demo/" + name, headers=headers)
        assert a.status == 200 and a.body == self.content[name], name
        return a

    def stored(self, base, name):
        """All of it, and it answers as a hit."""
        until(lambda: "; hit" in self.get(base, name).cache_status, 20)

    def idle(self):
        """What was sent to edge1 is counted, too."""
        until(lambda: self.sibling.running + self.master.running == 0, 20)

    def sibling_status(self):
        for u in self.box.status(self.one)["upstreams"]:
            if u["kind"] == "sibling":
                return u

    def faults(self):
        return self.sibling_status()["failures"] - self.before["failures"]

    def close(self):
        for up in (self.sibling, self.master, self.other):
            up.close()


@pytest.fixture
def pair(sandbox, tmp_path):
    made = []

    def make(*options):
        made.append(Pair(sandbox, tmp_path, *options))
        return made[0]

    yield make
    for p in made:
        p.close()


@pytest.mark.quick
def test_a_sibling_that_has_nothing_costs_one_short_answer(pair):
    p = pair()
    start = time.monotonic()
    for name in p.content:
        p.get(p.one, name)
    took = time.monotonic() - start
    p.idle()
    for name in p.content:
        assert p.sibling.requests.count(p.blob(name)) == 1, name
        assert p.master.requests.count(p.blob(name)) == 1, name
        assert p.sibling.sent[p.blob(name)] == 0
        assert p.master.sent[p.blob(name)] == len(p.content[name])
    # All on the connection that was there, or on one that was made once.
    assert p.sibling.connections <= 1, p.sibling.connections
    s = p.sibling_status()
    assert p.faults() == 0 and not s["aside"]
    assert s["bytes"] == p.before["bytes"]
    # It was asked only for what it has: it fetched nothing itself.
    assert not p.other.blobs()

    # What that costs: the same answer, asked for directly.
    u = urllib.parse.urlsplit(p.two)
    c = http.client.HTTPConnection(u.hostname, u.port)
    times = []
    for name in SMALL:
        begin = time.perf_counter()
        c.request("GET", p.blob(name), headers={
            "Cache-Control": "only-if-cached"})
        r = c.getresponse()
        assert r.status == 504 and r.read() == b""
        times.append(time.perf_counter() - begin)
    c.close()
    print("504: median %.2f ms; %.2f ms for each of %d cold files" % (
        sorted(times)[len(times) // 2] * 1e3, took / len(p.content) * 1e3,
        len(p.content)))


def test_many_ranges_of_one_file_ask_the_sibling_once(pair):
    """That it is not there is remembered for as long as the fill lasts."""
    p = pair()
    p.master.rate = 4 * MB // SLOW
    name = "All/big.pkg"
    c = p.content[name]
    first = get(p.one, "/demo/" + name, headers={"Range": "bytes=0-0"})
    assert first.status == 206
    for at in (5 * MB, 3 * MB, MB):
        a = get(p.one, "/demo/" + name,
                headers={"Range": "bytes=%d-%d" % (at, at + 8)})
        assert a.status == 206 and a.body == c[at:at + 9]
    p.get(p.one, name)
    assert p.sibling.requests.count(p.blob(name)) == 1
    assert p.master.requests.count(p.blob(name)) > 1


@pytest.mark.quick
def test_what_a_sibling_has_costs_the_master_nothing(pair):
    p = pair()
    for name in p.content:
        p.stored(p.two, name)
    for name in p.content:
        p.get(p.one, name)
        p.idle()
        assert p.sibling.requests.count(p.blob(name)) == 1, name
        assert p.sibling.sent[p.blob(name)] == len(p.content[name])
        assert p.blob(name) not in p.master.requests
    assert p.sibling.connections <= 1, p.sibling.connections
    assert p.faults() == 0


def test_a_sibling_that_is_filling_says_that_it_has_not(pair):
    """So nobody waits for whom waits, and two that ask each other never do."""
    p = pair()
    name = "All/big.pkg"
    p.other.rate = MB // SLOW
    u = urllib.parse.urlsplit(p.two)
    c = http.client.HTTPConnection(u.hostname, u.port, timeout=60)
    c.request("GET", "/demo/" + name)
    r = c.getresponse()
    body = r.read(100)                  # the sibling has a part of it
    a = get(p.two, p.blob(name), headers={"Cache-Control": "only-if-cached"})
    assert a.status == 504
    p.get(p.one, name)
    p.idle()
    # The sibling still fills, and both got all of it from the master, once.
    assert p.other.running == 1
    assert p.sibling.requests.count(p.blob(name)) == 1
    assert p.sibling.sent[p.blob(name)] == 0
    assert p.master.sent[p.blob(name)] == len(p.content[name])
    p.other.rate = None
    assert body + r.read() == p.content[name]
    c.close()
    assert p.other.requests.count(p.blob(name)) == 1
    assert p.faults() == 0


@pytest.mark.quick
def test_a_sibling_that_lies_is_caught(pair):
    p = pair()
    for name in p.content:
        p.stored(p.two, name)

    def lie(path, sock, head, body):
        sock.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") +
                     body[:-1] + bytes([body[-1] ^ 1]))
        return True

    p.sibling.fault = lie
    for name in ["All/big.pkg", *SMALL]:
        p.get(p.one, name)
    p.idle()
    # All chunks of the large file but the last were right; after that one
    # nobody asked any more.
    assert p.sibling.blobs() == [p.blob("All/big.pkg")]
    assert p.master.sent[p.blob("All/big.pkg")] == 9
    s = p.sibling_status()
    assert p.faults() == 1 and s["aside"] and s["aside_s"] > 500
    assert "wrong bytes" in s["last_error"]


def test_a_sibling_that_is_gone_is_asked_once(pair):
    p = pair()
    p.sibling.refuse(True)
    # The kept connection answers no more either.
    start = time.monotonic()
    for name in p.content:
        p.get(p.one, name)
        assert p.master.requests.count(p.blob(name)) == 1
    took = time.monotonic() - start
    s = p.sibling_status()
    assert s["aside"], s
    asked = s["requests"] - p.before["requests"]
    print("gone: asked %d times for %d files, %.2f ms for each" % (
        asked, len(p.content), took / len(p.content) * 1e3))
    assert asked <= 3, s


def test_a_sibling_that_hangs_costs_one_timeout(pair):
    p = pair("--edge-option", "first-byte=%d" % (2 * SLOW))
    p.sibling.silent = True
    for name in p.content:
        p.get(p.one, name)
        assert p.master.requests.count(p.blob(name)) == 1
    assert len(p.sibling.blobs()) == 1
    s = p.sibling_status()
    assert p.faults() == 1 and s["aside"], s
