# SPDX-License-Identifier: BSD-2-Clause
"""An HTTP server that knows nothing of pkgcast, as edges with plain sets have
before them: files with the validators and fields that a test gives them,
conditions and ranges answered, every request noted, and faults on demand."""
import email.utils
import hashlib
import socket
import time
import urllib.parse

from proxy import Upstream

OLD = 1500000000                        # Last-Modified of files, if not said
AUTO = object()
REASONS = {200: "OK", 206: "Partial Content", 304: "Not Modified",
           404: "Not Found", 416: "Range Not Satisfiable"}


def http_date(seconds):
    return email.utils.formatdate(seconds, usegmt=True)


def seconds_of(date):
    """-1: no date."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return -1


class Entry:
    """What is at a path.  fields: whole lines; one of a name that the origin
    would make itself replaces that.  gate: (bytes, Event), after so many bytes
    of the whole the rest waits for the event.  rate: bytes a second.  with_304:
    lines of a 304 alone, in place of those of the same name."""

    def __init__(self, body=b"", *fields, etag=AUTO, modified=OLD, status=200,
                 date=True, gate=None, rate=None, with_304=()):
        self.body, self.fields, self.status = body, list(fields), status
        self.etag = '"%s"' % hashlib.sha256(body).hexdigest()[:16] \
            if etag is AUTO else etag
        self.modified, self.date = modified, date
        self.gate, self.rate, self.with_304 = gate, rate, list(with_304)

    def has(self, name):
        return any(f.lower().startswith(name + ":") for f in self.fields)

    def head(self, status, length):
        """Lines; without a Content-Length for a 304."""
        fields = list(self.fields)
        if status == 304:
            names = [f.partition(":")[0].lower() for f in self.with_304]
            fields = [f for f in fields if f.partition(":")[0].lower()
                      not in names] + self.with_304
        lines = ["HTTP/1.1 %d %s" % (status, REASONS.get(status, "So"))]
        if self.date and not self.has("date"):
            lines.append("Date: " + http_date(time.time()))
        if self.etag and self.status == 200:
            lines.append("ETag: " + self.etag)
        if self.modified is not None and self.status == 200:
            lines.append("Last-Modified: " + http_date(self.modified))
        lines += fields
        if status != 304:                   # may have one, with_304
            lines.append("Content-Length: %d" % length)
        return lines


class Request:
    """name: the path below the origin's tree, decoded, and the query as it
    came.  status: what was to be answered, before a fault."""

    def __init__(self, line, name, lines):
        self.method, self.target, _ = line.split(" ")
        self.name, self.lines, self.status = name, lines, None

    def __getitem__(self, name):
        """A field's values as one list; None: it is absent."""
        got = [v for k, v in self.lines if k == name.lower()]
        return ", ".join(got) if got else None

    @property
    def conditional(self):
        return bool(self["if-none-match"] or self["if-modified-since"])

    def __repr__(self):
        return "%s %s%s -> %s" % (
            self.method, self.target, "".join(
                " [%s: %s]" % kv for kv in self.lines
                if kv[0].startswith("if-") or kv[0] == "range"), self.status)


def matches(listed, etag):
    """If-None-Match, compared weakly."""
    return listed.strip() == "*" or etag.removeprefix("W/") in [
        t.strip().removeprefix("W/") for t in listed.split(",")]


def wanted_range(text, size):
    """[first, last), or None where all is to be sent, or () for nothing."""
    unit, _, spec = text.partition("=")
    first, dash, last = spec.strip().partition("-")
    if unit != "bytes" or not dash or "," in spec:
        return None
    if not first:
        n = min(int(last), size)
        return (size - n, size) if n else ()
    first = int(first)
    last = min(int(last) + 1, size) if last else size
    return (first, last) if first < last else ()


