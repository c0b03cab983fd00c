# SPDX-License-Identifier: BSD-2-Clause
"""Manifests and chunk tables that are sent coded (RFC 9842): what clients of
either daemon see of that, what a switch costs an edge with it, and upstreams
that lie in what they code."""
import base64
import collections
import hashlib
import os
import random
import re
import subprocess
import threading
import urllib.parse

import pytest

from conftest import get, make_tree, sha256, until
from proxy import Upstream
from rewire import through_relays
from wire import Wire

DCZ = bytes.fromhex("5e2a4d1820000000")
VARY = "Accept-Encoding, Available-Dictionary"
DOCUMENT = re.compile(r"/\.pkgcast/blob/([0-9a-f]{64})")


def dictionary(digest):
    return ":%s:" % base64.b64encode(bytes.fromhex(digest)).decode()


def documents(box, name):
    """Digests of the current manifest and chunk table."""
    head = box.head(box.master, name)
    return [head[k].split()[0].partition(":")[2]
            for k in ("manifest", "chunks")]


def unzstd(tmp_path, body, patch_from=None):
    coded = tmp_path / "coded.zst"
    coded.write_bytes(body)
    args = ["zstd", "-q", "-d", "-c", str(coded)]
    if patch_from is not None:
        old = tmp_path / "old"
        old.write_bytes(patch_from)
        args.insert(3, "--patch-from=" + str(old))
    return subprocess.run(args, check=True, capture_output=True).stdout


def dcz(tmp_path, new, old):
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    return DCZ + hashlib.sha256(old).digest() + subprocess.run(
        ["zstd", "-q", "--patch-from=" + str(tmp_path / "old"),
         str(tmp_path / "new"), "-c"], check=True, capture_output=True).stdout


def files(n, seed, size=None):
    rng = random.Random(seed)
    return {"All/p%05d-%d.%d.pkg" % (i, rng.randrange(9), rng.randrange(99)):
            rng.randbytes(size or rng.randrange(20, 200)) for i in range(n)}


def changed(content, part, seed):
    """The same with that part of the files changed."""
    rng = random.Random(seed)
    out = dict(content)
    packages = [name for name in sorted(out) if name.startswith("All/")]
    for name in rng.sample(packages, int(len(packages) * part)):
        out[name] = rng.randbytes(len(out[name]) + rng.randrange(3))
    return out


def two_generations(box, tmp_path, name="demo", n=400):
    """Published one after the other; digests and bytes of the manifests."""
    content = files(n, name)
    content["big.pkg"] = random.Random(name).randbytes(3000000)
    out = []
    for generation in range(2):
        tree = make_tree(tmp_path / name, content)
        box.publish(name, tree)
        manifest = documents(box, name)[0]
        out.append((manifest,
                    get(box.master, "/.pkgcast/blob/" + manifest).body))
        content = changed(content, 0.02, generation)
    return out


def curl(tmp_path, url, *args):
    """Status, fields and body, as curl got them raw."""
    head, body = tmp_path / "head", tmp_path / "body"
    subprocess.run(["curl", "-sS", "--raw", "-D", str(head), "-o", str(body),
                    *args, url], check=True)
    lines = head.read_bytes().decode("ascii").split("\r\n")
    return int(lines[0].split()[1]), dict(
        l.split(": ", 1) for l in lines[1:] if l), body.read_bytes()


