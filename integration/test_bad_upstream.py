# SPDX-License-Identifier: BSD-2-Clause
"""What the edge says of an upstream that lies, and does without one that is
silent.  What clients get of bad upstreams is in test_fault_matrix.py."""
import itertools
import re
import urllib.parse

import pytest

from conftest import get, make_tree, until
from proxy import Upstream

CHUNK = 262144
SIZES = {"small.pkg": 1000, "chunk.pkg": CHUNK, "many.pkg": 3 * CHUNK + 77}


def flip(path, sock, head, body):
    body = body[:10] + bytes([body[10] ^ 1]) + body[11:]
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" %
                 len(body) + body)
    return True


def flip_and_cut(path, sock, head, body):
    """Ended before anybody can have verified the first chunk."""
    body = body[:10] + bytes([body[10] ^ 1]) + body[11:]
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" %
                 len(body) + body[:CHUNK + 1])
    return True


def published(box, tmp_path, *ups):
    for up in ups:
        up.origin = urllib.parse.urlsplit(box.master)
    tree = make_tree(tmp_path / "tree", SIZES)
    box.publish("demo", tree)
    return {n: open(tree + "/" + n, "rb").read() for n in SIZES}


def samples(base, path):
    """What Prometheus would read there; each name's samples in a row."""
    a = get(base, path)
    assert a.status == 200
    assert a["Content-Type"] == "text/plain; version=0.0.4"
    lines = a.body.decode().splitlines()
    names = [re.fullmatch(r"(pkgcast_\w+)(\{.*\})? -?[0-9.e+]+", l).group(1)
             for l in lines]
    for l in lines:
        labels = re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', l)
        assert len(labels) == len(set(labels)), l
    assert len({n for n, _ in itertools.groupby(names)}) == len(
        list(itertools.groupby(names)))
    return {l.rpartition(" ")[0]: float(l.rpartition(" ")[2]) for l in lines}


@pytest.fixture
def pair(sandbox, tmp_path):
    """Options -> (box, a bad upstream, a good one behind it, {name: bytes})."""
    ups = Upstream(None), Upstream(None)

    def make(*options):
        box = sandbox("--edges", "1", "--upstream", ups[0].url, "--upstream",
                      ups[1].url, *options)
        return (box, *ups, published(box, tmp_path, *ups))
    yield make
    for up in ups:
        up.close()


def states(box):
    return {u["url"]: u for u in box.status(box.edges[0])["upstreams"]}


@pytest.mark.quick
def test_the_upstream_with_wrong_bytes_is_named_and_set_aside(pair):
    box, bad, good, content = pair()
    bad.fault = flip
    for name, body in content.items():
        assert get(box.edges[0], "/demo/" + name).body == body
    asked = len(bad.blobs())
    assert asked <= len(content)
    now = states(box)
    assert now[bad.url]["aside"] and not now[good.url]["aside"]
    assert "digest" in now[bad.url]["last_error"]
    metrics = samples(box.edges[0], "/.pkgcast/metrics")
    for up in bad, good:
        assert metrics['pkgcast_upstreams_aside{upstream="%s"}' % up.url] == \
            now[up.url]["aside"]
    assert metrics['pkgcast_upstreams_failures{upstream="%s"}' % bad.url] >= 1
    assert "set aside" in box.log("edge1") and bad.url in box.log("edge1")
    told = samples(box.env["MASTER_STATUS"], "/metrics")
    assert told['pkgcast_sets_generation{set="demo"}'] == 1


@pytest.mark.quick
def test_wrong_bytes_count_as_such_where_the_answer_is_cut_too(pair):
    box, bad, good, content = pair()
    bad.fault = flip_and_cut
    assert get(box.edges[0], "/demo/many.pkg").body == content["many.pkg"]
    now = states(box)
    assert now[bad.url]["aside"] and not now[good.url]["aside"]
    assert "wrong bytes" in now[bad.url]["last_error"]
    assert "chunk=0 reason=wrong bytes" in box.log("edge1")


def test_an_upstream_that_was_set_aside_is_asked_again_when_its_time_is_up(
        pair):
    # Tenfold for wrong bytes.
    box, bad, good, content = pair("--edge-option", "fill.aside=1")
    edge = box.edges[0]

    def is_aside():
        return states(box)[bad.url]["aside"]
    bad.fault = flip
    first, second, third = sorted(content)
    assert get(edge, "/demo/" + first).body == content[first]
    assert is_aside()
    bad.fault = None
    asked = len(bad.blobs())
    if is_aside():                          # a slow machine may be late
        assert get(edge, "/demo/" + second).body == content[second]
        assert len(bad.blobs()) == asked or not is_aside()
    until(lambda: not is_aside(), 15)
    asked = len(bad.blobs())
    assert get(edge, "/demo/" + third).body == content[third]
    assert len(bad.blobs()) > asked


def test_an_upstream_that_never_answers_holds_up_no_lease(sandbox):
    up = Upstream(None, silent=True)
    box = sandbox("--edges", "1", "--upstream", up.url)
    assert box.status(box.edges[0])["lease"]["held"]
    up.close()
