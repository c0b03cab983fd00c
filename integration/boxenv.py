# SPDX-License-Identifier: BSD-2-Clause
"""What integration/sandbox says of the box that it has made."""
import os


def read_env(where):
    """DIR/env as a dictionary."""
    env = {}
    with open(os.path.join(where, "env")) as f:
        for line in f:
            key, _, value = line.rstrip("\n").partition("=")
            env[key] = value.strip("'")
    return env
