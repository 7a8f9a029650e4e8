"""Bugs to plant where dead letters go to any queue."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import queues, regrouping, settling
from durableq.engines.sql.leaving import Left
from tests.sabotage.texts import rewrite


def leave_dead_letters_where_they_went_before() -> None:
    """A change of the dead-letter queue has no effect."""
    rewrite("POINT", "SET dead_letter_queue_id=:to_queue", "SET name=name")


def keep_the_source_of_a_deleted_queue() -> None:
    """A queue that gets the id of a deleted one gets its dead letters too."""
    rewrite("FORGET_SOURCE", "durableq_message.source_queue_id =", "0 * id =")


def bury_at_the_front_of_a_group() -> None:
    """A dead letter does not take the last place of its group in its new queue."""
    module: Any = settling
    entrance = module._entrance

    def ready(*given: Any) -> Any:
        return entrance(*given) | {"to_state": 0}

    module._entrance = ready


def hold_a_group_for_ever() -> None:
    """A dead letter that leaves a queue with groups leaves that group alone."""
    stored: Any = Left
    steps = stored.steps

    def own(self: Any, *, is_buried: bool) -> Any:
        found = [*steps(self, is_buried=is_buried)]
        return found[-1:]

    stored.steps = own


def let_a_purge_hold_groups() -> None:
    module: Any = regrouping
    module.held_by = lambda *_: []


def let_new_messages_replace_dead_letters() -> None:
    rewrite("WAITING", "durableq_message.source_queue_id IS NULL", "true")


def count_the_age_of_no_dead_letter() -> None:
    """Retention begins again with each death."""
    module: Any = settling
    module.KEEPS_AGE = 0


def delete_the_dead_letter_queue_of_others() -> None:
    """They point at nothing from then on."""
    module: Any = queues
    point = module._point

    def once(tx: Any, name: str, wanted: str | None) -> Any:
        row = tx.queue(name)
        return row if wanted is None and row.dead_letter_queue_id else point(tx, name, wanted)

    module._point = once


BUGS = (
    leave_dead_letters_where_they_went_before,
    keep_the_source_of_a_deleted_queue,
    bury_at_the_front_of_a_group,
    hold_a_group_for_ever,
    let_a_purge_hold_groups,
    let_new_messages_replace_dead_letters,
    count_the_age_of_no_dead_letter,
    delete_the_dead_letter_queue_of_others,
)
_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
_GOES_ON = _CONTRACT + "test_a_group_that_waits_for_a_dead_letter_goes_on_when_it_has_left"
SEEN_BY = (
    (
        "leave_dead_letters_where_they_went_before",
        _CONTRACT + "test_a_change_is_for_later_dead_letters",
    ),
    (
        "keep_the_source_of_a_deleted_queue",
        _CONTRACT + "test_a_deleted_queue_takes_only_its_private_dead_letter_queue_with_it",
    ),
    (
        "bury_at_the_front_of_a_group",
        _CONTRACT + "test_groups_of_dead_letters_keep_the_order_of_their_deaths",
    ),
    ("hold_a_group_for_ever", f"{_GOES_ON}[complete]"),
    ("let_a_purge_hold_groups", f"{_GOES_ON}[purge]"),
    (
        "let_new_messages_replace_dead_letters",
        _CONTRACT + "test_a_newer_message_replaces_no_dead_letter",
    ),
    (
        "count_the_age_of_no_dead_letter",
        _CONTRACT + "test_a_queue_that_buries_at_a_receive_keeps_the_age_of_messages_without_order"
        "[changes0-False]",
    ),
    (
        "delete_the_dead_letter_queue_of_others",
        _CONTRACT
        + "test_a_queue_that_others_name_is_deleted_by_force_and_they_have_their_own_again",
    ),
)
