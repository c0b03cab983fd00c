# SPDX-License-Identifier: BSD-2-Clause
"""The lease rules of pkgcast-protocol(7) across restarts (G2, G7)."""
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from conftest import SLOW, get, make_tree, until


def test_after_a_restart_the_master_waits_for_leases_it_does_not_know(
        sandbox, tmp_path):
    box = sandbox("--edges", "1", "--master-option", "ttl=6")
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    edge = box.pid("edge1")
    os.kill(edge, signal.SIGSTOP)
    try:
        box.kill("master")
        started = time.monotonic()
        box.start("master")
        make_tree(tree, {"a": b"2"})
        box.publish("demo", tree, "--prepare-wait", "0", check=False)
        # The edge may have answered "1" as fresh for all that time.
        assert time.monotonic() - started >= 5.5
    finally:
        os.kill(edge, signal.SIGCONT)
    a = get(box.edges[0], "/demo/a")
    assert a.body == b"2" or "stale" in a.cache_status


def test_a_master_that_restarts_in_mid_publish_goes_on(sandbox, tmp_path):
    box = sandbox("--edges", "2", "--master-option", "ttl=4")
    tree = make_tree(tmp_path / "t", {"a": b"1", "big": 3000000})
    box.publish("demo", tree)
    make_tree(tree, {"a": b"2", "big": 3000001})
    edge = box.pid("edge2")
    os.kill(edge, signal.SIGSTOP)           # holds prepare up
    result = []
    t = threading.Thread(target=lambda: result.append(
        box.publish("demo", tree, "--prepare-wait", "3", check=False)))
    t.start()
    time.sleep(1)
    box.kill("master")
    os.kill(edge, signal.SIGCONT)
    box.start("master")
    t.join()
    p = result[0]
    if p.returncode not in (0, 3):
        p = box.publish("demo", tree)
    assert p.returncode in (0, 3), p.stderr
    for base in box.edges:
        a = get(base, "/demo/a")
        if p.returncode == 0:
            assert a.body == b"2"
        until(lambda: get(base, "/demo/a").body == b"2", 20)


def test_an_edge_killed_after_its_acknowledgement_comes_back_new(
        sandbox, tmp_path):
    box = sandbox("--edges", "1", "--master-option", "ttl=3")
    tree = make_tree(tmp_path / "t", {"a": b"0"})
    for i in range(1, 6):
        make_tree(tree, {"a": b"%d" % i})
        box.publish("demo", tree)
        box.kill("edge1")
        box.kill("master")
        p = box.spawn("edge1")

        def back():
            try:
                a = get(box.edges[0], "/demo/a")
            except OSError:
                return False
            # The manifest is there; the file itself may need the master.
            assert a.generation == i if a.status == 200 else \
                a.status == 503, (a.status, a.cache_status)
            return True
        until(back, 20)
        assert [s["generation"] for s in
                box.status(box.edges[0])["sets"]] == [i]
        box.start("master")
        until(lambda: get(box.edges[0], "/demo/a").body == b"%d" % i, 20)
        assert p.poll() is None


def test_publish_names_an_edge_that_was_killed_before_it(sandbox, tmp_path):
    box = sandbox("--edges", "2", "--master-option", "ttl=3")
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    for i, options in enumerate(((), ("--prepare-wait", "0"))):
        box.kill("edge2")
        make_tree(tree, {"a": b"%d" % (i + 2)})
        # With the first options its lease runs out during prepare.
        p = box.publish("demo", tree, *options, check=False)
        assert p.returncode == 3, p.stdout + p.stderr
        assert "edge2" in p.stdout + p.stderr
        assert "edge1" not in p.stderr, p.stderr
        box.start("edge2")
        until(lambda: get(box.edges[1], "/demo/a").body == b"%d" % (i + 2)
              and "stale" not in get(box.edges[1], "/demo/a").cache_status,
              20)


