# SPDX-License-Identifier: BSD-2-Clause
"""Hundreds of clients of one cold file: each gets right bytes, with the
transfer, whatever the others do; the file is fetched once, and the memory that
they need is bounded.  `crowd` does this with 10,000 and measures."""
import os
import threading
import urllib.parse

import pytest

import crowd_clients
from conftest import SLOW, VARIANT, get, make_tree, sha256, until
from proxy import Upstream

SIZE, RATE, CHUNK = 4000000, 1000000, 256 << 10
MOST = 2000
# Of the edge's memory, for a client that waits and for one that is sent the
# file; for everything else; and for 128 that are sent it in larger blocks.
WAITS, IS_SENT, REST, LARGE = 12 << 10, 36 << 10, 4 << 20, 128 * (48 << 10)


@pytest.fixture
def edge(sandbox, tmp_path):
    """A box whose edge fills through a slow proxy; it, and the file."""
    up = Upstream(None)
    box = sandbox("--edges", "1", "--upstream", up.url,
                  *crowd_clients.PATIENT, *[
        w for key in ("http.connections", "http.per-address",
                      "fill.clients-per-fill")
        for w in ("--edge-option", "%s=%d" % (key, MOST))])
    up.origin = urllib.parse.urlsplit(box.master)
    tree = make_tree(tmp_path / "tree", {"cold": SIZE, "warm": 1000})
    box.publish("demo", tree)
    assert get(box.edges[0], "/demo/warm").status == 200
    up.requests.clear()
    up.body_bytes, up.rate = 0, RATE
    yield box, up, os.path.join(tree, "cold")
    up.close()


def watch(pid, over, out):
    while not over.wait(0.05):
        out.append(crowd_clients.memory(pid))


def meet(edge, roles):
    """All of them wait, and then the file comes.  What came of them, and the
    seconds in which those who read all of it had it."""
    box, up, path = edge
    with open(path, "rb") as f:
        content = f.read()
    u = urllib.parse.urlsplit(box.edges[0])
    go, over, memory = threading.Event(), threading.Event(), []
    up.fault = crowd_clients.Gate(sha256(content), go)
    pid, n = box.pid("edge1"), sum(roles.values())
    before = crowd_clients.memory(pid)
    crowd = crowd_clients.Crowd(u.hostname, u.port, "/demo/cold", path, roles,
                                120 * SLOW)
    watcher = threading.Thread(target=watch, args=(pid, over, memory))
    try:
        crowd.tells()
        until(lambda: box.status(box.edges[0])["counters"]["open"] >= n, 30)
        waiting = crowd_clients.memory(pid) - before
        watcher.start()
        # Hits go on meanwhile.
        assert "; hit" in get(box.edges[0], "/demo/warm").cache_status
        begin = crowd_clients.now()
        go.set()
        told = crowd.tells()
    finally:
        go.set()
        over.set()
        crowd.end()
    watcher.join()
    for role, t in told.items():
        assert t["right"] == t["n"] == roles.get(role, 0), (
            role, t["faults"][:5])
    if not VARIANT:
        assert waiting <= WAITS * n + REST
        assert max(memory) - before <= IS_SENT * n + REST + LARGE
    ends = [e - begin for e in told["whole"]["end"]]
    # With the transfer, which takes four seconds.
    assert min(ends) > SIZE / RATE * 0.8
    assert max(ends) < SIZE / RATE + 15 * SLOW
    assert get(box.edges[0], "/demo/cold").body == content


def test_all_share_one_get(edge):
    meet(edge, {"whole": 300})
    _, up, _ = edge
    assert len(up.blobs()) == 1
    assert up.body_bytes == SIZE


@pytest.mark.quick
def test_none_changes_what_others_get(edge):
    n = 999 // SLOW
    meet(edge, {"slow": n // 3, "vanish": n // 3, "whole": n // 3,
                "last": n // 30})
    _, up, _ = edge
    # The last bytes have come before the rest.
    assert up.body_bytes <= SIZE + CHUNK
