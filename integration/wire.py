# SPDX-License-Identifier: BSD-2-Clause
"""HTTP/1.1 by hand: requests byte for byte, many of them in one piece, and
answers that are taken apart strictly."""
import re
import socket

from conftest import SLOW

FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([!-~](?:[ -~]*[!-~])?)")
REQUESTS = 5000                 # fewer than an edge takes on a connection


class Closed(AssertionError):
    """The other side ended the connection instead of answering."""


class Answer:
    """Fields by their names in small letters."""

    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body

    def __getitem__(self, name):
        return self.fields.get(name.lower())


def connect(address):
    s = socket.create_connection(address, timeout=20 * SLOW)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


class Wire:
    def __init__(self, address):
        self.socket = connect(address)
        self.data = b""

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        part = self.socket.recv(262144)
        if not part:
            raise Closed("closed after %r" % self.data[:500])
        self.data += part

    def at_end(self):
        """Whether the other side has closed, and sent nothing more before."""
        return not self.data and self.socket.recv(1) == b""

    def read(self, head=False):
        """The next final answer; head: to HEAD, which has no body."""
        while True:
            while b"\r\n\r\n" not in self.data:
                self.more()
            top, _, self.data = self.data.partition(b"\r\n\r\n")
            lines = top.decode("ascii").split("\r\n")
            m = re.fullmatch(r"HTTP/1\.1 (\d\d\d) [ -~]*", lines[0])
            assert m, lines[0]
            if m.group(1) != "100":
                break
        status, fields = int(m.group(1)), {}
        for line in lines[1:]:
            m = FIELD.fullmatch(line)
            assert m and m.group(1).lower() not in fields, line
            fields[m.group(1).lower()] = m.group(2)
        want = 0 if head or status in (204, 304) else \
            int(fields["content-length"])
        while len(self.data) < want:
            self.more()
        body, self.data = self.data[:want], self.data[want:]
        return Answer(status, fields, body)


def exchange(address, requests, batch=100, again=False):
    """The answers to many requests, (method, bytes) each, REQUESTS on one
    connection, sent `batch` at a time without waiting.  again: what is not
    answered before the connection ends is sent on another."""
    w, i, end = Wire(address), 0, REQUESTS
    while i < len(requests):
        if i + batch > end:
            w.close()
            w, end = Wire(address), i + REQUESTS
        part = requests[i:i + batch]
        try:
            w.send(b"".join(raw for _, raw in part))
            for method, _ in part:
                a = w.read(head=method == "HEAD")
                i += 1
                yield a
        except (Closed, BrokenPipeError, ConnectionResetError):
            assert again, "closed after %d answers" % i
            w.close()
            w = Wire(address)
    w.close()