@pytest.mark.quick
def test_both_daemons_answer_alike(shared, tmp_path):
    (old, old_body), (new, new_body) = two_generations(shared, tmp_path)
    target = "/.pkgcast/blob/" + new
    for base in shared.master, *shared.edges:
        status, plain, body = curl(tmp_path, base + target)
        assert (status, body) == (200, new_body)
        assert plain["ETag"] == '"%s"' % new and plain["Vary"] == VARY
        assert "Content-Encoding" not in plain

        status, zstd, body = curl(tmp_path, base + target, "-H",
                                  "Accept-Encoding: gzip, zstd;q=0.8")
        assert status == 200 and zstd["Content-Encoding"] == "zstd"
        assert zstd["ETag"] == '"%s-zstd"' % new and zstd["Vary"] == VARY
        assert int(zstd["Content-Length"]) == len(body) < len(new_body)
        assert unzstd(tmp_path, body) == new_body

        status, fields, body = curl(
            tmp_path, base + target, "-H", "Accept-Encoding: dcz, zstd",
            "-H", "Available-Dictionary: " + dictionary(old),
            "-H", "Range: bytes=10-20")
        assert status == 200 and fields["Content-Encoding"] == "dcz"
        assert fields["ETag"] == '"%s-dcz-%s"' % (new, old)
        assert fields["Vary"] == VARY and "Accept-Ranges" not in fields
        assert body[:40] == DCZ + bytes.fromhex(old)
        assert unzstd(tmp_path, body[40:], old_body) == new_body
        assert len(body) < len(new_body) / 10

        for tag, want in ('"%s-dcz-%s"' % (new, old), 304), ('"x"', 200):
            status, _, body = curl(
                tmp_path, base + target, "-H", "Accept-Encoding: dcz, zstd",
                "-H", "Available-Dictionary: " + dictionary(old),
                "-H", "If-None-Match: " + tag)
            assert status == want
        # A file is sent as it is.
        status, fields, body = curl(
            tmp_path, base + "/demo/big.pkg", "-H", "Accept-Encoding: zstd")
        assert status == 200 and len(body) == 3000000
        assert "Vary" not in fields and "Content-Encoding" not in fields


def test_what_curl_takes_off_is_the_manifest(shared, tmp_path):
    features = subprocess.run(["curl", "-V"], capture_output=True,
                              text=True).stdout
    if "zstd" not in features:
        pytest.skip("this curl knows no zstd")
    (_, _), (new, body) = two_generations(shared, tmp_path, "curls")
    out = subprocess.run(["curl", "-sS", "--compressed", shared.edges[0] +
                          "/.pkgcast/blob/" + new], check=True,
                         capture_output=True).stdout
    assert out == body


def test_a_switch_costs_little_more_than_what_changed(sandbox, tmp_path,
                                                      request):
    """Of many small files 1% change."""
    box = sandbox("--edges", "1")
    n = request.config.getoption("--files")
    content = files(n, 1)
    tree = make_tree(tmp_path / "tree", content)
    box.publish("demo", tree)
    first = box.status(box.edges[0])["documents"]
    make_tree(tree, {k: v for k, v in changed(content, 0.01, 2).items()
                     if content[k] != v})
    box.publish("demo", tree)
    new = documents(box, "demo")[0]
    size = len(get(box.master, "/.pkgcast/blob/" + new).body)
    zstd = len(get(box.master, "/.pkgcast/blob/" + new,
                   headers={"Accept-Encoding": "zstd"}).body)
    status = box.status(box.edges[0])
    second = {k: status["documents"][k] - first[k] for k in first}
    print("plain %d, zstd %d, dcz %d bytes" % (size, zstd, second["bytes"]))
    assert second["fetched"] == second["dcz"] == 1
    assert second["size"] == size > 100 * n
    assert second["bytes"] < 2 * n      # 200 for each that changed
    assert zstd < size / 2
    assert first["zstd"] == 1 and first["bytes"] < first["size"] / 2
    name, body = sorted(content.items())[5]
    assert get(box.edges[0], "/demo/" + name).body == open(
        os.path.join(tree, name), "rb").read()


