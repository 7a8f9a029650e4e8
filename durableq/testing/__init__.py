"""The contract of an engine as tests: inherit StoreContract and override `make_store`.

    class TestMyEngine(StoreContract):
        capabilities = MyStore.capabilities

        def make_store(self, clock, rng, tmp_path):
            return MyStore(tmp_path / "q", clock, rng)

The class collects the tests of the core and of these capabilities. MultiProcessContract has the
tests of an engine whose stores are shared by processes. Both need pytest, which is imported with
them: `durableq chaos` has a package in here, and runs without pytest.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durableq.testing.contract import StoreContract
    from durableq.testing.contract.processes import MultiProcessContract
    from durableq.testing.fakes import FakeClock, FakeRandom

__all__ = ["FakeClock", "FakeRandom", "MultiProcessContract", "StoreContract"]

#: The module of each name, which is imported at the name's first use.
_HOMES = {
    "FakeClock": "durableq.testing.fakes",
    "FakeRandom": "durableq.testing.fakes",
    "MultiProcessContract": "durableq.testing.contract.processes",
    "StoreContract": "durableq.testing.contract",
}


def __getattr__(name: str) -> object:
    """Import a name of this package."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
