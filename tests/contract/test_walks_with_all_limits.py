"""Engines walk side by side, with limits of senders, of receivers and of groups at once."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from durableq.model.message import Failure, Reason
from tests.contract.strategies import booleans, queues
from tests.contract.test_random_walks import WALKS
from tests.contract.test_walks_of_sends import SendersToGroups
from tests.contract.test_walks_with_limits import WithLimits
from tests.contract.walking import take_walks

BREAKER = {"breaker_minimum": 2, "breaker_window_ms": 5_000, "breaker_open_ms": 300}
DOWN = Failure(Reason.UNAVAILABLE, "Unavailable", "down")


class AllLimits(SendersToGroups, WithLimits):
    """The walk: each limit meets the transitions of the others."""

    @rule(queue=queues, is_on=booleans, slow_start_ms=st.sampled_from([0, 2_000]))
    def guard(self, queue: str, *, is_on: bool, slow_start_ms: int) -> None:
        changes = BREAKER | {"breaker": int(is_on), "slow_start_ms": slow_start_ms}
        self.both(lambda engine, _: engine.store.declare_queue(queue, changes))

    @rule(queue=queues, rate=st.sampled_from([0, 1, 2.5, 50]), burst=st.sampled_from([0, 1, 2]))
    def limit_the_rate_of_groups(self, queue: str, rate: float, burst: int) -> None:
        """It is refused by both while the queue has no groups."""
        changes = {"group_rate": rate, "group_burst": burst if rate else 0}
        self.both(lambda engine, _: engine.store.declare_queue(queue, changes), "change")

    @precondition(lambda self: self.leases)
    @rule(chosen=st.lists(st.integers(0, 30), min_size=1, max_size=3))
    def find_the_service_down(self, chosen: list[int]) -> None:
        self.fail(chosen, DOWN)


def test_two_engines_with_all_limits_agree() -> None:
    before = AllLimits.compared
    take_walks(AllLimits, WALKS)
    assert AllLimits.compared - before >= WALKS.max_examples
