"""A payment gateway that fails like a real one, but reproducibly: no clock, no randomness.

Whether a delivery fails depends on the order, its key, and the number of its receives and
recoveries. So the same traffic fails in the same way in every run, in any order of processing.
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
    #: No answer to any receive of a message until it has been recovered once.
    OUTAGE = "outage"
    #: Every receive fails while the order is medium.
    SLOW_FRAUD_CHECK = "slow_fraud_check"


# The number of orders in a hundred that have each; the others have none.
_PERCENT: Final = {
    Trouble.TIMEOUT_ONCE: 4,
    Trouble.TIMEOUT_TWICE: 3,
    Trouble.OUTAGE: 4,
    Trouble.SLOW_FRAUD_CHECK: 4,
}
_TIMEOUTS: Final = {Trouble.TIMEOUT_ONCE: 1, Trouble.TIMEOUT_TWICE: 2, Trouble.OUTAGE: 3}


def trouble(seed: int, key: str) -> Trouble:
    """Return the trouble of an order, by a hash of the seed and its key."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    drawn = int.from_bytes(digest[:8], "big") % 100
    for met, percent in _PERCENT.items():
        if drawn < percent:
            return met
        drawn -= percent
    return Trouble.NONE


def check(order: Order, receive_count: int, recovery_count: int) -> None:
    """Return, or raise the error of this delivery of this order.

    Raises:
        Reject: the order cannot be charged as it is, now or later.
        GatewayTimeout: the gateway did not answer this time.
        FraudCheckTooSlow: the order is too complex for this gateway.
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
