# SPDX-License-Identifier: BSD-2-Clause
"""What RFC 9110, 9112 and 9211 ask of a server's answers and connections beside
conditions, ranges and framing: fields of every answer, targets, Expect,
HTTP/1.0, keep-alive, pipelining."""
import random
import re
import urllib.parse

import pytest

from conftest import make_tree, sha256, until
from wire import Closed, Wire, exchange

SET = "conn"
FILES = {"f": b"served\n", "g+h": b"a plus\n", "a b": b"a blank\n",
         "100%": b"a percent\n", "%41": b"an escape as a name\n",
         "d/e": b"below\n", "big": 300000}
DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|"
                  r"Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("conn") / "t", FILES)


@pytest.fixture(scope="module")
def address(shared, tree):
    shared.publish(SET, tree)
    u = urllib.parse.urlsplit(shared.edges[0])
    return u.hostname, u.port


@pytest.fixture(scope="module")
def body(tree):
    return {name: open("%s/%s" % (tree, name), "rb").read()
            for name in FILES}


def request(method="GET", target="/conn/f", version="HTTP/1.1", *fields):
    return ("\r\n".join(["%s %s %s" % (method, target, version), "Host: a",
                         *fields]) + "\r\n\r\n").encode("latin-1")


def ask(address, *args):
    w = Wire(address)
    w.send(request(*args))
    a = w.read(head=args[:1] == ("HEAD",))
    w.close()
    return a


def one(address, *args):
    """The answer, and whether the connection went on."""
    w = Wire(address)
    w.send(request(*args))
    a = w.read(head=args[:1] == ("HEAD",))
    w.socket.settimeout(0.3)
    try:
        on = not w.at_end()
    except TimeoutError:
        on = True
    w.close()
    return a, on


# (status, request) by what decides it; True: the connection goes on.
EVERY = [
    (200, True, ()), (200, True, ("HEAD",)),
    (206, True, ("GET", "/conn/f", "HTTP/1.1", "Range: bytes=0-0")),
    (304, True, ("GET", "/conn/f", "HTTP/1.1", "If-None-Match: *")),
    (204, True, ("OPTIONS",)), (204, True, ("OPTIONS", "*")),
    (204, True, ("OPTIONS", "/nothing/here")),
    (404, True, ("GET", "/conn/nothing")), (404, True, ("HEAD", "/conn/no")),
    (404, True, ("GET", "/")), (404, True, ("GET", "/conn/")),
    (404, True, ("GET", "/conn/d")), (404, True, ("GET", "/conn/d/")),
    (404, True, ("GET", "/conn")), (404, True, ("GET", "/.pkgcast/x")),
    (410, True, ("GET", "/conn/@99999/f")),
    (412, True, ("GET", "/conn/f", "HTTP/1.1", 'If-Match: "x"')),
    (412, True, ("HEAD", "/conn/f", "HTTP/1.1", 'If-Match: "x"')),
    (416, True, ("GET", "/conn/f", "HTTP/1.1", "Range: bytes=9-")),
    (400, False, ("GET", "/conn/../f")), (400, False, ("HEAD", "/conn%2ff")),
    (405, False, ("DELETE",)), (405, False, ("POST",)), (405, False, ("PUT",)),
    (405, False, ("PATCH",)), (405, False, ("TRACE",)), (405, False, ("BREW",)),
    (405, False, ("PROPFIND",)), (405, False, ("CONNECT", "a:80")),
    (417, False, ("GET", "/conn/f", "HTTP/1.1", "Expect: x")),
]


@pytest.mark.quick
def test_fields_of_every_answer(address):
    for status, on, args in EVERY:
        a, went_on = one(address, *args)
        assert a.status == status and went_on == on, (args, a.status, went_on)
        # 6.6.1 of RFC 9110: Date on all; 7.6.3: Via
        assert DATE.fullmatch(a["Date"]), args
        assert re.fullmatch(r"1\.1 [A-Za-z0-9-]+", a["Via"]), args
        assert (a["Connection"] == "close") == (not on), args
        if status == 204:       # 15.3.5, 8.6: no body and no length
            assert a["Content-Length"] is None
        if status >= 400:
            assert a["Content-Length"] == "0" and a.body == b"", args
            assert a["Content-Type"] is None and a["ETag"] is None, args
            assert a["Cache-Control"] == "no-store", args
        # 15.5.6: MUST; 9.3.7
        assert (a["Allow"] is not None) == (status in (204, 405)), args
        if a["Allow"]:
            assert a["Allow"] == "GET, HEAD, OPTIONS"
        assert a["Transfer-Encoding"] is None and a["Server"] is None


def sf_item(text):
    """RFC 8941, 3.3: one item of a list with its parameters; all that is left
    over of it is an error."""
    token = r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"
    string = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
    bare = r"-?\d{1,15}|%s|%s|\?[01]" % (token, string)
    m = re.fullmatch(r"(%s)((?:; *[a-z*][a-z0-9_.*-]*(?:=(?:%s))?)*)" % (
        "%s|%s" % (token, string), bare), text)
    assert m, text
    return m[1], dict(re.findall(r"; *([a-z*][a-z0-9_.*-]*)(?:=(%s))?" % bare,
                                 m[2]))


