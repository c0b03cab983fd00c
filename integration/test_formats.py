# SPDX-License-Identifier: BSD-2-Clause
"""What others read and write: minisign, mtree, bsdtar, static web servers."""
import functools
import http.server
import os
import shutil
import subprocess
import threading
from urllib.parse import quote

import pytest

from conftest import get, make_tree, sha256, until
from polling import PollingEdge

FILES = {"meta.conf": b"meta", "All/a b.pkg": 300000, "All/\u00e4.pkg": b"x",
         "All/Hashed/app-3.1~2$ic1ppjmf.pkg": b"y",
         "All/gtk+demo-2.0_1,1.pkg": b"z", "Latest/a.pkg": "-> ../All/a b.pkg"}


def run(*args, **kw):
    return subprocess.run(args, capture_output=True, text=True, **kw)


@pytest.fixture(scope="module")
def demo(shared, tmp_path_factory):
    tree = make_tree(tmp_path_factory.mktemp("formats") / "t", FILES)
    shared.publish("demo", tree)
    return tree


def current_head(box, name):
    for doc in get(box.master, "/.pkgcast/heads").body.decode().split(
            "pkgcast-head 1\n")[1:]:
        if doc.startswith("set %s\n" % name):
            return "pkgcast-head 1\n" + doc
    return None


@pytest.mark.quick
def test_minisign_accepts_a_head_cut_with_head_and_tail(shared, demo,
                                                        tmp_path):
    doc = tmp_path / "doc"
    doc.write_text(current_head(shared, "demo"))
    p = run("sh", "-c", 'head -n -4 doc >head && tail -n 4 doc >'
            'head.minisig && minisign -V -m head -p "$0"',
            shared.path("home", "publisher.pub"), cwd=tmp_path)
    assert p.returncode == 0, p.stdout + p.stderr
    (tmp_path / "head").write_text((tmp_path / "head").read_text().replace(
        "generation 1", "generation 2"))
    p = run("minisign", "-V", "-m", "head", "-p",
            shared.path("home", "publisher.pub"), cwd=tmp_path)
    assert p.returncode != 0


@pytest.mark.parametrize("password", ["", "a secret"])
def test_keys_of_minisign_publish(sandbox, tmp_path, password):
    box = sandbox("--edges", "1")
    sec, pub = tmp_path / "k.key", tmp_path / "k.pub"
    args = ["minisign", "-G", "-s", str(sec), "-p", str(pub)]
    if not password:
        args.append("-W")
    p = run(*args, input="%s\n%s\n" % (password, password))
    assert p.returncode == 0, p.stdout + p.stderr
    os.chmod(sec, 0o600)
    # A trust document that lists this key alone, from the same root.
    box.down()
    shutil.rmtree(box.path("master", "trust"))
    shutil.rmtree(box.path("edge1", "state", "trust"))
    box.pkgcast("trust", "init", "--root", box.path("home", "root.key"),
                "--publisher", "%s:*" % pub)
    box.up("--edges", "1")
    conf = box.path("pkgcast.conf")
    text = open(conf).read().replace(box.path("home", "publisher.key"),
                                     str(sec))
    with open(conf, "w") as f:
        f.write(text)
    tree = make_tree(tmp_path / "t", {"a": b"a"})
    p = subprocess.run(box.env["PKGCAST"].split() + ["publish", "demo", tree],
                       input=password + "\n", capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr
    assert get(box.edges[0], "/demo/a").body == b"a"


@pytest.mark.quick
def test_mtree_accepts_the_manifest_and_verifies_the_masters_tree(
        shared, demo, tmp_path):
    head = shared.head(shared.master, "demo")
    digest = head["manifest"].split()[0].partition(":")[2]
    manifest = get(shared.master, "/.pkgcast/blob/" + digest).body
    assert sha256(manifest) == digest
    path = tmp_path / "manifest"
    path.write_bytes(manifest)
    tree = shared.path("master", "tree", "demo", "current")
    p = run("mtree", "-p", tree + "/", "-f", str(path))
    assert p.returncode == 0 and p.stdout == "", p.stdout + p.stderr
    p = run("bsdtar", "-tf", str(path))
    assert p.returncode == 0, p.stderr
    assert "./All/a b.pkg" in p.stdout
    victim = tmp_path / "copy"
    shutil.copytree(tree + "/", victim, symlinks=True)
    os.chmod(victim / "meta.conf", 0o644)
    (victim / "meta.conf").write_bytes(b"atem")
    assert run("mtree", "-p", str(victim), "-f",
               str(path)).returncode == 2


@pytest.mark.quick
def test_verify_compares_trees_and_servers(shared, demo, tmp_path):
    assert shared.pkgcast("verify", "demo", demo).returncode == 0
    assert shared.pkgcast("verify", "demo",
                          shared.edges[0] + "/demo").returncode == 0
    copy = tmp_path / "copy"
    shutil.copytree(demo, copy, symlinks=True)
    (copy / "meta.conf").write_bytes(b"atem")
    os.unlink(copy / "All/\u00e4.pkg")
    (copy / "extra").write_bytes(b"")
    p = shared.pkgcast("verify", "demo", str(copy), check=False)
    assert p.returncode == 5
    for word in ("differs", "meta.conf", "missing", "extra"):
        assert word in p.stdout, p.stdout


@pytest.mark.quick
def test_every_path_is_served_as_it_is(shared, demo):
    for base in [shared.master] + shared.edges:
        for name in FILES:
            want = open(os.path.join(demo, name), "rb").read()
            a = get(base, "/demo/" + quote(name, safe="/+~$,"))
            assert a.status == 200 and a.body == want, name
            assert a["ETag"] == '"%s"' % sha256(want)
        assert get(base, "//demo/./All//gtk+demo-2.0_1,1.pkg").status == 200
        for path in ("/demo", "/demo/", "/demo/All", "/demo/All/", "/"):
            assert get(base, path).status == 404, path
        for path in ("/demo/%2e%2e/x", "/demo/a%2Fb", "/demo/%00",
                     "/demo/../x", "/demo/%zz"):
            assert get(base, path).status == 400, path


def test_a_static_server_is_a_full_upstream(sandbox, tmp_path):
    """The master's www folder behind Python's own web server."""
    box = sandbox("--edges", "0")
    tree = make_tree(tmp_path / "t", FILES)
    box.publish("demo", tree)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler,
                                directory=box.path("master", "www"))
    handler.log_message = lambda *a: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    edge = PollingEdge(box, str(tmp_path), "http://127.0.0.1:%d" %
                       server.server_address[1], kind="static")
    try:
        until(lambda: edge.body("/demo/meta.conf") == b"meta", 20)
        a = get(edge.base, "/demo/Latest/a.pkg")
        assert a.body == open(tree + "/All/a b.pkg", "rb").read()
        make_tree(tree, {"meta.conf": b"new"})
        box.publish("demo", tree)
        until(lambda: edge.body("/demo/meta.conf") == b"new", 20)
    finally:
        edge.end()
        server.shutdown()
