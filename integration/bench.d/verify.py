# SPDX-License-Identifier: BSD-2-Clause
"""What it costs to verify files that have not changed.  bench --plain calls run():
10,000 small files lie in every cache; all are to be verified once, each before it
is sent to the client that asks for all of them, and then none is until the next
time.

The edge is told by `pkgcast-edge mark`, once, as it tells itself when a repository
has changed; its time begins there.  What all peers have is that a file's time runs
out, which takes no word at all: the origin gives all files a short one, and the
client comes back after that.  They send what they have of If-None-Match and
If-Modified-Since by themselves.  (Purges and bans have files fetched anew, and
nginx and Squid know nothing else.  Varnish also has soft purges, file by file or,
with another module, by a key; Traffic Server the plugin regex_revalidate, whose
rules each hit is compared with.  Both lead to the same requests as here.)

nginx		proxy_cache_revalidate on (nginx.conf)
varnish		no grace, lest a client be answered before; expired files are kept
		for a day, for their validators (varnish.vcl)
squid		by default; one worker, for two caches would verify all files
		twice (squid.conf)
trafficserver	when_to_revalidate 0: as the origin says (trafficserver.config)
edge-http	the edge by the same rules as these, a set of freshness "http"

The first row is what it took to fill the caches: what verification saves.  What
no row shows: the peers verify whether something has changed or not, as often as
the time that files are good for says, and are late by that time."""
import contextlib
import os
import shutil
import signal
import time

import account
import clients
import cold
import corpus
import mirror
import servers

COUNT, COUNT_QUICK = 10000, 1000
SIZE = 4096
# How long a file is good, in seconds: enough for two passes over all files.
FRESH, FRESH_QUICK = 30, 10
CONNECTIONS = (1, 32, 256)
MANY = 32
PATIENCE = 120
GRAIN = 2                       # a cache's clock goes by seconds
LATE = 0.5                      # work and log lines when the client has gone
SETS = {"edge": ("mirror", "mark"), "edge-http": ("http", "http")}
# key, title, which way is better (0: no ratio)
COLUMNS = (("conditional", "conditional", 0), ("full", "full", 0),
           ("mb", "upstream MB", -1), ("again", "once more", 0),
           ("done", "done s", -1), ("cpu", "CPU us/file", -1),
           ("client", "client cores", 0))


class Asking(servers.Varnish):
    extra = {"GRACE": "0s", "KEEP": "1d"}


class Single(servers.Squid):
    extra = dict(servers.Squid.extra, WORKERS="1")


PEERS = dict(servers.PEERS, varnish=Asking, squid=Single)


class Stage:
    """An origin with that many files, and caches that have none of them."""

    def __init__(self, where, names, options, count, fresh):
        self.where, self.names, self.fresh = where, names, fresh
        self.servers, self.good_until = {}, {}
        self.stack = contextlib.ExitStack()
        self.box = mirror.Mirror(where, names, options, max_age=fresh,
                                 sets=SETS)
        self.stack.enter_context(self.box)
        self.files = {}
        pool = memoryview(os.urandom(corpus.POOL))
        # The first one shows whether a peer runs.
        for i, name in enumerate(["1K"] + [path_of(i) for i in range(count)]):
            path = os.path.join(self.box.tree, name)
            corpus.write(path, i, SIZE, pool)
            if i > 0:
                with open(path, "rb") as f:
                    self.files[name] = f.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.stack.close()
        signal.signal(signal.SIGINT, before)

    def start(self, say):
        self.box.publish()
        for name in self.names:
            if name in SETS:
                self.servers[name] = self.box.edge(name)
                continue
            server = PEERS[name](self.where, "127.0.0.1:%d" %
                                 self.box.origin.ports[name])
            server.prefix = self.box.prefix
            self.stack.callback(shutil.rmtree, server.dir,
                                ignore_errors=True)
            self.stack.callback(server.stop)
            server.start()
            self.servers[name] = server
            say("%s: %s" % (name, server.version))

    def fetch(self, name, connections):
        server = self.servers[name]
        asked = [(("GET %s/%s HTTP/1.1\r\nHost: bench\r\n\r\n" % (
            server.prefix, path)).encode(), body)
            for path, body in self.files.items()]
        return clients.each(server.port, asked, connections, PATIENCE)

    def take(self, name, connections):
        """All files by that one, which lacks them or is to verify them, and
        once more; what the first time took."""
        server, origin = self.servers[name], self.box.origin
        origin.asked(name)
        cpu = account.Cpu(server.pids())
        mine = time.process_time()
        begin = time.monotonic()
        if name == "edge":
            self.box.mark()
        wrong = self.fetch(name, connections)
        wall = time.monotonic() - begin
        mine = time.process_time() - mine
        time.sleep(LATE)
        cpu = account.Cpu(server.pids()).seconds_since(cpu)
        got = origin.asked(name)
        wrong += self.fetch(name, MANY)
        over = time.monotonic()
        again = origin.asked(name)
        self.good_until[name] = over + self.fresh + GRAIN
        return {"conditional": got["conditional"],
                "unchanged": got["unchanged"], "full": got["full"],
                "mb": got["bytes"] / 1e6,
                # Some were due by then, if it took so long.
                "again": again["conditional"] + again["full"]
                if name == "edge" or over - begin < self.fresh else None,
                "done": wall, "cpu": cpu / len(self.files) * 1e6,
                "client": mine / wall, "wrong": wrong}

    def verify(self, name, connections):
        if name != "edge":
            time.sleep(max(0, self.good_until[name] - time.monotonic()))
        return self.take(name, connections)


