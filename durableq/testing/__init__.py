"""The contract of an engine as tests: inherit StoreContract and override `make_store`.

    class TestMyEngine(StoreContract, MultiProcessContract):
        def make_store(self, clock, rng, tmp_path):
            return MyStore(tmp_path / "q", clock, rng)

        def url(self, tmp_path):
            return f"mine://{tmp_path}/q"

Tests of capabilities that the engine does not state are skipped. This package needs pytest.
"""

import pytest

pytest.register_assert_rewrite("durableq.testing.contract")

from durableq.testing.contract import StoreContract  # noqa: E402 - after the registration
from durableq.testing.contract.processes import MultiProcessContract  # noqa: E402
from durableq.testing.fakes import FakeClock, FakeRandom  # noqa: E402

__all__ = ["FakeClock", "FakeRandom", "MultiProcessContract", "StoreContract"]
