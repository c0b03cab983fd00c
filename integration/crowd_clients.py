# SPDX-License-Identifier: BSD-2-Clause
"""Many clients of one file in one process, each on a connection of its own, and
what the daemon that they wait for needs meanwhile.

Run as a program it is the clients: it reads what to do as JSON, tells on
standard output when all of them have asked, and at the end what came of each
role:
  whole   reads all of the file
  slow    reads one byte a second, until the others are through
  vanish  has read some part of it and is gone
  last    asks for the last byte
Every byte is compared with the known content as it comes."""
import json
import os
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import time

WAIT = 300                              # seconds that a Gate holds, at most
# The edge that waits for a Gate must not give up before.
PATIENT = ("--edge-option", "fill.first-byte=%d" % (2 * WAIT))
ROLES = ("whole", "slow", "vanish", "last")
BLOCK = 65536
HEAD_MAX = 4096


class Client:
    __slots__ = ("sock", "role", "head", "pos", "leave", "due", "end")

    def __init__(self, sock, role, leave):
        self.sock, self.role, self.leave = sock, role, leave
        self.head, self.pos, self.due, self.end = b"", 0, 0.0, 0.0


class Clients:
    def __init__(self, job):
        with open(job["content"], "rb") as f:
            self.content = f.read()
        self.job = job
        self.poll = select.epoll()
        self.by_fd, self.slow = {}, []
        self.left = 0                   # of those who end by themselves
        self.told = {r: {"n": job["roles"].get(r, 0), "right": 0, "faults": [],
                         "end": []} for r in ROLES}

    def ask(self):
        rng = random.Random(len(self.content))
        roles = [r for r in ROLES for _ in range(self.told[r]["n"])]
        rng.shuffle(roles)
        address = (self.job["host"], self.job["port"])
        for role in roles:
            s = socket.socket()
            if role == "slow":
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.settimeout(60)
            s.connect(address)
            c = Client(s, role, rng.randrange(1, len(self.content)))
            s.sendall(("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (
                self.job["path"], "Range: bytes=-1\r\n" if role == "last"
                else "")).encode())
            s.setblocking(False)
            self.by_fd[s.fileno()] = c
            if role == "slow":
                c.due = time.monotonic() + rng.random()
                self.slow.append(c)
            else:
                self.left += 1
                self.poll.register(s.fileno(), select.EPOLLIN)

    def finish(self, c, fault=None):
        told = self.told[c.role]
        if fault is None:
            told["right"] += 1
            told["end"].append(time.monotonic())
        else:
            told["faults"].append(fault)
        if c.role == "slow":
            self.slow.remove(c)
        else:
            self.poll.unregister(c.sock.fileno())
            self.left -= 1
        del self.by_fd[c.sock.fileno()]
        c.sock.close()

    def head(self, c, data):
        """What follows the answer's head, or None while there is more of it."""
        c.head += data
        head, end, body = c.head.partition(b"\r\n\r\n")
        if not end:
            return None if len(head) < HEAD_MAX else b""
        want = (b"HTTP/1.1 206 ", 1) if c.role == "last" else (
            b"HTTP/1.1 200 ", len(self.content))
        if not head.startswith(want[0]) or b"\r\ncontent-length: %d\r\n" % \
                want[1] not in head.lower() + b"\r\n":
            raise ValueError(head.decode("latin-1"))
        c.head = None
        if c.role == "last":
            c.pos = len(self.content) - 1
        return body

    def read(self, c, most):
        try:
            data = c.sock.recv(most)
        except BlockingIOError:
            return
        except OSError as e:
            self.finish(c, "at %d: %s" % (c.pos, e))
            return
        if not data:
            self.finish(c, "cut at %d" % c.pos)
            return
        if c.head is not None:
            try:
                data = self.head(c, data)
            except ValueError as e:
                self.finish(c, "answered %s" % e)
                return
            if data is None:
                return
        if not self.content.startswith(data, c.pos):
            self.finish(c, "wrong bytes at %d" % c.pos)
            return
        c.pos += len(data)
        if c.pos == len(self.content):
            self.finish(c)
        elif c.role == "vanish" and c.pos >= c.leave:
            if c.leave % 2:             # the one half by a reset
                c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                  struct.pack("ii", 1, 0))
            self.finish(c)

    def run(self, deadline):
        while self.left > 0:
            now = time.monotonic()
            if now > deadline:
                break
            for c in [c for c in self.slow if c.due <= now]:
                c.due += 1
                self.read(c, 1)
            for fd, _ in self.poll.poll(0.1):
                self.read(self.by_fd[fd], BLOCK)
        for c in list(self.by_fd.values()):
            self.finish(c, None if c.role == "slow" else
                        "late, at %d" % c.pos)


def main():
    job = json.loads(sys.argv[1])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = sum(job["roles"].values()) + 64
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit("crowd_clients: %d files may be open at once; needed are %d: "
                 "raise the hard limit" % (hard, wanted))
    clients = Clients(job)
    clients.ask()
    print(json.dumps({"asked": time.monotonic()}), flush=True)
    clients.run(time.monotonic() + job["seconds"])
    print(json.dumps(clients.told), flush=True)


class Crowd:
    """The clients, as a process."""

    def __init__(self, host, port, path, content, roles, seconds):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), json.dumps({
                "host": host, "port": port, "path": path, "content": content,
                "roles": roles, "seconds": seconds})],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def tells(self):
        """Waits for the next thing that it says."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the clients have failed")
        return json.loads(line)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


class Gate:
    """Before an Upstream's first byte of a blob, as its `fault`: holds it until
    it is opened, so that all clients wait."""

    def __init__(self, digest, event):
        self.digest, self.event = digest, event

    def __call__(self, path, sock, head, body):
        if self.digest in path:
            assert self.event.wait(WAIT)
        return False


def now():
    """On the clock that the clients' `end` is of."""
    return time.monotonic()


def memory(pid):
    """Bytes that are this process's alone."""
    with open("/proc/%d/smaps_rollup" % pid) as f:
        for line in f:
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no Pss_Anon")


def cpu(pid):
    """Seconds of processor time so far."""
    with open("/proc/%d/stat" % pid) as f:
        part = f.read().rpartition(")")[2].split()
    return (int(part[11]) + int(part[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
