# SPDX-License-Identifier: BSD-2-Clause
"""Lets a command use what the tests share (conftest.py).  A Python without
pytest gives way to one that has it, as in run-tests."""
import os
import subprocess
import sys


def has_pytest(python):
    try:
        return subprocess.run([python, "-c", "import pytest"],
                              capture_output=True).returncode == 0
    except OSError:
        return False


try:
    import pytest                                             # noqa: F401
except ImportError:
    for python in ("/usr/bin/python3", "/usr/local/bin/python3"):
        if python != sys.executable and has_pytest(python):
            os.execv(python, [python] + sys.argv)
    sys.exit("no python3 with pytest; run: sh integration/deps check")
