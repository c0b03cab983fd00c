# SPDX-License-Identifier: BSD-2-Clause
"""Edges whose sets are caches of other HTTP servers' trees, with no master."""
import contextlib
import getpass
import http.client
import importlib.machinery
import importlib.util
import os
import shutil
import signal
import subprocess

import pytest

from conftest import SANDBOX, SLOW, Box, get, sanitizer_findings, until

DAY = "86400"                           # a poll that no test sees twice


def load_sandbox():
    """The sandbox's own functions: it has no name that `import` takes."""
    loader = importlib.machinery.SourceFileLoader("sandbox", SANDBOX)
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("sandbox", loader))
    loader.exec_module(module)
    return module


sandbox = load_sandbox()


class Cut:
    """An answer that ended early, with what came of it."""
    status = None

    def __init__(self, partial):
        self.body = partial


class PlainEdge(Box):
    """An edge with nothing but plain sets.  sets: {name: {key: value or
    list}}; options as for sandbox --edge-option; name: None, it has none."""

    def __init__(self, path, sets, *options, name="edge1"):
        super().__init__(path)
        os.makedirs(self.dir)
        self.port = sandbox.free_port(set())
        self.base = "http://127.0.0.1:%d" % self.port
        self.name = name
        self.process = None
        self.configure(sets, *options)

    def configure(self, sets, *options):
        top = {} if self.name is None else {"name": self.name}
        sandbox.write_conf(self.path("edge1.conf"), sandbox.merged({
            "": {**top, "user": getpass.getuser(),
                 "state": self.path("state")},
            "http": {"listen": "127.0.0.1:%d" % self.port,
                     "access-log": self.path("edge1-access.log")},
            "cache": {"dir": self.path("cache"), "min-free": "0"}},
            sandbox.settings("EDGE_KEYS", options)),
            [("set", {"name": name, **keys}) for name, keys in sets.items()])

    def start(self):
        """Until it has said that it is ready: it answers before that, while
        the control socket and the polls are still to come."""
        before = self.ready_lines()
        self.process = self.spawn("edge1")

        def up():
            assert self.process.poll() is None, self.log("edge1")[-3000:]
            return self.ready_lines() > before
        until(up, 20)
        return self

    def ready_lines(self):
        try:
            return self.log("edge1").count(" ready ")
        except FileNotFoundError:
            return 0

    def stop(self, sig=signal.SIGTERM):
        """The exit status, or None when it did not run."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        process, self.process = self.process, None
        return process.wait(40 * SLOW)

    def restart(self, sig=signal.SIGTERM):
        self.stop(sig)
        self.start()

    def get(self, path, method="GET", timeout=30, **headers):
        """Headers with _ for - in their names."""
        return get(self.base, path, method,
                   {k.replace("_", "-"): v for k, v in headers.items()},
                   timeout)

    def ask(self, path, **headers):
        """The same, and a Cut where it ended early."""
        try:
            return self.get(path, **headers)
        except http.client.IncompleteRead as e:
            return Cut(e.partial)
        except (http.client.RemoteDisconnected, ConnectionError):
            return Cut(b"")

    def command(self, *words):
        return subprocess.run(
            [sandbox.EDGE, "-f", self.path("edge1.conf"), *words],
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=30 * SLOW)

    def mark(self, name):
        p = self.command("mark", name)
        assert p.returncode == 0, p.stdout + p.stderr

    def fills(self):
        """How many have ended."""
        c = self.status(self.base)["counters"]
        return c["fills"] + c["fills_failed"] + c["fills_unstored"]

    def blobs(self):
        """Digests of all that is in the store."""
        return {name for _, _, names in os.walk(self.path("cache", "blob"))
                for name in names}


@contextlib.contextmanager
def plain_edges(folder):
    """A function that makes running edges, all ended at the end; a finding of
    a sanitizer or a broken invariant is a failure."""
    edges = []

    def make(sets, *options, **more):
        edges.append(PlainEdge(folder / ("edge-%d" % len(edges)), sets,
                               *options, **more))
        return edges[-1].start()

    try:
        yield make
    finally:
        for e in edges:
            e.stop()
    findings = [f for e in edges for f in sanitizer_findings(e)]
    assert not findings, "\n".join(findings)
    for e in edges:
        shutil.rmtree(e.dir, ignore_errors=True)


@pytest.fixture
def edges(tmp_path):
    """For tests to import."""
    with plain_edges(tmp_path) as make:
        yield make
