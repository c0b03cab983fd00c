# SPDX-License-Identifier: BSD-2-Clause
"""RFC 9111 over the wire, for a set whose freshness is HTTP's: what is stored,
served, verified and refused, as the origin's log shows it.  Each row names the
section that it comes from (of RFC 9111, unless it says another)."""
import re
import threading
import time

import pytest

from conftest import SLOW, get, until
from origin import OLD, Entry, Origin, http_date
from plain import plain_edges
from proxy import reset

BODY = b"0123456789" * 50
ASKED = "verified|replaced|fetched"
FRESH = ("Cache-Control: max-age=1000",)
AGED = ("Cache-Control: max-age=1000", "Age: 100")
STALE = ("Cache-Control: max-age=1000", "Age: 2000")
NONE = {"etag": None, "modified": None}         # no validators


def dated(lines):
    """@+1000 in a line is the date in so many seconds."""
    now = int(time.time())
    return [re.sub(r"@([+-]\d+)", lambda m: http_date(now + int(m.group(1))),
                   line) for line in lines]


class World:
    def __init__(self, edge, origin):
        self.edge, self.origin, self.count = edge, origin, 0
        self.fills = edge.fills()

    def name(self):
        self.count += 1
        return "f%d" % self.count

    def put(self, *lines, body=BODY, **options):
        name = self.name()
        self.origin.put(name, body, *dated(lines), **options)
        return name

    def get(self, name, method="GET", headers=None, of="h"):
        """The answer, and what became of the request at the origin.  A file
        that it brought is all there when this returns."""
        before = len(self.origin.asked(name))
        a = get(self.edge.base, "/%s/%s" % (of, name), method, headers)
        new = self.origin.asked(name)[before:]
        assert len(new) <= 1, new
        a.asked = new
        a.outcome = "hit" if not new else "fetched" if not \
            new[0].conditional else "verified" if new[0].status == 304 else \
            "replaced"
        if new and new[0].status == 200:
            self.fills += until(lambda: max(0, self.edge.fills() -
                                            self.fills), pause=0.003)
        return a


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    origin = Origin()
    with plain_edges(tmp_path_factory.mktemp("rfc")) as make:
        sets = ["h", *("e%d" % i for i in range(len(ERRORS))),
                *("f-" + f for f in FAULTS)]
        yield World(make({s: {"plain": origin.url, "freshness": "http"}
                          for s in sets}, "aside=0"), origin)
    origin.close()


def cc(text):
    return "Cache-Control: " + text


def ids(rows):
    return ["%s %s" % (r[0], r[1]) for r in rows]


