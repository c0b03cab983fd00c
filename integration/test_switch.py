# SPDX-License-Identifier: BSD-2-Clause
"""Switches under load: whole (G1), acknowledged (G2), without needless traffic
(G6), and back by rollback without going back (G7)."""
import http.client
import os
import random
import re
import threading
import time
import urllib.parse

import pytest

from conftest import SLOW, get, make_tree, sha256, until

FILES = 20000 if SLOW == 1 else 2000
CHANGED = 200 if SLOW == 1 else 100


class Hammer:
    """Clients on keep-alive connections who note each answer."""

    def __init__(self, bases, paths, threads=2):
        self.stop, self.errors, self.answers = False, [], []
        self.paths = paths
        self.threads = [threading.Thread(target=self.run, args=(b, i))
                        for b in bases for i in range(threads)]
        for t in self.threads:
            t.start()

    def run(self, base, seed):
        rng = random.Random(seed)
        u = urllib.parse.urlsplit(base)
        c = http.client.HTTPConnection(u.hostname, u.port, timeout=60)
        try:
            while not self.stop:
                path = rng.choice(self.paths)
                start = time.monotonic()
                c.request("GET", "/demo/" + path)
                r = c.getresponse()
                body = r.read()
                key = r.getheader("Cache-Status", "").partition('key="')[2]
                generation = int(key.partition('"')[0].rpartition("@")[2])
                self.answers.append((start, base, path, generation, r.status,
                                     sha256(body)))
        except Exception as e:              # noqa: told by end()
            self.errors.append("%s: %r" % (base, e))
        finally:
            c.close()

    def end(self):
        self.stop = True
        for t in self.threads:
            t.join()
        assert not self.errors, self.errors


def names(n):
    return ["All/%03d/p%05d.pkg" % (i % 100, i) for i in range(n)]


def test_switch_of_200_of_20000_files_under_load(sandbox, tmp_path):
    box = sandbox()
    paths = names(FILES)
    content = {p: ("%s one\n" % p).encode() for p in paths}
    tree = make_tree(tmp_path / "t", content)
    box.publish("demo", tree)
    digests = {1: {p: sha256(c) for p, c in content.items()}}
    rng = random.Random(1)
    changed = rng.sample(paths, CHANGED)
    hot = changed[:60] + [p for p in paths[:60] if p not in changed]
    for p in changed:
        content[p] = ("%s two\n" % p).encode()
    make_tree(tree, {p: content[p] for p in changed})
    removed = paths[-1]
    hot = [p for p in hot if p != removed]
    os.unlink(os.path.join(tree, removed))
    digests[2] = {p: sha256(c) for p, c in content.items() if p != removed}
    hammer = Hammer(box.edges, hot)
    time.sleep(1.5)
    box.publish("demo", tree)
    published = time.monotonic()
    time.sleep(1.5)
    hammer.end()
    seen = set()
    for start, base, path, generation, status, digest in hammer.answers:
        assert status == 200, (path, status)
        assert digest == digests[generation][path], (path, generation)
        if start > published:
            assert generation == 2, (base, path, start - published)
        seen.add((base, generation))
    assert seen == {(b, g) for b in box.edges for g in (1, 2)}
    # In grace the path that is gone still answers, from generation 1.
    a = get(box.edges[0], "/demo/" + removed)
    assert a.status == 200 and a.generation == 1


@pytest.mark.quick
def test_unchanged_files_cost_no_upstream_request(sandbox, tmp_path):
    box = sandbox()
    tree = make_tree(tmp_path / "t", {n: 3000 for n in names(50)})
    box.publish("demo", tree)
    paths = names(50)
    for base in box.edges:
        for p in paths:
            assert get(base, "/demo/" + p).status == 200
    until(lambda: len(box.upstream_requests()) >= 2 * 50, 10)
    time.sleep(1.5)                         # the log is written in batches
    before = len(box.upstream_requests())
    make_tree(tree, {p: 4000 for p in paths[:5]})
    box.publish("demo", tree)
    for base in box.edges:
        for p in paths[5:]:
            a = get(base, "/demo/" + p)
            assert a.generation == 2 and "; hit" in a.cache_status
    for base in box.edges:
        for p in paths[:5]:
            assert len(get(base, "/demo/" + p).body) == 4000
    until(lambda: len(box.upstream_requests()) >= before + 2 * (1 + 5), 10)
    time.sleep(1.5)
    # Per edge: manifest, chunk table (empty or unchanged: none), 5 files.
    assert len(box.upstream_requests()) - before <= 2 * (2 + 5)


@pytest.mark.quick
def test_a_path_that_is_not_in_the_set_is_refused_locally(shared, tmp_path):
    tree = make_tree(tmp_path / "t", {"a": b"a"})
    shared.publish("absent", tree)
    time.sleep(1.2)
    before = len(shared.log("master")), os.path.getsize(
        shared.path("master-access.log"))
    for i in range(50):
        a = get(shared.edges[0], "/absent/none-%d" % i)
        assert a.status == 404 and a.body == b"" and a[
            "Content-Length"] == "0"
    time.sleep(1.2)
    assert os.path.getsize(shared.path("master-access.log")) == before[1]


