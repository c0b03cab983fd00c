# SPDX-License-Identifier: BSD-2-Clause
"""What processes used: CPU to the nanosecond and memory by share, from /proc.
A server is its main process and all that descend from it."""
import os

TICK = os.sysconf("SC_CLK_TCK")


def processes(roots):
    """The given processes and their descendants."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as f:
                    parent = int(f.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


class Cpu:
    """The CPU time of processes at one moment.  schedstat counts nanoseconds of
    each living thread; threads that ended are only in stat's ticks."""

    def __init__(self, pids):
        self.threads, self.ticks = {}, 0
        for pid in pids:
            try:
                for tid in os.listdir("/proc/%d/task" % pid):
                    with open("/proc/%d/task/%s/schedstat" % (pid, tid)) as f:
                        self.threads[tid] = int(f.read().split()[0])
                with open("/proc/%d/stat" % pid) as f:
                    words = f.read().rpartition(")")[2].split()
            except OSError:
                continue
            self.ticks += int(words[11]) + int(words[12])

    def seconds_since(self, before):
        exact = sum(ns - before.threads.get(tid, 0)
                    for tid, ns in self.threads.items()) / 1e9
        ticks = (self.ticks - before.ticks) / TICK
        # More in the ticks than their grain explains: threads have ended.
        return ticks if ticks > exact * 1.05 + 0.1 else exact


def memory(pids):
    """Resident bytes, pages that processes share counted once in all:
    {"all": ..., "anonymous": ...}.  The rest is mapped files."""
    out = {"all": 0, "anonymous": 0}
    for pid in pids:
        try:
            with open("/proc/%d/smaps_rollup" % pid) as f:
                lines = f.read().split("\n")
        except OSError:
            continue
        for line in lines:
            word = line.split()
            if word and word[0] == "Pss:":
                out["all"] += int(word[1]) * 1024
            elif word and word[0] in ("Pss_Anon:", "Pss_Shmem:"):
                out["anonymous"] += int(word[1]) * 1024
    return out
