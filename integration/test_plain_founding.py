# SPDX-License-Identifier: BSD-2-Clause
"""The founding proposal, step by step, before a server that knows nothing of
it: what clients get, and what the origin is asked for it."""
import http.client
import os
import random
import re
import shutil
import signal
import socket
import threading
import time
import urllib.parse

import pytest

from conftest import SLOW, get, make_tree, sha256, until
from origin import OLD, Origin
from plain import DAY, edges                                # noqa: F401

PIECE = 262144
FILES = {"All/p%02d.pkg" % i: ("package %d" % i).encode() * (100 + i)
         for i in range(20)}
META = b"version = 2;\n"


@pytest.fixture
def origin():
    o = Origin()
    o.put("meta.conf", META)
    for name, body in FILES.items():
        o.put(name, body)
    yield o
    o.close()


def conf(*origins, **keys):
    """Of one set: /r.  It is polled when it starts, and then tomorrow."""
    return {"r": {"plain": [o.url for o in origins], "kind": "freebsd",
                  "identify": "meta.conf", "poll": DAY, **keys}}


def polled(origin, times=1):
    """Until the identification file was asked for so often."""
    until(lambda: len(origin.asked("meta.conf")) >= times, 15)


def fetch_all(edge, files=None):
    for name, body in (FILES if files is None else files).items():
        a = edge.get("/r/" + name)
        assert a.status == 200 and a.body == body, name


def requests(origin, since=0):
    """Those for anything but the identification file."""
    return [r for r in origin.asked(since=since) if r.name != "meta.conf"]


def changed(edge, origin, name="All/p00.pkg"):
    """Until the edge has seen that the set is marked: this file's next hit is
    verified.  That was its one verification."""
    before = len(origin.asked(name))

    def seen():
        edge.get("/r/" + name)
        return len(origin.asked(name)) > before
    until(seen, 15)


class Client:
    """A request whose body is read by hand."""

    def __init__(self, edge, path, **headers):
        u = urllib.parse.urlsplit(edge.base)
        self.conn = http.client.HTTPConnection(u.hostname, u.port,
                                               timeout=30 * SLOW)
        self.conn.request("GET", path, headers=headers)
        self.response = None

    def first(self, n=1):
        self.response = self.response or self.conn.getresponse()
        return self.response.read(n)

    def rest(self):
        got = self.first(0) + self.response.read()
        self.conn.close()
        return got


# -- fill while streaming

@pytest.fixture
def gated(edges, origin):
    """An edge, and a file of which the origin sends some at once and the rest
    when the event is set."""
    go = threading.Event()
    body = origin.put("All/big.pkg", os.urandom(24 * PIECE + 77),
                      gate=(2 * PIECE, go))
    edge = edges(conf(origin))
    yield edge, origin, body, go
    go.set()


@pytest.mark.quick
def test_stream_while_filling(gated):
    edge, origin, body, go = gated
    c = Client(edge, "/r/All/big.pkg")
    got = c.first(PIECE)
    assert c.response.status == 200
    assert c.response.headers["Content-Length"] == str(len(body))
    assert origin.sent["All/big.pkg"] <= 2 * PIECE
    go.set()
    assert got + c.rest() == body


def test_a_second_client_shares_the_fill(gated):
    edge, origin, body, go = gated
    clients, got = [], []
    for _ in range(5):
        clients.append(Client(edge, "/r/All/big.pkg"))
        got.append(clients[-1].first(PIECE))
    go.set()
    for i, c in enumerate(clients):
        assert got[i] + c.rest() == body
    assert len(origin.asked("All/big.pkg")) == 1
    assert origin.sent["All/big.pkg"] == len(body)


def test_clients_of_a_head_that_is_late_share_it_too(edges, origin):
    go = threading.Event()

    def late(sock, head, body):
        go.wait(20)
        sock.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
    name = "All/p01.pkg"
    origin.fail(name, late)
    edge = edges(conf(origin))
    got = []
    threads = [threading.Thread(target=lambda: got.append(
        edge.get("/r/" + name).body)) for _ in range(10)]
    for t in threads:
        t.start()
    until(lambda: origin.asked(name))
    time.sleep(0.3 * SLOW)
    go.set()
    for t in threads:
        t.join()
    assert got == [FILES[name]] * 10 and len(origin.asked(name)) == 1