@pytest.mark.quick
def test_cache_status_is_rfc_9211(address, shared):
    w = Wire(address)
    for args in ((), ("HEAD",), ("GET", "/conn/big"), ("GET", "/conn/nothing"),
                 ("GET", "/nothing"), ("GET", "/.pkgcast/heads"),
                 ("GET", "/conn/f", "HTTP/1.1", "If-None-Match: *"),
                 ("GET", "/conn/f", "HTTP/1.1", "Range: bytes=9-")):
        w.send(request(*args))
        a = w.read(head=args[:1] == ("HEAD",))
        cache, p = sf_item(a["Cache-Status"])
        assert cache == "pkgcast"
        assert set(p) <= {"hit", "fwd", "collapsed", "key", "detail"}
        # 2.1, 2.2: hit and fwd exclude each other
        assert not ("hit" in p and "fwd" in p)
        assert p.get("fwd") in (None, "miss", "bypass", "uri-miss")
        if a.status == 200 and args[1:2] != ("/.pkgcast/heads",):
            assert re.fullmatch(r'"conn@\d+"', p["key"])
    w.close()


@pytest.mark.quick
def test_hits_and_misses(address):
    """The first GET is a miss, or shares another's fill; soon it is a hit."""
    w = Wire(address)

    def found():
        w.send(request("GET", "/conn/d/e"))
        return sf_item(w.read()["Cache-Status"])[1]

    first = found()
    assert "hit" in first or first["fwd"] == "miss"
    until(lambda: "hit" in found())
    w.close()


TARGETS = [
    # percent-encoding, once (RFC 3986, 2.4 and 6.2.2)
    ("/conn/%66", "f"), ("/%63onn/f", "f"), ("/conn/g+h", "g+h"),
    ("/conn/g%2Bh", "g+h"), ("/conn/g%2bh", "g+h"), ("/conn/a%20b", "a b"),
    ("/conn/a+b", None), ("/conn/100%25", "100%"), ("/conn/%2541", "%41"),
    ("/conn/%41", None), ("/conn/d/%65", "d/e"), ("/conn/%64/e", "d/e"),
    ("/conn/./d/./e", "d/e"), ("/conn/%2e/f", "f"), ("/conn/%2E/f", "f"),
    ("//conn//f", "f"), ("/conn/f/", None), ("/conn/f/.", None),
    ("/conn/F", None), ("/CONN/f", None), ("/conn/f?x", "f"),
    ("/conn/f?x=/../y", "f"), ("/conn/f%3Fx", None), ("/conn/f;x", None),
    # refused, and the connection with them
    ("/conn/d%2Fe", 400), ("/conn/d%2fe", 400), ("/conn/f%00", 400),
    ("/conn/%00/f", 400), ("/conn/f%0d%0aX:", 400), ("/conn/%2e%2e/f", 400),
    ("/conn/.%2e/conn/f", 400), ("/conn/%2E./conn/f", 400),
    ("/conn/d/../f", 400), ("/conn/%zz", 400), ("/conn/%", 400),
    ("/conn/%4", 400), ("/conn/%c0%ae%c0%ae/f", None),
    ("/conn/%252e%252e/f", None), ("/conn/d%255c..%255cf", None),
    # absolute-form (RFC 9112, 3.2.2): Host is ignored
    ("http://a/conn/f", "f"), ("https://a/conn/f", "f"),
    ("http://other:81/conn/f", "f"), ("HTTPS://A/conn/f", "f"),
    ("http://[2001:db8::1]/conn/f", "f"), ("http://a/conn/f?x", "f"),
    ("http://a//conn/./f", "f"), ("http://a", None), ("http://a/", None),
    ("http://a?x", None), ("http://a/conn/../f", 400), ("http://u@a/conn/f",
                                                        400),
]


@pytest.mark.quick
def test_targets(address, body):
    for target, want in TARGETS:
        w = Wire(address)
        w.send(request("GET", target))
        a = w.read()
        if want == 400:
            assert a.status == 400 and w.at_end(), target
        elif want is None:
            assert a.status == 404, target
        else:
            assert a.status == 200 and a.body == body[want], target
            assert a["ETag"] == '"%s"' % sha256(body[want])
        w.close()


