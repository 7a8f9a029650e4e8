"""The PostgreSQL engine keeps the contract, alone and between processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from durableq.engines import open_store
from durableq.engines.postgres.store import PostgresStore
from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.message import Outcome, Reason, State
from durableq.store.core import Store, WorkerInfo
from durableq.testing import FakeClock, FakeRandom, MultiProcessContract, StoreContract
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    complete,
    look,
    newest,
    send,
    take,
)
from durableq.testing.contract.queueing import QueueingContract


class OnPostgres:
    """The store of each test is a schema of its own."""

    stores_nul = False

    @pytest.fixture(autouse=True)
    def schema(self, postgres_tables_url: str) -> None:
        self.postgres_url = postgres_tables_url

    def make_store(self, clock: FakeClock, rng: Callable[[], float], tmp_path: Path) -> Store:
        return open_store(self.postgres_url, clock=clock, rng=rng)

    def reopen(self, clock: FakeClock) -> FullStore:
        return cast(FullStore, open_store(self.postgres_url, clock=clock, rng=FakeRandom()))


class TestPostgres(OnPostgres, StoreContract):
    def test_sent_messages_are_there_for_another_connection(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store, key="k")
        lease = take(store)
        store.close()
        with closing(self.reopen(clock)) as again:
            assert look(again, message_id).state is State.IN_FLIGHT
            assert complete(again, lease) == [Outcome.DONE]

    def test_a_restarted_machine_has_no_leases(self, store: FullStore, clock: FakeClock) -> None:
        worker = store.register(WorkerInfo("host-a:7", 7, 1))
        message_id = send(store, key="k")
        lease = take(store, owner_id=worker.owner_id)
        clock.reboot()
        with closing(self.reopen(clock)) as again:
            assert look(again, message_id).state is State.READY
            event = newest(again, message_id)
            assert (event.reason, event.actor) == (Reason.WORKER_LOST, "host-a:7")
            assert again.workers() == []
            assert complete(again, lease) == [Outcome.STALE]

    def test_a_key_with_a_nul_is_refused(self, store: FullStore) -> None:
        with pytest.raises(InvalidInput, match=r"U\+0000"):
            send(store, key="k\0")
        assert store.queue(ORDERS).counters.sent == 0


class TestPostgresAlone(OnPostgres, QueueingContract):
    """The shared operations keep the contract of the core by themselves."""

    def make_store(self, clock: FakeClock, rng: Callable[[], float], tmp_path: Path) -> Store:
        store = cast(PostgresStore, super().make_store(clock, rng, tmp_path))
        store._database.is_hot = False
        return store


class TestPostgresProcesses(OnPostgres, MultiProcessContract):
    opener = "durableq.engines:open_store"

    def url(self, tmp_path: Path) -> str:
        return self.postgres_url


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_an_operation_that_is_undone_keeps_the_stored_time(
    postgres_tables_url: str, clock: FakeClock
) -> None:
    """A process that has noticed a jump counts from it, so the others have to find it stored."""
    with (
        closing(cast(FullStore, open_store(postgres_tables_url, clock=clock))) as first,
        closing(cast(FullStore, open_store(postgres_tables_url, clock=clock))) as second,
    ):
        first.declare_queue(ORDERS, {})
        clock.set_wall(clock.wall_ms() + 60_000)
        with pytest.raises(UnknownQueue):
            first.purge("no such queue")
        clock.set_wall(clock.wall_ms() + 20_000)
        ids = [send(store, expires_in=10) for store in (first, second)]
        ends = [look(first, message_id).expires_at_ms for message_id in ids]
        assert ends[0] == ends[1]
