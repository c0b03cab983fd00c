# SPDX-License-Identifier: BSD-2-Clause
"""Edges that come and go leave nothing behind in the master; integration/flat
looks at more of them, and at publishes."""
import pytest

from conftest import VARIANT, until
from flatness import Level, Visitor
from soak_watch import descriptors

VISITS = 500
# In the second half: ZeroMQ's publishers are known to keep 11 KB for each that
# they do not notice, which were 2.7 MB.  Sanitizers keep books of their own.
EACH, FLOOR = 2048, {"asan": 24, "tsan": 48}.get(VARIANT, 1) << 20


@pytest.mark.parametrize("kind", ["announce", "lease"])
def test_visits_leave_nothing_behind(shared, kind):
    visitor = Visitor(shared, "visitor-" + kind)
    pid = shared.pid("master")
    before = descriptors(pid)
    level = Level(shared, ["master"])
    visitor.visit(kind, VISITS, level)
    assert level.counts[-1] == VISITS
    assert not list(level.growing(EACH, FLOOR))
    until(lambda: descriptors(pid) <= before + 2)
