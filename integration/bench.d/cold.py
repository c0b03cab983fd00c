# SPDX-License-Identifier: BSD-2-Clause
"""What it takes to get files that no cache has yet.  bench --cold and --plain
call run(); for each part an origin (a master, or an ordinary mirror host) and all
servers start with nothing, and each round asks each of them in turn for files that
are new to it.

crowd: 100 clients that come within half a second for one file of 40 MB, over a
line of 20 MB/s from the origin (link.py).  tail: a client that wants the last 64
KiB of such a file when another has just begun to download it; alone: without
that other one.  whole: one client for one file of 1 GB, straight from the
origin.  The row "straight" has no cache: what line and client are good for; its
chunk is the time until 256 KiB are there, which is when an edge may begin."""
import contextlib
import os
import shutil
import signal
import statistics
import time

import account
import clients
import corpus
import servers
from link import Link

LATE = 0.5                              # seconds
CROWD, SPREAD = 100, 0.5
RATE, SIZE = 20 * 1000 * 1000, 40 * 1000 * 1000
TAIL = 64 << 10
AFTER = 0.05                    # the other client has been sent something
WHOLE, WHOLE_QUICK = 1000 * 1000 * 1000, 200 * 1000 * 1000
PATIENCE = 90                   # then a client gives up: it counts as wrong
# What an edge may take until the first bytes are out, besides the time until a
# client without a cache has a whole chunk; how late the last one may be through.
SLACK_MS = 2
SLACK_DONE = 1.05
TAIL_MS = 100
OF_NGINX = 0.8
EDGE_OPTIONS = ["http.per-address=30000", "http.connections=30000"]
ROWS = {"crowd": ("crowd",), "tail": ("tail", "alone"), "whole": ("whole",)}
# key, title, which way is better (0: no ratio), form
COLUMNS = {
    "crowd": (("first", "first ms", -1), ("p50", "p50 ms", -1),
              ("max", "max ms", -1), ("chunk", "chunk ms", 0), ("taken", "upstream", -1),
              ("done", "done s", -1), ("ideal", "/ideal", 0),
              ("cpu", "CPU s", -1), ("client", "client cores", 0)),
    "tail": (("ms", "tail ms", -1), ("status", "status", 0),
             ("taken", "upstream", -1)),
    "whole": (("mbs", "MB/s", 1), ("cpu", "CPU s/GB", -1),
              ("first", "first ms", -1), ("client", "client cores", 0))}
COLUMNS["alone"] = COLUMNS["tail"]
# Not among the peers that the edge is compared with.
OURS = ("edge", "edge-http", "straight")


class Sliced(servers.Nginx):
    """nginx fills a file as one, and its others wait until it is there.  With
    its slice module it fetches and keeps pieces: the other way to set it up for
    large files.  1 MB is the example of its manual."""
    name = "nginx-slice"
    extra = {"SLICE": "slice 1m;\n\t\t\tproxy_set_header Range $slice_range;",
             "RANGE": "$slice_range"}


class Collapsing(servers.Squid):
    """One fetch for all who ask a worker, which hits are slower for."""
    extra = dict(servers.Squid.extra, COLLAPSED="on")


PEERS = dict(servers.PEERS, squid=Collapsing)
PEERS["nginx-slice"] = Sliced


class Stage:
    """An origin and caches in front of it that are empty, but for one small file
    of the peers, which shows that they run."""

    def __init__(self, where, make_box, names, rate):
        """make_box: of where the edge finds the files, or [], a growth.Box or
        mirror.Mirror."""
        self.where, self.rate = where, rate
        self.names, self.servers, self.links = names, {}, {}
        self.stack = contextlib.ExitStack()
        try:
            for name in ["straight"] + names if rate else []:
                self.links[name] = Link(rate)
            self.box = make_box(["http://127.0.0.1:%d" % self.links[
                "edge"].port] if "edge" in self.links else [])
            self.stack.enter_context(self.box)
            self.origin = self.box.origin_port()
            for link in self.links.values():
                link.lead(self.origin)
        except BaseException:
            self.close()
            raise

    def close(self):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Else a daemon waits for what is still on the line.
        for link in self.links.values():
            link.stop()
        self.stack.close()
        signal.signal(signal.SIGINT, before)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def publish(self, files):
        """{name: size}, each unlike all others"""
        pool = memoryview(os.urandom(corpus.POOL))
        for i, (name, size) in enumerate(dict(files, **{"1K": 1024}).items()):
            corpus.write(os.path.join(self.box.tree, name), i, size, pool)
        self.box.publish("bench")

    def start(self, say):
        for name in self.names:
            if name == "edge":
                server = self.box.edge()
            else:
                server = PEERS[name](self.where, "127.0.0.1:%d" %
                                     self.port(name))
                server.prefix = self.box.prefix
                self.stack.callback(shutil.rmtree, server.dir,
                                    ignore_errors=True)
                self.stack.callback(server.stop)
                server.start()
                say("%s: %s" % (name, server.version))
            self.servers[name] = server

    def in_turn(self, number):
        """Nobody is always the first, or after the same one."""
        turn = number % len(self.names)
        return self.names[turn:] + self.names[:turn]

    def truth(self, name):
        return clients.Truth(os.path.join(self.box.tree, name))

    def settle(self, name):
        if self.rate:
            return self.links[name].settle()
        time.sleep(LATE)                # no line tells when all is done
        return 0

    def ask(self, name, asked, patience=PATIENCE):
        """Has the clients of a cell ask; what that took."""
        # Nobody writes to the disk what another one has left.
        os.sync()
        server = self.servers.get(name)
        pids = server.pids() if server else []
        taken, cpu = self.settle(name), account.Cpu(pids)
        mine = time.process_time()
        begin = time.monotonic()
        clients.run(asked, patience)
        wall = time.monotonic() - begin
        mine = time.process_time() - mine
        # Bytes and work of what goes on when the clients have gone count too.
        taken = self.settle(name) - taken
        os.sync()
        after = account.Cpu(server.pids() if server else [])
        return {"taken": taken / asked[0].truth.size if self.rate else None,
                "cpu": after.seconds_since(cpu) if server else None,
                "client": mine / wall,
                "wrong": [c.wrong for c in asked if c.wrong]}

    def port(self, name):
        """Where that one finds the origin."""
        return self.links[name].port if self.rate else self.origin

    def client(self, delay, name, path, truth, part=None):
        server = self.servers.get(name)
        port = server.port if server else self.port(name)
        prefix = server.prefix if server else self.box.prefix
        return clients.Client(delay, port, "%s/%s" % (prefix, path), truth,
                              part)


