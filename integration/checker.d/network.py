# SPDX-License-Identifier: BSD-2-Clause
"""A network of a master and its edges, and the faults of its lines.

Spaces: each host has a network namespace with one TUN interface, and all of
them end in one process, the wire, which hands packets on: late, now and then,
or not at all, each direction by itself.  What routers do to packets is done
here in the open, so it needs no netem and no packet filter of the kernel, can
also forget connections as a router does that was started anew, and goes with
the processes that use it.  Linux, root.

Relays: elsewhere all hosts are 127.0.0.1, and each edge reaches its master by
way of TCP relays (proxy.py).  A relay can hold bytes, delay them and end
connections, but lose no packet.
"""
import collections
import ctypes
import fcntl
import heapq
import itertools
import multiprocessing
import os
import random
import select
import shutil
import struct
import subprocess
import time

from proxy import Relay
from slow import Unavailable, run

NET = "10.77.0."
MTU = 9000
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
TUNSETIFF, IFF_TUN_NO_PI = 0x400454ca, 0x1001
BURST = 64                              # packets of a host in a row
FLOWS = 100000                          # open connections the wire remembers
SYN, SYN_ACK = 0x02, 0x12
# Children inherit descriptors, and the namespace.
FORK = multiprocessing.get_context("fork")


def unshare(flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        raise Unavailable("unshare: " + os.strerror(ctypes.get_errno()))


class Rule:
    """Of one direction between two hosts."""

    def __init__(self):
        self.cut, self.loss, self.delay = False, 0.0, 0.0
        self.new_only = False           # connections made since are known


class Wire:
    """The process that hands packets on; host number i has fds[i]."""

    def __init__(self, fds, control, seed):
        self.fds = {fd: i for i, fd in fds.items()}
        self.out = fds
        self.control = control
        self.rng = random.Random(seed)
        self.rules = collections.defaultdict(Rule)
        self.late, self.order = [], itertools.count()
        self.flows = set()
        self.count = collections.Counter()

    def run(self):
        poll = select.epoll()
        for fd in [*self.fds, self.control.fileno()]:
            poll.register(fd, select.EPOLLIN)
        while True:
            wait = self.late[0][0] - time.monotonic() if self.late else 60
            for fd, _ in poll.poll(max(0, wait)):
                if fd in self.fds:
                    self.take(fd)
                elif not self.obey():
                    return
            while self.late and self.late[0][0] <= time.monotonic():
                _, _, packet, rule, to = heapq.heappop(self.late)
                self.hand(packet, rule, to)

    def obey(self):
        try:
            order, pair, value = self.control.recv()
        except EOFError:
            return False
        if order == "forget":
            self.rules[pair].new_only = True
            self.flows = {f for f in self.flows if (f[3], f[7]) != pair}
        elif order != "count":
            setattr(self.rules[pair], order, value)
        self.control.send(dict(self.count))
        return True

    def take(self, fd):
        for _ in range(BURST):
            try:
                packet = os.read(fd, 65536)
            except OSError:
                return
            if packet[0] >> 4 != 4 or packet[19] not in self.out:
                continue                # IPv6 looks for neighbours
            self.route(packet)

    def route(self, packet):
        rule = self.rules[packet[15], packet[19]]
        if not self.known(packet, rule) or rule.cut or (
                rule.loss and self.rng.random() < rule.loss):
            self.count["dropped"] += 1
        elif rule.delay:
            heapq.heappush(self.late, (
                time.monotonic() + rule.delay, next(self.order), packet, rule,
                packet[19]))
        else:
            self.hand(packet, rule, packet[19])

    def known(self, packet, rule):
        """Whether a router that tracks connections would let it pass."""
        if packet[9] != 6:
            return True
        at = (packet[0] & 15) * 4
        flow = packet[12:20] + packet[at:at + 4]
        if packet[at + 13] & SYN_ACK == SYN:
            if len(self.flows) > FLOWS:
                self.flows.clear()
            self.flows.add(flow)
            self.flows.add(flow[4:8] + flow[:4] + flow[10:] + flow[8:10])
        return not rule.new_only or flow in self.flows

    def hand(self, packet, rule, to):
        if rule.cut:
            self.count["dropped"] += 1
            return
        try:
            os.write(self.out[to], packet)
            self.count["handed on"] += 1
        except OSError:
            self.count["dropped"] += 1


class Spaces:
    """Namespaces for these hosts; the caller is moved into one of its own,
    which no fault concerns, and gets file systems of its own to mount."""

    kind = "network namespaces and a wire"
    mounts = True

    def __init__(self, hosts, seed=0):
        for tool in ("ip", "nsenter", "mount"):
            if shutil.which(tool) is None:
                raise Unavailable(tool + " is not there")
        if os.geteuid() != 0:
            raise Unavailable("not root")
        self.number = {h: i + 1 for i, h in enumerate(hosts)}
        self.space, tuns = {}, {}
        unshare(CLONE_NEWNS)
        run("mount", "--make-rprivate", "/")
        for host, i in [*self.number.items(), ("", 100)]:
            unshare(CLONE_NEWNET)
            tuns[i] = self.tun(i)
            self.space[host] = os.open("/proc/thread-self/ns/net",
                                       os.O_RDONLY | os.O_CLOEXEC)
        self.control, theirs = FORK.Pipe()
        self.wire = FORK.Process(
            target=self.serve, args=(tuns, theirs, seed), daemon=True)
        self.wire.start()
        theirs.close()
        for fd in tuns.values():
            os.close(fd)

    def serve(self, tuns, control, seed):
        self.control.close()
        try:
            Wire(tuns, control, seed).run()
        except KeyboardInterrupt:
            pass

    @staticmethod
    def tun(i):
        try:
            fd = os.open("/dev/net/tun",
                         os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(fd, TUNSETIFF,
                        struct.pack("16sH22x", b"net0", IFF_TUN_NO_PI))
        except OSError as e:
            raise Unavailable("/dev/net/tun: " + e.strerror) from None
        run("ip", "link", "set", "lo", "up")
        run("ip", "address", "add", "%s%d/24" % (NET, i), "dev", "net0")
        run("ip", "link", "set", "net0", "mtu", str(MTU), "up")
        return fd

    def command(self, host, argv):
        return ["nsenter", "--net=/proc/%d/fd/%d" % (
            os.getpid(), self.space[host]), *argv]

    def address(self, host, port, of):
        """Where host finds a port of another."""
        return "%s%d:%d" % (NET, self.number[of], port)

    def order(self, what, edge, directions, value=None):
        a, b = self.number[edge], self.number["master"]
        for pair, way in (((a, b), "out"), ((b, a), "in")):
            if way in directions:
                self.control.send((what, pair, value))
                self.control.recv()

    def cut(self, edge, directions, yes):
        self.order("cut", edge, directions, yes)

    def loss(self, edge, part):
        self.order("loss", edge, ("in", "out"), part)

    def delay(self, edge, seconds):
        """Of a packet and its answer together."""
        self.order("delay", edge, ("in", "out"), seconds / 2)

    def forget(self, edge):
        """Connections that are open now are dead for good, silently."""
        self.order("forget", edge, ("in", "out"))

    def counts(self):
        self.control.send(("count", None, None))
        return self.control.recv()

    def close(self):
        self.control.close()
        self.wire.join(5)
        if self.wire.is_alive():
            self.wire.kill()
        for fd in self.space.values():
            os.close(fd)


class Relays:
    """The same by relays on 127.0.0.1."""

    kind = "TCP relays"
    mounts = False

    def __init__(self, hosts, seed=0):
        self.relay = {}                 # (edge, port of the master)
        self.edges = [h for h in hosts if h != "master"]

    def command(self, host, argv):
        return list(argv)

    def address(self, host, port, of):
        if of == "master" and host in self.edges:
            if (host, port) not in self.relay:
                self.relay[host, port] = Relay(port)
            port = self.relay[host, port].listen_port
        return "127.0.0.1:%d" % port

    def of(self, edge):
        return [r for (e, _), r in self.relay.items() if e == edge]

    def cut(self, edge, directions, yes):
        for r in self.of(edge):
            for way in directions:
                r.hold(way, yes)

    def loss(self, edge, part):
        """What lost packets come to: bytes that come late."""
        self.delay(edge, part)

    def delay(self, edge, seconds):
        for r in self.of(edge):
            r.delay = seconds / 2

    def forget(self, edge):
        for r in self.of(edge):
            r.blackhole()

    def counts(self):
        return {"held back": sum(r.held for r in self.relay.values())}

    def close(self):
        for r in self.relay.values():
            r.close()


def network(hosts, seed=0, relays=False):
    """(network, why it is not made of namespaces, or None)"""
    if relays:
        return Relays(hosts, seed), "asked for"
    # A child tries first: what fails half way has left its namespace.
    ours, theirs = FORK.Pipe()
    child = FORK.Process(target=probe, args=(hosts, theirs))
    child.start()
    theirs.close()
    why = ours.recv()
    child.join()
    if why is None:
        return Spaces(hosts, seed), None
    return Relays(hosts, seed), why


def probe(hosts, tell):
    try:
        Spaces(hosts[:1]).close()
        tell.send(None)
    except (Unavailable, OSError) as e:
        tell.send(str(e))
