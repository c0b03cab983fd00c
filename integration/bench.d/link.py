# SPDX-License-Identifier: BSD-2-Clause
"""A line between a cache and the master that carries so many bytes a second,
and no more over two connections than over one.  A TCP relay in a process of its
own, so that ranges and all else are the master's answers.

usage: link.py BYTES_PER_SECOND
Prints the port it listens on.  A line "to PORT" names where it leads; a line
"count" has it print how many bytes it has carried from there so far."""
import socket
import subprocess
import sys
import threading
import time

# A piece comes out when all of it has come through: what a cache waits for has
# the age that it has on a real line.
PIECE = 16384
# What we slept too long is made up for; a pause longer than this was none of
# ours, and nothing is carried faster for it.
LATE = 0.1


class Relay:
    def __init__(self, rate):
        self.rate, self.port, self.count, self.due = rate, None, 0, 0.0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def wait(self, size):
        """Until so many more bytes are through.  Who asks first goes first, so
        connections share the line evenly."""
        with self.lock:
            now = time.monotonic()
            if now - self.due > LATE:
                self.due = now
            self.due += size / self.rate
            self.count += size
            due = self.due
        time.sleep(max(0, due - time.monotonic()))

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.port or 0))
            except OSError:
                near.close()
                continue
            for s in (near, far):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, target, paced in ((near, far, False),
                                          (far, near, True)):
                threading.Thread(target=self.carry, daemon=True,
                                 args=(source, target, paced)).start()

    def carry(self, source, target, paced):
        try:
            while True:
                data = source.recv(PIECE)
                if not data:
                    break
                if paced:
                    self.wait(len(data))
                target.sendall(data)
        except OSError:
            pass
        for s in (source, target):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Link:
    """A relay's process, for who started it."""

    def __init__(self, rate):
        self.child = subprocess.Popen(
            [sys.executable, __file__, str(rate)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True)
        self.port = int(self.child.stdout.readline())

    def lead(self, port):
        self.say("to %d" % port)

    def count(self):
        self.say("count")
        return int(self.child.stdout.readline())

    def say(self, text):
        self.child.stdin.write(text + "\n")
        self.child.stdin.flush()

    def settle(self, quiet=0.4, patience=60):
        """Waits until nothing more comes; what has been carried until then."""
        last, since = self.count(), time.monotonic()
        end = since + patience
        while time.monotonic() - since < quiet and time.monotonic() < end:
            time.sleep(0.05)
            # A manifest or a status that is asked for now and then is nothing.
            now = self.count()
            if now - last > PIECE:
                last, since = now, time.monotonic()
        return last

    def stop(self):
        self.child.stdin.close()
        self.child.wait()


def main():
    relay = Relay(float(sys.argv[1]))
    threading.Thread(target=relay.accept, daemon=True).start()
    print(relay.listener.getsockname()[1], flush=True)
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "to":
            relay.port = int(words[0])
        else:
            print(relay.count, flush=True)


if __name__ == "__main__":
    main()
