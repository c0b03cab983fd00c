# SPDX-License-Identifier: BSD-2-Clause
"""Heads that must not be taken: by the master's publish listener, and by edges
whose upstream sends them (G3, G7).  Signed with the real minisign."""
import datetime
import json
import os
import subprocess
import urllib.error
import urllib.request

import pytest

from conftest import get, make_tree, sha256, until
from polling import StaticUpstream

EMPTY = sha256(b"")


def iso(seconds=0):
    t = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(
        seconds=seconds)
    return t.strftime("%Y-%m-%dT%H:%M:%SZ")


def manifest(files):
    """files: {name: (content, time)}, without folders."""
    text = "#mtree v2.0\n. type=dir\n"
    for name in sorted(files):
        text += "./%s type=file size=%d time=%d.000000000 sha256=%s\n" % (
            name, len(files[name]), 1700000000, sha256(files[name]))
    return text.encode()


def signed_lines(name, generation, content, previous, **other):
    f = {"oldest": 1, "created": iso(), "files": len(content),
         "bytes": sum(map(len, content.values()))}
    f.update(other)
    m = f.pop("text", manifest(content))
    return ("pkgcast-head 1\nset %s\ngeneration %d\noldest %d\ncreated %s\n"
            "files %d\nbytes %d\nmanifest sha256:%s %d\nchunks sha256:%s 0\n"
            "previous %s\n" % (
                name, generation, f["oldest"], f["created"], f["files"],
                f["bytes"], sha256(m), len(m), EMPTY,
                "sha256:" + previous if previous else "none")).encode()


def sign(lines, key, where):
    path = os.path.join(where, "to-sign")
    with open(path, "wb") as f:
        f.write(lines)
    if os.path.exists(path + ".minisig"):
        os.unlink(path + ".minisig")
    subprocess.run(["minisign", "-S", "-s", key, "-m", path, "-x",
                    path + ".minisig"], check=True, capture_output=True,
                   stdin=subprocess.DEVNULL)
    with open(path + ".minisig", "rb") as f:
        return lines + f.read()


def key_pair(where, name):
    subprocess.run(["minisign", "-G", "-W", "-s", "%s/%s.key" % (where, name),
                    "-p", "%s/%s.pub" % (where, name)], check=True,
                   capture_output=True)
    return "%s/%s.key" % (where, name)


def request(method, url, body=None, token=None):
    r = urllib.request.Request(url, data=body, method=method)
    if token:
        r.add_header("Authorization", "Bearer " + token)
    try:
        with urllib.request.urlopen(r, timeout=60) as a:
            return a.status, a.read().decode(), a.headers
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode(), e.headers


def post(box, doc, name):
    return request("POST", "%s/publish/%s?prepare-wait=1" % (
        box.publish_url, name), doc)


def digest_of(doc):
    return sha256(doc.partition(b"untrusted comment:")[0])


@pytest.fixture(scope="module")
def forge(shared, tmp_path_factory):
    """A set `forged` at generation 5, whose publisher key is at hand."""
    where = str(tmp_path_factory.mktemp("forge"))
    key = shared.path("home", "publisher.key")
    doc = sign(signed_lines("forged", 5, {"a": b"five"}, None), key, where)
    status, token, _ = post(shared, doc, "forged")
    assert status == 201, token
    base = shared.publish_url + "/publish/forged"
    m = manifest({"a": b"five"})
    for blob in (m, b"", b"five"):
        status, text, _ = request("PUT", "%s/%s" % (base, sha256(blob)), blob,
                                  token.strip())
        assert status in (200, 201), text

    def committed():
        state = json.loads(request("GET", base)[1])
        return state["state"] == "committed" and state["done"]
    until(committed, 20)
    assert get(shared.edges[0], "/forged/a").body == b"five"
    return where, key, digest_of(doc)