# RFC 9112, 9.3: version, Connection, whether it goes on.
PERSISTENCE = [
    ("HTTP/1.1", [], True), ("HTTP/1.1", ["close"], False),
    ("HTTP/1.1", ["Close"], False), ("HTTP/1.1", ["keep-alive"], True),
    ("HTTP/1.1", ["x, close"], False), ("HTTP/1.1", ["close, x"], False),
    ("HTTP/1.1", ["x,close,y"], False), ("HTTP/1.1", ["x", "close"], False),
    ("HTTP/1.1", ["keep-alive, close"], False),
    ("HTTP/1.1", ["close", "keep-alive"], False),
    ("HTTP/1.1", ["closed"], True), ("HTTP/1.1", ["x"], True),
    ("HTTP/1.1", ["te, close ,"], False),
    ("HTTP/1.0", [], False), ("HTTP/1.0", ["keep-alive"], True),
    ("HTTP/1.0", ["Keep-Alive"], True), ("HTTP/1.0", ["close"], False),
    ("HTTP/1.0", ["x, keep-alive"], True),
    ("HTTP/1.0", ["keep-alive, close"], False),
]


@pytest.mark.quick
def test_persistence(address):
    for version, tokens, on in PERSISTENCE:
        for method in ("GET", "HEAD"):
            a, went_on = one(address, method, "/conn/f", version,
                             *("Connection: " + t for t in tokens))
            what = version, tokens, method
            assert a.status == 200 and went_on == on, what
            if not on:
                assert a["Connection"] == "close", what
            elif version == "HTTP/1.0":
                assert a["Connection"].lower() == "keep-alive", what


@pytest.mark.quick
def test_nothing_is_served_behind_close(address):
    """RFC 9112, 9.6: no request behind the last one is processed."""
    w = Wire(address)
    w.send(request("GET", "/conn/f", "HTTP/1.1", "Connection: close") +
           request())
    assert w.read().status == 200
    with pytest.raises((Closed, ConnectionResetError)):
        w.read()
    w.close()


@pytest.mark.quick
def test_http_1_0_is_not_chunked(address, body):
    w = Wire(address)
    w.send(b"GET /conn/big HTTP/1.0\r\n\r\n")
    a = w.read()
    assert a.body == body["big"] and a["Transfer-Encoding"] is None
    assert w.at_end()


@pytest.mark.quick
def test_pipelined_answers_come_in_order(address, body):
    """Some hundred requests of every kind in one write."""
    rng = random.Random(7)
    kinds = [("GET", "/conn/f", 200, "f"), ("HEAD", "/conn/f", 200, None),
             ("GET", "/conn/nothing", 404, None),
             ("HEAD", "/conn/nothing", 404, None),
             ("GET", "/conn/g+h", 200, "g+h"), ("GET", "/conn/d/e", 200, "d/e"),
             ("GET", "/conn/a%20b", 200, "a b"), ("OPTIONS", "*", 204, None),
             ("GET", "/conn/100%25", 200, "100%"),
             ("GET", "/conn/@9999/f", 410, None)]
    chosen, sent = [], []
    for _ in range(500):
        method, target, status, name = rng.choice(kinds)
        fields, want = [], body[name] if name else b""
        if name and rng.random() < 0.3:
            fields, status, want = ["If-None-Match: *"], 304, b""
        elif name and rng.random() < 0.3:
            fields, status, want = ["Range: bytes=1-2"], 206, want[1:3]
        elif name and rng.random() < 0.2:
            fields, status, want = ["Range: bytes=99-"], 416, b""
        chosen.append((method, status, want))
        sent.append(request(method, target, "HTTP/1.1", *fields))
    w = Wire(address)
    w.send(b"".join(sent))
    for i, (method, status, want) in enumerate(chosen):
        a = w.read(head=method == "HEAD")
        assert (a.status, a.body) == (status, want), i
    w.close()


@pytest.mark.quick
def test_pipelined_large_files(address, body):
    asked = [("GET", request("GET", "/conn/big", "HTTP/1.1",
                             "Range: bytes=%d-" % (i * 1000)))
             for i in range(100)]
    for i, a in enumerate(exchange(address, asked)):
        assert a.status == 206 and a.body == body["big"][i * 1000:], i


@pytest.mark.quick
def test_expectations(address, body):
    """RFC 9110, 10.1.1."""
    w = Wire(address)
    w.send(request("GET", "/conn/f", "HTTP/1.1", "Expect: 100-continue") * 3)
    for _ in range(3):
        assert w.read().body == body["f"]
    w.close()
    # From HTTP/1.0 it MUST be ignored.
    for what in ("100-continue", "x"):
        w = Wire(address)
        w.send(request("GET", "/conn/f", "HTTP/1.0", "Expect: " + what))
        assert w.socket.recv(12) == b"HTTP/1.1 200"
        w.close()


@pytest.mark.quick
def test_head_is_get_without_a_body(address):
    """RFC 9110, 9.3.2: the same fields, of errors too."""
    for target in ("/conn/f", "/conn/big", "/conn/nothing", "/nothing",
                   "/conn/@99999/f", "/.pkgcast/heads", "/.pkgcast/trust",
                   "/.pkgcast/x"):
        for field in ((), ("If-None-Match: *",), ('If-Match: "x"',),
                      ("If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT",)):
            got = []
            for method in ("GET", "GET", "HEAD"):
                a = ask(address, method, target, "HTTP/1.1", *field)
                a.fields.pop("date")
                got.append((a.status, a.fields))
            assert got[1] == got[2], (target, field)
