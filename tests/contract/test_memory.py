"""The model keeps the contract."""

from collections.abc import Callable
from pathlib import Path

from durableq.engines.memory import MemoryStore
from durableq.store.core import Store
from durableq.testing import FakeClock, StoreContract


class TestMemory(StoreContract):
    capabilities = MemoryStore.capabilities

    def make_store(self, clock: FakeClock, rng: Callable[[], float], tmp_path: Path) -> Store:
        return MemoryStore(clock, rng)
