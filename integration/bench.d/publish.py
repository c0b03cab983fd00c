# SPDX-License-Identifier: BSD-2-Clause
"""What publishing a mirror's worth of packages takes, beside rsync, which mirrors
are fed with today.  bench --publish calls run().

A set of 30,000 files, 20 GB, is published to a master with one edge; then 5% of
the files are others; then nothing changed.  The publisher has a home and a
configuration of its own and talks HTTP to the master, as from another host.
Then rsync pushes the same tree, through the same changes, to a daemon: without
digests, and with --checksum, which tells what pkgcast's digests tell.  rsync
leaves its files to the system to write; "+ sync" is until they are on the disk,
as a publish is when it returns.  Nothing waits for the disk when a measurement
begins.

Files are sparse but for a first line that no other has: what reads them reads
as many bytes, and what is written is zeros, in full (the store is measured).
"""
import os
import random
import re
import shutil
import statistics
import subprocess
import time

import account
import corpus
import growth
import servers

FILES, BYTES = 30000, 20 * 1000 * 1000 * 1000
QUICK = 10                      # a tenth of both
CHANGED = 0.05
# Longer than a publisher mistrusts what it has just seen change (scan.h).
SETTLE = 2.5
STEPS = ("read", "sent", "tree", "prepared", "switched")
SAMPLE = 50                     # files that are compared
SLACK = 0.97                    # of the set's bytes are on the store's disk
SAME_SECONDS = 2.0
# -W: packages are compressed, no part of one is in the next.  What mirrors add
# so that no client sees half of a change for long.
RSYNC = ["rsync", "-a", "-W", "--delete-delay", "--delay-updates"]
CASES = ("first", "changed", "same")
PATIENCE = 1800
HEAD = ("case", "by") + STEPS + ("all s", "+ sync", "CPU s")
FORM = "%-8s %-14s" + " %8s" * (len(HEAD) - 2)


