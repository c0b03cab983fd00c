# SPDX-License-Identifier: BSD-2-Clause
"""The generators: wrk, and for answers without a body, which wrk never counts,
h2load in its HTTP/1.1 mode.  Both from Debian's packages."""
import json
import os
import re
import resource
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = 60


class Failed(Exception):
    """A generator that did not end well, or answers that were not right."""


def run(words, seconds, **kw):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    p = subprocess.run(words, capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, timeout=seconds + PATIENCE,
                       **kw)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if p.returncode != 0:
        raise Failed("%s: exit %d: %s" % (" ".join(words), p.returncode,
                                          (p.stderr + p.stdout)[-1000:]))
    cpu = (after.ru_utime + after.ru_stime -
           before.ru_utime - before.ru_stime)
    return p.stdout, cpu


def wrk(url, connections, seconds, threads=1, headers=(), paths=None):
    """{"seconds", "requests", "bytes", "p50", "p99" (microseconds), "errors",
    "cpu" (the generator's own seconds)}"""
    words = ["wrk", "-t%d" % min(threads, connections), "-c%d" % connections,
             "-d%ds" % seconds, "--timeout", "60s",
             "-s", os.path.join(HERE, "wrk.lua")]
    for header in headers:
        words += ["-H", header]
    env = dict(os.environ)
    if paths:
        env["BENCH_PATHS"] = paths
    out, cpu = run(words + [url], seconds, env=env)
    got = json.loads(re.search(r"^BENCH (.*)$", out, re.M).group(1))
    got["seconds"] = got.pop("microseconds") / 1e6
    got["cpu"] = cpu
    return got


def h2load(url, connections, seconds, scratch, headers=()):
    """Conditional requests, as wrk().  Its log has a line for each answer:
    start, status, microseconds."""
    log = os.path.join(scratch, "h2load.log")
    if os.path.exists(log):
        os.unlink(log)
    words = ["h2load", "--h1", "-t1", "-c%d" % connections,
             "-D%d" % seconds, "--log-file", log]
    for header in headers:
        words += ["-H", header]
    out, cpu = run(words + [url], seconds)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, "
                      r"(\d+) 5xx", out)
    ends = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", out)
    size = re.search(r"traffic: .*?\((\d+)\) total", out)
    took = float(re.search(r"finished in ([\d.]+)s", out).group(1))
    times, wrong = [], 0
    with open(log) as f:
        for line in f:
            _, status, micro = line.split()
            times.append(int(micro))
            wrong += status != "304"
    os.unlink(log)
    times.sort()
    if int(codes.group(2)) != len(times):
        raise Failed("h2load: %s 3xx counted, %d lines logged" % (
            codes.group(2), len(times)))
    return {"seconds": took, "requests": len(times),
            "bytes": int(size.group(1)),
            "p50": times[len(times) // 2] if times else 0,
            "p99": times[len(times) * 99 // 100] if times else 0,
            "errors": wrong + sum(map(int, ends.groups())), "cpu": cpu}


def each(list_path, count, size):
    """Every URL of the file, one after the other, on one connection."""
    out, _ = run(["h2load", "--h1", "-t1", "-c1", "-n%d" % count,
                  "-i", list_path], count / 10)
    done = re.search(r"status codes: (\d+) 2xx", out)
    data = re.search(r"\((\d+)\) data", out)
    if (int(done.group(1)), int(data.group(1))) != (count, size):
        raise Failed("of %d files in %d bytes came %s in %s bytes:\n%s" % (
            count, size, done.group(1), data.group(1), "\n".join(
                line for line in out.split("\n")
                if line.startswith(("requests:", "status codes:")))))
