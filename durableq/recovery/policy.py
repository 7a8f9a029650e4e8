"""What becomes of a dead letter: the application's policy, within limits. Pure."""

from __future__ import annotations

from durableq import codec
from durableq.errors import DurableQError
from durableq.handlers import Policy
from durableq.message import DeadLetter
from durableq.units import to_ms
from durableq.verdict import Discard, Hold, Requeue, Retry, Verdict


def judge(letter: DeadLetter, policy: Policy) -> Verdict:
    """Return the verdict on a letter; whatever goes wrong on the way ends in Hold.

    A letter that was recovered `max_recoveries` times is not sent back again, so that nothing
    bounces for ever; discarding it is still allowed.
    """
    try:
        verdict: object = policy(letter)
    except Exception as error:  # noqa: BLE001 - a user's policy may raise anything
        return Hold(f"the policy raised {type(error).__qualname__}: {error}")
    if not isinstance(verdict, (Discard, Retry, Requeue, Hold)):
        return Hold(f"the policy returned {type(verdict).__name__}, not a verdict")
    if isinstance(verdict, (Retry, Requeue)):
        if letter.recovery_count >= letter.max_recoveries:
            return Hold(f"recovered {letter.recovery_count} times already, without success")
        try:
            to_ms(verdict.delay, "A verdict's delay")
            if isinstance(verdict, Retry):
                codec.encode(verdict.body)
        except DurableQError as error:
            return Hold(f"the policy's verdict cannot be applied: {error}")
    return verdict
