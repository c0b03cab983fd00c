# SPDX-License-Identifier: BSD-2-Clause
"""apt with its own pipelining against a flat repository."""
import os
import re
import shutil
import subprocess

import pytest

from conftest import SLOW
from proxy import Relay

PACKAGES = 30


class Listener(Relay):
    """Counts requests and answers that pass, and notes how far the requests
    were ahead."""

    def __init__(self, port):
        super().__init__(port)
        self.asked, self.answered, self.ahead = {}, {}, 0

    def pump(self, src, dst, way):
        if way == "in":
            key, count, mark = dst, self.answered, b"HTTP/1.1 "
        else:
            key, count, mark = src, self.asked, b"GET /"
        real, tail = src.recv, b""

        class Source:
            def recv(_, size):
                nonlocal tail
                data = real(size)
                seen = tail + data          # a mark may come in two parts
                tail = seen[-len(mark) + 1:]
                count[key] = count.get(key, 0) + seen.count(mark)
                self.ahead = max(self.ahead, self.asked.get(key, 0) -
                                 self.answered.get(key, 0))
                return data

            shutdown = src.shutdown

        super().pump(Source(), dst, way)


@pytest.fixture(autouse=True)
def tools():
    for tool in ("apt-get", "dpkg-deb", "apt-ftparchive"):
        if not shutil.which(tool):
            pytest.skip(tool + " is not here: integration/deps check")


def test_apt_updates_and_fetches(shared, tmp_path):
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


@pytest.mark.parametrize("depth", [0, 10])
def test_apt_pipelines(shared, tmp_path, depth):
    repo = tmp_path / "repo"
    names = ["pkgcast-%02d" % i for i in range(PACKAGES)]
    for i, name in enumerate(names):
        make_deb(tmp_path, repo, "1.0", name, 100 + 3000 * i)
    index(repo)
    shared.publish("debian-%d" % depth, str(repo))
    relay = Listener(int(shared.edges[0].rpartition(":")[2]))
    try:
        conf = apt_conf(tmp_path, "http://127.0.0.1:%d/debian-%d" % (
            relay.listen_port, depth))
        with open(conf, "a") as f:
            f.write('Acquire::http::Pipeline-Depth "%d";\n' % depth)
        apt(conf, "update")
        apt(conf, "download", *names)       # apt compares the digests itself
    finally:
        relay.close()
    assert len([f for f in os.listdir(tmp_path) if re.fullmatch(
        r"pkgcast-\d\d_1.0_all.deb", f)]) == PACKAGES
    assert relay.ahead >= 5 if depth else relay.ahead == 1
    assert max(relay.answered.values()) >= PACKAGES     # on one connection


def make_deb(tmp_path, repo, version, name="pkgcast-hello", size=0):
    root = tmp_path / ("deb-%s-%s" % (name, version))
    os.makedirs(root / "DEBIAN")
    os.makedirs(repo / "pool", exist_ok=True)
    (root / "DEBIAN/control").write_text(
        "Package: %s\nVersion: %s\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: a test\n" %
        (name, version))
    (root / "data").write_bytes(os.urandom(size))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(root),
                    str(repo / "pool" / ("%s_%s_all.deb" % (name,
                                                            version)))],
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
                       text=True, cwd=conf.parent.parent, timeout=120 * SLOW,
                       env=dict(os.environ, APT_CONFIG=str(conf)))
    assert p.returncode == 0, p.stdout + p.stderr
