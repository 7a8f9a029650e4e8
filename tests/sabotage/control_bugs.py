"""Bugs to plant in the control of single messages."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import control
from durableq.model import lifecycle
from tests.sabotage.texts import rewrite

_IS_WAITING = "(durableq_message.state + 0 = 0 OR durableq_message.state + 0 = 2)"


def cancel_without_looking() -> None:
    """A message that a worker has received meanwhile is removed under its hands."""
    rewrite("CANCEL", "durableq_message.state != 1", "true")


def reschedule_without_looking() -> None:
    rewrite("DELAY", _IS_WAITING, "true")
    rewrite("RUN_NOW", "durableq_message.state + 0 = 2", "true")


def cancel_uncounted() -> None:
    module: Any = control
    cancel = module._cancel

    def uncounted(tx: Any, messages: Any, **by: str) -> Any:
        ended = cancel(tx, messages, **by)
        tx.counts.clear()
        return ended

    module._cancel = uncounted


def run_messages_behind_their_key() -> None:
    """A message is made ready although its key is in progress."""
    module: Any = lifecycle
    refusal = module.refusal
    module.refusal = lambda *state, is_dead, **_: refusal(*state, is_dead=is_dead)


BUGS = (
    cancel_without_looking,
    reschedule_without_looking,
    cancel_uncounted,
    run_messages_behind_their_key,
)
_TAKEN = (
    "tests/engine/test_row_counts.py::test_a_message_taken_while_it_is_controlled_is_refused[{}]"
)
_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
SEEN_BY = (
    ("cancel_without_looking", _TAKEN.format("cancel")),
    ("reschedule_without_looking", _TAKEN.format("delay")),
    ("reschedule_without_looking", _TAKEN.format("run now")),
    ("cancel_uncounted", _CONTRACT + "test_ready_and_delayed_messages_are_cancelled"),
    (
        "run_messages_behind_their_key",
        _CONTRACT + "test_a_message_behind_a_key_does_not_run_before_it_is_settled",
    ),
)
