"""The demo's traffic: orders of every kind in exact proportions, some sent more than once.

Proportions are exact, so the figures of a run do not depend on chance. The seed determines the
order of the traffic, the amounts and the distances between duplicates.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from durableq.demo.gateway import Trouble, trouble
from durableq.demo.order import Difficulty, Order, key_of
from durableq.model.errors import InvalidInput

COUNT: Final = 200
DUPLICATES: Final = 0.25
FIRST_ORDER_NUMBER: Final = 1001
AMOUNT_CENTS: Final = (199, 49_999)


class Kind(NamedTuple):
    """Orders of one difficulty with one trouble."""

    difficulty: Difficulty
    trouble: Trouble
    #: Its number in each 150 orders.
    of_orders: int
    #: Its number in each 50 duplicates.
    of_duplicates: int


KINDS: Final = (
    Kind(Difficulty.EASY, Trouble.NONE, 66, 29),
    Kind(Difficulty.EASY, Trouble.TIMEOUT_ONCE, 3, 1),
    Kind(Difficulty.EASY, Trouble.TIMEOUT_TWICE, 1, 0),
    Kind(Difficulty.EASY, Trouble.OUTAGE, 3, 0),  # dies, and is requeued
    Kind(Difficulty.MEDIUM, Trouble.NONE, 36, 14),
    Kind(Difficulty.MEDIUM, Trouble.SLOW_FRAUD_CHECK, 3, 0),  # dies, comes back easy
    Kind(Difficulty.HARD, Trouble.NONE, 24, 6),  # dies at once, comes back medium
    Kind(Difficulty.HARD, Trouble.SLOW_FRAUD_CHECK, 2, 0),  # dies twice, comes back easy
    # Discarded. Its customer learns at once that the card does not exist, and sends it once.
    Kind(Difficulty.ERROR, Trouble.NONE, 12, 0),
)


def orders(count: int, duplicates: float, seed: int) -> Iterator[dict[str, Any]]:
    """Yield `count` envelopes {"body", "key"}, the same for the same arguments.

    A duplicate is an earlier order again, with the same key and payload: half of them follow at
    once (a double click), the others later (a client that tries again).

    Args:
        count: the number of messages, duplicates included.
        duplicates: the share of messages that repeat an earlier order, 0 to less than 1.
        seed: the seed of the traffic.

    Raises:
        InvalidInput: a number out of bounds.
    """
    if count < 0 or not 0 <= duplicates < 1:
        raise InvalidInput(
            f"The traffic takes a count of at least 0 and duplicates from 0 to less than 1, "
            f"got {count!r} and {duplicates!r}."
        )
    return _envelopes(count, duplicates, random.Random(seed), seed)


def _envelopes(
    count: int, duplicates: float, rng: random.Random, seed: int
) -> Iterator[dict[str, Any]]:
    again = min(round(count * duplicates), max(0, count - 1))
    shares = apportion(count - again, [kind.of_orders for kind in KINDS])
    kinds = [kind for kind, share in zip(KINDS, shares, strict=True) for _ in range(share)]
    rng.shuffle(kinds)
    sent = list(_numbered(kinds, rng, seed))
    for at in _schedule(kinds, again, rng):
        order = sent[at]
        yield {"body": order.to_body(), "key": order.key}


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Divide a total by weights into whole parts: largest remainders first, earlier ones first."""
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    parts = [total * weight // whole for weight in weights]
    remainders = [-(total * weight % whole) for weight in weights]
    by_remainder = sorted(range(len(weights)), key=remainders.__getitem__)
    for position in by_remainder[: total - sum(parts)]:
        parts[position] += 1
    return parts


def _numbered(kinds: Sequence[Kind], rng: random.Random, seed: int) -> Iterator[Order]:
    """Yield orders with ascending numbers, without those that would have another trouble."""
    numbers = itertools.count(FIRST_ORDER_NUMBER)
    for kind in kinds:
        met = kind.trouble
        number = next(one for one in numbers if trouble(seed, key_of(one)) is met)
        yield Order(number, rng.randint(*AMOUNT_CENTS), kind.difficulty, seed)


def _schedule(kinds: Sequence[Kind], again: int, rng: random.Random) -> list[int]:
    """Return the index of each message's order: the orders in turn, duplicates among them."""
    places: list[tuple[float, int]] = [(at, at) for at in range(len(kinds))]
    members = {kind: [at for at, one in enumerate(kinds) if one is kind] for kind in KINDS}
    weights = [kind.of_duplicates if members[kind] else 0 for kind in KINDS]
    for kind, share in zip(KINDS, apportion(again, weights), strict=True):
        for _ in range(share):
            at = rng.choice(members[kind])
            places.append((at + _distance(len(kinds) - at, rng), at))
    return [order for _, order in sorted(places)]


def _distance(left: int, rng: random.Random) -> float:
    """Return the distance of a duplicate from the first message of its order."""
    if rng.random() < 0.5:
        return 0.5
    return rng.uniform(1, 8) if rng.random() < 0.5 else rng.uniform(1, max(1, left))
