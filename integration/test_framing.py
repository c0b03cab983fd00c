# SPDX-License-Identifier: BSD-2-Clause
"""Malformed and ambiguous requests over raw sockets (RFC 9112; CWE-444): each
is refused or its connection closed, none is served, and no valid request behind
it on its connection is served either.  A control group of valid, odd-looking
requests must be served, so that refusing everything does not pass."""
import re
import socket
import time
import urllib.parse

import pytest

from conftest import SLOW, make_tree
from wire import Wire, connect

BODY = b"this file must not be served to a malformed request\n"
NEXT_BODY = b"this file must not be served behind a malformed request\n"
H = b"Host: a\r\n"
OK = b"GET /frame/f HTTP/1.1\r\n" + H
NEXT = b"GET /frame/next HTTP/1.1\r\nHost: a\r\n\r\n"
HIDDEN = b"GET /frame/next HTTP/1.1\r\nHost: a\r\n\r\n"
# Of a refusal.  413 is what the library says to a length that it cannot hold.
REFUSALS = {400, 405, 411, 413, 414, 417, 431, 501, 505}
BATCH = 100                     # connections at once; an address may have 256


def get(rest):
    """A request line after its method, and a Host."""
    return b"GET " + rest + b"\r\n" + H + b"\r\n"


def line(rest):
    return rest + b"\r\n" + H + b"\r\n"


def field(raw):
    """A request with one more line, whose end is given too."""
    return OK + raw + b"\r\n"


def length(value, body=b""):
    return OK + b"Content-Length:" + value + b"\r\n\r\n" + body


def coding(value, body=b"0\r\n\r\n"):
    return OK + b"Transfer-Encoding:" + value + b"\r\n\r\n" + body


def host(value, version=b"HTTP/1.1"):
    return b"GET /frame/f " + version + b"\r\nHost:" + value + b"\r\n\r\n"


CHUNKED = b"Transfer-Encoding: chunked\r\n"

