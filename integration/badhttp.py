# SPDX-License-Identifier: BSD-2-Clause
"""Answers of an upstream that are framed wrongly, and some that are not, byte for
byte: for tests of published sets and of plain ones."""
import socket
import time

# A row: what is wrong with it; a function of the body, which gives the bytes to
# send, in pieces with a pause between them, None for the connection's end; what
# must be said of it, a regular expression: where there are two, the library may see
# it before.
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
PAUSE = 0.05


def length(body):
    return b"Content-Length: %d\r\n" % len(body)


def status(line):
    return lambda body: [line + length(body) + b"\r\n" + body]


def field(line):
    """Before the others, so that it is not taken for part of the body."""
    return lambda body: [OK + line + length(body) + b"\r\n" + body]


def lengths(*values):
    return lambda body: [OK + b"".join(
        b"Content-Length:" + v.replace(b"N", b"%d" % len(body)) + b"\r\n"
        for v in values) + b"\r\n" + body]


def chunks(body):
    half = len(body) // 2
    return b"%x\r\n%s\r\n%X\r\n%s\r\n0\r\n\r\n" % (
        half, body[:half], len(body) - half, body[half:])


def coding(*lines, first=OK):
    return lambda body: [first + b"".join(lines) + b"\r\n" + chunks(body)]


def chunked(make):
    """make: the coded body."""
    return lambda body: [OK + CHUNKED + b"\r\n" + make(body)]


def size(line):
    """Of the first chunk; LEN in it is the right one."""
    return chunked(lambda body: line.replace(b"LEN", b"%x" % len(body)) + body +
                   b"\r\n0\r\n\r\n")


def whole(end):
    """A chunk of the whole body, and what follows its data."""
    return chunked(lambda body: b"%x\r\n" % len(body) + body + end)


def bodiless(line, *lines):
    return lambda body: [line + b"".join(lines) + b"\r\n" + body]


def more(extra):
    return lambda body: [OK + length(body) + b"\r\n" + body + extra]


def more_later(extra):
    """In the packet of the body's second half."""
    def make(body):
        half = len(body) // 2
        return [OK + length(body) + b"\r\n" + body[:half],
                body[half:] + extra]
    return make


ANSWER = OK + b"Content-Length: 5\r\n\r\nwrong"

