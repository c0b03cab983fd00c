# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of master and edge at random moments during publish, fill and switch
(G5, G7): afterwards the state is one generation or the other, nothing that was
acknowledged is lost, nothing temporary stays, and the next start needs no
hand.  `make torture` does it 200 times."""
import http.client
import os
import random
import signal
import subprocess
import threading
import time

import pytest

from conftest import SLOW, alive, get, make_tree, sha256, until


def content_of(generation, name):
    """The same for every second generation, so that blobs come back."""
    size = 700000 if name.startswith("big") else 2000
    return random.Random("%s %d" % (name, generation // 2)).randbytes(size)


NAMES = ["big%d.pkg" % i for i in range(3)] + ["p%d.pkg" % i
                                               for i in range(30)]


class Publisher(threading.Thread):
    """Publishes one state after the other; repeats what was interrupted."""

    def __init__(self, box, tree):
        super().__init__()
        self.box, self.tree, self.stop = box, tree, False
        self.states = {}            # digest of "state" file -> state number
        self.state = 0
        self.acknowledged = 0       # highest generation that publish said
        self.faults = []

    def run(self):
        while not self.stop:
            self.state += 1
            files = {n: content_of(self.state, n) for n in NAMES}
            files["state"] = b"%d\n" % self.state
            make_tree(self.tree, files)
            while not self.stop:
                p = self.box.publish("demo", self.tree, "--prepare-wait",
                                     "1", check=False)
                if p.returncode in (0, 3):
                    self.note()
                    break
                if p.returncode not in (1, 4):
                    self.faults.append("publish: %d %s" % (p.returncode,
                                                           p.stderr))
                time.sleep(0.1)

    def note(self):
        try:
            head = self.box.head(self.box.master, "demo")
        except OSError:
            return
        if head:
            self.acknowledged = max(self.acknowledged,
                                    int(head["generation"]))


class Client(threading.Thread):
    """Asks for everything; a body must be whole and of one state."""

    def __init__(self, base):
        super().__init__()
        self.base, self.stop, self.faults, self.served = base, False, [], 0
        self.highest = 0

    def run(self):
        rng = random.Random(self.base)
        while not self.stop:
            name = rng.choice(NAMES)
            try:
                a = get(self.base, "/demo/" + name, timeout=10)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            if a.status != 200:
                time.sleep(0.02)
                continue
            self.served += 1
            if a["ETag"] != '"%s"' % sha256(a.body):
                self.faults.append("wrong bytes: " + name)
            if "stale" not in a.cache_status:
                if a.generation < self.highest:
                    self.faults.append("went back to %d from %d" % (
                        a.generation, self.highest))
            self.highest = max(self.highest, a.generation)


def leftovers(box):
    """Temporary things in the state of master and edge."""
    found = []
    for top in ("master", "edge1"):
        for where, folders, files in os.walk(box.path(top)):
            for name in files + folders:
                if name.startswith(".new.") or os.path.basename(
                        where) == "tmp":
                    found.append(os.path.join(where, name))
    trees = os.listdir(box.path("master", "tree", "demo"))
    if len(trees) > 3:
        found.append("trees: %s" % trees)
    return found


def test_kills_at_random_moments(sandbox, tmp_path, request):
    kills = request.config.getoption("--kills")
    rng = random.Random(kills)
    box = sandbox("--edges", "1", "--master-option", "ttl=2")
    publisher = Publisher(box, str(tmp_path / "tree"))
    os.makedirs(publisher.tree)
    client = Client(box.edges[0])
    publisher.start()
    until(lambda: publisher.acknowledged > 0, 60)
    client.start()
    processes = {}
    try:
        for i in range(kills):
            time.sleep(rng.random() * 1.2 * SLOW)
            victims = rng.choice([["master"], ["edge1"], ["edge1"],
                                  ["master", "edge1"]])
            for name in victims:
                box.kill(name)
                if name in processes:
                    processes[name].wait()
            for name in victims:
                processes[name] = box.spawn(name)
            for name in victims:
                base = box.master if name == "master" else box.edges[0]

                def up():
                    assert processes[name].poll() is None, box.log(
                        name)[-3000:]
                    try:
                        return get(base, "/.pkgcast/heads").status == 200
                    except OSError:
                        return False
                until(up, 30)
            head = box.head(box.master, "demo")
            assert head, "the set is gone"
            assert int(head["generation"]) >= publisher.acknowledged
            if i % 5 == 4:
                ask(box, publisher)
    finally:
        client.stop = publisher.stop = True
        publisher.join()
        client.join()
    assert not client.faults, client.faults[:5]
    assert not publisher.faults, publisher.faults[:5]
    assert client.served > kills
    # One undisturbed publish tidies up what crashes have left.
    make_tree(publisher.tree, {"state": b"end\n"})
    box.publish("demo", publisher.tree)
    assert get(box.edges[0], "/demo/state").body == b"end\n"
    until(lambda: not leftovers(box), 20)
    for n in NAMES:
        a = get(box.edges[0], "/demo/" + n)
        assert a.status == 200 and a["ETag"] == '"%s"' % sha256(a.body)
    p = subprocess.run(["mtree", "-p", box.path("master", "tree", "demo",
                                                "current") + "/"],
                       input=manifest(box), capture_output=True)
    assert p.returncode == 0, p.stdout


def manifest(box):
    digest = box.head(box.master, "demo")["manifest"].split()[0]
    return get(box.master, "/.pkgcast/blob/" +
               digest.partition(":")[2]).body


def ask(box, publisher):
    """The edge follows the master again by itself."""
    def follows():
        try:
            a = get(box.edges[0], "/demo/state")
            return a.status == 200 and a.generation >= publisher.acknowledged
        except (OSError, http.client.HTTPException):
            return False
    until(follows, 30)


@pytest.mark.quick
def test_partial_files_are_continued_after_a_crash(sandbox, tmp_path):
    from proxy import Upstream
    import urllib.parse
    up = Upstream(None)
    box = sandbox("--edges", "1", "--upstream", up.url)
    up.origin = urllib.parse.urlsplit(box.master)
    size = 8 << 20
    tree = make_tree(tmp_path / "tree", {"big": size})
    box.publish("demo", tree)
    up.rate = 4 << 20
    t = threading.Thread(target=lambda: ignore(
        lambda: get(box.edges[0], "/demo/big")))
    t.start()
    until(lambda: up.body_bytes > size // 2, 20)
    box.kill("edge1")
    t.join()
    up.rate, up.body_bytes = None, 0
    box.start("edge1")
    a = get(box.edges[0], "/demo/big")
    assert a.body == open(tree + "/big", "rb").read()
    assert up.body_bytes < size * 0.6 + (1 << 20), up.body_bytes
    up.close()


def test_a_repeated_publish_tells_how_edges_stand_now(sandbox, tmp_path):
    """Not how they stood when the publish ended."""
    box = sandbox()
    tree = make_tree(tmp_path / "tree", {"a": b"1"})
    box.publish("demo", tree)
    away = box.pid("edge2")
    os.kill(away, signal.SIGSTOP)
    try:
        make_tree(tmp_path / "tree", {"a": b"2"})
        p = box.publish("demo", tree, "--prepare-wait", "1", check=False)
        assert p.returncode == 3, p.stdout + p.stderr
        assert "lease ran out: edge2" in p.stdout
        assert "slowest edge1 " in p.stdout
    finally:
        os.kill(away, signal.SIGCONT)
    until(lambda: "switched 2 of 2" in box.publish("demo", tree).stdout, 20)


def ignore(f):
    try:
        f()
    except (OSError, http.client.HTTPException):
        pass
