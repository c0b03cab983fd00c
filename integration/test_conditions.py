# SPDX-License-Identifier: BSD-2-Clause
"""Every combination of conditions and ranges, put to an edge and, for
comparison, to nginx.  What the edge must say comes from an oracle below, written
from the text of RFC 9110 alone."""
import calendar
import collections
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse

import pytest

from conftest import SLOW, get, make_tree, sha256, until
from wire import exchange

SET = "cond"
SIZES = {"empty": 0, "one": 1, "small": 100, "page": 65537, "large": 3000000}

# The oracle.

DAYS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun"
LONG_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec".split("|")
TIME = r"(?P<H>\d\d):(?P<M>\d\d):(?P<S>\d\d)"
MONTH = "(?P<b>%s)" % "|".join(MONTHS)
# 5.6.7: IMF-fixdate, rfc850-date, asctime-date.
DATES = [
    r"(%s), (?P<d>\d\d) %s (?P<Y>\d{4}) %s GMT" % (DAYS, MONTH, TIME),
    r"(%s), (?P<d>\d\d)-%s-(?P<y>\d\d) %s GMT" % (LONG_DAYS, MONTH, TIME),
    r"(%s) %s (?P<d>\d\d| \d) %s (?P<Y>\d{4})" % (DAYS, MONTH, TIME),
]
TAG = re.compile(r'(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)"')

File = collections.namedtuple("File", "size tag time")


def http_date(text):
    """Seconds since 1970, or None for what is no HTTP-date (5.6.7)."""
    for form in DATES:
        m = re.fullmatch(form, text)
        if not m:
            continue
        d = m.groupdict()
        year = int(d.get("Y") or 0)
        if not d.get("Y"):      # more than 50 years ahead is the past
            now = time.gmtime().tm_year
            year = now - now % 100 + int(d["y"])
            year -= 100 if year > now + 50 else 0
        month, day = MONTHS.index(d["b"]) + 1, int(d["d"])
        if year < 1 or not 1 <= day <= calendar.monthrange(year, month)[1]:
            return None
        clock = int(d["H"]), int(d["M"]), int(d["S"])
        if clock[0] > 23 or clock[1] > 59 or clock[2] > 59 and \
                clock != (23, 59, 60):
            return None
        return calendar.timegm((year, month, day, *clock))
    return None


def tags(text):
    """8.8.3, 13.1.1: "*", or a list of (weak, opaque); None: neither."""
    if text == "*":
        return text
    found, rest = [], text
    while rest.strip(" \t,"):
        rest = rest.lstrip(" \t,")
        m = TAG.match(rest)
        if not m:
            return None
        found.append((bool(m["weak"]), m["opaque"]))
        rest = rest[m.end():].lstrip(" \t")
        if rest and rest[0] != ",":
            return None
    return found


def if_match(text, f):
    """13.1.1, by strong comparison (8.8.3.2)."""
    got = tags(text)
    return got == "*" or got is not None and (False, f.tag) in got


def if_none_match(text, f):
    """13.1.2, by weak comparison: true where none matches."""
    got = tags(text)
    return got != "*" and (got is None or
                           f.tag not in [opaque for _, opaque in got])


def if_range(text, f):
    """13.1.5: an entity tag by strong comparison, or the exact date.  Ours is a
    strong validator in the sense of 8.8.2.2: two versions differ in it."""
    m = TAG.fullmatch(text)
    if m:
        return not m["weak"] and m["opaque"] == f.tag
    return http_date(text) == f.time


def byte_range(text, f):
    """14.1.1, 14.1.2: (first, last), "unsatisfiable", or None for what is
    ignored: other units (14.2), what is invalid (14.2: MAY) and, by choice,
    several ranges (14.2: MAY)."""
    m = re.fullmatch(r"(?i:bytes)=(?:(\d+)-(\d*)|-(\d+))", text, re.ASCII)
    if not m:
        return None
    if m[3] is not None:
        n = int(m[3])
        if n == 0:              # 14.1.2: satisfiable if non-zero
            return "unsatisfiable"
        if f.size == 0:         # satisfiable, but no Content-Range says so
            return None
        return max(0, f.size - n), f.size - 1
    first, last = int(m[1]), int(m[2]) if m[2] else f.size - 1
    if m[2] and last < first:
        return None
    if first >= f.size:
        return "unsatisfiable"
    return first, min(last, f.size - 1)