REFUSED = {
    "9112, 4 status line": [
        ("HTTP/0.9", lambda body: [body], "status line|HTTP"),
        ("no version", status(b"200 OK\r\n"), "status line|HTTP"),
        ("ICY", status(b"ICY 200 OK\r\n"), "status line|HTTP"),
        ("small letters", status(b"http/1.1 200 OK\r\n"),
         "status line|HTTP"),
        ("a blank before it", status(b" HTTP/1.1 200 OK\r\n"),
         "status line|HTTP"),
        ("an empty line before it", status(b"\r\nHTTP/1.1 200 OK\r\n"),
         "status line|HTTP"),
        ("two blanks", status(b"HTTP/1.1  200 OK\r\n"), "status line|HTTP"),
        ("a tab", status(b"HTTP/1.1\t200 OK\r\n"), "status line|HTTP"),
        ("no blank", status(b"HTTP/1.1200 OK\r\n"), "status line|HTTP"),
        ("version without a minor number", status(b"HTTP/1 200 OK\r\n"),
         "status line|HTTP"),
        ("version of two digits", status(b"HTTP/1.10 200 OK\r\n"),
         "status line|HTTP"),
        ("HTTP/0.9 as a version", status(b"HTTP/0.9 200 OK\r\n"),
         "status line|HTTP"),
        ("HTTP/2", status(b"HTTP/2 200 OK\r\n"), "status line|HTTP"),
        ("HTTP/3.0", status(b"HTTP/3.0 200 OK\r\n"), "status line|HTTP"),
        ("two digits", status(b"HTTP/1.1 20 OK\r\n"), "status line|HTTP"),
        ("four digits", status(b"HTTP/1.1 2000 OK\r\n"),
         "status line|HTTP"),
        ("below 100", status(b"HTTP/1.1 099 OK\r\n"), "status line|HTTP"),
        ("plus", status(b"HTTP/1.1 +20 OK\r\n"), "status line|HTTP"),
        ("a word", status(b"HTTP/1.1 OK\r\n"), "status line|HTTP"),
        ("nothing", status(b"HTTP/1.1 \r\n"), "status line|HTTP"),
        ("dash behind the number", status(b"HTTP/1.1 200-OK\r\n"),
         "status line|HTTP"),
        ("NUL in the reason", status(b"HTTP/1.1 200 O\0K\r\n"),
         "control byte|Nul byte"),
        ("escape in the reason", status(b"HTTP/1.1 200 \x1b[0m\r\n"),
         "control byte"),
        ("bare CR in the reason", status(b"HTTP/1.1 200 O\rK\r\n"),
         "control byte"),
        ("bare LF at its end", status(b"HTTP/1.1 200 OK\n"), "bare LF"),
        ("switched protocols", status(b"HTTP/1.1 101 Switching\r\n"
                                      b"Upgrade: x\r\n"), "status 101"),
    ],
    "9112, 5 field lines": [
        ("no colon", field(b"X-Word\r\n"), "colon"),
        ("no colon, last", lambda body: [
            OK + length(body) + b"X-Word\r\n\r\n" + body], "colon"),
        ("blank before the colon", field(b"X : 1\r\n"), "field name"),
        ("tab before the colon", field(b"X\t: 1\r\n"), "field name"),
        ("blank before the length's colon", lambda body: [
            OK + b"Content-Length : %d\r\n\r\n" % len(body) + body],
         "field name"),
        ("blank before the coding's colon",
         coding(b"Transfer-Encoding : chunked\r\n"), "field name"),
        ("no name", field(b": 1\r\n"), "field name"),
        ("blank in the name", field(b"X Y: 1\r\n"), "field name"),
        ("slash in the name", field(b"X/Y: 1\r\n"), "field name"),
        ("byte above 127 in the name", field(b"X\xe4: 1\r\n"), "field name"),
        ("control byte in the name", field(b"X\x01: 1\r\n"), "control byte"),
        ("NUL in the name", field(b"X\0: 1\r\n"), "control byte|Nul byte"),
        ("NUL in the value", field(b"X: 1\0\r\n"), "control byte|Nul byte"),
        ("control byte in the value", field(b"X: \x01\r\n"), "control byte"),
        ("vertical tab in the value", field(b"X: a\x0bb\r\n"), "control byte"),
        ("DEL in the value", field(b"X: a\x7f\r\n"), "control byte"),
        ("bare CR in the value", field(b"X: a\rY: b\r\n"), "control byte"),
        ("CR CR LF", field(b"X: a\r\r\n"), "control byte"),
        ("bare LF", field(b"X: a\n"), "bare LF"),
        ("bare LF only", lambda body: [
            (OK + length(body)).replace(b"\r", b"") + b"\n" + body], "bare LF"),
        ("bare LF as the empty line", lambda body: [
            OK + length(body) + b"\n" + body], "bare LF"),
        ("folded, blank", field(b"X: a\r\n b\r\n"), "folded"),
        ("folded, tab", field(b"X: a\r\n\tb\r\n"), "folded"),
        ("folded, the first", field(b" X: a\r\n"), "folded|malformed head"),
        ("folded, a length in it", field(b"X: a\r\n Content-Length: 5\r\n"),
         "folded"),
        ("folded, empty", field(b"X: a\r\n \r\n"), "folded"),
        ("without end", lambda body: [
            OK + b"".join(b"X%d: %s\r\n" % (i, b"y" * 1000)
                          for i in range(400)) + length(body) + b"\r\n" + body],
         "head too long"),
    ],
    "9112, 6.2 Content-Length": [
        ("twice, different", lengths(b" N", b" 5"), "Content-Length twice"),
        ("twice, different, wrong first", lengths(b" 5", b" N"),
         "Content-Length twice"),
        ("twice, the same", lengths(b" N", b" N"), "Content-Length twice"),
        ("list", lengths(b" N, N"), "Content-Length"),
        ("list, different", lengths(b" N, 5"), "Content-Length"),
        ("negative", lengths(b" -N"), "Content-Length"),
        ("plus", lengths(b" +N"), "Content-Length"),
        ("hexadecimal", lengths(b" 0xN"), "Content-Length"),
        ("leading zero", lengths(b" 0N"), "Content-Length"),
        ("blank inside", lengths(b" N 0"), "Content-Length"),
        ("word behind", lengths(b" Nb"), "Content-Length"),
        ("fraction", lengths(b" N.0"), "Content-Length"),
        ("semicolon", lengths(b" N;x"), "Content-Length"),
        ("quotes", lengths(b' "N"'), "Content-Length"),
        ("empty", lengths(b""), "Content-Length"),
        ("word", lengths(b" many"), "Content-Length"),
        ("2^64 and more", lengths(b" 18446744073709551621"), "Content-Length"),
        ("2^63", lengths(b" 9223372036854775808"), "Content-Length"),
        ("40 digits", lengths(b" " + b"9" * 40), "Content-Length"),
    ],
    "9112, 6.1 Transfer-Encoding": [
        ("and Content-Length", lambda body: [
            OK + CHUNKED + length(chunks(body)) + b"\r\n" + chunks(body)],
         "Content-Length and Transfer-Encoding"),
        ("behind Content-Length", lambda body: [
            OK + length(body) + CHUNKED + b"\r\n" + chunks(body)],
         "Content-Length and Transfer-Encoding"),
        ("twice", coding(CHUNKED, CHUNKED), "Transfer-Encoding twice"),
        ("gzip", coding(b"Transfer-Encoding: gzip\r\n"), "Transfer-Encoding"),
        ("gzip, chunked", coding(b"Transfer-Encoding: gzip, chunked\r\n"),
         "Transfer-Encoding"),
        ("gzip, then chunked", coding(b"Transfer-Encoding: gzip\r\n", CHUNKED),
         "Transfer-Encoding"),
        ("chunked, chunked", coding(b"Transfer-Encoding: chunked, chunked\r\n"),
         "Transfer-Encoding"),
        ("chunked, identity",
         coding(b"Transfer-Encoding: chunked, identity\r\n"),
         "Transfer-Encoding"),
        ("identity", lambda body: [
            OK + length(body) + b"Transfer-Encoding: identity\r\n\r\n" + body],
         "Transfer-Encoding"),
        ("xchunked", coding(b"Transfer-Encoding: xchunked\r\n"),
         "Transfer-Encoding"),
        ("chunkedx", coding(b"Transfer-Encoding: chunkedx\r\n"),
         "Transfer-Encoding"),
        ("parameter", coding(b"Transfer-Encoding: chunked;a=b\r\n"),
         "Transfer-Encoding"),
        ("empty", lambda body: [
            OK + length(body) + b"Transfer-Encoding:\r\n\r\n" + body],
         "Transfer-Encoding"),
        ("cow", coding(b"Transfer-Encoding: cow\r\n"), "Transfer-Encoding"),
        ("HTTP/1.0", coding(CHUNKED, first=b"HTTP/1.0 200 OK\r\n"),
         "Transfer-Encoding"),
    ],
    "9112, 7.1 chunks": [
        ("no size", size(b"\r\n"), "chunk"),
        ("no number", size(b"xyz\r\n"), "chunk"),
        ("0x", size(b"0xLEN\r\n"), "chunk"),
        ("negative", size(b"-LEN\r\n"), "chunk"),
        ("plus", size(b"+LEN\r\n"), "chunk"),
        ("blank before the size", size(b" LEN\r\n"), "chunk"),
        ("2^64 and more", size(b"10000000000000000LEN\r\n"), "chunk"),
        ("bare LF behind the size", size(b"LEN\n"), "chunk"),
        ("bare CR behind the size", size(b"LEN\r"), "chunk"),
        ("words behind the size", size(b"LEN bytes\r\n"), "chunk"),
        ("control byte in an extension", size(b"LEN;a=\x01\r\n"), "chunk"),
        ("bare CR in an extension", size(b"LEN;a=\rb\r\n"), "chunk"),
        ("bare LF in an extension", size(b"LEN;a=\nb\r\n"), "chunk"),
        ("an extension without end", size(b"LEN;" + b"x" * 70000 + b"\r\n"),
         "chunk"),
        ("no line end behind the data", whole(b"0\r\n\r\n"), "chunk"),
        ("bare LF behind the data", whole(b"\n0\r\n\r\n"), "chunk"),
        ("CR CR LF behind the data", whole(b"\r\r\n0\r\n\r\n"), "chunk"),
        ("data longer than its size", whole(b"xx\r\n0\r\n\r\n"), "chunk"),
        ("bare LF behind the last", whole(b"\r\n0\n\r\n"), "chunk"),
        ("bare LF at the end", whole(b"\r\n0\r\n\n"), "chunk|trailer"),
        ("no last chunk", lambda body: [
            OK + CHUNKED + b"\r\n%x\r\n" % len(body) + body + b"\r\n", None],
         "last chunk|closed"),
        ("trailer without a colon", whole(b"\r\n0\r\nX\r\n\r\n"), "trailer"),
        ("trailer with a blank before its colon",
         whole(b"\r\n0\r\nX : 1\r\n\r\n"), "trailer"),
        ("folded trailer", whole(b"\r\n0\r\nX: 1\r\n 2\r\n\r\n"), "trailer"),
        ("bare LF in a trailer", whole(b"\r\n0\r\nX: 1\n\r\n"), "trailer"),
        ("status line as a trailer",
         whole(b"\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n"), "trailer"),
        ("trailers without end",
         whole(b"\r\n0\r\n" + b"X: yyyyyyyyyyyyyy\r\n" * 10000 + b"\r\n"),
         "trailer"),
    ],
    "9112, 6.3 bytes past the end": [
        ("one", more(b"x"), "past the end"),
        ("a line end", more(b"\r\n"), "past the end"),
        ("an answer", more(ANSWER), "past the end"),
        ("in a later packet", more_later(b"x"), "past the end"),
        ("an answer in a later packet", more_later(ANSWER), "past the end"),
        ("behind the last chunk", whole(b"\r\n0\r\n\r\nx"), "past the end"),
        ("an answer behind the last chunk", whole(b"\r\n0\r\n\r\n" + ANSWER),
         "past the end"),
        ("behind a 404", lambda body: [
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" + body],
         "past the end"),
        ("behind a 404 with a body", lambda body: [
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nsorry" +
            ANSWER], "past the end"),
    ],
    "9110, 6.4.1 a body where none may be": [
        ("204", bodiless(b"HTTP/1.1 204 No Content\r\n"), "past the end"),
        ("204 with its length", lambda body: [
            b"HTTP/1.1 204 No Content\r\n" + length(body) + b"\r\n" + body],
         "status that has no body"),
        ("204 with chunks", lambda body: [
            b"HTTP/1.1 204 No Content\r\n" + CHUNKED + b"\r\n" + chunks(body)],
         "status that has no body"),
        ("304", bodiless(b"HTTP/1.1 304 Not Modified\r\n"), "past the end"),
        ("304 with its length", lambda body: [
            b"HTTP/1.1 304 Not Modified\r\n" + length(body) + b"\r\n" + body],
         "past the end"),
        ("100 with a length", lambda body: [
            b"HTTP/1.1 100 Continue\r\n" + length(body) + b"\r\n" + body],
         "status that has no body"),
        ("103 with chunks", lambda body: [
            b"HTTP/1.1 103 Early Hints\r\n" + CHUNKED + b"\r\n" +
            chunks(body)], "status that has no body"),
    ],
}

# These are good.
TAKEN = [
    ("plain", status(OK)),
    ("no reason", status(b"HTTP/1.1 200 \r\n")),
    ("no reason, nor the blank before it", status(b"HTTP/1.1 200\r\n")),
    ("bytes above 127 and a tab in the reason",
     status(b"HTTP/1.1 200 \xc3\xa4\tOK\r\n")),
    ("HTTP/1.0", status(b"HTTP/1.0 200 OK\r\n")),
    ("small letters", lambda body: [
        OK + b"content-length: %d\r\n\r\n" % len(body) + body]),
    ("no blank behind the colon", lengths(b"N")),
    ("many blanks", lengths(b" \t N \t ")),
    ("empty value", field(b"X:\r\n")),
    ("tab in a value", field(b"X: a\tb\r\n")),
    ("bytes above 127 in a value", field(b"X: \xe4\xff\r\n")),
    ("every mark of a token as a name", field(b"!#$%&'*+-.^_`|~9: 1\r\n")),
    ("colons in a value", field(b"X::a:b\r\n")),
    ("until the connection's end", lambda body: [
        OK + b"Connection: close\r\n\r\n" + body, None]),
    ("100 before it", lambda body: [
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + length(body) + b"\r\n" + body]),
    ("103 before it", lambda body: [
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + length(body) +
        b"\r\n" + body]),
    ("chunked", coding(CHUNKED)),
    ("Chunked", coding(b"TRANSFER-ENCODING:Chunked \r\n")),
    ("one chunk", whole(b"\r\n0\r\n\r\n")),
    ("one byte a chunk", chunked(lambda body: b"".join(
        b"1\r\n%c\r\n" % c for c in body) + b"0\r\n\r\n")),
    ("zeros before a size", size(b"0000LEN\r\n")),
    ("extensions", size(b"LEN;a=b;c=\"d \xe4\"\r\n")),
    ("blanks behind a size (9112, 7.1.1)", size(b"LEN \t;a\r\n")),
    ("zeros as the last size", whole(b"\r\n000;a=b\r\n\r\n")),
    ("trailers", whole(b"\r\n0\r\nX: 1\r\nContent-Length: 5\r\n\r\n")),
    ("in two pieces", more_later(b"")),
]

ALL = [(group + ": " + name, make, says) for group in REFUSED
       for name, make, says in REFUSED[group]]


def send(sock, make, body):
    """Sends a row.  What the other side does not want any more stays unsent."""
    try:
        for i, piece in enumerate(make(body)):
            if i > 0:
                time.sleep(PAUSE)
            if piece is None:
                sock.shutdown(socket.SHUT_WR)
            else:
                sock.sendall(piece)
    except OSError:
        pass
