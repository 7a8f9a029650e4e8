"""What it takes to be an engine, as tests: inherit StoreContract, and say how a store is made.

    class TestMyEngine(StoreContract, MultiProcessContract):
        def make_store(self, clock, dice, tmp_path):
            return MyStore(tmp_path / "q", clock, dice)

        def url(self, tmp_path):
            return f"mine://{tmp_path}/q"

This package needs pytest; nothing else of durableq does.
"""

import pytest

_THEMES = (
    "case",
    "dead_letters",
    "groups",
    "idempotency",
    "jumps",
    "leases",
    "monitoring",
    "moves",
    "processes",
    "queues",
    "receiving",
    "retention",
    "sending",
    "settling",
    "sharing",
    "tending",
    "transactions",
    "watching",
)
pytest.register_assert_rewrite(*(f"durableq.testing.{theme}" for theme in _THEMES))

from durableq.testing.contract import StoreContract  # noqa: E402 - after the registration
from durableq.testing.contract.processes import MultiProcessContract  # noqa: E402
from durableq.testing.fakes import FakeClock, FakeRandom  # noqa: E402

__all__ = ["FakeClock", "FakeRandom", "MultiProcessContract", "StoreContract"]
