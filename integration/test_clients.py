# SPDX-License-Identifier: BSD-2-Clause
"""Real clients, and the request sequences of FreeBSD's package clients."""
import os
import shutil
import socket
import subprocess
import urllib.parse

import pytest

from conftest import get, make_tree, sha256

FILES = {"meta.conf": b"version = 2;\n", "data.pkg": 5000,
         "packagesite.pkg": 70000, "All/app-1.0.pkg": 900000,
         "All/gtk+demo-2.0_1,1.pkg": 40000, "Latest/app.pkg":
         "-> ../All/app-1.0.pkg"}


@pytest.fixture(scope="module")
def repo(shared, tmp_path_factory):
    tree = make_tree(tmp_path_factory.mktemp("clients") / "t", FILES)
    shared.publish("FreeBSD:14:amd64/latest", tree)
    return tree


def url(shared, path):
    return shared.edges[0] + "/FreeBSD:14:amd64/latest/" + path


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


@pytest.mark.parametrize("command", [
    ["curl", "-fsS", "-o", "OUT", "URL"],
    ["curl", "-fsS", "--http1.0", "-o", "OUT", "URL"],
    ["curl", "-fsS", "-C", "-", "-o", "OUT", "URL"],
    ["wget", "-q", "-O", "OUT", "URL"],
    ["aria2c", "-q", "-x16", "-s16", "-k1M", "--allow-overwrite=true", "-d",
     "/", "-o", "OUT", "URL"],
])
def test_the_usual_tools_get_the_right_bytes(shared, repo, tmp_path, command):
    if not shutil.which(command[0]):
        pytest.skip(command[0] + " is not installed")
    want = open(repo + "/All/app-1.0.pkg", "rb").read()
    out = str(tmp_path / "out")
    if "-C" in command:
        with open(out, "wb") as f:
            f.write(want[:300000])
    place = {"OUT": out.lstrip("/") if command[0] == "aria2c" else out,
             "URL": url(shared, "All/app-1.0.pkg")}
    p = subprocess.run([place.get(w, w) for w in command],
                       capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stderr
    assert open(out, "rb").read() == want


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


def test_apt_updates_and_fetches(shared, tmp_path):
    for tool in ("apt-get", "dpkg-deb", "apt-ftparchive"):
        if not shutil.which(tool):
            pytest.skip(tool + " is not installed")
    repo = tmp_path / "repo"
    make_deb(tmp_path, repo, "1.0")
    index(repo)
    shared.publish("debian", str(repo))
    conf = apt_conf(tmp_path, shared.edges[0] + "/debian")
    apt(conf, "update")
    apt(conf, "download", "pkgcast-hello")
    debs = [f for f in os.listdir(tmp_path) if f.endswith(".deb")]
    assert debs == ["pkgcast-hello_1.0_all.deb"]
    make_deb(tmp_path, repo, "1.1")
    index(repo)
    shared.publish("debian", str(repo))
    apt(conf, "update")
    apt(conf, "download", "pkgcast-hello")
    assert os.path.exists(tmp_path / "pkgcast-hello_1.1_all.deb")


def make_deb(tmp_path, repo, version):
    root = tmp_path / ("deb-" + version)
    os.makedirs(root / "DEBIAN")
    os.makedirs(repo / "pool", exist_ok=True)
    (root / "DEBIAN/control").write_text(
        "Package: pkgcast-hello\nVersion: %s\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: a test\n" %
        version)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(root),
                    str(repo / "pool" / ("pkgcast-hello_%s_all.deb" %
                                         version))],
                   check=True, capture_output=True)


def index(repo):
    with open(repo / "Packages", "w") as f:
        subprocess.run(["apt-ftparchive", "packages", "pool"], cwd=repo,
                       check=True, stdout=f, stderr=subprocess.DEVNULL)
    out = subprocess.run(["apt-ftparchive", "release", "."], cwd=repo,
                         check=True, capture_output=True).stdout
    (repo / "Release").write_bytes(out)


def apt_conf(tmp_path, base):
    d = tmp_path / "apt"
    for sub in ("state/lists/partial", "cache/archives/partial", "etc/parts",
                "etc/trusted"):
        os.makedirs(d / sub)
    (d / "status").write_text("")
    (d / "sources.list").write_text("deb [trusted=yes] %s ./\n" % base)
    (d / "apt.conf").write_text(
        'Dir "%s";\nDir::State "%s/state";\nDir::State::status "%s/status";\n'
        'Dir::Cache "%s/cache";\nDir::Etc "%s/etc";\n'
        'Dir::Etc::sourcelist "%s/sources.list";\n'
        'Dir::Etc::parts "%s/etc/parts";\nDir::Etc::sourceparts "-";\n'
        'Dir::Etc::trustedparts "%s/etc/trusted";\n'
        'APT::Sandbox::User "root";\nAcquire::http::Proxy "DIRECT";\n'
        'Acquire::Languages "none";\n' % ((str(d),) * 8))
    return d / "apt.conf"


def apt(conf, *args):
    p = subprocess.run(["apt-get", "-q", *args], capture_output=True,
                       text=True, cwd=conf.parent.parent, timeout=120,
                       env=dict(os.environ, APT_CONFIG=str(conf)))
    assert p.returncode == 0, p.stdout + p.stderr
