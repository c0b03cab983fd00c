# SPDX-License-Identifier: BSD-2-Clause
"""The request sequences of FreeBSD's package clients, byte for byte as they
send them, and what every client may do."""
import http.client
import socket
import urllib.parse

import pytest

from conftest import get, make_tree, sha256

FILES = {"meta.conf": b"version = 2;\n", "data.pkg": 5000,
         "files.pkg": 200000, "packagesite.pkg": 70000,
         "All/app-1.0.pkg": 900000, "All/gtk+demo-2.0_1,1.pkg": 40000,
         "Latest/app.pkg": "-> ../All/app-1.0.pkg"}


@pytest.fixture(scope="module")
def repo(shared, tmp_path_factory):
    tree = make_tree(tmp_path_factory.mktemp("clients") / "t", FILES)
    shared.publish("FreeBSD:14:amd64/latest", tree)
    return tree


def raw(base, *lines):
    """One request, byte for byte; the whole answer until the server closes."""
    u = urllib.parse.urlsplit(base)
    with socket.create_connection((u.hostname, u.port), timeout=20) as s:
        s.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        data = b""
        while True:
            part = s.recv(65536)
            if not part:
                return data
            data += part


class Talk:
    """One connection, one request after the other."""

    def __init__(self, base):
        u = urllib.parse.urlsplit(base)
        self.host = "%s:%d" % (u.hostname, u.port)
        self.sock = socket.create_connection((u.hostname, u.port), timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.sock.close()

    def ask(self, path, *headers):
        lines = ["GET %s HTTP/1.1" % path] + [
            h.replace("HOST", self.host) for h in headers]
        self.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        r = http.client.HTTPResponse(self.sock)
        r.begin()
        return r, r.read()

    def ended(self):
        return self.sock.recv(1) == b""


# Headers in their order; DATE and RANGE stand for lines that are not always
# there.  The third says whether it sends a date when it has none.
EPOCH = "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"
PKG = {
    "libfetch-2.8.99": (["DATE", "Host: HOST", "Accept: */*",
                         "User-Agent: pkg/2.8.99.1", "RANGE"],
                        ["meta.conf", "data.pkg", "files.pkg"], False),
    "libcurl-2.6.2": (["Host: HOST", "RANGE", "User-Agent: pkg/2.6.2",
                       "Accept: */*", "DATE"],
                      ["meta.conf", "data.pkg"], True),
    "libfetch-1.19.2": (["DATE", "Host: HOST", "Accept: */*",
                         "User-Agent: pkg/1.19.2", "RANGE",
                         "Connection: close"],
                        ["meta.conf", "packagesite.pkg"], False),
}


def lines(order, date=None, range_=None):
    place = {"DATE": date, "RANGE": range_}
    return [place.get(l, l) for l in order if place.get(l, l)]


@pytest.mark.quick
@pytest.mark.parametrize("which", PKG)
def test_pkg_updates_and_installs(shared, repo, which):
    order, catalogue, always = PKG[which]
    prefix = "/FreeBSD:14:amd64/latest/"
    closes = "Connection: close" in order
    first = EPOCH if always else None
    dates, talk = {}, None
    wanted = [(n, None) for n in catalogue] + [
        ("All/app-1.0.pkg", None), ("All/gtk+demo-2.0_1,1.pkg", None),
        ("All/app-1.0.pkg", "Range: bytes=300000-"), ("Latest/app.pkg", None)]
    try:
        for name, part in wanted:
            talk = talk or Talk(shared.edges[0])
            r, body = talk.ask(prefix + name, *lines(order, first, part))
            want = open(repo + "/" + name, "rb").read()
            assert r.status == (206 if part else 200)
            assert body == (want[300000:] if part else want)
            assert r.getheader("Content-Length") == str(len(body))
            assert r.getheader("Transfer-Encoding") is None
            dates[name] = r.getheader("Last-Modified")
            if closes:
                assert talk.ended()
                talk.sock.close()
                talk = None
        # Again: all unchanged.  (libfetch leaves the connection then.)
        for name in catalogue:
            with Talk(shared.edges[0]) as t:
                r, body = t.ask(prefix + name, *lines(
                    order, "If-Modified-Since: " + dates[name]))
                assert r.status == 304 and body == b""
                assert r.getheader("Last-Modified") == dates[name]
    finally:
        if talk:
            talk.sock.close()


@pytest.mark.quick
@pytest.mark.parametrize("which", PKG)
def test_pkg_looks_for_a_catalogue_that_is_not_there(shared, repo, which):
    order, _, always = PKG[which]
    closes = "Connection: close" in order
    talk = Talk(shared.edges[0])
    for name in ("meta.conf", "meta.txz", "data.pkg", "data.tzst",
                 "packagesite.pkg", "packagesite.tzst"):
        r, body = talk.ask("/FreeBSD:15:amd64/latest/" + name,
                           *lines(order, EPOCH if always else None))
        assert r.status == 404 and body == b""
        assert r.getheader("Content-Length") == "0"
        if closes:
            assert talk.ended()
            talk.sock.close()
            talk = Talk(shared.edges[0])
    talk.sock.close()


@pytest.mark.quick
def test_pkg_update_with_dates(shared, repo):
    base, prefix = shared.edges[0], "/FreeBSD:14:amd64/latest"
    meta = get(base, prefix + "//meta.conf", headers={
        "If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT",
        "User-Agent": "pkg/2.6.2"})
    assert meta.status == 200 and meta["Content-Length"] == "13"
    again = get(base, prefix + "//meta.conf", headers={
        "If-Modified-Since": meta["Last-Modified"]})
    assert again.status == 304 and again.body == b""
    for name in ("meta.txz", "data.tzst"):
        a = get(base, "%s/%s" % (prefix, name))
        assert a.status == 404 and a["Content-Length"] == "0"


@pytest.mark.quick
def test_pkg_resumes_with_a_bare_range(shared, repo):
    want = open(repo + "/All/app-1.0.pkg", "rb").read()
    for path in ("/All/app-1.0.pkg", "/Latest/app.pkg"):
        a = get(shared.edges[1], "/FreeBSD:14:amd64/latest" + path,
                headers={"Range": "bytes=500000-"})
        assert a.status == 206 and a.body == want[500000:]
    a = get(shared.edges[0], "/FreeBSD:14:amd64/latest/All/app-1.0.pkg",
            headers={"Range": "bytes=900000-"})
    assert a.status == 416 and a["Content-Range"] == "bytes */900000"


@pytest.mark.quick
def test_pkg_add_asks_once_a_connection(shared, repo):
    want = open(repo + "/All/app-1.0.pkg", "rb").read()
    data = raw(shared.edges[0],
               "GET /FreeBSD:14:amd64/latest/Latest/app.pkg HTTP/1.1",
               "Host: pkg.example.org", "Accept: */*",
               "User-Agent: pkg_add libfetch/2.0", "Connection: close")
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and body == want
    assert b"Transfer-Encoding" not in head
    old = raw(shared.edges[0], "GET /FreeBSD:14:amd64/latest/data.pkg "
              "HTTP/1.0")
    assert old.partition(b"\r\n\r\n")[2] == open(repo + "/data.pkg",
                                                 "rb").read()


@pytest.mark.quick
def test_methods(shared, repo):
    base, path = shared.edges[0], "/FreeBSD:14:amd64/latest/meta.conf"
    assert get(base, path, method="OPTIONS").status == 204
    for method in ("PUT", "POST", "DELETE", "TRACE", "PATCH"):
        a = get(base, path, method=method)
        assert a.status == 405 and "GET" in a["Allow"]
    a, b = get(base, path), get(base, path, method="HEAD")
    assert b.body == b"" and b.status == 200
    for h in ("Content-Length", "ETag", "Last-Modified", "Content-Type"):
        assert a[h] == b[h], h
    assert a["ETag"] == '"%s"' % sha256(FILES["meta.conf"])
    assert a["Content-Type"] == "application/octet-stream"


@pytest.mark.quick
def test_absolute_form_and_pipelining(shared, repo):
    u = urllib.parse.urlsplit(shared.edges[0])
    path = "/FreeBSD:14:amd64/latest/meta.conf"
    data = raw(shared.edges[0],
               "GET http://any.example.org%s HTTP/1.1" % path,
               "Host: any.example.org", "",
               "GET %s HTTP/1.1" % path, "Host: x", "",
               "GET %s HTTP/1.1" % path, "Host: x", "Connection: close")
    assert data.count(b"HTTP/1.1 200") == 3
    assert data.count(FILES["meta.conf"]) == 3
    assert u.port