@pytest.mark.quick
def test_ranges_are_answered_during_the_fill(gated):
    edge, origin, body, go = gated
    c = Client(edge, "/r/All/big.pkg")
    got = c.first(1)
    for text, part in (("bytes=0-99", body[:100]),
                       ("bytes=1000-200000", body[1000:200001])):
        a = edge.get("/r/All/big.pkg", Range=text)
        assert a.status == 206 and a.body == part, text
    assert len(origin.asked("All/big.pkg")) == 1
    # Far ahead, of a file whose validator is strong: by a transfer of its own.
    a = edge.get("/r/All/big.pkg", Range="bytes=-500")
    assert a.status == 206 and a.body == body[-500:]
    assert not go.is_set()
    for r in origin.asked("All/big.pkg")[1:]:
        assert r["range"] and \
            r["if-range"] == origin.entries["All/big.pkg"].etag, r
    go.set()
    assert got + c.rest() == body
    assert edge.get("/r/All/big.pkg").body == body


def test_no_range_is_asked_for_without_a_strong_validator(edges, origin):
    go = threading.Event()
    body = origin.put("All/big.pkg", os.urandom(6 * PIECE), etag='W/"weak"',
                      modified=int(time.time()), gate=(2 * PIECE, go))
    edge = edges(conf(origin))
    c = Client(edge, "/r/All/big.pkg")
    got = c.first(1)
    threading.Timer(1 * SLOW, go.set).start()
    a = edge.get("/r/All/big.pkg", Range="bytes=-500")
    assert a.status == 206 and a.body == body[-500:]
    assert got + c.rest() == body
    assert not any(r["range"] for r in origin.log)


def test_an_interrupted_fill_goes_on_where_it_ended(edges, origin):
    """With If-Range; the client sees nothing of it."""
    body = origin.put("All/big.pkg", os.urandom(6 * PIECE))

    def cut(sock, head, part):
        sock.sendall("\r\n".join(head).encode() + b"\r\n\r\n" +
                     part[:4 * PIECE + 5])
    origin.fail("All/big.pkg", cut, 1)
    edge = edges(conf(origin), "aside=0")
    a = edge.get("/r/All/big.pkg")
    assert a.status == 200 and a.body == body
    second = origin.asked("All/big.pkg")[1]
    assert re.fullmatch(r"bytes=%d-(%d)?" % (4 * PIECE, len(body) - 1),
                        second["range"]), second
    assert second["if-range"] == origin.entries["All/big.pkg"].etag
    assert len(origin.asked("All/big.pkg")) == 2


def test_a_range_of_a_cold_file_is_a_range(edges, origin):
    """clients.md, rule 3: never 200."""
    edge = edges(conf(origin))
    name = "All/p03.pkg"
    a = edge.get("/r/" + name, Range="bytes=10-19")
    assert a.status == 206 and a.body == FILES[name][10:20]
    assert edge.get("/r/" + name).body == FILES[name]


# -- hit from cache

@pytest.mark.quick
def test_hit_from_cache(edges, origin):
    edge = edges(conf(origin))
    fetch_all(edge)
    assert len(requests(origin)) == len(FILES)
    for name, body in FILES.items():
        a = until(lambda n=name: (lambda a: a if "; hit" in a.cache_status
                                  else None)(edge.get("/r/" + n)), 10)
        assert a.body == body and a.cache_status.startswith("pkgcast; hit")
        assert int(a["Age"]) >= 0
        assert a["ETag"] == origin.entries[name].etag
    assert len(requests(origin)) == len(FILES)


def test_what_the_origin_says_of_caching_is_not_asked(edges, origin):
    """Many repositories say this of files that never change."""
    body = origin.put("All/x.pkg", b"x" * 100,
                      "Cache-Control: max-age=0, private", "Expires: 0")
    edge = edges(conf(origin))
    for _ in range(3):
        assert edge.get("/r/All/x.pkg").body == body
    assert len(origin.asked("All/x.pkg")) == 1


def test_sizes_about_the_limits_of_pieces_and_memory(edges, origin):
    files = {"All/s%d.pkg" % n: os.urandom(n) for n in (
        0, 1, 65535, 65536, 65537, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE,
        3 * PIECE + 1)}
    for name, body in files.items():
        origin.put(name, body)
    edge = edges(conf(origin))
    for _ in range(2):
        fetch_all(edge, files)
        for name, body in files.items():
            if len(body) > 1:
                a = edge.get("/r/" + name, Range="bytes=-1")
                assert a.status == 206 and a.body == body[-1:]
    assert len(requests(origin)) == len(files)
    assert edge.blobs() <= {sha256(b) for b in [*files.values(), META]}


