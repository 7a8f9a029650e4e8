"""Bugs to plant in the limits of a queue: each lets through what its limit holds back."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import regrouping
from durableq.model.flow import rate, slow_start
from durableq.model.flow.breaker import Breaker
from durableq.model.flow.capacity import FlowState
from durableq.model.flow.groups import Group
from tests.sabotage.texts import rewrite


def charge_no_token() -> None:
    module: Any = rate
    module.charge = lambda tat_ns, *_: tat_ns


def see_a_place_for_each() -> None:
    state: Any = FlowState
    state.places = lambda self, now_ms: self.in_flight + 1_000
    rewrite("RECEIVE_FEW", "durableq_queue.max_in_flight -", "1000 +")


def let_all_of_a_group_be_active() -> None:
    group: Any = Group
    group.room = lambda *_: 1


def lower_a_limit_of_groups_for_later_messages_only() -> None:
    module: Any = regrouping
    module._lower = lambda *_: None


def let_messages_through_an_open_breaker() -> None:
    breaker: Any = Breaker
    breaker.places = lambda *_: None


def start_with_all_of_the_capacity() -> None:
    """All that waited through an outage meets a service that has just come back."""
    module: Any = slow_start
    module.part = lambda *_: 1.0


def forget_when_the_breaker_closed() -> None:
    rewrite("FLOW_OF_BREAKER", "THEN durableq_flow.breaker_since_ms", "THEN 0")


def start_with_the_whole_burst() -> None:
    """The rate grows slowly, but each receive may take a burst of the whole rate."""
    state: Any = FlowState
    pace = state.pace
    state.pace = lambda self, now_ms: (pace(self, now_ms)[0], self.burst)


def start_with_all_places() -> None:
    state: Any = FlowState
    state.places = lambda self, _: self.max_in_flight


BUGS = (
    charge_no_token,
    see_a_place_for_each,
    let_all_of_a_group_be_active,
    lower_a_limit_of_groups_for_later_messages_only,
    let_messages_through_an_open_breaker,
    start_with_all_of_the_capacity,
    forget_when_the_breaker_closed,
    start_with_the_whole_burst,
    start_with_all_places,
)
_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
_KILLED = "tests/process/test_killed_holders.py::"
_SLOW = "tests/unit/test_slow_start.py::"
_GROWS = "test_the_rate_grows_after_a_breaker_has_closed"
#: `durableq chaos` sees them too: tests/chaos/test_run.py.
SEEN_BY = (
    ("charge_no_token", _CONTRACT + "test_a_burst_and_then_the_rate"),
    ("see_a_place_for_each", _CONTRACT + "test_no_more_than_this_are_in_flight"),
    (
        "let_all_of_a_group_be_active",
        _CONTRACT + "test_one_message_of_a_group_is_active_at_a_time",
    ),
    (
        "lower_a_limit_of_groups_for_later_messages_only",
        _CONTRACT + "test_a_lowered_limit_blocks_the_messages_that_are_too_many",
    ),
    (
        "charge_no_token",
        _KILLED + "test_the_last_token_of_a_killed_process_is_spent_and_others_follow",
    ),
    (
        "see_a_place_for_each",
        _KILLED + "test_the_last_place_of_a_killed_process_returns_with_its_lease",
    ),
    (
        "let_all_of_a_group_be_active",
        _KILLED
        + "test_the_head_of_a_group_of_a_killed_process_is_received_again_before_the_others",
    ),
    (
        "let_messages_through_an_open_breaker",
        _CONTRACT + "test_while_it_is_open_nothing_is_received_and_the_answer_names_the_wait",
    ),
    ("start_with_all_of_the_capacity", _CONTRACT + _GROWS),
    ("forget_when_the_breaker_closed", _CONTRACT + _GROWS),
    (
        "start_with_all_of_the_capacity",
        "tests/process/test_limits.py::test_after_an_outage_processes_start_slowly_together",
    ),
    ("start_with_the_whole_burst", _CONTRACT + _GROWS),
    ("start_with_all_places", _SLOW + "test_the_places_in_flight_grow[0-5]"),
)