# (section, what, response's lines, what the second request is, options)
RESPONSES = [
    # 3, 4.2: storing and freshness without the request's doing
    ("4.2.1", "max-age", FRESH, "hit"),
    ("4.2.1", "max-age=0", [cc("max-age=0")], "verified"),
    ("4.2.1", "s-maxage before max-age", [cc("max-age=0, s-maxage=1000")],
     "hit"),
    ("4.2.1", "s-maxage=0 before max-age", [cc("max-age=1000, s-maxage=0")],
     "verified"),
    ("4.2.1", "s-maxage before Expires", [cc("s-maxage=1000"),
                                          "Expires: @-1000"], "hit"),
    ("5.3", "max-age before an Expires that is past", [
        cc("max-age=1000"), "Expires: @-1000"], "hit"),
    ("5.3", "max-age=0 before an Expires to come", [
        cc("max-age=0"), "Expires: @+1000"], "verified"),
    ("5.3", "Expires to come", ["Expires: @+1000"], "hit"),
    ("5.3", "Expires is Date", ["Date: @+0", "Expires: @+0"], "verified"),
    ("5.3", "Expires is past", ["Expires: @-1000"], "verified"),
    ("5.3", "Expires: 0", ["Expires: 0"], "verified"),
    ("5.3", "Expires is no date", ["Expires: tomorrow"], "verified"),
    ("5.3", "Expires with an invalid one beside", [
        "Expires: @+1000", "Expires: 0"], "hit|verified"),
    ("5.3", "Expires, in RFC 850's form", [
        "Expires: Friday, 01-Jan-60 00:00:00 GMT"], "hit"),
    ("5.3", "Expires, in asctime's form", [
        "Expires: Fri Jan  1 00:00:00 2060"], "hit"),
    ("4.2.1", "Expires counts from Date", ["Date: @-2000", "Expires: @-1000"],
     "verified"),
    ("4.2.2", "no heuristics: nothing but Last-Modified", [], "verified"),
    ("4.2.2", "no heuristics, no validator", [], "fetched", NONE),
    ("4.2.2", "no heuristics: public", [cc("public")], "verified"),
    ("4.2", "fresh without a validator", FRESH, "hit", NONE),
    # 4.2.3: age
    ("4.2.3", "Age within max-age", AGED, "hit"),
    ("4.2.3", "Age beyond max-age", STALE, "verified"),
    ("4.2.3", "Age is max-age", [cc("max-age=1000"), "Age: 1000"], "verified"),
    ("4.2.3", "Date long past, no Age", [cc("max-age=1000"), "Date: @-2000"],
     "verified"),
    ("4.2.3", "Date past within max-age", [cc("max-age=1000"), "Date: @-500"],
     "hit"),
    ("4.2.3", "Date to come", [cc("max-age=1000"), "Date: @+5000"], "hit"),
    ("4.2.3", "the larger of Age and apparent age", [
        cc("max-age=1000"), "Date: @-2000", "Age: 1"], "verified"),
    ("5.1", "Age is no number", [cc("max-age=1000"), "Age: old"], "hit"),
    ("5.1", "Age is negative", [cc("max-age=1000"), "Age: -5"], "hit"),
    ("5.1", "the first of Age's list", [cc("max-age=1000"), "Age: 10, 5000"],
     "hit"),
    ("5.1", "Age is too large a number", [
        cc("max-age=1000"), "Age: 99999999999999999999"], "verified"),
    ("9110 6.6.1", "no Date", FRESH, "hit", {"date": False}),
    ("9110 6.6.1", "Date is no date", [cc("max-age=1000"), "Date: now"],
     "hit|verified"),
    # 5.2.2: directives of responses
    ("5.2.2.5", "no-store", [cc("no-store")], "fetched"),
    ("5.2.2.5", "no-store with max-age", [cc("max-age=1000, no-store")],
     "fetched"),
    ("5.2.2.5", "no-store with public and s-maxage", [
        cc("public, s-maxage=1000, no-store")], "fetched"),
    ("5.2.2.7", "private", [cc("private")], "fetched"),
    ("5.2.2.7", "private with max-age", [cc("private, max-age=1000")],
     "fetched"),
    ("5.2.2.7", "private with s-maxage", [cc("private, s-maxage=1000")],
     "fetched"),
    ("5.2.2.4", "no-cache", [cc("no-cache")], "verified"),
    ("5.2.2.4", "no-cache with max-age", [cc("no-cache, max-age=1000")],
     "verified"),
    ("5.2.2.4", "no-cache with s-maxage", [cc("s-maxage=1000, no-cache")],
     "verified"),
    ("5.2.2.2", "must-revalidate while fresh", [
        cc("must-revalidate, max-age=1000")], "hit"),
    ("5.2.2.2", "must-revalidate when stale", [
        cc("must-revalidate, max-age=0")], "verified"),
    ("5.2.2.8", "proxy-revalidate while fresh", [
        cc("proxy-revalidate, max-age=1000")], "hit"),
    ("5.2.2.8", "proxy-revalidate when stale", [
        cc("proxy-revalidate, max-age=0")], "verified"),
    ("5.2.2.9", "public with max-age", [cc("public, max-age=1000")], "hit"),
    ("5.2.2.10", "s-maxage alone", [cc("s-maxage=1000")], "hit"),
    ("5.2.2.3", "must-understand with no-store", [
        cc("must-understand, no-store, max-age=1000")], "hit|fetched"),
    ("5.2.2.3", "must-understand alone", [
        cc("must-understand, max-age=1000")], "hit"),
    ("5.2.2.6", "no-transform", [cc("no-transform, max-age=1000")], "hit"),
    ("8246 2", "immutable", [cc("immutable, max-age=1000")], "hit"),
    ("8246 2", "immutable makes nothing fresh", [cc("immutable")],
     "verified"),
    ("5861 3", "stale-while-revalidate makes nothing fresh", [
        cc("max-age=0, stale-while-revalidate=1000")], "hit|verified"),
    # 5.2: how the field is read
    ("5.2.3", "unknown directives", [
        cc("max-age=1000, foo, bar=5, baz=\"x, y\"")], "hit"),
    ("5.2", "directives in capitals", [cc("MAX-AGE=1000")], "hit"),
    ("5.2", "No-Store in capitals", [cc("Max-Age=1000, NO-STORE")],
     "fetched"),
    ("5.2", "quoted argument", [cc('max-age="1000"')], "hit"),
    ("5.2", "quoted argument 0", [cc('max-age="0"')], "verified"),
    ("5.2", "a directive's name in another's string", [
        cc('max-age=1000, x="no-store, private"')], "hit"),
    ("5.2", "an escaped quote in a string", [
        cc(r'x="\"", max-age=1000, y="\", no-store"')], "hit"),
    ("5.2", "no-store behind a string", [cc('x="a", no-store')], "fetched"),
    ("5.2", "a longer name is another directive", [
        cc("max-age=1000, no-storex, xprivate")], "hit"),
    ("9110 5.6.1", "empty members", [cc(", ,max-age=1000 ,,")], "hit"),
    ("9110 5.6.1", "tabs and blanks", [cc("public\t,  \tmax-age=1000")],
     "hit"),
    ("9110 5.3", "two fields are one list", [cc("public"),
                                             cc("max-age=1000")], "hit"),
    ("9110 5.3", "no-store in a second field", [cc("max-age=1000"),
                                                cc("no-store")], "fetched"),
    ("9110 5.3", "private in a third field", [
        cc("max-age=1000"), cc("public"), cc("private")], "fetched"),
    ("9110 5.1", "the field's name in small letters", [
        "cache-control: max-age=1000"], "hit"),
    ("4.2.1", "max-age is no number", [cc("max-age=abc")], "verified"),
    ("4.2.1", "max-age is empty", [cc("max-age=")], "verified"),
    ("4.2.1", "max-age without an argument", [cc("max-age")], "verified"),
    ("4.2.1", "max-age is negative", [cc("max-age=-1")], "verified"),
    ("4.2.1", "max-age has a fraction", [cc("max-age=1000.5")], "verified"),
    ("4.2.1", "max-age with a tail", [cc("max-age=1000s")], "verified"),
    ("4.2.1", "an invalid max-age beats Expires", [
        cc("max-age=abc"), "Expires: @+1000"], "verified"),
    ("1.2.2", "max-age too large for any type", [
        cc("max-age=99999999999999999999999")], "hit"),
    ("1.2.2", "max-age of 2^31", [cc("max-age=2147483648")], "hit"),
    ("4.2.1", "max-age twice", [cc("max-age=1000, max-age=0")],
     "verified"),
    ("4.2.1", "max-age twice, in two fields", [cc("max-age=0"),
                                               cc("max-age=1000")],
     "verified"),
    ("4.2.1", "s-maxage twice", [cc("s-maxage=1000, s-maxage=0")],
     "verified"),
    ("5.4", "Pragma means nothing in a response", [
        cc("max-age=1000"), "Pragma: no-cache"], "hit"),
    ("5.5", "Warning means nothing", [
        cc("max-age=1000"), 'Warning: 110 - "stale"'], "hit"),
    # 4.3.1: with what it is verified
    ("4.3.1", "Last-Modified alone", [cc("max-age=0")], "verified",
     {"etag": None}),
    ("4.3.1", "ETag alone", [cc("max-age=0")], "verified",
     {"modified": None}),
    ("4.3.1", "a weak ETag", [cc("max-age=0")], "verified",
     {"etag": 'W/"w"', "modified": None}),
    ("4.3.1", "an empty ETag", [cc("max-age=0")], "verified",
     {"etag": '""', "modified": None}),
    ("4.3.1", "no validator", [cc("max-age=0")], "fetched", NONE),
    # 3: by status
    ("3", "404 with max-age", FRESH, "hit", {"status": 404}),
    ("3", "404 without freshness", [], ASKED, {"status": 404}),
    ("3", "404 with no-store", [cc("no-store, max-age=1000")], "fetched",
     {"status": 404}),
    ("3", "410 with max-age", FRESH, "hit", {"status": 410}),
    ("3", "301 with max-age", [*FRESH, "Location: /x"], "hit",
     {"status": 301}),
    ("3", "301 without freshness", ["Location: /x"], ASKED, {"status": 301}),
    ("3", "302 with max-age", [*FRESH, "Location: /x"], "hit",
     {"status": 302}),
    ("3", "302 without freshness", ["Location: /x"], "fetched",
     {"status": 302}),
    ("3", "307 without freshness", ["Location: /x"], "fetched",
     {"status": 307}),
    ("3", "307 with Expires", ["Expires: @+1000", "Location: /x"], "hit",
     {"status": 307}),
    ("3", "308 with max-age", [*FRESH, "Location: /x"], "hit",
     {"status": 308}),
    ("3", "303 is not stored", [*FRESH, "Location: /x"], "fetched",
     {"status": 303}),
    ("3", "403 is not stored", FRESH, "fetched", {"status": 403}),
    ("3", "401 is not stored", [*FRESH, "WWW-Authenticate: Basic realm=x"],
     "fetched", {"status": 401}),
    ("3", "500 is not stored", FRESH, "fetched", {"status": 500}),
    ("3", "503 is not stored", [*FRESH, "Retry-After: 5"], "fetched",
     {"status": 503}),
]


