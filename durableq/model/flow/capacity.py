"""The number of messages that a receive may lease, and what it pays for them.

The limits of a queue are evaluated in order: places in flight, the rate, the retry budget. Only
messages that are leased are paid for, so nothing is given back when one fails or is released.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from durableq.model.flow import rate, retries, slow_start


@lru_cache(maxsize=1_000)
def _pace(tokens: float, burst: int) -> tuple[int, int]:
    """Return the price of a token and the burst.

    They seldom change, and to compute them takes a microsecond.
    """
    return rate.interval_ns(tokens), burst or rate.default_burst(tokens)


class FlowState(NamedTuple):
    """The limits of a queue and their state. A limit that is off is 0. Times are in lease time."""

    rate: float
    burst: int
    max_in_flight: int
    retry_share: float
    slow_start_ms: int
    #: The theoretical arrival time of the rate.
    tat_ns: int
    #: In thousandths of a retry.
    retry_credit: int
    #: The last delivery, while the share of retries is limited.
    delivered_at_ms: int
    #: Messages in flight, counted while that is limited.
    in_flight: int
    #: When the breaker closed; 0 while it is not closed, or if it never opened.
    closed_at_ms: int

    def started(self, now_ms: int) -> float:
        """Return the part of the capacity that slow start allows."""
        if not self.closed_at_ms:
            return 1.0
        return slow_start.part(self.closed_at_ms, self.slow_start_ms, now_ms)

    def pace(self, now_ms: int) -> tuple[int, int]:
        """Return the price of a token in nanoseconds and the burst, both as of slow start."""
        pace = _pace(self.rate, self.burst)
        if not self.closed_at_ms or (part := self.started(now_ms)) >= 1:
            return pace
        return rate.interval_ns(self.rate * part), max(1, int(pace[1] * part))

    def places(self, now_ms: int) -> int:
        """Return the number of messages that may be in flight, as of slow start."""
        if self.rate or not self.closed_at_ms:  # slow start holds the rate, if there is one
            return self.max_in_flight
        return max(1, int(self.max_in_flight * self.started(now_ms)))


class Allowance(NamedTuple):
    """The messages that a receive may lease."""

    number: int
    #: Those among them that may be retries; None for all.
    retries: int | None = None
    #: Where `number` is 0: ms until it is more; None: until a lease ends.
    wait_ms: int | None = None


def allowance(flow: FlowState, asked: int, now_ms: int, prepaid: int = 0) -> Allowance:
    """Return the number of messages that may be leased now.

    Args:
        flow: the limits and their state.
        asked: the number that the caller asks for.
        now_ms: the lease clock.
        prepaid: tokens of the rate that the caller has paid for; see `flow.prepaid`.
    """
    number = asked
    if flow.max_in_flight:
        left = flow.places(now_ms) - flow.in_flight
        if left <= 0:
            return Allowance(0)
        if left < number:
            number = left
    if flow.rate:
        interval_ns, burst = flow.pace(now_ms)
        left = prepaid + rate.available(flow.tat_ns, now_ms, interval_ns, burst)
        if not left:
            return Allowance(0, None, rate.wait_ms(flow.tat_ns, now_ms, interval_ns, burst))
        if left < number:
            number = left
    elif not flow.max_in_flight:  # slow start has nothing else to hold
        number = max(1, int(number * flow.started(now_ms)))
    if not flow.retry_share or not retries.is_limited(flow.retry_share):
        return Allowance(number)
    may_be = retries.allowed(flow.retry_credit, flow.delivered_at_ms, now_ms)
    return Allowance(number, min(number, may_be))


class Paid(NamedTuple):
    """The part of the state that a receive changes; see FlowState."""

    tat_ns: int
    retry_credit: int
    delivered_at_ms: int


def charged(flow: FlowState, first: int, retried: int, now_ms: int) -> Paid:
    """Return the state after messages were leased.

    Args:
        flow: the state before.
        first: leased messages that were never delivered before.
        retried: the other ones.
        now_ms: the lease clock.
    """
    tat_ns, credit, delivered_at_ms = flow.tat_ns, flow.retry_credit, flow.delivered_at_ms
    if flow.rate:
        tat_ns = rate.charge(tat_ns, now_ms, flow.pace(now_ms)[0], first + retried)
    if flow.retry_share and first + retried and retries.is_limited(flow.retry_share):
        credit = retries.credit_after(credit, flow.retry_share, first, retried)
        delivered_at_ms = now_ms
    return Paid(tat_ns, credit, delivered_at_ms)


def with_limited_debt(flow: FlowState, now_ms: int) -> Paid:
    """Return the state after a change of rate or burst; see `rate.limited`."""
    tat_ns = flow.tat_ns
    if flow.rate:
        tat_ns = rate.limited(tat_ns, now_ms, *flow.pace(now_ms))
    return Paid(tat_ns, flow.retry_credit, flow.delivered_at_ms)
