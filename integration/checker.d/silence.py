# SPDX-License-Identifier: BSD-2-Clause
"""Links that are silent for long, or dead without a sign, and the publish that
comes then; for integration/test_silence.py.  Runs in a process of its own, since
a network of namespaces keeps whoever made it."""
import json
import time

from conftest import SLOW, get, until
from nemesis import Hosts
from network import FORK, network
from workload import Publisher

EDGES = ("edge1", "edge2")


class Idle:
    """A master and two edges that all are current; nobody asks them."""

    def __init__(self, where, relays):
        self.net, self.why = network(["master", *EDGES], relays=relays)
        self.hosts = Hosts(where, self.net, list(EDGES), 10)
        for name in self.hosts.names:
            self.hosts.start(name)
        until(self.hosts.leased, 60)
        self.publisher = Publisher(self.hosts.publish_command(), where, None,
                                   0)
        self.publish()

    def publish(self):
        """(seconds, exit status, whether all edges then were current)"""
        self.publisher.write_tree()
        begin = time.monotonic()
        status = self.publisher.publish("publish", self.publisher.last, [
            "publish", "--prepare-wait", "0", "checked",
            self.publisher.tree])
        return time.monotonic() - begin, status, self.current()

    def current(self):
        newest = max(self.publisher.labels)
        return all(self.hosts.look(e) == (newest, True) for e in EDGES)

    def reconnects(self):
        return [json.loads(get(self.hosts.base[e], "/.pkgcast/status").body)[
            "link"]["reconnects"] for e in EDGES]

    def until_current(self):
        begin = time.monotonic()
        until(self.current, 40)
        return time.monotonic() - begin

    def cut(self, yes):
        for e in EDGES:
            self.net.cut(e, ("in", "out"), yes)

    def forget(self):
        for e in EDGES:
            self.net.forget(e)

    def end(self):
        self.hosts.end()
        self.net.close()


def after_a_cut(idle, seconds):
    idle.cut(True)
    time.sleep(seconds)
    assert not any(idle.hosts.look(e)[1] for e in EDGES)
    idle.cut(False)
    back = idle.until_current()
    return {"back": back, "publish": idle.publish()}


def after_forgetting(idle, seconds):
    """All connections are dead for good; new ones work."""
    before = idle.reconnects()
    idle.forget()
    time.sleep(seconds)
    back = idle.until_current()
    made = [b - a for a, b in zip(before, idle.reconnects())]
    return {"back": back, "made": made, "publish": idle.publish()}


def publish_at_once(idle, seconds):
    """While nobody can have noticed."""
    idle.forget()
    first = idle.publish()
    back = idle.until_current()
    return {"first": first, "back": back, "publish": idle.publish()}


def child(tell, where, what, seconds, relays):
    idle = None
    try:
        idle = Idle(where, relays)
        tell.send({"kind": idle.net.kind, **what(idle, seconds)})
    except BaseException as e:
        tell.send({"failed": repr(e)})
        raise
    finally:
        if idle is not None:
            idle.end()


def measure(where, what, seconds, relays=False):
    ours, theirs = FORK.Pipe()
    p = FORK.Process(target=child, args=(
        theirs, str(where), what, seconds, relays))
    p.start()
    theirs.close()
    try:
        result = ours.recv()
    finally:
        p.join(120 * SLOW)
    print(what.__name__, result)
    return result
