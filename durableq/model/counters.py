"""What a queue counts: what went through it, and what is there. The two must balance."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counters:
    """A queue's running totals since it was made."""

    sent: int = 0
    moved_in: int = 0
    moved_out: int = 0
    completed: int = 0
    duplicates: int = 0
    discarded: int = 0
    expired: int = 0
    purged: int = 0

    @property
    def expected(self) -> int:
        """How many messages must be there if the books balance."""
        return self.sent + self.moved_in - self.moved_out - self.ended

    @property
    def ended(self) -> int:
        """How many messages came to their end here."""
        return self.completed + self.duplicates + self.discarded + self.expired + self.purged

    def __add__(self, other: Counters) -> Counters:
        """Return the totals of both together."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Counters(*(one + another for one, another in pairs))


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages of a queue are in each state now."""

    ready: int = 0
    delayed: int = 0
    in_flight: int = 0
    held: int = 0

    @property
    def present(self) -> int:
        """All of them."""
        return self.ready + self.delayed + self.in_flight + self.held