def oracle(method, q, f):
    """13.2.2 step by step: the status, and the range of 206."""
    # 5.5: blanks around a value are not of it
    q = {name: text.strip(" \t") for name, text in q.items()}
    # 1: when If-Match is present
    if "If-Match" in q:
        if not if_match(q["If-Match"], f):
            return 412, None
    # 2: when If-Match is not present and If-Unmodified-Since is; 13.1.4: what
    # is no valid date is ignored
    elif "If-Unmodified-Since" in q:
        date = http_date(q["If-Unmodified-Since"])
        if date is not None and not f.time <= date:
            return 412, None
    # 3: when If-None-Match is present; GET and HEAD get 304
    if "If-None-Match" in q:
        if not if_none_match(q["If-None-Match"], f):
            return 304, None
    # 4: GET or HEAD, no If-None-Match, and If-Modified-Since
    elif "If-Modified-Since" in q:
        date = http_date(q["If-Modified-Since"])
        if date is not None and f.time <= date:
            return 304, None
    # 5: GET with Range and If-Range; 14.2: other methods ignore Range; 13.1.5:
    # If-Range without Range is ignored
    if method == "GET" and "Range" in q and (
            "If-Range" not in q or if_range(q["If-Range"], f)):
        got = byte_range(q["Range"], f)
        if got == "unsatisfiable":
            return 416, None
        if got:
            return 206, got
    # 6
    return 200, None


# Questions.  TAG and the dates stand for those of the file asked for.

def imf(t):
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(t))


def rfc850(t):
    return time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(t))


def asctime(t):
    g = time.gmtime(t)
    return time.strftime("%a %b ", g) + "%2d" % g.tm_mday + \
        time.strftime(" %H:%M:%S %Y", g)


MATCHES = [None, "*", '"TAG"', '"other"', 'W/"TAG"', '"other", "TAG"']
DATE_KINDS = [None, "before", "equal", "after", "garbage"]
IF_RANGES = [None, '"TAG"', 'W/"TAG"', '"other"', "equal", "before", "after",
             "garbage"]
SOME_RANGES = [None, "bytes=10-19", "bytes=100-", "bytes=0-0,-1"]
RANGES = [None, "bytes=0-0", "bytes=10-19", "bytes=0-99", "bytes=99-99",
          "bytes=-1", "bytes=-10", "bytes=-100", "bytes=-101",
          "bytes=-99999999999999999999999999", "bytes=-0", "bytes=-00",
          "bytes=0-", "bytes=10-", "bytes=99-", "bytes=100-", "bytes=101-",
          "bytes=100-200", "bytes=65536-", "bytes=65535-65536",
          "bytes=262144-262145", "bytes=1000000-2999999",
          "bytes=2999999-3000000", "bytes=90-200",
          "bytes=0-18446744073709551615",
          "bytes=18446744073709551615-", "bytes=18446744073709551616-",
          "bytes=0-99999999999999999999999999", "bytes=000-009",
          "bytes=10-9", "bytes=200-100", "bytes=0-0,-1", "bytes=0-9,20-29",
          "bytes=0-0, 5-5", "bytes=0-9,", "bytes=,0-9", "bytes=0-9,x",
          "bytes=10-19 ", "bytes= 10-19", "bytes =10-19", "bytes=10 -19",
          "bytes=10- 19", "bytes=\t10-19", "BYTES=10-19", "Bytes=10-19",
          "lines=10-19", "none=0-1", "x-bytes=0-9", "bytes", "bytes=",
          "bytes=-",
          "bytes=--1", "bytes=5", "bytes=+1-2", "bytes=1-+2", "bytes=a-b",
          "bytes=0x1-0x2", "bytes=1-2-3", "bytes:0-9", "10-19", "garbage"]
