# SPDX-License-Identifier: BSD-2-Clause
"""pkgcast status: who is current, by how much the others lag, with a handful of
edges and with a thousand, once and again and again."""
import copy
import http.server
import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
import time

import pytest

from conftest import SLOW, get, make_tree, until


def lines_of(text):
    lines = text.rstrip("\n").split("\n")
    for line in lines:
        assert len(line) <= 80, line
    return lines


def rows(text):
    """{edge: words of its row}"""
    found = {}
    for line in lines_of(text):
        if re.match(r"(edge|mirror)\S* +(current|behind|no lease|double|AHEAD)",
                    line):
            words = line.replace("no lease", "no-lease").split()
            found[words[0]] = words[1:]
    return found


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    from conftest import boxes_below
    with boxes_below(tmp_path_factory.mktemp("three")) as make:
        yield make("--edges", "3", "--master-option", "ttl=4")


def test_who_is_behind_and_who_is_gone(three, tmp_path):
    box = three
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    text = box.pkgcast("status").stdout
    assert "3 edges: 3 current\n" in text
    assert re.search(r"switched 3 of 3 edges: p50 \d+ ms, p99 \d+ ms, "
                     r"slowest edge\d \d+ ms\n", text), text
    for row in rows(text).values():
        assert row[0] == "current" and row[2] == "-" and row[3] == "-"
        assert re.fullmatch(r"\d+s", row[1]) and row[5] == "ago"
        assert re.fullmatch(r"\d+m?s", row[6]), row

    stopped = box.pid("edge2")
    box.kill("edge3")
    os.kill(stopped, signal.SIGSTOP)
    try:
        make_tree(tree, {"a": b"2"})
        began = time.monotonic()
        p = box.publish("demo", tree, "--now", check=False)
        assert p.returncode == 3
        assert "switched 1 of 3 edges" in p.stdout
        assert "not switched, lease ran out: edge2, edge3\n" in p.stdout
        text = box.pkgcast("status").stdout
        assert "3 edges: 1 current, 2 without lease\n" in text, text
        assert "    not switched in time: edge2, edge3\n" in text
        assert list(rows(text)) == ["edge2", "edge3", "edge1"]
        for name in ("edge2", "edge3"):
            row = rows(text)[name]
            assert row[:3] == ["no-lease", "-", "1"], row
            lag = int(row[3].rstrip("s"))
            assert lag <= time.monotonic() - began
        assert text.count("    demo: generation 1 of 2, behind for ") == 2
    finally:
        os.kill(stopped, signal.SIGCONT)
    box.start("edge3")
    until(lambda: "3 edges: 3 current\n" in box.pkgcast("status").stdout)
    text = box.pkgcast("status").stdout
    assert "not switched in time: edge2 (has since), edge3 (has since)" in text
    took = rows(text)["edge2"][6]               # it was late by as much
    assert re.fullmatch(r"\d+s|\d{4}ms", took), took

    facts = {e["name"]: e["instances"][0]["sets"][0]
             for e in box.status(box.master)["edges"]}
    assert facts["edge1"]["behind"] == 0 and facts["edge1"]["current"]
    assert facts["edge1"]["behind_ms"] is None
    assert facts["edge1"]["switch_ms"] < facts["edge2"]["switch_ms"]
    metrics = get(box.env["MASTER_STATUS"], "/metrics").body.decode()
    assert re.search(r'lease_left_ms\{[^}]*"edge1"', metrics), metrics[:2000]


