# SPDX-License-Identifier: BSD-2-Clause
"""The servers that the benchmark compares: the edge of a sandbox, and the peers
in front of the same origin.  Each is started in a folder of its own,
in the foreground, from its configuration beside this file."""
import getpass
import http.client
import os
import resource
import shutil
import signal
import socket
import subprocess
import time

import account

HERE = os.path.dirname(os.path.abspath(__file__))
START_SECONDS = 30
STOP_SECONDS = 20


class Trouble(Exception):
    """What the caller is to tell the user."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def fetch(port, path, headers=None, method="GET"):
    """(status, headers, body) of one request on a connection of its own."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        c.request(method, path, headers=headers or {})
        r = c.getresponse()
        return r.status, r.headers, r.read()
    finally:
        c.close()


class Server:
    """One that listens on port; the set's files lie below prefix."""
    name = version = None
    port = 0
    # A peer asks for, and keeps, the master's pinned addresses: these may be
    # kept for a year, so that no peer has to be told to disregard the origin.
    prefix = "/bench/@1"
    # Emptied after each cell, lest they fill the disk.
    logs = ()

    def roots(self):
        raise NotImplementedError

    def pids(self):
        return account.processes(self.roots())

    def url(self, path):
        return "http://127.0.0.1:%d%s/%s" % (self.port, self.prefix, path)

    def get(self, path, headers=None):
        return fetch(self.port, "%s/%s" % (self.prefix, path), headers)

    def each_cache(self):
        """Yields for each cache that it keeps, while that one answers."""
        yield

    def output(self):
        return ""

    def start(self):
        pass

    def stop(self):
        pass


class Edge(Server):
    """The edge of a sandbox or a mirror, which starts and stops it."""
    name = "edge"
    # As its users ask: the current generation.
    prefix = "/bench"

    def __init__(self, port, pid):
        self.port, self.pid = port, pid
        self.version = "pkgcast-edge"

    def roots(self):
        return [self.pid]


class Peer(Server):
    program = None
    version_words = ("-v",)
    # More words of its configuration that are filled in.
    extra = {}

    def __init__(self, where, origin):
        self.program = shutil.which(self.program, path=os.environ["PATH"] +
                                    ":/usr/sbin:/usr/local/sbin")
        if self.program is None:
            raise Trouble("%s is not installed; run: sh integration/deps bench"
                          % type(self).program)
        self.dir = os.path.join(where, self.name)
        os.mkdir(self.dir, 0o755)
        self.port = free_port()
        self.origin = origin
        p = subprocess.run([self.program] + list(self.version_words),
                           capture_output=True, text=True,
                           stdin=subprocess.DEVNULL)
        self.version = (p.stdout + p.stderr).split("\n")[0].strip()
        self.child = None
        self.logs = [os.path.join(self.dir, n) for n in
                     ("access.log", "access-1.log", "access-2.log",
                      "squid.blog")]

    def fill_in(self, source, target):
        with open(os.path.join(HERE, source)) as f:
            text = f.read()
        host, _, port = self.origin.partition(":")
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        open_files = max(1000, min(60000, most - 4096))
        for word, value in (("DIR", self.dir), ("PORT", str(self.port)),
                            ("ORIGIN", self.origin), ("ORIGIN_HOST", host),
                            ("ORIGIN_PORT", port), ("USER", self.user()),
                            ("OPEN_FILES", str(open_files)),
                            *self.extra.items()):
            text = text.replace("@%s@" % word, value)
        path = os.path.join(self.dir, target)
        with open(path, "w") as f:
            f.write(text)
        return path

    def user(self):
        return getpass.getuser()

    def words(self):
        """Prepares the folder; the command that runs in the foreground."""
        raise NotImplementedError

    def start(self):
        with open(os.path.join(self.dir, "output"), "w") as out:
            self.child = subprocess.Popen(
                self.words(), stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, cwd=self.dir, start_new_session=True)
        end = time.monotonic() + START_SECONDS
        while True:
            if self.child.poll() is not None or time.monotonic() > end:
                raise Trouble("%s does not run; its output:\n%s" % (
                    self.name, self.output()))
            try:
                if self.get("1K")[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.1)

    def output(self):
        text = ""
        for name in ("output", "error.log", "cache.log", "diags.log"):
            path = os.path.join(self.dir, name)
            if os.path.exists(path):
                with open(path, errors="replace") as f:
                    text += f.read()[-2000:]
        return text

    def roots(self):
        return [self.child.pid]

    def stop(self):
        """All that it started too; what does not end is killed."""
        if self.child is None:
            return
        pids = self.pids()
        if self.child.poll() is None:
            self.child.terminate()
        end = time.monotonic() + STOP_SECONDS
        while self.child.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        for pid in pids:
            if pid != self.child.pid or self.child.poll() is None:
                try:
                    # Only while it is still in the session made for it.
                    if os.getsid(pid) == self.child.pid:
                        os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
        self.child.wait()