def path_of(i):
    return "files/%02x/package-%05d.pkg" % (i & 255, i)


def measure(say, stage, rounds):
    cells = []

    def cell(got, row, name, number):
        cells.append(dict(got, row=row, server=name, round=number))
        for why in sorted(set(got["wrong"])):
            say("%s at %s: %d files: %s" % (name, row,
                                            got["wrong"].count(why), why))

    for name in stage.names:
        cell(stage.take(name, MANY), "fill/%d" % MANY, name, 0)
    say("filled")
    for number in range(rounds):
        for i, connections in enumerate(CONNECTIONS):
            turn = (number + i) % len(stage.names)
            for name in stage.names[turn:] + stage.names[:turn]:
                cell(stage.verify(name, connections),
                     "verify/%d" % connections, name, number)
            say("round %d of %d: %d connections" % (number + 1, rounds,
                                                    connections))
    return cells


def aims(cells, count):
    """(what, figure, whether it is met)"""
    mine = [c for c in cells if c["server"] == "edge" and
            c["row"].startswith("verify")]
    out = []
    for key, what, value in (
            ("unchanged", "a condition with each file's request", count),
            ("conditional", "no second one", count),
            ("full", "files fetched again", 0),
            ("again", "requests until the next mark", 0)):
        seen = {c[key] for c in mine}
        if mine:
            out.append(("verify: %s: %d" % (what, value),
                        max(seen, key=lambda v: abs(v - value)),
                        seen == {value}))
    return out


def run(say, where, args):
    """Prints a table for each row; returns them for bench.json."""
    count = COUNT_QUICK if args.quick else COUNT
    fresh = FRESH_QUICK if args.quick else FRESH
    options = cold.EDGE_OPTIONS + [
        "http.requests-per-connection=1000000000"] + args.edge_option
    names = list(args.servers)
    if "edge" in names:
        names.insert(names.index("edge") + 1, "edge-http")
    with Stage(where, names, options, count, fresh) as stage:
        stage.start(say)
        cells = measure(say, stage, args.rounds)
        versions = {n: s.version for n, s in stage.servers.items()}
    rows = list(dict.fromkeys(c["row"] for c in cells))
    cells.sort(key=lambda c: names.index(c["server"]))
    summaries = {row: cold.summarise(cells, row, COLUMNS) for row in rows}
    say("\n%d files of %d bytes, unchanged; the peers' and edge-http's are good "
        "for %d s, the\nedge's until the mark.  Requests upstream: conditional, "
        "answered with the file (full),\nand those of a client that asks for all "
        "once more at once.  Medians of %d rounds; the\nmachine's load at the "
        "end: %.1f" % (count, SIZE, fresh, args.rounds, os.getloadavg()[0]))
    for row in rows:
        cold.print_table(say, row, summaries[row], COLUMNS)
    say("")
    judged = aims(cells, count)
    for what, value, met in judged:
        say("aim: %s: %s, %s" % (what, cold.figure(value),
                                 "met" if met else "not met"))
    return {"verify": {"rounds": args.rounds, "files": count, "size": SIZE,
                       "fresh": fresh, "versions": versions,
                       "edge_options": options, "rows": summaries,
                       "aims": [dict(zip(("aim", "figure", "met"), a))
                                for a in judged], "cells": cells}}