@pytest.mark.quick
@pytest.mark.parametrize("row", RESPONSES, ids=ids(RESPONSES))
def test_response(world, row):
    lines, expect, options = row[2], row[3], (row[4:] or ({},))[0]
    name = world.put(*lines, **options)
    status = options.get("status", 200)
    for i in range(2):
        a = world.get(name)
        # What is no answer to pass on is a fault.
        assert a.status == status or (status >= 500 and a.status in (
            502, 503)), a.status
        assert a.body == (BODY if status == 200 else b"")
        assert a["Content-Length"] == str(len(a.body)), "clients.md, rule 2"
        if i == 0:
            assert a.outcome == "fetched"
            continue
        assert a.outcome in expect.split("|"), (a.outcome, a.asked)
        assert len(a.headers.get_all("Age", [])) <= 1
        if a.outcome == "hit":              # 4: it is generated
            age = [int(l[5:]) for l in lines if re.fullmatch(r"Age: \d+", l)]
            assert sum(age) <= int(a["Age"]) < sum(age) + 3000
            assert "; hit" in a.cache_status, a.cache_status
        else:
            assert "; hit" not in a.cache_status or a.outcome == "verified"
    if a.outcome == "verified":
        r = a.asked[0]
        entry = world.origin.entries[name]
        assert r["if-none-match"] == entry.etag
        assert r["if-modified-since"] == (None if entry.modified is None else
                                          http_date(entry.modified))


QUALIFIED = [
    ("5.2.2.4", "no-cache names a field", 'no-cache="X-Mine", max-age=1000'),
    ("5.2.2.7", "private names a field", 'private="X-Mine", max-age=1000'),
]


@pytest.mark.parametrize("row", QUALIFIED, ids=ids(QUALIFIED))
def test_a_directive_for_one_field(world, row):
    """Taken for the whole answer, or the field is gone from what is stored."""
    name = world.put(cc(row[2]), "X-Mine: secret")
    assert world.get(name)["X-Mine"] == "secret"
    a = world.get(name)
    assert a.status == 200 and a.body == BODY
    assert a.outcome != "hit" or a["X-Mine"] is None


