"""Bugs to plant in the functions of PostgreSQL's hot verbs."""

from __future__ import annotations

from typing import Final

from tests.sabotage.texts import change

HOT: Final = "tests/engine/test_postgres_hot.py::"
BESIDE: Final = "tests/engine/test_postgres_beside.py::"
POOLER: Final = "tests/engine/test_postgres_pooler.py::"
WAKING: Final = "tests/engine/test_postgres_waking.py::"
CONTRACT: Final = "tests/contract/test_postgres.py::TestPostgres::"
#: The shared statements, without the functions.
ALONE: Final = "tests/contract/test_postgres.py::TestPostgresAlone::"


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
_OF_BOTH: Final = {
    "remove_the_fence": "test_a_stale_receipt_can_do_nothing",
    "forget_the_record": "test_a_later_message_under_the_key_is_a_duplicate",
    "reverse_the_lease": "test_a_leased_message_is_not_received_again",
    "wake_nobody": "test_deferred_messages_are_ready_once_the_key_is_settled",
    "refuse_late_completions": "test_a_completion_after_the_expiry_wins",
}
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
    # Rules of the shared statements that the functions have too: the functions replace those.
    *((bug, CONTRACT + test) for bug, test in _OF_BOTH.items()),
    *((bug, ALONE + _OF_BOTH[bug]) for bug in ("remove_the_fence", "forget_the_record")),
]
