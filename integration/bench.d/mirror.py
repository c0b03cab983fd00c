# SPDX-License-Identifier: BSD-2-Clause
"""An ordinary mirror host and an edge with plain sets of it: what a master and a
subscribed edge (growth.Box) are for published sets."""
import getpass
import http.client
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import time

import servers

HERE = os.path.dirname(os.path.abspath(__file__))
PREFIX = "/mirror"
YEAR = 365 * 24 * 3600
NOBODY = {"conditional": 0, "unchanged": 0, "full": 0, "bytes": 0}


def program(name):
    """A program of the folder above, as a module."""
    loader = importlib.machinery.SourceFileLoader(
        name, os.path.join(os.path.dirname(HERE), name))
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


sandbox = program("sandbox")


class Origin(servers.Nginx):
    """The mirror host.  It has a port for each who asks, whose log it keeps."""
    name = "origin"
    prefix = PREFIX

    def __init__(self, where, tree, names, max_age):
        super().__init__(where, "")
        taken = set()
        self.ports = {n: sandbox.free_port(taken) for n in names}
        self.read = dict.fromkeys(names, 0)
        self.extra = {
            "TREE": tree, "PREFIX": PREFIX, "MAX_AGE": str(max_age),
            "LISTEN": "".join(
                "\t\tlisten 127.0.0.1:%d reuseport backlog=4096;\n" % p
                for p in [self.port, *self.ports.values()])}

    def words(self):
        return [self.program, "-e", os.path.join(self.dir, "error.log"),
                "-c", self.fill_in("origin.conf", "origin.conf")]

    def asked(self, name):
        """What that one has asked for since the last call: requests with a
        condition, those of them that were answered 304, answers with a file
        or a part of one; bytes of all answers, with their heads."""
        path = os.path.join(self.dir, "%d.log" % self.ports[name])
        out = dict(NOBODY)
        if not os.path.exists(path):
            return out
        with open(path) as f:
            f.seek(self.read[name])
            text = f.read()
            self.read[name] = f.tell()
        for line in text.splitlines():
            status, size, condition = line.split(" ", 2)
            if status not in ("200", "206", "304"):
                raise servers.Trouble("the origin answers %s with %s" % (
                    name, status))
            out["conditional"] += condition != '"--"'
            out["unchanged"] += status == "304"
            out["full"] += status != "304"
            out["bytes"] += int(size)
        return out


class Mirror:
    """The files below tree are there for everybody once publish() was called.
    It is all gone afterwards."""
    prefix = PREFIX

    def __init__(self, where, names, options, upstream=None, max_age=YEAR,
                 sets=None):
        """names: who asks the origin.  sets: {name: (set, freshness)}, those of
        the edge, if it is among them; upstream: where its set is found, if not
        at the origin."""
        self.dir = os.path.join(where, "mirror")
        self.tree = os.path.join(where, "tree")
        self.options, self.upstream = options, upstream
        self.sets = {n: s for n, s in (
            sets or {"edge": (PREFIX[1:], "mark")}).items() if n in names}
        os.mkdir(self.dir)
        os.mkdir(self.tree)
        self.origin = Origin(where, self.tree, names, max_age)
        self.http = sandbox.free_port(set(self.origin.ports.values()))
        self.conf, self.child = os.path.join(self.dir, "edge.conf"), None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child is not None:
            self.child.terminate()
            try:
                self.child.wait(servers.STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.origin.stop()
        for folder in (self.dir, self.tree, self.origin.dir):
            shutil.rmtree(folder, ignore_errors=True)

    def origin_port(self):
        return self.origin.port

    def publish(self, _name=None):
        """Starts what serves the files that are there now."""
        self.origin.start()
        if self.sets:
            self.start_edge()

    def start_edge(self):
        self.configure()
        with open(os.path.join(self.dir, "edge.log"), "w") as log:
            self.child = subprocess.Popen(
                [sandbox.EDGE, "-f", self.conf], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, cwd="/", start_new_session=True)
        end = time.monotonic() + servers.START_SECONDS
        while not self.runs():
            if self.child.poll() is not None or time.monotonic() > end:
                with open(os.path.join(self.dir, "edge.log")) as f:
                    raise servers.Trouble("the edge does not run:\n%s" %
                                          f.read()[-2000:])
            time.sleep(0.05)

    def configure(self):
        if not os.path.exists(sandbox.EDGE):
            raise servers.Trouble("%s is not built; run make first" %
                                  sandbox.EDGE)

        def path(name):
            return os.path.join(self.dir, name)
        sandbox.write_conf(self.conf, sandbox.merged(
            {"": {"user": getpass.getuser(), "state": path("state")},
             "http": {"listen": "127.0.0.1:%d" % self.http,
                      "access-log": path("access.log")},
             "cache": {"dir": path("cache"), "min-free": "0"}},
            sandbox.settings("EDGE_KEYS", self.options)),
            [("set", {"name": word, "freshness": freshness,
                      "plain": self.upstream or "http://127.0.0.1:%d%s" % (
                          self.origin.ports[name], PREFIX)})
             for name, (word, freshness) in self.sets.items()])

    def runs(self):
        try:
            return servers.fetch(self.http, "/.pkgcast/status")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def edge(self, name="edge"):
        server = servers.Edge(self.http, self.child.pid)
        server.name, server.prefix = name, "/" + self.sets[name][0]
        server.logs = [os.path.join(self.dir, "access.log")]
        return server

    def mark(self, name="edge"):
        """As one does by hand."""
        p = subprocess.run([sandbox.EDGE, "-f", self.conf, "mark",
                            self.sets[name][0]], capture_output=True,
                           text=True, stdin=subprocess.DEVNULL)
        if p.returncode != 0:
            raise servers.Trouble("mark: exit %d: %s" % (
                p.returncode, p.stderr.strip()))