# (section, what, response's lines, second request's headers, outcome)
REQUESTS = [
    ("5.2.1.4", "no-cache", AGED, {"Cache-Control": "no-cache"}, "verified"),
    ("5.2.1.4", "No-Cache in capitals", AGED, {"Cache-Control": "NO-CACHE"},
     "verified"),
    ("5.4", "Pragma, which is deprecated", AGED, {"Pragma": "no-cache"},
     "hit|verified"),
    ("5.4", "Pragma beside Cache-Control", AGED, {
        "Pragma": "no-cache", "Cache-Control": "max-age=5000"}, "hit"),
    ("5.4", "another Pragma", AGED, {"Pragma": "x"}, "hit"),
    ("5.2.1.1", "max-age=0", AGED, {"Cache-Control": "max-age=0"},
     "verified"),
    ("5.2.1.1", "max-age below the age", AGED, {
        "Cache-Control": "max-age=50"}, "verified"),
    ("5.2.1.1", "max-age above the age", AGED, {
        "Cache-Control": "max-age=500"}, "hit"),
    ("5.2.1.1", "max-age makes nothing fresh", STALE, {
        "Cache-Control": "max-age=5000"}, "verified"),
    ("5.2.1.1", "max-age too large for any type", AGED, {
        "Cache-Control": "max-age=99999999999999999999"}, "hit"),
    ("5.2.1.1", "max-age is no number", AGED, {
        "Cache-Control": "max-age=x"}, "hit|verified"),
    ("5.2.1.3", "min-fresh that is left", AGED, {
        "Cache-Control": "min-fresh=100"}, "hit"),
    ("5.2.1.3", "min-fresh that is not left", AGED, {
        "Cache-Control": "min-fresh=950"}, "verified"),
    ("5.2.1.2", "max-stale", STALE, {"Cache-Control": "max-stale"}, "hit"),
    ("5.2.1.2", "max-stale above the staleness", STALE, {
        "Cache-Control": "max-stale=5000"}, "hit"),
    ("5.2.1.2", "max-stale below the staleness", STALE, {
        "Cache-Control": "max-stale=10"}, "verified"),
    ("5.2.1.2", "max-stale with max-age", STALE, {
        "Cache-Control": "max-stale=5000, max-age=5000"}, "hit"),
    ("5.2.1.2", "max-stale with a max-age that is passed", STALE, {
        "Cache-Control": "max-stale=10, max-age=500"}, "verified"),
    ("5.2.2.2", "max-stale against must-revalidate", [
        cc("max-age=1000, must-revalidate"), "Age: 2000"], {
            "Cache-Control": "max-stale"}, "verified"),
    ("5.2.2.8", "max-stale against proxy-revalidate", [
        cc("max-age=1000, proxy-revalidate"), "Age: 2000"], {
            "Cache-Control": "max-stale"}, "verified"),
    ("5.2.2.10", "max-stale against s-maxage", [
        cc("s-maxage=1000"), "Age: 2000"], {"Cache-Control": "max-stale"},
     "verified"),
    ("5.2.2.4", "max-stale against no-cache", [
        cc("no-cache, max-age=1000")], {"Cache-Control": "max-stale"},
     "verified"),
    ("5.2.1.4", "no-cache with max-stale", STALE, {
        "Cache-Control": "no-cache, max-stale"}, "verified"),
    ("5.2.1.5", "no-store does not refuse what is stored", AGED, {
        "Cache-Control": "no-store"}, "hit|fetched"),
    ("5.2.1.6", "no-transform", AGED, {"Cache-Control": "no-transform"},
     "hit"),
    ("5.2.1.7", "only-if-cached", AGED, {"Cache-Control": "only-if-cached"},
     "hit"),
    ("5.2.1.7", "only-if-cached with max-stale", STALE, {
        "Cache-Control": "only-if-cached, max-stale"}, "hit"),
    ("5.2.3", "unknown directives", AGED, {
        "Cache-Control": "foo, bar=\"no-cache\""}, "hit"),
    ("9110 5.6.1", "empty members", AGED, {
        "Cache-Control": ", ,no-cache,"}, "verified"),
    # 4.3.2: conditions of the client are the cache's to answer
    ("4.3.2", "conditions do not make a fresh one stale", AGED, {
        "If-None-Match": '"other"'}, "hit"),
    ("4.3.2", "an earlier date does not either", AGED, {
        "If-Modified-Since": http_date(OLD - 100)}, "hit"),
    ("3.5", "Authorization is passed on", AGED, {
        "Authorization": "Basic eDp5"}, ASKED),
]


@pytest.mark.parametrize("row", REQUESTS, ids=ids(REQUESTS))
def test_request(world, row):
    name = world.put(*row[2])
    assert world.get(name).body == BODY
    a = world.get(name, headers=row[3])
    assert a.status == 200 and a.body == BODY
    assert a.outcome in row[4].split("|"), (a.outcome, a.asked)
    if "max-stale" in str(row[3]) and a.outcome == "hit" and \
            row[2] is STALE:
        assert "detail=stale" in a.cache_status, a.cache_status
    if "Authorization" in row[3]:
        assert a.asked[0]["authorization"] == row[3]["Authorization"]


# (section, what, response's lines, None where it was not asked for; status)
ONLY_IF_CACHED = [
    ("5.2.1.7", "not here", None, 504),
    ("5.2.1.7", "stale", STALE, 504),
    ("5.2.1.7", "not stored", [cc("no-store")], 504),
    ("5.2.1.7", "to be verified", [cc("no-cache")], 504),
    ("5.2.1.7", "fresh", AGED, 200),
]


@pytest.mark.parametrize("row", ONLY_IF_CACHED, ids=ids(ONLY_IF_CACHED))
def test_only_if_cached(world, row):
    name = world.put(*(row[2] or []))
    if row[2] is not None:
        world.get(name)
    a = world.get(name, headers={"Cache-Control": "only-if-cached"})
    assert a.status == row[3] and a.outcome == "hit", a.asked
    assert a.body == (BODY if row[3] == 200 else b"")


# (section, what, response's lines, first's headers, outcome of the second)
STORING = [
    ("5.2.1.5", "a request with no-store", FRESH, {
        "Cache-Control": "no-store"}, "fetched"),
    ("5.2.1.5", "a request with no-store and more", FRESH, {
        "Cache-Control": "max-age=100, no-store"}, "fetched"),
    ("5.2.1.4", "a request with no-cache is stored", FRESH, {
        "Cache-Control": "no-cache"}, "hit"),
    ("5.2.1.1", "a request with max-age=0 is stored", FRESH, {
        "Cache-Control": "max-age=0"}, "hit"),
    ("3.5", "Authorization", FRESH, {"Authorization": "Basic eDp5"},
     "fetched"),
    ("3.5", "Authorization, and public", [cc("public, max-age=1000")], {
        "Authorization": "Basic eDp5"}, "fetched"),
    ("3.5", "Authorization, and s-maxage", [cc("s-maxage=1000")], {
        "Authorization": "Basic eDp5"}, "fetched"),
    ("3.5", "Authorization, and must-revalidate", [
        cc("must-revalidate, max-age=1000")], {
            "Authorization": "Basic eDp5"}, "fetched"),
    ("4.3.2", "a client's If-None-Match is not the cache's", FRESH, {
        "If-None-Match": '"x"'}, "hit"),
    ("4.3.2", "a client's If-Modified-Since is not the cache's", FRESH, {
        "If-Modified-Since": http_date(OLD - 1)}, "hit"),
    ("9110 12.5.3", "Accept-Encoding is not sent", FRESH, {
        "Accept-Encoding": "gzip, br"}, "hit"),
]