def test_the_master_refuses(shared, forge):
    where, key, current = forge
    stranger = key_pair(where, "stranger")
    later = {"created": iso(5)}
    good = signed_lines("forged", 6, {"a": b"six"}, current, **later)
    signed = sign(good, key, where)
    lines = signed.split(b"\n")
    cases = [
        ("a key not in the trust document", sign(good, stranger, where), 403),
        ("a changed line", signed.replace(b"generation 6", b"generation 7"),
         403),
        ("a changed trusted comment",
         signed.replace(b"trusted comment: ", b"trusted comment: x"), 403),
        ("no signature", good, 422),
        ("a signature of another document",
         good + b"\n".join(sign(good.replace(b"6", b"7"), key, where).split(
             b"\n")[-5:]), 403),
        ("a repeated generation", sign(signed_lines(
            "forged", 5, {"a": b"x"}, current, **later), key, where), 409),
        ("a lower generation", sign(signed_lines(
            "forged", 4, {"a": b"x"}, current, **later), key, where), 409),
        ("a wrong previous", sign(signed_lines(
            "forged", 6, {"a": b"x"}, "0" * 64, **later), key, where), 409),
        ("no previous", sign(signed_lines(
            "forged", 6, {"a": b"x"}, None, **later), key, where), 409),
        ("a time far ahead", sign(signed_lines(
            "forged", 6, {"a": b"x"}, current, created=iso(3600)), key,
            where), 422),
        ("a time that goes back", sign(signed_lines(
            "forged", 6, {"a": b"x"}, current, created=iso(-86400)), key,
            where), 422),
        ("carriage returns", signed.replace(b"\n", b"\r\n"), 422),
        ("nothing", b"", 422),
    ]
    assert len(lines) > 4
    for what, doc, want in cases:
        status, text, headers = post(shared, doc, "forged")
        assert status == want, (what, status, text)
        assert text, what
        if status == 409:
            assert headers["ETag"] == '"%s"' % current, what
    status, text, _ = post(shared, signed, "elsewhere")
    assert status == 422, text
    assert get(shared.edges[0], "/forged/a").body == b"five"
    assert shared.head(shared.master, "forged")["generation"] == "5"


def test_the_master_refuses_a_key_trusted_for_other_sets(sandbox, tmp_path):
    box = sandbox("--edges", "0")
    box.down()
    subprocess.run(["rm", "-r", box.path("master", "trust")], check=True)
    box.pkgcast("trust", "init", "--root", box.path("home", "root.key"),
                "--publisher", box.path("home", "publisher.pub") + ":good/*")
    box.up("--edges", "0")
    tree = make_tree(tmp_path / "t", {"a": b"a"})
    box.publish("good/x", tree)
    p = box.publish("bad/x", tree, check=False)
    assert p.returncode == 1 and "bad/x" in p.stderr


def test_the_master_refuses_a_manifest_that_is_not_the_heads(shared, forge):
    where, key, current = forge
    name = "tampered"
    m = manifest({"a": b"six"})
    for what, head, blob in (
            ("other bytes", signed_lines(name, 1, {"a": b"six"}, None),
             m.replace(b"./a", b"./b")),
            ("other counts", signed_lines(name, 1, {"a": b"six"}, None,
                                          files=2), m),
            ("not canonical", signed_lines(
                name, 1, {"a": b"six"}, None,
                text=m.replace(b" type=file", b"  type=file")),
             m.replace(b" type=file", b"  type=file"))):
        status, token, _ = post(shared, sign(head, key, where), name)
        assert status in (200, 201), (what, token)
        digest = [l for l in head.decode().split("\n") if l.startswith(
            "manifest")][0].split()[1].partition(":")[2]
        base = shared.publish_url + "/publish/" + name
        results = [request("PUT", "%s/%s" % (base, digest), blob,
                           token.strip())]
        results.append(request("PUT", "%s/%s" % (base, EMPTY), b"",
                               token.strip()))
        assert 422 in [r[0] for r in results], (what, results)
        assert shared.head(shared.master, name) is None


