# SPDX-License-Identifier: BSD-2-Clause
"""Announcements that are lost, links that are dead, leases that run out (G2,
G7)."""
import os
import signal
import sys
import threading
import time

import pytest

from conftest import HERE, SLOW, get, make_tree, until
from proxy import Relay

sys.path.insert(0, os.path.join(HERE, "checker.d"))
import silence                                                # noqa: E402


@pytest.fixture
def links(sandbox, tmp_path):
    """A function that makes a box with one edge whose links go through relays,
    which learn the master's ports from its configuration."""
    relays = []

    def make(*options):
        announce, lease = Relay(0), Relay(0)
        relays.extend((announce, lease))

        def learn():
            path = str(tmp_path / "box" / "master.conf")
            until(lambda: os.path.exists(path), 60)
            time.sleep(0.1)
            text = open(path).read()
            for relay, key in ((announce, "announce"), (lease, "lease")):
                relay.port = int(text.partition(
                    '%s = "tcp://127.0.0.1:' % key)[2].partition('"')[0])

        t = threading.Thread(target=learn)
        t.start()
        box = sandbox("--edges", "1",
                      "--edge-option", "master.announce=tcp://127.0.0.1:%d" %
                      announce.listen_port,
                      "--edge-option", "master.lease=tcp://127.0.0.1:%d" %
                      lease.listen_port, *options)
        t.join()
        return box, announce, lease

    yield make
    for r in relays:
        r.close()


def test_lost_announcements_are_repaired_by_the_lease(links, tmp_path):
    box, announce, _ = links()
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    announce.swallow = True
    make_tree(tree, {"a": b"2"})
    start = time.monotonic()
    box.publish("demo", tree, "--prepare-wait", "0")
    assert announce.swallowed > 0
    assert time.monotonic() - start < 9 * SLOW     # a renewal, not a lease
    assert get(box.edges[0], "/demo/a").body == b"2"


def test_a_lease_that_runs_out_shows_and_polling_goes_on(links, tmp_path):
    box, announce, lease = links("--edge-option", "poll=2")
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    assert "stale" not in get(box.edges[0], "/demo/a").cache_status
    announce.swallow = lease.swallow = True
    cut = time.monotonic()
    until(lambda: "detail=stale" in get(box.edges[0], "/demo/a").cache_status,
          12)
    assert time.monotonic() - cut < 10 * SLOW
    status = box.status(box.edges[0])
    assert not status["lease"]["held"] and status["sets"][0]["stale"]
    # Cut off from announcements and leases, the edge still learns by polling.
    make_tree(tree, {"a": b"2"})
    p = box.publish("demo", tree, "--prepare-wait", "0", check=False)
    assert p.returncode in (0, 3)
    until(lambda: get(box.edges[0], "/demo/a").body == b"2", 15)
    announce.swallow = lease.swallow = False
    announce.cut()
    lease.cut()
    until(lambda: "stale" not in get(box.edges[0], "/demo/a").cache_status,
          30)


def test_publish_names_the_edge_that_was_cut_off(links, tmp_path):
    box, announce, lease = links()
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    announce.swallow = lease.swallow = True
    make_tree(tree, {"a": b"2"})
    p = box.publish("demo", tree, "--prepare-wait", "0", check=False)
    assert p.returncode == 3, p.stdout + p.stderr
    assert "edge1" in p.stdout + p.stderr
    # publish has returned: the edge must not claim to be up to date (G2).
    a = get(box.edges[0], "/demo/a")
    assert a.body == b"2" or "detail=stale" in a.cache_status


def test_stale_refuse_refuses(links, tmp_path):
    box, announce, lease = links("--edge-option", "stale=refuse")
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    assert get(box.edges[0], "/demo/a").status == 200
    announce.swallow = lease.swallow = True
    a = until(lambda: (lambda x: x if x.status == 503 else None)(
        get(box.edges[0], "/demo/a")), 12, 0.2)
    assert a["Retry-After"] and a.body == b"" and a["Content-Length"] == "0"


def test_a_link_is_made_anew_at_the_first_try(sandbox):
    """Sockets that ZeroMQ is still closing leave room for the next ones."""
    box = sandbox("--edges", "1")
    pid = box.pid("master")
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: box.status(box.edges[0])["link"]["reconnects"] >= 1, 20)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "link not opened" not in box.log("edge1")
    until(lambda: box.status(box.edges[0])["lease"]["held"], 20)


def test_a_link_that_was_closed_waits_its_turn(sandbox, tmp_path):
    """It is not made anew while ZeroMQ connects: that would be the end of a
    queue of thousands.  Announcements come again, too."""
    box = sandbox("--edges", "1")
    edge = box.edges[0]
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    box.kill("master")
    until(lambda: not box.status(edge)["lease"]["held"], 20)
    time.sleep(8)                       # by now a silent one is made anew
    box.start("master")
    until(lambda: box.status(edge)["lease"]["held"], 10)
    link = box.status(edge)["link"]
    assert link["reconnects"] == 0
    make_tree(tree, {"a": b"2"})
    box.publish("demo", tree)
    assert get(edge, "/demo/a").body == b"2"
    assert box.status(edge)["link"]["announcements"] > link["announcements"]


@pytest.mark.parametrize("words", (b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.0 400 "
                                   b"Bad Request\r\n\r\n" + 64 * b"."))
