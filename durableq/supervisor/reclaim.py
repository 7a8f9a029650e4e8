"""The messages leased to a worker: reclaimed when it ended, extended while it cannot do so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum

from durableq.model.message import Failure, Message, Reason, Receipt
from durableq.store.core import Capability, Store
from durableq.supervisor.scoreboard import HandlerCall, Scoreboard


class ExitReason(Enum):
    """Why a worker ended before its messages did."""

    #: Not by the supervisor: its running handlers may be the cause, and their messages fail.
    DEATH = "death"
    #: Killed by the supervisor, for a handler that ran too long: that message fails.
    TIMEOUT = "timeout"
    #: Killed by the supervisor before its first receive: nothing was leased to it.
    START_TIMEOUT = "start timeout"
    #: Killed by the supervisor on request: no message fails.
    CUT_SHORT = "cut short"


def reclaim_messages(
    store: Store,
    scoreboard: Scoreboard,
    actor: str,
    exit_reason: ExitReason,
    cause: str,
    ended_ns: int | None = None,
) -> int:
    """Reclaim the messages leased to an ended worker at once; return their number.

    Args:
        store: the store of the messages.
        scoreboard: the worker's handler calls.
        actor: name of the worker, for the history.
        exit_reason: why the worker ended.
        cause: name of the signal that ended it, or its exit code.
        ended_ns: its end on the monotonic clock; None for now.
    """
    if not scoreboard.owner_id:
        return 0
    messages = store.require(Capability.FLEET).leases_of(scoreboard.owner_id)
    now_ns = time.monotonic_ns() if ended_ns is None else ended_ns
    failures, released = _judge(messages, list(scoreboard.calls()), exit_reason, cause, now_ns)
    if failures:
        store.fail(failures, actor=actor)
    if released:
        store.release(released)
    store.require(Capability.FLEET).unregister(scoreboard.owner_id)
    return len(messages)


def extend_leases(store: Store, owner_id: int) -> None:
    """Extend the leases of a worker of which more than a third is over."""
    for message in store.require(Capability.FLEET).leases_of(owner_id):
        lease_ms = store.settings(message.queue).visibility_timeout_ms
        if message.receipt is not None and message.lease_left_ms < lease_ms * 2 / 3:
            store.extend([message.receipt], lease_ms)


def _judge(
    messages: Sequence[Message],
    calls: Sequence[HandlerCall],
    exit_reason: ExitReason,
    cause: str,
    now_ns: int,
) -> tuple[list[tuple[Receipt, Failure]], list[Receipt]]:
    """Return the messages that fail, and those that are released uncounted."""
    blamed: list[HandlerCall] = []
    failure = Failure(Reason.WORKER_LOST, cause, Reason.WORKER_LOST.sentence)
    if exit_reason is ExitReason.DEATH:
        # Returned handlers are suspects only if none was running: they may have left a trap.
        blamed = [one for one in calls if not one.has_returned] or list(calls)
    elif exit_reason is ExitReason.TIMEOUT:
        failure = Failure(Reason.TIMEOUT, "", Reason.TIMEOUT.sentence)
        blamed = [one for one in calls if 0 < one.deadline_ns <= now_ns]
    receipts = [message.receipt for message in messages if message.receipt is not None]
    failed = [r for r in receipts if any(one.matches(r) for one in blamed)]
    return [(r, failure) for r in failed], [r for r in receipts if r not in set(failed)]
