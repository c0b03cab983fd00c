# SPDX-License-Identifier: BSD-2-Clause
"""What the edge costs as its work grows: paths in a set, sets, idle
connections.  bench --growth calls run(); each line has a master and an edge of
its own below one folder."""
import os
import random
import re
import resource
import shutil
import subprocess
import time

import account
import boxenv
import load
import servers

PATHS = (1000, 10000, 100000, 1000000)
# A set has at most 1,000,000 files and folders: the largest line is of as many
# files as leave room for their folders.
FILES = 998000
SETS = (1, 10, 50)
SET_PATHS = 1000
IDLE = (100, 1000, 5000, 20000)
# Of the descriptors that a process may have, those for no idle connection:
# 1,024 that the edge keeps for itself, and the generator's.
SPARE = 1200
ASKED = 10000                   # different paths in a measurement
CONNECTIONS = 32
# No more than 65,000 links to one file (ext4).
LINKS = 50000
PUBLISH_SECONDS = 3600
HEAD = ("line", "publish s", "switch ms", "start s", "CPU us/req", "req/s",
        "p99 ms", "memory MB")
FORM = "%-16s" + " %11s" * (len(HEAD) - 1)


class Box:
    """A sandbox that is gone afterwards."""
    # Of files at the origin.
    prefix = servers.Server.prefix

    def __init__(self, program, where, options, upstream=()):
        self.program, self.dir = program, os.path.join(where, "box")
        self.tree = os.path.join(where, "tree")
        self.options, self.upstream = options, upstream
        self.env = {}

    def __enter__(self):
        try:
            self.call("up", self.dir, "--edges", "1",
                      *[w for o in self.options
                        for w in ("--edge-option", o)],
                      *[w for u in self.upstream for w in ("--upstream", u)])
        except BaseException:
            self.__exit__()
            raise
        self.env = boxenv.read_env(self.dir)
        return self

    def __exit__(self, *_):
        if os.path.exists(os.path.join(self.dir, "sandbox.json")):
            subprocess.run([self.program, "down", self.dir],
                           stdin=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.tree, ignore_errors=True)

    def call(self, *words):
        p = subprocess.run([self.program] + list(words), text=True,
                           capture_output=True, stdin=subprocess.DEVNULL)
        if p.returncode != 0:
            raise servers.Trouble(p.stderr.strip())

    def pid(self):
        with open(os.path.join(self.dir, "edge1.pid")) as f:
            return int(f.read())

    def port(self, name="EDGE1"):
        return int(self.env[name + "_HTTP"].rpartition(":")[2])

    def origin_port(self):
        return self.port("MASTER")

    def edge(self):
        return servers.Edge(self.port(), self.pid())

    def make_tree(self, paths, what=""):
        """That many paths, all but a few of them links; what is in them."""
        shutil.rmtree(self.tree, ignore_errors=True)
        source = None
        for i in range(paths):
            name = self.path(i)
            if i % 1000 == 0:
                os.makedirs(os.path.dirname(name))
            if i % LINKS == 0:
                source = name
                with open(source, "w") as f:
                    f.write("%08d%s\n" % (i, what))
            else:
                os.link(source, name)

    def path(self, i):
        return os.path.join(self.tree, name_of(i))

    def change(self):
        """One file becomes another."""
        with open(self.path(0) + ".new", "w") as f:
            f.write("%.9f\n" % time.time())
        os.rename(self.path(0) + ".new", self.path(0))

    def publish(self, name):
        """(seconds in all, milliseconds until the edge had switched)"""
        begin = time.monotonic()
        p = subprocess.run(self.env["PKGCAST"].split() +
                           ["publish", name, self.tree], text=True,
                           capture_output=True, stdin=subprocess.DEVNULL,
                           timeout=PUBLISH_SECONDS)
        took = time.monotonic() - begin
        if p.returncode != 0:
            raise servers.Trouble("publish: exit %d: %s" % (
                p.returncode, (p.stdout + p.stderr).strip()))
        found = re.search(r"switched 1 of 1 edges: p50 (\d+) ms",
                          p.stdout + p.stderr)
        if not found:
            raise servers.Trouble("publish: the edge did not switch: %s" % (
                p.stdout + p.stderr))
        return took, int(found.group(1))

    def restart(self):
        """Seconds from the start of the edge until it holds a lease."""
        pid = self.pid()
        os.kill(pid, 15)
        while True:
            try:
                os.kill(pid, 0)
                with open("/proc/%d/stat" % pid) as f:
                    if f.read().rpartition(")")[2].split()[0] == "Z":
                        break
            except OSError:
                break
            time.sleep(0.01)
        begin = time.monotonic()
        self.call("start", self.dir, "edge1")
        return time.monotonic() - begin

    def measure(self, names, seconds):
        """The cost of hits, after one round to fill the cache."""
        order = os.path.join(self.dir, "paths")
        with open(order, "w") as f:
            f.write("".join("/%s\n" % n for n in names))
        url = "http://127.0.0.1:%d/" % self.port()
        load.wrk(url, CONNECTIONS, seconds, paths=order)
        before = account.Cpu([self.pid()])
        got = load.wrk(url, CONNECTIONS, seconds, paths=order)
        cpu = account.Cpu([self.pid()]).seconds_since(before)
        if got["errors"] or not got["requests"]:
            raise servers.Trouble("%d of %d answers were bad" % (
                got["errors"], got["requests"]))
        return {"cpu": cpu / got["requests"] * 1e6,
                "rate": got["requests"] / got["seconds"],
                "p99": got["p99"] / 1000,
                "memory": account.memory([self.pid()])["all"] / 1e6}


