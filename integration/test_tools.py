# SPDX-License-Identifier: BSD-2-Clause
"""What people download with: curl, wget, aria2c and Python's requests."""
import os
import re
import shutil
import subprocess
import time

import pytest

from conftest import SLOW, get, make_tree, sha256, until

BIG = 64 << 20
FILES = {"meta.conf": b"version = 2;\n", "All/app.pkg": 900000,
         "All/big.pkg": BIG, "All/same.pkg": 700000,
         "All/other.pkg": 800000, "All/dated.pkg": b"one\n",
         **{"many/%03d.pkg" % i: 1000 + 997 * i for i in range(100)}}


@pytest.fixture(scope="module")
def site(shared, tmp_path_factory):
    tree = make_tree(tmp_path_factory.mktemp("tools") / "t", FILES)
    shared.publish("tools", tree)
    return Site(shared, tree)


class Site:
    def __init__(self, box, tree):
        self.box, self.tree = box, tree

    def url(self, path, edge=0):
        return self.box.edges[edge] + "/tools/" + path

    def want(self, path):
        with open(os.path.join(self.tree, path), "rb") as f:
            return f.read()

    def change(self, path, size):
        make_tree(self.tree, {path: size})
        self.box.publish("tools", self.tree)


def run(*command, cwd=None, status=0, seconds=90):
    if not shutil.which(command[0]):
        pytest.skip(command[0] + " is not here: integration/deps check")
    p = subprocess.run(command, capture_output=True, text=True, cwd=cwd,
                       stdin=subprocess.DEVNULL, timeout=seconds * SLOW)
    assert p.returncode == status, "%s: exit %d\n%s%s" % (
        " ".join(command), p.returncode, p.stdout, p.stderr)
    return p


def curl(*args, **kw):
    return run("curl", "-sS", *args, **kw)


def content(path):
    with open(path, "rb") as f:
        return f.read()


