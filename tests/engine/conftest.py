"""A database with the queue `orders`, and the application that holds it open.

It is a file, and for tests with the mark `plain.ON_BOTH` a schema of PostgreSQL as well; with the
mark `loops.ON_ALL` a store in memory, too.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ, Queue
from durableq.engines.sqlite import group_commit
from tests.engine.crowd import Crowd
from tests.engine.plain import Place
from tests.process.child import Nursery
from tests.support import new_file


@pytest.fixture
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if getattr(request, "param", "") == "memory":
        return "memory://"
    if getattr(request, "param", "") == "postgres":
        server, _, name = request.getfixturevalue("postgres_url").rpartition("schema=")
        return f"{server}options=-csearch_path%3D{name}&schema={name}"
    return tmp_path / "queue.db"


@pytest.fixture
def dq(db: Place) -> Iterator[DurableQ]:
    with DurableQ(db if isinstance(db, str) else new_file(db)) as dq:
        dq.queue("orders", backoff_base=0)
        dq.init()
        yield dq


@pytest.fixture
def orders(dq: DurableQ) -> Queue:
    return dq.queue("orders")


@pytest.fixture
def crowd(dq: DurableQ, monkeypatch: pytest.MonkeyPatch) -> Crowd:
    """Threads whose groups are not cut short by the time that they take on a slow machine."""
    monkeypatch.setattr(group_commit, "MAX_GROUP_SECONDS", 3600.0)
    return Crowd(dq)


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty directory for copies."""
    folder = tmp_path / "copies"
    folder.mkdir()
    return folder


@pytest.fixture
def copy(folder: Path) -> Path:
    return folder / "copy.db"