def name_of(i):
    return "%04d/package-%07d.pkg" % (i // 1000, i)


def some(paths):
    rng = random.Random(paths)
    return [name_of(rng.randrange(paths)) for _ in range(ASKED)]


def paths_line(make, count, seconds):
    count = min(count, FILES)
    with make() as box:
        box.make_tree(count)
        first, _ = box.publish("s")
        box.change()
        _, switch = box.publish("s")
        start = box.restart()
        out = box.measure(["s/" + n for n in some(count)], seconds)
        out.update(publish=first, switch=switch, start=start)
        return out


def sets_line(make, count, seconds):
    """Sets that share no file: an answer is kept for a file and the last set
    that it was asked in, so that what they shared would be made each time."""
    with make() as box:
        names = ["set%02d" % i for i in range(count)]
        first = 0
        for name in names:
            box.make_tree(SET_PATHS, name)
            first += box.publish(name)[0]
        box.change()
        _, switch = box.publish(names[-1])
        start = box.restart()
        rng = random.Random(count)
        out = box.measure(["%s/%s" % (rng.choice(names), n)
                           for n in some(SET_PATHS)], seconds)
        out.update(publish=first, switch=switch, start=start)
        return out


HOLDER = r"""
import socket, sys
port, count, first = map(int, sys.argv[1:4])
path = sys.argv[4]
held = []
for i in range(count):
    s = socket.socket()
    # 200 from each address: one has no more than some 28,000 ports.
    s.bind(("127.0.1.%d" % (1 + (first + i) // 200), 0))
    s.settimeout(20)
    s.connect(("127.0.0.1", port))
    s.sendall(b"GET /%s HTTP/1.1\r\nHost: bench\r\n\r\n" % path.encode())
    if not s.recv(4096).startswith(b"HTTP/1.1 200 "):
        sys.exit("no good answer")
    held.append(s)
print("held", flush=True)
sys.stdin.read()
closed = 0
for s in held:
    s.setblocking(False)
    try:
        if s.recv(1) == b"":
            closed += 1
    except BlockingIOError:
        pass
    except OSError:
        closed += 1
print(closed, flush=True)
"""


def hold(port, count, path):
    """Processes that hold idle connections, each after one request."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most, out, first = soft - SPARE, [], 0
    try:
        while first < count:
            n = min(most, count - first)
            out.append(subprocess.Popen(
                ["python3", "-c", HOLDER, str(port), str(n), str(first),
                 path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True))
            first += n
        for p in out:
            if p.stdout.readline() != "held\n":
                raise servers.Trouble("idle connections: " +
                                      p.stderr.read().strip()[-300:])
    except BaseException:
        release(out)
        raise
    return out


def release(holders):
    """Ends them; how many of their connections had been closed."""
    closed = 0
    for p in holders:
        p.stdin.close()
        closed += int(p.stdout.read().strip() or 0)
        p.wait()
    return closed


def idle_line(make, count, seconds):
    with make() as box:
        box.make_tree(SET_PATHS)
        box.publish("s")
        names = ["s/" + n for n in some(SET_PATHS)]
        box.measure(names, seconds)
        holders = hold(box.port(), count, names[0])
        try:
            out = box.measure(names, seconds)
        finally:
            closed = release(holders)
        if closed:
            raise servers.Trouble("%d of %d idle connections were closed" % (
                closed, count))
        return out


def idle_counts():
    """As many as the descriptors that the edge may have allow."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [min(n, soft - SPARE) for n in IDLE]


def run(say, where, sandbox, options, only, seconds):
    """Prints a line for each; returns them for bench.json."""
    options = ["http.per-address=30000", "http.connections=30000",
               "http.requests-per-connection=1000000000",
               "http.idle-timeout=3600"] + options
    parts = (("paths", paths_line, PATHS), ("sets", sets_line, SETS),
             ("idle", idle_line, idle_counts()))
    known = [w for name, _, counts in parts for w in
             [name] + ["%s/%d" % (name, c) for c in counts]]
    for word in only:
        if word not in known:
            raise servers.Trouble("%s: no such line; there are: %s" % (
                word, " ".join(known)))
    lines = {}
    say(FORM % HEAD)
    for part, measure, counts in parts:
        for count in counts:
            name = "%s/%d" % (part, count)
            if only and part not in only and name not in only:
                continue
            got = measure(lambda: Box(sandbox, where, options), count,
                          seconds)
            lines[name] = got
            say(FORM % ((name,) + tuple(
                "%.4g" % got[k] if k in got else "-" for k in
                ("publish", "switch", "start", "cpu", "rate", "p99",
                 "memory"))))
    return lines