TAG_LISTS = [
    "*", '"TAG"', 'W/"TAG"', 'w/"TAG"', '"other"', '""', "TAG", '"TAG', 'TAG"',
    '"TAGx"', '"xTAG"', '"tag"', '"TAG", "other"', '"other","TAG"',
    '"other" , W/"TAG"', ', ,"TAG",', '"a,b", "TAG"', '"a" "TAG"', '*, "TAG"',
    '"TAG", *', "**", '"*"', '"a\\"b", "TAG"', '"TAG" \t', '\'TAG\'',
    '"\xe4", "TAG"', 'W/ "TAG"', 'W/W/"TAG"',
]
DATE_TEXTS = [
    ("IMF", lambda t: imf(t)), ("RFC 850", lambda t: rfc850(t)),
    ("asctime", lambda t: asctime(t)),
    ("blanks behind", lambda t: imf(t) + " \t"),
    ("epoch", lambda t: "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("before the epoch", lambda t: "Wed, 31 Dec 1969 23:59:59 GMT"),
    ("long ago", lambda t: "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("the year 1", lambda t: "Mon, 01 Jan 0001 00:00:00 GMT"),
    ("the year 0", lambda t: "Sat, 01 Jan 0000 00:00:00 GMT"),
    ("the future", lambda t: "Fri, 31 Dec 9999 23:59:59 GMT"),
    ("leap second", lambda t: "Sat, 31 Dec 2016 23:59:60 GMT"),
    ("no leap second", lambda t: "Sat, 31 Dec 2044 12:00:60 GMT"),
    ("29 February", lambda t: "Mon, 29 Feb 2044 00:00:00 GMT"),
    ("no 29 February", lambda t: "Mon, 29 Feb 2100 00:00:00 GMT"),
    ("31 April", lambda t: "Mon, 31 Apr 2040 00:00:00 GMT"),
    ("hour 24", lambda t: "Mon, 01 Jan 2040 24:00:00 GMT"),
    ("RFC 850, 94", lambda t: "Sunday, 06-Nov-94 08:49:37 GMT"),
    ("RFC 850, in 40 years", lambda t: rfc850(t + 40 * 31557600)),
    ("a zone", lambda t: imf(t)[:-3] + "CET"),
    ("an offset", lambda t: imf(t)[:-3] + "+0000"),
    ("no zone", lambda t: imf(t)[:-4]),
    ("UTC", lambda t: imf(t)[:-3] + "UTC"),
    ("small letters", lambda t: imf(t).lower()),
    ("one digit", lambda t: "Fri, 1 Jan 2040 00:00:00 GMT"),
    ("ISO 8601", lambda t: "2040-01-01T00:00:00Z"),
    ("seconds", lambda t: str(t + 9)), ("zero", lambda t: "0"),
    ("minus one", lambda t: "-1"), ("a tag", lambda t: '"TAG"'),
    ("star", lambda t: "*"), ("more behind", lambda t: imf(t) + "; length=1"),
    ("two", lambda t: imf(t) + ", " + imf(t)),
]

GARBAGE_DATE = "yesterday"


def value(kind, f):
    when = {"before": f.time - 1, "equal": f.time, "after": f.time + 1}
    if kind in when:
        return imf(when[kind])
    return GARBAGE_DATE if kind == "garbage" else kind.replace("TAG", f.tag)


def question(f, **kinds):
    return {name.replace("_", "-"): value(kind, f)
            for name, kind in kinds.items() if kind is not None}


def product(f):
    """Every combination of the six fields and both methods."""
    for method, im, ius, inm, ims, rng, ir in itertools.product(
            ("GET", "HEAD"), MATCHES, DATE_KINDS, MATCHES, DATE_KINDS,
            SOME_RANGES, IF_RANGES):
        yield method, question(f, If_Match=im, If_Unmodified_Since=ius,
                               If_None_Match=inm, If_Modified_Since=ims,
                               Range=rng, If_Range=ir)


def ranges(f):
    """Every range with every If-Range, and below conditions."""
    if_ranges = IF_RANGES if f.size < 1000000 else IF_RANGES[:3]
    for method, rng, ir in itertools.product(("GET", "HEAD"), RANGES,
                                             if_ranges):
        yield method, question(f, Range=rng, If_Range=ir)
    for rng, im, ims in itertools.product(RANGES, MATCHES[2:4],
                                          DATE_KINDS[1:3]):
        yield "GET", question(f, Range=rng, If_Match=im)
        yield "GET", question(f, Range=rng, If_Modified_Since=ims)


def forms(f):
    """Every way to write, and to miswrite, tags and dates."""
    for method in ("GET", "HEAD"):
        for text in TAG_LISTS:
            for name in ("If_Match", "If_None_Match"):
                yield method, question(f, **{name: text})
            yield method, question(f, If_Range=text, Range="bytes=0-0")
        for _, make in DATE_TEXTS:
            text = make(f.time).replace("TAG", f.tag)
            for name in ("If-Modified-Since", "If-Unmodified-Since"):
                yield method, {name: text}
            yield method, {"If-Range": text, "Range": "bytes=0-0"}


def raw(method, path, q):
    return method, ("%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (
        method, path, "".join("%s: %s\r\n" % i for i in q.items()))).encode(
            "latin-1")


# The edge.

class Edge:
    def __init__(self, base, tree):
        u = urllib.parse.urlsplit(base)
        self.address = u.hostname, u.port
        self.body, self.file = {}, {}
        for name in SIZES:
            with open(os.path.join(tree, name), "rb") as f:
                self.body[name] = f.read()
            a = get(base, "/%s/%s" % (SET, name))
            assert a.status == 200 and a.body == self.body[name]
            self.file[name] = File(len(a.body), sha256(a.body),
                                   http_date(a["Last-Modified"]))

    def path(self, name):
        return "/%s/%s" % (SET, name)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("cond") / "t", SIZES)