@pytest.mark.parametrize("row", STORING, ids=ids(STORING))
def test_storing(world, row):
    name = world.put(*row[2])
    a = world.get(name, headers=row[3])
    assert a.status == 200 and a.body == BODY and a.outcome == "fetched"
    r = a.asked[0]
    assert r["accept-encoding"] is None
    assert r["authorization"] == row[3].get("Authorization")
    b = world.get(name)
    assert b.body == BODY and b.outcome == row[4], (b.outcome, b.asked)
    assert b.outcome == "hit" or b.asked[0]["authorization"] is None


A, B = {"X-A": "1"}, {"X-A": "2"}
# (section, what, Vary's lines, first's headers, second's, outcome)
VARY = [
    ("4.1", "equal values", ["Vary: X-A"], A, A, "hit"),
    ("4.1", "other values", ["Vary: X-A"], A, B, ASKED),
    ("4.1", "absent twice", ["Vary: X-A"], {}, {}, "hit"),
    ("4.1", "absent, then there", ["Vary: X-A"], {}, A, ASKED),
    ("4.1", "there, then absent", ["Vary: X-A"], A, {}, ASKED),
    ("4.1", "an empty value is not absence", ["Vary: X-A"], {"X-A": ""}, {},
     "hit|" + ASKED),
    ("4.1", "*", ["Vary: *"], A, A, ASKED),
    ("4.1", "* among names", ["Vary: X-A, *"], A, A, ASKED),
    ("4.1", "* in a second field", ["Vary: X-A", "Vary: *"], A, A, ASKED),
    ("4.1", "two names, both equal", ["Vary: X-A, X-B"],
     {"X-A": "1", "X-B": "2"}, {"X-B": "2", "X-A": "1"}, "hit"),
    ("4.1", "two names, one differs", ["Vary: X-A, X-B"],
     {"X-A": "1", "X-B": "2"}, {"X-A": "1", "X-B": "3"}, ASKED),
    ("4.1", "two fields, the second differs", ["Vary: X-B", "Vary: X-A"],
     A, B, ASKED),
    ("4.1", "values change places", ["Vary: X-A, X-B"],
     {"X-A": "1", "X-B": "2"}, {"X-A": "2", "X-B": "1"}, ASKED),
    ("9110 5.1", "names in any case", ["vary: x-a"], A, A, "hit"),
    ("9110 5.1", "names in any case, other values", ["VARY: x-A"], A, B,
     ASKED),
    ("4.1", "what is not named", ["Vary: X-B"], A, B, "hit"),
    ("4.1", "Accept-Encoding, which is never sent", ["Vary: Accept-Encoding"],
     {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "br"}, "hit"),
    ("4.1", "Accept-Encoding and another", ["Vary: Accept-Encoding, X-A"],
     {"Accept-Encoding": "gzip", **A}, {"Accept-Encoding": "br", **B}, ASKED),
    ("4.1", "User-Agent", ["Vary: User-Agent"], {"User-Agent": "pkg/1"},
     {"User-Agent": "pkg/2"}, ASKED),
    ("4.1", "values are compared as they are", ["Vary: X-A"], {"X-A": "a"},
     {"X-A": "A"}, ASKED),
]


@pytest.mark.parametrize("row", VARY, ids=ids(VARY))
def test_vary(world, row):
    _, _, lines, first, second, expect = row
    named = re.findall("x-a|x-b|user-agent", str(lines).lower())

    def variant(value):
        return "|".join(value(n) or "" for n in named).encode()

    def expected(headers):
        return variant({k.lower(): v for k, v in headers.items()}.get)
    name = world.name()
    world.origin.entries[name] = lambda request: Entry(
        variant(request.__getitem__), *FRESH, *lines)
    got = [world.get(name, headers=h) for h in (first, second, first)]
    assert got[1].outcome in expect.split("|"), got[1].asked
    for a, headers in zip(got, (first, second, first)):
        assert a.status == 200 and a.body == expected(headers)


def test_vary_names_what_a_later_answer_says(world):
    """4.1: it is the stored answer's Vary that counts."""
    name = world.put(cc("max-age=0"))
    world.get(name, headers=A)
    world.origin.entries[name] = Entry(b"new", "Vary: X-A", *FRESH)
    assert world.get(name, headers=A).body == b"new"
    assert world.get(name, headers=A).outcome == "hit"
    assert world.get(name, headers=B).outcome != "hit"


# (section, what, response's lines, second's headers, what the origin does,
# outcome: a status, or how it is served)
CANNOT, DOWN, HIT = "503|504", "stale", "hit"


def says(status):
    def do(sock, head, body):
        sock.sendall(b"HTTP/1.1 %d Sorry\r\nContent-Length: 5\r\n\r\nsorry" %
                     status)
    return do


def resets(sock, head, body):
    reset(sock)


def closes(sock, head, body):
    pass


def breaks(sock, head, body):
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nabc")


FAULTS = {"reset": resets, "closed": closes, "broken": breaks,
          "500": says(500), "502": says(502), "503": says(503),
          "504": says(504)}
