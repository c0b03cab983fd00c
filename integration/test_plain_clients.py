# SPDX-License-Identifier: BSD-2-Clause
"""Real clients on real repositories behind a plain edge: apt, on one made here
and on what this host's own configuration names; pacman; pkg's and pkg_add's
requests; what people download with."""
import hashlib
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest

import test_apt
from conftest import make_tree, sha256, until
from origin import OLD, Origin
from plain import DAY, edges                                # noqa: F401
from test_tools import content, curl, run

BIG = 100 * 1000 * 1000
KEYRINGS = ["/usr/share/keyrings/debian-archive-keyring.gpg",
            "/usr/share/keyrings/ubuntu-archive-keyring.gpg"]


@pytest.fixture
def origin():
    o = Origin()
    yield o
    o.close()


def need(*tools):
    for tool in tools:
        if not shutil.which(tool):
            pytest.skip(tool + " is not here: integration/deps check")


def serve_tree(origin, top):
    """What is below that folder now.  Clients compare dates: what changed has a
    later one than all before, however fast the test is."""
    later = 1 + max((e.modified for e in origin.entries.values()),
                    default=OLD)
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            at, body = os.path.relpath(path, top), content(path)
            if at not in origin.entries or origin.entries[at].body != body:
                origin.put(at, body, modified=later)


def seen(origin, name, since):
    """Until the edge has been told that this file changed."""
    until(lambda: any(r.status == 200 for r in origin.asked(name, since)), 15)


# -- apt

def suite(repo):
    """A repository with a pool, a suite, and by-hash."""
    suite = repo / "dists/stable"
    where = suite / "main/binary-all"
    os.makedirs(where / "by-hash/SHA256", exist_ok=True)
    p = subprocess.run(["apt-ftparchive", "packages", "pool"], cwd=repo,
                       check=True, stdout=subprocess.PIPE,
                       stderr=subprocess.DEVNULL)
    (where / "Packages").write_bytes(p.stdout)
    (where / "by-hash/SHA256" / sha256(p.stdout)).write_bytes(p.stdout)
    (suite / "Release").write_text(
        "Suite: stable\nCodename: stable\nArchitectures: all\n"
        "Components: main\nAcquire-By-Hash: yes\nDate: %s\nSHA256:\n"
        " %s %d main/binary-all/Packages\n" % (
            time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime()),
            sha256(p.stdout), len(p.stdout)))


def apt_through(edge, tmp_path, line):
    """A configuration of apt whose one source is that line, with the edge for
    EDGE; nothing of the host is in it."""
    conf = test_apt.apt_conf(tmp_path, edge.base)
    (conf.parent / "sources.list").write_text(
        line.replace("EDGE", edge.base) + "\n")
    return conf


@pytest.mark.parametrize("form", ["flat", "suite"])
def test_apt_updates_and_fetches(edges, origin, tmp_path, form):
    """An update, a download, a change of the repository, and again."""
    need("apt-get", "dpkg-deb", "apt-ftparchive")
    repo, name = tmp_path / "repo", "pkgcast-hello"
    line, make, release = {
        "flat": ("deb [trusted=yes] EDGE/debian ./", test_apt.index,
                 "Release"),
        "suite": ("deb [trusted=yes arch=all] EDGE/debian stable main",
                  suite, "dists/stable/Release")}[form]
    test_apt.make_deb(tmp_path, repo, "1.0")
    make(repo)
    serve_tree(origin, repo)
    edge = edges({"debian": {"plain": origin.url, "kind": "debian",
                             "poll": "1"}})
    conf = apt_through(edge, tmp_path, line)
    test_apt.apt(conf, "update")
    test_apt.apt(conf, "download", name)
    pool = "pool/%s_1.0_all.deb" % name
    assert content(tmp_path / (name + "_1.0_all.deb")) == \
        origin.entries[pool].body
    since = len(origin.log)
    shutil.rmtree(conf.parent / "state/lists")
    os.makedirs(conf.parent / "state/lists/partial")
    os.unlink(tmp_path / (name + "_1.0_all.deb"))
    test_apt.apt(conf, "update")            # all of it is a hit
    test_apt.apt(conf, "download", name)
    assert {r.name for r in origin.asked(since=since)} <= {release}

    test_apt.make_deb(tmp_path, repo, "1.1")
    make(repo)
    since = len(origin.log)
    serve_tree(origin, repo)
    seen(origin, release, since)

    def updated():
        test_apt.apt(conf, "update")
        return "Candidate: 1.1" in subprocess.run(
            ["apt-cache", "policy", name], check=True, text=True,
            capture_output=True,
            env=dict(os.environ, APT_CONFIG=str(conf))).stdout
    until(updated, 15)
    test_apt.apt(conf, "download", name)
    assert content(tmp_path / (name + "_1.1_all.deb")) == \
        origin.entries["pool/%s_1.1_all.deb" % name].body
    # What never changes is not asked for again.
    test_apt.apt(conf, "download", name + "=1.0")
    assert len(origin.asked(pool)) == 1


