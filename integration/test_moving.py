# SPDX-License-Identifier: BSD-2-Clause
"""A master that moves to another host, comes back from an old copy, or from
nothing, as pkgcast-master(8) says: nothing goes back, nothing is lost, and each
program says what to do."""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from conftest import HERE, SLOW, get, make_tree, until
from rewire import change, port, set_settings, setting

MASTER = os.path.join(os.path.dirname(HERE), "master", "pkgcast-master")


def status(box):
    return box.pkgcast("status").stdout


def is_fresh(base):
    return "stale" not in get(base, "/demo/a").cache_status


def publish(box, tree, n, *args):
    """{generation} of content n"""
    make_tree(tree, {"a": b"%d" % n})
    out = box.publish("demo", tree, *args).stdout
    return int(re.search(r"generation (\d+) published", out).group(1)), out


@contextlib.contextmanager
def second_master(box, state, shift):
    """One on another host, as far as that goes: its own ports and state."""
    conf = box.path("second.conf")
    with open(box.path("master.conf")) as f:
        text = f.read()
    text = re.sub(r"127\.0\.0\.1:(\d+)",
                  lambda m: "127.0.0.1:%d" % (int(m.group(1)) + shift), text)
    text = text.replace('"%s"' % box.path("master"), '"%s"' % state)
    with open(os.open(conf, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
        f.write(text)
    with open(box.path("second.log"), "a") as log:
        p = subprocess.Popen([MASTER, "-f", conf], stdin=subprocess.DEVNULL,
                             stdout=log, stderr=log)
    try:
        until(lambda: "ready http" in box.log("second") or p.poll())
        assert p.poll() is None, box.log("second")
        yield p
    finally:
        p.terminate()
        assert p.wait(60 * SLOW) == 0


def test_moved_to_another_host(sandbox, tmp_path):
    box = sandbox("--edges", "2", "--master-option", "ttl=4",
                  "--edge-option", "poll=2")
    tree = str(tmp_path / "t")
    publish(box, tree, 1)
    publish(box, tree, 2)
    for base in box.edges:
        assert get(base, "/demo/a").body == b"2"
    box.kill("master", signal.SIGTERM)
    shutil.copytree(box.path("master"), tmp_path / "state", symlinks=True)
    old = box.path("master.old")
    os.rename(box.path("master"), old)
    for base in box.edges:
        until(lambda: not is_fresh(base))
        assert get(base, "/demo/a").body == b"2"
    shift = 1 if box.env["MASTER_HTTP"][-1] != "9" else -1
    ports = [port(box.env["MASTER_" + n]) + shift
             for n in ("HTTP", "PUBLISH")]
    with second_master(box, tmp_path / "state", shift):
        with open(box.path("pkgcast.conf")) as f:
            text = f.read()
        with open(box.path("pkgcast.conf"), "w") as f:
            for key, p in zip(("origin", "publish"), ports):
                text = re.sub(key + r' = "[^"]*"',
                              '%s = "http://127.0.0.1:%d"' % (key, p), text)
            f.write(text)
        box.master = "http://127.0.0.1:%d" % ports[0]
        # Edges still look for the old one: stale, never wrong, polling.
        generation, out = publish(box, tree, 3)
        assert generation == 3 and "no edge held a lease" in out
        assert "2 never heard of" in status(box)
        for i in "12":
            a = get(box.edges[int(i) - 1], "/demo/a")
            assert a.status == 200 and a.body == b"2" and a.generation == 2
            polls = box.status(box.edges[int(i) - 1])["upstreams"][0][
                "requests"]
            until(lambda: box.status(box.edges[int(i) - 1])["upstreams"][0][
                "requests"] > polls, 60)
        # HUP takes the upstream, and says what it cannot take.
        news = {("master", k): "tcp://127.0.0.1:%d" % (
            port(setting(box, "edge1", "master", k)) + shift)
            for k in ("announce", "lease")}
        news["upstream", "url"] = box.master
        set_settings(box, "edge1", news)
        os.kill(box.pid("edge1"), signal.SIGHUP)
        until(lambda: get(box.edges[0], "/demo/a").body == b"3")
        assert not is_fresh(box.edges[0])
        log = box.log("edge1")
        assert re.search(r"announce.* restart|restart.*announce", log), log
        for name, base in zip(("edge1", "edge2"), box.edges):
            change(box, name, news)
            until(lambda: is_fresh(base) and
                  get(base, "/demo/a").body == b"3")
        generation, out = publish(box, tree, 4)
        assert generation == 4 and "switched 2 of 2 edges" in out
        assert "2 edges: 2 current" in status(box)
        # The earlier generations came along.
        for base in box.edges:
            assert get(base, "/demo/@2/a").body == b"2"
        box.pkgcast("rollback", "demo", "2")
        assert get(box.edges[1], "/demo/a").body == b"2"


def test_restored_from_an_older_copy(sandbox, tmp_path):
    box = sandbox("--edges", "2", "--master-option", "ttl=4")
    tree = str(tmp_path / "t")
    publish(box, tree, 1)
    box.kill("master", signal.SIGTERM)
    shutil.copytree(box.path("master"), tmp_path / "copy", symlinks=True)
    box.start("master")
    for n in (2, 3):
        publish(box, tree, n)
    # Cached: while the master has it no more, nobody else can give it.
    for base in box.edges:
        assert get(base, "/demo/a").body == b"3"
    box.kill("master", signal.SIGTERM)
    shutil.rmtree(box.path("master"))
    shutil.copytree(tmp_path / "copy", box.path("master"), symlinks=True)
    box.start("master")
    until(lambda: "ahead set=demo generation=3 here=1" in box.log("master"))
    until(lambda: "2 edges: 2 ahead of this master" in status(box))
    text = status(box)
    assert ("    AHEAD: edge1, edge2 hold generation 3, this master has 1:\n"
            "    publish the set again") in text, text
    assert text.count("    demo: generation 3, more than this master has") == 2
    end = time.monotonic() + 5
    while time.monotonic() < end:
        for base in box.edges:
            a = get(base, "/demo/a")
            assert a.body == b"3" and a.generation == 3
        time.sleep(0.2)
    # The publisher's record is not needed for it.
    os.unlink(box.path("home", "signed"))
    generation, _ = publish(box, tree, 4)
    assert generation == 4
    for base in box.edges:
        until(lambda: is_fresh(base) and get(base, "/demo/a").body == b"4")
    until(lambda: "2 edges: 2 current" in status(box))
    assert "AHEAD" not in status(box)


def lose(box):
    box.kill("master", signal.SIGTERM)
    os.rename(box.path("master"), box.path("lost"))


def trust_again(box, tmp_path):
    """From an edge, after the commands have said so."""
    init = ("trust", "init", "--root", box.path("home", "root.key"))
    p = box.pkgcast(*init, check=False)
    assert p.returncode == 1 and "trust restore" in p.stderr, p.stderr
    assert not os.path.exists(box.path("master", "trust", "1"))
    (tmp_path / "bad").write_bytes(b"pkgcast-trust 1\n")
    p = box.pkgcast("trust", "restore", str(tmp_path / "bad"), check=False)
    assert p.returncode == 1 and "ends before" in p.stderr
    (tmp_path / "trust").write_bytes(get(box.edges[0],
                                         "/.pkgcast/trust").body)
    out = box.pkgcast("trust", "restore", str(tmp_path / "trust")).stdout
    assert "1 of them new" in out
    until(lambda: get(box.master, "/.pkgcast/trust").body)
    assert get(box.master, "/.pkgcast/trust").body == \
        get(box.edges[1], "/.pkgcast/trust").body


def test_every_set_that_was_lost_is_told(sandbox, tmp_path):
    """More than fit into one renewal; their publisher's record is gone, too."""
    box = sandbox("--edges", "1", "--master-option", "ttl=4")
    tree = make_tree(tmp_path / "t", {"a": b"1"})
    names = ["set%d" % i for i in range(11)]
    for name in names:
        box.publish(name, tree)
    lose(box)
    shutil.copytree(box.path("lost"), box.path("master"), symlinks=True)
    for folder in ("set", "tree", "www", "blob"):
        shutil.rmtree(box.path("master", folder))
    time.sleep(4)
    box.start("master")
    until(lambda: all("ahead set=%s generation=1 here=0" % n in
                      box.log("master") for n in names), 40)
    os.unlink(box.path("home", "signed"))
    make_tree(tree, {"a": b"2"})
    for name in names:
        assert "generation 2 published" in box.publish(name, tree).stdout
        assert get(box.edges[0], "/%s/a" % name).body == b"2"


@pytest.mark.parametrize("record", (True, False))
def test_a_lost_state_folder(sandbox, tmp_path, record):
    """With a copy of the master's key; with the publisher's record or not."""
    box = sandbox("--edges", "2", "--master-option", "ttl=3")
    tree = str(tmp_path / "t")
    for n in (1, 2, 3):
        publish(box, tree, n)
    assert get(box.edges[1], "/demo/a").body == b"3"
    lose(box)
    time.sleep(3 * 1.1)                     # leases that it gave
    os.mkdir(box.path("master"), 0o750)
    for part in ("master.cert", "master.cert_secret"):
        shutil.copy2(box.path("lost", part), box.path("master"))
    box.start("master")
    assert "trust restore" in box.log("master").rpartition("stop signal")[2]
    trust_again(box, tmp_path)
    until(lambda: "ahead set=demo generation=3 here=0" in box.log("master"))
    until(lambda: "AHEAD: edge1, edge2 hold generation 3, this master has "
          "none:\n" in status(box))
    if not record:
        os.unlink(box.path("home", "signed"))
    generation, _ = publish(box, tree, 4)
    assert generation == 4
    for name, base in zip(("edge1", "edge2"), box.edges):
        until(lambda: is_fresh(base) and get(base, "/demo/a").body == b"4")
        numbers = [int(n) for n in re.findall(
            r"switched set=demo generation=(\d+)", box.log(name))]
        assert numbers == [1, 2, 3, 4]
    generation, out = publish(box, tree, 5)
    assert generation == 5 and "switched 2 of 2 edges" in out


def test_a_lost_key(sandbox, tmp_path):
    box = sandbox("--edges", "2", "--master-option", "ttl=3",
                  "--edge-option", "poll=2")
    tree = str(tmp_path / "t")
    publish(box, tree, 1)
    assert get(box.edges[0], "/demo/a").body == b"1"
    lose(box)
    box.start("master")
    until(lambda: "refuse links n=" in box.log("master"))
    until(lambda: not is_fresh(box.edges[0]))
    trust_again(box, tmp_path)
    # The publisher's record numbers above; edges follow by polling.
    generation, out = publish(box, tree, 2)
    assert generation == 2 and "no edge held a lease" in out
    for base in box.edges:
        until(lambda: get(base, "/demo/a").body == b"2")
        assert not is_fresh(base)
    until(lambda: re.search(r"no lease for \d+ s though upstreams answer.*"
                            "public_key", box.log("edge1")), 60)
    assert box.log("edge1").count("though upstreams answer") == 1
    # What mirror hosts are told to write, wherever it is read.
    key = box.status(box.master)["public_key"]
    with open(box.path("master", "master.cert")) as f:
        assert key in f.read()
    assert 'public-key = "%s"' % key in box.pkgcast(
        "edge", "invite", "other").stdout.partition("\nmaster\n")[2]
    box.pkgcast("edge", "revoke", "other")
    for name, base in zip(("edge1", "edge2"), box.edges):
        change(box, name, {("master", "public-key"): key})
        until(lambda: is_fresh(base))
    generation, out = publish(box, tree, 3)
    assert "switched 2 of 2 edges" in out
    assert "2 edges: 2 current" in status(box)


def test_another_trust_document_is_refused_and_can_be_put_right(sandbox,
                                                                tmp_path):
    box = sandbox("--edges", "1", "--master-option", "ttl=3",
                  "--edge-option", "poll=2")
    tree = str(tmp_path / "t")
    publish(box, tree, 1)
    lose(box)
    box.start("master")
    until(lambda: not is_fresh(box.edges[0]))
    time.sleep(1.1)                         # made at another second
    box.pkgcast("trust", "init", "--new", "--root",
                box.path("home", "root.key"), "--publisher",
                box.path("home", "publisher.pub"))
    until(lambda: "trust restore" in box.log("edge1"))
    (tmp_path / "trust").write_bytes(get(box.edges[0],
                                         "/.pkgcast/trust").body)
    p = box.pkgcast("trust", "restore", str(tmp_path / "trust"), check=False)
    assert p.returncode == 1 and "stop pkgcast-master, remove it" in p.stderr
    box.kill("master", signal.SIGTERM)
    os.unlink(box.path("master", "trust", "1"))
    box.pkgcast("trust", "restore", str(tmp_path / "trust"))
    box.start("master")
    publish(box, tree, 2)
    until(lambda: get(box.edges[0], "/demo/a").body == b"2")
    at = len(box.log("edge1"))
    time.sleep(5)
    assert "differs" not in box.log("edge1")[at:]