ERRORS = [
    *[("4.2.4", "stale, " + f, [cc("max-age=0")], {}, f, DOWN)
      for f in FAULTS],
    ("4.2.4", "no freshness said", [], {}, "reset", DOWN),
    ("4.2.4", "expired", ["Expires: @-1000"], {}, "reset", DOWN),
    ("4.2.4", "no validator", [cc("max-age=0")], {}, "reset", DOWN, NONE),
    ("4.2.4", "fresh", FRESH, {}, "reset", HIT),
    ("5861 4", "stale-if-error", [cc("max-age=0, stale-if-error=1000")], {},
     "503", DOWN),
    ("5.2.2.2", "must-revalidate", [cc("max-age=0, must-revalidate")], {},
     "reset", CANNOT),
    ("5.2.2.2", "must-revalidate, 500", [cc("max-age=0, must-revalidate")],
     {}, "500", CANNOT + "|500"),
    ("5.2.2.2", "must-revalidate beats stale-if-error", [
        cc("max-age=0, must-revalidate, stale-if-error=1000")], {}, "reset",
     CANNOT),
    ("5.2.2.2", "must-revalidate while fresh", [
        cc("max-age=1000, must-revalidate")], {}, "reset", HIT),
    ("5.2.2.8", "proxy-revalidate", [cc("max-age=0, proxy-revalidate")], {},
     "reset", CANNOT),
    ("5.2.2.10", "s-maxage", [cc("s-maxage=0")], {}, "reset", CANNOT),
    ("5.2.2.4", "no-cache", [cc("no-cache")], {}, "reset", CANNOT),
    ("5.2.2.4", "no-cache with max-age", [cc("no-cache, max-age=1000")], {},
     "reset", CANNOT),
    ("5.2.1.4", "a request's no-cache", FRESH, {"Cache-Control": "no-cache"},
     "reset", CANNOT + "|stale"),
    ("5.2.1.1", "a request's max-age", AGED, {"Cache-Control": "max-age=5"},
     "reset", CANNOT + "|stale"),
    ("5.2.2.5", "no-store", [cc("no-store")], {}, "reset", CANNOT),
    ("5.2.2.7", "private", [cc("private, max-age=1000")], {}, "reset",
     CANNOT),
    ("4.1", "another variant", [*FRESH, "Vary: X-A"], A, "reset", CANNOT),
    ("3.5", "Authorization", FRESH, {"Authorization": "Basic eDp5"}, "reset",
     CANNOT + "|hit|stale"),
]


@pytest.mark.parametrize("i", range(len(ERRORS)), ids=ids(ERRORS))
def test_while_the_upstream_fails(world, i):
    """Each in a set of its own: one that does not answer is let alone for a
    while."""
    row, of = ERRORS[i], "e%d" % i
    name = world.put(*row[2], **(row[6:] or ({},))[0])
    assert world.get(name, of=of).body == BODY
    world.origin.fail(name, FAULTS[row[4]])
    a = get(world.edge.base, "/%s/%s" % (of, name), headers=row[3])
    got = str(a.status) if a.status != 200 else \
        "stale" if "detail=stale" in a.cache_status else "hit"
    assert got in row[5].split("|"), (got, a.cache_status)
    assert a.body == (BODY if a.status == 200 else b"")
    assert got == "hit" or len(world.origin.asked(name)) > 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_file_says_nothing_of_others(world, fault):
    """4: those that the upstream does give are verified as ever."""
    bad, good = (world.put(cc("max-age=0")) for _ in range(2))
    of = "f-" + fault
    for name in bad, good:
        world.get(name, of=of)
    world.origin.fail(bad, FAULTS[fault])
    a = get(world.edge.base, "/%s/%s" % (of, bad))
    assert a.body == BODY and "detail=stale" in a.cache_status
    a = world.get(good, of=of)
    assert a.outcome == "verified" and "detail=stale" not in a.cache_status


def test_it_is_verified_again_when_the_upstream_is_back(world):
    name = world.put(cc("max-age=0"))
    path = "/f-reset/" + name
    world.get(name, of="f-reset")
    world.origin.fail(name, resets)
    assert "detail=stale" in get(world.edge.base, path).cache_status
    world.origin.fail(name, None)
    world.origin.put(name, b"new")
    until(lambda: get(world.edge.base, path).body == b"new", 15)


def test_not_stored_and_down_is_503(world):
    """9110 15.6.4; clients.md, rule 1: without a body."""
    name = world.put()
    world.origin.fail(name, resets)
    a = get(world.edge.base, "/f-reset/" + name)
    assert a.status == 503 and a.body == b"" and a["Retry-After"]


def test_a_file_that_is_gone_is_not_served_stale(world):
    """4.3.3: a full answer to a condition replaces what is stored."""
    name = world.put(cc("max-age=0"))
    world.get(name, of="f-500")
    world.origin.put(name, b"gone", status=404)
    assert world.get(name, of="f-500").status == 404
    world.origin.fail(name, says(500))
    assert get(world.edge.base, "/f-500/" + name).status in (404, 503)


# -- 4.3.3, 4.3.4: what a verification changes

def test_a_200_replaces_what_is_stored(world):
    name = world.put(cc("max-age=0"), "X-Mine: old")
    world.get(name)
    world.origin.put(name, b"other", "X-Mine: new", *FRESH)
    a = world.get(name)
    assert a.body == b"other" and a["X-Mine"] == "new" and \
        a.outcome == "replaced"
    b = world.get(name)
    assert b.body == b"other" and b.outcome == "hit"
    assert b["ETag"] == world.origin.entries[name].etag


def test_a_304_makes_it_fresh_again(world):
    name = world.put(cc("max-age=0"), with_304=[cc("max-age=1000")])
    assert [world.get(name).outcome for _ in range(3)] == [
        "fetched", "verified", "hit"]