class Watch:
    """A running `pkgcast status --watch=1`, and what it has said."""

    def __init__(self, box, *args, terminal=False):
        self.text = ""
        ours, theirs = pty.openpty() if terminal else os.pipe()
        self.process = subprocess.Popen(
            box.env["PKGCAST"].split() + ["status", "--watch=1", *args],
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.fd = ours

    def read(self):
        while select.select([self.fd], [], [], 0)[0]:
            try:
                got = os.read(self.fd, 65536)
            except OSError:                     # a terminal's end
                return self.text
            if not got:
                return self.text
            self.text += got.decode()
        return self.text

    def until(self, word, n=1):
        until(lambda: self.read().count(word) >= n, 30)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        rc = self.process.wait(15 * SLOW)
        self.read()
        os.close(self.fd)
        return rc


def test_watch_goes_on_when_the_master_goes(three, tmp_path):
    box = three
    w, j = Watch(box), Watch(box, "--json")
    w.until("3 edges: ", 2)
    j.until("\n", 2)
    assert "\033" not in w.text
    box.kill("master", signal.SIGTERM)
    w.until("no answer: http://127.0.0.1:", 2)
    j.until("pkgcast: http://127.0.0.1:", 2)
    before = w.text.count("3 edges: ")
    box.start("master")
    w.until("3 edges: 3 current", before + 1)
    # Then one that hangs.
    os.kill(box.pid("master"), signal.SIGSTOP)
    try:
        at = len(w.read())
        until(lambda: "no answer: " in w.read()[at:], 20)
    finally:
        os.kill(box.pid("master"), signal.SIGCONT)
    at = len(w.read())
    until(lambda: "3 edges: " in w.read()[at:], 20)
    assert w.end() == 0
    assert j.end() == 0
    for line in j.text.rstrip("\n").split("\n"):
        if not line.startswith("pkgcast: http"):
            assert json.loads(line)["program"] == "pkgcast-master"


def test_watch_replaces_what_a_terminal_shows(three):
    w = Watch(three, terminal=True)
    w.until("trust: version", 2)
    assert w.end() == 0
    first, *tables = w.text.split("\033[H\033[2J")
    assert first == "" and len(tables) >= 2
    for t in tables[:-1]:
        assert "EDGE" in t and "3 edges:" in t


def test_watch_ends_with_its_reader(three):
    p = subprocess.Popen(three.env["PKGCAST"].split() +
                         ["status", "--watch=1"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    p.stdout.readline()
    p.stdout.close()
    assert p.wait(20 * SLOW) == 1
    assert b"standard output" in p.stderr.read()


@pytest.mark.parametrize("word", ("--watch=0", "--watch=x", "--watch=3601",
                                  "--what", "x"))
def test_wrong_words_are_usage(three, word):
    assert three.pkgcast("status", word, check=False).returncode == 2


class Thousand:
    """A master that knows many edges: a real document, with its edges
    multiplied and some of them changed."""

    def __init__(self, document, n):
        self.document = d = copy.deepcopy(document)
        one = d["edges"][0]
        one["instances"] = one["instances"][:1]
        d["edges"] = []
        for i in range(n):
            e = copy.deepcopy(one)
            e["name"] = "mirror%04d" % i
            d["edges"].append(e)

        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(outer.document).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                                      Handler)
        threading.Thread(target=self.server.serve_forever,
                         daemon=True).start()

    def instance(self, i):
        return self.document["edges"][i]["instances"][0]

    def lag(self, i, generations, ms):
        self.instance(i)["leased"] = False
        self.instance(i)["sets"][0].update(
            current=False, behind=generations, behind_ms=ms,
            generation=self.instance(i)["sets"][0]["generation"] -
            generations)

    def status(self, box, tmp, *args):
        conf = tmp / "thousand.conf"
        conf.write_text('origin = "http://127.0.0.1:%d"\n' %
                        self.server.server_address[1])
        program = box.env["PKGCAST"].split()[0]
        p = subprocess.run([program, "-c", str(conf), "status", *args],
                           capture_output=True, text=True, timeout=60)
        assert p.returncode == 0, p.stderr
        return p.stdout

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def test_a_thousand_edges(three, tmp_path):
    three.publish("demo", make_tree(tmp_path / "t", {"a": b"thousand"}))
    until(lambda: all(e["leased"] for e in
                      three.status(three.master)["edges"]))
    m = Thousand(three.status(three.master), 1000)
    try:
        text = m.status(three, tmp_path)
        assert "1,000 edges: 1,000 current\n" in text
        assert rows(text) == {} and "EDGE" not in text
        m.lag(7, 1, 5000)
        m.lag(500, 1, 7200000)
        m.instance(900)["lease_left_ms"] = 0
        m.instance(900)["leased"] = False
        m.instance(900)["last_renewal_ms_ago"] = 3 * 86400000
        m.document["edges"][999]["duplicate"] = True
        m.document["edges"][998]["instances"] = []
        m.document["edges"][997]["name"] = "mirror-" + 57 * "x"
        m.lag(997, 1, 1)
        text = m.status(three, tmp_path)
        assert ("1,000 edges: 994 current, 1 with a key used twice, 3 behind, "
                "1 without lease, 1 never heard of\n") in text.replace(
                    "\n    ", " "), text
        assert list(rows(text)) == ["mirror0999", "mirror0500", "mirror0007",
                                    "mirror0900", "mirror0998"], text
        assert rows(text)["mirror0500"][3] == "2h"
        assert "    last heard of 3d ago\n" in text
        assert "mirror-" + 57 * "x" + "\n" in text
        assert len(rows(m.status(three, tmp_path, "--all"))) == 999
        for i in range(100, 400):
            m.lag(i, 1, 1000 + i)
        text = m.status(three, tmp_path)
        assert len(lines_of(text)) < 70
        assert "and 286 more that are not current (--all shows every edge)" \
            in text, text
    finally:
        m.close()