def test_many_who_ask_at_once_have_one_made(sandbox, tmp_path):
    box = sandbox("--edges", "1")
    (old, _), (new, _) = two_generations(box, tmp_path, n=1000)
    made = box.status(box.master)["coded"]["made"]
    u = urllib.parse.urlsplit(box.master)
    request = ("GET /.pkgcast/blob/%s HTTP/1.1\r\nHost: a\r\n"
               "Accept-Encoding: dcz\r\nAvailable-Dictionary: %s\r\n\r\n" % (
                   old, dictionary(new))).encode()
    wires = [Wire((u.hostname, u.port)) for _ in range(200)]
    for w in wires:
        w.send(request)
    answers = [w.read() for w in wires]
    assert {(a.status, a["content-encoding"], a.body) for a in answers} == {
        (200, "dcz", answers[0].body)}
    for w in wires:
        w.close()
    after = box.status(box.master)["coded"]
    assert after["made"] == made + 1
    assert after["answers"] >= 200 and 0 < after["bytes"] < 32 << 20


def coded_proxies(n):
    ups = [Upstream(None) for _ in range(n)]
    for up in ups:
        up.forwards += ("accept-encoding", "available-dictionary")
    return ups


def published(sandbox, tmp_path, seed, *ups, kind="master"):
    """A box whose edge has those upstreams, before its master, and 1,500 files
    in it: with their folder and content."""
    words = [w for up in ups for w in ("--upstream", kind + "=" + up.url)]
    box = sandbox("--edges", "1", *words)
    for up in ups:
        up.origin = urllib.parse.urlsplit(box.master)
    content = files(1500, seed)
    tree = make_tree(tmp_path / "tree", content)
    box.publish("demo", tree)
    return box, tree, content


LIES = {
    "cut": lambda t, b, new, old: b[:-3],
    "flipped": lambda t, b, new, old: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:],
    "empty": lambda t, b, new, old: b"",
    "no frame": lambda t, b, new, old: b[:44] + b"x" * 100,
    "trailing": lambda t, b, new, old: b + b"\0",
    "another dictionary": lambda t, b, new, old: b[:39] + b"x" + b[40:],
    "another document": lambda t, b, new, old: dcz(t, old, old),
    "much longer": lambda t, b, new, old: dcz(t, bytes(len(new) * 30), old),
    "endless": lambda t, b, new, old: b + bytes(2 * len(new) + 100000),
    "as zstd": lambda t, b, new, old: b,
    "as it is": lambda t, b, new, old: new[::-1],
}


class Liar:
    """A fault that answers what is coded with a lie, and what is not truly."""

    def __init__(self, box, tmp_path, lie, old):
        self.box, self.tmp_path, self.lie, self.old = box, tmp_path, lie, old
        self.told = []

    def __call__(self, path, sock, head, body):
        fields = [h for h in head if h.lower().startswith("content-encoding")]
        if not fields:
            return False
        digest = DOCUMENT.search(path).group(1)
        new = get(self.box.master, "/.pkgcast/blob/" + digest).body
        body = LIES[self.lie](self.tmp_path, body, new, self.old)
        coding = {"as zstd": fields[0].replace("dcz", "zstd"),
                  "as it is": "X-Nothing: x"}.get(self.lie, fields[0])
        self.told.append(digest)
        sock.sendall(("HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n" % (
            coding, len(body))).encode() + body)
        return True


def manifest(box):
    return get(box.master, "/.pkgcast/blob/" + documents(box, "demo")[0]).body


def test_after_a_coded_lie_the_document_comes_as_it_is(sandbox, tmp_path):
    """Where there is nobody else: each lie is told once, and changes nothing."""
    bad, = coded_proxies(1)
    box, tree, content = published(sandbox, tmp_path, 6, bad)
    for generation, lie in enumerate(sorted(LIES), 2):
        before = box.status(box.edges[0])
        liar = bad.fault = Liar(box, tmp_path, lie, manifest(box))
        content = changed(content, 0.05, generation)
        box.publish("demo", make_tree(tmp_path / "tree", content))
        new = documents(box, "demo")[0]
        assert liar.told == [new], lie
        assert box.head(box.edges[0], "demo")["generation"] == str(generation)
        assert sha256(get(box.edges[0], "/.pkgcast/blob/" + new).body) == new
        after = box.status(box.edges[0])
        assert after["upstreams"][0]["failures"] > \
            before["upstreams"][0]["failures"], lie
        assert after["documents"]["dcz"] == before["documents"]["dcz"], lie
        assert after["documents"]["fetched"] == generation
    bad.close()


