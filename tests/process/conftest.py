"""Fixtures of process tests: a database's path, its ledger, and a nursery."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ
from tests.process.app import Ledger
from tests.process.child import Nursery
from tests.support import new_file


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


@pytest.fixture
def dq(db: Path) -> Iterator[DurableQ]:
    """Open a new file with two queues.

    A lease lasts an hour: a test fails where a message comes back only when its lease ends.
    """
    with DurableQ(new_file(db)) as dq:
        for name in ("orders", "bulk"):
            dq.queue(name, backoff_base=0, max_receives=10, visibility_timeout=3600)
        dq.init()
        yield dq
