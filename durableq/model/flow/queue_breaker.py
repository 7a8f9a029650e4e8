"""The circuit breaker of a queue: which failures of its messages count, and what they change.

Its evidence is a record of each message that failed, so that a message counts once however often it
fails, and the queue's counter of completed messages, so that a success writes nothing. A message
that fails and succeeds later counts as both.

Windows follow each other: one begins with the first failure after the last one has ended. Failures
before a lease ends, in any phase, are judged by the phase at the time of the failure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol

from durableq.model.errors import InvalidInput
from durableq.model.flow.breaker import (
    Breaker,
    BreakerSettings,
    Phase,
    Tally,
    advance,
    close,
    trip,
)
from durableq.model.limits import MAX_DELAY_MS, MAX_UNCOUNTED
from durableq.model.message import Failure
from durableq.model.states import Reason
from durableq.model.units import check_whole, span

#: The reasons that may be due to a service that the handler needs. A message that can never succeed
#: says nothing about it, and no more does a worker that was killed: ten leases lost in a deployment
#: must not stop a queue.
COUNTED: Final = (Reason.HANDLER_ERROR, Reason.TIMEOUT, Reason.UNAVAILABLE)
#: The part of an exception's text that the reason of a phase repeats.
MAX_REASON_CHARS: Final = 200


class BreakerOptions(Protocol):
    """The settings of a queue for its breaker; QueueSettings has them."""

    @property
    def breaker_share(self) -> float:
        """It opens when at least this share of the messages failed."""
        ...

    @property
    def breaker_minimum(self) -> int:
        """It stays closed with fewer messages than this in a window."""
        ...

    @property
    def breaker_window_ms(self) -> int:
        """The length of a window."""
        ...

    @property
    def breaker_open_ms(self) -> int:
        """The time that it stays open at first."""
        ...

    @property
    def breaker_open_max_ms(self) -> int:
        """The maximum of that time."""
        ...

    @property
    def breaker_probes(self) -> int:
        """The number of messages in flight while it is half-open."""
        ...


def settings_of(options: BreakerOptions) -> BreakerSettings:
    """Return the settings of the state machine."""
    return BreakerSettings(
        options.breaker_share,
        options.breaker_minimum,
        options.breaker_open_ms,
        options.breaker_open_max_ms,
        options.breaker_probes,
    )


@dataclass(frozen=True, slots=True)
class QueueBreaker(Breaker):
    """The state of a queue's breaker, in lease time.

    While it is closed, `until_ms` is the end of the window in which `died` messages failed; while
    it is half-open, they failed since it is.
    """

    #: The counter `completed` when the window, or the half-open phase, began.
    completed: int = 0
    #: Why this phase began, for people.
    reason: str = ""

    @property
    def transition(self) -> dict[str, Any]:
        """The facts about the beginning of this phase, for the history and the log."""
        open_ms = {"open_ms": self.left_ms(self.since_ms)} if self.phase is Phase.OPEN else {}
        return {"phase": self.phase.value, "reason": self.reason, **open_ms}


NEW: Final = QueueBreaker(Phase.CLOSED, 0)


class FailureRecord(NamedTuple):
    """The record of a message that failed."""

    #: Lease time of the last one.
    at_ms: int
    #: The number of receives that were not counted because a service was unavailable.
    uncounted: int = 0
    #: The queue's counter `completed` at the last failure.
    completed: int = 0


class Judgement(NamedTuple):
    """The effect of a failure."""

    state: QueueBreaker
    #: The record of the message; None leaves it as it is.
    record: FailureRecord | None
    #: Whether the receive does not count and the message goes back to its queue.
    is_uncounted: bool = False


class At(NamedTuple):
    """The moment of a failure or of a receive."""

    #: Lease time.
    now_ms: int
    #: The queue's counter `completed`.
    completed: int
    #: A random number in [0, 1), for the jitter of the open time.
    rng: float = 0.0


def on_receive(state: QueueBreaker, at: At, options: BreakerOptions) -> QueueBreaker:
    """Return the state for a receive: an open breaker may begin to probe, probes may close it."""
    if state.phase is Phase.CLOSED:
        return state
    settings = settings_of(options)
    after = advance(state, _tally(state, at), at.now_ms, settings, at.rng)
    if after.phase is state.phase:
        return state
    if after.phase is Phase.HALF_OPEN:
        reason = "its open time is over"
        return replace(after, completed=at.completed, died=0, judged=0, reason=reason)
    return _with_reason(state, after, at, options)


def judge(
    state: QueueBreaker,
    known: FailureRecord | None,
    message_id: str,
    failure: Failure,
    at: At,
    options: BreakerOptions,
) -> Judgement:
    """Return the effect of a failure.

    Args:
        state: the breaker's state.
        known: the record of the message's earlier failures.
        message_id: its id.
        failure: the failure.
        at: the moment.
        options: the queue's settings.
    """
    if failure.reason not in COUNTED:
        return Judgement(state, None)
    if failure.reason is Reason.UNAVAILABLE and not _others_succeed(state, known, at):
        return _unavailable(state, known, message_id, failure, at, options)
    if state.phase is Phase.OPEN:
        return Judgement(state, None)
    if state.phase is Phase.CLOSED and at.now_ms >= state.until_ms:
        until_ms = at.now_ms + options.breaker_window_ms
        state = replace(state, until_ms=until_ms, completed=at.completed, died=0)
    window_ms = state.until_ms - options.breaker_window_ms
    began_ms = window_ms if state.phase is Phase.CLOSED else state.since_ms
    if known is None or known.at_ms < began_ms:
        state = replace(state, died=state.died + 1)
    after = advance(state, _tally(state, at), at.now_ms, settings_of(options), at.rng)
    uncounted = known.uncounted if known else 0
    record = FailureRecord(at.now_ms, uncounted, at.completed)
    return Judgement(_with_reason(state, after, at, options), record)


def by_hand(
    state: QueueBreaker,
    at: At,
    options: BreakerOptions,
    by: str,
    open_ms: int | None = None,
    *,
    is_open: bool,
) -> QueueBreaker:
    """Return the state of a breaker that a person opens or closes.

    A closed one opens again by the same rules: while the service is still down, at the first
    Unavailable. To close one that is closed changes nothing.

    Args:
        state: the state before.
        at: the moment.
        options: the queue's settings.
        by: the person or process.
        open_ms: the time that it stays open; None: as long as it would by itself.
        is_open: whether to open it.

    Raises:
        InvalidInput: the time is not from 1 to MAX_DELAY_MS, or it is given for closing.
    """
    if not is_open:
        if open_ms is not None:
            raise InvalidInput("A breaker that is closed by hand has no time to stay open.")
        if state.phase is Phase.CLOSED:
            return state
        return replace(close(state, at.now_ms), reason=f"closed by {by or 'hand'}")
    after = trip(state, Tally(0, 0), at.now_ms, settings_of(options), at.rng)
    if open_ms is not None:
        check_whole(open_ms, "The time that a breaker stays open in ms", 1, MAX_DELAY_MS)
        after = replace(after, until_ms=at.now_ms + open_ms)
    return replace(after, reason=f"opened by {by or 'hand'}")


def _others_succeed(state: QueueBreaker, known: FailureRecord | None, at: At) -> bool:
    """Return whether the trouble is the message's own: the service was available to others.

    That is, others succeeded since the breaker is half-open, or since this message raised
    Unavailable before. A message that raises it for the first time has opened a closed breaker.
    """
    match state.phase:
        case Phase.HALF_OPEN:
            return at.completed > state.completed
        case Phase.CLOSED if known is not None and known.uncounted:
            return at.completed > known.completed
    return False


def _unavailable(
    state: QueueBreaker,
    known: FailureRecord | None,
    message_id: str,
    failure: Failure,
    at: At,
    options: BreakerOptions,
) -> Judgement:
    """Open the breaker, if it is not open. The receive does not count, for so many times."""
    if state.phase is not Phase.OPEN:
        wanted_ms = failure.retry_in_ms or 0
        one, settings = Tally(1, 1), settings_of(options)
        state = trip(state, one, at.now_ms, settings, at.rng, at_least_ms=wanted_ms)
        said = failure.error_message[:MAX_REASON_CHARS]
        reason = f"message {message_id} raised {failure.error_type or 'Unavailable'}: {said}"
        state = replace(state, reason=reason)
    uncounted = known.uncounted if known else 0
    is_uncounted = uncounted < MAX_UNCOUNTED
    record = FailureRecord(at.now_ms, uncounted + is_uncounted, at.completed)
    return Judgement(state, record, is_uncounted)


def _tally(state: QueueBreaker, at: At) -> Tally:
    succeeded = max(0, at.completed - state.completed)
    return Tally(state.died, state.died + succeeded)


def _with_reason(
    before: QueueBreaker, after: QueueBreaker, at: At, options: BreakerOptions
) -> QueueBreaker:
    """Return the state after results, and if its phase has changed, the reason."""
    if after.phase is before.phase:
        return after
    failed, judged, _ = _tally(before, at)
    if after.phase is Phase.CLOSED:
        reason = f"{judged - failed} of {judged} probes succeeded"
    elif before.phase is Phase.HALF_OPEN:
        reason = f"{failed} of {judged} probes failed"
    else:
        reason = f"{failed} of {judged} messages failed within {span(options.breaker_window_ms)}"
    return replace(after, reason=reason)
