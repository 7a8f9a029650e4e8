"""Bugs to plant in the count of receives, and in the burial of messages that had too many."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import admission, releasing, settling
from durableq.engines.sql.transactions import StoredQueue
from tests.sabotage.texts import rewrite


def let_no_receive_mean_every_receive() -> None:
    """`max_receives` is off, and each message has had too many."""
    module: Any = settling
    decide = module.after_failure

    def at_once(failure: Any, count: int, row: Any, *rest: Any, **named: Any) -> Any:
        return decide(
            failure, count, row._replace(max_receives=row.max_receives or 1), *rest, **named
        )

    module.after_failure = at_once


def call_an_ended_lease_a_failure() -> None:
    """Also in a queue that buries at a receive."""
    stored: Any = StoredQueue
    stored.buries_at_receive = False


def deliver_once_more() -> None:
    """A receive delivers a message that has had all its receives."""
    module: Any = admission
    module._is_exhausted = lambda *_: False


def return_without_counting() -> None:
    """An extension by 0 is a release."""
    module: Any = releasing
    put_back = module.put_back
    module.put_back = lambda *given, uncounted=1: put_back(*given, uncounted=uncounted)


def return_for_ever() -> None:
    """A message that each handler returns is never dead."""
    module: Any = releasing
    module.is_exhausted = lambda *_: False


def count_ended_leases_as_in_flight() -> None:
    """Until a receive has taken them back."""
    rewrite("APPROXIMATE", "durableq_message.lease_until_ms >", "durableq_message.id > 0 *")


BUGS = (
    count_ended_leases_as_in_flight,
    let_no_receive_mean_every_receive,
    call_an_ended_lease_a_failure,
    deliver_once_more,
    return_without_counting,
    return_for_ever,
)
_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
SEEN_BY = (
    (
        "count_ended_leases_as_in_flight",
        _CONTRACT + "test_approximate_counts_are_those_of_this_moment",
    ),
    (
        "let_no_receive_mean_every_receive",
        _CONTRACT + "test_without_max_receives_no_failure_and_no_ended_lease_is_the_last",
    ),
    (
        "call_an_ended_lease_a_failure",
        _CONTRACT + "test_an_ended_lease_counts_and_leaves_no_wait_and_no_event",
    ),
    ("deliver_once_more", _CONTRACT + "test_a_receive_that_is_one_too_many_buries"),
    (
        "return_without_counting",
        _CONTRACT + "test_an_extension_by_0_returns_the_message_counted",
    ),
    ("return_for_ever", _CONTRACT + "test_an_extension_by_0_after_the_last_receive_buries"),
)
