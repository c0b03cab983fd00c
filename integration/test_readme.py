# SPDX-License-Identifier: BSD-2-Clause
"""The README's commands do what it says."""
import os
import re
import subprocess

from conftest import HERE, SLOW

TOP = os.path.dirname(HERE)


def test_the_tour_runs(tmp_path):
    with open(os.path.join(TOP, "README.md")) as f:
        blocks = re.findall(r"^```sh\n(.*?)^```", f.read(), re.M | re.S)
    assert len(blocks) == 1
    script = blocks[0].replace("make\n", "", 1)     # it is built already
    p = subprocess.run(["sh", "-euc", script], cwd=TOP, text=True,
                       capture_output=True, timeout=120 * SLOW)
    assert p.returncode == 0, p.stdout + p.stderr
    out = p.stdout
    assert "fwd=miss" in out and "; hit" in out
    lines = [l for l in out.splitlines() if l.startswith("hello")]
    assert lines == ["hello, first", "hello, first", "hello, second",
                     "hello, first", "hello, first"], out
