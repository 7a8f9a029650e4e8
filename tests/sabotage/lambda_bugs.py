"""Bugs to plant in the Lambda integrations."""

from __future__ import annotations

from typing import Any

from durableq.contrib.awslambda import invocation, keys, mapping
from durableq.model.errors import InvalidResult
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


BUGS = (
    believe_in_unknown_ids,
    go_on_behind_a_failure,
    acknowledge_what_is_rejected,
    complete_a_lost_key,
    commit_under_a_lost_key,
)
_ENTRY = "tests/contrib/test_lambda_entry.py::"
_KEYS = "tests/contrib/test_lambda_postgres.py::"
_FUNCTIONS = "tests/contrib/test_lambda_functions.py::"
SEEN_BY = [
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
