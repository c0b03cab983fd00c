# SPDX-License-Identifier: BSD-2-Clause
"""pkgcast edge: what an operator does and gets wrong."""
import os
import re

from conftest import until


def test_an_empty_folder_of_edges_is_no_error(sandbox):
    box = sandbox("--edges", "0")
    for _ in "there", "gone":
        p = box.pkgcast("edge", "list")
        assert "no edge is allowed yet" in p.stdout
        if os.path.exists(box.path("edges")):
            os.rmdir(box.path("edges"))


def test_one_key_is_one_edge(sandbox):
    box = sandbox("--edges", "0")
    p = box.pkgcast("edge", "invite", "one", "--url", "http://one.example.org")
    key = re.search(r'\ncurve\n    public-key = "([^"]*)"', p.stdout).group(1)
    p = box.pkgcast("edge", "allow", "two", key, check=False)
    assert p.returncode == 1 and "the key of edge one" in p.stderr
    assert os.listdir(box.path("edges")) == ["one"]
    until(lambda: re.search(r"^one +none", box.pkgcast("edge", "list").stdout,
                            re.M))
    assert box.pkgcast("edge", "revoke", "one").returncode == 0
    assert box.pkgcast("edge", "allow", "two", key).returncode == 0


def test_wrong_words_are_usage(sandbox):
    box = sandbox("--edges", "0")
    for args, said in [
            (["frobnicate"], "usage:"), ([], "usage:"),
            (["invite"], "usage:"), (["invite", ".x"], "not a name"),
            (["invite", "x", "--url", "http://u:p@x"], "not an http://"),
            (["invite", "x", "--url", "http://x:99999"], "not an http://"),
            (["allow", "x", "abc"], "not a public key")]:
        p = box.pkgcast("edge", *args, check=False)
        assert p.returncode == 2 and said in p.stderr, (args, p.stderr)
        assert os.listdir(box.path("edges")) == []
