# SPDX-License-Identifier: BSD-2-Clause
"""What the integration tests share: sandboxes of real daemons, trees to
publish, and requests whose answers are checked to the byte."""
import contextlib
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse

import pytest

from boxenv import read_env

HERE = os.path.dirname(os.path.abspath(__file__))
SANDBOX = os.path.join(HERE, "sandbox")
VARIANT = os.environ.get("PKGCAST_VARIANT", "")
# Sanitizers make everything slower; deadlines stretch, checks stay.
SLOW = {"asan": 3, "tsan": 6}.get(VARIANT, 1)


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=10,
                     help="kill -9 that often in test_crash.py and "
                     "test_crash_fills.py")
    parser.addoption("--files", type=int, default=3000,
                     help="so many small files has the set of test_coded.py "
                     "of which 1%% change")
    parser.addoption("--large", type=int, default=160,
                     help="so many MB has the file of test_fill_limits.py "
                     "that is fetched in pieces")
    parser.addoption("--silence", type=int, default=15,
                     help="for so many seconds links are dead in "
                     "test_silence.py")
    parser.addoption("--plain-faults", type=int, default=150,
                     help="so many faults at random in test_plain_faults.py")


def pytest_configure(config):
    config.addinivalue_line("markers", "quick: runs under sanitizers in CI")


def until(what, seconds=20, pause=0.02):
    """Polls what() until it is true and returns that; fails after seconds."""
    end = time.monotonic() + seconds * SLOW
    while True:
        got = what()
        if got:
            return got
        assert time.monotonic() < end, "not within %d s: %s" % (
            seconds, getattr(what, "__doc__", None) or what)
        time.sleep(pause)


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.body = body
        self.headers = response.headers

    def __getitem__(self, name):
        return self.headers.get(name)

    @property
    def cache_status(self):
        return self.headers.get("Cache-Status", "")

    @property
    def generation(self):
        """Of the generation that answered, from Cache-Status' key."""
        key = self.cache_status.partition('key="')[2].partition('"')[0]
        return int(key.rpartition("@")[2])


def get(base, path, method="GET", headers=None, timeout=30):
    """One request on a connection of its own.  A body that is cut raises
    http.client.IncompleteRead."""
    u = urllib.parse.urlsplit(base)
    c = http.client.HTTPConnection(u.hostname, u.port, timeout=timeout * SLOW)
    try:
        c.putrequest(method, path, skip_accept_encoding=True)
        for k, v in (headers or {}).items():
            c.putheader(k, v)
        c.endheaders()
        r = c.getresponse()
        return Answer(r, r.read())
    finally:
        c.close()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def make_tree(path, files):
    """files: {name: bytes, int (that many random bytes) or "-> target"}."""
    rng = random.Random(repr(sorted(files)))
    for name, content in files.items():
        where = os.path.join(path, name)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        if os.path.lexists(where):
            os.unlink(where)
        if isinstance(content, str):
            os.symlink(content[3:], where)
            continue
        if isinstance(content, int):
            content = rng.randbytes(content)
        with open(where, "wb") as f:
            f.write(content)
    return str(path)


