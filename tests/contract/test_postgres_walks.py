"""The memory engine and PostgreSQL walk side by side, as it does with SQLite."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import given, settings

from durableq.model.message import draft
from tests.contract.test_breaker_walk import STEPS, seen
from tests.contract.test_breaker_walk import WALKS as BREAKER_WALKS
from tests.contract.test_breaker_walk import walk as walk_with_breaker
from tests.contract.test_group_walks import GroupsSideBySide
from tests.contract.test_once_walk import OnceSideBySide
from tests.contract.test_random_walks import WALKS, SideBySide
from tests.contract.test_walks_of_sends import Senders
from tests.contract.test_walks_with_a_wrong_clock import RightAndWrong
from tests.contract.test_walks_with_all_limits import AllLimits
from tests.contract.test_walks_with_limits import WithLimits
from tests.contract.walking import take_walks
from tests.postgres import empty

#: A step takes ten times as long as on SQLite.
FEWER = settings(WALKS, max_examples=max(2, WALKS.max_examples // 3))


class OnPostgres:
    """The other engine is PostgreSQL, whose tables are emptied before each walk."""

    url: ClassVar[str]

    def other_url(self) -> str:
        empty(self.url)
        return self.url

    def a_worker_was_noted(self: Any) -> None:
        """Make a write that stores the time: there those of workers wait for no lock, and do not.

        A later step of the wall clock is judged from the time that was stored last: on top of a
        jump it is one, or time itself that goes back.
        """
        self.both(lambda engine, _: engine.store.declare_queue("orders", {}))


class Plain(OnPostgres, SideBySide):
    """The walk without limits."""


class Limits(OnPostgres, WithLimits):
    """The walk with limits of receives."""


class WrongClock(OnPostgres, RightAndWrong):
    """The walk in which the wall clock of one engine jumps."""


class Groups(OnPostgres, GroupsSideBySide):
    """The walk with groups."""


class Sends(OnPostgres, Senders):
    """The walk with limits of senders."""


class All(OnPostgres, AllLimits):
    """The walk with all limits."""


class Once(OnPostgres, OnceSideBySide):
    """The walk of kept values."""


@pytest.mark.parametrize("walk", [Plain, Limits, WrongClock, Groups, Sends, All, Once])
def test_postgresql_and_the_model_that_walk_side_by_side_agree(
    walk: Any, postgres_tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnPostgres, "url", postgres_tables_url, raising=False)
    before = SideBySide.compared + OnceSideBySide.asked
    compared = 0
    for part in range(5):  # few walks may all be short
        take_walks(walk, FEWER, part=part)
        compared = SideBySide.compared + OnceSideBySide.asked - before
        if compared >= FEWER.max_examples:
            break
    assert compared >= FEWER.max_examples


def test_a_step_of_the_clock_behind_a_jump_and_the_registration_of_a_worker(
    postgres_tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnPostgres, "url", postgres_tables_url, raising=False)
    walk = Plain()
    walk.begin([draft(1)])
    walk.set_the_wall_clock(-90)
    walk.come_and_go("bob", None, None)
    walk.set_the_wall_clock(-30)
    walk.both_show_the_same()
    walk.teardown()


def test_postgresql_and_the_model_with_a_breaker_agree(postgres_tables_url: str) -> None:

    @given(STEPS)
    @settings(BREAKER_WALKS, max_examples=max(5, settings().max_examples // 10))
    def run(steps: list[tuple[str, int]]) -> None:
        empty(postgres_tables_url)
        walk_with_breaker(steps, postgres_tables_url)

    seen.clear()
    run()
    assert seen["closed to open"] > 0
