"""Bugs to plant in the rules of rates, and in producers."""

from __future__ import annotations

from typing import Any

from durableq.cli import produce
from durableq.client import producer
from durableq.engines.sql import redrive
from durableq.model.flow import rate
from tests.sabotage.texts import rewrite

_MS_NS = 1_000_000


def charge_from_the_start_of_a_millisecond() -> None:
    """A grant at the end of a millisecond is paid for from its start."""
    module: Any = rate
    module.charge = lambda tat_ns, now_ms, interval_ns, number: (
        max(tat_ns, now_ms * _MS_NS) + number * interval_ns
    )


def round_intervals_down() -> None:
    module: Any = rate
    module.interval_ns = lambda per_second: int(1_000_000_000 / per_second)


def forget_the_time_of_a_redrive() -> None:
    """Each step of a redrive task begins with a whole burst."""
    rewrite("UPDATE_REDRIVE", "tat_ns=:new_tat_ns", "tat_ns=:new_tat_ns * 0")


def limit_each_process_by_itself() -> None:
    """Each process that continues a redrive task has the whole rate."""
    module: Any = redrive
    own_ns = 0

    def charge(tat_ns: int, now_ms: int, interval_ns: int, number: int) -> int:
        nonlocal own_ns
        own_ns = rate.charge(own_ns, now_ms, interval_ns, number)
        return tat_ns

    module.charge = charge
    module.available = lambda _, *now: rate.available(own_ns, *now)


def send_without_a_pause() -> None:
    module: Any = producer.Producer
    module._wait_for_turn = lambda self: None


def fail_a_batch_for_one_of_its_messages() -> None:
    """A refusal of the store is an error of the whole batch."""
    module: Any = producer
    module.InvalidInput = type("Another", (Exception,), {})


def read_a_line_without_the_clock() -> None:
    """Its time is first looked at with its batch."""
    module: Any = produce
    module._check_time = lambda *_: None


BUGS = (
    fail_a_batch_for_one_of_its_messages,
    read_a_line_without_the_clock,
    send_without_a_pause,
    charge_from_the_start_of_a_millisecond,
    round_intervals_down,
    forget_the_time_of_a_redrive,
    limit_each_process_by_itself,
)
_RATE = "tests/unit/test_rate.py::"
SEEN_BY = (
    (
        "fail_a_batch_for_one_of_its_messages",
        "tests/unit/test_producer.py::"
        "test_a_message_that_the_store_refuses_does_not_fail_its_batch[memory://]",
    ),
    (
        "read_a_line_without_the_clock",
        "tests/cli/test_produce_times.py::"
        "test_a_line_with_a_time_that_is_refused_is_skipped_alone[500-options0-at most 366 days]",
    ),
    (
        "send_without_a_pause",
        "tests/unit/test_producer.py::test_a_rate_spaces_messages_evenly_and_does_not_catch_up",
    ),
    (
        "charge_from_the_start_of_a_millisecond",
        _RATE + "test_no_window_has_an_excess_at_rates_near_the_clocks_tick",
    ),
    ("round_intervals_down", _RATE + "test_an_interval_is_never_shorter_than_the_rate_allows"),
    (
        "forget_the_time_of_a_redrive",
        "tests/contract/test_sqlite.py::TestSQLite::"
        "test_no_window_has_more_than_burst_and_rate_allow[100]",
    ),
    (
        "limit_each_process_by_itself",
        "tests/process/test_redrive_rate.py::"
        "test_no_window_is_above_the_rate_and_each_dead_letter_is_sent_back_once[after]",
    ),
)
