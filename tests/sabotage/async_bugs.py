"""Bugs to plant in the calls of coroutines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durableq.client import committing, coroutines
from durableq.model.errors import InvalidInput


def share_an_error_with_the_neighbours() -> None:
    """A part of a group that is refused as one is not run again, each by itself."""
    module: Any = committing
    commit = module._commit

    def once(store: Any, group: Sequence[Any], *, merges: bool) -> None:
        if merges:
            commit(store, group, merges=True)
            return
        for each in group:
            each.give(InvalidInput("A neighbour was refused."))

    module._commit = once


def send_after_a_cancellation() -> None:
    """An operation whose coroutine was cancelled stays in the queue."""
    cls: Any = committing.Committer
    cls.withdraw = lambda _self, operation: operation.is_done


def close_without_the_sends() -> None:
    """Closing drops the operations that were accepted, and wait."""
    cls: Any = committing.Committer
    close = cls.close

    def drop(self: Any) -> None:
        self._waiting.clear()
        close(self)

    cls.close = drop


def close_during_a_transaction() -> None:
    """Closing does not wait for the thread of a transaction whose coroutine was cancelled."""
    module: Any = coroutines
    module.note = lambda _store, _future: None


def inherit_the_operations_of_the_parent() -> None:
    """A forked child waits for a thread that it does not have."""
    module: Any = committing
    module._committers.clear = lambda: None


def keep_the_lease_of_a_cancelled_receive() -> None:
    """Messages that were received for a coroutine that is gone stay leased."""
    module: Any = committing
    module._release = lambda _operation: None


def answer_a_cancelled_receive_all_the_same() -> None:
    """A coroutine that is cancelled as its answer comes does not look for it."""
    cls: Any = committing.Committer
    withdraw = cls.withdraw

    def forget(self: Any, operation: Any) -> bool:
        withdraw(self, operation)
        return False

    cls.withdraw = forget


def deal_out_a_receive_from_its_beginning() -> None:
    """Receives that are one get the same messages."""
    module: Any = committing
    share = module._share

    def again(part: Sequence[Any], answer: Any) -> None:
        for each in part:
            share([each], answer)

    module._share = again


BUGS = (
    deal_out_a_receive_from_its_beginning,
    keep_the_lease_of_a_cancelled_receive,
    answer_a_cancelled_receive_all_the_same,
    share_an_error_with_the_neighbours,
    send_after_a_cancellation,
    close_without_the_sends,
    close_during_a_transaction,
    inherit_the_operations_of_the_parent,
)
_SENDS = "tests/engine/test_async_sends.py::"
_CLOSING = "tests/engine/test_async_closing.py::"
_RECEIVES = "tests/engine/test_async_receives.py::"
SEEN_BY = [
    (
        "deal_out_a_receive_from_its_beginning",
        "tests/engine/test_async_groups.py::"
        "test_neighbouring_receives_are_one_and_each_gets_its_share[sqlite]",
    ),
    (
        "keep_the_lease_of_a_cancelled_receive",
        _RECEIVES
        + "test_messages_received_for_a_cancelled_coroutine_are_released_uncounted[sqlite]",
    ),
    (
        "answer_a_cancelled_receive_all_the_same",
        _RECEIVES + "test_messages_whose_coroutine_is_cancelled_as_they_come_are_released[sqlite]",
    ),
    (
        "share_an_error_with_the_neighbours",
        _SENDS + "test_an_error_reaches_the_caller_whose_send_it_was[sqlite]",
    ),
    (
        "send_after_a_cancellation",
        _SENDS + "test_a_cancelled_send_is_not_sent_unless_its_commit_had_begun[sqlite]",
    ),
    (
        "close_without_the_sends",
        _CLOSING + "test_closing_loses_no_send_that_was_accepted[sqlite]",
    ),
    (
        "close_during_a_transaction",
        _CLOSING + "test_closing_waits_for_a_transaction_whose_coroutine_was_cancelled[sqlite]",
    ),
    (
        "inherit_the_operations_of_the_parent",
        _CLOSING + "test_a_forked_child_sends_although_its_parent_waits",
    ),
]