@pytest.fixture(scope="module")
def edge(shared, tree):
    shared.publish(SET, tree)
    return Edge(shared.edges[0], tree)


COMMON = {"date", "via", "cache-control"}
CACHE_STATUS = re.compile(r'pkgcast; hit; key="cond@\d+"')


def check_fields(a, f, method):
    """Which fields belong to which status (15.3.7, 15.4.5, 15.5.13, 15.5.17),
    and their values."""
    want = {200: {"etag", "last-modified", "content-type", "accept-ranges",
                  "cache-status", "content-length"},
            206: {"etag", "last-modified", "content-type", "accept-ranges",
                  "cache-status", "content-length", "content-range"},
            304: {"etag", "last-modified", "cache-status", "content-length"},
            412: {"content-length", "cache-status"},
            416: {"content-length", "cache-status", "content-range"},
            }[a.status] | COMMON
    # The library leaves it out where nothing would follow.
    assert set(a.fields) | {"content-length"} == want, a.fields
    assert re.fullmatch(DATES[0], a["Date"])
    assert CACHE_STATUS.fullmatch(a["Cache-Status"])
    if "etag" in want:
        assert a["ETag"] == '"%s"' % f.tag
        assert a["Last-Modified"] == imf(f.time)
        assert a["Cache-Control"] == "no-cache"
    else:
        assert a["Cache-Control"] == "no-store"
    if "content-type" in want:
        assert a["Content-Type"] == "application/octet-stream"
        assert a["Accept-Ranges"] == "bytes"


def check_answer(a, method, q, f, body):
    status, rng = oracle(method, q, f)
    assert a.status == status
    check_fields(a, f, method)
    want = b""
    if status in (200, 304):
        # 8.6: of HEAD and 304 what GET and 200 would have said
        assert a["Content-Length"] == str(f.size)
        want = body if status == 200 and method == "GET" else b""
    elif status == 206:
        first, last = rng
        assert a["Content-Range"] == "bytes %d-%d/%d" % (first, last, f.size)
        assert a["Content-Length"] == str(last - first + 1)
        want = body[first:last + 1]
    else:
        assert a["Content-Length"] == "0"
    if status == 416:
        assert a["Content-Range"] == "bytes */%d" % f.size
    assert a.body == want


