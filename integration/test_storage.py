# SPDX-License-Identifier: BSD-2-Clause
"""Storage trouble on real file systems: a cache that is full, too small, read
only, removed, or damaged.  Clients get right bytes all the same, and when the
trouble is over the edge stores again by itself."""
import http.client
import os
import shutil
import signal
import threading
import urllib.parse

import pytest

import crowd_clients
import disks
from conftest import SLOW, get, make_tree, sha256, until
from proxy import Upstream

MB = 1000000
SMALL, MIDDLE, LARGE = 20000, 900000, 5 * MB
RECOVERS = 30 * SLOW            # seconds until files are stored again


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a small file system."""
    made = []

    def make(size, kind=disks.Tmpfs):
        try:
            made.append(kind(tmp_path / "disk", size))
        except disks.Unavailable as e:
            pytest.skip("no file system of our own to be had here: %s" % e)
        return made[-1]

    yield make
    for d in made:
        d.close()


class Edge:
    """One edge whose cache may be on a disk of its own, and its upstream."""

    def __init__(self, sandbox, tmp_path, cache=None, options=()):
        self.up = Upstream(None)
        words = ["cache.dir=" + cache] if cache else []
        self.box = sandbox("--edges", "1", "--upstream", self.up.url,
                           *crowd_clients.PATIENT, *[
            w for o in words + list(options) for w in ("--edge-option", o)])
        self.up.origin = urllib.parse.urlsplit(self.box.master)
        self.cache = cache or self.box.path("edge1", "cache")
        self.tree = str(tmp_path / "tree")
        self.base = self.box.edges[0]

    def publish(self, files):
        make_tree(self.tree, files)
        self.box.publish("demo", self.tree)

    def content(self, name):
        with open(os.path.join(self.tree, name), "rb") as f:
            return f.read()

    def blob(self, name):
        digest = sha256(self.content(name))
        return os.path.join(self.cache, "blob", digest[:2], digest)

    def get(self, name):
        """Right bytes, or no test goes on."""
        a = get(self.base, "/demo/" + name)
        assert a.status == 200 and a.body == self.content(name), name
        return a

    def while_it_comes(self, name, what):
        """Has what() happen in the middle of a slow download, which is right."""
        self.up.rate = 4 * MB
        got = []
        client = threading.Thread(target=lambda: got.append(self.get(name)))
        before = self.up.body_bytes
        client.start()
        until(lambda: self.up.body_bytes > before + MB)
        what()
        client.join()
        assert got
        self.up.rate = None

    def hits(self, name):
        """Asks, and whether it was stored already."""
        return "; hit" in self.get(name).cache_status

    def counter(self, name):
        return self.box.status(self.base)["counters"][name]

    def stores(self, *names):
        """Each is in the cache within some seconds, if asked for now and
        then."""
        for n in names:
            until(lambda: self.hits(n), RECOVERS, 0.3)
            assert os.path.getsize(self.blob(n)) == len(self.content(n))
        until(lambda: self.box.status(self.base)["cache"]["partial"] == 0)

    def close(self):
        """Ends before its disk does."""
        self.box.down()
        self.up.close()


@pytest.fixture
def edge(sandbox, tmp_path):
    """A function that starts an edge; below `disk` in a test's arguments."""
    made = []

    def make(*args, **kw):
        made.append(Edge(sandbox, tmp_path, *args, **kw))
        return made[-1]

    yield make
    for e in made:
        e.close()


def sizes(letter):
    return {letter + "/small": SMALL, letter + "/middle": MIDDLE,
            letter + "/large": LARGE}


@pytest.mark.quick
def test_a_disk_that_somebody_else_has_filled(disk, edge):
    d = disk(16 << 20)
    e = edge(d.path("cache"))
    files = dict(sizes("a"), **sizes("b"))
    e.publish(files)
    d.occupy()
    for name in sizes("a"):
        e.get(name)
        assert not e.hits(name)
    assert until(lambda: e.counter("fills_unstored") >= 3)
    assert e.counter("fills_failed") == 0
    d.give_back()
    e.stores(*files)


