# SPDX-License-Identifier: BSD-2-Clause
"""The README's commands do what it says."""
import getpass
import os
import re
import shutil
import subprocess
import sys

from conftest import HERE, SANDBOX, SLOW

TOP = os.path.dirname(HERE)


def test_the_tour_runs(tmp_path):
    with open(os.path.join(TOP, "README.md")) as f:
        blocks = re.findall(r"^```sh\n(.*?)^```", f.read(), re.M | re.S)
    assert len(blocks) == 1
    script = blocks[0].replace("make\n", "", 1)     # it is built already
    tour = os.path.join(TOP, "build", "tour")
    try:
        p = subprocess.run(["sh", "-euc", script], cwd=TOP, text=True,
                           capture_output=True, timeout=120 * SLOW)
    finally:
        if os.path.exists(tour):            # the script did not come to its end
            subprocess.run([sys.executable, SANDBOX, "down", tour],
                           timeout=120 * SLOW)
            shutil.rmtree(tour)
    assert p.returncode == 0, p.stdout + p.stderr
    out = p.stdout
    assert "fwd=miss" in out and "; hit" in out
    lines = [l for l in out.splitlines() if l.startswith("hello")]
    assert lines == ["hello, first", "hello, first", "hello, second",
                     "hello, first", "hello, first"], out


def test_its_edge_without_a_master_is_complete(tmp_path):
    """The configuration as it stands there; only the user is another."""
    with open(os.path.join(TOP, "README.md")) as f:
        text = re.search(r"^```\n(set\n.*?)^```", f.read(), re.M | re.S).group(1)
    conf = tmp_path / "edge.conf"
    conf.write_text(text + 'user = "%s"\n' % getpass.getuser())
    p = subprocess.run([os.path.join(TOP, "edge", "pkgcast-edge"), "-t", "-f",
                        str(conf)], text=True, capture_output=True, timeout=60)
    assert (p.returncode, p.stdout, p.stderr) == (0, "", "")
