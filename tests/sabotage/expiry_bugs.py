"""Bugs to plant in the expiry of messages, the aging of priorities, and the receive window."""

from __future__ import annotations

from typing import Any

from durableq.client import gathering
from durableq.engines.sql import settling
from durableq.model import message
from durableq.model.flow import rank
from durableq.model.message import FOREVER_MS
from tests.sabotage.texts import change, rewrite


def deliver_expired_messages() -> None:
    rewrite("READY", "durableq_message.expires_at_ms > :now_ms", ":now_ms > 0")


def refuse_late_completions() -> None:
    """A completion after the expiry is refused, although its handler has done the work."""
    rewrite(
        "COMPLETE",
        "durableq_message.receipt = :token",
        f"durableq_message.receipt = :token AND durableq_message.expires_at_ms = {FOREVER_MS}",
    )
    settled = "m.state + 0 = 1\n            RETURNING m.id, m.key"
    change(settled, f"m.expires_at_ms = {FOREVER_MS} AND {settled}")


def retry_expired_messages() -> None:
    """A failed message waits for another receive, beyond its expiry."""
    module: Any = settling
    decide = module.after_failure

    def without_expiry(*failure: Any, expires_in_ms: int, **rest: Any) -> Any:
        return decide(*failure, **rest)

    module.after_failure = without_expiry


def forget_the_expiry_with_the_lease() -> None:
    """A message that a process has held comes back as one that does not expire."""
    retry_expired_messages()
    rewrite("PUT_BACK", "SET ", f"SET expires_at_ms = {FOREVER_MS}, ")


def leave_expired_messages_to_receives() -> None:
    """Maintenance does not look for expired messages."""
    rewrite("EXPIRED_MESSAGES", "durableq_message.expires_at_ms <= :now_ms", ":now_ms < 0")


def expire_messages_in_flight() -> None:
    rewrite("EXPIRED_MESSAGES", "durableq_message.state != 1", "true")
    rewrite("END_WAITING", "durableq_message.state != 1", "true")


def keep_the_keys_of_expired_messages() -> None:
    module: Any = settling
    drop_key = module.drop_key
    module.drop_key = lambda tx, row, leased: (
        drop_key(tx, row, leased) if leased.expires_at_ms > tx.now_ms else None
    )


def let_priorities_never_age() -> None:
    module: Any = rank
    module.rank = lambda priority, *_, **__: -priority


def leave_the_last_message_of_a_slice_unranked() -> None:
    rewrite("RANK_WINDOW", "durableq_message.id <= :to", "durableq_message.id < :to")


def begin_the_window_again_with_each_message() -> None:
    """A receive waits from its last look, not from the first message."""
    module: Any = gathering.Gathering
    module.left_ms = lambda self, store, queue: (
        0 if store.count_ready(queue, self.least).number >= self.least else self.window_ms
    )


def lease_while_gathering() -> None:
    """A receiver leases the first messages of a batch, and then waits for the others."""
    module: Any = gathering.Gathering
    look = module.left_ms

    def look_and_lease(self: Any, store: Any, queue: str) -> int | None:
        left_ms: int | None = look(self, store, queue)
        if left_ms:
            store.receive(queue, self.least)
        return left_ms

    module.left_ms = look_and_lease


def lease_what_a_batch_has_left() -> None:
    """A receive that finds the batch taken leases what there is."""
    module: Any = message.Gather
    module.left_ms = lambda *_: 0


BUGS = (
    lease_while_gathering,
    lease_what_a_batch_has_left,
    begin_the_window_again_with_each_message,
    let_priorities_never_age,
    leave_the_last_message_of_a_slice_unranked,
    deliver_expired_messages,
    refuse_late_completions,
    retry_expired_messages,
    forget_the_expiry_with_the_lease,
    leave_expired_messages_to_receives,
    expire_messages_in_flight,
    keep_the_keys_of_expired_messages,
)
_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
_WINDOW = "tests/process/test_receive_window.py::"
_EXPIRY = "tests/process/test_expiry.py::"
SEEN_BY = (
    (
        "lease_while_gathering",
        _WINDOW + "test_a_worker_that_is_killed_while_it_gathers_leaves_its_messages_to_the_next",
    ),
    (
        "lease_while_gathering",
        _WINDOW + "test_messages_that_a_killed_receiver_gathered_are_received_at_once",
    ),
    (
        "forget_the_expiry_with_the_lease",
        _EXPIRY + "test_a_message_whose_holder_is_killed_expires_at_the_end_of_its_lease[drop]",
    ),
    (
        "forget_the_expiry_with_the_lease",
        _EXPIRY + "test_a_message_that_expired_in_a_killed_worker_is_not_retried[dead]",
    ),
    (
        "lease_what_a_batch_has_left",
        _CONTRACT + "test_messages_that_a_batch_leaves_are_gathered_anew",
    ),
    (
        "begin_the_window_again_with_each_message",
        "tests/unit/test_gathering.py::"
        "test_a_window_ends_when_there_are_enough_messages_or_the_first_has_waited",
    ),
    (
        "let_priorities_never_age",
        _CONTRACT + "test_the_lowest_priority_is_out_within_levels_times_aging",
    ),
    (
        "leave_the_last_message_of_a_slice_unranked",
        _CONTRACT + "test_a_long_queue_is_ranked_in_several_slices_and_loses_nothing",
    ),
    (
        "deliver_expired_messages",
        _CONTRACT + "test_no_receive_returns_a_message_that_has_expired[ready]",
    ),
    ("refuse_late_completions", _CONTRACT + "test_a_completion_after_the_expiry_wins"),
    (
        "retry_expired_messages",
        _CONTRACT + "test_no_receive_returns_a_message_that_has_expired[waiting_for_its_retry]",
    ),
    (
        "retry_expired_messages",
        _CONTRACT + "test_a_message_expires_instead_of_another_receive[failed]",
    ),
    (
        "leave_expired_messages_to_receives",
        _CONTRACT + "test_no_message_is_stranded_in_a_paused_queue[drop-maintain-delayed]",
    ),
    (
        "expire_messages_in_flight",
        _CONTRACT + "test_messages_in_flight_are_left_to_their_receivers",
    ),
    (
        "keep_the_keys_of_expired_messages",
        _CONTRACT + "test_an_expired_message_frees_those_behind_its_key[failed]",
    ),
)