def check_all(edge, name, questions):
    f, body, n = edge.file[name], edge.body[name], 0
    batch = 4 if f.size > 1000000 else 100
    answers = exchange(edge.address, [raw(m, edge.path(name), q)
                                      for m, q in questions], batch)
    for (method, q), a in zip(questions, answers):
        try:
            check_answer(a, method, q, f, body)
        except AssertionError as e:
            raise AssertionError("%s %s %s: %d %s" % (
                method, name, q, a.status, a.fields)) from e
        n += 1
    assert n == len(questions)
    return n


def test_the_whole_product_of_conditions(edge):
    questions = list(product(edge.file["small"]))
    assert len(questions) == 57600
    check_all(edge, "small", questions)


@pytest.mark.quick
@pytest.mark.parametrize("name", SIZES)
def test_ranges_of_files_of_every_size(edge, name):
    check_all(edge, name, list(ranges(edge.file[name])))


@pytest.mark.quick
@pytest.mark.parametrize("name", ["small", "empty"])
def test_forms_of_tags_and_dates(edge, name):
    check_all(edge, name, list(forms(edge.file[name])))


# nginx.

CONF = """\
daemon off; master_process off; pid %(dir)s/pid; error_log %(dir)s/error.log;
events { worker_connections 64; }
http {
    access_log off; keepalive_requests 1000000;
    default_type application/octet-stream;
    client_body_temp_path %(dir)s/1; proxy_temp_path %(dir)s/2;
    fastcgi_temp_path %(dir)s/3; uwsgi_temp_path %(dir)s/4;
    scgi_temp_path %(dir)s/5;
    server { listen 127.0.0.1:%(port)d; root %(root)s; }
}
"""


def nginx_program():
    return shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")


