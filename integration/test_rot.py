# SPDX-License-Identifier: BSD-2-Clause
"""Stored files that the disk changes, while the edge is down or while it runs:
clients get right bytes, only damaged chunks are fetched again, and what is whole
is a hit (G3, G4)."""
import http.client
import os

import pytest

from conftest import get, make_tree, sha256, until

CHUNK = 262144
FILES = {"small.pkg": 5000, "one.pkg": CHUNK, "many.pkg": 40 * CHUNK + 77}


def bodies_of(tree):
    return {n: open(os.path.join(tree, n), "rb").read() for n in FILES}


def stored(box, body):
    d = sha256(body)
    return box.path("edge1", "cache", "blob", d[:2], d)


def rot(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        c = f.read(1)
        f.seek(at)
        f.write(bytes([c[0] ^ 1]))


def fetched(box):
    s = box.status(box.edges[0])
    return sum(u["bytes"] for u in s["upstreams"]), s["cache"]["dropped"]


def filled(sandbox, tmp_path, *options, scrub=0):
    """An edge that has all of a set stored, and is down."""
    box = sandbox("--edges", "1", "--edge-option", "scrub.rate=%s" % scrub,
                  *options)
    tree = make_tree(tmp_path / "tree", FILES)
    box.publish("demo", tree)
    bodies = bodies_of(tree)
    for name, body in bodies.items():
        assert get(box.edges[0], "/demo/" + name).body == body
    until(lambda: all(os.path.exists(stored(box, b))
                      for b in bodies.values()), 20)
    box.kill("edge1")
    return box, bodies


@pytest.mark.quick
def test_first_use_after_a_start(sandbox, tmp_path):
    """Right ones are hits that ask nobody, from the first byte on."""
    box, bodies = filled(sandbox, tmp_path)
    box.start("edge1")
    before = fetched(box)[0]
    for name, body in bodies.items():
        for headers in ({"Range": "bytes=-1"}, {}):
            a = get(box.edges[0], "/demo/" + name, headers=headers)
            assert a.body == (body[-1:] if headers else body)
            assert "; hit" in a.cache_status and "fwd" not in a.cache_status
    assert fetched(box) == (before, 0)


@pytest.mark.quick
@pytest.mark.parametrize("at", [0, 20 * CHUNK + 3, 40 * CHUNK + 76])
def test_rot_while_down(sandbox, tmp_path, at):
    """Only what is damaged is fetched again, once for all who ask."""
    box, bodies = filled(sandbox, tmp_path)
    for body in bodies.values():
        rot(stored(box, body), min(at, len(body) - 1))
    box.start("edge1")
    before = fetched(box)[0]
    for name, body in bodies.items():
        a = get(box.edges[0], "/demo/" + name)
        assert a.status == 200 and a.body == body
    last = 77 if at >= 40 * CHUNK else CHUNK
    until(lambda: fetched(box)[0] - before >= 5000 + CHUNK + last, 20)
    assert fetched(box) == (before + 5000 + CHUNK + last, len(bodies))
    for name, body in bodies.items():
        until(lambda: os.path.exists(stored(box, body)), 20)
        with open(stored(box, body), "rb") as f:
            assert sha256(f.read()) == sha256(body)
        assert "; hit" in get(box.edges[0], "/demo/" + name).cache_status
    assert not os.listdir(box.path("edge1", "cache", "partial"))


def test_rot_and_no_upstream(sandbox, tmp_path):
    """Without anybody to ask, bytes before the damage and after it are right,
    those of the chunk itself are not sent, and nothing looks complete."""
    box, bodies = filled(sandbox, tmp_path, "--edge-option",
                         "fill.first-byte=1")
    body = bodies["many.pkg"]
    rot(stored(box, body), 20 * CHUNK)
    box.start("edge1")
    box.kill("master")
    for first, last, whole in ((0, 20 * CHUNK - 1, True),
                               (21 * CHUNK, len(body) - 1, True),
                               (20 * CHUNK, 20 * CHUNK + 9, False),
                               (19 * CHUNK, len(body) - 1, False)):
        try:
            a = get(box.edges[0], "/demo/many.pkg", headers={
                "Range": "bytes=%d-%d" % (first, last)})
        except http.client.IncompleteRead as e:
            assert not whole
            assert body[first:20 * CHUNK].startswith(e.partial)
            continue
        if a.status == 206:
            assert whole and a.body == body[first:last + 1]
        else:
            assert not whole and a.status == 503 and a.body == b""
    box.start("master")
    assert get(box.edges[0], "/demo/many.pkg").body == body


def test_rot_while_running(sandbox, tmp_path):
    """The scrub finds it without any request, however often it is asked for."""
    box, bodies = filled(sandbox, tmp_path, scrub="100M")
    many, small = (stored(box, bodies[n]) for n in ("many.pkg", "small.pkg"))
    box.start("edge1")
    scrubbed = lambda: box.status(box.edges[0])["cache"]["scrubbed"]
    until(lambda: scrubbed() >= 3, 30)
    assert fetched(box)[1] == 0
    rot(many, 1000)
    rot(small, 1000)
    box.kill("edge1")                   # else the next round is an hour away
    box.start("edge1")
    until(lambda: fetched(box)[1] == 2 and not os.path.exists(many) and
          not os.path.exists(small), 30)
    for name, body in bodies.items():
        assert get(box.edges[0], "/demo/" + name).body == body