def test_a_disk_that_fills_up_while_files_come(disk, edge):
    """Also under those that are being written."""
    d = disk(24 << 20)
    e = edge(d.path("cache"))
    files = {"f%d" % i: LARGE for i in range(3)}
    e.publish(files)
    e.up.rate = 4 * MB
    got = []
    clients = [threading.Thread(target=lambda n=n: got.append(e.get(n)))
               for n in files]
    for c in clients:
        c.start()
    until(lambda: e.up.body_bytes > 2 * MB)
    d.occupy()
    for c in clients:
        c.join()
    assert len(got) == 3
    e.up.rate = None
    d.give_back()
    e.stores(*files)
    assert e.counter("fills_failed") == 0


@pytest.mark.quick
def test_a_file_larger_than_the_disk(disk, edge):
    d = disk(6 << 20)
    e = edge(d.path("cache"))
    e.publish({"huge": 20 * MB, "kept": SMALL, "middle": MIDDLE})
    e.stores("kept", "middle")
    for _ in range(2):
        e.get("huge")
        assert not os.path.exists(e.blob("huge"))
    # What fits has not made way for it.
    assert e.hits("kept") and e.hits("middle")
    assert e.counter("fills_unstored") >= 1 and e.counter("fills_failed") == 0


@pytest.mark.quick
def test_a_disk_that_can_only_be_read(disk, edge):
    d = disk(32 << 20)
    # The one half of the files has no room beside the other.
    e = edge(d.path("cache"), ["cache.cache-size=8M"])
    files = dict(sizes("a"), **sizes("b"))
    e.publish(files)
    e.stores(*sizes("a"))
    until(lambda: not os.listdir(e.cache + "/partial"))
    d.read_only(True)
    for _ in range(3):
        for name in files:
            e.get(name)
            assert e.hits(name) == (name in sizes("a"))
    # Nothing is taken for removed that is there.
    stored = e.box.status(e.base)["cache"]
    assert stored["evicted"] == 0 and stored["dropped"] == 0
    d.read_only(False)
    e.stores(*sizes("b"))
    assert e.counter("fills_failed") == 0
    assert used(e.cache) <= 8 << 20


@pytest.mark.quick
@pytest.mark.parametrize("gone", ("blob", "partial", "."))
def test_folders_that_are_removed(edge, gone):
    """While nothing is fetched, and under a file that is."""
    e = edge()
    files = dict(sizes("a"), **sizes("b"), slow=LARGE, late=SMALL)
    e.publish(files)
    e.stores(*sizes("a"))
    where = os.path.normpath(os.path.join(e.cache, gone))
    shutil.rmtree(where)
    for name in dict(sizes("a"), **sizes("b")):
        e.get(name)
    e.stores(*sizes("b"))

    e.while_it_comes("slow", lambda: shutil.rmtree(where))
    e.stores("slow", "late")
    assert e.counter("fills_failed") == 0
    # A start finds what is there, and a set that is published is taken.
    e.box.kill("edge1", signal.SIGTERM)
    e.box.start("edge1")
    assert e.hits("slow")
    e.publish({"new": MIDDLE})
    e.stores("new")


@pytest.mark.quick
def test_a_cache_that_cannot_be_made_anew(edge):
    """Something else stands where its folder was, until it is gone."""
    e = edge()
    e.publish(dict(sizes("a"), **sizes("b")))
    e.stores(*sizes("a"))
    shutil.rmtree(e.cache)
    with open(e.cache, "w"):
        pass
    for _ in range(2):
        for name in dict(sizes("a"), **sizes("b")):
            e.get(name)
    assert e.counter("fills_unstored") >= 3 and e.counter("fills_failed") == 0
    os.unlink(e.cache)
    e.stores(*sizes("b"))


def test_a_file_system_with_an_error(disk, edge):
    """It becomes read-only of itself, under a file that is being written."""
    d = disk(64 << 20, disks.Ext4)
    e = edge(d.path("cache"))
    e.publish(dict(sizes("a"), slow=LARGE))
    e.stores(*sizes("a"))
    e.while_it_comes("slow", d.fail)
    e.get("slow")
    for name in sizes("a"):
        assert e.hits(name)
    assert e.counter("fills_failed") == 0
    # Linux lets nobody write to it until it was mounted anew.
    e.box.kill("edge1", signal.SIGTERM)
    d.mount_anew()
    e.box.start("edge1")
    e.stores("slow", *sizes("a"))


