# SPDX-License-Identifier: BSD-2-Clause
"""Clients that download and look at every byte: for files of which the first
answer is what counts, where a generator that only repeats is no use.

One thread asks for all of them.  Each byte is compared with the true file,
which says more than a digest and costs less: a hundred clients' bytes come
faster than one core makes SHA-256 of them.  Between any two reads those are
served that still wait for their first byte, so that its time is true to some
50 us even when a hundred others take all that they can get."""
import ctypes
import mmap
import re
import select
import socket
import time

READ = 128 << 10
CHUNK = 256 << 10               # until so much of a file is there: Client.chunk
HEAD = 16 << 10
NOBODY = 0.05

compare = ctypes.CDLL(None).memcmp
compare.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class Truth:
    """A file's content in memory."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.map = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE)
        self.size = len(self.map)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        # All of it is read once, lest the disk be part of a measurement.
        for at in range(0, self.size, mmap.PAGESIZE):
            self.map[at]


class Client:
    """One download.  Times are in seconds after its start."""

    def __init__(self, delay, port, path, truth, part=None):
        """part: (first, last) byte, for a range"""
        self.delay, self.port, self.path = delay, port, path
        self.truth, self.part = truth, part
        self.sock, self.begin, self.head = None, None, b""
        self.status = self.left = self.at = None
        self.first = self.chunk = self.end = self.wrong = None

    def start(self):
        self.begin = time.monotonic()
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.connect_ex(("127.0.0.1", self.port))

    def ask(self):
        words = ["GET %s HTTP/1.1" % self.path, "Host: bench",
                 "Connection: close"]
        if self.part:
            words.append("Range: bytes=%d-%d" % self.part)
        self.sock.send(("\r\n".join(words) + "\r\n\r\n").encode())

    def take(self, view, address):
        """What has come.  False: it is over."""
        try:
            n = self.sock.recv_into(view)
        except BlockingIOError:
            return True
        except OSError as e:
            return self.over(str(e))
        now = time.monotonic() - self.begin
        if n == 0:
            return self.over("cut short" if self.left or self.left is None
                             else None)
        skip = 0
        if self.left is None:
            old = len(self.head)
            self.head += bytes(view[:n])
            head, sep, _ = self.head.partition(b"\r\n\r\n")
            if not sep:
                return len(self.head) < HEAD or self.over("no head")
            if not self.judge(head.decode("latin-1")):
                return self.over("status %s, not what was asked for" %
                                 self.status)
            skip = len(head) + 4 - old
        size = n - skip
        if size > 0 and self.first is None:
            self.first = now
        if size > self.left:
            return self.over("too long")
        if compare(address + skip, self.truth.address + self.at, size):
            return self.over("wrong bytes")
        self.at += size
        self.left -= size
        if self.chunk is None and self.at >= CHUNK:
            self.chunk = now
        if self.left == 0:
            self.end = now
            return self.over(None)
        return True

    def judge(self, head):
        """Whether the answer is the part or the whole, with its length."""
        self.status = int(head.split(" ", 2)[1])
        length = re.search(r"^content-length: *(\d+)", head, re.M | re.I)
        self.left = int(length.group(1)) if length else -1
        part = re.search(r"^content-range: *bytes (\d+)-(\d+)/(\d+)", head,
                         re.M | re.I)
        if self.status == 206 and self.part and part:
            self.at = self.part[0]
            return (tuple(map(int, part.groups())) ==
                    self.part + (self.truth.size,) and
                    self.left == self.part[1] - self.part[0] + 1)
        self.at = 0
        return self.status == 200 and self.left == self.truth.size

    def over(self, wrong):
        self.wrong = wrong
        self.sock.close()
        return False


def run(clients, patience):
    """All of them; who is not through by then was too slow."""
    early, rest = select.epoll(), select.epoll()
    waiting = sorted(clients, key=lambda c: c.delay)
    buffer = ctypes.create_string_buffer(READ)
    view, address = memoryview(buffer).cast("B"), ctypes.addressof(buffer)
    alive, begin = {}, time.monotonic()

    def serve(poll, number):
        client = alive[number]
        if not client.take(view, address):
            del alive[number]               # closed: out of the poll, too
        elif poll is early and client.first is not None:
            early.unregister(number)
            rest.register(number, select.EPOLLIN)

    def hurry(seconds):
        """Starts those whose time has come; looks for first bytes."""
        while waiting and time.monotonic() - begin >= waiting[0].delay:
            client = waiting.pop(0)
            client.start()
            alive[client.sock.fileno()] = client
            early.register(client.sock.fileno(), select.EPOLLOUT)
        for number, event in early.poll(seconds):
            if event & select.EPOLLOUT:
                early.modify(number, select.EPOLLIN)
                try:
                    alive[number].ask()
                except OSError as e:
                    alive.pop(number).over(str(e))
            else:
                serve(early, number)

    # One that waits for both, for when nobody has anything.
    both = select.epoll()
    both.register(early.fileno(), select.EPOLLIN)
    both.register(rest.fileno(), select.EPOLLIN)
    while (waiting or alive) and time.monotonic() - begin < patience:
        hurry(0)
        ready = rest.poll(0)
        for number, _ in ready:
            serve(rest, number)
            hurry(0)
        if not ready:
            both.poll(max(0, min(NOBODY, waiting[0].delay + begin -
                                 time.monotonic()))
                      if waiting else NOBODY)
    for client in list(alive.values()) + waiting:
        if client.sock is not None:
            client.over("not through within %d s" % patience)
        else:
            client.wrong = "never started"
    for poll in (early, rest, both):
        poll.close()
    return clients


class Steady:
    """A connection over which one small file after the other comes, of those
    that are left: [(request, body)]."""

    def __init__(self, port, left):
        self.port, self.left = port, left
        self.sock = self.body = None
        self.got = b""

    def ask(self):
        """False: there is none left."""
        if not self.left:
            return False
        request, self.body = self.left.pop()
        if self.sock is None:
            self.sock = socket.create_connection(("127.0.0.1", self.port))
        self.got = b""
        self.sock.sendall(request)
        return True

    def take(self):
        """What has come.  Whether that is all; ValueError: it is wrong."""
        data = self.sock.recv(READ)
        self.got += data
        head, sep, body = self.got.partition(b"\r\n\r\n")
        if sep and not head.startswith(b"HTTP/1.1 200 "):
            raise ValueError(head.decode("latin-1").split("\r\n")[0])
        if sep and not self.body.startswith(body):
            raise ValueError("wrong bytes")
        if not data:
            raise ValueError("cut short")
        return sep and len(body) == len(self.body)

    def close(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None


def each(port, asked, connections, patience):
    """All of [(request, body)], small ones, over so many connections that stay;
    why those that were wrong were so."""
    left, wrong, waiting = asked[::-1], [], {}
    poll, end = select.epoll(), time.monotonic() + patience

    def go_on(c):
        """To its next file, if there is one."""
        try:
            if c.ask():
                return True
        except OSError as e:
            wrong.append(str(e))
        c.close()
        return False

    def begin(c):
        if go_on(c):
            waiting[c.sock.fileno()] = c
            poll.register(c.sock, select.EPOLLIN)

    def serve(number):
        c = waiting[number]
        try:
            if not c.take() or go_on(c):
                return
            del waiting[number]
        except (OSError, ValueError) as e:
            wrong.append(str(e))
            del waiting[number]
            c.close()
            begin(c)

    for _ in range(connections):
        begin(Steady(port, left))
    while waiting and time.monotonic() < end:
        for number, _ in poll.poll(NOBODY):
            serve(number)
    wrong += ["not through within %d s" % patience] * (len(waiting) + len(left))
    for c in waiting.values():
        c.close()
    poll.close()
    return wrong