def crowd(stage, name, number):
    path = "crowd-%d" % number
    truth = stage.truth(path)
    # The line alone is shown by one: the origin would send to each anew.
    count = CROWD if name in stage.servers else 1
    asked = [stage.client(SPREAD * i / count, name, path, truth)
             for i in range(count)]
    got = stage.ask(name, asked)
    first = sorted(c.first for c in asked if c.first is not None)
    ends = [c.begin + c.end for c in asked if c.end is not None]
    done = max(ends) - asked[0].begin if len(ends) == count else None
    got.update(first=ms(asked[0].first), p50=ms(middle(first)),
               max=ms(first[-1] if len(first) == count else None),
               chunk=ms(asked[0].chunk),
               done=done, ideal=done and done / (SIZE / RATE))
    return got


def tail(stage, name, number, other=True):
    path = "%s-%d" % ("tail" if other else "alone", number)
    truth = stage.truth(path)
    one = stage.client(AFTER if other else 0, name, path, truth,
                       (SIZE - TAIL, SIZE - 1))
    asked = [one]
    if other:
        asked.append(stage.client(0, name, path, truth))
    got = stage.ask(name, asked)
    got.update(ms=ms(one.end), status=one.status)
    return got


def whole(stage, name, number):
    path = "whole-%d" % number
    truth = stage.truth(path)
    one = stage.client(0, name, path, truth)
    got = stage.ask(name, [one])
    got.update(first=ms(one.first),
               mbs=one.end and truth.size / one.end / 1e6,
               cpu=got["cpu"] and got["cpu"] / truth.size * 1e9)
    return got


MEASURES = {"crowd": crowd, "tail": tail, "whole": whole,
            "alone": lambda *a: tail(*a, other=False)}


def ms(seconds):
    return None if seconds is None else seconds * 1000


def most(values):
    return max([v for v in values if v is not None], default=None)


