"""What becomes of a dead letter: the application's policy, within limits. Pure."""

from __future__ import annotations

from durableq import codec
from durableq.errors import DurableQError, InvalidInput
from durableq.failures import failure_of
from durableq.handlers import Policy
from durableq.limits import MAX_ERROR_CHARS
from durableq.message import DeadLetter
from durableq.verdict import Discard, Hold, Requeue, Retry, Verdict


def judge(letter: DeadLetter, policy: Policy) -> Verdict:
    """Return the verdict on a letter; whatever goes wrong on the way ends in Hold.

    A letter that was recovered `max_recoveries` times is not sent back again, so that nothing
    bounces for ever; discarding it is still allowed.
    """
    try:
        verdict: object = policy(letter)
    except KeyboardInterrupt:  # of whoever wants the process to end
        raise
    except BaseException as error:  # noqa: BLE001 - a policy may raise anything: CancelledError too
        failure = failure_of(error)
        return Hold(f"the policy raised {failure.error_type}: {failure.error_message}")
    if not isinstance(verdict, (Discard, Retry, Requeue, Hold)):
        return Hold(f"the policy returned {type(verdict).__name__}, not a verdict")
    sends_back = isinstance(verdict, (Retry, Requeue))
    if sends_back and letter.recovery_count >= letter.max_recoveries:
        return Hold(f"recovered {letter.recovery_count} times already, without success")
    try:
        _check(verdict)
    except (DurableQError, UnicodeEncodeError) as error:
        return Hold(f"the policy's verdict cannot be applied: {error}")
    return verdict


def _check(verdict: Verdict) -> None:
    reason: object = verdict.reason
    if not isinstance(reason, str) or len(reason) > MAX_ERROR_CHARS:
        raise InvalidInput(f"a reason is a string of at most {MAX_ERROR_CHARS} characters.")
    reason.encode()
    if isinstance(verdict, Retry):
        codec.encode(verdict.body)
    if isinstance(verdict, (Retry, Requeue)):
        _ = verdict.delay_ms
