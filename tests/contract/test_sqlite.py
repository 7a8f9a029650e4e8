"""The SQLite engine keeps the contract, alone and between processes."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import inotify_simple
import pytest

from durableq.engines import examine_store, open_store
from durableq.model.dead_letters import DeadLetterFilter, RedriveFailure
from durableq.model.decisions import Requeue
from durableq.model.errors import Conflict
from durableq.model.health import Level
from durableq.model.message import Outcome, Reason, State
from durableq.store.core import Store, WorkerInfo
from durableq.testing import FakeClock, FakeRandom, MultiProcessContract, StoreContract
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    complete,
    kill,
    look,
    newest,
    send,
    take,
)
from durableq.testing.contract.queueing.waiting import WaitingContract
from tests.engine import plain
from tests.support import new_file


def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/q.db"


def url_of_new_file(tmp_path: Path) -> str:
    new_file(tmp_path / "q.db", FakeClock)
    return url(tmp_path)


class TestSQLite(StoreContract):
    def make_store(self, clock: FakeClock, rng: Callable[[], float], tmp_path: Path) -> Store:
        return open_store(url_of_new_file(tmp_path), clock=clock, rng=rng)

    def reopen(self, clock: FakeClock, tmp_path: Path) -> FullStore:
        return cast(FullStore, self.make_store(clock, FakeRandom(), tmp_path))

    def test_a_missing_file_is_created(self, clock: FakeClock, tmp_path: Path) -> None:
        with contextlib.closing(cast(FullStore, open_store(url(tmp_path), clock=clock))) as store:
            store.declare_queue(ORDERS, {})
            assert look(store, send(store)).state is State.READY

    def test_sent_messages_are_there_when_the_file_is_opened_again(
        self, store: FullStore, clock: FakeClock, tmp_path: Path
    ) -> None:
        message_id = send(store, key="k")
        lease = take(store)
        store.close()
        again = self.reopen(clock, tmp_path)
        assert look(again, message_id).state is State.IN_FLIGHT
        assert complete(again, lease) == [Outcome.DONE]
        again.close()

    def test_a_restarted_machine_has_no_leases(
        self, store: FullStore, clock: FakeClock, tmp_path: Path
    ) -> None:
        worker = store.register(WorkerInfo("host-a:7", 7, 1))
        message_id = send(store, key="k")
        lease = take(store, owner_id=worker.owner_id)
        clock.reboot()
        again = self.reopen(clock, tmp_path)
        assert look(again, message_id).state is State.READY
        event = newest(again, message_id)
        assert (event.reason, event.actor) == (Reason.WORKER_LOST, "host-a:7")
        assert again.workers() == []
        assert again.record(ORDERS, "k") is None
        assert complete(again, lease) == [Outcome.STALE]
        again.close()

    def test_a_second_store_on_the_file_takes_nothing_back(
        self, store: FullStore, clock: FakeClock, tmp_path: Path
    ) -> None:
        send(store)
        lease = take(store)
        self.reopen(clock, tmp_path).close()
        assert complete(store, lease) == [Outcome.DONE]

    def test_a_dead_letter_whose_queue_is_gone_needs_another_one_named(
        self, store: FullStore, tmp_path: Path
    ) -> None:
        """No operation leaves a file in this state; a SQLite shell may."""
        store.declare_queue("mail", {})
        message_id = kill(store)
        began = store.start_redrive(DeadLetterFilter(), Requeue())
        plain.script(tmp_path / "q.db", "DELETE FROM durableq_queue WHERE name = 'orders'")
        with pytest.raises(Conflict, match="name another queue"):
            store.start_redrive(DeadLetterFilter(), Requeue())
        assert store.continue_redrive(began.id, 1).failure is RedriveFailure.NO_SOURCE
        move = store.start_redrive(DeadLetterFilter(), Requeue(), to_queue="mail")
        assert store.continue_redrive(move.id, 10).moved == 1
        assert look(store, message_id).queue == "mail"
        store.delete_queue(DEAD)
        assert [queue.name for queue in store.queues()] == ["mail", "mail-dlq"]


def test_an_examination_names_each_finding_once(tmp_path: Path) -> None:
    open_store(url(tmp_path)).close()
    findings = examine_store(url(tmp_path), deep=True)
    assert all(finding.what for finding in findings)
    names = [finding.name for finding in findings]
    assert len(names) == len(set(names)) > 0
    assert all(finding.level is not Level.BAD for finding in findings)


class TestSQLiteWithoutInotify(WaitingContract):
    """The file is polled if the kernel reports no writes."""

    @pytest.fixture(autouse=True)
    def no_inotify(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse() -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr(inotify_simple, "INotify", refuse)

    def make_store(self, clock: FakeClock, rng: Callable[[], float], tmp_path: Path) -> Store:
        return open_store(url_of_new_file(tmp_path), clock=clock, rng=rng)


class TestSQLiteProcesses(MultiProcessContract):
    opener = "durableq.engines:open_store"

    def url(self, tmp_path: Path) -> str:
        return url(tmp_path)
