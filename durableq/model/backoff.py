"""How long a failed message waits: exponential backoff with full jitter, as a pure function.

Full jitter (a wait drawn evenly from zero to the ceiling) spreads a burst of failures better than
any other form: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations


def ceiling_ms(receive_count: int, base_ms: int, max_ms: int) -> int:
    """Return the longest wait after receive number `receive_count` (1 is the first)."""
    # 2**40 milliseconds is 34 years: a cap on the exponent keeps the power small.
    return min(max_ms, base_ms << min(receive_count - 1, 40)) if receive_count > 0 else 0


def backoff_ms(receive_count: int, base_ms: int, max_ms: int, rng: float) -> int:
    """Return the wait after a failure; `dice` is in [0, 1) and thrown by the caller."""
    return int(ceiling_ms(receive_count, base_ms, max_ms) * rng)