def test_equal_contents_are_stored_once(edges, origin):
    for name in "All/one.pkg", "All/two.pkg":
        origin.put(name, b"same" * 1000)
    edge = edges(conf(origin))
    for name in "All/one.pkg", "All/two.pkg":
        assert edge.get("/r/" + name).body == b"same" * 1000
    until(lambda: sha256(b"same" * 1000) in edge.blobs(), 10)
    assert edge.blobs() <= {sha256(b"same" * 1000), sha256(META)}


# -- option (a): poll every N seconds

@pytest.mark.quick
def test_option_a_poll_every_n_seconds(edges, origin):
    edge = edges(conf(origin, poll="1"))
    fetch_all(edge)
    polled(origin)
    since = len(origin.log)
    begin = time.monotonic()
    time.sleep(3.2)
    took = time.monotonic() - begin
    polls = origin.asked(since=since)
    assert {r.name for r in polls} == {"meta.conf"}
    assert took / 1.1 - 1.5 <= len(polls) <= took / 0.9 + 1.5
    assert all(r.conditional and r.status == 304 for r in polls)
    assert polls[0]["if-none-match"] == origin.entries["meta.conf"].etag


def test_only_what_clients_ask_for_is_polled_by_default(edges, origin):
    for name in "latest/meta.conf", "latest/data.pkg", "other/data.pkg":
        origin.put(name, name.encode())
    keys = conf(origin, poll="1")
    del keys["r"]["identify"]
    edge = edges(keys)
    assert edge.get("/r/latest/data.pkg").status == 200
    until(lambda: len(origin.asked("latest/data.pkg")) >= 3, 15)
    assert not origin.asked("other/data.pkg")
    for name in "All/p00.pkg", "All/p01.pkg":
        assert edge.get("/r/" + name).body == FILES[name]
    origin.put("latest/data.pkg", b"other")
    changed(edge, origin)
    assert edge.get("/r/latest/data.pkg").body == b"other"


def test_a_change_is_seen_without_validators(edges, origin):
    """Then its content tells."""
    origin.put("meta.conf", META, etag=None, modified=None)
    edge = edges(conf(origin, poll="1"))
    fetch_all(edge)
    polled(origin, len(origin.asked("meta.conf")) + 3)
    fetch_all(edge)
    assert len(requests(origin)) == len(FILES)
    origin.put("meta.conf", b"version = 3;\n", etag=None, modified=None)
    changed(edge, origin)
    assert edge.get("/r/meta.conf").body == b"version = 3;\n"


# -- no deletion, but verification on the next hit

def once_each(origin, since, names):
    """What the origin was asked for, but identification: each of these files
    once, conditionally."""
    got = requests(origin, since)
    assert sorted(r.name for r in got) == sorted(names), got
    for r in got:
        e = origin.entries[r.name]
        assert r.conditional, r
        assert r.status == 304 or r["if-none-match"] != e.etag, r


def test_no_deletion_but_verification_on_the_next_hit(edges, origin):
    edge = edges(conf(origin, poll="1"))
    for _ in range(2):
        fetch_all(edge)                     # none before
    assert len(requests(origin)) == len(FILES)
    assert not any(r.conditional for r in requests(origin))
    kept = edge.blobs()

    files = dict(FILES)
    for name in "All/p07.pkg", "All/p13.pkg":
        files[name] = origin.put(name, b"new " + FILES[name],
                                 modified=OLD + 5)
    since = len(origin.log)
    origin.put("meta.conf", META + b"# 2\n", modified=OLD + 5)
    changed(edge, origin, "All/p00.pkg")
    assert {r.name for r in requests(origin, since)} == {"All/p00.pkg"}
    assert kept <= edge.blobs() | {sha256(META)}
    for _ in range(3):
        fetch_all(edge, files)
    once_each(origin, since, files)
    assert {r.name for r in requests(origin, since) if r.status == 200} == {
        "All/p07.pkg", "All/p13.pkg"}
    a = edge.get("/r/meta.conf")
    assert a.body == META + b"# 2\n"


def test_the_first_hit_after_a_change_is_shared(edges, origin):
    """However many come at once: one conditional request."""
    edge = edges(conf(origin))
    name = "All/p05.pkg"
    assert edge.get("/r/" + name).body == FILES[name]
    edge.mark("r")
    since, go = len(origin.log), threading.Event()

    def slow(sock, head, body):
        go.wait(20)
        sock.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
    origin.fail(name, slow)
    got = []
    threads = [threading.Thread(target=lambda: got.append(
        edge.get("/r/" + name).body)) for _ in range(10)]
    for t in threads:
        t.start()
    until(lambda: origin.asked(name, since))
    time.sleep(0.3 * SLOW)
    go.set()
    for t in threads:
        t.join()
    assert got == [FILES[name]] * 10
    once_each(origin, since, [name])


