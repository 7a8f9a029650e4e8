"""Bugs to plant in the functions of PostgreSQL's hot verbs."""

from __future__ import annotations

from typing import Final

from durableq.engines.postgres import functions

HOT: Final = "tests/engine/test_postgres_hot.py::"
BESIDE: Final = "tests/engine/test_postgres_beside.py::"
POOLER: Final = "tests/engine/test_postgres_pooler.py::"
WAKING: Final = "tests/engine/test_postgres_waking.py::"


def change(before: str, after: str) -> None:
    """Replace a part of the functions that have it."""
    changed = {
        name: text.replace(before, after)
        for name, text in functions.FUNCTIONS.items()
        if before in text
    }
    if not changed:
        raise LookupError(f"No function has {before!r}.")
    functions.FUNCTIONS.update(changed)


def take_no_lock_in_hot_verbs() -> None:
    change("IF NOT pg_try_advisory_xact_lock_shared(@lock@) THEN", "IF false THEN")


def wait_for_messages_that_others_take() -> None:
    change(" SKIP LOCKED", "")


def take_keys_in_any_order() -> None:
    change(' ORDER BY u.key COLLATE "C", u.n\n', "\n")


def count_sends_in_place() -> None:
    """Each send of a queue waits until the one before has committed."""
    change(
        "INSERT INTO durableq_counter_delta SELECT t.id, cardinality(p_bodies), 0 FROM target AS t",
        "UPDATE durableq_counters AS c SET sent = c.sent + cardinality(p_bodies) "
        "FROM target AS t WHERE c.queue_id = t.id",
    )


def plan_for_small_tables_behind_a_pooler() -> None:
    change("IF current_setting('durableq.planning', true)", "IF 'on'")


def see_no_listeners() -> None:
    change("ELSE true END;", "ELSE false END;")


BUGS: Final = (
    take_no_lock_in_hot_verbs,
    wait_for_messages_that_others_take,
    take_keys_in_any_order,
    count_sends_in_place,
    see_no_listeners,
    plan_for_small_tables_behind_a_pooler,
)
SEEN_BY: Final = [
    (
        "take_no_lock_in_hot_verbs",
        HOT + "test_hot_verbs_wait_for_an_operation_that_runs_alone",
    ),
    (
        "wait_for_messages_that_others_take",
        BESIDE + "test_a_receive_passes_over_messages_that_another_is_taking",
    ),
    ("take_keys_in_any_order", BESIDE + "test_keys_are_taken_in_their_order"),
    ("count_sends_in_place", HOT + "test_hot_verbs_run_beside_each_other"),
    (
        "plan_for_small_tables_behind_a_pooler",
        POOLER + "test_a_hot_verb_plans_as_it_does_in_a_session_of_ours[does not]",
    ),
    ("see_no_listeners", WAKING + "test_a_send_notifies_only_while_a_process_waits"),
]
