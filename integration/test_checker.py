# SPDX-License-Identifier: BSD-2-Clause
"""integration/checker: a short run of it, and that its judge sees each broken
promise in logs made for that.  `make checker` runs it for 30 minutes, and `make
checker-planted` against programs that break their promises."""
import copy
import ctypes
import os
import re
import socket
import subprocess
import sys
import time

import pytest

from conftest import HERE, SLOW

sys.path.insert(0, os.path.join(HERE, "checker.d"))
from judge import Judge                                       # noqa: E402
from judge import etag as etag_of                             # noqa: E402
from network import CLONE_NEWNET, FORK, Relays, Spaces, probe       # noqa: E402

TTL = 10
LEASE = "3" if SLOW == 1 else "10"


def answer(edge, begin, generation, label=None, **more):
    label = generation if label is None else label
    return {"begin": begin, "end": begin + 0.1, "edge": edge, "path": "f/03",
            "method": "GET", "status": 200, "stale": False,
            "generation": generation, "label": label,
            "etag": etag_of("f/03", label), **more}


def publish(begin, end, generation, status=0, missing=(), **more):
    return {"begin": begin, "end": end, "kind": "publish", "args": "",
            "label": generation, "status": status, "generation": generation,
            "missing": list(missing), "text": "", **more}


def fault(kind, host, begin, end, **more):
    return {"kind": kind, "host": host, "detail": [], "asked": begin - 0.1,
            "applied": begin, "heal": end, "healed": end + 0.1, **more}


# edge2 is cut off at 100; generation 3 is published without it.
GOOD = {
    "answers": [
        answer("edge1", 50, 1), answer("edge2", 50, 1),
        answer("edge1", 61, 2), answer("edge2", 61, 2),
        answer("edge2", 107, 2), answer("edge1", 105, 3),
        answer("edge2", 111, 2, stale=True),
        answer("edge2", 115, 2, stale=True, status=503, label=None, etag=""),
        answer("edge2", 131, 3), answer("edge1", 131, 3)],
    "publishes": [publish(40, 41, 1), publish(60, 60.5, 2),
                  publish(104, 110, 3, 3, ["edge2"])],
    "faults": [fault("cut", "edge2", 100, 120),
               fault("heal", "", 120, 128, took=8, wrong=[])],
}


def judged(change):
    logs = copy.deepcopy(GOOD)
    change(**logs)
    return {v.kind for v in Judge(logs["answers"], logs["publishes"],
                                  logs["faults"], ["edge1", "edge2"],
                                  TTL).run()}


def set_in(record, **values):
    record.update(values)


BROKEN = {
    "lines of two states in a body": ("G1", lambda answers, **_: set_in(
        answers[3], mixed=["f/03 1", "f/03 2"])),
    "the body of another generation than is said": (
        "G1", lambda answers, **_: set_in(answers[3], label=1)),
    "an ETag that is another's": ("G1", lambda answers, **_: set_in(
        answers[3], etag=etag_of("f/03", 1), label=None)),
    "an answer that names no generation": ("G1", lambda answers, **_: set_in(
        answers[3], generation=None)),
    "a publish that the master forgot": (
        "G5", lambda publishes, **_: set_in(publishes[2], generation=1)),
    "a number published twice": ("G1", lambda publishes, **_: set_in(
        publishes[2], generation=2)),
    "404 for what every generation has": ("G4", lambda answers, **_: set_in(
        answers[3], status=404)),
    "an older generation, after publish said 0": (
        "G2", lambda answers, **_: set_in(answers[3], generation=1, label=1,
                                          etag=etag_of("f/03", 1))),
    "an older generation with a lease, after publish said 3": (
        "G2", lambda answers, **_: set_in(answers[6], stale=False)),
    "a 503 that claims an older generation to be current": (
        "G2", lambda answers, **_: set_in(answers[7], stale=False)),
    "back, though it says stale": ("G7", lambda answers, **_: set_in(
        answers[6], generation=1, label=1, etag=etag_of("f/03", 1))),
    "up to date a lease after it was cut off": (
        "G7", lambda answers, **_: set_in(answers[6], stale=False)),
    "up to date a lease after the master was stopped": (
        "G7", lambda answers, faults, **_: (
            faults.append(fault("stop", "master", 60, 90)),
            answers.append(answer("edge1", 75, 2)))),
    "named, and well": ("names", lambda publishes, **_: set_in(
        publishes[1], status=3, missing=["edge1"])),
    "not named": ("names", lambda publishes, **_: set_in(
        publishes[2], status=0, missing=[])),
    "status 3 that names nobody": ("names", lambda publishes, **_: set_in(
        publishes[1], status=3)),
    "a publish that fails without a reason": (
        "publish", lambda publishes, **_: set_in(publishes[1], status=1)),
    "an edge that does not come back": (
        "convergence", lambda faults, **_: set_in(
            faults[1], wrong=["edge2: not up to date"])),
}