@pytest.mark.parametrize("lie", ["another document", "endless"])
def test_a_coded_lie_sets_aside(sandbox, tmp_path, lie):
    """The next upstream is asked, coded as well."""
    bad, good = coded_proxies(2)
    box, tree, content = published(sandbox, tmp_path, 7, bad, good)
    liar = bad.fault = Liar(box, tmp_path, lie, manifest(box))
    make_tree(tree, changed(content, 0.05, 1))
    box.publish("demo", tree)
    new = documents(box, "demo")[0]
    assert liar.told == [new]
    assert sha256(get(box.edges[0], "/.pkgcast/blob/" + new).body) == new
    status = box.status(box.edges[0])
    states = {u["url"]: u for u in status["upstreams"]}
    assert states[bad.url]["aside"] and not states[good.url]["aside"]
    assert states[bad.url]["last_error"]
    assert status["documents"]["dcz"] == 1
    for up in bad, good:
        up.close()


@pytest.mark.quick
def test_an_edge_behind_an_edge(sandbox, tmp_path):
    """What the one in front has is coded by it, and fetched from the master
    once, coded too."""
    front, = coded_proxies(1)
    box = sandbox("--edges", "2", "--upstream", "edge2:edge=" + front.url)
    front.origin = urllib.parse.urlsplit(box.edges[0])
    (old, _), (new, body) = two_generations(box, tmp_path, n=2000)
    until(lambda: all(box.head(e, "demo")["generation"] == "2"
                      for e in box.edges))
    assert get(box.edges[1], "/.pkgcast/blob/" + new).body == body
    for edge in box.edges:
        d = box.status(edge)["documents"]
        # Two manifests; the chunk table's digests are the same twice.
        assert d["fetched"] == 3 and d["dcz"] == 1 and d["zstd"] == 1
        assert d["bytes"] < len(body)
    asked = until(lambda: [l for l in box.upstream_requests() if new in l])
    assert len(asked) == 1


def test_an_edge_that_hears_later_is_asked_again(sandbox, tmp_path):
    """404 of an edge in front may be true for a moment only."""
    up, = coded_proxies(1)
    box, tree, content = published(sandbox, tmp_path, 8, up, kind="edge")
    absent = []

    def not_yet(path, sock, head, body):
        if len(absent) == 2:
            return False
        absent.append(path)
        sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return True

    up.fault = not_yet
    make_tree(tree, changed(content, 0.05, 1))
    box.publish("demo", tree)
    new = "/.pkgcast/blob/" + documents(box, "demo")[0]
    size = len(get(box.master, new).body)
    assert absent == [new, new] and up.blobs().count(new) == 3
    assert 0 < up.sent[new] < size / 2
    assert box.status(box.edges[0])["documents"]["dcz"] == 1
    up.close()


def test_a_document_on_its_way_is_waited_for(sandbox, tmp_path):
    """Who asks an edge for what it is fetching makes it fetch nothing more."""
    up, = coded_proxies(1)
    box, tree, content = published(sandbox, tmp_path, 3, up)
    old = documents(box, "demo")[0]
    asked, go = threading.Event(), threading.Event()

    def hold(path, sock, head, body):
        asked.set()
        go.wait(30)
        return False

    up.fault = hold
    make_tree(tree, changed(content, 0.05, 1))
    publish = threading.Thread(target=box.publish, args=("demo", tree))
    publish.start()
    assert asked.wait(60)
    new = DOCUMENT.search(up.blobs()[-1]).group(1)
    answers = []
    fields = {"Accept-Encoding": "dcz",
              "Available-Dictionary": dictionary(old)}
    clients = [threading.Thread(target=lambda h: answers.append(
        get(box.edges[0], "/.pkgcast/blob/" + new, headers=h)), args=(h,))
        for h in ({}, fields, fields)]
    for c in clients:
        c.start()
    until(lambda: box.status(box.edges[0])["counters"]["open"] >= 4)
    assert not answers
    go.set()
    for t in *clients, publish:
        t.join()
    assert sorted(a["Content-Encoding"] or "" for a in answers) == [
        "", "dcz", "dcz"]
    assert [r for r in up.blobs() if new in r] == ["/.pkgcast/blob/" + new]
    up.close()


