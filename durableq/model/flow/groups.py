"""Groups of messages: how many of one may be active, as functions of its counts.

Active messages are ready, delayed or in flight. The others of a group are blocked, in the order in
which they came. With a concurrency of 1, one message of a group is active at a time: the group is
strictly in order, also while its head waits for a retry.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from durableq.model.flow import rate
from durableq.model.flow.rate import default_burst


class RateSettings(Protocol):
    """The rate of a group, as QueueSettings and GroupSettings have it."""

    @property
    def group_rate(self) -> float:
        """Messages a second; 0 is off."""
        ...

    @property
    def group_burst(self) -> int:
        """Messages at once after a quiet time; 0 for the default."""
        ...


class GroupSettings(NamedTuple):
    """The settings of a queue that groups need, as QueueSettings has them."""

    group_concurrency: int
    group_on_dead: int
    group_rate: float
    group_burst: int
    priority_aging_ms: int


class Group(NamedTuple):
    """The counts of a group in a queue."""

    #: Messages that are not blocked.
    active: int = 0
    #: Dead letters of the queue.
    holding: int = 0
    #: The theoretical arrival time of its rate, in nanoseconds of the lease clock.
    tat_ns: int = 0

    def room(self, settings: GroupSettings) -> int:
        """Return the number of messages that may become active; 0: a dead letter holds them.

        Blocked messages become active at once where there is room. So a message that comes where
        there is room has none before it.
        """
        is_held = settings.group_on_dead and self.holding
        return 0 if is_held else max(0, settings.group_concurrency - self.active)

    def is_needed(self, lease_ms: int) -> bool:
        """Return whether the counts say more than that there is nothing."""
        return bool(self.active or self.holding) or self.tat_ns > lease_ms * 1_000_000

    def after(self, *, active: int = 0, holding: int = 0) -> Group:
        """Return the group after changes of its counts, which are never less than 0."""
        return self._replace(
            active=max(0, self.active + active), holding=max(0, self.holding + holding)
        )


def wait_ms(tat_ns: int, settings: RateSettings, lease_ms: int) -> int:
    """Return the time until a group's rate allows another message; 0: it does.

    Args:
        tat_ns: the theoretical arrival time of the group.
        settings: its rate.
        lease_ms: the lease clock.
    """
    if not settings.group_rate:
        return 0
    return rate.wait_ms(tat_ns, lease_ms, *_pace(settings))


def tokens(tat_ns: int, settings: RateSettings, lease_ms: int) -> int:
    """Return the number of messages that a group's rate allows now."""
    return rate.available(tat_ns, lease_ms, *_pace(settings))


def charged(tat_ns: int, settings: RateSettings, lease_ms: int, number: int) -> int:
    """Return a group's theoretical arrival time after so many messages were leased."""
    return rate.charge(tat_ns, lease_ms, rate.interval_ns(settings.group_rate), number)


def _pace(settings: RateSettings) -> tuple[int, int]:
    """Return the price of a token in nanoseconds, and the burst."""
    return rate.interval_ns(settings.group_rate), burst_of(settings)


def burst_of(settings: RateSettings) -> int:
    """Return the burst of a group."""
    return settings.group_burst or default_burst(settings.group_rate)


def limited_debt(tat_ns: int, settings: RateSettings, lease_ms: int) -> int:
    """Return a group's theoretical arrival time after a change of the rate; see `rate.limited`."""
    if not settings.group_rate:
        return 0
    interval_ns = rate.interval_ns(settings.group_rate)
    return rate.limited(tat_ns, lease_ms, interval_ns, burst_of(settings))