def test_what_is_on_its_way_when_the_set_is_marked(gated):
    """It may be older than the mark: it is verified, once."""
    edge, origin, body, go = gated
    c = Client(edge, "/r/All/big.pkg")
    got = c.first(1)
    edge.mark("r")
    new = origin.put("All/big.pkg", body[::-1])
    go.set()
    assert got + c.rest() == body
    for _ in range(2):
        assert edge.get("/r/All/big.pkg").body == new
    assert len(origin.asked("All/big.pkg")) == 2


@pytest.mark.quick
def test_marked_by_hand(edges, origin):
    edge = edges({**conf(origin), "other": {
        "plain": origin.url, "kind": "freebsd", "identify": "meta.conf",
        "poll": DAY}})
    fetch_all(edge)
    edge.get("/other/All/p00.pkg")
    for _ in range(2):
        since = len(origin.log)
        edge.mark("r")
        for _ in range(2):
            fetch_all(edge)
            edge.get("/other/All/p00.pkg")
        once_each(origin, since, FILES)


def test_mark_says_what_is_wrong(edges, origin):
    edge = edges(conf(origin))
    for words in (["mark", "nothing"], ["mark", "r/All"], ["mark"],
                  ["mark", "r", "r"], ["remark", "r"]):
        p = edge.command(*words)
        assert p.returncode in (1, 2) and p.stderr, words
        assert p.returncode == 2 or words[1] in p.stderr
    edge.mark("r")
    edge.stop()
    p = edge.command("mark", "r")
    assert p.returncode == 1 and p.stderr


def test_immutable_files_are_never_verified(edges, origin):
    names = {"All/Hashed/app-3.1~2$ic1ppjmf.pkg": b"hashed" * 50,
             "latest/All/Hashed/x.pkg": b"also"}
    for name, body in names.items():
        origin.put(name, body)
    edge = edges(conf(origin))
    fetch_all(edge, names)
    edge.mark("r")
    since = len(origin.log)
    for _ in range(2):
        fetch_all(edge, names)
    assert not requests(origin, since)


KINDS = {
    "freebsd": ("All/Hashed/x.pkg", "All/x.pkg"),
    "debian": ("pool/main/x/x_1.deb", "dists/a/main/Packages"),
    "arch": ("x-1-any.pkg.tar.zst", "notes.txt"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_knows_what_never_changes(edges, origin, kind):
    for name in KINDS[kind]:
        origin.put(name, name.encode())
    edge = edges(conf(origin, kind=kind))
    for i in range(2):
        for name in KINDS[kind]:
            assert edge.get("/r/" + name).body == name.encode()
        edge.mark("r")
    assert [len(origin.asked(n)) for n in KINDS[kind]] == [1, 2]


def test_kinds_are_recognised_by_their_files(edges, origin):
    """Without a kind: by what identifies the set."""
    origin.put("dists/a/InRelease", b"1")
    origin.put("pool/x.deb", b"2", "Cache-Control: max-age=0")
    edge = edges({"r": {"plain": origin.url, "identify": "dists/a/InRelease",
                        "poll": DAY}})
    for _ in range(2):
        assert edge.get("/r/pool/x.deb").body == b"2"
        edge.mark("r")
    assert len(origin.asked("pool/x.deb")) == 1
    # And an unknown one is HTTP's.
    edge = edges({"r": {"plain": origin.url}})
    for _ in range(2):
        assert edge.get("/r/All/p00.pkg").body == FILES["All/p00.pkg"]
        until(edge.fills)
    assert [r.status for r in origin.asked("All/p00.pkg")] == [200, 304]


# -- no directory listings; everything over HTTP

def test_no_directory_listings(edges, origin):
    """The edge gives none, and needs none."""
    for name in "", "All/", "All":
        origin.put(name, b"<html><a href=p00.pkg>p00.pkg</a></html>",
                   "Content-Type: text/html")
    edge = edges(conf(origin))
    fetch_all(edge)
    for path in "/r", "/r/", "/r/All/", "/":
        a = edge.get(path)
        assert a.status == 404 and a.body == b"", path
    assert not [r for r in origin.log if r.target.endswith("/")]


def sockets_of(pid):
    """Remote addresses of the process's connections, as /proc tells."""
    inodes = set()
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            m = re.match(r"socket:\[(\d+)\]",
                         os.readlink("/proc/%d/fd/%s" % (pid, fd)))
        except OSError:
            continue
        if m:
            inodes.add(m.group(1))
    found = set()
    for table in "tcp", "tcp6", "udp", "udp6":
        with open("/proc/net/" + table) as f:
            for line in f.read().split("\n")[1:]:
                w = line.split()
                if len(w) > 9 and w[9] in inodes:
                    found.add((table, int(w[1].partition(":")[2], 16),
                               int(w[2].partition(":")[2], 16)))
    return found


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="no /proc")
def test_everything_over_http(gated):
    """Nothing is spoken but with clients, and with the origin's HTTP port."""
    edge, origin, body, go = gated
    c = Client(edge, "/r/All/big.pkg")
    c.first(1)
    polled(origin)
    port = urllib.parse.urlsplit(origin.url).port
    mine = int(edge.base.rpartition(":")[2])
    found = sockets_of(edge.pid("edge1"))
    assert found and any(r == port for _, _, r in found)
    for table, local, remote in found:
        assert table.startswith("tcp"), found
        assert remote == port or local == mine, found
    go.set()
    c.rest()


# -- what survives

@pytest.mark.quick
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL],
                         ids=["TERM", "KILL"])
