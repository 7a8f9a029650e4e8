"""Bugs to plant in the functions of PostgreSQL's hot verbs."""

from __future__ import annotations

from typing import Any, Final

from durableq.engines.postgres import database, hot, working
from durableq.engines.postgres.looks import FROM_THE_START, Look, Looks
from durableq.model.drafts import DraftFlow
from tests.sabotage.texts import change

HOT: Final = "tests/engine/test_postgres_hot.py::"
BESIDE: Final = "tests/engine/test_postgres_beside.py::"
LOOKS: Final = "tests/engine/test_postgres_looks.py::"
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


def lease_what_another_is_leasing() -> None:
    """No row is locked, and its state is not looked at again."""
    change(" FOR UPDATE OF m SKIP LOCKED", "")
    change("WHERE m.id = ANY (ids) AND m.state + 0 = 0", "WHERE m.id = ANY (ids)")


def give_maintenance_no_turn() -> None:
    """It takes the lock only where no hot verb holds it just then."""
    cls: Any = database.Database
    look_at = cls._look_at

    def look_and_change(self: Any, link: Any) -> None:
        look_at(self, link)
        self.begin_in_turn = self.begin_in_turn.replace(
            f"pg_advisory_xact_lock({self.key})",
            f"1 / pg_try_advisory_xact_lock({self.key})::int",
        )

    cls._look_at = look_and_change


def fold_only_in_maintenance() -> None:
    module: Any = hot
    module.fold_in_turn = lambda *_: None


def never_look_from_the_start_again() -> None:
    cls: Any = Looks
    cls.next = lambda self, queue: self._known.get(queue, (FROM_THE_START,))[0]


def look_from_the_start_always() -> None:
    cls: Any = Looks
    cls.note = lambda *_: None


def begin_a_look_behind_what_is_ready() -> None:
    change("first_id := ids[1];", "first_id := ids[1] + 3;")


def take_what_is_due_later_for_seen() -> None:
    module: Any = working
    module.Look = lambda rank, message_id, due_ms, ended_ms: Look(
        rank, message_id, due_ms + 60_000, ended_ms + 60_000
    )


def plan_for_small_tables_behind_a_pooler() -> None:
    change("IF current_setting('durableq.planning', true)", "IF 'on'")


def deliver_what_was_received_before() -> None:
    """A message that has had all its receives gets another one."""
    change("AND (q.limits = 0 OR m.receive_count = 0) AND (", "AND (")


def send_an_envelope_without_its_options() -> None:
    """The group of a message that has an envelope too is lost."""
    module: Any = hot
    envelopes = module._envelopes

    def alone(drafts: Any) -> Any:
        flows = [one.flow and DraftFlow(envelope=one.flow.envelope) for one in drafts]
        return envelopes([one._replace(flow=flow) for one, flow in zip(drafts, flows, strict=True)])

    module._envelopes = alone


def store_no_system_attributes() -> None:
    change("d.attributes, d.system, d.body", "d.attributes, NULL, d.body")


def see_no_listeners() -> None:
    change("ELSE true END;", "ELSE false END;")


BUGS: Final = (
    take_no_lock_in_hot_verbs,
    wait_for_messages_that_others_take,
    take_keys_in_any_order,
    count_sends_in_place,
    see_no_listeners,
    plan_for_small_tables_behind_a_pooler,
    lease_what_another_is_leasing,
    give_maintenance_no_turn,
    fold_only_in_maintenance,
    never_look_from_the_start_again,
    look_from_the_start_always,
    begin_a_look_behind_what_is_ready,
    take_what_is_due_later_for_seen,
    deliver_what_was_received_before,
    send_an_envelope_without_its_options,
    store_no_system_attributes,
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
    (
        "lease_what_another_is_leasing",
        BESIDE + "test_receivers_share_the_messages_of_senders[apart]",
    ),
    (
        "give_maintenance_no_turn",
        HOT + "test_maintenance_gets_its_turn_among_hot_verbs_that_always_hold_the_lock",
    ),
    ("fold_only_in_maintenance", HOT + "test_without_maintenance_sends_fold_their_counts"),
    (
        "never_look_from_the_start_again",
        LOOKS + "test_a_message_behind_the_place_comes_at_the_next_look_from_the_start",
    ),
    (
        "look_from_the_start_always",
        LOOKS + "test_a_look_from_the_place_passes_over_messages_that_are_gone",
    ),
    (
        "begin_a_look_behind_what_is_ready",
        LOOKS + "test_a_message_behind_the_place_comes_at_the_next_look_from_the_start",
    ),
    (
        "take_what_is_due_later_for_seen",
        LOOKS + "test_a_message_that_becomes_due_behind_the_place_is_seen_at_once",
    ),
    ("deliver_what_was_received_before", HOT + "test_verbs_of_the_endpoint_are_one_call_each"),
    (
        "send_an_envelope_without_its_options",
        CONTRACT + "test_system_attributes_and_a_group_without_order_come_back",
    ),
    ("store_no_system_attributes", HOT + "test_a_hot_send_and_a_shared_one_store_the_same"),
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
