"""The order in which a queue's ready messages are received: the lowest rank first.

A rank is `base - priority x weight`. Without groups and priority aging the base is 0, so that
messages of one priority are in order of their ids. With either the base is a time: when the message
became due, or, in a group, when it became the head. The weight is what one level of priority is
worth in time. A millisecond has many ranks, so that heads that became ready in it stay in order.
"""

from __future__ import annotations

from typing import Final

#: Ranks in a millisecond.
RANKS_PER_MS: Final = 1 << 10
#: More than any time in ms until the year 2527, so that a higher priority always goes first.
STRICT_MS: Final = 1 << 44


def weight(*, has_groups: bool, aging_ms: int) -> int:
    """Return what one level of priority is worth, in ranks.

    Args:
        has_groups: whether the queue has `group_concurrency`.
        aging_ms: `priority_aging` of the queue; 0 is off.
    """
    return (aging_ms or STRICT_MS) * RANKS_PER_MS if has_groups or aging_ms else 1


def rank(priority: int, at_ms: int, *, has_groups: bool = False, aging_ms: int = 0) -> int:
    """Return the rank of a message.

    Args:
        priority: of the message.
        at_ms: when it became due, or the head of its group.
        has_groups: whether the queue has `group_concurrency`.
        aging_ms: `priority_aging` of the queue; 0 is off.
    """
    base = at_ms * RANKS_PER_MS if has_groups or aging_ms else 0
    return base - priority * weight(has_groups=has_groups, aging_ms=aging_ms)


def level_width(*, has_groups: bool, aging_ms: int) -> int:
    """Return how many ranks a level of priority has; with aging all are one level."""
    if aging_ms:
        return 1 << 62
    return weight(has_groups=has_groups, aging_ms=0)
