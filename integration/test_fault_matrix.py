# SPDX-License-Identifier: BSD-2-Clause
"""Every fault of an upstream, alone and beside others, for every size of file
and kind of request: what the client gets, the log says and the counters show."""
import concurrent.futures
import http.client
import http.server
import random
import threading
import time
import urllib.parse

import pytest

from conftest import SLOW, boxes_below, get, make_tree, until
from faults import chunked, flip, midway, page, place_of, send, trickle
from proxy import Upstream, reset

CHUNK = 262144
SIZES = {"small": 1000, "chunk": CHUNK, "many": 3 * CHUNK + 77}
TAIL = 500                              # bytes of the range, at the end
CERTAIN = 2                             # seconds, of the limits below


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """What a redirect leads to: a server that has other bytes, as many."""

    def do_GET(self):
        n = int(self.path.rpartition("/")[2])
        self.send_response(200)
        self.send_header("Content-Length", str(n))
        self.end_headers()
        self.wfile.write(b"x" * n)

    def log_message(self, *args):
        pass


elsewhere = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
threading.Thread(target=elsewhere.serve_forever, daemon=True).start()


def redirect(sock, head, body):
    page("302 Found", b"", ("Location: http://127.0.0.1:%d/%d" % (
        elsewhere.server_address[1], place_of(head, body)[1]),))(
            sock, head, body)


