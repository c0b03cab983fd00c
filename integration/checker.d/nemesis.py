# SPDX-License-Identifier: BSD-2-Clause
"""The daemons of a run, each on a host of its own, and who does them harm.

Faults come in rounds: some at once, each for a while, then all is healed and
every edge must be well again within RECOVERY_S.  Of each fault is written down
when it was asked for, when it surely was in force, when its end was asked for
and when it surely was over.
"""
import http.client
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time

from conftest import HERE, SANDBOX, SLOW, VARIANT, Box, get, until
from disks import Tmpfs
from judge import RECOVERY_S
from workload import CHANGING, SET

DISK = 24 << 20                         # of an edge's state and cache
CACHE = "12M"
LOSS, DELAY_S = 0.3, 0.5
NETWORK = ("cut", "loss", "delay", "forget")
PROCESS = ("stop", "kill", "suspend")
KINDS = (*NETWORK, *PROCESS, "clock", "full")
OF_MASTER = ("stop", "kill", "clock")
CLOCK = os.path.join(HERE, "checker.d", "clock.c")


class Hosts:
    """A sandbox whose daemons stand on hosts of that network."""

    def __init__(self, where, net, edges, ttl):
        self.net, self.edges = net, edges
        self.names = ["master", *edges]
        self.box = Box(os.path.join(where, "box"))
        subprocess.run([
            sys.executable, SANDBOX, "make", self.box.dir, "--edges",
            str(len(edges)), "--master-option", "ttl=%d" % ttl,
            "--edge-option", "cache.cache-size=" + CACHE], check=True,
            timeout=120 * SLOW)
        self.box.read_env()
        self.disks, self.process, self.clocks = {}, {}, {}
        self.place()
        self.env = dict(os.environ)
        self.wind_up(where)

    def place(self):
        """Addresses of the hosts instead of 127.0.0.1; small disks."""
        with open(self.box.path("sandbox.json")) as f:
            conf = json.load(f)
        of = {p: "master" for p in conf["ports"].values()}
        of.update({p: e for e, p in conf["edges"].items()})
        files = {n + ".conf": n for n in self.names}
        files["pkgcast.conf"] = "master"
        files.update({"edges/" + e: "master" for e in self.edges})
        for name, host in files.items():
            with open(self.box.path(name)) as f:
                text = f.read()
            text = re.sub(r"127\.0\.0\.1:(\d+)", lambda m: self.net.address(
                host, int(m.group(1)), of[int(m.group(1))]), text)
            if host in self.edges and self.net.mounts and "." in name:
                disk = self.disks[host] = Tmpfs(self.box.path(host), DISK)
                text = text.replace('"%s/' % disk.where,
                                    '"%s/' % disk.mount)
            with open(self.box.path(name), "w") as f:
                f.write(text)
        self.base = {h: "http://" + self.net.address(None, p, h) for h, p in
                     [("master", conf["ports"]["http"]),
                      *conf["edges"].items()]}

    def wind_up(self, where):
        """Clocks that can be stepped, where a library can go before others."""
        if VARIANT in ("asan", "tsan"):
            return
        lib = os.path.join(where, "clock.so")
        cc = os.environ.get("CC", "cc")
        p = subprocess.run([cc, "-shared", "-fPIC", "-o", lib, CLOCK],
                           capture_output=True)
        if p.returncode != 0:
            return
        self.env["LD_PRELOAD"] = lib
        for name in self.names:
            self.clocks[name] = [0, 0]
            self.step_clock(name, 0, 0)

    def step_clock(self, name, real_ms, boot_ms):
        """By so much from now on."""
        clock = self.clocks[name]
        clock[0] += real_ms
        clock[1] += boot_ms
        with open(os.open(self.box.path(name + ".clock"),
                          os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
            f.write(struct.pack("=qq", *clock))

    def kinds(self):
        return [k for k in KINDS if (k != "full" or self.disks) and
                (k not in ("clock", "suspend") or self.clocks)]

    def publish_command(self):
        return self.net.command("master", self.box.env["PKGCAST"].split())

    # -- processes

    def start(self, name):
        self.env["PKGCAST_CLOCK"] = self.box.path(name + ".clock")
        self.process[name] = self.box.spawn(
            name, self.net.command(name, []), dict(self.env))

    def signal(self, name, sig):
        self.process[name].send_signal(sig)
        if sig == signal.SIGKILL:
            self.process[name].wait()
        elif sig == signal.SIGSTOP:
            until(lambda: self.state(name) in "TZ", 10, 0.002)

    def state(self, name):
        try:
            with open("/proc/%d/stat" % self.process[name].pid) as f:
                return f.read().rpartition(")")[2].split()[0]
        except OSError:
            return "T"

    def ended(self):
        return [n for n, p in self.process.items() if p.poll() is not None]

    def wake(self):
        for p in self.process.values():
            p.send_signal(signal.SIGCONT)

    def end(self):
        """What is wrong with their ends."""
        wrong = []
        self.wake()
        for name in [*self.edges, "master"]:
            p = self.process.get(name)
            if p is None or p.poll() is not None:
                continue
            p.terminate()
            try:
                if p.wait(60 * SLOW) != 0:
                    wrong.append("%s: exit status %d" % (name, p.returncode))
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
                wrong.append("%s: no end after TERM" % name)
        for disk in self.disks.values():
            disk.close()
        return wrong

    # -- what they say

    def look(self, host):
        """(generation or 0, whether that is up to date)"""
        try:
            a = get(self.base[host], "/%s/%s" % (SET, CHANGING[0]), "HEAD",
                    timeout=2)
            return a.generation, "stale" not in a.cache_status
        except (OSError, ValueError, http.client.HTTPException):
            return 0, False

    def leased(self):
        """every edge holds a lease"""
        try:
            return all(json.loads(get(
                self.base[e], "/.pkgcast/status", timeout=2).body)[
                    "lease"]["held"] for e in self.edges)
        except (OSError, ValueError, http.client.HTTPException):
            return False


class Nemesis:
    def __init__(self, hosts, rng, ttl, log, newest, kinds=None):
        """newest: a function that tells the newest published generation."""
        self.hosts, self.net, self.rng = hosts, hosts.net, rng
        self.ttl, self.log, self.newest = ttl, log, newest
        self.kinds = [k for k in hosts.kinds() if not kinds or k in kinds]
        self.rounds = 0

    # -- a round

    def round(self):
        """A line that tells about it."""
        self.rounds += 1
        faults, events = self.choose(), []
        start = time.monotonic()
        for f in faults:
            begin = start + f.pop("after")
            events += [(begin, 0, f), (begin + f["lasts"], 1, f)]
        for when, over, f in sorted(events, key=lambda e: e[:2]):
            time.sleep(max(0, when - time.monotonic()))
            self.end(f) if over else self.begin(f)
        took = self.recover()
        return "round %d: %s; %s" % (
            self.rounds, ", ".join(self.tell(f) for f in faults),
            "not well again" if took is None else
            "well again after %.1f s" % took)

    @staticmethod
    def tell(f):
        return "%s %s%s %.1f s" % (f["kind"], f["host"], "".join(
            " " + str(d) for d in f["detail"]), f["lasts"])

    def choose(self):
        """Of each group one fault at most on a host."""
        faults, used = [], set()
        while not faults or self.rng.random() < 0.5 and len(faults) < 6:
            kind = self.rng.choice(self.kinds)
            host = self.rng.choice(self.hosts.edges)
            if kind in OF_MASTER and self.rng.random() < 0.35:
                host = "master"
            hosts = [host]
            if kind == "cut" and self.rng.random() < 0.2:
                hosts = self.hosts.edges        # the master is alone
            shape = self.shape(kind, host)
            for h in hosts:
                group = "net" if kind in NETWORK else \
                    "process" if kind in PROCESS else kind
                if (group, h) not in used:
                    used.add((group, h))
                    faults.append(dict(shape, host=h))
        return faults

    def shape(self, kind, host):
        rng, detail = self.rng, []
        lasts = rng.uniform(1, 10)      # forget: until it is looked at
        if kind in ("cut", "stop", "kill"):     # both sides of a lease
            lasts = self.ttl * rng.choice((rng.uniform(0.05, 0.8),
                                           rng.uniform(1.1, 2)))
        if kind == "cut":
            detail = rng.choice((["in"], ["out"], ["in", "out"],
                                 ["in", "out"]))
        elif kind == "clock":
            most = 300 if host == "master" else 3600
            detail = [round(rng.choice((-1, 1)) * rng.choice((
                rng.uniform(1, 15), rng.uniform(15, most))), 1)]
        elif kind == "suspend":
            detail, lasts = [round(rng.uniform(1, 3 * self.ttl), 1)], 0.2
        return {"kind": kind, "detail": detail, "lasts": lasts,
                "after": rng.uniform(0, 3)}

    def begin(self, f):
        f["asked"] = time.monotonic()
        getattr(self, "begin_" + f["kind"])(f["host"], *f["detail"])
        f["applied"] = time.monotonic()

    def end(self, f):
        f["heal"] = time.monotonic()
        end = getattr(self, "end_" + f["kind"], None)
        if end is not None:
            end(f["host"], *f["detail"])
        f["healed"] = time.monotonic()
        self.log.write(f)

    # -- kinds

    def begin_cut(self, host, *ways):
        self.net.cut(host, ways, True)

    def end_cut(self, host, *ways):
        self.net.cut(host, ways, False)

    def begin_loss(self, host):
        self.net.loss(host, LOSS)

    def end_loss(self, host):
        self.net.loss(host, 0)

    def begin_delay(self, host):
        self.net.delay(host, DELAY_S)

    def end_delay(self, host):
        self.net.delay(host, 0)

    def begin_forget(self, host):
        self.net.forget(host)

    def begin_stop(self, host):
        self.hosts.signal(host, signal.SIGSTOP)

    def end_stop(self, host):
        self.hosts.signal(host, signal.SIGCONT)

    def begin_kill(self, host):
        self.hosts.signal(host, signal.SIGKILL)

    def end_kill(self, host):
        self.hosts.start(host)

    def begin_suspend(self, host, seconds):
        """Its clocks go on, all but the monotonic one."""
        self.hosts.signal(host, signal.SIGSTOP)
        self.hosts.step_clock(host, int(seconds * 1000), int(seconds * 1000))

    def end_suspend(self, host, _):
        self.hosts.signal(host, signal.SIGCONT)

    def begin_clock(self, host, seconds):
        self.hosts.step_clock(host, int(seconds * 1000), 0)

    def end_clock(self, host, seconds):
        self.hosts.step_clock(host, -int(seconds * 1000), 0)

    def begin_full(self, host):
        self.hosts.disks[host].occupy()

    def end_full(self, host):
        self.hosts.disks[host].give_back()

    # -- afterwards

    def revive(self, wrong):
        """A daemon may refuse to start on a full disk; no other ends."""
        for name in self.hosts.ended():
            p = self.hosts.process[name]
            log = self.hosts.box.log(name)[-300:]
            if name == "master" or p.returncode != 1 or \
                    "No space left" not in log:
                wrong.append("%s ended by itself, exit status %d: %s" % (
                    name, p.returncode, log))
            self.hosts.start(name)

    def recover(self):
        """How long it took until all edges were well; None: too long."""
        wrong, begin, took = [], time.monotonic(), None
        self.revive(wrong)
        newest, left = self.newest(), list(self.hosts.edges)
        while left and time.monotonic() < begin + RECOVERY_S * SLOW:
            generation, fresh = self.hosts.look(left[0])
            if fresh and generation >= newest:
                left.pop(0)
            else:
                time.sleep(0.1)
        now = time.monotonic()
        if left:
            wrong.append("%s: not up to date %d s after the last fault" % (
                ", ".join("%s (generation, fresh: %s, wanted %d)" % (
                    e, self.hosts.look(e), newest) for e in left),
                now - begin))
        else:
            took = now - begin
        self.log.write({"kind": "heal", "host": "", "detail": [],
                        "asked": begin, "applied": begin, "heal": now,
                        "healed": now, "took": took, "wrong": wrong})
        return took
