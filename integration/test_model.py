# SPDX-License-Identifier: BSD-2-Clause
"""The model of the lease protocol: it holds, and is about this code."""
import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODEL = os.path.join(ROOT, "proto", "lease.pml")


def test_the_lease_protocol_holds_and_each_broken_rule_is_noticed():
    p = subprocess.run(["sh", os.path.join(ROOT, "integration", "model"), "2"],
                       capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr
    assert len(re.findall(r" holds$", p.stdout, re.M)) == 2
    assert len(re.findall(r" found: ", p.stdout)) == 15


def test_the_model_names_functions_that_there_are():
    named = []
    for comment in re.findall(r"/\*.*?\*/", open(MODEL).read(), re.S):
        source = None
        for word in re.findall(r"\w+/\w+\.c\b|\b\w+\(\)", comment):
            if word.endswith(".c"):
                source = word
            elif source:
                named.append((source, word[:-2]))
    assert len(named) > 20
    for source, name in named:
        text = open(os.path.join(ROOT, source)).read()
        assert re.search(r"^%s\(" % name, text, re.M), (source, name)
