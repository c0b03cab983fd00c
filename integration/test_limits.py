# SPDX-License-Identifier: BSD-2-Clause
"""Limits of the HTTP server: each strikes, is counted, and leaves everybody
else alone.  What slow clients cost in time, integration/attack measures."""
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

import pytest

from conftest import SLOW, alive, get, make_tree, until

MB = 1 << 20


class Edge:
    """A sandbox of one edge with these settings and a set "s"."""
    def __init__(self, sandbox, tmp_path, *options):
        args = [w for o in options for w in ("--edge-option", "http." + o)]
        self.box = sandbox("--edges", "1", *args)
        tree = make_tree(tmp_path / "tree", {
            "small": b"0123456789" * 100, "large": 24 * MB})
        self.box.publish("s", tree)
        self.base = self.box.edges[0]
        u = urllib.parse.urlsplit(self.base)
        self.address = (u.hostname, u.port)
        with open(tree + "/large", "rb") as f:
            self.large = f.read()
        for path in ("/s/small", "/s/large"):
            assert get(self.base, path).status == 200
        # A connection of its own, for when there is no room for another.
        self.watch = http.client.HTTPConnection(*self.address, timeout=60)

    def status(self):
        self.watch.request("GET", "/.pkgcast/status")
        return json.loads(self.watch.getresponse().read())["counters"]

    def struck(self, name):
        return self.status()["limits"][name]

    def connect(self, source="127.0.0.1", receive=None):
        s = socket.socket()
        s.settimeout(30 * SLOW)
        if receive:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        s.bind((source, 0))
        s.connect(self.address)
        return s

    def option(self, name, value):
        """Changes a setting of section http and reads it again."""
        path = self.box.path("edge1.conf")
        lines = [l for l in open(path).read().split("\n")
                 if not l.startswith("    %s = " % name)]
        lines.insert(lines.index("http") + 1, '    %s = "%s"' % (name, value))
        with open(path, "w") as f:
            f.write("\n".join(lines))
        read = self.box.log("edge1").count("configuration read again")
        os.kill(self.box.pid("edge1"), signal.SIGHUP)
        until(lambda: self.box.log("edge1").count(
            "configuration read again") > read)


def ask(path="/s/small", *fields):
    return ("\r\n".join(["GET %s HTTP/1.1" % path, "Host: a", *fields]) +
            "\r\n\r\n").encode()


def head(s):
    data = b""
    while b"\r\n\r\n" not in data:
        part = s.recv(1)
        if not part:
            return data
        data += part
    return data


def answer(s):
    """One answer with Content-Length; b"" in place of a head at the end."""
    h = head(s)
    if not h:
        return h, b""
    want = int(h.lower().partition(b"content-length:")[2].split()[0])
    body = b""
    while len(body) < want:
        part = s.recv(min(65536, want - len(body)))
        if not part:
            break
        body += part
    return h, body


def is_served(s):
    try:
        s.sendall(ask())
        return answer(s)[1] == b"0123456789" * 100
    except OSError:
        return False


def ends(s, seconds):
    """How long it takes until the server closes; None: longer."""
    begin = time.monotonic()
    s.settimeout(seconds)
    try:
        while s.recv(65536):
            pass
    except ConnectionError:
        pass
    except socket.timeout:
        return None
    return time.monotonic() - begin


