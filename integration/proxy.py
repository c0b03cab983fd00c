# SPDX-License-Identifier: BSD-2-Clause
"""Servers between an edge and its master: HTTP upstreams that are slow, lie or
break, and TCP relays that swallow bytes.  Each counts what passes."""
import collections
import http.client
import io
import socket
import socketserver
import struct
import threading
import time
import urllib.parse


def reset(sock):
    """Its close will not be a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    struct.pack("ii", 1, 0))


class Upstream:
    """An HTTP proxy before a master.  `fault` may be set to a function of the
    path, the socket, the true answer's head as a list, and its body: it is
    called for every blob, and returns whether it has answered itself; the
    connection then ends.  `rate` limits bodies to so many bytes a second.  Counted are
    requests, bytes of bodies, connections, and how many were answered at once
    at the most.  `forwards` names what it passes on of a request's fields."""

    forwards = ("range", "if-range", "cache-control")

    def __init__(self, origin, rate=None, fault=None, silent=False):
        self.origin = urllib.parse.urlsplit(origin) if origin else None
        self.rate, self.fault, self.silent = rate, fault, silent
        self.requests, self.body_bytes, self.refuses = [], 0, False
        self.connections = self.running = self.most = 0
        self.sent = collections.Counter()       # bytes of bodies, by path
        self.lock = threading.Lock()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with outer.lock:
                    outer.connections += 1
                try:
                    outer.serve(self.request)
                except OSError:
                    pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

        # A port that was asked for is kept over refuse(), one that was given
        # is not.
        with Server(("127.0.0.1", 0), None) as s:
            port = s.server_address[1]
        self.server = Server(("127.0.0.1", port), Handler)
        # What refuse() had made ready may be gone when it is accepted.
        self.server.socket.setblocking(False)
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever,
                         kwargs={"poll_interval": 0.05}, daemon=True).start()

    def blobs(self):
        return [r for r in self.requests if "/.pkgcast/blob/" in r]

    def serve(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        f = sock.makefile("rb")
        while True:
            line = f.readline()
            if not line:
                return
            headers = {}
            while True:
                h = f.readline()
                if h in (b"\r\n", b""):
                    break
                k, _, v = h.decode("latin-1").partition(":")
                headers[k.strip().lower()] = v.strip()
            path = line.decode("latin-1").split(" ")[1]
            with self.lock:
                self.requests.append(path)
            if self.silent:
                time.sleep(3600)
            with self.lock:
                self.running += 1
                self.most = max(self.most, self.running)
            try:
                if not self.answer(sock, path, headers):
                    return
            finally:
                with self.lock:
                    self.running -= 1

    def answer(self, sock, path, headers):
        if self.origin is None or self.refuses:
            return False                    # before the master is there
        c = http.client.HTTPConnection(self.origin.hostname,
                                       self.origin.port, timeout=30)
        try:
            c.request("GET", path, headers={
                k: v for k, v in headers.items() if k in self.forwards})
            r = c.getresponse()
            head = ["HTTP/1.1 %d %s" % (r.status, r.reason)]
            head += ["%s: %s" % kv for kv in r.getheaders()
                     if kv[0].lower() not in ("connection", "keep-alive")]
            body = r
            if self.fault and "/.pkgcast/blob/" in path:
                body = io.BytesIO(r.read())
                if self.fault(path, sock, head, body.getvalue()):
                    return False
            sock.sendall(("\r\n".join(head) + "\r\n\r\n").encode(
                "latin-1"))
            self.send(sock, path, body)
        finally:
            c.close()
        return True

    def count(self, path, sent):
        with self.lock:
            self.body_bytes += sent
            self.sent[path] += sent

    def send(self, sock, path, body):
        """As it comes, so that what is cut short was not all read."""
        sent, start = 0, time.monotonic()
        while True:
            part = body.read(16384)
            if not part and getattr(body, "length", None):
                raise ConnectionError("the origin ended early")
            if not part:
                return
            sock.sendall(part)
            sent += len(part)
            self.count(path, len(part))
            if self.rate:
                ahead = sent / self.rate - (time.monotonic() - start)
                if ahead > 0:
                    time.sleep(ahead)

    def refuse(self, yes):
        """Connections from now on."""
        if yes and not self.refuses:
            self.server.socket.shutdown(socket.SHUT_RDWR)
        elif self.refuses and not yes:
            self.server.socket.listen(128)
        self.refuses = yes

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Relay:
    """A TCP relay to a port of 127.0.0.1.  `swallow` drops what either side
    says, and keeps the connections; `cut()` ends all of them; `blackhole()` is
    a swallow for those that are open now.  `hold()` keeps back what goes "out"
    to the port or comes "in" from it, as a network does that is cut there for
    a while, `delay` makes both late by so many seconds.  `stranger` is what
    another service says there to whoever connects, before it ends that."""

    def __init__(self, port, swallow=False):
        self.port, self.swallow = port, swallow
        self.swallowed = self.held = self.estranged = 0
        self.stranger = None
        self.delay, self.holds, self.dead = 0, set(), set()
        self.socks = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listen_port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                a, _ = self.listener.accept()
            except OSError:
                return
            if self.stranger:
                with a:
                    a.sendall(self.stranger)
                self.estranged += 1
                continue
            try:
                b = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                a.close()
                continue
            self.socks += [a, b]
            for src, dst, way in ((a, b, "out"), (b, a, "in")):
                threading.Thread(target=self.pump, args=(src, dst, way),
                                 daemon=True).start()

    def pump(self, src, dst, way):
        try:
            while True:
                data = src.recv(65536)
                if not data:
                    break
                if self.swallow or src in self.dead:
                    self.swallowed += len(data)
                    continue
                if self.delay or way in self.holds:
                    self.held += 1
                    self.keep_back(way)
                dst.sendall(data)
        except OSError:
            pass
        for s in (src, dst):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def keep_back(self, way):
        time.sleep(self.delay)
        while way in self.holds:
            time.sleep(0.02)

    def hold(self, way, yes):
        (self.holds.add if yes else self.holds.discard)(way)

    def blackhole(self):
        self.dead.update(self.socks)

    def cut(self):
        for s in self.socks:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()
        self.cut()
