"""Rate limits: GCRA, the generic cell rate algorithm, as functions of one stored number.

That number is the theoretical arrival time (TAT), in nanoseconds of the lease clock: the time until
which everything granted so far is paid for. A token costs one interval. `burst` tokens may be
granted at once after a pause, so no window of time has more than burst + rate x window tokens.

The lease clock has whole milliseconds, so an event within one may be at its start or at its end.
Availability is computed for the start and a grant is charged from the end; intervals are rounded
up. An error is never an excess.
"""

from __future__ import annotations

from typing import Final

from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_RATE, MIN_RATE
from durableq.model.text import shown

_NS_PER_MS: Final = 1_000_000
_NS_PER_SECOND: Final = 1_000_000_000


def check_rate(rate: float, what: str) -> None:
    """Check a rate.

    Args:
        rate: messages a second.
        what: the subject of the error message.

    Raises:
        InvalidInput: not a number from MIN_RATE to MAX_RATE.
    """
    number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not number or not MIN_RATE <= rate <= MAX_RATE:
        raise InvalidInput(
            f"{what} is a number of messages a second from {MIN_RATE:.6f} to {MAX_RATE:.0f}, got "
            f"{shown(rate)}."
        )


def interval_ns(rate: float) -> int:
    """Return the price of a token in nanoseconds, rounded up.

    Args:
        rate: tokens a second, more than 0.
    """
    numerator, denominator = rate.as_integer_ratio()  # exact, where a division would round
    return -(-_NS_PER_SECOND * denominator // numerator)


def default_burst(rate: float) -> int:
    """Return the burst for a rate without one: that of a tenth of a second, and at least 1.

    No second then has more than 1.1 times the rate, except where that is less than 10 a second.
    """
    return max(1, int(rate / 10))


def available(tat_ns: int, now_ms: int, interval_ns: int, burst: int) -> int:
    """Return the number of tokens that may be granted now.

    Args:
        tat_ns: the theoretical arrival time; 0 before the first grant.
        now_ms: the lease clock.
        interval_ns: the price of a token.
        burst: tokens that may be granted at once, at least 1.
    """
    owed_ns = tat_ns - now_ms * _NS_PER_MS
    if owed_ns <= 0:
        return burst
    return max(0, burst - -(-owed_ns // interval_ns))


def charge(tat_ns: int, now_ms: int, interval_ns: int, number: int) -> int:
    """Return the theoretical arrival time after a grant.

    Args:
        tat_ns: the time before it.
        now_ms: the lease clock.
        interval_ns: the price of a token.
        number: granted tokens, at most those that are available.
    """
    if not number:
        return tat_ns
    return max(tat_ns, (now_ms + 1) * _NS_PER_MS) + number * interval_ns


def wait_ms(tat_ns: int, now_ms: int, interval_ns: int, burst: int, number: int = 1) -> int:
    """Return the time until so many tokens are available; 0: they are.

    Args:
        tat_ns: the theoretical arrival time.
        now_ms: the lease clock.
        interval_ns: the price of a token.
        burst: tokens that may be granted at once.
        number: the tokens to wait for, at most `burst`.
    """
    at_ns = tat_ns - (burst - number) * interval_ns
    return max(0, -(-at_ns // _NS_PER_MS) - now_ms)


def limited(tat_ns: int, now_ms: int, interval_ns: int, burst: int) -> int:
    """Return the theoretical arrival time to store when a rate or a burst changes.

    A debt of a slow rate may be large. It becomes at most that of a burst that was just granted, so
    a faster rate applies at once.

    Args:
        tat_ns: the time before the change.
        now_ms: the lease clock.
        interval_ns: the new price of a token.
        burst: the new burst.
    """
    return min(tat_ns, (now_ms + 1) * _NS_PER_MS + burst * interval_ns)
