# SPDX-License-Identifier: BSD-2-Clause
"""publish --now and rollback --now: no edge is prepared, all switch right
(G1, G2)."""
import os
import signal
import subprocess
import threading
import time

import pytest

from conftest import SLOW, get, make_tree, until
from rewire import through_relays
from test_switch import Hammer


def announcements(box):
    return [box.status(base)["link"]["announcements"] for base in box.edges]


def prepared(box, name):
    return [l for l in box.log(name).split("\n") if " prepared set=" in l]


@pytest.mark.quick
def test_an_urgent_set_costs_one_announcement(sandbox, tmp_path):
    box = sandbox()
    content = {"All/%02d" % i: b"1" for i in range(20)}
    tree = make_tree(tmp_path / "t", content)
    box.publish("demo", tree)               # prepared, to compare
    assert prepared(box, "edge1") and prepared(box, "edge2")
    for i, command in enumerate((("publish", "demo", tree),
                                 ("rollback", "demo")), 2):
        make_tree(tree, {n: b"%d" % i for n in content})
        before = announcements(box), [len(prepared(box, e))
                                      for e in ("edge1", "edge2")]
        hammer = Hammer(box.edges, sorted(content))
        out = box.pkgcast(*command, "--now").stdout
        done = time.monotonic()
        time.sleep(0.5)
        hammer.end()
        assert "switched 2 of 2 edges" in out, out
        late = [a for a in hammer.answers if a[0] > done]
        assert late and all(a[3] == i and a[4] == 200 for a in late)
        assert announcements(box) == [n + 1 for n in before[0]]
        assert [len(prepared(box, e)) for e in ("edge1", "edge2")] == \
            before[1]
        for base in box.edges:
            assert get(base, "/demo/All/00").body == (b"2" if i == 2 else b"1")
    for e in ("edge1", "edge2"):
        assert "generation=3" in box.log(e) and "prepared=no" in box.log(e)


@pytest.mark.parametrize("options", ((), ("--now",)))
def test_an_edge_that_heard_nothing_switches_right(sandbox, tmp_path, options):
    """Neither prepare nor commit arrives: the next renewal tells."""
    box = sandbox("--master-option", "ttl=6")
    tree = make_tree(tmp_path / "t", {"a": b"1", "b": b"1"})
    box.publish("demo", tree)
    announce, = through_relays(box, "edge2", ("announce",))
    try:
        until(lambda: "stale" not in get(box.edges[1], "/demo/a").cache_status)
        announce.swallow = True
        before = box.status(box.edges[1])["link"]["announcements"]
        make_tree(tree, {"a": b"2", "b": b"2"})
        out = box.publish("demo", tree, "--prepare-wait", "1",
                          *options).stdout
        assert "switched 2 of 2 edges" in out, out
        for base in box.edges:
            for path in "ab":
                a = get(base, "/demo/" + path)
                assert a.body == b"2" and "stale" not in a.cache_status
        assert box.status(box.edges[1])["link"]["announcements"] == before
    finally:
        announce.close()


def test_repeated_with_now_it_waits_no_longer(sandbox, tmp_path):
    """A patient publish, interrupted while it waits for an edge that does not
    prepare, and repeated in a hurry: it is committed at once."""
    box = sandbox("--master-option", "ttl=30")
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    make_tree(tree, {"a": b"2"})
    stopped = box.pid("edge2")
    os.kill(stopped, signal.SIGSTOP)
    try:
        patient = subprocess.Popen(
            box.env["PKGCAST"].split() + ["publish", "demo", tree,
                                          "--prepare-wait", "3600"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        until(lambda: prepared(box, "edge1")[1:])
        patient.send_signal(signal.SIGINT)
        assert patient.wait(20 * SLOW) == 4, patient.stdout.read()
        assert get(box.edges[0], "/demo/a").body == b"1"
        hurried = []
        t = threading.Thread(target=lambda: hurried.append(
            box.publish("demo", tree, "--now", check=False)))
        t.start()
        began = time.monotonic()
        until(lambda: get(box.edges[0], "/demo/a").body == b"2", 8)
        print("switched after %.2f s" % (time.monotonic() - began))
    finally:
        os.kill(stopped, signal.SIGCONT)
    t.join()
    assert hurried[0].returncode == 0, hurried[0].stdout + hurried[0].stderr
    assert "switched 2 of 2 edges" in hurried[0].stdout
    assert int(box.head(box.master, "demo")["generation"]) == 2