def test_a_restart_costs_no_request(edges, origin, sig):
    """Beyond the identification poll, which is conditional."""
    edge = edges(conf(origin))
    fetch_all(edge)
    edge.get("/r/All/p00.pkg?a=b")
    polled(origin)
    edge.mark("r")
    for name in list(FILES)[:5]:            # these are verified, others not
        edge.get("/r/" + name)
    time.sleep(1.5 * SLOW)                  # records are written in batches
    since = len(origin.log)
    edge.restart(sig)
    for _ in range(2):
        for name in list(FILES)[:5]:
            a = edge.get("/r/" + name)
            assert a.body == FILES[name] and "; hit" in a.cache_status
            assert a["ETag"] == origin.entries[name].etag
    assert not requests(origin, since)
    until(lambda: origin.asked("meta.conf", since), 15)
    assert all(r.conditional for r in origin.asked("meta.conf", since))
    for _ in range(2):                      # the mark has survived, too
        fetch_all(edge)
    once_each(origin, since, list(FILES)[5:])


def test_a_change_while_the_edge_was_down_is_seen(edges, origin):
    edge = edges(conf(origin))
    fetch_all(edge)
    polled(origin)
    edge.stop()
    since = len(origin.log)
    origin.put("meta.conf", META + b"# 2\n")
    edge.start()
    changed(edge, origin)
    for _ in range(2):
        fetch_all(edge)
    once_each(origin, since, FILES)


def test_a_cache_that_is_lost_is_filled_again(edges, origin):
    """Records without their contents, and the other way."""
    edge = edges(conf(origin))
    fetch_all(edge)
    edge.stop()
    shutil.rmtree(edge.path("cache"))
    edge.start()
    fetch_all(edge)
    assert len(requests(origin)) == 2 * len(FILES)
    edge.stop()
    shutil.rmtree(edge.path("state"))
    edge.start()
    fetch_all(edge)
    assert len(requests(origin)) == 3 * len(FILES)


def test_a_damaged_database_costs_the_cache_and_no_more(edges, origin):
    edge = edges(conf(origin))
    fetch_all(edge)
    edge.stop()
    db = edge.path("state", "plain.db")
    assert os.path.getsize(db) > 0
    for name in os.listdir(edge.path("state")):
        if name.startswith("plain.db-"):
            os.unlink(edge.path("state", name))
    with open(db, "wb") as f:
        f.write(os.urandom(20000))
    edge.start()
    fetch_all(edge)
    assert "damaged" in edge.log("edge1")
    assert any("damaged" in n for n in os.listdir(edge.path("state")))
    since = len(origin.log)
    edge.restart()
    fetch_all(edge)
    assert not requests(origin, since)


@pytest.mark.quick
def test_kills_while_files_are_filled(edges, origin):
    """What is then there is right."""
    edge, rng = edges(conf(origin)), random.Random(1)
    for turn in range(5):
        files = {"All/k%d-%d.pkg" % (turn, i): rng.randbytes(
            rng.randrange(1, 8 * PIECE)) for i in range(6)}
        for name, body in files.items():
            origin.put(name, body, rate=4 << 20)
        threads = [threading.Thread(target=edge.ask, args=("/r/" + n,))
                   for n in files]
        for t in threads:
            t.start()
        time.sleep(rng.random() * 0.5)
        edge.stop(signal.SIGKILL)
        for t in threads:
            t.join()
        edge.start()
        for entry in origin.entries.values():
            entry.rate = None
        for _ in range(2):
            fetch_all(edge, files)
        for digest in edge.blobs():
            with open(edge.path("cache", "blob", digest[:2], digest),
                      "rb") as f:
                assert sha256(f.read()) == digest


