# SPDX-License-Identifier: BSD-2-Clause
"""A slow block device: ext4 on a loop device whose reads a cgroup limits for
the processes that are put into it.  Page cache, readahead, mincore() and
RWF_NOWAIT are those of any disk.  Linux, root."""
import os
import selectors
import shutil
import socket
import subprocess
import time
import urllib.parse

PATIENCE = 10


class Unavailable(Exception):
    """Why no slow device can be had here."""


def run(*command):
    try:
        p = subprocess.run(command, capture_output=True, text=True,
                           stdin=subprocess.DEVNULL, timeout=120)
    except OSError as e:
        raise Unavailable("%s: %s" % (command[0], e.strerror)) from None
    if p.returncode != 0:
        raise Unavailable("%s: %s" % (" ".join(command), p.stderr.strip() or
                                      "exit %d" % p.returncode))
    return p.stdout.strip()


def write(path, text):
    try:
        with open(path, "w") as f:
            f.write(text)
    except OSError as e:
        raise Unavailable("%s: %s" % (path, e.strerror)) from None


def controller():
    """(mount point, version) of the block I/O controller."""
    try:
        with open("/proc/self/mounts") as f:
            mounts = [line.split() for line in f]
    except OSError:
        mounts = []
    for _, where, kind, options, *_ in mounts:
        if kind == "cgroup" and "blkio" in options.split(",") and \
                os.path.exists(where + "/blkio.throttle.read_bps_device"):
            return where, 1
    for _, where, kind, *_ in mounts:
        if kind == "cgroup2":
            with open(where + "/cgroup.controllers") as f:
                if "io" in f.read().split():
                    write(where + "/cgroup.subtree_control", "+io")
                    return where, 2
    raise Unavailable("no cgroup controller for block I/O is mounted")


class SlowDisk:
    def __init__(self, where, size):
        """Mounted at where/mount; as fast as the disk below until limit()."""
        self.image, self.mount = (os.path.join(str(where), n)
                                  for n in ("image", "mount"))
        self.loop = self.group = None
        self.mounted = False
        if os.geteuid() != 0:
            raise Unavailable("needs root")
        base, self.version = controller()
        try:
            os.makedirs(self.mount)
            with open(self.image, "w") as f:
                f.truncate(size)
            run("mkfs.ext4", "-q", "-F", self.image)
            self.loop = run("losetup", "-f", "--show", self.image)
            rdev = os.stat(self.loop).st_rdev
            self.device = "%d:%d" % (os.major(rdev), os.minor(rdev))
            self.attach()
            group = os.path.join(base, "pkgcast-slow-%d" % os.getpid())
            try:
                os.mkdir(group)
            except OSError as e:
                raise Unavailable("%s: %s" % (group, e.strerror)) from None
            self.group = group
            self.limit(0, 0)
        except BaseException:
            self.close()
            raise

    def attach(self):
        run("mount", "-o", "noatime", self.loop, self.mount)
        self.mounted = True

    def detach(self):
        if self.mounted:
            run("umount", self.mount)
            self.mounted = False

    def cold(self):
        """Forgets every page and inode; nothing may be open there."""
        self.detach()
        self.attach()

    def limit(self, rate, iops):
        """Bytes and reads a second; 0: no limit."""
        if self.version == 1:
            for name, n in (("bps", rate), ("iops", iops)):
                write(self.group + "/blkio.throttle.read_%s_device" % name,
                      "%s %d" % (self.device, n))
        else:
            write(self.group + "/io.max", "%s rbps=%s riops=%s" % (
                self.device, rate or "max", iops or "max"))

    def hold(self, pid):
        write(self.group + "/cgroup.procs", str(pid))

    def bytes_read(self):
        name = os.path.basename(self.loop)
        with open("/sys/block/%s/stat" % name) as f:
            return int(f.read().split()[2]) * 512

    def close(self):
        """Its processes must have ended."""
        if self.group:
            os.rmdir(self.group)
        self.detach()
        if self.loop:
            run("losetup", "-d", self.loop)
        self.loop = self.group = None
        shutil.rmtree(os.path.dirname(self.image), ignore_errors=True)


def whole(data):
    """Whether that is one whole answer."""
    head, end, body = data.partition(b"\r\n\r\n")
    return end and len(body) >= int(head.lower().partition(
        b"content-length:")[2].split()[0])


def received(sock):
    part = sock.recv(65536)
    if not part:
        raise ConnectionError("the edge closed a probe")
    return part


class Probe:
    """Asks for one small file on many connections, each every `every` seconds
    whether or not the one before was late: a connection that waits a second
    counts as every request that should have been sent meanwhile."""

    def __init__(self, base, path, connections=16, every=0.01):
        u = urllib.parse.urlsplit(base)
        self.request = ("GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path).encode()
        self.every = every
        self.socks = []
        for _ in range(connections):
            s = socket.create_connection((u.hostname, u.port), timeout=60)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socks.append(s)
        for _ in range(2):                  # the second one is a hit
            for s in self.socks:
                s.sendall(self.request)
                data = b""
                while not whole(data):
                    data += received(s)
        for s in self.socks:
            s.setblocking(False)

    def run(self, seconds):
        """Latencies in seconds, sorted.  An answer that is not there PATIENCE
        after the end counts as one that came then."""
        start = time.monotonic()
        end, got = start + seconds, []
        sel = selectors.DefaultSelector()
        due, have = {}, {}
        for i, s in enumerate(self.socks):
            due[s] = start + self.every * i / len(self.socks)
        idle = list(self.socks)
        while True:
            now = time.monotonic()
            for s in [s for s in idle if due[s] <= now and now < end]:
                s.sendall(self.request)
                have[s] = b""
                idle.remove(s)
                sel.register(s, selectors.EVENT_READ)
            if now >= end and not sel.get_map():
                break
            if now >= end + PATIENCE:
                got += [now - due[key.fileobj]
                        for key in sel.get_map().values()]
                break
            wait = min((due[s] for s in idle), default=now + 1) - now
            for key, _ in sel.select(max(wait, 0.0005) if now < end else 1):
                s = key.fileobj
                have[s] += received(s)
                if not whole(have[s]):
                    continue
                now = time.monotonic()
                while due[s] <= now:
                    got.append(now - due[s])
                    due[s] += self.every
                sel.unregister(s)
                idle.append(s)
        sel.close()
        return sorted(got)

    def close(self):
        for s in self.socks:
            s.close()
