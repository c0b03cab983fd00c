# SPDX-License-Identifier: BSD-2-Clause
"""Reads that wait for the disk delay nobody whose bytes are in memory."""
import http.client
import os
import signal
import threading
import urllib.parse

import pytest

import slow
from conftest import SLOW, get, make_tree

RATE = 256 << 10                # one readahead of 512 KiB takes two seconds
COLD = {"large": 4 << 20, "middle": 700 << 10, "small": 60 << 10}
SECONDS = 6


@pytest.fixture
def disk(tmp_path):
    try:
        d = slow.SlowDisk(tmp_path / "disk", 256 << 20)
    except slow.Unavailable as e:
        pytest.skip("no slow block device to be had here: %s" % e)
    yield d
    d.close()


@pytest.fixture
def box(disk, sandbox, tmp_path):
    """Ends before its disk does."""
    b = sandbox("--edges", "1", "--edge-option",
                "cache.dir=%s/cache" % disk.mount, "--edge-option",
                "scrub.rate=0")     # it would warm what is to be cold
    yield b
    disk.limit(0, 0)
    b.down()


class Client(threading.Thread):
    """Reads cold files one after the other, and keeps what came."""

    def __init__(self, base, names):
        super().__init__()
        u = urllib.parse.urlsplit(base)
        self.c = http.client.HTTPConnection(u.hostname, u.port,
                                            timeout=120 * SLOW)
        self.names, self.got, self.fault = names, {}, None
        self.start()

    def run(self):
        try:
            for name in self.names:
                self.c.request("GET", "/demo/" + name)
                self.got[name] = self.c.getresponse().read()
        except Exception as e:              # noqa: told by the test
            self.fault = e
        finally:
            self.c.close()


@pytest.mark.parametrize("what", COLD)
def test_hits_do_not_wait_for_cold_files(box, disk, tmp_path, what):
    names = ["%s-%d" % (what, i) for i in range(4)]
    tree = make_tree(tmp_path / "t", dict({n: COLD[what] for n in names},
                                          hot=1000))
    box.publish("demo", tree)
    for n in names:
        assert get(box.edges[0], "/demo/" + n).status == 200
    box.kill("edge1", signal.SIGTERM)
    disk.cold()
    box.start("edge1")
    probe = slow.Probe(box.edges[0], "/demo/hot", connections=8, every=0.05)
    disk.limit(RATE, 0)
    disk.hold(box.pid("edge1"))
    before = disk.bytes_read()
    clients = [Client(box.edges[0], [n]) for n in names]
    try:
        got = probe.run(SECONDS)
        read = disk.bytes_read() - before
        late = sum(c.is_alive() for c in clients)
    finally:
        disk.limit(0, 0)
        for c in clients:
            c.join()
        probe.close()
    # It was slow: the disk has worked, and the clients had to wait.
    assert read >= RATE * SECONDS / 4 or not late
    assert late or what == "small"
    assert got[-1] < 1.0 * SLOW, "a hit took %.2f s" % got[-1]
    for c in clients:
        assert c.fault is None
        for n in c.names:
            with open(os.path.join(tree, n), "rb") as f:
                assert c.got[n] == f.read()
