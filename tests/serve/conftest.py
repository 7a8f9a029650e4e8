"""Clients of the actions of SQS, and applications for servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.testing.fakes import FakeClock
from tests.serve.sqs_client import Sqs, client_of
from tests.support import new_file


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that a test sets."""
    return FakeClock()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a new store of each engine."""
    if request.param == "sqlite":
        return str(new_file(tmp_path / "queue.db"))
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_tables_url"))
    return "memory://"


@pytest.fixture
def sqs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sqs]:
    """Return a client of a SQLite file, or of a PostgreSQL schema; see ON_BOTH."""
    if getattr(request, "param", "sqlite") == "postgres":
        url = request.getfixturevalue("postgres_url")
    else:
        url = str(new_file(tmp_path / "queue.db"))
    with client_of(url) as client:
        yield client


@pytest.fixture
def timed(tmp_path: Path, clock: FakeClock) -> Iterator[Sqs]:
    """Return a client of a SQLite file, whose time the test sets."""
    with client_of(str(new_file(tmp_path / "queue.db", FakeClock)), clock) as client:
        yield client


@pytest.fixture
def dq(tmp_path: Path) -> Iterator[DurableQ]:
    """Return an application on a SQLite file."""
    with DurableQ(new_file(tmp_path / "q.db")) as made:
        yield made
