"""An engine of another distribution, found through its entry point."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.engines import open_store
from durableq.model.errors import InvalidInput, Unsupported
from durableq.store.core import Capability, Store
from durableq.testing import FakeClock, StoreContract

ENGINE = """
from durableq.engines.memory import MemoryStore
from durableq.store.capabilities import Inspect
from durableq.store.core import Capability, Queueing, Store

class Shelf(Store):
    scheme = "shelf"
    capabilities = frozenset({Capability.INSPECT})

    def __init__(self, clock, rng):
        self._inner = MemoryStore(clock, rng)

def delegate(name):
    return lambda self, *args, **options: getattr(self._inner, name)(*args, **options)

for protocol in (Queueing, Inspect):
    for name in vars(protocol):
        if not name.startswith("_"):
            setattr(Shelf, name, delegate(name))

def open_shelf(url, *, clock, rng):
    store = Shelf(clock, rng)
    if url == "shelf://shop":
        store.declare_queue("orders", {})
    return store
"""


def install(site: Path, entry_points: str, name: str = "shelf") -> Path:
    """Install a distribution with the engine, as pip would leave it."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[durableq.engines]\n{entry_points}\n")
    (site / "shelf.py").write_text(ENGINE)
    return site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = install(tmp_path / "site", "shelf = shelf:open_shelf")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "shelf", raising=False)
    importlib.invalidate_caches()
    return site


@pytest.mark.usefixtures("site")
class TestShelf(StoreContract):
    capabilities = frozenset({Capability.INSPECT})

    def make_store(self, clock: FakeClock, rng: Callable[[], float], tmp_path: Path) -> Store:
        return open_store("shelf://", clock=clock, rng=rng)


def test_an_application_uses_a_registered_engine(site: Path) -> None:
    with DurableQ("shelf://shop") as dq:
        assert dq.store.scheme == "shelf"
        dq.queue("orders").send({"order": 7})
        assert [delivery.body for delivery in dq.queue("orders").receive(1)] == [{"order": 7}]
        with pytest.raises(Unsupported, match="A shelf:// store cannot run redrive tasks"):
            dq.store.require(Capability.REDRIVE)
        with pytest.raises(Unsupported, match="is not a SQL database"):
            _ = dq.engine


def test_the_command_line_finds_a_registered_engine(site: Path) -> None:
    command = [sys.executable, "-m", "durableq", "queue", "list", "--db", "shelf://shop", "--json"]
    environment = os.environ | {"PYTHONPATH": str(site)}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert '"orders"' in shown.stdout


def test_an_engine_that_cannot_be_imported_is_named(site: Path) -> None:
    install(site, "broken = no_such_module:open", "broken")
    with pytest.raises(Unsupported, match="no_such_module:open, which serves broken:// URLs"):
        open_store("broken://")


def test_two_engines_of_one_scheme_are_refused(site: Path) -> None:
    install(site, "shelf = another:open", "another")
    with pytest.raises(InvalidInput, match="Several engines serve shelf:// URLs"):
        open_store("shelf://")


def test_an_unknown_scheme_names_the_known_ones(site: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"there are sqlite://, postgresql:// and memory://, shelf://\."
    ):
        open_store("redis://")
