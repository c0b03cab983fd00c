# SPDX-License-Identifier: BSD-2-Clause
"""What goes on while the nemesis is at work: publishes one after the other, and
clients that write down every answer.

Each state of the set has a label, a number of its own.  Files say their path
and the label of the state, line by line, so bytes of two states cannot pass for
those of one; some files never change.  Which label a generation has is what
`publish` said, or, where it could not say, what the first answer shows.
"""
import hashlib
import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time

from soak_clients import Closed, Conn, Wrong

SET = "checked"
ENTRY = "meta.conf"
CHANGING = ["f/%02d" % i for i in range(16)]
CONSTANT = ["c/%02d" % i for i in range(4)]
LARGE = ["large/0", "large/1"]          # two and three chunks
LINES = {"large/0": 4200, "large/1": 8300}
LINE = 64
# Entry paths are always of the current generation, but pin what follows; these
# clients read none, so each path is what the current generation has.
ASKED = CHANGING * 3 + CONSTANT + LARGE * 2
HEAD_PART = 0.3
ASK_TIMEOUT = 4
# Some large files are read slowly: a switch comes while they are sent.
SLOW_PART, SLOW_RCVBUF, SLOW_PACE = 0.3, 16384, (250000, 0.1)
PUBLISH_TIMEOUT = 150


def content(path, label):
    if path in CONSTANT:
        label = 0
    n = LINES.get(path) or 3 + int(hashlib.sha256(
        path.encode()).hexdigest()[:4], 16) % 60
    return b"%-40s %22d\n" % (path.encode(), label) * n


def label_of(body):
    m = re.match(rb"\S+ +(\d+)\n", body[:LINE])
    return int(m.group(1)) if m else None