class Box:
    """A sandbox: its environment, its commands, its daemons."""

    def __init__(self, path):
        self.dir = str(path)

    def up(self, *args):
        subprocess.run([sys.executable, SANDBOX, "up", self.dir, *args],
                       check=True, timeout=120 * SLOW)
        return self.read_env()

    def read_env(self):
        self.env = read_env(self.dir)
        self.master = self.env["MASTER_HTTP"]
        self.publish_url = self.env["MASTER_PUBLISH"]
        self.edges = [v for k, v in sorted(self.env.items())
                      if k.startswith("EDGE") and k.endswith("_HTTP")]
        return self

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def pkgcast(self, *args, check=True, timeout=120):
        p = subprocess.run(self.env["PKGCAST"].split() + list(args),
                           capture_output=True, text=True,
                           stdin=subprocess.DEVNULL, timeout=timeout * SLOW)
        if check:
            assert p.returncode == 0, "%s: exit %d\n%s%s" % (
                " ".join(args), p.returncode, p.stdout, p.stderr)
        return p

    def publish(self, name, tree, *args, check=True):
        return self.pkgcast("publish", name, str(tree), *args, check=check)

    def pid(self, name):
        with open(self.path(name + ".pid")) as f:
            return int(f.read())

    def kill(self, name, sig=signal.SIGKILL):
        """Ends a daemon of ours and waits until it is gone."""
        pid = self.pid(name)
        os.kill(pid, sig)
        until(lambda: not alive(pid), 40)

    def start(self, name):
        subprocess.run([sys.executable, SANDBOX, "start", self.dir, name],
                       check=True, timeout=120 * SLOW)

    def spawn(self, name, before=(), env=None):
        """Starts a daemon without waiting for anything, by way of the command
        `before`."""
        program = "master/pkgcast-master" if name == "master" \
            else "edge/pkgcast-edge"
        with open(self.path(name + ".log"), "a") as log:
            p = subprocess.Popen(
                [*before, os.path.join(os.path.dirname(HERE), program), "-f",
                 self.path(name + ".conf")], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, cwd="/",
                env=env)
        with open(self.path(name + ".pid"), "w") as f:
            f.write("%d\n" % p.pid)
        return p

    def log(self, name):
        with open(self.path(name + ".log"), errors="replace") as f:
            return f.read()

    def status(self, base):
        a = get(base, "/.pkgcast/status")
        assert a.status == 200
        return json.loads(a.body)

    def head(self, base, name):
        """Fields of the current head of a set, as base tells them."""
        for doc in get(base, "/.pkgcast/heads").body.decode().split(
                "pkgcast-head 1\n")[1:]:
            fields = dict(l.partition(" ")[::2] for l in doc.split("\n")
                          if l and not l.startswith("entry "))
            if fields["set"] == name:
                return fields
        return None

    def upstream_requests(self):
        """GETs for blobs and paths that the master's origin has logged."""
        with open(self.path("master-access.log")) as f:
            return [l for l in f if '"GET /.pkgcast/blob/' in l and
                    'pkgcast-edge/' in l]

    def down(self):
        subprocess.run([sys.executable, SANDBOX, "down", self.dir],
                       timeout=120 * SLOW, check=True)


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            if f.read().rpartition(")")[2].split()[0] == "Z":
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass
                return False
        return True
    except OSError:
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return not os.path.isdir("/proc/1")


def sanitizer_findings(box):
    marks = ("ERROR: AddressSanitizer", "runtime error:",
             "WARNING: ThreadSanitizer", "ERROR: LeakSanitizer",
             "invariant broken")
    found = []
    for name in os.listdir(box.dir):
        if name.endswith(".log") and not name.endswith("access.log"):
            text = box.log(name[:-4])
            for mark in marks:
                if mark in text:
                    found.append(name + ": " +
                                 text[text.index(mark):][:4000])
    return found


@contextlib.contextmanager
def boxes_below(folder):
    """A function that makes sandboxes, all ended at the end; a finding of a
    sanitizer or a broken invariant in any daemon is a failure."""
    boxes = []

    def make(*args, name="box"):
        box = Box(folder / name)
        boxes.append(box)
        return box.up(*args)

    yield make
    for box in boxes:
        if os.path.exists(box.path("sandbox.json")):
            box.down()
    findings = [f for box in boxes for f in sanitizer_findings(box)]
    assert not findings, "\n".join(findings)
    for box in boxes:
        shutil.rmtree(box.dir, ignore_errors=True)


@pytest.fixture
def sandbox(tmp_path):
    """A function that makes sandboxes for one test."""
    with boxes_below(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One sandbox with two edges for all tests of a file that change nothing
    which the others see (each publishes sets of its own)."""
    with boxes_below(tmp_path_factory.mktemp("shared")) as make:
        yield make()
