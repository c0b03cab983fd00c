# SPDX-License-Identifier: BSD-2-Clause
"""Small file systems for tests that fill, freeze or break them.  Linux, root."""
import os
import shutil
import time

from slow import Unavailable, run, write


class Tmpfs:
    """Mounted at where/mount, of so many bytes."""

    def __init__(self, where, size):
        self.where = str(where)
        self.mount = os.path.join(self.where, "mount")
        self.mounted = False
        if os.geteuid() != 0:
            raise Unavailable("needs root")
        os.makedirs(self.mount)
        self.attach(size)
        self.mounted = True

    def attach(self, size):
        run("mount", "-t", "tmpfs", "-o", "size=%d,mode=755" % size,
            "pkgcast-test", self.mount)

    def path(self, *parts):
        return os.path.join(self.mount, *parts)

    def free(self):
        v = os.statvfs(self.mount)
        return v.f_bavail * v.f_frsize

    def occupy(self, leave=0):
        """Somebody else's file takes all but so many bytes."""
        with open(self.path("other"), "wb", buffering=0) as f:
            while self.free() > leave:
                try:
                    f.write(bytes(max(1, min(1 << 20, self.free() - leave))))
                except OSError:
                    break

    def give_back(self):
        os.unlink(self.path("other"))

    def read_only(self, yes):
        """A file that was just closed may be busy for a moment."""
        for left in range(50, -1, -1):
            try:
                run("mount", "-o", "remount,%s" % ("ro" if yes else "rw"),
                    self.mount)
                return
            except Unavailable:
                if left == 0:
                    raise
                time.sleep(0.1)

    def close(self):
        """Its processes must have ended."""
        if self.mounted:
            try:
                run("umount", self.mount)
            except Unavailable:         # nothing may stay mounted
                run("umount", "-l", self.mount)
            self.mounted = False
        shutil.rmtree(self.where, ignore_errors=True)


class Ext4(Tmpfs):
    """The same on a loop device, and it can be told that it has an error."""

    def attach(self, size):
        self.image = os.path.join(self.where, "image")
        with open(self.image, "w") as f:
            f.truncate(size)
        run("mkfs.ext4", "-q", "-F", self.image)
        self.mount_image()

    def mount_image(self):
        run("mount", "-o", "loop,errors=remount-ro", self.image, self.mount)
        with open("/proc/self/mounts") as f:
            self.device = [line.split()[0] for line in f
                           if line.split()[1] == self.mount][0]

    def fail(self):
        write("/sys/fs/ext4/%s/trigger_fs_error" %
              os.path.basename(self.device), "1")

    def mount_anew(self):
        """Nothing may be open there."""
        run("umount", self.mount)
        self.mount_image()
