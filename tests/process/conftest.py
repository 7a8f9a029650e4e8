"""Fixtures of process tests: a database's path, its ledger, and a nursery."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from durableq import DurableQ
from tests.postgres import new_schema
from tests.process.app import Ledger, place_of
from tests.process.child import Nursery
from tests.support import new_file


@contextmanager
def new_place(server: str) -> Iterator[str]:
    """Yield the URL of a new schema, also for tables of handlers; remove it and its ledger."""
    with new_schema(server) as url:
        server, _, schema = url.rpartition("schema=")
        yield f"{server}options=-csearch_path%3D{schema}&schema={schema}"
        for path in place_of(url).parent.glob(f"{place_of(url).stem}.*"):
            path.unlink()


@pytest.fixture
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """A file; or with `on_both_engines`, also the URL of a schema of PostgreSQL."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield tmp_path / "queue.db"
        return
    with new_place(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest.fixture
def ledger(db: Path | str) -> Ledger:
    return Ledger(db)


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()


@pytest.fixture
def dq(db: Path | str) -> Iterator[DurableQ]:
    """Open a new file with two queues.

    A lease lasts an hour: a test fails where a message comes back only when its lease ends.
    """
    with DurableQ(db if isinstance(db, str) else new_file(db)) as dq:
        for name in ("orders", "bulk"):
            dq.queue(name, backoff_base=0, max_receives=10, visibility_timeout=3600)
        dq.init()
        yield dq