def host_sources():
    """(address, release, component) of one of this host's own sources that is
    plain http, and not by way of a proxy; else skips."""
    need("apt-get", "apt-config")
    # The test's own tools may have set that.
    env = {k: v for k, v in os.environ.items() if k != "APT_CONFIG"}
    proxy = subprocess.run(["apt-config", "shell", "P",
                            "Acquire::http::Proxy"], text=True, env=env,
                           capture_output=True).stdout
    if re.search(r"P='(?!DIRECT|false)[^']", proxy) or env.get("http_proxy"):
        pytest.skip("the host's apt goes through a proxy")
    p = subprocess.run(
        ["apt-get", "indextargets", "--format",
         "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"],
        text=True, capture_output=True, env=env)
    found = [l.split("|")[1:] for l in p.stdout.split("\n")
             if re.match(r"Packages\|http://[^/]", l)]
    if not found:
        pytest.skip("the host's apt has no source with http://")
    # One with few packages does; they are all of one server's trees.
    found.sort(key=lambda s: ("updates" not in s[1], "security" not in s[1]))
    uri, release, component = found[0]
    url = uri.rstrip("/") + "/dists/%s/InRelease" % release
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as r:
            r.read()
    except (OSError, urllib.error.URLError) as e:
        pytest.skip("%s does not answer: %s" % (url, e))
    return uri, release, component


def test_apt_and_the_hosts_own_mirror(edges, tmp_path):
    """Twice, by clients that know nothing; a package of it; its signatures are
    checked by apt, with the host's keys."""
    uri, release, component = host_sources()
    edge = edges({"host": {"plain": uri, "kind": "debian", "poll": DAY}})
    keys = [k for k in KEYRINGS if os.path.exists(k)]
    options = " [signed-by=%s]" % ",".join(keys) if keys else ""
    hits = []
    for i in range(2):
        os.mkdir(tmp_path / str(i))
        conf = apt_through(edge, tmp_path / str(i), "deb%s EDGE/host %s %s" % (
            options, release, component))
        with open(conf, "a") as f:
            f.write('Acquire::Check-Valid-Until "false";\n'
                    'Acquire::Check-Date "false";\n'
                    'Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d";\n')
        test_apt.apt(conf, "update")
        hits.append(edge.get("/host/dists/%s/InRelease" %
                             release).cache_status)
    assert all("; hit" in h for h in hits), hits
    lists = subprocess.run(["apt-cache", "dumpavail"], text=True, check=True,
                           capture_output=True,
                           env=dict(os.environ, APT_CONFIG=str(conf))).stdout
    packages = [dict(re.findall(r"^(Package|Filename|Size|SHA256): (.+)$", p,
                                re.M)) for p in lists.split("\n\n") if p]
    if not packages:
        return                              # a suite may be empty
    p = min(packages, key=lambda p: int(p["Size"]))
    test_apt.apt(conf, "download", p["Package"])
    path = "/host/" + p["Filename"]
    a = until(lambda: (lambda a: a if "; hit" in a.cache_status else None)(
        edge.get(path)), 10)
    assert a.status == 200
    assert hashlib.sha256(a.body).hexdigest() == p["SHA256"]


