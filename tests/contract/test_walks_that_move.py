"""A walk with all limits in which one engine's store is moved to others again and again.

The model stays where it is. Its leases are given back, uncounted, when the other store moves.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, cast

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from durableq.admin.transfer import transfer
from durableq.engines import open_store
from durableq.engines.memory import MemoryStore
from durableq.testing import FakeClock
from durableq.testing.contract.case import FullStore
from tests.contract.engines import Engine
from tests.contract.test_random_walks import WALKS, YEAR_SECONDS
from tests.contract.test_walks_with_all_limits import AllLimits
from tests.contract.walking import take_walks
from tests.postgres import new_schema
from tests.support import new_file


class Moving(AllLimits):
    """The walk. PostgreSQL has two schemas, of which one is empty when the store moves there."""

    schemas: ClassVar[tuple[str, ...]]
    moved: ClassVar[int] = 0

    def __init__(self) -> None:
        self._numbers, self._steps = count(), count()
        super().__init__()
        self.url = self.first_url

    def other_url(self) -> str:
        self.first_url = self.file()
        return self.first_url

    def file(self) -> str:
        path = new_file(Path(self.directory.name) / f"q{next(self._numbers)}.db", FakeClock)
        return f"sqlite:///{path}?synchronous=normal"

    # No step that is less than a jump: a later jump is judged from the last stored anchor, which is
    # newer where a transfer stored one.
    @rule(seconds=st.sampled_from([90, -90, YEAR_SECONDS, -YEAR_SECONDS]))
    def set_the_wall_clock(self, seconds: int) -> None:
        super().set_the_wall_clock(seconds)

    @invariant()
    def moves_after_every_seventh_step(self) -> None:
        steps = next(self._steps)
        if steps and steps % 7 == 0:
            self.move(to_file=steps % 14 == 0)

    def move(self, *, to_file: bool) -> None:
        for worker in self.engines[0].store.workers():
            self.both(partial(leave, owner_id=worker.owner_id), "reclaim")
        model, other = self.engines
        model.store.release(leases_of(model))
        other.store.close()
        target = self.file() if to_file else next(s for s in self.schemas if s != self.url)
        if not to_file:
            drop(target)
        transfer(self.url, target, clocks=(other.clock, other.clock))
        self.url = target
        store = open_store(target, clock=other.clock, rng=other.rng)
        other.store = cast(FullStore, store)
        self.before = model.places()
        type(self).moved += 1


def leave(engine: Engine, _: int, *, owner_id: int) -> None:
    """A worker ends, which has given its leases back."""
    engine.store.unregister(owner_id)


def drop(url: str) -> None:
    """Remove the tables of a schema, with the mark that an earlier transfer left."""
    server, _, schema = url.rpartition("schema=")
    with psycopg.connect(server.rstrip("&?"), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())


def leases_of(model: Engine) -> list[Any]:
    """Return the receipts of all leases of the memory engine, in order of their ends."""
    tables = cast(MemoryStore, model.store)._tables
    ends = {(row.lease.until_ms, int(row.id)): row for row in tables.rows.values() if row.lease}
    return [row.receipt for _, row in sorted(ends.items())]


def test_a_store_that_is_moved_again_and_again_agrees_with_the_model(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_schema(postgres_server) as first, new_schema(postgres_server) as second:
        monkeypatch.setattr(Moving, "schemas", (first, second), raising=False)
        few = settings(WALKS, max_examples=max(2, WALKS.max_examples // 3))
        take_walks(Moving, few)
    assert Moving.moved > 0
