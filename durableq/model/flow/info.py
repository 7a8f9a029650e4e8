"""The limits of a queue as they stand, for people."""

from __future__ import annotations

from dataclasses import dataclass

from durableq.model.flow import rate, retries
from durableq.model.flow.capacity import FlowState


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