@pytest.mark.parametrize("link", ("lease", "announce"))
def test_a_link_comes_back_after_another_service_answered_there(
        links, tmp_path, link, words):
    """ZeroMQ gives up a peer that speaks another protocol, without a word."""
    box, announce, lease = links()
    edge, tree = box.edges[0], make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    relay = lease if link == "lease" else announce
    relay.stranger = words
    relay.cut()
    until(lambda: relay.estranged, 10)
    relay.stranger = None
    before = box.status(edge)["link"]["announcements"]

    def announced():
        """An announcement came."""
        make_tree(tree, {"a": os.urandom(8)})
        box.publish("demo", tree, "--prepare-wait", "0", check=False)
        return box.status(edge)["link"]["announcements"] > before

    until(announced, 20, 0.5)
    assert box.status(edge)["lease"]["held"]
    assert ("announcements do not come from" in box.log("edge1")) == (
        link == "announce")


def test_a_suspended_edge_wakes_up_stale(sandbox, tmp_path):
    box = sandbox("--edges", "1", "--edge-option", "stale=refuse")
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    pid = box.pid("edge1")
    os.kill(pid, signal.SIGSTOP)
    try:
        make_tree(tree, {"a": b"2"})
        p = box.publish("demo", tree, "--prepare-wait", "0", check=False)
        assert p.returncode == 3 and "edge1" in p.stdout + p.stderr
    finally:
        os.kill(pid, signal.SIGCONT)
    # From the first request on: the new generation, or an honest refusal.
    a = get(box.edges[0], "/demo/a")
    assert a.status == 503 or a.body == b"2"
    until(lambda: get(box.edges[0], "/demo/a").body == b"2", 30)


def test_without_curve_an_edge_lives_by_polling(sandbox, tmp_path):
    box = sandbox("--edges", "1", "--edge-option", "poll=1")
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    box.kill("edge1", signal.SIGTERM)
    path = box.path("edge1.conf")
    text = open(path).read()
    kept, skip = [], False
    for line in text.splitlines():
        if not line.startswith(" "):
            skip = line in ("curve", "master")
        if not skip:
            kept.append(line)
    with open(path, "w") as f:
        f.write("\n".join(kept) + "\n")
    box.spawn("edge1")
    until(lambda: answers(box.edges[0], "/demo/a") == b"1", 20)
    make_tree(tree, {"a": b"2"})
    box.publish("demo", tree, check=False)
    until(lambda: answers(box.edges[0], "/demo/a") == b"2", 10)
    assert "stale" not in get(box.edges[0], "/demo/a").cache_status
    box.kill("master")
    until(lambda: "stale" in get(box.edges[0], "/demo/a").cache_status, 15)


def answers(base, path):
    try:
        a = get(base, path)
    except OSError:
        return None
    return a.body if a.status == 200 else None


@pytest.mark.quick
def test_the_first_publish_of_a_set_waits_like_any_other(shared, tmp_path):
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    shared.publish("brandnew", tree)
    for base in shared.edges:
        assert get(base, "/brandnew/a").status == 200


# A day without a publish, in miniature: links that stay cut, or are dead for
# good without a sign, for longer than an edge waits for a reply (12 s).  With
# --silence 130 also for longer than TCP's keepalive takes (60 s), a kept HTTP
# connection lasts (75 s), and libcurl keeps one (118 s).
RENEWAL_S, BACK_S = 3, 15


def well(result):
    """All edges came back by themselves; the next publish reaches them within
    a renewal."""
    assert "failed" not in result, result
    assert result["back"] < BACK_S * SLOW, result
    seconds, status, current = result["publish"]
    assert status == 0 and current and seconds < RENEWAL_S * SLOW, result


def test_after_a_long_cut_a_publish_reaches_everyone(tmp_path, request):
    well(silence.measure(tmp_path, silence.after_a_cut,
                         request.config.getoption("--silence") * SLOW))


def test_when_all_connections_died_silently_a_publish_reaches_everyone(
        tmp_path, request):
    r = silence.measure(tmp_path, silence.after_forgetting,
                        request.config.getoption("--silence") * SLOW)
    well(r)
    assert min(r["made"]) > 0, r            # noticed before the publish came


def test_a_publish_before_anyone_can_have_noticed_names_the_edges(tmp_path):
    r = silence.measure(tmp_path, silence.publish_at_once, 0)
    well(r)
    seconds, status, current = r["first"]
    assert seconds < 14 * SLOW, r           # a lease, not more
    assert status == 3 or (status == 0 and current), r


def test_a_kept_connection_that_is_dead_costs_seconds_not_a_lease(sandbox,
                                                                  tmp_path):
    """While the links are well: manifest and file are fetched anew."""
    relay = Relay(0)
    box = sandbox("--edges", "1", "--upstream", "http://127.0.0.1:%d" %
                  relay.listen_port)
    relay.port = int(box.master.rpartition(":")[2])
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    box.publish("demo", tree)
    for i in (b"2", b"3"):
        assert get(box.edges[0], "/demo/a").status == 200
        relay.blackhole()
        make_tree(tree, {"a": i})
        begin = time.monotonic()
        p = box.publish("demo", tree, "--prepare-wait", "0", check=False)
        assert p.returncode == 0, p.stdout
        assert get(box.edges[0], "/demo/a").body == i
        assert time.monotonic() - begin < 6 * SLOW
    assert relay.swallowed > 0
    relay.close()