def test_every_step_needs_the_token(shared, forge):
    where, key, current = forge
    doc = sign(signed_lines("token", 1, {"a": b"t"}, None), key, where)
    assert post(shared, doc, "token")[0] == 201
    base = shared.publish_url + "/publish/token"
    m = manifest({"a": b"t"})
    for token in (None, "0" * 32):
        assert request("PUT", base + "/" + sha256(m), m, token)[0] == 401
        assert request("GET", base + "/missing", None, token)[0] == 401
    # The same head again: the same publish goes on.
    status, token, _ = post(shared, doc, "token")
    assert status == 200
    assert request("PUT", base + "/" + sha256(b"else"), b"else",
                   token.strip())[0] == 404
    assert request("PUT", base + "/" + sha256(m), m[:-1],
                   token.strip())[0] == 409
    missing = request("GET", base + "/missing", None, token.strip())[1]
    assert sha256(m) in missing.split()


def test_the_edge_refuses_what_an_upstream_forges(sandbox, tmp_path):
    """An edge that lives by polling an HTTP server which may say anything."""
    box = sandbox("--edges", "0")
    where, key = str(tmp_path), box.path("home", "publisher.key")
    stranger = key_pair(where, "stranger")
    # The publisher's key may sign the set "demo" and no other.
    box.pkgcast("trust", "init", "--root", box.path("home", "root.key"),
                "--publisher", box.path("home", "publisher.pub") + ":demo",
                "--out", where + "/trust")
    with open(where + "/trust", "rb") as f:
        up = StaticUpstream(f.read())
    content = {"a": b"two"}
    two = sign(signed_lines("demo", 2, content, None), key, where)
    up.add(two, manifest(content), content)
    edge = up.edge(box, tmp_path)
    try:
        base = edge.base
        until(lambda: edge.body("/demo/a") == b"two", 20)
        wrong = manifest({"a": b"bad"})
        later = {"created": iso(5)}
        good3 = signed_lines("demo", 3, {"a": b"bad"}, digest_of(two), **later)
        cases = [
            ("wrong key", sign(good3, stranger, where), wrong, "key"),
            ("key for another set", sign(signed_lines(
                "other", 1, {"a": b"bad"}, None, **later), key, where),
             wrong, "for set other"),
            ("changed line", sign(good3, key, where).replace(
                b"generation 3", b"generation 4"), wrong, "signature"),
            ("repeated generation", sign(signed_lines(
                "demo", 2, {"a": b"bad"}, None, **later), key, where), wrong,
             "generation"),
            ("lower generation", sign(signed_lines(
                "demo", 1, {"a": b"bad"}, None, **later), key, where), wrong,
             "generation"),
            ("tampered manifest", sign(signed_lines(
                "demo", 4, {"a": b"bad"}, digest_of(two), **later), key,
                where), wrong.replace(b"./a", b"./b"), "digest"),
        ]
        for what, doc, text, reason in cases:
            start = len(edge.log())
            up.add(doc, text, {"a": b"bad"}, digest=head_manifest(doc))
            until(lambda: reason in edge.log()[start:], 20)
            a = get(base, "/demo/a")
            assert a.body == b"two" and a.generation == 2, what
            assert get(base, "/other/a").status in (404, 503), what
        # A wrong `previous` is reported, and the higher generation is taken.
        start = len(edge.log())
        content = {"a": b"three"}
        three = sign(signed_lines("demo", 3, content, "1" * 64, **later), key,
                     where)
        up.add(three, manifest(content), content)
        until(lambda: edge.body("/demo/a") == b"three", 20)
        assert "previous" in edge.log()[start:]
        # And back: a restart of the edge with an upstream that shows
        # generation 2 changes nothing (G7).
        up.add(two, manifest({"a": b"two"}), {"a": b"two"})
        edge.restart()
        until(lambda: edge.body("/demo/a") == b"three", 20)
    finally:
        edge.end()
        up.close()


def head_manifest(doc):
    return [l for l in doc.decode().split("\n") if l.startswith("manifest")][
        0].split()[1].partition(":")[2]