@pytest.fixture(scope="module")
def nginx(edge, tmp_path_factory):
    """The same files with the same times; Debian's defaults for the rest."""
    if not nginx_program():
        pytest.skip("nginx is not installed")
    root = tmp_path_factory.mktemp("nginx")
    for name, body in edge.body.items():
        (root / name).write_bytes(body)
        os.utime(root / name, (edge.file[name].time,) * 2)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    os.chmod(root, 0o755)
    conf = root / "nginx.conf"
    conf.write_text(CONF % {"dir": root, "port": port, "root": root})
    p = subprocess.Popen([nginx_program(), "-p", str(root), "-e",
                          str(root / "error.log"), "-c", str(conf)],
                         stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def up():
        assert p.poll() is None, (root / "error.log").read_text()
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(up)
        yield "127.0.0.1", port
    finally:
        p.send_signal(signal.SIGTERM)
        p.wait(20 * SLOW)


# Differences, in the order in which they are looked for.  Each: why, and when
# it is the one.  The edge's side was checked against the oracle before.
def bad_date(text):
    return text is not None and http_date(text) is None


DIFFERENCES = {
    "nginx judges If-Unmodified-Since beside If-Match":
        # 13.2.2, 1 and 2: it is for clients without entity tags
        lambda m, q, f, e, n: n == 412 and "If-Match" in q and
        "If-Unmodified-Since" in q,
    "nginx takes what is no date for the oldest of If-Unmodified-Since":
        # 13.1.4: MUST ignore
        lambda m, q, f, e, n: n == 412 and
        bad_date(q.get("If-Unmodified-Since")),
    "nginx judges If-Modified-Since beside If-None-Match":
        # 13.1.3: MUST ignore it then
        lambda m, q, f, e, n: e == 304 and n != 304 and
        "If-None-Match" in q and "If-Modified-Since" in q,
    "nginx gives 304 for If-Modified-Since only if the date is equal":
        # 13.1.3: earlier or equal; its if_modified_since exact
        lambda m, q, f, e, n: e == 304 and n != 304 and
        "If-None-Match" not in q and
        (http_date(q["If-Modified-Since"]) or 0) > f.time,
    "nginx has ranges of HEAD":
        # 14.2: MUST ignore Range where the method is not GET
        lambda m, q, f, e, n: m == "HEAD" and "Range" in q and e == 200 and
        n in (206, 416),
    "nginx answers several ranges in several parts":
        # 14.2: MAY ignore them, as the edge does; see the manual page
        lambda m, q, f, e, n: "," in q.get("Range", "") and e == 200 and
        n == 206,
    "nginx refuses ranges that are invalid":
        # 14.2: MAY ignore or reject; the edge ignores
        lambda m, q, f, e, n: e == 200 and n == 416 and
        byte_range(q["Range"], f) is None,
    "nginx takes blanks within a range":
        # 14.1.1 has none; invalid, so it MAY be ignored
        lambda m, q, f, e, n: e == 200 and n == 206 and
        re.search(r"[ \t]", q["Range"].strip(" \t")) is not None,
    "nginx ignores a range that is longer than it can count":
        # 14.1.2: the last position may be anything
        lambda m, q, f, e, n: e in (206, 416) and n in (200, 416) and
        re.search(r"\d{19}", q["Range"]) is not None,
    "nginx gives an empty file whole, whatever the range":
        # 15.5.17: none of its bytes is there; 14.2 allows to ignore Range
        lambda m, q, f, e, n: f.size == 0 and e == 416 and n == 200,
    "nginx looks for a tag in what is no list of tags":
        # 13.1.1, 13.1.2: no valid field, so nothing that matches
        lambda m, q, f, e, n: any(
            tags(q.get(h, "*")) is None for h in
            ("If-Match", "If-None-Match")),
    "nginx does not look at what follows the time of a date":
        # 5.6.7: it is GMT, and nothing else; 13.1.3, 13.1.5: else no date
        lambda m, q, f, e, n: any(
            text.startswith(imf(f.time)[:-4]) and bad_date(text)
            for text in (q.get("If-Modified-Since", ""),
                         q.get("If-Range", ""))),
    "nginx takes a tab behind a value for a part of it":
        # 5.5: optional whitespace is SP and HTAB
        lambda m, q, f, e, n: any(text.endswith("\t")
                                  for text in q.values()),
}


def differs(method, e, n):
    """In what a client acts upon."""
    if e.status != n.status:
        return True
    if e.status in (200, 206) and e.body != n.body:
        return True
    return e.status in (206, 416) and \
        e["Content-Range"] != n["Content-Range"]


def compare(edge, nginx, name, make):
    """Classes of difference, each with how often."""
    f = edge.file[name]
    first = next(exchange(nginx, [raw("GET", "/" + name, {})]))
    assert first.body == edge.body[name]
    assert first["Last-Modified"] == imf(f.time)
    theirs = f._replace(tag=first["ETag"].strip('"'))
    # It ends the connection after 412, also where it announced keep-alive.
    few = 4
    ours, questions = list(make(f)), list(make(theirs))
    seen, strange = collections.Counter(), []
    for (method, q), (_, q2), e, n in zip(
            ours, questions,
            exchange(edge.address, [raw(m, edge.path(name), q)
                                    for m, q in ours]),
            exchange(nginx, [raw(m, "/" + name, q) for m, q in questions],
                     few, again=True)):
        if not differs(method, e, n):
            continue
        for why, when in DIFFERENCES.items():
            if when(method, q, f, e.status, n.status):
                seen[why] += 1
                break
        else:
            strange.append("%s %s %s: edge %d %s, nginx %d %s" % (
                method, name, q, e.status, e["Content-Range"], n.status,
                n["Content-Range"]))
    assert not strange, "%d, as\n" % len(strange) + "\n".join(strange[:50])
    return seen


def test_every_difference_to_nginx_is_explained(edge, nginx):
    seen = compare(edge, nginx, "small", product)
    for name in ("empty", "one", "small", "page"):
        seen += compare(edge, nginx, name, ranges)
    for name in ("small", "empty"):
        seen += compare(edge, nginx, name, forms)
    for why, n in seen.most_common():
        print("%6d %s" % (n, why))
    assert set(seen) == set(DIFFERENCES)