class Nginx(Peer):
    name = program = "nginx"
    extra = {"SLICE": "", "RANGE": ""}

    def words(self):
        return [self.program, "-e", os.path.join(self.dir, "error.log"),
                "-c", self.fill_in("nginx.conf", "nginx.conf")]


class Varnish(Peer):
    name, program = "varnish", "varnishd"
    version_words = ("-V",)
    extra = {"GRACE": "1h", "KEEP": "0s"}

    def words(self):
        return [self.program, "-F", "-n", os.path.join(self.dir, "work"),
                "-a", "127.0.0.1:%d" % self.port,
                "-f", self.fill_in("varnish.vcl", "mirror.vcl"),
                # No jail: all runs as the user that runs the benchmark.
                "-j", "none",
                # All of the set in memory.
                "-s", "malloc,6g",
                # A pool per core, with a thread for each connection of the
                # largest row in each, made before they are needed.
                "-p", "thread_pools=2", "-p", "thread_pool_min=300",
                "-p", "thread_pool_max=4000",
                # Packages are compressed already; no gzip handling at all.
                "-p", "http_gzip_support=off",
                # Never closed by a clock during a run.
                "-p", "timeout_idle=3600",
                # Its log is the one in shared memory, which is always on;
                # varnishncsa, a process of its own that would write it out,
                # does not run.  (That is to Varnish's advantage.)
                ]


class Squid(Peer):
    name = program = "squid"
    extra = {"COLLAPSED": "off", "WORKERS": "2"}

    def user(self):
        # As root, Squid wants another user for its work.
        return "proxy" if os.geteuid() == 0 else getpass.getuser()

    def words(self):
        if os.geteuid() == 0:
            shutil.chown(self.dir, self.user())
        # A service name of its own: its shared memory is named after that.
        return [self.program, "--foreground", "-n",
                "bench%d" % os.getpid(),
                "-f", self.fill_in("squid.conf", "squid.conf")]

    def each_cache(self):
        """Its workers share no cache, and chance decides which of them takes
        a connection: all but one are halted."""
        workers = [pid for pid in self.pids() if self.is_worker(pid)]
        if len(workers) != 2:
            raise Trouble("squid has %d workers" % len(workers))
        for halted in workers:
            os.kill(halted, signal.SIGSTOP)
            try:
                yield
            finally:
                os.kill(halted, signal.SIGCONT)

    @staticmethod
    def is_worker(pid):
        with open("/proc/%d/cmdline" % pid) as f:
            return f.read().startswith(("(squid-1)", "(squid-2)"))

    def stop(self):
        super().stop()
        for folder in ("/dev/shm", "/run/squid"):
            if os.path.isdir(folder):
                for name in os.listdir(folder):
                    if name.startswith(("bench%d-" % os.getpid(),
                                        "squid-bench%d-" % os.getpid())):
                        os.unlink(os.path.join(folder, name))


class TrafficServer(Peer):
    name, program = "trafficserver", "traffic_server"
    version_words = ("-V",)

    def words(self):
        conf = os.path.join(self.dir, "etc")
        for folder in ("etc", "cache", "run"):
            os.mkdir(os.path.join(self.dir, folder))
        for name in os.listdir("/etc/trafficserver"):
            source = os.path.join("/etc/trafficserver", name)
            if os.path.isfile(source):
                shutil.copy(source, conf)
        self.fill_in("trafficserver.config", "etc/records.config")
        self.write("etc/remap.config", "map / http://%s/\n" % self.origin)
        self.write("etc/storage.config",
                   "%s/cache 4G\n" % self.dir)
        layout = {"prefix": self.dir, "exec_prefix": self.dir,
                  "bindir": os.path.dirname(self.program),
                  "sbindir": os.path.dirname(self.program),
                  "sysconfdir": conf, "datadir": self.dir,
                  "includedir": self.dir, "libdir": "/usr/lib/trafficserver",
                  "libexecdir": "/usr/lib/trafficserver/modules",
                  "localstatedir": self.dir, "logdir": self.dir,
                  "runtimedir": os.path.join(self.dir, "run"),
                  "cachedir": os.path.join(self.dir, "cache")}
        self.write("runroot.yaml", "".join(
            "%s: %s\n" % kv for kv in layout.items()))
        return [self.program, "--run-root=%s/runroot.yaml" % self.dir]

    def write(self, name, text):
        with open(os.path.join(self.dir, name), "w") as f:
            f.write(text)


PEERS = {c.name: c for c in (Nginx, Varnish, Squid, TrafficServer)}
NAMES = ["edge"] + list(PEERS)