class Log:
    """Lines of JSON, by one process."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1 << 16)
        self.lock = threading.Lock()

    def write(self, record):
        with self.lock:
            self.file.write(json.dumps(record, separators=(",", ":")) + "\n")

    def close(self):
        self.file.close()


def read_log(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


class Publisher(threading.Thread):
    """Publishes, rolls back, repeats; writes down begin, end and status."""

    def __init__(self, command, where, rng, pause):
        super().__init__(daemon=True)
        self.command, self.rng, self.pause = command, rng, pause
        self.tree = os.path.join(where, "tree")
        self.log = Log(os.path.join(where, "publishes.log"))
        self.last = 0                   # label
        self.labels = {}                # of generations
        self.stop = threading.Event()
        self.ended = []                 # events to set when one has ended
        self.fault = None
        for path in [ENTRY, *CHANGING, *CONSTANT, *LARGE]:
            os.makedirs(os.path.dirname(os.path.join(self.tree, path)),
                        exist_ok=True)

    def write_tree(self):
        self.last += 1
        for path in [ENTRY, *CHANGING, *CONSTANT, *LARGE]:
            name = os.path.join(self.tree, path)
            if path in CONSTANT and os.path.exists(name):
                continue
            with open(name + ".new", "wb") as f:
                f.write(content(path, self.last))
            os.rename(name + ".new", name)

    def run(self):
        try:
            while not self.stop.is_set():
                self.step()
                self.stop.wait(self.rng.uniform(0.2, 1) * self.pause)
        except Exception as e:          # its end must not look like idleness
            self.fault = "the publisher ended: %r" % e
            raise
        finally:
            self.log.close()

    def step(self):
        wait = self.rng.choice(("0", "0", "1", "3", None))
        options = [] if wait is None else ["--prepare-wait", wait]
        kept = sorted(self.labels)[-6:-1]
        if kept and self.rng.random() < 0.15:
            back = self.rng.choice(kept)
            self.publish("rollback", self.labels[back],
                         ["rollback", *options, SET, str(back)])
            return
        self.write_tree()
        for _ in range(self.rng.choice((1, 2))):     # a failed one, again
            status = self.publish("publish", self.last, [
                "publish", *options, "--entry", ENTRY, SET, self.tree])
            if status in (0, 3) or self.stop.is_set():
                break

    def publish(self, kind, label, args):
        begin = time.monotonic()
        p = subprocess.Popen(
            self.command + args, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            text, _ = p.communicate(timeout=PUBLISH_TIMEOUT)
        except subprocess.TimeoutExpired:
            p.kill()
            text, _ = p.communicate()
        end = time.monotonic()
        for event in self.ended:
            event.set()
        m = re.search(r"generation (\d+) (?:published|is current)", text)
        missing = re.search(r"lease ran out: (.*)", text)
        generation = int(m.group(1)) if m and p.returncode in (0, 3) else None
        if generation:
            self.labels[generation] = label
        self.log.write({
            "begin": begin, "end": end, "kind": kind,
            "args": " ".join(args[:-1]), "label": label,
            "status": p.returncode, "generation": generation,
            "missing": missing.group(1).split(", ") if missing else [],
            "text": text[-400:]})
        return p.returncode


class Client(threading.Thread):
    """Asks one edge, over a connection that it keeps while it can; again and
    again, or as soon as it is told to."""

    def __init__(self, edge, base, log, end, rng, pause, due=None):
        super().__init__(daemon=True)
        self.edge, self.base, self.log, self.end = edge, base, log, end
        self.rng, self.pause, self.due = rng, pause, due
        self.conn, self.ran = None, False

    def run(self):
        while not self.end.is_set():
            if self.due:
                if not self.due.wait(1):
                    continue
                self.due.clear()
            path = self.rng.choice(ASKED)
            method = "HEAD" if self.rng.random() < HEAD_PART else "GET"
            self.log.write(self.ask(method, path))
            time.sleep(self.rng.uniform(0.5, 1.5) * self.pause)
        self.ran = True

    def ask(self, method, path):
        begin = time.monotonic()
        record = {"begin": begin, "edge": self.edge, "path": path,
                  "method": method, "status": 0}
        slowly = path in LARGE and self.rng.random() < SLOW_PART
        try:
            if slowly:
                self.drop()
            if self.conn is None:
                self.conn = Conn(self.base, SLOW_RCVBUF if slowly else None,
                                 ASK_TIMEOUT)
            self.conn.send(method, "/%s/%s" % (SET, path))
            a = self.conn.answer(method, SLOW_PACE if slowly else None)
            self.note(record, a, path)
            if slowly or a.ended or a.headers.get(
                    "connection", "").lower() == "close":
                self.drop()
        except (OSError, Closed, Wrong, http.client.HTTPException) as e:
            record["error"] = repr(e)[:80]
            self.drop()
        record["end"] = time.monotonic()
        return record

    def drop(self):
        if self.conn is not None:
            self.conn.close()
            self.conn = None

    @staticmethod
    def note(record, a, path):
        told = a.headers.get("cache-status", "")
        key = re.search(r'key="([^"]*)@(\d+)"', told)
        record["status"] = a.status
        record["stale"] = "detail=stale" in told
        record["generation"] = int(key.group(2)) if key and \
            key.group(1) == SET else None
        record["etag"] = a.headers.get("etag", "").strip('"')[:16]
        if record["method"] == "HEAD" or a.status != 200:
            return
        if a.ended:
            record["cut"] = len(a.body)
        label = label_of(a.body)
        whole = content(path, label) if label is not None else None
        if whole is None or (not whole.startswith(a.body) if a.ended else
                             whole != a.body):
            # Only the beginning of a cut body may be too short to tell.
            if not (a.ended and len(a.body) < LINE):
                record["mixed"] = sorted(
                    {l.decode("latin-1") for l in a.body.splitlines()})[:6]
        record["label"] = label


def clients(where, edge, base, end, seed, threads, pause):
    """A process of them, until the event `end`."""
    log = Log(os.path.join(where, "answers.%s.log" % edge))
    crowd = [Client(edge, base, log, end, random.Random(
        "%d %s %d" % (seed, edge, i)), pause) for i in range(threads)]
    for c in crowd:
        c.start()
    for c in crowd:
        c.join()
    log.close()
    if not all(c.ran for c in crowd):
        sys.exit("a client ended before its time")
