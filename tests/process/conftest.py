"""What every process test is given: a database's path, its ledger, and a nursery."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.app import Ledger
from tests.process.child import Nursery


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def ledger(db: Path) -> Ledger:
    return Ledger(db)


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()
