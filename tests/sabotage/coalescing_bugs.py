"""Bugs to plant in deduplication and coalescing."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import coalescing
from durableq.model.flow import sending
from tests.sabotage.texts import rewrite

_EXPIRES = "durableq_deduplication.expires_at_ms > :now_ms"


def deduplicate_while_the_first_is_there() -> None:
    """An id is forgotten with its message, not with its window."""
    there = "SELECT id FROM durableq_message WHERE id = durableq_deduplication.message_id"
    rewrite("SENT_BEFORE", _EXPIRES, f"{_EXPIRES} AND EXISTS ({there})")


def deduplicate_for_ever() -> None:
    rewrite("SENT_BEFORE", _EXPIRES, ":now_ms > 0")


def replace_messages_in_flight() -> None:
    rewrite("WAITING", "durableq_message.state != 1", "true")
    rewrite("END_REPLACED", "durableq_message.state != 1", "true")


def replace_uncounted() -> None:
    module: Any = coalescing
    carry_out = module.carry_out

    def uncounted(tx: Any, queue_id: int, made: Any) -> None:
        carry_out(tx, queue_id, made)
        tx.counts.pop((queue_id, tx.sql.REPLACED), None)

    module.carry_out = uncounted


def debounce_for_ever() -> None:
    """Each newer message begins its `max_wait` again."""
    module: Any = sending
    debounce = module._debounce
    module._debounce = lambda made, one, _, now_ms: debounce(made, one, (), now_ms)


BUGS = (
    debounce_for_ever,
    deduplicate_while_the_first_is_there,
    deduplicate_for_ever,
    replace_messages_in_flight,
    replace_uncounted,
)
_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
SEEN_BY = (
    ("debounce_for_ever", _CONTRACT + "test_a_debounce_ends_after_max_wait_from_the_first"),
    (
        "deduplicate_while_the_first_is_there",
        _CONTRACT + "test_the_first_is_known_after_it_has_ended",
    ),
    ("deduplicate_for_ever", _CONTRACT + "test_an_id_is_free_again_after_its_window"),
    (
        "replace_messages_in_flight",
        _CONTRACT + "test_a_message_in_flight_is_left_alone_and_the_new_one_waits",
    ),
    ("replace_uncounted", _CONTRACT + "test_a_newer_message_replaces_the_one_that_waits"),
)
