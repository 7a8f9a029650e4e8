"""Deduplication and coalescing across processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ, Queue
from tests.process.child import Child, Nursery
from tests.support import wait_for

PROCESSES, THREADS = 10, 5
SENDS = 100


@pytest.fixture
def orders(db: Path) -> Iterator[Queue]:
    with DurableQ(str(db)) as dq:
        yield dq.queue("orders")


def senders(nursery: Nursery, db: Path, gate: Path, number: int, sends: int) -> list[Child]:
    command = [sys.executable, "-m", "tests.process.senders", str(db), str(gate)]
    children = [nursery.run(*command, str(THREADS), str(sends)) for _ in range(number)]
    for child in children:
        child.wait_line("READY")
    gate.touch()
    assert [child.end() for child in children] == [0] * number
    return children


def test_fifty_sends_at_once_with_one_deduplication_id_are_one_message(
    orders: Queue, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    children = senders(nursery, db, tmp_path / "gate", PROCESSES, 1)
    ids = [line.removeprefix("sent ") for child in children for line in child.said[1:]]
    assert len(ids) == PROCESSES * THREADS
    assert len(set(ids)) == 1
    info = orders.info()
    assert (info.counters.sent, info.counts.present) == (1, 1)
    assert info.counters.deduplicated == PROCESSES * THREADS - 1


def test_a_thousand_sends_of_several_processes_leave_one_message_beside_the_one_in_flight(
    orders: Queue, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    orders.send("first", replace_key="k")
    (held,) = orders.receive()
    children = senders(nursery, db, tmp_path / "gate", 2, SENDS)
    ids = [line.removeprefix("sent ") for child in children for line in child.said[1:]]
    assert len(set(ids)) == 2 * THREADS * SENDS == 1_000
    held.complete()
    (newest,) = wait_for(lambda: orders.receive(10), what="the newest")
    assert newest.id == max(ids, key=int)
    counters = orders.info().counters
    assert (counters.sent, counters.replaced) == (1_001, 999)