# fault: what is sent, None: connections are refused; what it comes to:
#   wrong: no byte of it may be used, and it is a fault
#   first, middle, last: so is that chunk; the others are good
#   right: all bytes are right, no fault; extra: right, and yet a fault
#   claim: as wrong, but for a part, whose bytes are right before it is seen
#   absent: not here, which is no fault
FAULTS = {
    "refuse": (None, "wrong"),
    "accept and hang": (lambda s, h, b: time.sleep(3600), "wrong"),
    "stall midway": (midway(lambda s: time.sleep(3600)), "wrong"),
    "close midway": (midway(lambda s: None), "wrong"),
    "reset midway": (midway(reset), "wrong"),
    "reset": (lambda s, h, b: reset(s), "wrong"),
    "short, closed": (lambda s, h, b: send(
        s, h, b[:-1], without=("content-length",)), "wrong"),
    "too long": (lambda s, h, b: send(
        s, h, b + b"more", without=("content-length",)), "extra"),
    "too long, and says so": (lambda s, h, b: send(
        s, h, b + b"more", length=len(b) + 4), "claim"),
    "short, and says so": (lambda s, h, b: send(
        s, h, b[:-1], length=len(b) - 1), "wrong"),
    "flip in the first chunk": (flip(lambda n: 9), "first"),
    "flip in the middle": (flip(lambda n: n // 2), "middle"),
    "flip in the last chunk": (flip(lambda n: n - 1), "last"),
    "other file": (lambda s, h, b: send(s, h, b"x" * len(b)), "wrong"),
    "error page with 200": (page("200 OK", b"<html>Sorry</html>",
                                 ("Content-Type: text/html",)), "wrong"),
    "404": (page("404 Not Found"), "absent"),
    "403": (page("403 Forbidden"), "wrong"),
    "500": (page("500 Internal Server Error"), "wrong"),
    "503": (page("503 Service Unavailable", extra=("Retry-After: 1",)),
            "wrong"),
    "redirect to nowhere": (page("302 Found", b"", (
        "Location: http://127.0.0.1:9/",)), "wrong"),
    "redirect to other bytes": (redirect, "wrong"),
    "chunked coding": (chunked, "right"),
    "gzip coding": (lambda s, h, b: send(
        s, h, b, extra=("Content-Encoding: gzip",)), "wrong"),
    "1 byte/s": (trickle, "wrong"),
    "HTTP/0.9 garbage": (lambda s, h, b: s.sendall(
        b"\x00\xffgarbage\r\n\r\n" * 20), "wrong"),
}
# How many bad ones come before how many good ones.
PLACES = {"alone": (1, 0), "before two good": (1, 2),
          "two before a good one": (2, 1), "all of three": (3, 0)}


class Fleet:
    """An edge and its upstreams, for all cells with so many."""

    def __init__(self, box, ups, tmp):
        self.box, self.ups, self.tmp, self.cell = box, ups, tmp, 0

    def publish(self):
        """New content, which nothing has cached."""
        self.cell += 1
        rng = random.Random(self.cell)
        files = {"%s-%s" % (size, kind): rng.randbytes(n)
                 for size, n in SIZES.items()
                 for kind in ("GET", "range", "HEAD")}
        for up in self.ups:
            up.fault = None
            up.refuse(False)
        self.box.publish("m", make_tree(self.tmp, files))
        return files

    def spoil(self, bad, fault):
        for up in self.ups[:bad]:
            if fault is None:
                up.refuse(True)
                continue

            def do(path, sock, head, body):
                fault(sock, head, body)
                return True
            up.fault = do

    def upstreams(self):
        s = self.box.status(self.box.edges[0])
        return {u["url"]: u["failures"] for u in s["upstreams"]}, \
            s["counters"]["fills_failed"]

    def close(self):
        for up in self.ups:
            up.close()


@pytest.fixture(scope="module")
def fleets(tmp_path_factory):
    """A function: the fleet with so many upstreams, made once."""
    tmp = tmp_path_factory.mktemp("matrix")
    made = {}

    def fleet(n):
        if n not in made:
            ups = [Upstream(None) for _ in range(n)]
            box = make("--edges", "1", "--edge-option", "first-byte=1",
                       "--edge-option", "fill.low-time=1",
                       "--edge-option", "aside=0",
                       *[a for up in ups for a in ("--upstream", up.url)],
                       name="box%d" % n)
            for up in ups:
                up.origin = urllib.parse.urlsplit(box.master)
            made[n] = Fleet(box, ups, tmp / ("tree%d" % n))
        return made[n]

    with boxes_below(tmp) as make:
        yield fleet
        for f in made.values():
            f.close()


class Cut:
    """An answer that ended early, with what came of it."""
    status = None

    def __init__(self, partial):
        self.body = partial


def ask(base, name, kind):
    """The answer, and the seconds it took."""
    headers = {"Range": "bytes=-%d" % TAIL} if kind == "range" else None
    begin = time.monotonic()
    try:
        a = get(base, "/m/" + name, "HEAD" if kind == "HEAD" else "GET",
                headers, timeout=60)
    except http.client.IncompleteRead as e:
        a = Cut(e.partial)
    except (http.client.RemoteDisconnected, ConnectionError):
        a = Cut(b"")
    return a, time.monotonic() - begin


def is_spoiled(effect, size, kind):
    """Whether that request needs bytes which nobody gives it."""
    if kind == "HEAD" or effect in ("right", "extra"):
        return False
    if effect in ("first", "middle") and size == "many":
        return kind == "GET"
    return effect != "claim" or size != "many" or kind != "range"


def judge(a, body, size, kind, spoiled):
    where = (size, kind, a.status, len(a.body))
    if kind == "HEAD":
        assert a.status == 200 and a["Content-Length"] == str(len(body)), where
        return
    want = body[-TAIL:] if kind == "range" else body
    if not spoiled:
        assert a.status == (206 if kind == "range" else 200), where
        assert a.body == want, where
        return
    # 503, or cut: no wrong byte, and nothing that looks complete.
    if isinstance(a, Cut):
        assert want.startswith(a.body) and len(a.body) < len(want), where
    else:
        assert a.status == 503 and a.body == b"" and a["Retry-After"], where


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_cell(fleets, fault, place):
    what, effect = FAULTS[fault]
    bad, good = PLACES[place]
    fleet = fleets(bad + good)
    files = fleet.publish()
    base = fleet.box.edges[0]
    logged = len(fleet.box.log("edge1"))
    faults, failed = fleet.upstreams()
    fleet.spoil(bad, what)
    with concurrent.futures.ThreadPoolExecutor(len(files)) as pool:
        answers = dict(zip(files, pool.map(
            lambda n: ask(base, n, n.partition("-")[2]), files)))
    for name, body in files.items():
        size, _, kind = name.partition("-")
        a, took = answers[name]
        judge(a, body, size, kind, good == 0 and is_spoiled(effect, size, kind))
        # Each bad one is certain to be so after CERTAIN seconds at most, and
        # the next is asked within one more.
        assert good == 0 or took < (bad * (CERTAIN + 1) + 2) * SLOW, (
            name, took)

    # After one whose bytes are right nobody else is asked.
    faulty = {"right": 0, "absent": 0, "extra": 1}.get(effect, bad)

    def settled():
        now, now_failed = fleet.upstreams()
        urls = [up.url for up in fleet.ups]
        return all(now[u] > faults[u] for u in urls[:faulty]) and \
            all(now[u] == faults[u] for u in urls[bad:]) and \
            (faulty > 0 or now == faults) and \
            (now_failed > failed) == (good == 0 and effect not in (
                "right", "extra"))
    until(settled, 20)
    log = fleet.box.log("edge1")[logged:]
    for up in fleet.ups[:faulty]:
        assert up.url in log, "the log does not name the upstream"
