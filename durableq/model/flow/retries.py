"""The retry budget: at most a share of the deliveries are retries.

A first delivery earns credit, share / (1 - share) of a retry, and a retry costs one. So credit
is never ahead of the deliveries that earned it, and CAP bounds what a quiet time may save up. A
queue with nothing but retries earns none; it delivers one after each pause of IDLE_MS.
"""

from __future__ import annotations

from typing import Final

#: Credit is counted in thousandths of a retry.
RETRY: Final = 1_000
#: The most retries that may be saved up.
CAP: Final = 10
#: After so long without a delivery a retry needs no credit: ten a second, as in Finagle's budgets.
IDLE_MS: Final = 100


def is_limited(share: float) -> bool:
    """Return whether a share limits anything: 0 is off, and 1 lets every retry through."""
    return 0 < share < 1


def allowed(credit: int, delivered_at_ms: int, now_ms: int) -> int:
    """Return the number of retries that may be delivered now.

    Args:
        credit: in thousandths of a retry.
        delivered_at_ms: the last delivery, in lease time; 0 before the first.
        now_ms: the lease clock.
    """
    return credit // RETRY or int(now_ms - delivered_at_ms >= IDLE_MS)


def wait_ms(credit: int, delivered_at_ms: int, now_ms: int) -> int:
    """Return the time until a retry may be delivered, if nothing else is delivered before."""
    return 0 if credit >= RETRY else max(0, delivered_at_ms + IDLE_MS - now_ms)


def credit_after(credit: int, share: float, first: int, retries: int) -> int:
    """Return the credit after deliveries.

    Args:
        credit: before them, in thousandths of a retry.
        share: the part of the deliveries that may be retries, less than 1.
        first: deliveries of messages that had none before.
        retries: the others.
    """
    earned = int(first * RETRY * share / (1 - share))
    return min(CAP * RETRY, max(0, credit - retries * RETRY) + earned)