def test_the_judge_accepts_what_is_right():
    assert judged(lambda **_: None) == set()


@pytest.mark.parametrize("name", BROKEN)
def test_the_judge_sees(name):
    kind, change = BROKEN[name]
    assert kind in judged(change)


def test_what_explains_a_failure_is_accepted():
    """A master that was killed, an edge that was stopped, a cut body."""
    def change(answers, publishes, faults):
        faults.append(fault("kill", "master", 59, 60.2))
        set_in(publishes[1], status=1, generation=None)
        del answers[2:4]
        set_in(answers[2], label=1, generation=1, etag=etag_of("f/03", 1))
        set_in(answers[4], status=0, generation=None)
        set_in(answers[5], generation=1)
    assert judged(change) == set()


def test_an_answer_that_a_cut_held_up_shows_no_lease_before_its_end():
    """The edge's lease had run out, and the master's record with it, when
    generation 4 was published; the request of before was answered after the
    cut."""
    def change(answers, publishes, **_):
        publishes.append(publish(114, 114.5, 4))
        answers[5:] = [a for a in answers[5:] if a["begin"] < 120]
        answers.append(answer("edge2", 114.2, 4))
        answers[-1]["end"] = 120.5
        answers.append(answer("edge1", 131, 4))
    assert judged(change) == set()


# -- what the network does; `out` is from the edge to the master

def in_child(what):
    """Whoever makes spaces stays in them.  A text: why there are none here."""
    ours, theirs = FORK.Pipe()

    def child():
        tell, reply = FORK.Pipe()
        p = FORK.Process(target=probe, args=(["master"], reply))
        p.start()
        why = tell.recv()
        p.join()
        theirs.send(why if why is not None else what())

    p = FORK.Process(target=child)
    p.start()
    theirs.close()
    try:
        result = ours.recv()
    finally:
        p.join()
    if isinstance(result, str):
        pytest.skip(result)
    return result


def socket_at(net, host, kind):
    libc = ctypes.CDLL(None)
    assert libc.setns(net.space[host], CLONE_NEWNET) == 0
    s = socket.socket(socket.AF_INET, kind)
    assert libc.setns(net.space[""], CLONE_NEWNET) == 0
    s.bind((net.address(None, 0, host).partition(":")[0], 0))
    s.settimeout(1)
    return s


def passed(a, b, n):
    """How many of n datagrams come from a to b, and when the first did."""
    begin, came, first = time.monotonic(), 0, None
    for _ in range(n):
        a.sendto(b"x", b.getsockname())
    try:
        while came < n:
            b.recv(9)
            came += 1
            first = first or time.monotonic() - begin
    except TimeoutError:
        pass
    return came, first


