# SPDX-License-Identifier: BSD-2-Clause
"""Cold files are sent on while they arrive, to any number of clients, from one
upstream transfer."""
import http.client
import socket
import threading
import time
import urllib.parse

import pytest

from conftest import SLOW, get, make_tree, sha256, until
from proxy import Upstream

MB = 1000000


@pytest.fixture
def slow(sandbox, tmp_path):
    """A box whose edge fills through a proxy of 2 MB/s, with the big file."""
    state = {}

    def make(size, rate=2 * MB):
        # The proxy must be there before the edge; it learns its origin later.
        up = Upstream(None, rate=None)
        box = sandbox("--edges", "1", "--upstream", up.url)
        up.origin = urllib.parse.urlsplit(box.master)
        tree = make_tree(tmp_path / "tree", {"All/big.pkg": size,
                                             "All/small.pkg": 1000})
        box.publish("demo", tree)
        up.rate = rate
        up.requests.clear()
        state["up"] = up
        with open(tree + "/All/big.pkg", "rb") as f:
            return box, up, f.read()

    yield make
    if "up" in state:
        state["up"].close()


def test_first_bytes_come_with_the_first_chunk_and_all_share_one_get(slow):
    box, up, content = slow(20 * MB)
    u = urllib.parse.urlsplit(box.edges[0])
    first, done, errors = [], [], []

    def client():
        try:
            start = time.monotonic()
            c = http.client.HTTPConnection(u.hostname, u.port, timeout=60)
            c.request("GET", "/demo/All/big.pkg")
            r = c.getresponse()
            body = r.read(1)
            first.append(time.monotonic() - start)
            body += r.read()
            done.append(time.monotonic() - start)
            assert r.status == 200 and body == content
            c.close()
        except Exception as e:              # noqa: told by the assertion below
            errors.append(repr(e))

    threads = []
    for i in range(100):
        threads.append(threading.Thread(target=client))
        threads[-1].start()
        time.sleep(0.02)
    for t in threads:
        t.join()
    assert not errors, errors[:3]
    assert len(done) == 100
    # A chunk of 256 KiB takes 0.13 s at this rate; the file ten seconds.
    assert first[0] < 2 * SLOW, first[0]
    assert max(first) < 4 * SLOW
    assert max(done) > 5
    gets = up.blobs()
    assert len(gets) == 1, gets
    assert up.body_bytes <= len(content) * 1.02
    again = get(box.edges[0], "/demo/All/big.pkg")
    assert again.body == content and "; hit" in again.cache_status
    assert len(up.blobs()) == 1


def test_a_range_is_honoured_during_the_fill_and_on_a_miss(slow):
    box, up, content = slow(6 * MB)
    t = threading.Thread(target=get, args=(box.edges[0], "/demo/All/big.pkg"))
    t.start()
    until(lambda: up.blobs(), 5)
    for first, last in ((0, 99), (300000, 900000), (5999000, 5999999)):
        a = get(box.edges[0], "/demo/All/big.pkg",
                headers={"Range": "bytes=%d-%d" % (first, last)})
        assert a.status == 206
        assert a.body == content[first:last + 1]
        assert a["Content-Range"] == "bytes %d-%d/%d" % (first, last,
                                                         len(content))
    t.join()


def test_head_of_a_cold_file_costs_no_transfer(slow):
    box, up, content = slow(MB)
    a = get(box.edges[0], "/demo/All/big.pkg", method="HEAD")
    assert a.status == 200 and a["Content-Length"] == str(len(content))
    assert a["ETag"] == '"%s"' % sha256(content)
    assert not up.blobs()


def test_a_slow_and_a_vanished_client_change_nothing(slow):
    box, up, content = slow(4 * MB)
    u = urllib.parse.urlsplit(box.edges[0])
    lazy = socket.create_connection((u.hostname, u.port))
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.sendall(b"GET /demo/All/big.pkg HTTP/1.1\r\nHost: x\r\n\r\n")
    gone = socket.create_connection((u.hostname, u.port))
    gone.sendall(b"GET /demo/All/big.pkg HTTP/1.1\r\nHost: x\r\n\r\n")
    gone.recv(10)
    gone.close()
    a = get(box.edges[0], "/demo/All/big.pkg")
    assert a.body == content
    assert len(up.blobs()) == 1
    lazy.close()


@pytest.mark.quick
def test_small_cold_files_are_served_and_kept(slow):
    box, up, _ = slow(MB, rate=None)
    one = get(box.edges[0], "/demo/All/small.pkg")
    assert one.status == 200 and len(one.body) == 1000
    assert "fwd=miss" in one.cache_status
    # At once it may still share the fill, which is being synced.
    two = until(lambda: (lambda a: a if "; hit" in a.cache_status else None)(
        get(box.edges[0], "/demo/All/small.pkg")), 10)
    assert two.body == one.body
    assert len(up.blobs()) == 1


@pytest.mark.quick
@pytest.mark.parametrize("size", (500, 900000))
def test_a_switch_while_a_client_waits_for_its_first_byte(slow, tmp_path, size):
    """What it then gets is of one generation: headers, length and bytes."""
    box, up, _ = slow(600000, rate=None)
    with open(tmp_path / "tree/All/big.pkg", "rb") as f:
        old = f.read()
    go = threading.Event()

    def fault(path, sock, head, body):
        if sha256(old) in path:
            go.wait(20)

    up.fault = fault
    got = []
    t = threading.Thread(target=lambda: got.append(
        get(box.edges[0], "/demo/All/big.pkg")))
    t.start()
    until(lambda: any(sha256(old) in r for r in up.requests), 5)
    tree = make_tree(tmp_path / "tree", {"All/big.pkg": size})
    box.publish("demo", tree)
    assert box.head(box.edges[0], "demo")["generation"] == "2"
    go.set()
    t.join()
    with open(tree + "/All/big.pkg", "rb") as f:
        content = {1: old, 2: f.read()}
    a = got[0]
    assert a.status == 200
    assert a.body == content[a.generation]
    assert a["ETag"] == '"%s"' % sha256(content[a.generation])
