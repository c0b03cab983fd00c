# SPDX-License-Identifier: BSD-2-Clause
"""Upstreams whose answers are framed wrongly, for fills of published sets and for
documents: the next upstream gives what clients get, it is said why, and the
connection is not used again."""
import contextlib
import re
import threading
import time
import urllib.parse

import pytest

import badhttp
from conftest import SLOW, boxes_below, get, make_tree, until
from polling import PollingEdge
from proxy import Upstream

SIZE = 1000
ROWS = {name: (make, says) for name, make, says in badhttp.ALL}
ROWS.update((name, (make, None)) for name, make in badhttp.TAKEN)
FILES = {name: "%03d" % i for i, name in enumerate(ROWS)}
MORE = ["more%d" % i for i in range(8)]
AT_ONCE = 60                    # upstreams beside the good one; 64 may be


class Raw(Upstream):
    """Answers blobs by `row`, and says in `ended` whether the other side closed the
    connection then, asking nothing more on it."""
    row, body, ended = None, b"", []

    def __init__(self):
        self.used, self.stray = [], None
        super().__init__(None)

    def give(self, row, body):
        self.row, self.body, self.ended = row, body, []

    def answer(self, sock, path, headers):
        if "/.pkgcast/blob/" not in path:
            return super().answer(sock, path, headers)
        self.used.append(sock)
        if self.row is None:
            stray, self.stray = self.stray, None
            kept = super().answer(sock, path, headers)
            if stray:
                stray(sock)
            return kept
        badhttp.send(sock, self.row, self.body)
        sock.settimeout(20 * SLOW)
        try:
            self.ended.append(sock.recv(1) == b"")
        except ConnectionResetError:
            self.ended.append(True)
        except TimeoutError:
            self.ended.append(False)
        return False


class Redirector(Upstream):
    """Sends all who ask for a blob to `to`, each on a connection of its own."""
    to = None

    def answer(self, sock, path, headers):
        if "/.pkgcast/blob/" not in path:
            return super().answer(sock, path, headers)
        sock.sendall(("HTTP/1.1 302 Found\r\nLocation: %s%s\r\n"
                      "Content-Length: 0\r\nConnection: close\r\n\r\n" % (
                          self.to, path)).encode())
        return False


class Documents(Upstream):
    """As many upstreams as there are rows, by the folder that stands before what is
    asked for."""

    def answer(self, sock, path, headers):
        _, row, target = path.split("/", 2)
        if target != ".pkgcast/heads":
            sock.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
            return True
        badhttp.send(sock, badhttp.ALL[int(row)][1], self.body)
        return False


@contextlib.contextmanager
def fleet_below(tmp, files, front=None):
    """An edge with a bad upstream, behind `front` if so, and a good one."""
    bad, good = Raw(), Upstream(None)
    if front:
        front.to = bad.url
    with boxes_below(tmp) as make:
        box = make("--edges", "1", "--edge-option", "aside=0",
                   "--upstream", (front or bad).url, "--upstream", good.url)
        for up in [bad, good] + ([front] if front else []):
            up.origin = urllib.parse.urlsplit(box.master)
        tree = make_tree(tmp / "tree", dict.fromkeys(files, SIZE))
        box.publish("m", tree)
        box.body = lambda f: open(tree + "/" + f, "rb").read()
        yield box, bad, good
        bad.close()
        good.close()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with fleet_below(tmp_path_factory.mktemp("framing"),
                     [*FILES.values(), *MORE]) as made:      # one for each row
        yield made


def upstream(box, up):
    return {u["url"]: u for u in box.status(box.edges[0])["upstreams"]}[up.url]


def test_there_are_enough_of_them():
    assert len(badhttp.ALL) >= 100
    assert len(ROWS) == len(badhttp.ALL) + len(badhttp.TAKEN)


