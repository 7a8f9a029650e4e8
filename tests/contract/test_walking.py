"""How walks are taken."""

from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.contract import walking


class Drawing(RuleBasedStateMachine):
    """Notes what it draws."""

    drawn: ClassVar[list[int]] = []

    @rule(number=st.integers())
    def draw(self, number: int) -> None:
        self.drawn.append(number)


def drawn_in(part: int) -> list[int]:
    Drawing.drawn.clear()
    walking.take_walks(Drawing, settings(max_examples=5, database=None), part=part)
    return Drawing.drawn[:]


def test_in_ci_the_walks_of_a_part_are_the_same_in_each_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walking, "DRAWS_THE_SAME", True)
    assert drawn_in(0) == drawn_in(0) != drawn_in(1)