# -- pacman

def make_package(tmp_path, repo, name, version):
    """By hand, as makepkg would."""
    root = tmp_path / ("root-%s-%s" % (name, version))
    where = make_tree(root, {
        "usr/share/%s/data" % name: (version * 1000).encode(),
        ".PKGINFO": (
            "pkgname = %s\npkgver = %s\npkgdesc = a test\narch = any\n"
            "builddate = 1500000000\nsize = 1000\n" % (
                name, version)).encode()})
    out = repo / ("%s-%s-any.pkg.tar.zst" % (name, version))
    os.makedirs(repo, exist_ok=True)
    subprocess.run(["bsdtar", "-C", where, "--zstd", "-cf", str(out),
                    ".PKGINFO", "usr"], check=True)
    subprocess.run(["repo-add", "-q", str(repo / "core.db.tar.gz"), str(out)],
                   check=True, capture_output=True)


def pacman_setup(tmp_path, server):
    for folder in "root", "db", "cache", "gpg", "hooks":
        os.makedirs(tmp_path / "pacman" / folder)
    top = tmp_path / "pacman"
    (top / "pacman.conf").write_text(
        "[options]\nRootDir = {0}/root\nDBPath = {0}/db\n"
        "CacheDir = {0}/cache\nLogFile = {0}/log\nGPGDir = {0}/gpg\n"
        "HookDir = {0}/hooks\nArchitecture = any\nSigLevel = Never\n"
        "[core]\nServer = {1}\n".format(top, server))

    def pacman(*args):
        return run("pacman", "--config", str(top / "pacman.conf"),
                   "--noconfirm", *args)
    return pacman


def test_pacman(edges, origin, tmp_path):
    need("pacman", "repo-add", "bsdtar")
    if os.geteuid() != 0:
        pytest.skip("pacman installs as root only")
    repo = tmp_path / "repo"
    make_package(tmp_path, repo, "hello", "1.0-1")
    make_package(tmp_path, repo, "other", "1.0-1")
    serve_tree(origin, repo)
    edge = edges({"arch/core": {"plain": origin.url, "kind": "arch",
                                "poll": "1"}})
    pacman = pacman_setup(tmp_path, edge.base + "/arch/core")
    pacman("-Sy", "hello", "other")
    data = tmp_path / "pacman/root/usr/share/hello/data"
    assert content(data) == b"1.0-1" * 1000
    make_package(tmp_path, repo, "hello", "1.1-1")
    since = len(origin.log)
    serve_tree(origin, repo)
    seen(origin, "core.db", since)

    def upgraded():
        pacman("-Syu")
        return content(data) == b"1.1-1" * 1000
    until(upgraded, 15)
    # A third one, that has nothing: no package is fetched again.
    shutil.rmtree(tmp_path / "pacman")
    pacman = pacman_setup(tmp_path, edge.base + "/arch/core")
    pacman("-Sy", "hello", "other")
    packages = [r.name for r in origin.log if ".pkg.tar." in r.name]
    assert sorted(packages) == [
        "hello-1.0-1-any.pkg.tar.zst", "hello-1.1-1-any.pkg.tar.zst",
        "other-1.0-1-any.pkg.tar.zst"]


# -- FreeBSD's clients, by their requests (clients.md)

def test_pkg_add(edges, origin, tmp_path):
    """Latest/foo.tbz, a link there, then what it needs, one by one, each on a
    connection of its own and with no conditions."""
    files = {"Latest/foo.tbz": os.urandom(300000),
             "All/dep-1.0.tbz": os.urandom(5000),
             "All/gtk+demo-2.0_1,1.tbz": os.urandom(70000)}
    for name, body in files.items():
        origin.put(name, body)
    origin.put("Latest/moved.tbz", b"", "Location: ../All/dep-1.0.tbz",
               status=302)
    edge = edges({"pub/packages-7-stable": {
        "plain": origin.url, "kind": "freebsd", "poll": DAY}})

    def fetch(name, out):
        curl("-f", "-L", "--http1.1", "-A", "pkg_add libfetch/2.0", "-H",
             "Accept: */*", "-H", "Connection: close", "-o", str(out),
             edge.base + "/pub/packages-7-stable/" + name)
        return content(out)
    for _ in range(2):
        for name, body in files.items():
            assert fetch(name, tmp_path / "out") == body
        assert fetch("Latest/moved.tbz", tmp_path / "out") == \
            files["All/dep-1.0.tbz"]
    assert len(origin.log) == 4, origin.log


