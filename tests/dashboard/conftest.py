"""A file with a dashboard, and a client that behaves as a browser does."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ
from tests.dashboard.client import Client
from tests.support import new_file, scaled


@pytest.fixture(autouse=True)
def _health_is_checked() -> Iterator[None]:
    """Wait for the check of the health that a page began: it has a connection of its own."""
    yield
    for thread in threading.enumerate():
        if thread.name == "durableq health":
            thread.join(scaled(60))


@pytest.fixture
def dq(tmp_path: Path) -> Iterator[DurableQ]:
    """An application with two queues and some messages."""
    with DurableQ(new_file(tmp_path / "shop.db")) as made:
        made.queue("orders", max_receives=1)
        made.queue("mail")
        yield made


@pytest.fixture
def client(dq: DurableQ) -> Iterator[Client]:
    """A browser that has no JavaScript, at the dashboard of `dq`."""
    with Client.of(dq) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DurableQ]:
    """An application on a file, and one on PostgreSQL."""
    if request.param == "sqlite":
        url = str(new_file(tmp_path / "either.db"))
    else:
        url = request.getfixturevalue("postgres_tables_url")
    with DurableQ(url) as dq:
        dq.queue("orders", max_receives=1)
        yield dq
