# SPDX-License-Identifier: BSD-2-Clause
"""A browser: downloads, revalidation, ranges of scripts and of its player."""
import base64
import http.server
import os
import random
import shutil
import struct
import threading

import pytest

import browser
from conftest import make_tree

# Sends back [status, Content-Range, body in base64].
FETCH = """
const r = await fetch(a[0], {headers: a[1]});
const b = new Uint8Array(await r.arrayBuffer());
let s = "";
for (let i = 0; i < b.length; i += 4096)
    s += String.fromCharCode(...b.subarray(i, i + 4096));
return [r.status, r.headers.get("Content-Range"), btoa(s)];
"""
SEEK = """
const m = new Audio(a[0]);
const when = (e) => new Promise((ok, bad) => {
    m.addEventListener(e, ok, {once: true});
    m.addEventListener("error", () => bad(m.error.message), {once: true});
});
m.preload = "auto";
m.load();
await when("loadedmetadata");
m.currentTime = a[1];
await when("seeked");
return [m.duration, m.currentTime];
"""
RATE = 44100


def wav(seconds):
    """Sound of two channels of 16 bits."""
    data = random.Random(4).randbytes(seconds * RATE * 4)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + \
        struct.pack("<IHHIIHH", 16, 1, 2, RATE, RATE * 4, 4, 16) + \
        b"data" + struct.pack("<I", len(data)) + data


class Blank(http.server.BaseHTTPRequestHandler):
    """A page to stand on: without an origin a browser caches nothing."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if browser.program() is None:
        pytest.skip("no chromium here; install it with integration/deps check")
    where = tmp_path_factory.mktemp("browser")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    b = browser.Browser(where)
    b.call("Page.navigate",
           url="http://127.0.0.1:%d/" % server.server_address[1])
    b.event("Page.loadEventFired", lambda p: True)
    yield b
    b.close()
    server.shutdown()
    server.server_close()
    shutil.rmtree(where, ignore_errors=True)


@pytest.fixture(scope="module")
def site(shared, tmp_path_factory):
    tree = make_tree(tmp_path_factory.mktemp("site") / "t", {
        "All/app.pkg": 3000000, "meta.conf": b"one\n", "part": 300000,
        "sound.wav": wav(120)})
    shared.publish("web", tree)
    return shared.edges[0] + "/web/", tree


def statuses(page, url):
    """What the server itself answered to requests for url, in order."""
    ids = [m["params"]["requestId"] for m in page.events
           if m.get("method") == "Network.requestWillBeSent" and
           m["params"]["request"]["url"] == url]
    return [m["params"]["statusCode"] for m in page.events
            if m.get("method") == "Network.responseReceivedExtraInfo" and
            m["params"]["requestId"] in ids]


def ranges(page, url):
    ids = [m["params"]["requestId"] for m in page.events
           if m.get("method") == "Network.requestWillBeSent" and
           m["params"]["request"]["url"] == url]
    return [m["params"]["headers"]["Range"] for m in page.events
            if m.get("method") == "Network.requestWillBeSentExtraInfo" and
            m["params"]["requestId"] in ids and
            "Range" in m["params"]["headers"]]


def test_a_link_is_downloaded(page, site):
    base, tree = site
    page.call("Browser.setDownloadBehavior", behavior="allow",
              downloadPath=page.downloads, eventsEnabled=True)
    page.call("Page.navigate", url=base + "All/app.pkg")
    end = page.event("Browser.downloadProgress",
                     lambda p: p["state"] != "inProgress")
    assert end["state"] == "completed"
    with open(os.path.join(page.downloads, "app.pkg"), "rb") as f, \
            open(tree + "/All/app.pkg", "rb") as want:
        assert f.read() == want.read()


def test_a_reload_is_revalidated(page, site, shared):
    base, tree = site
    url = base + "meta.conf"

    def fetch():
        status, _, body = page.run(FETCH, url, {})
        return status, base64.b64decode(body)

    assert fetch() == (200, b"one\n")
    assert fetch() == (200, b"one\n")       # from its cache, after a 304
    make_tree(tree, {"meta.conf": b"and two\n"})
    shared.publish("web", tree)
    assert fetch() == (200, b"and two\n")
    page.call("Network.disable")            # what it saw is all told by then
    page.call("Network.enable")
    assert statuses(page, url) == [200, 304, 200]


def test_scripts_fetch_ranges(page, site):
    base, tree = site
    with open(tree + "/part", "rb") as f:
        want = f.read()
    for value, first, end in (("bytes=0-", 0, 300000),
                              ("bytes=100-99999", 100, 100000),
                              ("bytes=-5000", 295000, 300000)):
        status, where, body = page.run(FETCH, base + "part",
                                       {"Range": value})
        assert status == 206 and base64.b64decode(body) == want[first:end]
        assert where == "bytes %d-%d/300000" % (first, end - 1)
    # Its cache answers this one, with a Content-Range of its own.
    assert page.run(FETCH, base + "part", {"Range": "bytes=300000-"})[0] == 416


def test_its_player_seeks(page, site):
    base, _ = site
    duration, at = page.run(SEEK, base + "sound.wav", 110)
    assert duration == 120 and at == 110
    seen = ranges(page, base + "sound.wav")
    assert seen[0] == "bytes=0-" and any(
        int(r[6:].partition("-")[0]) > 10 * RATE * 4 for r in seen[1:]), seen