def test_pkg(edges, origin, tmp_path):
    """An update with nothing, one with what is there already, an install by the
    libcurl-based one with its date of 1970, one that goes on with a partial
    file."""
    files = {"meta.conf": b"version = 2;\n", "data.pkg": os.urandom(5000),
             "All/app-1.0.pkg": os.urandom(900000)}
    for name, body in files.items():
        origin.put(name, body, "Cache-Control: max-age=0, private")
    edge = edges({"FreeBSD:14:amd64/latest": {
        "plain": origin.url, "kind": "freebsd", "poll": DAY}})
    base = edge.base + "/FreeBSD:14:amd64/latest/"

    def fetch(path, *fields):
        p = curl("-A", "pkg/2.6.2", *[w for f in fields for w in ("-H", f)],
                 "-o", str(tmp_path / "out"), "-w", "%{http_code}",
                 base + path)
        code = int(p.stdout)
        return code, content(tmp_path / "out") if code in (200, 206) else b""
    dated = "If-Modified-Since: Fri, 14 Jul 2017 02:40:00 GMT"
    assert OLD == 1500000000
    for path in "meta.conf", "data.pkg", "/data.pkg", "///data.pkg":
        assert fetch(path) == (200, files[path.strip("/")])
        assert fetch(path, dated) == (304, b"")
    app = files["All/app-1.0.pkg"]
    epoch = "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"
    assert fetch("All/app-1.0.pkg", epoch) == (200, app)
    assert fetch("All/app-1.0.pkg", epoch, "Range: bytes=300000-") == \
        (206, app[300000:])
    assert fetch("files.pkg") == (404, b"")
    assert len(origin.log) == 4, origin.log


# -- what people download with

def test_wget(edges, origin, tmp_path):
    body = origin.put("pub/f.iso", os.urandom(3000000),
                      "Cache-Control: max-age=600")
    edge = edges({"h": {"plain": origin.url}})
    url = edge.base + "/h/pub/f.iso"
    run("wget", "-q", url, cwd=tmp_path)
    assert content(tmp_path / "f.iso") == body
    with open(tmp_path / "f.iso", "r+b") as f:
        f.truncate(1000000)
    p = run("wget", "-S", "-c", url, cwd=tmp_path)
    assert "206 Partial" in p.stderr and content(tmp_path / "f.iso") == body
    p = run("wget", "-S", "-N", url, cwd=tmp_path)
    assert content(tmp_path / "f.iso") == body
    assert len(origin.log) == 1


def test_aria2_on_a_cold_file(edges, origin, tmp_path):
    """Sixteen connections, each with ranges of its own, of 100 MB."""
    body = origin.put("pub/big.iso", os.urandom(BIG),
                      "Cache-Control: max-age=600")
    edge = edges({"h": {"plain": origin.url}})
    run("aria2c", "-q", "--no-conf", "-x16", "-s16", "-k1M",
        "--file-allocation=none", "-d", str(tmp_path), "-o", "out",
        edge.base + "/h/pub/big.iso")
    assert sha256(content(tmp_path / "out")) == sha256(body)
    sent = origin.sent["pub/big.iso"]
    print("%d requests, %.3f times the file" % (len(origin.log), sent / BIG))
    assert sent < 1.3 * BIG
    asked = len(origin.log)
    a = until(lambda: (lambda a: a if "; hit" in a.cache_status else None)(
        edge.get("/h/pub/big.iso")), 20)
    assert a.body == body and len(origin.log) == asked