def test_a_304_updates_the_fields(world):
    """3.2; Content-Length is never among them."""
    name = world.put(cc("max-age=0"), "X-Mine: old", "X-Kept: 1",
                     with_304=["X-Mine: new", "Content-Length: 7",
                               cc("max-age=1000")])
    world.get(name)
    for outcome in "verified", "hit":
        a = world.get(name)
        assert a.outcome == outcome and a.body == BODY
        assert (a["X-Mine"], a["X-Kept"]) == ("new", "1")
        assert a["Content-Length"] == str(len(BODY))
        assert a["Cache-Control"] == "max-age=1000"


def test_a_304_without_validators_keeps_the_old_ones(world):
    name = world.put(cc("max-age=0"))
    whole = world.origin.entries[name]
    bare = Entry(b"", cc("max-age=0"), status=304)
    world.origin.entries[name] = lambda request: \
        bare if request.conditional else whole
    for outcome in "fetched", "verified", "verified":
        a = world.get(name)
        assert a.outcome == outcome and a.body == BODY
        assert a["ETag"] == whole.etag
        assert outcome == "fetched" or \
            a.asked[0]["if-none-match"] == whole.etag


def test_the_end_of_a_lifetime(world):
    name = world.put(cc("max-age=2"))
    assert world.get(name).outcome == "fetched"
    assert world.get(name).outcome == "hit"
    a = until(lambda: (lambda a: a if a.outcome != "hit" else None)(
        world.get(name)), 5)
    assert a.outcome == "verified" and a.body == BODY
    assert world.get(name).outcome == "hit"


def test_the_age_grows_and_the_date_stays(world):
    """5.1; 9110, 6.6.1: Date is of the origin's making."""
    name = world.put(*FRESH, "Date: @-50")
    date = world.origin.entries[name].fields[1]
    first = world.get(name)
    a = until(lambda: (lambda a: a if int(a["Age"]) >= 51 else None)(
        world.get(name)), 5)
    assert a.outcome == "hit" and "Date: " + a["Date"] == date
    assert "Date: " + first["Date"] == date


# -- methods

def test_head_is_answered_from_what_get_stored(world):
    """4.3.5, 9110 9.3.2."""
    name = world.put(*FRESH, "X-Mine: 1")
    g = world.get(name)
    a = world.get(name, "HEAD")
    assert a.outcome == "hit" and a.status == 200 and a.body == b""
    for field in "Content-Length", "ETag", "Last-Modified", "X-Mine":
        assert a[field] == g[field] is not None


def test_head_of_what_is_not_here(world):
    name = world.put(*FRESH)
    a = world.get(name, "HEAD")
    assert a.status == 200 and a.body == b""
    assert a["Content-Length"] == str(len(BODY))
    b = world.get(name)
    assert b.status == 200 and b.body == BODY


def test_head_of_what_is_nowhere(world):
    a = world.get("nowhere", "HEAD")
    assert a.status == 404 and a.body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH",
                                    "MKCOL", "PROPFIND"])
def test_unsafe_methods_are_refused_and_invalidate_nothing(world, method):
    """4, 4.4: never passed on, so nothing has become invalid."""
    name = world.put(*FRESH)
    world.get(name)
    try:
        a = world.get(name, method, {"Content-Length": "0"})
        assert a.status in (405, 501) and a.body == b"" and \
            a.outcome == "hit"
        assert a.status == 501 or "GET" in a["Allow"]
    except ConnectionError:                 # refused before it was read
        assert method not in ("POST", "PUT")
    assert not any(r.method == method for r in world.origin.log)
    assert world.get(name).outcome == "hit"


# -- ranges and conditions of clients, on what is fresh, stale and not here

# (section, what, headers, status); {etag}, {date}: those of the file
CONDITIONS = [
    ("9110 14.2", "a range", {"Range": "bytes=10-19"}, 206),
    ("9110 14.2", "a range at the end", {"Range": "bytes=-7"}, 206),
    ("9110 14.2", "a range to the end", {"Range": "bytes=490-"}, 206),
    ("9110 15.5.17", "a range behind the end", {"Range": "bytes=500-"}, 416),
    ("9110 13.1.5", "If-Range with the tag", {
        "Range": "bytes=10-19", "If-Range": "{etag}"}, 206),
    ("9110 13.1.5", "If-Range with another tag", {
        "Range": "bytes=10-19", "If-Range": '"x"'}, 200),
    ("9110 13.1.5", "If-Range with the tag, weakly", {
        "Range": "bytes=10-19", "If-Range": "W/{etag}"}, 200),
    ("9110 13.1.5", "If-Range with the date", {
        "Range": "bytes=10-19", "If-Range": "{date}"}, 206),
    ("9110 13.1.2", "If-None-Match with the tag", {
        "If-None-Match": "{etag}"}, 304),
    ("9110 13.1.2", "If-None-Match with the tag, weakly", {
        "If-None-Match": "W/{etag}"}, 304),
    ("9110 13.1.2", "If-None-Match in a list", {
        "If-None-Match": '"x", {etag}'}, 304),
    ("9110 13.1.2", "If-None-Match: *", {"If-None-Match": "*"}, 304),
    ("9110 13.1.2", "If-None-Match with another tag", {
        "If-None-Match": '"x"'}, 200),
    ("9110 13.1.3", "If-Modified-Since with the date", {
        "If-Modified-Since": "{date}"}, 304),
    ("9110 13.1.3", "If-Modified-Since 1970, as pkg sends", {
        "If-Modified-Since": http_date(0)}, 200),
    ("9110 13.2.2", "If-None-Match before If-Modified-Since", {
        "If-None-Match": '"x"', "If-Modified-Since": "{date}"}, 200),
    ("9110 13.1.1", "If-Match with another tag", {"If-Match": '"x"'}, 412),
    ("9110 13.1.4", "If-Unmodified-Since before the date", {
        "If-Unmodified-Since": http_date(OLD - 1)}, 412),
]


