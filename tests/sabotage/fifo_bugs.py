"""Bugs to plant in groups: a message before its turn, and one whose turn never comes."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import endpoint, group_batches, groups, leaving
from durableq.engines.sql.group_rate import GroupTokens
from tests.sabotage.texts import change, rewrite


def give_a_place_to_two() -> None:
    """The place of a message that has completed."""
    rewrite("TAKE_PLACE", "durableq_message.id =", "durableq_message.id >=")
    rewrite("TAKE_PLACE", "WHERE durableq_message.id", "WHERE state = 3 AND durableq_message.id")


def make_no_room_at_a_burial() -> None:
    left: Any = leaving.Left
    steps = left.steps

    def held(self: Any, *, is_buried: bool) -> Any:
        if not is_buried:
            return steps(self, is_buried=False)
        return [] if self.group is None else [(self.queue_id, self.group, groups.Step(0, 1))]

    left.steps = held


def go_on_with_the_last_of_a_group() -> None:
    """A message that is put back, for a retry for example, loses its place."""
    rewrite(
        "MAKE_ACTIVE",
        "ORDER BY durableq_message.sequence, durableq_message.id",
        "ORDER BY durableq_message.sequence DESC",
    )


def keep_the_places_of_a_lowered_limit() -> None:
    """Those that are too many leave no place, and are counted for ever."""
    rewrite("LEAVE_PLACE", "durableq_group.active - 1", "durableq_group.active - 0")


def let_a_group_go_first_for_ever() -> None:
    rewrite("TAKE_PLACE", "durableq_counters.turn", "0 * durableq_counters.turn")


def count_no_batch() -> None:
    """The messages behind the head of a batch are in flight, but not active."""
    rewrite("ADD_ACTIVE", "durableq_group.active +", "durableq_group.active + 0 *")


def follow_past_a_leased_message() -> None:
    """The messages behind a head that has come back overtake one that is in flight."""
    rewrite("FOLLOWING_IN_ORDER", "<= 1 OR", ">= 0 OR")


def come_back_before_a_leased_message() -> None:
    """A message that comes back does not wait for those before it."""
    rewrite("GROUP_IN_FLIGHT", "min(leased.sequence)", "max(leased.sequence) + 1")


def send_back_to_the_front() -> None:
    module: Any = groups
    entrance = module.entrance

    def to_the_front(*given: Any) -> Any:
        found = entrance(*given)
        return found | {"new_sequence": 0} if found["new_sequence"] else found

    module.entrance = to_the_front


def pay_for_no_group() -> None:
    tokens: Any = GroupTokens
    tokens.pay = lambda self: None


def jump_over_a_message_that_waits() -> None:
    """A batch goes on behind a message that is not due."""
    rewrite("FOLLOWING", "durableq_message.delayed_until_ms <=", "0 * durableq_message.priority <=")


def fill_a_batch_with_what_was_not_received() -> None:
    """Messages that come back are tried one by one, as in a batch of one group."""
    made: Any = group_batches.Batches
    of = made.of
    made.of = lambda tx, terms, retention_ms, fills, *_: of(tx, terms, retention_ms, fills, 0, None)


def go_on_behind_a_message_that_had_all_its_receives() -> None:
    module: Any = group_batches
    module._may_be_received = lambda *_: True


def forget_the_kind_of_a_text() -> None:
    """A client gets a text as the JSON string in which it is stored."""
    rewrite("INSERT_ENVELOPE", ":body_format", "0 * :body_format")
    change("coalesce(u.format, 0)", "0")


def count_the_first_receive_each_time() -> None:
    rewrite("LEASE", "CASE WHEN (durableq_message.first_received_at_ms =", "CASE WHEN (0 <")


def take_the_ids_of_another_group() -> None:
    """A deduplication id in the scope of a group is one of the whole queue."""
    rewrite("SENT_BEFORE", "durableq_deduplication.scope = :scope", "0 < length(:scope)")


def repeat_a_receive_whose_lease_was_changed() -> None:
    """One of its messages was extended, or came back and was received again."""
    rewrite("STILL_LEASED", "durableq_message.lease_until_ms = :until", "0 < :until")


def repeat_a_receive_for_ever() -> None:
    rewrite("ATTEMPT", "durableq_receive_attempt.expires_at_ms > :now_ms", "0 < :now_ms")


def keep_the_lease_of_the_first_receive() -> None:
    """The end of a repeated receive's leases is not remembered: it is repeated once."""
    rewrite("RENEW_ATTEMPT", "durableq_receive_attempt.queue_id =", "0 >")