@pytest.mark.quick
def test_connections_in_all_and_per_address(sandbox, tmp_path):
    edge = Edge(sandbox, tmp_path, "connections=20", "per-address=6")
    assert edge.status()["limits"]["connections"] == 0
    held = [edge.connect("127.0.0.2") for _ in range(6)]
    assert all(is_served(s) for s in held)
    assert not is_served(edge.connect("127.0.0.2"))
    assert edge.struck("per_address") == 1
    # Others have theirs, up to the limit for all; the watching one is one.
    for i in (3, 4):
        more = [edge.connect("127.0.0.%d" % i) for _ in range(6)]
        assert all(is_served(s) for s in more)
        held += more
    until(lambda: edge.status()["open"] == 19)
    last = edge.connect("127.0.0.5")
    assert is_served(last)
    refused = [edge.connect("127.0.0.6") for _ in range(5)]
    assert not any(is_served(s) for s in refused)
    assert edge.struck("connections") == 5
    assert edge.struck("per_address") == 1
    assert all(is_served(s) for s in held + [last])
    # Who leaves makes room.
    last.close()
    until(lambda: edge.status()["open"] == 19)
    again = edge.connect("127.0.0.6")
    assert is_served(again)
    assert edge.status()["open"] == 20
    # And so does a higher limit, at once, without touching anybody.
    edge.option("connections", 24)
    edge.option("per-address", 8)
    more = [edge.connect("127.0.0.2") for _ in range(2)]
    assert all(is_served(s) for s in held + more + [again])
    assert not is_served(edge.connect("127.0.0.2"))
    edge.option("head-size", "32K")
    assert "restart needed for: http.head-size" in edge.box.log("edge1")


@pytest.mark.quick
def test_requests_of_a_connection(sandbox, tmp_path):
    edge = Edge(sandbox, tmp_path, "requests-per-connection=5")
    edge.status()
    before = edge.struck("requests_per_connection")
    s = edge.connect()
    s.sendall(ask() * 3 + ask("/s/large") + ask("/s/large") + ask() * 2)
    for i in range(5):
        h, body = answer(s)
        assert h.startswith(b"HTTP/1.1 200 "), h
        assert body == (edge.large if i > 2 else b"0123456789" * 100)
        assert (b"connection: close" in h.lower()) == (i == 4), (i, h)
    assert ends(s, 20) is not None
    # Also when the answer has no body, and when the file is cold.
    for path, field, status in (("/s/small", "Range: bytes=9999-", b"416"),
                                ("/s/none", "X: y", b"404")):
        s = edge.connect()
        s.sendall(ask() * 4 + ask(path, field) + ask())
        for _ in range(4):
            assert b"connection: close" not in answer(s)[0].lower()
        h = head(s)
        assert h.split()[1] == status and b"connection: close" in h.lower()
        assert ends(s, 20) is not None
    after = get(edge.base, "/.pkgcast/status")
    assert json.loads(after.body)["counters"]["limits"][
        "requests_per_connection"] >= before + 3
    edge.option("requests-per-connection", 0)
    s = edge.connect()
    assert all(is_served(s) for _ in range(50))


def test_cold_answer_may_be_the_last(sandbox, tmp_path):
    """It waits for its fill; then it is sent whole, and the connection ends."""
    edge = Edge(sandbox, tmp_path, "requests-per-connection=1")
    tree = make_tree(tmp_path / "two", {"cold": 3 * MB})
    edge.box.publish("two", tree)
    s = edge.connect()
    s.sendall(ask("/two/cold") + ask())
    h, body = answer(s)
    assert b"connection: close" in h.lower() and b"fwd=miss" in h
    assert body == open(tree + "/cold", "rb").read()
    assert ends(s, 20) is not None


def trickle(s, data, pause, seconds):
    """Sends a byte each pause until that fails; when it did, or None."""
    begin = time.monotonic()
    for byte in data:
        if time.monotonic() - begin > seconds:
            return None
        try:
            s.sendall(bytes([byte]))
            s.settimeout(pause)
            if s.recv(1) == b"":
                break
        except socket.timeout:
            continue
        except OSError:
            break
    return time.monotonic() - begin


@pytest.mark.quick
def test_slow_heads_are_cut_however_they_trickle(sandbox, tmp_path):
    edge = Edge(sandbox, tmp_path, "head-timeout=2", "idle-timeout=60")
    begin = [b"", ask(), ask()]
    sent = [b"GET /s/small?" + b"x" * 200,
            b"GET /s/small?" + b"x" * 200,          # a second request's line
            b"GET /s/small HTTP/1.1\r\nHost: a\r\nX-Y: " + b"x" * 200]
    took = [0] * 3

    def run(i):
        s = edge.connect()
        s.sendall(begin[i])
        if begin[i]:
            answer(s)
        took[i] = trickle(s, sent[i], 0.1, 30 * SLOW)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    silent = edge.connect()
    quiet = ends(silent, 30 * SLOW)
    for t in threads:
        t.join()
    # A second request's first byte is noticed some seconds late.
    for t, most in ((quiet, 6), (took[0], 6), (took[1], 20), (took[2], 20)):
        assert t is not None and 1.5 < t < most * SLOW, (quiet, took)
    assert get(edge.base, "/s/small").status == 200
    assert edge.struck("head_timeout") == 4
    assert edge.struck("idle_timeout") == 0


