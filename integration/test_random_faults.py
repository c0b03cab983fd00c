# SPDX-License-Identifier: BSD-2-Clause
"""Three upstreams, each of which fails a fifth of its transfers, at random
points and in different ways: 10,000 requests get 10,000 right answers, and what
that costs upstream stays below 1.3 times the content."""
import concurrent.futures
import http.client
import random
import threading
import urllib.parse

from conftest import SLOW, make_tree, sha256, until
from proxy import Upstream, reset

FILES = 2000
REQUESTS = 10000
CLIENTS = 8
FAILS = 0.2                             # of the transfers of each upstream
COSTS = 1.3                             # times the content, at the most


def contents():
    """Most are small; every fiftieth has chunks, up to 2 MB of them."""
    rng = random.Random(FILES)
    for i in range(FILES):
        size = rng.randrange(300000, 2000000) if i % 50 == 0 else \
            rng.randrange(1000, 100000)
        yield "All/p%d.pkg" % i, rng.randbytes(size)


class Faults:
    """What an upstream does wrong, each kind as often as the others."""

    def __init__(self, up, seed):
        self.up, self.rng, self.lock = up, random.Random(seed), \
            threading.Lock()
        self.answers, self.did = 0, {k: 0 for k in self.KINDS}

    def __call__(self, path, sock, head, body):
        with self.lock:
            self.answers += 1
            if self.rng.random() >= FAILS:
                return False
            kind = self.rng.choice(list(self.KINDS))
            self.did[kind] += 1
            at = self.rng.randrange(len(body))
            bit = 1 << self.rng.randrange(8)
        self.KINDS[kind](self, path, sock, "\r\n".join(head).encode(
            "latin-1") + b"\r\n\r\n", body, at, bit)
        return True

    def send(self, path, sock, head, body):
        sock.sendall(head + body)
        self.up.count(path, len(body))

    def reset(self, path, sock, head, body, at, bit):
        self.send(path, sock, head, body[:at])
        reset(sock)

    def close(self, path, sock, head, body, at, bit):
        self.send(path, sock, head, body[:at])

    def flip(self, path, sock, head, body, at, bit):
        self.send(path, sock, head, body[:at] + bytes([body[at] ^ bit]) +
                  body[at + 1:])

    def status(self, path, sock, head, body, at, bit):
        sock.sendall(b"HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n")

    KINDS = {"reset": reset, "close": close, "flip": flip, "status": status}


def client(address, names, digests, stop):
    """Asks for the names on one connection; what was wrong, as words."""
    wrong = []
    c = http.client.HTTPConnection(*address, timeout=60 * SLOW)
    for name in names:
        if stop.is_set():
            break
        try:
            c.request("GET", "/demo/" + name)
            r = c.getresponse()
            body = r.read()
        except (OSError, http.client.HTTPException) as e:
            wrong.append("%s: %r" % (name, e))
            c.close()
            continue
        if r.status != 200 or sha256(body) != digests[name]:
            wrong.append("%s: %d, %d bytes" % (name, r.status, len(body)))
        if len(wrong) > 20:             # it is not by chance
            stop.set()
    c.close()
    return wrong


def test_a_fifth_of_all_transfers_fails_and_no_request_does(sandbox,
                                                            tmp_path):
    ups = [Upstream(None) for _ in range(3)]
    box = sandbox("--edges", "1",
                  *[a for up in ups for a in ("--upstream", up.url)])
    for up in ups:
        up.origin = urllib.parse.urlsplit(box.master)
    content = dict(contents())
    box.publish("demo", make_tree(tmp_path / "tree", content))
    size = sum(len(c) for c in content.values())
    digests = {n: sha256(c) for n, c in content.items()}
    for i, up in enumerate(ups):
        up.fault = Faults(up, i)
        up.body_bytes = 0

    # Each file once, and as many requests again as some are asked for more
    # often than others, all in one random order.
    rng = random.Random(1)
    names = list(content)
    wanted = names + [names[int(FILES * rng.random() ** 3)]
                      for _ in range(REQUESTS - FILES)]
    rng.shuffle(wanted)
    u, stop = urllib.parse.urlsplit(box.edges[0]), threading.Event()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        wrong = sum(pool.map(lambda i: client(
            (u.hostname, u.port), wanted[i::CLIENTS], digests, stop),
            range(CLIENTS)), [])
    assert not wrong, wrong[:5]

    until(lambda: sum(up.running for up in ups) == 0, 20)
    # It was as bad as it should be, for whom was asked.
    answers = sum(up.fault.answers for up in ups)
    faults = {k: sum(up.fault.did[k] for up in ups) for k in Faults.KINDS}
    assert answers > FILES * 1.15, answers
    assert 0.15 * answers < sum(faults.values()) < 0.25 * answers, faults
    assert min(faults.values()) > 0.03 * answers, faults
    assert all(up.fault.answers > 0 for up in ups)
    status = box.status(box.edges[0])
    assert status["counters"]["fills_failed"] == 0
    assert status["counters"]["fills"] >= FILES
    cost = sum(up.body_bytes for up in ups) / size
    print("%d requests, %d transfers, faults %s, %.3f times the content" % (
        len(wanted), answers, faults, cost))
    assert 1 < cost < COSTS, cost
    for up in ups:
        up.close()
