# SPDX-License-Identifier: BSD-2-Clause
"""Upstreams that lie or break: no client ever gets a wrong byte or a short body
that looks complete (G3, G4), and the edge says which upstream and why."""
import http.client
import urllib.parse

import pytest

from conftest import get, make_tree, until
from proxy import Upstream

CHUNK = 262144
SIZES = {"small.pkg": 1000, "chunk.pkg": CHUNK, "many.pkg": 3 * CHUNK + 77}


def answer(body, status="200 OK", length=None, extra=""):
    return ("HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n" % (
        status, len(body) if length is None else length, extra)
        ).encode() + body


def flipped(body, at):
    at = min(at, len(body) - 1)
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1:]


FAULTS = {
    "flip-first": lambda p, b: answer(flipped(b, 10)),
    "flip-middle": lambda p, b: answer(flipped(b, len(b) // 2)),
    "flip-last": lambda p, b: answer(flipped(b, len(b) - 1)),
    "truncated": lambda p, b: answer(b[:len(b) // 2], length=len(b)),
    "short-with-length": lambda p, b: answer(b[:len(b) // 2]),
    "close-delimited-short": lambda p, b:
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b[:len(b) // 2],
    "too-much": lambda p, b: answer(b + b"more"),
    "other-file": lambda p, b: answer(b"x" * len(b)),
    "error-page": lambda p, b: answer(
        b"<html><h1>Sorry</h1></html>", extra="Content-Type: text/html\r\n"),
    "nothing": lambda p, b: b"",
    "reset": lambda p, b: "reset",
    "garbage": lambda p, b: b"\x00\xff\x17garbage\r\n\r\n" * 20,
    "404": lambda p, b: answer(b"", "404 Not Found"),
    "403": lambda p, b: answer(b"", "403 Forbidden"),
    "500": lambda p, b: answer(b"oops", "500 Internal Server Error"),
    "503": lambda p, b: answer(b"", "503 Service Unavailable",
                               extra="Retry-After: 1\r\n"),
    "redirect": lambda p, b: answer(
        b"", "302 Found", extra="Location: http://127.0.0.1:9/\r\n"),
    "gzip": lambda p, b: answer(b, extra="Content-Encoding: gzip\r\n"),
    "hang": lambda p, b: "hang",
}


def published(box, tmp_path, *ups):
    for up in ups:
        up.origin = urllib.parse.urlsplit(box.master)
    tree = make_tree(tmp_path / "tree", SIZES)
    box.publish("demo", tree)
    return {n: open(tree + "/" + n, "rb").read() for n in SIZES}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_alone_it_fails_honestly_and_recovers(sandbox, tmp_path, fault):
    up = Upstream(None)
    box = sandbox("--edges", "1", "--upstream", up.url,
                  "--edge-option", "first-byte=2",
                  "--edge-option", "fill.low-time=2", "--edge-option", "aside=1")
    content = published(box, tmp_path, up)
    up.fault = FAULTS[fault]
    for name, body in content.items():
        try:
            a = get(box.edges[0], "/demo/" + name, timeout=60)
        except (http.client.HTTPException, ConnectionError):
            continue                        # cut: the client knows
        if a.status == 200:
            # Only an answer that is right after all may look complete.
            assert a.body == body, (name, len(a.body))
        else:
            assert a.status == 503 and a.body == b""
            assert a["Retry-After"]
    assert up.url in box.log("edge1"), "the log does not name the upstream"
    up.fault = None
    for name, body in content.items():
        until(lambda: whole(box.edges[0], "/demo/" + name) == body, 20, 0.2)
    up.close()


def whole(base, path):
    """The body of a complete 200, or None."""
    try:
        a = get(base, path)
    except (http.client.HTTPException, ConnectionError):
        return None
    return a.body if a.status == 200 else None


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"hang"}))
def test_beside_a_good_one_the_client_notices_nothing(sandbox, tmp_path,
                                                      fault):
    bad, good = Upstream(None), Upstream(None)
    box = sandbox("--edges", "1", "--upstream", bad.url, "--upstream",
                  good.url)
    content = published(box, tmp_path, bad, good)
    bad.fault = FAULTS[fault]
    for name, body in content.items():
        a = get(box.edges[0], "/demo/" + name)
        assert a.status == 200 and a.body == body
    if fault != "404":                      # only says that it is not there
        assert bad.url in box.log("edge1")
    bad.close()
    good.close()


@pytest.mark.quick
def test_the_upstream_with_wrong_bytes_is_named_and_set_aside(sandbox,
                                                              tmp_path):
    bad, good = Upstream(None), Upstream(None)
    box = sandbox("--edges", "1", "--upstream", bad.url, "--upstream",
                  good.url)
    content = published(box, tmp_path, bad, good)
    bad.fault = FAULTS["flip-first"]
    for name, body in content.items():
        assert get(box.edges[0], "/demo/" + name).body == body
    asked = len(bad.blobs())
    assert asked <= len(content)
    states = {u["url"]: u for u in box.status(box.edges[0])["upstreams"]}
    assert states[bad.url]["aside"] and not states[good.url]["aside"]
    assert "digest" in states[bad.url]["last_error"]
    bad.close()
    good.close()


def test_an_upstream_that_never_answers_holds_up_no_lease(sandbox):
    up = Upstream(None, silent=True)
    box = sandbox("--edges", "1", "--upstream", up.url)
    assert box.status(box.edges[0])["lease"]["held"]
    up.close()
