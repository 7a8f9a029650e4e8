"""The contract of an engine as tests: inherit StoreContract and override `make_store`.

    class TestMyEngine(StoreContract):
        capabilities = MyStore.capabilities

        def make_store(self, clock, rng, tmp_path):
            return MyStore(tmp_path / "q", clock, rng)

The class collects the tests of the core and of these capabilities. MultiProcessContract has the
tests of an engine whose stores are shared by processes. This package needs pytest.
"""

import pytest

pytest.register_assert_rewrite("durableq.testing.contract")

from durableq.testing.contract import StoreContract  # noqa: E402 - after the registration
from durableq.testing.contract.processes import MultiProcessContract  # noqa: E402
from durableq.testing.fakes import FakeClock, FakeRandom  # noqa: E402

__all__ = ["FakeClock", "FakeRandom", "MultiProcessContract", "StoreContract"]
