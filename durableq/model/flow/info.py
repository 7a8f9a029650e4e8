"""The limits of a queue as they stand, for people."""

from __future__ import annotations

from dataclasses import dataclass, replace

from durableq.model.flow import rate, retries
from durableq.model.flow.breaker import Phase
from durableq.model.flow.capacity import FlowState
from durableq.model.flow.queue_breaker import QueueBreaker


@dataclass(frozen=True, slots=True)
class LimitsInfo:
    """The limits of a queue as they stand. A field is None while its limit is off."""

    #: Messages that the rate allows now, and ms until it allows one; 0 is now.
    tokens: int | None = None
    next_token_ms: int | None = None
    #: The counter of messages in flight, and the number that may be.
    in_flight: int | None = None
    places: int | None = None
    #: Retries that may be delivered now, and ms until one may be.
    retries: int | None = None
    next_retry_ms: int | None = None
    #: The part of the capacity that slow start allows.
    started: float = 1.0
    #: The phase of the circuit breaker, ms until it probes (0 unless it is open), and the reason.
    breaker: Phase | None = None
    probes_in_ms: int | None = None
    breaker_reason: str | None = None
    #: The counter of the bytes of stored bodies.
    backlog_bytes: int | None = None

    def with_breaker(self, state: QueueBreaker, now_ms: int) -> LimitsInfo:
        """Return these with the circuit breaker of the queue.

        Args:
            state: its state.
            now_ms: the lease clock.
        """
        return replace(
            self,
            breaker=state.phase,
            probes_in_ms=state.left_ms(now_ms),
            breaker_reason=state.reason or None,
        )


def limits_info(flow: FlowState, now_ms: int) -> LimitsInfo:
    """Return the limits of a queue as they stand.

    Args:
        flow: the limits and their state.
        now_ms: the lease clock.
    """
    tokens = next_token_ms = in_flight = places = may_be = next_retry_ms = None
    if flow.rate:
        pace = flow.pace(now_ms)
        tokens = rate.available(flow.tat_ns, now_ms, *pace)
        next_token_ms = rate.wait_ms(flow.tat_ns, now_ms, *pace)
    if flow.max_in_flight:
        in_flight, places = flow.in_flight, flow.places(now_ms)
    if retries.is_limited(flow.retry_share):
        of_retries = flow.retry_credit, flow.delivered_at_ms, now_ms
        may_be, next_retry_ms = retries.allowed(*of_retries), retries.wait_ms(*of_retries)
    started = flow.started(now_ms)
    return LimitsInfo(tokens, next_token_ms, in_flight, places, may_be, next_retry_ms, started)
