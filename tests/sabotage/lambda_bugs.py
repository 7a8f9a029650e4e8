"""Bugs to plant in the Lambda integrations."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from durableq.contrib import powertools
from durableq.contrib.awslambda import invocation, keys, mapping
from durableq.model.errors import Conflict, InvalidResult
from durableq.model.message import Reason


def go_on_behind_a_failure() -> None:
    """The rest of a FIFO group is handled after its first failure."""
    module: Any = invocation
    module._is_behind = lambda _record, _stopped: False


def acknowledge_what_is_rejected() -> None:
    """A rejected message is not reported, so SQS deletes it."""
    module: Any = invocation
    failed = module._Entry._failed

    def ask(self: Any, *of: Any) -> Any:
        failure = failed(self, *of)
        return None if failure is not None and failure.reason is Reason.REJECTED else failure

    module._Entry._failed = ask


def complete_a_lost_key() -> None:
    held: Any = keys.HeldKey
    held.complete = lambda *_: True


def commit_under_a_lost_key() -> None:
    held: Any = keys.HeldKey
    held.complete_in = lambda *_: True


def believe_in_unknown_ids() -> None:
    """An answer that names no message of the batch completes it."""
    module: Any = mapping
    read = module.reported

    def believe(answer: Any, ids: Any) -> Any:
        try:
            return read(answer, ids)
        except InvalidResult:
            return []

    module.reported = believe


def know_tokens_by_the_key_alone() -> None:
    """Two invocations in one process share the token of the record that both began."""

    class Shared:
        def __init__(self) -> None:
            self._tokens: Any = {}

        def get(self) -> Any:
            return self._tokens

        def set(self, tokens: Any) -> None:
            self._tokens = tokens

    module: Any = powertools
    module._held = Shared()


def complete_a_record_of_another() -> None:
    """A completion that the store refuses counts as one."""
    layer: Any = powertools.PersistenceLayer
    update = layer._update_record

    def believe(self: Any, record: Any) -> None:
        with suppress(Conflict):
            update(self, record)

    layer._update_record = believe


def delete_a_record_of_another() -> None:
    layer: Any = powertools.PersistenceLayer
    layer._delete_record = lambda self, record: self._once.once_forget(
        f"powertools/{record.idempotency_key}"
    )


BUGS = (
    know_tokens_by_the_key_alone,
    complete_a_record_of_another,
    delete_a_record_of_another,
    believe_in_unknown_ids,
    go_on_behind_a_failure,
    acknowledge_what_is_rejected,
    complete_a_lost_key,
    commit_under_a_lost_key,
)
_ENTRY = "tests/contrib/test_lambda_entry.py::"
_KEYS = "tests/contrib/test_lambda_postgres.py::"
_FUNCTIONS = "tests/contrib/test_lambda_functions.py::"
_FENCE = "tests/contrib/test_powertools.py::TestFence::"
SEEN_BY = [
    (
        "know_tokens_by_the_key_alone",
        _FENCE + "test_it_does_not_complete_the_record_of_one_that_is_running[sqlite]",
    ),
    ("complete_a_record_of_another", _FENCE + "test_it_completes_nothing[sqlite]"),
    ("delete_a_record_of_another", _FENCE + "test_it_deletes_nothing[sqlite]"),
    (
        "believe_in_unknown_ids",
        _FUNCTIONS + "test_an_unknown_id_fails_the_whole_batch_at_the_queue",
    ),
    (
        "go_on_behind_a_failure",
        _ENTRY + "test_of_a_fifo_queue_nothing_behind_a_groups_first_failure_is_handled",
    ),
    (
        "acknowledge_what_is_rejected",
        _ENTRY + "test_the_messages_that_fail_are_answered_and_the_others_go_on",
    ),
    (
        "complete_a_lost_key",
        _KEYS + "test_an_invocation_whose_key_was_taken_over_completes_nothing",
    ),
    (
        "commit_under_a_lost_key",
        _KEYS + "TestTransactions::test_a_key_that_was_taken_over_writes_nothing",
    ),
]
