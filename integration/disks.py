# SPDX-License-Identifier: BSD-2-Clause
"""Small file systems for tests that fill, freeze or break them.  Linux, root."""
import os
import shutil

from slow import Unavailable, run


class Tmpfs:
    """Mounted at where/mount, of so many bytes."""

    def __init__(self, where, size):
        self.mount = os.path.join(str(where), "mount")
        self.mounted = False
        if os.geteuid() != 0:
            raise Unavailable("needs root")
        os.makedirs(self.mount)
        run("mount", "-t", "tmpfs", "-o", "size=%d,mode=755" % size,
            "pkgcast-test", self.mount)
        self.mounted = True

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
        run("mount", "-o", "remount,%s" % ("ro" if yes else "rw"), self.mount)

    def close(self):
        """Its processes must have ended."""
        if self.mounted:
            run("umount", self.mount)
            self.mounted = False
        shutil.rmtree(self.mount, ignore_errors=True)
