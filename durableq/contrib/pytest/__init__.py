"""Testing applications with pytest: fresh stores, runs in the test, a clock, crashes, sends.

It is a pytest plugin (entry point `pytest11`). Until a test uses one of its fixtures or imports one
of its names, nothing of durableq but this module is loaded. See docs/TESTING.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from durableq.client.app import DurableQ
    from durableq.contrib.pytest.clock import Clock
    from durableq.contrib.pytest.crashes import Crashed, Point, crash_at
    from durableq.contrib.pytest.isolation import fresh
    from durableq.contrib.pytest.running import Ran, run_one, run_pending
    from durableq.contrib.pytest.sends import Sent, assert_not_sent, assert_sent, sent

__all__ = [
    "Clock",
    "Crashed",
    "Point",
    "Ran",
    "Sent",
    "assert_not_sent",
    "assert_sent",
    "crash_at",
    "durableq_app",
    "durableq_clock",
    "fresh",
    "run_one",
    "run_pending",
    "sent",
]

_MARKER = (
    'durableq(store="memory"): the kind of store that durableq_app makes in this test: "memory", '
    'or "file" for a SQLite file'
)
#: The module of each name, which is imported at the name's first use.
_HOMES = {
    "Clock": "clock",
    "Crashed": "crashes",
    "Point": "crashes",
    "Ran": "running",
    "Sent": "sends",
    "assert_not_sent": "sends",
    "assert_sent": "sends",
    "crash_at": "crashes",
    "fresh": "isolation",
    "run_one": "running",
    "run_pending": "running",
    "sent": "sends",
}


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def durableq_clock() -> Clock:
    """The clock of all applications in this test: `durableq_clock.advance(minutes=5)`."""
    from durableq.contrib.pytest.clock import Clock

    return Clock()


@pytest.fixture
def durableq_app(
    request: pytest.FixtureRequest, durableq_clock: Clock
) -> Iterator[Callable[[DurableQ], Clock]]:
    """Give an application a fresh store for this test: `durableq_app(dq)`.

    It returns the clock. The store is in memory, or as the marker says:
    `@pytest.mark.durableq(store="file")`.
    """
    from durableq.contrib.pytest.isolation import fresh, store_of_marker

    store = store_of_marker(request.node.get_closest_marker("durableq"))
    with ExitStack() as stack:

        def use_fresh_store(dq: DurableQ) -> Clock:
            return stack.enter_context(fresh(dq, store=store, clock=durableq_clock))

        yield use_fresh_store


def __getattr__(name: str) -> object:
    """Import a name of this package."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
