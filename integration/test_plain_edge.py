# SPDX-License-Identifier: BSD-2-Clause
"""An edge that has no master: it starts and answers with plain sets alone."""
import concurrent.futures
import http.server
import os
import ssl
import stat
import subprocess
import threading

import pytest

from conftest import get, until
from origin import Origin
from plain import PlainEdge, edges                           # noqa: F401

NOWHERE = {"debian": {"plain": "http://127.0.0.1:1/debian"}}


@pytest.mark.quick
def test_an_edge_needs_no_master(edges):
    edge = edges(NOWHERE, name=None)
    assert " name=- sets=0 plain=1 link=no" in edge.log("edge1")
    status = edge.status(edge.base)
    assert status["name"] is None and status["sets"] == []
    assert status["upstreams"] == [] and status["poll"]["polls"] == 0
    assert get(edge.base, "/.pkgcast/metrics").status == 200
    a = get(edge.base, "/.pkgcast/heads")
    assert a.status == 200 and a.body == b"" and "stale" not in a.cache_status
    assert edge.stop() == 0


def test_what_it_does_not_have_is_not_found(edges):
    """It is no guess, as with published sets before a first word of the
    master, and nobody is waited for."""
    edge = edges(NOWHERE, "stale=refuse")
    for path in ("/", "/other", "/other/Release", "/other/@1/Release",
                 "/.pkgcast/blob/" + 64 * "0", "/.pkgcast/head/" + 64 * "0",
                 "/.pkgcast/else"):
        a = get(edge.base, path, timeout=2)
        assert (a.status, a.body) == (404, b""), path
        assert "stale" not in a.cache_status


def test_it_follows_nobody_after_hup_either(edges):
    edge = edges(NOWHERE)
    edge.configure({"debian": {**NOWHERE["debian"], "poll": "60"}}, "poll=1")
    edge.process.send_signal(1)
    until(lambda: "configuration read again" in edge.log("edge1"))
    assert "restart needed for: set.poll" in edge.log("edge1")
    assert get(edge.base, "/other/x", timeout=2).status == 404
    assert edge.status(edge.base)["poll"]["polls"] == 0
    assert edge.stop() == 0


def test_what_was_published_is_gone_when_nothing_says_so_any_more(
        sandbox, edges, tmp_path):
    """An edge that had published sets, with the same folders."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("a")
    box = sandbox("--edges", "1")
    box.publish("demo", tmp_path / "tree")
    until(lambda: get(box.edges[0], "/demo/a.txt").status == 200)
    box.kill("edge1")
    state = box.path("edge1", "state")
    assert os.path.isdir(os.path.join(state, "heads"))
    edge = edges(NOWHERE, "state=" + state,
                 "cache.dir=" + box.path("edge1", "cache"))
    assert edge.status(edge.base)["sets"] == []
    assert get(edge.base, "/demo/a.txt", timeout=2).status == 404
    assert edge.stop() == 0
    box.start("edge1")
    assert get(box.edges[0], "/demo/a.txt").body == b"a"


def mark(edge, name, *options):
    p = edge.command(*options, "mark", name)
    return p.returncode, p.stdout, p.stderr


@pytest.mark.quick
def test_marking_asks_the_edge_that_runs(edges):
    edge = edges(NOWHERE)
    control = edge.path("state", "control")
    assert stat.S_IMODE(os.stat(control).st_mode) == 0o600
    assert mark(edge, "debian") == (
        0, "debian is marked, for the 1. time\n", "")
    unknown = (1, "", "pkgcast-edge: other is no plain set here\n")
    assert mark(edge, "other") == unknown
    assert mark(edge, "../other") == (
        2, "", 'pkgcast-edge: "../other" is not the name of a set\n')
    assert mark(edge, "other", "-t")[0] == 2
    edge.process.kill()
    edge.process.wait()
    edge.process = None
    assert os.path.exists(control)
    nobody = (1, "", "pkgcast-edge: %s: no pkgcast-edge with plain sets runs "
              "on this state folder\n" % edge.path("state"))
    assert mark(edge, "debian") == nobody
    edge.start()                # takes the place of what the dead one left
    assert mark(edge, "other") == unknown
    assert mark(edge, "debian") == (
        0, "debian is marked, for the 2. time\n", "")
    assert edge.stop() == 0
    assert not os.path.exists(control)
    assert mark(edge, "debian") == nobody


def test_a_state_folder_whose_path_is_too_long_is_said_at_once(tmp_path):
    edge = PlainEdge(tmp_path / "plain", NOWHERE, "state=/tmp/" + "x" * 100)
    p = edge.command("-t")
    assert p.returncode == 2
    assert 'the path of "state" is too long for the control socket' in p.stderr


def test_without_plain_sets_there_is_no_control_socket(sandbox):
    box = sandbox("--edges", "1")
    assert os.path.exists(box.path("edge1", "state", "lock"))
    assert not os.path.exists(box.path("edge1", "state", "control"))


def test_https_with_a_certificate_that_nobody_vouches_for(edges, tmp_path):
    """Not a byte is taken from such a server."""
    names = [str(tmp_path / n) for n in ("key.pem", "cert.pem")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
                    "-keyout", names[0], "-out", names[1], "-days", "2",
                    "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost"],
                   check=True, capture_output=True)
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(names[1], names[0])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    # A client that turns away at the handshake is an error of accept().
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        edge = edges({"s": {"plain": "https://localhost:%d" %
                            server.server_port}})
        a = edge.get("/s/file")
        assert (a.status, a.body) == (503, b"")
        assert "certificate" in edge.log("edge1")
        assert asked == []
    finally:
        server.shutdown()
        server.server_close()


def test_kept_connections_are_used_again(edges):
    """Many clients at once: a request has the connection of the one before it
    as soon as that has its answer, which is before the edge hears of it."""
    origin = Origin()
    names = ["f%d" % i for i in range(400)]
    for name in names:
        origin.put(name, name.encode() * 100)
    edge = edges({"s": {"plain": origin.url}})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda n: edge.get("/s/" + n).body, names))
    assert got == [n.encode() * 100 for n in names]
    assert len(origin.asked()) >= len(names)
    assert origin.connections <= 16
    origin.close()