def keep_the_sequence_of_the_send() -> None:
    """A message that comes back to the end of its group has the number of its first place."""
    rewrite("ENVELOPES", "ELSE durableq_message.sequence", "ELSE durableq_message.id")


def list_the_queues_of_all_accounts() -> None:
    module: Any = endpoint
    module.name_at = lambda name, _place: name


BUGS = (
    repeat_a_receive_whose_lease_was_changed,
    repeat_a_receive_for_ever,
    keep_the_lease_of_the_first_receive,
    keep_the_sequence_of_the_send,
    list_the_queues_of_all_accounts,
    take_the_ids_of_another_group,
    fill_a_batch_with_what_was_not_received,
    go_on_behind_a_message_that_had_all_its_receives,
    forget_the_kind_of_a_text,
    count_the_first_receive_each_time,
    give_a_place_to_two,
    make_no_room_at_a_burial,
    go_on_with_the_last_of_a_group,
    keep_the_places_of_a_lowered_limit,
    let_a_group_go_first_for_ever,
    count_no_batch,
    follow_past_a_leased_message,
    come_back_before_a_leased_message,
    send_back_to_the_front,
    pay_for_no_group,
    jump_over_a_message_that_waits,
)
_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
SEEN_BY = (
    (
        "repeat_a_receive_whose_lease_was_changed",
        _CONTRACT + "test_a_receive_of_which_one_message_was_changed_is_not_repeated",
    ),
    ("repeat_a_receive_for_ever", _CONTRACT + "test_a_receive_is_repeated_for_five_minutes"),
    (
        "keep_the_lease_of_the_first_receive",
        _CONTRACT + "test_a_repeated_receive_leases_from_now",
    ),
    (
        "keep_the_sequence_of_the_send",
        _CONTRACT
        + "test_sequences_rise_in_the_order_of_delivery_also_of_a_message_that_comes_back",
    ),
    (
        "list_the_queues_of_all_accounts",
        _CONTRACT + "test_queues_of_an_account_and_region_are_listed_apart",
    ),
    (
        "take_the_ids_of_another_group",
        _CONTRACT + "test_an_id_in_the_scope_of_a_group_is_one_of_that_group",
    ),
    (
        "fill_a_batch_with_what_was_not_received",
        _CONTRACT + "test_messages_that_were_received_before_come_in_order_in_one_batch",
    ),
    (
        "go_on_behind_a_message_that_had_all_its_receives",
        _CONTRACT + "test_a_batch_ends_before_a_message_that_has_had_all_its_receives",
    ),
    (
        "forget_the_kind_of_a_text",
        _CONTRACT + "test_a_body_comes_back_character_by_character",
    ),
    (
        "forget_the_kind_of_a_text",
        "tests/contract/test_postgres.py::TestPostgres::"
        "test_a_body_comes_back_character_by_character",
    ),
    (
        "follow_past_a_leased_message",
        _CONTRACT + "test_leases_of_a_group_end_up_to_one_that_was_extended",
    ),
    (
        "come_back_before_a_leased_message",
        _CONTRACT + "test_a_returned_message_does_not_wait_for_those_behind_it",
    ),
    ("count_the_first_receive_each_time", _CONTRACT + "test_the_first_receive_is_remembered"),
    ("give_a_place_to_two", _CONTRACT + "test_so_many_of_a_group_are_active"),
    ("make_no_room_at_a_burial", _CONTRACT + "test_a_dead_head_lets_its_group_go_on"),
    ("go_on_with_the_last_of_a_group", _CONTRACT + "test_a_released_head_is_first_again"),
    (
        "keep_the_places_of_a_lowered_limit",
        _CONTRACT + "test_a_lowered_limit_takes_effect_as_messages_end",
    ),
    ("let_a_group_go_first_for_ever", _CONTRACT + "test_two_noisy_groups_alternate"),
    ("count_no_batch", _CONTRACT + "test_the_rest_of_a_group_waits_for_the_whole_batch"),
    (
        "send_back_to_the_front",
        _CONTRACT + "test_a_redriven_message_goes_to_the_end_of_its_group",
    ),
    (
        "count_no_batch",
        "tests/process/test_group_kills.py::"
        "test_killed_holders_of_batches_leave_each_group_in_order",
    ),
    (
        "pay_for_no_group",
        "tests/process/test_killed_holders.py::"
        "test_the_last_token_of_a_group_of_a_killed_process_is_spent",
    ),
    ("pay_for_no_group", _CONTRACT + "test_each_group_has_its_own_rate"),
    ("jump_over_a_message_that_waits", _CONTRACT + "test_a_batch_ends_before_a_message_that_waits"),
)
