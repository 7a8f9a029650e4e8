"""A payment gateway that fails like a real one, but reproducibly: no clock, no randomness.

Whether a delivery fails follows from the order, its key, and how often it was received and
recovered. So the same traffic has the same fate in every run, in whatever order the workers of
a fleet take it.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import Final

from durableq.demo.order import Difficulty, Order
from durableq.model.errors import Reject


class GatewayTimeout(Exception):
    """The gateway did not answer. It may, next time."""


class FraudCheckTooSlow(Exception):
    """The fraud check of a medium order took too long."""


class Trouble(Enum):
    """The gateway's answer to an order."""

    NONE = "none"
    TIMEOUT_ONCE = "timeout_once"
    TIMEOUT_TWICE = "timeout_twice"
    #: Down for every receive of a message, until it has been recovered once.
    OUTAGE = "outage"
    #: Fails every receive, as long as the order is medium.
    SLOW_FRAUD_CHECK = "slow_fraud_check"


# How many of a hundred orders meet each; the others meet none.
_PERCENT: Final = {
    Trouble.TIMEOUT_ONCE: 4,
    Trouble.TIMEOUT_TWICE: 3,
    Trouble.OUTAGE: 4,
    Trouble.SLOW_FRAUD_CHECK: 4,
}
_TIMEOUTS: Final = {Trouble.TIMEOUT_ONCE: 1, Trouble.TIMEOUT_TWICE: 2, Trouble.OUTAGE: 3}


def trouble(seed: int, key: str) -> Trouble:
    """Return the fate of an order: drawn from a hash of the seed and its key."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    drawn = int.from_bytes(digest[:8], "big") % 100
    for met, percent in _PERCENT.items():
        if drawn < percent:
            return met
        drawn -= percent
    return Trouble.NONE


def check(order: Order, receive_count: int, recovery_count: int) -> None:
    """Pass, or fail as this delivery of this order is bound to.

    Raises:
        Reject: the order cannot be charged as it is, now or later.
        GatewayTimeout: the gateway did not answer this time.
        FraudCheckTooSlow: the order is too complex for this gateway; perhaps not for ever.
    """
    if order.difficulty is Difficulty.ERROR:
        raise Reject("the card does not exist")
    if order.difficulty is Difficulty.HARD:
        raise Reject("too complex: the gateway takes one card a charge")
    met = trouble(order.seed, order.key)
    if met is Trouble.SLOW_FRAUD_CHECK and order.difficulty is Difficulty.MEDIUM:
        raise FraudCheckTooSlow("no answer from the fraud check within its time limit")
    if recovery_count == 0 and receive_count <= _TIMEOUTS.get(met, 0):
        raise GatewayTimeout(f"the payment gateway did not answer (attempt {receive_count})")
