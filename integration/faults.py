# SPDX-License-Identifier: BSD-2-Clause
"""What faulty upstreams send: functions of the socket, the true answer's head
as a list of lines, and its body."""
import re
import time


def send(sock, head, body, length=None, status=None, without=(), extra=()):
    lines = [status or head[0]]
    for line in head[1:]:
        name = line.partition(":")[0].lower()
        if name == "content-length" and length is not None:
            line = "Content-Length: %s" % length
        if name not in without:
            lines.append(line)
    sock.sendall(("\r\n".join(lines + list(extra)) + "\r\n\r\n").encode(
        "latin-1") + body)


def place_of(head, body):
    """Where in the file the body begins, and how long the file is."""
    for line in head:
        m = re.match(r"(?i)content-range: bytes (\d+)-\d+/(\d+)", line)
        if m:
            return int(m.group(1)), int(m.group(2))
    return 0, len(body)


def flip(at):
    """A bit of the file's byte at(size), where the body has that."""
    def do(sock, head, body):
        start, size = place_of(head, body)
        i = at(size) - start
        if 0 <= i < len(body):
            body = body[:i] + bytes([body[i] ^ 1]) + body[i + 1:]
        send(sock, head, body)
    return do


def midway(then):
    def do(sock, head, body):
        send(sock, head, body[:len(body) // 2])
        then(sock)
    return do


def page(status, text=b"sorry", extra=()):
    def do(sock, head, body):
        sock.sendall(("HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n" % (
            status, len(text), "".join(e + "\r\n" for e in extra))).encode()
            + text)
    return do


def chunked(sock, head, body):
    send(sock, head, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
         without=("content-length",), extra=("Transfer-Encoding: chunked",))


def trickle(sock, head, body):
    send(sock, head, b"")
    for i in range(len(body)):
        sock.sendall(body[i:i + 1])
        time.sleep(1)
