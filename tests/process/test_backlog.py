"""Backlog limits across processes: never over, no accepted send lost, a full disk."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from durableq import DurableQ, Queue, Requeue, StorageFull
from durableq.admin.operations import audit
from durableq.engines.sqlite.free_space import KEEP_SECONDS
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.health import is_healthy
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.child import Child, Nursery
from tests.support import wait_for

BATCHES, SIZE, MOST = 12, 10, 30
#: Two steps of a redrive task.
DEAD_LETTERS = 14
#: Notes how many messages there are after each insert.
WATCH = """
CREATE TABLE peak (present INTEGER);
CREATE TRIGGER watch AFTER INSERT ON durableq_message BEGIN
    INSERT INTO peak SELECT count(*) FROM durableq_message; END;
"""


@pytest.fixture
def orders(db: Path) -> Iterator[Queue]:
    with DurableQ(str(db)) as dq:
        queue = dq.queue("orders", max_backlog=MOST)
        assert queue.info().counts.present == 0
        plain.script(db, WATCH)
        yield queue


def producers(nursery: Nursery, db: Path, number: int) -> list[Child]:
    command = [sys.executable, "-m", "tests.process.producers", str(db), str(BATCHES), str(SIZE)]
    return [nursery.run(*command) for _ in range(number)]


def sent_by(child: Child) -> list[str]:
    return [one for line in child.said if line.startswith("sent ") for one in line.split()[1:]]


def consume(orders: Queue, until: Iterator[bool]) -> set[str]:
    """Complete messages until it is true and none is left; return their ids."""
    seen: set[str] = set()

    def is_over() -> bool:
        ended = next(until)
        while messages := orders.receive(7):
            seen.update(message.id for message in messages)
            orders.complete_many(messages)
        return ended

    wait_for(is_over, seconds=60, what="the producers to end")
    return seen


def have_ended(children: list[Child]) -> Iterator[bool]:
    while True:
        yield all(child.process.poll() is not None for child in children)


def peak(db: Path) -> int:
    [(most,)] = plain.rows(db, "SELECT max(present) FROM peak")
    return int(most)


@pytest.mark.parametrize(("on_full", "number"), [("raise", 16), ("block", 8)])
def test_producers_never_exceed_the_backlog_and_make_one_commit_a_batch(
    db: Path, orders: Queue, nursery: Nursery, on_full: Literal["raise", "block"], number: int
) -> None:
    orders._app.queue("orders", on_full=on_full)
    children = producers(nursery, db, number)
    received = consume(orders, have_ended(children))
    assert [child.end() for child in children] == [0] * number
    sent = [one for child in children for one in sent_by(child)]
    assert len(sent) == len(set(sent)) == number * BATCHES * SIZE
    assert received == set(sent)
    assert SIZE < peak(db) <= MOST
    for child in children:
        assert int(child.said[-1].split()[1]) <= BATCHES + 1, "one may renew the stored time"


def test_a_full_backlog_loses_no_accepted_send_of_killed_producers(
    db: Path, orders: Queue, nursery: Nursery
) -> None:
    orders._app.queue("orders", on_full="block", block_timeout=240)
    children = producers(nursery, db, 8)
    killed = children[:3]

    def kill_on_the_way() -> Iterator[bool]:
        for child in killed:
            while len(sent_by(child)) < 2 * SIZE and child.process.poll() is None:
                yield False
            child.kill()
        yield from have_ended(children)

    received = consume(orders, kill_on_the_way())
    assert [child.end() for child in children[3:]] == [0] * 5
    accepted = {one for child in children for one in sent_by(child)}
    assert accepted <= received
    assert len(received - accepted) <= len(killed) * SIZE, "stored, but killed before it said so"
    assert len(accepted) >= 5 * BATCHES * SIZE
    assert peak(db) <= MOST
    info = orders.info()
    assert info.counters.sent == len(received) == info.counters.completed


def test_a_killed_redrive_into_a_full_queue_loses_nothing(
    db: Path, orders: Queue, nursery: Nursery
) -> None:
    """Its dead letters go past the limit, once each, while producers wait for room."""
    dq = orders._app
    dead = orders.send_many(range(DEAD_LETTERS))
    for message in orders.receive(DEAD_LETTERS):
        message.reject("the bank is down")
    dq.queue("orders", on_full="block", block_timeout=3600, max_backlog_bytes=1 << 20)
    children = producers(nursery, db, 2)
    wait_for(lambda: orders.info().counts.present == MOST, what="the producers to fill it")
    tasks = dq.store.require(Capability.REDRIVE)
    task = tasks.start_redrive(DeadLetterFilter(), Requeue("calm now"))
    killed = nursery.start("redrive", db, task.id, 2, "within")
    assert killed.end() == -signal.SIGKILL
    assert 0 < tasks.redrive_task(task.id).moved < DEAD_LETTERS, "it was not killed half way"
    assert nursery.start("redrive", db, task.id).end() == 0
    assert tasks.redrive_task(task.id).moved == DEAD_LETTERS
    assert orders.info().counts.present == MOST + DEAD_LETTERS, "a send found room beside them"
    received = consume(orders, have_ended(children))
    accepted = {one for child in children for one in sent_by(child)}
    assert received == accepted | {*dead}
    assert [child.end() for child in children] == [0, 0]
    assert is_healthy(audit(dq.store))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_sends_are_refused_on_a_full_disk_and_stored_messages_complete(small_disk: Path) -> None:
    dq = DurableQ(str(small_disk / "queue.db"))
    orders = dq.queue("orders", min_free_bytes=3_000_000)
    sent = orders.send_many(["x" * 1_000] * 200)
    (small_disk / "ballast").write_bytes(bytes(4_500_000))

    def is_refused() -> str:
        try:
            sent.append(orders.send(1))
        except StorageFull as refused:
            return str(refused)
        return ""

    what = wait_for(is_refused, seconds=10 * KEEP_SECONDS, what="a send that is refused")
    assert "queue 'orders' leaves 3,000,000 of them (min_free_bytes)" in what
    received = []
    while messages := orders.receive(10):
        received += [message.id for message in messages]
        orders.complete_many(messages)
    assert received == sent
    assert is_refused()
    (small_disk / "ballast").unlink()
    wait_for(lambda: not is_refused(), what="a send that is stored")
    dq.close()