class Tree:
    """The set as it lies on the publisher's disk."""

    def __init__(self, where, quick):
        self.dir = os.path.join(where, "packages")
        scale = QUICK if quick else 1
        self.sizes = corpus.mirror_sizes(FILES // scale, BYTES // scale)
        self.all = range(len(self.sizes))
        self.round = 0
        rng = random.Random(5)
        self.some = rng.sample(self.all, int(len(self.sizes) * CHANGED))

    def name(self, i):
        return "All/%03x/package-%05d.pkg" % (i >> 8, i)

    def path(self, i):
        return os.path.join(self.dir, self.name(i))

    def line(self, i, number):
        return b"package %d in state %d\n" % (i, number)

    def write(self, which):
        """These become others: new files, as a build makes them."""
        self.round += 1
        for i in which:
            new = os.path.join(self.dir, ".new")
            os.makedirs(os.path.dirname(self.path(i)), exist_ok=True)
            with open(new, "wb") as f:
                f.write(self.line(i, self.round))
                f.truncate(self.sizes[i])
            os.rename(new, self.path(i))
        time.sleep(SETTLE)

    def bytes(self, which):
        return sum(self.sizes[i] for i in which)

    def sample(self):
        return random.Random(self.round).sample(self.some, SAMPLE)


def timed(argv, pids):
    """Runs a command; what that took, and its output."""
    os.sync()
    before, mine = account.Cpu(pids()), os.times()
    begin = time.monotonic()
    p = subprocess.run(argv, text=True, capture_output=True,
                       stdin=subprocess.DEVNULL, timeout=PATIENCE)
    took = time.monotonic() - begin
    os.sync()
    synced = time.monotonic() - begin
    if p.returncode != 0:
        raise servers.Trouble("%s: exit %d: %s" % (
            os.path.basename(argv[0]), p.returncode,
            (p.stdout + p.stderr).strip()[-500:]))
    after = os.times()
    cpu = (after.children_user - mine.children_user +
           after.children_system - mine.children_system +
           account.Cpu(pids()).seconds_since(before))
    return {"all": took, "synced": synced, "cpu": cpu}, p.stdout + p.stderr


class Pkgcast:
    """A master with an edge, and a publisher elsewhere."""
    words = [[]]

    def __init__(self, where, sandbox, tree, options):
        self.tree = tree
        self.box = growth.Box(sandbox, where, options)
        self.home = os.path.join(where, "publisher")

    def __enter__(self):
        self.box.__enter__()
        try:
            self.make_home()
        except BaseException:
            self.box.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.box.__exit__()
        shutil.rmtree(self.home, ignore_errors=True)

    def make_home(self):
        os.mkdir(self.home, 0o700)
        key = os.path.join(self.home, "publisher.key")
        shutil.copy(os.path.join(self.box.dir, "home", "publisher.key"), key)
        os.chmod(key, 0o600)
        with open(os.path.join(self.home, "pkgcast.conf"), "w") as f:
            f.write('publish = "%s"\norigin = "%s"\nkey = "%s"\n'
                    'home = "%s"\n' % (
                        self.box.env["MASTER_PUBLISH"],
                        self.box.env["MASTER_HTTP"], key, self.home))
        self.command = [self.box.env["PKGCAST"].split()[0], "-v", "-c",
                        os.path.join(self.home, "pkgcast.conf"), "publish",
                        "bench", self.tree.dir]

    def pids(self):
        return [int(self.box.env["MASTER_PID"])]

    def run(self, case, words):
        got, text = timed(self.command + words, self.pids)
        if case == "same":
            if "nothing changed" not in text:
                raise servers.Trouble("publish: something changed: " + text)
            return got
        if "switched 1 of 1 edges" not in text:
            raise servers.Trouble("publish: the edge did not switch: " + text)
        for step in STEPS:
            got[step] = float(re.search(step + r" ([0-9.]+) s", text)[1])
        self.compare()
        return got

    def compare(self):
        """What the master answers is what was published."""
        for i in self.tree.sample():
            line = self.tree.line(i, self.tree.round)
            status, head, body = servers.fetch(
                self.box.port("MASTER"), "/bench/" + self.tree.name(i))
            if (status != 200 or len(body) != self.tree.sizes[i] or
                    not body.startswith(line[:len(body)])):
                raise servers.Trouble("the master answers %s with %d, %d "
                                      "bytes" % (self.tree.name(i), status,
                                                 len(body)))

    def stored(self):
        """Bytes that the store takes up on disk."""
        with os.scandir(os.path.join(self.box.dir, "master", "blob")) as d:
            return sum(e.stat().st_blocks * 512 for e in d)


class Rsync:
    """A daemon that takes what is pushed."""
    words = [[], ["--checksum"]]

    def __init__(self, where, tree):
        self.tree = tree
        self.dir = os.path.join(where, "rsync")
        self.to = os.path.join(self.dir, "to")
        self.daemon = None

    def __enter__(self):
        os.makedirs(self.to)
        conf = os.path.join(self.dir, "conf")
        with open(conf, "w") as f:
            f.write("use chroot = no\nlog file = %s\n%s[to]\n"
                    "\tpath = %s\n\tread only = no\n" % (
                        os.path.join(self.dir, "log"),
                        "uid = 0\ngid = 0\n" if os.getuid() == 0 else "",
                        self.to))
        port = servers.free_port()
        self.url = "rsync://127.0.0.1:%d/to/" % port
        self.daemon = subprocess.Popen(
            ["rsync", "--daemon", "--no-detach", "--config", conf, "--port",
             str(port), "--address", "127.0.0.1"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL)
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait(self):
        end = time.monotonic() + 20
        while subprocess.run(["rsync", self.url], stdin=subprocess.DEVNULL,
                             capture_output=True).returncode != 0:
            if time.monotonic() > end or self.daemon.poll() is not None:
                raise servers.Trouble("rsync --daemon does not answer")
            time.sleep(0.1)

    def __exit__(self, *_):
        self.daemon.terminate()
        self.daemon.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def pids(self):
        return account.processes([self.daemon.pid])

    def run(self, case, words):
        # Its process for a connection is gone when the client is: its time is
        # in the daemon's, which has waited for it.
        before = self.waited()
        got, _ = timed(RSYNC + words + [self.tree.dir + "/", self.url],
                       lambda: [])
        time.sleep(0.2)
        got["cpu"] += self.waited() - before
        for i in self.tree.sample():
            with open(os.path.join(self.to, self.tree.name(i)), "rb") as f:
                line = self.tree.line(i, self.tree.round)
                if (f.read(len(line)) != line[:self.tree.sizes[i]] or
                        os.fstat(f.fileno()).st_size != self.tree.sizes[i]):
                    raise servers.Trouble("rsync left another " +
                                          self.tree.name(i))
        return got

    def waited(self):
        """Seconds of CPU of the daemon's children that ended."""
        with open("/proc/%d/stat" % self.daemon.pid) as f:
            words = f.read().rpartition(")")[2].split()
        return (int(words[13]) + int(words[14])) / account.TICK


def middle(cells):
    return {k: statistics.median(c[k] for c in cells) for k in cells[0]}


def measure(say, tool, name, tree, rounds, cells):
    """All cases by one of the two; each line as soon as it is known."""
    if tree.round == 0:
        tree.write(tree.all)
    for case in CASES:
        ways = tool.words if case != "first" else tool.words[:1]
        for words in ways:
            # Who reads everything twice does that once.
            count = rounds if not words and case != "first" else 1
            got = []
            for _ in range(count):
                if case == "changed":
                    tree.write(tree.some)
                got.append(tool.run(case, words))
            label = " ".join([name] + ["-c" for _ in words])
            cells[case, label] = dict(middle(got), rounds=count)
            say(row(case, label, cells[case, label]))


def row(case, label, cell):
    # Synced means nothing for what writes nothing, or has synced.
    return FORM % ((case, label) + tuple(
        "%.1f" % cell[k] if k in cell else "-" for k in STEPS) +
        ("%.2f" % cell["all"],
         "%.2f" % cell["synced"] if case != "same" else "-",
         "%.2f" % cell["cpu"]))


def aims(cells):
    """(what, figure, whether it is met)"""
    same = cells["same", "pkgcast"]["all"]
    mine, out = cells["changed", "pkgcast"]["all"], []
    out.append(("nothing changed: below %.0f s" % SAME_SECONDS, same,
                same < SAME_SECONDS))
    for label, key in (("rsync", "synced"), ("rsync -c", "synced")):
        theirs = cells["changed", label][key]
        out.append(("5%% changed: of the time of %s + sync, at most 1" %
                    label, mine / theirs, mine <= theirs))
    return out


def room(args):
    """Bytes of memory and of disk: what is written waits in memory, one of the
    two at a time keeps the set, and changes besides."""
    size = BYTES // (QUICK if args.quick else 1)
    return 2 << 30, int(size * (1 + CHANGED * (2 + 2 * args.rounds))) + (
        2 << 30)


def run(say, where, sandbox, args):
    """Prints a line for each case and tool; returns them for bench.json."""
    tree, cells = Tree(where, args.quick), {}
    text = subprocess.run(["rsync", "--version"], capture_output=True,
                          text=True).stdout.split("\n")[0]
    say("%d files, %.1f GB, of which %d with %.2f GB change; %s" % (
        len(tree.sizes), tree.bytes(tree.all) / 1e9, len(tree.some),
        tree.bytes(tree.some) / 1e9, text))
    say(FORM % HEAD)
    with Pkgcast(where, sandbox, tree, args.edge_option) as tool:
        measure(say, tool, "pkgcast", tree, args.rounds, cells)
        stored = tool.stored()
    if stored < tree.bytes(tree.all) * SLACK:
        raise servers.Trouble("the store has %d bytes on disk: sparse files, "
                              "which nobody publishes" % stored)
    say("(the store takes up %.1f GB on disk)" % (stored / 1e9))
    with Rsync(where, tree) as tool:
        measure(say, tool, "rsync", tree, args.rounds, cells)
    judged = aims(cells)
    for what, value, met in judged:
        say("aim: %s: %.2f, %s" % (what, value, "met" if met else "not met"))
    return {"publish": {
        "rsync": text, "options": RSYNC, "files": len(tree.sizes),
        "bytes": tree.bytes(tree.all), "changed_files": len(tree.some),
        "changed_bytes": tree.bytes(tree.some), "stored": stored,
        "cells": [dict(c, case=case, by=by)
                  for (case, by), c in cells.items()],
        "aims": [dict(zip(("aim", "figure", "met"), a)) for a in judged]}}