@pytest.mark.parametrize("moment", ("prepare", "committed"))
def test_publish_does_not_name_an_edge_that_was_started_anew(sandbox, tmp_path,
                                                             moment):
    box = sandbox("--edges", "2", "--master-option", "ttl=6")
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    make_tree(tree, {"a": b"2"})
    stopped = box.pid("edge2")
    os.kill(stopped, signal.SIGSTOP)        # holds this step up
    result = []
    wait = "4" if moment == "prepare" else "0"
    t = threading.Thread(target=lambda: result.append(
        box.publish("demo", tree, "--prepare-wait", wait, check=False)))
    t.start()

    def state():
        now = json.loads(get(box.publish_url, "/publish/demo").body)
        return now["generation"], now["state"]
    until(lambda: state() == (2, moment), 20)
    box.kill("edge2")
    box.spawn("edge2")
    t.join()
    p = result[0]
    assert p.returncode == 0, p.stdout + p.stderr
    assert get(box.edges[1], "/demo/a").body == b"2"


def test_a_second_master_on_the_same_state_is_refused(shared):
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    p = subprocess.run([here + "/master/pkgcast-master", "-f",
                        shared.path("master.conf")], capture_output=True,
                       text=True, timeout=30 * SLOW)
    assert p.returncode == 1, p.stderr
    assert get(shared.master, "/.pkgcast/status").status == 200
    # On other ports it is the lock that says so.
    conf = shared.path("second.conf")
    text = open(shared.path("master.conf")).read()
    ports = iter(range(32001, 32700))
    with open(conf, "w") as f:
        f.write(re.sub(r'(127\.0\.0\.1):\d+',
                       lambda m: "%s:%d" % (m.group(1), next(ports)), text))
    os.chmod(conf, 0o600)
    p = subprocess.run([here + "/master/pkgcast-master", "-f", conf],
                       capture_output=True, text=True, timeout=30 * SLOW)
    assert p.returncode == 1 and "another pkgcast-master" in p.stderr, \
        p.stderr


def test_a_master_restored_from_an_old_copy_does_not_go_below(sandbox,
                                                              tmp_path):
    box = sandbox("--edges", "1", "--master-option", "ttl=3")
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    box.kill("master", signal.SIGTERM)
    shutil.copytree(box.path("master"), tmp_path / "backup", symlinks=True)
    box.start("master")
    make_tree(tree, {"a": b"2"})
    box.publish("demo", tree)
    assert get(box.edges[0], "/demo/a").body == b"2"
    box.kill("master", signal.SIGTERM)
    shutil.rmtree(box.path("master"))
    shutil.copytree(tmp_path / "backup", box.path("master"), symlinks=True)
    box.start("master")
    until(lambda: "edge1" in box.log("master").rpartition("ready")[2] and
          "generation" in box.log("master").rpartition("ready")[2], 20)
    assert get(box.edges[0], "/demo/a").body == b"2"
    make_tree(tree, {"a": b"3"})
    box.publish("demo", tree)
    head = box.head(box.master, "demo")
    assert int(head["generation"]) == 3
    assert get(box.edges[0], "/demo/a").body == b"3"


def test_a_revoked_edge_is_cut_off_and_others_stay(sandbox, tmp_path):
    box = sandbox("--edges", "2", "--master-option", "ttl=3")
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    box.pkgcast("edge", "revoke", "edge2")
    until(lambda: "stale" in get(box.edges[1], "/demo/a").cache_status, 15)
    assert "stale" not in get(box.edges[0], "/demo/a").cache_status
    assert "edge2" not in box.pkgcast("edge", "list").stdout
    time.sleep(1)       # the master's record outlives the lease by a fifth
    make_tree(tree, {"a": b"2"})
    assert box.publish("demo", tree).returncode == 0
    key = re.search(r'public-key = "([^"]*)"', open(
        box.path("edge2.conf")).read().partition("\ncurve\n")[2]).group(1)
    box.pkgcast("edge", "allow", "edge2", key, box.edges[1])
    until(lambda: "stale" not in get(box.edges[1], "/demo/a").cache_status,
          20)
    assert get(box.edges[1], "/demo/a").body == b"2"


@pytest.mark.quick
def test_status_shows_who_is_current(shared, tmp_path):
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    out = shared.publish("shown", tree).stdout
    assert "2 of 2" in out, out
    text = shared.pkgcast("status").stdout
    for word in ("shown", "edge1", "edge2"):
        assert word in text, text
