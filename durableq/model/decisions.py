"""The four decisions about a dead letter. A policy returns one of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from durableq.model.arguments import check_text
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_DELAY_MS, MAX_ERROR_CHARS
from durableq.model.units import Seconds, to_ms


class _Reasoned:
    """A decision with a reason, which is a string of at most MAX_ERROR_CHARS characters.

    Raises:
        InvalidInput: the reason is of another type, or longer.
    """

    __slots__ = ()
    reason: str

    def __post_init__(self) -> None:
        check_text(self.reason, "A reason")
        if len(self.reason) > MAX_ERROR_CHARS:
            raise InvalidInput(
                f"A reason has at most {MAX_ERROR_CHARS} characters, got {len(self.reason)}."
            )


class _Delayed(_Reasoned):
    """A decision with a delay. One that is given as a timedelta is kept in seconds, as JSON is."""

    __slots__ = ()
    delay: Seconds

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.delay, timedelta):
            object.__setattr__(self, "delay", self.delay.total_seconds())

    @property
    def delay_ms(self) -> int:
        """The delay in milliseconds.

        Raises:
            InvalidInput: not a number of seconds from 0 to MAX_DELAY_MS.
        """
        return to_ms(self.delay, "The delay of a decision", MAX_DELAY_MS)


@dataclass(frozen=True, slots=True)
class Discard(_Reasoned):
    """Remove a dead letter that can never succeed, and keep the reason in the history."""

    reason: str


@dataclass(frozen=True, slots=True)
class Retry(_Delayed):
    """Send a dead letter back with a changed body: the same work with reduced complexity."""

    body: Any
    reason: str = ""
    #: Seconds before the message is ready; a timedelta becomes seconds.
    delay: Seconds = 0


@dataclass(frozen=True, slots=True)
class Requeue(_Delayed):
    """Send a dead letter back unchanged, after a transient failure."""

    reason: str = ""
    #: Seconds before the message is ready; a timedelta becomes seconds.
    delay: Seconds = 0


@dataclass(frozen=True, slots=True)
class Hold(_Reasoned):
    """Leave a dead letter in its queue until a person decides."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Release(_Reasoned):
    """Let recovery decide again about a dead letter that is held. A person's; no policy has it."""

    reason: str = ""


Decision = Discard | Retry | Requeue | Hold