def middle(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def measure(say, stage, rows, rounds):
    cells = []
    for number in range(rounds):
        for row in rows:
            for name in ["straight"] + stage.in_turn(number):
                got = MEASURES[row](stage, name, number)
                cells.append(dict(got, row=row, server=name, round=number))
                for why in sorted(set(got["wrong"])):
                    say("%s at %s: %d clients: %s" % (
                        name, row, got["wrong"].count(why), why))
            say("round %d of %d: %s" % (number + 1, rounds, row))
    return cells


def summarise(cells, row, columns):
    """{"servers": {server: figures}, "ratios": {key: edge to the best peer}}"""
    here = [c for c in cells if c["row"] == row]
    table, ratios = {}, {}
    for name in dict.fromkeys(c["server"] for c in here):
        mine = [c for c in here if c["server"] == name]
        # What is called a maximum is one over all rounds.
        table[name] = {key: (most if key == "max" else middle)(
            [c[key] for c in mine]) for key, _, _ in columns}
        table[name]["wrong"] = sum(len(c["wrong"]) for c in mine)
    # Who answered wrong is nobody to compare with.
    peers = [n for n in table if n not in OURS and not table[n]["wrong"]]
    for key, _, better in columns:
        known = [table[n][key] for n in peers if table[n][key]]
        if better and known and table.get("edge", {}).get(key):
            ratios[key] = table["edge"][key] / (max if better > 0 else min)(
                known)
    return {"servers": table, "ratios": ratios}


def figure(value):
    if value is None:
        return "-"
    return "%.0f" % value if value >= 1000 else "%.3g" % value


def print_table(say, row, summary, columns):
    form = "%-10s %-14s" + " %12s" * (len(columns) + 1)
    say("")
    say(form % (("row", "server") + tuple(c[1] for c in columns) +
                ("wrong",)))
    for name, figures in summary["servers"].items():
        say(form % ((row, name) + tuple(figure(figures[c[0]])
                                        for c in columns) +
                    (figures["wrong"],)))
    if summary["ratios"]:
        say(form % ((row, "edge/best peer") + tuple(
            "%.2f" % summary["ratios"][c[0]] if c[0] in summary["ratios"]
            else "-" for c in columns) + ("-",)))


def aims(summaries):
    """(what, figure, whether it is met)"""
    out = []

    def most(what, value, limit, unit):
        out.append(("%s at most %.4g %s" % (what, limit, unit), value,
                    value is not None and value <= limit))

    for row, summary in summaries.items():
        mine = summary["servers"].get("edge")
        if mine is None:
            continue
        most("%s: wrong or short answers" % row, mine["wrong"], 0, "clients")
        if row == "crowd":
            chunk = summary["servers"]["straight"]["chunk"] + SLACK_MS
            for key, word in (("first", "of the first client"),
                              ("p50", "p50"), ("max", "max")):
                most("crowd: first byte, %s," % word, mine[key], chunk, "ms")
            most("crowd: all done, to the ideal,", mine["ideal"], SLACK_DONE,
                 "times")
        elif row in ("tail", "alone"):
            most("%s: answered whole" % row, mine["ms"], TAIL_MS, "ms")
        elif "nginx" in summary["servers"]:
            nginx = summary["servers"]["nginx"]["mbs"]
            got = mine["mbs"] / nginx if nginx and mine["mbs"] else None
            out.append(("whole: at least %.1f of nginx's MB/s" % OF_NGINX,
                        got, got is not None and got >= OF_NGINX))
    return out


def chosen(args):
    """(parts, servers, bytes of the large file)"""
    for word in args.only:
        if word not in ROWS:
            raise servers.Trouble("%s: no such part; there are: %s" % (
                word, " ".join(ROWS)))
    names = list(args.servers)
    if "nginx" in names:
        names.insert(names.index("nginx") + 1, "nginx-slice")
    return (args.only or list(ROWS), names,
            WHOLE_QUICK if args.quick else WHOLE)


def room(args):
    """Bytes of memory and of disk: each server keeps all files, and so do a
    master and the tree that was published; two of the peers keep them in
    memory, and what the others write waits there for the disk."""
    wanted, names, size = chosen(args)
    most = args.rounds * max(size if "whole" in wanted else 0, 3 * SIZE)
    # Traffic Server makes its cache as large as it may become, at once.
    return 4 * most + (2 << 30), (len(names) + 2) * most + (6 << 30)


def run(say, where, make_box, args):
    """Prints a table for each row; returns them for bench.json.  make_box: of
    the edge's options and its upstream, as in Stage; and of who are compared."""
    wanted, names, size = chosen(args)
    options = EDGE_OPTIONS + args.edge_option
    cells, versions = [], {}
    for parts, rate, files in (
            (("crowd", "tail"), RATE, {"crowd": SIZE, "tail": SIZE,
                                       "alone": SIZE}),
            (("whole",), None, {"whole": size})):
        rows = [r for p in parts if p in wanted for r in ROWS[p]]
        if not rows:
            continue
        with Stage(where, lambda upstream: make_box(names, options, upstream),
                   names, rate) as stage:
            stage.publish({"%s-%d" % (row, n): files[row] for row in rows
                           for n in range(args.rounds)})
            stage.start(say)
            cells += measure(say, stage, rows, args.rounds)
            versions = {n: s.version for n, s in stage.servers.items()}
    rows = list(dict.fromkeys(c["row"] for c in cells))
    summaries = {row: summarise(cells, row, COLUMNS[row]) for row in rows}
    say("\n%d clients within %.1f s, %d MB at %d MB/s; a tail of %d KiB; whole: "
        "%d MB.\nstraight: one client without a cache.  upstream: bytes taken "
        "from the origin,\nto the file's.  Medians of %d rounds; the machine's "
        "load at the end: %.1f" % (
            CROWD, SPREAD, SIZE / 1e6, RATE / 1e6, TAIL >> 10, size / 1e6,
            args.rounds, os.getloadavg()[0]))
    for row in rows:
        print_table(say, row, summaries[row], COLUMNS[row])
    say("")
    judged = aims(summaries)
    for what, value, met in judged:
        say("aim: %s: %s, %s" % (what, figure(value),
                                 "met" if met else "not met"))
    return {"cold": {"rounds": args.rounds, "versions": versions,
                     "edge_options": options, "rows": summaries,
                     "aims": [dict(zip(("aim", "figure", "met"), a))
                              for a in judged], "cells": cells}}
