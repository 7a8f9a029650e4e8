"""What becomes of the messages that a worker messages when it ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum

from durableq.model.message import Failure, Message, Reason, Receipt
from durableq.store.core import Capability, Store
from durableq.supervisor.scoreboard import HandlerCall, Scoreboard


class Ending(Enum):
    """Why a worker ended before its messages did."""

    #: By itself, or by somebody else's hand: what it had calls may be the cause, and counts.
    DEATH = "death"
    #: The fleet stopped it, for a handler that ran too long: that message counts.
    TIMEOUT = "timeout"
    #: The fleet stopped it, for it did not begin to receive: it messages nothing.
    START_TIMEOUT = "start timeout"
    #: The fleet stopped it, for a person's sake: no message is to blame.
    CUT_SHORT = "cut short"


def reclaim_messages(
    store: Store,
    scoreboard: Scoreboard,
    actor: str,
    ending: Ending,
    cause: str,
    ended_ns: int | None = None,
) -> int:
    """Take back what a worker messages, now instead of when its leases end; return how much it was.

    Args:
        store: where.
        board: what it was doing when it ended.
        actor: the worker's name, for history.
        ending: why it ended.
        cause: the same as the system has it: a signal's name, or an exit code.
        ended_ns: when it ended, on the monotonic clock; None: just now.
    """
    if not scoreboard.owner_id:
        return 0
    messages = store.require(Capability.FLEET).leases_of(scoreboard.owner_id)
    now_ns = time.monotonic_ns() if ended_ns is None else ended_ns
    failures, released = _judge(messages, list(scoreboard.calls()), ending, cause, now_ns)
    if failures:
        store.fail(failures, actor=actor)
    if released:
        store.release(released)
    store.require(Capability.FLEET).unregister(scoreboard.owner_id)
    return len(messages)


def _judge(
    messages: Sequence[Message],
    calls: Sequence[HandlerCall],
    ending: Ending,
    cause: str,
    now_ns: int,
) -> tuple[list[tuple[Receipt, Failure]], list[Receipt]]:
    """Return which of the messages have failed, and which go back uncounted."""
    blamed: list[HandlerCall] = []
    failure = Failure(Reason.WORKER_LOST, cause, Reason.WORKER_LOST.sentence)
    if ending is Ending.DEATH:
        # What has returned is suspected only where nothing else is: it may have left a trap behind.
        blamed = [one for one in calls if not one.has_returned] or list(calls)
    elif ending is Ending.TIMEOUT:
        failure = Failure(Reason.TIMEOUT, "", Reason.TIMEOUT.sentence)
        blamed = [one for one in calls if 0 < one.deadline_ns <= now_ns]
    receipts = [message.receipt for message in messages if message.receipt is not None]
    failed = [r for r in receipts if any(one.matches(r) for one in blamed)]
    return [(r, failure) for r in failed], [r for r in receipts if r not in set(failed)]
