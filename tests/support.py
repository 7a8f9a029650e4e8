"""Tests wait for facts. This is the only place that sleeps, and it never hopes."""

import time
from collections.abc import Callable
from typing import Literal, TypeVar

import pytest

T = TypeVar("T")

POLL_SECONDS = 0.01


def wait_for(
    fact: Callable[[], T | Literal[False] | None], *, seconds: float = 10, what: str = "a fact"
) -> T:
    """Return what `fact()` returns as soon as that is true; fail the test after `seconds`.

    An empty answer (None, False, 0, []) means "not yet". What `fact` raises is raised at once.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + seconds
    while not (seen := fact()):
        if time.monotonic() >= deadline:
            pytest.fail(f"Waited {seconds:g} seconds for {what}, in vain; last seen: {seen!r}.")
        time.sleep(POLL_SECONDS)
    return seen
