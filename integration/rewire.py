# SPDX-License-Identifier: BSD-2-Clause
"""Changes what a sandbox's daemon is configured to talk to, as an operator
would: in its file, then by a restart."""
import re
import signal

from proxy import Relay


def setting(box, name, section, key):
    """The value of a key in that daemon's configuration."""
    with open(box.path(name + ".conf")) as f:
        text = f.read()
    return re.search(r'^%s\n(?:    .*\n)*?    %s = "([^"]*)"' % (section, key),
                     text, re.M).group(1)


def set_settings(box, name, changes):
    """changes: {(section, key): value}, of keys that are there."""
    path = box.path(name + ".conf")
    with open(path) as f:
        text = f.read()
    for (section, key), value in changes.items():
        text, n = re.subn(
            r'^(%s\n(?:    .*\n)*?    %s = )"[^"]*"' % (section, key),
            lambda m, v=value: '%s"%s"' % (m.group(1), v), text, flags=re.M)
        assert n == 1, (name, section, key)
    with open(path, "w") as f:
        f.write(text)


def change(box, name, changes):
    """The same, and a restart."""
    box.kill(name, signal.SIGTERM)
    set_settings(box, name, changes)
    box.start(name)


def port(endpoint):
    return int(endpoint.rpartition(":")[2])


def through_relays(box, name, keys=("announce", "lease")):
    """Relays between that edge and the master's links; returns them."""
    relays = {k: Relay(port(setting(box, name, "master", k))) for k in keys}
    change(box, name, {
        ("master", k): "tcp://127.0.0.1:%d" % r.listen_port
        for k, r in relays.items()})
    return [relays[k] for k in keys]