def partial(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return str(path)


def test_curl_resumes_a_partial_file(site, tmp_path):
    want = site.want("All/app.pkg")
    out = partial(tmp_path / "out", want[:300000])
    p = curl("-f", "-C", "-", "-o", out, "-w", "%{http_code} %{size_download}",
             site.url("All/app.pkg"))
    assert p.stdout == "206 600000" and content(out) == want
    # Complete already: curl asks for a range behind the end.
    p = curl("-C", "-", "-o", out, "-w", "%{http_code}",
             site.url("All/app.pkg"))
    assert p.stdout == "416" and content(out) == want


def test_curl_resumes_across_a_switch(site, tmp_path):
    want = {n: site.want("All/%s.pkg" % n) for n in ("same", "other")}
    tag, out, validators = {}, {}, {}
    for n in want:
        out[n] = partial(tmp_path / n, want[n][:123456])
        a = get(site.box.edges[0], "/tools/All/%s.pkg" % n)
        tag[n] = a["ETag"]
        validators[n] = [a["ETag"], a["Last-Modified"]]
        generation = a.generation
    site.change("All/other.pkg", 850000)
    new = site.want("All/other.pkg")
    # What did not change goes on, whether it is asked for with a tag or not.
    for extra in ([], ["-H", "If-Range: " + tag["same"]],
                  ["-H", "If-Range: " + validators["same"][1]]):
        partial(out["same"], want["same"][:123456])
        curl("-f", "-C", "-", "-o", out["same"], *extra,
             site.url("All/same.pkg"))
        assert content(out["same"]) == want["same"]
    # What did: by its tag the rest of the old file; by its date, which names no
    # content, curl says that it cannot resume.
    for validator, result in zip(validators["other"], (
            (0, want["other"]), (33, want["other"][:123456]))):
        p = subprocess.run(
            ["curl", "-sS", "-f", "-C", "-", "-o", out["other"], "-H",
             "If-Range: " + validator, site.url("All/other.pkg")],
            capture_output=True, text=True, timeout=60 * SLOW)
        have = content(out["other"])
        assert (p.returncode, have) == result, p.stderr
        partial(out["other"], want["other"][:123456])
    # By the address of the generation it began with it always gets the rest.
    curl("-f", "-C", "-", "-o", out["other"],
         site.url("@%d/All/other.pkg" % generation))
    assert content(out["other"]) == want["other"]
    # Without a tag the range is of the new file, and says so.
    p = curl("-r", "123456-", "-D", "-", "-o", out["other"],
             site.url("All/other.pkg"))
    assert content(out["other"]) == new[123456:]
    assert 'ETag: "%s"' % sha256(new) in p.stdout
    assert "Content-Range: bytes 123456-849999/850000" in p.stdout


def test_curl_asks_again_only_for_what_is_newer(site, tmp_path):
    url, out = site.url("All/dated.pkg"), str(tmp_path / "out")
    code = ["-f", "-R", "-w", "%{http_code}", "-o", out]
    assert curl(*code, url).stdout == "200"
    for since in (out, get(site.box.edges[0], "/tools/All/dated.pkg")[
            "Last-Modified"]):
        assert curl(*code, "-z", since, url).stdout == "304"
    assert content(out) == b"one\n"
    etag = str(tmp_path / "etag")
    curl("--etag-save", etag, "-o", str(tmp_path / "tagged"), url)
    p = curl("--etag-compare", etag, "-w", "%{http_code}", "-o",
             str(tmp_path / "none"), url)
    assert p.stdout == "304"
    site.change("All/dated.pkg", b"two\n")
    assert curl(*code, "-z", out, url).stdout == "200"
    assert content(out) == b"two\n"


@pytest.mark.parametrize("what, status, first, end", [
    ("0-0", 206, 0, 1), ("1000-1999", 206, 1000, 2000),
    ("899999-", 206, 899999, 900000), ("-777", 206, 899223, 900000),
    ("500-9999999", 206, 500, 900000), ("0-9,20-29,-5", 200, 0, 900000),
])
def test_curl_ranges(site, tmp_path, what, status, first, end):
    out = str(tmp_path / "out")
    p = curl("--range", what, "-w", "%{http_code}", "-o", out,
             site.url("All/app.pkg", edge=1))
    assert p.stdout == str(status)
    assert content(out) == site.want("All/app.pkg")[first:end]


def test_curl_variants(site, tmp_path):
    url, want = site.url("All/app.pkg"), site.want("All/app.pkg")
    out = str(tmp_path / "out")
    for args in (["--compressed"], ["--http1.0"], ["--http2"],
                 ["-H", "Connection: close"], ["-H", "Expect: 100-continue"],
                 ["--limit-rate", "20M"], ["--proxy", site.box.edges[0]]):
        p = curl("-f", *args, "-D", "-", "-o", out, url)
        assert content(out) == want, args
        assert "Content-Encoding" not in p.stdout
        assert "Transfer-Encoding" not in p.stdout
    # (By now it is in the cache, so HEAD and GET are hits alike.)
    head = curl("-I", url).stdout.splitlines()
    body = curl("-D", "-", "-o", out, url).stdout.splitlines()
    assert head[0] == "HTTP/1.1 200 OK"
    assert [l for l in head if not l.startswith("Date:")] == [
        l for l in body if not l.startswith("Date:")]


def test_curl_parallel(site, tmp_path):
    curl("-f", "--parallel", "--parallel-immediate", "--parallel-max", "50",
         "-o", str(tmp_path / "#1.pkg"), site.url("many/[000-099].pkg"))
    for i in range(100):
        assert content(tmp_path / ("%03d.pkg" % i)) == site.want(
            "many/%03d.pkg" % i)


def test_curl_retries_after_503(sandbox, tmp_path):
    box = sandbox("--edges", "1")
    tree = make_tree(tmp_path / "t", {"a.pkg": 300000})
    box.publish("demo", tree)
    box.kill("master")
    url, out = box.edges[0] + "/demo/a.pkg", str(tmp_path / "out")
    a = get(box.edges[0], "/demo/a.pkg")
    assert a.status == 503 and a.body == b"" and int(a["Retry-After"]) > 0
    p = subprocess.Popen(["curl", "-sS", "-f", "--retry", "20", "-o", out,
                          url], stdin=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(1)
        assert p.poll() is None             # refused, and waiting
        box.start("master")
        _, err = p.communicate(timeout=60 * SLOW)
        assert p.returncode == 0 and "503" in err, err
    finally:
        p.kill()
        p.wait()
    assert content(out) == content(os.path.join(tree, "a.pkg"))


def test_wget(site, tmp_path):
    url, want = site.url("All/app.pkg"), site.want("All/app.pkg")
    run("wget", "-q", url, cwd=tmp_path)
    assert content(tmp_path / "app.pkg") == want
    partial(tmp_path / "app.pkg", want[:200001])
    p = run("wget", "-S", "-c", url, cwd=tmp_path)
    assert "206 Partial Content" in p.stderr
    assert content(tmp_path / "app.pkg") == want
    run("wget", "-q", "-c", url, cwd=tmp_path)      # nothing left: 416
    assert content(tmp_path / "app.pkg") == want
    assert run("wget", "-S", "--spider", url, cwd=tmp_path).stderr.count(
        "200 OK") >= 1
    run("wget", "-q", "--spider", site.url("absent"), cwd=tmp_path, status=8)


def test_wget_timestamps(site, tmp_path):
    url = site.url("All/same.pkg")
    first = run("wget", "-S", "-N", url, cwd=tmp_path)
    again = run("wget", "-S", "-N", url, cwd=tmp_path)
    assert "200 OK" in first.stderr and "304 Not Modified" in again.stderr
    time_of = get(site.box.edges[0], "/tools/All/same.pkg")["Last-Modified"]
    assert time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(
        os.stat(tmp_path / "same.pkg").st_mtime)) == time_of
    site.change("All/same.pkg", 710000)
    assert "200 OK" in run("wget", "-S", "-N", url, cwd=tmp_path).stderr
    assert content(tmp_path / "same.pkg") == site.want("All/same.pkg")


def test_aria2_with_16_connections(site, tmp_path):
    for asked in (1, 2):                    # cold, then warm
        run("aria2c", "-q", "--no-conf", "-x16", "-s16", "-k1M",
            "--max-download-limit=20M", "--file-allocation=none", "-d",
            str(tmp_path), "-o", "out%d" % asked, site.url("All/big.pkg"))
        assert content(tmp_path / ("out%d" % asked)) == site.want(
            "All/big.pkg")
        # Really in pieces, so the log says.  A connection that is done with its
        # own goes on with the next one if nobody has begun that.
        until(lambda: len(re.findall(
            r'GET /tools/All/big.pkg HTTP/1.1" 206 \d+ .*aria2',
            site.box.log("edge1-access"))) >= 8 * asked, 10)


def test_many_large_downloads_at_once(site, tmp_path):
    """More than a few are sent by sendfile(2), each from a descriptor of its
    own: whole, in part and cut off, they get the right bytes and leave no
    descriptor."""
    url, want = site.url("All/big.pkg"), site.want("All/big.pkg")
    name, pid = sha256(want), site.box.pid("edge1")

    def descriptors():
        n = 0
        for fd in os.listdir("/proc/%d/fd" % pid):
            try:
                n += name in os.readlink("/proc/%d/fd/%s" % (pid, fd))
            except FileNotFoundError:
                pass
        return n

    curl("-f", "-o", os.devnull, url)
    first = [0, 0, 0, 0, 1, 5000001, 30 << 20] * 2
    clients = [subprocess.Popen(
        ["curl", "-sS", "-f", "--limit-rate", "20M", "-r", "%d-" % at, "-o",
         str(tmp_path / ("%d" % i)), url], stdin=subprocess.DEVNULL)
        for i, at in enumerate(first)]
    cut = [subprocess.Popen(
        ["curl", "-sS", "-o", os.devnull, "--limit-rate", "1M", url],
        stdin=subprocess.DEVNULL) for i in range(6)]
    if os.path.isdir("/proc/%d/fd" % pid):
        until(lambda: descriptors() > 8, 20)
    for p in cut:
        p.kill()
        p.wait()
    for i, at in enumerate(first):
        assert clients[i].wait(timeout=60 * SLOW) == 0
        assert content(tmp_path / ("%d" % i)) == want[at:]
    if os.path.isdir("/proc/%d/fd" % pid):
        until(lambda: descriptors() <= 1, 20)


def test_python_requests(site):
    requests = pytest.importorskip("requests")
    url, want = site.url("All/app.pkg"), site.want("All/app.pkg")
    with requests.Session() as s:
        s.trust_env = False
        r = s.get(url, timeout=60)
        assert r.status_code == 200 and r.content == want
        for headers in ({"If-None-Match": r.headers["ETag"]},
                        {"If-Modified-Since": r.headers["Last-Modified"]}):
            again = s.get(url, headers=headers, timeout=60)
            assert again.status_code == 304 and again.content == b""
            assert again.headers["ETag"] == r.headers["ETag"]
        part = s.get(url, headers={"Range": "bytes=10-19"}, timeout=60)
        assert part.status_code == 206 and part.content == want[10:20]
        with s.get(site.url("All/big.pkg"), stream=True, timeout=60) as big:
            assert b"".join(big.iter_content(1 << 16)) == site.want(
                "All/big.pkg")
        assert s.head(url, timeout=60).headers["Content-Length"] == "900000"
        assert s.options(url, timeout=60).status_code == 204
        assert s.post(url, timeout=60).status_code == 405
        assert s.post(url, data=b"x", timeout=60).status_code in (400, 405)
        r = s.get(site.url("absent"), timeout=60)
        assert r.status_code == 404 and r.content == b""