def test_a_cache_that_is_too_small(edges, origin):
    """What was evicted is fetched again."""
    files = {"All/e%d.pkg" % i: os.urandom(300000) for i in range(20)}
    for name, body in files.items():
        origin.put(name, body)
    edge = edges(conf(origin), "cache.cache-size=2M")
    for _ in range(2):
        fetch_all(edge, files)
    until(lambda: edge.status(edge.base)["cache"]["bytes"] <= 2 << 20, 15)
    assert len(requests(origin)) > len(files)
    last = "All/e19.pkg"
    assert edge.get("/r/" + last).body == files[last]


# -- upstream down

def stale(a):
    return "detail=stale" in a.cache_status


def test_upstream_down(edges, origin):
    """What is cached is served and, once two polls have failed, said to be
    stale; what is not is 503; and all ends with the outage."""
    edge = edges(conf(origin, poll="1"), "aside=1")
    first = dict(list(FILES.items())[:10])
    fetch_all(edge, first)
    polled(origin)
    assert not stale(edge.get("/r/All/p00.pkg"))
    origin.refuse(True)
    begin = time.monotonic()
    until(lambda: stale(edge.get("/r/All/p00.pkg")), 15)
    assert time.monotonic() - begin > 0.8
    for name, body in first.items():
        a = edge.get("/r/" + name)
        assert a.status == 200 and a.body == body and stale(a)
    a = edge.get("/r/All/p15.pkg")
    assert a.status == 503 and a.body == b"" and a["Retry-After"]
    origin.refuse(False)
    until(lambda: not stale(edge.get("/r/All/p00.pkg")), 15)
    until(lambda: edge.get("/r/All/p15.pkg").status == 200, 15)


def test_upstream_down_after_a_mark(edges, origin):
    """What could not be verified is served, and stays to be verified."""
    edge = edges(conf(origin), "aside=0")
    fetch_all(edge)
    edge.mark("r")
    origin.refuse(True)
    for name, body in FILES.items():
        a = edge.get("/r/" + name)
        assert a.status == 200 and a.body == body and stale(a), name
    origin.refuse(False)
    since = len(origin.log)
    edge.restart()                          # else it asks again in a while
    for _ in range(2):
        fetch_all(edge)
    once_each(origin, since, FILES)
    assert not stale(edge.get("/r/All/p00.pkg"))


def test_an_edge_that_starts_with_its_upstream_down(edges, origin):
    edge = edges(conf(origin, poll="1"), "aside=1")
    fetch_all(edge)
    polled(origin)
    edge.stop()
    origin.refuse(True)
    edge.start()
    fetch_all(edge)
    assert edge.get("/r/nowhere").status == 503
    origin.refuse(False)
    until(lambda: edge.get("/r/nowhere").status == 404, 15)


# -- absent files, redirects

def test_a_404_is_remembered_for_a_short_time_only(edges, origin):
    edge = edges(conf(origin))
    for _ in range(3):
        a = edge.get("/r/All/new.pkg")
        assert a.status == 404 and a.body == b""
    assert len(origin.asked("All/new.pkg")) == 1
    body = origin.put("All/new.pkg", b"it is here now")
    edge.mark("r")                          # as after any change of the set
    assert edge.get("/r/All/new.pkg").body == body


def test_errors_are_not_remembered(edges, origin):
    edge = edges(conf(origin), "aside=0")
    for status in 400, 403, 429, 500, 503:
        name = "All/e%d.pkg" % status
        origin.put(name, b"<html>sorry</html>", "Content-Type: text/html",
                   status=status)
        for _ in range(2):
            a = edge.get("/r/" + name)
            assert a.status in (status, 503) and a.body == b"", status
        assert len(origin.asked(name)) >= 2
        body = origin.put(name, b"right")
        assert edge.get("/r/" + name).body == body