@pytest.mark.parametrize("state", ["fresh", "stale", "not here"])
@pytest.mark.parametrize("row", CONDITIONS, ids=ids(CONDITIONS))
def test_condition(world, row, state):
    name = world.put(cc("max-age=0" if state == "stale" else "max-age=1000"))
    entry = world.origin.entries[name]
    if state != "not here":
        world.get(name)
    a = world.get(name, headers={
        k: v.format(etag=entry.etag, date=http_date(OLD))
        for k, v in row[2].items()})
    assert a.status == row[3]
    assert a.outcome == {"fresh": "hit", "stale": "verified",
                         "not here": "fetched"}[state], a.asked
    if a.status == 206:
        m = re.fullmatch(r"bytes (\d+)-(\d+)/500", a["Content-Range"])
        assert a.body == BODY[int(m.group(1)):int(m.group(2)) + 1]
        assert len(a.body) == {"bytes=10-19": 10, "bytes=-7": 7,
                               "bytes=490-": 10}[row[2]["Range"]]
    else:
        assert a.body == (BODY if a.status == 200 else b"")
    if a.status == 416:
        assert a["Content-Range"] == "bytes */500"
    if a.status in (200, 206, 304):
        assert a["ETag"] == entry.etag
    b = world.get(name)                     # 3.3: a part is never the whole
    assert b.status == 200 and b.body == BODY


def test_a_weak_tag_is_passed_on_weak(world):
    """9110 8.8.3: a 304, but neither 206 with If-Range nor If-Match."""
    name = world.put(*FRESH, etag='W/"w"', modified=None)
    assert world.get(name)["ETag"] == 'W/"w"'
    a = world.get(name, headers={"If-None-Match": 'W/"w"'})
    assert a.status == 304 and a["ETag"] == 'W/"w"' and a.outcome == "hit"
    a = world.get(name, headers={"If-None-Match": '"w"'})
    assert a.status == 304
    a = world.get(name, headers={"Range": "bytes=0-1", "If-Range": 'W/"w"'})
    assert a.status == 200 and a.body == BODY
    assert world.get(name, headers={"If-Match": 'W/"w"'}).status == 412


def test_a_304_has_no_body_and_the_stored_fields(world):
    """9110 15.4.5: what caches need."""
    name = world.put(*FRESH, "X-Mine: 1", "Vary: X-A")
    g = world.get(name)
    a = world.get(name, headers={"If-None-Match": g["ETag"]})
    assert a.status == 304 and a.body == b""
    for field in "ETag", "Cache-Control", "Date", "Vary":
        assert a[field] == g[field] is not None


def test_a_location_below_the_tree_leads_through_the_edge(world):
    """9110 10.2.2."""
    top = world.origin.url.removesuffix("/tree")
    for there, here in (
            ("/tree/pool/x", "/h/pool/x"), ("%s/tree/pool/x?y=1" % top,
                                           "/h/pool/x?y=1"),
            ("/other/x", top + "/other/x"),
            ("http://other.invalid/x", "http://other.invalid/x")):
        name = world.put("Location: " + there, *FRESH, status=302)
        for outcome in "fetched", "hit":
            a = world.get(name)
            assert a.status == 302 and a.body == b"" and \
                a.outcome == outcome
            assert a["Location"] in (here, world.edge.base + here), there


def at_once(world, name, headers):
    """One client each, all waiting for one late head."""
    go, got = threading.Event(), [None] * len(headers)

    def late(sock, head, body):
        go.wait(20)
        sock.sendall(("\r\n".join(head) + "\r\n\r\n").encode() + body)
    world.origin.fail(name, late)

    def client(i):
        got[i] = get(world.edge.base, "/h/" + name, headers=headers[i])
    threads = [threading.Thread(target=client, args=(i,))
               for i in range(len(headers))]
    for t in threads:
        t.start()
    until(lambda: world.origin.asked(name))
    time.sleep(0.2 * SLOW)
    go.set()
    for t in threads:
        t.join()
    return got


# (section, what, response's lines)
UNSHARED = [
    ("5.2.2.7", "private", [cc("private")]),
    ("5.2.2.7", "private with max-age", [cc("private, max-age=1000")]),
    ("5.2.2.5", "no-store", [cc("no-store")]),
    ("4.1", "Vary", [*FRESH, "Vary: X-A"]),
    ("4.1", "Vary: *", [*FRESH, "Vary: *"]),
]


@pytest.mark.parametrize("row", UNSHARED, ids=ids(UNSHARED))
def test_what_is_not_for_all_is_not_shared_while_it_comes(world, row):
    name = world.name()
    world.origin.entries[name] = lambda request: Entry(
        (request["x-a"] or "").encode() * 100, *row[2])
    headers = [{"X-A": str(i)} for i in range(4)]
    got = at_once(world, name, headers)
    assert [a.body for a in got] == [b"%d" % i * 100 for i in range(4)]
    assert len(world.origin.asked(name)) == 4


def test_authorization_is_not_shared_while_it_comes(world):
    """3.5; with others or without."""
    name = world.name()
    world.origin.entries[name] = lambda request: Entry(
        (request["authorization"] or "nobody").encode() * 100,
        cc("public, max-age=1000"))
    users = ["Basic a", None, "Basic b", None]
    got = at_once(world, name, [{"Authorization": u} if u else {}
                                for u in users])
    assert [a.body for a in got] == [(u or "nobody").encode() * 100
                                     for u in users]
    assert world.get(name).body == b"nobody" * 100


def test_clients_share_a_verification(world):
    """4: requests may be collapsed; each gets the whole."""
    name = world.put(cc("max-age=0"))
    world.get(name)
    got = at_once(world, name, [{}] * 5)
    assert [a.body for a in got] == [BODY] * 5
    assert len(world.origin.asked(name)) <= 3, world.origin.asked(name)
