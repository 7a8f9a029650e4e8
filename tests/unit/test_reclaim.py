"""Reclaiming the messages of ended workers: which fail, which are released uncounted."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from durableq.engines.memory import MemoryStore
from durableq.model.message import Receipt, State, draft
from durableq.supervisor.liveness import this_process
from durableq.supervisor.peers import CONFIRM_SECONDS, DeadWorkers
from durableq.supervisor.reclaim import ExitReason, reclaim_messages
from durableq.supervisor.scoreboard import Scoreboard
from tests.support import wait_for


class Worker:
    """A worker that ended with four messages in flight."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.declare_queue("orders", {"backoff_base_ms": 0})
        self.store.send("orders", [draft(number) for number in range(4)])
        self.owner_id = self.store.register(replace(this_process("worker"), created_ms=1)).owner_id
        received = self.store.receive("orders", 4, owner_id=self.owner_id).messages
        self.receipts: list[Receipt] = [m.receipt for m in received if m.receipt is not None]
        self.scoreboard = Scoreboard()
        self.scoreboard.register(self.owner_id)

    def begin(self, number: int, timeout_ms: int = 0) -> int:
        receipt = self.receipts[number]
        now_ns, timeout_ns = time.monotonic_ns(), timeout_ms * 1_000_000
        slot = self.scoreboard.begin(
            receipt.token, receipt.message_id, now_ns, timeout_ns=timeout_ns
        )
        assert slot is not None
        return slot

    def blamed(self, exit_reason: ExitReason) -> dict[int, str]:
        """Reclaim all messages; return those that it counted against, with the reason."""
        assert (
            reclaim_messages(self.store, self.scoreboard, "worker:1", exit_reason, "SIGKILL") == 4
        )
        assert self.store.workers() == []
        dead_letters = self.store.peek("orders", 4)
        assert [m.state for m in dead_letters] == [State.READY] * 4
        counts = [m.receive_count for m in dead_letters]
        stories = [self.store.history(m.id) for m in dead_letters]
        assert [len(story) for story in stories] == counts
        return {
            number: str(story[0].reason) for number, story in enumerate(stories) if counts[number]
        }


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_a_death_counts_against_running_handlers(worker: Worker) -> None:
    worker.begin(0)
    worker.begin(2)
    assert worker.blamed(ExitReason.DEATH) == {0: "worker_lost", 2: "worker_lost"}


def test_a_death_without_running_handlers_counts_against_no_message(worker: Worker) -> None:
    assert worker.blamed(ExitReason.DEATH) == {}


def test_returned_handlers_are_blamed_only_if_none_was_running(worker: Worker) -> None:
    worker.scoreboard.mark_returned(worker.begin(0))
    worker.begin(1)
    assert worker.blamed(ExitReason.DEATH) == {1: "worker_lost"}


def test_all_returned_handlers_are_blamed_if_none_was_running(worker: Worker) -> None:
    worker.scoreboard.mark_returned(worker.begin(0))
    worker.scoreboard.mark_returned(worker.begin(3))
    assert worker.blamed(ExitReason.DEATH) == {0: "worker_lost", 3: "worker_lost"}


def test_a_running_batch_counts_as_a_whole(worker: Worker) -> None:
    worker.scoreboard.begin(worker.receipts[0].token, "", time.monotonic_ns())
    assert worker.blamed(ExitReason.DEATH) == dict.fromkeys(range(4), "worker_lost")


def test_a_timeout_counts_against_overdue_handlers(worker: Worker) -> None:
    worker.begin(0, timeout_ms=60_000)
    worker.begin(1, timeout_ms=1)
    worker.begin(2)
    worker.scoreboard.mark_returned(worker.begin(3, timeout_ms=1))
    latest = max(one.began_ns for one in worker.scoreboard.calls()) + 1_000_000
    wait_for(lambda: time.monotonic_ns() > latest, what="a millisecond to pass")
    assert worker.blamed(ExitReason.TIMEOUT) == {1: "timeout"}


def test_no_message_counts_when_the_supervisor_cuts_a_worker_short(worker: Worker) -> None:
    worker.begin(0)
    worker.begin(1, timeout_ms=1)
    assert worker.blamed(ExitReason.CUT_SHORT) == {}


def test_an_unregistered_worker_has_no_messages(worker: Worker) -> None:
    assert (
        reclaim_messages(worker.store, Scoreboard(), "worker:1", ExitReason.DEATH, "SIGKILL") == 0
    )
    assert len(worker.store.leases_of(worker.owner_id)) == 4


def test_messages_of_dead_workers_are_reclaimed_at_the_second_check(
    worker: Worker,
) -> None:
    dead_workers = DeadWorkers()
    assert dead_workers.reclaim(worker.store) == CONFIRM_SECONDS, "there is a new one"
    assert len(worker.store.leases_of(worker.owner_id)) == 4
    wait_for(lambda: dead_workers.reclaim(worker.store) is None, what="the second check")
    assert worker.store.leases_of(worker.owner_id) == []
    assert worker.store.workers() == []