# (name, bytes), by the section of RFC 9112 (9110 where it says so).
REFUSED = {
    "2.2 line ends, and bytes that hide": [
        ("bare LF after the request line", b"GET /frame/f HTTP/1.1\n" + H +
         b"\r\n"),
        ("bare LF in the middle", field(b"X: 1\nY: 2\r\n")),
        ("bare LF after the last field",
         b"GET /frame/f HTTP/1.1\r\nHost: a\n\r\n"),
        ("bare LF as the last line", OK + b"\n"),
        ("bare LF everywhere", b"GET /frame/f HTTP/1.1\nHost: a\n\n"),
        ("bare LF twice at the end",
         b"GET /frame/f HTTP/1.1\r\nHost: a\n\n"),
        ("LF CR", b"GET /frame/f HTTP/1.1\n\rHost: a\n\r\n\r"),
        ("bare LF, then a request", OK + b"X: 1\n\n" + HIDDEN),
        ("CR CR LF", field(b"X: 1\r\r\n")),
        ("CR CR LF at the end", OK + b"\r\r\n"),
        ("bare CR in a value", field(b"X: 1\r2\r\n")),
        ("bare CR as a line end", field(b"X: 1\rY: 2\r\n")),
        ("bare CR before a request", OK + b"X: 1\r\r" + HIDDEN),
        ("bare CR after the request line", b"GET /frame/f HTTP/1.1\r" + H +
         b"\r\n"),
        ("bare CR in the request line", get(b"/frame/f\r HTTP/1.1")),
        ("bare CR in a name", field(b"X\rY: 1\r\n")),
        ("bare CR before the colon", field(b"X\r: 1\r\n")),
        ("bare CR after the colon", field(b"X:\r1\r\n")),
        ("only CR", b"GET /frame/f HTTP/1.1\rHost: a\r\r"),
        ("NUL in a value", field(b"X: 1\x002\r\nY: 3\r\n")),
        ("NUL in the last value", field(b"X: 1\x002\r\n")),
        ("NUL at the end of a value", field(b"X: 1\x00\r\n")),
        ("NUL and LF as a line end", field(b"X: 1\x00\nY: 2\r\n")),
        ("NUL and LF after the last field",
         b"GET /frame/f HTTP/1.1\r\nHost: a\x00\n\r\n"),
        ("NUL and LF after the request line",
         b"GET /frame/f HTTP/1.1\x00\n" + H + b"\r\n"),
        ("NUL and LF as the last line", OK + b"\x00\n"),
        ("NUL and LF as the last line, then a request", OK + b"\x00\n" +
         HIDDEN),
        ("NUL line in the head", field(b"\x00\r\n")),
        ("NUL line with text in the head", OK + b"\x00X: 1\r\n" + HIDDEN),
        ("NUL in a name", field(b"X\x00Y: 1\r\n")),
        ("NUL before a name", field(b"\x00X: 1\r\n")),
        ("NUL in Host", host(b" a\x00b")),
        ("NUL in the target", get(b"/frame/f\x00x HTTP/1.1")),
        ("NUL behind the target", get(b"/frame/f\x00 HTTP/1.1")),
        ("NUL in the method", line(b"GET\x00 /frame/f HTTP/1.1")),
        ("NUL instead of a blank", line(b"GET\x00/frame/f HTTP/1.1")),
        ("NUL before the version", get(b"/frame/f \x00HTTP/1.1")),
        ("NUL behind the version", get(b"/frame/f HTTP/1.1\x00")),
        ("NUL before the request", b"\x00" + OK + b"\r\n"),
        ("NUL line before the request", b"\x00\r\n" + OK + b"\r\n"),
        ("NUL line with text before the request",
         b"\x00POST /x HTTP/1.1\r\n" + OK + b"\r\n"),
        ("NUL and LF before the request", b"\x00\n" + OK + b"\r\n"),
        ("bare LF before the request", b"\n" + OK + b"\r\n"),
        ("blank line with a blank before the request",
         b" \r\n" + OK + b"\r\n"),
        ("blank before the method", b" " + OK + b"\r\n"),
        ("UTF-8 mark before the method", b"\xef\xbb\xbf" + OK + b"\r\n"),
    ],
    "3 request line": [
        ("empty method", line(b" /frame/f HTTP/1.1")),
        ("method in small letters", line(b"get /frame/f HTTP/1.1")),
        ("method in mixed case", line(b"Get /frame/f HTTP/1.1")),
        ("method with a slash", line(b"GE/T /frame/f HTTP/1.1")),
        ("method with a colon", line(b"GET: /frame/f HTTP/1.1")),
        ("method in quotes", line(b'"GET" /frame/f HTTP/1.1')),
        ("method with a control byte", line(b"GET\x01 /frame/f HTTP/1.1")),
        ("method with a byte above 127", line(b"G\xcbT /frame/f HTTP/1.1")),
        ("longer method", line(b"GETT /frame/f HTTP/1.1")),
        ("method of 20,000 bytes", line(b"G" * 20000 + b" /frame/f HTTP/1.1")),
        ("unknown method", line(b"BREW /frame/f HTTP/1.1")),
        ("PRI, as HTTP/2 begins",
         b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04"),
        ("two blanks before the target", line(b"GET  /frame/f HTTP/1.1")),
        ("two blanks before the version", get(b"/frame/f  HTTP/1.1")),
        ("blank behind the version", get(b"/frame/f HTTP/1.1 ")),
        ("tab instead of the first blank", line(b"GET\t/frame/f HTTP/1.1")),
        ("tab instead of the second blank", get(b"/frame/f\tHTTP/1.1")),
        ("tab behind the first blank", get(b"\t/frame/f HTTP/1.1")),
        ("tab behind the version", get(b"/frame/f HTTP/1.1\t")),
        ("vertical tab as a blank", line(b"GET\x0b/frame/f HTTP/1.1")),
        ("form feed as a blank", get(b"/frame/f\x0cHTTP/1.1")),
        ("bare CR as a blank", line(b"GET\r/frame/f HTTP/1.1")),
        ("no-break space as a blank", line(b"GET\xa0/frame/f HTTP/1.1")),
        ("no blank", line(b"GET/frame/fHTTP/1.1")),
        ("no target", line(b"GET HTTP/1.1")),
        ("no target, two blanks", line(b"GET  HTTP/1.1")),
        ("four words", get(b"/frame/f HTTP/1.1 HTTP/1.1")),
        ("two requests in a line",
         get(b"/frame/f HTTP/1.1 GET /frame/next HTTP/1.1")),
        ("only the method", line(b"GET")),
        ("folded request line", b"GET /frame/f\r\n HTTP/1.1\r\n" + H +
         b"\r\n"),
        ("a field first", H + b"GET /frame/f HTTP/1.1\r\n\r\n"),
        ("a status line", line(b"HTTP/1.1 200 OK")),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        ("SMTP", b"EHLO example.org\r\n\r\n"),
        ("PROXY protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + OK +
         b"\r\n"),
    ],
    "2.3 version": [
        ("none, as HTTP/0.9", line(b"GET /frame/f")),
        ("HTTP/0.9", get(b"/frame/f HTTP/0.9")),
        ("HTTP/2.0", get(b"/frame/f HTTP/2.0")),
        ("HTTP/3.0", get(b"/frame/f HTTP/3.0")),
        ("HTTP/1", get(b"/frame/f HTTP/1")),
        ("HTTP/1.", get(b"/frame/f HTTP/1.")),
        ("HTTP/.1", get(b"/frame/f HTTP/.1")),
        ("HTTP/1.10", get(b"/frame/f HTTP/1.10")),
        ("HTTP/1.01", get(b"/frame/f HTTP/1.01")),
        ("HTTP/01.1", get(b"/frame/f HTTP/01.1")),
        ("HTTP/1,1", get(b"/frame/f HTTP/1,1")),
        ("HTTP/1.1x", get(b"/frame/f HTTP/1.1x")),
        ("HTTP/1.x", get(b"/frame/f HTTP/1.x")),
        ("HTTP/-1.1", get(b"/frame/f HTTP/-1.1")),
        ("HTTP/1.-1", get(b"/frame/f HTTP/1.-1")),
        ("HTTP/+1.1", get(b"/frame/f HTTP/+1.1")),
        ("HTTP /1.1", get(b"/frame/f HTTP /1.1")),
        ("HTTP/ 1.1", get(b"/frame/f HTTP/ 1.1")),
        ("HTTP 1.1", get(b"/frame/f HTTP 1.1")),
        ("small letters", get(b"/frame/f http/1.1")),
        ("mixed case", get(b"/frame/f Http/1.1")),
        ("another protocol", get(b"/frame/f ICY/1.1")),
        ("HTTPS", get(b"/frame/f HTTPS/1.1")),
        ("version of 9,000 bytes", get(b"/frame/f HTTP/1." + b"1" * 9000)),
    ],
    "3.2 target": [
        ("relative", get(b"frame/f HTTP/1.1")),
        ("empty absolute form", get(b"http:// HTTP/1.1")),
        ("absolute form without a host", get(b"http:///frame/f HTTP/1.1")),
        ("absolute form with one slash", get(b"http:/frame/f HTTP/1.1")),
        ("absolute form with a user",
         get(b"http://u:p@a/frame/f HTTP/1.1")),
        ("absolute form with a bad port",
         get(b"http://a:b/frame/f HTTP/1.1")),
        ("absolute form, blank in its host",
         get(b"http://a b/frame/f HTTP/1.1")),
        ("absolute form, backslash in its host",
         get(b"http://a\\b/frame/f HTTP/1.1")),
        ("absolute form with a bad bracket",
         get(b"http://[::1/frame/f HTTP/1.1")),
        ("ftp", get(b"ftp://a/frame/f HTTP/1.1")),
        ("file", get(b"file:///frame/f HTTP/1.1")),
        ("authority form", get(b"a:80 HTTP/1.1")),
        ("star", get(b"* HTTP/1.1")),
        ("CONNECT", line(b"CONNECT a:80 HTTP/1.1")),
        ("fragment", get(b"/frame/f#x HTTP/1.1")),
        ("fragment in the query", get(b"/frame/f?x#y HTTP/1.1")),
        ("blank inside", get(b"/frame/f x HTTP/1.1")),
        ("tab inside", get(b"/frame/f\tx HTTP/1.1")),
        ("control byte inside", get(b"/frame/f\x01 HTTP/1.1")),
        ("DEL inside", get(b"/frame/f\x7f HTTP/1.1")),
        ("control byte in the query", get(b"/frame/f?\x1b HTTP/1.1")),
        ("escaped NUL", get(b"/frame/f%00 HTTP/1.1")),
        ("escaped LF", get(b"/frame/f%0a HTTP/1.1")),
        ("escaped slash", get(b"/frame%2Ff HTTP/1.1")),
        ("escaped slash, small letters", get(b"/frame%2ff HTTP/1.1")),
        ("bad escape", get(b"/frame/%zz HTTP/1.1")),
        ("half an escape", get(b"/frame/f%4 HTTP/1.1")),
        ("percent at the end", get(b"/frame/f% HTTP/1.1")),
        ("IIS escape", get(b"/frame/%u0066 HTTP/1.1")),
        ("dots", get(b"/frame/x/../f HTTP/1.1")),
        ("dots above the top", get(b"/../frame/f HTTP/1.1")),
        ("escaped dots", get(b"/frame/x/%2e%2e/f HTTP/1.1")),
        ("half escaped dots", get(b"/frame/x/.%2E/f HTTP/1.1")),
        ("of 40,000 bytes", get(b"/frame/f?" + b"x" * 40000 + b" HTTP/1.1")),
    ],
    "5 field lines": [
        ("no colon", field(b"nonsense\r\n")),
        ("no colon, first", b"GET /frame/f HTTP/1.1\r\nnonsense\r\n" + H +
         b"\r\n"),
        ("no colon, two words", field(b"X 1\r\n")),
        ("equals sign", field(b"X=1\r\n")),
        ("blank before the colon", field(b"X : 1\r\n")),
        ("tab before the colon", field(b"X\t: 1\r\n")),
        ("blank before the colon of Host",
         b"GET /frame/f HTTP/1.1\r\nHost : a\r\n\r\n"),
        ("blank before the colon of Content-Length",
         OK + b"Content-Length : 5\r\n\r\nhello"),
        ("tab before the colon of Content-Length",
         OK + b"Content-Length\t: 5\r\n\r\nhello"),
        ("blank before the colon of Transfer-Encoding",
         OK + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        ("empty name", field(b": 1\r\n")),
        ("empty name and value", field(b":\r\n")),
        ("empty name first", b"GET /frame/f HTTP/1.1\r\n: 1\r\n" + H +
         b"\r\n"),
        ("empty name, then a request", OK + b":\r\n" + HIDDEN),
        ("colon and LF end the head", OK + b":\n" + HIDDEN),
        ("colon and LF, nothing behind", OK + b":\n"),
        ("LF and colon end the head",
         b"GET /frame/f HTTP/1.1\r\nHost: a\n:\r\n" + HIDDEN),
        ("LF, colon, LF", b"GET /frame/f HTTP/1.1\r\nHost: a\n:\n" + HIDDEN),
        ("colon, blank, LF", OK + b": \n" + HIDDEN),
        ("colon and NUL", OK + b":\x00\n" + HIDDEN),
        ("only blanks", field(b"  \r\n")),
        ("blank in a name", field(b"X Y: 1\r\n")),
        ("control byte in a name", field(b"X\x01: 1\r\n")),
        ("DEL in a name", field(b"X\x7f: 1\r\n")),
        ("byte above 127 in a name", field(b"X\xc3\xa4: 1\r\n")),
        ("slash in a name", field(b"X/Y: 1\r\n")),
        ("parenthesis in a name", field(b"X(Y): 1\r\n")),
        ("quotes around a name", field(b'"X": 1\r\n')),
        ("brackets in a name", field(b"X[0]: 1\r\n")),
        ("backspace in a value", field(b"X: a\x08b\r\n")),
        ("escape in a value", field(b"User-Agent: \x1b[2J\r\n")),
        ("vertical tab in a value", field(b"X: a\x0bb\r\n")),
        ("form feed in a value", field(b"X: a\x0cb\r\n")),
        ("DEL in a value", field(b"X: a\x7fb\r\n")),
        ("a value of 40,000 bytes", field(b"X: " + b"y" * 40000 + b"\r\n")),
        ("a name of 40,000 bytes", field(b"X" * 40000 + b": y\r\n")),
        ("5,000 fields", field(b"".join(b"X%d: y\r\n" % i
                                        for i in range(5000)))),
    ],
    "5.2 folded lines": [
        ("blank", field(b"X: 1\r\n 2\r\n")),
        ("tab", field(b"X: 1\r\n\t2\r\n")),
        ("tab, a length", OK + b"X: 1\r\n\tContent-Length: 5\r\n\r\nhello"),
        ("a request", OK + b"X: 1\r\n " + HIDDEN),
        ("Host", b"GET /frame/f HTTP/1.1\r\nHost:\r\n a\r\n\r\n"),
        ("Content-Length", OK + b"Content-Length:\r\n 5\r\n\r\nhello"),
        ("Transfer-Encoding", OK +
         b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
        ("Transfer-Encoding's name", OK +
         b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("before the first field",
         b"GET /frame/f HTTP/1.1\r\n X: 1\r\n" + H + b"\r\n"),
        ("Host before the first field",
         b"GET /frame/f HTTP/1.1\r\n Host: a\r\n\r\n"),
        ("a line of blanks", field(b"X: 1\r\n \r\n")),
        ("a line of blanks, then a field", field(b"X: 1\r\n \r\nY: 2\r\n")),
        ("behind LF", field(b"X: 1\n 2\r\n")),
    ],
    "3.2 Host": [
        ("none", b"GET /frame/f HTTP/1.1\r\nX: 1\r\n\r\n"),
        ("no field", b"GET /frame/f HTTP/1.1\r\n\r\n"),
        ("none, absolute form",
         b"GET http://a/frame/f HTTP/1.1\r\nX: 1\r\n\r\n"),
        ("two", OK + H + b"\r\n"),
        ("two, different", OK + b"Host: b\r\n\r\n"),
        ("two, the second in small letters", OK + b"host: b\r\n\r\n"),
        ("two, the first empty",
         b"GET /frame/f HTTP/1.1\r\nHost:\r\n" + H + b"\r\n"),
        ("two, HTTP/1.0", b"GET /frame/f HTTP/1.0\r\n" + H +
         b"Host: b\r\n\r\n"),
        ("list", host(b" a, b")),
        ("list without a blank", host(b" a,b")),
        ("two words", host(b" a b")),
        ("path", host(b" a/frame")),
        ("query", host(b" a?b")),
        ("fragment", host(b" a#b")),
        ("user", host(b" u@a")),
        ("URI", host(b" http://a")),
        ("backslash", host(b" a\\b")),
        ("quotes", host(b' "a"')),
        ("angle brackets", host(b" <a>")),
        ("port with letters", host(b" a:b")),
        ("two ports", host(b" a:1:2")),
        ("port with a sign", host(b" a:-1")),
        ("open bracket", host(b" [::1")),
        ("text behind a bracket", host(b" [::1]x")),
        ("control byte", host(b" a\x01")),
        ("byte above 127", host(b" \xe4")),
        ("bad, HTTP/1.0", host(b" a/b", b"HTTP/1.0")),
    ],
    "6.2 Content-Length": [
        ("body of GET", length(b" 5", b"hello")),
        ("body that is a request",
         length(b" %d" % len(HIDDEN), HIDDEN)),
        ("body that never comes", length(b" 1000")),
        ("two equal", OK + b"Content-Length: 0\r\n" * 2 + b"\r\n"),
        ("two equal, with a body", OK + b"Content-Length: 5\r\n" * 2 +
         b"\r\nhello"),
        ("two different", OK + b"Content-Length: 0\r\n"
         b"Content-Length: 5\r\n\r\nhello"),
        ("two different, longer first", OK + b"Content-Length: %d\r\n"
         b"Content-Length: 0\r\n\r\n" % len(HIDDEN) + HIDDEN),
        ("two, small letters", OK + b"Content-Length: 0\r\n"
         b"content-length: 0\r\n\r\n"),
        ("list", length(b" 0, 0")),
        ("list, different", length(b" 5, 0", b"hello")),
        ("list without a blank", length(b" 0,0")),
        ("list with an empty element", length(b" 0,")),
        ("negative", length(b" -1")),
        ("minus zero", length(b" -0")),
        ("plus", length(b" +0")),
        ("plus five", length(b" +5", b"hello")),
        ("hexadecimal", length(b" 0x0")),
        ("hexadecimal digits", length(b" a", b"0123456789")),
        ("octal, leading zero", length(b" 00")),
        ("leading zeros", length(b" 000005", b"hello")),
        ("blank inside", length(b" 0 0")),
        ("blank inside, five", length(b" 5 0", b"hello")),
        ("tab inside", length(b" 0\t0")),
        ("NUL inside", length(b" 0\x005", b"hello")),
        ("fraction", length(b" 0.0")),
        ("exponent", length(b" 0e1")),
        ("unit", length(b" 5b", b"hello")),
        ("quotes", length(b' "0"')),
        ("semicolon", length(b" 0;x")),
        ("word", length(b" zero")),
        ("empty", length(b"")),
        ("only blanks", length(b"   ")),
        ("digits above 127", length(b" \xd9\xa5")),
        ("2^64", length(b" 18446744073709551616")),
        ("2^64 + 5", length(b" 18446744073709551621", b"hello")),
        ("2^63", length(b" 9223372036854775808")),
        ("2^32", length(b" 4294967296")),
        ("40 digits", length(b" " + b"9" * 40)),
        ("HEAD with a body",
         b"HEAD /frame/f HTTP/1.1\r\n" + H + b"Content-Length: 5\r\n\r\nhello"),
        ("OPTIONS with a body",
         b"OPTIONS * HTTP/1.1\r\n" + H + b"Content-Length: 5\r\n\r\nhello"),
        ("POST", b"POST /frame/f HTTP/1.1\r\n" + H +
         b"Content-Length: 5\r\n\r\nhello"),
        ("POST without a length", b"POST /frame/f HTTP/1.1\r\n" + H + b"\r\n"),
        ("PUT with a request as its body", b"PUT /frame/f HTTP/1.1\r\n" + H +
         b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN),
        ("HTTP/1.0 with a body", b"GET /frame/f HTTP/1.0\r\n"
         b"Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"),
    ],
    "6.1 Transfer-Encoding": [
        ("chunked", coding(b" chunked")),
        ("chunked, a request in a chunk",
         coding(b" chunked", b"%x\r\n" % len(HIDDEN) + HIDDEN +
                b"\r\n0\r\n\r\n")),
        ("chunked, a request behind it",
         coding(b" chunked", b"0\r\n\r\n" + HIDDEN)),
        ("Chunked", coding(b" Chunked")),
        ("CHUNKED", coding(b" CHUNKED")),
        ("name in small letters", OK + b"transfer-encoding: chunked\r\n\r\n"
         b"0\r\n\r\n"),
        ("name in capitals", OK + b"TRANSFER-ENCODING: chunked\r\n\r\n"
         b"0\r\n\r\n"),
        ("no blank", coding(b"chunked")),
        ("tab", coding(b"\tchunked")),
        ("blank behind", coding(b" chunked ")),
        ("vertical tab before", coding(b" \x0bchunked")),
        ("form feed before", coding(b" \x0cchunked")),
        ("vertical tab behind", coding(b" chunked\x0b")),
        ("NUL before", coding(b" \x00chunked")),
        ("NUL behind", coding(b" chunked\x00")),
        ("bare CR before", coding(b"\rchunked")),
        ("xchunked", coding(b" xchunked")),
        ("chunkedx", coding(b" chunkedx")),
        ("cow", coding(b" cow")),
        ("identity", coding(b" identity")),
        ("gzip", coding(b" gzip")),
        ("gzip, chunked", coding(b" gzip, chunked")),
        ("chunked, identity", coding(b" chunked, identity")),
        ("chunked, chunked", coding(b" chunked, chunked")),
        ("list with an empty element", coding(b" , chunked")),
        ("parameter", coding(b" chunked;a=b")),
        ("quotes", coding(b' "chunked"')),
        ("empty", coding(b"")),
        ("twice", OK + CHUNKED * 2 + b"\r\n0\r\n\r\n"),
        ("identity, then chunked", OK + b"Transfer-Encoding: identity\r\n" +
         CHUNKED + b"\r\n0\r\n\r\n"),
        ("and Content-Length", OK + CHUNKED +
         b"Content-Length: 5\r\n\r\n0\r\n\r\n"),
        ("and Content-Length 0", OK + CHUNKED + b"Content-Length: 0\r\n\r\n"
         b"0\r\n\r\n"),
        ("behind Content-Length", OK + b"Content-Length: 4\r\n" + CHUNKED +
         b"\r\n%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n"),
        ("HTTP/1.0", b"GET /frame/f HTTP/1.0\r\nConnection: keep-alive\r\n" +
         CHUNKED + b"\r\n0\r\n\r\n"),
        ("POST", b"POST /frame/f HTTP/1.1\r\n" + H + CHUNKED +
         b"\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("HEAD", b"HEAD /frame/f HTTP/1.1\r\n" + H + CHUNKED +
         b"\r\n0\r\n\r\n"),
        ("underscore and dash", OK + b"Transfer_Encoding: chunked\r\n" +
         CHUNKED + b"\r\n0\r\n\r\n"),
    ],
    "9110, 10.1.1 Expect": [
        ("another expectation", field(b"Expect: 200-ok\r\n")),
        ("two", field(b"Expect: 100-continue, x\r\n")),
        ("with a body", OK + b"Expect: 100-continue\r\n"
         b"Content-Length: 5\r\n\r\nhello"),
    ],
}

SERVED = [
    ("plain", OK + b"\r\n"),
    ("an empty line before (2.2)", b"\r\n" + OK + b"\r\n"),
    ("length of 0", length(b" 0")),
    ("length of 0, blanks before it", length(b"  \t0")),
    ("field in small letters", field(b"content-length: 0\r\n")),
    ("no blank behind the colon", field(b"X:1\r\n")),
    ("many blanks behind the colon", field(b"X: \t   1\r\n")),
    ("blanks behind a value", field(b"X: 1 \t \r\nY: 2\r\n")),
    ("empty value", field(b"X:\r\nY: 2\r\n")),
    ("empty last value", field(b"X:\r\n")),
    ("only blanks as a value", field(b"X:   \r\n")),
    ("colons in a value", field(b"X: a:b::c\r\n")),
    ("colon at the start of a value", field(b"X::\r\n")),
    ("tab in a value", field(b"X: a\tb\r\n")),
    ("bytes above 127 in a value", field(b"X: \xe4\xff\xc3\xa4\r\n")),
    ("every mark of a token as a name", field(b"!#$%&'*+-.^_`|~9: 1\r\n")),
    ("one field twice", field(b"X: 1\r\nX: 2\r\n")),
    ("100 fields", field(b"".join(b"X%d: y\r\n" % i for i in range(100)))),
    ("a value of 4,000 bytes", field(b"X: " + b"y" * 4000 + b"\r\n")),
    ("underscore instead of a dash", field(b"Content_Length: 5\r\n")),
    ("TE", field(b"TE: trailers, chunked\r\n")),
    ("Trailer", field(b"Trailer: X\r\n")),
    ("Upgrade", field(b"Upgrade: h2c\r\nConnection: Upgrade\r\n")),
    ("100-continue without a body", field(b"Expect: 100-continue\r\n")),
    ("100-Continue", field(b"Expect: 100-Continue\r\n")),
    ("empty Host", host(b"")),
    ("Host with a port", host(b" a.example.org:8080")),
    ("Host with an empty port", host(b" a:")),
    ("Host as IPv4", host(b" 127.0.0.1")),
    ("Host as IPv6", host(b" [::1]:80")),
    ("Host in capitals", host(b" A.EXAMPLE.ORG.")),
    ("Host with an underscore", host(b" a_b")),
    ("Host with an escape", host(b" a%20b")),
    ("HOST", b"GET /frame/f HTTP/1.1\r\nHOST: a\r\n\r\n"),
    ("Host last", b"GET /frame/f HTTP/1.1\r\nX: 1\r\n" + H + b"\r\n"),
    ("absolute form", get(b"http://a/frame/f HTTP/1.1")),
    ("absolute form, https", get(b"https://a/frame/f HTTP/1.1")),
    ("absolute form, HTTP", get(b"HTTP://a/frame/f HTTP/1.1")),
    ("absolute form with a port", get(b"http://a:8080/frame/f HTTP/1.1")),
    ("absolute form, IPv6", get(b"http://[::1]:80/frame/f HTTP/1.1")),
    ("absolute form, another Host (3.2.2)",
     get(b"http://b/frame/f HTTP/1.1")),
    ("query", get(b"/frame/f?a=b&c=%20+;/../?? HTTP/1.1")),
    ("empty query", get(b"/frame/f? HTTP/1.1")),
    ("escapes", get(b"/%66%72ame/%66 HTTP/1.1")),
    ("repeated slashes", get(b"//frame///f HTTP/1.1")),
    ("dot segments", get(b"/./frame/./f HTTP/1.1")),
    ("HTTP/1.2", get(b"/frame/f HTTP/1.2")),
    ("HTTP/1.9", get(b"/frame/f HTTP/1.9")),
]


@pytest.fixture(scope="module")
def edge(shared, tmp_path_factory):
    shared.publish("frame", make_tree(tmp_path_factory.mktemp("frame") / "t", {
        "f": BODY, "next": NEXT_BODY}))
    u = urllib.parse.urlsplit(shared.edges[0])
    return u.hostname, u.port


ALL = [(group + ": " + name, raw) for group in REFUSED
       for name, raw in REFUSED[group]]


def send(s, data):
    """What the other side does not want any more may stay unsent."""
    try:
        s.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def until_closed(s, what):
    """All that comes until the connection ends; it must end."""
    data = b""
    try:
        while True:
            part = s.recv(65536)
            if not part:
                return data
            data += part
    except ConnectionResetError:
        return data
    except TimeoutError:
        raise AssertionError("%s: the connection stays open after %r" % (
            what, data)) from None
    finally:
        s.close()


def statuses(data):
    return [int(m) for m in re.findall(rb"HTTP/1\.[01] (\d\d\d)", data)]


def check_refused(what, data):
    """Nothing at all, or one refusal; nobody got a file."""
    assert BODY not in data and NEXT_BODY not in data, (what, data)
    if not data:
        return
    assert data.startswith(b"HTTP/1.1 "), (what, data)
    assert set(statuses(data)) <= REFUSALS, (what, data)


def test_there_are_enough_of_them():
    assert len(ALL) >= 150
    assert len({name for name, _ in ALL}) == len(ALL)
    assert len({raw for _, raw in ALL}) == len(ALL)
    assert not {raw for _, raw in ALL} & {raw for _, raw in SERVED}


@pytest.mark.quick
def test_refused_with_a_request_in_the_same_packet(edge):
    for name, raw in ALL:
        s = connect(edge)
        send(s, raw + NEXT)
        check_refused(name, until_closed(s, name))


@pytest.mark.quick
def test_refused_with_a_request_behind_the_answer(edge):
    for name, raw in ALL:
        s = connect(edge)
        send(s, raw)
        s.settimeout(0.2)       # what is no whole head is not answered yet
        try:
            data = s.recv(65536, socket.MSG_PEEK)
        except (TimeoutError, ConnectionResetError):
            data = b""
        s.settimeout(20 * SLOW)
        assert not set(statuses(data)) - REFUSALS, (name, data)
        send(s, NEXT)
        check_refused(name, until_closed(s, name))


def test_refused_behind_a_served_request(edge):
    """What comes before may be answered, or ends with the connection."""
    for name, raw in ALL:
        w = Wire(edge)
        w.send(OK + b"\r\n")
        answer = w.read()
        assert (answer.status, answer.body) == (200, BODY)
        s = w.socket
        send(s, raw + NEXT)
        check_refused(name, until_closed(s, name))


def test_refused_in_two_pieces_at_every_byte(edge):
    pieces = [(name, raw + NEXT, at) for name, raw in ALL
              for at in range(1, len(raw) + 1) if len(raw) < 400]
    for i in range(0, len(pieces), BATCH):
        batch = [(connect(edge), *p) for p in pieces[i:i + BATCH]]
        for s, _, raw, at in batch:
            send(s, raw[:at])
        time.sleep(0.01 * SLOW)
        for s, _, raw, at in batch:
            send(s, raw[at:])
        for s, name, _, at in batch:
            what = "%s, cut after %d bytes" % (name, at)
            check_refused(what, until_closed(s, what))


def test_refused_byte_by_byte(edge):
    short = [(name, raw + NEXT) for name, raw in ALL if len(raw) < 400]
    for i in range(0, len(short), BATCH):
        batch = [(connect(edge), *p) for p in short[i:i + BATCH]]
        for at in range(max(len(raw) for _, _, raw in batch)):
            for s, _, raw in batch:
                send(s, raw[at:at + 1])
            time.sleep(0.001 * SLOW)
        for s, name, _ in batch:
            check_refused(name, until_closed(s, name))


@pytest.mark.quick
def test_the_control_group_is_served(edge):
    """Each on its own, with another behind it; and all on one connection."""
    for name, raw in SERVED:
        w = Wire(edge)
        w.send(raw + NEXT)
        for body in (BODY, NEXT_BODY):
            a = w.read()
            assert (a.status, a.body) == (200, body), name
        w.close()
    w = Wire(edge)
    w.send(b"".join(raw for _, raw in SERVED))
    for name, _ in SERVED:
        a = w.read()
        assert (a.status, a.body) == (200, BODY), name
    w.close()


def test_the_control_group_in_pieces(edge):
    pieces = [(name, raw, at) for name, raw in SERVED
              for at in range(1, len(raw)) if len(raw) < 400]
    for i in range(0, len(pieces), BATCH):
        batch = [(Wire(edge), *p) for p in pieces[i:i + BATCH]]
        for w, _, raw, at in batch:
            w.send(raw[:at])
        time.sleep(0.01 * SLOW)
        for w, _, raw, at in batch:
            w.send(raw[at:] + NEXT)
        for w, name, _, at in batch:
            for body in (BODY, NEXT_BODY):
                a = w.read()
                assert (a.status, a.body) == (200, body), (name, at)
            w.close()
