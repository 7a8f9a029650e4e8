"""What recovery can decide about a dead letter. A policy returns one of these four."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from durableq.limits import MAX_DELAY_MS
from durableq.units import to_ms


@dataclass(frozen=True, slots=True)
class Discard:
    """Permanent: remove it, and keep the reason in history."""

    reason: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Send it back with a changed body: the same work, made easier."""

    body: Any
    reason: str = ""
    delay: float = 0
    """Seconds before it is ready."""

    @property
    def delay_ms(self) -> int:
        """The delay as it is stored.

        Raises:
            InvalidInput: not a number of seconds from 0 to MAX_DELAY_MS.
        """
        return to_ms(self.delay, "A verdict's delay", MAX_DELAY_MS)


@dataclass(frozen=True, slots=True)
class Requeue:
    """Transient: send it back unchanged."""

    reason: str = ""
    delay: float = 0
    """Seconds before it is ready."""

    @property
    def delay_ms(self) -> int:
        """The delay as it is stored.

        Raises:
            InvalidInput: not a number of seconds from 0 to MAX_DELAY_MS.
        """
        return to_ms(self.delay, "A verdict's delay", MAX_DELAY_MS)


@dataclass(frozen=True, slots=True)
class Hold:
    """Leave it in the dead-letter queue until a person acts."""

    reason: str = ""


Verdict = Discard | Retry | Requeue | Hold