@pytest.mark.quick
def test_rollback_is_a_new_generation_with_later_times(shared, tmp_path):
    tree = make_tree(tmp_path / "t", {"meta.conf": b"one", "All/a": b"a",
                                      "All/old": b"old"})
    shared.publish("back", tree)
    one = get(shared.edges[0], "/back/meta.conf")
    os.unlink(tree + "/All/old")
    make_tree(tree, {"meta.conf": b"two"})
    shared.publish("back", tree)
    two = get(shared.edges[0], "/back/meta.conf")
    shared.pkgcast("rollback", "back")
    for base in shared.edges:
        three = get(base, "/back/meta.conf")
        assert three.body == b"one" and three.generation == 3
        assert get(base, "/back/All/old").generation == 3
    dates = [time.mktime(time.strptime(a["Last-Modified"],
                                       "%a, %d %b %Y %H:%M:%S GMT"))
             for a in (one, two, three)]
    assert dates[0] < dates[1] < dates[2]
    same = [get(shared.edges[0], "/back/@%d/All/a" % g)["Last-Modified"]
            for g in (1, 2, 3)]
    assert len(set(same)) == 1


@pytest.mark.quick
def test_kept_generations_have_addresses_of_their_own(shared, tmp_path):
    tree = make_tree(tmp_path / "t", {"a": b"one", "gone": b"x"})
    shared.publish("pins", tree)
    os.unlink(tree + "/gone")
    make_tree(tree, {"a": b"two", "new": b"n"})
    shared.publish("pins", tree)
    for base in [shared.master] + shared.edges:
        assert get(base, "/pins/a").body == b"two"
        assert get(base, "/pins/@1/a").body == b"one"
        assert get(base, "/pins/@1/gone").body == b"x"
        assert get(base, "/pins/@1/new").status == 404
        assert get(base, "/pins/@2/new").body == b"n"
        assert get(base, "/pins/@2/gone").status == 404
        assert get(base, "/pins/gone").body == b"x"
        for g in ("@3/a", "@99/a"):
            assert get(base, "/pins/" + g).status == 410
        immutable = get(base, "/pins/@1/a")["Cache-Control"]
        assert "immutable" in immutable
        assert get(base, "/pins/a")["Cache-Control"] == "no-cache"
    shared.publish("pins", tree, "--withdraw")
    for base in [shared.master] + shared.edges:
        assert get(base, "/pins/@1/a").status == 410
        assert get(base, "/pins/gone").status == 404


@pytest.mark.quick
def test_nothing_changed_makes_no_generation(shared, tmp_path):
    tree = make_tree(tmp_path / "t", {"a": b"a"})
    shared.publish("still", tree)
    head = shared.head(shared.master, "still")
    out = shared.publish("still", tree).stdout
    assert shared.head(shared.master, "still") == head
    assert "nothing changed" in out.lower()


def test_verbose_publish_and_rollback_tell_where_the_time_went(shared,
                                                               tmp_path):
    tree = make_tree(tmp_path / "tree", {"a": b"one\n"})
    steps = (r"timed: read (\S+) s, sent (\S+) s, tree (\S+) s, prepared "
             r"(\S+) s, switched (\S+) s\n")
    shared.publish("timed", tree)
    make_tree(tree, {"a": b"two\n"})
    for words in (["publish", "timed", tree], ["rollback", "timed"]):
        begin = time.monotonic()
        p = shared.pkgcast("-v", *words)
        took = time.monotonic() - begin
        found = re.search(steps, p.stderr)
        assert found, p.stderr
        # Each is rounded to a tenth of a second.
        assert sum(map(float, found.groups())) <= took + 0.25 + 1e-6
    assert "timed: read" not in shared.publish("timed", tree).stderr


def test_an_edge_that_was_away_learns_what_it_missed(sandbox, tmp_path):
    box = sandbox()
    tree = make_tree(tmp_path / "t", {"a": b"1", "was1": b"x"})
    box.publish("demo", tree)
    box.kill("edge2")
    os.unlink(tree + "/was1")
    make_tree(tree, {"a": b"2", "was2": b"y"})
    # edge2's lease runs out while publish waits: published, not everywhere.
    p = box.publish("demo", tree, check=False)
    assert p.returncode == 3 and "edge2" in p.stdout + p.stderr
    os.unlink(tree + "/was2")
    make_tree(tree, {"a": b"3"})
    assert box.publish("demo", tree, check=False).returncode == 0
    box.start("edge2")
    until(lambda: get(box.edges[1], "/demo/a").generation == 3, 20)
    until(lambda: get(box.edges[1], "/demo/@2/was2").status == 200, 20)
    assert get(box.edges[1], "/demo/@1/was1").body == b"x"
    assert get(box.edges[1], "/demo/was2").body == b"y"
    assert get(box.edges[1], "/demo/was1").body == b"x"
