"""Two engines walk side by side, with limits that are switched on, changed and off.

The model counts messages in flight each time. So does the other one where few may be; where it
keeps a counter (test_sqlite_counters), the information about a queue shows it, so each step
compares it.
"""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.contract.engines import EVERY_QUEUE
from tests.contract.test_random_walks import WALKS, SideBySide
from tests.contract.walking import take_walks

OFF = {"rate": 0, "burst": 0, "max_in_flight": 0, "retry_share": 0}
LIMITS = st.fixed_dictionaries(
    {
        "rate": st.sampled_from([0, 1, 2.5, 300]),
        "max_in_flight": st.sampled_from([0, 1, 2, 4]),
        "retry_share": st.sampled_from([0, 0.25, 0.5, 1]),
    }
)


class WithLimits(SideBySide):
    """The walk."""

    @rule(queue=st.sampled_from(["orders", *EVERY_QUEUE]), limits=LIMITS, burst=st.integers(1, 4))
    def limit(self, queue: str, limits: dict[str, float], burst: int) -> None:
        changes = OFF | limits | ({"burst": burst} if limits["rate"] else {})
        self.both(lambda engine, _: engine.store.declare_queue(queue, changes), "due")

    @rule(milliseconds=st.sampled_from([1, 3, 50]))
    def wait_shortly(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds / 1_000)


def walk(part: int) -> int:
    """Take a part of the walks, and return the number of comparisons."""
    before = WithLimits.compared
    take_walks(WithLimits, WALKS, part=part)
    return WithLimits.compared - before


@pytest.mark.parametrize("part", range(2))
def test_two_engines_with_limits_agree(part: int) -> None:
    assert walk(part) >= WALKS.max_examples