def test_idle_connections_end(sandbox, tmp_path):
    edge = Edge(sandbox, tmp_path, "idle-timeout=2", "head-timeout=20")
    s = edge.connect()
    assert is_served(s)
    took = ends(s, 30 * SLOW)
    assert took is not None and 1.5 < took < 8 * SLOW
    assert json.loads(get(edge.base, "/.pkgcast/status").body)["counters"][
        "limits"]["idle_timeout"] >= 1


def test_slow_readers_are_cut_and_others_not(sandbox, tmp_path):
    edge = Edge(sandbox, tmp_path, "low-rate=20K", "low-time=3")
    result = {}

    def read(name, size, pause):
        s = edge.connect(receive=4096)
        s.sendall(ask("/s/large"))
        begin, got = time.monotonic(), 0
        try:
            while time.monotonic() - begin < 20:
                part = s.recv(size)
                if not part:
                    break
                got += len(part)
                time.sleep(pause)
        except OSError:
            pass
        result[name] = time.monotonic() - begin, got
        s.close()

    threads = [threading.Thread(target=read, args=a) for a in (
        ("still", 1, 0.5), ("slow", 512, 0.1),
        ("fine", 16384, 0.1))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    # What the kernel had in its buffers they may read on; no more came.
    assert edge.struck("slow_readers") == 2, result
    assert result["fine"][0] >= 20 and result["fine"][1] > 1000000, result
    assert get(edge.base, "/s/large").body == edge.large


@pytest.mark.quick
def test_a_head_that_is_too_large(sandbox, tmp_path):
    edge = Edge(sandbox, tmp_path, "head-size=8K")
    for request, status in (
            (ask("/s/small", "X: " + "x" * 9000), b"431"),
            (ask("/s/small?" + "x" * 9000), b"414")):
        s = edge.connect()
        s.sendall(request)
        assert head(s).split()[1] == status
        assert ends(s, 20) is not None
    assert edge.struck("head_size") == 2
    assert get(edge.base, "/s/small").status == 200


@pytest.mark.parametrize("mode,words,limit", [
    ("headers", ["-H", "-i", "1", "-x", "8"], "head_timeout"),
    ("body", ["-B", "-i", "1", "-s", "8192", "-x", "8"], None),
    ("ranges", ["-R", "-a", "1", "-b", "500"], None),
    ("read", ["-X", "-w", "16", "-y", "256", "-n", "2", "-z", "4", "-k", "1"],
     "slow_readers")])
def test_slowhttptest(sandbox, tmp_path, mode, words, limit):
    """All slow ones are cut within the deadlines, and counted; a normal client
    is served all the time."""
    n = 500
    edge = Edge(sandbox, tmp_path, "connections=2000", "per-address=2000",
                "head-timeout=5", "low-rate=20K", "low-time=5",
                "idle-timeout=8")
    path = "/s/large" if mode in ("read", "ranges") else "/s/small"
    before = edge.status()
    attack = subprocess.Popen(
        ["slowhttptest", *words, "-u", edge.base + path, "-c", str(n), "-r",
         "250", "-l", str(25 * SLOW), "-p", "20", "-v", "0"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    most = 0
    try:
        begin = time.monotonic()
        while attack.poll() is None and time.monotonic() - begin < 40 * SLOW:
            assert get(edge.base, "/s/small").body == b"0123456789" * 100
            now = edge.status()
            most = max(most, now["open"])
            if now["connections"] - before["connections"] >= n and \
                    now["open"] < 20:
                break
            time.sleep(0.05)
    finally:
        if attack.poll() is None:
            attack.terminate()
        attack.wait(30)
    # Nobody but the watching client is left, whether or not the attacker is.
    until(lambda: edge.status()["open"] == 1, 40)
    after = edge.status()
    assert after["connections"] - before["connections"] >= n
    struck = {k: v - before["limits"][k] for k, v in after["limits"].items()}
    if limit:
        assert most > n * 0.8
        assert struck[limit] >= n * 0.9, struck
    if mode == "body":
        assert after["refused"] - before["refused"] >= n * 0.9
    assert struck["connections"] == struck["per_address"] == 0


def test_term_finishes_what_runs(sandbox, tmp_path):
    edge = Edge(sandbox, tmp_path, "stop-timeout=30")
    pid = edge.box.pid("edge1")
    s = edge.connect(receive=65536)
    s.sendall(ask("/s/large"))
    h = head(s)
    idle = edge.connect()
    assert is_served(idle)
    os.kill(pid, signal.SIGTERM)
    assert ends(idle, 10 * SLOW) is not None
    until(lambda: "stopping" in edge.box.log("edge1"))
    with pytest.raises(OSError):
        until(lambda: get(edge.base, "/s/small", timeout=5) and False)
    assert alive(pid)
    body = b""
    while len(body) < len(edge.large):
        part = s.recv(65536)
        assert part, "cut after %d bytes" % len(body)
        body += part
    assert h.startswith(b"HTTP/1.1 200 ") and body == edge.large
    assert ends(s, 20) is not None
    until(lambda: not alive(pid), 20)
    assert "stopped" in edge.box.log("edge1")
    assert "stop cut=" not in edge.box.log("edge1")


def test_term_does_not_wait_for_ever(sandbox, tmp_path):
    edge = Edge(sandbox, tmp_path, "stop-timeout=2")
    edge.box.kill("edge1", signal.SIGTERM)
    p = edge.box.spawn("edge1")
    until(lambda: edge.box.log("edge1").count(" ready ") == 2)
    stuck = [edge.connect(receive=4096) for _ in range(20)]
    for s in stuck:
        s.sendall(ask("/s/large"))
        head(s)
    begin = time.monotonic()
    p.send_signal(signal.SIGTERM)
    assert p.wait(30 * SLOW) == 0
    assert 1.9 < time.monotonic() - begin < 15 * SLOW
    assert "stop cut=20 " in edge.box.log("edge1")
    for s in stuck:
        assert ends(s, 20) is not None


def test_hup_drops_nothing(sandbox, tmp_path):
    edge = Edge(sandbox, tmp_path, "access-log=%s" % (tmp_path / "a.log"))
    pid, faults, count = edge.box.pid("edge1"), [], [0] * 4
    over = threading.Event()

    def small(i):
        s = edge.connect()              # one, for all of its requests
        while not over.is_set():
            if not is_served(s):
                faults.append("request %d of client %d" % (count[i], i))
                return
            count[i] += 1

    def large():
        s = edge.connect(receive=16384)
        s.sendall(ask("/s/large"))
        head(s)
        got, begin = 0, time.monotonic()
        while got < len(edge.large):
            part = s.recv(65536)
            if not part or part != edge.large[got:got + len(part)]:
                faults.append("download at %d" % got)
                return
            got += len(part)
            if time.monotonic() - begin < 4:
                time.sleep(0.005)

    threads = [threading.Thread(target=small, args=(i,)) for i in range(4)]
    downloads = [threading.Thread(target=large) for _ in range(4)]
    for t in threads + downloads:
        t.start()
    for i in range(60):
        os.kill(pid, signal.SIGHUP)
        time.sleep(0.05)
    until(lambda: faults or sum(count) > 2000 or SLOW > 1)
    for t in downloads:
        t.join(120)
    over.set()
    for t in threads:
        t.join(60)
    assert not faults
    assert edge.box.log("edge1").count("configuration read again") > 1
    assert edge.box.pid("edge1") == pid and alive(pid)