def used(folder):
    """Bytes of all files there."""
    return sum(os.path.getsize(os.path.join(where, name))
               for where, _, names in os.walk(folder) for name in names)


def damage(path):
    """Changes a byte in the middle, and neither length nor time."""
    st = os.stat(path)
    with open(path, "r+b") as f:
        f.seek(st.st_size // 2)
        was = f.read(1)
        f.seek(st.st_size // 2)
        f.write(bytes([(was[0] + 1) % 256]))
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


@pytest.mark.quick
def test_bits_that_rot(edge):
    """Small files are verified whenever they are read from the disk."""
    files = {"f%d" % n: n for n in (1, 1000, 30000, 65536)}
    e = edge()
    e.publish(files)
    for running in (True, False):
        e.stores(*files)
        if not running:
            e.box.kill("edge1", signal.SIGTERM)
        for name in files:
            damage(e.blob(name))
        if not running:
            e.box.start("edge1")
        for _ in range(3):
            for name in files:
                e.get(name)
    e.stores(*files)
    assert e.box.status(e.base)["cache"]["dropped"] == len(files)
    for name in files:
        with open(e.blob(name), "rb") as f:
            assert f.read() == e.content(name)
    # A file that became shorter, or has gone.
    e.box.kill("edge1", signal.SIGTERM)
    os.truncate(e.blob("f30000"), 29999)
    os.unlink(e.blob("f65536"))
    e.box.start("edge1")
    for name in files:
        e.get(name)
    e.stores(*files)


def test_clients_share_what_cannot_be_stored(disk, edge):
    n, size = 50, 40 * MB
    d = disk(4 << 20)
    e = edge(d.path("cache"))
    e.publish({"huge": size})
    d.occupy()
    go, u = threading.Event(), urllib.parse.urlsplit(e.base)
    e.up.rate = 4 * MB // SLOW
    e.up.fault = crowd_clients.Gate(sha256(e.content("huge")), go)
    e.up.body_bytes = 0
    crowd = crowd_clients.Crowd(u.hostname, u.port, "/demo/huge",
                                os.path.join(e.tree, "huge"), {"whole": n},
                                120 * SLOW)
    try:
        crowd.tells()
        until(lambda: e.counter("open") >= n)
        go.set()
        told = crowd.tells()["whole"]
    finally:
        go.set()
        crowd.end()
    assert told["right"] == n, told["faults"]
    assert e.up.body_bytes <= 1.1 * size
    assert until(lambda: e.counter("fills_unstored") >= 1)
    assert not os.path.exists(e.blob("huge"))


def test_more_than_can_be_kept_in_memory(disk, edge):
    """16 files at once; who comes beyond gets 503, or is cut, but no wrong
    byte."""
    d = disk(4 << 20)
    e = edge(d.path("cache"))
    files = ["f%02d" % i for i in range(24)]
    e.publish({n: MIDDLE for n in files})
    d.occupy()
    go, got = threading.Event(), {}
    e.up.fault = crowd_clients.Gate("", go)

    def client(name):
        try:
            got[name] = get(e.base, "/demo/" + name)
        except http.client.IncompleteRead as cut:
            assert e.content(name).startswith(cut.partial)
            got[name] = None
        except (http.client.RemoteDisconnected, ConnectionError):
            got[name] = None

    clients = [threading.Thread(target=client, args=(n,)) for n in files]
    for c in clients:
        c.start()
    until(lambda: got)                  # it has not found a place
    go.set()
    for c in clients:
        c.join()
    right = [n for n in files if got[n] and got[n].status == 200]
    assert len(right) >= 16
    for n in files:
        if n in right:
            assert got[n].body == e.content(n)
        elif got[n]:
            assert got[n].status == 503 and got[n].body == b""
            assert got[n]["Retry-After"]
    for n in files:
        e.get(n)
    d.give_back()
    e.stores(*files[:2])