def test_a_commit_in_the_middle_of_a_prepare_fetches_no_more(sandbox,
                                                              tmp_path):
    """It ends the fetch, and the next one asks for the same coded."""
    up, = coded_proxies(1)
    box, tree, content = published(sandbox, tmp_path, 5, up)
    held, over = [], threading.Event()

    def hold(path, sock, head, body):
        if not held:
            held.append(path)
            over.wait(60)
            return True
        return False

    up.fault = hold
    make_tree(tree, changed(content, 0.05, 1))
    box.publish("demo", tree, "--prepare-wait", "1")
    assert box.head(box.edges[0], "demo")["generation"] == "2"
    new = "/.pkgcast/blob/" + documents(box, "demo")[0]
    size = len(get(box.master, new).body)
    assert held == [new]
    assert 0 < up.sent[new] < size / 2
    assert box.status(box.edges[0])["documents"]["dcz"] == 1
    over.set()
    up.close()


def test_a_slow_document_comes_though_other_sets_are_published(sandbox,
                                                               tmp_path):
    """An edge that has missed a set's commit is interrupted by announcements of
    others more often than that set's manifest takes."""
    up, = coded_proxies(1)
    box = sandbox("--edges", "1", "--upstream", up.url, "--edge-option",
                  "fill.low-rate=1K")
    up.origin = urllib.parse.urlsplit(box.master)
    announce, = through_relays(box, "edge1", ("announce",))
    small = make_tree(tmp_path / "small", {"a": b"0"})
    box.publish("small", small)
    tree = make_tree(tmp_path / "tree", files(1500, 9))
    up.rate = 20000                         # some 6 s
    announce.swallow = True
    large = threading.Thread(target=box.publish, args=("demo", tree, "--now"),
                             kwargs={"check": False})
    large.start()
    until(lambda: b"\nset demo\n" in get(box.master,
                                         "/.pkgcast/heads").body)
    announce.swallow = False
    turn = 0

    def there():
        nonlocal turn
        turn += 1
        make_tree(small, {"a": b"%d" % turn})
        box.publish("small", small, "--now", check=False)
        return any(s["name"] == "demo" and s["generation"] == 1
                   for s in box.status(box.edges[0])["sets"])

    until(there, 60)
    print("there after %d publishes" % turn)
    assert turn > 5
    large.join()
    announce.close()
    up.close()


def test_old_and_static_upstreams_are_no_worse_off(sandbox, tmp_path):
    """One that knows no codings is asked once for each small document, and a
    static one only for what it is."""
    old, = [Upstream(None)]                 # passes no Accept-Encoding on
    box = sandbox("--edges", "2", "--upstream", "edge1:" + old.url,
                  "--upstream", "edge2:static=" + old.url)
    old.origin = urllib.parse.urlsplit(box.master)
    before = [box.status(e)["upstreams"][0]["failures"] for e in box.edges]
    (_, _), (new, body) = two_generations(box, tmp_path, n=300)
    for edge, failures in zip(box.edges, before):
        assert get(edge, "/.pkgcast/blob/" + new).body == body
        s = box.status(edge)
        assert s["documents"]["dcz"] == s["documents"]["zstd"] == 0
        assert s["documents"]["fetched"] == 3
        assert s["documents"]["bytes"] == s["documents"]["size"]
        assert s["upstreams"][0]["failures"] == failures
    assert collections.Counter(old.blobs())["/.pkgcast/blob/" + new] == 2
    old.close()
