"""The decision about a dead letter: the application's policy, within limits."""

from __future__ import annotations

import signal
from typing import Any

from durableq.client.failures import failure_of, message_of, type_name
from durableq.client.handlers import Policy
from durableq.model import codec
from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_DELAY_MS, MAX_ERROR_CHARS
from durableq.model.message import DeadLetter
from durableq.model.text import storable
from durableq.model.units import to_ms


def judge(dead_letter: DeadLetter, policy: Policy) -> Decision:
    """Return the verdict on a letter; whatever goes wrong on the way ends in Hold.

    A letter that was recovered `max_recoveries` times is not sent back again, so that nothing
    bounces for ever; discarding it is still allowed.
    """
    try:
        decision: object = policy(dead_letter)
    except BaseException as error:  # a policy may raise anything: CancelledError too
        if _is_ctrl_c(error):
            raise
        failure = failure_of(error)
        return _held(f"the policy raised {failure.error_type}: {failure.error_message}")
    kind = type(decision)  # not what its `__class__` says
    if not issubclass(kind, (Discard, Retry, Requeue, Hold)):
        return _held(f"the policy returned {type_name(kind)}, not a verdict")
    if (
        issubclass(kind, (Retry, Requeue))
        and dead_letter.recovery_count >= dead_letter.max_recoveries
    ):
        return Hold(f"recovered {dead_letter.recovery_count} times already, without success")
    try:
        return _plain(decision)
    except BaseException as error:  # a subclass, or a body, may raise anything
        if _is_ctrl_c(error):
            raise
        return _held(f"the policy's verdict cannot be applied: {message_of(error)}")


def _held(reason: str) -> Hold:
    return Hold(storable(reason)[:MAX_ERROR_CHARS])


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether a KeyboardInterrupt may be a person's. `durableq recover` has its own handler."""
    by_signal = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return type(error) is KeyboardInterrupt and by_signal


def _plain(decision: Any) -> Decision:
    """Return a verdict read once, without any code of the user's left in it.

    Raises:
        InvalidInput: it cannot be applied. A subclass may raise anything else.
    """
    kind, reason = type(decision), decision.reason
    if not issubclass(type(reason), str) or str.__len__(reason) > MAX_ERROR_CHARS:
        raise InvalidInput(f"a reason is a string of at most {MAX_ERROR_CHARS} characters.")
    reason = str.__getitem__(reason, slice(None))
    reason.encode()
    if issubclass(kind, Discard):
        return Discard(reason)
    if issubclass(kind, Hold):
        return Hold(reason)
    delay_ms = to_ms(decision.delay, "The delay of a decision", MAX_DELAY_MS)
    delay = decision.delay if type(decision.delay) in {int, float} else delay_ms / 1000
    if issubclass(kind, Requeue):
        return Requeue(reason, delay)
    return Retry(codec.decode(codec.encode(decision.body)), reason, delay)
