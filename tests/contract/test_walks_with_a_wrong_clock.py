"""Two engines walk side by side, and the wall clock of one jumps: only its dates may differ.

So nothing expires, comes due or is forgotten that would not have been with a right clock.
"""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from durableq.testing import FakeClock
from tests.contract.engines import WrongClock
from tests.contract.test_random_walks import WALKS, YEAR_SECONDS, SideBySide
from tests.contract.walking import take_walks


class RightAndWrong(SideBySide):
    """The walk."""

    def clocks(self) -> list[FakeClock | WrongClock]:
        self.wrong = WrongClock(self.clock)
        return [self.clock, self.wrong]

    @rule(seconds=st.sampled_from([90, -90, 86_400, YEAR_SECONDS, -21 * 86_400]))
    def set_the_wall_clock(self, seconds: int) -> None:
        self.wrong.ahead_ms += seconds * 1_000

    @rule()
    def correct_the_wall_clock(self) -> None:
        self.wrong.ahead_ms = 0


@pytest.mark.parametrize("part", range(2))
def test_engines_of_which_one_has_a_wrong_clock_agree(part: int) -> None:
    before = RightAndWrong.compared
    take_walks(RightAndWrong, WALKS, part=part)
    assert RightAndWrong.compared - before >= WALKS.max_examples
