# SPDX-License-Identifier: BSD-2-Clause
"""Chromium without a window, driven through its remote debugging pipe: JSON
messages that end in NUL, on descriptors 3 and 4 of the browser."""
import json
import os
import select
import shutil
import subprocess
import sys
import time

from conftest import SLOW

PROGRAMS = ("chromium", "chromium-browser", "chrome")
# The pipe's ends must be 3 and 4, whatever numbers they have here.
EXEC = ("import os, sys, fcntl; "
        "r, w = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) "
        "for n in sys.argv[1:3]); os.dup2(r, 3); os.dup2(w, 4); "
        "os.execvp(sys.argv[3], sys.argv[3:])")


def program():
    """Its path, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One browser with one empty page, which may fetch from anywhere."""

    def __init__(self, where):
        home = os.path.join(str(where), "home")
        self.downloads = os.path.join(str(where), "downloads")
        os.makedirs(home)
        os.makedirs(self.downloads)
        to_r, to_w = os.pipe()
        from_r, from_w = os.pipe()
        ends = (to_r, from_w)
        self.log = open(os.path.join(str(where), "browser.log"), "wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", EXEC, *map(str, ends), program(),
             "--headless", "--no-sandbox", "--disable-gpu",
             "--remote-debugging-pipe", "--disable-web-security",
             "--no-first-run", "--no-proxy-server", "--disable-sync",
             "--disable-background-networking",
             "--disable-component-update",
             "--autoplay-policy=no-user-gesture-required",
             "--user-data-dir=" + home, "about:blank"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            pass_fds=ends, env=dict(os.environ, HOME=home,
                                    XDG_CONFIG_HOME=home,
                                    XDG_CACHE_HOME=home))
        for fd in ends:
            os.close(fd)
        self.writer, self.reader = to_w, from_r
        self.buffer, self.number, self.events = b"", 0, []
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")
        self.session = self.call(
            "Target.attachToTarget", targetId=target["targetId"],
            flatten=True)["sessionId"]
        self.call("Network.enable")
        self.call("Page.enable")

    def message(self, end):
        """The next one, or None when there is none until end."""
        while b"\0" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.reader], [], [], left)[0]:
                return None
            part = os.read(self.reader, 1 << 20)
            assert part, "the browser is gone"
            self.buffer += part
        one, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(one)

    def call(self, method, seconds=60, **params):
        self.number += 1
        m = {"id": self.number, "method": method, "params": params}
        if self.session and not method.startswith(("Browser.", "Target.")):
            m["sessionId"] = self.session
        data = json.dumps(m).encode() + b"\0"
        while data:
            data = data[os.write(self.writer, data):]
        end = time.monotonic() + seconds * SLOW
        while True:
            got = self.message(end)
            assert got is not None, "no answer to " + method
            if got.get("id") == self.number:
                assert "error" not in got, (method, got["error"])
                return got["result"]
            self.events.append(got)

    def event(self, method, accept, seconds=60):
        """The parameters of the first such event that accept() likes."""
        end, seen = time.monotonic() + seconds * SLOW, 0
        while True:
            for m in self.events[seen:]:
                if m.get("method") == method and accept(m["params"]):
                    return m["params"]
            seen = len(self.events)
            got = self.message(end)
            assert got is not None, "no event " + method
            self.events.append(got)

    def run(self, script, *args):
        """The value of an async function's body with arguments in `a`."""
        got = self.call(
            "Runtime.evaluate", awaitPromise=True, returnByValue=True,
            expression="(async (a) => {%s})(%s)" % (script, json.dumps(args)))
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def close(self):
        try:
            self.call("Browser.close", seconds=10)
        except (AssertionError, OSError):
            self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for fd in (self.writer, self.reader):
            os.close(fd)
        self.log.close()
