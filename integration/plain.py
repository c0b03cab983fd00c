# SPDX-License-Identifier: BSD-2-Clause
"""Edges whose sets are caches of other HTTP servers' trees, with no master."""
import contextlib
import http.client
import importlib.machinery
import importlib.util
import os
import shutil
import signal
import subprocess

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
    list}}; options as for sandbox --edge-option."""

    def __init__(self, path, sets, *options):
        super().__init__(path)
        os.makedirs(self.dir)
        port = sandbox.free_port(set())
        self.base = "http://127.0.0.1:%d" % port
        user = subprocess.check_output(["id", "-un"], text=True).strip()
        sandbox.write_conf(self.path("edge1.conf"), sandbox.merged({
            "": {"name": "edge1", "user": user,
                 "state": self.path("state")},
            "http": {"listen": "127.0.0.1:%d" % port,
                     "access-log": self.path("edge1-access.log")},
            "cache": {"dir": self.path("cache"), "min-free": "0"}},
            sandbox.settings("EDGE_KEYS", options)),
            [("set", {"name": name, **keys}) for name, keys in sets.items()])
        self.process = None

    def start(self):
        self.process = self.spawn("edge1")

        def up():
            assert self.process.poll() is None, self.log("edge1")[-3000:]
            try:
                return self.status(self.base)
            except (OSError, http.client.HTTPException):
                return None
        until(up, 20)
        return self

    def stop(self, sig=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(sig)
        if self.process is not None:
            self.process.wait(40 * SLOW)
        self.process = None

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

    def make(sets, *options):
        edges.append(PlainEdge(folder / ("edge-%d" % len(edges)), sets,
                               *options))
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
