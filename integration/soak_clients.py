# SPDX-License-Identifier: BSD-2-Clause
"""The clients of integration/soak: each answer is compared with what the
publisher has written down about the generation that the answer names."""
import collections
import hashlib
import json
import os
import random
import re
import socket
import struct
import threading
import time
import urllib.parse

from conftest import SLOW

SET = "soak"
ENTRY = "meta.conf"
FAULTS = 50                     # of a kind are kept as text
WITHDRAWN_S = 15 * SLOW         # a 503 is explained so long after a withdrawal


class Shared:
    """What the publisher tells its clients while it goes on: what it has
    published for sure, what it may have, and what it has withdrawn."""

    def __init__(self, array):
        self.array = array

    def get(name):                          # noqa: a property each
        return property(lambda s: s.array[name],
                        lambda s, v: s.array.__setitem__(name, v))

    acked, newest, oldest, withdrawn_at = map(get, range(4))
    SIZE = 4


class Truth:
    """truth/N.json: {path: [digest, size]}; content/DIGEST: the bytes."""

    def __init__(self, where, shared):
        self.dir, self.shared = where, shared
        self.known = collections.OrderedDict()

    def generation(self, n):
        if n not in self.known:
            with open(os.path.join(self.dir, "truth", "%d.json" % n)) as f:
                self.known[n] = json.load(f)
            if len(self.known) > 50:
                self.known.popitem(last=False)
        return self.known[n]

    def content(self, digest):
        with open(os.path.join(self.dir, "content", digest), "rb") as f:
            return f.read()


class Wrong(Exception):
    """An answer that must not be."""


class Closed(Exception):
    """The connection ended before an answer began."""


class Answer:
    def __init__(self, status, headers, body, ended=False):
        self.status, self.headers, self.body = status, headers, body
        self.ended = ended                  # before all of the body was there

    @property
    def generation(self):
        m = re.search(r'key="%s@(\d+)"' % SET,
                      self.headers.get("cache-status", ""))
        return int(m.group(1)) if m else None