def test_redirects_are_passed_on_and_remembered(edges, origin):
    top = origin.url.removesuffix("/tree")
    edge = edges(conf(origin))
    for i, (there, here) in enumerate((
            ("/tree/All/p00.pkg", "/r/All/p00.pkg"),
            ("p00.pkg", "/r/All/p00.pkg"), ("../All/p01.pkg",
                                            "/r/All/p01.pkg"),
            (top + "/tree/All/p00.pkg", "/r/All/p00.pkg"),
            ("/elsewhere/x", top + "/elsewhere/x"),
            ("http://other.invalid/x?y", "http://other.invalid/x?y"))):
        name = "All/moved%d.pkg" % i
        origin.put(name, b"<html>go</html>", "Location: " + there,
                   status=302)
        for _ in range(2):
            a = edge.get("/r/" + name)
            assert a.status == 302 and a.body == b""
            assert a["Location"] in (here, edge.base + here), there
        assert len(origin.asked(name)) == 1


# -- several upstreams

@pytest.fixture
def second():
    o = Origin()
    for name, body in FILES.items():
        o.put(name, body)
    o.put("meta.conf", META)
    yield o
    o.close()


def test_several_upstreams_in_order(edges, origin, second):
    edge = edges(conf(origin, second))
    fetch_all(edge)
    assert len(requests(origin)) == len(FILES) and not requests(second)


@pytest.mark.quick
def test_several_upstreams_and_the_first_is_down(edges, origin, second):
    origin.refuse(True)
    edge = edges(conf(origin, second))
    fetch_all(edge)
    assert len(requests(second)) == len(FILES) and not requests(origin)


def test_several_upstreams_and_the_first_breaks_off(edges, origin, second):
    """With one ETag, the second goes on where the first ended; no byte comes
    from a file with another."""
    for name, tags in (("All/same.pkg", ('"t"', '"t"')),
                       ("All/other.pkg", ('"t"', '"u"'))):
        body = os.urandom(5 * PIECE)
        origin.put(name, body, etag=tags[0])
        second.put(name, body if tags[0] == tags[1] else body[::-1],
                   etag=tags[1])

        def cut(sock, head, part):
            if "206" not in head[0]:
                sock.sendall("\r\n".join(head).encode() + b"\r\n\r\n" +
                             part[:3 * PIECE])
        origin.fail(name, cut)
    edge = edges(conf(origin, second))
    a = edge.ask("/r/All/same.pkg")
    assert a.status == 200 and a.body == origin.entries["All/same.pkg"].body
    a = edge.ask("/r/All/other.pkg")
    whole = second.entries["All/other.pkg"].body
    if a.status == 200:                     # its head was not sent yet
        assert a.body == whole
    else:
        assert origin.entries["All/other.pkg"].body.startswith(a.body)
        assert len(a.body) < len(whole)
    assert edge.get("/r/All/other.pkg").body == whole


# -- addresses

def test_query_strings_are_part_of_the_name(edges, origin):
    queries = "", "?a=1", "?a=2", "?a=1&b=%2F"
    for q in queries:
        origin.put("All/q.pkg" + q, b"of " + q.encode())
    edge = edges(conf(origin))
    for _ in range(2):
        for q in queries:
            assert edge.get("/r/All/q.pkg" + q).body == b"of " + q.encode()
    assert [r.name for r in requests(origin)] == [
        "All/q.pkg" + q for q in queries]


def test_names_as_clients_send_them(edges, origin):
    """clients.md, rules 5 and 6."""
    plus = origin.put("All/gtk+demo-2.0_1,1.pkg", b"plus")
    hashed = origin.put("All/Hashed/app-3.1~2$ic1ppjmf.pkg", b"hashed")
    blank = origin.put("All/a b.pkg", b"blank")
    edge = edges(conf(origin))
    for path, body in (("/r/All/gtk+demo-2.0_1,1.pkg", plus),
                       ("/r//All/./gtk+demo-2.0_1,1.pkg", plus),
                       ("//r///All//gtk+demo-2.0_1,1.pkg", plus),
                       ("/r/All/gtk%2Bdemo-2.0_1%2C1.pkg", plus),
                       ("/r/All/Hashed/app-3.1~2$ic1ppjmf.pkg", hashed),
                       ("/r/All/Hashed/app-3.1%7E2%24ic1ppjmf.pkg", hashed),
                       ("/r/All/a%20b.pkg", blank)):
        for _ in range(2):
            a = edge.get(path)
            assert a.status == 200 and a.body == body, path
    assert len(requests(origin)) == 3, requests(origin)
    mark = origin.put("All/what?a=1", b"a name with a question mark")
    for path in "/r/All/what%3Fa=1", "/r/All/what%3fa=1":
        assert edge.get(path).body == mark
    assert origin.log[-1].target.endswith("/All/what%3Fa=1")
    for path in "/r/../r/All/p00.pkg", "/r/%2e%2e/x", "/r/All/../../x":
        a = edge.get(path)
        assert a.status in (400, 404) and a.body == b"", path
    assert not any(".." in r.target for r in origin.log)


