"""Values that one process computes for all: when one is served, computed, or waited for."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_ONCE_LEASE_MS
from durableq.model.text import shown
from durableq.model.units import check_whole

MAX_BETA: Final = 1_000
#: The bytes of a token, which names one lease.
TOKEN_BYTES: Final = 16


class OnceStep(enum.Enum):
    """The next step of a caller."""

    #: Use the value. It may be stale while another caller computes the next one.
    SERVE = "serve"
    #: Compute the value: the lease is this caller's.
    COMPUTE = "compute"
    #: Wait until the lease of another caller ends.
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class OnceRequest:
    """The wish of one caller for a value."""

    #: TOKEN_BYTES random bytes, which name the lease if this caller is given it. Asking again with
    #: the same token returns the same lease.
    token: bytes
    #: The length of that lease.
    lease_ms: int
    #: The process of the caller, for others that look whether it lives.
    owner: str = ""
    #: How early values are refreshed; 0 for not before they expire.
    beta: float = 1.0
    #: A random number in (0, 1], for the early refresh.
    draw: float = 1.0
    #: The token of a lease whose process has ended: it counts as ended.
    dead: bytes | None = None


@dataclass(frozen=True, slots=True)
class OnceEntry:
    """The stored state of a key."""

    key: str
    #: JSON; None until the first computation has ended.
    value: str | None
    #: The time at which the value was stored, or at which its first computation began.
    created_at_ms: int
    expires_at_ms: int
    #: Until then the value is served while another one is computed.
    stale_until_ms: int
    #: The time that the computation took.
    compute_ms: int = 0
    #: The lease of the process that computes the next value; None if none does.
    token: bytes | None = None
    lease_left_ms: int = 0
    owner: str = ""

    @property
    def is_leased(self) -> bool:
        """Whether a lease on it has not ended."""
        return self.token is not None and self.lease_left_ms > 0

    def has_value(self, now_ms: int) -> bool:
        """Return whether there is a value that may be served, fresh or stale."""
        return self.value is not None and now_ms < self.stale_until_ms

    def is_remembered(self, now_ms: int) -> bool:
        """Return whether it has a value that may be served, or a lease."""
        return self.is_leased or self.has_value(now_ms)

    def is_fresh(self, now_ms: int) -> bool:
        """Return whether there is a value that has not expired."""
        return self.value is not None and now_ms < self.expires_at_ms


class OnceAnswer(NamedTuple):
    """The next step of a caller, and the state that it follows from."""

    step: OnceStep
    #: None where the key has neither a value to be served nor a lease.
    entry: OnceEntry | None
    #: Whether the entry's value has not expired.
    is_fresh: bool


def answer_once(request: OnceRequest, entry: OnceEntry | None, now_ms: int) -> OnceAnswer:
    """Decide about a request.

    Args:
        request: the caller's.
        entry: the stored state, with dates on the clock of `now_ms`; None for an unknown key.
        now_ms: the time.
    """
    is_fresh = entry is not None and entry.is_fresh(now_ms)
    step = _step(request, entry, now_ms)
    is_known = entry is not None and entry.is_remembered(now_ms)
    return OnceAnswer(step, entry if is_known else None, is_fresh)


def _step(request: OnceRequest, entry: OnceEntry | None, now_ms: int) -> OnceStep:
    if entry is None:
        return OnceStep.COMPUTE
    if entry.is_leased and entry.token == request.token:
        return OnceStep.COMPUTE
    is_computed = entry.is_leased and entry.token != request.dead
    if entry.has_value(now_ms) and (is_computed or not is_due(request, entry, now_ms)):
        return OnceStep.SERVE
    return OnceStep.WAIT if is_computed else OnceStep.COMPUTE


def is_due(request: OnceRequest, entry: OnceEntry, now_ms: int) -> bool:
    """Return whether a value is due to be computed again.

    Before it expires the probability rises with the time that the computation takes (XFetch:
    Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", 2015). So
    of many callers one refreshes a value that is in use, and the others do not meet an expired one.
    """
    early_ms = -entry.compute_ms * request.beta * math.log(request.draw)
    return now_ms + early_ms >= entry.expires_at_ms


def check_request(request: OnceRequest) -> None:
    """Check the numbers of a request.

    Raises:
        InvalidInput: one is out of bounds.
    """
    if len(request.token) != TOKEN_BYTES:
        raise InvalidInput(f"A token has {TOKEN_BYTES} bytes, got {len(request.token)}.")
    check_whole(request.lease_ms, "The lease of a computation in ms", 1, MAX_ONCE_LEASE_MS)
    if not 0 < request.draw <= 1:
        raise InvalidInput(f"The draw is a number in (0, 1], got {shown(request.draw)}.")
    check_beta(request.beta)


def check_beta(beta: float) -> None:
    """Check how early values are refreshed.

    Raises:
        InvalidInput: not a number from 0 to MAX_BETA.
    """
    number = isinstance(beta, (int, float)) and not isinstance(beta, bool)
    if not number or not 0 <= beta <= MAX_BETA:
        raise InvalidInput(
            f"beta is a number from 0 to {MAX_BETA} (0: values are not refreshed before they "
            f"expire), got {shown(beta)}."
        )