class Conn:
    def __init__(self, base, rcvbuf=None, timeout=60):
        u = urllib.parse.urlsplit(base)
        self.sock = socket.socket()
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(timeout * SLOW)
        self.sock.connect((u.hostname, u.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb", 65536)
        self.used = False

    def send(self, method, path, headers=()):
        self.sock.sendall(("%s %s HTTP/1.1\r\nHost: soak\r\n%s\r\n" % (
            method, path, "".join("%s: %s\r\n" % h for h in headers))
            ).encode())

    def head(self):
        try:
            line = self.file.readline(4096)
        except ConnectionError:
            line = b""
        if not line:
            raise Closed
        m = re.match(rb"HTTP/1\.1 (\d{3}) ", line)
        if not m:
            raise Wrong("status line %r" % line)
        headers = {}
        while True:
            line = self.file.readline(8192)
            if not line.endswith(b"\r\n"):
                raise Wrong("head that ends in %r" % line)
            if line == b"\r\n":
                return int(m.group(1)), headers
            k, _, v = line.decode("latin-1").partition(":")
            headers[k.lower()] = v.strip()

    def answer(self, method="GET", pace=None):
        """pace: (bytes, seconds) to wait after so many of the first bytes."""
        status, headers = self.head()
        self.used = True
        length = int(headers.get("content-length", 0))
        if method == "HEAD" or status in (204, 304):
            length = 0
        parts, have, ended = [], 0, False
        while have < length:
            part = self.file.read1(min(65536, length - have))
            if not part:
                ended = True
                break
            parts.append(part)
            have += len(part)
            if pace and have < pace[0]:
                time.sleep(pace[1])
        return Answer(status, headers, b"".join(parts), ended)

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                 struct.pack("ii", 1, 0))
        self.file.close()
        self.sock.close()


class Client(threading.Thread):
    """One of many; kinds of requests by their weight."""

    KINDS = (("whole", 40), ("range", 15), ("condition", 12), ("head", 6),
             ("pipeline", 5), ("abort", 8), ("slow", 2), ("unknown", 3),
             ("blob", 3), ("pinned", 4), ("status", 1), ("bad", 1))

    def __init__(self, bases, truth, end, seed):
        super().__init__(daemon=True)
        self.bases, self.truth, self.end = bases, truth, end
        self.shared = truth.shared
        self.rng = random.Random(seed)
        self.conns, self.tags = {}, {}
        self.count = collections.Counter()
        self.faults = collections.defaultdict(list)

    # -- connections

    def conn(self, base):
        c = self.conns.get(base)
        if c is not None and self.rng.random() < 0.02:
            self.drop(base)
            c = None
        if c is None:
            c = self.conns[base] = Conn(base)
        return c

    def drop(self, base):
        c = self.conns.pop(base, None)
        if c:
            c.close()

    def ask(self, base, path, headers=(), method="GET"):
        """An idle connection may be closed by either side; then once more."""
        for last in (False, True):
            c = self.conn(base)
            fresh = not c.used
            try:
                c.send(method, path, headers)
                a = c.answer(method)
            except (Closed, ConnectionError):
                self.drop(base)
                if fresh or last:
                    raise
                self.count["closed while idle"] += 1
                continue
            if a.ended or a.headers.get("connection", "").lower() == "close":
                self.drop(base)
            return a

    # -- what is asked for

    def path(self):
        """Few are asked for often, many seldom, as on a mirror."""
        if self.rng.random() < 0.05:
            return ENTRY
        paths = self.truth.generation(self.shared.acked)["order"]
        return paths[int(len(paths) * self.rng.random() ** 3)]

    def fault(self, kind, text):
        self.count[kind] += 1
        if len(self.faults[kind]) < FAULTS:
            self.faults[kind].append("%s %s" % (time.strftime("%T"), text))

    # -- what an answer must be

    def entry(self, a, path):
        """The file that answered: its digest, size and bytes."""
        n = a.generation
        if n is None:
            raise Wrong("no generation in Cache-Status")
        if not 1 <= n <= self.shared.newest:
            raise Wrong("generation %d is not published" % n)
        files = self.truth.generation(n)["files"]
        if path not in files:
            raise Wrong("generation %d has no such path" % n)
        digest, size = files[path]
        if a.headers.get("etag") != '"%s"' % digest:
            raise Wrong("ETag %s, generation %d has %s" % (
                a.headers.get("etag"), n, digest))
        return digest, size

    def check(self, a, path, acked, wanted=None):
        """Of a path's answer; wanted: statuses that fit what was asked."""
        if a.status in (200, 206, 304) and path == ENTRY and \
                a.generation is not None and a.generation < acked:
            raise Wrong("%s of generation %d after %d was acknowledged" % (
                ENTRY, a.generation, acked))
        if a.status == 404 and self.may_be_absent(path, acked):
            return
        if a.status == 503:
            self.unavailable(a, path)
            return
        if a.status not in (wanted or (200,)):
            raise Wrong("status %d" % a.status)
        if a.status in (412, 416):
            return
        digest, size = self.entry(a, path)
        if a.ended:
            self.cut(a, path)
            return
        if a.status == 200:
            if len(a.body) != size or hashlib.sha256(
                    a.body).hexdigest() != digest:
                raise Wrong("%d bytes that are not %s" % (len(a.body),
                                                          digest))
        elif a.status == 206:
            self.check_part(a, digest, size)

    def check_part(self, a, digest, size):
        m = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)",
                         a.headers.get("content-range", ""))
        if not m:
            raise Wrong("206 without Content-Range")
        first, last, total = map(int, m.groups())
        if total != size or self.truth.content(digest)[
                first:last + 1] != a.body:
            raise Wrong("206 with other bytes than %s has" % digest)

    def may_be_absent(self, path, acked):
        return any(path not in self.truth.generation(n)["files"]
                   for n in range(acked, self.shared.newest + 1))

    def explained(self):
        return time.time() - self.shared.withdrawn_at < WITHDRAWN_S

    def unavailable(self, a, path):
        if a.body:
            raise Wrong("503 with a body")
        if self.explained():
            self.count["503 after a withdrawal"] += 1
        else:
            self.fault("unexplained 503", "%s %s" % (
                path, a.headers.get("cache-status")))

    def cut(self, a, path):
        if self.explained():
            self.count["cut after a withdrawal"] += 1
        else:
            self.fault("cut body", "%s %d of %s %s" % (
                path, len(a.body), a.headers.get("content-length"),
                a.headers.get("cache-status")))

    # -- kinds

    def target(self):
        path = self.path()
        return (self.rng.choice(self.bases), "/%s/%s" % (SET, path), path,
                self.shared.acked)

    def do_whole(self):
        base, target, path, acked = self.target()
        a = self.ask(base, target)
        self.check(a, path, acked)
        if a.status == 200:
            self.tags[path] = (a.headers["etag"], a.headers["last-modified"])

    def do_range(self):
        base, target, path, acked = self.target()
        size = self.truth.generation(acked)["files"][path][1]
        first = self.rng.randrange(size)
        value, wanted = self.rng.choice((
            ("%d-%d" % (first, first + self.rng.randrange(300000)), (206,)),
            ("%d-" % first, (206,)), ("-%d" % (size - first), (206,)),
            ("0-0", (206,)), ("0-0,-1", (200,)),
            ("%d-" % (size * 50 + (64 << 20)), (416,))))
        headers = [("Range", "bytes=" + value)]
        if path in self.tags and self.rng.random() < 0.3:
            headers.append(("If-Range", self.rng.choice(self.tags[path])))
            wanted += (200,)
        # Another generation's file may be shorter than this one's range.
        self.check(self.ask(base, target, headers), path, acked,
                   wanted + (416,))

    def do_condition(self):
        base, target, path, acked = self.target()
        tag, date = self.tags.get(path, ('"none"', "Thu, 01 Jan 1970 "
                                         "00:00:00 GMT"))
        headers, wanted = self.rng.choice((
            ([("If-None-Match", tag)], (200, 304)),
            ([("If-Modified-Since", date)], (200, 304)),
            ([("If-None-Match", '"other", ' + tag)], (200, 304)),
            ([("If-Match", '"never"')], (412,)),
            ([("If-Match", tag)], (200, 412)),
            ([("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")],
             (412,))))
        a = self.ask(base, target, headers)
        self.check(a, path, acked, wanted)
        if a.status == 304 and headers[0][0] == "If-None-Match" and \
                a.headers["etag"] != tag:
            raise Wrong("304 for another tag")
        if a.status == 200 and headers[0][0] == "If-None-Match" and \
                a.headers["etag"] == tag:
            raise Wrong("200 for the tag that the client has")

    def do_head(self):
        base, target, path, acked = self.target()
        a = self.ask(base, target, method="HEAD")
        if a.status == 200:
            _, size = self.entry(a, path)
            if a.headers.get("content-length") != str(size):
                raise Wrong("HEAD with another length")
        elif a.status == 503:
            self.unavailable(a, path)
        elif a.status != 404 or not self.may_be_absent(path, acked):
            raise Wrong("HEAD status %d" % a.status)

    def do_pipeline(self):
        base, acked = self.rng.choice(self.bases), self.shared.acked
        paths = [self.path() for _ in range(self.rng.randrange(2, 24))]
        c = Conn(base)
        try:
            c.sock.sendall(b"".join(
                ("GET /%s/%s HTTP/1.1\r\nHost: x\r\n\r\n" % (SET, p)).encode()
                for p in paths))
            for i, p in enumerate(paths):
                try:
                    a = c.answer()
                except Closed:
                    raise Wrong("%d of %d pipelined requests answered" % (
                        i, len(paths))) from None
                self.check(a, p, acked)
                if a.ended:
                    break
        finally:
            c.close()

    def do_abort(self):
        base, target, path, acked = self.target()
        how = self.rng.choice(("close", "reset", "half", "early"))
        c = Conn(base, rcvbuf=16384)
        try:
            c.send("GET", target)
            if how == "half":
                c.sock.shutdown(socket.SHUT_WR)
                try:
                    a = c.answer()
                except Closed:
                    return
                if a.status == 200 and not a.ended:
                    self.check(a, path, acked)
                return
            if how != "early":
                c.head()
                c.file.read1(self.rng.randrange(1, 60000))
        finally:
            c.close(reset=how == "reset")

    def do_slow(self):
        base, target, path, acked = self.target()
        c = Conn(base, rcvbuf=8192)
        try:
            c.send("GET", target)
            self.check(c.answer(pace=(600000, 0.05)), path, acked)
        finally:
            c.close()

    def do_unknown(self):
        a = self.ask(self.rng.choice(self.bases), self.rng.choice((
            "/%s/none/%d" % (SET, self.rng.randrange(10 ** 9)),
            "/%s/" % SET, "/", "/nobody/x", "/%s/all" % SET,
            "/.pkgcast/blob/" + "0" * 64)))
        if a.status != 404 or a.body:
            raise Wrong("status %d for what nobody has" % a.status)

    def do_blob(self):
        acked = self.shared.acked
        path = self.path()
        digest, size = self.truth.generation(acked)["files"].get(
            path, (None, 0))
        if digest is None:
            return
        a = self.ask(self.rng.choice(self.bases), "/.pkgcast/blob/" + digest)
        if a.status == 503:
            self.unavailable(a, digest)
        elif a.status == 404 and acked < self.shared.oldest:
            return
        elif a.status != 200:
            raise Wrong("status %d for a blob" % a.status)
        elif a.ended:
            self.cut(a, digest)
        elif hashlib.sha256(a.body).hexdigest() != digest:
            raise Wrong("a blob with other bytes")

    def do_pinned(self):
        acked = self.shared.acked           # may be withdrawn by now
        n = self.rng.randint(min(self.shared.oldest, acked), acked)
        files = self.truth.generation(n)
        path = self.rng.choice(files["order"])
        a = self.ask(self.rng.choice(self.bases), "/%s/@%d/%s" % (SET, n,
                                                                path))
        if a.status == 410 and (n < self.shared.oldest or
                                self.explained()):
            return
        if a.status == 200 and a.generation != n:
            raise Wrong("generation %d for @%d" % (a.generation, n))
        self.check(a, path, 0)

    def do_status(self):
        a = self.ask(self.rng.choice(self.bases), self.rng.choice((
            "/.pkgcast/status", "/.pkgcast/heads", "/.pkgcast/trust")))
        if a.status != 200 or not a.body:
            raise Wrong("status %d for a document" % a.status)

    def do_bad(self):
        c = Conn(self.rng.choice(self.bases))
        try:
            c.sock.sendall(self.rng.choice((
                b"GET /%s/meta.conf HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                b"GET /%s/meta.conf HTTP/1.1\r\nHost: a\r\nContent-Length: 5"
                b"\r\nContent-Length: 6\r\n\r\nhello",
                b"GET /%s/meta.conf HTTP/1.1\r\nHost: a\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                b"GET /%s/..%%2f..%%2fetc HTTP/1.1\r\nHost: a\r\n"
                b"Connection: close\r\n\r\n",
                b"\x16\x03\x01\x02\x00 no TLS here\r\n\r\n")).replace(
                    b"%s", SET.encode()).replace(b"%%", b"%"))
            try:
                a = c.answer()
            except (Closed, ConnectionError):
                return
            if a.status not in (400, 405, 413, 431, 501, 505):
                raise Wrong("status %d for a bad request" % a.status)
        finally:
            c.close()

    # -- the run

    def run(self):
        kinds = [k for k, _ in self.KINDS]
        weights = [w for _, w in self.KINDS]
        while time.time() < self.end:
            kind = self.rng.choices(kinds, weights)[0]
            try:
                getattr(self, "do_" + kind)()
            except Wrong as e:
                self.fault("mismatch", "%s: %s" % (kind, e))
                self.reset()
            except (Closed, OSError) as e:
                self.fault("lost connection", "%s: %r" % (kind, e))
                self.reset()
            except Exception as e:          # noqa: ours, and told
                self.fault("client's own fault", "%s: %r" % (kind, e))
                self.reset()
            self.count["asked " + kind] += 1
        self.reset()

    def reset(self):
        for base in list(self.conns):
            self.drop(base)


def process(where, array, bases, end, seed, threads, queue):
    """One process of clients; puts (counts, faults) at its end."""
    truth = Truth(where, Shared(array))
    clients = [Client(bases, truth, end, seed * 1000 + i)
               for i in range(threads)]
    for c in clients:
        c.start()
    total, faults = collections.Counter(), collections.defaultdict(list)
    for c in clients:
        c.join(max(0, end - time.time()) + 200 * SLOW)
        if c.is_alive():
            c.fault("hang", "a client did not end")
        total.update(c.count)
        for kind, texts in list(c.faults.items()):
            faults[kind] += texts[:FAULTS - len(faults[kind])]
    queue.put((dict(total), dict(faults)))