@pytest.mark.quick
@pytest.mark.parametrize("name", [name for name, _, _ in badhttp.ALL])
def test_refused(fleet, name):
    box, bad, good = fleet
    make, says = ROWS[name]
    body = box.body(FILES[name])
    logged, faults = len(box.log("edge1")), upstream(box, bad)["failures"]
    asked = len(bad.blobs())
    bad.give(make, body)
    a = get(box.edges[0], "/m/" + FILES[name])
    assert (a.status, a.body) == (200, body)
    until(lambda: bad.ended)
    bad.row = None
    assert bad.ended == [True] and len(bad.blobs()) == asked + 1
    until(lambda: upstream(box, bad)["failures"] == faults + 1)
    assert re.search(says, upstream(box, bad)["last_error"])
    log = box.log("edge1")[logged:]
    assert re.search("upstream=%s .*(%s)" % (bad.url, says), log), log


@pytest.mark.quick
@pytest.mark.parametrize("name", [name for name, _ in badhttp.TAKEN])
def test_taken(fleet, name):
    box, bad, good = fleet
    body = box.body(FILES[name])
    faults, asked = upstream(box, bad)["failures"], len(good.blobs())
    requests = upstream(box, bad)["requests"]
    bad.give(ROWS[name][0], body)
    a = get(box.edges[0], "/m/" + FILES[name])
    assert (a.status, a.body) == (200, body)
    bad.row = None
    until(lambda: upstream(box, bad)["requests"] > requests)
    assert upstream(box, bad)["failures"] == faults
    assert len(good.blobs()) == asked


def get_more(box, bad):
    """Files one after the other; behind the fifth come bytes that nobody asked
    for, and only that connection is not used again."""
    sent = threading.Event()

    def stray(sock):
        """Later than the edge could have noticed at the answer's end."""
        time.sleep(0.3)
        sock.sendall(badhttp.ANSWER)
        sent.set()

    for i, f in enumerate(MORE):
        bad.stray = stray if i == 4 else None   # of the request that comes
        bad.used = bad.used[-1:] if i else []
        a = get(box.edges[0], "/m/" + f)
        assert (a.status, a.body) == (200, box.body(f))
        if i == 4:
            assert sent.wait(20)
            time.sleep(0.1)
        if i > 0:
            assert (bad.used[0] is bad.used[1]) == (i != 5), f


@pytest.mark.quick
def test_a_connection_is_kept_until_bytes_come_that_nobody_asked_for(fleet):
    box, bad, good = fleet
    faults, asked = upstream(box, bad)["failures"], len(good.blobs())
    get_more(box, bad)
    assert upstream(box, bad)["failures"] == faults
    assert len(good.blobs()) == asked


def test_the_same_where_each_request_was_redirected_to_it(tmp_path):
    front = Redirector(None)
    with fleet_below(tmp_path, MORE, front) as (box, bad, good):
        faults = upstream(box, front)["failures"]
        get_more(box, bad)
        assert upstream(box, front)["failures"] == faults
        assert good.blobs() == []
    front.close()


@pytest.mark.quick
def test_documents(fleet, tmp_path):
    """One poll asks them all."""
    box = fleet[0]
    up = Documents(None)
    up.body = get(box.master, "/.pkgcast/heads").body
    for begin in range(0, len(badhttp.ALL), AT_ONCE):
        rows = range(begin, min(begin + AT_ONCE, len(badhttp.ALL)))
        where = tmp_path / str(begin)
        where.mkdir()
        edge = PollingEdge(box, str(where), box.master, [
            'upstream\n    url = "%s/%d"' % (up.url, i) for i in rows])
        try:
            until(lambda: edge.body("/m/000") == box.body("000"), 60)
            log = edge.log()
        finally:
            edge.end()
        for i in rows:
            name, _, says = badhttp.ALL[i]
            assert re.search("document upstream=%s/%d target=/.pkgcast/heads "
                             "reason=.*(%s)" % (up.url, i, says), log), name
    up.close()
