# SPDX-License-Identifier: BSD-2-Clause
"""Edges that come and go leave nothing behind in the master; integration/flat
looks at more of them, and at publishes."""
import pytest

from conftest import SLOW, until
from flatness import Level, Visitor
from soak_watch import descriptors

VISITS = 500
# Bytes for each, and in all, in the second half.  Where nobody reads ZeroMQ's
# publishing socket, it keeps 25 KB for each, 6 MB.
EACH, FLOOR = 2048, 1 << 20


# Sanitizers keep books of their own, and TSan does not see the descriptors that
# libzmq closes: it takes whoever has the number next for a racer.
@pytest.mark.skipif(SLOW > 1, reason="memory and descriptors as they are")
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