# -- fields in both directions

def test_end_to_end_fields_pass_and_hop_by_hop_ones_do_not(edges, origin):
    origin.put("All/f.pkg", b"fields", "Content-Type: application/x-pkg",
               "Content-Language: cs", "X-Mine: one", "X-Mine: two",
               "Link: </x>; rel=y", "Via: 1.0 old", "Connection: X-Hop",
               "X-Hop: secret", "Keep-Alive: timeout=5", "Trailer: X-T",
               "Proxy-Authenticate: Basic realm=x", "Server: theirs")
    edge = edges(conf(origin))
    u = urllib.parse.urlsplit(edge.base)
    with socket.create_connection((u.hostname, u.port)) as s:
        s.sendall(b"GET /r/All/f.pkg HTTP/1.1\r\nHost: mirror.example.org\r\n"
                  b"User-Agent: pkg/2.8\r\nAccept: a/b\r\nAccept: c/d\r\n"
                  b"X-Thing: 1\r\nConnection: X-Gone, close\r\nX-Gone: 1\r\n"
                  b"Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\n"
                  b"Proxy-Authorization: Basic eDp5\r\nVia: 1.1 front\r\n"
                  b"Accept-Encoding: gzip\r\nProxy-Connection: close\r\n\r\n")
        while s.recv(65536):
            pass
    r, = origin.asked("All/f.pkg")
    assert r["user-agent"] == "pkg/2.8" and r["x-thing"] == "1"
    assert r["accept"] == "a/b, c/d"
    assert re.fullmatch(r"1\.1 front, ?1\.1 \S+", r["via"]), r["via"]
    port = urllib.parse.urlsplit(origin.url).port
    assert r["host"] == "127.0.0.1:%d" % port
    for name in ("x-gone", "keep-alive", "te", "upgrade", "accept-encoding",
                 "proxy-authorization", "proxy-connection"):
        assert r[name] is None, name
    assert "x-gone" not in (r["connection"] or "").lower()
    for outcome in "miss", "hit":           # the first one was by hand
        a = edge.get("/r/All/f.pkg")
        assert a.body == b"fields"
        assert a["Content-Type"] == "application/x-pkg"
        assert a["Content-Language"] == "cs" and a["Link"] == "</x>; rel=y"
        assert ", ".join(a.headers.get_all("X-Mine")) == "one, two"
        via = ", ".join(a.headers.get_all("Via"))
        assert re.fullmatch(r"1\.0 old, ?1\.1 \S+", via), via
        for name in "X-Hop", "Keep-Alive", "Trailer", "Proxy-Authenticate":
            assert a[name] is None, name
        assert "x-hop" not in (a["Connection"] or "").lower()
        assert len(a.headers.get_all("Date")) == 1


def test_two_edges_in_a_row(edges, origin):
    """A plain set may be another edge's."""
    inner = edges(conf(origin))
    outer = edges({"s": {"plain": inner.base + "/r", "kind": "freebsd",
                         "identify": "meta.conf", "poll": DAY}})
    name = "All/p00.pkg"
    for _ in range(2):
        a = outer.get("/s/" + name)
        assert a.body == FILES[name]
        assert len(", ".join(a.headers.get_all("Via")).split(",")) == 2
    assert len(origin.asked(name)) == 1


def test_beside_published_sets(sandbox, tmp_path, origin):
    """One edge carries both; a plain set needs no lease."""
    box = sandbox("--edges", "1", "--master-option", "link.ttl=2")
    box.kill("edge1", signal.SIGTERM)
    with open(box.path("edge1.conf"), "a") as f:
        f.write('set\n    name = "r"\n    plain = "%s"\n'
                '    kind = "freebsd"\n    poll = "%s"\n' % (origin.url, DAY))
    box.start("edge1")
    box.publish("demo", make_tree(tmp_path / "tree", {"f": b"published"}))
    base, name = box.edges[0], "All/p00.pkg"
    assert get(base, "/demo/f").body == b"published"
    assert get(base, "/r/" + name).body == FILES[name]
    box.kill("master")
    until(lambda: stale(get(base, "/demo/f")), 20)
    a = get(base, "/r/" + name)
    assert a.body == FILES[name] and not stale(a)