class Origin(Upstream):
    """`url` is the address of its tree.  `entries` has what is in it: an Entry,
    or a function of the request that gives one.  A path may have a fault: a
    function as in faults.py; its connection then ends."""

    def __init__(self, tree="/tree"):
        self.entries, self.faults, self.log = {}, {}, []
        self.tree = tree
        super().__init__(None)
        self.url += tree

    # -- what it has

    def put(self, name, body=b"", *fields, **options):
        self.entries[name] = Entry(body, *fields, **options)
        return body

    def fail(self, name, fault, times=None):
        """That path, so many times or from now on; None: no more."""
        left = [times]

        def do(sock, head, body):
            if left[0] is not None:
                left[0] -= 1
                if left[0] == 0:
                    self.faults.pop(name, None)
            return fault(sock, head, body)
        if fault is None:
            self.faults.pop(name, None)
        else:
            self.faults[name] = do

    def fault_of(self, request):
        """Of that request; may be replaced, by what knows more than a path."""
        return self.faults.get(request.name)

    # -- what it was asked

    def asked(self, name=None, since=0):
        return [r for r in self.log[since:] if name in (None, r.name)]

    # -- how it answers

    def serve(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        f = sock.makefile("rb")
        while True:
            line = f.readline().decode("latin-1").rstrip("\r\n")
            if not line:
                return
            lines = []
            while True:
                h = f.readline().decode("latin-1").rstrip("\r\n")
                if not h:
                    break
                k, _, v = h.partition(":")
                lines.append((k.lower(), v.strip()))
            if self.refuses:                # also on what is kept open
                return
            target = line.split(" ")[1]
            path, mark, query = target.partition("?")
            name = urllib.parse.unquote(path).removeprefix(
                self.tree + "/") + mark + query
            request = Request(line, name, lines)
            with self.lock:
                self.log.append(request)
                self.running += 1
                self.most = max(self.most, self.running)
            try:
                if not self.answer_request(sock, request):
                    return
            finally:
                with self.lock:
                    self.running -= 1

    def answer_request(self, sock, request):
        """Whether the connection goes on."""
        fault = self.fault_of(request)
        entry = self.entries.get(request.name)
        if callable(entry):
            entry = entry(request)
        if entry is None:
            entry = Entry(b"<html>not here</html>", "Content-Type: text/html",
                          status=404)
        head, body = self.answer_of(entry, request)
        request.status = int(head[0].split(" ")[1])
        if fault is not None:
            fault(sock, head, body)
            return False
        sock.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
        if request.method != "HEAD":
            gate = entry.gate if request.status == 200 else None
            self.send_body(sock, entry, request.name, body, gate)
        return "close" not in (request["connection"] or "")

    def answer_of(self, entry, request):
        """Head and body."""
        size = len(entry.body)
        if entry.status != 200:
            return entry.head(entry.status, size), entry.body
        if self.not_modified(entry, request):
            return entry.head(304, 0), b""
        if request["range"] and self.range_is_meant(entry, request):
            part = wanted_range(request["range"], size)
            if part:
                head = entry.head(206, part[1] - part[0])
                head.append("Content-Range: bytes %d-%d/%d" % (
                    part[0], part[1] - 1, size))
                return head, entry.body[part[0]:part[1]]
            if part is not None:
                return entry.head(416, 0) + ["Content-Range: bytes */%d" %
                                             size], b""
        return entry.head(200, size), entry.body

    def not_modified(self, entry, request):
        if request["if-none-match"]:
            return bool(entry.etag) and matches(request["if-none-match"],
                                                entry.etag)
        return request["if-modified-since"] is not None and \
            entry.modified is not None and \
            entry.modified <= seconds_of(request["if-modified-since"])

    def range_is_meant(self, entry, request):
        """RFC 9110, 13.1.5."""
        condition = request["if-range"]
        if condition is None:
            return True
        if '"' in condition:
            return condition == entry.etag and not condition.startswith("W/")
        return entry.modified is not None and \
            condition == http_date(entry.modified)

    def send_body(self, sock, entry, name, body, gate):
        begin, sent = time.monotonic(), 0
        while sent < len(body):
            end = min(sent + (16384 if entry.rate else 262144), len(body))
            if gate and sent < gate[0]:
                end = min(end, gate[0])
            elif gate:
                gate[1].wait(60)
            sock.sendall(body[sent:end])
            self.count(name, end - sent)
            sent = end
            if entry.rate:
                ahead = sent / entry.rate - (time.monotonic() - begin)
                if ahead > 0:
                    time.sleep(ahead)