def datagrams():
    net = Spaces(["master", "edge1"], 1)
    a, b = (socket_at(net, h, socket.SOCK_DGRAM) for h in net.number)
    got = {"whole": passed(b, a, 50)}
    net.cut("edge1", ["out"], True)
    got["out cut"] = passed(b, a, 50), passed(a, b, 50)
    net.cut("edge1", ["out"], False)
    net.loss("edge1", 0.3)
    got["loss"] = passed(a, b, 300)
    net.loss("edge1", 0)
    net.delay("edge1", 0.5)
    got["delay"] = passed(a, b, 5)
    net.close()
    return got


def test_the_wire_cuts_loses_and_delays():
    got = in_child(datagrams)
    assert got["whole"][0] == 50 and got["whole"][1] < 0.2 * SLOW
    assert [n for n, _ in got["out cut"]] == [0, 50]
    assert 170 < got["loss"][0] < 250
    assert got["delay"][0] == 5 and 0.25 <= got["delay"][1] < 0.5 * SLOW


def forgotten():
    net = Spaces(["master", "edge1"], 1)
    server = socket_at(net, "master", socket.SOCK_STREAM)
    server.listen(5)
    got = []
    for turn in range(2):
        a = socket_at(net, "edge1", socket.SOCK_STREAM)
        a.connect(server.getsockname())
        b, _ = server.accept()
        b.settimeout(0.5)
        a.send(b"x")
        got.append(b.recv(9))
        net.forget("edge1")
        a.send(b"y")
        try:
            got.append(b.recv(9))
        except TimeoutError:
            got.append(None)
    net.close()
    return got


def test_the_wire_forgets_connections_and_lets_new_ones_be():
    assert in_child(forgotten) == [b"x", None, b"x", None]


def test_relays_hold_one_direction_and_forget():
    with socket.create_server(("127.0.0.1", 0)) as server:
        net = Relays(["master", "edge1"])
        host, _, port = net.address("edge1", server.getsockname()[1],
                                    "master").partition(":")
        a = socket.create_connection((host, int(port)), 5)
        b, _ = server.accept()
        b.settimeout(0.5)
        a.settimeout(5)
        net.cut("edge1", ["out"], True)
        a.send(b"x")
        b.send(b"y")
        assert a.recv(9) == b"y"
        with pytest.raises(TimeoutError):
            b.recv(9)
        net.cut("edge1", ["out"], False)
        assert b.recv(9) == b"x"
        net.forget("edge1")
        a.send(b"z")
        with pytest.raises(TimeoutError):
            b.recv(9)
        net.close()
        a.close()
        b.close()


# -- all of it

def run(*options):
    p = subprocess.run([os.path.join(HERE, "checker"), *options],
                       capture_output=True, text=True, timeout=240 * SLOW)
    assert p.returncode == 0 and "0 violations" in p.stdout, \
        p.stdout[-6000:] + p.stderr[-3000:]
    print(p.stdout)
    return {k: int(n) for n, k in re.findall(r"(\d+) ([a-z0-9 ]+)",
                                             p.stdout)}, p.stdout


def test_a_short_run_breaks_no_promise():
    count, text = run("--minutes", "0.5", "--ttl", LEASE, "--edges", "3",
                      "--seed", "7")
    assert int(re.search(r"answers: (\d+)", text).group(1)) > 500, text
    assert count["200 stale"] > 0 and count["publish 0"] > 3, text
    assert len(re.findall(r"round \d", text)) > 2, text


def test_a_short_run_with_relays_breaks_no_promise():
    count, text = run("--minutes", "0.15", "--ttl", LEASE, "--edges", "2",
                      "--seed", "8", "--relays", "--faults", "cut,kill,forget")
    assert "TCP relays" in text
    assert count["200"] > 100 and count["publish 0"] > 0, text


def test_programs_that_are_installed_break_no_promise_on_demand():
    top = os.path.dirname(HERE)
    for name in ("edge/pkgcast-edge", "master/pkgcast-master"):
        with open(os.path.join(top, name), "rb") as f:
            assert b"PKGCAST_PLANT" not in f.read()
