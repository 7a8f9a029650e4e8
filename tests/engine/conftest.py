"""A file with the queue `orders`, and the application that holds it open."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ, Queue


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def dq(db: Path) -> Iterator[DurableQ]:
    with DurableQ(db) as dq:
        dq.queue("orders", backoff_base=0)
        dq.init()
        yield dq


@pytest.fixture
def orders(dq: DurableQ) -> Queue:
    return dq.queue("orders")
