# SPDX-License-Identifier: BSD-2-Clause
"""An HTTP server that says what a test wants as an upstream, and an edge
without keys that lives by polling it."""
import hashlib
import http.server
import os
import subprocess
import threading

from conftest import HERE, get


class StaticUpstream:
    def __init__(self, trust):
        self.files = {"/.pkgcast/trust": trust, "/.pkgcast/heads": b""}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = outer.files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                                      Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever,
                         daemon=True).start()

    def add(self, head, manifest, content, digest=None):
        """Shows this head as the only one; blobs stay."""
        def blob(data, name=None):
            name = name or hashlib.sha256(data).hexdigest()
            self.files["/.pkgcast/blob/" + name] = data
        blob(manifest, digest)
        blob(b"")
        for data in content.values():
            blob(data)
        signed = head.partition(b"untrusted comment:")[0]
        self.files["/.pkgcast/head/" +
                   hashlib.sha256(signed).hexdigest()] = head
        self.files["/.pkgcast/heads"] = head

    def edge(self, box, where, *lines):
        return PollingEdge(box, str(where), self.url, lines)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class PollingEdge:
    def __init__(self, box, where, upstream, lines=(), kind="master"):
        user = subprocess.check_output(["id", "-un"], text=True).strip()
        with open(box.path("home", "root.pub")) as f:
            root = f.read().split("\n")[1]
        port = 12000 + os.getpid() * 7 % 8000
        self.base = "http://127.0.0.1:%d" % port
        self.conf = os.path.join(where, "polling.conf")
        self.log_path = os.path.join(where, "polling.log")
        with open(self.conf, "w") as f:
            f.write("\n".join([
                'name = "polling"', 'user = "%s"' % user,
                'state = "%s/polling-state"' % where,
                'root-key = "%s"' % root, 'poll = "1"', *lines,
                'http', '    listen = "127.0.0.1:%d"' % port,
                '    access-log = "%s/polling-access.log"' % where,
                'cache', '    dir = "%s/polling-cache"' % where,
                '    min-free = "0"',
                'upstream', '    url = "%s"' % upstream,
                '    kind = "%s"' % kind]) + "\n")
        os.chmod(self.conf, 0o600)
        self.start()

    def start(self):
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(
                [os.path.join(os.path.dirname(HERE), "edge", "pkgcast-edge"),
                 "-f", self.conf], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log)

    def restart(self):
        self.end()
        self.start()

    def end(self):
        self.process.terminate()
        assert self.process.wait(60) == 0, self.log()

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def body(self, path):
        try:
            a = get(self.base, path)
        except OSError:
            return None
        return a.body if a.status == 200 else None
