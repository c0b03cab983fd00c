# SPDX-License-Identifier: BSD-2-Clause
"""What users asked for is there when a generation is switched to, and warming is
in nobody's way."""
import time

import pytest

from conftest import get, make_tree, until

OLD, NEW = "All/bash-5.2.15.pkg", "All/bash-5.2.16_1.pkg"
COLD_OLD, COLD_NEW = "All/cold-1.0.pkg", "All/cold-1.1.pkg"


def tree_of(where, version, names, size=300000):
    files = {"meta.conf": b"version %d\n" % version,
             "packagesite.pkg": b"catalogue %d\n" % version * 1000,
             "All/other-1.pkg": b"same"}
    for i, name in enumerate(names):
        files[name] = (b"%d %d " % (version, i)) * (size // 4)
    return make_tree(where, files)


def hit(base, path):
    return "; hit" in get(base, path).cache_status


def ask_twice(base, paths):
    """The second time when the file is in the store, and not on its way there."""
    for path in paths:
        get(base, "/demo/" + path)
        until(lambda: hit(base, "/demo/" + path))


@pytest.mark.quick
def test_the_successors_of_what_was_asked_for_are_there_at_the_switch(
        sandbox, tmp_path):
    box = sandbox("--edges", "2")
    asked, idle = box.edges
    box.publish("demo", tree_of(tmp_path / "1", 1, [OLD, COLD_OLD]))
    ask_twice(asked, ("meta.conf", "packagesite.pkg", OLD, "All/other-1.pkg"))
    get(asked, "/demo/" + COLD_OLD)             # once: a chance visitor
    box.publish("demo", tree_of(tmp_path / "2", 2, [NEW, COLD_NEW]))
    counters = box.status(asked)["counters"]
    assert counters["warmed"] == 3, counters
    assert counters["warmed_bytes"] > 300000
    for path in ("meta.conf", "packagesite.pkg", NEW):
        a = get(asked, "/demo/" + path)
        assert "; hit" in a.cache_status and a.generation == 2, path
        assert a.body == (tmp_path / "2" / path).read_bytes()
    assert not hit(asked, "/demo/" + COLD_NEW)
    assert box.status(idle)["counters"]["warmed"] == 0
    assert not hit(idle, "/demo/meta.conf")


def test_warm_is_a_number_of_bytes_and_0_is_off(sandbox, tmp_path):
    box = sandbox("--edges", "1", "--edge-option", "fill.warm=400K")
    names = ["All/p%d-1.pkg" % i for i in range(4)]
    edge = box.edges[0]
    box.publish("demo", tree_of(tmp_path / "1", 1, names))
    ask_twice(edge, names)
    box.publish("demo", tree_of(tmp_path / "2", 2, names))
    counters = box.status(edge)["counters"]
    assert counters["warmed"] == 1 and counters["warmed_bytes"] <= 400 * 1024


def test_an_edge_that_cannot_be_warm_in_time_switches_all_the_same(
        sandbox, tmp_path):
    """With 200 KB/s, 3 MB would take 15 s: prepared after 5 s, the rest later."""
    box = sandbox("--edges", "1", "--edge-option", "fill.rate=200K",
                  "--edge-option", "fill.low-rate=1K")
    names = ["All/p%d-1.pkg" % i for i in range(10)]
    new = ["All/p%d-2.pkg" % i for i in range(10)]
    edge = box.edges[0]
    box.publish("demo", tree_of(tmp_path / "1", 1, names, 1000))
    ask_twice(edge, names)
    begin = time.monotonic()
    box.publish("demo", tree_of(tmp_path / "2", 2, new), "--force",
                "--prepare-wait", "9")
    assert 4 < time.monotonic() - begin
    assert box.status(edge)["counters"]["warmed"] < 10
    assert box.status(edge)["sets"][0]["generation"] == 2
    until(lambda: box.status(edge)["counters"]["warmed"] == 10, 40)
    assert all(hit(edge, "/demo/" + name) for name in new)
